//! `pnpm-lock.yaml`, lock file versions 5 to 9
//! (<https://github.com/pnpm/spec/tree/master/lockfile>).

use std::collections::{HashMap, HashSet};

use super::yaml::{self, Member, Node};
use super::{Collector, Fault, Package};

const DEPENDENCIES: [(&str, bool); 3] =
    [("dependencies", false), ("optionalDependencies", false), ("devDependencies", true)];

pub(super) fn read(text: &str, out: &mut Collector<'_>) -> Result<(), Fault> {
    let root = yaml::parse(text, out)?;
    let major = root
        .text_of("lockfileVersion")
        .and_then(|v| v.split('.').next())
        .and_then(|v| v.parse::<u32>().ok())
        .unwrap_or(0);
    let packages = root.get("packages").map(Node::members).unwrap_or_default();
    // Since version 9 the graph stands apart from the packages.
    let graph = if major >= 9 {
        root.get("snapshots").map(Node::members).unwrap_or_default()
    } else {
        packages
    };
    // Until version 6 a project without a workspace is its own importer.
    let importers: Vec<&Node> = match root.get("importers") {
        Some(importers) => importers.members().iter().map(|m| &m.value).collect(),
        None => vec![&root],
    };

    let mut direct: HashSet<(&str, &str)> = HashSet::new();
    let mut roots: Vec<(&str, &str)> = Vec::new();
    for importer in importers {
        for (section, dev) in DEPENDENCIES {
            for wanted in importer.get(section).map(Node::members).unwrap_or_default() {
                out.step()?;
                let version =
                    wanted.value.text().or_else(|| wanted.value.text_of("version")).unwrap_or("");
                let target = target(&wanted.key, version);
                direct.insert(target);
                if !dev {
                    roots.push(target);
                }
            }
        }
    }
    let mut nodes: HashMap<(&str, &str), &Member> = HashMap::new();
    for member in graph {
        out.step()?;
        if let Some(key) = key(&member.key) {
            nodes.entry(key).or_insert(member);
        }
    }
    let shipped = if major >= 9 { Some(reachable(roots, &nodes, out)?) } else { None };
    for member in packages {
        let Some((name, version)) = key(&member.key) else {
            continue;
        };
        // A git or tarball dependency says its name inside.
        let name = member.value.text_of("name").unwrap_or(name);
        let version = member.value.text_of("version").unwrap_or(version);
        let requires = nodes
            .get(&(name, version))
            .map(|m| required(m).into_iter().map(|(n, v)| format!("{n}@{v}")).collect())
            .unwrap_or_default();
        out.add(Package {
            name,
            version,
            direct: Some(direct.contains(&(name, version))),
            dev: match &shipped {
                Some(shipped) => !shipped.contains(&(name, version)),
                None => member.value.text_of("dev") == Some("true"),
            },
            line: member.line,
            requires,
        })?;
    }
    Ok(())
}

/// Name and version of a key: `/name/1.0.0_peer@2` (5), `/name@1.0.0(peer@2)` (6 to
/// 8), `name@1.0.0` (9).
fn key(key: &str) -> Option<(&str, &str)> {
    let bare = key.strip_prefix('/').unwrap_or(key);
    let bare = bare.split('(').next()?;
    let from = usize::from(bare.starts_with('@'));
    let (name, version) = match bare.get(from..)?.rfind('@') {
        // In version 5 an `@` behind the name belongs to a peer.
        Some(at) if !bare.get(..from + at)?.contains('_') && !bare_is_old(bare, from + at) => {
            (bare.get(..from + at)?, bare.get(from + at + 1..)?)
        }
        _ => bare.rsplit_once('/').map(|(n, v)| (n, v.split('_').next().unwrap_or(v)))?,
    };
    Some((name, version))
}

/// `/name/1.0.0/peer@2` and the like: a version stands between slashes already.
fn bare_is_old(bare: &str, at: usize) -> bool {
    let slashes = bare.get(..at).unwrap_or("").matches('/').count();
    slashes > usize::from(bare.starts_with('@'))
}

/// What a dependency leads to: the version may be an alias (`real-name@1.0.0`, or
/// `/real-name/1.0.0` until version 5) and carries its peers.
fn target<'t>(name: &'t str, version: &'t str) -> (&'t str, &'t str) {
    let bare = version.split(['(', '_']).next().unwrap_or(version);
    if bare.starts_with('/') || bare.get(1..).is_some_and(|b| b.contains('@')) {
        key(bare).unwrap_or((name, bare))
    } else {
        (name, bare)
    }
}

fn required(member: &Member) -> Vec<(&str, &str)> {
    ["dependencies", "optionalDependencies"]
        .into_iter()
        .filter_map(|section| member.value.get(section))
        .flat_map(Node::members)
        .filter_map(|m| Some(target(&m.key, m.value.text()?)))
        .collect()
}

/// Everything that the roots bring in.
fn reachable<'t>(
    roots: Vec<(&'t str, &'t str)>,
    nodes: &HashMap<(&'t str, &'t str), &'t Member>,
    out: &mut Collector<'_>,
) -> Result<HashSet<(&'t str, &'t str)>, Fault> {
    let mut seen = HashSet::new();
    let mut open = roots;
    while let Some(node) = open.pop() {
        out.step()?;
        if seen.insert(node)
            && let Some(member) = nodes.get(&node)
        {
            open.extend(required(member));
        }
    }
    Ok(seen)
}
