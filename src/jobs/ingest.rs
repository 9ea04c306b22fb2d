//! From the newest pushed head to a repository that can be read and scanned.

use gix_hash::ObjectId;
use serde::Deserialize;
use serde_json::json;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::archive;
use crate::bare;
use crate::db::jobs::{self, End};
use crate::db::repositories::{self, Failure, Ingest, IngestResult, Language};
use crate::db::scans::{self, NewScan, Settings, Trigger};
use crate::db::snapshots::{self, NewSnapshot};
use crate::db::uploads::{self, Ingested as Shown};
use crate::db::{DbError, Tx, new_id};
use crate::ingest::{self, IngestError, Ingested, ThreatProfile};
use crate::queue::{JobContext, JobError};
use crate::scan::ScanConfig;
use crate::server::App;
use crate::snapshot::{Options, Snapshot, TreeLimits};

#[derive(Debug, Deserialize)]
struct Payload {
    upload_id: Uuid,
    scan: bool,
    #[serde(default)]
    history: bool,
}

fn payload(context: &JobContext) -> Result<Payload, JobError> {
    serde_json::from_value(context.job.payload.clone())
        .map_err(|error| JobError::Transient(error.into()))
}

pub(super) async fn run(context: &JobContext) -> Result<(), JobError> {
    if let Some(came) = archive::came(context) {
        return archive::run(context, &came?).await;
    }
    let (app, job) = (&context.app, &context.job);
    let payload = payload(context)?;

    // 1. Begin, and only then read the head: a newer one makes a newer generation.
    let mut tx = app.db.begin().await?;
    jobs::hold(&mut tx, job.id, job.fence).await?;
    let begun =
        repositories::begin_ingest(&mut tx, job.subject_id, Some(payload.upload_id)).await?;
    tx.commit().await?;
    let Some(begun) = begun else { return end(context).await };
    let Some(upload) = uploads::by_id(&app.db, payload.upload_id).await? else {
        return end(context).await;
    };
    let head: Option<ObjectId> = upload.head_commit.as_deref().and_then(|id| id.parse().ok());

    // 2. The work, on a blocking thread.
    let objects = bare::objects(app, upload.id).await?;
    let snapshot_id = new_id();
    let outcome = snapshot(context, &begun, objects, head, snapshot_id).await?;

    // 3. The outcome, all or nothing.
    match outcome {
        Ok(ingested) => {
            let shown = finish(
                context,
                &begun,
                &payload,
                upload.head_ref.as_deref(),
                snapshot_id,
                ingested,
            )
            .await?;
            if !shown {
                // A newer head came meanwhile and has a job of its own; what was written
                // here belongs to no row.
                let prefix = format!("{}{snapshot_id}/", snapshots::storage_prefix(job.subject_id));
                app.storage.delete_prefix(&prefix).await.map_err(anyhow::Error::from)?;
            }
            Ok(())
        }
        Err(error) if context.cancel.is_cancelled() => {
            tracing::debug!("the ingest stopped: {error}");
            Err(JobError::Stopped)
        }
        Err(error) if error.is_temporary() => Err(JobError::Transient(error.into())),
        Err(error) => {
            tracing::info!(code = error.code(), "the ingest failed: {error}");
            let mut tx = app.db.begin().await?;
            let failure = Failure::new(error.code(), error.to_string());
            if repositories::fail_ingest(&mut tx, &begun, &failure).await? {
                uploads::set_status(&mut tx, payload.upload_id, &Shown::Failed(failure)).await?;
            }
            jobs::end(&mut tx, job.id, job.fence, &End::Failed(error.to_string())).await?;
            Ok(tx.commit().await?)
        }
    }
}

/// Nothing is left to do.
pub(super) async fn end(context: &JobContext) -> Result<(), JobError> {
    let mut tx = context.app.db.begin().await?;
    jobs::end(&mut tx, context.job.id, context.job.fence, &End::Done).await?;
    Ok(tx.commit().await?)
}

/// The last try failed: see [`super::failed`].
pub(super) async fn failed(
    tx: &mut Tx,
    context: &JobContext,
    code: &str,
    message: &str,
) -> Result<(), DbError> {
    let id = context.job.subject_id;
    if archive::came(context).is_some() {
        return archive::failed(tx, id, code, message).await;
    }
    let Ok(payload) = payload(context) else { return Ok(()) };
    let begun = repositories::begin_ingest(tx, id, Some(payload.upload_id)).await?;
    let Some(begun) = begun else { return Ok(()) };
    let failure = Failure::new(code, message);
    if repositories::fail_ingest(tx, &begun, &failure).await? {
        uploads::set_status(tx, payload.upload_id, &Shown::Failed(failure)).await?;
    }
    Ok(())
}

/// The newest snapshot of the repository, whose data is used again. One that cannot
/// be opened is no reason to fail: everything is written anew.
async fn previous(app: &App, repository_id: Uuid) -> Result<Option<Snapshot>, JobError> {
    let Some(repository) = repositories::by_id(&app.db, repository_id).await? else {
        return Ok(None);
    };
    let Some(id) = repository.snapshot().map(|s| s.id) else { return Ok(None) };
    let Some(row) = snapshots::get(&app.db, repository.owner_id, id).await? else {
        return Ok(None);
    };
    match Snapshot::open(&app.storage, &row.manifest_key).await {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(error) => {
            tracing::warn!("the last snapshot cannot be used again: {error}");
            Ok(None)
        }
    }
}

/// Writes the snapshot of a commit, on a blocking thread.
pub(super) async fn snapshot(
    context: &JobContext,
    begun: &Ingest,
    objects: std::path::PathBuf,
    head: Option<ObjectId>,
    snapshot_id: Uuid,
) -> Result<Result<Ingested, IngestError>, JobError> {
    let app = context.app.clone();
    let previous = previous(&app, begun.repository_id).await?;
    let prefix = snapshots::storage_prefix(begun.repository_id);
    let limits = &app.config.limits;
    let options = Options {
        limits: TreeLimits {
            max_entries: limits.snapshot_files,
            max_bytes: limits.snapshot_bytes,
            ..TreeLimits::default()
        },
        ..Options::default()
    };
    let (runtime, cancel) = (Handle::current(), context.cancel.clone());
    let work = tokio::task::spawn_blocking(move || {
        let odb = ingest::open_objects(&objects).map_err(anyhow::Error::from)?;
        let request = ingest::Request {
            storage: &app.storage,
            runtime: &runtime,
            prefix: prefix.trim_end_matches('/'),
            snapshot_id: &snapshot_id.to_string(),
            previous: previous.as_ref(),
            options: &options,
        };
        anyhow::Ok(ingest::ingest(&odb, head, &request, &|_| (), &cancel))
    });
    Ok(work.await.map_err(anyhow::Error::from)??)
}

/// Shows the snapshot, asks for the scan, ends the job. False if a newer head came.
async fn finish(
    context: &JobContext,
    begun: &Ingest,
    payload: &Payload,
    head_ref: Option<&str>,
    snapshot_id: Uuid,
    ingested: Ingested,
) -> Result<bool, JobError> {
    let (app, job) = (&context.app, &context.job);
    let result = IngestResult {
        snapshot: NewSnapshot {
            id: snapshot_id,
            commit_id: Some(ingested.head.commit.clone()),
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
        default_branch: head_ref
            .map(|name| name.strip_prefix("refs/heads/").unwrap_or(name).to_owned()),
        head_commit: Some(ingested.head.commit.clone()),
        threat_profile: profile_body(&ingested.profile),
    };
    let mut tx = app.db.begin().await?;
    let shown = repositories::finish_ingest(&mut tx, begun, &result).await?;
    if shown {
        let scan_id = if payload.scan {
            Some(ask_for_scan(&mut tx, begun, payload, &ingested.head.commit).await?)
        } else {
            None
        };
        uploads::set_status(&mut tx, payload.upload_id, &Shown::Ready { scan_id }).await?;
    }
    jobs::end(&mut tx, job.id, job.fence, &End::Done).await?;
    tx.commit().await?;
    Ok(shown)
}

async fn ask_for_scan(
    tx: &mut Tx,
    begun: &Ingest,
    payload: &Payload,
    commit: &str,
) -> Result<Uuid, DbError> {
    let repository =
        repositories::by_id(&mut *tx, begun.repository_id).await?.ok_or(DbError::Fenced)?;
    scans::create(
        tx,
        &NewScan {
            repository_id: repository.id,
            project_id: repository.project_id,
            owner_id: repository.owner_id,
            upload_id: Some(payload.upload_id),
            trigger: Trigger::Push,
            settings: Settings {
                config: ScanConfig { history: payload.history, ..ScanConfig::default() },
                git_ref: None,
            },
            commit_id: Some(commit.to_owned()),
            snapshot_id: repository.snapshot().map(|snapshot| snapshot.id),
        },
    )
    .await
}

/// The profile as the API shows it; who made it and when is in columns of the row.
pub(super) fn profile_body(profile: &ThreatProfile) -> serde_json::Value {
    let mut body = serde_json::to_value(profile).unwrap_or_else(|_| json!({}));
    if let Some(body) = body.as_object_mut() {
        body.remove("source");
        body.remove("version");
        body.remove("updated_at");
    }
    body
}
