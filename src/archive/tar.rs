//! Walks a tar: ustar, pax, GNU and the oldest form.
//!
//! The crate `tar` decodes the fields of a header; the walk is ours, since every size
//! in it has to be compared with a limit first: the library reads headers of pax and
//! GNU as long as they say they are.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::budget::Budget;
use super::path::{self, From, shown};
use super::{ArchiveError, Sink, stream};

const BLOCK: usize = 512;

/// Longest extended header of pax, in bytes.
const MAX_PAX: u64 = 1 << 20;

/// Extended headers in a row: one each of pax and of the two of GNU, with room.
const MAX_EXTENSIONS: u32 = 8;

/// Whether a block carries the checksum of a header.
pub(super) fn checksum_is_right(block: &[u8; BLOCK]) -> bool {
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    Header::from_byte_slice(block).cksum().is_ok_and(|said| said == sum)
}

/// What headers before an entry say about it.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
    count: u32,
}

pub(super) fn walk(
    stream: &mut stream::Stream<'_>,
    budget: &Budget<'_>,
    sink: &mut dyn Sink,
) -> Result<(), ArchiveError> {
    let mut block = [0; BLOCK];
    let mut extended = Extended::default();
    loop {
        budget.alive()?;
        if !read_block(stream, &mut block)? {
            if extended.count > 0 {
                return Err(ArchiveError::damaged("it ends behind an extended header"));
            }
            sink.note("no_end_marker", "the archive ends without its end marker", b"");
            return Ok(());
        }
        if block.iter().all(|byte| *byte == 0) {
            if extended.count > 0 {
                return Err(ArchiveError::damaged("it ends behind an extended header"));
            }
            break;
        }
        if !checksum_is_right(&block) {
            return Err(ArchiveError::damaged("a header has the wrong checksum"));
        }
        let header = Header::from_byte_slice(&block);
        let kind = header.entry_type();
        let size = header
            .entry_size()
            .map_err(|_| ArchiveError::damaged("a header has a size that is no number"))?;
        match kind {
            EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink => {
                extended.count += 1;
                if extended.count > MAX_EXTENSIONS {
                    return Err(ArchiveError::damaged("too many extended headers in a row"));
                }
                extension(kind, size, stream, budget, &mut extended)?;
            }
            EntryType::XGlobalHeader => {
                budget.entry()?;
                let bytes = small(stream, size, MAX_PAX, "an extended header")?;
                global(&bytes, sink)?;
            }
            _ => {
                budget.entry()?;
                let before = std::mem::take(&mut extended);
                entry(header, before, size, stream, budget, sink)?;
            }
        }
    }
    // The rest is read so that the checksum of the compression is.
    let mut rest = 0u64;
    let mut dirty = false;
    let mut buffer = [0; 1 << 13];
    loop {
        let read = stream.read(&mut buffer).map_err(|error| ArchiveError::reading(error, b""))?;
        if read == 0 {
            break;
        }
        rest += read as u64;
        dirty |= buffer.iter().take(read).any(|byte| *byte != 0);
    }
    if dirty && rest > 0 {
        sink.note(
            "data_after_end",
            "there is more behind the end of the archive, which was not read",
            b"",
        );
    }
    Ok(())
}

/// False at the end.
fn read_block(
    stream: &mut stream::Stream<'_>,
    block: &mut [u8; BLOCK],
) -> Result<bool, ArchiveError> {
    let mut filled = 0;
    while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(ArchiveError::damaged("it ends too soon")),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ArchiveError::reading(error, b"")),
        }
    }
    Ok(true)
}

/// Reads what is small enough, and its padding.
fn small(
    stream: &mut stream::Stream<'_>,
    size: u64,
    max: u64,
    what: &str,
) -> Result<Vec<u8>, ArchiveError> {
    if size > max {
        return Err(ArchiveError::new(
            "header_too_large",
            format!("{what} of the archive has {size} bytes, more than the {max} that are taken"),
        ));
    }
    let mut bytes = Vec::new();
    let mut content = stream.take(size);
    content.read_to_end(&mut bytes).map_err(|error| ArchiveError::reading(error, b""))?;
    if bytes.len() as u64 != size {
        return Err(ArchiveError::damaged("it ends too soon"));
    }
    skip(stream, padding(size))?;
    Ok(bytes)
}

fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn skip(stream: &mut stream::Stream<'_>, bytes: u64) -> Result<(), ArchiveError> {
    let skipped = io::copy(&mut stream.take(bytes), &mut io::sink())
        .map_err(|error| ArchiveError::reading(error, b""))?;
    if skipped == bytes { Ok(()) } else { Err(ArchiveError::damaged("it ends too soon")) }
}

/// A header of pax or GNU for the next entry.
fn extension(
    kind: EntryType,
    size: u64,
    stream: &mut stream::Stream<'_>,
    budget: &Budget<'_>,
    extended: &mut Extended,
) -> Result<(), ArchiveError> {
    if kind == EntryType::XHeader {
        let bytes = small(stream, size, MAX_PAX, "an extended header")?;
        for (key, value) in pax(&bytes)? {
            match key {
                b"path" => extended.path = Some(value.to_vec()),
                b"linkpath" => extended.link = Some(value.to_vec()),
                b"size" => {
                    let number = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                    extended.size = Some(number.ok_or_else(|| {
                        ArchiveError::damaged("an extended header has a size that is no number")
                    })?);
                }
                key if key.starts_with(b"GNU.sparse.") => extended.sparse = true,
                _ => {}
            }
        }
        return Ok(());
    }
    if size > budget.limits.path as u64 + 1 {
        return Err(ArchiveError::new(
            "path_too_long",
            format!("a path in the archive is longer than {} bytes", budget.limits.path),
        ));
    }
    let mut name = small(stream, size, size, "a long name")?;
    if name.last() == Some(&0) {
        name.pop();
    }
    match kind {
        EntryType::GNULongName => extended.path = Some(name),
        _ => extended.link = Some(name),
    }
    Ok(())
}

/// The headers of pax for all entries: only its comment is taken, in which git writes
/// the commit. One that gives all entries the same path or size is nonsense.
fn global(bytes: &[u8], sink: &mut dyn Sink) -> Result<(), ArchiveError> {
    for (key, value) in pax(bytes)? {
        match key {
            b"comment" => {
                if let Some(id) = super::collect::commit_id(value) {
                    sink.commit(id);
                }
            }
            b"path" | b"linkpath" | b"size" => {
                return Err(ArchiveError::lying(
                    "a header gives all entries the same path, link or size",
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The records of an extended header: `LENGTH KEY=VALUE\n`, where the length counts the
/// whole record, so that values may hold anything.
fn pax(mut bytes: &[u8]) -> Result<Vec<(&[u8], &[u8])>, ArchiveError> {
    let wrong = || ArchiveError::damaged("an extended header is malformed");
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().take(8).position(|byte| *byte == b' ').ok_or_else(wrong)?;
        let digits = bytes.get(..space).and_then(|digits| std::str::from_utf8(digits).ok());
        let length: usize = digits.and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
        let record = bytes.get(space + 1..length).ok_or_else(wrong)?;
        let record = record.strip_suffix(b"\n").ok_or_else(wrong)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
        records.push((
            record.get(..equals).unwrap_or_default(),
            record.get(equals + 1..).unwrap_or_default(),
        ));
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(records)
}

fn entry(
    header: &Header,
    extended: Extended,
    size: u64,
    stream: &mut stream::Stream<'_>,
    budget: &Budget<'_>,
    sink: &mut dyn Sink,
) -> Result<(), ArchiveError> {
    let kind = header.entry_type();
    let name = extended.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let size = extended.size.unwrap_or(size);
    if extended.sparse || kind == EntryType::GNUSparse {
        return Err(ArchiveError::new(
            "sparse_file",
            format!(
                "{} is a sparse file, which is not taken: make the tar without -S",
                shown(&name)
            ),
        ));
    }
    let path = path::clean(&name, From::Tar, budget.limits)?;
    let is_file = kind.is_file() || kind == EntryType::Continuous;
    // The oldest form has no folders: they are files whose name ends so.
    let is_folder = kind.is_dir() || (is_file && name.ends_with(b"/"));
    if size > 0 && (is_folder || kind.is_symlink() || kind.is_hard_link() || is_special(kind)) {
        return Err(ArchiveError::lying(format!(
            "{} is said to have {size} bytes, but entries of its kind have none",
            shown(&name)
        )));
    }
    if is_folder {
        return if path.is_empty() { Ok(()) } else { sink.folder(&path) };
    }
    if path.is_empty() {
        return Err(ArchiveError::new("empty_name", "the archive has an entry without a name"));
    }
    let link = |own: Option<Vec<u8>>| {
        own.or_else(|| header.link_name_bytes().map(|name| name.into_owned()))
            .filter(|target| !target.is_empty())
            .ok_or_else(|| {
                ArchiveError::new("bad_link", format!("the link {} has no target", shown(&path)))
            })
    };
    if is_file {
        budget.file(&name, size)?;
        budget.announce(size)?;
        let executable = header.mode().is_ok_and(|mode| mode & 0o111 != 0);
        let mut content = stream.take(size);
        sink.file(&path, executable, size, &mut content)?;
        let left = content.limit();
        return skip(stream, left + padding(size));
    }
    if kind.is_symlink() {
        return sink.symlink(&path, &target(&path, link(extended.link)?, budget)?);
    }
    if kind.is_hard_link() {
        let target = path::clean(&link(extended.link)?, From::Tar, budget.limits)?;
        return sink.hard_link(&path, &target);
    }
    if is_special(kind) {
        sink.note("special_file", "it is a device or a pipe and was left out", &path);
        return Ok(());
    }
    if kind.as_byte() == b'M' {
        return Err(ArchiveError::new(
            "multi_part_archive",
            "the archive begins in another volume: send it in one piece",
        ));
    }
    budget.announce(size)?;
    sink.note("unknown_entry", "it is of an unknown kind and was left out", &path);
    skip(stream, size.saturating_add(padding(size)))
}

fn is_special(kind: EntryType) -> bool {
    kind.is_character_special() || kind.is_block_special() || kind.is_fifo()
}

/// The target of a symbolic link, which is data.
pub(super) fn target(
    path: &[u8],
    target: Vec<u8>,
    budget: &Budget<'_>,
) -> Result<Vec<u8>, ArchiveError> {
    if target.contains(&0) || target.len() > budget.limits.path {
        return Err(ArchiveError::new(
            "bad_link",
            format!("the target of the link {} is too long or has a NUL byte in it", shown(path)),
        ));
    }
    Ok(target)
}
