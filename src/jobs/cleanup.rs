//! Clean-up: removes what nothing refers to any more.
//!
//! Objects are stored before the transaction that refers to them, so whatever dies
//! in between leaves objects behind. They are found by listing the storage and asking
//! the database; so are remotes that expired unused, and what dead processes left in
//! the data folder.
//!
//! # Why it is safe beside pushes, ingests and scans
//!
//! Only keys of a known shape are looked at, and a key is never used again: pushes,
//! ingests and tries of scans put an id of their own into it. So it is enough that no
//! row refers to a key *and none can come to*:
//!
//! * Everything younger than the grace is left alone. An object is as young as its
//!   file and as the last id in its key, so that a pack that was linked in from a
//!   file that took long to arrive counts from the moment in which it was stored. The
//!   grace is at least [`LEAST_GRACE`], far more than lies between storing a pack and
//!   the end of its transaction.
//! * A snapshot without a row is left alone while its repository has an ingest that
//!   waits or runs, however long that takes. A worker that lost its lease may still
//!   write, but its transaction fails for its fence.
//! * An archive is read by the job that brought it in and by no other, which names it in
//!   its payload; so it is left alone while its repository has an ingest that waits or
//!   runs, and not longer.
//! * Artefacts without a row go only once their scan has ended: a scan that has ended
//!   takes no more of them, by the condition on its status in the statement that ends
//!   it.
//! * Objects whose owner (upload, repository or scan) has no row can never be referred
//!   to, since the row that would do it needs the owner's.
//! * An expired remote is removed by one statement that repeats all its conditions; a
//!   push that waits for that row finds it gone and is refused with a sentence.
//! * Manifests name data objects of earlier snapshots of their repository, but only of
//!   such that have a row ([`crate::jobs`], ingest), and objects of those stay.
//! * A write to a bucket that was begun and never ended has no key yet: those older than
//!   the grace and than the longest push, fetch or scan are given up.
//!
//! # Bounds
//!
//! A call looks at no more than [`MOST_OBJECTS`] objects, and its answer says where
//! the next one goes on. What a dry run tells is what a real one removes: both make
//! the same plan first, and the real one then carries it out. What lies in the data
//! folder is that of the process that does the work; each process looks after its own now
//! and then ([`clean_local`]).

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::bare;
use crate::db::cleanup::{self, Table};
use crate::db::jobs::{self, End};
use crate::db::{DbError, idempotency, now, sessions};
use crate::ingest::IngestError;
use crate::queue::{JobContext, JobError};
use crate::server::App;
use crate::snapshot::SnapshotError;
use crate::storage::{MAX_PAGE, ObjectMeta, Removed, StorageError, Unfinished};

/// The shortest grace.
pub const LEAST_GRACE: Duration = Duration::from_hours(1);

/// The grace unless another one is asked for.
pub const GRACE: Duration = Duration::from_hours(24);

/// Objects that one call looks at.
pub const MOST_OBJECTS: usize = 50_000;

/// Remotes that one call removes.
const MOST_REMOTES: usize = 1_000;

/// Unfinished writes that one call gives up.
const MOST_UNFINISHED: usize = 1_000;

/// What to do.
#[derive(Debug, Clone)]
pub struct Request {
    /// Only tell.
    pub dry_run: bool,
    /// What is younger stays.
    pub grace: Duration,
    /// Where an earlier call stopped.
    pub after: Option<String>,
}

/// What was removed, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Remotes, and the bytes of their packs.
    pub expired_remotes: Removed,
    /// Packs and indices that no push was recorded for.
    pub orphaned_packs: Removed,
    /// Parts of snapshots that no repository shows.
    pub orphaned_snapshots: Removed,
    /// Artefacts of scans that are gone or ended otherwise.
    pub orphaned_artifacts: Removed,
    /// Archives whose ingest ended, or whose repository is gone.
    pub orphaned_archives: Removed,
    /// Probes of readiness whose process died.
    pub stale_probes: Removed,
    /// Parts of objects in a bucket whose writer died.
    pub unfinished_objects: Removed,
    /// Files of pushes and scans whose process died.
    pub abandoned_quarantines: Removed,
    /// Local copies of remotes that are gone.
    pub orphaned_caches: Removed,
    /// Sessions that ended.
    pub dead_sessions: Removed,
    /// Answers kept for `Idempotency-Key`.
    pub idempotency_keys: Removed,
    /// Workers that were not seen for long.
    pub gone_workers: Removed,
}

impl Report {
    /// Names and figures.
    pub fn kinds(&self) -> [(&'static str, Removed); 12] {
        [
            ("expired_remotes", self.expired_remotes),
            ("orphaned_packs", self.orphaned_packs),
            ("orphaned_snapshots", self.orphaned_snapshots),
            ("orphaned_artifacts", self.orphaned_artifacts),
            ("orphaned_archives", self.orphaned_archives),
            ("stale_probes", self.stale_probes),
            ("unfinished_objects", self.unfinished_objects),
            ("abandoned_quarantines", self.abandoned_quarantines),
            ("orphaned_caches", self.orphaned_caches),
            ("dead_sessions", self.dead_sessions),
            ("idempotency_keys", self.idempotency_keys),
            ("gone_workers", self.gone_workers),
        ]
    }
}

/// What a clean-up says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// By kind.
    pub report: Report,
    /// Where the next call goes on; `None` if all was looked at.
    pub next: Option<String>,
}

/// Everything that is to be removed.
#[derive(Debug, Default)]
struct Plan {
    remotes: Vec<Uuid>,
    keys: Vec<String>,
    unfinished: Vec<Unfinished>,
    paths: Vec<PathBuf>,
    caches: Vec<Uuid>,
}

/// Cleans up, or tells what that would do.
pub async fn clean(app: &App, request: &Request) -> anyhow::Result<Outcome> {
    let grace = request.grace.max(LEAST_GRACE);
    let before = now() - i64::try_from(grace.as_micros()).unwrap_or(i64::MAX / 2);
    let mut plan = Plan::default();
    let mut report = Report::default();

    // 1. The plan.
    let next = walk(app, before, request.after.as_deref(), &mut plan, &mut report).await?;
    // Only once for all calls that go on from each other.
    if request.after.is_none() {
        for (id, bytes) in cleanup::expired_remotes(&app.db, before, MOST_REMOTES).await? {
            add(&mut report.expired_remotes, bytes.unsigned_abs());
            plan.remotes.push(id);
        }
        let abandoned = abandoned_before(app, grace);
        plan.unfinished = match app.storage.unfinished(abandoned, MOST_UNFINISHED).await {
            Ok(found) => found,
            // Not every service can tell, and not everybody may ask; the rest is cleaned up.
            Err(error) => {
                tracing::warn!("writes that never ended are not looked for: {error}");
                Vec::new()
            }
        };
        // A bucket may be shared with others.
        plan.unfinished.retain(|unfinished| Key::parse(&unfinished.key).is_some());
        for unfinished in &plan.unfinished {
            add(&mut report.unfinished_objects, unfinished.bytes);
        }
        local(app, abandoned, &mut plan, &mut report).await?;
        let count = |n: i64| Removed { objects: n.unsigned_abs(), bytes: 0 };
        report.dead_sessions = count(cleanup::dead_sessions(&app.db, before).await?);
        report.idempotency_keys = count(cleanup::old_keys(&app.db, kept_since()).await?);
        report.gone_workers = count(cleanup::gone_workers(&app.db, before).await?);
    }
    if request.dry_run {
        return Ok(Outcome { report, next });
    }

    // 2. Its execution.
    for key in &plan.keys {
        app.storage.delete(key).await?;
    }
    for unfinished in &plan.unfinished {
        app.storage.give_up(unfinished).await?;
    }
    for id in plan.remotes {
        cleanup::remove_remote(&app.db, id, before).await?;
    }
    for id in plan.caches {
        bare::forget(app, id).await?;
    }
    tokio::task::spawn_blocking(move || plan.paths.iter().try_for_each(|path| remove(path)))
        .await??;
    if report.dead_sessions.objects > 0 {
        sessions::drop_dead(&app.db, before).await?;
    }
    if report.idempotency_keys.objects > 0 {
        idempotency::drop_old(&app.db).await?;
    }
    if report.gone_workers.objects > 0 {
        cleanup::drop_workers(&app.db, before).await?;
    }
    let removed: u64 = report.kinds().iter().map(|(_, removed)| removed.objects).sum();
    if removed > 0 {
        tracing::info!(removed, "cleaned up: {report:?}");
    }
    Ok(Outcome { report, next })
}

fn kept_since() -> i64 {
    now() - idempotency::KEPT
}

fn add(removed: &mut Removed, bytes: u64) {
    removed.objects += 1;
    removed.bytes += bytes;
}

/// What a key says about who owns it.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    Pack { upload: Uuid, push: Option<Uuid> },
    Snapshot { repository: Uuid, snapshot: Uuid },
    Artifact { scan: Uuid },
    Archive { repository: Uuid, archive: Option<Uuid> },
    Probe,
}

impl Key {
    fn parse(key: &str) -> Option<Self> {
        let mut parts = key.split('/');
        let kind = parts.next()?;
        let owner = parts.next()?;
        if kind == "health" {
            return parts.next().is_none().then_some(Self::Probe);
        }
        let owner = Uuid::try_parse(owner).ok()?;
        let second = parts.next()?;
        let third = parts.next();
        Some(match kind {
            "packs" => {
                let pack = third.is_some_and(|name| {
                    let known = Path::new(name).extension().and_then(|e| e.to_str());
                    name.starts_with("pack-") && matches!(known, Some("pack" | "idx"))
                });
                let push = Uuid::try_parse(second).ok().filter(|_| pack && parts.next().is_none());
                Self::Pack { upload: owner, push }
            }
            "snapshots" => {
                third?;
                Self::Snapshot { repository: owner, snapshot: Uuid::try_parse(second).ok()? }
            }
            "artifacts" => Self::Artifact { scan: owner },
            "archives" => {
                Self::Archive { repository: owner, archive: Uuid::try_parse(second).ok() }
            }
            _ => return None,
        })
    }

    /// When the last id in it was made, which is the youngest, in microseconds.
    fn made_at(&self) -> i64 {
        let id = match self {
            Self::Pack { upload, push } => push.unwrap_or(*upload),
            Self::Snapshot { snapshot, .. } => *snapshot,
            Self::Artifact { scan } => *scan,
            Self::Archive { repository, archive } => archive.unwrap_or(*repository),
            Self::Probe => return 0,
        };
        id.get_timestamp().map_or(0, |at| {
            let (seconds, nanos) = at.to_unix();
            i64::try_from(seconds).unwrap_or(0) * 1_000_000 + i64::from(nanos / 1000)
        })
    }
}

fn micros(at: SystemTime) -> i64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Looks at the storage from `after` on; answers where it stopped, unless at the end.
async fn walk(
    app: &App,
    before: i64,
    after: Option<&str>,
    plan: &mut Plan,
    report: &mut Report,
) -> anyhow::Result<Option<String>> {
    let mut seen = 0;
    for prefix in ["archives/", "artifacts/", "health/", "packs/", "snapshots/"] {
        // A cursor lies in one of them; those before it are done.
        let mut after = match after {
            Some(key) if !key.starts_with(prefix) && key > prefix => continue,
            Some(key) if key.starts_with(prefix) => Some(key.to_owned()),
            _ => None,
        };
        loop {
            let page = app.storage.list(prefix, after.as_deref(), MAX_PAGE).await?;
            seen += page.items.len();
            let last = page.items.last().map(|object| object.key.clone());
            orphans(app, before, page.items, plan, report).await?;
            if seen >= MOST_OBJECTS {
                return Ok(last);
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
    }
    Ok(None)
}

/// Plans the removal of those objects of a page that no row refers to.
async fn orphans(
    app: &App,
    before: i64,
    page: Vec<ObjectMeta>,
    plan: &mut Plan,
    report: &mut Report,
) -> Result<(), DbError> {
    let db = &app.db;
    let old: Vec<(ObjectMeta, Key)> = page
        .into_iter()
        .filter_map(|object| {
            let key = Key::parse(&object.key)?;
            (micros(object.modified).max(key.made_at()) < before).then_some((object, key))
        })
        .collect();
    if old.is_empty() {
        return Ok(());
    }
    let ids = |of: fn(&Key) -> Option<Uuid>| -> HashSet<Uuid> {
        old.iter().filter_map(|(_, key)| of(key)).collect()
    };
    let uploads = ids(|key| match key {
        Key::Pack { upload, .. } => Some(*upload),
        _ => None,
    });
    let repositories = ids(|key| match key {
        Key::Snapshot { repository, .. } | Key::Archive { repository, .. } => Some(*repository),
        _ => None,
    });
    let snapshots = ids(|key| match key {
        Key::Snapshot { snapshot, .. } => Some(*snapshot),
        _ => None,
    });
    let scans = ids(|key| match key {
        Key::Artifact { scan } => Some(*scan),
        _ => None,
    });

    // What is under way first, what is referred to last: whatever ends in between has
    // left its row by then.
    let ingesting = cleanup::ingesting(db, &repositories).await?;
    let active = cleanup::active_scans(db, &scans).await?;
    let uploads_there = cleanup::existing(db, Table::Uploads, &uploads).await?;
    let repositories_there = cleanup::existing(db, Table::Repositories, &repositories).await?;
    let snapshots_there = cleanup::existing(db, Table::Snapshots, &snapshots).await?;
    let packs = cleanup::pack_keys(db, &uploads).await?;
    let artifacts = cleanup::artifact_keys(db, &scans).await?;

    for (object, key) in old {
        let into = match key {
            Key::Pack { upload, push } => {
                let orphan = !uploads_there.contains(&upload)
                    || (push.is_some() && !packs.contains(&object.key));
                orphan.then_some(&mut report.orphaned_packs)
            }
            Key::Snapshot { repository, snapshot } => {
                let under_way =
                    repositories_there.contains(&repository) && ingesting.contains(&repository);
                let kept = under_way || snapshots_there.contains(&snapshot);
                (!kept).then_some(&mut report.orphaned_snapshots)
            }
            Key::Artifact { scan } => {
                let orphan = !active.contains(&scan) && !artifacts.contains(&object.key);
                orphan.then_some(&mut report.orphaned_artifacts)
            }
            Key::Archive { repository, .. } => {
                let orphan =
                    !repositories_there.contains(&repository) || !ingesting.contains(&repository);
                orphan.then_some(&mut report.orphaned_archives)
            }
            Key::Probe => Some(&mut report.stale_probes),
        };
        if let Some(into) = into {
            add(into, object.size);
            plan.keys.push(object.key);
        }
    }
    Ok(())
}

/// What was not written to since then belongs to no push, fetch or scan that lives. Nothing
/// tells what a dead one left from what a living one needs but its age: each is given up
/// after its time.
fn abandoned_before(app: &App, grace: Duration) -> SystemTime {
    let limits = &app.config.limits;
    let longest = limits.push_seconds.max(limits.fetch_seconds).max(limits.scan_seconds);
    let longest = Duration::from_secs(longest);
    SystemTime::now()
        .checked_sub(grace.max(longest.saturating_add(LEAST_GRACE)))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Removes what dead pushes and scans left in the data folder of this process, and copies
/// of remotes that are gone: for processes that may never run the clean-up itself.
pub async fn clean_local(app: &App) -> anyhow::Result<()> {
    let (mut plan, mut report) = (Plan::default(), Report::default());
    local(app, abandoned_before(app, GRACE), &mut plan, &mut report).await?;
    for id in plan.caches {
        bare::forget(app, id).await?;
    }
    tokio::task::spawn_blocking(move || plan.paths.iter().try_for_each(|path| remove(path)))
        .await??;
    Ok(())
}

/// Plans the removal of what dead processes left in the data folder before a time.
async fn local(
    app: &App,
    before: SystemTime,
    plan: &mut Plan,
    report: &mut Report,
) -> anyhow::Result<()> {
    let incoming = bare::incoming(app);
    let scratch = app.config.data_dir.join("tmp");
    let caches = app.config.data_dir.join("git");
    let found = tokio::task::spawn_blocking(move || -> std::io::Result<_> {
        let mut abandoned = old_entries(&incoming, before)?;
        abandoned.extend(old_entries(&scratch, before)?);
        let caches: Vec<(Uuid, u64)> = old_entries(&caches, before)?
            .into_iter()
            .filter_map(|(path, bytes)| {
                let name = path.file_name()?.to_str()?.strip_suffix(".git")?;
                Some((Uuid::try_parse(name).ok()?, bytes))
            })
            .collect();
        Ok((abandoned, caches))
    });
    let (abandoned, caches) = found.await??;
    for (path, bytes) in abandoned {
        add(&mut report.abandoned_quarantines, bytes);
        plan.paths.push(path);
    }
    let ids: HashSet<Uuid> = caches.iter().map(|(id, _)| *id).collect();
    let there = cleanup::existing(&app.db, Table::Uploads, &ids).await?;
    for (id, bytes) in caches.into_iter().filter(|(id, _)| !there.contains(id)) {
        add(&mut report.orphaned_caches, bytes);
        plan.caches.push(id);
    }
    Ok(())
}

/// Entries of a folder in which nothing was written since a time, with their bytes.
fn old_entries(dir: &Path, before: SystemTime) -> std::io::Result<Vec<(PathBuf, u64)>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut old = Vec::new();
    for entry in entries.take(MOST_OBJECTS) {
        let path = entry?.path();
        // What goes away meanwhile is not for us.
        if let Ok((newest, bytes)) = measure(&path, 8)
            && newest < before
        {
            old.push((path, bytes));
        }
    }
    Ok(old)
}

/// When something was last written there, and how many bytes there are.
fn measure(path: &Path, depth: u32) -> std::io::Result<(SystemTime, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    let mut newest = metadata.modified()?;
    if !metadata.is_dir() {
        return Ok((newest, metadata.len()));
    }
    let mut bytes = 0;
    if depth > 0 {
        for entry in std::fs::read_dir(path)? {
            let (at, size) = measure(&entry?.path(), depth - 1)?;
            newest = newest.max(at);
            bytes += size;
        }
    }
    Ok((newest, bytes))
}

fn remove(path: &Path) -> std::io::Result<()> {
    let is_dir = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let removed = if is_dir { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The scheduled clean-up, from the beginning to the end of the storage.
pub(super) async fn run(context: &JobContext) -> Result<(), JobError> {
    let (app, job) = (&context.app, &context.job);
    let mut request = Request { dry_run: false, grace: GRACE, after: None };
    loop {
        if context.cancel.is_cancelled() {
            return Err(JobError::Stopped);
        }
        let outcome = clean(app, &request).await.map_err(JobError::Transient)?;
        match outcome.next {
            Some(next) => request.after = Some(next),
            None => break,
        }
    }
    let mut tx = app.db.begin().await?;
    jobs::end(&mut tx, job.id, job.fence, &End::Done).await?;
    Ok(tx.commit().await?)
}

/// True for an `after` that [`clean`] could have answered.
pub fn is_cursor(key: &str) -> bool {
    crate::storage::validate_key(key).is_ok() && Key::parse(key).is_some()
}

/// Why a clean-up failed, told apart by what the caller can do.
pub fn unavailable(error: &anyhow::Error) -> bool {
    let database = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(DbError::Unavailable(_)))
    };
    storage_unavailable(error) || error.chain().any(database)
}

/// True if the storage did not do what it was asked.
pub(super) fn storage_unavailable(error: &anyhow::Error) -> bool {
    error.chain().any(is_storage)
}

/// Errors that only pass on what they wrap do not show it as their source, so it is looked
/// for in each of them.
fn is_storage(cause: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(error) = cause.downcast_ref::<SnapshotError>() {
        return matches!(error, SnapshotError::Storage(StorageError::Unavailable { .. }));
    }
    if let Some(IngestError::Snapshot(error)) = cause.downcast_ref() {
        return is_storage(error);
    }
    if let Some(error) = cause.downcast_ref::<std::io::Error>() {
        return error.get_ref().is_some_and(|inner| is_storage(inner));
    }
    matches!(cause.downcast_ref(), Some(StorageError::Unavailable { .. }))
}

#[cfg(test)]
mod tests;
