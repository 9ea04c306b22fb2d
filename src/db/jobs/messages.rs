//! What is known of the messages that tell of jobs (see [`crate::queue`]): a job that
//! waits has been sent or not, and since when.
//!
//! A note of a send names the fence: whoever claimed the job meanwhile and gave it back
//! has made another wait of it, which needs a message of its own.

use uuid::Uuid;

use super::{Lane, parse_lane};
use crate::db::{Args, Conn, Db, Result, Value, args, statements};

/// Points to a job that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    /// The job.
    pub id: Uuid,
    /// Which slots take it.
    pub lane: Lane,
    /// Of the job, as long as it waits this time.
    pub fence: i64,
    /// When it may run, in microseconds.
    pub run_at: i64,
}

/// How a statement of this file, and some others, answer a pointer.
pub(super) type PointerRow = (Uuid, String, i64, i64);

impl Pointer {
    pub(super) fn read((id, lane, fence, run_at): PointerRow) -> Result<Self> {
        Ok(Self { id, lane: parse_lane(&lane)?, fence, run_at })
    }
}

/// In PostgreSQL the rows are chosen before the update begins: as a mere part of it they
/// might be chosen anew for each row, and more than the limit.
macro_rules! take {
    ($which:literal, $order:literal, $open:literal, $lock:literal) => {
        concat!(
            "UPDATE jobs SET sent_at = $1 WHERE id ",
            $open,
            "(SELECT q.id FROM jobs q WHERE q.status = 'queued' AND ",
            $which,
            " ORDER BY ",
            $order,
            " LIMIT $3",
            $lock,
            ") AND status = 'queued' RETURNING id, lane, fence, run_at"
        )
    };
}
macro_rules! unsent {
    ($open:literal, $lock:literal) => {
        take!("q.sent_at IS NULL AND q.run_at <= $2", "q.run_at", $open, $lock)
    };
}
macro_rules! untaken {
    ($open:literal, $lock:literal) => {
        take!(
            "q.lane = 'work' AND q.sent_at IS NOT NULL AND q.sent_at <= $2",
            "q.sent_at",
            $open,
            $lock
        )
    };
}

statements! {
    FIRST_UNSENT = "SELECT run_at FROM jobs WHERE status = 'queued' AND sent_at IS NULL \
                    ORDER BY run_at LIMIT 1";
    TAKE_UNSENT = pair(
        unsent!("IN ", ""),
        unsent!("= ANY (ARRAY", " FOR UPDATE SKIP LOCKED)")
    );
    TAKE_UNTAKEN = pair(
        untaken!("IN ", ""),
        untaken!("= ANY (ARRAY", " FOR UPDATE SKIP LOCKED)")
    );
    FIRST_UNTAKEN = "SELECT sent_at FROM jobs WHERE status = 'queued' AND lane = 'work' \
                     AND sent_at IS NOT NULL ORDER BY sent_at LIMIT 1";
    UNSEND = "UPDATE jobs SET sent_at = NULL \
              WHERE id = $1 AND fence = $2 AND status = 'queued' AND sent_at = $3";
}

/// When the first job may run that no message was sent of.
pub async fn first_unsent(conn: impl Into<Conn<'_>>) -> Result<Option<i64>> {
    let row: Option<(i64,)> = conn.into().fetch_optional(FIRST_UNSENT, args![]).await?;
    Ok(row.map(|row| row.0))
}

/// Since when the first of the jobs of [`Lane::Work`] that were sent has not been taken.
pub async fn first_untaken(conn: impl Into<Conn<'_>>) -> Result<Option<i64>> {
    let row: Option<(i64,)> = conn.into().fetch_optional(FIRST_UNTAKEN, args![]).await?;
    Ok(row.map(|row| row.0))
}

/// Takes over to send of jobs that could run at `due` (microseconds) and were not sent:
/// they count as sent at `at` from here on, so that nobody else sends of them too.
pub async fn take_unsent(db: &Db, at: i64, due: i64, limit: i64) -> Result<Vec<Pointer>> {
    let mut tx = db.begin().await?;
    let rows: Vec<PointerRow> = tx.fetch_all(TAKE_UNSENT, args![at, due, limit]).await?;
    tx.commit().await?;
    rows.into_iter().map(Pointer::read).collect()
}

/// The same of jobs of [`Lane::Work`] that were sent up to `sent` and still wait.
pub async fn take_untaken(db: &Db, at: i64, sent: i64, limit: i64) -> Result<Vec<Pointer>> {
    let mut tx = db.begin().await?;
    let rows: Vec<PointerRow> = tx.fetch_all(TAKE_UNTAKEN, args![at, sent, limit]).await?;
    tx.commit().await?;
    rows.into_iter().map(Pointer::read).collect()
}

/// Notes that these (id and fence) are sent; of those that may not run yet, when they may.
pub async fn sent(db: &Db, at: i64, which: &[(Uuid, i64)]) -> Result<()> {
    if which.is_empty() {
        return Ok(());
    }
    let mut sql = String::from(
        "UPDATE jobs SET sent_at = CASE WHEN run_at > $1 THEN run_at ELSE $1 END \
         WHERE status = 'queued' AND sent_at IS NULL AND (id, fence) IN (VALUES ",
    );
    let mut args = Args::from(vec![Value::from(at)]);
    for (n, (id, fence)) in which.iter().enumerate() {
        if n > 0 {
            sql.push_str(", ");
        }
        let (id, fence) = (args.add(*id), args.add(*fence));
        sql.push_str(&format!("({id}, {fence})"));
    }
    sql.push(')');
    let mut tx = db.begin().await?;
    tx.execute_built(&sql, args).await?;
    tx.commit().await
}

/// Takes back that these were sent at `at`.
pub async fn unsend(db: &Db, at: i64, which: &[Pointer]) -> Result<()> {
    let mut tx = db.begin().await?;
    for pointer in which {
        tx.execute(UNSEND, args![pointer.id, pointer.fence, at]).await?;
    }
    tx.commit().await
}

#[cfg(test)]
mod tests;
