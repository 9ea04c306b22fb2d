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
mod worker;

use tokio_util::sync::CancellationToken;

use crate::db::Db;
use crate::db::jobs::{Job, Lane};

pub use embedded::Embedded;
pub use worker::{JobContext, JobError, Stop, Workers};

/// How long a claim holds without a heartbeat, in microseconds.
pub const LEASE: i64 = 15_000_000;

/// Tells workers when there may be something to claim. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Queue {
    /// Jobs wait in the database.
    Embedded(Embedded),
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
        }
    }
}

#[cfg(test)]
mod conformance;
