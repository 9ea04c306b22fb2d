//! What a scan reads from: the snapshot for the tree, the repository's objects for
//! the history.

use std::sync::Arc;

use gix_object::FindExt;

use crate::ingest::ObjectPool;
use crate::scan::{Cancel, FileEntry, HistoryEntry, Source, SourceError};
use crate::snapshot::{CachePool, Entry, EntryKind, Snapshot};

/// Finds the blobs of the history that the head does not hold.
pub type HistoryWalk = Box<dyn Fn(&Cancel) -> Result<Vec<HistoryEntry>, SourceError> + Send + Sync>;

/// Where the history comes from.
pub struct History {
    /// The objects of the repository.
    pub objects: Arc<ObjectPool>,
    /// The walk.
    pub walk: HistoryWalk,
}

/// A snapshot as the scan engine wants it. Paths are lossy UTF-8, as everywhere in
/// findings; two paths that differ in bytes that are no UTF-8 may look the same, and
/// each is still read by its own place.
pub struct SnapshotSource {
    /// In the order in which the storage keeps them, so that files that share a frame
    /// follow each other.
    entries: Vec<Entry>,
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
        let mut entries = snapshot.all_blocking().map_err(|e| SourceError(e.to_string()))?;
        entries.retain(|e| matches!(e.kind, EntryKind::File | EntryKind::Executable));
        entries.sort_by_key(|entry| entry.place);
        Ok(Self { entries, snapshot, caches: CachePool::default(), history, max_file })
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

    fn read(&self, file: &FileEntry) -> Result<Vec<u8>, SourceError> {
        let entry = usize::try_from(file.position)
            .ok()
            .and_then(|number| self.entries.get(number))
            .ok_or_else(|| SourceError(format!("there is no file {:?}", file.path)))?;
        self.caches
            .with(|cache| self.snapshot.read_blocking(entry, self.max_file, cache))
            .map_err(|e| SourceError(e.to_string()))
    }

    fn history(&self, cancel: &Cancel) -> Result<Vec<HistoryEntry>, SourceError> {
        self.history.as_ref().map_or_else(|| Ok(Vec::new()), |history| (history.walk)(cancel))
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
