//! The links of all objects in a pack, and whether each of them leads somewhere.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use gix_hash::{ObjectId, oid};
use gix_object::{Find as _, Kind};
use gix_odb::HeaderExt as _;

use super::{Flaw, MAX_OBSERVATIONS, Observation, Oddity, object, tree};
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
    Object {
        id: ObjectId,
        kind: Kind,
        flaw: Flaw,
    },
    Index(index::Error),
    Interrupted,
}

/// Looks at every object of `pack` once, then at every distinct link once.
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
    let shared = Shared::new(pack, shallow, interrupt);
    let mut inspector = Inspector {
        shared: &shared,
        recent: vec![([0; 20], 0); RECENT],
    };
    let visited = pack.visit(limits, interrupt, move |kind, data, id| {
        inspector.object(kind, data, id)
    });
    if let Some((id, kind, flaw)) = take(&shared.flaw) {
        return Err(Error::Object { id, kind, flaw });
    }
    if interrupt.load(Ordering::Relaxed) {
        return Err(Error::Interrupted);
    }
    visited.map_err(Error::Index)?;
    shared.finish(store)
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

/// Slots of the table in which each thread remembers the links it met last. Neighbouring trees of a
/// history share nearly all their entries: most links end here and never reach a shared table.
const RECENT: usize = 4096;

/// A `.gitmodules` larger than this is not looked into; git's own limit is of the same size.
const MAX_GITMODULES: u64 = 1 << 20;
const MAX_GITMODULES_FILES: usize = 1000;

struct Shared<'a> {
    pack: &'a index::Pack,
    shallow: &'a HashSet<ObjectId>,
    interrupt: &'a AtomicBool,
    /// The kind of each object of the pack, in the order of ids; zero until it was visited.
    kinds: Vec<AtomicU8>,
    /// Distinct links with the kinds that all of them accept. The hash is seeded at random, since
    /// the ids in a tree are chosen by whoever wrote it.
    links: Vec<Mutex<HashMap<[u8; 20], u8>>>,
    /// Shallow commits of the pack and their parents.
    grafts: Mutex<Vec<(ObjectId, Vec<ObjectId>)>>,
    gitmodules: Mutex<HashSet<ObjectId>>,
    observations: Mutex<Vec<Observation>>,
    flaw: Mutex<Option<(ObjectId, Kind, Flaw)>>,
}

impl<'a> Shared<'a> {
    fn new(
        pack: &'a index::Pack,
        shallow: &'a HashSet<ObjectId>,
        interrupt: &'a AtomicBool,
    ) -> Self {
        Self {
            kinds: (0..pack.objects()).map(|_| AtomicU8::new(0)).collect(),
            pack,
            shallow,
            interrupt,
            links: (0..SHARDS).map(|_| Mutex::default()).collect(),
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
            observations.push(Observation {
                kind,
                object,
                detail,
            });
        }
    }

    /// Whether the object exists and its kind is among `accepted`.
    fn leads(&self, id: &oid, accepted: u8, store: &gix_odb::Handle) -> bool {
        if let Some(position) = self.pack.position(id) {
            let kind = self.kinds.get(position as usize);
            return kind.is_some_and(|kind| kind.load(Ordering::Relaxed) & accepted != 0);
        }
        kind_of(store, id).is_some_and(|kind| bit(kind) & accepted != 0)
    }

    fn finish(self, store: &gix_odb::Handle) -> Result<Findings, Error> {
        let mut findings = Findings::default();
        for shard in &self.links {
            for (id, accepted) in lock(shard).iter() {
                let id = ObjectId::from(*id);
                if findings.missing.is_none() && !self.leads(&id, *accepted, store) {
                    findings.missing = Some(id);
                }
            }
            if self.interrupt.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
        }
        for (commit, parents) in lock(&self.grafts).iter() {
            if !parents
                .iter()
                .all(|parent| self.leads(parent, COMMIT, store))
            {
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
        Ok(findings)
    }

    fn read_gitmodules(&self, id: ObjectId, store: &gix_odb::Handle) {
        if !store
            .header(id)
            .is_ok_and(|header| header.size() <= MAX_GITMODULES)
        {
            return;
        }
        let mut buffer = Vec::new();
        if let Ok(Some(blob)) = store.try_find(&id, &mut buffer) {
            gitmodules(blob.data, |oddity, value| self.observe(oddity, id, value));
        }
    }
}

/// One thread's view: what it met lately, and what all share.
#[derive(Clone)]
struct Inspector<'a> {
    shared: &'a Shared<'a>,
    recent: Vec<([u8; 20], u8)>,
}

impl Inspector<'_> {
    fn object(&mut self, kind: Kind, data: &[u8], id: &oid) {
        if let Some(slot) = self
            .shared
            .pack
            .position(id)
            .and_then(|at| self.shared.kinds.get(at as usize))
        {
            slot.store(bit(kind), Ordering::Relaxed);
        }
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
        let mut shard = lock(&self.shared.links[usize::from(id[2]) % SHARDS]);
        // Links that disagree about the kind leave no bit, and nothing satisfies them.
        *shard.entry(id).or_insert(u8::MAX) &= accepted;
    }
}

/// Looks for submodules whose name, address or path has been used to attack git
/// (fsck: `gitmodulesName`, `gitmodulesUrl`, `gitmodulesPath`). Reads lines as git's
/// configuration does where it matters: section names in quotes, `key = value`.
fn gitmodules(data: &[u8], mut odd: impl FnMut(Oddity, &[u8])) {
    for line in data.split(|byte| *byte == b'\n') {
        let carriage_return = line.ends_with(b"\r");
        let text = line.trim_ascii();
        if let Some(section) = text.strip_prefix(b"[submodule \"") {
            let name = section
                .split(|byte| *byte == b'"')
                .next()
                .unwrap_or_default();
            if gix_validate::submodule::name(name.into()).is_err() {
                odd(Oddity::SubmoduleName, name);
            }
            continue;
        }
        let Some(equals) = text.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let key = text[..equals].trim_ascii().to_ascii_lowercase();
        let raw = text[equals + 1..].trim_ascii();
        let value = raw
            .strip_prefix(b"\"")
            .map_or(raw, |quoted| quoted.strip_suffix(b"\"").unwrap_or(quoted));
        let option = value.starts_with(b"-");
        let newline = value
            .to_ascii_lowercase()
            .windows(3)
            .any(|part| part == b"%0a")
            || value.windows(2).any(|part| part == b"\\n");
        match &key[..] {
            b"url" if option || newline => odd(Oddity::SubmoduleUrl, value),
            b"path"
                if option
                    || value.ends_with(b"\r")
                    || (carriage_return && raw.starts_with(b"\"")) =>
            {
                odd(Oddity::SubmodulePath, value);
            }
            _ => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    fn odd(text: &str) -> Vec<Oddity> {
        let mut found = Vec::new();
        gitmodules(text.as_bytes(), |oddity, _| found.push(oddity));
        found
    }

    #[test]
    fn ordinary_submodules_pass() {
        let text = "[submodule \"libs/zlib\"]\n\tpath = libs/zlib\n\turl = https://example.com/z-lib.git\n";
        assert_eq!(odd(text), []);
        assert_eq!(
            odd(&text.replace('\n', "\r\n")),
            [],
            "a file with Windows line ends"
        );
    }

    #[test]
    fn known_attacks_are_seen() {
        assert_eq!(odd("[submodule \"../../x\"]\n"), [Oddity::SubmoduleName]);
        assert_eq!(odd("url = -u./payload\n"), [Oddity::SubmoduleUrl]);
        assert_eq!(
            odd("URL = https://host/%0ahost=evil\n"),
            [Oddity::SubmoduleUrl]
        );
        assert_eq!(odd("path = -rf\n"), [Oddity::SubmodulePath]);
        assert_eq!(odd("path = \"a\r\"\n"), [Oddity::SubmodulePath]);
    }
}
