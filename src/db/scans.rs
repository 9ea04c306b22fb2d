//! Scans.
//!
//! A scan is created in one transaction with its job and its first event, and ends
//! in one transaction with its counts and its last event: whoever sees that a scan
//! has ended sees all that belongs to it. `version` grows with everything that a
//! reader of the scan can see.
//!
//! Where a transaction touches several rows it takes them in the order job, scan,
//! repository, so that PostgreSQL never meets a deadlock.

use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use uuid::Uuid;

use super::events::{self, NewEvent};
use super::jobs::{self, CancelOutcome, JobKind, NewJob};
use super::project_counters::scan_moved;
use super::project_events::{self, NewProjectEvent};
pub use super::repositories::Failure;
use super::{Conn, DbError, Result, Tx, Value, args, new_id, now, statements, webhooks};
use crate::scan::{Level, Progress, ScanConfig};
use crate::words::words;

words! {
    /// Where a scan is in its life.
    ScanStatus: "status of a scan" {
        /// Its job waits for a worker.
        Queued = "queued",
        /// A worker has begun; after its death another goes on.
        Running = "running",
        /// Ended as planned.
        Completed = "completed",
        /// Ended with an error.
        Failed = "failed",
        /// Ended by wish.
        Cancelled = "cancelled",
    }
}

impl ScanStatus {
    /// True if nothing will change any more.
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

words! {
    /// What asked for a scan.
    #[schema(as = ScanTrigger)]
    Trigger: "trigger" {
        /// A request.
        Api = "api",
        /// A push.
        Push = "push",
        /// The first ingest of a URL or archive.
        Ingest = "ingest",
        /// A legacy session.
        Session = "session",
    }
}

/// The stored configuration of a scan: what the engine reads, and the ref.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ScanSettings)]
pub struct Settings {
    /// Engines, globs, history.
    #[serde(flatten)]
    pub config: ScanConfig,
    /// The branch or tag to scan; `None`: the head that the repository shows.
    #[serde(default, rename = "ref")]
    pub git_ref: Option<String>,
}

/// Counts of a completed scan. Severities count the findings that the scan saw and
/// that are open (not dismissed), and add up to `new` + `unchanged`; `fixed` counts
/// what the scan no longer saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
#[schema(as = ScanSummary)]
pub struct Summary {
    /// Open findings of this severity.
    pub critical: u64,
    /// Open findings of this severity.
    pub high: u64,
    /// Open findings of this severity.
    pub medium: u64,
    /// Open findings of this severity.
    pub low: u64,
    /// Open findings of this severity.
    pub info: u64,
    /// Seen for the first time, or again after they were fixed.
    pub new: u64,
    /// No longer there.
    pub fixed: u64,
    /// Seen before.
    pub unchanged: u64,
}

/// A scan.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ScanRow {
    /// Its id.
    pub id: Uuid,
    /// What is scanned.
    pub repository_id: Uuid,
    /// The project of the repository.
    pub project_id: Uuid,
    /// Whose it is.
    pub owner_id: Uuid,
    /// The remote whose push asked for it.
    pub upload_id: Option<Uuid>,
    /// Where it is in its life.
    #[sqlx(try_from = "String")]
    pub status: ScanStatus,
    /// What asked for it.
    #[sqlx(try_from = "String")]
    pub trigger: Trigger,
    /// What to look for and where.
    pub config: Json<Settings>,
    /// The commit, once it is known.
    pub commit_id: Option<String>,
    /// The snapshot, once it is known.
    pub snapshot_id: Option<Uuid>,
    /// How far it is.
    pub progress: Json<Progress>,
    /// Counts, all zero before it is completed.
    pub summary: Json<Summary>,
    /// Why it failed.
    pub error: Option<Json<Failure>>,
    /// Who runs or ran it.
    pub worker_id: Option<String>,
    /// `seq` of its newest event.
    pub last_event: i64,
    /// Grows with every change.
    pub version: i64,
    /// Microseconds since 1970.
    pub created_at: i64,
    /// Microseconds since 1970.
    pub started_at: Option<i64>,
    /// Microseconds since 1970.
    pub finished_at: Option<i64>,
}

/// A scan to create.
#[derive(Debug, Clone)]
pub struct NewScan {
    /// What is scanned.
    pub repository_id: Uuid,
    /// The project of the repository.
    pub project_id: Uuid,
    /// Whose it is.
    pub owner_id: Uuid,
    /// The remote whose push asks for it.
    pub upload_id: Option<Uuid>,
    /// What asks for it.
    pub trigger: Trigger,
    /// What to look for and where.
    pub settings: Settings,
    /// The commit, if it is known.
    pub commit_id: Option<String>,
    /// The snapshot, if it is known.
    pub snapshot_id: Option<Uuid>,
}

/// What a repository tells whoever wants to scan it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Scannable {
    /// The repository.
    pub id: Uuid,
    /// Its project.
    pub project_id: Uuid,
    /// `ready` if it can be scanned.
    pub ingest_status: String,
    /// Branch of the head.
    pub default_branch: Option<String>,
    /// The commit of the newest snapshot.
    pub head_commit: Option<String>,
    /// The newest snapshot.
    pub snapshot_id: Option<Uuid>,
}

/// Which scans a list shows.
#[derive(Debug, Clone, Copy)]
pub enum Scope {
    /// Those of one repository.
    Repository(Uuid),
    /// Those of all repositories of a project.
    Project(Uuid),
}

/// How a scan ends.
#[derive(Debug, Clone)]
pub enum Ending {
    /// As planned.
    Completed(Summary),
    /// With an error.
    Failed(Failure),
    /// By wish.
    Cancelled,
}

/// What became of the wish to cancel a scan.
#[derive(Debug)]
pub enum Cancel {
    /// There is no such scan.
    NotFound,
    /// It had not begun and never will.
    Cancelled,
    /// It runs; its worker will stop soon.
    Requested,
    /// It has ended already.
    Ended,
}

macro_rules! columns {
    () => {
        "id, repository_id, project_id, owner_id, upload_id, status, trigger, config, commit_id, \
         snapshot_id, progress, summary, error, worker_id, last_event, version, created_at, \
         started_at, finished_at"
    };
}

statements! {
    INSERT = "INSERT INTO scans (id, repository_id, project_id, owner_id, upload_id, status, \
              trigger, config, commit_id, snapshot_id, progress, summary, created_at) \
              VALUES ($1, $2, $3, $4, $5, 'queued', $6, $7, $8, $9, $10, $11, $12)";
    NEWEST = "UPDATE repositories SET last_scan_id = $2, version = version + 1, updated_at = $3 \
              WHERE id = $1";
    TOUCH_REPOSITORY = "UPDATE repositories SET version = version + 1, updated_at = $3 \
                        WHERE id = $1 AND last_scan_id = $2";
    SCANNABLE = "SELECT id, project_id, ingest_status, default_branch, head_commit, snapshot_id \
                 FROM repositories WHERE id = $1 AND owner_id = $2";
    GET = concat("SELECT ", columns!(), " FROM scans WHERE id = $1 AND owner_id = $2");
    BY_ID = concat("SELECT ", columns!(), " FROM scans WHERE id = $1");
    OF_REPOSITORY = concat("SELECT ", columns!(), " FROM scans WHERE repository_id = $1 \
                            AND owner_id = $2 AND id < $3 ORDER BY id DESC LIMIT $4");
    OF_PROJECT = concat("SELECT ", columns!(), " FROM scans WHERE project_id = $1 \
                         AND owner_id = $2 AND id < $3 ORDER BY id DESC LIMIT $4");
    STATUS = pair(
        "SELECT status, project_id, progress FROM scans WHERE id = $1",
        "SELECT status, project_id, progress FROM scans WHERE id = $1 FOR NO KEY UPDATE"
    );
    PLACE = "SELECT project_id, repository_id FROM scans WHERE id = $1";
    START = "UPDATE scans SET status = 'running', worker_id = $2, version = version + 1, \
             started_at = COALESCE(started_at, $3) \
             WHERE id = $1 AND status IN ('queued', 'running') RETURNING repository_id";
    SOURCE = "UPDATE scans SET commit_id = $2, snapshot_id = $3, version = version + 1 \
              WHERE id = $1 AND status = 'running'";
    /// Newest first.
    OF_COMMIT = "SELECT config FROM scans WHERE repository_id = $1 AND commit_id = $2 \
                 AND created_at >= $3 AND status IN ('queued', 'running', 'completed') \
                 ORDER BY id DESC LIMIT 100";
    PROGRESS = "UPDATE scans SET progress = $2, version = version + 1 \
                WHERE id = $1 AND status = 'running'";
    FINISH = "UPDATE scans SET status = $2, summary = $3, error = $4, finished_at = $5, \
              progress = $6, version = version + 1 \
              WHERE id = $1 AND status IN ('queued', 'running') RETURNING repository_id";
}

/// Creates a scan, its job and its first event.
pub async fn create(tx: &mut Tx, scan: &NewScan) -> Result<Uuid> {
    let id = new_id();
    let at = now();
    tx.execute(
        INSERT,
        args![
            id,
            scan.repository_id,
            scan.project_id,
            scan.owner_id,
            scan.upload_id,
            scan.trigger.as_str(),
            Value::json(&scan.settings),
            scan.commit_id.clone(),
            scan.snapshot_id,
            Value::json(&Progress::default()),
            Value::json(&Summary::default()),
            at,
        ],
    )
    .await?;
    tx.execute(NEWEST, args![scan.repository_id, id, at]).await?;
    tx.wake(scan.repository_id);
    let data = serde_json::json!({ "trigger": scan.trigger });
    events::append(tx, id, &[NewEvent::info("queued", "The scan waits for a worker.", data)])
        .await?;
    jobs::insert(
        tx,
        &NewJob {
            kind: JobKind::Scan,
            subject_id: id,
            owner_id: Some(scan.owner_id),
            payload: serde_json::json!({}),
        },
    )
    .await?;
    let event = NewProjectEvent::info(
        scan.repository_id,
        "scan.queued",
        "A scan waits for a worker.",
        serde_json::json!({ "trigger": scan.trigger, "commit": scan.commit_id }),
    );
    scan_moved(tx, scan.project_id, None, ScanStatus::Queued).await?;
    project_events::append(tx, scan.project_id, &[event.of_scan(id)]).await?;
    Ok(id)
}

/// What a repository of this owner tells whoever wants to scan it.
pub async fn scannable(
    conn: impl Into<Conn<'_>>,
    owner_id: Uuid,
    repository_id: Uuid,
) -> Result<Option<Scannable>> {
    conn.into().fetch_optional(SCANNABLE, args![repository_id, owner_id]).await
}

/// A scan of this owner.
pub async fn get(conn: impl Into<Conn<'_>>, owner_id: Uuid, id: Uuid) -> Result<Option<ScanRow>> {
    conn.into().fetch_optional(GET, args![id, owner_id]).await
}

/// Scans of this owner, newest first, older than `before`.
pub async fn list(
    conn: impl Into<Conn<'_>>,
    owner_id: Uuid,
    scope: Scope,
    before: Option<Uuid>,
    limit: u32,
) -> Result<Vec<ScanRow>> {
    let (sql, of) = match scope {
        Scope::Repository(id) => (OF_REPOSITORY, id),
        Scope::Project(id) => (OF_PROJECT, id),
    };
    let before = before.unwrap_or(Uuid::max());
    conn.into().fetch_all(sql, args![of, owner_id, before, limit]).await
}

/// True if the commit of a repository was scanned with its history and nothing left out,
/// or is going to be, by a scan that was asked for at `since` or later.
pub async fn history_scanned(
    conn: impl Into<Conn<'_>>,
    repository_id: Uuid,
    commit: &str,
    since: i64,
) -> Result<bool> {
    let rows: Vec<(Json<Settings>,)> =
        conn.into().fetch_all(OF_COMMIT, args![repository_id, commit, since]).await?;
    let whole = ScanConfig { history: true, ..ScanConfig::default() };
    Ok(rows.iter().any(|(settings,)| settings.config == whole))
}

/// Marks a scan as running. False: it has ended meanwhile, and there is nothing to
/// do. The caller holds the job (see [`jobs::hold`]), here and in all that follows.
pub async fn start(tx: &mut Tx, id: Uuid, worker: &str) -> Result<bool> {
    let Some((before, project, _)) = status(tx, id).await? else { return Ok(false) };
    let row: Option<(Uuid,)> = tx.fetch_optional(START, args![id, worker, now()]).await?;
    let Some((repository,)) = row else { return Ok(false) };
    tx.wake(id);
    touch_repository(tx, repository, id).await?;
    let event = NewProjectEvent::info(
        repository,
        "scan.started",
        "A worker has begun the scan.",
        serde_json::json!({}),
    );
    scan_moved(tx, project, Some(before), ScanStatus::Running).await?;
    project_events::tell(tx, repository, event.of_scan(id)).await?;
    Ok(true)
}

/// Tells the project of milestones of a running scan, as `scan.` and their kind.
pub async fn tell_project(tx: &mut Tx, id: Uuid, milestones: &[NewEvent]) -> Result<()> {
    if milestones.is_empty() {
        return Ok(());
    }
    let row: Option<(Uuid, Uuid)> = tx.fetch_optional(PLACE, args![id]).await?;
    let Some((project_id, repository_id)) = row else { return Err(gone()) };
    let events: Vec<NewProjectEvent> = milestones
        .iter()
        .map(|event| NewProjectEvent {
            scan_id: Some(id),
            repository_id: Some(repository_id),
            event: NewEvent { kind: format!("scan.{}", event.kind), ..event.clone() },
        })
        .collect();
    project_events::append(tx, project_id, &events).await
}

/// Notes what is scanned, for scans that were created before it was known.
pub async fn set_source(tx: &mut Tx, id: Uuid, commit: &str, snapshot: Uuid) -> Result<()> {
    tx.execute(SOURCE, args![id, commit, snapshot]).await?;
    tx.wake(id);
    Ok(())
}

/// Notes how far a running scan is.
pub async fn set_progress(tx: &mut Tx, id: Uuid, progress: &Progress) -> Result<()> {
    tx.execute(PROGRESS, args![id, Value::json(progress)]).await?;
    tx.wake(id);
    Ok(())
}

/// Ends a scan with its last event. False: it had ended before, and stays as it is.
pub async fn finish(tx: &mut Tx, id: Uuid, ending: &Ending) -> Result<bool> {
    let Some((before, project, mut progress)) = status(tx, id).await? else {
        return Ok(false);
    };
    let (status, summary, error) = match ending {
        Ending::Completed(summary) => (ScanStatus::Completed, *summary, None),
        Ending::Failed(failure) => (ScanStatus::Failed, Summary::default(), Some(failure)),
        Ending::Cancelled => (ScanStatus::Cancelled, Summary::default(), None),
    };
    // Nothing is under way any more; how far it came stays.
    status.as_str().clone_into(&mut progress.phase);
    let row: Option<(Uuid,)> = tx
        .fetch_optional(
            FINISH,
            args![
                id,
                status.as_str(),
                Value::json(&summary),
                Value::json_opt(error),
                now(),
                Value::json(&progress)
            ],
        )
        .await?;
    let Some((repository,)) = row else { return Ok(false) };
    let event = match ending {
        Ending::Completed(summary) => NewEvent::info(
            status.as_str(),
            &sentence(summary),
            serde_json::json!({ "summary": summary }),
        ),
        Ending::Failed(failure) => NewEvent {
            level: Level::Error,
            kind: status.as_str().to_owned(),
            message: failure.message.clone(),
            data: serde_json::json!({ "error": failure }),
        },
        Ending::Cancelled => {
            NewEvent::info(status.as_str(), "The scan was cancelled.", serde_json::json!({}))
        }
    };
    events::append(tx, id, std::slice::from_ref(&event)).await?;
    touch_repository(tx, repository, id).await?;
    if let Ending::Completed(summary) = ending
        && let Some(scan) = tx.fetch_optional::<ScanRow>(BY_ID, args![id]).await?
    {
        webhooks::scan_completed(tx, &scan, summary).await?;
    }
    scan_moved(tx, project, Some(before), status).await?;
    tell_project(tx, id, &[event]).await?;
    Ok(true)
}

fn sentence(s: &Summary) -> String {
    format!(
        "The scan is complete: {} critical, {} high, {} medium, {} low, {} info; {} new, {} fixed.",
        s.critical, s.high, s.medium, s.low, s.info, s.new, s.fixed
    )
}

/// Cancels a queued scan at once and asks a running one to stop.
pub async fn cancel(tx: &mut Tx, owner_id: Uuid, repository_id: Uuid, id: Uuid) -> Result<Cancel> {
    match get(&mut *tx, owner_id, id).await? {
        Some(scan) if scan.repository_id == repository_id => {}
        _ => return Ok(Cancel::NotFound),
    }
    Ok(match jobs::cancel(tx, id).await? {
        CancelOutcome::Cancelled => {
            if finish(tx, id, &Ending::Cancelled).await? {
                Cancel::Cancelled
            } else {
                Cancel::Ended
            }
        }
        CancelOutcome::Requested => Cancel::Requested,
        CancelOutcome::Ended => Cancel::Ended,
    })
}

/// Locks a scan; answers its status and its project.
async fn status(tx: &mut Tx, id: Uuid) -> Result<Option<(ScanStatus, Uuid, Progress)>> {
    let row: Option<(String, Uuid, Json<Progress>)> = tx.fetch_optional(STATUS, args![id]).await?;
    Ok(row
        .and_then(|(status, project, progress)| Some((status.parse().ok()?, project, progress.0))))
}

/// A repository shows its last scan, so it changes with it.
async fn touch_repository(tx: &mut Tx, id: Uuid, scan: Uuid) -> Result<()> {
    if tx.execute(TOUCH_REPOSITORY, args![id, scan, now()]).await? > 0 {
        tx.wake(id);
    }
    Ok(())
}

/// The scan was deleted while its job ran.
pub(super) fn gone() -> DbError {
    DbError::Gone(sqlx::Error::RowNotFound)
}

#[cfg(test)]
pub(super) mod tests;
