//! Git uploads: remotes, their refs, packs and pushes.
//!
//! The rows are the truth about refs; bare repositories on disk are a cache of
//! objects. [`push::commit_push`] is the one place where refs move.
//!
//! The status that is shown is derived: `receiving` while a process renews
//! `receiving_until`, `expired` once the time is over and nothing was pushed. So a
//! process that dies in the middle of a push leaves no row to repair.

mod kinds;
pub mod push;
pub mod refs;
mod rows;
#[cfg(test)]
mod tests;

use uuid::Uuid;

pub use kinds::{ObjectFormat, SignatureStatus, Signer};
pub use push::{CommitPush, NewPack, PushOptions, PushOutcome, commit_push, was_recorded};
pub use rows::{NewUpload, Pack, Ref, Remote, Status, Upload};

use super::jobs::{self, JobKind, NewJob};
use super::project_events::{self, NewProjectEvent};
use super::repositories::{Failure, Repository};
use super::usage::{self, Gone};
use super::{Conn, Db, Result, Tx, Value, args, new_id, now, statements, users, webhooks};

macro_rules! columns {
    () => {
        "id, owner_id, project_id, repository_id, scan_id, name, wanted_ref, scan, status, \
         receiving_until, receiving_bytes, receiving_objects, head_commit, head_ref, pushes, \
         bytes_received, objects_received, error, version, created_at, pushed_at, expires_at, \
         deleted_at, internal, stored_bytes, object_format, signed_by"
    };
}
use columns;

statements! {
    OF_REPOSITORY = "SELECT id FROM git_uploads WHERE repository_id = $1 AND pushes > 0 \
                     ORDER BY pushed_at DESC, id DESC LIMIT 1";
    INSERT = "INSERT INTO git_uploads (id, owner_id, project_id, repository_id, name, wanted_ref, \
              scan, token_hash, status, created_at, expires_at, object_format) \
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'awaiting_push', $9, $10, $11)";
    INSERT_CLOSED = "INSERT INTO git_uploads (id, owner_id, project_id, repository_id, name, \
                     scan, token_hash, status, head_commit, head_ref, pushes, created_at, \
                     pushed_at, expires_at, deleted_at, internal) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, 'ready', $8, $9, 1, $10, $10, $10, $10, \
                     $11)";
    COUNT_OPEN = "SELECT count(*) FROM git_uploads \
                  WHERE owner_id = $1 AND deleted_at IS NULL AND expires_at > $2";
    GET = concat(
        "SELECT ", columns!(), " FROM git_uploads \
         WHERE id = $1 AND owner_id = $2 AND deleted_at IS NULL"
    );
    BY_ID = concat("SELECT ", columns!(), " FROM git_uploads WHERE id = $1");
    REMOTE = concat(
        "SELECT token_hash, (SELECT s.bytes FROM stored_bytes s \
         WHERE s.project_id = git_uploads.project_id) AS project_stored, ",
        columns!(), " FROM git_uploads WHERE id = $1"
    );
    STORES = "UPDATE git_uploads SET stored_bytes = stored_bytes + $2 WHERE id = $1 \
              RETURNING stored_bytes";
    LIST = concat(
        "SELECT ", columns!(), " FROM git_uploads \
         WHERE owner_id = $1 AND deleted_at IS NULL AND id < $2 ORDER BY id DESC LIMIT $3"
    );
    RECEIVING = "UPDATE git_uploads SET receiving_until = $2, receiving_bytes = $3, \
                 receiving_objects = $4, version = version + 1 \
                 WHERE id = $1 AND pushes = $5 AND deleted_at IS NULL";
    RECEIVED = "UPDATE git_uploads SET receiving_until = NULL, receiving_bytes = 0, \
                receiving_objects = 0, version = version + 1 WHERE id = $1";
    REFS = "SELECT string_agg(oid || ' ' || name, ' ') FROM upload_refs WHERE upload_id = $1";
    SHALLOW = "SELECT oid FROM upload_shallow WHERE upload_id = $1 ORDER BY oid";
    PACKS = "SELECT name, pack_key, index_key, bytes, objects, created_at FROM upload_packs \
             WHERE upload_id = $1 ORDER BY created_at, name";
    READY = "UPDATE git_uploads SET status = 'ready', scan_id = $2, error = NULL, \
             version = version + 1 WHERE id = $1";
    FAILED = "UPDATE git_uploads SET status = 'failed', error = $2, version = version + 1 \
              WHERE id = $1";
    LOCK_OWNED = pair(
        "SELECT repository_id FROM git_uploads \
         WHERE id = $1 AND owner_id = $2 AND deleted_at IS NULL",
        "SELECT repository_id FROM git_uploads \
         WHERE id = $1 AND owner_id = $2 AND deleted_at IS NULL FOR UPDATE"
    );
    FILL = "UPDATE git_uploads SET repository_id = $2, project_id = $3, scan = CASE WHEN $4 THEN scan ELSE $4 END, \
            version = version + 1 WHERE id = $1";
    CLOSE = "UPDATE git_uploads SET deleted_at = $2, version = version + 1 WHERE id = $1";
    REMOVE = "DELETE FROM git_uploads WHERE id = $1";
    INSERT_INTERNAL = "INSERT INTO git_uploads (id, owner_id, project_id, repository_id, name, \
                       scan, token_hash, status, created_at, expires_at, deleted_at, internal) \
                       SELECT $2, owner_id, project_id, id, name, $3, $4, 'awaiting_push', $5, \
                       $5, $5, $6 FROM repositories WHERE id = $1";
    INTERNAL = pair(
        concat!("SELECT ", columns!(), " FROM git_uploads WHERE repository_id = $1 AND internal"),
        concat!(
            "SELECT ", columns!(), " FROM git_uploads WHERE repository_id = $1 AND internal \
             FOR UPDATE"
        )
    );
}

/// Prefix of everything that is stored of an upload.
pub fn storage_prefix(id: Uuid) -> String {
    format!("packs/{id}/")
}

/// How many remotes of an owner still answer. The owner's row stays locked until
/// the transaction ends, so that a quota checked by it holds for requests side by
/// side.
pub async fn count_open(tx: &mut Tx, owner_id: Uuid) -> Result<i64> {
    users::lock(tx, owner_id).await?;
    Ok(tx.fetch_one::<(i64,)>(COUNT_OPEN, args![owner_id, now()]).await?.0)
}

/// Makes a remote.
pub async fn create(tx: &mut Tx, new: &NewUpload) -> Result<Upload> {
    let id = new_id();
    // The last characters of a UUIDv7 are random, the first are the same for hours.
    let derived = || format!("upload-{:.8}", &id.simple().to_string()[24..]);
    tx.execute(
        INSERT,
        args![
            id,
            new.owner_id,
            new.project_id,
            new.repository_id,
            new.name.clone().unwrap_or_else(derived),
            &new.wanted_ref,
            new.scan,
            new.token_hash.as_slice(),
            now(),
            new.expires_at,
            new.object_format.map(ObjectFormat::as_str)
        ],
    )
    .await?;
    tx.fetch_one(BY_ID, args![id]).await
}

/// The store of a repository whose code is not pushed, made if there is none. It has
/// refs and packs as a remote has them, so that whatever reads those reads these; it is
/// not listed and never answers, since it counts as deleted from the first. `None` if
/// the repository is gone.
pub async fn internal(tx: &mut Tx, repository_id: Uuid) -> Result<Option<Upload>> {
    if let Some(found) = tx.fetch_optional(INTERNAL, args![repository_id]).await? {
        return Ok(Some(found));
    }
    // A hash to which nobody has a token.
    let hash: [u8; 32] = rand::Rng::random(&mut rand::rng());
    let args = args![repository_id, new_id(), false, hash.as_slice(), now(), true];
    tx.execute(INSERT_INTERNAL, args).await?;
    tx.fetch_optional(INTERNAL, args![repository_id]).await
}

/// Throws the store of a repository away, to begin with an empty one.
pub async fn drop_internal(tx: &mut Tx, id: Uuid) -> Result<()> {
    tx.execute(REMOVE, args![id]).await?;
    usage::remove(tx, Gone::Holder(id)).await?;
    delete_objects(tx, id, vec![storage_prefix(id)]).await
}

/// A remote of this owner that is not deleted.
pub async fn get(conn: impl Into<Conn<'_>>, owner_id: Uuid, id: Uuid) -> Result<Option<Upload>> {
    conn.into().fetch_optional(GET, args![id, owner_id]).await
}

/// A remote whoever owns it, deleted or not: for jobs.
pub async fn by_id(conn: impl Into<Conn<'_>>, id: Uuid) -> Result<Option<Upload>> {
    conn.into().fetch_optional(BY_ID, args![id]).await
}

/// A remote with the hash of its token, for the git remote. Deleted ones are there as
/// well: whoever holds the token is told that it was deleted, not that it is wrong.
pub async fn remote(conn: impl Into<Conn<'_>>, id: Uuid) -> Result<Option<Remote>> {
    conn.into().fetch_optional(REMOTE, args![id]).await
}

/// Remotes of an owner that are not deleted, newest first, from behind `after` on.
pub async fn list(
    conn: impl Into<Conn<'_>>,
    owner_id: Uuid,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Vec<Upload>> {
    conn.into().fetch_all(LIST, args![owner_id, after.unwrap_or(Uuid::max()), limit]).await
}

/// Shows the upload as `receiving` until a time (microseconds), with what has come
/// in so far. Whoever receives renews it; the push ends it with [`commit_push`] or
/// [`received`]. `pushes` is the number of pushes when this one began: news of a
/// push that was accepted meanwhile come too late and change nothing.
pub async fn receiving(
    db: &Db,
    id: Uuid,
    pushes: i64,
    bytes: u64,
    objects: u64,
    until: i64,
) -> Result<()> {
    let mut tx = db.begin().await?;
    tx.execute(RECEIVING, args![id, until, bytes, objects, pushes]).await?;
    tx.wake(id);
    tx.commit().await
}

/// Ends `receiving` at once: the push was refused or broke off.
pub async fn received(db: &Db, id: Uuid) -> Result<()> {
    let mut tx = db.begin().await?;
    tx.execute(RECEIVED, args![id]).await?;
    tx.wake(id);
    tx.commit().await
}

/// A git history that came by another way than a push.
#[derive(Debug, Clone)]
pub struct ClosedUpload {
    /// Its id, below whose [`storage_prefix`] the packs are stored already.
    pub id: Uuid,
    /// The commit that was ingested, hex.
    pub head_commit: String,
    /// The full name of its ref.
    pub head_ref: Option<String>,
    /// All refs.
    pub refs: Vec<(String, sluice_git::ObjectId)>,
    /// Commits whose parents are missing.
    pub shallow: Vec<sluice_git::ObjectId>,
    /// What was stored.
    pub packs: Vec<NewPack>,
}

/// Records a history as the store of the repository (see [`internal`]), in place of the
/// one that an earlier archive brought.
pub async fn replace_internal(
    tx: &mut Tx,
    repository: &Repository,
    new: &ClosedUpload,
) -> Result<()> {
    let at = now();
    let old: Option<Upload> = tx.fetch_optional(INTERNAL, args![repository.id]).await?;
    if let Some(old) = old {
        drop_internal(tx, old.id).await?;
    }
    // No token has this hash: it is that of nothing, and not of the right length.
    let no_token: &[u8] = &[];
    tx.execute(
        INSERT_CLOSED,
        args![
            new.id,
            repository.owner_id,
            repository.project_id,
            repository.id,
            &repository.name,
            false,
            no_token,
            &new.head_commit,
            &new.head_ref,
            at,
            true
        ],
    )
    .await?;
    push::record(tx, new.id, &new.refs, &new.shallow, &new.packs, at).await?;
    let (owner_id, project_id) = (repository.owner_id, repository.project_id);
    let bytes = new.packs.iter().map(NewPack::stored_bytes).sum();
    stores(tx, new.id, bytes).await?;
    push::keep(tx, new.id, owner_id, project_id, &new.packs).await?;
    Ok(())
}

/// Counts bytes that a remote keeps from now on; answers all that it keeps. Its row stays
/// locked until the transaction ends.
pub(super) async fn stores(tx: &mut Tx, id: Uuid, bytes: u64) -> Result<i64> {
    let row: Option<(i64,)> = tx.fetch_optional(STORES, args![id, bytes]).await?;
    Ok(row.map_or(0, |row| row.0))
}

/// All refs, in the order of their names' bytes.
///
/// They come as one text: of SQLite each row is handed from thread to thread, which for
/// the refs of a large repository took nearly all of the time of an advertisement. No
/// name of a ref has a space in it.
pub async fn refs(conn: impl Into<Conn<'_>>, id: Uuid) -> Result<Vec<Ref>> {
    let (text,): (Option<String>,) = conn.into().fetch_one(REFS, args![id]).await?;
    let mut words = text.as_deref().unwrap_or_default().split(' ');
    let mut refs = Vec::new();
    while let (Some(oid), Some(name)) = (words.next(), words.next()) {
        refs.push(Ref { name: name.to_owned(), oid: oid.to_owned() });
    }
    // They lie in this order, but nobody promises to read them in it.
    refs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(refs)
}

/// Commits whose parents are missing, hex.
pub async fn shallow(conn: impl Into<Conn<'_>>, id: Uuid) -> Result<Vec<String>> {
    let rows: Vec<(String,)> = conn.into().fetch_all(SHALLOW, args![id]).await?;
    Ok(rows.into_iter().map(|row| row.0).collect())
}

/// The upload that was last pushed into a repository.
pub async fn of_repository(conn: impl Into<Conn<'_>>, repository_id: Uuid) -> Result<Option<Uuid>> {
    let row: Option<(Uuid,)> =
        conn.into().fetch_optional(OF_REPOSITORY, args![repository_id]).await?;
    Ok(row.map(|row| row.0))
}

/// All stored packs, oldest first.
pub async fn packs(conn: impl Into<Conn<'_>>, id: Uuid) -> Result<Vec<Pack>> {
    conn.into().fetch_all(PACKS, args![id]).await
}

/// What became of the newest head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ingested {
    /// It can be read; perhaps a scan was started.
    Ready {
        /// The scan.
        scan_id: Option<Uuid>,
    },
    /// It cannot be read.
    Failed(Failure),
}

/// Notes what became of the newest head. An ingest job calls it only if its head is
/// still the newest, which `repositories::finish_ingest` and `fail_ingest` tell.
pub async fn set_status(tx: &mut Tx, id: Uuid, outcome: &Ingested) -> Result<()> {
    match outcome {
        Ingested::Ready { scan_id } => tx.execute(READY, args![id, *scan_id]).await?,
        Ingested::Failed(failure) => tx.execute(FAILED, args![id, Value::json(failure)]).await?,
    };
    tx.wake(id);
    let Some(upload) = by_id(&mut *tx, id).await? else { return Ok(()) };
    // Nobody has pushed anything: the ingest tells of itself.
    if upload.internal {
        return Ok(());
    }
    let Some(repository_id) = upload.repository_id else { return Ok(()) };
    let event = match outcome {
        Ingested::Ready { scan_id } => {
            webhooks::upload_ready(tx, &upload, *scan_id).await?;
            let data = serde_json::json!({
                "upload_id": id, "ref": upload.head_ref, "commit": upload.head_commit,
            });
            let event = NewProjectEvent::info(
                repository_id,
                "upload.ready",
                "What was pushed can be read.",
                data,
            );
            NewProjectEvent { scan_id: *scan_id, ..event }
        }
        Ingested::Failed(failure) => NewProjectEvent::error(
            repository_id,
            "upload.failed",
            &failure.message,
            serde_json::json!({ "upload_id": id, "error": failure }),
        ),
    };
    project_events::append(tx, upload.project_id, &[event]).await
}

/// Locks a remote of this owner; true if no repository is filled by it yet, `None` if
/// there is no such remote.
pub async fn lock_free(tx: &mut Tx, owner_id: Uuid, id: Uuid) -> Result<Option<bool>> {
    let row: Option<(Option<Uuid>,)> = tx.fetch_optional(LOCK_OWNED, args![id, owner_id]).await?;
    Ok(row.map(|(repository,)| repository.is_none()))
}

/// Lets the pushes of a remote fill a repository; see [`lock_free`]. With
/// `scan: Some(false)` they are not scanned.
pub async fn fill(
    tx: &mut Tx,
    id: Uuid,
    repository: &Repository,
    scan: Option<bool>,
) -> Result<()> {
    let args = args![id, repository.id, repository.project_id, scan.unwrap_or(true)];
    tx.execute(FILL, args).await?;
    tx.wake(id);
    Ok(())
}

/// Deletes a remote of this owner: it stops answering with the commit. Its packs
/// stay while the repository made from them does. False if there is none.
pub async fn delete(tx: &mut Tx, owner_id: Uuid, id: Uuid) -> Result<bool> {
    let Some((repository,)) =
        tx.fetch_optional::<(Option<Uuid>,)>(LOCK_OWNED, args![id, owner_id]).await?
    else {
        return Ok(false);
    };
    if repository.is_some() {
        tx.execute(CLOSE, args![id, now()]).await?;
    } else {
        tx.execute(REMOVE, args![id]).await?;
        usage::remove(tx, Gone::Holder(id)).await?;
        delete_objects(tx, id, vec![storage_prefix(id)]).await?;
    }
    tx.wake(id);
    Ok(true)
}

/// Inserts the jobs that remove everything stored below these prefixes. They
/// belong to nobody, so that they outlive the owner's rows.
pub(super) async fn delete_objects(tx: &mut Tx, of: Uuid, prefixes: Vec<String>) -> Result<()> {
    /// Prefixes that one job removes: bounds its payload and its time.
    const BATCH: usize = 500;
    for batch in prefixes.chunks(BATCH) {
        let job = NewJob {
            kind: JobKind::DeleteObjects,
            subject_id: of,
            owner_id: None,
            payload: serde_json::json!({ "prefixes": batch }),
        };
        jobs::insert(tx, &job).await?;
    }
    Ok(())
}
