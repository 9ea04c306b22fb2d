//! Packagist: the order of PHP's `version_compare`
//! (<https://www.php.net/manual/function.version-compare.php>), which Composer's
//! own order agrees with for all normalised versions.

use std::cmp::Ordering;

use super::{compare_numbers, is_number, runs};

pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (canonical(a), canonical(b));
    let common = a.len().min(b.len());
    for (x, y) in a.iter().zip(&b) {
        let order = compare_parts(x, y);
        if order.is_ne() {
            return order;
        }
    }
    // What is left over is a further number (then it is newer), or a word, which is
    // compared with "a number stands here".
    match a.len().cmp(&b.len()) {
        Ordering::Equal => Ordering::Equal,
        Ordering::Greater => leftover(&a, common),
        Ordering::Less => leftover(&b, common).reverse(),
    }
}

fn leftover(parts: &[String], from: usize) -> Ordering {
    for part in parts.get(from..).unwrap_or_default() {
        if is_number(part) {
            return Ordering::Greater;
        }
        let order = rank(part).cmp(&NUMBER);
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// Separators become dots, and so does every change between digits and letters.
fn canonical(version: &str) -> Vec<String> {
    let version = version.strip_prefix(['v', 'V']).unwrap_or(version);
    version
        .split(|c: char| !c.is_alphanumeric() && c != '#')
        .flat_map(runs)
        .map(str::to_owned)
        .collect()
}

fn compare_parts(a: &str, b: &str) -> Ordering {
    match (is_number(a), is_number(b)) {
        (true, true) => compare_numbers(a, b),
        (true, false) => NUMBER.cmp(&rank(b)),
        (false, true) => rank(a).cmp(&NUMBER),
        (false, false) => rank(a).cmp(&rank(b)),
    }
}

/// Where a number stands among the words.
const NUMBER: u8 = 5;

/// Any other word < dev < alpha = a < beta = b < RC = rc < # (a number) < pl = p.
/// The words are told by how they start.
fn rank(word: &str) -> u8 {
    [
        ("dev", 1),
        ("alpha", 2),
        ("a", 2),
        ("beta", 3),
        ("b", 3),
        ("RC", 4),
        ("rc", 4),
        ("#", NUMBER),
        ("pl", 6),
        ("p", 6),
    ]
    .into_iter()
    .find(|(start, _)| word.starts_with(start))
    .map_or(0, |(_, rank)| rank)
}
