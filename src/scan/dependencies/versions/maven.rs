//! Maven: the order of `ComparableVersion`
//! (<https://maven.apache.org/pom.html#version-order-specification>).
//!
//! A version is split at dots and hyphens and at each change between digits and
//! other characters, which counts as a hyphen (an underscore is such a character, as
//! in all releases of Maven 3). Null values (`0`, `""`, `final`,
//! `ga`, `release`) that end the whole or stand before a hyphen are dropped. What
//! remains is compared token by token, a missing one being the null value of its
//! opposite.

use std::cmp::Ordering;

use super::{compare_numbers, is_number, runs};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Separator {
    Dot,
    Hyphen,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    separator: Separator,
    value: String,
}

impl Token {
    fn is_null(&self) -> bool {
        match self.value.as_str() {
            "" | "final" | "ga" | "release" => true,
            value => is_number(value) && value.bytes().all(|b| b == b'0'),
        }
    }

    fn is_number(&self) -> bool {
        is_number(&self.value)
    }

    /// What a missing token counts as when it is compared with this one.
    fn null(&self) -> Self {
        let value = if self.is_number() { "0" } else { "" };
        Self { separator: self.separator, value: value.to_owned() }
    }

    /// `.qualifier` < `-qualifier` < `-number` < `.number`.
    fn class(&self) -> u8 {
        match (self.is_number(), self.separator) {
            (false, Separator::Dot) => 0,
            (false, Separator::Hyphen) => 1,
            (true, Separator::Hyphen) => 2,
            (true, Separator::Dot) => 3,
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        self.class().cmp(&other.class()).then_with(|| {
            if self.is_number() {
                compare_numbers(&self.value, &other.value)
            } else {
                rank(&self.value)
                    .cmp(&rank(&other.value))
                    .then_with(|| canonical(&self.value).cmp(canonical(&other.value)))
            }
        })
    }
}

/// Spellings of the same qualifier.
fn canonical(qualifier: &str) -> &str {
    match qualifier {
        "cr" => "rc",
        "final" | "ga" | "release" => "",
        other => other,
    }
}

/// The known qualifiers in order; any other comes after them, by its letters.
fn rank(qualifier: &str) -> u8 {
    match canonical(qualifier) {
        "alpha" => 0,
        "beta" => 1,
        "milestone" => 2,
        "rc" => 3,
        "snapshot" => 4,
        "" => 5,
        "sp" => 6,
        _ => 7,
    }
}

pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (tokens(a), tokens(b));
    for n in 0..a.len().max(b.len()) {
        let order = match (a.get(n), b.get(n)) {
            (Some(x), Some(y)) => x.compare(y),
            (Some(x), None) => x.compare(&x.null()),
            (None, Some(y)) => y.null().compare(y),
            (None, None) => Ordering::Equal,
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

fn tokens(version: &str) -> Vec<Token> {
    let version = version.to_lowercase();
    let mut all: Vec<Token> = Vec::new();
    let mut separator = Separator::Dot;
    let mut rest = version.as_str();
    loop {
        let end = rest.find(['.', '-']);
        let part = end.and_then(|e| rest.get(..e)).unwrap_or(rest);
        push(&mut all, separator, part);
        let Some(end) = end else { break };
        separator = if rest.as_bytes().get(end) == Some(&b'.') {
            Separator::Dot
        } else {
            Separator::Hyphen
        };
        rest = rest.get(end + 1..).unwrap_or("");
    }
    drop_nulls(&mut all);
    all
}

/// Adds the runs of digits and letters between two separators.
fn push(all: &mut Vec<Token>, separator: Separator, part: &str) {
    if part.is_empty() {
        all.push(Token { separator, value: "0".to_owned() });
        return;
    }
    let mut separator = separator;
    let mut parts = runs(part).peekable();
    while let Some(run) = parts.next() {
        // `a`, `b` and `m` are short forms only right before a number.
        let value = match run {
            "a" if parts.peek().is_some() => "alpha",
            "b" if parts.peek().is_some() => "beta",
            "m" if parts.peek().is_some() => "milestone",
            other => other,
        };
        all.push(Token { separator, value: value.to_owned() });
        separator = Separator::Hyphen;
    }
}

/// Drops null values from the end, and then from before each hyphen that remains.
fn drop_nulls(all: &mut Vec<Token>) {
    let mut kept: Vec<Token> = Vec::with_capacity(all.len());
    for token in all.drain(..) {
        if token.separator == Separator::Hyphen {
            while kept.len() > 1 && kept.last().is_some_and(Token::is_null) {
                kept.pop();
            }
        }
        kept.push(token);
    }
    while kept.len() > 1 && kept.last().is_some_and(Token::is_null) {
        kept.pop();
    }
    *all = kept;
}
