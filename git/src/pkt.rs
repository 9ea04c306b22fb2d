//! Pkt-lines: the framing of everything that git says over HTTP except the pack.
//!
//! A pkt-line is four hexadecimal digits that give the length of the whole line, themselves
//! included, followed by the payload. `0000` is a *flush*: it has no payload and ends a section.
//! ([gitprotocol-common](https://git-scm.com/docs/gitprotocol-common#_pkt_line_format))
//!
//! Encoding writes into a [`BytesMut`]. Decoding is incremental and bounded: [`decode`] looks at
//! what has arrived so far and says either "this is a line, and it took so many bytes" or "more is
//! needed"; it never allocates, and the four digits bound what it can ever ask for. The budget for a
//! whole section of lines belongs to whoever collects them (see [`crate::command`]).

use bytes::{BufMut, BytesMut};

/// The longest payload of one pkt-line, in bytes.
pub const MAX_PAYLOAD: usize = 65_516;

/// The longest payload of one side-band packet, in bytes: a pkt-line less the number of the band.
pub const MAX_BAND_PAYLOAD: usize = MAX_PAYLOAD - 1;

/// The flush packet, which ends a section.
pub const FLUSH: &[u8] = b"0000";

/// The side-bands of `side-band-64k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Band {
    /// What the client asked for: here, the report.
    Data = 1,
    /// Text for the person, which git prints after `remote: `.
    Progress = 2,
    /// The last words before the connection is given up.
    Fatal = 3,
}

/// One packet as it stands in the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A line with its payload, a trailing newline included if there is one.
    Line(&'a [u8]),
    /// `0000`
    Flush,
}

/// The input is not made of pkt-lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The four bytes where a length belongs are not hexadecimal.
    #[error("a pkt-line does not start with four hexadecimal digits")]
    NotHexadecimal,
    /// Lengths 1 to 3 are meant for protocol version 2, 4 is an empty line; neither belongs here.
    #[error("a pkt-line has the length {0}, which has no meaning here")]
    BadLength(usize),
}

/// Looks for one packet at the start of `input`.
///
/// `Ok(None)` means that more bytes are needed; otherwise the packet and how many bytes it took.
pub fn decode(input: &[u8]) -> Result<Option<(Packet<'_>, usize)>, Error> {
    let Some((digits, _)) = input.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let mut length = 0;
    for digit in digits {
        let value = (*digit as char).to_digit(16).ok_or(Error::NotHexadecimal)?;
        length = length * 16 + value as usize;
    }
    match length {
        0 => Ok(Some((Packet::Flush, 4))),
        1..=4 => Err(Error::BadLength(length)),
        _ if length > MAX_PAYLOAD + 4 => Err(Error::BadLength(length)),
        _ => Ok(input.get(4..length).map(|payload| (Packet::Line(payload), length))),
    }
}

/// Appends one line. A payload over [`MAX_PAYLOAD`] is cut: every caller bounds its lines by their
/// making, and a cut line is better than a frame that lies about its length.
pub fn line(out: &mut BytesMut, payload: &[u8]) {
    let payload = &payload[..payload.len().min(MAX_PAYLOAD)];
    header(out, payload.len() + 4);
    out.put_slice(payload);
}

/// Appends `payload` on `band`, in as few packets as it takes.
pub fn band(out: &mut BytesMut, band: Band, payload: &[u8]) {
    for chunk in payload.chunks(MAX_BAND_PAYLOAD) {
        header(out, chunk.len() + 5);
        out.put_u8(band as u8);
        out.put_slice(chunk);
    }
}

/// Appends a flush.
pub fn flush(out: &mut BytesMut) {
    out.put_slice(FLUSH);
}

fn header(out: &mut BytesMut, length: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for shift in [12, 8, 4, 0] {
        out.put_u8(DIGITS[(length >> shift) & 0xf]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_survives_the_round_trip() {
        let mut out = BytesMut::new();
        line(&mut out, b"hello\n");
        flush(&mut out);
        assert_eq!(&out[..], b"000ahello\n0000");
        assert_eq!(decode(&out), Ok(Some((Packet::Line(b"hello\n"), 10))));
        assert_eq!(decode(&out[10..]), Ok(Some((Packet::Flush, 4))));
    }

    #[test]
    fn an_unfinished_line_asks_for_more() {
        for end in 0..10 {
            assert_eq!(decode(&b"000ahello\n"[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn lengths_that_mean_nothing_are_refused() {
        assert_eq!(decode(b"PACK"), Err(Error::NotHexadecimal));
        assert_eq!(decode(b"+0a0"), Err(Error::NotHexadecimal));
        assert_eq!(decode(b"0001"), Err(Error::BadLength(1)));
        assert_eq!(decode(b"0004"), Err(Error::BadLength(4)));
        assert_eq!(decode(b"fff1"), Err(Error::BadLength(65_521)));
        assert_eq!(decode(b"fff0"), Ok(None), "65520 is the longest line");
        assert_eq!(decode(b"000Ahello\n").map(|p| p.is_some()), Ok(true), "capital digits");
    }

    #[test]
    fn a_band_is_split_only_when_it_must_be() {
        let mut out = BytesMut::new();
        band(&mut out, Band::Data, &vec![b'x'; MAX_BAND_PAYLOAD]);
        assert_eq!(&out[..5], b"fff0\x01");
        assert_eq!(out.len(), 65_520);
        out.clear();
        band(&mut out, Band::Progress, &vec![b'x'; MAX_BAND_PAYLOAD + 1]);
        assert_eq!(&out[65_520..], b"0006\x02x");
    }
}
