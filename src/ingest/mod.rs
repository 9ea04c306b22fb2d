//! From a pushed head to a snapshot, languages and a threat profile.
//!
//! [`ingest`] is one blocking function: it is given an object database and a commit,
//! writes the snapshot to storage, and returns what the caller stores. Ids, times and
//! rows are the caller's; nothing here knows a database or HTTP. It may be run again
//! after a crash under a new snapshot id; what the first run left has no manifest, or
//! one that no row names.

mod brought;
pub mod history;
mod languages;
mod objects;
pub mod profile;

use std::path::Path;

use gix_hash::ObjectId;
use gix_object::{FindExt, Kind};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

pub use brought::Brought;
pub use languages::{LanguageStat, languages};
pub use objects::ObjectPool;
pub use profile::ThreatProfile;

use crate::scan::Cancel;
use crate::snapshot::{self, Snapshot, SnapshotError, SnapshotInfo};
use crate::storage::{Storage, StorageError};

/// Tags that point to tags are followed this far.
const MAX_TAGS: usize = 8;

/// Recently decoded bases of deltas that each thread keeps, in bytes.
const DELTA_CACHE: usize = 16 << 20;

/// Largest object that is decoded, in bytes. The firewall of the remote refuses
/// larger ones; this holds for object databases that came another way.
const MAX_OBJECT: usize = 2 << 30;

/// What to ingest and where to put it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Where snapshots go.
    pub storage: &'a Storage,
    /// The runtime of the storage.
    pub runtime: &'a Handle,
    /// The repository's prefix, `snapshots/<repo_id>`.
    pub prefix: &'a str,
    /// A new id for each attempt.
    pub snapshot_id: &'a str,
    /// The latest snapshot of the repository, whose data is used again.
    pub previous: Option<&'a Snapshot>,
    /// Bounds.
    pub options: &'a snapshot::Options,
}

/// What the head commit says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The commit, hex; tags are followed to it.
    pub commit: String,
    /// Its tree, hex.
    pub tree: String,
    /// First line of its message, lossy, at most 200 characters.
    pub subject: String,
    /// When it was committed, seconds since 1970 as its author's clock had it.
    pub committed_at: i64,
}

/// What an ingest gives.
#[derive(Debug, Clone)]
pub struct Ingested {
    /// The head commit.
    pub head: Head,
    /// The snapshot that was written.
    pub snapshot: SnapshotInfo,
    /// Most bytes first.
    pub languages: Vec<LanguageStat>,
    /// Generated from the snapshot. The caller keeps what a person wrote instead.
    pub profile: ThreatProfile,
}

/// How far an ingest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Blobs of the snapshot.
    Snapshot {
        /// Read and compressed.
        done: u64,
        /// That are new.
        total: u64,
    },
    /// The threat profile is being made.
    Profile,
}

/// Why an ingest failed. [`IngestError::code`] goes to `ingest_error.code`, the
/// sentence to `ingest_error.message`.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Nothing was pushed that could be a head.
    #[error("the repository is empty: push a branch with at least one commit")]
    EmptyRepository,
    /// The head is something else than a commit.
    #[error("the head {id} is no commit: push a branch or a tag of a commit")]
    NotACommit {
        /// The object, hex.
        id: String,
    },
    /// The head cannot be read.
    #[error("cannot read object {id} of the repository: {reason}")]
    Object {
        /// The object, hex.
        id: String,
        /// What the database said.
        reason: String,
    },
    /// The snapshot failed.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl IngestError {
    /// A stable word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::EmptyRepository => "empty_repository",
            Self::NotACommit { .. } => "not_a_commit",
            Self::Object { .. } | Self::Snapshot(SnapshotError::Object { .. }) => {
                "unreadable_object"
            }
            Self::Snapshot(error) => match error {
                SnapshotError::Cancelled => "cancelled",
                SnapshotError::MalformedTree { .. } => "malformed_tree",
                SnapshotError::Limit { what: "files" | "folders", .. } => "too_many_files",
                SnapshotError::Limit { what: "bytes", .. } => "too_large",
                SnapshotError::Limit { .. } => "path_too_long",
                SnapshotError::Storage(StorageError::Full) => "storage_full",
                SnapshotError::Storage(_) => "storage_unavailable",
                _ => "snapshot_failed",
            },
        }
    }

    /// True if the code is at fault that is ingested, and not the server.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::EmptyRepository | Self::NotACommit { .. } => true,
            Self::Snapshot(error) => {
                matches!(error, SnapshotError::MalformedTree { .. } | SnapshotError::Limit { .. })
            }
            Self::Object { .. } => false,
        }
    }

    /// True if the same ingest may succeed later, unchanged.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Snapshot(SnapshotError::Storage(
                StorageError::Full | StorageError::Unavailable { .. }
            ))
        )
    }
}

/// Opens the objects folder of a bare repository whose ids are of a kind for [`ingest`], with a cache for
/// bases of deltas and a bound for what one object may allocate.
pub fn open_objects(objects: &Path, hash: gix_hash::Kind) -> std::io::Result<gix_odb::HandleArc> {
    let options = gix_odb::store::init::Options {
        alloc_limit_bytes: Some(MAX_OBJECT),
        ..gix_odb::store::init::Options::default()
    };
    let odb = gix_odb::at_opts(objects, hash, Vec::new(), options)?;
    let mut odb = odb.into_arc()?;
    odb.set_pack_cache(|| Box::new(gix_pack::cache::lru::MemoryCappedHashmap::new(DELTA_CACHE)));
    Ok(odb)
}

/// Writes the snapshot of `head` and derives the rest from it. Blocks; to be called
/// on a thread that may. `progress` is called from several threads, for each blob.
pub fn ingest(
    odb: &gix_odb::HandleArc,
    head: Option<ObjectId>,
    request: &Request<'_>,
    progress: &(dyn Fn(Step) + Sync),
    cancel: &Cancel,
) -> Result<Ingested, IngestError> {
    let head = read_head(odb, head.ok_or(IngestError::EmptyRepository)?)?;
    let tree = head.tree.parse().map_err(|_| IngestError::NotACommit { id: head.tree.clone() })?;
    let info = snapshot::write(
        odb,
        tree,
        request.storage,
        request.runtime,
        request.prefix,
        request.snapshot_id,
        request.previous,
        request.options,
        &|done, total| progress(Step::Snapshot { done, total }),
        cancel,
    )?;
    progress(Step::Profile);
    let snapshot = request.runtime.block_on(Snapshot::open(request.storage, &info.key))?;
    let entries = snapshot.all_blocking().map_err(IngestError::Snapshot)?;
    let languages = languages(&snapshot, &entries)?;
    let profile = profile::generate(&snapshot, &entries, &languages, cancel)?;
    Ok(Ingested { head, snapshot: info, languages, profile })
}

/// Follows tags to the commit and reads what it says.
pub fn read_head(odb: &gix_odb::HandleArc, mut id: ObjectId) -> Result<Head, IngestError> {
    let unreadable =
        |id: ObjectId, reason: String| IngestError::Object { id: id.to_string(), reason };
    let mut buffer = Vec::new();
    for _ in 0..=MAX_TAGS {
        let object = odb.find(&id, &mut buffer).map_err(|e| unreadable(id, e.to_string()))?;
        match object.kind {
            Kind::Commit => {
                let commit = odb.find_commit(&id, &mut buffer);
                let commit = commit.map_err(|e| unreadable(id, e.to_string()))?;
                let subject = String::from_utf8_lossy(commit.message)
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .chars()
                    .take(200)
                    .collect();
                // A commit with an unreadable date is still a commit.
                let committed_at = commit
                    .committer()
                    .ok()
                    .and_then(|who| who.time.split(' ').next()?.parse().ok())
                    .unwrap_or(0);
                let tree = commit.tree().to_string();
                return Ok(Head { commit: id.to_string(), tree, subject, committed_at });
            }
            Kind::Tag => {
                let tag = odb.find_tag_iter(&id, &mut buffer);
                let target = tag
                    .and_then(|tag| tag.target_id())
                    .map_err(|e| unreadable(id, e.to_string()))?;
                id = target;
            }
            _ => break,
        }
    }
    Err(IngestError::NotACommit { id: id.to_string() })
}
