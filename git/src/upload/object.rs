//! What commits, tags and trees link to.
//!
//! The objects were checked when they were pushed, and a repository that came to its folder in
//! another way may hold odd ones. So this is lenient: it reads the links and nothing else.

use gix_hash::{ObjectId, oid};

/// The parts of a commit that lead to other objects, and its date.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Commit {
    pub tree: ObjectId,
    pub parents: Vec<ObjectId>,
    /// When it was committed, in seconds since 1970; 0 if it does not say.
    pub date: i64,
}

/// Reads a commit; `None` if it has no tree.
pub(super) fn commit(data: &[u8]) -> Option<Commit> {
    let mut lines = data.split(|byte| *byte == b'\n').peekable();
    let tree = lines.next().and_then(|line| id_after(b"tree ", line))?;
    let mut parents = Vec::new();
    while let Some(parent) = lines.peek().and_then(|line| id_after(b"parent ", line)) {
        parents.push(parent);
        lines.next();
    }
    let date = lines
        .take_while(|line| !line.is_empty())
        .find_map(|line| line.strip_prefix(b"committer "))
        .and_then(date)
        .unwrap_or(0);
    Some(Commit { tree, parents, date })
}

/// The number behind the last `>` of an identity.
fn date(identity: &[u8]) -> Option<i64> {
    let end = identity.iter().rposition(|byte| *byte == b'>')?;
    let rest = std::str::from_utf8(&identity[end + 1..]).ok()?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// What an annotated tag points to.
pub(super) fn tag_target(data: &[u8]) -> Option<ObjectId> {
    id_after(b"object ", data.split(|byte| *byte == b'\n').next()?)
}

fn id_after(key: &[u8], line: &[u8]) -> Option<ObjectId> {
    ObjectId::from_hex(line.strip_prefix(key)?).ok()
}

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    Tree,
    /// A file or a symbolic link.
    Blob,
    /// A commit of another repository, which is not sent.
    Submodule,
}

/// One entry of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub kind: EntryKind,
    pub name: &'a [u8],
    pub id: &'a oid,
}

impl Entry<'_> {
    /// Whether it stands before `other` in a tree: a folder counts as if its name ended in a slash.
    pub fn before(&self, other: &Self) -> bool {
        let common = self.name.len().min(other.name.len());
        let next = |entry: &Self| {
            let slash = (entry.kind == EntryKind::Tree).then_some(b'/');
            entry.name.get(common).copied().or(slash)
        };
        (&self.name[..common], next(self)) < (&other.name[..common], next(other))
    }
}

/// The entries of a tree. It ends at what is no entry.
pub(super) struct Entries<'a> {
    data: &'a [u8],
    id_bytes: usize,
}

pub(super) fn entries(data: &[u8], hash: gix_hash::Kind) -> Entries<'_> {
    Entries { data, id_bytes: hash.len_in_bytes() }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let space = self.data.iter().take(8).position(|byte| *byte == b' ')?;
        let mode = self.data[..space].iter().try_fold(0_u32, |mode, digit| {
            (b'0'..=b'7').contains(digit).then(|| mode * 8 + u32::from(digit - b'0'))
        })?;
        let rest = &self.data[space + 1..];
        let nul = rest.iter().position(|byte| *byte == 0)?;
        let (name, rest) = (&rest[..nul], &rest[nul + 1..]);
        let (id, rest) = rest.split_at_checked(self.id_bytes)?;
        self.data = rest;
        let kind = match mode & 0o170_000 {
            0o040_000 => EntryKind::Tree,
            0o160_000 => EntryKind::Submodule,
            _ => EntryKind::Blob,
        };
        Some(Entry { kind, name, id: oid::try_from_bytes(id).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn a_commit_gives_its_links_and_date() {
        let who = "T > <t@x> 1700000000 +0000";
        let text = format!(
            "tree {A}\nparent {B}\nparent {A}\nauthor {who}\ncommitter {who}\n\ncommitter x> 5\n"
        );
        let found = commit(text.as_bytes()).unwrap();
        assert_eq!(found.tree.to_string(), A);
        assert_eq!(found.parents.len(), 2);
        assert_eq!(found.date, 1_700_000_000);
        assert_eq!(commit(format!("tree {A}\n\nhi").as_bytes()).unwrap().date, 0);
        assert_eq!(commit(b"parent"), None);
        assert_eq!(
            tag_target(format!("object {B}\ntype tree\n").as_bytes()).unwrap().to_string(),
            B
        );
    }

    #[test]
    fn trees_are_read_up_to_what_is_no_entry() {
        let id = [7; 20];
        let data = [b"100644 a\0".as_slice(), &id, b"40000 b\0", &id, b"160000 c\0", &id, b"junk"]
            .concat();
        let all: Vec<_> = entries(&data, gix_hash::Kind::Sha1).collect();
        let kinds: Vec<_> = all.iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [EntryKind::Blob, EntryKind::Tree, EntryKind::Submodule]);
        assert_eq!(all[1].name, b"b");
        assert!(entries(&data[..20], gix_hash::Kind::Sha1).next().is_none());
    }

    #[test]
    fn folders_are_ordered_with_a_slash() {
        let id = oid::try_from_bytes(&[7; 20]).unwrap();
        let entry = |kind, name| Entry { kind, name, id };
        let (file, folder) = (entry(EntryKind::Blob, b"a.c"), entry(EntryKind::Tree, b"a"));
        assert!(file.before(&folder) && !folder.before(&file));
        let plain = entry(EntryKind::Blob, b"a");
        assert!(plain.before(&file) && plain.before(&folder) && !plain.before(&plain));
    }
}
