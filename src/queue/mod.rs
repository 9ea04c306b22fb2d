//! Jobs: the interface, claims, leases, the sweeper.
//!
//! The `jobs` table is the truth ([`crate::db::jobs`]); a [`Queue`] only tells a
//! worker when there may be something to claim. So a queue may lose, repeat or
//! reorder what it carries without harm, and every backend behaves alike: the
//! conformance suite in this room runs on each of them.
//!
//! A worker that claims a job holds a lease of [`LEASE`] and extends it at a third
//! of that; the same trip reads the wish to cancel. A worker that lost its lease
//! (it was frozen, or cut off from the database) hears [`Stop::Lost`] and changes
//! nothing any more, because every write carries the fence.

mod embedded;
mod sqs;
mod worker;

use std::time::Duration;

use prometheus::IntCounterVec;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::db::Db;
use crate::db::jobs::{Job, Lane};

pub use embedded::Embedded;
pub use sqs::{Depth, Sqs};
pub use worker::{JobContext, JobError, Stop, Workers};

/// How long a claim holds without a heartbeat, in microseconds.
pub const LEASE: i64 = 15_000_000;

/// How a worker leaves a claimed job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It ended, or is to be tried again later.
    Ended,
    /// It went back to be claimed by another one.
    Released,
    /// Another one has it, or nobody knows.
    Lost,
}

/// Tells workers when there may be something to claim. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Queue {
    /// Jobs wait in the database.
    Embedded(Embedded),
    /// Messages of SQS tell of them.
    Sqs(Sqs),
}

impl Queue {
    /// The queue in the database.
    pub fn embedded(db: Db) -> Self {
        Self::Embedded(Embedded::new(db))
    }

    /// Waits for a job and claims it; `None` once `stopping` is set.
    ///
    /// An unreachable database is waited out here: it is logged, and asked again
    /// with a growing pause.
    pub async fn next(&self, worker: &str, stopping: &CancellationToken) -> Option<Job> {
        self.next_of(Lane::Work, worker, stopping).await
    }

    /// The same for the jobs of one lane.
    pub async fn next_of(
        &self,
        lane: Lane,
        worker: &str,
        stopping: &CancellationToken,
    ) -> Option<Job> {
        match self {
            Self::Embedded(queue) => queue.next(lane, worker, stopping).await,
            Self::Sqs(queue) => queue.next(lane, worker, stopping).await,
        }
    }

    /// Starts what serves all slots of this process together; it ends with `stopping`.
    pub(crate) fn start(&self, tasks: &mut JoinSet<()>, stopping: &CancellationToken) {
        match self {
            Self::Embedded(_) => {}
            Self::Sqs(queue) => queue.start(tasks, stopping),
        }
    }

    /// The lease of a claimed job was extended.
    fn extended(&self, job: &Job) {
        match self {
            Self::Embedded(_) => {}
            Self::Sqs(queue) => queue.extended(job),
        }
    }

    /// What became of a claimed job is in the table.
    async fn left(&self, job: &Job, how: Left) {
        match self {
            Self::Embedded(_) => {}
            Self::Sqs(queue) => match how {
                Left::Ended => queue.ended(job),
                Left::Released => queue.released(job).await,
                Left::Lost => queue.lost(job),
            },
        }
    }

    /// Waits until nothing is to be done any more for jobs that were left, for a bounded
    /// time.
    async fn flush(&self) {
        match self {
            Self::Embedded(_) => {}
            Self::Sqs(queue) => queue.flush().await,
        }
    }

    /// Whether the queue answers, for readiness.
    ///
    /// # Errors
    ///
    /// What is wrong; the first sentence names no host.
    pub async fn check(&self) -> anyhow::Result<()> {
        match self {
            Self::Embedded(queue) => queue.check().await,
            Self::Sqs(queue) => queue.check().await,
        }
    }

    /// How many messages there are, as it was told not longer than `age` ago; `None` of a
    /// queue without messages.
    pub async fn depth(&self, age: Duration) -> Option<Result<Depth, String>> {
        match self {
            Self::Embedded(_) => None,
            Self::Sqs(queue) => Some(queue.depth(age).await),
        }
    }

    /// Figures of its own.
    pub(crate) fn figures(&self) -> Option<IntCounterVec> {
        match self {
            Self::Embedded(_) => None,
            Self::Sqs(queue) => Some(queue.figures()),
        }
    }
}

#[cfg(test)]
mod conformance;
