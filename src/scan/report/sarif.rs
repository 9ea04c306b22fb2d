//! SARIF 2.1.0
//! (<https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>).

use std::collections::{HashMap, HashSet};
use std::io;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::scan::model::{
    Confidence, Finding, FlowStep, Location, RuleInfo, ScanOutcome, Severity, Span,
};

use super::{Meta, TOOL_VERSION, value, write};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// What may not stand as it is in the path of a URI reference. The colon is legal
/// but would make a scheme of the first component.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b':')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The whole log as a value.
pub fn sarif(outcome: &ScanOutcome, rules: &[RuleInfo], meta: &Meta) -> Value {
    value(&log(outcome, rules, meta))
}

/// Writes the log, one result at a time.
///
/// # Errors
///
/// Those of the writer.
pub fn write_sarif(
    out: &mut dyn io::Write,
    outcome: &ScanOutcome,
    rules: &[RuleInfo],
    meta: &Meta,
) -> io::Result<()> {
    write(out, &log(outcome, rules, meta))
}

#[derive(Serialize)]
struct Log<R> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [R; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run<R> {
    tool: Value,
    original_uri_base_ids: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_control_provenance: Option<Value>,
    results: R,
}

/// Made while it is written.
struct Results<'a> {
    findings: &'a [Finding],
    rules: HashMap<&'a str, usize>,
}

impl Serialize for Results<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.findings.iter().map(|f| result(f, &self.rules)))
    }
}

fn log<'a>(outcome: &'a ScanOutcome, rules: &'a [RuleInfo], meta: &'a Meta) -> impl Serialize {
    // Those that found something. All of them are half a megabyte, which would be most of what
    // a scan of a small repository leaves in storage.
    let named: HashSet<&str> = outcome.findings.iter().map(|f| f.rule_id.as_str()).collect();
    let rules: Vec<&RuleInfo> = rules.iter().filter(|r| named.contains(r.id.as_str())).collect();
    let at: HashMap<&str, usize> =
        rules.iter().enumerate().map(|(n, r)| (r.id.as_str(), n)).collect();
    let provenance = meta.repository.as_ref().map(|uri| {
        let mut entry = Map::new();
        entry.insert("repositoryUri".to_owned(), json!(uri));
        if let Some(commit) = &meta.commit {
            entry.insert("revisionId".to_owned(), json!(commit));
        }
        json!([entry])
    });
    Log {
        schema: SCHEMA,
        version: "2.1.0",
        runs: [Run {
            tool: json!({ "driver": {
                "name": "sluice",
                "version": TOOL_VERSION,
                "semanticVersion": TOOL_VERSION,
                "rules": rules.iter().copied().map(rule).collect::<Vec<_>>(),
            }}),
            original_uri_base_ids: json!({
                "SRCROOT": { "description": { "text": "The root of the scanned tree." } }
            }),
            version_control_provenance: provenance,
            results: Results { findings: &outcome.findings, rules: at },
        }],
    }
}

fn rule(rule: &RuleInfo) -> Value {
    let mut tags: Vec<String> = vec!["security".to_owned(), rule.engine.to_string()];
    // The form that code hosts read weakness classes from.
    tags.extend(rule.cwe.iter().map(|c| format!("external/cwe/{}", c.to_ascii_lowercase())));
    tags.extend(rule.owasp.iter().map(|o| format!("external/owasp/{}", o.to_ascii_lowercase())));
    let mut out = json!({
        "id": rule.id,
        "name": rule.id,
        "shortDescription": { "text": rule.title },
        "fullDescription": { "text": rule.description },
        "help": { "text": rule.remediation },
        "defaultConfiguration": { "level": level(rule.severity) },
        "properties": {
            "tags": tags,
            "security-severity": score(rule.severity),
        },
    });
    if let Some(map) = out.as_object_mut() {
        if let Some(uri) = rule.references.first() {
            map.insert("helpUri".to_owned(), json!(uri));
        }
        if !rule.aliases.is_empty() {
            map.insert("deprecatedIds".to_owned(), json!(rule.aliases));
        }
    }
    out
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Info => "note",
    }
}

/// The middle of the range that each word has in CVSS.
fn score(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "9.5",
        Severity::High => "8.0",
        Severity::Medium => "5.5",
        Severity::Low => "2.0",
        Severity::Info => "0.0",
    }
}

fn result(finding: &Finding, rules: &HashMap<&str, usize>) -> Value {
    let mut location = location(&finding.location);
    if let Some(map) = location.as_object_mut() {
        if !finding.snippet.is_empty()
            && let Some(region) = map
                .get_mut("physicalLocation")
                .and_then(|p| p.get_mut("region"))
                .and_then(Value::as_object_mut)
        {
            region.insert("snippet".to_owned(), json!({ "text": finding.snippet }));
        }
        if !finding.symbol.is_empty() {
            map.insert(
                "logicalLocations".to_owned(),
                json!([{ "fullyQualifiedName": finding.symbol }]),
            );
        }
    }
    let suppressions = match &finding.suppressed {
        Some(reason) if reason.is_empty() => json!([{ "kind": "inSource" }]),
        Some(reason) => json!([{ "kind": "inSource", "justification": reason }]),
        None => json!([]),
    };
    let mut properties = json!({
        "severity": finding.severity,
        "confidence": finding.confidence,
        "priority": finding.priority,
        "security-severity": score(finding.severity),
        "precision": match finding.confidence {
            Confidence::High => "very-high",
            Confidence::Medium => "high",
            Confidence::Low => "medium",
        },
        "inHistory": finding.location.in_history,
    });
    if let Some(map) = properties.as_object_mut() {
        if let Some(commit) = &finding.location.commit {
            map.insert("commit".to_owned(), json!(commit));
        }
        if let Some(package) = &finding.package {
            map.insert("package".to_owned(), json!(package));
        }
    }
    let mut out = json!({
        "ruleId": finding.rule_id,
        "level": level(finding.severity),
        "rank": f64::from(finding.priority),
        "message": { "text": finding.message },
        "locations": [location],
        "partialFingerprints": {
            "sluice/v1": finding.fingerprint,
            "primaryLocationLineHash": line_hash(finding),
        },
        "suppressions": suppressions,
        "properties": properties,
    });
    if let Some(map) = out.as_object_mut() {
        if let Some(index) = rules.get(finding.rule_id.as_str()) {
            map.insert("ruleIndex".to_owned(), json!(index));
        }
        if !finding.other_locations.is_empty() {
            map.insert("relatedLocations".to_owned(), related(&finding.other_locations));
        }
        if !finding.flow.is_empty() {
            map.insert("codeFlows".to_owned(), code_flow(finding));
        }
    }
    out
}

fn artifact(path: &str) -> Value {
    json!({ "uri": utf8_percent_encode(path, PATH).to_string(), "uriBaseId": "SRCROOT" })
}

/// A region within what the schema allows: nothing counts from 0, nothing ends
/// before it starts. Columns are left out where the place is a whole line.
fn region(span: Span) -> Value {
    let start_line = span.start_line.max(1);
    let end_line = span.end_line.max(start_line);
    let mut out = json!({ "startLine": start_line, "endLine": end_line });
    let ends_behind = end_line > start_line || span.end_column > span.start_column;
    if let Some(map) = out.as_object_mut()
        && ends_behind
        && span.start_column > 0
        && span.end_column > 0
    {
        map.insert("startColumn".to_owned(), json!(span.start_column));
        map.insert("endColumn".to_owned(), json!(span.end_column));
    }
    out
}

fn location(location: &Location) -> Value {
    json!({ "physicalLocation": {
        "artifactLocation": artifact(&location.path),
        "region": region(location.span),
    }})
}

fn related(others: &[Location]) -> Value {
    others
        .iter()
        .enumerate()
        .map(|(n, other)| {
            let mut out = location(other);
            let text = match (&other.commit, other.in_history) {
                (Some(commit), true) => format!("The same, in commit {commit}."),
                _ => "The same, at another place.".to_owned(),
            };
            if let Some(map) = out.as_object_mut() {
                map.insert("id".to_owned(), json!(n + 1));
                map.insert("message".to_owned(), json!({ "text": text }));
            }
            out
        })
        .collect()
}

fn code_flow(finding: &Finding) -> Value {
    let step = |step: &FlowStep| {
        let path = step.path.as_deref().unwrap_or(&finding.location.path);
        json!({ "location": {
            "physicalLocation": {
                "artifactLocation": artifact(path),
                "region": { "startLine": step.line.max(1), "startColumn": step.column.max(1) },
            },
            "message": { "text": step.message },
        }})
    };
    json!([{ "threadFlows": [{
        "locations": finding.flow.iter().map(step).collect::<Vec<_>>(),
    }]}])
}

/// What code hosts tell results of one rule apart by: a hash over the first line of
/// the match without white space, and a counter. A report keeps the lines that it
/// shows and no others, so the hash is over these.
fn line_hash(finding: &Finding) -> String {
    let mut hash = Sha256::new();
    let line = finding.snippet.lines().next().unwrap_or("");
    hash.update(finding.rule_id.as_bytes());
    for part in line.split_whitespace() {
        hash.update(part.as_bytes());
    }
    let mut digest = String::with_capacity(16);
    for byte in hash.finalize().iter().take(8) {
        digest.push_str(&format!("{byte:02x}"));
    }
    // The last digits of the fingerprint number equal matches from 0.
    let ordinal = finding
        .fingerprint
        .get(36..)
        .and_then(|hex| u64::from_str_radix(hex, 16).ok())
        .unwrap_or(0);
    format!("{digest}:{}", ordinal + 1)
}
