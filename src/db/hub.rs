//! Wakes those who wait for a row to change.
//!
//! A waiter registers *before* it reads, so a change between its read and its
//! wait is never missed. Waiting costs no query: a commit wakes exactly the
//! waiters of the topics that it touched. Other processes on the same database
//! are not heard here; whoever waits bounds each wait (see [`Waiter::until`])
//! and reads again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use super::jobs::Lane;

/// Topics and who waits for them. A topic is the id of the row that changes.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    topics: Arc<Mutex<HashMap<Uuid, Topic>>>,
    /// Woken whenever a job may have become claimable.
    jobs: Arc<Notify>,
    /// The same for deliveries, which have workers of their own.
    deliveries: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Topic {
    waiters: usize,
    notify: Arc<Notify>,
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Topic>> {
        // The map is consistent after every statement, also after a panic.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a waiter. Read the row after this, then wait.
    pub fn waiter(&self, topic: Uuid) -> Waiter {
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
        self.jobs.notify_one();
        self.deliveries.notify_one();
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
            Lane::Deliveries => &self.deliveries,
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
    /// A change that another process makes is noticed within two seconds.
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
            let step = (deadline - now).min(Duration::from_secs(2));
            let _ = tokio::time::timeout(step, notified).await;
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
