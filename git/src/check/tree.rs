//! Reading trees: their entries, and names that are dangerous.
//!
//! Refused is what cannot be written to any disk faithfully or breaks out of it: an empty name, `.`,
//! `..`, a slash, two entries of one name. Accepted and recorded is what only some file systems or
//! some git would misread (`.git` in its many spellings, a `.gitmodules` that is a link, modes with
//! leading zeros): such a history is exactly what a scan should report on.

use std::collections::HashSet;

use gix_validate::path::component;

use super::{Flaw, Oddity};
use crate::firewall::Limits;

/// What an entry is, from its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Tree,
    Blob,
    Link,
    Submodule,
}

/// One line of a tree. `N` is the width of an id.
pub(crate) struct Entry<'a, const N: usize> {
    pub kind: EntryKind,
    pub name: &'a [u8],
    pub id: [u8; N],
}

/// How large a tree may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    entries: u32,
    name: u32,
}

impl Bounds {
    /// Of trees that were let in before.
    pub const NONE: Self = Self { entries: u32::MAX, name: u32::MAX };

    pub fn new(limits: &Limits) -> Self {
        Self { entries: limits.tree_entries, name: limits.path_bytes }
    }

    /// Counts an entry.
    fn check(&self, count: &mut u32, name: &[u8]) -> Result<(), Flaw> {
        *count += 1;
        if *count > self.entries {
            return Err(Flaw::TooManyEntries(self.entries));
        }
        if name.len() > self.name as usize {
            return Err(Flaw::LongName(self.name));
        }
        Ok(())
    }
}

/// Reads all entries, calls `each` for every one, and `odd` for what is odd about it.
pub(crate) fn read<'a, const N: usize>(
    data: &'a [u8],
    bounds: Bounds,
    mut each: impl FnMut(&Entry<'a, N>),
    mut odd: impl FnMut(Oddity, &[u8]),
) -> Result<(), Flaw> {
    let mut rest = data;
    let mut names = Names::default();
    let mut count = 0;
    while !rest.is_empty() {
        let (mode, entry, behind) = split::<N>(rest)?;
        rest = behind;
        bounds.check(&mut count, entry.name)?;
        if mode.first() == Some(&b'0') {
            odd(Oddity::ZeroPaddedMode, entry.name);
        }
        check_name(&entry, &mut odd)?;
        names.add(&entry)?;
        each(&entry);
    }
    if !names.sorted {
        odd(Oddity::UnsortedTree, b"");
        no_name_twice::<N>(data)?;
    }
    Ok(())
}

/// Reads nothing but the links: what is odd about names is not looked at.
pub(crate) fn links<'a, const N: usize>(
    data: &'a [u8],
    bounds: Bounds,
    mut each: impl FnMut(&Entry<'a, N>),
) -> Result<(), Flaw> {
    let mut rest = data;
    let mut count = 0;
    while !rest.is_empty() {
        let (_, entry, behind) = split::<N>(rest)?;
        bounds.check(&mut count, entry.name)?;
        each(&entry);
        rest = behind;
    }
    Ok(())
}

fn split<const N: usize>(data: &[u8]) -> Result<(&[u8], Entry<'_, N>, &[u8]), Flaw> {
    let space = data.iter().take(8).position(|byte| *byte == b' ').ok_or(Flaw::BadTree)?;
    let (mode, rest) = (&data[..space], &data[space + 1..]);
    let nul = rest.iter().position(|byte| *byte == 0).ok_or(Flaw::BadTree)?;
    let name = &rest[..nul];
    let (id, behind) = rest[nul + 1..].split_first_chunk::<N>().ok_or(Flaw::BadTree)?;
    let mut bits = 0_u32;
    for byte in mode {
        match byte {
            b'0'..=b'7' => bits = bits * 8 + u32::from(byte - b'0'),
            _ => return Err(Flaw::BadTree),
        }
    }
    // As git reads it: the file type decides, whatever the permissions say.
    let kind = match bits & 0o170_000 {
        0o040_000 => EntryKind::Tree,
        0o100_000 => EntryKind::Blob,
        0o120_000 => EntryKind::Link,
        0o160_000 => EntryKind::Submodule,
        _ => return Err(Flaw::BadTree),
    };
    Ok((mode, Entry { kind, name, id: *id }, behind))
}

fn check_name<const N: usize>(
    entry: &Entry<'_, N>,
    odd: &mut impl FnMut(Oddity, &[u8]),
) -> Result<(), Flaw> {
    let name = entry.name;
    if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
        return Err(Flaw::TreeName);
    }
    if let Some(oddity) = odd_name(name, entry.kind == EntryKind::Link) {
        odd(oddity, name);
    }
    Ok(())
}

/// What some file system takes a name for.
pub(crate) fn odd_name(name: &[u8], link: bool) -> Option<Oddity> {
    if !suspicious(name) {
        return None;
    }
    let mode = link.then_some(component::Mode::Symlink);
    let options =
        component::Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    match gix_validate::path::component(name.into(), mode, options) {
        Err(component::Error::DotGitDir) => Some(Oddity::DotGit),
        Err(component::Error::SymlinkedGitModules) => Some(Oddity::LinkedGitmodules),
        _ => None,
    }
}

/// Whether a name could be one that some file system takes for `.git` or `.gitmodules`. Most names
/// are settled by their first byte, which matters: a history has millions of entries.
fn suspicious(name: &[u8]) -> bool {
    match name.first() {
        Some(b'.') => true,
        Some(b'g' | b'G') => name.contains(&b'~'),
        Some(byte) => *byte >= 0x80,
        None => false,
    }
}

/// Finds a name that occurs twice, as long as the entries are in git's order, where a tree sorts as
/// if its name ended in a slash: a file `a` and a tree `a` are not neighbours then.
struct Names<'a> {
    sorted: bool,
    last: Option<(&'a [u8], bool)>,
    /// Files whose name begins all names that came after, so that a tree may still repeat one.
    files: Vec<&'a [u8]>,
}

impl Default for Names<'_> {
    fn default() -> Self {
        Self { sorted: true, last: None, files: Vec::new() }
    }
}

impl<'a> Names<'a> {
    fn add<const N: usize>(&mut self, entry: &Entry<'a, N>) -> Result<(), Flaw> {
        if !self.sorted {
            return Ok(());
        }
        let name = entry.name;
        let tree = entry.kind == EntryKind::Tree;
        let mut common = 0;
        if let Some((last, last_is_tree)) = self.last {
            common = last.iter().zip(name).take_while(|(a, b)| a == b).count();
            if common == last.len() && common == name.len() {
                return Err(Flaw::DuplicateEntry);
            }
            self.sorted = key(last, last_is_tree, common) < key(name, tree, common);
        }
        // Each of these begins the last name, so it begins this one if it is no longer than what
        // the two have in common.
        while self.files.last().is_some_and(|file| file.len() > common) {
            self.files.pop();
        }
        if tree && self.files.iter().any(|file| file.len() == name.len()) {
            return Err(Flaw::DuplicateEntry);
        }
        if !tree {
            self.files.push(name);
        }
        self.last = Some((name, tree));
        Ok(())
    }
}

/// What decides git's order of two names at the first place where they differ.
fn key(name: &[u8], tree: bool, at: usize) -> u8 {
    match name.get(at) {
        Some(byte) => *byte,
        None if tree && at == name.len() => b'/',
        None => 0,
    }
}

/// The slow way, for the rare tree that is not in order.
fn no_name_twice<const N: usize>(data: &[u8]) -> Result<(), Flaw> {
    let mut seen = HashSet::new();
    let mut rest = data;
    while !rest.is_empty() {
        let (_, entry, behind) = split::<N>(rest)?;
        if !seen.insert(entry.name) {
            return Err(Flaw::DuplicateEntry);
        }
        rest = behind;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { entries: 10, name: 40 };

    fn tree(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut data = Vec::new();
        for (mode, name) in entries {
            data.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            data.extend_from_slice(&[1; 20]);
        }
        data
    }

    fn check(entries: &[(&str, &str)]) -> Result<Vec<Oddity>, Flaw> {
        let mut found = Vec::new();
        read::<20>(&tree(entries), BOUNDS, |_| {}, |oddity, _| found.push(oddity)).map(|()| found)
    }

    #[test]
    fn ordinary_trees_pass() {
        let entries = [
            ("100644", ".gitignore"),
            ("100644", ".gitmodules"),
            ("100644", "a"),
            ("100644", "a.b"),
            ("40000", "ab"),
            ("120000", "link"),
            ("160000", "module"),
            ("100755", "ü"),
        ];
        assert_eq!(check(&entries), Ok(vec![]));
        assert_eq!(check(&[]), Ok(vec![]));
    }

    #[test]
    fn names_that_break_out_are_refused() {
        for name in ["", ".", "..", "a/b", "/"] {
            assert_eq!(check(&[("100644", name)]), Err(Flaw::TreeName), "{name:?}");
        }
    }

    #[test]
    fn a_name_twice_is_refused_wherever_it_stands() {
        assert_eq!(check(&[("100644", "a"), ("100644", "a")]), Err(Flaw::DuplicateEntry));
        assert_eq!(check(&[("100644", "a"), ("40000", "a")]), Err(Flaw::DuplicateEntry));
        let apart = [("100644", "a"), ("100644", "a-b"), ("100644", "a.b"), ("40000", "a")];
        assert_eq!(check(&apart), Err(Flaw::DuplicateEntry));
        let unsorted = [("100644", "b"), ("100644", "a"), ("100644", "b")];
        assert_eq!(check(&unsorted), Err(Flaw::DuplicateEntry));
    }

    #[test]
    fn odd_trees_are_recorded() {
        for name in [".git", ".GIT", "git~1", ".g\u{200c}it", ".git ", ".git::$INDEX_ALLOCATION"] {
            assert_eq!(check(&[("40000", name)]), Ok(vec![Oddity::DotGit]), "{name:?}");
        }
        assert_eq!(check(&[("120000", ".gitmodules")]), Ok(vec![Oddity::LinkedGitmodules]));
        assert_eq!(check(&[("0100644", "a")]), Ok(vec![Oddity::ZeroPaddedMode]));
        assert_eq!(check(&[("100644", "b"), ("100644", "a")]), Ok(vec![Oddity::UnsortedTree]));
        assert_eq!(check(&[("40000", "a"), ("100644", "a.b")]), Ok(vec![Oddity::UnsortedTree]));
    }

    #[test]
    fn large_trees_and_long_names_have_bounds() {
        let names: Vec<String> = (0..11).map(|number| format!("n{number:02}")).collect();
        let entries: Vec<_> = names.iter().map(|name| ("100644", name.as_str())).collect();
        let both = |entries: &[(&str, &str)]| {
            let read = check(entries).map(drop);
            assert_eq!(links::<20>(&tree(entries), BOUNDS, |_| {}), read);
            read
        };
        assert_eq!(both(&entries[..10]), Ok(()));
        assert_eq!(both(&entries), Err(Flaw::TooManyEntries(10)));
        assert_eq!(both(&[("100644", &"n".repeat(40))]), Ok(()));
        assert_eq!(both(&[("100644", &"n".repeat(41))]), Err(Flaw::LongName(40)));
    }

    #[test]
    fn damaged_trees_are_refused() {
        let whole = tree(&[("100644", "a")]);
        for end in 1..whole.len() {
            let read = read::<20>(&whole[..end], BOUNDS, |_| {}, |_, _| {});
            assert_eq!(read, Err(Flaw::BadTree), "{end}");
        }
        assert_eq!(check(&[("100648", "a")]), Err(Flaw::BadTree));
        assert_eq!(check(&[("060000", "a")]), Err(Flaw::BadTree));
        assert_eq!(check(&[("777777777777", "a")]), Err(Flaw::BadTree));
    }
}
