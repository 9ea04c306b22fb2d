//! Sessions: the older way to send an archive and have it scanned. Deprecated.
//!
//! A session is a view of a repository in the account's default project that an archive
//! filled, and of its newest scan; its id is that of the repository. So everything else
//! of the API works on it too, and nothing is kept for sessions alone. Every answer
//! says that the group is deprecated, by the header `Deprecation` (RFC 9745) and a
//! link; there is no `Sunset`, since no date is set.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::Deprecated;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::caller::Caller;
use super::error::{ApiError, Problem, Result};
use super::events::{self, EventQuery};
use super::extract::{Id, Query, is_multipart};
use super::page::Page;
use super::repositories::upload;
use super::time::Time;
use crate::db::projects;
use crate::db::repositories::{self, Failure, Repository};
use crate::db::scans::{self, NewScan, Settings, Trigger};
use crate::scan::ScanConfig;
use crate::server::App;

/// Since when the group is deprecated: 2026-11-23, as RFC 9745 writes it.
const SINCE: HeaderValue = HeaderValue::from_static("@1795392000");
const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
/// Where to read about what takes its place.
const LINK: HeaderValue =
    HeaderValue::from_static("</docs>; rel=\"deprecation\"; type=\"text/html\"");

/// How long an analysis waits for its archive to be read.
const PATIENCE: Duration = Duration::from_secs(30);

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    let mut router = OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(read))
        .routes(routes!(analyze))
        .routes(routes!(list_events));
    for item in router.get_openapi_mut().paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            operation.deprecated = Some(Deprecated::True);
        }
    }
    router.layer(axum::middleware::map_response(deprecated))
}

async fn deprecated(mut response: Response) -> Response {
    response.headers_mut().insert(DEPRECATION, SINCE);
    response.headers_mut().append(header::LINK, LINK);
    response
}

#[derive(Serialize, ToSchema)]
struct Session {
    id: Uuid,
    name: String,
    /// `uploaded`, `analyzing`, `completed` or `failed`.
    status: &'static str,
    /// The repository that the session is.
    repository_id: Uuid,
    project_id: Uuid,
    /// The newest scan.
    scan_id: Option<Uuid>,
    error: Option<Failure>,
    created_at: Time,
    updated_at: Time,
}

impl From<Repository> for Session {
    fn from(repository: Repository) -> Self {
        let scan = repository.last_scan();
        let status = match (repository.ingest_status.as_str(), &scan) {
            ("failed", _) => "failed",
            (_, None) => "uploaded",
            (_, Some(scan)) => match scan.status.as_str() {
                "queued" | "running" => "analyzing",
                "completed" => "completed",
                _ => "failed",
            },
        };
        Self {
            id: repository.id,
            status,
            repository_id: repository.id,
            project_id: repository.project_id,
            scan_id: scan.map(|scan| scan.id),
            error: repository.ingest_error().cloned(),
            created_at: Time(repository.created_at),
            updated_at: Time(repository.updated_at),
            name: repository.name,
        }
    }
}

/// A repository of the caller's that an archive filled.
async fn find(app: &App, caller: &Caller, id: Uuid) -> Result<Repository> {
    repositories::get(&app.db, caller.user_id, id)
        .await?
        .filter(|repository| repository.source_type == "archive")
        .ok_or_else(|| ApiError::not_found("session"))
}

/// Send an archive
///
/// Use `POST /v1/projects/{project_id}/repositories` with a form instead, which also
/// scans. Here the scan is started with `analyze`.
#[utoipa::path(post, path = "/v1/sessions", tag = "Sessions", operation_id = "create_session",
    request_body(content = upload::Form, content_type = "multipart/form-data"), responses(
        (status = CREATED, description = "The session.", body = Session),
        (status = REQUEST_TIMEOUT, description = "Nothing came for a long time.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn create(State(app): State<App>, caller: Caller, request: Request) -> Result<Response> {
    if !is_multipart(request.headers()) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "Send a form with a file, with the header `Content-Type: multipart/form-data`.",
        ));
    }
    let received = match upload::receive(&app, &caller, None, request).await? {
        upload::Outcome::Answered(answer) => return Ok(answer),
        upload::Outcome::Received(received) => received,
    };
    let mut tx = app.db.begin().await?;
    let project = projects::default_of(&mut tx, caller.user_id).await?;
    tx.commit().await?;
    let made = upload::make(&app, &caller, project.id, received, true).await?;
    Ok((StatusCode::CREATED, axum::Json(Session::from(made))).into_response())
}

/// One session
#[utoipa::path(get, path = "/v1/sessions/{session_id}", tag = "Sessions",
    operation_id = "get_session",
    responses((status = OK, description = "The session.", body = Session)))]
async fn read(State(app): State<App>, caller: Caller, Id(id): Id) -> Result<axum::Json<Session>> {
    Ok(axum::Json(find(&app, &caller, id).await?.into()))
}

/// Scan what was sent
///
/// Waits for the archive to be read, 30 seconds at most. A session that is being
/// analyzed stays as it is.
#[utoipa::path(post, path = "/v1/sessions/{session_id}/analyze", tag = "Sessions",
    operation_id = "analyze_session", responses(
        (status = ACCEPTED, description = "The session, `analyzing`.", body = Session),
        (status = CONFLICT, description = "The archive cannot be scanned, or is still being read.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn analyze(State(app): State<App>, caller: Caller, Id(id): Id) -> Result<Response> {
    let waiter = app.db.hub().waiter(id);
    find(&app, &caller, id).await?;
    let settled = || async {
        let repository = find(&app, &caller, id).await?;
        let done = matches!(repository.ingest_status.as_str(), "ready" | "failed");
        Ok::<_, ApiError>(done.then_some(repository))
    };
    let repository = tokio::select! {
        repository = waiter.until(PATIENCE, settled) => repository?,
        () = app.stopping.cancelled() => None,
    };
    let Some(repository) = repository else {
        return Err(ApiError::conflict(
            "not_ready",
            "The archive is still being read; try again soon.",
        )
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("5")));
    };
    if let Some(failure) = repository.ingest_error() {
        return Err(ApiError::conflict(
            "not_ready",
            format!("The archive cannot be scanned: {}", failure.message),
        ));
    }
    let active = repository
        .last_scan()
        .is_some_and(|scan| matches!(scan.status.as_str(), "queued" | "running"));
    if !active {
        let mut tx = app.db.begin().await?;
        let scan = NewScan {
            repository_id: repository.id,
            project_id: repository.project_id,
            owner_id: caller.user_id,
            upload_id: None,
            trigger: Trigger::Session,
            settings: Settings { config: ScanConfig::default(), git_ref: None },
            commit_id: repository.head_commit.clone(),
            snapshot_id: repository.snapshot().map(|snapshot| snapshot.id),
        };
        scans::create(&mut tx, &scan).await?;
        tx.commit().await?;
    }
    let session = Session::from(find(&app, &caller, id).await?);
    Ok((StatusCode::ACCEPTED, axum::Json(session)).into_response())
}

/// The events of a session
///
/// Those of its newest scan, oldest first; none before it is analyzed. As server-sent
/// events with `Accept: text/event-stream`, once there is a scan.
#[utoipa::path(get, path = "/v1/sessions/{session_id}/events", tag = "Sessions",
    operation_id = "list_session_events", params(EventQuery), responses(
        (status = OK, description = "A page of events, or the stream.", content((Page<events::Shown> = "application/json"), (String = "text/event-stream"))),
        (status = NO_CONTENT, description = "For streams: nothing more will come."),
    ))]
async fn list_events(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Query(query): Query<EventQuery>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response> {
    let repository = find(&app, &caller, id).await?;
    match repository.last_scan() {
        Some(scan) => events::of_scan(app, caller, id, scan.id, query, &uri, &headers).await,
        None => {
            query.check(&headers)?;
            let none: Vec<crate::db::events::EventRow> = Vec::new();
            let page = Page::new(&uri, none, 50, |row| row.seq, events::Shown::from);
            Ok(page.into_response())
        }
    }
}

#[cfg(test)]
mod tests;
