//! Advisories in the OSV format (<https://ossf.github.io/osv-schema/>), indexed by
//! package.
//!
//! A [`Database`] is read once and never changed: a newer set of advisories is a
//! new database. Records are read one at a time, and only what matching and showing
//! need stays in memory.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use crate::scan::model::{Cancel, Component, Severity};

use super::purl::normalised_name;
use super::{MALICIOUS, VULNERABLE, sample, versions};

/// Largest record that is read, in bytes.
const MAX_RECORD: u64 = 8 << 20;

/// Deepest folder that is looked into.
const MAX_DEPTH: usize = 8;

/// Longest summary that is kept, in characters.
const MAX_SUMMARY: usize = 200;

/// Faults that are told one by one.
const MAX_FAULTS: usize = 20;

/// Why no database could be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder or one below it cannot be listed.
    #[error("cannot read the advisories in {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Somebody asked to stop.
    #[error("reading the advisories was cancelled")]
    Cancelled,
}

/// What reading a folder gave, besides the database.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Records that are in use.
    pub records: usize,
    /// Records that were withdrawn or speak of no ecosystem that is known here.
    pub passed_over: usize,
    /// Records that are no OSV.
    pub malformed: usize,
    /// The first of these, as sentences.
    pub faults: Vec<String>,
}

/// A vulnerability that affects a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// What the finding is told by: the lowest CVE number, else the lowest id.
    pub identity: String,
    /// All ids and aliases, the identity first.
    pub ids: Vec<String>,
    /// [`VULNERABLE`] or [`MALICIOUS`].
    pub rule_id: &'static str,
    /// One line.
    pub title: String,
    /// One sentence that says what to do.
    pub message: String,
    /// Worst of the merged records.
    pub severity: Severity,
    /// Lowest version that all merged records call fixed, if each knows one.
    pub fixed_in: Option<String>,
}

/// Advisories by package.
#[derive(Debug, Default)]
pub struct Database {
    records: Vec<Record>,
    /// By ecosystem without suffix and normalised name: record and its affected part.
    index: HashMap<(String, String), Vec<(u32, Affected)>>,
}

#[derive(Debug)]
struct Record {
    id: String,
    aliases: Vec<String>,
    summary: String,
    severity: Option<Severity>,
}

#[derive(Debug)]
struct Affected {
    ranges: Vec<Vec<Event>>,
    versions: Vec<String>,
    severity: Option<Severity>,
}

/// What a record says about one version.
enum Verdict {
    Unaffected,
    Affected {
        /// Lowest fix above it.
        fixed: Option<String>,
    },
}

#[derive(Debug, Clone)]
enum Event {
    Introduced(String),
    Fixed(String),
    LastAffected(String),
}

impl Event {
    fn version(&self) -> &str {
        match self {
            Self::Introduced(v) | Self::Fixed(v) | Self::LastAffected(v) => v,
        }
    }
}

impl Database {
    /// Reads every `.json` file of a folder and the folders below it, in the order
    /// of their paths. Links are not followed. A file that is no OSV record is
    /// counted, never an error: sources of advisories do contain a few.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if a folder cannot be listed, or once `cancel` is set.
    pub fn load(folder: &Path, cancel: &Cancel) -> Result<(Self, Loaded), LoadError> {
        let mut database = Self::default();
        let mut loaded = Loaded::default();
        let mut folders = vec![(folder.to_owned(), 0)];
        while let Some((path, depth)) = folders.pop() {
            let failed = |source| LoadError::Folder { path: path.clone(), source };
            let mut entries = fs::read_dir(&path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(failed)?;
            entries.sort_by_key(fs::DirEntry::file_name);
            let mut below = Vec::new();
            for entry in entries {
                if cancel.is_cancelled() {
                    return Err(LoadError::Cancelled);
                }
                let kind = entry.file_type().map_err(failed)?;
                let file = entry.path();
                if kind.is_dir() && depth < MAX_DEPTH {
                    below.push((file, depth + 1));
                } else if kind.is_file() && file.extension().is_some_and(|e| e == "json") {
                    let added = read_bounded(&file).and_then(|bytes| database.add(&bytes));
                    loaded.count(added, &file.to_string_lossy());
                }
            }
            below.reverse();
            folders.append(&mut below);
        }
        database.finish();
        Ok((database, loaded))
    }

    /// The sample set: a few well-known vulnerabilities, written down by the
    /// project for its tests and its demonstration. No substitute for a real set.
    pub fn sample() -> Self {
        let mut database = Self::default();
        for (_, text) in sample::RECORDS {
            // A test checks that every record of the set is whole.
            let _ = database.add(text.as_bytes());
        }
        database.finish();
        database
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True without any record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes one record; false if it has nothing to match with.
    fn add(&mut self, bytes: &[u8]) -> Result<bool, String> {
        let record: osv::Record =
            serde_json::from_slice(bytes).map_err(|e| format!("it is no OSV record: {e}"))?;
        if record.id.is_empty() {
            return Err("it has no id".to_owned());
        }
        if record.withdrawn.is_some() {
            return Ok(false);
        }
        let Ok(number) = u32::try_from(self.records.len()) else {
            return Err("there are too many records".to_owned());
        };
        let severity = severity_of(&record.severity)
            .or_else(|| record.database_specific.as_ref().and_then(osv::Specific::severity));
        let mut used = false;
        for affected in record.affected {
            let Some(package) = affected.package else {
                continue;
            };
            let ecosystem = package.ecosystem.split(':').next().unwrap_or("").to_owned();
            if versions::compare(&ecosystem, "1", "1").is_none() {
                continue;
            }
            let own = severity_of(&affected.severity)
                .or_else(|| affected.database_specific.as_ref().and_then(osv::Specific::severity));
            let ranges = affected
                .ranges
                .into_iter()
                .filter(|r| r.kind != "GIT")
                .map(|r| sorted(&ecosystem, r.events))
                .filter(|r| !r.is_empty())
                .collect();
            let name = normalised_name(&ecosystem, &package.name);
            self.index
                .entry((ecosystem, name))
                .or_default()
                .push((number, Affected { ranges, versions: affected.versions, severity: own }));
            used = true;
        }
        if used {
            let text = if record.summary.is_empty() { &record.details } else { &record.summary };
            let line = text.lines().find(|l| !l.trim().is_empty()).unwrap_or("").trim();
            self.records.push(Record {
                id: record.id,
                aliases: record.aliases,
                summary: line.chars().take(MAX_SUMMARY).collect(),
                severity,
            });
        }
        Ok(used)
    }

    fn finish(&mut self) {
        self.records.shrink_to_fit();
        for list in self.index.values_mut() {
            list.shrink_to_fit();
        }
    }

    /// What is known about a component: one match for each vulnerability, however
    /// many sources describe it. Without a version nothing is.
    pub fn matches(&self, component: &Component) -> Vec<Match> {
        let ecosystem = component.ecosystem.split(':').next().unwrap_or("");
        let version = match ecosystem {
            "Go" => component.version.trim_start_matches('v'),
            _ => component.version.as_str(),
        };
        if version.is_empty() {
            return Vec::new();
        }
        let key = (ecosystem.to_owned(), normalised_name(ecosystem, &component.name));
        let Some(known) = self.index.get(&key) else {
            return Vec::new();
        };
        let mut hits: Vec<Hit<'_>> = Vec::new();
        for (number, affected) in known {
            let Some(record) = self.records.get(*number as usize) else {
                continue;
            };
            let Verdict::Affected { fixed } = affected.judge(ecosystem, version) else {
                continue;
            };
            let severity = affected.severity.or(record.severity);
            hits.push(Hit { record, severity, fixed });
        }
        merge(ecosystem, hits)
            .into_iter()
            .map(|group| group.into_match(&component.name, &component.version))
            .collect()
    }
}

impl Loaded {
    fn count(&mut self, added: Result<bool, String>, file: &str) {
        match added {
            Ok(true) => self.records += 1,
            Ok(false) => self.passed_over += 1,
            Err(why) => {
                self.malformed += 1;
                if self.faults.len() < MAX_FAULTS {
                    self.faults.push(format!("{file}: {why}"));
                }
            }
        }
    }
}

fn read_bounded(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    fs::File::open(file)
        .and_then(|f| f.take(MAX_RECORD + 1).read_to_end(&mut bytes))
        .map_err(|e| format!("it cannot be read: {e}"))?;
    if bytes.len() as u64 > MAX_RECORD {
        return Err(format!("it is larger than {MAX_RECORD} bytes"));
    }
    Ok(bytes)
}

/// The events of a range in the order of their versions, so that walking them tells
/// at each version whether it is affected. `0` comes before everything.
fn sorted(ecosystem: &str, events: Vec<osv::Event>) -> Vec<Event> {
    let mut list: Vec<Event> = events
        .into_iter()
        .filter_map(|e| {
            e.introduced
                .map(Event::Introduced)
                .or_else(|| e.fixed.map(Event::Fixed))
                .or_else(|| e.last_affected.map(Event::LastAffected))
        })
        .collect();
    list.sort_by(|a, b| order(ecosystem, a.version(), b.version()));
    list
}

fn order(ecosystem: &str, a: &str, b: &str) -> Ordering {
    match (a, b) {
        ("0", "0") => Ordering::Equal,
        ("0", _) => Ordering::Less,
        (_, "0") => Ordering::Greater,
        _ => versions::compare(ecosystem, a, b).unwrap_or(Ordering::Equal),
    }
}

impl Affected {
    fn judge(&self, ecosystem: &str, version: &str) -> Verdict {
        let compare = |other: &str| order(ecosystem, version, other);
        let listed = self.versions.iter().any(|v| v == version || compare(v).is_eq());
        let in_range = self.ranges.iter().any(|events| {
            let mut affected = false;
            for event in events {
                match event {
                    Event::Introduced(v) if compare(v).is_ge() => affected = true,
                    Event::Fixed(v) if compare(v).is_ge() => affected = false,
                    Event::LastAffected(v) if compare(v).is_gt() => affected = false,
                    _ => {}
                }
            }
            affected
        });
        if !listed && !in_range {
            return Verdict::Unaffected;
        }
        let fixed = self
            .ranges
            .iter()
            .flatten()
            .filter_map(|event| match event {
                Event::Fixed(v) if compare(v).is_lt() => Some(v),
                _ => None,
            })
            .min_by(|a, b| order(ecosystem, a, b))
            .cloned();
        Verdict::Affected { fixed }
    }
}

struct Hit<'a> {
    record: &'a Record,
    severity: Option<Severity>,
    fixed: Option<String>,
}

/// Records of several sources about one vulnerability.
struct Group<'a> {
    ids: BTreeSet<&'a str>,
    summary: &'a str,
    severity: Option<Severity>,
    fixed: Option<String>,
}

/// Puts records together that share an id or alias.
fn merge<'a>(ecosystem: &str, hits: Vec<Hit<'a>>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for hit in hits {
        let mut group = Group {
            ids: std::iter::once(hit.record.id.as_str())
                .chain(hit.record.aliases.iter().map(String::as_str))
                .collect(),
            summary: &hit.record.summary,
            severity: hit.severity,
            fixed: hit.fixed,
        };
        // A record may tie together groups that had nothing in common so far.
        let (same, others): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|g| !g.ids.is_disjoint(&group.ids));
        groups = others;
        for other in same {
            group.ids.extend(other.ids);
            group.severity = group.severity.max(other.severity);
            if group.summary.is_empty() {
                group.summary = other.summary;
            }
            group.fixed = match (group.fixed.take(), other.fixed) {
                (Some(a), Some(b)) if order(ecosystem, &a, &b).is_lt() => Some(b),
                (a, b) => a.or(b),
            };
        }
        groups.push(group);
    }
    groups
}

impl Group<'_> {
    fn into_match(self, name: &str, version: &str) -> Match {
        let malicious = self.ids.iter().any(|id| id.starts_with("MAL-"));
        let identity = self
            .ids
            .iter()
            .find(|id| id.starts_with("CVE-"))
            .or_else(|| self.ids.first())
            .map_or(String::new(), |id| (*id).to_owned());
        let mut ids = vec![identity.clone()];
        ids.extend(self.ids.iter().filter(|id| **id != identity).map(|id| (*id).to_owned()));
        let what = if self.summary.is_empty() { "known vulnerability" } else { self.summary };
        let advice = match (&self.fixed, malicious) {
            (_, true) => "Remove it.".to_owned(),
            (Some(fixed), false) => format!("Upgrade to {fixed} or later."),
            (None, false) => "No fixed version is known.".to_owned(),
        };
        Match {
            title: format!("{name}: {what}"),
            message: format!("{name} {version} is affected by {identity}: {what}. {advice}")
                .replace("..", "."),
            rule_id: if malicious { MALICIOUS } else { VULNERABLE },
            severity: if malicious {
                Severity::Critical
            } else {
                self.severity.unwrap_or(Severity::Medium)
            },
            fixed_in: self.fixed,
            identity,
            ids,
        }
    }
}

/// The worst of the scores that can be read.
fn severity_of(list: &[osv::Score]) -> Option<Severity> {
    list.iter()
        .filter_map(|s| cvss::Cvss::from_str(&s.score).ok())
        .map(|score| match score.severity() {
            cvss::Severity::Critical => Severity::Critical,
            cvss::Severity::High => Severity::High,
            cvss::Severity::Medium => Severity::Medium,
            cvss::Severity::Low => Severity::Low,
            cvss::Severity::None => Severity::Info,
        })
        .max()
}

/// The parts of the OSV schema that are read; everything else is passed over.
mod osv {
    use super::{Deserialize, Severity};

    #[derive(Deserialize)]
    pub(super) struct Record {
        pub(super) id: String,
        #[serde(default)]
        pub(super) withdrawn: Option<String>,
        #[serde(default)]
        pub(super) aliases: Vec<String>,
        #[serde(default)]
        pub(super) summary: String,
        #[serde(default)]
        pub(super) details: String,
        #[serde(default)]
        pub(super) severity: Vec<Score>,
        #[serde(default)]
        pub(super) affected: Vec<Affected>,
        #[serde(default)]
        pub(super) database_specific: Option<Specific>,
    }

    #[derive(Deserialize)]
    pub(super) struct Score {
        pub(super) score: String,
    }

    #[derive(Deserialize)]
    pub(super) struct Affected {
        #[serde(default)]
        pub(super) package: Option<Package>,
        #[serde(default)]
        pub(super) severity: Vec<Score>,
        #[serde(default)]
        pub(super) ranges: Vec<Range>,
        #[serde(default)]
        pub(super) versions: Vec<String>,
        #[serde(default)]
        pub(super) database_specific: Option<Specific>,
    }

    #[derive(Deserialize)]
    pub(super) struct Package {
        pub(super) ecosystem: String,
        pub(super) name: String,
    }

    #[derive(Deserialize)]
    pub(super) struct Range {
        #[serde(rename = "type")]
        pub(super) kind: String,
        #[serde(default)]
        pub(super) events: Vec<Event>,
    }

    #[derive(Deserialize)]
    pub(super) struct Event {
        pub(super) introduced: Option<String>,
        pub(super) fixed: Option<String>,
        pub(super) last_affected: Option<String>,
    }

    /// Each database puts its own things here; several put a word for the severity.
    #[derive(Deserialize)]
    pub(super) struct Specific {
        #[serde(default)]
        severity: serde_json::Value,
    }

    impl Specific {
        pub(super) fn severity(&self) -> Option<Severity> {
            Some(match self.severity.as_str()?.to_ascii_uppercase().as_str() {
                "CRITICAL" => Severity::Critical,
                "HIGH" | "IMPORTANT" => Severity::High,
                "MODERATE" | "MEDIUM" => Severity::Medium,
                "LOW" => Severity::Low,
                _ => return None,
            })
        }
    }
}

#[cfg(test)]
#[path = "advisories_tests.rs"]
mod tests;
