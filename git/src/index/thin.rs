//! Completing a thin pack: the bases that the client left out are appended to it.

use std::{
    fs::File,
    io::{BufReader, Read as _, Write as _},
    os::unix::fs::FileExt as _,
};

use flate2::{Compression, write::ZlibEncoder};
use gix_hash::ObjectId;
use gix_object::Find as _;
use gix_odb::HeaderExt as _;

use super::{
    Error, Target,
    entry::{Entries, NONE, number_of},
    open,
    scan::finalize,
    source::Section,
};
use crate::firewall::Violation;

/// Appends the bases that deltas still wait for and that the store has, in the order in which the pack
/// asks for them, and says how many those were. They count as objects of the pack, which has
/// `resolved` bytes of them without: a few bytes of a delta can ask for any object of the store.
pub(super) fn complete(
    file: &File,
    entries: &mut Entries,
    target: &Target<'_>,
    mut resolved: u64,
) -> Result<usize, Error> {
    let store = open(target.store, target.hash)?;
    let (limits, sent) = (target.limits, entries.layout.end);
    let mut bases: Vec<(u32, ObjectId)> = Vec::new();
    for delta in &entries.refs {
        if bases.last().is_none_or(|(_, base)| *base != delta.base) {
            bases.push((delta.entry, delta.base));
        }
    }
    bases.sort_unstable();
    let mut appended = 0;
    let mut content = Vec::new();
    for (_, id) in bases {
        target.go_on()?;
        // What cannot be read is as good as missing, and the pack is refused for it.
        let Ok(header) = store.header(id) else { continue };
        resolved = resolved.saturating_add(header.size());
        limits.allow_resolved(resolved, sent).map_err(Error::Violation)?;
        if let Ok(Some(object)) = store.try_find(&id, &mut content) {
            append(file, entries, &id, number_of(object.kind), object.data)?;
            if entries.layout.end > limits.pack_bytes {
                return Err(Error::Violation(Violation::PackBytes(limits.pack_bytes)));
            }
            appended += 1;
        }
    }
    Ok(appended)
}

fn append(
    file: &File,
    entries: &mut Entries,
    id: &ObjectId,
    kind: u8,
    content: &[u8],
) -> Result<(), Error> {
    let header = header(kind, content.len() as u64);
    let start = entries.layout.end;
    let at = start + header.len() as u64;
    let out = Append { file, at, crc: crc32fast::Hasher::new() };
    let mut encoder = ZlibEncoder::new(out, Compression::default());
    encoder.write_all(content)?;
    let out = encoder.finish()?;
    file.write_all_at(&header, start)?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header);
    crc.combine(&out.crc);

    let layout = &mut entries.layout;
    layout.offsets.push(start);
    layout.heads.push(header.len() as u8);
    layout.sizes.push(content.len() as u64);
    layout.crcs.push(crc.finalize());
    layout.end = out.at;
    let entry = entries.found.kinds.len() as u32;
    entries.found.push(kind, NONE);
    entries.found.set_id(entry, id);
    Ok(())
}

/// Type and size, as they stand before an entry.
fn header(kind: u8, size: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(10);
    let mut byte = (kind << 4) | (size & 15) as u8;
    let mut rest = size >> 4;
    while rest > 0 {
        header.push(byte | 0x80);
        byte = (rest & 0x7f) as u8;
        rest >>= 7;
    }
    header.push(byte);
    header
}

/// Writes at a place of a file and counts.
struct Append<'a> {
    file: &'a File,
    at: u64,
    crc: crc32fast::Hasher,
}

impl std::io::Write for Append<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write_all_at(bytes, self.at)?;
        self.crc.update(bytes);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes how many objects there are now, and gives the checksum that the pack has with that.
pub(super) fn seal(file: &File, entries: &Entries, target: &Target<'_>) -> Result<ObjectId, Error> {
    const COUNT_AT: u64 = 8;
    let objects = entries.layout.len() as u32;
    file.write_all_at(&objects.to_be_bytes(), COUNT_AT)?;
    let mut hasher = gix_hash::hasher(target.hash);
    let mut rest = BufReader::with_capacity(1 << 16, Section::new(file, 0, entries.layout.end));
    let mut piece = vec![0; 1 << 16];
    loop {
        target.go_on()?;
        let read = rest.read(&mut piece)?;
        if read == 0 {
            return finalize(hasher);
        }
        hasher.update(piece.get(..read).unwrap_or_default());
    }
}
