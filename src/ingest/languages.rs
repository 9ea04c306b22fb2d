//! Which languages a tree is written in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::scan::inventory::{Role, language_of_content, language_of_path, role_of_path};
use crate::snapshot::{Entry, EntryKind, FrameCache, Snapshot, SnapshotError};

/// Scripts without a telling name that are opened for their first line.
const MAX_SHEBANGS: usize = 200;

/// What is written in one language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanguageStat {
    /// As [`crate::scan::inventory`] names it.
    pub name: String,
    /// Bytes of all files.
    pub bytes: u64,
    /// Files.
    pub files: u64,
}

/// Counts what the project itself wrote, tests included; copies from elsewhere and
/// generated files say nothing about it. Most bytes first, then by name.
pub fn languages(
    snapshot: &Snapshot,
    entries: &[Entry],
) -> Result<Vec<LanguageStat>, SnapshotError> {
    let mut found: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
    let mut cache = FrameCache::default();
    let mut opened = 0;
    for entry in entries {
        if !matches!(entry.kind, EntryKind::File | EntryKind::Executable) {
            continue;
        }
        let path = entry.path.to_string();
        if matches!(role_of_path(&path), Role::Vendored | Role::Generated) {
            continue;
        }
        let mut language = language_of_path(&path);
        if language.is_none() && entry.kind == EntryKind::Executable && opened < MAX_SHEBANGS {
            opened += 1;
            let head = snapshot.read_range_blocking(entry, 0..256, &mut cache)?;
            language = language_of_content(&head);
        }
        if let Some(language) = language {
            let (bytes, files) = found.entry(language).or_default();
            *bytes += entry.size;
            *files += 1;
        }
    }
    let mut stats: Vec<LanguageStat> = found
        .into_iter()
        .map(|(name, (bytes, files))| LanguageStat { name: name.to_owned(), bytes, files })
        .collect();
    stats.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    Ok(stats)
}
