//! A scan: the snapshot through the engines, findings merged, artefacts stored, and
//! the last event, the counts and the status in one transaction.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as JsonValue;
use sluice_git::fault;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::observer::Recorder;
use super::report;
use super::results::KeptResults;
use super::source::{History, SnapshotSource};
use crate::api::time::Time;
use crate::bare;
use crate::db::artifacts::Artifact;
use crate::db::findings::{self, Coverage};
use crate::db::jobs::{self, End};
use crate::db::scans::{self, Ending, ScanRow};
use crate::db::usage::{self, Kept, Kind};
use crate::db::{DbError, Tx, artifacts, now, repositories, snapshots, uploads};
use crate::ingest::ObjectPool;
use crate::ingest::history::{HistoryLimits, walk};
use crate::queue::{JobContext, JobError};
use crate::scan::driver::Surroundings;
use crate::scan::report::Meta;
use crate::scan::{
    HistoryContents, Limits, ScanConfig, ScanError, ScanOutcome, SourceError, driver,
};
use crate::server::App;
use crate::snapshot::Snapshot;

/// How often events and progress are written.
const STEP: Duration = Duration::from_millis(300);

pub(super) async fn run(context: &JobContext) -> Result<(), JobError> {
    let (app, job) = (&context.app, &context.job);
    let id = job.subject_id;

    // 1. Begin. A scan that has ended meanwhile ends its job with it.
    let mut tx = app.db.begin().await?;
    jobs::hold(&mut tx, job.id, job.fence).await?;
    let running = scans::start(&mut tx, id, &context.worker_id).await?;
    if !running {
        jobs::end(&mut tx, job.id, job.fence, &End::Done).await?;
    }
    tx.commit().await?;
    if !running {
        return Ok(());
    }
    fault::point("scan.begun");
    let owner = job.owner_id.ok_or_else(|| anyhow::anyhow!("a scan without an owner"))?;
    let gone = || anyhow::anyhow!("the scan is gone");
    let row = scans::get(&app.db, owner, id).await?.ok_or_else(gone)?;

    // 2. What to scan, and how.
    let (config, surroundings) =
        profiled(app, row.owner_id, row.repository_id, row.config.config.clone()).await?;
    let (snapshot, commit) = snapshot(app, &row).await?;
    let history = if config.history { history(app, &row, &snapshot).await? } else { None };

    // 3. The work, on a blocking thread, while a task writes what it says.
    let recorder = Arc::new(Recorder::default());
    let done = CancellationToken::new();
    let writer = tokio::spawn(write_along(context.clone(), recorder.clone(), done.clone()));
    let outcome =
        scan(context, &row, &config, surroundings, snapshot, history, recorder.clone()).await;
    done.cancel();
    writer.await.map_err(anyhow::Error::from)??;
    let (mut outcome, written) = outcome?;
    fault::point("scan.written");

    // 4. Artefacts first: no row may speak of what is not stored.
    let stored = report::store(&app.storage, id, job.fence, written).await?;
    fault::point("scan.stored");

    // 5. The outcome, all or nothing.
    for finding in &mut outcome.findings {
        for place in std::iter::once(&mut finding.location).chain(&mut finding.other_locations) {
            if place.commit.is_none() {
                place.commit.clone_from(&commit);
            }
        }
    }
    let used = [
        (Kind::FilesScanned, outcome.files_scanned),
        // Begun milliseconds count, so that no work is free.
        (Kind::ScanCpuMs, u64::try_from(outcome.cpu.as_micros().div_ceil(1000)).unwrap_or(0)),
        (Kind::Scans, 1),
    ];
    let gaps = recorder.gaps();
    let coverage = Coverage { config, truncated: gaps.truncated, skipped: gaps.skipped };
    let mut tx = app.db.begin().await?;
    let summary =
        findings::merge(&mut tx, &row, &coverage, outcome.findings, |rule| app.engines.rule(rule))
            .await?;
    // Behind the merge: events take the row of the project, which comes last.
    recorder.write(&mut tx, id).await?;
    for artifact in &stored {
        artifacts::put(&mut tx, artifact).await?;
    }
    scans::finish(&mut tx, id, &Ending::Completed(summary)).await?;
    jobs::end(&mut tx, job.id, job.fence, &End::Done).await?;
    meter(&mut tx, &row, &used, &stored).await?;
    fault::point("scan.before-commit");
    tx.commit().await?;
    fault::point("scan.committed");
    app.stored.add(stored.iter().map(|artifact| artifact.size.unsigned_abs()).sum());
    for (quota, times) in gaps.limits {
        app.metrics.limit_hits(quota, times);
    }
    let [(_, files), (_, cpu_ms), _] = used;
    app.metrics.scan_completed(&summary, files, cpu_ms);
    Ok(())
}

/// Counts a completed scan. One that failed or was cancelled costs nothing.
async fn meter(
    tx: &mut Tx,
    row: &ScanRow,
    used: &[(Kind, u64)],
    stored: &[Artifact],
) -> Result<(), DbError> {
    let (owner_id, project_id) = (row.owner_id, row.project_id);
    let event =
        usage::Event { subject_id: row.id, owner_id, project_id, at: now(), quantities: used };
    usage::record(tx, &event).await?;
    let kept: Vec<Kept<'_>> = stored
        .iter()
        .map(|artifact| Kept {
            key: &artifact.storage_key,
            holder_id: row.id,
            owner_id,
            project_id,
            bytes: artifact.size.unsigned_abs(),
        })
        .collect();
    usage::keep(tx, &kept).await?;
    Ok(())
}

/// The configuration of the scan with what people exclude for the whole repository, and
/// what the threat profile says about the place where the code runs.
pub(crate) async fn profiled(
    app: &App,
    owner_id: Uuid,
    repository_id: Uuid,
    mut config: ScanConfig,
) -> Result<(ScanConfig, Surroundings), DbError> {
    let mut surroundings = Surroundings::default();
    let profile = repositories::threat_profile(&app.db, owner_id, repository_id).await?;
    let Some(profile) = profile.map(|profile| profile.body.0) else {
        return Ok((config, surroundings));
    };
    let list = |name: &str| profile.get(name).and_then(JsonValue::as_array).into_iter().flatten();
    for path in list("excluded_paths").filter_map(JsonValue::as_str) {
        // A generated one is the name of a folder, which may be no glob.
        let alone = ScanConfig { exclude: vec![path.to_owned()], ..ScanConfig::default() };
        if driver::Globs::new(&alone).is_ok() {
            config.exclude.push(path.to_owned());
        }
    }
    if let Some(exposure) = profile.get("exposure").and_then(JsonValue::as_str) {
        exposure.clone_into(&mut surroundings.exposure);
    }
    surroundings.entry_points = list("entry_points")
        .filter_map(|entry| entry.get("path").and_then(JsonValue::as_str))
        .map(str::to_owned)
        .collect();
    Ok((config, surroundings))
}

/// The snapshot of the scan, and its commit.
async fn snapshot(app: &App, row: &ScanRow) -> Result<(Snapshot, Option<String>), JobError> {
    let missing = || JobError::Permanent {
        code: "no_snapshot",
        message: "There is nothing to scan: push a branch first.".to_owned(),
    };
    let id = match row.snapshot_id {
        Some(id) => id,
        None => repositories::by_id(&app.db, row.repository_id)
            .await?
            .and_then(|repository| repository.snapshot())
            .map(|snapshot| snapshot.id)
            .ok_or_else(missing)?,
    };
    let stored = snapshots::get(&app.db, row.owner_id, id).await?.ok_or_else(missing)?;
    let snapshot =
        Snapshot::open(&app.storage, &stored.manifest_key).await.map_err(anyhow::Error::from)?;
    Ok((snapshot, stored.commit_id))
}

/// The history behind the snapshot: every blob that a ref of the upload reaches and
/// that the snapshot does not hold.
async fn history(
    app: &App,
    row: &ScanRow,
    snapshot: &Snapshot,
) -> Result<Option<History>, JobError> {
    let upload = match row.upload_id {
        Some(id) => Some(id),
        None => uploads::of_repository(&app.db, row.repository_id).await?,
    };
    let Some(upload) = upload else { return Ok(None) };
    // Refs first: the objects that are found afterwards hold all that these lead to,
    // whatever is pushed meanwhile to another process.
    let tips: Vec<gix_hash::ObjectId> = uploads::refs(&app.db, upload)
        .await?
        .iter()
        .filter_map(|row| row.oid.parse().ok())
        .collect();
    let held = bare::objects(app, upload).await?;
    let hash = tips.first().map_or(snapshot.tree().kind(), |tip| tip.kind());
    let (snapshot, objects) = (snapshot.clone(), held.to_path_buf());
    let opened = tokio::task::spawn_blocking(move || {
        let known: HashSet<gix_hash::ObjectId> = snapshot
            .all_blocking()
            .map_err(anyhow::Error::from)?
            .into_iter()
            .map(|entry| entry.id)
            .collect();
        // The store may be a later one than that of the snapshot, and of the other kind.
        let pool = ObjectPool::open(&objects, hash)?;
        anyhow::Ok((Arc::new(pool), known))
    });
    let (objects, known) = opened.await.map_err(anyhow::Error::from)??;
    let pool = objects.clone();
    Ok(Some(History {
        held,
        objects,
        walk: Box::new(move |cancel| {
            walk(&pool.walker(), &tips, &known, &HistoryLimits::default(), cancel)
                .map(HistoryContents::from)
                .map_err(|error| SourceError(error.to_string()))
        }),
    }))
}

async fn scan(
    context: &JobContext,
    row: &ScanRow,
    config: &ScanConfig,
    surroundings: Surroundings,
    snapshot: Snapshot,
    history: Option<History>,
    recorder: Arc<Recorder>,
) -> Result<(ScanOutcome, Vec<report::Written>), JobError> {
    let app = context.app.clone();
    let limits = Limits {
        max_file_bytes: app.config.limits.scan_file_bytes,
        max_findings: u32::try_from(app.config.limits.scan_findings).unwrap_or(u32::MAX),
        ..Limits::default()
    };
    let seconds = app.config.limits.scan_seconds;
    let (config, cancel) = (config.clone(), context.cancel.clone());
    let kept = KeptResults::new(app.db.clone(), row.owner_id);
    let meta = Meta {
        name: repositories::by_id(&app.db, row.repository_id)
            .await?
            .map_or_else(String::new, |repository| repository.name),
        commit: row.commit_id.clone(),
        repository: None,
        timestamp: Some(Time(now()).to_string()),
        serial: Some(row.id),
    };
    let scratch = app.config.data_dir.join("tmp");
    // The driver runs on the engines' own threads; this one waits for them.
    debug_assert!(Handle::try_current().is_ok());
    let work = tokio::task::spawn_blocking(move || {
        let source = SnapshotSource::new(snapshot, history, limits.max_file_bytes)?;
        let mut outcome =
            driver::run(&app.engines, &source, &kept, &config, &limits, &*recorder, &cancel)?;
        surroundings.weigh(&mut outcome.findings);
        kept.flush();
        let written = report::write(&scratch, &outcome, &app.engines, &meta, &recorder.log())
            .map_err(|error| SourceError(format!("cannot write the artefacts: {error}")))?;
        Ok::<_, ScanError>((outcome, written))
    });
    let outcome = tokio::select! {
        outcome = work => outcome.map_err(anyhow::Error::from)?,
        () = tokio::time::sleep(Duration::from_secs(seconds.max(1))) => {
            context.cancel.cancel();
            context.app.metrics.limit_hit("scan_seconds");
            return Err(JobError::Permanent {
                code: "scan_timeout",
                message: format!(
                    "The scan took longer than {seconds} seconds. Exclude paths, choose fewer \
                     engines, or ask the operator for a larger SLUICE_LIMIT_SCAN_SECONDS."
                ),
            });
        }
    };
    outcome.map_err(|error| match error {
        ScanError::Cancelled => JobError::Stopped,
        ScanError::Config(message) => JobError::Permanent { code: "invalid_config", message },
        ScanError::Source(error) => JobError::Transient(error.into()),
    })
}

/// Writes events and progress until the work is done.
async fn write_along(
    context: JobContext,
    recorder: Arc<Recorder>,
    done: CancellationToken,
) -> Result<(), DbError> {
    loop {
        tokio::select! {
            () = done.cancelled() => return Ok(()),
            () = tokio::time::sleep(STEP) => {}
        }
        if !recorder.is_dirty() {
            continue;
        }
        let job = &context.job;
        let step = async {
            let mut tx = context.app.db.begin().await?;
            jobs::hold(&mut tx, job.id, job.fence).await?;
            recorder.write(&mut tx, job.subject_id).await?;
            tx.commit().await
        };
        match step.await {
            Ok(()) => {}
            Err(DbError::Fenced) => {
                context.cancel.cancel();
                return Err(DbError::Fenced);
            }
            // The next step may be luckier; but what was taken to be written is lost, and
            // events must have no hole: the job starts again.
            Err(error) => {
                context.cancel.cancel();
                return Err(error);
            }
        }
    }
}
