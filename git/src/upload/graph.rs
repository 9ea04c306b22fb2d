//! The commits of a repository, read as they are met.
//!
//! Every walk of a fetch (is a want reachable, do client and server share enough, where is a shallow
//! history cut, what is to be sent) goes over the same commits, so each is read once and kept in a
//! table: about 70 bytes a commit. Walks mark commits with the flags of [`mark`].

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, Ordering},
};

use gix_hash::ObjectId;
use gix_object::Kind;

use super::{
    Error, object,
    store::{Place, Store},
};

/// The number of a commit in the table.
pub(super) type Commit = u32;

/// What walks remember about a commit.
pub(super) mod mark {
    /// The client has it.
    pub const THEIRS: u16 = 1;
    /// The client has it without its parents.
    pub const CLIENT_SHALLOW: u16 = 1 << 1;
    /// The client will have it without its parents.
    pub const SHALLOW: u16 = 1 << 2;
    /// The client will have its parents.
    pub const DEEP: u16 = 1 << 3;
    /// The walk that counts does not go on to its parents.
    pub const CUT: u16 = 1 << 4;
    /// The walk that counts has met it.
    pub const SEEN: u16 = 1 << 5;
    /// It waits in the queue of that walk.
    pub const QUEUED: u16 = 1 << 6;
    /// It is not to be sent.
    pub const EXCLUDED: u16 = 1 << 7;
    /// All of its tree is taken.
    pub const TAKEN: u16 = 1 << 8;
}

struct Node {
    place: Place,
    tree: ObjectId,
    date: i64,
    parents: (u32, u32),
    flags: u16,
    read: bool,
}

/// The table.
pub(super) struct Graph {
    nodes: Vec<Node>,
    numbers: HashMap<Place, Commit>,
    parents: Vec<Commit>,
    /// Commits whose parents the repository does not have.
    roots: HashSet<ObjectId>,
    buffer: Vec<u8>,
    lenient: bool,
}

impl Graph {
    /// An empty table. `shallow` are the commits whose parents the repository does not have.
    pub fn new(shallow: impl IntoIterator<Item = ObjectId>) -> Self {
        Self {
            nodes: Vec::new(),
            numbers: HashMap::new(),
            parents: Vec::new(),
            roots: shallow.into_iter().collect(),
            buffer: Vec::new(),
            lenient: false,
        }
    }

    /// The same; what is not to be sent need not be readable.
    pub fn lenient(mut self) -> Self {
        self.lenient = true;
        self
    }

    pub fn is_lenient(&self) -> bool {
        self.lenient
    }

    /// How many commits were met so far: the numbers below this are in use.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The commit at a place that is known to hold one.
    pub fn at(&mut self, place: Place, hash: gix_hash::Kind) -> Commit {
        *self.numbers.entry(place).or_insert_with(|| {
            let tree = ObjectId::null(hash);
            self.nodes.push(Node { place, tree, date: 0, parents: (0, 0), flags: 0, read: false });
            (self.nodes.len() - 1) as Commit
        })
    }

    /// The commit of this id; `None` if it is not here or is no commit.
    pub fn find(&mut self, store: &mut Store, id: &ObjectId) -> Result<Option<Commit>, Error> {
        let Some(place) = store.place(id) else {
            return Ok(None);
        };
        if let Some(known) = self.numbers.get(&place) {
            return Ok(Some(*known));
        }
        let (kind, _) = store.header(place)?;
        Ok((kind == Kind::Commit).then(|| self.at(place, store.hash())))
    }

    /// Reads a commit, unless it was.
    pub fn read(&mut self, store: &mut Store, commit: Commit) -> Result<(), Error> {
        let node = &self.nodes[commit as usize];
        if node.read {
            return Ok(());
        }
        let place = node.place;
        store.read(place, &mut self.buffer)?;
        let id = store.id(place);
        let found = object::commit(&self.buffer).ok_or(Error::Damaged(id))?;
        let first = self.parents.len() as u32;
        if !self.roots.contains(&id) {
            for parent in &found.parents {
                let place = store.place(parent).ok_or(Error::Missing(*parent))?;
                let parent = self.at(place, store.hash());
                self.parents.push(parent);
            }
        }
        let node = &mut self.nodes[commit as usize];
        node.tree = found.tree;
        node.date = found.date;
        node.parents = (first, self.parents.len() as u32);
        node.read = true;
        Ok(())
    }

    /// The parents of a commit that was read; none at the end of a shallow repository.
    pub fn parents(&self, commit: Commit) -> &[Commit] {
        let (first, end) = self.nodes[commit as usize].parents;
        &self.parents[first as usize..end as usize]
    }

    pub fn date(&self, commit: Commit) -> i64 {
        self.nodes[commit as usize].date
    }

    pub fn tree(&self, commit: Commit) -> ObjectId {
        self.nodes[commit as usize].tree
    }

    pub fn place(&self, commit: Commit) -> Place {
        self.nodes[commit as usize].place
    }

    pub fn id(&self, store: &Store, commit: Commit) -> ObjectId {
        store.id(self.place(commit))
    }

    /// Whether the repository lacks the parents of this commit.
    pub fn is_root(&self, store: &Store, commit: Commit) -> bool {
        !self.roots.is_empty() && self.roots.contains(&self.id(store, commit))
    }

    /// Whether the repository lacks the parents of any commit.
    pub fn is_shallow(&self) -> bool {
        !self.roots.is_empty()
    }

    pub fn has(&self, commit: Commit, flags: u16) -> bool {
        self.nodes[commit as usize].flags & flags != 0
    }

    pub fn set(&mut self, commit: Commit, flags: u16) {
        self.nodes[commit as usize].flags |= flags;
    }

    pub fn clear(&mut self, commit: Commit, flags: u16) {
        self.nodes[commit as usize].flags &= !flags;
    }

    /// All commits that are reached from `from` by going to parents, as far as `go_on` allows; each
    /// is shown once, in the order of a search by breadth.
    pub fn walk(
        &mut self,
        store: &mut Store,
        from: &[Commit],
        cancel: &AtomicBool,
        mut go_on: impl FnMut(&Self, Commit) -> bool,
    ) -> Result<(), Error> {
        let mut seen: Vec<u64> = Vec::new();
        let mut queue: std::collections::VecDeque<Commit> = from.iter().copied().collect();
        while let Some(commit) = queue.pop_front() {
            let (word, bit) = (commit as usize / 64, 1_u64 << (commit % 64));
            if seen.len() <= word {
                seen.resize(word + 1, 0);
            }
            if seen[word] & bit != 0 {
                continue;
            }
            seen[word] |= bit;
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            self.read(store, commit)?;
            if go_on(self, commit) {
                queue.extend(self.parents(commit));
            }
        }
        Ok(())
    }
}
