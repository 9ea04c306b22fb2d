//! `pom.xml` (<https://maven.apache.org/pom.html>).
//!
//! What one file tells: its properties, the versions that its own
//! `dependencyManagement` gives, and those of its parent's coordinates that it
//! repeats. A version that only the parent knows stays empty. External and
//! self-defined entities are not expanded.

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::{Collector, Fault, Package};

/// Deepest nesting of elements.
const MAX_DEPTH: usize = 64;

/// Longest value of a property or version that is kept, in bytes.
const MAX_VALUE: usize = 1000;

/// How often a property may lead to another.
const MAX_HOPS: usize = 8;

#[derive(Default)]
struct Dependency {
    group: String,
    artifact: String,
    version: String,
    scope: String,
    line: u32,
    managed: bool,
}

/// Counts lines as the reader moves on, each byte once.
struct Lines<'t> {
    text: &'t [u8],
    at: usize,
    line: u32,
}

impl Lines<'_> {
    fn at(&mut self, position: u64) -> u32 {
        let to = usize::try_from(position).unwrap_or(usize::MAX).min(self.text.len());
        if let Some(passed) = self.text.get(self.at..to) {
            let count = memchr::memchr_iter(b'\n', passed).count();
            self.line = self.line.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
            self.at = to;
        }
        self.line
    }
}

pub(super) fn read(text: &str, out: &mut Collector<'_>) -> Result<(), Fault> {
    let mut reader = Reader::from_str(text);
    let mut lines = Lines { text: text.as_bytes(), at: 0, line: 1 };
    let mut path: Vec<String> = Vec::new();
    let mut value = String::new();
    let mut properties: HashMap<String, String> = HashMap::new();
    let mut dependencies: Vec<Dependency> = Vec::new();
    let mut fault = None;
    loop {
        out.step()?;
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(_) => {
                let line = lines.at(reader.error_position());
                fault = Some(Fault::Malformed(format!("line {line} is no XML")));
                break;
            }
        };
        match event {
            Event::Start(tag) => {
                if path.len() >= MAX_DEPTH {
                    fault = Some(Fault::Malformed("it is nested too deeply".to_owned()));
                    break;
                }
                path.push(String::from_utf8_lossy(tag.local_name().as_ref()).into_owned());
                value.clear();
                if let Some(managed) = dependency(&path) {
                    let line = lines.at(reader.buffer_position());
                    dependencies.push(Dependency { line, managed, ..Dependency::default() });
                }
            }
            Event::Text(text) if value.len() < MAX_VALUE => {
                value.push_str(text.decode().unwrap_or_default().trim());
            }
            Event::CData(text) if value.len() < MAX_VALUE => {
                value.push_str(text.decode().unwrap_or_default().trim());
            }
            Event::End(_) => {
                take(&path, &value, &mut properties, dependencies.last_mut());
                path.pop();
                value.clear();
            }
            Event::Eof => break,
            _ => {}
        }
    }
    // A project inherits what it does not say from its parent.
    for key in ["version", "groupId"] {
        if let Some(parent) = properties.get(&format!("project.parent.{key}")).cloned() {
            properties.entry(format!("project.{key}")).or_insert(parent);
        }
    }
    emit(&dependencies, &properties, out)?;
    fault.map_or(Ok(()), Err)
}

/// Whether the path leads to a dependency, and whether to one that is only managed.
/// Those of plugins build the project but are no part of it.
fn dependency(path: &[String]) -> Option<bool> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["project", "dependencies", "dependency"]
        | ["project", "profiles", "profile", "dependencies", "dependency"] => Some(false),
        ["project", "dependencyManagement", "dependencies", "dependency"]
        | [
            "project",
            "profiles",
            "profile",
            "dependencyManagement",
            "dependencies",
            "dependency",
        ] => Some(true),
        _ => None,
    }
}

/// Takes the value of an element that ends.
fn take(
    path: &[String],
    value: &str,
    properties: &mut HashMap<String, String>,
    last: Option<&mut Dependency>,
) {
    let Some((name, above)) = path.split_last() else {
        return;
    };
    if value.is_empty() || value.len() > MAX_VALUE {
        return;
    }
    if dependency(above).is_some() {
        let Some(last) = last else { return };
        match name.as_str() {
            "groupId" => value.clone_into(&mut last.group),
            "artifactId" => value.clone_into(&mut last.artifact),
            "version" => value.clone_into(&mut last.version),
            "scope" => value.clone_into(&mut last.scope),
            _ => {}
        }
        return;
    }
    let above: Vec<&str> = above.iter().map(String::as_str).collect();
    let key = match above.as_slice() {
        ["project", "properties"] | ["project", "profiles", "profile", "properties"] => {
            name.clone()
        }
        ["project"] if matches!(name.as_str(), "version" | "groupId" | "artifactId") => {
            format!("project.{name}")
        }
        ["project", "parent"] if matches!(name.as_str(), "version" | "groupId") => {
            format!("project.parent.{name}")
        }
        _ => return,
    };
    properties.entry(key).or_insert_with(|| value.to_owned());
}

fn emit(
    dependencies: &[Dependency],
    properties: &HashMap<String, String>,
    out: &mut Collector<'_>,
) -> Result<(), Fault> {
    let name = |d: &Dependency| {
        Some(format!("{}:{}", resolve(&d.group, properties)?, resolve(&d.artifact, properties)?))
            .filter(|n| n.len() > 1 && !n.starts_with(':') && !n.ends_with(':'))
    };
    let managed: HashMap<String, &Dependency> =
        dependencies.iter().filter(|d| d.managed).filter_map(|d| Some((name(d)?, d))).collect();
    for dependency in dependencies.iter().filter(|d| !d.managed) {
        let Some(name) = name(dependency) else {
            continue;
        };
        let management = managed.get(&name);
        let version = match (dependency.version.is_empty(), management) {
            (true, Some(m)) => m.version.as_str(),
            _ => dependency.version.as_str(),
        };
        let scope = match (dependency.scope.is_empty(), management) {
            (true, Some(m)) => m.scope.as_str(),
            _ => dependency.scope.as_str(),
        };
        let version = resolve(version, properties).unwrap_or_default();
        // `[1.0,2.0)` is a range, `[1.0]` is exactly that version.
        let version = match version.strip_prefix('[').and_then(|v| v.strip_suffix(']')) {
            Some(exact) if !exact.contains(',') => exact,
            _ if version.contains(['[', '(', ',']) => "",
            _ => version.as_str(),
        };
        out.add(Package {
            name: &name,
            version,
            direct: Some(true),
            dev: scope == "test",
            line: dependency.line,
            requires: Vec::new(),
        })?;
    }
    Ok(())
}

/// Replaces `${name}`; `None` if a property is not known here. Bounded in hops and
/// in length, since properties may name each other.
fn resolve(value: &str, properties: &HashMap<String, String>) -> Option<String> {
    let mut value = value.to_owned();
    for _ in 0..MAX_HOPS {
        let Some(start) = value.find("${") else {
            return Some(value);
        };
        let end = start + value.get(start..)?.find('}')?;
        let name = value.get(start + 2..end)?;
        // `pom.` and nothing are old spellings of `project.`.
        let found = properties
            .get(name)
            .or_else(|| properties.get(&format!("project.{}", name.strip_prefix("pom.")?)))
            .or_else(|| match name {
                "version" => properties.get("project.version"),
                _ => None,
            })?;
        if value.len() + found.len() > MAX_VALUE {
            return None;
        }
        value = format!("{}{found}{}", value.get(..start)?, value.get(end + 1..)?);
    }
    None
}
