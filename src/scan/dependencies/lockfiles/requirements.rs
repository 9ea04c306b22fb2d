//! pip's requirements files
//! (<https://pip.pypa.io/en/stable/reference/requirements-file-format/>).

use super::{Collector, Fault, Package, line_number};
use crate::scan::dependencies::purl::normalised_name;

pub(super) fn read(text: &str, dev: bool, out: &mut Collector<'_>) -> Result<(), Fault> {
    let mut lines = text.lines().enumerate();
    while let Some((n, first)) = lines.next() {
        let mut line = first.to_owned();
        while line.ends_with('\\') {
            out.step()?;
            line.pop();
            match lines.next() {
                Some((_, next)) => line.push_str(next),
                None => break,
            }
        }
        out.step()?;
        if let Some((name, version)) = requirement(&line) {
            out.add(Package {
                name: &normalised_name("PyPI", name),
                version,
                // Files written by `pip freeze` or `pip-compile` name everything.
                direct: None,
                dev,
                line: line_number(n),
                requires: Vec::new(),
            })?;
        }
    }
    Ok(())
}

/// Name and exact version (empty if it is not pinned) of one line; `None` for
/// options, addresses and what is no requirement.
fn requirement(line: &str) -> Option<(&str, &str)> {
    // A comment starts the line or stands behind a blank.
    let line = match line.find(" #").or_else(|| line.find("\t#")) {
        Some(at) => line.get(..at)?,
        None => line,
    };
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', '-']) {
        return None;
    }
    // Markers and options such as `--hash` end the specifier.
    let line = line.split(';').next()?.split(" --").next()?.trim();
    let end = line
        .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'))
        .unwrap_or(line.len());
    let (name, rest) = line.split_at_checked(end)?;
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(extras) => extras.split_once(']')?.1.trim_start(),
        None => rest,
    };
    let rest = rest.trim_start_matches('(').trim_end_matches(')').trim();
    match rest.chars().next() {
        None => Some((name, "")),
        // Not pinned, or an address.
        Some('<' | '>' | '~' | '!' | '@') => Some((name, "")),
        Some('=') => {
            let version = rest.trim_start_matches('=').trim();
            // `==1.*` and `==1.0,!=1.1` pin nothing.
            Some((name, if version.contains(['*', ',']) { "" } else { version }))
        }
        // A path (`./x`) or an address (`git+https:…`).
        Some(_) => None,
    }
}
