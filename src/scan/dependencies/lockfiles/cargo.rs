//! `Cargo.lock`, all versions.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use super::{Collector, Fault, Package, package_headers, toml_fault};

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    /// Missing for members of the workspace and other local paths.
    source: Option<String>,
    /// `name`, `name version` or `name version (source)`.
    #[serde(default)]
    dependencies: Vec<String>,
}

pub(super) fn read(text: &str, out: &mut Collector<'_>) -> Result<(), Fault> {
    let lock: Lock = toml::from_str(text).map_err(|e| toml_fault(&e))?;
    // A name alone is written only where there is one version of it.
    let version_of: HashMap<&str, &str> =
        lock.package.iter().map(|p| (p.name.as_str(), p.version.as_str())).collect();
    let target = |dependency: &str| {
        let mut words = dependency.split(' ');
        let name = words.next()?;
        let version = words.next().or_else(|| version_of.get(name).copied())?;
        Some(format!("{name}@{version}"))
    };
    let direct: HashSet<String> = lock
        .package
        .iter()
        .filter(|p| p.source.is_none())
        .flat_map(|p| p.dependencies.iter().filter_map(|d| target(d)))
        .collect();
    let mut headers = package_headers(text).into_iter();
    for package in &lock.package {
        let line = headers.next().unwrap_or(0);
        if package.source.is_none() {
            continue;
        }
        out.add(Package {
            name: &package.name,
            version: &package.version,
            direct: Some(direct.contains(&format!("{}@{}", package.name, package.version))),
            dev: false,
            line,
            requires: package.dependencies.iter().filter_map(|d| target(d)).collect(),
        })?;
    }
    Ok(())
}
