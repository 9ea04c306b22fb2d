//! Names, links and the shape of a tree.
//!
//! One pass over all names, and a second one only if some of them fold together. Memory
//! is two hashes a name; names themselves are kept of what is odd, and of that so many.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use unicode_normalization::UnicodeNormalization as _;

use super::files::{MAX_ATTRIBUTES, shown};
use super::{Odd, rules};
use crate::scan::model::{Confidence, RawFinding, SourceError, Span};

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameKind {
    /// A file.
    File,
    /// A symbolic link.
    Link,
    /// A commit of another repository.
    Submodule,
    /// A folder. One that holds something need not be told.
    Folder,
}

impl NameKind {
    /// What an entry of a tree of git is.
    pub fn of(kind: gix_object::tree::EntryKind) -> Self {
        use gix_object::tree::EntryKind;
        match kind {
            EntryKind::Tree => Self::Folder,
            EntryKind::Blob | EntryKind::BlobExecutable => Self::File,
            EntryKind::Link => Self::Link,
            EntryKind::Commit => Self::Submodule,
        }
    }
}

/// A name in the tree.
#[derive(Debug, Clone, Copy)]
pub struct NameEntry<'a> {
    /// From the root, `/` between components; bytes as git keeps them.
    pub path: &'a [u8],
    /// What it stands for.
    pub kind: NameKind,
    /// Bytes of a file; 0 where the source does not know them without reading.
    pub size: u64,
}

/// What was found, by path.
#[derive(Debug, Default)]
pub struct Found {
    /// Path and finding.
    pub findings: Vec<(String, RawFinding)>,
    /// Findings beyond the bound.
    pub dropped: u64,
}

/// Tells all names of a tree, in any order; called twice at most.
pub type Names<'a> = &'a dyn Fn(&mut dyn FnMut(&NameEntry<'_>)) -> Result<(), SourceError>;

/// `.gitmodules`, or what some file system takes for it.
pub(super) fn is_gitmodules(name: &[u8]) -> bool {
    name == b".gitmodules"
        || sluice_git::odd::name(name, true) == Some(sluice_git::Oddity::LinkedGitmodules)
}

/// Characters that HFS+ leaves out when it compares names.
pub(super) fn is_ignored_by_hfs(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}'
        | '\u{feff}')
}

/// Characters that turn the direction of the text behind them.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What is odd about the characters of a name.
pub(super) fn odd_text(name: &[u8]) -> Option<Odd> {
    if name.contains(&b'\\') {
        let leads_out = |part: &[u8]| {
            part == b".." || sluice_git::odd::name(part, false) == Some(sluice_git::Oddity::DotGit)
        };
        if name.split(|byte| *byte == b'\\').any(leads_out) {
            return Some(Odd::WindowsTraversal);
        }
    }
    let odd = if name.is_ascii() {
        name.iter().any(u8::is_ascii_control)
    } else {
        match std::str::from_utf8(name) {
            Ok(name) => name.chars().any(|c| c.is_control() || turns_text(c)),
            // Of another encoding only this much is known.
            Err(_) => name.iter().any(u8::is_ascii_control),
        }
    };
    odd.then_some(Odd::ControlCharacter)
}

/// A link in the place of a file that git reads.
pub(super) fn odd_link(name: &[u8], link: bool) -> Option<Odd> {
    let read = [".gitattributes", ".gitignore", ".mailmap"];
    let is_one = link && read.iter().any(|read| name.eq_ignore_ascii_case(read.as_bytes()));
    is_one.then_some(Odd::LinkedConfig)
}

/// The name under which some file system knows a name: without case, without what HFS+
/// leaves out, accents apart from their letters.
fn fold(name: &[u8], into: &mut Vec<u8>) {
    into.clear();
    match std::str::from_utf8(name) {
        Ok(text) if !text.is_ascii() => {
            let mut buffer = [0; 4];
            for c in text.nfd().filter(|c| !is_ignored_by_hfs(*c)).flat_map(char::to_lowercase) {
                into.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            }
        }
        _ => into.extend(name.iter().map(u8::to_ascii_lowercase)),
    }
}

/// Calls `each` for every component of the entries: the folder in which it lies, its
/// name, what it is and its size. A folder whose entries follow each other is told once.
fn components(
    names: Names<'_>,
    each: &mut dyn FnMut(&[u8], &[u8], NameKind, u64),
) -> Result<(), SourceError> {
    let mut last: Vec<u8> = Vec::new();
    names(&mut |entry| {
        let path = entry.path;
        let common = last.iter().zip(path).take_while(|(a, b)| a == b).count();
        let mut start = 0;
        for (slash, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            // The folder ends within what the last path had too.
            if slash >= common {
                let folder = path.get(..start).unwrap_or_default();
                let name = path.get(start..slash).unwrap_or_default();
                each(folder.strip_suffix(b"/").unwrap_or(folder), name, NameKind::Folder, 0);
            }
            start = slash + 1;
        }
        let folder = path.get(..start).unwrap_or_default();
        let name = path.get(start..).unwrap_or_default();
        each(folder.strip_suffix(b"/").unwrap_or(folder), name, entry.kind, entry.size);
        last.clear();
        last.extend_from_slice(path);
    })
}

/// What a bare repository is made of.
fn part_of_repository(name: &[u8], kind: NameKind) -> u8 {
    match (name, kind) {
        (b"HEAD", NameKind::File) => 1,
        (b"config", NameKind::File) => 2,
        (b"objects", NameKind::Folder) => 4,
        (b"refs", NameKind::Folder) => 8,
        _ => 0,
    }
}

const REPOSITORY: u8 = 15;

/// Looks at a whole tree. At most `most` findings of one rule are given.
pub fn check(names: Names<'_>, most: usize) -> Result<Found, SourceError> {
    let hashes = RandomState::new();
    let mut out = Collector { most, ..Collector::default() };
    let mut folded: HashMap<u64, u64> = HashMap::new();
    let mut meet: HashSet<u64> = HashSet::new();
    let mut repositories: HashMap<u64, u8> = HashMap::new();
    let mut buffer = Vec::new();
    components(names, &mut |folder, name, kind, size| {
        let link = kind == NameKind::Link;
        for odd in [
            sluice_git::odd::name(name, link).and_then(Odd::of),
            odd_text(name),
            odd_link(name, link),
        ]
        .into_iter()
        .flatten()
        {
            out.add(odd.rule_id(), join(folder, name), None, || of_name(odd, name));
        }
        if kind == NameKind::File
            && size > MAX_ATTRIBUTES
            && name.eq_ignore_ascii_case(b".gitattributes")
        {
            out.add(rules::ATTRIBUTES_SIZE, join(folder, name), None, || {
                format!("The file has {size} bytes; git reads no more than {MAX_ATTRIBUTES}.")
            });
        }
        let part = part_of_repository(name, kind);
        if part != 0 {
            let parts = repositories.entry(hashes.hash_one(folder)).or_default();
            let before = *parts;
            *parts |= part;
            if *parts == REPOSITORY && before != REPOSITORY {
                out.add(rules::EMBEDDED_REPOSITORY, join(folder, b"HEAD"), None, || {
                    let folder = if folder.is_empty() { b".".as_slice() } else { folder };
                    format!("The folder {} is a bare git repository.", shown(folder))
                });
            }
        }
        fold(name, &mut buffer);
        let key = hashes.hash_one((folder, buffer.as_slice()));
        let own = hashes.hash_one(name);
        if *folded.entry(key).or_insert(own) != own {
            meet.insert(key);
        }
    })?;
    drop(folded);
    if !meet.is_empty() {
        collisions(names, &hashes, &meet, &mut out)?;
    }
    Ok(out.finish())
}

type Group = BTreeMap<Vec<u8>, NameKind>;

fn collisions(
    names: Names<'_>,
    hashes: &RandomState,
    meet: &HashSet<u64>,
    out: &mut Collector,
) -> Result<(), SourceError> {
    let mut groups: BTreeMap<(Vec<u8>, Vec<u8>), Group> = BTreeMap::new();
    let mut buffer = Vec::new();
    components(names, &mut |folder, name, kind, _| {
        fold(name, &mut buffer);
        if meet.contains(&hashes.hash_one((folder, buffer.as_slice()))) {
            let group = groups.entry((folder.to_vec(), buffer.clone())).or_default();
            group.insert(name.to_vec(), kind);
        }
    })?;
    for ((folder, _), group) in groups.into_iter().filter(|(_, group)| group.len() > 1) {
        let held = |kind: &NameKind| matches!(kind, NameKind::Folder | NameKind::Submodule);
        let link = group.iter().find(|(_, kind)| **kind == NameKind::Link);
        let place = group.iter().find(|(_, kind)| held(kind));
        let all: Vec<String> = group.keys().take(5).map(|name| shown(name)).collect();
        // What it is called with is all of them: another one makes it another weakness.
        let anchor: Vec<String> = group
            .keys()
            .map(|name| String::from_utf8_lossy(&join(&folder, name)).into_owned())
            .collect();
        let anchor = Some(anchor.join("\n"));
        if let (Some((link, _)), Some((place, _))) = (link, place) {
            out.add(rules::LINK_COLLISION, join(&folder, link), anchor, || {
                format!(
                    "Where {} and {} are one name, what belongs into the folder goes where the \
                     link leads.",
                    shown(link),
                    shown(place)
                )
            });
        } else if let Some(second) = group.keys().nth(1) {
            out.add(rules::CASE_COLLISION, join(&folder, second), anchor, || {
                format!("{} are one name on file systems that ignore case.", all.join(" and "))
            });
        }
    }
    Ok(())
}

fn of_name(odd: Odd, name: &[u8]) -> String {
    let name = shown(name);
    match odd {
        Odd::DotGit => format!("{name} is .git to git on some file system."),
        Odd::LinkedGitmodules | Odd::LinkedConfig => format!("{name} is a symbolic link."),
        Odd::WindowsTraversal => format!("{name} is a path on Windows, and leads out."),
        Odd::ControlCharacter => format!("{name} holds characters that cannot be seen."),
        Odd::ZeroPaddedMode | Odd::UnsortedTree | Odd::MissingIdentity => name,
    }
}

/// What is odd about an object of the history, as a finding at a path.
pub fn of_history(odd: Odd, path: &str) -> RawFinding {
    let name = path.rsplit('/').next().unwrap_or(path);
    let message = match odd {
        Odd::ZeroPaddedMode => {
            format!("The mode of {} is written with leading zeros.", shown(name.as_bytes()))
        }
        Odd::UnsortedTree => {
            format!("The entries of the folder {} are not sorted.", shown(path.as_bytes()))
        }
        Odd::MissingIdentity => {
            "A commit has no author or no committer with an e-mail address.".to_owned()
        }
        odd => of_name(odd, name.as_bytes()),
    };
    raw(odd.rule_id(), message, path.to_owned())
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

fn raw(rule_id: &str, message: String, anchor: String) -> RawFinding {
    RawFinding {
        rule_id: rule_id.to_owned(),
        severity: rules::severity(rule_id),
        confidence: Confidence::High,
        message,
        span: Span { start_line: 1, start_column: 1, end_line: 1, end_column: 1 },
        snippet: String::new(),
        symbol: String::new(),
        anchor,
        flow: Vec::new(),
        package: None,
    }
}

/// Findings by rule and path, each once.
#[derive(Default)]
struct Collector {
    most: usize,
    found: BTreeMap<(&'static str, Vec<u8>), RawFinding>,
    of_rule: HashMap<&'static str, usize>,
    dropped: u64,
}

impl Collector {
    fn add(
        &mut self,
        rule_id: &'static str,
        path: Vec<u8>,
        anchor: Option<String>,
        message: impl FnOnce() -> String,
    ) {
        let key = (rule_id, path);
        if self.found.contains_key(&key) {
            return;
        }
        let count = self.of_rule.entry(rule_id).or_default();
        if self.most != 0 && *count >= self.most {
            self.dropped += 1;
            return;
        }
        *count += 1;
        let anchor = anchor.unwrap_or_else(|| String::from_utf8_lossy(&key.1).into_owned());
        let found = raw(rule_id, message(), anchor);
        self.found.insert(key, found);
    }

    fn finish(self) -> Found {
        let findings = self
            .found
            .into_iter()
            .map(|((_, path), found)| (String::from_utf8_lossy(&path).into_owned(), found))
            .collect();
        Found { findings, dropped: self.dropped }
    }
}
