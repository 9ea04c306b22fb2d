//! Bytes or text, and which text.

use std::borrow::Cow;

/// How the characters of a text stand in its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// UTF-8, with or without its mark; ASCII too.
    Utf8,
    /// UTF-16, low byte first.
    Utf16Le,
    /// UTF-16, high byte first.
    Utf16Be,
    /// One byte a character, the first 256 of Unicode. Any bytes are valid, so
    /// this is what text that is nothing else is taken for.
    Latin1,
}

/// Bytes of the head by which a file is judged; git looks at 8,000 too.
const HEAD: usize = 8000;

/// The encoding of a text, or `None` for bytes that are no text.
///
/// A byte-order mark decides. Without one, UTF-16 is told by NUL bytes that stand
/// nearly always at every other place; any other NUL makes it binary, and so do
/// control characters in more than a tenth of the head.
pub fn encoding_of(bytes: &[u8]) -> Option<Encoding> {
    match bytes {
        [0xef, 0xbb, 0xbf, ..] => return Some(Encoding::Utf8),
        // UTF-32 starts with the same two bytes; nothing here reads it.
        [0xff, 0xfe, 0, 0, ..] => return None,
        [0xff, 0xfe, ..] => return Some(Encoding::Utf16Le),
        [0xfe, 0xff, ..] => return Some(Encoding::Utf16Be),
        _ => {}
    }
    let head = &bytes[..bytes.len().min(HEAD)];
    if memchr::memchr(0, head).is_some() {
        return utf16_without_mark(head);
    }
    let controls = head
        .iter()
        .filter(|b| **b < 0x20 && !matches!(**b, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b | 0x08))
        .count();
    if controls * 10 > head.len() {
        return None;
    }
    match std::str::from_utf8(bytes) {
        Ok(_) => Some(Encoding::Utf8),
        // A file that was cut in the middle of a character is still UTF-8.
        Err(e) if e.error_len().is_none() => Some(Encoding::Utf8),
        Err(_) => Some(Encoding::Latin1),
    }
}

fn utf16_without_mark(head: &[u8]) -> Option<Encoding> {
    let pairs = head.len() / 2;
    if pairs < 4 {
        return None;
    }
    let (mut even, mut odd) = (0usize, 0usize);
    for pair in head.chunks_exact(2) {
        even += usize::from(pair[0] == 0);
        odd += usize::from(pair[1] == 0);
    }
    // Nine of ten characters of source code are ASCII.
    if even == 0 && odd * 10 >= pairs * 9 {
        Some(Encoding::Utf16Le)
    } else if odd == 0 && even * 10 >= pairs * 9 {
        Some(Encoding::Utf16Be)
    } else {
        None
    }
}

/// True for bytes that are no text, told by the first 8,000 of them.
pub fn is_binary(bytes: &[u8]) -> bool {
    encoding_of(&bytes[..bytes.len().min(HEAD)]).is_none()
}

/// The text of a file as UTF-8 without its byte-order mark, or `None` for bytes
/// that are no text. Borrows where nothing has to be changed; the copy is at most
/// three times as large as the bytes. Unpaired surrogates and a cut last character
/// become U+FFFD.
pub fn decode(bytes: &[u8]) -> Option<Cow<'_, str>> {
    Some(match encoding_of(bytes)? {
        Encoding::Utf8 => {
            String::from_utf8_lossy(bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(bytes))
        }
        Encoding::Utf16Le => Cow::Owned(utf16(
            bytes.strip_prefix(&[0xff, 0xfe]).unwrap_or(bytes),
            u16::from_le_bytes,
        )),
        Encoding::Utf16Be => Cow::Owned(utf16(
            bytes.strip_prefix(&[0xfe, 0xff]).unwrap_or(bytes),
            u16::from_be_bytes,
        )),
        Encoding::Latin1 => Cow::Owned(bytes.iter().map(|b| char::from(*b)).collect()),
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    char::decode_utf16(bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])))
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings() {
        let le: Vec<u8> = "key = 'ä'\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let be: Vec<u8> = "plain text\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(encoding_of(&le), Some(Encoding::Utf16Le));
        assert_eq!(decode(&le).as_deref(), Some("key = 'ä'\n"));
        assert_eq!(encoding_of(&be), Some(Encoding::Utf16Be));
        assert_eq!(decode(&be).as_deref(), Some("plain text\n"));
        let mut marked = vec![0xff, 0xfe];
        marked.extend(&le);
        assert_eq!(decode(&marked).as_deref(), Some("key = 'ä'\n"));
        assert_eq!(decode(b"\xef\xbb\xbfabc").as_deref(), Some("abc"));
        assert_eq!(encoding_of(b"caf\xe9 au lait"), Some(Encoding::Latin1));
        assert_eq!(decode(b"caf\xe9 au lait").as_deref(), Some("café au lait"));
        assert!(matches!(decode(b"plain"), Some(Cow::Borrowed("plain"))));
        assert_eq!(decode(b"").as_deref(), Some(""));
    }

    #[test]
    fn binaries() {
        assert!(is_binary(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"));
        assert!(is_binary(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"));
        assert!(is_binary(&[1, 2, 3, 4, 5, 6, 7, 14]));
        assert!(is_binary(&[0xff, 0xfe, 0, 0, 65, 0, 0, 0]));
        assert!(!is_binary(b"\x1b[31mcolour\x1b[0m"));
        assert!(!is_binary(b""));
    }
}
