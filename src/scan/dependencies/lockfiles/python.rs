//! The lock files of Poetry, uv, PDM and Pipenv.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::json::{Lines, Pairs, parse};
use super::{Collector, Fault, Package, package_headers, toml_fault};
use crate::scan::dependencies::purl::normalised_name;

fn normal(name: &str) -> String {
    normalised_name("PyPI", name)
}

/// The name in front of extras, markers and specifiers (PEP 508).
fn name_of(requirement: &str) -> String {
    let end = requirement
        .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'))
        .unwrap_or(requirement.len());
    normal(requirement.get(..end).unwrap_or(""))
}

fn requires(names: impl Iterator<Item = String>, versions: &HashMap<String, &str>) -> Vec<String> {
    names.filter_map(|n| versions.get(&n).map(|v| format!("{n}@{v}"))).collect()
}

#[derive(Deserialize)]
struct Poetry {
    #[serde(default)]
    package: Vec<PoetryPackage>,
}

#[derive(Deserialize)]
struct PoetryPackage {
    name: String,
    #[serde(default)]
    version: String,
    /// Until version 1.4 of Poetry.
    category: Option<String>,
    /// Since version 2.
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    dependencies: toml::Table,
    source: Option<PoetrySource>,
}

#[derive(Deserialize)]
struct PoetrySource {
    #[serde(rename = "type", default)]
    kind: String,
}

pub(super) fn poetry(text: &str, out: &mut Collector<'_>) -> Result<(), Fault> {
    let lock: Poetry = toml::from_str(text).map_err(|e| toml_fault(&e))?;
    let versions: HashMap<String, &str> =
        lock.package.iter().map(|p| (normal(&p.name), p.version.as_str())).collect();
    let mut headers = package_headers(text).into_iter();
    for package in &lock.package {
        let line = headers.next().unwrap_or(0);
        if package.source.as_ref().is_some_and(|s| matches!(s.kind.as_str(), "directory" | "file"))
        {
            continue;
        }
        let in_groups = !package.groups.is_empty() && !package.groups.iter().any(|g| g == "main");
        out.add(Package {
            name: &normal(&package.name),
            version: &package.version,
            direct: None,
            dev: package.category.as_deref() == Some("dev") || in_groups,
            line,
            requires: requires(package.dependencies.keys().map(|n| normal(n)), &versions),
        })?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Uv {
    #[serde(default)]
    package: Vec<UvPackage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UvPackage {
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    source: toml::Table,
    #[serde(default)]
    dependencies: Vec<UvDependency>,
    #[serde(default)]
    optional_dependencies: HashMap<String, Vec<UvDependency>>,
    #[serde(default)]
    dev_dependencies: HashMap<String, Vec<UvDependency>>,
}

#[derive(Deserialize)]
struct UvDependency {
    name: String,
}

impl UvPackage {
    /// A member of the workspace, not something that was fetched.
    fn is_own(&self) -> bool {
        ["virtual", "editable", "directory", "path"].iter().any(|k| self.source.contains_key(*k))
    }

    fn shipped(&self) -> impl Iterator<Item = &str> {
        self.dependencies
            .iter()
            .chain(self.optional_dependencies.values().flatten())
            .map(|d| d.name.as_str())
    }
}

pub(super) fn uv(text: &str, out: &mut Collector<'_>) -> Result<(), Fault> {
    let lock: Uv = toml::from_str(text).map_err(|e| toml_fault(&e))?;
    let versions: HashMap<String, &str> =
        lock.package.iter().map(|p| (normal(&p.name), p.version.as_str())).collect();
    let mut direct: HashSet<String> = HashSet::new();
    let mut open: Vec<String> = Vec::new();
    for own in lock.package.iter().filter(|p| p.is_own()) {
        open.extend(own.shipped().map(normal));
        let dev = own.dev_dependencies.values().flatten().map(|d| normal(&d.name));
        direct.extend(own.shipped().map(normal).chain(dev));
    }
    // Everything that is not reached without the development groups is for these.
    let has_roots = !direct.is_empty();
    let by_name: HashMap<String, &UvPackage> =
        lock.package.iter().map(|p| (normal(&p.name), p)).collect();
    let mut shipped: HashSet<String> = HashSet::new();
    while let Some(name) = open.pop() {
        out.step()?;
        if let Some(package) = by_name.get(&name)
            && shipped.insert(name)
        {
            open.extend(package.shipped().map(normal));
        }
    }
    let mut headers = package_headers(text).into_iter();
    for package in &lock.package {
        let line = headers.next().unwrap_or(0);
        if package.is_own() {
            continue;
        }
        let name = normal(&package.name);
        out.add(Package {
            name: &name,
            version: &package.version,
            direct: has_roots.then(|| direct.contains(&name)),
            dev: has_roots && !shipped.contains(&name),
            line,
            requires: requires(package.dependencies.iter().map(|d| normal(&d.name)), &versions),
        })?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Pdm {
    #[serde(default)]
    package: Vec<PdmPackage>,
}

#[derive(Deserialize)]
struct PdmPackage {
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    dependencies: Vec<String>,
    path: Option<String>,
}

pub(super) fn pdm(text: &str, out: &mut Collector<'_>) -> Result<(), Fault> {
    let lock: Pdm = toml::from_str(text).map_err(|e| toml_fault(&e))?;
    let versions: HashMap<String, &str> =
        lock.package.iter().map(|p| (normal(&p.name), p.version.as_str())).collect();
    let mut headers = package_headers(text).into_iter();
    for package in &lock.package {
        let line = headers.next().unwrap_or(0);
        if package.path.is_some() {
            continue;
        }
        out.add(Package {
            name: &normal(&package.name),
            version: &package.version,
            direct: None,
            dev: !package.groups.is_empty() && !package.groups.iter().any(|g| g == "default"),
            line,
            requires: requires(package.dependencies.iter().map(|d| name_of(d)), &versions),
        })?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Pipfile {
    #[serde(default)]
    default: Pairs<PipfilePackage>,
    #[serde(default)]
    develop: Pairs<PipfilePackage>,
}

#[derive(Deserialize)]
struct PipfilePackage {
    #[serde(default)]
    version: String,
    path: Option<IgnoredAny>,
    /// The name of an index stands at what the Pipfile itself asks for.
    index: Option<IgnoredAny>,
}

pub(super) fn pipfile(text: &str, out: &mut Collector<'_>) -> Result<(), Fault> {
    let lock: Pipfile = parse(text)?;
    let mut lines = Lines::of_objects(text);
    let indexed = lock.default.0.iter().chain(&lock.develop.0).any(|(_, p)| p.index.is_some());
    for (list, dev) in [(&lock.default, false), (&lock.develop, true)] {
        for (name, package) in &list.0 {
            let line = lines.next(name);
            if package.path.is_some() {
                continue;
            }
            out.add(Package {
                name: &normal(name),
                version: package.version.trim_start_matches('='),
                direct: indexed.then_some(package.index.is_some()),
                dev,
                line,
                requires: Vec::new(),
            })?;
        }
    }
    Ok(())
}
