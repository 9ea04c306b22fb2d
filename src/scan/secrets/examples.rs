//! The examples of every rule, filled in and run.
//!
//! A template holds fields `<<class:n>>`; each is replaced by characters drawn from
//! a generator with a fixed seed, or by something built to pass a structural check.
//! From each sample near misses are made: too short, glued to a word, and filled
//! with one character.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::check::{self, Check};
use super::rule::{self, Form, Rule};
use super::{Detector, Facet, Format};
use crate::scan::model::{Cancel, FileEngine, FileInput, FileResult, Limits};

/// A linear congruential generator: the same examples in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % below
    }

    fn text(&mut self, alphabet: &str, n: usize) -> String {
        let alphabet = alphabet.as_bytes();
        (0..n).map(|_| char::from(alphabet[self.next(alphabet.len())])).collect()
    }
}

const B62: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Fills in the fields; with `constant` every drawn character is the same.
pub fn fill(template: &str, chance: u64, constant: bool) -> String {
    let mut chance = Chance(chance.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut out = String::new();
    let mut rest = template;
    while let Some((head, tail)) = rest.split_once("<<") {
        let (field, after) = tail.split_once(">>").expect("a field is closed");
        out.push_str(head);
        out.push_str(&value(field, &mut chance, constant));
        rest = after;
    }
    out + rest
}

fn value(field: &str, chance: &mut Chance, constant: bool) -> String {
    let (class, argument) = field.split_once(':').unwrap_or((field, ""));
    let n = || argument.parse::<usize>().expect("a length");
    let mut draw = |alphabet: &str, n: usize| {
        if constant { alphabet[alphabet.len() - 1..].repeat(n) } else { chance.text(alphabet, n) }
    };
    match class {
        // Short values without a digit exist, but the rules may ask for one.
        "b62" => loop {
            let text = draw(B62, n());
            if constant || n() < 16 || Check::Mixed.holds(text.as_bytes()) {
                break text;
            }
        },
        "hex" => draw("0123456789abcdef", n()),
        "digit" => draw("0123456789", n()),
        "AN" => draw("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", n()),
        "an" => draw("abcdefghijklmnopqrstuvwxyz0123456789", n()),
        "alpha" => draw("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", n()),
        "b64" => draw(&format!("{B62}+/"), n() - 1) + &draw(B62, 1),
        "b64u" => draw(B62, 1) + &draw(&format!("-_{B62}"), n() - 2) + &draw(B62, 1),
        "uuid" => format!(
            "{}-{}-4{}-a{}-{}",
            draw("0123456789abcdef", 8),
            draw("0123456789abcdef", 4),
            draw("0123456789abcdef", 3),
            draw("0123456789abcdef", 3),
            draw("0123456789abcdef", 12),
        ),
        "b64bytes" => STANDARD.encode(
            draw(B62, n() / 2)
                .bytes()
                .zip(draw(B62, n() / 2).bytes())
                .flat_map(|(a, b)| [a.wrapping_mul(b), b.wrapping_add(a << 1)])
                .collect::<Vec<u8>>(),
        ),
        "pem" => {
            let body = draw(&format!("{B62}+/"), n() / 4 * 4);
            body.as_bytes()
                .chunks(64)
                .map(|l| String::from_utf8_lossy(l).into_owned())
                .collect::<Vec<_>>()
                .join("\n")
        }
        "aws" => loop {
            let id = format!("AKIA{}", draw("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16));
            if constant || Check::AwsKeyId.holds(id.as_bytes()) {
                break id;
            }
        },
        "crc" | "body" | "whole" => {
            let body = draw(B62, if class == "crc" { 30 } else { 32 });
            let sum = if class == "whole" {
                crc32fast::hash(format!("{argument}{body}").as_bytes())
            } else {
                crc32fast::hash(body.as_bytes())
            };
            format!("{argument}{body}{}", String::from_utf8_lossy(&check::base62(sum)))
        }
        "jwt" => format!(
            "{}.{}.{}",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#),
            URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"{}"}}"#, draw(B62, 20))),
            draw(B62, 43),
        ),
        "basic" => STANDARD.encode(format!("deploy:{}", draw(B62, 18))),
        "discord" => format!(
            "{}.{}.{}",
            URL_SAFE_NO_PAD.encode(format!("1{}", draw("0123456789", 17))),
            draw(B62, 6),
            draw(B62, 38),
        ),
        "age" => {
            let text = format!("age-secret-key-1{}", draw("qpzry9x8gf2tvdw0s3jn54khce6mua7l", 52));
            format!("{text}{}", check::bech32_checksum(&text)).to_uppercase()
        }
        "grafana" => STANDARD.encode(format!(r#"{{"k":"{}","n":"deploy","id":1}}"#, draw(B62, 32))),
        "json" => STANDARD.encode(format!(r#"{{"id":"{}"}}"#, draw(B62, n()))),
        other => panic!("no such field: {other}"),
    }
}

fn detector() -> Detector {
    Detector::new([7; 32]).unwrap()
}

fn scan(detector: &Detector, text: &str) -> FileResult {
    let facet = Facet { format: Format::Json, lenient: false }.to_text();
    let input = FileInput { bytes: text.as_bytes(), facet: &facet };
    detector.analyse(&input, &Limits::default(), &Cancel::new())
}

/// Texts that hold the sample of a rule.
fn hits(rules: &[Rule], rule: &Rule, seed: u64) -> Vec<String> {
    let sample = fill(&rule.examples.sample, seed, false);
    let mut all: Vec<String> =
        rule.examples.hits.iter().map(|t| fill(t, seed + 100, false)).collect();
    match rule.form {
        Form::Token => all.extend([
            format!("TOKEN={sample}\n"),
            format!("x = \"{sample}\"\n"),
            format!("{{\"k\": \"{sample}\", \"l\": 1}}"),
            format!("s = \"first\\n{sample}\""),
        ]),
        Form::Near => {
            for name in &rule.examples.near {
                all.push(format!("{name}_api_key={sample}\n"));
                all.push(format!("\"{}_TOKEN\": \"{sample}\"", name.to_uppercase()));
            }
        }
        // Where examples are written out, the sample is the bare value.
        Form::Regex if rule.examples.hits.len() < 2 => {
            all.push(format!("{sample}\n"));
            all.push(format!("# note\n  {sample}\n\n"));
        }
        Form::Regex => {}
        Form::Pair(first) => {
            let first = fill(&rules[first].examples.sample, seed, false);
            all.push(format!("id: {first}\nsecret: {sample}\n"));
            all.push(format!("f(\"{first}\", \"{sample}\")\n"));
        }
    }
    all
}

/// Texts that nearly hold one.
fn misses(rules: &[Rule], rule: &Rule, seed: u64) -> Vec<String> {
    let sample = fill(&rule.examples.sample, seed, false);
    let filler = fill(&rule.examples.sample, seed, true);
    let mut all: Vec<String> =
        rule.examples.misses.iter().map(|t| fill(t, seed + 200, false)).collect();
    if rule.form == Form::Token {
        let short: String = sample.chars().take(rule.min_len - 1).collect();
        all.extend([
            format!("TOKEN={short}\n"),
            format!("x = \"{filler}\"\n"),
            format!("q7{sample}w\n"),
        ]);
    }
    if let Form::Pair(first) = rule.form {
        let first = fill(&rules[first].examples.sample, seed, false);
        all.extend([
            format!("secret: {sample}\n"),
            format!("id: {first}\n{}secret: {sample}\n", "line\n".repeat(12)),
            format!("id: {first}\nsecret: {filler}\n"),
        ]);
    }
    if rule.form == Form::Near {
        let name = &rule.examples.near[0];
        let short = &sample[..sample.len() - 1];
        all.extend([
            format!("checksum={sample}\n"),
            format!("{name}_api_key={filler}\n"),
            format!("{name}_api_key={short}\n"),
            format!("{name}_api_key=${{{}_API_KEY}}\n", name.to_uppercase()),
        ]);
    }
    all
}

#[test]
fn every_rule_has_enough_examples() {
    let rules = rule::load().unwrap();
    for rule in &rules {
        let (hits, misses) = (hits(&rules, rule, 1), misses(&rules, rule, 1));
        assert!(hits.len() >= 2, "{} has {} hits", rule.info.id, hits.len());
        assert!(misses.len() >= 2, "{} has {} misses", rule.info.id, misses.len());
    }
}

#[test]
fn every_expression_compiles() {
    for rule in rule::load().unwrap() {
        assert!(rule.regex().is_some(), "{}: {}", rule.info.id, rule.pattern());
    }
}

#[test]
fn hits_are_found_and_masked() {
    let detector = detector();
    let mut wrong = Vec::new();
    let rules = rule::load().unwrap();
    for rule in &rules {
        for seed in 1..6 {
            for text in hits(&rules, rule, seed) {
                let result = scan(&detector, &text);
                let mine: Vec<_> =
                    result.findings.iter().filter(|f| f.rule_id == rule.info.id).collect();
                if mine.is_empty() {
                    let others: Vec<_> = result.findings.iter().map(|f| &f.rule_id).collect();
                    wrong.push(format!("{} misses {text:?}, found {others:?}", rule.info.id));
                }
                for finding in &result.findings {
                    let (line, start, end) = (
                        finding.span.start_line as usize,
                        finding.span.start_column as usize,
                        finding.span.end_column as usize,
                    );
                    if finding.span.end_line as usize == line {
                        let value = &text.lines().nth(line - 1).unwrap()[start - 1..end - 1];
                        assert!(!finding.snippet.contains(value), "{finding:?}");
                        assert!(!finding.message.contains(value), "{finding:?}");
                    } else {
                        let inner = text.lines().skip(line).max_by_key(|l| l.len()).unwrap();
                        assert!(!finding.snippet.contains(inner), "{finding:?}");
                    }
                }
            }
        }
    }
    wrong.dedup_by_key(|w| w.split(' ').next().unwrap_or_default().to_owned());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn misses_are_not_found() {
    let detector = detector();
    let mut wrong = Vec::new();
    let rules = rule::load().unwrap();
    for rule in &rules {
        for seed in 1..6 {
            for text in misses(&rules, rule, seed) {
                let result = scan(&detector, &text);
                if result.findings.iter().any(|f| f.rule_id == rule.info.id) {
                    wrong.push(format!("{} finds {text:?}", rule.info.id));
                }
            }
        }
    }
    wrong.dedup_by_key(|w| w.split(' ').next().unwrap_or_default().to_owned());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
