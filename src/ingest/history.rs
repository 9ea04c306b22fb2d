//! The blobs that a history holds besides those of a tree, each once.
//!
//! All commits that the tips reach are visited from the oldest on, parents before
//! children, and each is compared with its first parent. Trees of equal id are
//! equal, so the comparison reads only what changed. A blob that the tree holds is
//! left out; any other is told with the commit that brought it first and the one
//! that took it away last.
//!
//! On the way what is odd about a tree or a commit is noted ([`crate::scan::git`]): their
//! bytes are at hand here and nowhere else.
//!
//! Memory: 20 bytes for each commit and each known blob (and what a hash set adds),
//! and an entry for each blob that is told. Time: two trees along each changed path
//! of each commit, as `git log --raw` needs.

use std::collections::{BTreeMap, HashMap, HashSet};

use gix_hash::{ObjectId, oid};
use gix_object::tree::EntryKind;
use gix_object::{CommitRefIter, FindExt, FindHeader, Kind, TagRefIter, TreeRefIter};

use crate::scan::git::{self, Odd};
use crate::scan::{Cancel, HistoryContents, HistoryEntry, HistoryOddity};

/// Deepest tree; git itself checks out no deeper path.
const MAX_DEPTH: usize = 256;

/// Where what has no path is shown.
const ROOT: &str = ".";

/// Most tags of tags that are followed.
const MAX_TAGS: usize = 16;

/// Why a history could not be walked.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// An object is missing or cannot be decoded.
    #[error("cannot read object {id} of the history: {reason}")]
    Object {
        /// The object.
        id: ObjectId,
        /// What the object database said.
        reason: String,
    },
    /// Somebody asked to stop.
    #[error("walking the history was cancelled")]
    Cancelled,
}

/// Bounds of a walk.
#[derive(Debug, Clone, Copy)]
pub struct HistoryLimits {
    /// Commits that are visited, newest first; older ones are left out.
    pub max_commits: usize,
    /// Blobs that are told.
    pub max_blobs: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { max_commits: 5_000_000, max_blobs: 5_000_000 }
    }
}

/// What a walk gave.
#[derive(Debug, Default)]
pub struct HistoryWalk {
    /// Each blob once, oldest first.
    pub entries: Vec<HistoryEntry>,
    /// Commits that were visited.
    pub commits: usize,
    /// True if a limit left something out.
    pub truncated: bool,
    /// What is odd about names, trees and commits, oldest first; at most [`MAX_ODD`].
    pub odd: Vec<HistoryOddity>,
    /// So many more were left out.
    pub odd_dropped: u64,
}

/// So many oddities are told; the rest would say the same.
pub const MAX_ODD: usize = 1000;

impl From<HistoryWalk> for HistoryContents {
    fn from(walk: HistoryWalk) -> Self {
        Self { blobs: walk.entries, odd: walk.odd, odd_dropped: walk.odd_dropped }
    }
}

/// Tells whether an object is new.
pub type Fresh<'a> = &'a dyn Fn(&oid) -> bool;

/// Walks the history of `tips` (commits, or tags of commits; anything else is passed
/// over) and tells every blob that is not in `known`.
///
/// A parent that is missing ends the history there, as in a shallow clone.
///
/// # Errors
///
/// [`HistoryError`] for objects that are broken or, other than parents, missing, and
/// once `cancel` is set.
pub fn walk<F: gix_object::Find + FindHeader>(
    objects: &F,
    tips: &[ObjectId],
    known: &HashSet<ObjectId>,
    limits: &HistoryLimits,
    cancel: &Cancel,
) -> Result<HistoryWalk, HistoryError> {
    walk_new(objects, tips, known, &|_| true, limits, cancel)
}

/// As [`walk`], of the part of the history that is new alone: it ends at commits that
/// are not `fresh` and tells no other blob. In a closed object database everything
/// behind an old commit is old as well.
///
/// # Errors
///
/// As [`walk`].
pub fn walk_new<F: gix_object::Find + FindHeader>(
    objects: &F,
    tips: &[ObjectId],
    known: &HashSet<ObjectId>,
    fresh: Fresh<'_>,
    limits: &HistoryLimits,
    cancel: &Cancel,
) -> Result<HistoryWalk, HistoryError> {
    let mut walk = Walk {
        objects,
        known,
        fresh,
        limits,
        cancel,
        seen: HashMap::new(),
        compared: HashSet::new(),
        told: HashSet::new(),
        out: HistoryWalk::default(),
        buffer: Vec::new(),
    };
    let commits = walk.order(tips)?;
    for commit in &commits {
        walk.commit(*commit)?;
    }
    walk.out.commits = commits.len();
    Ok(walk.out)
}

/// All blobs of a tree, for `known`.
///
/// # Errors
///
/// As [`walk`].
pub fn blobs_of_tree<F: gix_object::Find>(
    objects: &F,
    tree: ObjectId,
    cancel: &Cancel,
) -> Result<HashSet<ObjectId>, HistoryError> {
    let mut blobs = HashSet::new();
    let mut trees = HashSet::from([tree]);
    let mut open = vec![tree];
    let mut buffer = Vec::new();
    while let Some(id) = open.pop() {
        if cancel.is_cancelled() {
            return Err(HistoryError::Cancelled);
        }
        for entry in entries(objects, id, &mut buffer, None)? {
            match entry.kind {
                Node::Blob => {
                    blobs.insert(entry.id);
                }
                Node::Tree if trees.insert(entry.id) => open.push(entry.id),
                Node::Tree => {}
            }
        }
    }
    Ok(blobs)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Tree,
    Blob,
}

struct Entry {
    name: Vec<u8>,
    id: ObjectId,
    kind: Node,
}

/// Entries of a tree that are files or folders. Links and submodules hold nothing. What
/// is odd about the tree goes to `odd`.
fn entries<F: gix_object::Find>(
    objects: &F,
    id: ObjectId,
    buffer: &mut Vec<u8>,
    odd: Option<&mut Vec<(Odd, Vec<u8>)>>,
) -> Result<Vec<Entry>, HistoryError> {
    let mut list = Vec::new();
    let found = objects.find(&id, buffer).map_err(|e| broken(&id, &e))?;
    if found.kind != Kind::Tree {
        return Err(broken(&id, &"it is no tree"));
    }
    if let Some(odd) = odd {
        git::odd_tree(found.data, id.kind(), |kind, name| odd.push((kind, name.to_vec())));
    }
    for entry in TreeRefIter::from_bytes(found.data, id.kind()) {
        let entry = entry.map_err(|e| broken(&id, &e))?;
        let kind = match entry.mode.kind() {
            EntryKind::Tree => Node::Tree,
            EntryKind::Blob | EntryKind::BlobExecutable => Node::Blob,
            EntryKind::Link | EntryKind::Commit => continue,
        };
        list.push(Entry { name: entry.filename.to_vec(), id: entry.oid.to_owned(), kind });
    }
    Ok(list)
}

fn broken(id: &oid, reason: &dyn std::fmt::Display) -> HistoryError {
    HistoryError::Object { id: id.to_owned(), reason: reason.to_string() }
}

struct Walk<'a, F> {
    objects: &'a F,
    known: &'a HashSet<ObjectId>,
    fresh: Fresh<'a>,
    limits: &'a HistoryLimits,
    cancel: &'a Cancel,
    /// Index of the entry of each blob that was told.
    seen: HashMap<ObjectId, u32>,
    /// Pairs of trees that were compared in the current commit. The same pair at
    /// another path brings no other blob, and a tree may hold another a million
    /// times over without being large.
    compared: HashSet<(Option<ObjectId>, Option<ObjectId>)>,
    /// Oddities that were noted.
    told: HashSet<(Odd, String)>,
    out: HistoryWalk,
    buffer: Vec<u8>,
}

impl<F: gix_object::Find + FindHeader> Walk<'_, F> {
    fn check_cancel(&self) -> Result<(), HistoryError> {
        if self.cancel.is_cancelled() { Err(HistoryError::Cancelled) } else { Ok(()) }
    }

    /// The commit that a tip leads to.
    fn peel(&mut self, tip: ObjectId) -> Result<Option<ObjectId>, HistoryError> {
        let mut id = tip;
        for _ in 0..MAX_TAGS {
            let Some(object) =
                self.objects.try_find(&id, &mut self.buffer).map_err(|e| broken(&id, &e))?
            else {
                return Err(broken(&id, &"it is missing"));
            };
            match object.kind {
                Kind::Commit => return Ok(Some(id)),
                Kind::Tag => {
                    id = TagRefIter::from_bytes(object.data, id.kind())
                        .target_id()
                        .map_err(|e| broken(&id, &e))?;
                }
                Kind::Tree | Kind::Blob => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Tree and parents of a commit, or `None` if it is missing.
    fn read(&mut self, id: ObjectId) -> Result<Option<(ObjectId, Vec<ObjectId>)>, HistoryError> {
        let Some(object) =
            self.objects.try_find(&id, &mut self.buffer).map_err(|e| broken(&id, &e))?
        else {
            return Ok(None);
        };
        let mut commit = CommitRefIter::from_bytes(object.data, id.kind());
        let tree = commit.tree_id().map_err(|e| broken(&id, &e))?;
        Ok(Some((tree, commit.parent_ids().collect())))
    }

    /// All commits, parents before children. Depth first with a stack of its own:
    /// a history is as deep as it is long.
    fn order(&mut self, tips: &[ObjectId]) -> Result<Vec<ObjectId>, HistoryError> {
        let mut visited = HashSet::new();
        let mut order = Vec::new();
        for tip in tips {
            let Some(tip) = self.peel(*tip)? else {
                continue;
            };
            if !(self.fresh)(&tip) || !visited.insert(tip) {
                continue;
            }
            let parents = self.read(tip)?.map(|(_, p)| p).unwrap_or_default();
            let mut stack = vec![(tip, parents)];
            while let Some((_, parents)) = stack.last_mut() {
                match parents.pop() {
                    Some(parent) => {
                        if visited.len() >= self.limits.max_commits {
                            self.out.truncated = true;
                            continue;
                        }
                        if visited.insert(parent) && (self.fresh)(&parent) {
                            self.check_cancel()?;
                            // A missing parent is where a shallow clone ends.
                            if let Some((_, parents)) = self.read(parent)? {
                                stack.push((parent, parents));
                            }
                        }
                    }
                    None => {
                        if let Some((done, _)) = stack.pop() {
                            order.push(done);
                        }
                    }
                }
            }
        }
        Ok(order)
    }

    fn commit(&mut self, id: ObjectId) -> Result<(), HistoryError> {
        self.check_cancel()?;
        let Some((tree, parents)) = self.read(id)? else {
            return Ok(());
        };
        let found = self.objects.find(&id, &mut self.buffer).map_err(|e| broken(&id, &e))?;
        if let Some(odd) = git::odd_commit(found.data, id.kind()) {
            self.odd(odd, ROOT.to_owned(), id);
        }
        let before = match parents.first() {
            Some(parent) => self.read(*parent)?.map(|(tree, _)| tree),
            None => None,
        };
        let mut path = Vec::new();
        self.compared.clear();
        self.compare(id, before, Some(tree), &mut path, 0)
    }

    /// Compares two trees that lie at the same path.
    fn compare(
        &mut self,
        commit: ObjectId,
        before: Option<ObjectId>,
        after: Option<ObjectId>,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), HistoryError> {
        if before == after || depth > MAX_DEPTH || !self.compared.insert((before, after)) {
            return Ok(());
        }
        self.check_cancel()?;
        let mut odd = Vec::new();
        let old = match before {
            Some(tree) => entries(self.objects, tree, &mut self.buffer, None)?,
            None => Vec::new(),
        };
        let new = match after {
            Some(tree) => {
                let wanted = (self.fresh)(&tree).then_some(&mut odd);
                entries(self.objects, tree, &mut self.buffer, wanted)?
            }
            None => Vec::new(),
        };
        let mut old: BTreeMap<Vec<u8>, Entry> =
            old.into_iter().map(|e| (e.name.clone(), e)).collect();
        let length = path.len();
        for (kind, name) in odd {
            push(path, &name);
            let at = if path.is_empty() { ROOT.into() } else { String::from_utf8_lossy(path) };
            self.odd(kind, at.into_owned(), commit);
            path.truncate(length);
        }
        for entry in new {
            let was = old.remove(&entry.name);
            if was.as_ref().is_some_and(|w| w.id == entry.id && w.kind == entry.kind) {
                continue;
            }
            push(path, &entry.name);
            let was_tree = was.as_ref().filter(|w| w.kind == Node::Tree).map(|w| w.id);
            if let Some(gone) = was.as_ref().filter(|w| w.kind == Node::Blob) {
                self.removed(commit, gone.id, path);
            }
            match entry.kind {
                Node::Blob => {
                    self.compare(commit, was_tree, None, path, depth + 1)?;
                    self.added(commit, entry.id, path);
                }
                Node::Tree => {
                    self.compare(commit, was_tree, Some(entry.id), path, depth + 1)?;
                }
            }
            path.truncate(length);
        }
        for (name, gone) in old {
            push(path, &name);
            match gone.kind {
                Node::Blob => self.removed(commit, gone.id, path),
                Node::Tree => self.compare(commit, Some(gone.id), None, path, depth + 1)?,
            }
            path.truncate(length);
        }
        Ok(())
    }

    /// Notes an oddity, with the oldest commit that has it.
    fn odd(&mut self, odd: Odd, path: String, commit: ObjectId) {
        if self.told.contains(&(odd, path.clone())) {
            return;
        }
        if self.out.odd.len() >= MAX_ODD {
            self.out.odd_dropped += 1;
            return;
        }
        // Each commit speaks for itself; a name stays the same from commit to commit.
        if odd != Odd::MissingIdentity {
            self.told.insert((odd, path.clone()));
        }
        self.out.odd.push(HistoryOddity { odd, path, commit: commit.to_string() });
    }

    fn added(&mut self, commit: ObjectId, blob: ObjectId, path: &[u8]) {
        if self.known.contains(&blob) || !(self.fresh)(&blob) {
            return;
        }
        if let Some(index) = self.seen.get(&blob) {
            // It came back to where it was: it is not gone yet.
            if let Some(entry) = self.out.entries.get_mut(*index as usize)
                && entry.path == String::from_utf8_lossy(path)
            {
                entry.removed_in = None;
            }
            return;
        }
        let Ok(index) = u32::try_from(self.out.entries.len()) else {
            return;
        };
        if self.out.entries.len() >= self.limits.max_blobs {
            self.out.truncated = true;
            return;
        }
        // A blob that is missing (a partial clone) cannot be scanned.
        let Ok(Some(header)) = self.objects.try_header(&blob) else {
            return;
        };
        self.seen.insert(blob, index);
        self.out.entries.push(HistoryEntry {
            blob: blob.to_string(),
            path: String::from_utf8_lossy(path).into_owned(),
            commit: commit.to_string(),
            removed_in: None,
            size: header.size,
        });
    }

    fn removed(&mut self, commit: ObjectId, blob: ObjectId, path: &[u8]) {
        if let Some(index) = self.seen.get(&blob)
            && let Some(entry) = self.out.entries.get_mut(*index as usize)
            && entry.path == String::from_utf8_lossy(path)
        {
            entry.removed_in = Some(commit.to_string());
        }
    }
}

fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() && !name.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
