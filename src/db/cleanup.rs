//! What the clean-up asks: which rows still refer to what is stored.

use std::collections::HashSet;

use uuid::Uuid;

use super::usage::{self, Gone};
use super::{Args, Conn, Db, Result, args, now, statements, uploads};

statements! {
    REMOTES = "SELECT u.id, CAST(coalesce((SELECT sum(p.bytes) FROM upload_packs p \
               WHERE p.upload_id = u.id), 0) AS BIGINT) FROM git_uploads u \
               WHERE u.repository_id IS NULL AND u.expires_at < $1 \
               AND (u.receiving_until IS NULL OR u.receiving_until < $2) ORDER BY u.id LIMIT $3";
    REMOVE_REMOTE = "DELETE FROM git_uploads WHERE id = $1 AND repository_id IS NULL \
                     AND expires_at < $2 AND (receiving_until IS NULL OR receiving_until < $3)";
    SESSIONS = "SELECT count(*) FROM auth_sessions WHERE ended_at < $1 OR expires_at < $1";
    KEYS = "SELECT count(*) FROM idempotency_keys WHERE created_at <= $1";
    WORKERS = "SELECT count(*) FROM workers WHERE last_heartbeat_at < $1";
    DROP_WORKERS = "DELETE FROM workers WHERE last_heartbeat_at < $1";
}

/// Remotes that expired before a time (microseconds) and from which no repository
/// was made, with the bytes of their packs; the oldest first.
pub async fn expired_remotes(db: &Db, before: i64, limit: usize) -> Result<Vec<(Uuid, i64)>> {
    db.conn().fetch_all(REMOTES, args![before, now(), limit]).await
}

/// Removes such a remote: its row now, its objects by a job. False if it is not such
/// a one any more.
pub async fn remove_remote(db: &Db, id: Uuid, before: i64) -> Result<bool> {
    let mut tx = db.begin().await?;
    if tx.execute(REMOVE_REMOTE, args![id, before, now()]).await? == 0 {
        return Ok(false);
    }
    usage::remove(&mut tx, Gone::Holder(id)).await?;
    uploads::delete_objects(&mut tx, id, vec![uploads::storage_prefix(id)]).await?;
    tx.wake(id);
    tx.commit().await?;
    Ok(true)
}

/// Sessions that ended or expired before a time (microseconds).
pub async fn dead_sessions(db: &Db, before: i64) -> Result<i64> {
    Ok(db.conn().fetch_one::<(i64,)>(SESSIONS, args![before]).await?.0)
}

/// Idempotency keys made before a time (microseconds).
pub async fn old_keys(db: &Db, before: i64) -> Result<i64> {
    Ok(db.conn().fetch_one::<(i64,)>(KEYS, args![before]).await?.0)
}

/// Workers that were last seen before a time (microseconds).
pub async fn gone_workers(db: &Db, before: i64) -> Result<i64> {
    Ok(db.conn().fetch_one::<(i64,)>(WORKERS, args![before]).await?.0)
}

/// Forgets them.
pub async fn drop_workers(db: &Db, before: i64) -> Result<()> {
    let mut tx = db.begin().await?;
    tx.execute(DROP_WORKERS, args![before]).await?;
    tx.commit().await
}

/// Ids in one statement.
const BATCH: usize = 400;

/// Runs a statement that ends in `IN (…)` for all ids, some at a time.
async fn of_ids<T: super::conn::Row>(db: &Db, sql: &str, ids: &HashSet<Uuid>) -> Result<Vec<T>> {
    let ids: Vec<Uuid> = ids.iter().copied().collect();
    let mut found = Vec::new();
    for batch in ids.chunks(BATCH) {
        let mut args = Args::default();
        let list: Vec<String> = batch.iter().map(|id| args.add(id)).collect();
        let sql = format!("{sql} ({})", list.join(", "));
        found.extend(Conn::from(db).fetch_filtered::<T>(&sql, args).await?);
    }
    Ok(found)
}

/// Tables whose rows own stored objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Remotes.
    Uploads,
    /// Repositories.
    Repositories,
    /// Snapshots.
    Snapshots,
    /// Scans.
    Scans,
}

/// Those of the ids that a table has.
pub async fn existing(db: &Db, table: Table, ids: &HashSet<Uuid>) -> Result<HashSet<Uuid>> {
    let sql = match table {
        Table::Uploads => "SELECT id FROM git_uploads WHERE id IN",
        Table::Repositories => "SELECT id FROM repositories WHERE id IN",
        Table::Snapshots => "SELECT id FROM snapshots WHERE id IN",
        Table::Scans => "SELECT id FROM scans WHERE id IN",
    };
    let rows: Vec<(Uuid,)> = of_ids(db, sql, ids).await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// Those of the repositories that are being ingested or wait for it.
pub async fn ingesting(db: &Db, repositories: &HashSet<Uuid>) -> Result<HashSet<Uuid>> {
    let sql = "SELECT subject_id FROM jobs WHERE kind = 'ingest' \
               AND status IN ('queued', 'running') AND subject_id IN";
    let rows: Vec<(Uuid,)> = of_ids(db, sql, repositories).await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// Those of the scans that have not ended.
pub async fn active_scans(db: &Db, scans: &HashSet<Uuid>) -> Result<HashSet<Uuid>> {
    let sql = "SELECT id FROM scans WHERE status IN ('queued', 'running') AND id IN";
    let rows: Vec<(Uuid,)> = of_ids(db, sql, scans).await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// Keys of all packs, indices and LFS objects of these uploads.
pub async fn pack_keys(db: &Db, uploads: &HashSet<Uuid>) -> Result<HashSet<String>> {
    let sql = "SELECT pack_key, index_key FROM upload_packs WHERE upload_id IN";
    let rows: Vec<(String, String)> = of_ids(db, sql, uploads).await?;
    let lfs = "SELECT storage_key FROM lfs_objects WHERE upload_id IN";
    let objects: Vec<(String,)> = of_ids(db, lfs, uploads).await?;
    let keys = rows.into_iter().flat_map(|(pack, index)| [pack, index]);
    Ok(keys.chain(objects.into_iter().map(|row| row.0)).collect())
}

/// Keys of all artefacts of these scans.
pub async fn artifact_keys(db: &Db, scans: &HashSet<Uuid>) -> Result<HashSet<String>> {
    let sql = "SELECT storage_key FROM scan_artifacts WHERE scan_id IN";
    let rows: Vec<(String,)> = of_ids(db, sql, scans).await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}
