//! The `.git` of an archive.
//!
//! **Which files count, those of the work tree or those of `HEAD`?** Those of `HEAD`,
//! as if the same repository had been pushed: findings then name a commit that can be
//! looked up, the history continues it, and nobody's uncommitted experiments or build
//! output are shown as the project's code. If the history cannot stand for itself
//! (no commit yet, objects that are elsewhere, a storage that is not read here) the
//! files of the archive count, and a note says why.
//!
//! Of the folder only these are read: `HEAD`, `packed-refs`, `refs/`, `shallow`, packs
//! and loose objects. Configuration, hooks, alternates, the index and logs are not
//! looked at, and nothing is executed. Packs are indexed anew and checked like those of
//! a push (an `.idx` could lie about its pack); loose objects are inflated as they
//! stream by and hashed, so that neither touches the disk under a name from the archive.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use gix_hash::ObjectId;
use gix_object::tree::EntryKind;
use gix_object::{Exists as _, Find as _, FindExt as _, Kind};

use super::budget::{Budget, Metered};
use super::pack::{Pack, Writer};
use super::path::shown;
use super::{ArchiveError, Notes};

/// Bytes of one ref.
const MAX_REF: u64 = 4096;
/// Bytes of `packed-refs` or `shallow`.
const MAX_LIST: u64 = 16 << 20;
/// Refs of one repository.
const MAX_REFS: usize = 50_000;
/// Packs of one repository; git itself joins them at 50.
const MAX_PACKS: usize = 500;
/// Refs that point to refs.
const MAX_HOPS: usize = 5;
/// Tags that point to tags.
const MAX_TAGS: usize = 8;

/// What a `.git` gave.
#[derive(Debug, Clone)]
pub struct History {
    /// The commit of `HEAD`.
    pub head: ObjectId,
    /// The full name of the branch that `HEAD` points to; `None` if it is detached.
    pub head_ref: Option<String>,
    /// Branches, tags and other refs whose history is complete.
    pub refs: Vec<(String, ObjectId)>,
    /// Commits whose parents are missing and may be.
    pub shallow: Vec<ObjectId>,
    /// Indexed and checked.
    pub packs: Vec<Pack>,
}

pub(super) enum Outcome {
    History(History),
    /// A note says why.
    Unusable,
}

/// Takes in what lies in a `.git`, while the archive streams by.
pub(super) struct Spool<'a> {
    /// The folder in which it lies.
    pub(super) around: Vec<u8>,
    budget: &'a Budget<'a>,
    folder: PathBuf,
    packs: Vec<PathBuf>,
    loose: Writer,
    refs: BTreeMap<Vec<u8>, Vec<u8>>,
    packed_refs: Vec<u8>,
    shallow: Vec<u8>,
    reftable: bool,
}

impl<'a> Spool<'a> {
    pub(super) fn new(
        scratch: &Path,
        around: Vec<u8>,
        budget: &'a Budget<'a>,
    ) -> Result<Self, ArchiveError> {
        let folder = scratch.join("git");
        let loose = Writer::new(&folder, "loose").map_err(ArchiveError::Io)?;
        Ok(Self {
            around,
            budget,
            folder,
            packs: Vec::new(),
            loose,
            refs: BTreeMap::new(),
            packed_refs: Vec::new(),
            shallow: Vec::new(),
            reftable: false,
        })
    }

    /// A file below `.git`.
    pub(super) fn file(
        &mut self,
        path: &[u8],
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        if path == b"HEAD" || path.starts_with(b"refs/") {
            if self.refs.len() >= MAX_REFS {
                return Err(bad("it has too many refs"));
            }
            let text = text(path, size, MAX_REF, content)?;
            if self.refs.insert(path.to_vec(), text).is_some() {
                return Err(twice(path));
            }
        } else if path == b"packed-refs" || path == b"shallow" {
            let list = if path == b"shallow" { &mut self.shallow } else { &mut self.packed_refs };
            if !list.is_empty() {
                return Err(twice(path));
            }
            *list = text(path, size, MAX_LIST, content)?;
        } else if path.starts_with(b"reftable/") {
            self.reftable = true;
        } else if path.starts_with(b"objects/pack/") && path.ends_with(b".pack") {
            if self.packs.len() >= MAX_PACKS {
                return Err(bad("it has too many packs"));
            }
            let name = self.folder.join(format!("{}.in", self.packs.len()));
            let mut out = File::create_new(&name).map_err(ArchiveError::Io)?;
            copy(content, &mut out, path)?;
            self.packs.push(name);
        } else if let Some(id) = loose_id(path) {
            self.loose(id, content)?;
        }
        Ok(())
    }

    /// Inflates a loose object: `KIND SIZE\0` and its bytes.
    fn loose(&mut self, id: ObjectId, content: &mut dyn Read) -> Result<(), ArchiveError> {
        let wrong = |why: &str| bad(&format!("its object {id} {why}"));
        let decoder = flate2::read::ZlibDecoder::new(content);
        let mut inflated = BufReader::new(Metered { inner: decoder, budget: self.budget });
        let mut header = Vec::with_capacity(32);
        loop {
            let mut byte = [0];
            let read = inflated.read(&mut byte).map_err(|e| reading(e, id))?;
            if read == 0 || header.len() > 32 {
                return Err(wrong("has no header"));
            }
            if byte == [0] {
                break;
            }
            header.extend_from_slice(&byte);
        }
        let mut words = header.splitn(2, |byte| *byte == b' ');
        let kind = words.next().and_then(|word| Kind::from_bytes(word).ok());
        let size = words.next().and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
        let (Some(kind), Some(size)) = (kind, size) else {
            return Err(wrong("has a malformed header"));
        };
        self.budget.file(id.to_string().as_bytes(), size)?;
        self.budget.announce(size)?;
        let found = self
            .loose
            .add_from(kind, size, &mut inflated, id.to_string().as_bytes())
            .map_err(|error| match error {
                ArchiveError::Refused { code: "damaged_archive", .. } => wrong("is damaged"),
                other => other,
            })?;
        if found != id {
            return Err(wrong("has other contents than its name says"));
        }
        if inflated.read(&mut [0]).map_err(|e| reading(e, id))? != 0 {
            return Err(wrong("is longer than it says"));
        }
        Ok(())
    }

    /// Indexes and checks all packs into `objects`, and finds out what is reachable.
    pub(super) fn finish(
        self,
        objects: &Path,
        budget: &Budget<'_>,
        notes: &mut Notes,
    ) -> Result<Outcome, ArchiveError> {
        let unusable = |notes: &mut Notes, why: &str| {
            let message =
                format!("the .git of the archive {why}, so the files of the archive count");
            notes.add("history_left_out", &message, b"");
            Ok(Outcome::Unusable)
        };
        if self.reftable {
            return unusable(notes, "keeps its refs in a reftable, which is not read");
        }
        let Some(head) = self.refs.get(b"HEAD".as_slice()) else {
            return unusable(notes, "has no HEAD");
        };
        let mut refs = self.all_refs(notes)?;
        let (head_ref, head) = match resolve(head, &refs) {
            Some(found) => found,
            None => return unusable(notes, "has a HEAD that points to no commit"),
        };
        let mut shallow: Vec<ObjectId> = Vec::new();
        for line in self.shallow.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            shallow
                .push(sha1(line).ok_or_else(|| bad("its list of shallow commits is malformed"))?);
        }
        // Of its own: the trees of the archive's files must not complete the history.
        let store = self.folder.join("objects");
        let target = store.join("pack");
        fs::create_dir_all(&target).map_err(ArchiveError::Io)?;
        let loose = if self.loose.is_empty() {
            None
        } else {
            Some(self.loose.finish().map_err(ArchiveError::Io)?)
        };
        let mut sources = self.packs;
        sources.extend(loose.map(|pack| pack.pack));
        let imported = sluice_git::import::import(
            &sources,
            &store,
            &shallow,
            &budget.limits.packs,
            budget.cancel.flag(),
        );
        let imported = imported.map_err(|error| match error {
            sluice_git::import::Error::Refused(why) => bad(&why),
            sluice_git::import::Error::Limit(limit, why) => {
                ArchiveError::Packs { limit, message: bad(&why).to_string() }
            }
            sluice_git::import::Error::Cancelled => ArchiveError::Cancelled,
            sluice_git::import::Error::Io(error) => ArchiveError::Io(error),
        })?;
        for source in sources {
            fs::remove_file(source).map_err(ArchiveError::Io)?;
        }
        let odb = gix_odb::at(&store, gix_hash::Kind::Sha1).map_err(ArchiveError::Io)?;
        let mut walk = Reach {
            odb: &odb,
            budget,
            shallow: shallow.iter().copied().collect(),
            seen: HashSet::new(),
            whole: !imported.missing,
        };
        if !walk.complete(head, true)? {
            return unusable(
                notes,
                "lacks objects of its HEAD (it borrows them from another repository, or leaves \
                 them with its server)",
            );
        }
        let before = refs.len();
        let mut kept = Vec::new();
        for (name, id) in std::mem::take(&mut refs) {
            if walk.complete(id, false)? {
                kept.push((name, id));
            }
        }
        if kept.len() < before {
            notes.add(
                "incomplete_refs",
                &format!("{} refs lack objects and were left out", before - kept.len()),
                b"",
            );
        }
        // From here on it is the truth, and the only thing in the folder of objects.
        fs::remove_dir_all(objects).map_err(ArchiveError::Io)?;
        fs::rename(&store, objects).map_err(ArchiveError::Io)?;
        let packs = imported.packs.into_iter().map(|pack| Pack {
            pack: moved(&pack.pack, objects),
            index: moved(&pack.index, objects),
            name: pack.name,
            bytes: pack.bytes,
            objects: pack.objects,
        });
        let shallow = imported.shallow;
        let packs = packs.collect();
        Ok(Outcome::History(History { head, head_ref, refs: kept, shallow, packs }))
    }

    /// Refs that point to objects: a loose one hides a packed one.
    fn all_refs(&self, notes: &mut Notes) -> Result<Vec<(String, ObjectId)>, ArchiveError> {
        let mut all: BTreeMap<String, ObjectId> = BTreeMap::new();
        let mut odd = |name: &[u8]| {
            notes.add("odd_ref", "a ref of the .git is malformed and was left out", name);
        };
        for line in self.packed_refs.split(|byte| *byte == b'\n') {
            if line.is_empty() || matches!(line.first(), Some(b'#' | b'^')) {
                continue;
            }
            match line.split_at_checked(40).and_then(|(hex, name)| {
                let name = ref_name(name.strip_prefix(b" ")?)?;
                Some((name, sha1(hex)?))
            }) {
                Some((name, id)) => {
                    all.insert(name, id);
                }
                None => odd(line),
            }
            if all.len() > MAX_REFS {
                return Err(bad("it has too many refs"));
            }
        }
        for (name, text) in &self.refs {
            if name == b"HEAD" || text.starts_with(b"ref:") {
                continue;
            }
            match (ref_name(name), sha1(text.trim_ascii())) {
                (Some(name), Some(id)) => {
                    all.insert(name, id);
                }
                _ => odd(name),
            }
        }
        if all.len() > MAX_REFS {
            return Err(bad("it has too many refs"));
        }
        Ok(all.into_iter().collect())
    }
}

fn bad(why: &str) -> ArchiveError {
    ArchiveError::new(
        "bad_history",
        format!("the .git of the archive cannot be taken: {why}; send the archive without it"),
    )
}

fn twice(path: &[u8]) -> ArchiveError {
    ArchiveError::new("duplicate_entry", format!("{} of the .git is there twice", shown(path)))
}

fn reading(error: io::Error, id: ObjectId) -> ArchiveError {
    match ArchiveError::reading(error, b"") {
        ArchiveError::Refused { code: "damaged_archive", .. } => {
            bad(&format!("its object {id} is damaged"))
        }
        other => other,
    }
}

fn text(path: &[u8], size: u64, max: u64, content: &mut dyn Read) -> Result<Vec<u8>, ArchiveError> {
    if size > max {
        return Err(bad(&format!("{} has {size} bytes", shown(path))));
    }
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).map_err(|error| ArchiveError::reading(error, path))?;
    Ok(bytes)
}

/// Tells apart whether reading or writing failed.
fn copy(content: &mut dyn Read, out: &mut File, path: &[u8]) -> Result<(), ArchiveError> {
    use std::io::Write as _;
    let mut chunk = vec![0; 1 << 16];
    loop {
        let read = match content.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ArchiveError::reading(error, path)),
        };
        out.write_all(chunk.get(..read).unwrap_or_default()).map_err(ArchiveError::Io)?;
    }
}

/// The id in the path `objects/xx/…` of a loose object.
fn loose_id(path: &[u8]) -> Option<ObjectId> {
    let rest = path.strip_prefix(b"objects/")?;
    let (first, rest) = rest.split_at_checked(2)?;
    let rest = rest.strip_prefix(b"/").filter(|rest| rest.len() == 38)?;
    sha1(&[first, rest].concat())
}

/// Histories of the other kind are told apart by their ids alone: their HEAD then leads
/// nowhere, and the files of the archive count.
fn sha1(hex: &[u8]) -> Option<ObjectId> {
    sluice_git::object_id(hex, gix_hash::Kind::Sha1)
}

/// A name that git would take, in UTF-8, since the database has no other.
fn ref_name(name: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(name).ok()?;
    let fits = text.starts_with("refs/") && text.len() <= 1024;
    (fits && gix_validate::reference::name(name.into()).is_ok()).then(|| text.to_owned())
}

/// What `HEAD` says: a branch and its commit, or a commit.
fn resolve(head: &[u8], refs: &[(String, ObjectId)]) -> Option<(Option<String>, ObjectId)> {
    let mut text = head.trim_ascii();
    for _ in 0..MAX_HOPS {
        let Some(name) = text.strip_prefix(b"ref:") else {
            return sha1(text).map(|id| (None, id));
        };
        let name = ref_name(name.trim_ascii())?;
        match refs.binary_search_by(|(other, _)| other.as_str().cmp(&name)) {
            Ok(at) => return refs.get(at).map(|(name, id)| (Some(name.clone()), *id)),
            Err(_) => text = b"",
        }
    }
    None
}

fn moved(file: &Path, objects: &Path) -> PathBuf {
    objects.join("pack").join(file.file_name().unwrap_or_default())
}

/// Looks for objects that are missing. What was seen once is not looked at again; if
/// every link of every object leads somewhere only the tip is looked at.
struct Reach<'a> {
    odb: &'a gix_odb::Handle,
    budget: &'a Budget<'a>,
    shallow: HashSet<ObjectId>,
    /// Complete, or under way.
    seen: HashSet<ObjectId>,
    whole: bool,
}

impl Reach<'_> {
    /// Whether a ref and all that it reaches is there. A head has to be a commit.
    fn complete(&mut self, tip: ObjectId, head: bool) -> Result<bool, ArchiveError> {
        let mut id = tip;
        let mut buffer = Vec::new();
        for _ in 0..=MAX_TAGS {
            let Ok(Some(found)) = self.odb.try_find(&id, &mut buffer) else { return Ok(false) };
            match found.kind {
                Kind::Commit => break,
                Kind::Tag if !head => {
                    let Ok(target) = self.odb.find_tag_iter(&id, &mut buffer) else {
                        return Ok(false);
                    };
                    let Ok(target) = target.target_id() else { return Ok(false) };
                    id = target;
                }
                _ => return Ok(!head && self.whole),
            }
        }
        if self.whole {
            return Ok(true);
        }
        let mut fresh = Vec::new();
        let complete = self.walk(id, &mut fresh)?;
        if !complete {
            // What was met on the way may be incomplete.
            for id in fresh {
                self.seen.remove(&id);
            }
        }
        Ok(complete)
    }

    fn walk(&mut self, tip: ObjectId, fresh: &mut Vec<ObjectId>) -> Result<bool, ArchiveError> {
        let mut open = vec![tip];
        let mut buffer = Vec::new();
        while let Some(id) = open.pop() {
            self.budget.alive()?;
            if !self.seen.insert(id) {
                continue;
            }
            fresh.push(id);
            let Ok(Some(found)) = self.odb.try_find(&id, &mut buffer) else { return Ok(false) };
            match found.kind {
                Kind::Commit => {
                    let Ok(commit) = self.odb.find_commit(&id, &mut buffer) else {
                        return Ok(false);
                    };
                    open.push(commit.tree());
                    if !self.shallow.contains(&id) {
                        open.extend(commit.parents());
                    }
                }
                Kind::Tree => {
                    let Ok(tree) = self.odb.find_tree_iter(&id, &mut buffer) else {
                        return Ok(false);
                    };
                    for entry in tree {
                        let Ok(entry) = entry else { return Ok(false) };
                        let id = entry.oid.to_owned();
                        match entry.mode.kind() {
                            EntryKind::Commit => {}
                            EntryKind::Tree => open.push(id),
                            _ if self.odb.exists(&id) => {}
                            _ => return Ok(false),
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(true)
    }
}
