//! The provider detector: keywords first, then the expressions of only those rules
//! whose keyword occurs, in a window around it.
//!
//! One automaton over the keywords of all rules reads the file once. A hit opens a
//! window as wide as the rule's longest match; windows that touch are joined, up to
//! `MAX_JOINED` bytes, so every byte is looked at a bounded number of times by each
//! rule. Rules without a longest match read the whole file, once.
//!
//! The automaton also knows each keyword as it looks inside base64 at each of the
//! three alignments: a hit is decoded and the rule looks at the decoded text.

use std::collections::HashMap;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use memchr::{memchr_iter, memrchr_iter};

use super::assign;
use super::check::{self, Check};
use super::found::{Budget, Found, Rank};
use super::placeholder;
use super::rarity;
use super::rule::{Form, Reach, Rule, RuleError};
use crate::scan::model::Severity;

/// Windows are joined up to this size, so that the budget is asked in between.
const MAX_JOINED: usize = 128 << 10;

/// Matches kept for one file before the rest is given up: far above what any file
/// that a person wrote holds.
const MAX_MATCHES: usize = 20_000;

/// Lines on either side of a match in which its pair may stand.
const PAIR_LINES: usize = 5;

/// Longest base64 text around an encoded keyword that is decoded.
const MAX_ENCODED: usize = 8 << 10;

/// Shortest keyword that is looked for inside base64; a shorter one leaves too few
/// characters that do not depend on its neighbours.
const MIN_ENCODED_KEYWORD: usize = 5;

/// What a hit of the automaton means.
#[derive(Debug, Clone)]
enum Target {
    /// A rule, and whether the keyword counts in this case only.
    Rule { rule: usize, exact: Option<Box<[u8]>> },
    /// A rule, its keyword inside base64.
    Encoded { rule: usize, exact: Box<[u8]> },
    /// A word that names of secrets hold.
    Name,
    /// `://`.
    Address,
}

/// What one pass over a file gives.
#[derive(Debug, Default)]
pub struct Pass {
    /// Values that provider rules recognise.
    pub found: Vec<Found>,
    /// Offsets of words that names of secrets hold, ascending.
    pub names: Vec<usize>,
    /// Offsets of `://`, ascending.
    pub addresses: Vec<usize>,
    /// True if there were too many matches.
    pub too_many: bool,
}

/// The compiled keywords of a set of rules.
#[derive(Debug)]
pub struct Keywords {
    automaton: AhoCorasick,
    targets: Vec<Vec<Target>>,
}

impl Keywords {
    /// Compiles the keywords of the rules and of the other detectors.
    pub fn new(rules: &[Rule]) -> Result<Self, RuleError> {
        let mut patterns: HashMap<Vec<u8>, Vec<Target>> = HashMap::new();
        let mut add = |pattern: &[u8], target: Target| {
            patterns.entry(pattern.to_ascii_lowercase()).or_default().push(target);
        };
        for (at, rule) in rules.iter().enumerate() {
            for keyword in &rule.keywords {
                let bytes = keyword.as_bytes();
                let exact = (!rule.any_case && rule.form == Form::Token)
                    .then(|| bytes.to_vec().into_boxed_slice());
                add(bytes, Target::Rule { rule: at, exact });
                if rule.form == Form::Token && bytes.len() >= MIN_ENCODED_KEYWORD {
                    for encoded in encodings(bytes) {
                        add(&encoded, Target::Encoded { rule: at, exact: encoded.clone().into() });
                    }
                }
            }
        }
        for word in assign::name::TRIGGERS {
            add(word.as_bytes(), Target::Name);
        }
        add(b"://", Target::Address);
        let mut patterns: Vec<_> = patterns.into_iter().collect();
        patterns.sort_by(|a, b| a.0.cmp(&b.0));
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::DFA))
            .build(patterns.iter().map(|(p, _)| p))
            .map_err(|e| RuleError::Keywords(e.to_string()))?;
        Ok(Self { automaton, targets: patterns.into_iter().map(|(_, t)| t).collect() })
    }

    /// Reads a file once.
    pub fn pass(&self, rules: &[Rule], bytes: &[u8], budget: &mut Budget<'_>) -> Pass {
        let mut pass = Pass::default();
        let mut windows: Vec<Option<Range<usize>>> = vec![None; rules.len()];
        let mut whole: Vec<bool> = vec![false; rules.len()];
        let mut decoded_to = 0;
        for hit in self.automaton.find_overlapping_iter(bytes) {
            if budget.is_spent() || pass.too_many {
                break;
            }
            for target in self.targets.get(hit.pattern().as_usize()).into_iter().flatten() {
                match target {
                    Target::Name => {
                        if pass.names.last().is_none_or(|last| *last < hit.start()) {
                            pass.names.push(hit.start());
                        }
                    }
                    Target::Address => pass.addresses.push(hit.start()),
                    Target::Encoded { rule, exact } => {
                        if bytes.get(hit.range()) == Some(exact) && hit.start() >= decoded_to {
                            decoded_to = look_inside(rules, *rule, bytes, hit.range(), &mut pass);
                        }
                    }
                    Target::Rule { rule: at, exact } => {
                        if exact.as_deref().is_some_and(|e| bytes.get(hit.range()) != Some(e)) {
                            continue;
                        }
                        let Some(rule) = rules.get(*at) else { continue };
                        let window = match rule.reach {
                            Reach::File => {
                                whole[*at] = true;
                                continue;
                            }
                            Reach::From(n) => hit.start()..bytes.len().min(hit.start() + n),
                            Reach::Around(n) => {
                                hit.start().saturating_sub(n)..bytes.len().min(hit.end() + n)
                            }
                        };
                        match &mut windows[*at] {
                            Some(open) if window.start <= open.end && open.len() < MAX_JOINED => {
                                open.end = open.end.max(window.end);
                            }
                            slot => {
                                if let Some(done) = slot.replace(window) {
                                    look(*at, rule, bytes, done, &mut pass);
                                }
                            }
                        }
                    }
                }
            }
        }
        for (at, rule) in rules.iter().enumerate() {
            if budget.is_spent() {
                break;
            }
            if whole.get(at) == Some(&true) {
                look(at, rule, bytes, 0..bytes.len(), &mut pass);
            } else if let Some(window) = windows.get_mut(at).and_then(Option::take) {
                look(at, rule, bytes, window, &mut pass);
            }
        }
        pairs(rules, bytes, &mut pass, budget);
        pass
    }
}

/// How a keyword looks inside base64 at each of the three alignments, without the
/// characters that depend on its neighbours.
fn encodings(keyword: &[u8]) -> Vec<Vec<u8>> {
    (0..3_usize)
        .filter_map(|shift| {
            let padded: Vec<u8> =
                std::iter::repeat_n(0, shift).chain(keyword.iter().copied()).collect();
            let text = STANDARD_NO_PAD.encode(&padded).into_bytes();
            // A character holds six bits: skip those that hold bits of the padding
            // in front, drop those that would hold bits of what follows.
            let from = (shift * 8).div_ceil(6);
            let to = padded.len() * 8 / 6;
            text.get(from..to).filter(|t| t.len() >= 5).map(<[u8]>::to_vec)
        })
        .collect()
}

/// Runs one rule over one window.
fn look(at: usize, rule: &Rule, bytes: &[u8], window: Range<usize>, pass: &mut Pass) {
    let Some(regex) = rule.regex() else { return };
    let Some(text) = bytes.get(window.clone()) else {
        return;
    };
    let grouped = rule.form != Form::Token;
    let mut from = 0;
    while from < text.len() {
        let (whole, value) = if grouped {
            let Some(captures) = regex.captures_at(text, from) else {
                break;
            };
            let Some(whole) = captures.get(0).map(|m| m.range()) else {
                break;
            };
            let value = captures.name("value").map_or_else(|| whole.clone(), |m| m.range());
            (whole, value)
        } else {
            let Some(found) = regex.find_at(text, from) else {
                break;
            };
            (found.range(), found.range())
        };
        let span = window.start + value.start..window.start + value.end;
        if accept(rule, bytes, &span) {
            from = whole.end.max(from + 1);
            push(at, rule, span, None, pass);
        } else {
            // The next match may begin inside of one that was refused; stepping to
            // its first byte would make refusals quadratic, so the step is half of
            // the shortest match.
            from = (whole.start + (rule.min_len / 2).max(1))
                .max(from + 1)
                .min(whole.end.max(from + 1));
        }
        if pass.too_many {
            return;
        }
    }
}

fn push(at: usize, rule: &Rule, span: Range<usize>, value: Option<Vec<u8>>, pass: &mut Pass) {
    if pass.found.len() >= MAX_MATCHES {
        pass.too_many = true;
        return;
    }
    let rank = match rule.form {
        _ if rule.prefixed || !matches!(rule.check, Check::None | Check::Mixed) => Rank::Checked,
        Form::Token | Form::Regex => Rank::Token,
        Form::Near | Form::Pair(_) => Rank::Near,
    };
    pass.found.push(Found {
        rule: at,
        span,
        value,
        rank,
        severity: rule.info.severity,
        confidence: rule.confidence,
        name: None,
    });
}

/// The filters behind the expression: neighbours, structure, chance, samples.
fn accept(rule: &Rule, bytes: &[u8], span: &Range<usize>) -> bool {
    let Some(value) = bytes.get(span.clone()) else {
        return false;
    };
    if rule.check == Check::Pem {
        return rule.check.holds(value);
    }
    // The expression of the other forms says itself what stands in front.
    let own_front = matches!(rule.form, Form::Regex | Form::Near);
    (own_front || begins(bytes, span.start))
        && ends(bytes, span)
        && !in_blob(bytes, span)
        && rarity::entropy(value) >= rule.entropy
        && !placeholder::is_placeholder(value)
        && rule.check.holds(value)
}

/// True if no word goes on behind the value.
fn ends(bytes: &[u8], span: &Range<usize>) -> bool {
    let last_is_word = bytes.get(span.end.wrapping_sub(1)).is_some_and(is_word);
    !(last_is_word && bytes.get(span.end).is_some_and(is_word))
}

/// True if no word stands directly in front of the place.
fn begins(bytes: &[u8], start: usize) -> bool {
    let back = |n: usize| start.checked_sub(n).and_then(|p| bytes.get(p));
    let Some(before) = back(1) else { return true };
    if !is_word(before) {
        return true;
    }
    // `\n` in front of a value in a string, `%3D` in an address.
    let escape = back(2) == Some(&b'\\') && matches!(before, b'n' | b't' | b'r');
    let percent = back(3) == Some(&b'%') && before.is_ascii_hexdigit();
    escape || percent
}

fn is_word(b: &u8) -> bool {
    b.is_ascii_alphanumeric() || *b == b'_'
}

/// True for a place inside a long run of base64: chance makes keywords there.
fn in_blob(bytes: &[u8], span: &Range<usize>) -> bool {
    let blob = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let before = bytes.get(span.start.saturating_sub(120)..span.start).unwrap_or_default();
    let behind = bytes.get(span.end..bytes.len().min(span.end + 120)).unwrap_or_default();
    let run = before.iter().rev().take_while(|b| blob(b)).count()
        + behind.iter().take_while(|b| blob(b)).count();
    run >= 100
}

/// Decodes the base64 around an encoded keyword and runs the rule on it; returns
/// the end of what was decoded.
fn look_inside(
    rules: &[Rule],
    at: usize,
    bytes: &[u8],
    hit: Range<usize>,
    pass: &mut Pass,
) -> usize {
    let Some(rule) = rules.get(at) else {
        return hit.end;
    };
    let alphabet = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_');
    let before = bytes.get(hit.start.saturating_sub(MAX_ENCODED)..hit.start).unwrap_or_default();
    let behind = bytes.get(hit.end..bytes.len().min(hit.end + MAX_ENCODED)).unwrap_or_default();
    let start = hit.start - before.iter().rev().take_while(|b| alphabet(b)).count();
    let end = hit.end + behind.iter().take_while(|b| alphabet(b)).count();
    let run = bytes.get(start..end).unwrap_or_default();
    let Some(plain) = check::decode(run) else {
        return hit.end;
    };
    let mut inner = Pass::default();
    look(at, rule, &plain, 0..plain.len(), &mut inner);
    for found in inner.found.into_iter().take(1) {
        let value = plain.get(found.span).map(<[u8]>::to_vec);
        push(at, rule, start..end, value, pass);
    }
    end
}

/// Looks for the second halves near the first ones.
fn pairs(rules: &[Rule], bytes: &[u8], pass: &mut Pass, budget: &mut Budget<'_>) {
    for (at, rule) in rules.iter().enumerate() {
        let Form::Pair(first) = rule.form else {
            continue;
        };
        let mut done = 0;
        let places: Vec<_> = pass
            .found
            .iter()
            .enumerate()
            .filter(|(_, f)| f.rule == first)
            .map(|(half, f)| (half, f.span.clone()))
            .collect();
        for (half, place) in places {
            if budget.is_spent() {
                return;
            }
            let window = lines_around(bytes, &place);
            let window = window.start.max(done)..window.end;
            if window.is_empty() {
                continue;
            }
            done = window.end;
            let before = pass.found.len();
            look(at, rule, bytes, window, pass);
            // Both halves together are as bad as the second one.
            if pass.found.len() > before
                && let Some(half) = pass.found.get_mut(half)
            {
                half.severity = half.severity.max(rule.info.severity.min(Severity::High));
            }
        }
    }
}

/// The lines around a place, at most 2 KiB on either side.
fn lines_around(bytes: &[u8], place: &Range<usize>) -> Range<usize> {
    const MOST: usize = 2048;
    let before_from = place.start.saturating_sub(MOST);
    let before = bytes.get(before_from..place.start).unwrap_or_default();
    let start =
        memrchr_iter(b'\n', before).nth(PAIR_LINES).map_or(before_from, |p| before_from + p + 1);
    let behind_to = bytes.len().min(place.end + MOST);
    let behind = bytes.get(place.end..behind_to).unwrap_or_default();
    let end = memchr_iter(b'\n', behind).nth(PAIR_LINES).map_or(behind_to, |p| place.end + p);
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_inside_base64_at_each_alignment() {
        for front in ["", "a", "ab", "abc"] {
            let text =
                base64::engine::general_purpose::STANDARD.encode(format!("{front}dckr_pat_rest"));
            let hits = encodings(b"dckr_pat_")
                .iter()
                .filter(|e| memchr::memmem::find(text.as_bytes(), e).is_some())
                .count();
            assert_eq!(hits, 1, "{text}");
        }
    }

    #[test]
    fn words_around_a_value_refuse_it() {
        assert!(begins(b"x=abc;", 2) && ends(b"x=abc;", &(2..5)));
        assert!(!begins(b"xabc", 1));
        assert!(!ends(b"abcd", &(0..3)));
        assert!(begins(b"\\nabc", 2));
        assert!(begins(b"%3Dabc", 3));
    }

    #[test]
    fn a_place_inside_a_blob_is_refused() {
        let blob = [vec![b'q'; 80], b"/abc/".to_vec(), vec![b'q'; 80]].concat();
        assert!(in_blob(&blob, &(81..84)));
        assert!(!in_blob(b"x = 'abc/def'", &(5..8)));
    }
}
