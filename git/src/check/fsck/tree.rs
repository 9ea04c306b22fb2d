//! Trees: modes, names and their order.

use std::collections::HashSet;

use gix_validate::path::component;

use super::{Message, Refused, Report};

/// Longer names are refused.
const MAX_NAME: usize = 4096;

/// An entry as it stands in the tree.
struct Entry<'a> {
    mode: &'a [u8],
    bits: u32,
    name: &'a [u8],
    id: &'a [u8],
}

impl Entry<'_> {
    fn is_tree(&self) -> bool {
        self.bits & 0o170_000 == 0o040_000
    }

    fn is_link(&self) -> bool {
        self.bits & 0o170_000 == 0o120_000
    }
}

fn split(data: &[u8], width: usize) -> Option<(Entry<'_>, &[u8])> {
    let space = data.iter().take(8).position(|byte| *byte == b' ')?;
    let (mode, rest) = (data.get(..space)?, data.get(space + 1..)?);
    let nul = rest.iter().position(|byte| *byte == 0)?;
    let (name, rest) = (rest.get(..nul)?, rest.get(nul + 1..)?);
    let (id, behind) = rest.split_at_checked(width)?;
    let bits = mode.iter().try_fold(0_u32, |bits, digit| {
        (b'0'..=b'7').contains(digit).then(|| bits * 8 + u32::from(digit - b'0'))
    })?;
    (!mode.is_empty()).then_some((Entry { mode, bits, name, id }, behind))
}

/// Files that git itself reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Modules,
    Attributes,
}

/// Whether some file system takes a name for that of a file that git reads.
pub(crate) fn special(name: &[u8]) -> Option<Special> {
    if name.eq_ignore_ascii_case(b".gitattributes") {
        return Some(Special::Attributes);
    }
    (name == b".gitmodules" || named(name) == Some(Named::Modules)).then_some(Special::Modules)
}

#[derive(PartialEq, Eq)]
enum Named {
    DotGit,
    Modules,
}

fn named(name: &[u8]) -> Option<Named> {
    let options =
        component::Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    match gix_validate::path::component(name.into(), Some(component::Mode::Symlink), options) {
        Err(component::Error::DotGitDir) => Some(Named::DotGit),
        Err(component::Error::SymlinkedGitModules) => Some(Named::Modules),
        _ => None,
    }
}

pub(super) fn check(
    data: &[u8],
    hash: gix_hash::Kind,
    report: &mut Report<'_>,
) -> Result<(), Refused> {
    let mut seen: Vec<Message> = Vec::new();
    let mut note = |message, is: bool| {
        if is && !seen.contains(&message) {
            seen.push(message);
        }
    };
    let mut names = HashSet::new();
    let mut last: Option<Entry<'_>> = None;
    let mut rest = data;
    while !rest.is_empty() {
        let Some((entry, behind)) = split(rest, hash.len_in_bytes()) else {
            return report.say(Message::BadTree, "cannot be parsed as a tree");
        };
        rest = behind;
        let name = entry.name;
        note(Message::NullSha1, entry.id.iter().all(|byte| *byte == 0));
        note(Message::FullPathname, name.contains(&b'/'));
        note(Message::EmptyName, name.is_empty());
        note(Message::HasDot, name == b".");
        note(Message::HasDotdot, name == b"..");
        // A backslash separates on Windows, so what stands behind one counts too.
        let mut parts = name.split(|byte| *byte == b'\\');
        note(Message::HasDotgit, parts.any(|part| named(part) == Some(Named::DotGit)));
        note(Message::ZeroPaddedFilemode, entry.mode.starts_with(b"0"));
        let known = matches!(entry.bits, 0o100_644 | 0o100_755 | 0o120_000 | 0o040_000 | 0o160_000);
        note(Message::BadFilemode, !known);
        note(Message::LargePathname, name.len() > MAX_NAME);
        if entry.is_tree() {
            note(Message::GitmodulesBlob, special(name) == Some(Special::Modules));
            note(Message::GitattributesBlob, special(name) == Some(Special::Attributes));
        }
        if entry.is_link() {
            let lower = name.to_ascii_lowercase();
            note(Message::GitmodulesSymlink, named(name) == Some(Named::Modules));
            note(Message::GitattributesSymlink, lower == b".gitattributes");
            note(Message::GitignoreSymlink, lower == b".gitignore");
            note(Message::MailmapSymlink, lower == b".mailmap");
        }
        note(Message::DuplicateEntries, !names.insert(name));
        if let Some(last) = &last {
            let key = |entry: &Entry<'_>| {
                let slash: &[u8] = if entry.is_tree() { b"/" } else { b"" };
                [entry.name, slash].concat()
            };
            note(Message::TreeNotSorted, last.name != name && key(last) > key(&entry));
        }
        last = Some(entry);
    }
    for message in seen {
        report.say(message, text(message))?;
    }
    Ok(())
}

fn text(message: Message) -> &'static str {
    match message {
        Message::NullSha1 => "contains entries pointing to null sha1",
        Message::FullPathname => "contains full pathnames",
        Message::EmptyName => "contains empty pathname",
        Message::HasDot => "contains '.'",
        Message::HasDotdot => "contains '..'",
        Message::HasDotgit => "contains '.git'",
        Message::ZeroPaddedFilemode => "contains zero-padded file modes",
        Message::BadFilemode => "contains bad file modes",
        Message::DuplicateEntries => "contains duplicate file entries",
        Message::TreeNotSorted => "not properly sorted",
        Message::LargePathname => "contains excessively large pathname",
        Message::GitmodulesBlob => "non-blob found at .gitmodules",
        Message::GitattributesBlob => "non-blob found at .gitattributes",
        Message::GitmodulesSymlink => ".gitmodules is a symbolic link",
        Message::GitattributesSymlink => ".gitattributes is a symlink",
        Message::GitignoreSymlink => ".gitignore is a symlink",
        Message::MailmapSymlink => ".mailmap is a symlink",
        _ => "is not sound",
    }
}

#[cfg(test)]
mod tests {
    use gix_hash::ObjectId;

    use super::{super::Levels, *};

    fn check_all(entries: &[(&str, &str)]) -> String {
        let mut data = Vec::new();
        for (mode, name) in entries {
            data.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            data.extend_from_slice(&[1; 32]);
        }
        let hash = gix_hash::Kind::Sha256;
        let id = ObjectId::null(hash);
        let levels = Levels::default();
        let mut warnings = Vec::new();
        let mut warn = |text| warnings.push(text);
        let result = check(&data, hash, &mut Report::new(&levels, &id, &mut warn));
        let text = result.err().or_else(|| warnings.first().cloned()).unwrap_or_default();
        text.split(": ").find(|part| !part.contains(' ') && *part != "warning").unwrap_or("").into()
    }

    #[test]
    fn every_message() {
        let good = [("100644", "a"), ("100644", "a.b"), ("40000", "a0"), ("160000", "b")];
        assert_eq!(check_all(&good), "");
        for (mode, name, message) in [
            ("100644", "a/b", "fullPathname"),
            ("100644", "", "emptyName"),
            ("40000", ".", "hasDot"),
            ("40000", "..", "hasDotdot"),
            ("40000", ".GIT", "hasDotgit"),
            ("40000", "git~1", "hasDotgit"),
            ("40000", "x\\.git", "hasDotgit"),
            ("0100644", "a", "zeroPaddedFilemode"),
            ("100600", "a", "badFilemode"),
            ("120000", ".gitmodules", "gitmodulesSymlink"),
            ("40000", ".gitmodules", "gitmodulesBlob"),
            ("40000", ".gitattributes", "gitattributesBlob"),
            ("120000", ".gitignore", "gitignoreSymlink"),
            ("10064x", "a", "badTree"),
            ("100644", &"x".repeat(4097), "largePathname"),
        ] {
            assert_eq!(check_all(&[(mode, name)]), message, "{name}");
        }
        assert_eq!(check_all(&[("100644", "a"), ("40000", "a")]), "duplicateEntries");
        assert_eq!(check_all(&[("100644", "b"), ("100644", "a")]), "treeNotSorted");
        assert_eq!(special(b".gitmodules"), Some(Special::Modules));
        assert_eq!(special(b".GITATTRIBUTES"), Some(Special::Attributes));
    }
}
