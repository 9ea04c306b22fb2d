//! The queue without a queue: the database is asked when a commit of this process
//! says so, when the next delayed job is due, and now and then for jobs that other
//! processes inserted.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::LEASE;
use crate::db::jobs::{self, Job, Lane};
use crate::db::{Db, now};

/// How often an idle worker looks for jobs of other processes.
const IDLE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Clone)]
pub struct Embedded {
    db: Db,
}

impl Embedded {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Jobs can be read.
    pub(super) async fn check(&self) -> anyhow::Result<()> {
        jobs::next_run(&self.db).await?;
        Ok(())
    }

    pub(super) async fn next(
        &self,
        lane: Lane,
        worker: &str,
        stopping: &CancellationToken,
    ) -> Option<Job> {
        let mut failures = 0_u32;
        loop {
            if stopping.is_cancelled() {
                return None;
            }
            let pause = match self.try_next(lane, worker).await {
                Ok(Ok(job)) => {
                    // One commit may have brought several jobs but woke one worker.
                    self.db.hub().wake_lane(lane);
                    return Some(job);
                }
                Ok(Err(pause)) => {
                    failures = 0;
                    pause
                }
                Err(error) => {
                    failures += 1;
                    // Each slot comes by here. That the database is away is said once, by
                    // whoever finds it out; what lasts without that is said after a while.
                    if failures == 4 && !self.db.is_away() {
                        tracing::warn!("cannot claim a job: {error}");
                    }
                    Duration::from_millis(200) * 2_u32.pow(failures.min(6))
                }
            };
            tokio::select! {
                () = stopping.cancelled() => return None,
                () = self.db.hub().job_ready(lane) => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// A job, or how long to wait for the next one.
    async fn try_next(&self, lane: Lane, worker: &str) -> crate::db::Result<Result<Job, Duration>> {
        // Asked on a reading connection first: an idle worker must not take the one
        // writer of SQLite every two seconds.
        let pause = match jobs::next_run_of(&self.db, lane).await? {
            None => return Ok(Err(IDLE)),
            Some(at) => at - now(),
        };
        if pause > 0 {
            return Ok(Err(Duration::from_micros(pause.cast_unsigned()).min(IDLE)));
        }
        Ok(jobs::claim_of(&self.db, lane, worker, LEASE).await?.ok_or(IDLE))
    }
}
