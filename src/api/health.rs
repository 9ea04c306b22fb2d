//! Liveness and readiness. No authentication.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

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
#[derive(Debug, Serialize, ToSchema)]
pub struct Check {
    /// `ok` or `error`.
    pub status: &'static str,
    /// How long it took to answer.
    pub latency_ms: u64,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    pub error: Option<String>,
}

/// A check that hangs counts as failed after this long, so that the answer comes
/// within two seconds whatever hangs.
const LIMIT: Duration = Duration::from_millis(1500);

async fn check<E: std::fmt::Display>(work: impl Future<Output = Result<(), E>>) -> Check {
    let started = Instant::now();
    let outcome = tokio::time::timeout(LIMIT, work).await;
    let latency_ms = started.elapsed().as_millis() as u64;
    let error = match outcome {
        Ok(Ok(())) => return Check { status: "ok", latency_ms, error: None },
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} ms", LIMIT.as_millis()),
    };
    Check { status: "error", latency_ms, error: Some(error) }
}

/// Asks every dependency, side by side.
pub async fn checks(app: &App) -> [(&'static str, Check); 3] {
    let (database, storage, queue) = tokio::join!(
        check(app.db.ping()),
        check(app.storage.check()),
        check(async { crate::db::jobs::next_run(&app.db).await.map(drop) }),
    );
    [("database", database), ("storage", storage), ("queue", queue)]
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
