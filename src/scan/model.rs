//! The words that the engine and its callers share.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::git::{NameEntry, Odd};

mod finding;
mod kinds;

pub use finding::*;
pub use kinds::*;

/// A package as an ecosystem names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Component {
    /// OSV ecosystem name: `npm`, `PyPI`, `crates.io`, `Go`, `Maven`, `RubyGems`,
    /// `Packagist`, `NuGet`, …
    pub ecosystem: String,
    /// Name as the ecosystem writes it (Maven: `group:artifact`).
    pub name: String,
    /// Exact version, empty if the file does not pin one.
    pub version: String,
    /// Package URL.
    pub purl: String,
    /// Named by the project itself, not brought in by another package; `None` if
    /// the file does not tell.
    #[serde(default)]
    pub direct: Option<bool>,
    /// Only needed to develop or test.
    #[serde(default)]
    pub dev: bool,
    /// Line of the file on which it stands, from 1 (0: unknown).
    #[serde(default)]
    pub line: u32,
    /// Names (`name@version`) that this component needs, where the file tells.
    #[serde(default)]
    pub requires: Vec<String>,
}

/// `sluice:ignore RULE -- reason` in a comment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppression {
    /// The line that it speaks of: its own, or the next one if it stands alone.
    pub line: u32,
    /// Rule id, or `*`.
    pub rule_id: String,
    /// The words behind `--`.
    pub reason: String,
}

/// What one engine has to say about one file. Kept by [`ResultKey`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileResult {
    /// Findings, by place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<RawFinding>,
    /// Packages that the file names (dependency engine).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Component>,
    /// Inline suppressions (secrets and code engine).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suppressions: Vec<Suppression>,
    /// What was not looked at and why, as sentences without the path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<String>,
}

impl FileResult {
    /// True if there is nothing to keep or to show.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
            && self.components.is_empty()
            && self.suppressions.is_empty()
            && self.cut.is_empty()
    }
}

/// Under which a [`FileResult`] is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResultKey {
    /// Object id of the blob, lower-case hex.
    pub blob: String,
    /// The engine.
    pub engine: EngineKind,
    /// Digest over engine version and rules.
    pub rule_set: String,
    /// See [`FileInput::facet`].
    pub facet: String,
}

/// A file as an engine sees it.
#[derive(Debug, Clone, Copy)]
pub struct FileInput<'a> {
    /// All bytes.
    pub bytes: &'a [u8],
    /// Everything about the path that may change the result, and nothing else:
    /// language and role, e.g. `python`, `java/test`, `lock:package-lock.json`.
    /// The path itself is kept away from the engines on purpose: the result is
    /// kept by content and shown again under any other path.
    pub facet: &'a str,
}

/// An engine that looks at one file at a time. Called from several threads.
pub trait FileEngine: Send + Sync {
    /// Which of the three it is.
    fn kind(&self) -> EngineKind;

    /// Digest over everything that may change a result: version of the engine and
    /// all rules. Part of the [`ResultKey`].
    fn rule_set(&self) -> &str;

    /// All rules, by id.
    fn rules(&self) -> &[RuleInfo];

    /// Whether it is asked about blobs that only the history holds.
    fn looks_at_history(&self) -> bool {
        self.kind() == EngineKind::Secrets
    }

    /// The facet under which a file is looked at, or `None` if this engine leaves
    /// it alone. Told by the path alone, so that it costs no reading: what only
    /// the content tells (a shebang, minified code) is told within
    /// [`FileEngine::analyse`].
    fn facet(&self, path: &str) -> Option<String>;

    /// Looks at one file. Never panics on malformed input, stays within `limits`,
    /// returns early (with what it has and a `cut`) once `cancel` is set.
    fn analyse(&self, input: &FileInput<'_>, limits: &Limits, cancel: &Cancel) -> FileResult;
}

/// A file of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Path from the root, `/` between components, lossy UTF-8.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Object id of the blob, lower-case hex.
    pub blob: String,
    /// Where the source keeps it; sources that read fastest in a certain order
    /// give ascending numbers.
    pub position: u64,
}

/// A blob that some commit brought and that the head tree does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Object id of the blob, lower-case hex.
    pub blob: String,
    /// Path in the commit that brought it.
    pub path: String,
    /// Oldest commit known to hold it.
    pub commit: String,
    /// Commit that removed or replaced it at that path, if known.
    pub removed_in: Option<String>,
    /// Bytes.
    pub size: u64,
}

/// Something odd about an object of the history, whether or not the tree shows it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryOddity {
    /// What.
    pub odd: Odd,
    /// Path in the commit; `.` for the root, and for what is odd about a commit.
    pub path: String,
    /// Oldest commit known to have it.
    pub commit: String,
}

/// What a history holds besides the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryContents {
    /// Blobs that are not in the tree, each once.
    pub blobs: Vec<HistoryEntry>,
    /// What is odd about names, trees and commits.
    pub odd: Vec<HistoryOddity>,
    /// So many oddities more were left out.
    pub odd_dropped: u64,
}

/// Where the files come from. Called from several threads at once.
pub trait Source: Send + Sync {
    /// Files of the tree; links and submodules are left out.
    fn files(&self) -> Result<Vec<FileEntry>, SourceError>;

    /// Calls `each` with every name of the tree, links and submodules too, in any order.
    /// Sources that know none tell none.
    fn names(&self, each: &mut dyn FnMut(&NameEntry<'_>)) -> Result<(), SourceError> {
        let _ = each;
        Ok(())
    }

    /// All bytes of a file of [`Source::files`].
    fn read(&self, entry: &FileEntry) -> Result<Vec<u8>, SourceError>;

    /// What the history holds besides the tree. Sources without a history give nothing.
    fn history(&self, cancel: &Cancel) -> Result<HistoryContents, SourceError>;

    /// All bytes of a blob of [`Source::history`].
    fn read_history(&self, entry: &HistoryEntry) -> Result<Vec<u8>, SourceError>;
}

/// Why a [`Source`] could not answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// Results of earlier scans. Called from several threads at once; may forget.
pub trait ResultStore: Send + Sync {
    /// What is kept for each key, in the order of the keys.
    fn get(&self, keys: &[ResultKey]) -> Vec<Option<FileResult>>;

    /// Keeps new results. A failure is the store's to log: a scan goes on without.
    fn put(&self, results: Vec<(ResultKey, FileResult)>);
}

/// A [`ResultStore`] that keeps nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoStore;

impl ResultStore for NoStore {
    fn get(&self, keys: &[ResultKey]) -> Vec<Option<FileResult>> {
        vec![None; keys.len()]
    }

    fn put(&self, _: Vec<(ResultKey, FileResult)>) {}
}

/// How far a scan is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ScanProgress)]
pub struct Progress {
    /// `inventory`, `secrets`, `code`, `dependencies`, `history`, `merge`; of a scan that has
    /// ended `completed`, `failed` or `cancelled`.
    pub phase: String,
    /// Files done in all engines.
    pub files_done: u64,
    /// Files to do.
    pub files_total: u64,
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes to do.
    pub bytes_total: u64,
}

/// Hears what happens while a scan runs. Called from several threads at once.
pub trait Observer: Send + Sync {
    /// Something worth telling: `kind` is a stable word such as `phase`,
    /// `file_skipped`, `no_advisories`; `data` is a JSON object.
    fn event(&self, level: Level, kind: &str, message: &str, data: serde_json::Value);

    /// Called often; the observer thins it out.
    fn progress(&self, progress: &Progress);
}

/// The wish to stop, shared by whoever may have it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(std::sync::Arc<AtomicBool>);

impl Cancel {
    /// Nobody wishes to stop yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything that holds a clone to stop soon.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// To be asked at least every 50 ms of work.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// For libraries that take a plain flag.
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }
}

/// Bounds of a scan. Zero means none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Larger files are not looked at (bytes).
    pub max_file_bytes: u64,
    /// More files than this are not looked at.
    pub max_files: u64,
    /// A file that takes longer is given up (milliseconds).
    pub max_file_millis: u64,
    /// Findings of one rule in one file beyond this are counted, not kept.
    pub max_findings_per_rule_and_file: u32,
    /// Findings of one scan.
    pub max_findings: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_file_bytes: 16 << 20,
            max_files: 1_000_000,
            max_file_millis: 10_000,
            max_findings_per_rule_and_file: 100,
            max_findings: 50_000,
        }
    }
}

/// What to scan and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct ScanConfig {
    /// Which engines run.
    pub engines: Vec<EngineKind>,
    /// Globs; if any, only files that match one.
    pub include: Vec<String>,
    /// Globs; files that match one are left out.
    pub exclude: Vec<String>,
    /// Look at the history too: for secrets in its blobs, and for what attacks git.
    pub history: bool,
}

impl Default for ScanConfig {
    fn default() -> Self {
        Self {
            engines: EngineKind::ALL.to_vec(),
            include: Vec::new(),
            exclude: Vec::new(),
            history: false,
        }
    }
}

/// What a whole scan gives.
#[derive(Debug, Clone, Default)]
pub struct ScanOutcome {
    /// Worst first, then by path and place.
    pub findings: Vec<Finding>,
    /// All packages found, each with the lock file that names it.
    pub components: Vec<(String, Component)>,
    /// Files of the tree that were looked at.
    pub files_scanned: u64,
    /// Bytes that were looked at.
    pub bytes_scanned: u64,
    /// Files and history blobs whose result was already kept.
    pub results_reused: u64,
    /// Blobs of the history that were looked at.
    pub history_blobs: u64,
    /// Processor time of all threads that worked on it.
    pub cpu: std::time::Duration,
}

/// Why a scan ended without an outcome.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Somebody asked it to stop.
    #[error("the scan was cancelled")]
    Cancelled,
    /// The files could not be read.
    #[error("cannot read the source: {0}")]
    Source(#[from] SourceError),
    /// A glob or an option is unusable.
    #[error("{0}")]
    Config(String),
}
