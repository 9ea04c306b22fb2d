//! From the newest head to a repository that can be read and scanned.
//!
//! Whatever the code comes from, it is in a store (the refs and packs of a git upload, or
//! the internal one of the repository) before the rest begins, which is the same for all:
//! snapshot, languages, threat profile, scan. A job that is run again finds in the store
//! what an earlier run brought there.

use std::path::Path;

use gix_hash::ObjectId;
use serde::Deserialize;
use serde_json::json;
use sluice_git::fault;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::{archive, fetch, quota};
use crate::bare;
use crate::db::jobs::{self, End, JobKind, NewJob};
use crate::db::project_events::{self, NewProjectEvent};
use crate::db::repositories::{self, Failure, Ingest, IngestResult, Language, Repository};
use crate::db::scans::{self, NewScan, Settings, Trigger};
use crate::db::snapshots::{self, NewSnapshot};
use crate::db::uploads::{self, Ingested as Shown, Upload};
use crate::db::{DbError, Tx, lfs, new_id};
use crate::ingest::{self, IngestError, Ingested, ThreatProfile};
use crate::queue::{JobContext, JobError};
use crate::scan::ScanConfig;
use crate::server::App;
use crate::snapshot::{Attached, AttachedObject, Options, Snapshot, TreeLimits};
use crate::words::sentence;

#[derive(Debug, Deserialize)]
struct Payload {
    #[serde(default)]
    source: Source,
    /// Where it was pushed to.
    upload_id: Option<Uuid>,
    scan: bool,
    #[serde(default)]
    history: bool,
}

/// Where the code comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    /// It was pushed; the upload has it.
    #[default]
    Push,
    /// The repository's URL, by git.
    Git,
}

impl Payload {
    fn trigger(&self) -> Trigger {
        match self.source {
            Source::Push => Trigger::Push,
            Source::Git => Trigger::Ingest,
        }
    }
}

/// The job that fetches the code of a repository from its URL.
pub(crate) fn fetch_job(repository: &Repository, scan: bool, history: bool) -> NewJob {
    NewJob {
        kind: JobKind::Ingest,
        subject_id: repository.id,
        owner_id: Some(repository.owner_id),
        payload: json!({ "source": "git", "scan": scan, "history": history }),
    }
}

/// Tells how an ingest goes on, to whoever follows the project.
pub(super) async fn progress(
    context: &JobContext,
    repository: &Repository,
    message: &str,
    data: serde_json::Value,
) {
    tracing::info!(job = %context.job.id, repository = %repository.id, %data, "{message}");
    let event = NewProjectEvent::info(repository.id, "ingest.progress", message, data);
    // Who follows is told when it can be; the work does not hang on it.
    let told = async {
        let mut tx = context.app.db.begin().await?;
        project_events::tell(&mut tx, repository.id, event).await?;
        tx.commit().await
    };
    if let Err(error) = told.await {
        tracing::warn!("the progress of an ingest was not noted: {error}");
    }
}

fn payload(context: &JobContext) -> Result<Payload, JobError> {
    serde_json::from_value(context.job.payload.clone())
        .map_err(|error| JobError::Transient(error.into()))
}

/// Code that is in a store.
struct Stored {
    upload_id: Uuid,
    head: Option<ObjectId>,
    /// The branch that HEAD points to.
    default_branch: Option<String>,
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
    let store = match payload.source {
        Source::Push => payload.upload_id,
        Source::Git => uploads::internal(&mut tx, job.subject_id).await?.map(|store| store.id),
    };
    let begun = repositories::begin_ingest(&mut tx, job.subject_id, store).await?;
    tx.commit().await?;
    fault::point("ingest.begun");
    let (Some(begun), Some(store)) = (begun, store) else { return end(context).await };
    let Some(store) = uploads::by_id(&app.db, store).await? else { return end(context).await };

    // 2. The code, if it is not here yet.
    let stored = match payload.source {
        Source::Push => Stored {
            upload_id: store.id,
            head: store.head_commit.as_deref().and_then(|id| id.parse().ok()),
            default_branch: store
                .head_ref
                .map(|name| name.strip_prefix("refs/heads/").unwrap_or(&name).to_owned()),
        },
        Source::Git => match bring(context, &begun, &payload, store).await? {
            Some(stored) => stored,
            None => return Ok(()),
        },
    };

    // 3. The work, on a blocking thread.
    let objects = bare::objects(app, stored.upload_id).await?;
    let snapshot_id = new_id();
    let outcome =
        snapshot(context, &begun, Some(stored.upload_id), &objects, stored.head, snapshot_id)
            .await?;
    drop(objects);
    fault::point("ingest.stored");

    // 4. The outcome, all or nothing.
    match outcome {
        Ok(ingested) => {
            let shown = finish(context, &begun, &payload, stored, snapshot_id, ingested).await?;
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
            if let Some(quota) = quota(error.code()) {
                app.metrics.limit_hit(quota);
            }
            let failure = Failure::new(error.code(), sentence(&error.to_string()));
            let end = if error.is_refusal() { End::Refused } else { End::Failed };
            fail(context, &begun, Some(stored.upload_id), failure, end).await
        }
    }
}

/// Brings the code from the repository's URL into its store. `None` if nothing is left
/// to do: it failed for good, or has not changed since the last ingest.
async fn bring(
    context: &JobContext,
    begun: &Ingest,
    payload: &Payload,
    store: Upload,
) -> Result<Option<Stored>, JobError> {
    let job = &context.job;
    let Some(repository) = repositories::by_id(&context.app.db, begun.repository_id).await? else {
        end(context).await?;
        return Ok(None);
    };
    let url = repository.source_url.as_deref().unwrap_or_default();
    let data = json!({ "source_url": url, "ref": repository.source_ref });
    progress(context, &repository, &format!("Fetching {url}."), data).await;
    let fetched = match fetch::run(context, &repository, store).await? {
        Ok(fetched) => fetched,
        Err(error) if error.is_temporary() && job.attempt < job.max_attempts => {
            return Err(JobError::Transient(error.into()));
        }
        Err(error) => {
            let failure = Failure::new(error.code(), sentence(&error.to_string()));
            let end = if error.is_theirs() { End::Refused } else { End::Failed };
            fail(context, begun, None, failure, end).await?;
            return Ok(None);
        }
    };
    let commit = fetched.commit.to_string();
    let data = json!({ "commit": commit, "ref": fetched.store.head_ref });
    progress(context, &repository, &format!("{commit} is here."), data).await;
    if repository.snapshot().is_some_and(|snapshot| snapshot.commit.as_ref() == Some(&commit)) {
        unchanged(context, begun, payload, &fetched.store, &commit).await?;
        return Ok(None);
    }
    Ok(Some(Stored {
        upload_id: fetched.store.id,
        head: Some(fetched.commit),
        default_branch: fetched.branch,
    }))
}

/// Ends the ingest of a head whose snapshot is there already. Its history may not have
/// been scanned yet, since it was not asked for until now; then it is.
async fn unchanged(
    context: &JobContext,
    begun: &Ingest,
    payload: &Payload,
    store: &Upload,
    commit: &str,
) -> Result<(), JobError> {
    let job = &context.job;
    let mut tx = context.app.db.begin().await?;
    if repositories::unchanged(&mut tx, begun, commit).await? {
        // A scan from before the store changed saw less of the history.
        let since = store.pushed_at.unwrap_or(0);
        let wanted = payload.scan && payload.history;
        let scan_id = if wanted
            && !scans::history_scanned(&mut tx, begun.repository_id, commit, since).await?
        {
            Some(ask_for_scan(&mut tx, begun, payload, store.id, commit).await?)
        } else {
            store.scan_id
        };
        uploads::set_status(&mut tx, store.id, &Shown::Ready { scan_id }).await?;
    }
    jobs::end(&mut tx, job.id, job.fence, &End::Done).await?;
    Ok(tx.commit().await?)
}

/// Ends the job as one that cannot succeed, and says why where the user looks.
async fn fail(
    context: &JobContext,
    begun: &Ingest,
    upload_id: Option<Uuid>,
    failure: Failure,
    end: impl FnOnce(String) -> End,
) -> Result<(), JobError> {
    let job = &context.job;
    tracing::info!(code = failure.code, "the ingest failed: {}", failure.message);
    let mut tx = context.app.db.begin().await?;
    let end = end(failure.message.clone());
    if repositories::fail_ingest(&mut tx, begun, &failure).await?
        && let Some(id) = upload_id
    {
        uploads::set_status(&mut tx, id, &Shown::Failed(failure)).await?;
    }
    jobs::end(&mut tx, job.id, job.fence, &end).await?;
    Ok(tx.commit().await?)
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
    let begun = repositories::begin_ingest(tx, id, payload.upload_id).await?;
    let Some(begun) = begun else { return Ok(()) };
    let failure = Failure::new(code, message);
    if repositories::fail_ingest(tx, &begun, &failure).await?
        && let Some(upload_id) = payload.upload_id
    {
        uploads::set_status(tx, upload_id, &Shown::Failed(failure)).await?;
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

/// Objects of Git LFS that are read at once.
const LFS_PAGE: u32 = 1000;

/// The objects of Git LFS that a store has.
async fn attached(app: &App, upload_id: Option<Uuid>) -> Result<Attached, JobError> {
    let Some(upload_id) = upload_id else { return Ok(Attached::default()) };
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let page = lfs::list(&app.db, upload_id, &after, LFS_PAGE).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.oid);
        for object in page {
            // Written by this server, and so an id.
            let Ok(blob) = object.blob.parse() else { continue };
            let (size, key) = (object.size.unsigned_abs(), object.storage_key);
            all.push((object.oid, AttachedObject { size, blob, key }));
        }
    }
    Ok(all.into_iter().collect())
}

/// Writes the snapshot of a commit, on a blocking thread.
pub(super) async fn snapshot(
    context: &JobContext,
    begun: &Ingest,
    upload_id: Option<Uuid>,
    objects: &Path,
    head: Option<ObjectId>,
    snapshot_id: Uuid,
) -> Result<Result<Ingested, IngestError>, JobError> {
    let app = context.app.clone();
    let previous = previous(&app, begun.repository_id).await?;
    let attached = attached(&app, upload_id).await?;
    let prefix = snapshots::storage_prefix(begun.repository_id);
    let limits = &app.config.limits;
    let options = Options {
        limits: TreeLimits {
            max_entries: limits.snapshot_files,
            max_bytes: limits.snapshot_bytes,
            max_path: usize::try_from(limits.path_bytes).unwrap_or(usize::MAX),
            ..TreeLimits::default()
        },
        attached,
        ..Options::default()
    };
    let (runtime, cancel) = (Handle::current(), context.cancel.clone());
    let objects = objects.to_owned();
    let work = tokio::task::spawn_blocking(move || {
        let hash = head.map_or(gix_hash::Kind::Sha1, |head| head.kind());
        let odb = ingest::open_objects(&objects, hash).map_err(anyhow::Error::from)?;
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
    stored: Stored,
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
        default_branch: stored.default_branch,
        head_commit: Some(ingested.head.commit.clone()),
        threat_profile: profile_body(&ingested.profile),
    };
    let mut tx = app.db.begin().await?;
    let shown = repositories::finish_ingest(&mut tx, begun, &result).await?;
    if shown {
        let scan_id = if payload.scan {
            let commit = &ingested.head.commit;
            Some(ask_for_scan(&mut tx, begun, payload, stored.upload_id, commit).await?)
        } else {
            None
        };
        uploads::set_status(&mut tx, stored.upload_id, &Shown::Ready { scan_id }).await?;
    }
    jobs::end(&mut tx, job.id, job.fence, &End::Done).await?;
    fault::point("ingest.before-commit");
    tx.commit().await?;
    fault::point("ingest.committed");
    if shown {
        app.stored.add(result.snapshot.stored_bytes);
    }
    Ok(shown)
}

async fn ask_for_scan(
    tx: &mut Tx,
    begun: &Ingest,
    payload: &Payload,
    upload_id: Uuid,
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
            upload_id: Some(upload_id),
            trigger: payload.trigger(),
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
