//! What a scan leaves behind for others: SARIF, CycloneDX, JSON, text.
//!
//! Each form is written to an [`io::Write`] one finding or component at a time, so
//! that the memory it takes does not grow with the outcome; the functions that give
//! a [`serde_json::Value`] are for callers who want to look into it.

mod cyclonedx;
mod sarif;
#[cfg(test)]
mod tests;
mod text;

use std::io;

use serde::{Serialize, Serializer};

use crate::scan::model::{Finding, ScanOutcome};

pub use cyclonedx::{cyclonedx, write_cyclonedx};
pub use sarif::{sarif, write_sarif};
pub use text::text;

/// What a report says about the scan itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// Name of what was scanned.
    pub name: String,
    /// The scanned commit, if there is one.
    pub commit: Option<String>,
    /// Address of the repository, without credentials.
    pub repository: Option<String>,
    /// When, in RFC 3339.
    pub timestamp: Option<String>,
    /// Makes the bill of materials unique; the id of the scan serves well.
    pub serial: Option<uuid::Uuid>,
}

/// Version of sluice, as it stands in reports.
pub const TOOL_VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize)]
struct Findings<'a> {
    version: u32,
    tool: &'static str,
    tool_version: &'static str,
    name: &'a str,
    commit: Option<&'a str>,
    timestamp: Option<&'a str>,
    files_scanned: u64,
    bytes_scanned: u64,
    results_reused: u64,
    history_blobs: u64,
    findings: &'a [Finding],
}

impl<'a> Findings<'a> {
    fn new(outcome: &'a ScanOutcome, meta: &'a Meta) -> Self {
        Self {
            version: 1,
            tool: "sluice",
            tool_version: TOOL_VERSION,
            name: &meta.name,
            commit: meta.commit.as_deref(),
            timestamp: meta.timestamp.as_deref(),
            files_scanned: outcome.files_scanned,
            bytes_scanned: outcome.bytes_scanned,
            results_reused: outcome.results_reused,
            history_blobs: outcome.history_blobs,
            findings: &outcome.findings,
        }
    }
}

/// All findings as one JSON object.
pub fn findings_json(outcome: &ScanOutcome, meta: &Meta) -> serde_json::Value {
    value(&Findings::new(outcome, meta))
}

/// Writes what [`findings_json`] gives.
///
/// # Errors
///
/// Those of the writer.
pub fn write_findings_json(
    out: &mut dyn io::Write,
    outcome: &ScanOutcome,
    meta: &Meta,
) -> io::Result<()> {
    write(out, &Findings::new(outcome, meta))
}

fn write(out: &mut dyn io::Write, document: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document).map_err(io::Error::from)?;
    out.write_all(b"\n")
}

/// The documents are made of strings, numbers and lists; none fails to become a
/// value.
fn value(document: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(document).unwrap_or_default()
}

/// A list that is made while it is written.
struct Each<F>(F);

impl<F, I> Serialize for Each<F>
where
    F: Fn() -> I,
    I: Iterator,
    I::Item: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}
