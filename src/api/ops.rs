//! Operations, for members of the group `ops`.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::caller::Caller;
use super::error::ApiError;
use super::extract::OptionalJson;
use super::time::Time;
use crate::config::{LIMITS, Limits};
use crate::db::{self, jobs, usage};
use crate::jobs::cleanup::{self, GRACE, LEAST_GRACE};
use crate::queue::Depth;
use crate::server::App;
use crate::storage::Removed;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(limits)).routes(routes!(workers)).routes(routes!(clean))
}

const GROUP: &str = "ops";

/// A quota.
#[derive(Debug, Serialize, ToSchema)]
struct Limit {
    #[schema(example = "projects")]
    name: &'static str,
    /// As it is set.
    #[schema(example = 10_000)]
    value: u64,
    #[schema(example = 10_000)]
    default: u64,
    /// `bytes`, `count` or `seconds`.
    #[schema(example = "count")]
    unit: &'static str,
    /// The variable that sets it.
    #[schema(example = "SLUICE_LIMIT_PROJECTS")]
    env: &'static str,
    #[schema(example = "Projects of one account.")]
    description: &'static str,
    /// The most that any account, remote or project has, or what the server has; only of
    /// quotas of such.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, example = 12)]
    used: Option<i64>,
}

/// All quotas.
#[derive(Debug, Serialize, ToSchema)]
struct LimitList {
    items: Vec<Limit>,
    /// Always null: there is one page.
    next_cursor: Option<String>,
}

/// The quotas of this server
///
/// With what they are set to and by which variable.
#[utoipa::path(get, path = "/v1/ops/limits", tag = "Operations", operation_id = "list_limits",
    responses((status = OK, description = "All quotas.", body = LimitList)))]
async fn limits(State(app): State<App>, caller: Caller) -> Result<Json<LimitList>, ApiError> {
    caller.require_group(GROUP)?;
    let most = usage::most(&app.db).await?;
    let items: Vec<Limit> = LIMITS
        .iter()
        .map(|spec| Limit {
            name: spec.name,
            value: app.config.limits.get(spec.name).unwrap_or(spec.default),
            default: Limits::default().get(spec.name).unwrap_or(spec.default),
            unit: spec.unit,
            env: spec.env,
            description: spec.meaning.trim(),
            used: match spec.name {
                "projects" => Some(most.projects),
                "uploads" => Some(most.uploads),
                "api_keys" => Some(most.api_keys),
                "upload_stored_bytes" => Some(most.upload_bytes),
                "project_stored_bytes" => Some(most.project_bytes),
                "server_stored_bytes" => Some(most.server_bytes),
                "git_cache_bytes" => Some(i64::try_from(app.bare.bytes()).unwrap_or(i64::MAX)),
                _ => None,
            },
        })
        .collect();
    Ok(Json(LimitList { items, next_cursor: None }))
}

/// A worker that was not heard of for this long (microseconds) counts as stale: four
/// of its heartbeats.
const STALE: i64 = 20_000_000;

/// How old the figures of the messages may be.
const FRESH: Duration = Duration::from_secs(2);

/// Rows of one answer: far more than there ever are.
const MOST: u32 = 1_000;

/// A process that runs jobs.
#[derive(Debug, Serialize, ToSchema)]
struct Worker {
    id: String,
    host: String,
    version: String,
    started_at: Time,
    last_heartbeat_at: Time,
    /// `alive`, or `stale` if it was not heard of for 20 seconds.
    #[schema(example = "alive")]
    status: &'static str,
    /// What it does now.
    jobs: Vec<WorkerJob>,
}

#[derive(Debug, Serialize, ToSchema)]
struct WorkerJob {
    id: Uuid,
    #[schema(example = "scan")]
    kind: String,
    /// What it is done to, such as the scan.
    subject_id: Uuid,
    started_at: Option<Time>,
    /// 1 for the first try.
    attempt: i64,
}

/// Jobs of one kind.
#[derive(Debug, Serialize, ToSchema)]
struct QueueDepth {
    #[schema(example = "scan")]
    kind: &'static str,
    queued: i64,
    running: usize,
    /// Jobs that were given up.
    dead: i64,
    /// How long the first of the jobs that wait has been due; null if none waits.
    oldest_age_seconds: Option<i64>,
}

/// Messages that tell workers of jobs. They only point to them: what waits, runs and was
/// given up is counted above.
#[derive(Debug, Serialize, ToSchema)]
struct QueueMessages {
    /// Null if the queue tells its figures; else why it does not.
    #[schema(example = json!(null))]
    error: Option<String>,
    /// That wait to be received, about.
    waiting: Option<i64>,
    /// That were received for jobs that run, about.
    in_flight: Option<i64>,
    /// Of jobs that may not run yet, about.
    delayed: Option<i64>,
    /// That nobody could use, in the queue for dead letters; null if there is none.
    dead: Option<i64>,
}

impl From<Result<Depth, String>> for QueueMessages {
    fn from(depth: Result<Depth, String>) -> Self {
        let known = depth.as_ref().ok().copied();
        Self {
            waiting: known.map(|depth| depth.waiting),
            in_flight: known.map(|depth| depth.in_flight),
            delayed: known.map(|depth| depth.delayed),
            dead: known.and_then(|depth| depth.dead),
            error: depth.err(),
        }
    }
}

/// The workers and what waits for them.
#[derive(Debug, Serialize, ToSchema)]
struct WorkerList {
    /// The youngest first.
    items: Vec<Worker>,
    /// Always null: there is one page.
    next_cursor: Option<String>,
    /// Jobs that wait.
    queue_depth: i64,
    /// Jobs that were given up, and messages that nobody could use.
    dead_letters: i64,
    /// By kind.
    queue: Vec<QueueDepth>,
    /// Null of a server whose jobs wait in the database alone.
    messages: Option<QueueMessages>,
}

/// The workers of this server, and the queue
#[utoipa::path(get, path = "/v1/ops/workers", tag = "Operations", operation_id = "list_workers",
    responses((status = OK, description = "All workers.", body = WorkerList)))]
async fn workers(State(app): State<App>, caller: Caller) -> Result<Json<WorkerList>, ApiError> {
    caller.require_group(GROUP)?;
    let db = &app.db;
    let (workers, running) = (jobs::workers(db, MOST).await?, jobs::running(db, MOST).await?);
    let (waiting, dead) = (jobs::waiting(db).await?, jobs::dead(db).await?);
    let at = db::now();
    let queue: Vec<QueueDepth> = jobs::JobKind::ALL
        .iter()
        .map(|kind| {
            let kind = kind.as_str();
            let row = waiting.iter().find(|row| row.kind == kind);
            QueueDepth {
                kind,
                queued: row.map_or(0, |row| row.queued),
                running: running.iter().filter(|job| job.kind == kind).count(),
                dead: dead.iter().find(|(name, _)| name == kind).map_or(0, |(_, count)| *count),
                oldest_age_seconds: row.map(|row| (at - row.oldest).max(0) / 1_000_000),
            }
        })
        .collect();
    let messages = app.queue.depth(FRESH).await.map(QueueMessages::from);
    let dead: i64 = queue.iter().map(|depth| depth.dead).sum();
    let dead_letters = dead + messages.as_ref().and_then(|messages| messages.dead).unwrap_or(0);
    let depth: i64 = queue.iter().map(|depth| depth.queued).sum();
    let items: Vec<Worker> = workers
        .into_iter()
        .map(|worker| Worker {
            jobs: running
                .iter()
                .filter(|job| job.worker_id.as_deref() == Some(&worker.id))
                .map(|job| WorkerJob {
                    id: job.id,
                    kind: job.kind.clone(),
                    subject_id: job.subject_id,
                    started_at: job.started_at.map(Time),
                    attempt: job.attempt,
                })
                .collect(),
            status: if worker.last_heartbeat_at > at - STALE { "alive" } else { "stale" },
            id: worker.id,
            host: worker.host,
            version: worker.version,
            started_at: Time(worker.started_at),
            last_heartbeat_at: Time(worker.last_heartbeat_at),
        })
        .collect();
    Ok(Json(WorkerList {
        items,
        next_cursor: None,
        queue_depth: depth,
        dead_letters,
        queue,
        messages,
    }))
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CleanupInput, example = json!({"dry_run": true}))]
struct Clean {
    /// Only tell what would be removed. Left out, it is removed.
    dry_run: Option<bool>,
    /// What is younger stays, in seconds. Left out, it is a day.
    #[schema(minimum = 3600, maximum = 315_360_000)]
    older_than: Option<u64>,
    /// `next_cursor` of the answer to go on from.
    #[schema(max_length = 1024, pattern = "^(archives|artifacts|health|packs|snapshots)/")]
    cursor: Option<String>,
}

/// Things and their bytes.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
struct Figures {
    objects: u64,
    bytes: u64,
}

impl From<Removed> for Figures {
    fn from(removed: Removed) -> Self {
        Self { objects: removed.objects, bytes: removed.bytes }
    }
}

/// What was removed, or would be.
#[derive(Debug, Serialize, ToSchema)]
struct Cleaned {
    dry_run: bool,
    /// In seconds.
    older_than: u64,
    /// By kind: expired remotes, orphaned packs, snapshots, artefacts, archives and
    /// caches, abandoned quarantines, dead sessions and more.
    removed: BTreeMap<&'static str, Figures>,
    total: Figures,
    /// Where to go on; null if all was looked at.
    next_cursor: Option<String>,
}

/// Ten years.
const MOST_SECONDS: u64 = 315_360_000;

/// Remove what nothing refers to any more
///
/// Runs by itself every few hours too. It is safe beside pushes, ingests and scans. A
/// call looks at 50,000 stored objects at most; `next_cursor` tells where to go on. A
/// dry run tells what a real one would remove.
#[utoipa::path(post, path = "/v1/ops/cleanup", tag = "Operations", operation_id = "cleanup",
    request_body = Option<Clean>, responses((status = OK, description = "What was removed.", body = Cleaned)))]
async fn clean(
    State(app): State<App>,
    caller: Caller,
    OptionalJson(body): OptionalJson<Clean>,
) -> Result<Json<Cleaned>, ApiError> {
    caller.require_group(GROUP)?;
    let seconds = body.older_than.unwrap_or(GRACE.as_secs());
    let least = LEAST_GRACE.as_secs();
    if !(least..=MOST_SECONDS).contains(&seconds) {
        return Err(ApiError::invalid_field(
            "older_than",
            format!("must be {least} to {MOST_SECONDS} seconds"),
        ));
    }
    if body.cursor.as_deref().is_some_and(|cursor| !cleanup::is_cursor(cursor)) {
        return Err(ApiError::invalid_field(
            "cursor",
            "must be the `next_cursor` of an earlier answer",
        ));
    }
    let request = cleanup::Request {
        dry_run: body.dry_run.unwrap_or(false),
        grace: Duration::from_secs(seconds),
        after: body.cursor,
    };
    // A task of its own: what was planned is carried out, whoever goes away.
    let task = {
        let (app, request) = (app.clone(), request.clone());
        tokio::spawn(tracing::Instrument::in_current_span(async move {
            cleanup::clean(&app, &request).await
        }))
    };
    let outcome = task.await.map_err(ApiError::internal)?.map_err(|error| {
        if cleanup::unavailable(&error) {
            ApiError::unavailable(error)
        } else {
            ApiError::internal(error)
        }
    })?;
    let kinds = outcome.report.kinds();
    let total = kinds.iter().fold(Removed::default(), |sum, (_, removed)| Removed {
        objects: sum.objects + removed.objects,
        bytes: sum.bytes + removed.bytes,
    });
    Ok(Json(Cleaned {
        dry_run: request.dry_run,
        older_than: seconds,
        removed: kinds.into_iter().map(|(kind, removed)| (kind, removed.into())).collect(),
        total: total.into(),
        next_cursor: outcome.next,
    }))
}

#[cfg(test)]
mod tests;
