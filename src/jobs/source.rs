//! What a scan reads from: the snapshot for the tree, the repository's objects for
//! the history.

use std::sync::Arc;

use gix_object::FindExt;

use crate::bare;
use crate::ingest::ObjectPool;
use crate::scan::git::{NameEntry, NameKind};
use crate::scan::{Cancel, FileEntry, HistoryContents, HistoryEntry, Source, SourceError};
use crate::snapshot::{CachePool, Entry, EntryKind, Snapshot};

/// Finds what the history holds besides the head.
pub type HistoryWalk = Box<dyn Fn(&Cancel) -> Result<HistoryContents, SourceError> + Send + Sync>;

/// Where the history comes from.
pub struct History {
    /// The objects of the repository.
    pub objects: Arc<ObjectPool>,
    /// The walk.
    pub walk: HistoryWalk,
    /// Keeps the objects where they are.
    pub held: bare::Objects,
}

/// A snapshot as the scan engine wants it. Paths are lossy UTF-8, as everywhere in
/// findings; two paths that differ in bytes that are no UTF-8 may look the same, and
/// each is still read by its own place.
pub struct SnapshotSource {
    /// In the order in which the storage keeps them, so that files that share a frame
    /// follow each other.
    entries: Vec<Entry>,
    /// Links and submodules, which are names and no files.
    others: Vec<Entry>,
    snapshot: Snapshot,
    caches: CachePool,
    history: Option<History>,
    max_file: u64,
}

impl SnapshotSource {
    /// Reads the list of entries; blocks. Files above `max_file` bytes are listed but
    /// refuse to be read. Without `history` there is none.
    pub fn new(
        snapshot: Snapshot,
        history: Option<History>,
        max_file: u64,
    ) -> Result<Self, SourceError> {
        let all = snapshot.all_blocking().map_err(|e| SourceError(e.to_string()))?;
        let is_file = |e: &Entry| matches!(e.kind, EntryKind::File | EntryKind::Executable);
        let (mut entries, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_file);
        entries.sort_by_key(|entry| entry.place);
        Ok(Self { entries, others, snapshot, caches: CachePool::default(), history, max_file })
    }
}

impl Source for SnapshotSource {
    /// By path; the position is that in the storage.
    fn files(&self) -> Result<Vec<FileEntry>, SourceError> {
        let mut files: Vec<FileEntry> = self
            .entries
            .iter()
            .enumerate()
            .map(|(position, entry)| FileEntry {
                path: entry.path.to_string(),
                size: entry.size,
                blob: entry.id.to_string(),
                position: position as u64,
            })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    fn names(&self, each: &mut dyn FnMut(&NameEntry<'_>)) -> Result<(), SourceError> {
        for entry in self.entries.iter().chain(&self.others) {
            let kind = match entry.kind {
                EntryKind::File | EntryKind::Executable => NameKind::File,
                EntryKind::Symlink => NameKind::Link,
                EntryKind::Submodule => NameKind::Submodule,
            };
            each(&NameEntry { path: &entry.path, kind, size: entry.size });
        }
        Ok(())
    }

    fn read(&self, file: &FileEntry) -> Result<Vec<u8>, SourceError> {
        let entry = usize::try_from(file.position)
            .ok()
            .and_then(|number| self.entries.get(number))
            .ok_or_else(|| SourceError(format!("there is no file {:?}", file.path)))?;
        self.caches
            .with(|cache| self.snapshot.read_blocking(entry, self.max_file, cache))
            .map_err(|e| SourceError(e.to_string()))
    }

    fn history(&self, cancel: &Cancel) -> Result<HistoryContents, SourceError> {
        let none = || Ok(HistoryContents::default());
        self.history.as_ref().map_or_else(none, |history| (history.walk)(cancel))
    }

    fn read_history(&self, entry: &HistoryEntry) -> Result<Vec<u8>, SourceError> {
        let history = self.history.as_ref();
        let history = history.ok_or_else(|| SourceError("there is no history".to_owned()))?;
        if entry.size > self.max_file {
            return Err(SourceError(format!(
                "blob {} has {} bytes, more than the {} that may be read at once",
                entry.blob, entry.size, self.max_file
            )));
        }
        let id: gix_hash::ObjectId =
            entry.blob.parse().map_err(|_| SourceError(format!("{:?} is no id", entry.blob)))?;
        history.objects.with(|objects| {
            let mut buffer = Vec::new();
            let blob =
                objects.find_blob(&id, &mut buffer).map_err(|e| SourceError(e.to_string()))?;
            Ok(blob.data.to_vec())
        })
    }
}
