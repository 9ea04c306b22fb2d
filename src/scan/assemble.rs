//! Puts the engines together, for the server and for `sluice scan` alike.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};

use super::dependencies::{self, Database};
use super::driver::Engines;
use super::model::{Cancel, FileEngine};
use super::{code, git, secrets};

/// Where advisories come from: a folder of OSV records, or `sample` for the small
/// built-in set.
///
/// Records that cannot be read are left out and named in the log.
///
/// # Errors
///
/// If the folder cannot be read or holds no advisory at all.
pub fn advisories(from: &str) -> anyhow::Result<Database> {
    if from == "sample" {
        return Ok(Database::sample());
    }
    let (database, loaded) = Database::load(Path::new(from), &Cancel::new())
        .with_context(|| format!("cannot load advisories from {from}"))?;
    if database.is_empty() {
        bail!("{from} holds no advisories: it must be a folder of OSV records in JSON");
    }
    if loaded.malformed > 0 {
        tracing::warn!(malformed = loaded.malformed, "malformed advisories are left out");
        for fault in &loaded.faults {
            tracing::warn!("{fault}");
        }
    }
    Ok(database)
}

/// All engines. `identity` is the key under which the secrets engine knows a secret
/// again without keeping it; `threads` are shared by all scans of the process.
///
/// # Errors
///
/// If a built-in rule is unusable (a defect) or the system gives no threads.
pub fn engines(
    identity: [u8; 32],
    database: Option<Database>,
    threads: usize,
) -> anyhow::Result<Engines> {
    let files: Vec<Box<dyn FileEngine>> = vec![
        Box::new(secrets::Detector::new(identity).context("secrets engine")?),
        Box::new(code::Analyzer::new().context("code engine")?),
        Box::new(dependencies::Analyzer::new()),
        Box::new(git::Analyzer::new()),
    ];
    let engines = Engines::new(files, threads)?;
    Ok(match database {
        Some(database) => engines.with_advisories(Arc::new(database)),
        None => engines,
    })
}
