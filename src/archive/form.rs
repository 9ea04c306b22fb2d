//! What a file is, by its first bytes.

use super::ArchiveError;

/// Bytes that [`sniff`] needs to be sure; fewer are an archive only if the file is as
/// short.
pub const SNIFF: usize = 512;

/// The forms that are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// zip, zip64 included.
    Zip,
    /// tar as it is.
    Tar,
    /// Compressed with gzip.
    Gzip,
    /// Compressed with zstd.
    Zstd,
    /// Compressed with xz.
    Xz,
    /// Compressed with bzip2.
    Bzip2,
}

impl Form {
    /// The media type that such a file is served with.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Zip => "application/zip",
            Self::Tar => "application/x-tar",
            Self::Gzip => "application/gzip",
            Self::Zstd => "application/zstd",
            Self::Xz => "application/x-xz",
            Self::Bzip2 => "application/x-bzip2",
        }
    }
}

/// What is taken, for sentences.
const TAKEN: &str = "send a zip, tar, tar.gz, tar.zst, tar.xz or tar.bz2";

/// Forms that people try and that are not taken.
const OTHERS: &[(&[u8], &str)] = &[
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a rar archive"),
    (b"LZIP", "an lzip file"),
    (b"\x04\x22\x4d\x18", "an lz4 file"),
    (b"\x1f\x9d", "a file of compress (.Z)"),
    (b"# v2 git bundle", "a git bundle"),
    (b"# v3 git bundle", "a git bundle"),
    (b"PACK", "a git pack"),
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a Linux program"),
    (b"%PDF", "a PDF document"),
    (b"<!DOCTYPE", "a web page"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"070701", "a cpio archive"),
    (b"!<arch>\n", "an ar archive"),
];

/// Tells the form by the first [`SNIFF`] bytes.
///
/// # Errors
///
/// `unsupported_archive` for everything that is none of them, `multi_part_archive` for
/// a part of a split zip.
pub fn sniff(head: &[u8]) -> Result<Form, ArchiveError> {
    if head.is_empty() {
        return Err(ArchiveError::new(
            "unsupported_archive",
            format!("the file is empty: {TAKEN}"),
        ));
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Ok(Form::Zip);
    }
    if head.starts_with(b"PK\x07\x08") {
        return Err(ArchiveError::new(
            "multi_part_archive",
            "the file is a part of a zip archive that was split: send it in one piece",
        ));
    }
    if let Some(form) = compression(head) {
        return Ok(form);
    }
    if is_tar(head) {
        return Ok(Form::Tar);
    }
    let what = OTHERS.iter().find(|(magic, _)| head.starts_with(magic));
    Err(ArchiveError::new(
        "unsupported_archive",
        match what {
            Some((_, what)) => format!("the file is {what}, which is not taken: {TAKEN}"),
            None => format!("the file is no archive of a known form: {TAKEN}"),
        },
    ))
}

/// The compression around something, by its magic.
pub(super) fn compression(head: &[u8]) -> Option<Form> {
    match head {
        [0x1f, 0x8b, 8, ..] => Some(Form::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Form::Zstd),
        // A skippable frame, with which parallel compressors begin.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Form::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Form::Xz),
        [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..]
            if rest.starts_with(b"1AY&SY") || rest.starts_with(b"\x17\x72\x45\x38\x50\x90") =>
        {
            Some(Form::Bzip2)
        }
        _ => None,
    }
}

/// A block with the checksum of a tar header, or one of zeros, with which an empty
/// archive begins. The magic `ustar` is missing in the oldest form.
pub(super) fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.first_chunk::<512>() else { return false };
    block.iter().all(|byte| *byte == 0) || super::tar::checksum_is_right(block)
}
