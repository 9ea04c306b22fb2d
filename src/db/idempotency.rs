//! Answers that are kept for `Idempotency-Key`.
//!
//! A row without a status is a claim: its request runs. `created_at` is the fence
//! of the claim; whoever takes an abandoned one over changes it.

use sqlx::types::Json;
use uuid::Uuid;

use super::{Db, Result, Value, args, now, statements};

/// How long an answer is kept, in microseconds: 24 hours.
pub const KEPT: i64 = 24 * 3600 * 1_000_000;

/// After this time (microseconds) a claim without an answer is taken for that of a
/// process that died: 5 minutes. No request that creates something takes as long.
pub const ABANDONED: i64 = 5 * 60 * 1_000_000;

statements! {
    CLAIM = "INSERT INTO idempotency_keys (owner_id, key, request_hash, created_at) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (owner_id, key) DO NOTHING";
    GET = "SELECT request_hash, status, headers, body, created_at FROM idempotency_keys \
           WHERE owner_id = $1 AND key = $2";
    TAKE_OVER = "UPDATE idempotency_keys SET request_hash = $3, status = NULL, headers = NULL, \
                 body = NULL, created_at = $4 \
                 WHERE owner_id = $1 AND key = $2 AND created_at = $5";
    KEEP = "UPDATE idempotency_keys SET status = $4, headers = $5, body = $6 \
            WHERE owner_id = $1 AND key = $2 AND created_at = $3 AND status IS NULL";
    RELEASE = "DELETE FROM idempotency_keys \
               WHERE owner_id = $1 AND key = $2 AND created_at = $3 AND status IS NULL";
    DROP_OLD = "DELETE FROM idempotency_keys WHERE created_at <= $1";
}

/// A kept answer.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its status.
    pub status: i64,
    /// Its headers that are kept.
    pub headers: Vec<(String, String)>,
    /// Its body, encrypted by the caller.
    pub body: Vec<u8>,
}

/// What is known of a key.
#[derive(Debug, Clone)]
pub enum Claim {
    /// Nothing: run the request, then [`keep`] its answer or [`release`] the key.
    Run {
        /// To be given back then.
        fence: i64,
    },
    /// The same request runs right now.
    Running,
    /// The same request was answered.
    Answered(Kept),
    /// The key belongs to another request.
    OtherRequest,
}

#[derive(sqlx::FromRow)]
struct Row {
    request_hash: Vec<u8>,
    status: Option<i64>,
    headers: Option<Json<Vec<(String, String)>>>,
    body: Option<Vec<u8>>,
    created_at: i64,
}

/// Claims a key for a request, or tells what became of it.
pub async fn claim(db: &Db, owner_id: Uuid, key: &str, request_hash: &[u8]) -> Result<Claim> {
    let mut tx = db.begin().await?;
    let at = now();
    if tx.execute(CLAIM, args![owner_id, key, request_hash, at]).await? == 1 {
        tx.commit().await?;
        return Ok(Claim::Run { fence: at });
    }
    let Some(row) = tx.fetch_optional::<Row>(GET, args![owner_id, key]).await? else {
        // It was released between the two statements; its owner asks again.
        return Ok(Claim::Running);
    };
    let life = if row.status.is_some() { KEPT } else { ABANDONED };
    if row.created_at <= at - life {
        let taken = args![owner_id, key, request_hash, at, row.created_at];
        let taken = tx.execute(TAKE_OVER, taken).await? == 1;
        tx.commit().await?;
        return Ok(if taken { Claim::Run { fence: at } } else { Claim::Running });
    }
    if row.request_hash != request_hash {
        return Ok(Claim::OtherRequest);
    }
    Ok(match row.status {
        None => Claim::Running,
        Some(status) => Claim::Answered(Kept {
            status,
            headers: row.headers.map(|headers| headers.0).unwrap_or_default(),
            body: row.body.unwrap_or_default(),
        }),
    })
}

/// Keeps the answer of a claim, unless the claim was taken over.
pub async fn keep(db: &Db, owner_id: Uuid, key: &str, fence: i64, answer: &Kept) -> Result<()> {
    let mut tx = db.begin().await?;
    let headers = Value::json(&answer.headers);
    let body = answer.body.as_slice();
    tx.execute(KEEP, args![owner_id, key, fence, answer.status, headers, body]).await?;
    tx.commit().await
}

/// Gives a claim back, so that the request may be tried again.
pub async fn release(db: &Db, owner_id: Uuid, key: &str, fence: i64) -> Result<()> {
    let mut tx = db.begin().await?;
    tx.execute(RELEASE, args![owner_id, key, fence]).await?;
    tx.commit().await
}

/// Forgets answers that are kept no longer; answers how many.
pub async fn drop_old(db: &Db) -> Result<u64> {
    let mut tx = db.begin().await?;
    let rows = tx.execute(DROP_OLD, args![now() - KEPT]).await?;
    tx.commit().await?;
    Ok(rows)
}

#[cfg(test)]
mod tests;
