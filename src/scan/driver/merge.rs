//! From what lies in files to the findings of a scan.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::json;

use crate::scan::dependencies::{self, Database};
use crate::scan::git;
use crate::scan::inventory::role_of_path;
use crate::scan::model::{
    Cancel, Component, Confidence, EngineKind, FileResult, Finding, Level, Limits, Location,
    PackageRef, RawFinding, ScanConfig, ScanError, ScanOutcome, Span,
};

use super::Run;
use super::fingerprint;
use super::names;
use super::plan::{Item, Job, Plan};
use super::priority::{Weights, priority, worst_first};

/// Raw findings that are held for each finding that may come out: several places
/// may become one finding, and a scan with more than this is cut anyway.
const RAW_PER_FINDING: usize = 4;

/// Packages of one scan.
const MAX_COMPONENTS: usize = 500_000;

/// Further places that one finding keeps.
const MAX_OTHER_LOCATIONS: usize = 100;

/// A file in the state in which a finding lies in it. Suppressions hold within.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    /// The tree sorts before the history, so that it is shown first.
    pub(super) in_history: bool,
    pub(super) path: String,
    /// Commit that brought it, for the history.
    pub(super) commit: Option<String>,
    pub(super) removed_in: Option<String>,
}

/// Something that was found, at one place.
pub(super) struct Raw {
    pub(super) place: Arc<Place>,
    pub(super) engine: EngineKind,
    pub(super) found: RawFinding,
    /// Where the rule knows less than the finding.
    pub(super) title: Option<String>,
    /// A package of development.
    pub(super) dev: bool,
    /// Group part of the fingerprint.
    pub(super) group: String,
}

struct Inline {
    line: u32,
    rule_id: String,
    reason: String,
    used: bool,
}

/// Everything that the passes gave.
pub(super) struct Gathered {
    raw: Vec<Raw>,
    raw_most: usize,
    raw_dropped: u64,
    pub(super) components: Vec<(String, Component)>,
    components_dropped: u64,
    inline: HashMap<Arc<Place>, Vec<Inline>>,
}

impl Gathered {
    pub(super) fn new(limits: &Limits) -> Self {
        let raw_most = match limits.max_findings {
            0 => usize::MAX,
            n => (n as usize).saturating_mul(RAW_PER_FINDING),
        };
        Self {
            raw: Vec::new(),
            raw_most,
            raw_dropped: 0,
            components: Vec::new(),
            components_dropped: 0,
            inline: HashMap::new(),
        }
    }

    /// Takes the result of one job, once for each item that has this content.
    pub(super) fn add(&mut self, run: &Run<'_>, plan: &Plan, job: &Job, result: FileResult) {
        if result.is_empty() {
            return;
        }
        for item in job.items.iter().filter_map(|i| plan.items.get(*i as usize)) {
            for reason in &result.cut {
                run.notes.event(
                    Level::Warning,
                    "file_cut",
                    &format!("{} was not looked at whole: {reason}", item.path()),
                    json!({ "path": item.path(), "engine": job.kind, "reason": reason }),
                );
            }
            let place = Arc::new(place_of(item));
            for suppression in &result.suppressions {
                let list = self.inline.entry(Arc::clone(&place)).or_default();
                // Both the secrets and the code engine read them.
                if !list
                    .iter()
                    .any(|s| s.line == suppression.line && s.rule_id == suppression.rule_id)
                {
                    list.push(Inline {
                        line: suppression.line,
                        rule_id: suppression.rule_id.clone(),
                        reason: suppression.reason.clone(),
                        used: false,
                    });
                }
            }
            if !place.in_history {
                for component in &result.components {
                    if self.components.len() < MAX_COMPONENTS {
                        self.components.push((place.path.clone(), component.clone()));
                    } else {
                        self.components_dropped += 1;
                    }
                }
            }
            for found in &result.findings {
                let group = if job.kind == EngineKind::Secrets && !found.anchor.is_empty() {
                    fingerprint::group_of_secret(&found.anchor)
                } else {
                    let rule = run.engines.rule(&found.rule_id);
                    let id = rule.map_or(found.rule_id.as_str(), identity_of_rule);
                    fingerprint::group_of_code(id, &found.symbol, &found.anchor)
                };
                self.push(Raw {
                    place: Arc::clone(&place),
                    engine: job.kind,
                    found: found.clone(),
                    title: None,
                    dev: false,
                    group,
                });
            }
        }
    }

    pub(super) fn push(&mut self, raw: Raw) {
        if self.raw.len() < self.raw_most {
            self.raw.push(raw);
        } else {
            self.raw_dropped += 1;
        }
    }

    /// Compares the packages with the advisories.
    pub(super) fn match_advisories(
        &mut self,
        database: &Database,
        cancel: &Cancel,
    ) -> Result<(), ScanError> {
        let mut new = Vec::new();
        let mut places: HashMap<&str, Arc<Place>> = HashMap::new();
        for (n, (path, component)) in self.components.iter().enumerate() {
            if n % 256 == 0 && cancel.is_cancelled() {
                return Err(ScanError::Cancelled);
            }
            for hit in database.matches(component) {
                let place = places.entry(path.as_str()).or_insert_with(|| {
                    Arc::new(Place {
                        in_history: false,
                        path: path.clone(),
                        commit: None,
                        removed_in: None,
                    })
                });
                new.push(Raw {
                    place: Arc::clone(place),
                    engine: EngineKind::Dependencies,
                    group: fingerprint::group_of_package(
                        &component.ecosystem,
                        &dependencies::normalised_name(&component.ecosystem, &component.name),
                        &hit.identity,
                    ),
                    title: Some(hit.title),
                    dev: component.dev,
                    found: RawFinding {
                        rule_id: hit.rule_id.to_owned(),
                        severity: hit.severity,
                        confidence: Confidence::High,
                        message: hit.message,
                        span: Span {
                            start_line: component.line.max(1),
                            start_column: 1,
                            end_line: component.line.max(1),
                            end_column: 1,
                        },
                        snippet: String::new(),
                        symbol: String::new(),
                        anchor: String::new(),
                        flow: Vec::new(),
                        package: Some(PackageRef {
                            ecosystem: component.ecosystem.clone(),
                            name: component.name.clone(),
                            version: component.version.clone(),
                            purl: component.purl.clone(),
                            fixed_in: hit.fixed_in,
                            advisory_ids: hit.ids,
                        }),
                    },
                });
            }
        }
        for raw in new {
            self.push(raw);
        }
        Ok(())
    }
}

/// A renamed rule goes on under the oldest name that it had, so that its findings
/// keep their ids.
pub(super) fn identity_of_rule(rule: &crate::scan::model::RuleInfo) -> &str {
    rule.aliases.first().map_or(rule.id.as_str(), String::as_str)
}

fn place_of(item: &Item) -> Place {
    match item {
        Item::Tree(e) => {
            Place { in_history: false, path: e.path.clone(), commit: None, removed_in: None }
        }
        Item::History(e) => Place {
            in_history: true,
            path: e.path.clone(),
            commit: Some(e.commit.clone()),
            removed_in: e.removed_in.clone(),
        },
    }
}

/// Makes the outcome: identities, suppressions, weights, order, caps.
pub(super) fn finish(run: &Run<'_>, config: &ScanConfig, gathered: Gathered) -> ScanOutcome {
    let Gathered { mut raw, raw_dropped, mut components, components_dropped, mut inline, .. } =
        gathered;
    names::leave_to_the_tree(&mut raw);
    // Results arrive in the order in which threads finish; everything below depends
    // on the content alone.
    raw.sort_by(|a, b| {
        a.place
            .cmp(&b.place)
            .then_with(|| a.found.span.cmp(&b.found.span))
            .then_with(|| a.found.rule_id.cmp(&b.found.rule_id))
            .then_with(|| a.found.message.cmp(&b.found.message))
    });
    let mut groups: BTreeMap<String, Vec<(Raw, Option<String>)>> = BTreeMap::new();
    for item in raw {
        let reason = suppress(run, &mut inline, &item);
        groups.entry(item.group.clone()).or_default().push((item, reason));
    }
    let mut findings = Vec::new();
    let mut locations_dropped = 0u64;
    for (group, members) in groups {
        let one = members.iter().all(|(m, _)| is_one_whatever_the_place(m));
        if one {
            findings.push(join(run, &group, members, &mut locations_dropped));
        } else {
            for (ordinal, member) in members.into_iter().enumerate() {
                let mut finding = join_one(run, member);
                finding.fingerprint = fingerprint::with_ordinal(&group, ordinal);
                findings.push(finding);
            }
        }
    }
    report_unused(run, config, &inline);
    findings.sort_by(worst_first);
    let most = match run.limits.max_findings {
        0 => usize::MAX,
        n => n as usize,
    };
    let over = findings.len().saturating_sub(most);
    findings.truncate(most);
    if over > 0 || raw_dropped > 0 {
        run.notes.event(
            Level::Warning,
            "findings_capped",
            &format!(
                "Only the {most} worst findings are kept; at least {} more were left out.",
                over as u64 + raw_dropped
            ),
            json!({ "kept": findings.len(), "left_out": over as u64 + raw_dropped }),
        );
    }
    if components_dropped > 0 {
        run.notes.event(
            Level::Warning,
            "components_capped",
            &format!("Lock files name {components_dropped} packages beyond {MAX_COMPONENTS}."),
            json!({ "kept": MAX_COMPONENTS, "left_out": components_dropped }),
        );
    }
    if locations_dropped > 0 {
        run.notes.event(
            Level::Info,
            "locations_capped",
            &format!(
                "{locations_dropped} further places are not listed: a finding keeps at most \
                 {MAX_OTHER_LOCATIONS}."
            ),
            json!({ "left_out": locations_dropped }),
        );
    }
    components.sort();
    ScanOutcome { findings, components, ..ScanOutcome::default() }
}

/// Secrets are told by their value, packages by name and advisory: further places
/// are no further findings.
fn is_one_whatever_the_place(raw: &Raw) -> bool {
    match raw.engine {
        EngineKind::Secrets => !raw.found.anchor.is_empty(),
        EngineKind::Dependencies => true,
        // Only what attacks git is looked for there, commit after commit.
        EngineKind::Code => raw.place.in_history,
    }
}

/// The reason of the suppression that speaks of this finding, if one does.
fn suppress(
    run: &Run<'_>,
    inline: &mut HashMap<Arc<Place>, Vec<Inline>>,
    raw: &Raw,
) -> Option<String> {
    let rule = run.engines.rule(&raw.found.rule_id);
    let span = raw.found.span;
    let mut reason = None;
    for entry in inline.get_mut(&raw.place)? {
        let here = (span.start_line..=span.end_line.max(span.start_line)).contains(&entry.line);
        let names_it = entry.rule_id == "*"
            || entry.rule_id == raw.found.rule_id
            || rule.is_some_and(|r| r.id == entry.rule_id || r.aliases.contains(&entry.rule_id));
        if here && names_it {
            entry.used = true;
            reason.get_or_insert_with(|| entry.reason.clone());
        }
    }
    reason
}

/// A suppression that silences nothing is stale, or names the wrong rule or line.
/// Said of the tree only, and only if the engines that it may speak of have run.
fn report_unused(run: &Run<'_>, config: &ScanConfig, inline: &HashMap<Arc<Place>, Vec<Inline>>) {
    let mut unused: Vec<(&Place, &Inline)> = inline
        .iter()
        .filter(|(place, _)| !place.in_history)
        .flat_map(|(place, list)| list.iter().map(move |s| (place.as_ref(), s)))
        .filter(|(_, s)| !s.used)
        .collect();
    unused.sort_by(|a, b| a.0.cmp(b.0).then(a.1.line.cmp(&b.1.line)));
    for (place, suppression) in unused {
        let rule = run.engines.rule(&suppression.rule_id);
        let could_tell = match rule {
            Some(rule) => config.engines.contains(&rule.engine),
            None => EngineKind::ALL.iter().all(|k| config.engines.contains(k)),
        };
        if !could_tell {
            continue;
        }
        let why = if rule.is_none() && suppression.rule_id != "*" {
            "no rule has this name"
        } else {
            "nothing is found on its line"
        };
        run.notes.event(
            Level::Warning,
            "suppression_unused",
            &format!(
                "{}:{}: the suppression of {} is not needed: {why}.",
                place.path, suppression.line, suppression.rule_id
            ),
            json!({
                "path": place.path,
                "line": suppression.line,
                "rule_id": suppression.rule_id,
                "reason": suppression.reason,
            }),
        );
    }
}

/// One finding from all places of one thing. Members are sorted: tree before
/// history, then by path and place; the first of the best rule is what is shown.
fn join(
    run: &Run<'_>,
    group: &str,
    mut members: Vec<(Raw, Option<String>)>,
    locations_dropped: &mut u64,
) -> Finding {
    // Several rules may know one value: the one that is surest and worst speaks.
    let in_tree = members.iter().any(|(m, _)| !m.place.in_history);
    let best = members
        .iter()
        .enumerate()
        .filter(|(_, (m, _))| m.place.in_history != in_tree)
        .max_by(|(i, (a, _)), (j, (b, _))| {
            (a.found.severity, a.found.confidence)
                .cmp(&(b.found.severity, b.found.confidence))
                // A package that is shipped counts more than the same for tests.
                .then_with(|| b.dev.cmp(&a.dev))
                // The first of equals, in the order of places.
                .then_with(|| j.cmp(i))
        })
        .map_or(0, |(i, _)| i);
    // A value that was accepted where it stands is accepted in the history too; one
    // that stands somewhere else without a reason is not.
    let all_suppressed = members
        .iter()
        .filter(|(m, _)| m.place.in_history != in_tree)
        .all(|(_, reason)| reason.is_some());
    let (shown, reason) = members.remove(best);
    let shown_at = location_of(&shown);
    let mut finding = join_one(run, (shown, reason.filter(|_| all_suppressed)));
    finding.fingerprint = fingerprint::with_ordinal(group, 0);
    let mut others: Vec<Location> = members.iter().map(|(m, _)| location_of(m)).collect();
    others.dedup();
    others.retain(|l| *l != shown_at);
    *locations_dropped += others.len().saturating_sub(MAX_OTHER_LOCATIONS) as u64;
    others.truncate(MAX_OTHER_LOCATIONS);
    finding.other_locations = others;
    finding
}

fn location_of(raw: &Raw) -> Location {
    Location {
        path: raw.place.path.clone(),
        span: raw.found.span,
        commit: raw.place.commit.clone(),
        in_history: raw.place.in_history,
    }
}

/// A finding from one place, without its fingerprint.
fn join_one(run: &Run<'_>, (raw, suppressed): (Raw, Option<String>)) -> Finding {
    let location = location_of(&raw);
    let Raw { place, engine, found, title, dev, .. } = raw;
    let mut message = found.message;
    if place.in_history && git::owns(&found.rule_id) {
        if let Some(commit) = &place.commit {
            message.push_str(&format!(" The oldest commit that has it is {}.", short(commit)));
        }
    } else if place.in_history {
        message.push_str(match &place.removed_in {
            Some(_) => " The tree no longer holds it, but every clone does",
            None => " It lies in the history, not in the tree",
        });
        if let Some(commit) = &place.commit {
            message.push_str(&format!(": brought by {}", short(commit)));
        }
        if let Some(commit) = &place.removed_in {
            message.push_str(&format!(", removed by {}", short(commit)));
        }
        message.push('.');
    }
    let mut flow = found.flow;
    for step in &mut flow {
        step.path.get_or_insert_with(|| place.path.clone());
    }
    Finding {
        fingerprint: String::new(),
        engine,
        title: title.unwrap_or_else(|| {
            run.engines
                .rule(&found.rule_id)
                .map_or_else(|| found.rule_id.clone(), |r| r.title.clone())
        }),
        priority: priority(Weights {
            severity: found.severity,
            confidence: found.confidence,
            role: role_of_path(&place.path),
            in_history: place.in_history,
            dev,
            suppressed: suppressed.is_some(),
        }),
        rule_id: found.rule_id,
        message,
        severity: found.severity,
        confidence: found.confidence,
        location,
        other_locations: Vec::new(),
        snippet: found.snippet,
        symbol: found.symbol,
        flow,
        package: found.package,
        suppressed,
    }
}

fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}
