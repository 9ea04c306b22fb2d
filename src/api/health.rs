//! Liveness and readiness. No authentication.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use tokio::sync::Mutex;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::db::Db;
use crate::server::App;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready))
}

/// Is the process there?
#[utoipa::path(get, path = "/v1/healthz", tag = "Health", operation_id = "healthz", security(()),
    responses((status = OK, description = "It is.", body = Live)))]
async fn live() -> Response {
    Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")})).into_response()
}

/// The answer of a live process, for the API's description.
#[derive(ToSchema)]
#[allow(dead_code)]
struct Live {
    /// `ok`.
    status: String,
    /// The server's version.
    version: String,
}

/// The answer about readiness, for the API's description.
#[derive(ToSchema)]
#[allow(dead_code)]
struct Ready {
    /// `ready` or `unavailable`.
    status: String,
    checks: Checks,
}

#[derive(ToSchema)]
#[allow(dead_code)]
struct Checks {
    database: Check,
    storage: Check,
    queue: Check,
}

/// What one dependency says.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Check {
    /// `ok` or `error`.
    pub status: &'static str,
    /// How long it took to answer.
    pub latency_ms: u64,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub error: Option<String>,
    /// The same with its cause, which is for operators only.
    #[serde(skip)]
    #[schema(ignore)]
    pub detail: Option<String>,
}

/// What all dependencies say, by name.
pub type Answers = [(&'static str, Check); 3];

/// A check that hangs counts as failed after this long, so that the answer comes
/// within two seconds whatever hangs.
const LIMIT: Duration = Duration::from_millis(1500);

/// Of it, how long the begin of a transaction may take.
const WRITE: Duration = Duration::from_millis(1200);

/// An answer is given again to whoever asks so soon after it: everybody may ask, and
/// the probe of the storage writes.
const FRESH: Duration = Duration::from_millis(500);

/// How long writers may keep each other waiting before that is trouble; from then on
/// requests fail too.
const BUSY: Duration = Duration::from_secs(5);

/// What readiness remembers between questions.
#[derive(Debug, Default)]
pub struct Probe {
    last: Mutex<Option<(Instant, Answers)>>,
    /// When a transaction could begin last.
    written: Arc<std::sync::Mutex<Option<Instant>>>,
    /// Taken while a check runs, however long, so that checks that hang do not pile up.
    slots: [Arc<Mutex<()>>; 3],
}

/// Runs a check in a task of its own, which may outlive the answer.
async fn check(
    slot: &Arc<Mutex<()>>,
    work: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> Check {
    let started = Instant::now();
    let outcome = match slot.clone().try_lock_owned() {
        Err(_) => Err("the check before still waits for an answer".to_owned()),
        Ok(held) => {
            let task = tokio::spawn(async move {
                let outcome = work.await;
                drop(held);
                outcome
            });
            match tokio::time::timeout(LIMIT, task).await {
                Ok(Ok(Ok(()))) => Ok(()),
                Ok(Ok(Err(error))) => Err(format!("{error:#}")),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {} ms", LIMIT.as_millis())),
            }
        }
    };
    let latency_ms = started.elapsed().as_millis() as u64;
    match outcome {
        Ok(()) => Check { status: "ok", latency_ms, error: None, detail: None },
        Err(detail) => {
            // The sentence without its cause, which may name hosts and paths.
            let error = detail.split(": ").next().map(str::to_owned);
            Check { status: "error", latency_ms, error, detail: Some(detail) }
        }
    }
}

/// The database can be read and written.
async fn database(db: Db, written: Arc<std::sync::Mutex<Option<Instant>>>) -> anyhow::Result<()> {
    db.ping().await?;
    let note = |at| *written.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    match tokio::time::timeout(WRITE, db.try_write()).await {
        Ok(done) => {
            done?;
            note(Instant::now());
            Ok(())
        }
        Err(_) => {
            let last = *written.lock().unwrap_or_else(PoisonError::into_inner);
            anyhow::ensure!(
                last.is_some_and(|at| at.elapsed() < BUSY),
                "the database is locked, nothing can be written"
            );
            Ok(())
        }
    }
}

/// Asks every dependency, side by side; or gives the answers of a moment ago.
pub async fn checks(app: &App) -> Answers {
    let probe = &app.probe;
    // Whoever comes while others ask waits for their answers, which have their limit.
    let mut last = probe.last.lock().await;
    if let Some((at, answers)) = &*last
        && at.elapsed() < FRESH
    {
        return answers.clone();
    }
    let [first, second, third] = &probe.slots;
    let (storage, queue) = (app.storage.clone(), app.queue.clone());
    let (database, storage, queue) = tokio::join!(
        check(first, database(app.db.clone(), probe.written.clone())),
        check(second, async move { Ok(storage.check().await?) }),
        check(third, async move { queue.check().await }),
    );
    let answers = [("database", database), ("storage", storage), ("queue", queue)];
    for (name, check) in &answers {
        if let Some(detail) = &check.detail {
            tracing::warn!("the {name} is not ready: {detail}");
        }
    }
    *last = Some((Instant::now(), answers.clone()));
    answers
}

/// Can the server do its work?
///
/// Each dependency is asked with a time limit of its own, so that the answer comes
/// within two seconds whatever hangs.
#[utoipa::path(get, path = "/v1/readyz", tag = "Health", operation_id = "readyz", security(()), responses(
        (status = OK, description = "All dependencies answer.", body = Ready),
        (status = SERVICE_UNAVAILABLE, description = "One of them does not, or the server is stopping.", body = Ready),
    ))]
async fn ready(State(app): State<App>) -> Response {
    let checks = checks(&app).await;
    let ok = checks.iter().all(|(_, check)| check.status == "ok") && !app.stopping.is_cancelled();
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let checks: serde_json::Map<String, serde_json::Value> =
        checks.into_iter().map(|(name, check)| (name.to_owned(), json!(check))).collect();
    let word = if ok { "ready" } else { "unavailable" };
    let mut response = (status, Json(json!({"status": word, "checks": checks}))).into_response();
    if !ok {
        response.headers_mut().insert("retry-after", axum::http::HeaderValue::from_static("5"));
    }
    response
}
