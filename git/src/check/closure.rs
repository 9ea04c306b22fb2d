//! The links of all objects in a pack, and whether each of them leads somewhere.
//!
//! A link into the pack sets bits in a table with one byte an object, which is compared with the
//! kinds of the objects at the end. A link out of it is looked up at once and remembered; after the
//! first that leads nowhere no more are remembered, since the pack is lost then. So memory follows
//! the number of objects that exist, however many ids a hostile tree makes up.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use gix_hash::{ObjectId, oid};
use gix_object::{Find as _, Kind};
use gix_odb::HeaderExt as _;

use super::{Flaw, MAX_OBSERVATIONS, Observation, Oddity, gitmodules, object, tree};
use crate::{firewall::Limits, index};

/// What was learned from all objects of a pack.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// An object that is linked to and is nowhere, or is not of the kind that the link needs.
    pub missing: Option<ObjectId>,
    /// Commits of the pack whose parents are missing and may be.
    pub new_shallow: Vec<ObjectId>,
    pub observations: Vec<Observation>,
}

/// Why the pack as a whole is refused.
#[derive(Debug)]
pub(crate) enum Error {
    Object { id: ObjectId, kind: Kind, flaw: Flaw },
    Index(index::Error),
    Interrupted,
}

/// Looks at every object of `pack` once; of blobs, which link to nothing, only at the kind.
///
/// `store` sees the pack and the repository. `shallow` are the commits whose parents may be missing.
/// Blocking, on all cores; ends early once `interrupt` is set.
pub(crate) fn check(
    pack: &index::Pack,
    store: &gix_odb::Handle,
    shallow: &HashSet<ObjectId>,
    limits: &Limits,
    interrupt: &AtomicBool,
) -> Result<Findings, Error> {
    let kinds = pack.kinds().map_err(Error::Index)?;
    let shared = Shared::new(pack, &kinds, shallow, interrupt);
    let mut inspector =
        Inspector { shared: &shared, store: store.clone(), recent: vec![([0; 20], 0); RECENT] };
    let visited = pack
        .visit(&kinds, limits, interrupt, move |kind, data, at| inspector.object(kind, data, at));
    if let Some((id, kind, flaw)) = take(&shared.flaw) {
        return Err(Error::Object { id, kind, flaw });
    }
    if interrupt.load(Ordering::Relaxed) {
        return Err(Error::Interrupted);
    }
    visited.map_err(Error::Index)?;
    Ok(shared.finish(store))
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

/// No link has said anything yet.
const ANY: u8 = u8::MAX;

fn bit(kind: Kind) -> u8 {
    match kind {
        Kind::Commit => COMMIT,
        Kind::Tree => TREE,
        Kind::Blob => BLOB,
        Kind::Tag => TAG,
    }
}

/// Links out of the pack are spread over this many tables, so that threads seldom wait for each
/// other.
const SHARDS: usize = 64;

/// Slots of the table in which each thread remembers the links it met last. Neighbouring trees of a
/// history share nearly all their entries: most links end here.
const RECENT: usize = 1 << 14;

/// A `.gitmodules` larger than this is not looked into; git's own limit is of the same size.
const MAX_GITMODULES: u64 = 1 << 20;
const MAX_GITMODULES_FILES: usize = 1000;

struct Shared<'a> {
    pack: &'a index::Pack,
    shallow: &'a HashSet<ObjectId>,
    interrupt: &'a AtomicBool,
    /// The kind of each object of the pack, in the order of ids.
    kinds: &'a [Kind],
    /// The kinds that all links to each of these objects accept.
    accepted: Vec<AtomicU8>,
    /// Objects outside the pack that were found, and their kinds. The hash is seeded at random,
    /// since the ids in a tree are chosen by whoever wrote it.
    outside: Vec<Mutex<HashMap<[u8; 20], u8>>>,
    missing: OnceLock<ObjectId>,
    /// Shallow commits of the pack and their parents.
    grafts: Mutex<Vec<(ObjectId, Vec<ObjectId>)>>,
    gitmodules: Mutex<HashSet<ObjectId>>,
    observations: Mutex<Vec<Observation>>,
    flaw: Mutex<Option<(ObjectId, Kind, Flaw)>>,
}

impl<'a> Shared<'a> {
    fn new(
        pack: &'a index::Pack,
        kinds: &'a [Kind],
        shallow: &'a HashSet<ObjectId>,
        interrupt: &'a AtomicBool,
    ) -> Self {
        Self {
            pack,
            kinds,
            shallow,
            interrupt,
            accepted: (0..pack.objects()).map(|_| AtomicU8::new(ANY)).collect(),
            outside: (0..SHARDS).map(|_| Mutex::default()).collect(),
            missing: OnceLock::new(),
            grafts: Mutex::default(),
            gitmodules: Mutex::default(),
            observations: Mutex::default(),
            flaw: Mutex::default(),
        }
    }

    fn observe(&self, kind: Oddity, object: ObjectId, detail: &[u8]) {
        let mut observations = lock(&self.observations);
        if observations.len() < MAX_OBSERVATIONS {
            let detail = String::from_utf8_lossy(detail).chars().take(200).collect();
            observations.push(Observation { kind, object, detail });
        }
    }

    /// Whether the object exists and its kind is among `accepted`.
    fn leads(&self, id: &oid, accepted: u8, store: &gix_odb::Handle) -> bool {
        if let Some(position) = self.pack.position(id) {
            let kind = self.kinds.get(position as usize);
            return kind.is_some_and(|kind| bit(*kind) & accepted != 0);
        }
        kind_of(store, id).is_some_and(|kind| bit(kind) & accepted != 0)
    }

    fn finish(self, store: &gix_odb::Handle) -> Findings {
        let mut findings = Findings::default();
        for (position, (kind, accepted)) in self.kinds.iter().zip(&self.accepted).enumerate() {
            let accepted = accepted.load(Ordering::Relaxed);
            if accepted != ANY && bit(*kind) & accepted == 0 {
                let _ = self.missing.set(self.pack.id(position as u32));
                break;
            }
        }
        findings.missing = self.missing.get().copied();
        for (commit, parents) in lock(&self.grafts).iter() {
            if !parents.iter().all(|parent| self.leads(parent, COMMIT, store)) {
                findings.new_shallow.push(*commit);
            }
        }
        findings.new_shallow.sort();
        findings.new_shallow.dedup();
        let files: Vec<ObjectId> = lock(&self.gitmodules).iter().copied().collect();
        for id in files {
            self.read_gitmodules(id, store);
        }
        findings.observations = std::mem::take(&mut *lock(&self.observations));
        findings
    }

    fn read_gitmodules(&self, id: ObjectId, store: &gix_odb::Handle) {
        if !store.header(id).is_ok_and(|header| header.size() <= MAX_GITMODULES) {
            return;
        }
        let mut buffer = Vec::new();
        if let Ok(Some(blob)) = store.try_find(&id, &mut buffer) {
            gitmodules::read(blob.data, |oddity, value| self.observe(oddity, id, value));
        }
    }
}

/// One thread's view: what it met lately, and what all share.
#[derive(Clone)]
struct Inspector<'a> {
    shared: &'a Shared<'a>,
    store: gix_odb::Handle,
    recent: Vec<([u8; 20], u8)>,
}

impl Inspector<'_> {
    fn object(&mut self, kind: Kind, data: &[u8], position: u32) {
        let id = &self.shared.pack.id(position);
        let result = match kind {
            Kind::Blob => Ok(()),
            Kind::Tree => self.tree(data, id),
            Kind::Commit => self.commit(data, id),
            Kind::Tag => object::tag(data).map(|tag| self.link(tag.target, bit(tag.kind))),
        };
        if let Err(flaw) = result {
            lock(&self.shared.flaw).get_or_insert((id.to_owned(), kind, flaw));
            // One bad object refuses the pack; the others need not be looked at.
            self.shared.interrupt.store(true, Ordering::Relaxed);
        }
    }

    fn commit(&mut self, data: &[u8], id: &oid) -> Result<(), Flaw> {
        let commit = object::commit(data)?;
        for oddity in commit.oddities {
            self.shared.observe(oddity, id.to_owned(), b"");
        }
        self.link(commit.tree, TREE);
        if self.shared.shallow.contains(id) {
            lock(&self.shared.grafts).push((id.to_owned(), commit.parents));
        } else {
            for parent in commit.parents {
                self.link(parent, COMMIT);
            }
        }
        Ok(())
    }

    fn tree(&mut self, data: &[u8], id: &oid) -> Result<(), Flaw> {
        let shared = self.shared;
        tree::read(
            data,
            |entry| {
                let accepted = match entry.kind {
                    tree::EntryKind::Tree => TREE,
                    tree::EntryKind::Blob | tree::EntryKind::Link => BLOB,
                    // A submodule's commit lives in another repository.
                    tree::EntryKind::Submodule => return,
                };
                if entry.kind == tree::EntryKind::Blob && entry.name == b".gitmodules" {
                    let mut files = lock(&shared.gitmodules);
                    if files.len() < MAX_GITMODULES_FILES {
                        files.insert(ObjectId::from(entry.id));
                    }
                }
                self.link_bytes(entry.id, accepted);
            },
            |oddity, name| shared.observe(oddity, id.to_owned(), name),
        )
    }

    fn link(&mut self, id: ObjectId, accepted: u8) {
        if let Ok(bytes) = id.as_slice().try_into() {
            self.link_bytes(bytes, accepted);
        }
    }

    fn link_bytes(&mut self, id: [u8; 20], accepted: u8) {
        let slot = &mut self.recent[(usize::from(id[0]) << 8 | usize::from(id[1])) % RECENT];
        if *slot == (id, accepted) {
            return;
        }
        *slot = (id, accepted);
        let object = ObjectId::from(id);
        let inside = self.shared.pack.position(&object);
        if let Some(entry) = inside.and_then(|at| self.shared.accepted.get(at as usize)) {
            // Links that disagree about the kind leave no bit, and nothing satisfies them.
            entry.fetch_and(accepted, Ordering::Relaxed);
        } else if self.shared.missing.get().is_none() {
            let shard = &self.shared.outside[usize::from(id[2]) % SHARDS];
            let known = lock(shard).get(&id).copied();
            let kind = known.or_else(|| kind_of(&self.store, &object).map(bit));
            match kind {
                Some(kind) if kind & accepted != 0 => {
                    lock(shard).insert(id, kind);
                }
                _ => {
                    let _ = self.shared.missing.set(object);
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A thread that panicked left at worst a link out, and its panic refuses the pack anyway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take<T>(mutex: &Mutex<Option<T>>) -> Option<T> {
    lock(mutex).take()
}
