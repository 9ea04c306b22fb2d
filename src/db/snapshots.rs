//! Snapshots: which tree of a repository is stored where.

use uuid::Uuid;

use super::usage::{self, Kept};
use super::{Conn, Result, Tx, args, now, statements};

statements! {
    PAYER = "SELECT owner_id, project_id FROM repositories WHERE id = $1";
    INSERT = "INSERT INTO snapshots (id, repository_id, owner_id, commit_id, manifest_key, \
              file_count, total_bytes, created_at) \
              SELECT $1, id, owner_id, $3, $4, $5, $6, $7 FROM repositories WHERE id = $2";
    GET = "SELECT id, repository_id, owner_id, commit_id, manifest_key, file_count, total_bytes, \
           created_at FROM snapshots WHERE id = $1 AND owner_id = $2";
    CURRENT = "SELECT s.id, s.repository_id, s.owner_id, s.commit_id, s.manifest_key, \
               s.file_count, s.total_bytes, s.created_at FROM snapshots s \
               JOIN repositories r ON r.snapshot_id = s.id WHERE r.id = $1";
    BY_COMMIT = "SELECT id, repository_id, owner_id, commit_id, manifest_key, file_count, \
                 total_bytes, created_at FROM snapshots \
                 WHERE repository_id = $1 AND owner_id = $2 AND commit_id = $3 \
                 ORDER BY id DESC LIMIT 1";
}

/// A stored tree.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Snapshot {
    /// Its id.
    pub id: Uuid,
    /// Of what.
    pub repository_id: Uuid,
    /// Whose it is.
    pub owner_id: Uuid,
    /// The commit, hex; none if it was made of an archive that does not tell.
    pub commit_id: Option<String>,
    /// Where its manifest is stored.
    pub manifest_key: String,
    /// Files in it.
    pub file_count: i64,
    /// Their bytes.
    pub total_bytes: i64,
    /// Microseconds.
    pub created_at: i64,
}

/// A snapshot that is in storage already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSnapshot {
    /// Its id, which stands in the keys of what it stored.
    pub id: Uuid,
    /// The commit, hex; none if it was made of an archive that does not tell.
    pub commit_id: Option<String>,
    /// Where its manifest is stored.
    pub manifest_key: String,
    /// Files in it.
    pub file_count: u64,
    /// Their bytes.
    pub total_bytes: u64,
    /// What it added to the storage, manifest included.
    pub stored_bytes: u64,
}

/// Prefix of everything that is stored of a repository's snapshots.
pub fn storage_prefix(repository_id: Uuid) -> String {
    format!("snapshots/{repository_id}/")
}

/// Records a snapshot of a repository.
pub(super) async fn insert(tx: &mut Tx, repository_id: Uuid, new: &NewSnapshot) -> Result<()> {
    tx.execute(
        INSERT,
        args![
            new.id,
            repository_id,
            &new.commit_id,
            &new.manifest_key,
            new.file_count,
            new.total_bytes,
            now()
        ],
    )
    .await?;
    Ok(())
}

/// Counts what a new snapshot added to the storage. Among the last writes of its
/// transaction: see [`usage`].
pub(super) async fn meter(tx: &mut Tx, repository_id: Uuid, new: &NewSnapshot) -> Result<()> {
    let payer: Option<(Uuid, Uuid)> = tx.fetch_optional(PAYER, args![repository_id]).await?;
    let Some((owner_id, project_id)) = payer else { return Ok(()) };
    let kept = Kept {
        key: &new.manifest_key,
        holder_id: repository_id,
        owner_id,
        project_id,
        bytes: new.stored_bytes,
    };
    usage::keep(tx, &[kept]).await?;
    Ok(())
}

/// A snapshot of this owner.
pub async fn get(conn: impl Into<Conn<'_>>, owner_id: Uuid, id: Uuid) -> Result<Option<Snapshot>> {
    conn.into().fetch_optional(GET, args![id, owner_id]).await
}

/// The snapshot that a repository shows, whoever owns it: for jobs, and for
/// handlers that have looked the repository up for its owner.
pub async fn current(conn: impl Into<Conn<'_>>, repository_id: Uuid) -> Result<Option<Snapshot>> {
    conn.into().fetch_optional(CURRENT, args![repository_id]).await
}

/// The newest snapshot of a commit of this owner's repository.
pub async fn by_commit(
    conn: impl Into<Conn<'_>>,
    owner_id: Uuid,
    repository_id: Uuid,
    commit: &str,
) -> Result<Option<Snapshot>> {
    conn.into().fetch_optional(BY_COMMIT, args![repository_id, owner_id, commit]).await
}
