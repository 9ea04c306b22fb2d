//! A git repository: its work tree or its head tree, and its history.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use gix_hash::ObjectId;
use gix_object::bstr::BString;
use gix_object::tree::EntryKind;
use gix_object::{FindExt, FindHeader};

use crate::ingest::history::{self, HistoryLimits};
use crate::scan::git::{NameEntry, NameKind};
use crate::scan::{Cancel, FileEntry, HistoryContents, HistoryEntry, Source, SourceError};

use super::folder::Folder;
use super::refs::GitDir;

/// Deepest tree.
const MAX_DEPTH: usize = 256;

/// Memory for bases of deltas, of each thread, in bytes.
const DELTA_CACHE: usize = 8 << 20;

/// The objects of a repository, for several threads: each takes a handle of its own
/// and gives it back.
struct Objects {
    first: gix_odb::HandleArc,
    idle: Mutex<Vec<gix_odb::HandleArc>>,
}

// The template that handles are cloned from is only ever used under this lock.
struct Shared(Mutex<Objects>);

impl Shared {
    fn new(mut handle: gix_odb::HandleArc) -> Self {
        handle.set_pack_cache(|| {
            Box::new(gix_pack::cache::lru::MemoryCappedHashmap::new(DELTA_CACHE))
        });
        Self(Mutex::new(Objects { first: handle, idle: Mutex::default() }))
    }

    fn with<T>(&self, f: impl FnOnce(&gix_odb::HandleArc) -> T) -> T {
        let handle = {
            let mut objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = objects.idle.get_mut().unwrap_or_else(PoisonError::into_inner).pop();
            idle.unwrap_or_else(|| objects.first.clone())
        };
        let result = f(&handle);
        let mut objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        objects.idle.get_mut().unwrap_or_else(PoisonError::into_inner).push(handle);
        result
    }

    fn blob(&self, hex: &str, path: &str) -> Result<Vec<u8>, SourceError> {
        let failed = |e: &dyn std::fmt::Display| {
            SourceError(format!("{path} (object {hex}) cannot be read: {e}"))
        };
        let id = ObjectId::from_hex(hex.as_bytes()).map_err(|e| failed(&e))?;
        self.with(|objects| {
            let mut buffer = Vec::new();
            objects.find_blob(&id, &mut buffer).map_err(|e| failed(&e))?;
            Ok(buffer)
        })
    }

    fn history(
        &self,
        tips: &[ObjectId],
        known: &HashSet<ObjectId>,
        cancel: &Cancel,
    ) -> Result<HistoryContents, SourceError> {
        self.with(|objects| {
            history::walk(objects, tips, known, &HistoryLimits::default(), cancel)
                .map(HistoryContents::from)
                .map_err(|e| SourceError(e.to_string()))
        })
    }
}

/// Files as they lie in the work tree, with what is not committed.
pub(super) struct WorkTree {
    folder: Folder,
    objects: Shared,
    tips: Vec<ObjectId>,
    /// Blobs of the work tree, which the history need not tell again.
    known: Mutex<HashSet<ObjectId>>,
}

impl WorkTree {
    pub(super) fn open(root: &Path, git: GitDir, history: bool) -> anyhow::Result<Self> {
        let folder = Folder::new(root.to_owned());
        Ok(Self {
            folder: if history { folder.with_ids(git.hash()) } else { folder },
            tips: if history { git.tips()? } else { Vec::new() },
            objects: Shared::new(git.objects()?),
            known: Mutex::default(),
        })
    }
}

impl Source for WorkTree {
    fn files(&self) -> Result<Vec<FileEntry>, SourceError> {
        let files = self.folder.files()?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) =
            files.iter().filter_map(|f| ObjectId::from_hex(f.blob.as_bytes()).ok()).collect();
        Ok(files)
    }

    fn names(&self, each: &mut dyn FnMut(&NameEntry<'_>)) -> Result<(), SourceError> {
        self.folder.names(each)
    }

    fn read(&self, entry: &FileEntry) -> Result<Vec<u8>, SourceError> {
        self.folder.read(entry)
    }

    fn history(&self, cancel: &Cancel) -> Result<HistoryContents, SourceError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.objects.history(&self.tips, &known, cancel)
    }

    fn read_history(&self, entry: &HistoryEntry) -> Result<Vec<u8>, SourceError> {
        self.objects.blob(&entry.blob, &entry.path)
    }
}

/// A repository without a work tree: the files are those of its head.
pub(super) struct Bare {
    objects: Shared,
    head: Option<ObjectId>,
    tips: Vec<ObjectId>,
    /// Where the objects are, if they are only there for this scan.
    _scratch: Option<tempfile::TempDir>,
}

impl Bare {
    /// Objects in a temporary folder, which goes with them.
    pub(super) fn of(
        objects: gix_odb::HandleArc,
        head: ObjectId,
        tips: Vec<ObjectId>,
        scratch: tempfile::TempDir,
    ) -> Self {
        Self { objects: Shared::new(objects), head: Some(head), tips, _scratch: Some(scratch) }
    }

    pub(super) fn open(git: GitDir) -> anyhow::Result<Self> {
        Ok(Self {
            head: git.head()?,
            tips: git.tips()?,
            objects: Shared::new(git.objects()?),
            _scratch: None,
        })
    }

    fn tree(&self) -> Result<Option<ObjectId>, SourceError> {
        let Some(head) = self.head else {
            return Ok(None);
        };
        self.objects.with(|objects| {
            let failed =
                |e: &dyn std::fmt::Display| SourceError(format!("{head} cannot be read: {e}"));
            let mut buffer = Vec::new();
            let mut commit =
                objects.find_commit_iter(&head, &mut buffer).map_err(|e| failed(&e))?;
            commit.tree_id().map(Some).map_err(|e| failed(&e))
        })
    }
}

/// An entry of the tree of a head.
struct Met {
    path: BString,
    kind: EntryKind,
    id: ObjectId,
}

impl Bare {
    /// Calls `each` with all entries of the tree but folders.
    fn entries(
        &self,
        each: &mut dyn FnMut(&gix_odb::HandleArc, Met) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        let Some(tree) = self.tree()? else {
            return Ok(());
        };
        self.objects.with(|objects| {
            let mut buffer = Vec::new();
            let mut open = vec![(tree, BString::default(), 0)];
            while let Some((id, folder, depth)) = open.pop() {
                let failed =
                    |e: &dyn std::fmt::Display| SourceError(format!("{id} cannot be read: {e}"));
                for entry in objects.find_tree_iter(&id, &mut buffer).map_err(|e| failed(&e))? {
                    let entry = entry.map_err(|e| failed(&e))?;
                    let mut path = folder.clone();
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(entry.filename);
                    match entry.mode.kind() {
                        EntryKind::Tree if depth < MAX_DEPTH => {
                            open.push((entry.oid.to_owned(), path, depth + 1));
                        }
                        EntryKind::Tree => {}
                        kind => each(objects, Met { path, kind, id: entry.oid.to_owned() })?,
                    }
                }
            }
            Ok(())
        })
    }
}

impl Source for Bare {
    fn files(&self) -> Result<Vec<FileEntry>, SourceError> {
        let mut files = Vec::new();
        self.entries(&mut |objects, met| {
            if !matches!(met.kind, EntryKind::Blob | EntryKind::BlobExecutable) {
                return Ok(());
            }
            let header = objects
                .try_header(&met.id)
                .map_err(|e| SourceError(format!("{} cannot be read: {e}", met.id)))?;
            files.push(FileEntry {
                size: header.map_or(0, |h| h.size),
                blob: met.id.to_string(),
                position: files.len() as u64,
                path: met.path.to_string(),
            });
            Ok(())
        })?;
        Ok(files)
    }

    fn names(&self, each: &mut dyn FnMut(&NameEntry<'_>)) -> Result<(), SourceError> {
        self.entries(&mut |_, met| {
            each(&NameEntry { path: &met.path, kind: NameKind::of(met.kind), size: 0 });
            Ok(())
        })
    }

    fn read(&self, entry: &FileEntry) -> Result<Vec<u8>, SourceError> {
        self.objects.blob(&entry.blob, &entry.path)
    }

    fn history(&self, cancel: &Cancel) -> Result<HistoryContents, SourceError> {
        let known = match self.tree()? {
            Some(tree) => self
                .objects
                .with(|objects| history::blobs_of_tree(objects, tree, cancel))
                .map_err(|e| SourceError(e.to_string()))?,
            None => HashSet::new(),
        };
        self.objects.history(&self.tips, &known, cancel)
    }

    fn read_history(&self, entry: &HistoryEntry) -> Result<Vec<u8>, SourceError> {
        self.objects.blob(&entry.blob, &entry.path)
    }
}
