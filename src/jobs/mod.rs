//! What a worker does, free of HTTP.
//!
//! A job writes its outcome and its own end in one transaction; until that commits
//! nothing of it is visible, and after it another run of the same job changes
//! nothing, because its fence is spent.

mod archive;
pub mod cleanup;
mod delete;
pub(crate) mod fetch;
pub(crate) mod ingest;
mod observer;
mod report;
pub mod reseal;
pub mod results;
mod scan;
pub mod source;
mod webhook;

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::config::Limits;
use crate::db::jobs::{self, End, JobKind};
use crate::db::scans::{self, Ending, Failure};
use crate::db::{DbError, findings, now, webhooks};
use crate::net::NetError;
use crate::queue::{JobContext, JobError};
use crate::server::App;
use fetch::error::FetchError;
pub(crate) use observer::quota as quota_of_event;
pub(crate) use results::KeptResults;
pub(crate) use scan::profiled;

/// Runs a claimed job.
pub async fn run(context: JobContext) -> Result<(), JobError> {
    match context.job.kind {
        JobKind::Ingest => ingest::run(&context).await,
        JobKind::Scan => scan::run(&context).await,
        JobKind::DeleteObjects => delete::run(&context).await,
        JobKind::Webhook => webhook::run(&context).await,
        JobKind::Cleanup => cleanup::run(&context).await,
    }
}

/// Ends a job that somebody wished to stop, and says so where the user looks.
pub async fn cancelled(context: &JobContext) -> Result<(), DbError> {
    let job = &context.job;
    let mut tx = context.app.db.begin().await?;
    if job.kind == JobKind::Scan {
        scans::finish(&mut tx, job.subject_id, &Ending::Cancelled).await?;
    }
    jobs::end(&mut tx, job.id, job.fence, &End::Cancelled).await?;
    tx.commit().await?;
    ended(context, "cancelled").await;
    Ok(())
}

/// Ends a job that failed for good, and says so where the user looks.
pub async fn failed(context: &JobContext, code: &str, message: &str) -> Result<(), DbError> {
    let job = &context.job;
    let mut tx = context.app.db.begin().await?;
    match job.kind {
        JobKind::Scan => {
            let failure = Failure { code: code.to_owned(), message: message.to_owned() };
            scans::finish(&mut tx, job.subject_id, &Ending::Failed(failure)).await?;
        }
        JobKind::Ingest => ingest::failed(&mut tx, context, code, message).await?,
        JobKind::Webhook => webhook::failed(&mut tx, context, message).await?,
        JobKind::DeleteObjects | JobKind::Cleanup => {}
    }
    jobs::end(&mut tx, job.id, job.fence, &End::Failed(format!("{code}: {message}"))).await?;
    tx.commit().await?;
    ended(context, "failed").await;
    Ok(())
}

/// What follows once the end of a job that did not succeed is committed.
async fn ended(context: &JobContext, status: &'static str) {
    match context.job.kind {
        JobKind::Scan => context.app.metrics.scan_ended(status),
        JobKind::Ingest => archive::forget(context).await,
        JobKind::DeleteObjects | JobKind::Webhook | JobKind::Cleanup => {}
    }
}

/// The quota that refused an archive or a tree, by the code of the error, if one did.
fn quota(code: &str) -> Option<&'static str> {
    Some(match code {
        "archive_too_large" | "too_large" => "snapshot_bytes",
        "too_many_files" => "snapshot_files",
        "file_too_large" => "object_bytes",
        "archive_too_slow" => "archive_seconds",
        _ => return None,
    })
}

/// The quota that a server of others was too slow for, if it was one: to look up a name
/// and to connect have bounds of their own.
fn too_slow(limits: &Limits, took: Duration) -> Option<&'static str> {
    if took >= Duration::from_secs(limits.fetch_seconds) {
        Some("fetch_seconds")
    } else if took >= Duration::from_secs(limits.push_idle_seconds) {
        Some("push_idle_seconds")
    } else {
        None
    }
}

/// Whether a job failed because of the server that the user named. The user is told of
/// it; for the operator nothing is wrong.
pub(crate) fn is_theirs(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<FetchError>() {
        Some(error) => error.is_theirs(),
        None => error.downcast_ref::<NetError>().is_some_and(NetError::is_theirs),
    }
}

/// Whether a job failed because the storage is away, for everybody: then no try of it is
/// used up, however long that lasts. What fails at one object alone is an error.
pub(crate) async fn waits_for_storage(app: &App, error: &anyhow::Error) -> bool {
    const PATIENCE: Duration = Duration::from_secs(5);
    if !cleanup::storage_unavailable(error) {
        return false;
    }
    !matches!(tokio::time::timeout(PATIENCE, app.storage.check()).await, Ok(Ok(())))
}

/// What is due now and then. Called every few seconds; the costly parts run hourly.
pub async fn sweep(app: &App) -> Result<(), DbError> {
    static LAST: AtomicI64 = AtomicI64::new(0);
    const HOUR: i64 = 3_600_000_000;
    let at = now();
    findings::expire_dismissals(&app.db, at).await?;
    if at - LAST.load(Ordering::Relaxed) > HOUR {
        LAST.store(at, Ordering::Relaxed);
        crate::accounts::sweep(&app.db).await?;
        webhooks::forget(&app.db, at - webhooks::KEPT).await?;
        jobs::schedule_cleanup(&app.db, 6 * HOUR).await?;
    }
    Ok(())
}
