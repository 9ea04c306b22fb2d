//! `package-lock.json` and `npm-shrinkwrap.json`, versions 1 to 3
//! (<https://docs.npmjs.com/cli/configuring-npm/package-lock-json>).

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::json::{Lines, Pairs, parse};
use super::{Collector, Fault, Package};

/// Deepest nesting of a version 1 file; npm's own trees stay far below.
const MAX_DEPTH: usize = 32;

#[derive(Deserialize)]
struct Lock {
    /// Versions 2 and 3: by place in the file system.
    packages: Option<Pairs<Entry>>,
    /// Version 1, and version 2 for older clients: by name, nested.
    #[serde(default)]
    dependencies: Pairs<Old>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    /// Only where it is not what the place says (an alias).
    name: Option<String>,
    #[serde(default)]
    version: String,
    #[serde(default)]
    link: bool,
    #[serde(default)]
    dev: bool,
    #[serde(default)]
    dependencies: Pairs<IgnoredAny>,
    #[serde(default)]
    dev_dependencies: Pairs<IgnoredAny>,
    #[serde(default)]
    optional_dependencies: Pairs<IgnoredAny>,
    #[serde(default)]
    peer_dependencies: Pairs<IgnoredAny>,
}

#[derive(Deserialize)]
struct Old {
    #[serde(default)]
    version: String,
    #[serde(default)]
    dev: bool,
    #[serde(default)]
    dependencies: Pairs<Old>,
}

const MODULES: &str = "node_modules/";

pub(super) fn read(text: &str, out: &mut Collector<'_>) -> Result<(), Fault> {
    let lock: Lock = parse(text)?;
    let mut lines = Lines::of_objects(text);
    match lock.packages {
        Some(packages) => by_place(&packages, &mut lines, out),
        None => nested(&lock.dependencies, &mut lines, out, 0),
    }
}

fn by_place(
    packages: &Pairs<Entry>,
    lines: &mut Lines<'_>,
    out: &mut Collector<'_>,
) -> Result<(), Fault> {
    let at: HashMap<&str, &Entry> = packages.0.iter().map(|(p, e)| (p.as_str(), e)).collect();
    // What the project and its workspaces ask for, as the place where node finds it.
    let mut direct: HashSet<String> = HashSet::new();
    for (place, entry) in packages.0.iter().filter(|(place, _)| !place.contains(MODULES)) {
        for name in entry
            .dependencies
            .names()
            .chain(entry.dev_dependencies.names())
            .chain(entry.optional_dependencies.names())
            .chain(entry.peer_dependencies.names())
        {
            out.step()?;
            direct.extend(resolve(&at, place, name));
        }
    }
    for (place, entry) in &packages.0 {
        let line = lines.next(place);
        // Links lead to workspaces, and what is outside node_modules is the project.
        let Some((_, tail)) = place.rsplit_once(MODULES) else {
            continue;
        };
        if entry.link {
            continue;
        }
        let mut requires = Vec::new();
        for name in entry.dependencies.names().chain(entry.optional_dependencies.names()) {
            out.step()?;
            if let Some(found) = resolve(&at, place, name).and_then(|p| at.get(p.as_str()).copied())
            {
                requires.push(format!("{name}@{}", found.version));
            }
        }
        out.add(Package {
            name: entry.name.as_deref().unwrap_or(tail),
            version: exact(&entry.version),
            direct: Some(direct.contains(place)),
            dev: entry.dev,
            line,
            requires,
        })?;
    }
    Ok(())
}

/// Where node finds a package: in the folder itself, then in each one above.
fn resolve(at: &HashMap<&str, &Entry>, from: &str, name: &str) -> Option<String> {
    let mut folder = from;
    // Bounded by the depth of the path, and npm's paths are not deep.
    for _ in 0..MAX_DEPTH {
        let place = if folder.is_empty() {
            format!("{MODULES}{name}")
        } else {
            format!("{folder}/{MODULES}{name}")
        };
        if at.contains_key(place.as_str()) {
            return Some(place);
        }
        if folder.is_empty() {
            return None;
        }
        folder = match folder.rfind("/node_modules/") {
            Some(n) => folder.get(..n).unwrap_or(""),
            None => "",
        };
    }
    None
}

fn nested(
    list: &Pairs<Old>,
    lines: &mut Lines<'_>,
    out: &mut Collector<'_>,
    depth: usize,
) -> Result<(), Fault> {
    if depth > MAX_DEPTH {
        return Err(Fault::Malformed("packages are nested too deeply".to_owned()));
    }
    for (name, entry) in &list.0 {
        let line = lines.next(name);
        let (name, version) = match entry.version.strip_prefix("npm:") {
            // An alias: `npm:real-name@1.2.3`.
            Some(real) => real.rsplit_once('@').unwrap_or((name, real)),
            None => (name.as_str(), entry.version.as_str()),
        };
        if !version.starts_with("file:") {
            out.add(Package {
                name,
                version: exact(version),
                dev: entry.dev,
                line,
                ..Package::default()
            })?;
        }
        nested(&entry.dependencies, lines, out, depth + 1)?;
    }
    Ok(())
}

/// The version, unless an address stands there (a git or tarball dependency).
fn exact(version: &str) -> &str {
    if version.contains([':', '/']) { "" } else { version }
}
