//! The queue on SQS, for processes on many machines: a worker hears of a job in the
//! moment that another process commits it, and the database is asked for nothing but
//! that one row.
//!
//! The table stays the truth. A message says "this job waits" and no more, so SQS may
//! lose messages, double them, change their order, or be away:
//!
//! - **Sent** ([`relay`]): by the process that commits the job, at once and beside the
//!   request; what it did not get to send, a relay in every worker process sends. The
//!   table knows what was sent (`jobs.sent_at`).
//! - **Delayed** jobs (retries): up to 15 minutes SQS holds the message back, what is due
//!   later is sent when it is due.
//! - **Received** ([`receive`]): one long poll for the whole process, while a slot is idle.
//! - **Claimed** in the table. A message of [`Lane::Work`] names the row, and just this row
//!   is claimed by its key: however many jobs wait and however many workers come, none
//!   searches and none waits for another. In the lanes with limits (so much of one account,
//!   one of a series at a time) whether a job may run depends on what runs, so there a
//!   message only says that the lane has something, and the table decides which. Where the
//!   end of one job lets another one run, the slot that ended it asks the table at once.
//! - **Kept**: while the job runs, each heartbeat hides its message for another time of a
//!   lease; when the job ended it is deleted. A message of a job that is done, gone or held
//!   by somebody is deleted. A process that dies leaves its message, which is seen again
//!   when the lease runs out; the sweeper sends another one then, and one of the two finds
//!   nothing to do.
//! - **Lost**: a job that was sent and is not taken is sent again, by a process that has
//!   listened and heard nothing for ten seconds, or that receives messages which were sent
//!   a minute after it. So jobs that wait behind many others are left in peace.
//! - **SQS is away**: the slots look at the table themselves, every two seconds a process.
//!   That is slow only for the first job; it costs one read of an index for each lane, and
//!   no other part has to notice. Each failed call is followed by a pause that grows to
//!   eight seconds; the first one that succeeds ends all this.
//!
//! What is wished of a job that runs (to stop), and what became of it, is in the table
//! alone.
//!
//! # What it costs
//!
//! Requests of SQS are counted in `sluice_queue_requests_total`. A job that comes alone
//! needs three: to send, to receive and to delete its message. Jobs that come together
//! share them, up to ten jobs a request. Each 5 seconds that a job runs need one more,
//! which up to ten jobs of a process share too. A push is two jobs, ingest and scan: 10
//! million pushes a month with scans of some seconds are about 70 million requests, and at
//! 0.40 USD a million 28 USD.
//!
//! An idle worker process polls once in 20 seconds, whatever it has of slots and lanes:
//! 131,000 requests or 0.05 USD a month. A probe of readiness is one request (every 5
//! seconds: 0.21 USD a month), a look at the metrics at most two in 30 seconds.

mod client;
mod error;
mod message;
mod receive;
mod relay;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use prometheus::IntCounterVec;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::LEASE;
use crate::db::jobs::{self, Job, Lane, Named};
use crate::db::{Db, now};
use client::{Client, Receipt, lease_seconds};
use error::SqsError;
use receive::{Chores, Rooms, Silence, Ticket};
use relay::Pace;

pub use client::Depth;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sqs(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    db: Db,
    client: Arc<Client>,
    rooms: Rooms,
    chores: Chores,
    silence: Silence,
    /// When the youngest of the messages was sent that were received, in microseconds.
    newest: AtomicI64,
    pace: Pace,
    /// Messages of the jobs that this process runs.
    held: Mutex<HashMap<Uuid, Held>>,
    /// The last call to receive failed.
    deaf: AtomicBool,
    /// When a call to send failed, in microseconds; 0 if one succeeded since.
    mute: AtomicI64,
    /// What [`Sqs::depth`] was told last.
    depth: tokio::sync::Mutex<Option<(Instant, Result<Depth, String>)>>,
}

#[derive(Debug)]
struct Held {
    fence: i64,
    receipt: Receipt,
}

/// How far (microseconds) clocks differ at most.
const AHEAD: i64 = 60_000_000;

impl Shared {
    /// Whether messages can be received; answers whether that is new.
    fn hears(&self, it: bool) -> bool {
        self.deaf.swap(!it, Ordering::Relaxed) == it
    }

    /// Whether messages can be sent; answers whether that is new.
    fn speaks(&self, it: bool) -> bool {
        let since = self.mute.swap(if it { 0 } else { now() }, Ordering::Relaxed);
        (since != 0) == it
    }

    /// Whether messages are not to be relied on. What cannot be sent is tried again every
    /// few seconds: after a while without a failure there is nothing to send.
    fn trouble(&self) -> bool {
        const WHILE: i64 = 10_000_000;
        let mute = now() - self.mute.load(Ordering::Relaxed) < WHILE;
        mute || self.deaf.load(Ordering::Relaxed)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Uuid, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The message of a job that this process claimed, which it holds no longer.
    fn let_go(&self, job: &Job) -> Option<Receipt> {
        let mut held = self.held();
        let same = held.get(&job.id).is_some_and(|held| held.fence == job.fence);
        if same { held.remove(&job.id).map(|held| held.receipt) } else { None }
    }

    async fn claim(
        &self,
        lane: Lane,
        worker: &str,
        ticket: &Ticket,
    ) -> crate::db::Result<Option<Job>> {
        let Ticket::Message(id, receipt) = ticket else {
            return self.claim_any(lane, worker).await;
        };
        let named = if lane.has_limits() {
            match jobs::claim_of(&self.db, lane, worker, LEASE).await? {
                Some(job) => Named::Claimed(Box::new(job)),
                None => jobs::fate(&self.db, *id).await?,
            }
        } else {
            jobs::claim_named(&self.db, *id, worker, LEASE).await?
        };
        match named {
            Named::Claimed(job) => {
                let held = Held { fence: job.fence, receipt: receipt.clone() };
                self.held().insert(job.id, held);
                return Ok(Some(*job));
            }
            // It came early, from a machine whose clock is ahead.
            Named::Waits(at) if at - now() <= AHEAD => {
                let seconds = (at - now()).clamp(0, AHEAD).saturating_add(999_999) / 1_000_000;
                self.chores.show(receipt.clone(), seconds as i32);
            }
            // It is of an earlier wait of the job; this one has a message of its own.
            Named::Waits(_) | Named::Nothing => self.chores.delete(receipt.clone()),
        }
        Ok(None)
    }

    async fn claim_any(&self, lane: Lane, worker: &str) -> crate::db::Result<Option<Job>> {
        // Asked without a transaction first: mostly there is nothing.
        if jobs::next_run_of(&self.db, lane).await?.is_none_or(|at| at > now()) {
            return Ok(None);
        }
        let job = jobs::claim_of(&self.db, lane, worker, LEASE).await?;
        if job.is_some() {
            // There may be more.
            let _ = self.rooms.offer(lane, Ticket::Look);
        }
        Ok(job)
    }
}

impl Sqs {
    /// The queue of this name, as the environment says where SQS is. From now on the jobs
    /// that this process commits are sent.
    ///
    /// # Errors
    ///
    /// If SQS refuses something, by the name of the call. That it does not answer is no
    /// error: jobs run without it, and it is asked again.
    pub async fn open(db: Db, name: &str) -> anyhow::Result<Self> {
        let client = Client::from_env(name.to_owned()).await.context("SLUICE_QUEUE")?;
        match client.urls().await {
            Ok(_) => {}
            Err(error @ SqsError::Away { .. }) => {
                tracing::warn!("jobs are looked for in the database meanwhile: {error}");
            }
            Err(error) => return Err(anyhow::Error::from(error).context("SLUICE_QUEUE")),
        }
        Ok(Self::new(db, client, Pace::default()))
    }

    fn new(db: Db, client: Client, pace: Pace) -> Self {
        let client = Arc::new(client);
        let outbox = db.hub().outbox(relay::OUTBOX);
        let shared = Arc::new(Shared {
            db,
            chores: Chores::start(client.clone()),
            client,
            rooms: Rooms::default(),
            silence: Silence::default(),
            newest: AtomicI64::new(0),
            pace,
            held: Mutex::default(),
            deaf: AtomicBool::new(false),
            mute: AtomicI64::new(0),
            depth: tokio::sync::Mutex::default(),
        });
        tokio::spawn(relay::send_committed(shared.clone(), outbox));
        Self(shared)
    }

    /// Starts what a process with workers needs; it ends with `stopping`.
    pub(super) fn start(&self, tasks: &mut JoinSet<()>, stopping: &CancellationToken) {
        tasks.spawn(receive::listen(self.0.clone(), stopping.clone()));
        tasks.spawn(relay::relay(self.0.clone(), stopping.clone()));
    }

    pub(super) async fn next(
        &self,
        lane: Lane,
        worker: &str,
        stopping: &CancellationToken,
    ) -> Option<Job> {
        let shared = &*self.0;
        // The job that this slot has just ended may have kept another one waiting, of
        // which there is no message any more.
        let mut look = lane.has_limits() || shared.trouble();
        let mut failures = 0_u32;
        let mut kept = None;
        loop {
            if stopping.is_cancelled() {
                if let Some(Ticket::Message(_, receipt)) = kept {
                    shared.chores.show(receipt, 0);
                }
                return None;
            }
            let ticket = if let Some(ticket) = kept.take() {
                ticket
            } else if std::mem::take(&mut look) {
                Ticket::Look
            } else {
                tokio::select! {
                    () = stopping.cancelled() => return None,
                    ticket = shared.rooms.wait(lane, &shared.chores) => ticket,
                }
            };
            match shared.claim(lane, worker, &ticket).await {
                Ok(Some(job)) => return Some(job),
                Ok(None) => failures = 0,
                Err(error) => {
                    failures += 1;
                    tracing::warn!("cannot claim a job: {error}");
                    // Given back, the message would go round and round as long as the
                    // database is away, and end as a dead letter.
                    if let Ticket::Message(_, receipt) = &ticket {
                        shared.chores.show(receipt.clone(), lease_seconds());
                    }
                    kept = Some(ticket);
                    let pause = Duration::from_millis(200) * 2_u32.pow(failures.min(5));
                    tokio::select! {
                        () = stopping.cancelled() => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// The lease was extended: so long nobody else sees the message.
    pub(super) fn extended(&self, job: &Job) {
        let held = self.0.held();
        if let Some(held) = held.get(&job.id).filter(|held| held.fence == job.fence) {
            self.0.chores.show(held.receipt.clone(), lease_seconds());
        }
    }

    /// The job ended, or waits for another try with a message of its own.
    pub(super) fn ended(&self, job: &Job) {
        if let Some(receipt) = self.0.let_go(job) {
            self.0.chores.delete(receipt);
        }
    }

    /// Whatever became of the job, it is not ours any more.
    pub(super) fn lost(&self, job: &Job) {
        self.0.let_go(job);
    }

    /// The job went back to the table: others see its message at once.
    pub(super) async fn released(&self, job: &Job) {
        let Some(receipt) = self.0.let_go(job) else { return };
        // If this fails, a relay sends another one.
        if matches!(self.0.client.show(&[(receipt, 0)]).await, Ok(true))
            && let Err(error) = jobs::sent(&self.0.db, now(), &[(job.id, job.fence)]).await
        {
            tracing::warn!("cannot note that a message is there: {error}");
        }
    }

    /// Waits until messages are deleted and shown as was asked for, for a bounded time.
    pub(super) async fn flush(&self) {
        self.0.chores.flush(Duration::from_secs(3)).await;
    }

    /// Whether the queue answers.
    pub(super) async fn check(&self) -> anyhow::Result<()> {
        // The first sentence is for everybody.
        self.0.client.check().await.context("the queue cannot be used")
    }

    /// How many messages there are, as it was told not longer than `age` ago.
    ///
    /// # Errors
    ///
    /// Why nobody knows, for operators.
    pub(super) async fn depth(&self, age: Duration) -> Result<Depth, String> {
        let mut last = self.0.depth.lock().await;
        if let Some((at, depth)) = &*last
            && at.elapsed() < age
        {
            return depth.clone();
        }
        let asked = tokio::time::timeout(Duration::from_secs(2), self.0.client.depth()).await;
        let depth = match asked {
            Ok(depth) => depth.map_err(|error| error.to_string()),
            Err(_) => Err("SQS does not answer in time".to_owned()),
        };
        *last = Some((Instant::now(), depth.clone()));
        depth
    }

    /// Calls of SQS by name and outcome.
    pub(super) fn figures(&self) -> IntCounterVec {
        self.0.client.figures().clone()
    }
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
