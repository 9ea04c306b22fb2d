//! An archive: walked by the same code as on a server ([`crate::archive`]) into a
//! temporary folder of git objects, which then is scanned as a bare repository is. No
//! name in the archive becomes a path on disk.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, bail};

use super::repository::Bare;
use crate::archive::{self, Limits};
use crate::ingest;
use crate::scan::Cancel;

/// Reads the archive. With `history` it has to hold a `.git` with one.
pub(super) fn open(path: &Path, history: bool) -> anyhow::Result<Bare> {
    let shown = path.display();
    let scratch = tempfile::Builder::new()
        .prefix("sluice-scan-")
        .tempdir()
        .context("cannot make a temporary folder")?;
    let imported = archive::import(path, scratch.path(), &Limits::default(), &Cancel::new())
        .with_context(|| format!("cannot scan {shown}"))?;
    for note in &imported.notes {
        let place = note.paths.first().map_or_else(String::new, |path| format!("{path}: "));
        let _ = writeln!(std::io::stderr(), "warning: {place}{}", note.message);
    }
    let tips = match (&imported.history, history) {
        (Some(found), true) => found.refs.iter().map(|(_, id)| *id).chain([found.head]).collect(),
        (None, true) => bail!("{shown} holds no git history: leave --history out"),
        (_, false) => Vec::new(),
    };
    let objects = ingest::open_objects(&imported.objects, imported.head.kind())
        .with_context(|| format!("cannot read what was in {shown}"))?;
    Ok(Bare::of(objects, imported.head, tips, scratch))
}
