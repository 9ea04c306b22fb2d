//! What a key may look like: the same in every backend, so that nothing depends on
//! how a file system or a bucket treats unusual names.

use super::StorageError;

/// Most bytes of a key. S3 takes 1024; a prefix of its own must fit beside it.
pub const MAX_KEY: usize = 512;

/// Most bytes of one part, the limit of common file systems.
const MAX_PART: usize = 255;

/// The first part under which the folder backend keeps what is not finished.
pub(super) const RESERVED: &str = "tmp";

/// Accepts `a/b/c` with parts of `A-Z a-z 0-9 . _ -`, no part empty, `.` or `..`,
/// and the first one not `tmp`.
pub fn validate_key(key: &str) -> Result<&str, StorageError> {
    check(key).map(|()| key).map_err(|reason| invalid(key, reason))
}

/// Accepts what [`validate_key`] does with a `/` behind it, or nothing (everything).
pub fn validate_prefix(prefix: &str) -> Result<&str, StorageError> {
    if prefix.is_empty() {
        return Ok(prefix);
    }
    match prefix.strip_suffix('/') {
        None => Err(invalid(prefix, "a prefix ends with a slash")),
        Some(parts) => check(parts).map(|()| prefix).map_err(|reason| invalid(prefix, reason)),
    }
}

fn invalid(key: &str, reason: &'static str) -> StorageError {
    StorageError::InvalidKey { key: key.chars().take(80).collect(), reason }
}

fn check(key: &str) -> Result<(), &'static str> {
    if key.len() > MAX_KEY {
        return Err("it is longer than 512 bytes");
    }
    for (index, part) in key.split('/').enumerate() {
        if part.is_empty() {
            return Err("a part of it is empty");
        }
        if part.len() > MAX_PART {
            return Err("a part of it is longer than 255 bytes");
        }
        if part == "." || part == ".." {
            return Err("a part of it is . or ..");
        }
        if index == 0 && part == RESERVED {
            return Err("tmp is kept for unfinished objects");
        }
        if !part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            return Err("only letters, digits, dot, underscore, hyphen and slash may be in it");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_plain_paths_and_nothing_else() {
        for good in ["a", "packs/0190/pack-1.idx", "a/.b/c_d", "x/tmp/y", "tmpx/y"] {
            assert!(validate_key(good).is_ok(), "{good}");
        }
        let long = "a/".repeat(256) + "b";
        let long_part = "a".repeat(256);
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "a/./b",
            "a b",
            "a\\b",
            "a\0",
            "ä",
            "tmp",
            "tmp/x",
            "a:b",
            "a\nb",
            long.as_str(),
            long_part.as_str(),
        ] {
            assert!(
                matches!(validate_key(bad), Err(StorageError::InvalidKey { .. })),
                "{bad:?} was accepted"
            );
        }
    }

    #[test]
    fn prefixes_end_with_a_slash() {
        for good in ["", "a/", "packs/x/"] {
            assert!(validate_prefix(good).is_ok(), "{good}");
        }
        for bad in ["a", "/", "a//", "../", "tmp/"] {
            assert!(validate_prefix(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
