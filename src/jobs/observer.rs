//! Takes what the engine says, and writes it to the database in steps.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value as JsonValue;
use uuid::Uuid;

use crate::api::time::Time;
use crate::db::events::{self, NewEvent};
use crate::db::{DbError, Tx, now, scans};
use crate::scan::{Level, Observer, Progress};

/// Most bytes of `log.txt`; what comes later is only in the events.
const MAX_LOG: usize = 4 << 20;

/// Collects events and progress of one scan. The engine's threads only push into
/// it; a task of the job writes.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<NewEvent>,
    progress: Option<Progress>,
    log: String,
    truncated: bool,
    skipped: HashSet<String>,
    limits: BTreeMap<&'static str, u64>,
}

/// The quota that an event of the engine tells of, if it does.
pub(crate) fn quota(kind: &str, data: &JsonValue) -> Option<&'static str> {
    match kind {
        "findings_capped" => Some("scan_findings"),
        "file_skipped" if data["reason"] == "too_large" => Some("scan_file_bytes"),
        _ => None,
    }
}

/// What the scan could not look at.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// Findings or files were dropped because there were too many.
    pub truncated: bool,
    /// Paths that were not looked at, or not to their end.
    pub skipped: HashSet<String>,
    /// Quotas that left something out, and how often.
    pub limits: BTreeMap<&'static str, u64>,
}

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every field is whole after each statement, also after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what was collected since the last call, with a job that is held.
    pub async fn write(&self, tx: &mut Tx, scan_id: Uuid) -> Result<(), DbError> {
        let (events, progress) = {
            let mut state = self.lock();
            (std::mem::take(&mut state.events), state.progress.take())
        };
        events::append(tx, scan_id, &events).await?;
        if let Some(progress) = &progress {
            scans::set_progress(tx, scan_id, progress).await?;
        }
        // The project hears of the large steps only.
        let phases: Vec<NewEvent> = events.into_iter().filter(|e| e.kind == "phase").collect();
        scans::tell_project(tx, scan_id, &phases).await
    }

    /// True if there is something to write.
    pub fn is_dirty(&self) -> bool {
        let state = self.lock();
        !state.events.is_empty() || state.progress.is_some()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.lock().log.clone()
    }

    /// What was left out.
    pub fn gaps(&self) -> Gaps {
        let mut state = self.lock();
        Gaps {
            truncated: state.truncated,
            skipped: std::mem::take(&mut state.skipped),
            limits: std::mem::take(&mut state.limits),
        }
    }
}

impl Observer for Recorder {
    fn event(&self, level: Level, kind: &str, message: &str, data: JsonValue) {
        let mut state = self.lock();
        if let Some(quota) = quota(kind, &data) {
            *state.limits.entry(quota).or_default() += 1;
        }
        match kind {
            "findings_capped" | "files_capped" => state.truncated = true,
            // Too many events of one kind: which files they spoke of is not known.
            "events_thinned" => state.truncated = true,
            "file_skipped" | "file_failed" | "file_cut" => {
                if let Some(path) = data.get("path").and_then(JsonValue::as_str) {
                    state.skipped.insert(path.to_owned());
                }
            }
            _ => {}
        }
        if state.log.len() < MAX_LOG {
            let line = format!("{} {:<7} {kind}: {message}\n", Time(now()), level.as_str());
            state.log.push_str(&line);
        }
        state.events.push(NewEvent {
            level,
            kind: kind.to_owned(),
            message: message.to_owned(),
            data,
        });
    }

    fn progress(&self, progress: &Progress) {
        self.lock().progress = Some(progress.clone());
    }
}
