//! The directory of a zip: the list of its entries, at the end of the file.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use super::super::ArchiveError;
use super::super::budget::Budget;

/// The record at the end of every zip, without its comment.
const END: usize = 22;
/// That of zip64.
const END64: usize = 56;
/// What points to it.
const LOCATOR: usize = 20;
/// A line of the directory, without name, extra fields and comment.
const LINE: usize = 46;

/// What the directory says of an entry.
pub(super) struct Item {
    /// As it is written.
    pub(super) name: Vec<u8>,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc: u32,
    pub(super) packed: u64,
    pub(super) size: u64,
    /// Where its header begins.
    pub(super) offset: u64,
    /// The system that made it.
    pub(super) host: u8,
    pub(super) attributes: u32,
}

pub(super) struct Directory {
    pub(super) items: Vec<Item>,
    /// Where it begins; all entries lie before.
    pub(super) start: u64,
    pub(super) comment: Vec<u8>,
}

/// Numbers of one record.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    fn word(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    fn long(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    fn huge(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }
}

/// Where the list is and how long it says it is.
struct Place {
    start: u64,
    size: u64,
    entries: u64,
    /// Where it has to end.
    end: u64,
    comment: Vec<u8>,
}

pub(super) fn read(
    file: &File,
    length: u64,
    budget: &Budget<'_>,
) -> Result<Directory, ArchiveError> {
    let place = place(file, length)?;
    if place.start.checked_add(place.size) != Some(place.end) {
        return Err(ArchiveError::lying(
            "its directory is not where its last record says, or something stands before the \
             archive",
        ));
    }
    if place.entries > budget.limits.entries || place.size / (LINE as u64) < place.entries {
        // The count is only believed as far as there is room for it.
        if place.entries > budget.limits.entries {
            return Err(ArchiveError::new(
                "too_many_files",
                format!(
                    "the archive has more than {} entries, the limit for one archive",
                    budget.limits.entries
                ),
            ));
        }
        return Err(ArchiveError::lying("its directory is too short for its entries"));
    }
    let mut file = file;
    file.seek(SeekFrom::Start(place.start)).map_err(ArchiveError::Io)?;
    let mut lines = BufReader::new(file.take(place.size));
    let mut items = Vec::new();
    for _ in 0..place.entries {
        budget.entry()?;
        items.push(line(&mut lines, budget)?);
    }
    let left = lines.buffer().len() as u64 + lines.get_ref().limit();
    if left > 0 {
        return Err(ArchiveError::lying(
            "its directory has more entries than its last record says",
        ));
    }
    Ok(Directory { items, start: place.start, comment: place.comment })
}

/// Finds the last record, which ends with the file: what is behind it would be read
/// by some tools as a second archive.
fn place(file: &File, length: u64) -> Result<Place, ArchiveError> {
    let tail_length = length.min((END + usize::from(u16::MAX)) as u64);
    let mut tail = Vec::new();
    let mut file = file;
    file.seek(SeekFrom::Start(length - tail_length))
        .and_then(|_| file.take(tail_length).read_to_end(&mut tail))
        .map_err(ArchiveError::Io)?;
    let found = (0..=tail.len().saturating_sub(END)).rev().find_map(|at| {
        let record = tail.get(at..)?;
        let fits = record.starts_with(b"PK\x05\x06")
            && record.len() == END + usize::from(Fields(record).word(20));
        fits.then_some((at, record))
    });
    let Some((at, record)) = found else {
        return Err(ArchiveError::damaged("the zip has no directory at its end"));
    };
    let end = length - tail_length + at as u64;
    let fields = Fields(record);
    let comment = record.get(END..).unwrap_or_default().to_vec();
    let wide = fields.word(8) == u16::MAX
        || fields.word(10) == u16::MAX
        || fields.long(12) == u32::MAX
        || fields.long(16) == u32::MAX;
    if wide && end >= (LOCATOR + END64) as u64 {
        let mut locator = [0; LOCATOR];
        read_at(file, end - LOCATOR as u64, &mut locator)?;
        if locator.starts_with(b"PK\x06\x07") {
            return place64(file, end - LOCATOR as u64, &locator, comment);
        }
    }
    let disks = [fields.word(4), fields.word(6)];
    if disks != [0, 0] || fields.word(8) != fields.word(10) {
        return Err(split());
    }
    Ok(Place {
        start: fields.long(16).into(),
        size: fields.long(12).into(),
        entries: fields.word(10).into(),
        end,
        comment,
    })
}

fn place64(
    file: &File,
    locator_at: u64,
    locator: &[u8],
    comment: Vec<u8>,
) -> Result<Place, ArchiveError> {
    let fields = Fields(locator);
    if fields.long(4) != 0 || fields.long(16) > 1 {
        return Err(split());
    }
    let at = fields.huge(8);
    let mut record = [0; END64];
    if at.checked_add(END64 as u64).is_none_or(|end| end > locator_at) {
        return Err(ArchiveError::lying("its zip64 record is not where it should be"));
    }
    read_at(file, at, &mut record)?;
    if !record.starts_with(b"PK\x06\x06") {
        return Err(ArchiveError::lying("its zip64 record is not where it should be"));
    }
    let fields = Fields(&record);
    if at.checked_add(12).and_then(|at| at.checked_add(fields.huge(4))) != Some(locator_at) {
        return Err(ArchiveError::lying("its zip64 record has another length than it says"));
    }
    if fields.long(16) != 0 || fields.long(20) != 0 || fields.huge(24) != fields.huge(32) {
        return Err(split());
    }
    Ok(Place {
        start: fields.huge(48),
        size: fields.huge(40),
        entries: fields.huge(32),
        end: at,
        comment,
    })
}

fn split() -> ArchiveError {
    ArchiveError::new(
        "multi_part_archive",
        "the zip is the last part of several: send it in one piece",
    )
}

fn read_at(mut file: &File, at: u64, bytes: &mut [u8]) -> Result<(), ArchiveError> {
    file.seek(SeekFrom::Start(at))
        .and_then(|_| file.read_exact(bytes))
        .map_err(|error| ArchiveError::reading(error, b""))
}

fn line(lines: &mut impl Read, budget: &Budget<'_>) -> Result<Item, ArchiveError> {
    let failed = |error: io::Error| ArchiveError::reading(error, b"");
    let mut record = [0; LINE];
    lines.read_exact(&mut record).map_err(failed)?;
    if !record.starts_with(b"PK\x01\x02") {
        return Err(ArchiveError::damaged("a line of the zip's directory is malformed"));
    }
    let fields = Fields(&record);
    let (name, extra, comment) = (fields.word(28), fields.word(30), fields.word(32));
    if usize::from(name) > budget.limits.path {
        return Err(ArchiveError::new(
            "path_too_long",
            format!("a path in the archive is longer than {} bytes", budget.limits.path),
        ));
    }
    let mut item = Item {
        name: vec![0; name.into()],
        flags: fields.word(8),
        method: fields.word(10),
        crc: fields.long(16),
        packed: fields.long(20).into(),
        size: fields.long(24).into(),
        offset: fields.long(42).into(),
        host: fields.word(4).to_le_bytes()[1],
        attributes: fields.long(38),
    };
    lines.read_exact(&mut item.name).map_err(failed)?;
    let mut extras = vec![0; extra.into()];
    lines.read_exact(&mut extras).map_err(failed)?;
    wide(&mut item, &extras, fields.word(34) == u16::MAX)?;
    if !matches!(fields.word(34), 0 | u16::MAX) {
        return Err(split());
    }
    let skipped = io::copy(&mut lines.take(comment.into()), &mut io::sink()).map_err(failed)?;
    if skipped != u64::from(comment) {
        return Err(ArchiveError::damaged("the zip's directory ends too soon"));
    }
    Ok(item)
}

/// Takes numbers of zip64 where the short ones are all ones.
fn wide(item: &mut Item, mut extras: &[u8], disk: bool) -> Result<(), ArchiveError> {
    let all_ones = u64::from(u32::MAX);
    if ![item.size, item.packed, item.offset].contains(&all_ones) && !disk {
        return Ok(());
    }
    while extras.len() >= 4 {
        let fields = Fields(extras);
        let (id, length) = (fields.word(0), usize::from(fields.word(2)));
        let body = extras.get(4..4 + length);
        let Some(mut body) = body else { break };
        if id == 1 {
            for field in [&mut item.size, &mut item.packed, &mut item.offset] {
                if *field == all_ones {
                    let Some((first, rest)) = body.split_first_chunk::<8>() else {
                        return Err(ArchiveError::damaged("an entry lacks its zip64 sizes"));
                    };
                    *field = u64::from_le_bytes(*first);
                    body = rest;
                }
            }
            return Ok(());
        }
        extras = extras.get(4 + length..).unwrap_or_default();
    }
    // Exactly 4 GiB less one byte is what a file may have without zip64.
    Ok(())
}
