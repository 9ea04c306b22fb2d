//! Reading and writing the lines of a fetch.
//!
//! The requests of a fetch are small and complete before they are looked at, so they are read from
//! one slice. Version 2 knows a delimiter, `0001`, between the parts of a section.
//! ([gitprotocol-v2](https://git-scm.com/docs/gitprotocol-v2#_packet_line_framing))

use std::borrow::Cow;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::Error;
use crate::pkt::{self, Band, Packet};

const DELIMITER: &[u8] = b"0001";

/// One packet of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// A line without its newline. Bytes that are not UTF-8 are replaced: the name of a ref that has
    /// some is no name here, and what is said beside is for logs.
    Line(Cow<'a, str>),
    Flush,
    Delimiter,
}

/// The packets of a request.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(request: &'a [u8]) -> Self {
        Self { rest: request }
    }

    /// The next packet; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Item<'a>>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        if let Some(rest) = self.rest.strip_prefix(DELIMITER) {
            self.rest = rest;
            return Ok(Some(Item::Delimiter));
        }
        let (packet, length) = pkt::decode(self.rest)
            .map_err(|error| Error::Protocol(error.to_string()))?
            .ok_or_else(|| Error::Protocol("the request ends in the middle of a line".into()))?;
        self.rest = &self.rest[length..];
        Ok(Some(match packet {
            Packet::Flush => Item::Flush,
            Packet::Line(line) => {
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                Item::Line(String::from_utf8_lossy(line))
            }
        }))
    }
}

/// The lines of an answer before its pack.
#[derive(Debug, Default)]
pub(super) struct Lines {
    out: BytesMut,
    banded: bool,
}

impl Lines {
    /// With `banded` every line stands on band 1, as a client of version 2 may ask for.
    pub fn new(banded: bool) -> Self {
        Self { out: BytesMut::new(), banded }
    }

    /// Adds a line, newline included if it has one.
    pub fn line(&mut self, text: impl AsRef<[u8]>) {
        if self.banded {
            pkt::band(&mut self.out, Band::Data, text.as_ref());
        } else {
            pkt::line(&mut self.out, text.as_ref());
        }
    }

    pub fn flush(&mut self) {
        pkt::flush(&mut self.out);
    }

    pub fn delimiter(&mut self) {
        self.out.put_slice(DELIMITER);
    }

    pub fn into_bytes(self) -> Bytes {
        self.out.freeze()
    }
}

/// The last line of an answer that cannot be given: git prints it after `fatal: remote error:`.
pub(super) fn error(sentence: &str, banded: bool) -> Bytes {
    let flat: String =
        sentence.chars().map(|c| if c.is_control() { ' ' } else { c }).take(2000).collect();
    let mut out = BytesMut::new();
    if banded {
        pkt::band(&mut out, Band::Fatal, format!("{}\n", flat.trim()).as_bytes());
        pkt::flush(&mut out);
    } else {
        pkt::line(&mut out, format!("ERR {}\n", flat.trim()).as_bytes());
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_every_kind() {
        let mut reader = Reader::new(b"0009hi\nx\n00010000");
        assert_eq!(reader.next().unwrap(), Some(Item::Line("hi\nx".into())));
        assert_eq!(reader.next().unwrap(), Some(Item::Delimiter));
        assert_eq!(reader.next().unwrap(), Some(Item::Flush));
        assert_eq!(reader.next().unwrap(), None);
        for bad in [b"0009hi".as_slice(), b"000", b"zzzz", b"0002"] {
            assert!(Reader::new(bad).next().is_err(), "{bad:?}");
        }
        let odd = Reader::new(b"0007a\xffb").next().unwrap();
        assert_eq!(odd, Some(Item::Line("a\u{fffd}b".into())));
    }

    #[test]
    fn errors_are_one_line() {
        assert_eq!(&error("a\nb", false)[..], b"000cERR a b\n");
        assert_eq!(&error("no", true)[..], b"0008\x03no\n0000");
    }
}
