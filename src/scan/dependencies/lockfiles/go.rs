//! `go.mod` (<https://go.dev/ref/mod#go-mod-file>).
//!
//! Since Go 1.17 it names every module that the build needs, so `go.sum`, which
//! also names what was only looked at, is not read.

use std::collections::HashMap;

use super::{Collector, Fault, Package, line_number};

struct Required<'t> {
    path: &'t str,
    version: &'t str,
    indirect: bool,
    line: u32,
}

pub(super) fn read(text: &str, out: &mut Collector<'_>) -> Result<(), Fault> {
    let mut required: Vec<Required<'_>> = Vec::new();
    // By path, or by path and version; without a new version it is a local folder.
    let mut replaced: HashMap<(&str, Option<&str>), Option<(&str, &str)>> = HashMap::new();
    let mut block = "";
    for (n, line) in text.lines().enumerate() {
        out.step()?;
        let (code, comment) = line.split_once("//").unwrap_or((line, ""));
        let code = code.trim();
        if code == ")" {
            block = "";
            continue;
        }
        let (verb, rest) = if block.is_empty() {
            code.split_once(char::is_whitespace).unwrap_or((code, ""))
        } else {
            (block, code)
        };
        let rest = rest.trim();
        if rest == "(" {
            block = verb;
            continue;
        }
        let mut words = rest.split_whitespace().map(|w| w.trim_matches(['"', '`']));
        match verb {
            "require" => {
                if let (Some(path), Some(version)) = (words.next(), words.next()) {
                    required.push(Required {
                        path,
                        version,
                        indirect: comment.trim().starts_with("indirect"),
                        line: line_number(n),
                    });
                }
            }
            "replace" => {
                let words: Vec<&str> = words.collect();
                let Some(arrow) = words.iter().position(|w| *w == "=>") else {
                    continue;
                };
                if let Some(path) = words.first() {
                    let old = (arrow > 1).then(|| words.get(1).copied()).flatten();
                    let new = words.get(arrow + 1).copied().zip(words.get(arrow + 2).copied());
                    replaced.insert((path, old), new);
                }
            }
            _ => {}
        }
    }
    for module in required {
        let replacement = replaced
            .get(&(module.path, Some(module.version)))
            .or_else(|| replaced.get(&(module.path, None)));
        let (name, version) = match replacement {
            Some(Some(new)) => *new,
            // Replaced by a folder of the project.
            Some(None) => continue,
            None => (module.path, module.version),
        };
        out.add(Package {
            name,
            version,
            direct: Some(!module.indirect),
            line: module.line,
            ..Package::default()
        })?;
    }
    Ok(())
}
