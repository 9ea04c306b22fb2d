//! The secrets engine: credentials written into files.
//!
//! Three detectors look at a file. [`providers`] knows what the credentials of
//! each provider look like (rules in `rules/*.toml`); [`assign`] reads values that
//! are given to telling names; [`address`] reads passwords in addresses. What they
//! claim is settled in [`found`]: one value is reported once, by the most specific
//! rule.
//!
//! What must not be reported matters as much: samples, templates, hashes, public
//! keys and names are told by [`placeholder`], [`rarity`] and [`check`].
//!
//! # Invariants
//!
//! * No finding holds more of a value than its first four and last two
//!   characters ([`mask`]). Its anchor is an HMAC-SHA-256 of the value under the
//!   installation's identity key: a secret that moves stays the same finding, and
//!   nobody without the key can try values.
//! * The time is linear in the size of the file, and bounded by the limits.
//! * UTF-16 is read as its UTF-8 text; base64 around a known prefix is decoded one
//!   level deep; files with zero bytes are read for the providers' rules alone, in
//!   their first [`MAX_BINARY`] bytes.

pub mod address;
pub mod assign;
pub mod check;
#[cfg(test)]
mod examples;
pub mod format;
pub mod found;
pub mod mask;
pub mod placeholder;
pub mod providers;
pub mod rarity;
pub mod rule;
#[cfg(test)]
mod tests;
pub mod text;

use std::collections::HashMap;
use std::ops::Range;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use self::assign::name::Class;
use self::format::{Facet, Format};
use self::found::{Budget, Found, Rank, settle};
use self::providers::Keywords;
use self::rule::{Rule, RuleError, Samples};
use self::text::Places;
use crate::scan::inventory;
use crate::scan::model::{
    Cancel, Confidence, EngineKind, FileEngine, FileInput, FileResult, Limits, RawFinding,
    RuleInfo, Severity,
};
use crate::scan::suppress;

/// Counts up when a change of the code changes results.
const VERSION: u32 = 1;

/// Bytes of a binary file that are read.
pub const MAX_BINARY: usize = 4 << 20;

/// Rules of the detectors that know no provider, behind those of the files.
const PASSWORD: usize = 0;
const SECRET: usize = 1;
const ADDRESS: usize = 2;

/// The secrets engine.
#[derive(Debug)]
pub struct Detector {
    rules: Vec<Rule>,
    infos: Vec<RuleInfo>,
    keywords: Keywords,
    identity_key: [u8; 32],
    rule_set: String,
}

impl Detector {
    /// Reads the embedded rules and compiles their keywords; expressions are
    /// compiled when first needed. `identity_key` is the installation's own: under
    /// another key the same value is another finding.
    pub fn new(identity_key: [u8; 32]) -> Result<Self, RuleError> {
        let rules = rule::load()?;
        let keywords = Keywords::new(&rules)?;
        let mut infos: Vec<RuleInfo> = rules.iter().map(|r| r.info.clone()).collect();
        infos.extend(own_rules());
        let mut digest = Sha256::new();
        digest.update(VERSION.to_be_bytes());
        for source in rule::sources() {
            digest.update(source);
        }
        // Kept results hold anchors, so they are of use under the same key only.
        digest.update(hmac(&identity_key, b"rule set"));
        let rule_set = hex(&digest.finalize())[..32].to_owned();
        Ok(Self { rules, infos, keywords, identity_key, rule_set })
    }

    fn candidates(
        &self,
        bytes: &[u8],
        facet: Facet,
        binary: bool,
        budget: &mut Budget<'_>,
    ) -> (Vec<Found>, bool) {
        let pass = self.keywords.pass(&self.rules, bytes, budget);
        let mut all = pass.found;
        if facet.lenient {
            all.retain_mut(|found| match self.rules.get(found.rule).map(|r| r.samples) {
                Some(Samples::Drop) => false,
                Some(Samples::Low) => {
                    found.severity = found.severity.min(Severity::Low);
                    found.confidence = Confidence::Low;
                    true
                }
                _ => true,
            });
        }
        if facet.format == Format::Data || binary {
            return (all, pass.too_many);
        }
        let own = self.rules.len();
        for a in assign::assignments(bytes, facet, &pass.names, budget) {
            let rule = own + if a.class == Class::Password { PASSWORD } else { SECRET };
            all.push(Found {
                rule,
                span: a.span,
                value: None,
                rank: Rank::Assignment,
                severity: if facet.lenient { Severity::Low } else { Severity::High },
                confidence: a.confidence,
                name: Some(a.name),
            });
        }
        let mut after = 0;
        for at in pass.addresses {
            if budget.is_spent() {
                break;
            }
            if at < after {
                continue;
            }
            if let Some((span, confidence)) = address::password(bytes, at, facet) {
                after = span.end;
                all.push(Found {
                    rule: own + ADDRESS,
                    span,
                    value: None,
                    rank: Rank::Address,
                    severity: if facet.lenient { Severity::Low } else { Severity::High },
                    confidence,
                    name: None,
                });
            }
        }
        (all, pass.too_many)
    }

    fn finding(
        &self,
        bytes: &[u8],
        found: &Found,
        places: &mut Places<'_>,
        spans: &[Range<usize>],
    ) -> Option<RawFinding> {
        let info = self.infos.get(found.rule)?;
        let value = found.value.as_deref().or_else(|| bytes.get(found.span.clone()))?;
        let multi_line = self.rules.get(found.rule).is_some_and(|r| r.check == check::Check::Pem);
        let identity = if multi_line { check::pem_body(value) } else { value.to_vec() };
        let what = match &found.name {
            Some(name) => format!("A value is written into {}", printable(name)),
            None => format!("{} is written here", info.title),
        };
        let how = if found.value.is_some() { ", encoded as base64" } else { "" };
        Some(RawFinding {
            rule_id: info.id.clone(),
            severity: found.severity,
            confidence: found.confidence,
            message: format!("{what}{how}: {}.", mask::masked(value)),
            span: places.span(found.span.start, found.span.end),
            snippet: mask::snippet(bytes, found.span.clone(), spans),
            symbol: String::new(),
            anchor: hex(&hmac(&self.identity_key, &identity)),
            flow: Vec::new(),
            package: None,
        })
    }
}

impl FileEngine for Detector {
    fn kind(&self) -> EngineKind {
        EngineKind::Secrets
    }

    fn rule_set(&self) -> &str {
        &self.rule_set
    }

    fn rules(&self) -> &[RuleInfo] {
        &self.infos
    }

    fn facet(&self, path: &str) -> Option<String> {
        Facet::of_path(path).map(Facet::to_text)
    }

    fn analyse(&self, input: &FileInput<'_>, limits: &Limits, cancel: &Cancel) -> FileResult {
        let mut result = FileResult::default();
        let mut budget = Budget::new(limits, cancel);
        let facet = Facet::from_text(input.facet);
        let text = text::as_utf8(input.bytes);
        let mut bytes: &[u8] = &text;
        let binary = inventory::is_binary(bytes);
        if binary && bytes.len() > MAX_BINARY {
            result.cut.push(format!(
                "The file is binary; only its first {} MiB were looked at for secrets.",
                MAX_BINARY >> 20
            ));
            bytes = bytes.get(..MAX_BINARY).unwrap_or(bytes);
        }
        let (candidates, too_many) = self.candidates(bytes, facet, binary, &mut budget);
        if too_many {
            result.cut.push(
                "The file holds more matches than are looked at; the rest of it was left out."
                    .to_owned(),
            );
        }
        let settled = settle(candidates);
        let spans: Vec<Range<usize>> = settled.iter().map(|f| f.span.clone()).collect();
        let mut places = Places::new(bytes);
        let mut counts: HashMap<usize, u32> = HashMap::new();
        let most = limits.max_findings_per_rule_and_file;
        for found in &settled {
            let count = counts.entry(found.rule).or_default();
            *count += 1;
            if most > 0 && *count > most {
                continue;
            }
            result.findings.extend(self.finding(bytes, found, &mut places, &spans));
        }
        let mut over: Vec<_> = counts.into_iter().filter(|(_, n)| most > 0 && *n > most).collect();
        over.sort_unstable();
        for (rule, n) in over {
            let id = self.infos.get(rule).map_or("", |i| i.id.as_str());
            result
                .cut
                .push(format!("{id} matches {n} times in this file; {} are not listed.", n - most));
        }
        if let Some(cut) = budget.cut() {
            result.cut.push(cut.to_owned());
        }
        if !binary {
            result.suppressions = suppress::suppressions(bytes);
        }
        result
    }
}

/// The rules of the detectors that know no provider, in the order of [`PASSWORD`],
/// [`SECRET`], [`ADDRESS`].
fn own_rules() -> [RuleInfo; 3] {
    let rule = |id: &str, title: &str, description: &str| {
        RuleInfo {
        id: id.to_owned(),
        engine: EngineKind::Secrets,
        title: title.to_owned(),
        description: description.to_owned(),
        remediation: "Change it where it is used, then hand the new value to the program from \
                      outside: an environment variable, a mounted file or a secret manager. Removing \
                      the line is not enough, the history keeps it."
            .to_owned(),
        severity: Severity::High,
        cwe: vec!["CWE-798".to_owned()],
        owasp: vec!["A07:2021".to_owned()],
        references: vec!["https://cwe.mitre.org/data/definitions/798.html".to_owned()],
        aliases: Vec::new(),
    }
    };
    [
        rule(
            "secrets/hardcoded-password",
            "Password in the file",
            "A literal value is assigned to the name of a password. Everyone who can read the \
             repository, a clone or a build of it can sign in with it.",
        ),
        rule(
            "secrets/hardcoded-secret",
            "Secret key or token in the file",
            "A literal value that looks generated is assigned to the name of a key, token or \
             secret. Everyone who can read the repository, a clone or a build of it can use it.",
        ),
        rule(
            "secrets/url-credentials",
            "Password in an address",
            "An address carries a user name and a password. Addresses are logged and shown by \
             programs that do not know that they hold a secret, and everyone who can read the \
             repository can use it.",
        ),
    ]
}

fn hmac(key: &[u8; 32], value: &[u8]) -> [u8; 32] {
    // A key of any length is taken, so the error cannot occur; the digest of the key
    // and the value without the construction would still be a digest.
    match <Hmac<Sha256> as Mac>::new_from_slice(key) {
        Ok(mac) => mac.chain_update(value).finalize().into_bytes().into(),
        Err(_) => Sha256::new().chain_update(key).chain_update(value).finalize().into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [b >> 4, b & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(60).collect()
}
