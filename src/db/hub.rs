//! Wakes those who wait for a row to change.
//!
//! A waiter registers *before* it reads, so a change between its read and its
//! wait is never missed. Waiting costs no query: a commit wakes exactly the
//! waiters of the topics that it touched.
//!
//! Of the embedded database one process alone changes what is waited for. On
//! PostgreSQL a commit also tells the other processes (NOTIFY, sent with the commit),
//! and each process that waits for anything listens on one connection of its own,
//! however many wait. While it cannot listen, it wakes everybody every two seconds
//! to look for themselves, and so it does once when it can listen again: what
//! changed meanwhile is not missed. A connection on which nothing was heard for long is
//! tried out, since what is idle may be cut off without a word.
//!
//! The same connection hears what the other servers tell of requests ([`super::rates`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::time::Duration;

use sqlx::Executor as _;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::time::timeout;
use uuid::Uuid;

use super::gate::Gate;
use super::jobs::{Lane, Pointer};
use super::rates;

/// Topics and who waits for them. A topic is the id of the row that changes.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    topics: Arc<Mutex<HashMap<Uuid, Topic>>>,
    /// Woken whenever a job may have become claimable.
    jobs: Arc<Lanes>,
    /// Where other processes are heard.
    remote: Option<Arc<Remote>>,
    /// Who sends messages of jobs.
    sender: Arc<Mutex<Option<mpsc::Sender<Pointer>>>>,
}

/// Whoever waits for jobs; fetches and deliveries have workers of their own.
#[derive(Debug, Default)]
struct Lanes {
    work: Notify,
    fetches: Notify,
    deliveries: Notify,
}

#[derive(Debug)]
struct Remote {
    options: PgConnectOptions,
    gate: Gate,
    /// What other servers tell of requests.
    rates: broadcast::Sender<String>,
    /// Names this process in what it tells: its own waiters know already.
    process: Uuid,
    started: Once,
}

type Topics = Mutex<HashMap<Uuid, Topic>>;

/// The channel on which topics are told.
const CHANNEL: &str = "sluice_rows";
/// Stands among the topics for a job that may be claimed.
const WORK: &str = "work";
/// Between two tries to listen, and two looks of everybody meanwhile.
const RETRY: Duration = Duration::from_secs(2);
/// After so long without a word the connection is tried out; many networks forget one
/// after six minutes.
const SILENCE: Duration = Duration::from_mins(1);
/// How long that may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Messages about requests that wait to be read; older ones are lost, which costs a little
/// of the limit.
const RATES_KEPT: usize = 256;

#[derive(Debug, Default)]
struct Topic {
    waiters: usize,
    notify: Arc<Notify>,
}

impl Hub {
    /// A hub that hears other processes on this PostgreSQL, from the first waiter on.
    pub(super) fn listening(options: PgConnectOptions, gate: Gate) -> Self {
        let (rates, _) = broadcast::channel(RATES_KEPT);
        let remote = Remote { options, gate, rates, process: Uuid::new_v4(), started: Once::new() };
        Self { remote: Some(Arc::new(remote)), ..Self::default() }
    }

    /// Begins to hear other processes, if there may be any.
    pub fn listen(&self) {
        let Some(remote) = &self.remote else { return };
        remote.started.call_once(|| {
            let ears = Ears {
                options: remote.options.clone(),
                gate: remote.gate.clone(),
                own: remote.process,
                rates: remote.rates.clone(),
                topics: Arc::downgrade(&self.topics),
                jobs: Arc::downgrade(&self.jobs),
            };
            tokio::spawn(ears.listen());
        });
    }

    /// Names this process in what it tells.
    pub(super) fn process(&self) -> Uuid {
        self.remote.as_ref().map_or(Uuid::nil(), |remote| remote.process)
    }

    /// What other servers tell of requests from now on; `None`: there are none.
    pub(super) fn rates(&self) -> Option<broadcast::Receiver<String>> {
        self.listen();
        self.remote.as_ref().map(|remote| remote.rates.subscribe())
    }

    /// What to tell other processes of changed topics, and of a job that may be claimed.
    /// More than the 8,000 bytes of a notification hold (PostgreSQL's limit) are told as
    /// `*`: look, whoever waits.
    pub(super) fn telling(&self, topics: &[Uuid], workers: bool) -> String {
        let mut ids: Vec<String> = topics.iter().map(|topic| topic.simple().to_string()).collect();
        if workers {
            ids.push(WORK.to_owned());
        }
        let ids = if ids.len() > 100 { "*".to_owned() } else { ids.join(",") };
        format!("{}:{ids}", self.process().simple())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Topic>> {
        // The map is consistent after every statement, also after a panic.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a waiter. Read the row after this, then wait.
    pub fn waiter(&self, topic: Uuid) -> Waiter {
        self.listen();
        let mut topics = self.lock();
        let entry = topics.entry(topic).or_default();
        entry.waiters += 1;
        Waiter { hub: self.clone(), topic, notify: entry.notify.clone() }
    }

    /// Wakes all waiters of a topic.
    pub fn wake(&self, topic: Uuid) {
        if let Some(entry) = self.lock().get(&topic) {
            entry.notify.notify_waiters();
        }
    }

    /// Wakes one idle worker of each lane.
    pub fn wake_workers(&self) {
        self.jobs.wake_all();
    }

    /// Wakes one idle worker of a lane.
    pub fn wake_lane(&self, lane: Lane) {
        self.jobs.of(lane).notify_one();
    }

    /// Waits until a job of a lane may have become claimable.
    pub async fn job_ready(&self, lane: Lane) {
        self.jobs.of(lane).notified().await;
    }

    /// From now on the jobs that this process commits come out here. So many may lie in
    /// between; of more nothing is told, and the table still has them.
    pub fn outbox(&self, room: usize) -> mpsc::Receiver<Pointer> {
        let (sender, receiver) = mpsc::channel(room);
        *self.sender.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Tells of a job that was committed, if somebody wants to know.
    pub(super) fn tell(&self, job: Pointer) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = &*sender {
            let _ = sender.try_send(job);
        }
    }

    /// How many wait right now, for metrics and tests.
    pub fn waiting(&self) -> usize {
        self.lock().values().map(|t| t.waiters).sum()
    }
}

impl Lanes {
    fn of(&self, lane: Lane) -> &Notify {
        match lane {
            Lane::Work => &self.work,
            Lane::Fetches => &self.fetches,
            Lane::Deliveries => &self.deliveries,
        }
    }

    fn wake_all(&self) {
        for lane in Lane::ALL {
            self.of(lane).notify_one();
        }
    }
}

/// A registered waiter; dropping it unregisters.
#[derive(Debug)]
pub struct Waiter {
    hub: Hub,
    topic: Uuid,
    notify: Arc<Notify>,
}

impl Waiter {
    /// Waits for the next change that this process commits after this call, even
    /// before the future is first polled. What changes between two calls is missed:
    /// callers look now and then on their own.
    pub fn notified(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }

    /// Runs `read` at once and again after every change, until it answers
    /// something, or until the time is over.
    ///
    /// # Errors
    ///
    /// Those of `read`.
    pub async fn until<T, E, F, Fut>(&self, limit: Duration, mut read: F) -> Result<Option<T>, E>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<Option<T>, E>>,
    {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let notified = self.notify.notified();
            tokio::pin!(notified);
            // Enrolled before the read, so that a change during the read counts.
            notified.as_mut().enable();
            if let Some(value) = read().await? {
                return Ok(Some(value));
            }
            let now = tokio::time::Instant::now();
            if now >= deadline {
                return Ok(None);
            }
            let _ = tokio::time::timeout(deadline - now, notified).await;
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut topics = self.hub.lock();
        if let Some(entry) = topics.get_mut(&self.topic) {
            entry.waiters -= 1;
            if entry.waiters == 0 {
                topics.remove(&self.topic);
            }
        }
    }
}

/// What hears other processes, for as long as the hub lives.
struct Ears {
    options: PgConnectOptions,
    gate: Gate,
    own: Uuid,
    rates: broadcast::Sender<String>,
    topics: Weak<Topics>,
    jobs: Weak<Lanes>,
}

impl Ears {
    async fn listen(self) {
        let mut said = false;
        while self.topics.strong_count() > 0 {
            let heard = tokio::select! {
                heard = self.hear(&mut said) => heard,
                // Whether this connection would ever fail is not worth waiting for.
                () = self.gate.closed() => Ok(()),
            };
            if let Err(error) = heard
                && self.gate.is_open()
                && !said
            {
                said = true;
                tracing::warn!("changes of other processes are not heard: {error}");
            }
            tokio::time::sleep(RETRY).await;
            // Until the database is back there is nothing to look at.
            let _ = timeout(SILENCE, self.gate.opened()).await;
            if self.gate.is_open() {
                self.wake(|_| true);
                self.wake_workers();
            }
        }
    }

    async fn hear(&self, said: &mut bool) -> sqlx::Result<()> {
        let pool = PgPoolOptions::new().max_connections(1).connect_with(self.options.clone());
        let mut listener = PgListener::connect_with(&pool.await?).await?;
        listener.listen_all([CHANNEL, rates::CHANNEL]).await?;
        *said = false;
        // What changed before is told to nobody.
        self.wake(|_| true);
        self.wake_workers();
        loop {
            let told = match timeout(SILENCE, listener.try_recv()).await {
                Ok(told) => told?,
                Err(_) => {
                    let tried = timeout(ANSWER, listener.execute("SELECT 1")).await;
                    tried.map_err(|_| sqlx::Error::PoolTimedOut)??;
                    continue;
                }
            };
            // None: the connection was lost.
            let Some(told) = told else { return Ok(()) };
            let Some((process, rest)) = told.payload().split_once(':') else { continue };
            if process.parse() == Ok(self.own) {
                continue;
            }
            if told.channel() == rates::CHANNEL {
                // Fails if nobody listens to that.
                let _ = self.rates.send(rest.to_owned());
            } else if rest == "*" {
                self.wake(|_| true);
                self.wake_workers();
            } else {
                let ids: Vec<Uuid> = rest.split(',').filter_map(|id| id.parse().ok()).collect();
                self.wake(|topic| ids.contains(topic));
                if rest.split(',').any(|word| word == WORK) {
                    self.wake_workers();
                }
            }
        }
    }

    fn wake(&self, which: impl Fn(&Uuid) -> bool) {
        let Some(topics) = self.topics.upgrade() else { return };
        let topics = topics.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, entry) in topics.iter().filter(|(topic, _)| which(topic)) {
            entry.notify.notify_waiters();
        }
    }

    fn wake_workers(&self) {
        if let Some(jobs) = self.jobs.upgrade() {
            jobs.wake_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use crate::db::jobs::Lane;
    use crate::db::testing::{both, postgres, tenant};
    use crate::db::{Db, DbError, repositories};

    /// Workers look on their own only every two seconds, and of what they look at nothing
    /// is here.
    #[tokio::test]
    async fn a_job_of_another_process_wakes_a_worker() {
        let test = postgres().await;
        let other = Db::open(&test.url).await.unwrap();
        let hub = test.db.hub();
        hub.listen();
        // What came before it listened may be a job.
        timeout(Duration::from_secs(20), hub.job_ready(Lane::Work)).await.unwrap();
        let quiet = timeout(Duration::from_millis(300), hub.job_ready(Lane::Work)).await;
        assert!(quiet.is_err());
        for lane in [Lane::Work, Lane::Fetches] {
            let mut tx = other.begin().await.unwrap();
            tx.wake_workers();
            tx.commit().await.unwrap();
            timeout(Duration::from_secs(5), hub.job_ready(lane)).await.unwrap();
        }
        other.begin().await.unwrap().commit().await.unwrap();
    }

    /// Each waiter reads when it begins and when its time is over, and not between.
    #[tokio::test]
    async fn a_thousand_waiters_cost_no_polls() {
        for test in both().await {
            let tenant = tenant(&test.db).await;
            let (owner, id) = (tenant.owner, tenant.repository);
            let wait = || {
                let db = test.db.clone();
                tokio::spawn(async move {
                    let waiter = db.hub().waiter(id);
                    let read = || async {
                        repositories::get(&db, owner, id).await?;
                        Ok::<Option<()>, DbError>(None)
                    };
                    waiter.until(Duration::from_secs(6), read).await.unwrap();
                })
            };
            let waiters: Vec<_> = (0..1_000).map(|_| wait()).collect();
            tokio::time::sleep(Duration::from_secs(3)).await;
            test.db.note_statements();
            tokio::time::sleep(Duration::from_secs(2)).await;
            let noted = test.db.noted_statements();
            assert!(noted.len() < 20, "{}: {} statements", test.name, noted.len());
            for waiter in waiters {
                waiter.await.unwrap();
            }
        }
    }
}
