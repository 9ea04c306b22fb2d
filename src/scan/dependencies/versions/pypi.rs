//! PyPI: PEP 440
//! (<https://packaging.python.org/specifications/version-specifiers/>). What is no
//! version by PEP 440 sorts before everything that is, in the order that setuptools
//! used before it, since old releases are still listed in advisories.

use std::cmp::Ordering;

use super::{compare_numbers, is_number};

pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    match (Version::parse(&a), Version::parse(&b)) {
        (Some(x), Some(y)) => x.compare(&y),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => legacy(&a).cmp(&legacy(&b)),
    }
}

#[derive(Debug, Default)]
struct Version<'a> {
    epoch: &'a str,
    release: Vec<&'a str>,
    /// 0 alpha, 1 beta, 2 candidate.
    pre: Option<(u8, &'a str)>,
    post: Option<&'a str>,
    dev: Option<&'a str>,
    local: Option<&'a str>,
}

impl<'a> Version<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (text, local) = match text.split_once('+') {
            Some((text, local)) => (text, Some(local)),
            None => (text, None),
        };
        if local.is_some_and(|l| {
            l.split(['.', '-', '_'])
                .any(|p| p.is_empty() || !p.bytes().all(|b| b.is_ascii_alphanumeric()))
        }) {
            return None;
        }
        let (epoch, mut rest) = text.split_once('!').unwrap_or(("0", text));
        if !is_number(epoch) {
            return None;
        }
        let mut version = Self { epoch, local, ..Self::default() };
        loop {
            let (number, behind) = digits(rest);
            if number.is_empty() {
                return None;
            }
            version.release.push(number);
            rest = behind;
            match rest.strip_prefix('.') {
                Some(next) if next.starts_with(|c: char| c.is_ascii_digit()) => rest = next,
                _ => break,
            }
        }
        if let Some((kind, behind)) = word(
            rest,
            &[
                ("alpha", 0),
                ("a", 0),
                ("beta", 1),
                ("b", 1),
                ("preview", 2),
                ("pre", 2),
                ("rc", 2),
                ("c", 2),
            ],
        ) {
            let (number, behind) = numbered(behind);
            version.pre = Some((kind, number));
            rest = behind;
        }
        if let Some((_, behind)) = word(rest, &[("post", 0), ("rev", 0), ("r", 0)]) {
            let (number, behind) = numbered(behind);
            version.post = Some(number);
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix('-')
            && behind.starts_with(|c: char| c.is_ascii_digit())
        {
            let (number, behind) = digits(behind);
            version.post = Some(number);
            rest = behind;
        }
        if let Some((_, behind)) = word(rest, &[("dev", 0)]) {
            let (number, behind) = numbered(behind);
            version.dev = Some(number);
            rest = behind;
        }
        rest.is_empty().then_some(version)
    }

    fn compare(&self, other: &Self) -> Ordering {
        compare_numbers(self.epoch, other.epoch)
            .then_with(|| {
                let longest = self.release.len().max(other.release.len());
                (0..longest)
                    .map(|n| {
                        let at = |v: &Self| v.release.get(n).copied().unwrap_or("0");
                        compare_numbers(at(self), at(other))
                    })
                    .find(|o| o.is_ne())
                    .unwrap_or(Ordering::Equal)
            })
            .then_with(|| self.stage().cmp(&other.stage()))
            .then_with(|| optional(self.pre.map(|p| p.1), other.pre.map(|p| p.1)))
            // No post-release comes before any.
            .then_with(|| optional(self.post, other.post))
            .then_with(|| match (self.dev, other.dev) {
                (None, None) => Ordering::Equal,
                // A development release comes before what it develops.
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some(a), Some(b)) => compare_numbers(a, b),
            })
            .then_with(|| match (self.local, other.local) {
                (None, None) => Ordering::Equal,
                (None, Some(_)) => Ordering::Less,
                (Some(_), None) => Ordering::Greater,
                (Some(a), Some(b)) => compare_locals(a, b),
            })
    }

    /// `1.0.dev1` < `1.0a1` < `1.0b1` < `1.0rc1` < `1.0` (and its post-releases).
    fn stage(&self) -> u8 {
        match (self.pre, self.post, self.dev) {
            (Some((kind, _)), _, _) => 1 + kind,
            (None, None, Some(_)) => 0,
            _ => 4,
        }
    }
}

fn optional(a: Option<&str>, b: Option<&str>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(a), Some(b)) => compare_numbers(a, b),
    }
}

fn compare_locals(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split(['.', '-', '_']), b.split(['.', '-', '_']));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) => match (is_number(x), is_number(y)) {
                (true, true) => compare_numbers(x, y),
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => x.cmp(y),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn without_separator(text: &str) -> &str {
    text.strip_prefix(['.', '-', '_']).unwrap_or(text)
}

/// One of the words, after an optional separator.
fn word<'a>(text: &'a str, words: &[(&str, u8)]) -> Option<(u8, &'a str)> {
    let text = without_separator(text);
    words.iter().find_map(|(w, kind)| text.strip_prefix(w).map(|behind| (*kind, behind)))
}

/// The number behind a word; without one it is zero, and a separator stays.
fn numbered(text: &str) -> (&str, &str) {
    let (number, behind) = digits(without_separator(text));
    if number.is_empty() { ("0", text) } else { (number, behind) }
}

/// The key of setuptools' old order: numbers padded, words starred so that they
/// sort before numbers, `final` ends them, and zeros before it are dropped.
fn legacy(version: &str) -> Vec<String> {
    let mut key: Vec<String> = Vec::new();
    let mut push = |part: &str| {
        if part.starts_with('*') {
            if part < "*final" {
                while key.last().is_some_and(|p| p == "*final-") {
                    key.pop();
                }
            }
            while key.last().is_some_and(|p| p == "00000000") {
                key.pop();
            }
        }
        key.push(part.to_owned());
    };
    let mut rest = version;
    while let Some(first) = rest.chars().next() {
        let kind = |c: char| match c {
            '0'..='9' => 0,
            'a'..='z' => 1,
            '.' => 2,
            '-' => 3,
            _ => 4,
        };
        let of = kind(first);
        let end = if of == 2 || of == 3 {
            1
        } else {
            rest.char_indices().find(|(_, c)| kind(*c) != of).map_or(rest.len(), |(n, _)| n)
        };
        let (part, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
        rest = behind;
        match part {
            "." => {}
            "-" => push("*final-"),
            "pre" | "preview" | "rc" => push("*c"),
            "dev" => push("*@"),
            _ if of == 0 => push(&format!("{part:0>8}")),
            _ => push(&format!("*{part}")),
        }
    }
    push("*final");
    key
}
