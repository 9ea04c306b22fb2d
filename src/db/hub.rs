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
//! changed meanwhile is not missed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use super::jobs::{Lane, Pointer};

/// Topics and who waits for them. A topic is the id of the row that changes.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    topics: Arc<Mutex<HashMap<Uuid, Topic>>>,
    /// Woken whenever a job may have become claimable.
    jobs: Arc<Notify>,
    /// The same for fetches, which have workers of their own.
    fetches: Arc<Notify>,
    /// The same for deliveries, which have workers of their own.
    deliveries: Arc<Notify>,
    /// Where other processes are heard.
    remote: Option<Arc<Remote>>,
    /// Who sends messages of jobs.
    sender: Arc<Mutex<Option<mpsc::Sender<Pointer>>>>,
}

#[derive(Debug)]
struct Remote {
    options: PgConnectOptions,
    /// Names this process in what it tells: its own waiters know already.
    process: Uuid,
    started: Once,
}

type Topics = Mutex<HashMap<Uuid, Topic>>;

/// The channel on which topics are told.
const CHANNEL: &str = "sluice_rows";
/// Between two tries to listen, and two looks of everybody meanwhile.
const RETRY: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct Topic {
    waiters: usize,
    notify: Arc<Notify>,
}

impl Hub {
    /// A hub that hears other processes on this PostgreSQL, from the first waiter on.
    pub(super) fn listening(options: PgConnectOptions) -> Self {
        let remote = Remote { options, process: Uuid::new_v4(), started: Once::new() };
        Self { remote: Some(Arc::new(remote)), ..Self::default() }
    }

    /// What to tell other processes of changed topics. More than the 8,000 bytes of a
    /// notification hold (PostgreSQL's limit) are told as `*`: look, whoever waits.
    pub(super) fn telling(&self, topics: &[Uuid]) -> String {
        let process = self.remote.as_ref().map_or(Uuid::nil(), |remote| remote.process);
        let ids: Vec<String> = topics.iter().map(|topic| topic.simple().to_string()).collect();
        let ids = if ids.len() > 100 { "*".to_owned() } else { ids.join(",") };
        format!("{}:{ids}", process.simple())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Topic>> {
        // The map is consistent after every statement, also after a panic.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a waiter. Read the row after this, then wait.
    pub fn waiter(&self, topic: Uuid) -> Waiter {
        if let Some(remote) = &self.remote {
            remote.started.call_once(|| {
                let topics = Arc::downgrade(&self.topics);
                tokio::spawn(listen(remote.options.clone(), remote.process, topics));
            });
        }
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
        for lane in Lane::ALL {
            self.wake_lane(lane);
        }
    }

    /// Wakes one idle worker of a lane.
    pub fn wake_lane(&self, lane: Lane) {
        self.lane(lane).notify_one();
    }

    /// Waits until a job of a lane may have become claimable.
    pub async fn job_ready(&self, lane: Lane) {
        self.lane(lane).notified().await;
    }

    fn lane(&self, lane: Lane) -> &Notify {
        match lane {
            Lane::Work => &self.jobs,
            Lane::Fetches => &self.fetches,
            Lane::Deliveries => &self.deliveries,
        }
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

/// Listens for as long as the hub lives.
async fn listen(options: PgConnectOptions, own: Uuid, topics: Weak<Topics>) {
    while topics.strong_count() > 0 {
        if let Err(error) = hear(options.clone(), own, &topics).await {
            tracing::warn!("changes of other processes are not heard: {error}");
        }
        tokio::time::sleep(RETRY).await;
        wake_those(&topics, |_| true);
    }
}

async fn hear(options: PgConnectOptions, own: Uuid, topics: &Weak<Topics>) -> sqlx::Result<()> {
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    // What changed before is told to nobody.
    wake_those(topics, |_| true);
    // None: the connection was lost.
    while let Some(told) = listener.try_recv().await? {
        let Some((process, ids)) = told.payload().split_once(':') else { continue };
        if process.parse() == Ok(own) {
            continue;
        }
        if ids == "*" {
            wake_those(topics, |_| true);
            continue;
        }
        let ids: Vec<Uuid> = ids.split(',').filter_map(|id| id.parse().ok()).collect();
        wake_those(topics, |topic| ids.contains(topic));
    }
    Ok(())
}

fn wake_those(topics: &Weak<Topics>, which: impl Fn(&Uuid) -> bool) {
    let Some(topics) = topics.upgrade() else { return };
    let topics = topics.lock().unwrap_or_else(PoisonError::into_inner);
    for (_, entry) in topics.iter().filter(|(topic, _)| which(topic)) {
        entry.notify.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::db::testing::{both, tenant};
    use crate::db::{DbError, repositories};

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
