//! `gradle.lockfile`: `group:artifact:version=configuration,…` on each line
//! (<https://docs.gradle.org/current/userguide/dependency_locking.html>).

use super::{Collector, Fault, Package, line_number};

pub(super) fn read(text: &str, out: &mut Collector<'_>) -> Result<(), Fault> {
    for (n, line) in text.lines().enumerate() {
        out.step()?;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with("empty=") {
            continue;
        }
        let (module, configurations) = line.split_once('=').unwrap_or((line, ""));
        let Some((name, version)) = module.rsplit_once(':').filter(|(name, _)| name.contains(':'))
        else {
            return Err(Fault::Malformed(format!("line {} names no module", n + 1)));
        };
        let dev = !configurations.is_empty()
            && configurations.split(',').all(|c| c.to_ascii_lowercase().contains("test"));
        out.add(Package { name, version, dev, line: line_number(n), ..Package::default() })?;
    }
    Ok(())
}
