//! From a tree of git to a sorted list of entries.

use std::cmp::Ordering;
use std::collections::HashSet;

use gix_hash::ObjectId;
use gix_object::bstr::{BString, ByteSlice};
use gix_object::tree::{EntryKind as GitKind, EntryRef};
use gix_object::{FindExt, TreeRefIter};

use super::SnapshotError;
use super::manifest::{Entry, EntryKind, MAX_PATH, Place};
use crate::scan::Cancel;

/// Bounds of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeLimits {
    /// Entries of all kinds.
    pub max_entries: u64,
    /// Bytes of all files together.
    pub max_bytes: u64,
    /// Folders within folders.
    pub max_depth: u32,
    /// Bytes of a path, at most 4096.
    pub max_path: usize,
}

impl Default for TreeLimits {
    fn default() -> Self {
        Self { max_entries: 1_000_000, max_bytes: 20 << 30, max_depth: 128, max_path: MAX_PATH }
    }
}

/// How many collisions are named; the rest is counted.
const NAMED: usize = 100;

/// Names that a file system without case would fold together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Collisions {
    pub(super) count: u64,
    pub(super) paths: Vec<BString>,
}

pub(super) struct Walked {
    pub(super) entries: Vec<Entry>,
    pub(super) collisions: Collisions,
}

/// Lists a tree in byte order of the full paths, which is the order in which git
/// sorts each folder (a folder's name counts with a slash behind it). Memory is
/// bounded by the limits.
pub(super) fn walk(
    odb: &gix_odb::HandleArc,
    tree: ObjectId,
    limits: &TreeLimits,
    cancel: &Cancel,
) -> Result<Walked, SnapshotError> {
    let mut walk = Walk {
        odb,
        limits,
        cancel,
        path: Vec::new(),
        found: Walked { entries: Vec::new(), collisions: Collisions::default() },
        folded: HashSet::new(),
        trees: 0,
    };
    walk.folder(tree, 0)?;
    Ok(walk.found)
}

struct Walk<'a> {
    odb: &'a gix_odb::HandleArc,
    limits: &'a TreeLimits,
    cancel: &'a Cancel,
    path: Vec<u8>,
    found: Walked,
    folded: HashSet<Vec<u8>>,
    trees: u64,
}

impl Walk<'_> {
    fn folder(&mut self, id: ObjectId, depth: u32) -> Result<(), SnapshotError> {
        if self.cancel.is_cancelled() {
            return Err(SnapshotError::Cancelled);
        }
        if depth > self.limits.max_depth {
            let max = self.limits.max_depth.into();
            return Err(SnapshotError::Limit { what: "folders within folders", max });
        }
        // Empty trees within trees would not count as entries.
        self.trees += 1;
        if self.trees > self.limits.max_entries {
            let max = self.limits.max_entries;
            return Err(SnapshotError::Limit { what: "folders", max });
        }
        let mut buffer = Vec::new();
        let found = self.odb.find(&id, &mut buffer).map_err(|e| object_error(id, &e))?;
        if found.kind != gix_object::Kind::Tree {
            return Err(object_error(id, &"it is no tree"));
        }
        let mut list = Vec::new();
        for entry in TreeRefIter::from_bytes(found.data, id.kind()) {
            list.push(entry.map_err(|e| object_error(id, &e))?);
        }
        // Some old tools wrote trees out of order, and nothing of them is lost by that.
        if !list.is_sorted_by(|a, b| by_git(a, b).is_le()) {
            list.sort_by(by_git);
        }
        self.fold_names(&list);
        let length = self.path.len();
        let mut before: Option<EntryRef<'_>> = None;
        for entry in list {
            let kind = entry.mode.kind();
            let name: &[u8] = entry.filename;
            if let Some(reason) = unusable(name) {
                return Err(self.malformed(length, reason));
            }
            if before.replace(entry).is_some_and(|before| by_git(&before, &entry).is_eq()) {
                return Err(self.malformed(length, "its names are not unique"));
            }
            let mut key = name.to_vec();
            if kind == GitKind::Tree {
                key.push(b'/');
            }
            if length + key.len() > self.limits.max_path.min(MAX_PATH) {
                let max = self.limits.max_path.min(MAX_PATH) as u64;
                return Err(SnapshotError::Limit { what: "bytes in a path", max });
            }
            self.path.truncate(length);
            self.path.extend_from_slice(&key);
            let kind = match kind {
                GitKind::Tree => {
                    self.folder(entry.oid.to_owned(), depth + 1)?;
                    continue;
                }
                GitKind::Blob => EntryKind::File,
                GitKind::BlobExecutable => EntryKind::Executable,
                GitKind::Link => EntryKind::Symlink,
                GitKind::Commit => EntryKind::Submodule,
            };
            if self.found.entries.len() as u64 >= self.limits.max_entries {
                let max = self.limits.max_entries;
                return Err(SnapshotError::Limit { what: "files", max });
            }
            self.found.entries.push(Entry {
                path: self.path.as_slice().into(),
                kind,
                size: 0,
                id: entry.oid.to_owned(),
                place: Place::default(),
            });
        }
        self.path.truncate(length);
        Ok(())
    }

    /// Counts names of one folder that differ in case only. Whole paths need no
    /// look: two that fold together do so first at one folder.
    fn fold_names(&mut self, tree: &[EntryRef<'_>]) {
        self.folded.clear();
        for entry in tree {
            if self.folded.insert(entry.filename.to_lowercase()) {
                continue;
            }
            self.found.collisions.count += 1;
            if self.found.collisions.paths.len() < NAMED {
                let mut path: BString = self.path.as_slice().into();
                path.extend_from_slice(entry.filename);
                self.found.collisions.paths.push(path);
            }
        }
    }

    fn malformed(&self, length: usize, reason: &'static str) -> SnapshotError {
        let folder = self.path.get(..length).unwrap_or_default();
        SnapshotError::MalformedTree { folder: String::from_utf8_lossy(folder).into(), reason }
    }
}

/// Git's order: a folder counts with a slash behind its name.
fn by_git(a: &EntryRef<'_>, b: &EntryRef<'_>) -> Ordering {
    let common = a.filename.len().min(b.filename.len());
    let next = |entry: &EntryRef<'_>| {
        let slash = (entry.mode.kind() == GitKind::Tree).then_some(b'/');
        entry.filename.get(common).copied().or(slash)
    };
    a.filename[..common].cmp(&b.filename[..common]).then_with(|| next(a).cmp(&next(b)))
}

fn unusable(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("a name is empty"),
        b"." | b".." => Some("a name is . or .."),
        _ if name.contains(&b'/') => Some("a name holds a slash"),
        _ if name.contains(&0) => Some("a name holds a NUL"),
        _ => None,
    }
}

pub(super) fn object_error(id: ObjectId, error: &dyn std::fmt::Display) -> SnapshotError {
    SnapshotError::Object { id: id.to_string(), reason: error.to_string() }
}
