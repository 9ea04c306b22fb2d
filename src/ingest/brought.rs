//! What a push brings: the files of its tips and the blobs of its commits that the
//! repository did not have before, as a source for the scan engine.
//!
//! An object counts as old if the repository's own objects hold it. They are closed
//! (whatever an object names is there too), so nothing behind an old tree or commit
//! has to be looked at: the work is that of what was pushed, however large the
//! repository is.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use gix_hash::{ObjectId, oid};
use gix_object::bstr::BString;
use gix_object::tree::EntryKind;
use gix_object::{CommitRefIter, Exists as _, FindExt as _, FindHeader as _, Kind, TagRefIter};

use super::history::{self, HistoryLimits};
use super::{ObjectPool, open_objects};
use crate::scan::git::{NameEntry, NameKind};
use crate::scan::{Cancel, FileEntry, HistoryContents, HistoryEntry, Source, SourceError};

/// Deepest tree; git itself checks out no deeper path.
const MAX_DEPTH: usize = 256;

/// Most tags of tags that are followed.
const MAX_TAGS: usize = 16;

/// See the module.
pub struct Brought {
    objects: ObjectPool,
    /// The repository without the push. A handle belongs to one thread at a time.
    before: Mutex<gix_odb::HandleArc>,
    tips: Vec<ObjectId>,
    /// Most files that are listed.
    max_files: usize,
    /// Largest blob that is read, in bytes.
    max_file: u64,
    /// There were more files.
    too_large: AtomicBool,
}

impl Brought {
    /// `all` is an objects folder that sees the push and the repository, `before` one
    /// that sees the repository alone; `tips` is what the refs are to point to. Blocks.
    ///
    /// # Errors
    ///
    /// If a folder cannot be read.
    pub fn open(
        all: &Path,
        before: &Path,
        tips: Vec<ObjectId>,
        max_files: usize,
        max_file: u64,
    ) -> std::io::Result<Self> {
        let hash = tips.first().map_or(gix_hash::Kind::Sha1, |tip| tip.kind());
        let mut before = open_objects(before, hash)?;
        // What is missing there now stays missing as long as this lives.
        before.refresh_never();
        let objects = ObjectPool::open(all, hash)?;
        let too_large = AtomicBool::new(false);
        Ok(Self { objects, before: Mutex::new(before), tips, max_files, max_file, too_large })
    }

    /// True once it turned out that the push brings more than the files that are listed.
    pub fn is_too_large(&self) -> bool {
        self.too_large.load(Ordering::Relaxed)
    }

    fn is_new(&self, id: &oid) -> bool {
        !self.before.lock().unwrap_or_else(PoisonError::into_inner).exists(id)
    }

    /// The tree that a tip leads to; none for a tag of a blob.
    fn tree(&self, tip: ObjectId) -> Result<Option<ObjectId>, SourceError> {
        self.objects.with(|objects| {
            let mut buffer = Vec::new();
            let mut id = tip;
            for _ in 0..MAX_TAGS {
                let found = objects.find(&id, &mut buffer).map_err(|e| unreadable(&id, &e))?;
                match found.kind {
                    Kind::Tree => return Ok(Some(id)),
                    Kind::Blob => return Ok(None),
                    Kind::Commit => {
                        return CommitRefIter::from_bytes(found.data, id.kind())
                            .tree_id()
                            .map(Some)
                            .map_err(|e| unreadable(&id, &e));
                    }
                    Kind::Tag => {
                        id = TagRefIter::from_bytes(found.data, id.kind())
                            .target_id()
                            .map_err(|e| unreadable(&id, &e))?;
                    }
                }
            }
            Ok(None)
        })
    }

    fn blob(&self, hex: &str, size: u64) -> Result<Vec<u8>, SourceError> {
        if size > self.max_file {
            return Err(SourceError(format!(
                "blob {hex} has {size} bytes, more than the {} that may be read at once",
                self.max_file
            )));
        }
        let id: ObjectId = hex.parse().map_err(|_| SourceError(format!("{hex:?} is no id")))?;
        self.objects.with(|objects| {
            let mut buffer = Vec::new();
            let blob = objects.find_blob(&id, &mut buffer).map_err(|e| unreadable(&id, &e))?;
            Ok(blob.data.to_vec())
        })
    }
}

fn unreadable(id: &oid, reason: &dyn std::fmt::Display) -> SourceError {
    SourceError(format!("object {id} cannot be read: {reason}"))
}

/// An entry of a new tree.
struct Met {
    path: BString,
    kind: EntryKind,
    id: ObjectId,
}

impl Brought {
    /// Calls `each` with all entries of the new trees of all tips, each once.
    fn trees(
        &self,
        each: &mut dyn FnMut(Met) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        let mut open = Vec::new();
        for tip in &self.tips {
            open.extend(self.tree(*tip)?.map(|tree| (tree, BString::default(), 0)));
        }
        // Tips of one push have most of their trees in common.
        let mut seen = HashSet::new();
        self.objects.with(|objects| {
            let mut buffer = Vec::new();
            while let Some((id, folder, depth)) = open.pop() {
                if !self.is_new(&id) || !seen.insert((folder.clone(), id)) {
                    continue;
                }
                // A tree may hold another a million times over without being large.
                if seen.len() > self.max_files {
                    return Err(self.too_many());
                }
                let tree =
                    objects.find_tree_iter(&id, &mut buffer).map_err(|e| unreadable(&id, &e))?;
                for entry in tree {
                    let entry = entry.map_err(|e| unreadable(&id, &e))?;
                    let mut path = folder.clone();
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(entry.filename);
                    let (kind, id) = (entry.mode.kind(), entry.oid.to_owned());
                    if kind == EntryKind::Tree && depth < MAX_DEPTH {
                        open.push((id, path.clone(), depth + 1));
                    }
                    each(Met { path, kind, id })?;
                }
            }
            Ok(())
        })
    }

    fn too_many(&self) -> SourceError {
        self.too_large.store(true, Ordering::Relaxed);
        SourceError(format!("it brings more than {} files or folders", self.max_files))
    }
}

impl Source for Brought {
    /// New files of the trees of all tips, each content once at each path.
    fn files(&self) -> Result<Vec<FileEntry>, SourceError> {
        let mut files = Vec::new();
        let mut seen = HashSet::new();
        self.trees(&mut |met| {
            let is_file = matches!(met.kind, EntryKind::Blob | EntryKind::BlobExecutable);
            if !is_file || !self.is_new(&met.id) || !seen.insert((met.path.clone(), met.id)) {
                return Ok(());
            }
            if files.len() > self.max_files {
                return Err(self.too_many());
            }
            let header = self
                .objects
                .with(|objects| objects.try_header(&met.id))
                .map_err(|e| unreadable(&met.id, &e))?;
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

    /// All names of the new trees: one that was there before may be what a new one is
    /// taken for.
    fn names(&self, each: &mut dyn FnMut(&NameEntry<'_>)) -> Result<(), SourceError> {
        let mut count = 0;
        self.trees(&mut |met| {
            count += 1;
            if count > self.max_files {
                return Err(self.too_many());
            }
            each(&NameEntry { path: &met.path, kind: NameKind::of(met.kind), size: 0 });
            Ok(())
        })
    }

    fn read(&self, entry: &FileEntry) -> Result<Vec<u8>, SourceError> {
        self.blob(&entry.blob, entry.size)
    }

    /// New blobs of the new commits that no tip holds any more.
    fn history(&self, cancel: &Cancel) -> Result<HistoryContents, SourceError> {
        let known: HashSet<ObjectId> =
            self.files()?.iter().filter_map(|file| file.blob.parse().ok()).collect();
        let (limits, fresh) = (HistoryLimits::default(), |id: &oid| self.is_new(id));
        history::walk_new(&self.objects.walker(), &self.tips, &known, &fresh, &limits, cancel)
            .map(HistoryContents::from)
            .map_err(|error| SourceError(error.to_string()))
    }

    fn read_history(&self, entry: &HistoryEntry) -> Result<Vec<u8>, SourceError> {
        self.blob(&entry.blob, entry.size)
    }
}
