//! Names in archives.

use super::{ArchiveError, Limits};

/// Bytes of one component, as most file systems have it.
const MAX_NAME: usize = 255;

/// Where a name comes from: it decides what a backslash is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Zip,
    Tar,
}

/// A name as it may be shown: lossy, short, without control characters.
pub(super) fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut short: String = text
        .chars()
        .take(200)
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if text.chars().nth(200).is_some() {
        short.push('…');
    }
    format!("\"{short}\"")
}

fn unsafe_path(code: &'static str, name: &[u8], why: &str) -> ArchiveError {
    ArchiveError::new(code, format!("the archive has an entry {}, {why}", shown(name)))
}

/// The clean path of a name: components joined with `/`. Empty for the folder that
/// the archive itself is.
pub(super) fn clean(name: &[u8], from: From, limits: &Limits) -> Result<Vec<u8>, ArchiveError> {
    if name.contains(&0) {
        return Err(unsafe_path("nul_in_name", name, "whose name has a NUL byte in it"));
    }
    if name.len() > limits.path {
        return Err(ArchiveError::new(
            "path_too_long",
            format!("a path in the archive is longer than {} bytes", limits.path),
        ));
    }
    if name.starts_with(b"\\\\") || name.starts_with(b"//") {
        return Err(unsafe_path("windows_path", name, "whose name is a network path"));
    }
    if name.starts_with(b"/") || (from == From::Zip && name.starts_with(b"\\")) {
        return Err(unsafe_path("absolute_path", name, "whose name is an absolute path"));
    }
    if let [drive, b':', rest @ ..] = name
        && drive.is_ascii_alphabetic()
        && matches!(rest.first(), None | Some(b'/' | b'\\'))
    {
        return Err(unsafe_path("windows_path", name, "whose name is a path on a Windows drive"));
    }
    // What no tool writes by accident leads out on one system or another.
    if name.split(|byte| matches!(byte, b'/' | b'\\')).any(|part| part == b"..") {
        return Err(unsafe_path("path_traversal", name, "whose name leads out of the archive"));
    }
    let mut path = Vec::with_capacity(name.len());
    let mut depth = 0;
    let separator = |byte: &u8| *byte == b'/' || (from == From::Zip && *byte == b'\\');
    for part in name.split(separator) {
        if matches!(part, b"" | b".") {
            continue;
        }
        if part.len() > MAX_NAME {
            return Err(ArchiveError::new(
                "path_too_long",
                format!("a name in the archive is longer than {MAX_NAME} bytes: {}", shown(part)),
            ));
        }
        depth += 1;
        if depth > limits.depth {
            return Err(ArchiveError::new(
                "path_too_deep",
                format!("the archive has more than {} folders within folders", limits.depth),
            ));
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    Ok(path)
}

/// What is odd about a clean path, each oddity once.
pub(super) fn oddities(path: &[u8], mut each: impl FnMut(&'static str, &'static str)) {
    if std::str::from_utf8(path).is_err() {
        each("non_utf8_name", "the name is no UTF-8; it is kept byte for byte");
    }
    if path.iter().any(|byte| *byte < 0x20 || *byte == 0x7f) {
        each("control_character_in_name", "the name has a control character in it");
    }
    if path.contains(&b'\\') {
        each("backslash_in_name", "the name has a backslash, which Windows takes for a folder");
    }
    let mut windows = false;
    for part in path.split(|byte| *byte == b'/') {
        windows |= reserved_by_windows(part);
        if part != b".git" && is_like_git(part) {
            each("git_lookalike", "some file systems take this name for .git");
        }
    }
    if windows {
        each("reserved_name", "Windows cannot have a file of this name");
    }
}

/// `.git` as HFS+ and NTFS would read it.
fn is_like_git(part: &[u8]) -> bool {
    use gix_validate::path::component::{Error, Options};
    // Only these can be: most names are settled by their first byte.
    let may = match part.first() {
        Some(b'.') => true,
        Some(b'g' | b'G') => part.contains(&b'~'),
        Some(byte) => *byte >= 0x80,
        None => false,
    };
    let options = Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    may && matches!(
        gix_validate::path::component(part.into(), None, options),
        Err(Error::DotGitDir)
    )
}

/// [Names that Windows reserves](https://learn.microsoft.com/windows/win32/fileio/naming-a-file).
fn reserved_by_windows(part: &[u8]) -> bool {
    if part.iter().any(|byte| b"<>:\"|?*".contains(byte))
        || matches!(part.last(), Some(b'.' | b' '))
    {
        return true;
    }
    let stem = part.split(|byte| *byte == b'.').next().unwrap_or_default();
    let stem = stem.trim_ascii_end().to_ascii_lowercase();
    match stem.as_slice() {
        b"con" | b"prn" | b"aux" | b"nul" => true,
        [b'c', b'o', b'm', digit] | [b'l', b'p', b't', digit] => digit.is_ascii_digit(),
        _ => false,
    }
}

/// Whether a symbolic link at `path` leads out of the archive, by its text alone.
pub(super) fn leads_out(path: &[u8], target: &[u8]) -> bool {
    if target.starts_with(b"/") || target.starts_with(b"\\") {
        return true;
    }
    let mut depth = path.split(|byte| *byte == b'/').count() as i64 - 1;
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &[u8], from: From) -> Result<String, &'static str> {
        clean(name, from, &Limits::default())
            .map(|path| String::from_utf8_lossy(&path).into_owned())
            .map_err(|error| error.code())
    }

    #[test]
    fn each_bad_name_has_its_code() {
        for (name, code) in [
            (&b"../x"[..], "path_traversal"),
            (b"a/../../x", "path_traversal"),
            (b"a/..", "path_traversal"),
            (b"..\\x", "path_traversal"),
            (b"/etc/passwd", "absolute_path"),
            (b"//server/share", "windows_path"),
            (b"\\\\server\\share", "windows_path"),
            (b"C:\\x", "windows_path"),
            (b"c:/x", "windows_path"),
            (b"c:", "windows_path"),
            (b"a\0b", "nul_in_name"),
        ] {
            assert_eq!(of(name, From::Zip), Err(code), "{}", shown(name));
            assert_eq!(of(name, From::Tar), Err(code), "{}", shown(name));
        }
        assert_eq!(of(&[b'a'; 256], From::Tar), Err("path_too_long"));
        assert_eq!(of("a/".repeat(3000).as_bytes(), From::Tar), Err("path_too_long"));
        assert_eq!(of("a/".repeat(200).as_bytes(), From::Tar), Err("path_too_deep"));
    }

    #[test]
    fn names_are_cleaned_and_else_kept() {
        assert_eq!(of(b"./a//b/./c", From::Tar).unwrap(), "a/b/c");
        assert_eq!(of(b"./", From::Tar).unwrap(), "");
        assert_eq!(of(b"a\\b", From::Zip).unwrap(), "a/b");
        assert_eq!(of(b"a\\b", From::Tar).unwrap(), "a\\b");
        assert_eq!(of(b"a:b", From::Tar).unwrap(), "a:b");
        assert_eq!(of(b"...", From::Tar).unwrap(), "...");
    }

    #[test]
    fn odd_names_are_told() {
        let odd = |path: &[u8]| {
            let mut found = Vec::new();
            oddities(path, |code, _| found.push(code));
            found
        };
        assert_eq!(odd(b"src/main.rs"), [""; 0]);
        for name in [&b"con"[..], b"a/NUL.txt", b"COM1", b"x.", b"x ", b"a?b", b"f:stream"] {
            assert_eq!(odd(name), ["reserved_name"], "{}", shown(name));
        }
        assert_eq!(odd(b"console"), [""; 0]);
        assert_eq!(odd(b"a/.GIT/config"), ["git_lookalike"]);
        assert_eq!(odd(b"git~1"), ["git_lookalike"]);
        assert_eq!(odd(b"\xff"), ["non_utf8_name"]);
        assert_eq!(odd(b"a\nb"), ["control_character_in_name"]);
        assert_eq!(odd(b"a\\b"), ["backslash_in_name"]);
    }

    #[test]
    fn links_that_lead_out_are_told() {
        for (path, target, out) in [
            (&b"a"[..], &b"b"[..], false),
            (b"a/b", b"../c", false),
            (b"a", b"../c", true),
            (b"a/b", b"../../c", true),
            (b"a", b"/etc/passwd", true),
            (b"a/b", b"../x/../../y", true),
        ] {
            assert_eq!(leads_out(path, target), out);
        }
    }
}
