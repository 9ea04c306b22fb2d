//! Jobs: the truth about work, whichever queue carries it.
//!
//! A job is inserted in the transaction of the business row that it belongs to, so
//! that row and job exist both or not at all. A claim is a compare-and-set that
//! sets a lease and raises the fence; every later write of the worker carries its
//! fence and changes nothing once another worker has claimed the job.

pub(super) mod lanes;
pub(super) mod messages;

use serde_json::Value as JsonValue;
use sqlx::types::Json;
use uuid::Uuid;

use super::webhooks::RETRIES;
use super::{Conn, Db, DbError, Result, Tx, Value, args, new_id, now, statements};
pub use lanes::{
    DELIVERIES_OF_AN_ACCOUNT, FETCHES_OF_AN_ACCOUNT, Lane, Named, claim, claim_named, claim_of,
    fate, next_run, next_run_of,
};
use messages::PointerRow;
pub use messages::{Pointer, first_unsent, first_untaken, sent, take_unsent, take_untaken, unsend};

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// Snapshot of a pushed head; subject: the repository.
    Ingest,
    /// A scan; subject: the scan.
    Scan,
    /// Stored objects that nobody refers to any more; subject: what they belonged to.
    DeleteObjects,
    /// A message to a webhook; subject: the delivery.
    Webhook,
    /// What nothing refers to any more; subject: none.
    Cleanup,
}

impl JobKind {
    /// All kinds.
    pub const ALL: &[Self] =
        &[Self::Ingest, Self::Scan, Self::DeleteObjects, Self::Webhook, Self::Cleanup];

    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Scan => "scan",
            Self::DeleteObjects => "delete_objects",
            Self::Webhook => "webhook",
            Self::Cleanup => "cleanup",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| DbError::Defect(sqlx::Error::Decode(format!("job kind {text}").into())))
    }
}

/// A job to insert.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// What it does.
    pub kind: JobKind,
    /// To what.
    pub subject_id: Uuid,
    /// For whom; `None` once the owner's rows are gone.
    pub owner_id: Option<Uuid>,
    /// What the subject's row does not tell.
    pub payload: JsonValue,
}

/// A claimed job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its id.
    pub id: Uuid,
    /// What it does.
    pub kind: JobKind,
    /// To what.
    pub subject_id: Uuid,
    /// For whom.
    pub owner_id: Option<Uuid>,
    /// What the subject's row does not tell.
    pub payload: JsonValue,
    /// 1 for the first try.
    pub attempt: i64,
    /// The last try has this number.
    pub max_attempts: i64,
    /// To be carried by every write.
    pub fence: i64,
}

/// What became of the wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelOutcome {
    /// It had not begun and never will.
    Cancelled,
    /// It runs; its worker will hear of it with its next heartbeat.
    Requested,
    /// There is no job that could still be cancelled.
    Ended,
}

/// What a heartbeat learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heartbeat {
    /// Go on.
    Held,
    /// Somebody wishes the job to stop.
    CancelRequested,
    /// Another worker holds the job: stop, and write nothing.
    Lost,
}

/// How often a job is tried before it ends as failed.
pub const MAX_ATTEMPTS: i64 = 5;

/// The same of a kind. The tries that a receiver has come on top of those for errors of
/// our own: else the last ones would have none left.
fn max_attempts(kind: JobKind) -> i64 {
    match kind {
        JobKind::Webhook => MAX_ATTEMPTS + 1 + i64::try_from(RETRIES.len()).unwrap_or(0),
        _ => MAX_ATTEMPTS,
    }
}

statements! {
    INSERT = "INSERT INTO jobs (id, owner_id, kind, subject_id, payload, status, run_at, \
              max_attempts, cancel_requested, created_at, lane, serial_id) \
              VALUES ($1, $2, $3, $4, $5, 'queued', $6, $7, $8, $11, $9, $10)";
    POSTPONE = "UPDATE jobs SET run_at = $2, sent_at = NULL \
                WHERE serial_id = $1 AND status = 'queued' AND run_at < $2";
    WAITING = pair(
        "SELECT id, payload FROM jobs WHERE subject_id = $1 AND kind = $2 AND status = 'queued' \
         ORDER BY id LIMIT 1",
        "SELECT id, payload FROM jobs WHERE subject_id = $1 AND kind = $2 AND status = 'queued' \
         ORDER BY id LIMIT 1 FOR UPDATE"
    );
    MERGE = "UPDATE jobs SET payload = $2, run_at = $3, attempt = 0, lane = $4, sent_at = NULL \
             WHERE id = $1 RETURNING id, lane, fence, run_at";
    EXTEND = "UPDATE jobs SET lease_until = $3 \
              WHERE id = $1 AND fence = $2 AND status = 'running' RETURNING cancel_requested";
    HOLD = pair(
        "SELECT id FROM jobs WHERE id = $1 AND fence = $2 AND status = 'running'",
        "SELECT id FROM jobs WHERE id = $1 AND fence = $2 AND status = 'running' FOR UPDATE"
    );
    END = "UPDATE jobs SET status = $3, error = $4, finished_at = $5, lease_until = NULL \
           WHERE id = $1 AND fence = $2 AND status = 'running'";
    AGAIN = "UPDATE jobs SET status = 'queued', error = $3, run_at = $4, lease_until = NULL, \
             worker_id = NULL, sent_at = NULL \
             WHERE id = $1 AND fence = $2 AND status = 'running' \
             RETURNING id, lane, fence, run_at";
    RELEASE = "UPDATE jobs SET status = 'queued', run_at = $3, lease_until = NULL, \
               worker_id = NULL, attempt = attempt - 1, sent_at = NULL \
               WHERE id = $1 AND fence = $2 AND status = 'running'";
    RESCUE = "UPDATE jobs SET status = 'queued', run_at = $1, lease_until = NULL, \
              worker_id = NULL, error = 'the worker went away', sent_at = NULL \
              WHERE status = 'running' AND lease_until < $1 \
              RETURNING id, lane, fence, run_at";
    CANCEL_QUEUED = "UPDATE jobs SET status = 'cancelled', finished_at = $2 \
                     WHERE subject_id = $1 AND status = 'queued' AND kind <> 'delete_objects'";
    CANCEL_RUNNING = "UPDATE jobs SET cancel_requested = $2 \
                      WHERE subject_id = $1 AND status = 'running' AND kind <> 'delete_objects' \
                      RETURNING id";
    RESCUE_ALL = "UPDATE jobs SET status = 'queued', run_at = $1, lease_until = NULL, \
                  worker_id = NULL, error = 'the server went away', sent_at = NULL \
                  WHERE status = 'running' RETURNING id";
    PENDING = "SELECT count(*) FROM jobs WHERE status IN ('queued', 'running')";
    DROP_ENDED = "DELETE FROM jobs WHERE status IN ('done', 'cancelled') AND finished_at < $1";
    SCHEDULED = "SELECT id FROM jobs WHERE subject_id = $1 AND kind = 'cleanup' \
                 AND (status IN ('queued', 'running') OR created_at > $2) LIMIT 1";
    WORKERS = "SELECT id, host, version, started_at, last_heartbeat_at FROM workers \
               ORDER BY started_at DESC, id LIMIT $1";
    RUNNING = "SELECT id, kind, subject_id, started_at, attempt, worker_id FROM jobs \
               WHERE status = 'running' ORDER BY started_at, id LIMIT $1";
    QUEUED = "SELECT kind, count(*) AS queued, min(run_at) AS oldest FROM jobs \
              WHERE status = 'queued' GROUP BY kind ORDER BY kind";
    DEAD = "SELECT kind, count(*) FROM jobs WHERE status = 'failed' GROUP BY kind ORDER BY kind";
    SEEN = "INSERT INTO workers (id, host, version, started_at, last_heartbeat_at) \
            VALUES ($1, $2, $3, $4, $4) ON CONFLICT (id) DO UPDATE SET last_heartbeat_at = $4";
    GONE = "DELETE FROM workers WHERE id = $1";
}

fn parse_lane(text: &str) -> Result<Lane> {
    Lane::parse(text)
        .ok_or_else(|| DbError::Defect(sqlx::Error::Decode(format!("lane {text}").into())))
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    kind: String,
    subject_id: Uuid,
    owner_id: Option<Uuid>,
    payload: Json<JsonValue>,
    attempt: i64,
    max_attempts: i64,
    fence: i64,
}

impl TryFrom<Row> for Job {
    type Error = DbError;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: row.id,
            kind: JobKind::parse(&row.kind)?,
            subject_id: row.subject_id,
            owner_id: row.owner_id,
            payload: row.payload.0,
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            fence: row.fence,
        })
    }
}

/// Inserts a job that may run at once, and wakes a worker when `tx` commits.
pub async fn insert(tx: &mut Tx, job: &NewJob) -> Result<Uuid> {
    insert_serial(tx, job, None, now()).await
}

/// The same for a job that never runs beside another one of the same series, and not
/// before `run_at` (microseconds).
pub(crate) async fn insert_serial(
    tx: &mut Tx,
    job: &NewJob,
    serial_id: Option<Uuid>,
    run_at: i64,
) -> Result<Uuid> {
    let id = new_id();
    let lane = Lane::of(job.kind, &job.payload);
    tx.execute(
        INSERT,
        args![
            id,
            job.owner_id,
            job.kind.as_str(),
            job.subject_id,
            Value::json(&job.payload),
            run_at,
            max_attempts(job.kind),
            false,
            lane.as_str(),
            serial_id,
            now()
        ],
    )
    .await?;
    tx.wake_workers();
    tx.tell(Pointer { id, lane, fence: 0, run_at });
    Ok(id)
}

/// Lets no waiting job of a series run before a time (microseconds).
pub(crate) async fn postpone(tx: &mut Tx, serial_id: Uuid, until: i64) -> Result<()> {
    tx.execute(POSTPONE, args![serial_id, until]).await?;
    Ok(())
}

/// Inserts a job, or hands its payload to the one of its kind that still waits for
/// the same subject: as that has not begun, it does the work of both. `merge` takes
/// over into the new payload what the old one asked for. A job that runs is left
/// alone, since it may have read what has changed since.
pub async fn insert_or_merge(
    tx: &mut Tx,
    mut job: NewJob,
    merge: impl FnOnce(&JsonValue, &mut JsonValue),
) -> Result<Uuid> {
    let waiting: Option<(Uuid, Json<JsonValue>)> =
        tx.fetch_optional(WAITING, args![job.subject_id, job.kind.as_str()]).await?;
    let Some((id, payload)) = waiting else { return insert(tx, &job).await };
    merge(&payload.0, &mut job.payload);
    let lane = Lane::of(job.kind, &job.payload).as_str();
    let row: Option<PointerRow> =
        tx.fetch_optional(MERGE, args![id, Value::json(&job.payload), now(), lane]).await?;
    if let Some(row) = row {
        tx.tell(Pointer::read(row)?);
    }
    tx.wake_workers();
    Ok(id)
}

/// Extends the lease and reads the wish to cancel.
pub async fn heartbeat(db: &Db, id: Uuid, fence: i64, lease: i64) -> Result<Heartbeat> {
    let mut tx = db.begin().await?;
    let row: Option<(bool,)> = tx.fetch_optional(EXTEND, args![id, fence, now() + lease]).await?;
    tx.commit().await?;
    Ok(match row {
        Some((false,)) => Heartbeat::Held,
        Some((true,)) => Heartbeat::CancelRequested,
        None => Heartbeat::Lost,
    })
}

/// Makes sure, inside a transaction, that the job is still held with this fence;
/// in PostgreSQL the row stays locked until the transaction ends. Every write of a
/// worker begins with it.
///
/// # Errors
///
/// [`DbError::Fenced`] if another worker holds the job, or nobody.
pub async fn hold(tx: &mut Tx, id: Uuid, fence: i64) -> Result<()> {
    match tx.fetch_optional::<(Uuid,)>(HOLD, args![id, fence]).await? {
        Some(_) => Ok(()),
        None => Err(DbError::Fenced),
    }
}

/// How a job ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// As planned.
    Done,
    /// Somebody wished it.
    Cancelled,
    /// For good.
    Failed(String),
    /// What the user gave cannot be used, which is told where the user looks. For the
    /// operator it is done: nothing is left to look after.
    Refused(String),
}

/// Ends a job, in the transaction that writes its outcome.
///
/// # Errors
///
/// [`DbError::Fenced`] if the job is not held with this fence.
pub async fn end(tx: &mut Tx, id: Uuid, fence: i64, end: &End) -> Result<()> {
    let (status, error) = match end {
        End::Done => ("done", None),
        End::Cancelled => ("cancelled", None),
        End::Failed(error) => ("failed", Some(error.as_str())),
        End::Refused(error) => ("done", Some(error.as_str())),
    };
    let rows = tx.execute(END, args![id, fence, status, error, now()]).await?;
    if rows == 1 { Ok(()) } else { Err(DbError::Fenced) }
}

/// Puts a job back to be tried again after `delay` microseconds.
pub async fn retry(tx: &mut Tx, id: Uuid, fence: i64, error: &str, delay: i64) -> Result<()> {
    let row: Option<PointerRow> =
        tx.fetch_optional(AGAIN, args![id, fence, error, now() + delay]).await?;
    let Some(row) = row else { return Err(DbError::Fenced) };
    tx.wake_workers();
    tx.tell(Pointer::read(row)?);
    Ok(())
}

/// Gives a job back untouched: the process stops, and the try does not count. Nobody is
/// told of it here: whoever holds a message of the job shows it again.
pub async fn release(db: &Db, id: Uuid, fence: i64) -> Result<()> {
    put_off(db, id, fence, 0).await
}

/// The same for a job that cannot be done now, whoever tries: it may run again after
/// `delay` microseconds.
pub async fn put_off(db: &Db, id: Uuid, fence: i64, delay: i64) -> Result<()> {
    let mut tx = db.begin().await?;
    tx.execute(RELEASE, args![id, fence, now() + delay]).await?;
    tx.wake_workers();
    tx.commit().await
}

/// Returns the jobs whose lease ran out to the queue; answers how many.
pub async fn rescue(db: &Db) -> Result<usize> {
    let mut tx = db.begin().await?;
    let rows: Vec<PointerRow> = tx.fetch_all(RESCUE, args![now()]).await?;
    let rescued = rows.len();
    for row in rows {
        tx.tell(Pointer::read(row)?);
    }
    if rescued > 0 {
        tx.wake_workers();
    }
    tx.commit().await?;
    Ok(rescued)
}

/// Returns every running job to the queue. Only for a process that knows to be the
/// only one on this database, before it starts its workers.
pub async fn rescue_all(db: &Db) -> Result<usize> {
    let mut tx = db.begin().await?;
    let rows: Vec<(Uuid,)> = tx.fetch_all(RESCUE_ALL, args![now()]).await?;
    tx.commit().await?;
    Ok(rows.len())
}

/// Cancels the ingest or scan of a subject. A worker of this process hears of it at
/// once, any other with its next heartbeat.
pub async fn cancel(tx: &mut Tx, subject_id: Uuid) -> Result<CancelOutcome> {
    if tx.execute(CANCEL_QUEUED, args![subject_id, now()]).await? > 0 {
        return Ok(CancelOutcome::Cancelled);
    }
    let running: Vec<(Uuid,)> = tx.fetch_all(CANCEL_RUNNING, args![subject_id, true]).await?;
    for (job,) in &running {
        tx.wake(*job);
    }
    Ok(if running.is_empty() { CancelOutcome::Ended } else { CancelOutcome::Requested })
}

/// How many jobs have not ended.
pub async fn pending(conn: impl Into<Conn<'_>>) -> Result<i64> {
    Ok(conn.into().fetch_one::<(i64,)>(PENDING, args![]).await?.0)
}

/// Forgets jobs that ended before a time (microseconds); failed ones stay.
pub async fn drop_ended(db: &Db, before: i64) -> Result<u64> {
    let mut tx = db.begin().await?;
    let rows = tx.execute(DROP_ENDED, args![before]).await?;
    tx.commit().await?;
    Ok(rows)
}

/// Inserts a clean-up unless one waits, runs or was inserted in the last `every`
/// microseconds.
pub async fn schedule_cleanup(db: &Db, every: i64) -> Result<()> {
    let mut tx = db.begin().await?;
    let nobody = Uuid::nil();
    if tx.fetch_optional::<(Uuid,)>(SCHEDULED, args![nobody, now() - every]).await?.is_none() {
        let payload = JsonValue::Object(serde_json::Map::new());
        let job = NewJob { kind: JobKind::Cleanup, subject_id: nobody, owner_id: None, payload };
        insert(&mut tx, &job).await?;
    }
    tx.commit().await
}

/// A process that runs jobs.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct WorkerRow {
    /// Its id.
    pub id: String,
    /// Name of its machine.
    pub host: String,
    /// Version of its program.
    pub version: String,
    /// Microseconds.
    pub started_at: i64,
    /// Microseconds.
    pub last_heartbeat_at: i64,
}

/// A job that runs.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct RunningJob {
    /// Its id.
    pub id: Uuid,
    /// What it does.
    pub kind: String,
    /// To what.
    pub subject_id: Uuid,
    /// This try, microseconds.
    pub started_at: Option<i64>,
    /// 1 for the first try.
    pub attempt: i64,
    /// Who runs it.
    pub worker_id: Option<String>,
}

/// Jobs of one kind that wait.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Waiting {
    /// What they do.
    pub kind: String,
    /// How many.
    pub queued: i64,
    /// When the first of them may or might have run, microseconds.
    pub oldest: i64,
}

/// Workers, the youngest first.
pub async fn workers(conn: impl Into<Conn<'_>>, limit: u32) -> Result<Vec<WorkerRow>> {
    conn.into().fetch_all(WORKERS, args![limit]).await
}

/// Jobs that run, the oldest first.
pub async fn running(conn: impl Into<Conn<'_>>, limit: u32) -> Result<Vec<RunningJob>> {
    conn.into().fetch_all(RUNNING, args![limit]).await
}

/// Jobs that wait, by kind.
pub async fn waiting(conn: impl Into<Conn<'_>>) -> Result<Vec<Waiting>> {
    conn.into().fetch_all(QUEUED, args![]).await
}

/// Jobs that were given up, by kind.
pub async fn dead(conn: impl Into<Conn<'_>>) -> Result<Vec<(String, i64)>> {
    conn.into().fetch_all(DEAD, args![]).await
}

/// Notes that a worker is alive.
pub async fn worker_seen(db: &Db, id: &str, host: &str, version: &str) -> Result<()> {
    let mut tx = db.begin().await?;
    tx.execute(SEEN, args![id, host, version, now()]).await?;
    tx.commit().await
}

/// Notes that a worker stopped.
pub async fn worker_gone(db: &Db, id: &str) -> Result<()> {
    let mut tx = db.begin().await?;
    tx.execute(GONE, args![id]).await?;
    tx.commit().await
}
