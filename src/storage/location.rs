//! What `SLUICE_STORAGE` may say.

use std::path::PathBuf;

use super::key::validate_prefix;

/// Most bytes of a prefix: a key of S3 has at most 1024, ours has 512 of them.
const MAX_PREFIX: usize = 500;

/// Where objects are to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `file://DIR`.
    Folder(PathBuf),
    /// `s3://BUCKET[/PREFIX]`.
    Bucket {
        /// Its name.
        bucket: String,
        /// Empty, or with a slash at its end.
        prefix: String,
    },
}

impl Location {
    /// Reads an address.
    ///
    /// # Errors
    ///
    /// What is wrong with it. The address is not repeated, as it might carry credentials.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        match url.split_once("://") {
            Some(("file", dir)) if !dir.is_empty() => Ok(Self::Folder(dir.into())),
            Some(("file", _)) => Err("the folder is missing"),
            Some(("s3", rest)) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                check_bucket(bucket)?;
                let prefix = prefix.trim_end_matches('/');
                let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
                if prefix.len() > MAX_PREFIX {
                    return Err("the prefix is too long");
                }
                // Below another one, since only the first part of a key is special.
                validate_prefix(&format!("x/{prefix}")).map_err(
                    |_| "the prefix may hold letters, digits, dot, underscore, hyphen and slash",
                )?;
                Ok(Self::Bucket { bucket: bucket.to_owned(), prefix })
            }
            _ => Err("it must start with file:// or s3://"),
        }
    }
}

fn check_bucket(name: &str) -> Result<(), &'static str> {
    let end = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = name.as_bytes();
    if (3..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'))
        && end(bytes.first())
        && end(bytes.last())
    {
        Ok(())
    } else {
        Err("the bucket must have 3 to 63 small letters, digits, dots and hyphens")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_buckets_are_told_apart() {
        assert_eq!(Location::parse("file://x/y"), Ok(Location::Folder("x/y".into())));
        let bucket = |bucket: &str, prefix: &str| {
            Ok(Location::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
        };
        assert_eq!(Location::parse("s3://my-bucket"), bucket("my-bucket", ""));
        assert_eq!(Location::parse("s3://my-bucket/"), bucket("my-bucket", ""));
        assert_eq!(Location::parse("s3://my.bucket/a/b"), bucket("my.bucket", "a/b/"));
        assert_eq!(Location::parse("s3://my.bucket/tmp/b/"), bucket("my.bucket", "tmp/b/"));
    }

    #[test]
    fn what_is_neither_is_refused_without_repeating_it() {
        let long = format!("s3://bucket/{}", "a/".repeat(300));
        for bad in [
            "",
            "objects",
            "file://",
            "file:x",
            "ftp://x",
            "s3://",
            "s3:///prefix",
            "s3://ab",
            "s3://Bucket",
            "s3://-bucket",
            "s3://key:secret@bucket",
            "s3://bucket/../x",
            "s3://bucket//x",
            "s3://bucket/a b",
            long.as_str(),
        ] {
            let why = Location::parse(bad).unwrap_err();
            assert!(!why.contains("secret"), "{bad}");
        }
    }
}
