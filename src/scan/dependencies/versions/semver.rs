//! Semantic Versioning 2.0.0 (<https://semver.org>), as npm, Cargo and Go use it.
//!
//! More forgiving than the specification, since OSV records are: a leading `v`, a
//! missing minor or patch number (zero), and whatever follows a third number
//! without a hyphen (ignored, like build metadata).

use std::cmp::Ordering;

use super::{compare_numbers, is_number};

pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (Parts::of(a), Parts::of(b));
    for (x, y) in a.numbers.iter().zip(&b.numbers) {
        let order = compare_components(x, y);
        if order.is_ne() {
            return order;
        }
    }
    match (a.pre, b.pre) {
        (None, None) => Ordering::Equal,
        // A version without a pre-release tag is the release itself.
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => compare_pre(a, b),
    }
}

struct Parts<'a> {
    numbers: [&'a str; 3],
    pre: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(version: &'a str) -> Self {
        let version = version.strip_prefix(['v', 'V']).unwrap_or(version);
        let version = version.split('+').next().unwrap_or(version);
        let (core, pre) = match version.split_once('-') {
            Some((core, pre)) => (core, Some(pre)),
            None => (version, None),
        };
        let mut components = core.split('.');
        let numbers = std::array::from_fn(|_| components.next().unwrap_or("0"));
        Self { numbers, pre }
    }
}

/// Numbers as numbers; what is none sorts before all numbers, by its bytes.
fn compare_components(a: &str, b: &str) -> Ordering {
    match (is_number(a), is_number(b)) {
        (true, true) => compare_numbers(a, b),
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => a.cmp(b),
    }
}

/// Rule 11.4: numbers below words, numbers by value, words by ASCII, fewer
/// identifiers below more.
pub(super) fn compare_pre(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) => match (is_number(x), is_number(y)) {
                (true, true) => compare_numbers(x, y),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => x.cmp(y),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}
