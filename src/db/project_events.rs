//! Events of projects: what happens to the repositories, uploads and scans in them.
//!
//! `seq` counts 1, 2, 3 … for each project. As with scans (see [`super::events`]) the
//! numbers are taken from the project's row in the transaction that inserts the
//! events: that row is locked from then on, writers queue up, and a transaction that
//! is rolled back leaves no hole.
//!
//! Where a transaction locks other rows, it appends its events *after* those: the
//! project comes last, so that two transactions never wait for each other.
//!
//! # How long they stay
//!
//! The newest [`KEPT`] events of a project stay at least; older ones are removed by
//! the transactions that append, [`PRUNE`] at a time. Who asks for events behind a
//! number that is gone gets the oldest that are kept.
//!
//! # Types
//!
//! | type | when | `data` |
//! |---|---|---|
//! | `repository.created`, `repository.deleted` | with the row | `name`, `source_type` |
//! | `ingest.started`, `ingest.progress`, `ingest.completed`, `ingest.failed` | the source is read | `commit`, `unchanged`, `error` … |
//! | `upload.pushed`, `upload.ready`, `upload.failed` | a git upload, and nothing else | `upload_id`, `ref`, `commit`, `error` … |
//! | `scan.queued`, `scan.started`, `scan.phase` | a scan goes on | `trigger`, `phase` |
//! | `findings.triaged` | people decide | `count`, `status`, `reason`, `by` |
//! | `scan.completed`, `scan.failed`, `scan.cancelled` | a scan ends | `summary`, `error` |

use serde_json::Value as JsonValue;
use sqlx::types::Json;
use uuid::Uuid;

use super::events::NewEvent;
use super::{Args, Conn, Result, Tx, Value, args, now, scans, statements};
use crate::scan::Level;

/// Events of a project that are kept.
pub const KEPT: i64 = 10_000;
/// How many more than [`KEPT`] there may be before the surplus is removed.
const PRUNE: i64 = 500;
/// Rows of one INSERT.
const BATCH: usize = 50;

statements! {
    TAKE = "UPDATE projects SET last_event = last_event + $2 WHERE id = $1 RETURNING last_event";
    PROJECT_OF = "SELECT project_id FROM repositories WHERE id = $1";
    AFTER = "SELECT seq, scan_id, repository_id, at, level, type, message, data \
             FROM project_events WHERE project_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
    LAST = "SELECT last_event FROM projects WHERE id = $1 AND owner_id = $2";
    FORGET = "DELETE FROM project_events WHERE project_id = $1 AND seq <= $2";
}

/// An event to append.
#[derive(Debug, Clone)]
pub struct NewProjectEvent {
    /// The scan that it tells of.
    pub scan_id: Option<Uuid>,
    /// The repository that it tells of.
    pub repository_id: Option<Uuid>,
    /// What happened; its kind is `scan.completed` and the like.
    pub event: NewEvent,
}

impl NewProjectEvent {
    /// Something that went as planned with a repository.
    pub fn info(repository_id: Uuid, kind: &str, message: &str, data: JsonValue) -> Self {
        Self {
            scan_id: None,
            repository_id: Some(repository_id),
            event: NewEvent::info(kind, message, data),
        }
    }

    /// Something that failed with a repository.
    pub fn error(repository_id: Uuid, kind: &str, message: &str, data: JsonValue) -> Self {
        let mut event = Self::info(repository_id, kind, message, data);
        event.event.level = Level::Error;
        event
    }

    /// The same, about a scan of the repository.
    pub fn of_scan(mut self, scan_id: Uuid) -> Self {
        self.scan_id = Some(scan_id);
        self
    }
}

/// An event.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ProjectEventRow {
    /// Its number in the project, from 1.
    pub seq: i64,
    /// The scan that it tells of.
    pub scan_id: Option<Uuid>,
    /// The repository that it tells of, perhaps deleted since.
    pub repository_id: Option<Uuid>,
    /// Microseconds since 1970.
    pub at: i64,
    /// `info`, `warning` or `error`.
    pub level: String,
    /// A stable word.
    #[sqlx(rename = "type")]
    pub kind: String,
    /// A sentence.
    pub message: String,
    /// A JSON object.
    pub data: Json<JsonValue>,
}

/// Appends events in their order and wakes who waits for the project. To be called
/// behind everything else that the transaction locks.
///
/// # Errors
///
/// [`super::DbError::Gone`] if the project was deleted.
pub async fn append(tx: &mut Tx, project_id: Uuid, events: &[NewProjectEvent]) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let count = events.len() as i64;
    let taken: Option<(i64,)> = tx.fetch_optional(TAKE, args![project_id, count]).await?;
    let Some((last,)) = taken else { return Err(scans::gone()) };
    let at = now();
    let mut seq = last - count;
    for batch in events.chunks(BATCH) {
        let mut args = Args::default();
        let project = args.add(project_id);
        let at = args.add(at);
        let mut rows = Vec::with_capacity(batch.len());
        for NewProjectEvent { scan_id, repository_id, event } in batch {
            seq += 1;
            rows.push(format!(
                "({project}, {}, {}, {}, {at}, {}, {}, {}, {})",
                args.add(seq),
                args.add(*scan_id),
                args.add(*repository_id),
                args.add(event.level.as_str()),
                args.add(&event.kind),
                args.add(&event.message),
                args.add(Value::json(&event.data)),
            ));
        }
        let sql = format!(
            "INSERT INTO project_events (project_id, seq, scan_id, repository_id, at, level, \
             type, message, data) VALUES {}",
            rows.join(", ")
        );
        tx.execute_built(&sql, args).await?;
    }
    // Once for every PRUNE numbers, whatever the sizes of the steps.
    if last > KEPT && last / PRUNE != (last - count) / PRUNE {
        tx.execute(FORGET, args![project_id, last - KEPT]).await?;
    }
    tx.wake(project_id);
    Ok(())
}

/// Appends an event to the project of its repository. A repository that is gone has
/// nobody to tell.
pub async fn tell(tx: &mut Tx, repository_id: Uuid, event: NewProjectEvent) -> Result<()> {
    let row: Option<(Uuid,)> = tx.fetch_optional(PROJECT_OF, args![repository_id]).await?;
    match row {
        Some((project_id,)) => append(tx, project_id, &[event]).await,
        None => Ok(()),
    }
}

/// Up to `limit` events behind number `after`, oldest first. Who asks has made sure
/// that the project belongs to the caller.
pub async fn after(
    conn: impl Into<Conn<'_>>,
    project_id: Uuid,
    after: i64,
    limit: u32,
) -> Result<Vec<ProjectEventRow>> {
    conn.into().fetch_all(AFTER, args![project_id, after, limit]).await
}

/// The number of the newest event of this owner's project (0: there is none yet);
/// `None` if there is no such project.
pub async fn last(conn: impl Into<Conn<'_>>, owner_id: Uuid, id: Uuid) -> Result<Option<i64>> {
    let row: Option<(i64,)> = conn.into().fetch_optional(LAST, args![id, owner_id]).await?;
    Ok(row.map(|row| row.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::db::testing::{both, tenant};
    use crate::db::{DbError, new_id};

    fn event(n: i64) -> NewProjectEvent {
        NewProjectEvent::info(Uuid::nil(), "note", &n.to_string(), json!({ "n": n }))
    }

    /// Eight writers, each fifth transaction given up: neither hole nor double.
    #[tokio::test]
    async fn numbers_have_no_hole_and_no_double() {
        for test in both().await {
            let project = tenant(&test.db).await.project;
            let mut writers = tokio::task::JoinSet::new();
            for writer in 0..8_i64 {
                let db = test.db.clone();
                writers.spawn(async move {
                    for n in 0..10_i64 {
                        let mut tx = db.begin().await.unwrap();
                        append(&mut tx, project, &[event(n), event(n)]).await.unwrap();
                        if (writer + n) % 5 == 0 {
                            tx.rollback().await.unwrap();
                        } else {
                            tx.commit().await.unwrap();
                        }
                    }
                });
            }
            writers.join_all().await;
            let rows = after(&test.db, project, 0, 1_000).await.unwrap();
            let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
            assert_eq!(seqs, (1..=2 * (80 - 16)).collect::<Vec<_>>(), "{}", test.name);
        }
    }

    #[tokio::test]
    async fn old_events_are_forgotten_and_the_newest_are_kept() {
        for test in both().await {
            let tenant = tenant(&test.db).await;
            let mut n = 0;
            for step in [9_990, 400, 1, 700] {
                let events: Vec<_> = (0..step).map(|i| event(n + i + 1)).collect();
                n += step;
                let mut tx = test.db.begin().await.unwrap();
                append(&mut tx, tenant.project, &events).await.unwrap();
                tx.commit().await.unwrap();
                let rows = after(&test.db, tenant.project, 0, 20_000).await.unwrap();
                let kept = i64::try_from(rows.len()).unwrap();
                assert!(kept >= n.min(KEPT) && kept < KEPT + PRUNE, "{}: {kept}", test.name);
                let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
                assert_eq!(seqs, (n - kept + 1..=n).collect::<Vec<_>>(), "{}", test.name);
                assert!(rows.iter().all(|row| row.message == row.seq.to_string()));
            }
            // Behind a number that is gone: the oldest that is kept.
            let oldest = after(&test.db, tenant.project, 5, 1).await.unwrap();
            assert!(oldest[0].seq > 6, "{}", test.name);
            let last = last(&test.db, tenant.owner, tenant.project).await.unwrap();
            assert_eq!(last, Some(n), "{}", test.name);
        }
    }

    #[tokio::test]
    async fn who_is_gone_is_told_nothing() {
        for test in both().await {
            let tenant = tenant(&test.db).await;
            assert_eq!(last(&test.db, new_id(), tenant.project).await.unwrap(), None);
            let mut tx = test.db.begin().await.unwrap();
            tell(&mut tx, new_id(), event(1)).await.unwrap();
            tell(&mut tx, tenant.repository, event(1)).await.unwrap();
            let outcome = append(&mut tx, new_id(), &[event(1)]).await;
            assert!(matches!(outcome, Err(DbError::Gone(_))), "{}", test.name);
        }
    }
}
