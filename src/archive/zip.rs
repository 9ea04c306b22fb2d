//! Walks a zip.
//!
//! Reads the directory at the end, compares it with the header before each entry, and
//! only then inflates. It is read by hand and not by a library, because the libraries
//! answer with one of two entries of a name, believe the directory or the header but
//! do not compare them, and do not tell entries that lie on each other; those
//! contradictions are what hostile archives are made of.

mod directory;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use super::budget::{Budget, Metered};
use super::path::{self, From, shown};
use super::{ArchiveError, MAX_WINDOW, Sink, stream, tar};
use directory::{Directory, Item};

const BUFFER: usize = 1 << 16;

/// The header before an entry, without its name and extra fields.
const LOCAL_HEADER: usize = 30;

/// The largest window of zstd, as a power of two, that stays below the limit.
const ZSTD_WINDOW_LOG: u32 = MAX_WINDOW.ilog2();

pub(super) fn walk(
    file: &File,
    packed: u64,
    budget: &Budget<'_>,
    sink: &mut dyn Sink,
) -> Result<(), ArchiveError> {
    let mut directory = directory::read(file, packed, budget)?;
    if directory.items.is_empty() {
        return Err(stream::empty());
    }
    if let Some(id) = super::collect::commit_id(&directory.comment) {
        sink.commit(id);
    }
    directory.items.sort_by_key(|item| item.offset);
    // Everything that can be told without inflating comes first.
    for item in &directory.items {
        check(item, budget)?;
    }
    let total = directory.items.iter().fold(0u64, |sum, item| sum.saturating_add(item.size));
    budget.announce(total)?;
    let starts = locate(file, &directory, budget)?;
    for (item, start) in directory.items.iter().zip(starts) {
        budget.alive()?;
        entry(file, item, start, budget, sink)?;
    }
    Ok(())
}

fn check(item: &Item, budget: &Budget<'_>) -> Result<(), ArchiveError> {
    let name = &item.name;
    // Bit 0: encrypted; 6: strongly; 13: the directory is. Method 99 is AES of WinZip.
    if item.flags & 0b10_0000_0100_0001 != 0 || item.method == 99 {
        return Err(ArchiveError::new(
            "encrypted_archive",
            format!("{} is encrypted: send the archive without a password", shown(name)),
        ));
    }
    if item.flags & 1 << 5 != 0 {
        return Err(unsupported(name, "patched data"));
    }
    if !matches!(item.method, 0 | 8 | 9 | 12 | 20 | 93) {
        let method = match item.method {
            1 => "shrink".to_owned(),
            2..=5 => "reduce".to_owned(),
            6 => "implode".to_owned(),
            14 => "LZMA".to_owned(),
            95 => "xz".to_owned(),
            98 => "PPMd".to_owned(),
            other => format!("method {other}"),
        };
        return Err(unsupported(name, &method));
    }
    if item.method == 0 && item.packed != item.size {
        return Err(ArchiveError::lying(format!(
            "{} is stored as it is, in {} bytes, and said to have {}",
            shown(name),
            item.packed,
            item.size
        )));
    }
    budget.file(name, item.size)
}

fn unsupported(name: &[u8], method: &str) -> ArchiveError {
    ArchiveError::new(
        "unsupported_method",
        format!(
            "{} is compressed with {method}, which is not taken: use deflate, bzip2 or zstd",
            shown(name)
        ),
    )
}

/// Where the bytes of each entry begin. Compares the headers with the directory, and
/// makes sure that no two entries share a byte.
fn locate(
    file: &File,
    directory: &Directory,
    budget: &Budget<'_>,
) -> Result<Vec<u64>, ArchiveError> {
    let mut starts = Vec::with_capacity(directory.items.len());
    let mut reader = BufReader::with_capacity(BUFFER, file);
    let mut free = 0u64;
    let mut name = Vec::new();
    for item in &directory.items {
        budget.alive()?;
        if item.offset >= directory.start {
            return Err(ArchiveError::lying(format!(
                "the directory places {} behind all entries",
                shown(&item.name)
            )));
        }
        if item.offset < free {
            return Err(ArchiveError::new(
                "overlapping_entries",
                format!("{} overlaps the entry before it", shown(&item.name)),
            ));
        }
        let mut header = [0; LOCAL_HEADER];
        let mut read = || -> io::Result<()> {
            let at = reader.stream_position()?;
            reader.seek_relative(item.offset as i64 - at as i64)?;
            reader.read_exact(&mut header)?;
            name.clear();
            let length = u64::from(u16::from_le_bytes([header[26], header[27]]));
            (&mut reader).take(length).read_to_end(&mut name)?;
            Ok(())
        };
        read().map_err(|error| ArchiveError::reading(error, &item.name))?;
        let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let long = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if header[..4] != *b"PK\x03\x04" {
            return Err(ArchiveError::lying(format!(
                "the directory places {} where no entry is",
                shown(&item.name)
            )));
        }
        let differ = |what: &str| {
            ArchiveError::lying(format!(
                "the header of {} gives another {what} than the directory",
                shown(&item.name)
            ))
        };
        if name != item.name {
            return Err(differ("name"));
        }
        if word(8) != item.method || (word(6) ^ item.flags) & 1 != 0 {
            return Err(differ("method"));
        }
        // Bit 3: sizes and checksum follow the contents, and may be zero here. All
        // ones: they are in an extra field.
        let later = word(6) & 1 << 3 != 0;
        let same =
            |said: u32, is: u64| u64::from(said) == is || said == u32::MAX || (later && said == 0);
        if !same(long(18), item.packed) || !same(long(22), item.size) {
            return Err(differ("size"));
        }
        if long(14) != item.crc && !(later && long(14) == 0) {
            return Err(differ("checksum"));
        }
        let start = item.offset + LOCAL_HEADER as u64 + u64::from(word(26)) + u64::from(word(28));
        let end = start.checked_add(item.packed).filter(|end| *end <= directory.start);
        free = end.ok_or_else(|| {
            ArchiveError::new(
                "overlapping_entries",
                format!("{} reaches into the directory of the archive", shown(&item.name)),
            )
        })?;
        starts.push(start);
    }
    Ok(starts)
}

/// What an entry is.
enum Kind {
    File { executable: bool },
    Folder,
    Link,
    Special,
}

fn kind(item: &Item) -> Kind {
    let folder = item.name.ends_with(b"/") || item.name.ends_with(b"\\");
    // Made on Unix (3) or macOS (19): the mode is in the upper half.
    if matches!(item.host, 3 | 19) && item.attributes >> 16 != 0 {
        let mode = item.attributes >> 16;
        return match mode & 0o170_000 {
            0o120_000 => Kind::Link,
            0o040_000 => Kind::Folder,
            0o100_000 | 0 if !folder => Kind::File { executable: mode & 0o111 != 0 },
            0o100_000 | 0 => Kind::Folder,
            _ => Kind::Special,
        };
    }
    if folder { Kind::Folder } else { Kind::File { executable: false } }
}

fn entry(
    file: &File,
    item: &Item,
    start: u64,
    budget: &Budget<'_>,
    sink: &mut dyn Sink,
) -> Result<(), ArchiveError> {
    let path = path::clean(&item.name, From::Zip, budget.limits)?;
    if item.name.contains(&b'\\') {
        sink.note(
            "backslash_separator",
            "the name has backslashes between folders; they were read as slashes",
            &path,
        );
    }
    let kind = kind(item);
    if matches!(kind, Kind::Folder) {
        if item.size > 0 {
            return Err(ArchiveError::lying(format!(
                "{} is a folder and said to have {} bytes",
                shown(&item.name),
                item.size
            )));
        }
        return if path.is_empty() { Ok(()) } else { sink.folder(&path) };
    }
    if path.is_empty() {
        return Err(ArchiveError::new("empty_name", "the archive has an entry without a name"));
    }
    if matches!(kind, Kind::Special) {
        sink.note("special_file", "it is a device or a pipe and was left out", &path);
        return Ok(());
    }
    let mut file = file;
    file.seek(SeekFrom::Start(start)).map_err(ArchiveError::Io)?;
    let raw = BufReader::with_capacity(BUFFER, file.take(item.packed));
    let inner: Box<dyn Read + '_> = match item.method {
        0 => Box::new(raw),
        8 => Box::new(flate2::bufread::DeflateDecoder::new(raw)),
        9 => Box::new(deflate64::Deflate64Decoder::with_buffer(raw)),
        12 => Box::new(bzip2::bufread::BzDecoder::new(raw)),
        _ => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(raw).map_err(ArchiveError::Io)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(ArchiveError::Io)?;
            Box::new(decoder)
        }
    };
    let mut content = Content {
        inner: Metered { inner, budget },
        left: item.size,
        crc: crc32fast::Hasher::new(),
    };
    match kind {
        Kind::File { executable } => sink.file(&path, executable, item.size, &mut content)?,
        Kind::Link => {
            if item.size > budget.limits.path as u64 {
                return Err(ArchiveError::new(
                    "bad_link",
                    format!("the target of the link {} is too long", shown(&path)),
                ));
            }
            let mut target = Vec::new();
            content
                .read_to_end(&mut target)
                .map_err(|error| ArchiveError::reading(error, &item.name))?;
            sink.symlink(&path, &tar::target(&path, target, budget)?)?;
        }
        Kind::Folder | Kind::Special => {}
    }
    content.end(item)
}

/// The contents of an entry: as many bytes as were promised, and their checksum.
struct Content<R> {
    inner: R,
    left: u64,
    crc: crc32fast::Hasher,
}

impl<R: Read> Read for Content<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let Some(buf) = buf.get_mut(..most).filter(|buf| !buf.is_empty()) else { return Ok(0) };
        let read = self.inner.read(buf)?;
        self.left -= read as u64;
        self.crc.update(buf.get(..read).unwrap_or_default());
        if read == 0 {
            return Err(ArchiveError::lying("an entry has fewer bytes than its header says").into());
        }
        Ok(read)
    }
}

impl<R: Read> Content<R> {
    /// Reads what was left, and makes sure that this was all.
    fn end(mut self, item: &Item) -> Result<(), ArchiveError> {
        io::copy(&mut self, &mut io::sink())
            .map_err(|error| ArchiveError::reading(error, &item.name))?;
        let more =
            self.inner.read(&mut [0]).map_err(|error| ArchiveError::reading(error, &item.name))?;
        if more > 0 {
            return Err(ArchiveError::lying(format!(
                "{} has more bytes than its header says",
                shown(&item.name)
            )));
        }
        if self.crc.finalize() != item.crc {
            return Err(ArchiveError::damaged(format!(
                "the checksum of {} is wrong",
                shown(&item.name)
            )));
        }
        Ok(())
    }
}
