//! CycloneDX 1.6 as JSON (<https://cyclonedx.org/docs/1.6/json/>).

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::scan::dependencies::purl;
use crate::scan::model::{Component, EngineKind, Finding, ScanOutcome};

use super::{Each, Meta, TOOL_VERSION, value, write};

/// Reference of the project itself.
const ROOT: &str = "sluice:root";

/// The whole bill of materials as a value.
pub fn cyclonedx(outcome: &ScanOutcome, meta: &Meta) -> Value {
    value(&bom(outcome, meta))
}

/// Writes the bill of materials, one component at a time.
///
/// # Errors
///
/// Those of the writer.
pub fn write_cyclonedx(
    out: &mut dyn io::Write,
    outcome: &ScanOutcome,
    meta: &Meta,
) -> io::Result<()> {
    write(out, &bom(outcome, meta))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bom<C, D, V> {
    bom_format: &'static str,
    spec_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<String>,
    version: u32,
    metadata: Value,
    components: C,
    dependencies: D,
    vulnerabilities: V,
}

/// A package, wherever it is named.
#[derive(Default)]
struct Named<'a> {
    component: Option<&'a Component>,
    /// Lock files and lines.
    places: BTreeSet<(&'a str, u32)>,
    direct: bool,
    dev: bool,
    requires: BTreeSet<String>,
}

fn bom<'a>(outcome: &'a ScanOutcome, meta: &'a Meta) -> impl Serialize + use<'a> {
    let mut packages: BTreeMap<&str, Named<'a>> = BTreeMap::new();
    for (path, component) in &outcome.components {
        let named = packages.entry(component.purl.as_str()).or_default();
        named.dev = component.dev && (named.dev || named.component.is_none());
        named.component.get_or_insert(component);
        named.places.insert((path, component.line));
        named.direct |= component.direct == Some(true);
        named.requires.extend(component.requires.iter().filter_map(|r| {
            let (name, version) = r.rsplit_once('@')?;
            Some(purl(&component.ecosystem, name, version))
        }));
    }
    let vulnerabilities: Vec<&Finding> = outcome
        .findings
        .iter()
        .filter(|f| f.engine == EngineKind::Dependencies && f.package.is_some())
        .collect();
    let components: Vec<Value> = packages.iter().map(|(r, n)| component(r, n)).collect();
    let mut dependencies = vec![json!({
        "ref": ROOT,
        "dependsOn": packages.iter().filter(|(_, n)| n.direct).map(|(r, _)| r).collect::<Vec<_>>(),
    })];
    dependencies.extend(packages.iter().map(|(reference, named)| {
        let on: Vec<&String> =
            named.requires.iter().filter(|r| packages.contains_key(r.as_str())).collect();
        json!({ "ref": reference, "dependsOn": on })
    }));
    Bom {
        bom_format: "CycloneDX",
        spec_version: "1.6",
        serial_number: meta.serial.map(|id| format!("urn:uuid:{id}")),
        version: 1,
        metadata: metadata(meta),
        components,
        dependencies,
        vulnerabilities: Each(move || vulnerabilities.clone().into_iter().map(vulnerability)),
    }
}

fn metadata(meta: &Meta) -> Value {
    let mut subject = json!({ "type": "application", "bom-ref": ROOT, "name": meta.name });
    if let (Some(map), Some(commit)) = (subject.as_object_mut(), &meta.commit) {
        map.insert("version".to_owned(), json!(commit));
    }
    let mut out = json!({
        "tools": { "components": [{
            "type": "application",
            "name": "sluice",
            "version": TOOL_VERSION,
        }]},
        "component": subject,
    });
    if let (Some(map), Some(at)) = (out.as_object_mut(), &meta.timestamp) {
        map.insert("timestamp".to_owned(), json!(at));
    }
    out
}

fn component(reference: &str, named: &Named<'_>) -> Value {
    let mut out = Map::new();
    out.insert("type".to_owned(), json!("library"));
    out.insert("bom-ref".to_owned(), json!(reference));
    if let Some(component) = named.component {
        // Group and name stand apart where the ecosystem has both.
        let split = match component.ecosystem.as_str() {
            "Maven" => component.name.split_once(':'),
            "npm" if component.name.starts_with('@') => component.name.split_once('/'),
            "Packagist" => component.name.split_once('/'),
            _ => None,
        };
        if let Some((group, _)) = split {
            out.insert("group".to_owned(), json!(group));
        }
        out.insert("name".to_owned(), json!(split.map_or(component.name.as_str(), |s| s.1)));
        if !component.version.is_empty() {
            out.insert("version".to_owned(), json!(component.version));
        }
        out.insert("purl".to_owned(), json!(component.purl));
    }
    out.insert("scope".to_owned(), json!(if named.dev { "excluded" } else { "required" }));
    let occurrences: Vec<Value> = named
        .places
        .iter()
        .map(|(path, line)| match line {
            0 => json!({ "location": path }),
            line => json!({ "location": path, "line": line }),
        })
        .collect();
    out.insert("evidence".to_owned(), json!({ "occurrences": occurrences }));
    Value::Object(out)
}

fn vulnerability(finding: &Finding) -> Value {
    let Some(package) = &finding.package else {
        return Value::Null;
    };
    let mut ids = package.advisory_ids.iter();
    let id = ids.next().cloned().unwrap_or_default();
    let references: Vec<Value> =
        ids.map(|alias| json!({ "id": alias, "source": { "name": "OSV" } })).collect();
    let mut out = json!({
        "bom-ref": finding.fingerprint,
        "id": id,
        "source": { "name": "OSV", "url": format!("https://osv.dev/vulnerability/{id}") },
        "references": references,
        "ratings": [{ "severity": finding.severity }],
        "description": finding.title,
        "affects": [{ "ref": package.purl }],
    });
    if let (Some(map), Some(fixed)) = (out.as_object_mut(), &package.fixed_in) {
        map.insert("recommendation".to_owned(), json!(format!("Upgrade to {fixed} or later.")));
    }
    out
}
