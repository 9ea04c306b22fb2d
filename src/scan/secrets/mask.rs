//! Shows where a secret stands without showing it.
//!
//! Invariant: no snippet and no message that leaves this engine holds a value
//! that was found, nor more of it than its first four and last two characters.

use std::ops::Range;

use crate::scan::model::MAX_SNIPPET;

/// What stands for the hidden part, whatever its length.
const HIDDEN: &str = "********";

/// The value as it may be shown.
pub fn masked(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let count = text.chars().count();
    if text.contains('\n') || count < 12 {
        return HIDDEN.to_owned();
    }
    let (first, last) = if count >= 20 { (4, 2) } else { (2, 0) };
    let head: String = text.chars().take(first).collect();
    let tail: String = text.chars().skip(count - last).collect();
    format!("{head}{HIDDEN}{tail}")
}

/// The line (or lines) of `place`, with every span of `secrets` masked, at most
/// [`MAX_SNIPPET`] bytes.
///
/// `secrets` is sorted by start and without overlaps. Every further occurrence of
/// a masked value in the shown text is masked too.
pub fn snippet(bytes: &[u8], place: Range<usize>, secrets: &[Range<usize>]) -> String {
    /// Bytes of the file shown before and behind the place, at most.
    const AROUND: usize = 160;
    let line_start =
        memchr::memrchr(b'\n', &bytes[..place.start.min(bytes.len())]).map_or(0, |p| p + 1);
    let line_end = memchr::memchr(b'\n', bytes.get(place.end..).unwrap_or_default())
        .map_or(bytes.len(), |p| place.end + p);
    let mut start = line_start.max(place.start.saturating_sub(AROUND));
    let mut end = line_end.min(place.end + AROUND);
    // A secret that is cut by the edge is left out whole, or its visible rest
    // would escape the mask.
    let first = secrets.partition_point(|s| s.end <= start);
    let shown = secrets.get(first..).unwrap_or_default();
    let shown = &shown[..shown.partition_point(|s| s.start < end)];
    for secret in shown {
        if secret.start < start {
            start = start.max(secret.end).min(place.start);
        }
        if secret.end > end && secret.start > place.start {
            end = end.min(secret.start).max(place.end);
        }
    }
    let mut out = String::new();
    let mut at = start;
    for secret in shown.iter().filter(|s| s.start >= start && s.end <= end) {
        push_text(&mut out, bytes.get(at..secret.start).unwrap_or_default());
        out.push_str(&masked(bytes.get(secret.clone()).unwrap_or_default()));
        at = secret.end;
    }
    push_text(&mut out, bytes.get(at..end).unwrap_or_default());
    for secret in shown {
        let value = String::from_utf8_lossy(bytes.get(secret.clone()).unwrap_or_default());
        if value.len() >= 4 && out.contains(&*value) {
            out = out.replace(&*value, HIDDEN);
        }
    }
    truncate(out.trim_end().to_owned())
}

/// Text as it may be printed on a terminal: no control characters but tab.
fn push_text(out: &mut String, bytes: &[u8]) {
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '\r' => {}
            '\t' | '\n' => out.push(c),
            c if c.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
}

fn truncate(mut text: String) -> String {
    if text.len() > MAX_SNIPPET {
        let mut end = MAX_SNIPPET - 3;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_values_show_nothing() {
        assert_eq!(masked(b"hunter2"), HIDDEN);
        assert_eq!(masked(b"abcdefghijkl"), "ab********");
        assert_eq!(masked(b"abcdefghijklmnopqrstuvwxyz"), "abcd********yz");
        assert_eq!(masked(b"-----BEGIN\nabcdefghijklmnopq"), HIDDEN);
    }

    #[test]
    fn a_line_shows_no_secret() {
        let text = b"first\nuser=u pass=hunter2 again=hunter2 other=q8Zt3LmPx0Yv7RbKc2Wd\nlast";
        let a = 18..25;
        let b = 46..66;
        let shown = snippet(text, a.clone(), &[a, b]);
        assert_eq!(shown, "user=u pass=******** again=******** other=q8Zt********Wd");
    }

    #[test]
    fn long_lines_are_cut_around_the_place_and_cut_secrets_left_out() {
        let mut text = vec![b'a'; 10_000];
        text[4900..4950].copy_from_slice(&[b'S'; 50]);
        text[5060..5200].copy_from_slice(&[b'T'; 140]);
        text[4730..4790].copy_from_slice(&[b'U'; 60]);
        let shown = snippet(&text, 4900..4950, &[4730..4790, 4900..4950, 5060..5200]);
        assert!(shown.len() <= MAX_SNIPPET);
        assert!(
            !shown.contains("TT") && !shown.contains("UU") && !shown.contains("SSSSS"),
            "{shown}"
        );
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        let place = 11..18;
        let shown = snippet(b"x\x1b[31mpass=hunter2", place.clone(), std::slice::from_ref(&place));
        assert!(!shown.contains('\x1b'));
    }
}
