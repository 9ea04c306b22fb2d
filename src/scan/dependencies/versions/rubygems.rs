//! RubyGems: the order of `Gem::Version`
//! (<https://docs.ruby-lang.org/en/master/Gem/Version.html>).

use std::cmp::Ordering;

use super::{compare_numbers, is_number, runs};

pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (segments(a), segments(b));
    for n in 0..a.len().max(b.len()) {
        let x = a.get(n).map_or("0", String::as_str);
        let y = b.get(n).map_or("0", String::as_str);
        let order = match (is_number(x), is_number(y)) {
            (true, true) => compare_numbers(x, y),
            // A letter makes a pre-release, which comes before any number.
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => x.cmp(y),
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// The canonical segments: numbers and words, with the zeros dropped that end the
/// leading numbers and those that end the whole (`1.0.0.a.0` is `1.a`).
fn segments(version: &str) -> Vec<String> {
    // A hyphen starts a pre-release.
    let version = version.replace('-', ".pre.");
    let mut all: Vec<String> = version.split('.').flat_map(runs).map(str::to_owned).collect();
    let numbers = all.iter().position(|s| !is_number(s)).unwrap_or(all.len());
    let mut behind = all.split_off(numbers);
    let drop_zeros = |list: &mut Vec<String>| {
        while list.last().is_some_and(|s| is_number(s) && s.bytes().all(|b| b == b'0')) {
            list.pop();
        }
    };
    drop_zeros(&mut all);
    drop_zeros(&mut behind);
    all.append(&mut behind);
    all
}
