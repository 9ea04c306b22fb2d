//! The identity of a finding from scan to scan.
//!
//! # What it is made of
//!
//! A fingerprint is 40 hex digits: 36 of a digest over *what* was found (the
//! *group*), and four of an *ordinal* that tells equal ones apart.
//!
//! - Code: the group is the rule, the path of the enclosing symbols and the
//!   normalised tokens of the match (the anchor). No line, column or path goes in,
//!   so moving lines, reformatting, and renaming or moving the file change nothing.
//! - Secrets: the group is the keyed digest of the value alone. All places of one
//!   value, in whichever files, rules and commits, are one finding with several
//!   locations, and its ordinal is always 0.
//! - Dependencies: the group is the package and the advisory (by its CVE number
//!   where it has one, so that it does not depend on who published it). All lock
//!   files that name the package are locations of one finding, and a new version
//!   that is still affected is still the same finding.
//!
//! # The ordinal
//!
//! Equal code in equally named functions occurs: the same handler in two modules,
//! the same call twice in one function. The members of a group are numbered in the
//! order of path, line and column. From this follows:
//!
//! - the set of fingerprints depends on nothing but how many members a group has:
//!   moving, reformatting or renaming loses no id and brings no new one;
//! - one more member brings exactly one new fingerprint, one less takes exactly one
//!   away; nothing is ever lost and raised again.
//!
//! What numbering alone cannot know is *which* member is the new one: if it stands
//! before the others, ids within this group move on by one place, and so would what
//! people said about them. [`keep_places`] repairs that for callers who remember
//! where each fingerprint lay: within a group, a finding that still lies in the file
//! of a remembered one takes its id over.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use crate::scan::model::{EngineKind, Finding};

/// Hex digits of the group.
const GROUP: usize = 36;

/// Digest of the group. Every part is framed by its length, so that no two lists of
/// parts give the same input.
fn group(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"sluice finding 1\0");
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let mut hex = String::with_capacity(GROUP);
    for byte in hash.finalize().iter().take(GROUP / 2) {
        hex.push_str(&format!("{byte:02x}"));
    }
    hex
}

/// The group of a finding of the code engine, or of one whose rule knows no value.
pub(super) fn group_of_code(rule_id: &str, symbol: &str, anchor: &str) -> String {
    group(&[EngineKind::Code.as_str(), rule_id, symbol, anchor])
}

/// The group of a secret.
pub(super) fn group_of_secret(anchor: &str) -> String {
    group(&[EngineKind::Secrets.as_str(), anchor])
}

/// The group of a vulnerable package.
pub(super) fn group_of_package(ecosystem: &str, name: &str, advisory: &str) -> String {
    group(&[EngineKind::Dependencies.as_str(), ecosystem, name, advisory])
}

/// A fingerprint from a group and an ordinal.
pub(super) fn with_ordinal(group: &str, ordinal: usize) -> String {
    format!("{group}{ordinal:04x}")
}

/// The group part of a fingerprint: equal for findings that differ by place alone.
pub fn group_part(fingerprint: &str) -> &str {
    fingerprint.get(..GROUP).unwrap_or(fingerprint)
}

/// Gives the findings of each group the ids that lay in their files before.
///
/// `known` tells for a fingerprint the path at which an earlier scan of the same
/// branch showed it. Only ids within one group are exchanged, so the set of
/// fingerprints stays what it is.
pub fn keep_places<'k>(findings: &mut [Finding], known: impl Fn(&str) -> Option<&'k str>) {
    let mut groups: HashMap<&str, Vec<usize>> = HashMap::new();
    for (n, finding) in findings.iter().enumerate() {
        groups.entry(group_part(&finding.fingerprint)).or_default().push(n);
    }
    let mut renames: Vec<(usize, String)> = Vec::new();
    for mut members in groups.into_values().filter(|m| m.len() > 1) {
        let fingerprint = |n: usize| findings.get(n).map_or("", |f| f.fingerprint.as_str());
        let path = |n: usize| findings.get(n).map_or("", |f| f.location.path.as_str());
        members.sort_by(|a, b| fingerprint(*a).cmp(fingerprint(*b)));
        let mut ids: HashMap<&str, Vec<String>> = HashMap::new();
        let mut free: Vec<String> = Vec::new();
        let here: HashSet<&str> = members.iter().map(|n| path(*n)).collect();
        for n in members.iter().rev() {
            let id = fingerprint(*n);
            match known(id).and_then(|p| here.get(p)) {
                Some(p) => ids.entry(p).or_default().push(id.to_owned()),
                None => free.push(id.to_owned()),
            }
        }
        let mut waiting = Vec::new();
        for n in &members {
            match ids.get_mut(path(*n)).and_then(Vec::pop) {
                Some(id) => renames.push((*n, id)),
                None => waiting.push(*n),
            }
        }
        free.extend(ids.into_values().flatten());
        free.sort_unstable_by(|a, b| b.cmp(a));
        for n in waiting {
            if let Some(id) = free.pop() {
                renames.push((n, id));
            }
        }
    }
    for (n, id) in renames {
        if let Some(finding) = findings.get_mut(n) {
            finding.fingerprint = id;
        }
    }
}
