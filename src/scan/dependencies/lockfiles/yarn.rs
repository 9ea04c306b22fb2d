//! `yarn.lock`: the format of its own of version 1, and YAML since version 2
//! ("berry").

use std::collections::{HashMap, HashSet};

use super::yaml::{self, Node};
use super::{Collector, Fault, Package, line_number};

pub(super) fn read(text: &str, out: &mut Collector<'_>) -> Result<(), Fault> {
    if text.lines().any(|l| l.starts_with("__metadata:")) {
        berry(text, out)
    } else {
        classic(text, out)
    }
}

/// `name@range` → name and range; a scope's `@` in front belongs to the name.
fn split(spec: &str) -> Option<(&str, &str)> {
    let at = spec.get(1..)?.find('@')? + 1;
    Some((spec.get(..at)?, spec.get(at + 1..)?))
}

#[derive(Default)]
struct Entry<'t> {
    specs: Vec<&'t str>,
    line: u32,
    version: &'t str,
    /// `name@range`, as a spec.
    requires: Vec<String>,
}

/// Version 1: an unindented line of specs, two blanks before its fields, four
/// before its dependencies.
fn classic(text: &str, out: &mut Collector<'_>) -> Result<(), Fault> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let mut in_dependencies = false;
    for (n, line) in text.lines().enumerate() {
        out.step()?;
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if !line.starts_with(' ') {
            let Some(specs) = content.strip_suffix(':') else {
                return Err(Fault::Malformed(format!("line {} is no entry", n + 1)));
            };
            entries.push(Entry {
                specs: specs.split(", ").map(|s| s.trim_matches('"')).collect(),
                line: line_number(n),
                ..Entry::default()
            });
            in_dependencies = false;
            continue;
        }
        let Some(entry) = entries.last_mut() else {
            continue;
        };
        let (key, value) = content.split_once(' ').unwrap_or((content, ""));
        let (key, value) = (key.trim_matches('"'), value.trim_matches('"'));
        if line.starts_with("    ") {
            if in_dependencies {
                entry.requires.push(format!("{key}@{value}"));
            }
        } else if key == "version" {
            entry.version = value;
        } else {
            in_dependencies = matches!(key, "dependencies:" | "optionalDependencies:");
        }
    }
    let by_spec: HashMap<&str, &str> =
        entries.iter().flat_map(|e| e.specs.iter().map(|s| (*s, e.version))).collect();
    for entry in &entries {
        let Some((name, range)) = entry.specs.first().and_then(|s| split(s)) else {
            continue;
        };
        if range.starts_with("file:") || range.starts_with("link:") {
            continue;
        }
        // An alias: `short@npm:real-name@^1`.
        let name = range.strip_prefix("npm:").and_then(split).map_or(name, |(real, _)| real);
        let requires = entry
            .requires
            .iter()
            .filter_map(|spec| {
                let version = by_spec.get(spec.as_str())?;
                Some(format!("{}@{version}", split(spec)?.0))
            })
            .collect();
        out.add(Package {
            name,
            version: entry.version,
            line: entry.line,
            requires,
            ..Package::default()
        })?;
    }
    Ok(())
}

fn berry(text: &str, out: &mut Collector<'_>) -> Result<(), Fault> {
    let root = yaml::parse(text, out)?;
    let mut version_of: HashMap<&str, &str> = HashMap::new();
    let mut direct: HashSet<String> = HashSet::new();
    for entry in root.members() {
        out.step()?;
        let version = entry.value.text_of("version").unwrap_or("");
        version_of.extend(entry.key.split(", ").map(|spec| (spec, version)));
        if entry.value.text_of("resolution").is_some_and(|r| r.contains("@workspace:")) {
            direct.extend(specs(&entry.value));
        }
    }
    for entry in root.members() {
        let Some((name, source)) = entry.value.text_of("resolution").and_then(split) else {
            continue;
        };
        if !source.starts_with("npm:") {
            continue;
        }
        let requires = specs(&entry.value)
            .iter()
            .filter_map(|spec| {
                Some(format!("{}@{}", split(spec)?.0, version_of.get(spec.as_str())?))
            })
            .collect();
        out.add(Package {
            name,
            version: entry.value.text_of("version").unwrap_or(""),
            direct: Some(entry.key.split(", ").any(|spec| direct.contains(spec))),
            line: entry.line,
            requires,
            dev: false,
        })?;
    }
    Ok(())
}

/// What an entry asks for, as specs. Until version 3 of the file the protocol was
/// left out of ranges.
fn specs(entry: &Node) -> Vec<String> {
    entry
        .get("dependencies")
        .map(Node::members)
        .unwrap_or_default()
        .iter()
        .map(|m| {
            let range = m.value.text().unwrap_or("");
            if range.contains(':') {
                format!("{}@{range}", m.key)
            } else {
                format!("{}@npm:{range}", m.key)
            }
        })
        .collect()
}
