//! Sign-ins: sessions, their refresh tokens, and failed tries.
//!
//! A session is good as long as its row has no end and its account is not
//! disabled; access tokens only name it. Of a session's refresh tokens one is
//! unused; taking it is a compare-and-set, so that of two that present the same
//! one the second is always a reuse.

use sqlx::types::Json;
use uuid::Uuid;

use super::{Conn, Db, Result, Tx, args, new_id, now, statements};

/// Life of a session after its last refresh, in microseconds: 30 days.
pub const SESSION_MICROS: i64 = 30 * 24 * 3600 * 1_000_000;

/// Time in which failed sign-ins are counted, in microseconds: 15 minutes.
pub const FAILURE_WINDOW: i64 = 15 * 60 * 1_000_000;

statements! {
    INSERT = "INSERT INTO auth_sessions (id, owner_id, created_at, expires_at) \
              VALUES ($1, $2, $3, $4)";
    INSERT_REFRESH = "INSERT INTO refresh_tokens (hash, session_id, created_at) \
                      VALUES ($1, $2, $3)";
    CALLER = "SELECT u.email, u.groups, s.expires_at FROM auth_sessions s \
              JOIN users u ON u.id = s.owner_id \
              WHERE s.id = $1 AND s.owner_id = $2 AND s.ended_at IS NULL \
              AND u.disabled_at IS NULL";
    USE = "UPDATE refresh_tokens SET used_at = $2 WHERE hash = $1 AND used_at IS NULL";
    OF_REFRESH = "SELECT s.id, s.owner_id, s.expires_at, s.ended_at, u.disabled_at \
                  FROM refresh_tokens r JOIN auth_sessions s ON s.id = r.session_id \
                  JOIN users u ON u.id = s.owner_id WHERE r.hash = $1";
    EXTEND = "UPDATE auth_sessions SET expires_at = $2 WHERE id = $1 AND ended_at IS NULL";
    FORGET_USED = "DELETE FROM refresh_tokens WHERE session_id = $1 AND used_at < $2";
    END = "UPDATE auth_sessions SET ended_at = $2, end_reason = $3 \
           WHERE id = $1 AND ended_at IS NULL";
    END_ALL = "UPDATE auth_sessions SET ended_at = $2, end_reason = $3 \
               WHERE owner_id = $1 AND ended_at IS NULL";
    DROP_DEAD = "DELETE FROM auth_sessions WHERE ended_at < $1 OR expires_at < $1";
    FAILED = "INSERT INTO login_failures (key, failures, window_started_at) VALUES ($1, 1, $2) \
              ON CONFLICT (key) DO UPDATE SET \
              failures = CASE WHEN login_failures.window_started_at <= $3 THEN 1 \
                         ELSE login_failures.failures + 1 END, \
              window_started_at = CASE WHEN login_failures.window_started_at <= $3 THEN $2 \
                                  ELSE login_failures.window_started_at END";
    FAILURES = "SELECT failures, window_started_at FROM login_failures \
                WHERE key = $1 AND window_started_at > $2";
    SUCCEEDED = "DELETE FROM login_failures WHERE key = $1";
    DROP_FAILURES = "DELETE FROM login_failures WHERE window_started_at <= $1";
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Its owner wished it.
    Logout,
    /// A used refresh token was presented: somebody else has a copy.
    Reuse,
    /// The password was changed.
    Password,
    /// The account was disabled.
    Disabled,
}

impl EndReason {
    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Reuse => "reuse",
            Self::Password => "password",
            Self::Disabled => "disabled",
        }
    }
}

/// The account behind a session that is good.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct SessionUser {
    /// E-mail of the account.
    pub email: String,
    /// Its groups.
    pub groups: Json<Vec<String>>,
    /// When the session ends if nobody refreshes it (microseconds).
    pub expires_at: i64,
}

/// Begins a session with its first refresh token.
pub async fn create(tx: &mut Tx, owner_id: Uuid, refresh_hash: &[u8]) -> Result<Uuid> {
    let (id, at) = (new_id(), now());
    tx.execute(INSERT, args![id, owner_id, at, at + SESSION_MICROS]).await?;
    tx.execute(INSERT_REFRESH, args![refresh_hash, id, at]).await?;
    Ok(id)
}

/// The account of a session, unless the session ended or the account is disabled.
pub async fn caller(
    conn: impl Into<Conn<'_>>,
    id: Uuid,
    owner_id: Uuid,
) -> Result<Option<SessionUser>> {
    conn.into().fetch_optional(CALLER, args![id, owner_id]).await
}

/// What became of a refresh token that was presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// It was good; the new one is in its place.
    Rotated {
        /// The session that goes on.
        session_id: Uuid,
        /// Whose it is.
        owner_id: Uuid,
    },
    /// It had been used before; its session is ended now.
    Reused {
        /// The session that ended.
        session_id: Uuid,
        /// Whose it was.
        owner_id: Uuid,
    },
    /// There is none, or its session ended, or its account is disabled.
    Refused,
}

#[derive(sqlx::FromRow)]
struct Refreshed {
    id: Uuid,
    owner_id: Uuid,
    expires_at: i64,
    ended_at: Option<i64>,
    disabled_at: Option<i64>,
}

/// Takes a refresh token and puts a new one in its place; the session then lives
/// for [`SESSION_MICROS`] more. Commit whatever the answer is.
pub async fn rotate(tx: &mut Tx, presented: &[u8], next: &[u8]) -> Result<Rotation> {
    let at = now();
    // The write comes first: it is what two that present the same token race for.
    let fresh = tx.execute(USE, args![presented, at]).await? == 1;
    let Some(row) = tx.fetch_optional::<Refreshed>(OF_REFRESH, args![presented]).await? else {
        return Ok(Rotation::Refused);
    };
    if row.ended_at.is_some() || row.disabled_at.is_some() || row.expires_at <= at {
        return Ok(Rotation::Refused);
    }
    let (session_id, owner_id) = (row.id, row.owner_id);
    if !fresh {
        end(tx, session_id, EndReason::Reuse).await?;
        return Ok(Rotation::Reused { session_id, owner_id });
    }
    if tx.execute(EXTEND, args![session_id, at + SESSION_MICROS]).await? == 0 {
        return Ok(Rotation::Refused);
    }
    tx.execute(INSERT_REFRESH, args![next, session_id, at]).await?;
    // A token this old could not be presented with success anyway.
    tx.execute(FORGET_USED, args![session_id, at - SESSION_MICROS]).await?;
    Ok(Rotation::Rotated { session_id, owner_id })
}

/// Ends a session, unless it has ended.
pub async fn end(tx: &mut Tx, id: Uuid, reason: EndReason) -> Result<()> {
    tx.forget_callers();
    tx.execute(END, args![id, now(), reason.as_str()]).await?;
    Ok(())
}

/// Ends all sessions of an account; answers how many.
pub async fn end_all(tx: &mut Tx, owner_id: Uuid, reason: EndReason) -> Result<u64> {
    tx.forget_callers();
    tx.execute(END_ALL, args![owner_id, now(), reason.as_str()]).await
}

/// Forgets sessions that ended or expired before a time (microseconds).
pub async fn drop_dead(db: &Db, before: i64) -> Result<u64> {
    let mut tx = db.begin().await?;
    let rows = tx.execute(DROP_DEAD, args![before]).await?;
    tx.commit().await?;
    Ok(rows)
}

/// Counts a failed sign-in for each key (`account:…`, `address:…`). The keys are
/// given in the same order by everybody, so that two never wait for each other.
pub async fn count_failure(tx: &mut Tx, keys: &[String]) -> Result<()> {
    let at = now();
    for key in keys {
        tx.execute(FAILED, args![key, at, at - FAILURE_WINDOW]).await?;
    }
    Ok(())
}

/// How long a key with `limit` failures or more has to wait, in microseconds.
pub async fn throttled(conn: impl Into<Conn<'_>>, key: &str, limit: u64) -> Result<Option<i64>> {
    let at = now();
    let row: Option<(i64, i64)> =
        conn.into().fetch_optional(FAILURES, args![key, at - FAILURE_WINDOW]).await?;
    Ok(row
        .filter(|(failures, _)| u64::try_from(*failures).unwrap_or(0) >= limit)
        .map(|(_, started)| (started + FAILURE_WINDOW - at).max(1)))
}

/// Forgets the failures of a key: somebody who knows the password was there.
pub async fn forget_failures(tx: &mut Tx, key: &str) -> Result<()> {
    tx.execute(SUCCEEDED, args![key]).await?;
    Ok(())
}

/// Forgets failures whose window is over.
pub async fn drop_failures(db: &Db) -> Result<u64> {
    let mut tx = db.begin().await?;
    let rows = tx.execute(DROP_FAILURES, args![now() - FAILURE_WINDOW]).await?;
    tx.commit().await?;
    Ok(rows)
}

#[cfg(test)]
mod tests;
