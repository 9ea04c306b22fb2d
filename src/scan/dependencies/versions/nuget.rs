//! NuGet: Semantic Versioning with up to four numbers and without regard to case
//! (<https://learn.microsoft.com/nuget/concepts/package-versioning>).

use std::cmp::Ordering;

use super::{compare_numbers, is_number, semver};

pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let (core_a, pre_a) = parts(&a);
    let (core_b, pre_b) = parts(&b);
    let (mut x, mut y) = (core_a.split('.'), core_b.split('.'));
    loop {
        let (x, y) = match (x.next(), y.next()) {
            (None, None) => break,
            (x, y) => (x.unwrap_or("0"), y.unwrap_or("0")),
        };
        let order = match (is_number(x), is_number(y)) {
            (true, true) => compare_numbers(x, y),
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => x.cmp(y),
        };
        if order.is_ne() {
            return order;
        }
    }
    match (pre_a, pre_b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => semver::compare_pre(a, b),
    }
}

fn parts(version: &str) -> (&str, Option<&str>) {
    let version = version.strip_prefix('v').unwrap_or(version);
    let version = version.split('+').next().unwrap_or(version);
    match version.split_once('-') {
        Some((core, pre)) => (core, Some(pre)),
        None => (version, None),
    }
}
