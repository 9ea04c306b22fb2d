//! The links of all objects in a pack, and whether each of them leads somewhere.
//!
//! Links are collected while the pack is indexed, when nobody knows yet which objects it will hold.
//! So each distinct link is remembered, and compared with the pack and the repository at the end.
//! An honest pack links to its own objects and to some of the repository. A hostile one can make up
//! any number of ids: once more were seen than the pack has objects, new ones are looked up in the
//! repository at once; and when more of those are not there than the pack has objects, some lead
//! nowhere for certain, and no more are remembered. So memory follows the number of objects that
//! exist.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use gix_hash::{ObjectId, oid};
use gix_object::{Find as _, Kind};
use gix_odb::HeaderExt as _;

use super::{
    Flaw, MAX_OBSERVATIONS, Observation, Oddity,
    fsck::{self, Fsck, Levels, Report, Special},
    gitmodules, object, tree,
};
use crate::{
    firewall::Limits,
    index::{Table, Visit},
    remote::RefusedBy,
};

/// What was learned from all objects of a pack.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// An object that is linked to and is nowhere, or is not of the kind that the link needs.
    pub missing: Option<ObjectId>,
    /// Why a file that git itself reads refuses the pack.
    pub refused: Option<String>,
    /// Commits of the pack whose parents are missing and may be.
    pub new_shallow: Vec<ObjectId>,
    pub observations: Vec<Observation>,
    /// Lines for the person who pushed.
    pub warnings: Vec<String>,
}

/// Collects what the objects of one pack say.
/// `N` is the width of an id in bytes.
pub(crate) struct Closure<'a, const N: usize> {
    shallow: &'a HashSet<ObjectId>,
    interrupt: &'a AtomicBool,
    /// How many objects there are that links can lead to beside those of the repository.
    room: u64,
    /// The kinds that all links to an object accept. The hash is seeded at random, since the ids in
    /// a tree are chosen by whoever wrote it.
    links: Vec<Mutex<HashMap<[u8; N], u8>>>,
    /// Links that were remembered without a look into the repository.
    trusted: AtomicU64,
    /// Links of which it is known that they do not lead into the repository.
    strange: AtomicU64,
    /// Shallow commits of the pack and their parents.
    grafts: Mutex<Vec<(ObjectId, Vec<ObjectId>)>>,
    /// Files that git itself reads.
    files: Mutex<HashSet<(ObjectId, Special)>>,
    /// There were more of them.
    more_files: AtomicBool,
    observations: Mutex<Vec<Observation>>,
    fsck: &'a Fsck,
    bounds: tree::Bounds,
    warnings: Mutex<Vec<String>>,
    unsound: Mutex<Option<(RefusedBy, String)>>,
}

/// The kind of an object of the pack or the repository.
pub(crate) fn kind_of(store: &gix_odb::Handle, id: &oid) -> Option<Kind> {
    store.header(id).ok().map(|header| header.kind())
}

/// Kinds as bits, so that a link can say which ones it accepts.
const COMMIT: u8 = 1;
const TREE: u8 = 2;
const BLOB: u8 = 4;
const TAG: u8 = 8;

fn bit(kind: Kind) -> u8 {
    match kind {
        Kind::Commit => COMMIT,
        Kind::Tree => TREE,
        Kind::Blob => BLOB,
        Kind::Tag => TAG,
    }
}

/// Links are spread over this many tables, so that threads seldom wait for each other.
const SHARDS: usize = 64;

/// The most slots of the table in which each thread remembers the links it met last. Neighbouring trees of a
/// history share nearly all their entries: most links end here.
const RECENT: u64 = 1 << 15;

/// So many links more than the pack has objects are remembered before the repository is asked.
const TRUSTED: u64 = 1 << 18;

/// A `.gitmodules` larger than this is not looked into; git's own limit is of the same size.
const MAX_GITMODULES: u64 = 1 << 20;

/// So many different files that git itself reads are looked into; more of them are a flaw.
const MAX_FILES: usize = 10_000;

const TOO_MANY_FILES: &str = "the pack has more than 10000 different .gitmodules and .gitattributes, \
    which are too many to look into; push a part of the history first";

/// So many warnings are told; the rest would say the same.
const MAX_WARNINGS: usize = 100;

impl<'a, const N: usize> Closure<'a, N> {
    /// `shallow` are the commits whose parents may be missing. `room` is how many objects come: those
    /// of this pack, and of others that are indexed before [`Self::finish`]. The flag is set at the
    /// first object that is unsound, since that refuses the pack.
    pub fn new(
        shallow: &'a HashSet<ObjectId>,
        room: u64,
        fsck: &'a Fsck,
        limits: &Limits,
        interrupt: &'a AtomicBool,
    ) -> Self {
        Self {
            shallow,
            interrupt,
            room,
            links: (0..SHARDS).map(|_| Mutex::default()).collect(),
            trusted: AtomicU64::new(0),
            strange: AtomicU64::new(0),
            grafts: Mutex::default(),
            files: Mutex::default(),
            more_files: AtomicBool::new(false),
            observations: Mutex::default(),
            fsck,
            bounds: tree::Bounds::new(limits),
            warnings: Mutex::default(),
            unsound: Mutex::default(),
        }
    }

    /// To be shown all commits, trees and tags of the pack. `store` is the repository as it was
    /// before.
    pub fn inspector(&self, store: gix_odb::Handle) -> Inspector<'_, N> {
        Inspector { shared: self, store, recent: Vec::new() }
    }

    /// Why the first object that was unsound refuses the pack as a whole.
    pub fn unsound(&self) -> Option<(RefusedBy, String)> {
        lock(&self.unsound).take()
    }

    fn observe(&self, kind: Oddity, object: ObjectId, detail: &[u8]) {
        let mut observations = lock(&self.observations);
        if observations.len() < MAX_OBSERVATIONS {
            let detail = String::from_utf8_lossy(detail).chars().take(200).collect();
            observations.push(Observation { kind, object, detail });
        }
    }

    /// Compares the links with the objects of the pack and of `store`, which sees the repository and
    /// everything new. `None` if the flag was set meanwhile.
    pub fn finish(self, pack: &Table, store: &gix_odb::Handle) -> Option<Findings> {
        let cancelled = || self.interrupt.load(Ordering::Relaxed);
        let mut findings = Findings::default();
        let leads = |id: &oid, accepted: u8| {
            let kind = pack.kind(id).or_else(|| kind_of(store, id));
            kind.is_some_and(|kind| bit(kind) & accepted != 0)
        };
        findings.missing = self.links.iter().find_map(|shard| {
            let links = lock(shard);
            let lost = |(id, accepted): &(&[u8; N], &u8)| {
                // Found at once, so that the search ends.
                cancelled() || !leads(as_oid(id), **accepted)
            };
            links.iter().find(lost).map(|(id, _)| as_oid(id).to_owned())
        });
        for (commit, parents) in lock(&self.grafts).iter() {
            if cancelled() {
                return None;
            }
            if !parents.iter().all(|parent| leads(parent, COMMIT)) {
                findings.new_shallow.push(*commit);
            }
        }
        findings.new_shallow.sort();
        findings.new_shallow.dedup();
        let files: Vec<(ObjectId, Special)> = lock(&self.files).iter().copied().collect();
        if self.more_files.load(Ordering::Relaxed) {
            match self.fsck {
                Fsck::Off => {}
                Fsck::Record => {
                    if let Some((id, _)) = files.first() {
                        self.observe_surely(Oddity::ManyGitmodules, *id);
                    }
                }
                Fsck::Levels(_) => findings.refused = Some(TOO_MANY_FILES.into()),
            }
        }
        for (id, special) in files {
            if cancelled() {
                return None;
            }
            match self.fsck {
                Fsck::Record => self.read_gitmodules(id, store),
                Fsck::Off => {}
                Fsck::Levels(levels) => {
                    let refused = self.check_file(id, special, levels, store).err();
                    findings.refused = findings.refused.or(refused);
                }
            }
        }
        findings.warnings = std::mem::take(&mut *lock(&self.warnings));
        findings.observations = std::mem::take(&mut *lock(&self.observations));
        (!cancelled()).then_some(findings)
    }

    /// Notes what is odd about the pack as a whole, if need be in the place of something else.
    fn observe_surely(&self, kind: Oddity, object: ObjectId) {
        let mut observations = lock(&self.observations);
        observations.truncate(MAX_OBSERVATIONS - 1);
        observations.push(Observation { kind, object, detail: String::new() });
    }

    fn read_gitmodules(&self, id: ObjectId, store: &gix_odb::Handle) {
        if !store.header(id).is_ok_and(|header| header.size() <= MAX_GITMODULES) {
            return;
        }
        let mut buffer = Vec::new();
        if let Ok(Some(blob)) = store.try_find(&id, &mut buffer) {
            gitmodules::read(blob.data, |oddity, _, value| self.observe(oddity, id, value));
        }
    }

    fn check_file(
        &self,
        id: ObjectId,
        special: Special,
        levels: &Levels,
        store: &gix_odb::Handle,
    ) -> Result<(), String> {
        // What is missing is told as such.
        let Ok(header) = store.header(id) else { return Ok(()) };
        let mut buffer = Vec::new();
        let small = header.size() <= fsck::MAX_FILE;
        let blob = if small { store.try_find(&id, &mut buffer).ok().flatten() } else { None };
        let mut warn = |line| self.warn(line);
        let mut report = Report::new(levels, &id, &mut warn);
        let content = blob.map(|blob| blob.data);
        match special {
            Special::Modules => fsck::modules(content, &mut report),
            Special::Attributes => fsck::attributes(content, &mut report),
        }
    }

    fn warn(&self, line: String) {
        let mut warnings = lock(&self.warnings);
        if warnings.len() < MAX_WARNINGS {
            warnings.push(line);
        }
    }
}

/// One thread's view: what it met lately, and what all share.
pub(crate) struct Inspector<'a, const N: usize> {
    shared: &'a Closure<'a, N>,
    store: gix_odb::Handle,
    /// Empty until the first link, since a small push has few.
    recent: Vec<([u8; N], u8)>,
}

impl<const N: usize> Clone for Inspector<'_, N> {
    fn clone(&self) -> Self {
        Self { shared: self.shared, store: self.store.clone(), recent: Vec::new() }
    }
}

impl<const N: usize> Visit for Inspector<'_, N> {
    fn visit(&mut self, kind: Kind, content: &[u8], id: &oid) {
        let unsound = |flaw: Flaw| {
            let by = flaw.limit().map_or(RefusedBy::Content, RefusedBy::Limit);
            (by, format!("{kind} {id} {flaw}"))
        };
        let result = match self.shared.fsck {
            Fsck::Record => self.record(kind, content, id).map_err(unsound),
            Fsck::Off => self.follow(kind, content, id).map_err(unsound),
            Fsck::Levels(levels) => {
                let shared = self.shared;
                let mut warn = |line| shared.warn(line);
                fsck::object(kind, content, id.kind(), &mut Report::new(levels, id, &mut warn))
                    .map_err(|sentence| (RefusedBy::Content, sentence))
                    .and_then(|()| self.follow(kind, content, id).map_err(unsound))
            }
        };
        if let Err(unsound) = result {
            lock(&self.shared.unsound).get_or_insert(unsound);
            // One bad object refuses the pack; the others need not be looked at.
            self.shared.interrupt.store(true, Ordering::Relaxed);
        }
    }
}

impl<const N: usize> Inspector<'_, N> {
    /// Reads an object as sluice does: strict about structure, and what is odd is recorded.
    fn record(&mut self, kind: Kind, data: &[u8], id: &oid) -> Result<(), Flaw> {
        match kind {
            Kind::Blob => {}
            Kind::Tree => self.tree(data, id)?,
            Kind::Commit => {
                let commit = object::commit(data, id.kind())?;
                for oddity in commit.oddities {
                    self.shared.observe(oddity, id.to_owned(), b"");
                }
                self.commit(commit.tree, commit.parents, id);
            }
            Kind::Tag => {
                let tag = object::tag(data, id.kind())?;
                self.link(tag.target, bit(tag.kind));
            }
        }
        Ok(())
    }

    /// Reads nothing but the links of an object.
    fn follow(&mut self, kind: Kind, data: &[u8], id: &oid) -> Result<(), Flaw> {
        match kind {
            Kind::Blob => {}
            Kind::Tree => {
                let bounds = self.shared.bounds;
                tree::links::<N>(data, bounds, |entry| self.entry(entry, fsck::special))?;
            }
            Kind::Commit => {
                let (tree, parents) = object::commit_links(data, id.kind())?;
                self.commit(tree, parents, id);
            }
            Kind::Tag => {
                let tag = object::tag_link(data, id.kind())?;
                self.link(tag.target, bit(tag.kind));
            }
        }
        Ok(())
    }

    fn commit(&mut self, tree: ObjectId, parents: Vec<ObjectId>, id: &oid) {
        self.link(tree, TREE);
        if self.shared.shallow.contains(id) {
            lock(&self.shared.grafts).push((id.to_owned(), parents));
        } else {
            for parent in parents {
                self.link(parent, COMMIT);
            }
        }
    }

    fn tree(&mut self, data: &[u8], id: &oid) -> Result<(), Flaw> {
        let shared = self.shared;
        tree::read::<N>(
            data,
            shared.bounds,
            |entry| {
                let modules = |name: &[u8]| (name == b".gitmodules").then_some(Special::Modules);
                self.entry(entry, modules);
            },
            |oddity, name| shared.observe(oddity, id.to_owned(), name),
        )
    }

    fn entry(
        &mut self,
        entry: &tree::Entry<'_, N>,
        special: impl FnOnce(&[u8]) -> Option<Special>,
    ) {
        let accepted = match entry.kind {
            tree::EntryKind::Tree => TREE,
            tree::EntryKind::Blob | tree::EntryKind::Link => BLOB,
            // A submodule's commit lives in another repository.
            tree::EntryKind::Submodule => return,
        };
        if entry.kind == tree::EntryKind::Blob
            && let Some(special) = special(entry.name)
        {
            let mut files = lock(&self.shared.files);
            let file = (as_oid(&entry.id).to_owned(), special);
            if files.len() < MAX_FILES {
                files.insert(file);
            } else if !files.contains(&file) {
                self.shared.more_files.store(true, Ordering::Relaxed);
            }
        }
        self.link_bytes(entry.id, accepted);
    }

    fn link(&mut self, id: ObjectId, accepted: u8) {
        if let Ok(bytes) = id.as_slice().try_into() {
            self.link_bytes(bytes, accepted);
        }
    }

    fn link_bytes(&mut self, id: [u8; N], accepted: u8) {
        if self.recent.is_empty() {
            let slots = self.shared.room.clamp(16, RECENT).next_power_of_two();
            self.recent = vec![([0; N], 0); slots as usize];
        }
        let mask = self.recent.len() - 1;
        if let Some(slot) =
            self.recent.get_mut(usize::from(u16::from_be_bytes([id[0], id[1]])) & mask)
        {
            if *slot == (id, accepted) {
                return;
            }
            *slot = (id, accepted);
        }
        let shared = self.shared;
        let Some(shard) = shared.links.get(usize::from(id[2]) % SHARDS) else { return };
        if let Some(known) = lock(shard).get_mut(&id) {
            // Links that disagree about the kind leave no bit, and nothing satisfies them.
            *known &= accepted;
            return;
        }
        if shared.trusted.load(Ordering::Relaxed) <= shared.room.saturating_add(TRUSTED) {
            shared.trusted.fetch_add(1, Ordering::Relaxed);
        } else if shared.strange.load(Ordering::Relaxed) > shared.room {
            return;
        } else if kind_of(&self.store, as_oid(&id)).is_none() {
            shared.strange.fetch_add(1, Ordering::Relaxed);
        }
        *lock(shard).entry(id).or_insert(accepted) &= accepted;
    }
}

/// An id of `N` bytes, which is the width of one that exists.
fn as_oid<const N: usize>(id: &[u8; N]) -> &oid {
    oid::try_from_bytes(id).unwrap_or(gix_hash::Kind::Sha1.null_ref())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A thread that panicked left at worst a link out, and its panic refuses the pack anyway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
