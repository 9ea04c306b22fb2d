//! Repositories: what is ingested and scanned. Their ingests and their threat profiles
//! have files of their own.

pub mod ingest;
pub mod profile;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::types::Json;
use uuid::Uuid;

use super::project_counters::repository_gone;
use super::project_events::{self, NewProjectEvent};
use super::scans::ScanStatus;
use super::usage::{self, Gone};
use super::{Conn, Db, Result, Tx, Value, args, jobs, new_id, now, snapshots, statements, uploads};
use crate::words::words;

use ingest::lock;
pub use ingest::{
    ArchiveCame, Ingest, IngestResult, archive_came, archive_prefix, begin_ingest, fail_ingest,
    finish_ingest, unchanged,
};
pub use profile::{PutProfile, ThreatProfile, put_threat_profile, threat_profile};

macro_rules! select {
    () => {
        "SELECT r.id, r.project_id, r.owner_id, r.name, r.description, r.source_type, \
         r.source_url, r.source_ref, r.ingest_status, r.ingest_error, r.ingest_generation, \
         r.default_branch, r.head_commit, r.languages, r.open_critical AS critical, \
         r.open_high AS high, r.open_medium AS medium, r.open_low AS low, r.open_info AS info, \
         r.version, r.created_at, r.updated_at, \
         p.id AS snapshot_id, p.commit_id AS snapshot_commit, p.file_count AS snapshot_files, \
         p.total_bytes AS snapshot_bytes, p.created_at AS snapshot_created_at, \
         s.id AS scan_id, s.status AS scan_status, s.finished_at AS scan_finished_at \
         FROM repositories r \
         LEFT JOIN snapshots p ON p.id = r.snapshot_id \
         LEFT JOIN scans s ON s.id = r.last_scan_id "
    };
}

statements! {
    INSERT = "INSERT INTO repositories (id, project_id, owner_id, name, description, source_type, \
              source_url, source_ref, ingest_status, languages, created_at, updated_at) \
              VALUES ($1, $2, $3, $4, $5, $6, $9, $10, 'pending', $7, $8, $8)";
    COUNT_UP = "UPDATE projects SET repository_count = repository_count + 1, updated_at = $2 \
                WHERE id = $1";
    COUNT_DOWN = "UPDATE projects SET repository_count = repository_count - 1, updated_at = $2 \
                  WHERE id = $1";
    GET = concat(select!(), "WHERE r.id = $1 AND r.owner_id = $2");
    BY_ID = concat(select!(), "WHERE r.id = $1");
    LIST = concat(
        select!(),
        "WHERE r.project_id = $1 AND r.owner_id = $2 AND r.id < $3 ORDER BY r.id DESC LIMIT $4"
    );
    UPDATE = "UPDATE repositories SET name = $3, description = $4, updated_at = $5, \
              version = version + 1 WHERE id = $1 AND owner_id = $2";
    NEW_HEAD = "UPDATE repositories SET ingest_status = 'pending', ingest_error = NULL, \
                ingest_generation = ingest_generation + 1, version = version + 1, \
                updated_at = $2 WHERE id = $1 RETURNING project_id";
    LOCK_FOR_INGEST = pair(
        concat!(select!(), "WHERE r.id = $1 AND r.owner_id = $2"),
        concat!(select!(), "WHERE r.id = $1 AND r.owner_id = $2 FOR UPDATE OF r")
    );
    ACTIVE = "SELECT id FROM scans WHERE repository_id = $1 AND status IN ('queued', 'running')";
    LOCK_UPLOADS = pair(
        "SELECT id FROM git_uploads WHERE repository_id = $1 ORDER BY id",
        "SELECT id FROM git_uploads WHERE repository_id = $1 ORDER BY id FOR UPDATE"
    );
    LOCK_SCANS = pair(
        "SELECT id FROM scans WHERE repository_id = $1 ORDER BY id",
        "SELECT id FROM scans WHERE repository_id = $1 ORDER BY id FOR UPDATE"
    );
    STATUSES = "SELECT status FROM scans WHERE repository_id = $1";
    DELETE_UPLOADS = "DELETE FROM git_uploads WHERE repository_id = $1";
    DELETE = "DELETE FROM repositories WHERE id = $1 AND owner_id = $2 RETURNING project_id, \
              open_critical AS critical, open_high AS high, open_medium AS medium, \
              open_low AS low, open_info AS info";
}

/// Why something failed: a stable word and a sentence for the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Failure {
    /// A stable word.
    pub code: String,
    /// A sentence for the user, without secrets.
    pub message: String,
}

impl Failure {
    /// A word and a sentence.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

words! {
    /// Where the code comes from.
    SourceType: "source" {
        /// Cloned by URL.
        Git = "git",
        /// An archive.
        Archive = "archive",
        /// Pushed to a git upload.
        GitUpload = "git_upload",
    }
}

/// How many findings of each severity are open.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, sqlx::FromRow, utoipa::ToSchema,
)]
pub struct OpenFindings {
    /// Severity critical.
    pub critical: i64,
    /// Severity high.
    pub high: i64,
    /// Severity medium.
    pub medium: i64,
    /// Severity low.
    pub low: i64,
    /// Severity info.
    pub info: i64,
}

/// How much of a language a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Language {
    /// Name, as GitHub writes it.
    pub name: String,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Number of its files.
    pub files: u64,
}

/// A repository, with what it shows of its snapshot and its last scan.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Repository {
    /// Its id.
    pub id: Uuid,
    /// Where it stands.
    pub project_id: Uuid,
    /// Whose it is.
    pub owner_id: Uuid,
    /// Name for people.
    pub name: String,
    /// Text for people.
    pub description: String,
    /// `git`, `archive` or `git_upload`.
    pub source_type: String,
    /// Without credentials.
    pub source_url: Option<String>,
    /// The ref that was asked for.
    pub source_ref: Option<String>,
    /// `pending`, `ingesting`, `ready` or `failed`.
    pub ingest_status: String,
    ingest_error: Option<Json<Failure>>,
    /// See the module's page.
    pub ingest_generation: i64,
    /// The branch that HEAD points to.
    pub default_branch: Option<String>,
    /// The commit that was ingested last.
    pub head_commit: Option<String>,
    languages: Json<Vec<Language>>,
    /// Counters kept by the scans.
    #[sqlx(flatten)]
    pub open_findings: OpenFindings,
    /// Grows with every change.
    pub version: i64,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds.
    pub updated_at: i64,
    snapshot_id: Option<Uuid>,
    snapshot_commit: Option<String>,
    snapshot_files: Option<i64>,
    snapshot_bytes: Option<i64>,
    snapshot_created_at: Option<i64>,
    scan_id: Option<Uuid>,
    scan_status: Option<String>,
    scan_finished_at: Option<i64>,
}

/// What a repository shows of its snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: Uuid,
    /// The commit, hex; none if it was made of an archive that does not tell.
    pub commit: Option<String>,
    /// Files in it.
    pub file_count: i64,
    /// Their bytes.
    pub total_bytes: i64,
    /// Microseconds.
    pub created_at: i64,
}

/// What a repository shows of its last scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastScan {
    /// Its id.
    pub id: Uuid,
    /// Its status.
    pub status: String,
    /// Microseconds.
    pub finished_at: Option<i64>,
}

impl Repository {
    /// Why the newest ingest failed.
    pub fn ingest_error(&self) -> Option<&Failure> {
        self.ingest_error.as_ref().map(|error| &error.0)
    }

    /// Languages of the snapshot, the largest first.
    pub fn languages(&self) -> &[Language] {
        &self.languages.0
    }

    /// The snapshot that is served.
    pub fn snapshot(&self) -> Option<SnapshotInfo> {
        Some(SnapshotInfo {
            id: self.snapshot_id?,
            commit: self.snapshot_commit.clone(),
            file_count: self.snapshot_files?,
            total_bytes: self.snapshot_bytes?,
            created_at: self.snapshot_created_at?,
        })
    }

    /// The newest scan.
    pub fn last_scan(&self) -> Option<LastScan> {
        Some(LastScan {
            id: self.scan_id?,
            status: self.scan_status.clone()?,
            finished_at: self.scan_finished_at,
        })
    }
}

/// A repository to make.
#[derive(Debug, Clone)]
pub struct NewRepository {
    /// Where; the owner's.
    pub project_id: Uuid,
    /// For whom.
    pub owner_id: Uuid,
    /// Name for people.
    pub name: String,
    /// Text for people.
    pub description: String,
    /// Where its code will come from.
    pub source_type: SourceType,
    /// From which URL, without credentials.
    pub source_url: Option<String>,
    /// Which ref of it.
    pub source_ref: Option<String>,
}

/// Makes a repository that waits for its code.
pub async fn create(tx: &mut Tx, new: &NewRepository) -> Result<Repository> {
    create_with_id(tx, new_id(), new).await
}

/// As [`create`], with an id under which something is stored already.
pub async fn create_with_id(tx: &mut Tx, id: Uuid, new: &NewRepository) -> Result<Repository> {
    let at = now();
    // The project's counter first: it is the lock that a deletion takes last, and
    // makes the insert fail as Gone if that was faster.
    tx.execute(COUNT_UP, args![new.project_id, at]).await?;
    tx.execute(
        INSERT,
        args![
            id,
            new.project_id,
            new.owner_id,
            &new.name,
            &new.description,
            new.source_type.as_str(),
            Value::json(&[(); 0]),
            at,
            &new.source_url,
            &new.source_ref
        ],
    )
    .await?;
    let data = json!({ "name": &new.name, "source_type": new.source_type });
    let event = NewProjectEvent::info(
        id,
        "repository.created",
        &format!("The repository {} was made.", new.name),
        data,
    );
    project_events::append(tx, new.project_id, &[event]).await?;
    tx.fetch_one(BY_ID, args![id]).await
}

/// A repository of this owner.
pub async fn get(
    conn: impl Into<Conn<'_>>,
    owner_id: Uuid,
    id: Uuid,
) -> Result<Option<Repository>> {
    conn.into().fetch_optional(GET, args![id, owner_id]).await
}

/// A repository whoever owns it: for jobs.
pub async fn by_id(conn: impl Into<Conn<'_>>, id: Uuid) -> Result<Option<Repository>> {
    conn.into().fetch_optional(BY_ID, args![id]).await
}

/// Repositories of a project, newest first, from behind `after` on.
pub async fn list(
    conn: impl Into<Conn<'_>>,
    owner_id: Uuid,
    project_id: Uuid,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Vec<Repository>> {
    let after = after.unwrap_or(Uuid::max());
    conn.into().fetch_all(LIST, args![project_id, owner_id, after, limit]).await
}

/// Replaces what people wrote. `None` if there is no such repository.
pub async fn update(
    tx: &mut Tx,
    owner_id: Uuid,
    id: Uuid,
    name: &str,
    description: &str,
) -> Result<Option<Repository>> {
    tx.execute(UPDATE, args![id, owner_id, name, description, now()]).await?;
    tx.wake(id);
    tx.fetch_optional(GET, args![id, owner_id]).await
}

/// Notes that there is a new head to ingest; answers the project, or `None` if the
/// repository is gone.
pub async fn new_head(tx: &mut Tx, id: Uuid) -> Result<Option<Uuid>> {
    let row: Option<(Uuid,)> = tx.fetch_optional(NEW_HEAD, args![id, now()]).await?;
    tx.wake(id);
    Ok(row.map(|row| row.0))
}

/// A repository of this owner, locked until the transaction ends.
pub async fn lock_one(tx: &mut Tx, owner_id: Uuid, id: Uuid) -> Result<Option<Repository>> {
    tx.fetch_optional(LOCK_FOR_INGEST, args![id, owner_id]).await
}

/// What a deleted repository counted for.
#[derive(sqlx::FromRow)]
struct Deleted {
    project_id: Uuid,
    #[sqlx(flatten)]
    open_findings: OpenFindings,
}

/// Deletes a repository of this owner and everything below it, its remotes
/// included: rows with the commit, what runs with its next heartbeat, stored
/// objects by a job. False if there is none.
pub async fn delete(db: &Db, owner_id: Uuid, id: Uuid) -> Result<bool> {
    let Some(repository) = get(db, owner_id, id).await? else { return Ok(false) };
    let active: Vec<(Uuid,)> = db.conn().fetch_all(ACTIVE, args![id]).await?;
    cancel_jobs(db, active.into_iter().map(|row| row.0).chain([id])).await?;

    let mut tx = db.begin().await?;
    let uploads: Vec<(Uuid,)> = tx.fetch_all(LOCK_UPLOADS, args![id]).await?;
    let scans: Vec<(Uuid,)> = tx.fetch_all(LOCK_SCANS, args![id]).await?;
    // From here on no scan can come.
    lock(&mut tx, id, None).await?;
    let statuses: Vec<(String,)> = tx.fetch_all(STATUSES, args![id]).await?;
    let statuses: Vec<ScanStatus> =
        statuses.iter().filter_map(|(status,)| status.parse().ok()).collect();
    usage::remove(&mut tx, Gone::Repository(id)).await?;
    tx.execute(DELETE_UPLOADS, args![id]).await?;
    super::findings::texts::remove_repository(&mut tx, id).await?;
    let Some(deleted) = tx.fetch_optional::<Deleted>(DELETE, args![id, owner_id]).await? else {
        return Ok(false);
    };
    let project_id = deleted.project_id;
    tx.execute(COUNT_DOWN, args![project_id, now()]).await?;
    repository_gone(&mut tx, project_id, deleted.open_findings, &statuses).await?;
    let event = NewProjectEvent::info(
        id,
        "repository.deleted",
        &format!("The repository {} was deleted.", repository.name),
        json!({ "name": &repository.name, "source_type": &repository.source_type }),
    );
    project_events::append(&mut tx, project_id, &[event]).await?;
    let prefixes = storage_prefixes(&uploads, &[(id,)], &scans);
    uploads::delete_objects(&mut tx, id, prefixes).await?;
    for (topic,) in uploads.into_iter().chain(scans).chain([(id,)]) {
        tx.wake(topic);
    }
    tx.commit().await?;
    Ok(true)
}

/// Cancels the jobs of subjects that are about to be deleted, in a transaction of
/// its own: a worker holds its job and waits for the rows that a deletion locks, so
/// a deletion must not wait for the job. A job that is inserted after this finds
/// its subject gone.
pub(super) async fn cancel_jobs(db: &Db, subjects: impl Iterator<Item = Uuid>) -> Result<()> {
    let mut tx = db.begin().await?;
    for subject in subjects {
        jobs::cancel(&mut tx, subject).await?;
    }
    tx.commit().await
}

/// Everything that is stored of these uploads, repositories and scans.
pub(super) fn storage_prefixes(
    uploads: &[(Uuid,)],
    repositories: &[(Uuid,)],
    scans: &[(Uuid,)],
) -> Vec<String> {
    let uploads = uploads.iter().map(|(id,)| uploads::storage_prefix(*id));
    let repositories =
        repositories.iter().flat_map(|(id,)| [snapshots::storage_prefix(*id), archive_prefix(*id)]);
    let scans = scans.iter().map(|(id,)| format!("artifacts/{id}/"));
    uploads.chain(repositories).chain(scans).collect()
}
