//! NuGet's `packages.lock.json`: packages by target framework.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::json::{Lines, Pairs, parse};
use super::{Collector, Fault, Package};

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    dependencies: Pairs<Pairs<Locked>>,
}

#[derive(Deserialize)]
struct Locked {
    /// `Direct`, `Transitive`, `CentralTransitive` or `Project`.
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    resolved: String,
    #[serde(default)]
    dependencies: Pairs<IgnoredAny>,
}

pub(super) fn read(text: &str, out: &mut Collector<'_>) -> Result<(), Fault> {
    let lock: Lock = parse(text)?;
    let mut lines = Lines::of_objects(text);
    for (_, packages) in &lock.dependencies.0 {
        let versions: HashMap<String, (&str, &str)> = packages
            .0
            .iter()
            .map(|(n, p)| (n.to_ascii_lowercase(), (n.as_str(), p.resolved.as_str())))
            .collect();
        for (name, package) in &packages.0 {
            let line = lines.next(name);
            if package.kind == "Project" {
                continue;
            }
            out.add(Package {
                name,
                version: &package.resolved,
                direct: Some(package.kind == "Direct"),
                dev: false,
                line,
                requires: package
                    .dependencies
                    .names()
                    .filter_map(|n| versions.get(&n.to_ascii_lowercase()))
                    .map(|(name, version)| format!("{name}@{version}"))
                    .collect(),
            })?;
        }
    }
    Ok(())
}
