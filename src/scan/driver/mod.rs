//! Runs the engines over a source and makes findings of what they found.
//!
//! # Phases
//!
//! `inventory` lists the files and decides which engine looks at which file under
//! which facet. One pass over the contents serves `secrets`, `code` and the lock
//! files of `dependencies` at once: a blob is read once, however many engines want
//! it and at however many paths it lies, and not at all if everything that is
//! wanted of it is kept already. `dependencies` then compares the packages with the
//! advisories, which are never part of a kept result, since they change while the
//! files do not. Names, links and the shape of the tree are looked at anew each time
//! ([`crate::scan::git`]). `history` looks for secrets, and for what attacks git, in what
//! the tree no longer holds. `merge` gives identities ([`fingerprint`]), applies
//! suppressions, weighs and sorts.
//!
//! # Bounds
//!
//! Contents in flight are bounded in bytes and in number, whatever the
//! number of threads and files; what stays is findings, packages and one record a
//! file. An engine that panics on a file costs that engine's view of that file and
//! a warning, never the scan. A file that cannot be read does end the scan: with
//! parts of the tree missing, everything in them would look repaired.
//!
//! # What is kept
//!
//! A result is handed to the [`ResultStore`] as soon as it is there, in batches, so
//! a scan that is cancelled or killed half-way leaves its work to the next one. Not
//! kept are results that were cut short (by time or by a limit that is not part of
//! the key), those of a panicking engine, and those of a cancelled file.

mod cpu;
pub mod fingerprint;
mod gate;
mod globs;
mod merge;
mod names;
mod notes;
mod pass;
mod plan;
mod priority;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::json;

use crate::scan::dependencies::Database;
use crate::scan::model::{
    Cancel, EngineKind, FileEngine, Level, Limits, Observer, Progress, ResultStore, RuleInfo,
    ScanConfig, ScanError, ScanOutcome, Source,
};

pub use globs::Globs;
use notes::Notes;
pub use priority::Surroundings;

/// The engines of a process with the threads that they run on. Built once and
/// shared by all scans, since rules are costly to compile.
pub struct Engines {
    files: Vec<Box<dyn FileEngine>>,
    advisories: Option<Arc<Database>>,
    rules: Vec<RuleInfo>,
    pool: rayon::ThreadPool,
}

impl Engines {
    /// Engines that share `threads` threads (at least one) among all scans.
    ///
    /// # Errors
    ///
    /// [`ScanError::Config`] if the system gives no threads.
    pub fn new(files: Vec<Box<dyn FileEngine>>, threads: usize) -> Result<Self, ScanError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(|n| format!("scan-{n}"))
            .build()
            .map_err(|e| ScanError::Config(format!("cannot start threads to scan with: {e}")))?;
        let mut rules: Vec<RuleInfo> =
            files.iter().flat_map(|e| e.rules().iter().cloned()).collect();
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        rules.dedup_by(|a, b| a.id == b.id);
        Ok(Self { files, advisories: None, rules, pool })
    }

    /// The same engines with advisories to compare packages with.
    pub fn with_advisories(mut self, advisories: Arc<Database>) -> Self {
        self.advisories = Some(advisories);
        self
    }

    /// The advisories that are loaded.
    pub fn advisories(&self) -> Option<&Arc<Database>> {
        self.advisories.as_ref()
    }

    /// The rules of all engines, by id.
    pub fn rules(&self) -> &[RuleInfo] {
        &self.rules
    }

    /// The rule with this id, now or before it was renamed.
    pub fn rule(&self, id: &str) -> Option<&RuleInfo> {
        match self.rules.binary_search_by(|r| r.id.as_str().cmp(id)) {
            Ok(found) => self.rules.get(found),
            Err(_) => self.rules.iter().find(|r| r.aliases.iter().any(|a| a == id)),
        }
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }
}

impl std::fmt::Debug for Engines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engines")
            .field("kinds", &self.files.iter().map(|e| e.kind()).collect::<Vec<_>>())
            .field("rules", &self.rules.len())
            .field("advisories", &self.advisories.as_ref().map(|a| a.len()))
            .finish_non_exhaustive()
    }
}

/// What one scan carries about with it.
struct Run<'a> {
    engines: &'a Engines,
    source: &'a dyn Source,
    store: &'a dyn ResultStore,
    limits: &'a Limits,
    notes: Notes<'a>,
    cancel: &'a Cancel,
    /// What the threads of the pool spent on it.
    cpu: cpu::Sum,
}

impl Run<'_> {
    fn check_cancel(&self) -> Result<(), ScanError> {
        if self.cancel.is_cancelled() { Err(ScanError::Cancelled) } else { Ok(()) }
    }
}

/// Scans a source. Blocks; to be called from a thread that may.
///
/// Locations of the tree carry no commit: only the caller knows which one it is.
///
/// # Errors
///
/// [`ScanError::Cancelled`] soon after `cancel` was set, [`ScanError::Source`] if a
/// file cannot be read, [`ScanError::Config`] for a glob that is none.
pub fn run(
    engines: &Engines,
    source: &dyn Source,
    store: &dyn ResultStore,
    config: &ScanConfig,
    limits: &Limits,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<ScanOutcome, ScanError> {
    let driving = cpu::Stopwatch::start();
    let globs = Globs::new(config)?;
    let notes = Notes::new(observer);
    let run = Run { engines, source, store, limits, notes, cancel, cpu: cpu::Sum::default() };
    run.check_cancel()?;

    run.notes.phase("inventory", "listing the files", json!({}));
    observer.progress(&Progress { phase: "inventory".to_owned(), ..Progress::default() });
    let plan = plan::of_tree(&run, config, &globs)?;
    run.check_cancel()?;

    let mut gathered = merge::Gathered::new(limits);
    for kind in [EngineKind::Secrets, EngineKind::Code] {
        if config.engines.contains(&kind) {
            run.notes.phase(
                kind.as_str(),
                &format!("{} files to look at", plan.files_of(kind)),
                json!({ "files": plan.files_of(kind) }),
            );
        }
    }
    let pass_phase = [EngineKind::Secrets, EngineKind::Code, EngineKind::Dependencies]
        .into_iter()
        .find(|k| config.engines.contains(k))
        .map_or("inventory", EngineKind::as_str);
    let tree = pass::over(&run, &plan, pass_phase, &mut gathered)?;
    if config.engines.contains(&EngineKind::Code) {
        names::of_tree(&run, &globs, &mut gathered)?;
    }

    if config.engines.contains(&EngineKind::Dependencies) {
        run.notes.phase(
            "dependencies",
            &format!("{} packages in lock files", gathered.components.len()),
            json!({ "packages": gathered.components.len() }),
        );
        match &engines.advisories {
            Some(database) => gathered.match_advisories(database, cancel)?,
            None => run.notes.event(
                Level::Warning,
                "no_advisories",
                "No advisories are loaded, so packages were listed but not checked for known \
                 vulnerabilities.",
                json!({ "packages": gathered.components.len() }),
            ),
        }
    }

    let mut history_blobs = 0;
    let mut reused = tree.reused;
    let looks = |e: &dyn FileEngine| e.looks_at_history() && config.engines.contains(&e.kind());
    if config.history && engines.files.iter().any(|e| looks(e.as_ref())) {
        run.notes.phase("history", "walking the history", json!({}));
        let (plan, odd) = plan::of_history(&run, config, &globs)?;
        if config.engines.contains(&EngineKind::Code) {
            names::of_history(&run, &globs, odd, &mut gathered);
        }
        run.notes.event(
            Level::Info,
            "history",
            &format!("{} blobs of the history are not in the tree", plan.files),
            json!({ "blobs": plan.files }),
        );
        let history = pass::over(&run, &plan, "history", &mut gathered)?;
        history_blobs = history.files;
        reused += history.reused;
    }
    run.check_cancel()?;

    run.notes.phase("merge", "merging the findings", json!({}));
    let mut outcome = merge::finish(&run, config, gathered);
    outcome.files_scanned = tree.files;
    outcome.bytes_scanned = tree.bytes;
    outcome.results_reused = reused;
    outcome.history_blobs = history_blobs;
    outcome.cpu = run.cpu.total() + driving.elapsed();
    run.notes.close();
    run.check_cancel()?;
    Ok(outcome)
}
