//! From the start of an ingest to what it shows.
//!
//! An ingest reads `ingest_generation` when it begins; [`finish_ingest`] and
//! [`fail_ingest`] change what is shown only if no newer head came meanwhile, so
//! that two ingests side by side cannot leave the older result.

use serde::{Deserialize, Serialize};
use serde_json::{Value as JsonValue, json};
use uuid::Uuid;

use super::{Failure, Language, Repository, new_head, profile};
use crate::db::jobs::{self, JobKind, NewJob};
use crate::db::project_events::{self, NewProjectEvent};
use crate::db::snapshots::{self, NewSnapshot};
use crate::db::{Result, Tx, Value, args, now, statements};

statements! {
    LOCK_UPLOAD = pair(
        "SELECT id FROM git_uploads WHERE id = $1",
        "SELECT id FROM git_uploads WHERE id = $1 FOR UPDATE"
    );
    GENERATION = pair(
        "SELECT ingest_generation FROM repositories WHERE id = $1",
        "SELECT ingest_generation FROM repositories WHERE id = $1 FOR UPDATE"
    );
    BEGIN = "UPDATE repositories SET ingest_status = 'ingesting', ingest_error = NULL, \
             version = version + 1, updated_at = $2 WHERE id = $1";
    FINISH = "UPDATE repositories SET ingest_status = 'ready', ingest_error = NULL, \
              snapshot_id = $2, languages = $3, default_branch = $4, head_commit = $5, \
              version = version + 1, updated_at = $6 WHERE id = $1";
    UNCHANGED = "UPDATE repositories SET ingest_status = 'ready', ingest_error = NULL, \
                 version = version + 1, updated_at = $2 WHERE id = $1";
    FAIL = "UPDATE repositories SET ingest_status = 'failed', ingest_error = $2, \
            version = version + 1, updated_at = $3 WHERE id = $1";
}

/// An archive that waits for its ingest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveCame {
    /// Where it is stored, below [`archive_prefix`].
    pub key: String,
    /// The repository is scanned once it is ready.
    pub scan: bool,
    /// It came by a legacy session.
    pub session: bool,
    /// It is not stored yet: it is fetched from the URL of the repository.
    #[serde(default)]
    pub fetch: bool,
}

/// An ingest that has begun; to be handed to [`finish_ingest`] or [`fail_ingest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ingest {
    /// What is ingested.
    pub repository_id: Uuid,
    /// Where it is pushed to, if it is.
    pub upload_id: Option<Uuid>,
    /// Heads that came until it began.
    generation: i64,
}

/// What an ingest found out.
#[derive(Debug, Clone)]
pub struct IngestResult {
    /// The snapshot that was written.
    pub snapshot: NewSnapshot,
    /// The largest first.
    pub languages: Vec<Language>,
    /// The branch that HEAD points to.
    pub default_branch: Option<String>,
    /// The commit, hex; none if it was made of an archive that does not tell.
    pub head_commit: Option<String>,
    /// The generated threat profile: the body that the API shows, without `source`,
    /// `version` and `updated_at`.
    pub threat_profile: JsonValue,
}

/// Shows a repository as `ingesting`. Read the upload's refs and packs after this
/// transaction: then a head that comes later makes a new generation. `None` if the
/// repository is gone.
pub async fn begin_ingest(
    tx: &mut Tx,
    repository_id: Uuid,
    upload_id: Option<Uuid>,
) -> Result<Option<Ingest>> {
    let Some(generation) = lock(tx, repository_id, upload_id).await? else { return Ok(None) };
    tx.execute(BEGIN, args![repository_id, now()]).await?;
    tx.wake(repository_id);
    let data = json!({ "upload_id": upload_id });
    let event = NewProjectEvent::info(
        repository_id,
        "ingest.started",
        "The source of the repository is being read.",
        data,
    );
    project_events::tell(tx, repository_id, event).await?;
    Ok(Some(Ingest { repository_id, upload_id, generation }))
}

/// Records the snapshot and shows it, with languages and threat profile (which
/// replaces a generated one only). False if it was not shown, since a newer head
/// came meanwhile or the repository is gone: then nothing else may follow from it.
pub async fn finish_ingest(tx: &mut Tx, ingest: &Ingest, result: &IngestResult) -> Result<bool> {
    let id = ingest.repository_id;
    let generation = lock(tx, id, ingest.upload_id).await?;
    if generation != Some(ingest.generation) {
        return Ok(false);
    }
    snapshots::insert(tx, id, &result.snapshot).await?;
    let at = now();
    tx.execute(
        FINISH,
        args![
            id,
            result.snapshot.id,
            Value::json(&result.languages),
            &result.default_branch,
            &result.head_commit,
            at
        ],
    )
    .await?;
    profile::generate(tx, id, &result.threat_profile, at).await?;
    tx.wake(id);
    let data = json!({
        "commit": &result.head_commit,
        "branch": &result.default_branch,
        "files": result.snapshot.file_count,
        "bytes": result.snapshot.total_bytes,
        "unchanged": false,
    });
    let event = NewProjectEvent::info(id, "ingest.completed", "The repository is ready.", data);
    project_events::tell(tx, id, event).await?;
    // Behind the event, as a push does it: nobody waits for the other in a circle.
    snapshots::meter(tx, id, &result.snapshot).await?;
    Ok(true)
}

/// Shows a repository as ready with the snapshot that it has: its code is still that of
/// the commit. False as in [`finish_ingest`].
pub async fn unchanged(tx: &mut Tx, ingest: &Ingest, commit: &str) -> Result<bool> {
    let id = ingest.repository_id;
    let generation = lock(tx, id, ingest.upload_id).await?;
    if generation != Some(ingest.generation) {
        return Ok(false);
    }
    tx.execute(UNCHANGED, args![id, now()]).await?;
    tx.wake(id);
    let data = json!({ "commit": commit, "unchanged": true });
    let message = "Nothing has changed since the last time; the repository is ready.";
    let event = NewProjectEvent::info(id, "ingest.completed", message, data);
    project_events::tell(tx, id, event).await?;
    Ok(true)
}

/// Shows an ingest as failed. False as in [`finish_ingest`].
pub async fn fail_ingest(tx: &mut Tx, ingest: &Ingest, failure: &Failure) -> Result<bool> {
    let generation = lock(tx, ingest.repository_id, ingest.upload_id).await?;
    if generation != Some(ingest.generation) {
        return Ok(false);
    }
    tx.execute(FAIL, args![ingest.repository_id, Value::json(failure), now()]).await?;
    tx.wake(ingest.repository_id);
    let event = NewProjectEvent::error(
        ingest.repository_id,
        "ingest.failed",
        &failure.message,
        json!({ "error": failure }),
    );
    project_events::tell(tx, ingest.repository_id, event).await?;
    Ok(true)
}

/// Locks upload and repository in the order that a push takes; answers the
/// generation.
pub(super) async fn lock(tx: &mut Tx, id: Uuid, upload_id: Option<Uuid>) -> Result<Option<i64>> {
    if let Some(upload_id) = upload_id {
        tx.fetch_optional::<(Uuid,)>(LOCK_UPLOAD, args![upload_id]).await?;
    }
    let row: Option<(i64,)> = tx.fetch_optional(GENERATION, args![id]).await?;
    Ok(row.map(|row| row.0))
}

/// Prefix of the archives that were handed in for a repository and wait for their
/// ingest.
pub fn archive_prefix(repository_id: Uuid) -> String {
    format!("archives/{repository_id}/")
}

/// Asks for the ingest of an archive that is in storage already.
pub async fn archive_came(tx: &mut Tx, repository: &Repository, came: &ArchiveCame) -> Result<()> {
    if new_head(tx, repository.id).await?.is_none() {
        return Ok(());
    }
    let job = NewJob {
        kind: JobKind::Ingest,
        subject_id: repository.id,
        owner_id: Some(repository.owner_id),
        payload: serde_json::json!({ "archive": came }),
    };
    jobs::insert(tx, &job).await?;
    Ok(())
}
