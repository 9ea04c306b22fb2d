//! `Range` of one part (RFC 9110, section 14). Several parts and other units may be
//! ignored, and are: the answer is then the whole file.

use std::ops::Range;

use axum::http::{HeaderMap, header};

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All bytes.
    Whole,
    /// These, which lie within the file.
    Part(Range<u64>),
    /// Only bytes that are not there.
    Nothing,
}

/// Reads `Range`, and `If-Range`, which makes it count only for this very tag.
pub(super) fn of(headers: &HeaderMap, etag: &str, size: u64) -> Wanted {
    let same = headers.get(header::IF_RANGE).is_none_or(|tag| tag.as_bytes() == etag.as_bytes());
    let mut values = headers.get_all(header::RANGE).iter();
    match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
        (Some(text), None) if same => parse(text, size).unwrap_or(Wanted::Whole),
        _ => Wanted::Whole,
    }
}

fn parse(text: &str, size: u64) -> Option<Wanted> {
    let (unit, set) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // More digits than fit stand behind every file.
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let part = match (first, last) {
        ("", last) => size.saturating_sub(number(last)?)..size,
        (first, "") => number(first)?..size,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(size)
        }
    };
    Some(if part.start < part.end { Wanted::Part(part) } else { Wanted::Nothing })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn wanted(range: &str, size: u64) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(range).unwrap());
        of(&headers, "\"a\"", size)
    }

    #[test]
    fn parts() {
        assert_eq!(wanted("bytes=0-0", 10), Wanted::Part(0..1));
        assert_eq!(wanted("bytes=2-", 10), Wanted::Part(2..10));
        assert_eq!(wanted("bytes=-3", 10), Wanted::Part(7..10));
        assert_eq!(wanted("bytes=-30", 10), Wanted::Part(0..10));
        assert_eq!(wanted("bytes=5-99999999999999999999999", 10), Wanted::Part(5..10));
    }

    #[test]
    fn what_is_not_there() {
        for range in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(wanted(range, 10), Wanted::Nothing, "{range}");
        }
        assert_eq!(wanted("bytes=0-", 0), Wanted::Nothing);
    }

    #[test]
    fn what_is_ignored() {
        for range in [
            "bytes=5-2",
            "bytes=a-b",
            "bytes=1-2,4-5",
            "lines=1-2",
            "bytes",
            "bytes=-",
            "bytes=+1-2",
            "bytes=--1",
        ] {
            assert_eq!(wanted(range, 10), Wanted::Whole, "{range}");
        }
    }

    #[test]
    fn only_of_the_same_file() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-1"));
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"a\""));
        assert_eq!(of(&headers, "\"a\"", 10), Wanted::Part(0..2));
        assert_eq!(of(&headers, "\"b\"", 10), Wanted::Whole);
    }
}
