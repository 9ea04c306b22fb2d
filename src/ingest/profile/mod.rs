//! The threat profile: what the code is, where the outside reaches it, what it holds,
//! and what follows from that.
//!
//! A generated profile says only what was seen in files, each thing with its place;
//! people edit it from there. It is made within a budget ([`MAX_FILES`],
//! [`MAX_BYTES`]) and says in its notes when that was spent.

mod manifests;
mod patterns;
mod threats;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::LanguageStat;
use crate::scan::Cancel;
use crate::scan::inventory::{Role, language_of_path, role_of_path};
use crate::snapshot::{Entry, EntryKind, FrameCache, Snapshot, SnapshotError};

/// Files that are read for a profile.
pub const MAX_FILES: usize = 10_000;
/// Bytes that are read for a profile.
pub const MAX_BYTES: u64 = 48 << 20;
/// Larger files are not read for it.
const MAX_FILE: u64 = 512 << 10;
/// Entry points that are listed.
pub const MAX_ENTRY_POINTS: usize = 500;

/// How far away the code's users are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Exposure {
    /// Anybody may reach it.
    Internet,
    /// Only from within a network.
    Internal,
    /// Only on the machine where it runs.
    Local,
    /// Nothing tells.
    #[default]
    Unknown,
}

/// Who wrote a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProfileSource {
    /// This module.
    #[default]
    Generated,
    /// A person; an ingest leaves it alone.
    Edited,
}

/// A STRIDE category.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stride {
    /// Acting as somebody else.
    Spoofing,
    /// Changing what must not change.
    Tampering,
    /// Denying what was done.
    Repudiation,
    /// Reading what is not for one's eyes.
    InformationDisclosure,
    /// Keeping others from working.
    DenialOfService,
    /// Getting rights that were not given.
    ElevationOfPrivilege,
}

/// A rough measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rating {
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
}

/// Where the outside reaches the code.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryPoint {
    /// `http`, `cli`, `port`, `workflow`, `message`.
    pub kind: String,
    /// The file.
    pub path: String,
    /// Line, from 1.
    pub line: u32,
    /// The route, command or port.
    pub detail: String,
}

/// What may go wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threat {
    /// Stable within the profile.
    pub id: String,
    /// STRIDE.
    pub category: Stride,
    /// One line.
    pub title: String,
    /// Files it concerns.
    pub affected_paths: Vec<String>,
    /// How likely.
    pub likelihood: Rating,
    /// How bad.
    pub impact: Rating,
    /// What to do about it.
    pub mitigation: String,
}

/// See the module. `updated_at` of the API is the row's, not the profile's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThreatProfile {
    /// One paragraph.
    pub summary: String,
    /// Names, most bytes first.
    pub languages: Vec<String>,
    /// Names of frameworks the manifests or the code name.
    pub frameworks: Vec<String>,
    /// By file and line.
    pub entry_points: Vec<EntryPoint>,
    /// Databases, caches and object stores.
    pub data_stores: Vec<String>,
    /// Services of others.
    pub external_services: Vec<String>,
    /// Where trust changes, as sentences.
    pub trust_boundaries: Vec<String>,
    /// Kinds of data worth protecting.
    pub sensitive_data: Vec<String>,
    /// How far away its users are.
    pub exposure: Exposure,
    /// What may go wrong.
    pub threats: Vec<Threat>,
    /// Globs of files that a scan leaves out.
    pub excluded_paths: Vec<String>,
    /// Anything else.
    pub notes: String,
    /// Who wrote it.
    pub source: ProfileSource,
    /// Grows with each change.
    pub version: u64,
}

/// What was seen, before it is put into words.
#[derive(Debug, Default)]
struct Seen {
    frameworks: BTreeSet<&'static str>,
    data_stores: BTreeSet<&'static str>,
    services: BTreeSet<&'static str>,
    sensitive: BTreeSet<&'static str>,
    entry_points: Vec<EntryPoint>,
    /// What threats rest on, with the files that show it.
    traits: std::collections::BTreeMap<threats::Trait, BTreeSet<String>>,
    cut: bool,
}

impl Seen {
    fn enter(&mut self, kind: &str, path: &str, line: u32, detail: &str) {
        if self.entry_points.len() >= MAX_ENTRY_POINTS {
            self.cut = true;
            return;
        }
        let detail = detail.trim().chars().take(200).collect();
        self.entry_points.push(EntryPoint {
            kind: kind.to_owned(),
            path: path.to_owned(),
            line,
            detail,
        });
    }

    fn note(&mut self, what: threats::Trait, path: &str) {
        let paths = self.traits.entry(what).or_default();
        if paths.len() < threats::MAX_PATHS {
            paths.insert(path.to_owned());
        }
    }
}

/// Makes a profile of a snapshot, version 1.
pub fn generate(
    snapshot: &Snapshot,
    entries: &[Entry],
    languages: &[LanguageStat],
    cancel: &Cancel,
) -> Result<ThreatProfile, SnapshotError> {
    let mut seen = Seen::default();
    let mut cache = FrameCache::default();
    let (mut files, mut bytes) = (0usize, 0u64);
    let mut vendored = BTreeSet::new();
    // Manifests first, so that a large tree does not spend the budget before them.
    for manifests in [true, false] {
        for entry in entries {
            if !matches!(entry.kind, EntryKind::File | EntryKind::Executable) {
                continue;
            }
            let path = entry.path.to_string();
            match role_of_path(&path) {
                Role::Source => {}
                Role::Vendored => {
                    vendored.extend(vendored_folder(&path));
                    continue;
                }
                _ => continue,
            }
            let manifest = manifests::is_manifest(&path);
            let wanted = manifest || language_of_path(&path).is_some_and(patterns::is_read);
            if manifest != manifests || !wanted || entry.size > MAX_FILE {
                continue;
            }
            if cancel.is_cancelled() {
                return Err(SnapshotError::Cancelled);
            }
            if files >= MAX_FILES || bytes + entry.size > MAX_BYTES {
                seen.cut = true;
                break;
            }
            files += 1;
            bytes += entry.size;
            let content = snapshot.read_blocking(entry, MAX_FILE, &mut cache)?;
            let text = String::from_utf8_lossy(&content);
            if manifest {
                manifests::read(&path, &text, &mut seen);
            }
            if let Some(language) = language_of_path(&path) {
                patterns::read(language, &path, &text, &mut seen);
            }
        }
    }
    Ok(threats::put_into_words(seen, languages, &vendored, files))
}

/// The glob of the folder in which a copied file lies.
fn vendored_folder(path: &str) -> Option<String> {
    let mut end = 0;
    for part in path.split('/') {
        end += part.len();
        let folder = path.get(..end)?;
        // The part itself makes its path vendored, whatever lies in it.
        if role_of_path(&format!("{folder}/x")) == Role::Vendored && end < path.len() {
            return Some(format!("{folder}/**"));
        }
        end += 1;
    }
    None
}
