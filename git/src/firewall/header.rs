//! The header of a pack entry.

use super::Violation;

pub(crate) const COMMIT: u8 = 1;
pub(crate) const TREE: u8 = 2;
pub(crate) const BLOB: u8 = 3;
pub(crate) const TAG: u8 = 4;
pub(super) const OFS_DELTA: u8 = 6;
pub(super) const REF_DELTA: u8 = 7;

/// What a delta stands on.
pub(super) enum Base {
    /// Nothing: it is no delta but an object of this type.
    None(u8),
    Id,
    Distance(u64),
}

/// What stands before the deflated bytes of an entry.
pub(super) struct EntryHeader {
    pub size: u64,
    pub base: Base,
}

impl EntryHeader {
    /// `None` if more bytes are needed. An object id has `id_length` bytes.
    /// ([gitformat-pack](https://git-scm.com/docs/gitformat-pack#_pack_pack_files_have_the_following_format))
    pub fn parse(bytes: &[u8], id_length: usize) -> Result<Option<Self>, Violation> {
        let Some((first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let kind = (first >> 4) & 7;
        if !matches!(kind, COMMIT..=TAG | OFS_DELTA | REF_DELTA) {
            return Err(Violation::EntryType(kind));
        }
        let mut size = u64::from(first & 15);
        let mut rest = rest;
        if first & 0x80 != 0 {
            let Some((high, behind)) = varint(rest)? else {
                return Ok(None);
            };
            if high >> 60 != 0 {
                return Err(Violation::SizeOverflow);
            }
            size |= high << 4;
            rest = behind;
        }
        let base = match kind {
            OFS_DELTA => match distance(rest)? {
                None => return Ok(None),
                Some(distance) => Base::Distance(distance),
            },
            REF_DELTA if rest.len() < id_length => return Ok(None),
            REF_DELTA => Base::Id,
            _ => Base::None(kind),
        };
        Ok(Some(Self { size, base }))
    }
}

/// Seven bits a byte, least significant first. `None` if it does not end within `bytes`.
pub(crate) fn varint(bytes: &[u8]) -> Result<Option<(u64, &[u8])>, Violation> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate() {
        let part = u64::from(byte & 0x7f);
        let shift = 7 * at as u32;
        if shift > 63 || (part << shift) >> shift != part {
            return Err(Violation::SizeOverflow);
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(Some((value, &bytes[at + 1..])));
        }
    }
    Ok(None)
}

/// Seven bits a byte, most significant first, with one added at each step.
fn distance(bytes: &[u8]) -> Result<Option<u64>, Violation> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 {
            value = value.checked_add(1).ok_or(Violation::SizeOverflow)?;
        }
        if value >> 57 != 0 {
            return Err(Violation::SizeOverflow);
        }
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return if value == 0 { Err(Violation::BadBase) } else { Ok(Some(value)) };
        }
    }
    Ok(None)
}
