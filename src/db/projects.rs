//! Projects: what an owner keeps repositories in.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::repositories::{self, OpenFindings};
use super::scans::ScanStatus;
use super::usage::{self, Gone};
use super::{Conn, Db, Result, Tx, args, new_id, now, statements, uploads, users};

macro_rules! columns {
    () => {
        "id, owner_id, name, description, is_default, repository_count, created_at, updated_at"
    };
}

statements! {
    INSERT = "INSERT INTO projects (id, owner_id, name, description, is_default, created_at, \
              updated_at) VALUES ($1, $2, $3, $4, $5, $6, $6)";
    ADD_DEFAULT = "INSERT INTO projects (id, owner_id, name, description, is_default, created_at, \
                   updated_at) VALUES ($1, $2, $3, $4, $5, $6, $6) \
                   ON CONFLICT (owner_id) WHERE is_default DO NOTHING";
    DEFAULT = concat(
        "SELECT ", columns!(), " FROM projects WHERE owner_id = $1 AND is_default"
    );
    COUNT = "SELECT count(*) FROM projects WHERE owner_id = $1";
    GET = concat("SELECT ", columns!(), " FROM projects WHERE id = $1 AND owner_id = $2");
    BY_NAME = concat(
        "SELECT ", columns!(), " FROM projects WHERE owner_id = $1 AND name = $2 \
         ORDER BY id LIMIT 2"
    );
    LIST = concat(
        "SELECT ", columns!(), " FROM projects WHERE owner_id = $1 AND id < $2 \
         ORDER BY id DESC LIMIT $3"
    );
    UPDATE = "UPDATE projects SET name = $3, description = $4, updated_at = $5 \
              WHERE id = $1 AND owner_id = $2";
    ROLLUP = "SELECT p.scans_queued, p.scans_running, p.scans_completed, p.scans_failed, \
              p.scans_cancelled, p.open_critical AS critical, p.open_high AS high, \
              p.open_medium AS medium, p.open_low AS low, p.open_info AS info, \
              (SELECT s.created_at FROM scans s WHERE s.project_id = p.id \
               ORDER BY s.id DESC LIMIT 1) AS last_scan_at FROM projects p WHERE p.id = $1";
    LOCK_UPLOADS = pair(
        "SELECT id FROM git_uploads WHERE project_id = $1 ORDER BY id",
        "SELECT id FROM git_uploads WHERE project_id = $1 ORDER BY id FOR UPDATE"
    );
    LOCK_SCANS = pair(
        "SELECT id FROM scans WHERE project_id = $1 ORDER BY id",
        "SELECT id FROM scans WHERE project_id = $1 ORDER BY id FOR UPDATE"
    );
    ACTIVE = "SELECT id FROM scans WHERE project_id = $1 AND status IN ('queued', 'running') \
              UNION ALL SELECT id FROM repositories \
              WHERE project_id = $1 AND ingest_status IN ('pending', 'ingesting')";
    LOCK_REPOSITORIES = pair(
        "SELECT id FROM repositories WHERE project_id = $1 ORDER BY id",
        "SELECT id FROM repositories WHERE project_id = $1 ORDER BY id FOR UPDATE"
    );
    DELETE = "DELETE FROM projects WHERE id = $1 AND owner_id = $2";
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Project {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub owner_id: Uuid,
    /// Name for people; not unique.
    pub name: String,
    /// Text for people.
    pub description: String,
    /// Uploads go here when their maker names no project.
    pub is_default: bool,
    /// How many repositories it holds.
    pub repository_count: i64,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds.
    pub updated_at: i64,
}

/// All scans of a project in a few figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rollup {
    /// How many scans there are, by status.
    pub by_status: BTreeMap<String, i64>,
    /// When the newest was made, microseconds.
    pub last_scan_at: Option<i64>,
    /// Sum over the repositories.
    pub open_findings: OpenFindings,
}

#[derive(sqlx::FromRow)]
struct Counters {
    scans_queued: i64,
    scans_running: i64,
    scans_completed: i64,
    scans_failed: i64,
    scans_cancelled: i64,
    #[sqlx(flatten)]
    open_findings: OpenFindings,
    last_scan_at: Option<i64>,
}

/// Name of the project that is made for uploads without one.
pub const DEFAULT_NAME: &str = "Uploads";

/// How many projects an owner has. The owner's row stays locked until the
/// transaction ends, so that a quota checked by it holds for requests side by side.
pub async fn count(tx: &mut Tx, owner_id: Uuid) -> Result<i64> {
    users::lock(tx, owner_id).await?;
    Ok(tx.fetch_one::<(i64,)>(COUNT, args![owner_id]).await?.0)
}

/// Makes a project.
pub async fn create(tx: &mut Tx, owner_id: Uuid, name: &str, description: &str) -> Result<Project> {
    let id = new_id();
    tx.execute(INSERT, args![id, owner_id, name, description, false, now()]).await?;
    tx.fetch_one(GET, args![id, owner_id]).await
}

/// The project for uploads without one, made if there is none.
pub async fn default_of(tx: &mut Tx, owner_id: Uuid) -> Result<Project> {
    if let Some(project) = tx.fetch_optional(DEFAULT, args![owner_id]).await? {
        return Ok(project);
    }
    tx.execute(ADD_DEFAULT, args![new_id(), owner_id, DEFAULT_NAME, "", true, now()]).await?;
    tx.fetch_one(DEFAULT, args![owner_id]).await
}

/// A project of this owner.
pub async fn get(conn: impl Into<Conn<'_>>, owner_id: Uuid, id: Uuid) -> Result<Option<Project>> {
    conn.into().fetch_optional(GET, args![id, owner_id]).await
}

/// The projects of this owner with a name: none, one, or the two oldest, which
/// tells that the name is not enough.
pub async fn by_name(
    conn: impl Into<Conn<'_>>,
    owner_id: Uuid,
    name: &str,
) -> Result<Vec<Project>> {
    conn.into().fetch_all(BY_NAME, args![owner_id, name]).await
}

/// Projects of an owner, newest first, from behind `after` on.
pub async fn list(
    conn: impl Into<Conn<'_>>,
    owner_id: Uuid,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Vec<Project>> {
    conn.into().fetch_all(LIST, args![owner_id, after.unwrap_or(Uuid::max()), limit]).await
}

/// Replaces what people wrote. `None` if there is no such project.
pub async fn update(
    tx: &mut Tx,
    owner_id: Uuid,
    id: Uuid,
    name: &str,
    description: &str,
) -> Result<Option<Project>> {
    tx.execute(UPDATE, args![id, owner_id, name, description, now()]).await?;
    tx.fetch_optional(GET, args![id, owner_id]).await
}

/// The figures of a project that the caller has looked up for its owner: counters that
/// are kept, see [`super::project_counters`].
pub async fn rollup(db: &Db, project: &Project) -> Result<Rollup> {
    let counters: Option<Counters> = db.conn().fetch_optional(ROLLUP, args![project.id]).await?;
    // It may have been deleted since.
    let Some(counters) = counters else { return Ok(Rollup::default()) };
    let by_status = [
        (ScanStatus::Queued, counters.scans_queued),
        (ScanStatus::Running, counters.scans_running),
        (ScanStatus::Completed, counters.scans_completed),
        (ScanStatus::Failed, counters.scans_failed),
        (ScanStatus::Cancelled, counters.scans_cancelled),
    ];
    Ok(Rollup {
        by_status: by_status.map(|(status, scans)| (status.as_str().to_owned(), scans)).into(),
        last_scan_at: counters.last_scan_at,
        open_findings: counters.open_findings,
    })
}

/// Deletes a project of this owner and everything below it: rows with the commit,
/// what runs with its next heartbeat, stored objects by a job. False if there is
/// none.
pub async fn delete(db: &Db, owner_id: Uuid, id: Uuid) -> Result<bool> {
    if get(db, owner_id, id).await?.is_none() {
        return Ok(false);
    }
    let active: Vec<(Uuid,)> = db.conn().fetch_all(ACTIVE, args![id]).await?;
    repositories::cancel_jobs(db, active.into_iter().map(|row| row.0)).await?;

    let mut tx = db.begin().await?;
    let uploads: Vec<(Uuid,)> = tx.fetch_all(LOCK_UPLOADS, args![id]).await?;
    let scans: Vec<(Uuid,)> = tx.fetch_all(LOCK_SCANS, args![id]).await?;
    let repositories: Vec<(Uuid,)> = tx.fetch_all(LOCK_REPOSITORIES, args![id]).await?;
    usage::remove(&mut tx, Gone::Project(id)).await?;
    usage::project_deleted(&mut tx, id).await?;
    super::findings::texts::remove_project(&mut tx, id).await?;
    if tx.execute(DELETE, args![id, owner_id]).await? == 0 {
        return Ok(false);
    }
    let prefixes = repositories::storage_prefixes(&uploads, &repositories, &scans);
    uploads::delete_objects(&mut tx, id, prefixes).await?;
    for (topic,) in uploads.into_iter().chain(repositories).chain(scans) {
        tx.wake(topic);
    }
    tx.commit().await?;
    Ok(true)
}
