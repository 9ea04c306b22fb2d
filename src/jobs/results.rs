//! Hands the results that the database keeps to the scan engine.
//!
//! The engine knows no database and runs on threads of its own; this adapter waits
//! there for the answers. New results are collected and written in batches, since a
//! transaction costs the same for one row as for hundreds.

use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use uuid::Uuid;

use crate::db::{self, Db};
use crate::scan::{FileResult, ResultKey, ResultStore};

/// Results that wait at most until they are written.
const BATCH: usize = 1_000;

/// Findings and packages in waiting results: bounds what a batch may weigh, as a
/// lock file has more to tell than a thousand sources.
const BATCH_ITEMS: usize = 20_000;

/// The [`ResultStore`] of one owner. Call it from threads that may block, never
/// from an async one, and [`flush`](Self::flush) it when the scan is over; what is
/// not flushed is only found again, not lost.
#[derive(Debug)]
pub struct KeptResults {
    db: Db,
    owner: Uuid,
    runtime: Handle,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    results: Vec<(ResultKey, FileResult)>,
    items: usize,
}

impl KeptResults {
    /// For the scans of one owner. To be called on the runtime that is to do the
    /// work.
    pub fn new(db: Db, owner: Uuid) -> Self {
        Self { db, owner, runtime: Handle::current(), waiting: Mutex::default() }
    }

    /// Writes what waits.
    pub fn flush(&self) {
        let batch = std::mem::take(&mut *self.lock());
        self.write(batch);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // A list of results is whole after every statement, also after a panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, batch: Waiting) {
        if batch.results.is_empty() {
            return;
        }
        let done = self.runtime.block_on(db::results::put(&self.db, self.owner, &batch.results));
        if let Err(error) = done {
            tracing::warn!("results of a scan could not be kept: {error}");
        }
    }
}

impl ResultStore for KeptResults {
    fn get(&self, keys: &[ResultKey]) -> Vec<Option<FileResult>> {
        match self.runtime.block_on(db::results::get(&self.db, self.owner, keys)) {
            Ok(results) => results,
            Err(error) => {
                tracing::warn!("kept results could not be read: {error}");
                vec![None; keys.len()]
            }
        }
    }

    fn put(&self, results: Vec<(ResultKey, FileResult)>) {
        let full = {
            let mut waiting = self.lock();
            waiting.items +=
                results.iter().map(|(_, r)| r.findings.len() + r.components.len()).sum::<usize>();
            waiting.results.extend(results);
            (waiting.results.len() >= BATCH || waiting.items >= BATCH_ITEMS)
                .then(|| std::mem::take(&mut *waiting))
        };
        if let Some(batch) = full {
            self.write(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::{both, tenant};
    use crate::scan::EngineKind;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_threads_of_a_scan_find_what_the_last_one_kept() {
        for test in both().await {
            let owner = tenant(&test.db).await.owner;
            let key = |n: usize| ResultKey {
                blob: format!("{n:040x}"),
                engine: EngineKind::Secrets,
                rule_set: "r".into(),
                facet: "text".into(),
            };
            let keys: Vec<ResultKey> = (0..2_500).map(key).collect();
            let store = KeptResults::new(test.db.clone(), owner);
            let name = test.name;
            tokio::task::spawn_blocking(move || {
                std::thread::scope(|scope| {
                    for part in keys.chunks(625) {
                        let store = &store;
                        scope.spawn(move || {
                            for key in part {
                                store.put(vec![(key.clone(), FileResult::default())]);
                            }
                        });
                    }
                });
                let found = store.get(&keys).iter().filter(|r| r.is_some()).count();
                assert_eq!(found, 2_000, "{name}: two full batches are written, the rest waits");
                store.flush();
                assert!(store.get(&keys).iter().all(Option::is_some), "{name}");
            })
            .await
            .unwrap();
        }
    }
}
