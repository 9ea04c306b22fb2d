//! Applying deltas ([gitformat-pack](https://git-scm.com/docs/gitformat-pack#_deltified_representation)).
//!
//! Every number of a delta is hostile. The caller compares both sizes with what it knows before
//! [`apply`] is called, so that the result is never larger than it wanted.

use crate::firewall::varint;

/// Git takes nothing shorter for a delta, although two bytes could make an empty object.
const SHORTEST: usize = 4;

/// A copy that names no size copies this much.
const COPY_DEFAULT: usize = 0x10000;

/// A delta does not fit its base, or is no delta at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a delta that does not apply")]
pub(super) struct Broken;

/// The sizes of base and result, and the instructions behind them.
pub(super) fn header(delta: &[u8]) -> Result<(u64, u64, &[u8]), Broken> {
    if delta.len() < SHORTEST {
        return Err(Broken);
    }
    let (base, rest) = varint(delta).ok().flatten().ok_or(Broken)?;
    let (result, rest) = varint(rest).ok().flatten().ok_or(Broken)?;
    Ok((base, result, rest))
}

/// One step of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instruction {
    /// Bytes of the base.
    Copy { from: usize, length: usize },
    /// Bytes that follow in the delta.
    Insert { length: usize },
}

/// How many bytes the instruction takes that begins with this one, the byte itself counted, what
/// is to be inserted not.
pub(super) fn length(first: u8) -> usize {
    if first & 0x80 == 0 { 1 } else { 1 + (first & 0x7f).count_ones() as usize }
}

/// Reads an instruction, whose length is known by [`length`], and what stands behind it.
#[inline]
pub(super) fn instruction(bytes: &[u8]) -> Result<(Instruction, &[u8]), Broken> {
    let (first, mut rest) = bytes.split_first().ok_or(Broken)?;
    let first = *first;
    if first & 0x80 == 0 {
        let length = usize::from(first);
        // Kept for later versions of the format, which never came.
        return if length == 0 { Err(Broken) } else { Ok((Instruction::Insert { length }, rest)) };
    }
    let mut part = |bit: u8, shift: u32| -> Result<usize, Broken> {
        if first & bit == 0 {
            return Ok(0);
        }
        let (byte, behind) = rest.split_first().ok_or(Broken)?;
        rest = behind;
        Ok(usize::from(*byte) << shift)
    };
    let from = part(1, 0)? | part(2, 8)? | part(4, 16)? | part(8, 24)?;
    let length = part(0x10, 0)? | part(0x20, 8)? | part(0x40, 16)?;
    let length = if length == 0 { COPY_DEFAULT } else { length };
    Ok((Instruction::Copy { from, length }, rest))
}

/// Makes the `result` bytes that `instructions` describe, and exactly those. `out` is overwritten.
pub(super) fn apply(
    base: &[u8],
    mut instructions: &[u8],
    result: usize,
    out: &mut Vec<u8>,
) -> Result<(), Broken> {
    out.clear();
    out.reserve_exact(result);
    while !instructions.is_empty() {
        let (step, rest) = instruction(instructions)?;
        let piece = match step {
            Instruction::Copy { from, length } => {
                instructions = rest;
                let end = from.checked_add(length).ok_or(Broken)?;
                base.get(from..end).ok_or(Broken)?
            }
            Instruction::Insert { length } => {
                let (piece, behind) = rest.split_at_checked(length).ok_or(Broken)?;
                instructions = behind;
                piece
            }
        };
        if piece.len() > result - out.len() {
            return Err(Broken);
        }
        out.extend_from_slice(piece);
    }
    if out.len() == result { Ok(()) } else { Err(Broken) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(base: &[u8], delta: &[u8]) -> Result<Vec<u8>, Broken> {
        let (size, result, rest) = header(delta)?;
        if size != base.len() as u64 {
            return Err(Broken);
        }
        let mut out = b"left over".to_vec();
        apply(base, rest, result as usize, &mut out).map(|()| out)
    }

    #[test]
    fn copies_and_inserts() {
        assert_eq!(make(b"hello", &[5, 7, 0x90, 5, 2, b'!', b'?']).unwrap(), b"hello!?");
        assert_eq!(make(b"hello", &[5, 2, 0x91, 3, 2]).unwrap(), b"lo");
        let base = vec![7; 0x10000];
        let delta = [0x80, 0x80, 4, 0x80, 0x80, 4, 0x80];
        assert_eq!(make(&base, &delta).unwrap(), base, "a copy without a size");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for bad in [
            &[5, 1][..],
            &[5, 1, 1],
            &[4, 1, 1, b'x'],
            &[5, 1, 0, b'x'],
            &[5, 2, 1, b'x'],
            &[5, 1, 2, b'x', b'y'],
            &[5, 3, 3, b'x', b'y'],
            &[5, 5, 0x91, 1, 5],
            &[5, 5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[5, 5, 0xff, 0xff],
            &[5, 4, 0x90, 5],
            &[0x85, 0x80, 0x80, 0x80],
        ] {
            assert_eq!(make(b"hello", bad), Err(Broken), "{bad:?}");
        }
    }

    #[test]
    fn an_instruction_is_as_long_as_its_first_byte_says() {
        assert_eq!([0x01, 0x7f, 0x80, 0x91, 0xff].map(length), [1, 1, 1, 3, 8]);
        let all = [0xff, 1, 2, 3, 4, 5, 6, 7, 9];
        let expected = Instruction::Copy { from: 0x0403_0201, length: 0x0007_0605 };
        assert_eq!(instruction(&all), Ok((expected, &[9][..])));
    }
}
