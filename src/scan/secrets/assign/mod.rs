//! The assignment detector: the name says that the value is a secret, the value is
//! written down, and it looks like one.
//!
//! Only lines with a word of [`name::TRIGGERS`] are read. Each is split by the
//! quoting rules of its format ([`lexer`]); the values in it are matched with the
//! names that they are given to and judged ([`value`]).

pub mod lexer;
pub mod line;
pub mod name;
pub mod value;

use std::ops::Range;

use self::line::Line;
use self::name::Class;
use super::format::Facet;
use super::found::Budget;
use crate::scan::model::Confidence;

/// Lines up to this many bytes on either side of a trigger are read whole. In longer
/// ones, as minified code has, reading begins at the name that holds the trigger:
/// anywhere else it would not be known whether a quote opens or closes.
const BEFORE: usize = 512;
const BEHIND: usize = 1024;

/// Bytes that are read behind a trigger in a longer line.
const BEHIND_IN_LONG: usize = 512;

/// In long lines, a trigger this far behind the last one is read anew.
const STEP: usize = 256;

/// A value that was assigned to a telling name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Where the value stands.
    pub span: Range<usize>,
    /// The name as written.
    pub name: String,
    /// What the name promises.
    pub class: Class,
    /// How sure.
    pub confidence: Confidence,
}

/// All assignments near the triggers (ascending offsets), without repetition.
pub fn assignments(
    bytes: &[u8],
    facet: Facet,
    triggers: &[usize],
    budget: &mut Budget<'_>,
) -> Vec<Assignment> {
    let mut all = Vec::new();
    let mut done = 0;
    for trigger in triggers {
        if *trigger < done {
            continue;
        }
        if budget.is_spent() || all.len() >= 20_000 {
            break;
        }
        let (window, whole) = window(bytes, *trigger);
        done = if whole { window.end } else { trigger + STEP };
        Line { bytes, facet, window, all: &mut all }.read();
    }
    all.sort_by_key(|a: &Assignment| (a.span.start, a.span.end));
    all.dedup_by(|a, b| a.span == b.span);
    all
}

/// The line of a trigger, with the next one if it ends where a value is expected;
/// and whether it is the whole line.
fn window(bytes: &[u8], trigger: usize) -> (Range<usize>, bool) {
    let from = trigger.saturating_sub(BEFORE);
    let before = bytes.get(from..trigger).unwrap_or_default();
    let (start, behind) = match memchr::memrchr(b'\n', before) {
        Some(p) => (from + p + 1, BEHIND),
        None if from == 0 => (0, BEHIND),
        None => {
            let name = before.iter().rev().take(60).take_while(|b| lexer::is_word(**b)).count();
            let quote = trigger.checked_sub(name + 1).and_then(|p| bytes.get(p));
            let quoted = usize::from(matches!(quote, Some(b'"' | b'\'' | b'`')));
            (trigger - name - quoted, BEHIND_IN_LONG)
        }
    };
    let most = bytes.len().min(trigger + behind);
    let line_end = |from: usize| {
        memchr::memchr(b'\n', bytes.get(from..most).unwrap_or_default()).map_or(most, |p| from + p)
    };
    let mut end = line_end(trigger);
    let line = bytes.get(start..end).unwrap_or_default().trim_ascii_end();
    let waits = matches!(line.last(), Some(b'=' | b'(' | b'\\')) || is_entry_name(line);
    if waits && end < most {
        end = line_end(end + 1);
    }
    let begins = start == 0 || bytes.get(start - 1) == Some(&b'\n');
    let ends = bytes.get(end).is_none_or(|b| *b == b'\n');
    (start..end, begins && ends)
}

/// True for a line such as `- name: DB_PASSWORD` or `"name": "DB_PASSWORD",`: the
/// value stands on the next line.
fn is_entry_name(line: &[u8]) -> bool {
    let text = line.trim_ascii_start();
    let text = text.strip_prefix(b"-").unwrap_or(text).trim_ascii_start();
    let text = text.strip_prefix(b"\"").unwrap_or(text);
    let low = text.get(..5).unwrap_or_default().to_ascii_lowercase();
    (low.starts_with(b"name") || low.starts_with(b"key")) && memchr::memchr(b':', text).is_some()
}

#[cfg(test)]
mod tests;
