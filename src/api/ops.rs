//! Operations, for members of the group `ops`.

use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as JsonValue, json};
use uuid::Uuid;

use super::caller::Caller;
use super::error::ApiError;
use super::extract::OptionalJson;
use super::time::Time;
use crate::config::{LIMITS, Limits};
use crate::db::{self, jobs, usage};
use crate::jobs::cleanup::{self, GRACE, LEAST_GRACE};
use crate::server::App;
use crate::storage::Removed;

/// The routes of this group.
pub fn router() -> Router<App> {
    Router::new()
        .route("/v1/ops/limits", get(limits))
        .route("/v1/ops/workers", get(workers))
        .route("/v1/ops/cleanup", post(clean))
}

const GROUP: &str = "ops";

/// A quota.
#[derive(Debug, Serialize)]
struct Limit {
    name: &'static str,
    value: u64,
    default: u64,
    unit: &'static str,
    env: &'static str,
    description: &'static str,
    /// The most that any account has, of quotas of accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<i64>,
}

async fn limits(State(app): State<App>, caller: Caller) -> Result<Json<JsonValue>, ApiError> {
    caller.require_group(GROUP)?;
    let most = usage::most_of_an_account(&app.db).await?;
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
                _ => None,
            },
        })
        .collect();
    Ok(Json(json!({ "items": items, "next_cursor": null })))
}

/// A worker that was not heard of for this long (microseconds) counts as stale: four
/// of its heartbeats.
const STALE: i64 = 20_000_000;

/// Rows of one answer: far more than there ever are.
const MOST: u32 = 1_000;

/// A process that runs jobs.
#[derive(Debug, Serialize)]
struct Worker {
    id: String,
    host: String,
    version: String,
    started_at: Time,
    last_heartbeat_at: Time,
    status: &'static str,
    jobs: Vec<WorkerJob>,
}

#[derive(Debug, Serialize)]
struct WorkerJob {
    id: Uuid,
    kind: String,
    subject_id: Uuid,
    started_at: Option<Time>,
    attempt: i64,
}

/// Jobs of one kind.
#[derive(Debug, Serialize)]
struct QueueDepth {
    kind: &'static str,
    queued: i64,
    running: usize,
    dead: i64,
    /// How long the first of the jobs that wait has been due.
    oldest_age_seconds: Option<i64>,
}

async fn workers(State(app): State<App>, caller: Caller) -> Result<Json<JsonValue>, ApiError> {
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
    let dead_letters: i64 = queue.iter().map(|depth| depth.dead).sum();
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
    Ok(Json(json!({
        "items": items,
        "next_cursor": null,
        "queue_depth": depth,
        "dead_letters": dead_letters,
        "queue": queue,
    })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Clean {
    #[serde(default)]
    dry_run: bool,
    /// Seconds.
    older_than: Option<u64>,
    /// `next_cursor` of the call to go on from.
    cursor: Option<String>,
}

/// Ten years.
const MOST_SECONDS: u64 = 315_360_000;

async fn clean(
    State(app): State<App>,
    caller: Caller,
    OptionalJson(body): OptionalJson<Clean>,
) -> Result<Json<JsonValue>, ApiError> {
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
        dry_run: body.dry_run,
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
    let figures = |removed: Removed| json!({ "objects": removed.objects, "bytes": removed.bytes });
    let kinds = outcome.report.kinds();
    let total = kinds.iter().fold(Removed::default(), |sum, (_, removed)| Removed {
        objects: sum.objects + removed.objects,
        bytes: sum.bytes + removed.bytes,
    });
    let removed: Map<String, JsonValue> =
        kinds.into_iter().map(|(kind, removed)| (kind.to_owned(), figures(removed))).collect();
    Ok(Json(json!({
        "dry_run": request.dry_run,
        "older_than": seconds,
        "removed": removed,
        "total": figures(total),
        "next_cursor": outcome.next,
    })))
}

#[cfg(test)]
mod tests;
