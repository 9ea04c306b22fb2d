//! Figures for operators. No authentication: see [`crate::metrics`].

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::metrics::CONTENT_TYPE;
use crate::server::App;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// Figures for Prometheus
///
/// Requests, pushes, jobs, scans, quotas hit, the database and the process; nothing
/// that belongs to an account.
#[utoipa::path(get, path = "/metrics", tag = "Health", operation_id = "metrics", security(()),
    responses((status = OK, description = "The text format of Prometheus, version 0.0.4.",
        body = String, content_type = "text/plain", example = "sluice_database_up 1\n")))]

async fn metrics(State(app): State<App>) -> Response {
    let headers = [(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")];
    (headers, app.metrics.render(&app.db, &app.queue).await).into_response()
}
