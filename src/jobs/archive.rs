//! From an archive in storage to a repository that can be read and scanned.
//!
//! The archive lies under its key until its ingest ended, well or not; a worker that
//! dies in between leaves it to the next try, which does not fetch it a second time.
//! What a death behind the end leaves is found by the clean-up. What is unpacked of the
//! archive lives in a scratch folder of this process, and of that only the snapshot
//! stays, and the packs of a `.git` if there was one: they are recorded as those of a
//! remote that never answered ([`uploads::replace_internal`]), so that the history is
//! scanned as after a push.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, header};
use serde_json::json;
use uuid::Uuid;

use super::fetch::credentials::Credentials;
use super::{ingest, quota, too_slow};
use crate::archive::{self, ArchiveError, Imported};
use crate::config;
use crate::db::events::{self, NewEvent};
use crate::db::jobs::{self, End};
use crate::db::repositories::{
    self, ArchiveCame, Failure, Ingest, IngestResult, Language, Repository,
};
use crate::db::scans::{self, NewScan, Settings, Trigger};
use crate::db::snapshots::{self, NewSnapshot};
use crate::db::sources;
use crate::db::uploads::{self, ClosedUpload, NewPack};
use crate::db::{DbError, Tx, new_id};
use crate::ingest::{IngestError, Ingested};
use crate::net::{Answer, Bounds, NetError};
use crate::queue::{JobContext, JobError};
use crate::remote;
use crate::scan::{Level, ScanConfig};
use crate::server::App;
use crate::storage::StorageError;
use crate::words::sentence;

/// What the job is about, if it is about an archive.
pub(super) fn came(context: &JobContext) -> Option<Result<ArchiveCame, JobError>> {
    let payload = context.job.payload.get("archive")?;
    Some(serde_json::from_value(payload.clone()).map_err(|error| JobError::Transient(error.into())))
}

pub(super) async fn run(context: &JobContext, came: &ArchiveCame) -> Result<(), JobError> {
    let (app, job) = (&context.app, &context.job);
    let mut tx = app.db.begin().await?;
    jobs::hold(&mut tx, job.id, job.fence).await?;
    let begun = repositories::begin_ingest(&mut tx, job.subject_id, None).await?;
    tx.commit().await?;
    match begun {
        None => ingest::end(context).await?,
        Some(begun) => {
            if !came.fetch || download(context, &begun, &came.key).await? {
                ingest_archive(context, &begun, came).await?;
            }
        }
    }
    // Only now: whoever takes the job over needs it.
    forget(context).await;
    Ok(())
}

/// Drops the archive of a job that has ended, if it is about one: nobody will ask for it
/// again. What stays is found by the clean-up.
pub(super) async fn forget(context: &JobContext) {
    let Some(Ok(came)) = came(context) else { return };
    if let Err(error) = context.app.storage.delete(&came.key).await {
        tracing::warn!("an archive that nobody needs stays until the clean-up: {error}");
    }
}

/// Brings the archive from the repository's URL to storage, through the guard and with
/// a running limit, unless an earlier try did. False if that failed for good, which is
/// then told.
async fn download(context: &JobContext, begun: &Ingest, key: &str) -> Result<bool, JobError> {
    let (app, job) = (&context.app, &context.job);
    let Some(repository) = repositories::by_id(&app.db, begun.repository_id).await? else {
        ingest::end(context).await?;
        return Ok(false);
    };
    // An object is there as a whole or not at all.
    match app.storage.size(key).await {
        Ok(bytes) => {
            arrived(context, &repository, bytes).await;
            return Ok(true);
        }
        Err(StorageError::NotFound { .. }) => {}
        Err(error) => return Err(JobError::Transient(error.into())),
    }
    let url = repository.source_url.as_deref().unwrap_or_default();
    // The query of a signed URL opens it: it is nobody's to read here.
    let shown = url.split(['?', '#']).next().unwrap_or_default();
    let data = json!({ "source_url": shown });
    ingest::progress(context, &repository, "Fetching the archive.", data).await;
    let started = Instant::now();
    let error = match fetch_to_storage(context, &repository, url, key).await? {
        Ok(bytes) => {
            app.metrics.fetched_by_url("archive", bytes);
            arrived(context, &repository, bytes).await;
            return Ok(true);
        }
        // A server that was too slow once is not given the same time again.
        Err(error)
            if error.is_temporary()
                && !matches!(error, NetError::Timeout { .. })
                && job.attempt < job.max_attempts =>
        {
            return Err(JobError::Transient(error.into()));
        }
        Err(error) => error,
    };
    tracing::info!(code = error.code(), "the archive was not fetched: {error}");
    let quota = match &error {
        NetError::TooLarge { .. } => Some("archive_bytes"),
        NetError::Timeout { .. } => too_slow(&app.config.limits, started.elapsed()),
        _ => None,
    };
    if let Some(quota) = quota {
        app.metrics.limit_hit(quota);
    }
    let end = if error.is_theirs() { End::Refused } else { End::Failed };
    fail(context, begun, Failure::new(error.code(), sentence(&error.to_string())), end).await?;
    Ok(false)
}

async fn arrived(context: &JobContext, repository: &Repository, bytes: u64) {
    let data = json!({ "bytes": bytes });
    ingest::progress(context, repository, "The archive is here.", data).await;
}

/// Ends the job as one that cannot succeed, and says why where the user looks.
async fn fail(
    context: &JobContext,
    begun: &Ingest,
    failure: Failure,
    end: impl FnOnce(String) -> End,
) -> Result<(), JobError> {
    let job = &context.job;
    let mut tx = context.app.db.begin().await?;
    repositories::fail_ingest(&mut tx, begun, &failure).await?;
    jobs::end(&mut tx, job.id, job.fence, &end(failure.message)).await?;
    Ok(tx.commit().await?)
}

async fn fetch_to_storage(
    context: &JobContext,
    repository: &Repository,
    url: &str,
    key: &str,
) -> Result<Result<u64, NetError>, JobError> {
    let app = &context.app;
    let limits = &app.config.limits;
    let bounds = Bounds {
        total: Duration::from_secs(limits.fetch_seconds),
        idle: Duration::from_secs(limits.push_idle_seconds),
        bytes: limits.archive_bytes,
        ..Bounds::default()
    };
    let url = match app.guard.check_url(url) {
        Ok(url) => url,
        Err(error) => return Ok(Err(error)),
    };
    let mut headers = HeaderMap::new();
    let source = sources::get(&app.db, repository.id).await?;
    if let Some(sealed) = source.and_then(|source| source.credentials)
        && let Some(open) =
            Credentials::open(&app.keys, repository.owner_id, repository.id, &sealed)
        && let Ok(mut value) = HeaderValue::try_from(open.basic())
    {
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    let answer = app.guard.get(&url, headers, &bounds).await;
    let mut answer = match answer.and_then(Answer::successful) {
        Ok(answer) => answer,
        Err(error) => return Ok(Err(error)),
    };
    // A writer that is dropped leaves nothing.
    let mut writer = app.storage.writer(key).await.map_err(anyhow::Error::from)?;
    loop {
        if context.cancel.is_cancelled() {
            return Err(JobError::Stopped);
        }
        match answer.chunk().await {
            Ok(Some(chunk)) => writer.write(chunk).await.map_err(anyhow::Error::from)?,
            Ok(None) => break,
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(writer.finish().await.map_err(anyhow::Error::from)?))
}

/// The last try failed: see [`super::failed`].
pub(super) async fn failed(
    tx: &mut Tx,
    id: Uuid,
    code: &str,
    message: &str,
) -> Result<(), DbError> {
    if let Some(begun) = repositories::begin_ingest(tx, id, None).await? {
        repositories::fail_ingest(tx, &begun, &Failure::new(code, message)).await?;
    }
    Ok(())
}

/// What stopped the ingest.
enum Stop {
    Archive(ArchiveError),
    Ingest(IngestError),
}

impl Stop {
    fn code(&self) -> &'static str {
        match self {
            Self::Archive(error) => error.code(),
            Self::Ingest(error) => error.code(),
        }
    }

    /// The quota that is in the way, if one is.
    fn quota(&self) -> Option<&'static str> {
        match self {
            Self::Archive(ArchiveError::Packs { limit, .. }) => remote::quota_behind(limit),
            other => quota(other.code()),
        }
    }

    fn is_temporary(&self) -> bool {
        match self {
            Self::Archive(error) => error.is_temporary(),
            Self::Ingest(error) => error.is_temporary(),
        }
    }

    fn is_refusal(&self) -> bool {
        match self {
            Self::Archive(error) => {
                matches!(error, ArchiveError::Refused { .. } | ArchiveError::Packs { .. })
            }
            Self::Ingest(error) => error.is_refusal(),
        }
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Archive(error) => error.fmt(f),
            Self::Ingest(error) => error.fmt(f),
        }
    }
}

/// Ingests the archive under a storage key into the repository whose ingest has begun,
/// and ends the job. The archive is left where it is.
pub(super) async fn ingest_archive(
    context: &JobContext,
    begun: &Ingest,
    came: &ArchiveCame,
) -> Result<(), JobError> {
    let (app, job) = (&context.app, &context.job);
    let snapshot_id = new_id();
    let root = app.config.data_dir.join("tmp");
    tokio::fs::create_dir_all(&root).await.map_err(anyhow::Error::from)?;
    let scratch = tempfile::Builder::new()
        .prefix("archive-")
        .tempdir_in(&root)
        .map_err(anyhow::Error::from)?;
    let done = work(context, begun, came, snapshot_id, scratch.path()).await?;
    match done {
        Ok((imported, ingested)) => {
            let history = match &imported.history {
                Some(history) => Some(store(app, history).await?),
                None => None,
            };
            let upload = history.as_ref().map(|history| history.id);
            let shown =
                finish(context, begun, came, snapshot_id, &imported, ingested, history).await?;
            if !shown {
                // Something newer came meanwhile; what was written here belongs to no row.
                let mut prefixes =
                    vec![format!("{}{snapshot_id}/", snapshots::storage_prefix(job.subject_id))];
                prefixes.extend(upload.map(uploads::storage_prefix));
                for prefix in prefixes {
                    app.storage.delete_prefix(&prefix).await.map_err(anyhow::Error::from)?;
                }
            }
        }
        Err(stop) if context.cancel.is_cancelled() => {
            tracing::debug!("the ingest of an archive stopped: {stop}");
            return Err(JobError::Stopped);
        }
        Err(stop) if stop.is_temporary() => {
            return Err(JobError::Transient(match stop {
                Stop::Archive(error) => error.into(),
                Stop::Ingest(error) => error.into(),
            }));
        }
        Err(stop) => {
            tracing::info!(code = stop.code(), "the archive was refused");
            if let Some(quota) = stop.quota() {
                app.metrics.limit_hit(quota);
            }
            let failure = Failure::new(stop.code(), sentence(&stop.to_string()));
            let end = if stop.is_refusal() { End::Refused } else { End::Failed };
            fail(context, begun, failure, end).await?;
        }
    }
    // Many files, perhaps.
    tokio::task::spawn_blocking(move || drop(scratch)).await.map_err(anyhow::Error::from)?;
    Ok(())
}

/// The limits of an archive, by the quotas of the server.
pub fn limits(limits: &config::Limits) -> archive::Limits {
    archive::Limits {
        total_bytes: limits.snapshot_bytes,
        file_bytes: limits.object_bytes,
        entries: limits.snapshot_files,
        time: Duration::from_secs(limits.archive_seconds),
        packs: sluice_git::firewall::Limits {
            pack_bytes: limits.push_bytes,
            objects: u32::try_from(limits.push_objects).unwrap_or(u32::MAX),
            object_bytes: limits.object_bytes,
            inflated_bytes: limits.push_inflated_bytes,
            resolved_bytes: limits.push_resolved_bytes,
            delta_depth: u16::try_from(limits.delta_depth).unwrap_or(u16::MAX),
            tree_entries: u32::try_from(limits.tree_entries).unwrap_or(u32::MAX),
            path_bytes: u32::try_from(limits.path_bytes).unwrap_or(u32::MAX),
            ..Default::default()
        },
        ..archive::Limits::default()
    }
}

async fn work(
    context: &JobContext,
    begun: &Ingest,
    came: &ArchiveCame,
    snapshot_id: Uuid,
    scratch: &Path,
) -> Result<Result<(Imported, Ingested), Stop>, JobError> {
    let app = &context.app;
    let file = local(app, &came.key, scratch).await?;
    let (limits, cancel) = (limits(&app.config.limits), context.cancel.clone());
    let folder = scratch.to_owned();
    let imported =
        tokio::task::spawn_blocking(move || archive::import(&file, &folder, &limits, &cancel));
    let imported = match imported.await.map_err(anyhow::Error::from)? {
        Ok(imported) => imported,
        Err(error) => return Ok(Err(Stop::Archive(error))),
    };
    let ingested =
        ingest::snapshot(context, begun, None, &imported.objects, Some(imported.head), snapshot_id)
            .await?;
    Ok(ingested.map(|ingested| (imported, ingested)).map_err(Stop::Ingest))
}

/// The archive as a file of this machine.
async fn local(app: &App, key: &str, scratch: &Path) -> Result<PathBuf, JobError> {
    if let Some(path) = app.storage.local_path(key) {
        return Ok(path);
    }
    let path = scratch.join("archive");
    let mut reader = app.storage.reader(key, None).await.map_err(anyhow::Error::from)?;
    let mut out = tokio::fs::File::create_new(&path).await.map_err(anyhow::Error::from)?;
    let copied = tokio::io::copy(&mut reader, &mut out).await;
    copied
        .map_err(|error| StorageError::of_copy("read an archive", error))
        .map_err(anyhow::Error::from)?;
    tokio::io::AsyncWriteExt::flush(&mut out).await.map_err(anyhow::Error::from)?;
    Ok(path)
}

/// Brings the packs of a history to storage.
async fn store(app: &App, history: &archive::History) -> Result<ClosedUpload, JobError> {
    let id = new_id();
    let prefix = uploads::storage_prefix(id);
    let mut packs = Vec::with_capacity(history.packs.len());
    for pack in &history.packs {
        let pack_key = format!("{prefix}pack-{}.pack", pack.name);
        let index_key = format!("{prefix}pack-{}.idx", pack.name);
        app.storage.put_file(&pack_key, &pack.pack).await.map_err(anyhow::Error::from)?;
        app.storage.put_file(&index_key, &pack.index).await.map_err(anyhow::Error::from)?;
        packs.push(NewPack {
            name: pack.name.to_string(),
            pack_key,
            index_key,
            bytes: pack.bytes,
            index_bytes: tokio::fs::metadata(&pack.index).await.map_err(anyhow::Error::from)?.len(),
            objects: pack.objects.into(),
        });
    }
    Ok(ClosedUpload {
        id,
        head_commit: history.head.to_string(),
        head_ref: history.head_ref.clone(),
        refs: history.refs.clone(),
        shallow: history.shallow.clone(),
        packs,
    })
}

/// Shows the snapshot, asks for the scan, ends the job. False if something newer came.
async fn finish(
    context: &JobContext,
    begun: &Ingest,
    came: &ArchiveCame,
    snapshot_id: Uuid,
    imported: &Imported,
    ingested: Ingested,
    history: Option<ClosedUpload>,
) -> Result<bool, JobError> {
    let (app, job) = (&context.app, &context.job);
    let branch = history.as_ref().and_then(|history| history.head_ref.as_deref());
    let result = IngestResult {
        snapshot: NewSnapshot {
            id: snapshot_id,
            commit_id: imported.commit.clone(),
            manifest_key: ingested.snapshot.key,
            file_count: ingested.snapshot.file_count,
            total_bytes: ingested.snapshot.total_bytes,
            stored_bytes: ingested.snapshot.bytes_stored,
        },
        languages: ingested
            .languages
            .into_iter()
            .map(|l| Language { name: l.name.clone(), bytes: l.bytes, files: l.files })
            .collect(),
        default_branch: branch
            .map(|name| name.strip_prefix("refs/heads/").unwrap_or(name).to_owned()),
        head_commit: imported.commit.clone(),
        threat_profile: ingest::profile_body(&ingested.profile),
    };
    let mut tx = app.db.begin().await?;
    let shown = repositories::finish_ingest(&mut tx, begun, &result).await?;
    if shown {
        let repository =
            repositories::by_id(&mut tx, job.subject_id).await?.ok_or(DbError::Fenced)?;
        if let Some(history) = &history {
            uploads::replace_internal(&mut tx, &repository, history).await?;
        }
        if came.scan {
            let upload = history.as_ref().map(|history| history.id);
            ask_for_scan(&mut tx, &repository, came, imported, snapshot_id, upload).await?;
        }
    }
    jobs::end(&mut tx, job.id, job.fence, &End::Done).await?;
    tx.commit().await?;
    if shown {
        let packs = history.iter().flat_map(|history| &history.packs);
        let packs: u64 = packs.map(uploads::NewPack::stored_bytes).sum();
        app.stored.add(result.snapshot.stored_bytes.saturating_add(packs));
    }
    Ok(shown)
}

/// The scan, with what is odd about the archive as its first events.
async fn ask_for_scan(
    tx: &mut Tx,
    repository: &Repository,
    came: &ArchiveCame,
    imported: &Imported,
    snapshot_id: Uuid,
    upload_id: Option<Uuid>,
) -> Result<(), DbError> {
    let scan = NewScan {
        repository_id: repository.id,
        project_id: repository.project_id,
        owner_id: repository.owner_id,
        upload_id,
        trigger: if came.session { Trigger::Session } else { Trigger::Ingest },
        settings: Settings {
            // Who leaves the history in an archive wants it looked at.
            config: ScanConfig { history: upload_id.is_some(), ..ScanConfig::default() },
            git_ref: None,
        },
        commit_id: imported.commit.clone(),
        snapshot_id: Some(snapshot_id),
    };
    let id = scans::create(tx, &scan).await?;
    let notes: Vec<NewEvent> = imported
        .notes
        .iter()
        .map(|note| NewEvent {
            level: Level::Warning,
            kind: "archive_note".to_owned(),
            message: sentence(&match note.paths.first() {
                Some(path) => format!("in the archive, {path}: {}", note.message),
                None => note.message.clone(),
            }),
            data: json!({ "code": note.code, "count": note.count, "paths": note.paths }),
        })
        .collect();
    events::append(tx, id, &notes).await
}

#[cfg(test)]
mod tests;
