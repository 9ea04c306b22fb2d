//! Artefacts of a scan on their way to storage.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::db::artifacts::Artifact;
use crate::scan::report::{self, Meta};
use crate::scan::{Engines, ScanOutcome};
use crate::storage::Storage;

/// Counts and hashes what passes.
struct Measured<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Measured<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hash.update(buffer.get(..written).unwrap_or(buffer));
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// An artefact in a temporary file.
pub(super) struct Written {
    name: &'static str,
    content_type: &'static str,
    file: tempfile::TempPath,
    bytes: u64,
    sha256: String,
}

/// Writes all artefacts to temporary files in `dir`; blocks.
pub(super) fn write(
    dir: &Path,
    outcome: &ScanOutcome,
    engines: &Engines,
    meta: &Meta,
    log: &str,
) -> io::Result<Vec<Written>> {
    std::fs::create_dir_all(dir)?;
    Ok(vec![
        file(dir, "results.sarif", "application/sarif+json", |out| {
            report::write_sarif(out, outcome, engines.rules(), meta)
        })?,
        file(dir, "sbom.cdx.json", "application/vnd.cyclonedx+json", |out| {
            report::write_cyclonedx(out, outcome, meta)
        })?,
        file(dir, "findings.json", "application/json", |out| {
            report::write_findings_json(out, outcome, meta)
        })?,
        file(dir, "log.txt", "text/plain; charset=utf-8", |out| out.write_all(log.as_bytes()))?,
    ])
}

fn file(
    dir: &Path,
    name: &'static str,
    content_type: &'static str,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Written> {
    let (file, path) = tempfile::NamedTempFile::new_in(dir)?.into_parts();
    let mut out = BufWriter::new(Measured { inner: file, hash: Sha256::new(), bytes: 0 });
    content(&mut out)?;
    let measured = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    let sha256 = format!("{:x}", measured.hash.finalize());
    Ok(Written { name, content_type, file: path, bytes: measured.bytes, sha256 })
}

/// Puts artefacts into storage. `attempt` tells the tries of one scan apart: their
/// artefacts differ, and a key is written once.
pub(super) async fn store(
    storage: &Storage,
    scan_id: Uuid,
    attempt: i64,
    written: Vec<Written>,
) -> anyhow::Result<Vec<Artifact>> {
    let mut artifacts = Vec::with_capacity(written.len());
    for one in written {
        let storage_key = format!("artifacts/{scan_id}/{attempt}/{}", one.name);
        storage.put_file(&storage_key, &one.file).await?;
        artifacts.push(Artifact {
            scan_id,
            name: one.name.to_owned(),
            content_type: one.content_type.to_owned(),
            size: i64::try_from(one.bytes).unwrap_or(i64::MAX),
            sha256: one.sha256,
            storage_key,
        });
    }
    Ok(artifacts)
}
