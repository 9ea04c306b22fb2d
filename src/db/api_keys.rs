//! API keys: only the SHA-256 of a key is kept.

use sqlx::types::Json;
use uuid::Uuid;

use super::{Conn, Db, Result, Tx, Value, args, new_id, now, statements};

/// `last_used_at` is written at most once in this time (microseconds): a minute.
pub const USED_GRAIN: i64 = 60 * 1_000_000;

statements! {
    INSERT = "INSERT INTO api_keys (id, owner_id, name, prefix, hash, scopes, created_at, \
              expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    COUNT = "SELECT count(*) FROM api_keys WHERE owner_id = $1";
    LIST = "SELECT id, name, prefix, scopes, created_at, last_used_at, expires_at FROM api_keys \
            WHERE owner_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
    DELETE = "DELETE FROM api_keys WHERE id = $1 AND owner_id = $2";
    CALLER = "SELECT k.id, k.owner_id, k.scopes, k.last_used_at, k.expires_at, u.email, u.groups \
              FROM api_keys k JOIN users u ON u.id = k.owner_id \
              WHERE k.hash = $1 AND u.disabled_at IS NULL";
    USED = "UPDATE api_keys SET last_used_at = $2 \
            WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $3)";
}

/// A key, without the key.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ApiKey {
    /// Its id.
    pub id: Uuid,
    /// What its owner calls it.
    pub name: String,
    /// The first characters, by which its owner knows it again.
    pub prefix: String,
    /// What it may do; empty: everything.
    pub scopes: Json<Vec<String>>,
    /// Microseconds.
    pub created_at: i64,
    /// Microseconds, to the minute.
    pub last_used_at: Option<i64>,
    /// Microseconds.
    pub expires_at: Option<i64>,
}

/// A key to insert.
#[derive(Debug, Clone)]
pub struct NewApiKey<'a> {
    /// Whose it is.
    pub owner_id: Uuid,
    /// What its owner calls it.
    pub name: &'a str,
    /// Its first characters.
    pub prefix: &'a str,
    /// Its SHA-256.
    pub hash: &'a [u8],
    /// What it may do; empty: everything.
    pub scopes: &'a [String],
    /// Microseconds.
    pub expires_at: Option<i64>,
}

/// Inserts a key.
pub async fn insert(tx: &mut Tx, key: &NewApiKey<'_>) -> Result<ApiKey> {
    let (id, at) = (new_id(), now());
    tx.execute(
        INSERT,
        args![
            id,
            key.owner_id,
            key.name,
            key.prefix,
            key.hash,
            Value::json(&key.scopes),
            at,
            key.expires_at
        ],
    )
    .await?;
    Ok(ApiKey {
        id,
        name: key.name.to_owned(),
        prefix: key.prefix.to_owned(),
        scopes: Json(key.scopes.to_vec()),
        created_at: at,
        last_used_at: None,
        expires_at: key.expires_at,
    })
}

/// How many keys an account has.
pub async fn count(conn: impl Into<Conn<'_>>, owner_id: Uuid) -> Result<u64> {
    let (count,): (i64,) = conn.into().fetch_one(COUNT, args![owner_id]).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Keys of an account, newest first, those older than `after`.
pub async fn list(
    conn: impl Into<Conn<'_>>,
    owner_id: Uuid,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Vec<ApiKey>> {
    // No id that is ever made is as great as the greatest.
    let after = after.unwrap_or(Uuid::max());
    conn.into().fetch_all(LIST, args![owner_id, after, limit]).await
}

/// Deletes a key; false if the account has no such key.
pub async fn delete(tx: &mut Tx, owner_id: Uuid, id: Uuid) -> Result<bool> {
    tx.forget_callers();
    Ok(tx.execute(DELETE, args![id, owner_id]).await? == 1)
}

/// A key that was presented, and the account behind it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct KeyUser {
    /// Id of the key.
    pub id: Uuid,
    /// The account.
    pub owner_id: Uuid,
    /// What the key may do; empty: everything.
    pub scopes: Json<Vec<String>>,
    /// Microseconds.
    pub last_used_at: Option<i64>,
    /// Microseconds.
    pub expires_at: Option<i64>,
    /// E-mail of the account.
    pub email: String,
    /// Groups of the account.
    pub groups: Json<Vec<String>>,
}

/// The key with this hash, unless its account is disabled.
pub async fn caller(conn: impl Into<Conn<'_>>, hash: &[u8]) -> Result<Option<KeyUser>> {
    conn.into().fetch_optional(CALLER, args![hash]).await
}

/// Notes that a key was used, unless that was noted within the last minute.
pub async fn used(db: &Db, id: Uuid) -> Result<()> {
    let at = now();
    let mut tx = db.begin().await?;
    tx.execute(USED, args![id, at, at - USED_GRAIN]).await?;
    tx.commit().await
}

#[cfg(test)]
mod tests;
