//! A folder as it lies on disk.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use gix_hash::ObjectId;

use crate::scan::git::{NameEntry, NameKind};
use crate::scan::{Cancel, FileEntry, HistoryContents, HistoryEntry, Source, SourceError};

/// Bytes that are hashed at a time.
const CHUNK: usize = 64 << 10;

/// All files below a folder, except git's own. Links are never followed: what they
/// lead to is scanned where it lies, or is not part of the folder.
pub(super) struct Folder {
    root: PathBuf,
    /// Where the files lie, by [`FileEntry::position`]; names may be no UTF-8.
    paths: RwLock<Vec<PathBuf>>,
    /// Of which kind to compute git's object ids, which costs reading every file.
    with_ids: Option<gix_hash::Kind>,
}

impl Folder {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, paths: RwLock::default(), with_ids: None }
    }

    pub(super) fn with_ids(mut self, hash: gix_hash::Kind) -> Self {
        self.with_ids = Some(hash);
        self
    }

    fn list(&self) -> Result<Listed, SourceError> {
        let failed = |path: &PathBuf, e: std::io::Error| {
            SourceError(format!("{} cannot be listed: {e}", path.display()))
        };
        let mut files = Vec::new();
        let mut links = Vec::new();
        let mut open = vec![(self.root.clone(), String::new())];
        while let Some((folder, shown)) = open.pop() {
            for entry in fs::read_dir(&folder).map_err(|e| failed(&folder, e))? {
                let entry = entry.map_err(|e| failed(&folder, e))?;
                let name = entry.file_name();
                if name == ".git" {
                    continue;
                }
                let name = name.to_string_lossy();
                let path =
                    if shown.is_empty() { name.into_owned() } else { format!("{shown}/{name}") };
                let kind = entry.file_type().map_err(|e| failed(&folder, e))?;
                if kind.is_dir() {
                    open.push((entry.path(), path));
                } else if kind.is_file() {
                    let size = entry.metadata().map_err(|e| failed(&folder, e))?.len();
                    files.push((path, size, entry.path()));
                } else if kind.is_symlink() {
                    links.push(path);
                }
            }
        }
        files.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Listed { files, links })
    }
}

/// What lies below a folder.
struct Listed {
    /// Path, bytes, and where it lies; by path.
    files: Vec<(String, u64, PathBuf)>,
    /// Paths of links.
    links: Vec<String>,
}

/// The id that git would give a file.
fn blob_id(path: &PathBuf, size: u64, hash: gix_hash::Kind) -> Result<ObjectId, SourceError> {
    let failed =
        |e: &dyn std::fmt::Display| SourceError(format!("{} cannot be read: {e}", path.display()));
    let mut hasher = gix_hash::hasher(hash);
    hasher.update(&gix_object::encode::loose_header(gix_object::Kind::Blob, size));
    let mut file = File::open(path).map_err(|e| failed(&e))?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk).map_err(|e| failed(&e))?;
        let Some(part) = chunk.get(..read).filter(|p| !p.is_empty()) else {
            break;
        };
        hasher.update(part);
    }
    hasher.try_finalize().map_err(|e| failed(&e))
}

impl Source for Folder {
    fn files(&self) -> Result<Vec<FileEntry>, SourceError> {
        let mut entries = Vec::new();
        let mut paths = Vec::new();
        for (position, (path, size, place)) in (0u64..).zip(self.list()?.files) {
            let blob = if let Some(hash) = self.with_ids {
                blob_id(&place, size, hash)?.to_string()
            } else {
                // Nothing is kept between local scans, so that each file may have a
                // name of its own and need not be read to get it.
                format!("{position:040x}")
            };
            entries.push(FileEntry { path, size, blob, position });
            paths.push(place);
        }
        *self.paths.write().unwrap_or_else(PoisonError::into_inner) = paths;
        Ok(entries)
    }

    fn names(&self, each: &mut dyn FnMut(&NameEntry<'_>)) -> Result<(), SourceError> {
        let Listed { files, links } = self.list()?;
        for (path, size, _) in &files {
            each(&NameEntry { path: path.as_bytes(), kind: NameKind::File, size: *size });
        }
        for path in &links {
            each(&NameEntry { path: path.as_bytes(), kind: NameKind::Link, size: 0 });
        }
        Ok(())
    }

    fn read(&self, entry: &FileEntry) -> Result<Vec<u8>, SourceError> {
        let paths = self.paths.read().unwrap_or_else(PoisonError::into_inner);
        let path = usize::try_from(entry.position)
            .ok()
            .and_then(|n| paths.get(n))
            .cloned()
            .ok_or_else(|| SourceError(format!("{} was not listed", entry.path)))?;
        drop(paths);
        let mut bytes = Vec::new();
        // A file that grows meanwhile is read as far as it was listed.
        File::open(&path)
            .and_then(|f| f.take(entry.size).read_to_end(&mut bytes))
            .map_err(|e| SourceError(format!("{} cannot be read: {e}", entry.path)))?;
        Ok(bytes)
    }

    fn history(&self, _: &Cancel) -> Result<HistoryContents, SourceError> {
        Ok(HistoryContents::default())
    }

    fn read_history(&self, entry: &HistoryEntry) -> Result<Vec<u8>, SourceError> {
        Err(SourceError(format!("a folder has no history to read {} from", entry.path)))
    }
}
