//! Reading commits and tags: what they link to and whether they are well formed.
//!
//! Strict about structure, because everything else relies on it, and generous about the rest: a
//! history is scanned as it is, and many an old one has a commit without an e-mail address. What is
//! odd is recorded as an [`Oddity`] and accepted.

use std::{iter::Peekable, slice::Split};

use gix_hash::{Kind as Hash, ObjectId};
use gix_object::Kind;

use super::{Flaw, Oddity};

/// The links of a commit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub tree: ObjectId,
    pub parents: Vec<ObjectId>,
    pub oddities: Vec<Oddity>,
}

/// The link of an annotated tag.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub target: ObjectId,
    pub kind: Kind,
}

type Lines<'a> = Peekable<Split<'a, u8, fn(&u8) -> bool>>;

fn lines(data: &[u8]) -> Lines<'_> {
    let newline: fn(&u8) -> bool = |byte| *byte == b'\n';
    data.split(newline).peekable()
}

/// Tree and parents, which come first.
fn links(lines: &mut Lines<'_>, hash: Hash) -> Result<(ObjectId, Vec<ObjectId>), Flaw> {
    let id = |key, line| id_after(key, line, hash).ok_or(Flaw::BadCommit);
    let tree = id(b"tree ", lines.next().unwrap_or_default())?;
    let mut parents = Vec::new();
    while let Some(line) = lines.next_if(|line| line.starts_with(b"parent ")) {
        parents.push(id(b"parent ", line)?);
    }
    Ok((tree, parents))
}

/// The tree and the parents of a commit, whatever else is wrong with it.
pub(crate) fn commit_links(data: &[u8], hash: Hash) -> Result<(ObjectId, Vec<ObjectId>), Flaw> {
    links(&mut lines(data), hash)
}

/// What a tag points to, whatever else is wrong with it.
pub(crate) fn tag_link(data: &[u8], hash: Hash) -> Result<Tag, Flaw> {
    let mut lines = lines(data);
    let target = lines.next().and_then(|line| id_after(b"object ", line, hash));
    let kind = lines.next().and_then(|line| line.strip_prefix(b"type "));
    let kind = kind.and_then(|kind| Kind::from_bytes(kind).ok());
    target.zip(kind).map(|(target, kind)| Tag { target, kind }).ok_or(Flaw::BadTag)
}

pub(crate) fn commit(data: &[u8], hash: Hash) -> Result<Commit, Flaw> {
    let header = header(data)?;
    let mut lines = lines(header);
    let (tree, parents) = links(&mut lines, hash)?;
    let mut oddities = Vec::new();
    for key in [b"author ".as_slice(), b"committer "] {
        match lines.next() {
            Some(line) if line.starts_with(key) => {
                if !has_email(line) && !oddities.contains(&Oddity::MissingEmail) {
                    oddities.push(Oddity::MissingEmail);
                }
            }
            _ => {
                oddities.push(Oddity::MissingIdentity);
                break;
            }
        }
    }
    Ok(Commit { tree, parents, oddities })
}

pub(crate) fn tag(data: &[u8], hash: Hash) -> Result<Tag, Flaw> {
    let header = header(data)?;
    let mut lines = header.split(|byte| *byte == b'\n');
    let target =
        lines.next().and_then(|line| id_after(b"object ", line, hash)).ok_or(Flaw::BadTag)?;
    let kind = lines
        .next()
        .and_then(|line| line.strip_prefix(b"type "))
        .and_then(|kind| Kind::from_bytes(kind).ok())
        .ok_or(Flaw::BadTag)?;
    // A tagger is missing from the oldest tags of many repositories, a name never is.
    if !lines.next().is_some_and(|line| line.starts_with(b"tag ")) {
        return Err(Flaw::BadTag);
    }
    Ok(Tag { target, kind })
}

/// The lines before the message, without the last newline.
fn header(data: &[u8]) -> Result<&[u8], Flaw> {
    let end = data.windows(2).position(|pair| pair == b"\n\n");
    // Without a message the header is all there is, and still ends with its newline.
    let header = match end {
        Some(end) => &data[..end],
        None => data.strip_suffix(b"\n").ok_or(Flaw::UnterminatedHeader)?,
    };
    if header.contains(&0) {
        return Err(Flaw::NulInHeader);
    }
    Ok(header)
}

fn id_after(key: &[u8], line: &[u8], hash: Hash) -> Option<ObjectId> {
    let hex = line.strip_prefix(key)?;
    crate::object_id(hex, hash)
}

fn has_email(line: &[u8]) -> bool {
    let open = line.iter().position(|byte| *byte == b'<');
    let close = line.iter().rposition(|byte| *byte == b'>');
    matches!((open, close), (Some(open), Some(close)) if open + 1 < close)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: &str = "tree aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n";
    const P: &str = "parent bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n";
    const A: &str = "author A <a@b> 1 +0000\n";
    const C: &str = "committer A <a@b> 1 +0000\n";

    fn read(parts: &[&str]) -> Result<Commit, Flaw> {
        commit(parts.concat().as_bytes(), Hash::Sha1)
    }

    #[test]
    fn commits_give_their_links() {
        let found = read(&[T, P, P, A, C, "gpgsig x\n y\n", "\nmessage\0\n"]).unwrap();
        assert_eq!(found.parents.len(), 2);
        assert!(found.oddities.is_empty());
        assert_eq!(read(&[T, A, C]).unwrap().parents.len(), 0, "no message at all");
    }

    #[test]
    fn odd_commits_are_accepted_and_recorded() {
        let oddities = |parts: &[&str]| read(parts).unwrap().oddities;
        assert_eq!(oddities(&[T, "author A <> 1 +0000\n", C, "\n"]), [Oddity::MissingEmail]);
        assert_eq!(oddities(&[T, C, "\n"]), [Oddity::MissingIdentity]);
        assert_eq!(oddities(&[T, A, "\n"]), [Oddity::MissingIdentity]);
        assert_eq!(oddities(&[T, "author A <a@b> nonsense\n", C, "\n"]), []);
    }

    #[test]
    fn broken_commits_are_refused() {
        assert_eq!(read(&[A, C, "\n"]), Err(Flaw::BadCommit));
        assert_eq!(read(&["tree abc\n", A, C, "\n"]), Err(Flaw::BadCommit));
        assert_eq!(read(&[T, "parent x\n", A, C, "\n"]), Err(Flaw::BadCommit));
        assert_eq!(read(&[T, "author A\0 <a@b>\n", C, "\n"]), Err(Flaw::NulInHeader));
        assert_eq!(read(&[T, "author A"]), Err(Flaw::UnterminatedHeader));
        assert_eq!(read(&[]), Err(Flaw::UnterminatedHeader));
    }

    #[test]
    fn tags_give_their_target() {
        let object = "object aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n";
        let good = format!("{object}type commit\ntag v1\n\nmessage");
        assert_eq!(tag(good.as_bytes(), Hash::Sha1).unwrap().kind, Kind::Commit);
        for bad in ["type commit\ntag v1\n\n", "type nothing\ntag v1\n\n", "type commit\n\n"] {
            let text = if bad.starts_with("type commit\ntag") {
                bad.to_owned()
            } else {
                format!("{object}{bad}")
            };
            assert_eq!(tag(text.as_bytes(), Hash::Sha1), Err(Flaw::BadTag), "{text:?}");
        }
    }
}
