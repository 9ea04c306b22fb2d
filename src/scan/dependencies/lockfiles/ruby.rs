//! `Gemfile.lock` (Bundler): sections, and under `specs:` gems with four blanks and
//! what they need with six.

use std::collections::{HashMap, HashSet};

use super::{Collector, Fault, Package, line_number};

struct Gem<'t> {
    name: &'t str,
    version: &'t str,
    line: u32,
    requires: Vec<&'t str>,
}

pub(super) fn read(text: &str, out: &mut Collector<'_>) -> Result<(), Fault> {
    let mut gems: Vec<Gem<'_>> = Vec::new();
    let mut direct: HashSet<&str> = HashSet::new();
    let mut section = "";
    for (n, line) in text.lines().enumerate() {
        out.step()?;
        let indent = line.len() - line.trim_start_matches(' ').len();
        let content = line.trim();
        if content.is_empty() {
            continue;
        }
        let (name, behind) = content.split_once(' ').unwrap_or((content, ""));
        match (indent, section) {
            (0, _) => section = content,
            (4, "GEM" | "GIT") => {
                let version = behind.trim_matches(['(', ')']);
                // `1.15.4-x86_64-linux`: the platform is no part of the version.
                let version = version.split('-').next().unwrap_or(version);
                gems.push(Gem { name, version, line: line_number(n), requires: Vec::new() });
            }
            (6, "GEM" | "GIT") => {
                if let Some(gem) = gems.last_mut() {
                    gem.requires.push(name);
                }
            }
            (2, "DEPENDENCIES") => {
                direct.insert(name.trim_end_matches('!'));
            }
            _ => {}
        }
    }
    let versions: HashMap<&str, &str> = gems.iter().map(|g| (g.name, g.version)).collect();
    let known = !direct.is_empty();
    for gem in gems {
        let requires = gem
            .requires
            .iter()
            .filter_map(|name| versions.get(name).map(|v| format!("{name}@{v}")))
            .collect();
        out.add(Package {
            name: gem.name,
            version: gem.version,
            direct: known.then(|| direct.contains(gem.name)),
            dev: false,
            line: gem.line,
            requires,
        })?;
    }
    Ok(())
}
