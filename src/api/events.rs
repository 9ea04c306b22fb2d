//! Events of a scan and of a project: poll, wait, server-sent events.
//!
//! As server-sent events (`Accept: text/event-stream`) each event is a message whose
//! id is its `seq`. The stream ends behind the last event of a scan that has ended;
//! a browser that then connects again with its `Last-Event-ID` gets a 204, which
//! tells it to stay away (HTML Standard, 9.2). A project never ends. Before each event
//! the stream asks whether its token or key still works, and it lives at most as long
//! as an access token; clients go on where they were.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::caller::{Caller, bearer};
use super::conditional;
use super::error::{ApiError, Problem, Result};
use super::extract::{Id, Ids, Query};
use super::page::{self, Page};
use super::scans::find;
use super::time::Time;
use crate::accounts::authenticate;
use crate::db;
use crate::db::Waiter;
use crate::db::events::EventRow;
use crate::db::project_events::{self, ProjectEventRow};
use crate::server::App;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(list_of_project))
}

/// Longest life of a stream.
const STREAM: Duration = Duration::from_mins(15);
/// A comment goes out when nothing else has for so long.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events that a stream reads at once.
const BATCH: u32 = 200;
/// What a browser sends when it connects again.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub(super) struct Shown {
    /// Counts 1, 2, 3 … within the scan or the project, without a hole.
    #[schema(minimum = 1)]
    seq: i64,
    /// Null where an event of a project tells of no scan.
    scan_id: Option<Uuid>,
    /// In events of projects only; null where it tells of no repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    repository_id: Option<Option<Uuid>>,
    at: Time,
    /// `info`, `warning` or `error`.
    level: String,
    r#type: String,
    message: String,
    /// What programs read; depends on the type.
    #[schema(value_type = Object)]
    data: serde_json::Value,
}

impl From<EventRow> for Shown {
    fn from(row: EventRow) -> Self {
        Self {
            seq: row.seq,
            scan_id: Some(row.scan_id),
            repository_id: None,
            at: row.at.into(),
            level: row.level,
            r#type: row.kind,
            message: row.message,
            data: row.data.0,
        }
    }
}

impl From<ProjectEventRow> for Shown {
    fn from(row: ProjectEventRow) -> Self {
        Self {
            seq: row.seq,
            scan_id: row.scan_id,
            repository_id: Some(row.repository_id),
            at: row.at.into(),
            level: row.level,
            r#type: row.kind,
            message: row.message,
            data: row.data.0,
        }
    }
}

/// What the events are of.
#[derive(Debug, Clone, Copy)]
enum Of {
    Scan { repo_id: Uuid, scan_id: Uuid },
    Project(Uuid),
}

/// How far it is.
struct Reached {
    /// Nothing will come any more.
    ended: bool,
    /// `seq` of its newest event.
    last: i64,
}

impl Of {
    /// What waiters wait for.
    fn topic(self) -> Uuid {
        match self {
            Self::Scan { scan_id, .. } => scan_id,
            Self::Project(id) => id,
        }
    }

    /// How far it is; 404 if it does not belong to the caller.
    async fn reached(self, app: &App, caller: &Caller) -> Result<Reached> {
        Ok(match self {
            Self::Scan { repo_id, scan_id } => {
                let row = find(app, caller, repo_id, scan_id).await?;
                Reached { ended: row.status.has_ended(), last: row.last_event }
            }
            Self::Project(id) => {
                let last = project_events::last(&app.db, caller.user_id, id)
                    .await?
                    .ok_or_else(|| ApiError::not_found("project"))?;
                Reached { ended: false, last }
            }
        })
    }

    /// Events behind a number, oldest first.
    async fn after(self, app: &App, after: i64, limit: u32) -> Result<Vec<Shown>> {
        Ok(match self {
            Self::Scan { scan_id, .. } => {
                let rows = db::events::after(&app.db, scan_id, after, limit).await?;
                rows.into_iter().map(Shown::from).collect()
            }
            Self::Project(id) => {
                let rows = project_events::after(&app.db, id, after, limit).await?;
                rows.into_iter().map(Shown::from).collect()
            }
        })
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventQuery {
    /// Only events behind this `seq`.
    #[param(minimum = 0)]
    after: Option<i64>,
    /// From `next_cursor` of the page before, as it is; beats `after`.
    #[param(max_length = 1024)]
    cursor: Option<String>,
    /// Events of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// If there is none yet, wait for one so many seconds.
    #[param(minimum = 0, maximum = 60)]
    wait: Option<u32>,
}

/// The events of a scan
///
/// Oldest first, in pages or, with `Accept: text/event-stream`, as server-sent events
/// that go on behind `Last-Event-ID`. The stream of a scan that has ended is 204 once
/// all was read, which tells a browser to stay away.
#[utoipa::path(get, path = "/v1/repositories/{repo_id}/scans/{scan_id}/events", tag = "Scans",
    operation_id = "list_scan_events", params(
        EventQuery,
        ("Last-Event-ID" = Option<i64>, Header, description = "For streams: the last `seq` that was read.", minimum = 0),
    ), responses(
        (status = OK, description = "A page of events, or the stream.", content((Page<Shown> = "application/json"), (String = "text/event-stream"))),
        (status = NO_CONTENT, description = "For streams: nothing more will come."),
        (status = BAD_REQUEST, description = "`Last-Event-ID` is no number.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Ids(repo_id, scan_id): Ids,
    Query(query): Query<EventQuery>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response> {
    answer(app, caller, Of::Scan { repo_id, scan_id }, query, &uri, &headers).await
}

/// The events of a project
///
/// What happens to its repositories, uploads and scans, oldest first, in pages or, with
/// `Accept: text/event-stream`, as server-sent events that go on behind
/// `Last-Event-ID`. The newest 10,000 events are kept; behind a number that is gone
/// comes the oldest that is kept.
#[utoipa::path(get, path = "/v1/projects/{project_id}/events", tag = "Projects",
    operation_id = "list_project_events", params(
        EventQuery,
        ("Last-Event-ID" = Option<i64>, Header, description = "For streams: the last `seq` that was read.", minimum = 0),
    ), responses(
        (status = OK, description = "A page of events, or the stream.", content((Page<Shown> = "application/json"), (String = "text/event-stream"))),
        (status = BAD_REQUEST, description = "`Last-Event-ID` is no number.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn list_of_project(
    State(app): State<App>,
    caller: Caller,
    Id(project_id): Id,
    Query(query): Query<EventQuery>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response> {
    answer(app, caller, Of::Project(project_id), query, &uri, &headers).await
}

/// The events of a scan, however it was named.
pub(super) async fn of_scan(
    app: App,
    caller: Caller,
    repo_id: Uuid,
    scan_id: Uuid,
    query: EventQuery,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response> {
    answer(app, caller, Of::Scan { repo_id, scan_id }, query, uri, headers).await
}

async fn answer(
    app: App,
    caller: Caller,
    of: Of,
    query: EventQuery,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response> {
    let (limit, wait, after) = query.check(headers)?;
    let waiter = app.db.hub().waiter(of.topic());
    // Also tells whether it belongs to the caller.
    of.reached(&app, &caller).await?;
    if wants_stream(headers) {
        return stream_from(app, caller, of, waiter, after, headers).await;
    }
    let read = || async {
        // First the state, then the events: what has ended has all its events.
        let ended = of.reached(&app, &caller).await?.ended;
        let rows = of.after(&app, after, limit + 1).await?;
        Ok::<_, ApiError>((ended || !rows.is_empty()).then_some(rows))
    };
    let rows = tokio::select! {
        rows = waiter.until(wait, read) => rows?.unwrap_or_default(),
        () = app.stopping.cancelled() => Vec::new(),
    };
    let mut response = Page::new(uri, rows, limit, |row| row.seq, |row| row).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

impl EventQuery {
    /// Most events, how long to wait for one, and the `seq` behind which they begin.
    /// What is wrong is refused also where it would not be looked at.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(u32, Duration, i64)> {
        let limit = page::check_limit(self.limit)?;
        let wait = conditional::wait(self.wait)?;
        let after = match (&self.cursor, self.after) {
            (Some(cursor), _) => page::decode_cursor(cursor)?,
            (None, Some(after)) if after < 0 => {
                return Err(ApiError::invalid_field(
                    "after",
                    "must be the `seq` of an event, or 0",
                ));
            }
            (None, after) => after.unwrap_or(0),
        };
        last_event_id(headers)?;
        Ok((limit, wait, after))
    }
}

/// The number behind which a stream goes on.
fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>> {
    match headers.get(LAST_EVENT_ID).map(HeaderValue::to_str) {
        None | Some(Ok("")) => Ok(None),
        Some(id) => id
            .ok()
            .and_then(|id| id.parse::<i64>().ok())
            .filter(|id| *id >= 0)
            .map(Some)
            .ok_or_else(|| {
                ApiError::bad_request("The header `Last-Event-ID` must be the `seq` of an event.")
            }),
    }
}

fn wants_stream(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|essence| essence.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// A stream on its way.
struct Follow {
    app: App,
    /// What the caller showed: it may be withdrawn while the stream goes on.
    secret: String,
    caller: Caller,
    of: Of,
    waiter: Waiter,
    after: i64,
    waiting: VecDeque<Shown>,
    ended: bool,
    until: Instant,
}

async fn stream_from(
    app: App,
    caller: Caller,
    of: Of,
    waiter: Waiter,
    after: i64,
    headers: &HeaderMap,
) -> Result<Response> {
    let after = last_event_id(headers)?.unwrap_or(after);
    let secret = bearer(headers)?.to_owned();
    let mut follow = Follow {
        app,
        secret,
        caller,
        of,
        waiter,
        after,
        waiting: VecDeque::new(),
        ended: false,
        until: Instant::now() + STREAM,
    };
    follow.read().await?;
    if follow.ended && follow.waiting.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let mut response = Sse::new(events(follow))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("alive"))
        .into_response();
    // Proxies that gather answers are asked not to (nginx).
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

fn events(follow: Follow) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(follow, |mut follow| async move {
        let row = follow.next().await?;
        let event = Event::default().id(row.seq.to_string());
        // A struct of strings, numbers and JSON always serializes.
        let text = serde_json::to_string(&row).unwrap_or_default();
        Some((Ok(event.data(text)), follow))
    })
}

impl Follow {
    /// Reads what comes next. True if there is something, or nothing more will come.
    async fn read(&mut self) -> Result<bool> {
        let ended = self.of.reached(&self.app, &self.caller).await?.ended;
        let rows = self.of.after(&self.app, self.after, BATCH).await?;
        if let Some(last) = rows.last() {
            self.after = last.seq;
        }
        // A full batch may not be the last one.
        self.ended = ended && (rows.len() as u32) < BATCH;
        self.waiting = rows.into();
        Ok(self.ended || !self.waiting.is_empty())
    }

    /// The next event, or `None` where the stream ends: behind the last event, when
    /// the server stops, when the caller's token or key stopped working, when the scan is gone or the database is away. Clients
    /// connect again and then hear why.
    async fn next(&mut self) -> Option<Shown> {
        loop {
            if let Some(row) = self.waiting.pop_front() {
                return Some(row);
            }
            if self.ended || self.app.stopping.is_cancelled() || Instant::now() >= self.until {
                return None;
            }
            let ready = {
                let (app, caller) = (&self.app, &self.caller);
                let (of, after) = (self.of, self.after);
                let read = || async move {
                    let reached = of.reached(app, caller).await?;
                    let more = reached.ended || reached.last > after;
                    Ok::<_, ApiError>(more.then_some(()))
                };
                let left = self.until.saturating_duration_since(Instant::now());
                tokio::select! {
                    ready = self.waiter.until(left, read) => ready,
                    () = self.app.stopping.cancelled() => return None,
                }
            };
            ready.ok()??;
            authenticate(&self.app, &self.secret).await.ok()?;
            self.read().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests;
