//! Which trees, blobs and tags are sent with the selected commits.
//!
//! A commit's tree is compared, folder by folder, with the trees of its parents, and only what
//! differs is looked at. So the work is that of the changes, not of the files, for one new commit as
//! well as for a whole history, and most entries are passed by comparing two ids. What is replaced
//! in a tree that the client has is noted: it is a base on which a thin pack may build.
//!
//! A tree may be compared only with one that is the client's or was taken before. Two trees that are
//! each left out because the other is sent would be missing both: a commit, its revert and the
//! commit before have just that form.

use std::{
    collections::HashMap,
    rc::Rc,
    sync::atomic::{AtomicBool, Ordering},
};

use gix_hash::{ObjectId, oid};
use gix_object::Kind;

use super::{
    Error,
    filter::Filter,
    negotiate::{MAX_TAGS, peel_through},
    object::{self, EntryKind},
    store::{Place, PlaceSet, Store},
};

/// Bytes of decoded trees that are kept, twice: see [`Trees`].
const GENERATION: usize = 8 << 20;

/// A tree to compare with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base {
    pub tree: ObjectId,
    /// The client has it already.
    pub theirs: bool,
}

/// Collects the objects of a pack.
pub(super) struct Objects<'a> {
    store: &'a mut Store,
    filter: &'a Filter,
    cancel: &'a AtomicBool,
    /// What was looked at.
    seen: PlaceSet,
    /// What is sent, as a set and as a list.
    sent: PlaceSet,
    found: Vec<Place>,
    /// Bases that the client has, if they are wanted.
    bases: Option<PlaceSet>,
    /// The lowest level at which a tree was looked at, if levels matter.
    levels: HashMap<Place, u32>,
    trees: Trees,
}

/// What was collected.
pub(super) struct Collected {
    /// The objects to be sent, each once.
    pub found: Vec<Place>,
    /// Objects that the client has and a delta may build on.
    pub bases: PlaceSet,
}

impl<'a> Objects<'a> {
    /// With `thin`, bases at the client are noted.
    pub fn new(
        store: &'a mut Store,
        filter: &'a Filter,
        thin: bool,
        cancel: &'a AtomicBool,
    ) -> Self {
        Self {
            store,
            filter,
            cancel,
            seen: PlaceSet::default(),
            sent: PlaceSet::default(),
            found: Vec::new(),
            bases: thin.then(PlaceSet::default),
            levels: HashMap::new(),
            trees: Trees::default(),
        }
    }

    pub fn finish(self) -> Collected {
        Collected { found: self.found, bases: self.bases.unwrap_or_default() }
    }

    /// The hash function of all ids.
    pub fn hash(&self) -> gix_hash::Kind {
        self.store.hash()
    }

    /// Takes each of these tags whose object is sent, and the tags on the way to it.
    pub fn take_tags(&mut self, tags: &[ObjectId]) -> Result<(), Error> {
        for tag in tags {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let Some(place) = self.store.place(tag) else {
                continue;
            };
            let mut chain = Vec::new();
            // One tag that leads nowhere is not a reason to send nothing.
            let peeled = peel_through(self.store, place, MAX_TAGS, |tag| chain.push(tag));
            if peeled.is_ok_and(|(target, _)| self.sent.contains(target)) {
                for tag in chain {
                    self.take_filtered(tag, Kind::Tag);
                }
            }
        }
        Ok(())
    }

    /// Whether the object was met.
    pub fn has_met(&self, place: Place) -> bool {
        self.seen.contains(place) || self.sent.contains(place)
    }

    /// Takes an object that was asked for by its id, whatever the filter says.
    pub fn take(&mut self, place: Place) {
        if self.sent.insert(place) {
            self.found.push(place);
        }
    }

    /// Takes a commit or a tag.
    pub fn take_filtered(&mut self, place: Place, kind: Kind) {
        if self.filter.sends(kind) {
            self.take(place);
        }
    }

    /// Takes what a commit's tree has and none of `bases` has, which are taken already or theirs.
    pub fn take_tree(&mut self, tree: &oid, bases: &[Base]) -> Result<(), Error> {
        if !self.filter.needs_trees() || bases.iter().any(|base| base.tree == tree) {
            return Ok(());
        }
        let place = self.store.place(tree).ok_or(Error::Missing(tree.to_owned()))?;
        self.note_bases(bases);
        if self.enter(place, 0) {
            self.below(place, bases.to_vec(), 0)?;
        }
        Ok(())
    }

    /// Takes what is below a tree that was asked for by its id.
    pub fn take_below(&mut self, place: Place) -> Result<(), Error> {
        self.levels.insert(place, 0);
        self.below(place, Vec::new(), 0)
    }

    /// Whether a tree has to be looked at; it is taken if the filter sends trees.
    fn enter(&mut self, place: Place, level: u32) -> bool {
        if self.filter.tree_depth.is_some() {
            // Met again nearer to the root, more of it is within reach.
            let known = self.levels.entry(place).or_insert(u32::MAX);
            if *known <= level {
                return false;
            }
            *known = level;
            if self.filter.sends(Kind::Tree) {
                self.take(place);
            }
            return true;
        }
        let new = self.seen.insert(place);
        if new && self.filter.sends(Kind::Tree) {
            self.take(place);
        }
        new
    }

    fn below(&mut self, place: Place, bases: Vec<Base>, level: u32) -> Result<(), Error> {
        let hash = self.store.hash();
        let mut open = vec![(place, bases, level)];
        while let Some((place, bases, level)) = open.pop() {
            if !self.filter.reaches(level + 1) {
                continue;
            }
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let tree = self.trees.get(self.store, place)?;
            let mut others = Vec::with_capacity(bases.len());
            for base in &bases {
                let Some(place) = self.store.place(&base.tree) else { continue };
                match self.trees.get(self.store, place) {
                    Ok(tree) => others.push((tree, base.theirs)),
                    // It only spares what need not be sent.
                    Err(_) if base.theirs => {}
                    Err(error) => return Err(error),
                }
            }
            let mut others: Vec<_> = others
                .iter()
                .map(|(data, theirs)| (object::entries(data, hash).peekable(), *theirs))
                .collect();
            for entry in object::entries(&tree, hash) {
                // One tree may have millions.
                if self.cancel.load(Ordering::Relaxed) {
                    return Err(Error::Cancelled);
                }
                let mut same = false;
                let mut bases = Vec::new();
                for (entries, theirs) in &mut others {
                    while entries.next_if(|other| other.before(&entry)).is_some() {}
                    let other = entries
                        .peek()
                        .filter(|other| other.name == entry.name && other.kind == entry.kind);
                    if let Some(other) = other {
                        same |= other.id == entry.id;
                        bases.push(Base { tree: other.id.to_owned(), theirs: *theirs });
                    }
                }
                if same || entry.kind == EntryKind::Submodule {
                    continue;
                }
                let blob = entry.kind == EntryKind::Blob;
                if blob && !self.filter.sends(Kind::Blob) {
                    continue;
                }
                let missing = || Error::Missing(entry.id.to_owned());
                let place = self.store.place(entry.id).ok_or_else(missing)?;
                self.note_bases(&bases);
                if blob {
                    self.take_blob(place)?;
                } else if self.enter(place, level + 1) {
                    open.push((place, bases, level + 1));
                }
            }
        }
        Ok(())
    }

    fn take_blob(&mut self, place: Place) -> Result<(), Error> {
        if !self.seen.insert(place) {
            return Ok(());
        }
        if let Some(limit) = self.filter.blob_limit
            && self.store.header(place)?.1 >= limit
        {
            return Ok(());
        }
        self.take(place);
        Ok(())
    }

    fn note_bases(&mut self, bases: &[Base]) {
        let Some(known) = &mut self.bases else {
            return;
        };
        for base in bases.iter().filter(|base| base.theirs) {
            if let Some(place) = self.store.place(&base.tree) {
                known.insert(place);
            }
        }
    }
}

/// The trees that were read last: young ones, and older ones that go when the young are too many.
/// The tree of a parent is read to compare with it, and again soon for its own sake.
#[derive(Default)]
struct Trees {
    young: HashMap<Place, Rc<[u8]>>,
    old: HashMap<Place, Rc<[u8]>>,
    bytes: usize,
    buffer: Vec<u8>,
}

impl Trees {
    fn get(&mut self, store: &mut Store, place: Place) -> Result<Rc<[u8]>, Error> {
        if let Some(tree) = self.young.get(&place) {
            return Ok(tree.clone());
        }
        let tree = match self.old.remove(&place) {
            Some(tree) => tree,
            None => {
                if store.read(place, &mut self.buffer)? != Kind::Tree {
                    return Err(Error::Damaged(store.id(place)));
                }
                Rc::from(self.buffer.as_slice())
            }
        };
        if self.bytes + tree.len() > GENERATION {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += tree.len() + 64;
        self.young.insert(place, tree.clone());
        Ok(tree)
    }
}
