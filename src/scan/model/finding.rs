//! What an engine finds in a file, and what becomes of it in a scan.

use serde::{Deserialize, Serialize};

use super::{Confidence, EngineKind, Severity};

/// A place in a file. Lines and columns count from 1; columns count bytes of
/// UTF-8; the end is exclusive in its column, inclusive in its line, as in SARIF.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
pub struct Span {
    /// First line, from 1.
    pub start_line: u32,
    /// First column, from 1.
    pub start_column: u32,
    /// Last line, from 1.
    pub end_line: u32,
    /// Column just behind the last character, from 1.
    pub end_column: u32,
}

/// One step of the way that data takes from a source to a sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FlowStep {
    /// The file of the step; `None` while the step lies in the file that is being
    /// analysed (a kept result must not know its path). [`crate::scan::driver`] fills it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// What happens here, as a short clause.
    pub message: String,
}

/// What the rules of all engines say about one of theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleInfo {
    /// Stable id, e.g. `secrets/github-token`, `python/sql-injection`.
    pub id: String,
    /// The engine that owns it.
    pub engine: EngineKind,
    /// One line.
    pub title: String,
    /// Why it matters: one paragraph.
    pub description: String,
    /// How to repair it: one paragraph.
    pub remediation: String,
    /// Severity where the finding does not say otherwise.
    pub severity: Severity,
    /// `CWE-89` and the like.
    pub cwe: Vec<String>,
    /// `A03:2021` and the like.
    pub owasp: Vec<String>,
    /// Addresses to read on.
    pub references: Vec<String>,
    /// Ids that this rule had before; findings and suppressions keep working.
    #[serde(default)]
    pub aliases: Vec<String>,
}

/// The package of a finding of the dependency engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PackageRef {
    /// OSV ecosystem name.
    pub ecosystem: String,
    /// Package name.
    pub name: String,
    /// Version in use.
    pub version: String,
    /// Package URL.
    pub purl: String,
    /// Lowest version without the weakness, if there is one.
    pub fixed_in: Option<String>,
    /// Ids of the advisories, aliases included.
    pub advisory_ids: Vec<String>,
}

/// What an engine found in one file, before anything outside the file is known.
/// It is kept by content, so it holds no path and no commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawFinding {
    /// Id of the rule.
    pub rule_id: String,
    /// May differ from the rule's own.
    pub severity: Severity,
    /// How sure the engine is.
    pub confidence: Confidence,
    /// One sentence about this very place.
    pub message: String,
    /// Where.
    pub span: Span,
    /// The lines to show, at most [`MAX_SNIPPET`] bytes, a secret's value masked.
    pub snippet: String,
    /// Path of the enclosing symbols, e.g. `UserDao.find` (empty: file level).
    pub symbol: String,
    /// What makes the finding itself, free of lines and white space: normalised
    /// tokens of the match, or for secrets the keyed digest of the value. Part of
    /// the fingerprint.
    pub anchor: String,
    /// The way of the data, first step the source; empty where nothing is tracked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flow: Vec<FlowStep>,
    /// For findings about a package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<PackageRef>,
}

/// Most bytes of a snippet.
pub const MAX_SNIPPET: usize = 600;

/// Where a finding lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Location {
    /// Path from the root.
    pub path: String,
    /// Place in the file.
    #[serde(flatten)]
    pub span: Span,
    /// Commit that brought it (history), or the scanned commit.
    pub commit: Option<String>,
    /// True if the head tree no longer holds it.
    pub in_history: bool,
}

/// A finding of a whole scan: what the engine found, where, and its identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Identity from scan to scan: hex digest over rule, symbol, anchor and
    /// ordinal; no line number, and no path unless the anchor needs one.
    pub fingerprint: String,
    /// The engine.
    pub engine: EngineKind,
    /// Id of the rule.
    pub rule_id: String,
    /// Title of the rule.
    pub title: String,
    /// About this very place.
    pub message: String,
    /// How bad.
    pub severity: Severity,
    /// How sure.
    pub confidence: Confidence,
    /// Where it is shown.
    pub location: Location,
    /// Further places of the same finding (a secret copied about).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_locations: Vec<Location>,
    /// The lines, masked.
    pub snippet: String,
    /// Enclosing symbols.
    pub symbol: String,
    /// The way of the data.
    pub flow: Vec<FlowStep>,
    /// The package, for the dependency engine.
    pub package: Option<PackageRef>,
    /// 0 to 100, what to look at first.
    pub priority: u8,
    /// Reason given inline; such a finding is kept but not counted as open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<String>,
}
