//! `composer.lock`.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::json::{Lines, Pairs, parse};
use super::{Collector, Fault, Package};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Lock {
    #[serde(default)]
    packages: Vec<Locked>,
    packages_dev: Option<Vec<Locked>>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    require: Pairs<IgnoredAny>,
}

pub(super) fn read(text: &str, out: &mut Collector<'_>) -> Result<(), Fault> {
    let lock: Lock = parse(text)?;
    let mut lines = Lines::of_names(text);
    let dev = lock.packages_dev.unwrap_or_default();
    let versions: HashMap<&str, &str> =
        lock.packages.iter().chain(&dev).map(|p| (p.name.as_str(), p.version.as_str())).collect();
    for (list, dev) in [(&lock.packages, false), (&dev, true)] {
        for package in list {
            out.add(Package {
                name: &package.name,
                version: &package.version,
                direct: None,
                dev,
                line: lines.next(&package.name),
                requires: package
                    .require
                    .names()
                    .filter_map(|n| versions.get(n).map(|v| format!("{n}@{v}")))
                    .collect(),
            })?;
        }
    }
    Ok(())
}
