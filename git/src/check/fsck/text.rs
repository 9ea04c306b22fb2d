//! Commits and tags: lines of text with a blank line behind them.

use gix_object::Kind;

use super::{Message, Refused, Report};

/// The lines that were not looked at yet.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    /// The rest of the next line if it begins with `key`; then it is behind us.
    fn take(&mut self, key: &[u8]) -> Option<&'a [u8]> {
        let rest = self.rest.strip_prefix(key)?;
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let (line, behind) = rest.split_at_checked(end)?;
        self.rest = behind.strip_prefix(b"\n").unwrap_or(behind);
        Some(line)
    }
}

fn is_id(hex: &[u8], hash: gix_hash::Kind) -> bool {
    crate::object_id(hex, hash).is_some()
}

/// A header ends with a blank line, or at the end of the object with a newline.
fn headers(data: &[u8], report: &mut Report<'_>) -> Result<(), Refused> {
    let mut last = 0;
    for (at, byte) in data.iter().enumerate() {
        match byte {
            0 => {
                let text = format!("unterminated header: NUL at offset {at}");
                return report.say(Message::NulInHeader, &text);
            }
            b'\n' if last == b'\n' => return Ok(()),
            _ => last = *byte,
        }
    }
    if last == b'\n' {
        return Ok(());
    }
    report.say(Message::UnterminatedHeader, "unterminated header")
}

pub(super) fn commit(
    data: &[u8],
    hash: gix_hash::Kind,
    report: &mut Report<'_>,
) -> Result<(), Refused> {
    headers(data, report)?;
    let mut lines = Lines { rest: data };
    let Some(tree) = lines.take(b"tree ") else {
        return report.say(Message::MissingTree, "invalid format - expected 'tree' line");
    };
    if !is_id(tree, hash) {
        report.say(Message::BadTreeSha1, "invalid 'tree' line format - bad sha1")?;
    }
    while let Some(parent) = lines.take(b"parent ") {
        if !is_id(parent, hash) {
            report.say(Message::BadParentSha1, "invalid 'parent' line format - bad sha1")?;
        }
    }
    let mut authors = 0;
    while let Some(author) = lines.take(b"author ") {
        authors += 1;
        identity(author, report)?;
    }
    match authors {
        0 => report.say(Message::MissingAuthor, "invalid format - expected 'author' line")?,
        1 => {}
        _ => report.say(Message::MultipleAuthors, "invalid format - multiple 'author' lines")?,
    }
    let Some(committer) = lines.take(b"committer ") else {
        let text = "invalid format - expected 'committer' line";
        return report.say(Message::MissingCommitter, text);
    };
    identity(committer, report)?;
    if data.contains(&0) {
        report.say(Message::NulInCommit, "NUL byte in the commit object body")?;
    }
    Ok(())
}

pub(super) fn tag(
    data: &[u8],
    hash: gix_hash::Kind,
    report: &mut Report<'_>,
) -> Result<(), Refused> {
    headers(data, report)?;
    let mut lines = Lines { rest: data };
    let Some(object) = lines.take(b"object ") else {
        return report.say(Message::MissingObject, "invalid format - expected 'object' line");
    };
    if !is_id(object, hash) {
        report.say(Message::BadObjectSha1, "invalid 'object' line format - bad sha1")?;
    }
    let Some(kind) = lines.take(b"type ") else {
        return report.say(Message::MissingTypeEntry, "invalid format - expected 'type' line");
    };
    if Kind::from_bytes(kind).is_err() {
        report.say(Message::BadType, "invalid 'type' value")?;
    }
    if lines.rest.is_empty() {
        let text = "invalid format - unexpected end after 'type' line";
        return report.say(Message::MissingTag, text);
    }
    let Some(name) = lines.take(b"tag ") else {
        return report.say(Message::MissingTagEntry, "invalid format - expected 'tag' line");
    };
    let full = [b"refs/tags/", name].concat();
    if gix_validate::reference::name(full.as_slice().into()).is_err() {
        let shown: String = String::from_utf8_lossy(name).chars().take(100).collect();
        report.say(Message::BadTagName, &format!("invalid 'tag' name: {shown}"))?;
    }
    match lines.take(b"tagger ") {
        None => {
            let text = "invalid format - expected 'tagger' line";
            report.say(Message::MissingTaggerEntry, text)?;
        }
        Some(tagger) => identity(tagger, report)?,
    }
    for key in [b"gpgsig ".as_slice(), b"gpgsig-sha256 "] {
        if lines.take(key).is_some() {
            while lines.take(b" ").is_some() {}
        }
    }
    if !lines.rest.is_empty() && !lines.rest.starts_with(b"\n") {
        let text = "invalid format - extra header(s) after 'tagger'";
        report.say(Message::ExtraHeaderEntry, text)?;
    }
    Ok(())
}

/// `Name <email> seconds +zone`. Only the first thing that is wrong is said.
fn identity(line: &[u8], report: &mut Report<'_>) -> Result<(), Refused> {
    match wrong(line) {
        None => Ok(()),
        Some((message, what)) => {
            report.say(message, &format!("invalid author/committer line - {what}"))
        }
    }
}

fn wrong(line: &[u8]) -> Option<(Message, &'static str)> {
    let bracket = |text: &[u8]| text.iter().position(|byte| matches!(byte, b'<' | b'>'));
    if line.first() == Some(&b'<') {
        return Some((Message::MissingNameBeforeEmail, "missing space before email"));
    }
    let Some(open) = bracket(line) else {
        return Some((Message::MissingEmail, "missing email"));
    };
    let (name, email) = line.split_at_checked(open)?;
    if email.first() == Some(&b'>') {
        return Some((Message::BadName, "bad name"));
    }
    if name.last() != Some(&b' ') {
        return Some((Message::MissingSpaceBeforeEmail, "missing space before email"));
    }
    let email = email.get(1..)?;
    let Some((email, rest)) = bracket(email).and_then(|close| email.split_at_checked(close)) else {
        return Some((Message::BadEmail, "bad email"));
    };
    let _ = email;
    let Some(rest) = rest.strip_prefix(b">") else {
        return Some((Message::BadEmail, "bad email"));
    };
    let Some(date) = rest.strip_prefix(b" ") else {
        return Some((Message::MissingSpaceBeforeDate, "missing space before date"));
    };
    if date.first() == Some(&b'0') && date.get(1) != Some(&b' ') {
        return Some((Message::ZeroPaddedDate, "zero-padded date"));
    }
    let end = date.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(date.len());
    let (digits, zone) = date.split_at_checked(end)?;
    let seconds = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<i64>().ok());
    if !digits.is_empty() && seconds.is_none() {
        return Some((Message::BadDateOverflow, "date causes integer overflow"));
    }
    let Some(zone) = zone.strip_prefix(b" ").filter(|_| seconds.is_some()) else {
        return Some((Message::BadDate, "bad date"));
    };
    let sound = matches!(zone, [b'+' | b'-', digits @ ..]
        if digits.len() == 4 && digits.iter().all(u8::is_ascii_digit));
    (!sound).then_some((Message::BadTimezone, "bad time zone"))
}

#[cfg(test)]
mod tests {
    use gix_hash::ObjectId;

    use super::super::{Levels, object};
    use super::*;

    const HASH: gix_hash::Kind = gix_hash::Kind::Sha1;
    const T: &str = "tree aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n";
    const A: &str = "author A <a@b> 1 +0000\n";
    const C: &str = "committer A <a@b> 1 +0000\n";
    const O: &str = "object aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\ntype commit\n";

    /// The name of the message that refuses the object or else of the first warning; empty if none.
    fn check(kind: Kind, parts: &[&str]) -> String {
        let id = ObjectId::null(HASH);
        let levels = Levels::default();
        let mut warnings = Vec::new();
        let mut warn = |text| warnings.push(text);
        let mut report = Report::new(&levels, &id, &mut warn);
        let result = object(kind, parts.concat().as_bytes(), HASH, &mut report);
        let text = result.err().or_else(|| warnings.first().cloned()).unwrap_or_default();
        text.split(": ").find(|part| !part.contains(' ') && *part != "warning").unwrap_or("").into()
    }

    #[test]
    fn commits() {
        let commit = |parts: &[&str]| check(Kind::Commit, parts);
        assert_eq!(commit(&[T, A, C, "\nhi"]), "");
        assert_eq!(commit(&[T, A, C]), "");
        assert_eq!(commit(&[A, C, "\n"]), "missingTree");
        assert_eq!(commit(&["tree abc\n", A, C, "\n"]), "badTreeSha1");
        assert_eq!(commit(&[T, "parent x\n", A, C, "\n"]), "badParentSha1");
        assert_eq!(commit(&[T, C, "\n"]), "missingAuthor");
        assert_eq!(commit(&[T, A, A, C, "\n"]), "multipleAuthors");
        assert_eq!(commit(&[T, A, "\n"]), "missingCommitter");
        assert_eq!(commit(&[T, A, C, "\nhi\0"]), "nulInCommit");
        assert_eq!(commit(&[T, "\0", A, C, "\n"]), "nulInHeader");
        assert_eq!(commit(&[T, "author"]), "unterminatedHeader");
    }

    #[test]
    fn identities() {
        for (line, message) in [
            ("<a@b> 1 +0000", "missingNameBeforeEmail"),
            ("A> <a@b> 1 +0000", "badName"),
            ("A 1 +0000", "missingEmail"),
            ("A<a@b> 1 +0000", "missingSpaceBeforeEmail"),
            ("A <a<b> 1 +0000", "badEmail"),
            ("A <a@b", "badEmail"),
            ("A <a@b>1 +0000", "missingSpaceBeforeDate"),
            ("A <a@b> 01 +0000", "zeroPaddedDate"),
            ("A <a@b> x +0000", "badDate"),
            ("A <a@b> 1", "badDate"),
            ("A <a@b> 99999999999999999999 +0000", "badDateOverflow"),
            ("A <a@b> 1 0000", "badTimezone"),
            ("A <a@b> 1 +00000", "badTimezone"),
            (" <> 0 +0000", ""),
        ] {
            let author = format!("author {line}\n");
            assert_eq!(check(Kind::Commit, &[T, &author, C, "\n"]), message, "{line}");
        }
    }

    #[test]
    fn tags() {
        let tag = |parts: &[&str]| check(Kind::Tag, parts);
        let tagger = "tagger A <a@b> 1 +0000\n";
        assert_eq!(tag(&[O, "tag v1\n", tagger, "\nhi"]), "");
        assert_eq!(tag(&[O, "tag v1\n", tagger, "gpgsig x\n y\n", "\nhi"]), "");
        assert_eq!(tag(&["tag v1\n", tagger, "\n"]), "missingObject");
        assert_eq!(tag(&["object x\n", "\n"]), "badObjectSha1");
        assert_eq!(tag(&[&O[..48], "tag v1\n\n"]), "missingTypeEntry");
        assert_eq!(tag(&[&O[..48], "type x\n", "\n"]), "badType");
        assert_eq!(tag(&[O]), "missingTag");
        assert_eq!(tag(&[O, "\n"]), "missingTagEntry");
        assert_eq!(tag(&[O, "tag a..b\n", tagger, "\n"]), "badTagName");
        assert_eq!(tag(&[O, "tag v1\n", "\n"]), "missingTaggerEntry");
        let more = [O, "tag v1\n", tagger, "more x\n", "\n"];
        assert_eq!(tag(&more), "", "git ignores it by itself");
    }
}
