//! Git LFS: objects beside the packs of a remote, and locks on paths.
//!
//! An object's row is inserted after its bytes are stored, so a row never promises
//! what is not there. Objects belong to one remote: two remotes never share one, so
//! nobody learns from an answer what somebody else has uploaded.

use uuid::Uuid;

use super::uploads::{self, Upload};
use super::usage::{self, Full, Kept, Quotas};
use super::{Args, Conn, Db, Result, args, new_id, now, statements};

statements! {
    ADD = "INSERT INTO lfs_objects (upload_id, oid, size, blob, storage_key, created_at) \
           VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
    GET = "SELECT oid, size, blob, storage_key FROM lfs_objects \
           WHERE upload_id = $1 AND oid = $2";
    ALL = "SELECT oid, size, blob, storage_key FROM lfs_objects WHERE upload_id = $1 \
           AND oid > $2 ORDER BY oid LIMIT $3";
    LOCK = "INSERT INTO lfs_locks (id, upload_id, path, ref, owner, created_at) \
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
    COUNT = "SELECT count(*) FROM lfs_locks WHERE upload_id = $1";
    BY_PATH = "SELECT id, path, ref, owner, created_at FROM lfs_locks \
               WHERE upload_id = $1 AND path = $2";
    BY_ID = "SELECT id, path, ref, owner, created_at FROM lfs_locks \
             WHERE upload_id = $1 AND id = $2";
    LOCKS = "SELECT id, path, ref, owner, created_at FROM lfs_locks \
             WHERE upload_id = $1 AND id > $2 ORDER BY id LIMIT $3";
    UNLOCK = "DELETE FROM lfs_locks WHERE upload_id = $1 AND id = $2";
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct LfsObject {
    /// SHA-256 of its content, lower-case hex.
    pub oid: String,
    /// Bytes.
    pub size: i64,
    /// Id that git would give the content as a blob, lower-case hex.
    pub blob: String,
    /// Where the bytes lie.
    pub storage_key: String,
}

/// A lock.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct LfsLock {
    /// Its id.
    pub id: Uuid,
    /// Path from the root of the work tree.
    pub path: String,
    /// Full name of the ref that it was taken for.
    #[sqlx(rename = "ref")]
    pub ref_name: Option<String>,
    /// Who holds it.
    pub owner: String,
    /// Microseconds since 1970.
    pub created_at: i64,
}

/// What became of the wish for a lock.
#[derive(Debug)]
pub enum Locked {
    /// It is the caller's.
    New(LfsLock),
    /// Somebody, perhaps the caller, has it already.
    Held(LfsLock),
    /// The remote has as many as it may have.
    TooMany,
}

/// Most locks of one remote.
pub const MAX_LOCKS: i64 = 10_000;

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is there from now on.
    New,
    /// The remote has it already.
    Known,
    /// A quota does not suffice; nothing was noted.
    Full(Full),
}

/// Notes an object whose bytes are stored.
pub async fn add(db: &Db, upload: &Upload, object: &LfsObject, quotas: Quotas) -> Result<Added> {
    let mut tx = db.begin().await?;
    // The row of the remote comes first: see `uploads::push`.
    let of_upload = uploads::stores(&mut tx, upload.id, object.size.unsigned_abs()).await?;
    let added = tx
        .execute(
            ADD,
            args![upload.id, &object.oid, object.size, &object.blob, &object.storage_key, now()],
        )
        .await?
        == 1;
    if !added {
        return Ok(Added::Known);
    }
    let kept = Kept {
        key: &object.storage_key,
        holder_id: upload.id,
        owner_id: upload.owner_id,
        project_id: upload.project_id,
        bytes: object.size.unsigned_abs(),
    };
    let of_project = usage::keep(&mut tx, &[kept]).await?;
    if let Some(full) = quotas.exceeded(of_upload, of_project) {
        return Ok(Added::Full(full));
    }
    tx.commit().await?;
    Ok(Added::New)
}

/// One object of a remote.
pub async fn get(
    conn: impl Into<Conn<'_>>,
    upload_id: Uuid,
    oid: &str,
) -> Result<Option<LfsObject>> {
    conn.into().fetch_optional(GET, args![upload_id, oid]).await
}

/// Ids in one statement.
const BATCH: usize = 400;

/// Those of the objects that a remote has.
pub async fn among(db: &Db, upload_id: Uuid, oids: &[&str]) -> Result<Vec<LfsObject>> {
    let mut found = Vec::new();
    for batch in oids.chunks(BATCH) {
        let mut args = Args::default();
        let upload = args.add(upload_id);
        let list: Vec<String> = batch.iter().map(|oid| args.add(*oid)).collect();
        let sql = format!(
            "SELECT oid, size, blob, storage_key FROM lfs_objects \
             WHERE upload_id = {upload} AND oid IN ({})",
            list.join(", ")
        );
        found.extend(db.conn().fetch_filtered::<LfsObject>(&sql, args).await?);
    }
    Ok(found)
}

/// Objects of a remote in the order of their ids, from behind `after` on.
pub async fn list(
    conn: impl Into<Conn<'_>>,
    upload_id: Uuid,
    after: &str,
    limit: u32,
) -> Result<Vec<LfsObject>> {
    conn.into().fetch_all(ALL, args![upload_id, after, limit]).await
}

/// Takes a lock on a path.
pub async fn lock(
    db: &Db,
    upload_id: Uuid,
    path: &str,
    ref_name: Option<&str>,
    owner: &str,
) -> Result<Locked> {
    let mut tx = db.begin().await?;
    let (held,): (i64,) = tx.fetch_one(COUNT, args![upload_id]).await?;
    if held >= MAX_LOCKS {
        return Ok(Locked::TooMany);
    }
    let args = args![new_id(), upload_id, path, ref_name, owner, now()];
    let new = tx.execute(LOCK, args).await? == 1;
    let lock: LfsLock = tx.fetch_one(BY_PATH, args![upload_id, path]).await?;
    tx.commit().await?;
    Ok(if new { Locked::New(lock) } else { Locked::Held(lock) })
}

/// The lock on a path.
pub async fn lock_on(
    conn: impl Into<Conn<'_>>,
    upload_id: Uuid,
    path: &str,
) -> Result<Option<LfsLock>> {
    conn.into().fetch_optional(BY_PATH, args![upload_id, path]).await
}

/// A lock by its id.
pub async fn lock_by_id(
    conn: impl Into<Conn<'_>>,
    upload_id: Uuid,
    id: Uuid,
) -> Result<Option<LfsLock>> {
    conn.into().fetch_optional(BY_ID, args![upload_id, id]).await
}

/// Locks of a remote, oldest first, from behind `after` on.
pub async fn locks(
    conn: impl Into<Conn<'_>>,
    upload_id: Uuid,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Vec<LfsLock>> {
    conn.into().fetch_all(LOCKS, args![upload_id, after.unwrap_or(Uuid::nil()), limit]).await
}

/// Gives a lock back. False if nobody holds it any more.
pub async fn unlock(db: &Db, upload_id: Uuid, id: Uuid) -> Result<bool> {
    let mut tx = db.begin().await?;
    let gone = tx.execute(UNLOCK, args![upload_id, id]).await? == 1;
    tx.commit().await?;
    Ok(gone)
}
