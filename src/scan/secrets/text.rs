//! Texts as the detectors read them: encodings undone, offsets told as lines.

use std::borrow::Cow;

use crate::scan::model::Span;

/// Bytes as UTF-8, if the file is UTF-16 with a byte order mark, or without one
/// but with a zero in every second byte of its beginning. Anything else is read as
/// it is: every format of interest is ASCII.
pub fn as_utf8(bytes: &[u8]) -> Cow<'_, [u8]> {
    let (rest, big) = match bytes {
        [0xff, 0xfe, rest @ ..] => (rest, false),
        [0xfe, 0xff, rest @ ..] => (rest, true),
        _ => match bytes.get(..64) {
            Some(head) if zeros(head, 1) => (bytes, false),
            Some(head) if zeros(head, 0) => (bytes, true),
            _ => return Cow::Borrowed(bytes),
        },
    };
    let units = rest.chunks_exact(2).map(|pair| {
        let pair = [pair[0], pair[1]];
        if big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
    });
    let text: String =
        char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    Cow::Owned(text.into_bytes())
}

/// True if nearly every second byte is zero and no other is.
fn zeros(head: &[u8], first: usize) -> bool {
    let zero = head.iter().skip(first).step_by(2).filter(|b| **b == 0).count();
    let other = head.iter().skip(1 - first).step_by(2).filter(|b| **b == 0).count();
    zero >= 30 && other == 0
}

/// Turns offsets into lines and columns. Asked in ascending order of the start it
/// reads the text once.
#[derive(Debug)]
pub struct Places<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u32,
}

impl<'a> Places<'a> {
    /// Begins at the first line.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, line: 1 }
    }

    /// The span of a range of bytes.
    pub fn span(&mut self, start: usize, end: usize) -> Span {
        if start < self.at {
            (self.at, self.line) = (0, 1);
        }
        self.line += newlines(self.bytes, self.at, start);
        self.at = start;
        let end_line = self.line + newlines(self.bytes, start, end);
        Span {
            start_line: self.line,
            start_column: self.column(start),
            end_line,
            end_column: self.column(end),
        }
    }

    fn column(&self, at: usize) -> u32 {
        let before = self.bytes.get(..at).unwrap_or(self.bytes);
        (before.len() - memchr::memrchr(b'\n', before).map_or(0, |p| p + 1)) as u32 + 1
    }
}

fn newlines(bytes: &[u8], from: usize, to: usize) -> u32 {
    memchr::memchr_iter(b'\n', bytes.get(from..to).unwrap_or_default()).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf16_is_read() {
        let text = "password = abc\n".repeat(5);
        let le: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let be: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(&*as_utf8(&le), text.as_bytes());
        assert_eq!(&*as_utf8(&be), text.as_bytes());
        assert_eq!(&*as_utf8(&[b"\xff\xfe", le.as_slice()].concat()), text.as_bytes());
        assert!(matches!(as_utf8(text.as_bytes()), Cow::Borrowed(_)));
        assert!(matches!(as_utf8(b"\0\0\0\0"), Cow::Borrowed(_)));
    }

    #[test]
    fn places_count_from_one() {
        let mut places = Places::new(b"ab\ncd\nef");
        assert_eq!(
            places.span(3, 5),
            Span { start_line: 2, start_column: 1, end_line: 2, end_column: 3 }
        );
        assert_eq!(
            places.span(4, 8),
            Span { start_line: 2, start_column: 2, end_line: 3, end_column: 3 }
        );
        assert_eq!(places.span(0, 1).start_line, 1);
    }
}
