//! Whether PostgreSQL is there.
//!
//! A database that is away fails in three ways: it refuses at once, it hangs (a cable
//! is out, a proxy swallows everything), or it is slow. Only the first one ends by
//! itself soon. So one task of each process, the heart, asks it something every second
//! on a connection of its own. When it gets no answer, and no statement of anybody does
//! either, the gate closes: what waits for the database fails at once as
//! [`DbError::Unavailable`], what comes is refused before it waits, and the connections,
//! of which nobody can tell which are dead, are left behind for a new pool. The heart
//! goes on asking and opens the gate with the first answer. So a request is answered
//! within seconds whatever hangs, nothing piles up, and nothing has to be started anew.
//!
//! It is logged once when the gate closes and once when it opens: whoever only waits
//! for the database need not say so again ([`super::Db::is_away`]).
//!
//! The embedded database is a file and has no heart; of its gate only the bound on those
//! who wait counts.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgPool};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::{ACQUIRE, DbError, Result};

/// Between two questions of the heart.
const BEAT: Duration = Duration::from_secs(1);
/// The same while the gate is closed.
const AWAY: Duration = Duration::from_millis(500);
/// How long an answer may take, with a new connection if need be.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many may be inside, waiting for a connection or for an answer.
const MOST_INSIDE: usize = 4096;
/// How long old connections may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(10);

/// See the [module](self). Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    open: watch::Sender<bool>,
    inside: AtomicUsize,
    began: Instant,
    /// When a statement succeeded last: milliseconds after `began`.
    answered: AtomicU64,
    /// Wakes the heart: somebody's connection broke.
    doubt: Notify,
}

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Inner {
            open: watch::Sender::new(true),
            inside: AtomicUsize::new(0),
            began: Instant::now(),
            answered: AtomicU64::new(0),
            doubt: Notify::new(),
        }))
    }
}

/// Somebody inside, until it is dropped.
#[derive(Debug)]
pub(super) struct Inside<'a>(&'a AtomicUsize);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn away(why: &'static str) -> DbError {
    DbError::Unavailable(sqlx::Error::Io(io::Error::new(io::ErrorKind::NotConnected, why)))
}

impl Gate {
    /// True while the gate is open.
    pub(super) fn is_open(&self) -> bool {
        *self.0.open.borrow()
    }

    /// Waits until the gate is closed.
    pub(super) async fn closed(&self) {
        // It fails only without a sender, which `self` holds.
        let _ = self.0.open.subscribe().wait_for(|open| !open).await;
    }

    /// Waits until the gate is open.
    pub(super) async fn opened(&self) {
        let _ = self.0.open.subscribe().wait_for(|open| *open).await;
    }

    /// Lets one in who is going to wait, unless too many are there already.
    pub(super) fn enter(&self) -> Result<Inside<'_>> {
        let inside = Inside(&self.0.inside);
        if self.0.inside.fetch_add(1, Ordering::Relaxed) >= MOST_INSIDE {
            return Err(away("too much waits for it already"));
        }
        Ok(inside)
    }

    /// Does something on the database, unless it is away or goes away meanwhile. Then
    /// nobody knows whether it was done.
    pub(super) async fn pass<T>(&self, work: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
        if !self.is_open() {
            return Err(away("it does not answer"));
        }
        let _inside = self.enter()?;
        tokio::select! {
            biased;
            outcome = work => {
                match &outcome {
                    Ok(_) => self.note_answer(),
                    Err(sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut) => {
                        self.0.doubt.notify_one();
                    }
                    Err(_) => {}
                }
                Ok(outcome?)
            }
            () = self.closed() => Err(away("it does not answer")),
        }
    }

    fn note_answer(&self) {
        self.0.answered.store(self.age(Instant::now()), Ordering::Relaxed);
    }

    fn age(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.0.began).as_millis() as u64
    }

    /// True if a statement of anybody succeeded since then.
    fn answered_since(&self, at: Instant) -> bool {
        self.0.answered.load(Ordering::Relaxed) > self.age(at)
    }

    fn set(&self, open: bool) {
        self.0.open.send_replace(open);
    }
}

/// The connections to PostgreSQL, behind their gate. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Postgres {
    pool: Arc<RwLock<PgPool>>,
    gate: Gate,
}

fn pool_options() -> PgPoolOptions {
    PgPoolOptions::new().max_connections(16).acquire_timeout(ACQUIRE).after_connect(|conn, _| {
        Box::pin(async move {
            // A process that freezes or is cut off within a transaction holds rows that
            // others wait for: PostgreSQL gives them back. No transaction of ours waits for
            // anything but the database.
            conn.execute("SET idle_in_transaction_session_timeout = '30s'").await?;
            Ok(())
        })
    })
}

impl Postgres {
    /// Connects, and starts the heart.
    pub(super) async fn open(options: PgConnectOptions, gate: Gate) -> Result<Self> {
        let pool = pool_options().connect_with(options.clone()).await?;
        let pool = Arc::new(RwLock::new(pool));
        tokio::spawn(beat(options, gate.clone(), Arc::downgrade(&pool)));
        Ok(Self { pool, gate })
    }

    /// The pool of now.
    pub(super) fn pool(&self) -> PgPool {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Gives all connections back, as far as they can be reached.
    pub(super) async fn close(&self) {
        let _ = timeout(GOODBYE, self.pool().close()).await;
    }
}

/// The heart; it ends with the pool.
async fn beat(options: PgConnectOptions, gate: Gate, pool: Weak<RwLock<PgPool>>) {
    let mut connection = None;
    let mut closed_at = None;
    loop {
        let pause = if closed_at.is_some() { AWAY } else { BEAT };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = gate.0.doubt.notified(), if closed_at.is_none() => {}
        }
        let Some(pool) = pool.upgrade() else { return };
        if pool.read().unwrap_or_else(PoisonError::into_inner).is_closed() {
            return;
        }
        let asked = Instant::now();
        let outcome = match timeout(PATIENCE, ask(&options, &mut connection)).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        match (outcome, closed_at) {
            (Ok(()), None) => {}
            (Ok(()), Some(since)) => {
                closed_at = None;
                gate.set(true);
                let seconds = asked.saturating_duration_since(since).as_secs();
                tracing::info!(seconds, "the database is back");
            }
            (Err(why), state) => {
                connection = None;
                // A connection that hangs is no database that is away.
                if state.is_some() || gate.answered_since(asked) {
                    continue;
                }
                closed_at = Some(asked);
                tracing::error!(
                    "the database is away: {why}; requests are refused and jobs wait until it is \
                     back"
                );
                let fresh = pool_options().connect_lazy_with(options.clone());
                let mut slot = pool.write().unwrap_or_else(PoisonError::into_inner);
                let old = std::mem::replace(&mut *slot, fresh);
                drop(slot);
                gate.set(false);
                tokio::spawn(async move { timeout(GOODBYE, old.close()).await });
            }
        }
    }
}

/// One question, on the connection of before or on a new one.
async fn ask(
    options: &PgConnectOptions,
    connection: &mut Option<PgConnection>,
) -> sqlx::Result<()> {
    // Taken out: if the time runs out on it, nobody uses it again.
    if let Some(mut old) = connection.take()
        && old.execute("SELECT 1").await.is_ok()
    {
        *connection = Some(old);
        return Ok(());
    }
    let mut new = options.connect().await?;
    new.ping().await?;
    *connection = Some(new);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gate_that_closes_ends_what_waits_and_lets_nobody_in() {
        let gate = Gate::default();
        let waiting = {
            let gate = gate.clone();
            tokio::spawn(async move { gate.pass(std::future::pending::<sqlx::Result<()>>()).await })
        };
        tokio::task::yield_now().await;
        gate.set(false);
        let ended = timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
        assert!(matches!(ended, Err(DbError::Unavailable(_))), "{ended:?}");
        let refused = gate.pass(async { Ok(()) }).await;
        assert!(matches!(refused, Err(DbError::Unavailable(_))), "{refused:?}");
        assert_eq!(gate.0.inside.load(Ordering::Relaxed), 0);
        gate.set(true);
        gate.pass(async { Ok(()) }).await.unwrap();
        assert!(gate.answered_since(gate.0.began) || gate.age(Instant::now()) == 0);
    }

    #[tokio::test]
    async fn no_more_wait_than_may() {
        let gate = Gate::default();
        let inside: Vec<_> = (0..MOST_INSIDE).map(|_| gate.enter().unwrap()).collect();
        assert!(matches!(gate.enter(), Err(DbError::Unavailable(_))));
        drop(inside);
        assert!(gate.enter().is_ok());
        assert_eq!(gate.0.inside.load(Ordering::Relaxed), 0);
    }
}
