//! Lanes: which slots of a worker take a job, and how they claim it.
//!
//! Work is claimed by whoever comes, and jobs that others hold are skipped. Fetches and
//! deliveries have limits that look at what runs: so much of one account, one of a series.
//! In PostgreSQL a statement does not see what another one does beside it, and two claims
//! at once could both find a limit kept that they break together. So there they take
//! turns: [`LOCK`] is held until the claim is committed.

use std::time::Duration;

use uuid::Uuid;

use super::{Job, JobKind, JsonValue, Row, parse_lane};
use crate::db::{Conn, Db, Result, Tx, args, now, statements};

/// Which slots of a worker take a job. Deliveries and fetches wait for other people's
/// servers; on slots of their own they never keep an ingest or a scan waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Everything that waits for nobody.
    Work,
    /// Ingests whose code comes from a URL.
    Fetches,
    /// Messages to webhooks.
    Deliveries,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Self; 3] = [Self::Work, Self::Fetches, Self::Deliveries];

    /// The name, in the database and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Fetches => "fetches",
            Self::Deliveries => "deliveries",
        }
    }

    /// The lane of a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.as_str() == text)
    }

    /// Whether a job of it may have to wait for the end of another one.
    pub const fn has_limits(self) -> bool {
        self.lock().is_some()
    }

    /// The lane of a job. That an ingest fetches stands in its payload: `source` is
    /// `git`, or `archive` asks for it.
    pub(super) fn of(kind: JobKind, payload: &JsonValue) -> Self {
        let fetches = || {
            payload.get("source").is_some_and(|source| source == "git")
                || payload.pointer("/archive/fetch").is_some_and(|fetch| fetch == true)
        };
        match kind {
            JobKind::Webhook => Self::Deliveries,
            JobKind::Ingest if fetches() => Self::Fetches,
            _ => Self::Work,
        }
    }

    /// The number of its lock, "sluice" and one of ours. `None`: its claims need no turns.
    const fn lock(self) -> Option<i64> {
        const SLUICE: i64 = 0x736c_7569_6365_0000;
        match self {
            Self::Work => None,
            Self::Fetches => Some(SLUICE + 1),
            Self::Deliveries => Some(SLUICE + 2),
        }
    }
}

/// Fetches of one account that run side by side, half of the slots of one worker: a URL
/// that drips holds up its own account and no other.
pub const FETCHES_OF_AN_ACCOUNT: i64 = 2;

/// Deliveries of one account that run side by side, a quarter of the slots of one worker.
pub const DELIVERIES_OF_AN_ACCOUNT: i64 = 4;

/// How often a claim asks for its turn, and the pause in between: turns are short.
const TURNS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(5);

/// A job of a lane whose account has not got its share already. What runs is little and
/// read once, however much waits.
macro_rules! due {
    ($lane:literal, $most:literal) => {
        concat!(
            "q.status = 'queued' AND q.lane = '",
            $lane,
            "' AND (q.owner_id IS NULL OR q.owner_id NOT IN ( \
                 SELECT r.owner_id FROM jobs r WHERE r.status = 'running' AND r.lane = '",
            $lane,
            "' AND r.owner_id IS NOT NULL GROUP BY r.owner_id HAVING count(*) >= ",
            $most,
            "))"
        )
    };
}
macro_rules! due_fetch {
    ($most:literal) => {
        due!("fetches", $most)
    };
}
/// Of a series, which is a webhook, one runs at a time: a receiver that answers slowly
/// holds up nobody else.
macro_rules! due_delivery {
    ($most:literal) => {
        concat!(
            due!("deliveries", $most),
            " AND (q.serial_id IS NULL OR q.serial_id NOT IN ( \
                 SELECT r.serial_id FROM jobs r WHERE r.status = 'running' \
                 AND r.lane = 'deliveries' AND r.serial_id IS NOT NULL))"
        )
    };
}
macro_rules! take {
    ($which:expr) => {
        concat!(
            "UPDATE jobs SET status = 'running', worker_id = $1, lease_until = $2, \
             fence = fence + 1, attempt = attempt + 1, started_at = $3 WHERE id = ",
            $which,
            " AND status = 'queued' \
             RETURNING id, kind, subject_id, owner_id, payload, attempt, max_attempts, fence"
        )
    };
}
macro_rules! claim {
    ($due:expr, $lock:literal) => {
        take!(concat!(
            "(SELECT q.id FROM jobs q WHERE q.run_at <= $3 AND ",
            $due,
            " ORDER BY q.run_at, q.id LIMIT 1",
            $lock,
            ")"
        ))
    };
}
macro_rules! next {
    ($due:expr) => {
        concat!("SELECT q.run_at FROM jobs q WHERE ", $due, " ORDER BY q.run_at, q.id LIMIT 1")
    };
}

statements! {
    CLAIM = pair(
        claim!("q.status = 'queued' AND q.lane = 'work'", ""),
        claim!("q.status = 'queued' AND q.lane = 'work'", " FOR UPDATE OF q SKIP LOCKED")
    );
    CLAIM_FETCH = pair(
        claim!(due_fetch!("$4"), ""),
        claim!(due_fetch!("$4"), " FOR UPDATE OF q SKIP LOCKED")
    );
    CLAIM_DELIVERY = pair(
        claim!(due_delivery!("$4"), ""),
        claim!(due_delivery!("$4"), " FOR UPDATE OF q SKIP LOCKED")
    );
    /// The row is named: the index of what waits is left alone, however much waits. Whoever
    /// changes the row at this moment is waited for.
    CLAIM_NAMED = concat(take!("$4 AND lane = 'work' AND run_at <= $3"));
    FATE = "SELECT run_at, lane FROM jobs WHERE id = $1 AND status = 'queued'";
    /// SQLite has one writer, whose turn it is. A process that freezes in its turn, or is
    /// cut off, has to give it back: PostgreSQL ends its transaction.
    LOCK = pair(
        "SELECT $1 <> 0, ''",
        "SELECT pg_try_advisory_xact_lock($1), \
         set_config('idle_in_transaction_session_timeout', '5s', true)"
    );
    NEXT = concat(next!("q.status = 'queued' AND q.lane = 'work'"));
    NEXT_FETCH = concat(next!(due_fetch!("$1")));
    NEXT_DELIVERY = concat(next!(due_delivery!("$1")));
}

/// Claims the job of [`Lane::Work`] that waits longest, for `lease` microseconds.
pub async fn claim(db: &Db, worker: &str, lease: i64) -> Result<Option<Job>> {
    claim_of(db, Lane::Work, worker, lease).await
}

/// The same for the jobs of one lane.
pub async fn claim_of(db: &Db, lane: Lane, worker: &str, lease: i64) -> Result<Option<Job>> {
    for _ in 0..TURNS {
        let mut tx = db.begin().await?;
        if let Some(lock) = lane.lock() {
            let (mine, _): (bool, String) = tx.fetch_one(LOCK, args![lock]).await?;
            if !mine {
                // No connection is held meanwhile.
                tx.rollback().await?;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }
        let row = claim_in(&mut tx, lane, worker, lease).await?;
        tx.commit().await?;
        return row.map(Job::try_from).transpose();
    }
    // Whoever has a turn wakes the next one if there is more.
    Ok(None)
}

async fn claim_in(tx: &mut Tx, lane: Lane, worker: &str, lease: i64) -> Result<Option<Row>> {
    let at = now();
    match lane {
        Lane::Work => tx.fetch_optional(CLAIM, args![worker, at + lease, at]).await,
        Lane::Fetches => {
            let args = args![worker, at + lease, at, FETCHES_OF_AN_ACCOUNT];
            tx.fetch_optional(CLAIM_FETCH, args).await
        }
        Lane::Deliveries => {
            let args = args![worker, at + lease, at, DELIVERIES_OF_AN_ACCOUNT];
            tx.fetch_optional(CLAIM_DELIVERY, args).await
        }
    }
}

/// What became of the wish for a job that is named.
#[derive(Debug, Clone)]
pub enum Named {
    /// It is claimed.
    Claimed(Box<Job>),
    /// It still waits and may run from then on (microseconds).
    Waits(i64),
    /// Nothing is to be done for it: it ended, is gone or held by somebody, is of a lane
    /// that it is not claimed from by name, or waits for the end of another one.
    Nothing,
}

/// Claims a job of [`Lane::Work`] by its name, for `lease` microseconds.
pub async fn claim_named(db: &Db, id: Uuid, worker: &str, lease: i64) -> Result<Named> {
    let at = now();
    let mut tx = db.begin().await?;
    let row: Option<Row> =
        tx.fetch_optional(CLAIM_NAMED, args![worker, at + lease, at, id]).await?;
    tx.commit().await?;
    match row {
        Some(row) => Ok(Named::Claimed(Box::new(Job::try_from(row)?))),
        None => fate(db, id).await,
    }
}

/// What becomes of a job that could not be claimed just now.
pub async fn fate(conn: impl Into<Conn<'_>>, id: Uuid) -> Result<Named> {
    let row: Option<(i64, String)> = conn.into().fetch_optional(FATE, args![id]).await?;
    let Some((run_at, lane)) = row else { return Ok(Named::Nothing) };
    // Of the lane without limits it may have become due since the claim.
    let waits = run_at > now() || !parse_lane(&lane)?.has_limits();
    Ok(if waits { Named::Waits(run_at) } else { Named::Nothing })
}

/// When the next queued job of [`Lane::Work`] may run (microseconds), if there is one.
pub async fn next_run(conn: impl Into<Conn<'_>>) -> Result<Option<i64>> {
    next_run_of(conn, Lane::Work).await
}

/// The same for the jobs of one lane.
pub async fn next_run_of(conn: impl Into<Conn<'_>>, lane: Lane) -> Result<Option<i64>> {
    let conn = conn.into();
    let row: Option<(i64,)> = match lane {
        Lane::Work => conn.fetch_optional(NEXT, args![]).await?,
        Lane::Fetches => conn.fetch_optional(NEXT_FETCH, args![FETCHES_OF_AN_ACCOUNT]).await?,
        Lane::Deliveries => {
            conn.fetch_optional(NEXT_DELIVERY, args![DELIVERIES_OF_AN_ACCOUNT]).await?
        }
    };
    Ok(row.map(|r| r.0))
}

#[cfg(test)]
mod tests;
