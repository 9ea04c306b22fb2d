//! Writing the index, version 2, byte for byte as `git index-pack` does
//! ([gitformat-pack](https://git-scm.com/docs/gitformat-pack#_version_2_pack_idx_files_support_packs_larger_than_4_gib_and)).

use std::io::{self, BufWriter, Write};

use gix_hash::{Hasher, ObjectId};

use super::entry::Entries;

const MAGIC: [u8; 4] = *b"\xfftOc";
const VERSION: u32 = 2;

/// Offsets from here on do not fit into 31 bits and are kept in a table of their own.
const LARGE: u64 = 1 << 31;

/// Writes the index of a pack whose checksum is `pack`. `order` are all its entries by id.
pub(super) fn index(
    out: impl Write,
    entries: &Entries,
    order: &[u32],
    pack: &ObjectId,
) -> io::Result<()> {
    let mut out = Hashed { out: BufWriter::new(out), hasher: gix_hash::hasher(pack.kind()) };
    out.write_all(&MAGIC)?;
    out.write_all(&VERSION.to_be_bytes())?;
    for sum in fan_out(entries, order) {
        out.write_all(&sum.to_be_bytes())?;
    }
    for entry in order {
        out.write_all(entries.found.id(*entry).as_bytes())?;
    }
    for entry in order {
        let crc = entries.layout.crcs.get(*entry as usize).copied().unwrap_or_default();
        out.write_all(&crc.to_be_bytes())?;
    }
    let offset = |entry: &u32| entries.layout.offsets.get(*entry as usize).copied();
    let offsets = || order.iter().filter_map(offset);
    let mut large = 0;
    for offset in offsets() {
        let short = if offset < LARGE {
            offset as u32
        } else {
            large += 1;
            (LARGE as u32) | (large - 1)
        };
        out.write_all(&short.to_be_bytes())?;
    }
    for offset in offsets().filter(|offset| *offset >= LARGE) {
        out.write_all(&offset.to_be_bytes())?;
    }
    out.write_all(pack.as_slice())?;
    let Hashed { mut out, hasher } = out;
    let checksum = hasher.try_finalize().map_err(io::Error::other)?;
    out.write_all(checksum.as_slice())?;
    out.flush()
}

/// How many ids begin with each byte or a smaller one.
fn fan_out(entries: &Entries, order: &[u32]) -> [u32; 256] {
    let mut fan = [0; 256];
    for entry in order {
        if let Some(count) = fan.get_mut(usize::from(entries.found.id(*entry).first_byte())) {
            *count += 1;
        }
    }
    let mut sum = 0;
    for count in &mut fan {
        sum += *count;
        *count = sum;
    }
    fan
}

struct Hashed<W> {
    out: W,
    hasher: Hasher,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
