//! The sample repository as it is compiled in: see `fixtures/demo/README.md`.

use std::path::Path;

use anyhow::Context as _;
use include_dir::{Dir, DirEntry, include_dir};
use serde::Deserialize;

static COMMITS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/fixtures/demo/commits");

/// What the scan must find and must not report, as JSON.
pub(super) const EXPECTED: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/demo/expected.json"));

/// What one commit changes, and who made it when.
pub(super) struct Commit {
    pub(super) about: About,
    /// Paths from the root of the repository, with what they hold from now on.
    pub(super) files: Vec<(&'static Path, &'static [u8])>,
}

/// `commit.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct About {
    pub(super) message: String,
    pub(super) author_name: String,
    pub(super) author_email: String,
    /// RFC 3339, for author and committer alike.
    pub(super) date: String,
    /// Paths that the commit removes.
    pub(super) delete: Vec<String>,
}

/// All commits, the first one first.
///
/// # Errors
///
/// If the repository was compiled in incomplete.
pub(super) fn commits() -> anyhow::Result<Vec<Commit>> {
    let mut folders: Vec<_> = COMMITS.dirs().collect();
    folders.sort_by_key(|folder| folder.path());
    folders
        .into_iter()
        .map(|folder| {
            commit(folder).with_context(|| {
                format!("the sample repository is broken at {}", folder.path().display())
            })
        })
        .collect()
}

fn commit(folder: &'static Dir<'static>) -> anyhow::Result<Commit> {
    let about = folder
        .get_file(folder.path().join("commit.toml"))
        .and_then(|file| file.contents_utf8())
        .context("commit.toml is missing")?;
    let root = folder.path().join("files");
    let mut files = Vec::new();
    if let Some(top) = folder.get_dir(&root) {
        collect(top, &root, &mut files)?;
    }
    Ok(Commit { about: toml::from_str(about)?, files })
}

fn collect(
    dir: &'static Dir<'static>,
    root: &Path,
    files: &mut Vec<(&'static Path, &'static [u8])>,
) -> anyhow::Result<()> {
    for entry in dir.entries() {
        match entry {
            DirEntry::Dir(dir) => collect(dir, root, files)?,
            DirEntry::File(file) => files.push((file.path().strip_prefix(root)?, file.contents())),
        }
    }
    Ok(())
}
