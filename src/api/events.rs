//! Events of a scan: poll, wait, server-sent events.
//!
//! As server-sent events (`Accept: text/event-stream`) each event is a message whose
//! id is its `seq`. The stream ends behind the last event of a scan that has ended;
//! a browser that then connects again with its `Last-Event-ID` gets a 204, which
//! tells it to stay away (HTML Standard, 9.2). A stream lives at most as long as an
//! access token, so that one that was withdrawn is not followed for ever; clients go
//! on where they were.

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

use super::caller::Caller;
use super::conditional;
use super::error::{ApiError, Problem, Result};
use super::extract::{Ids, Query};
use super::page::{self, Page};
use super::scans::find;
use super::time::Time;
use crate::db;
use crate::db::Waiter;
use crate::db::events::EventRow;
use crate::server::App;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
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
#[schema(as = ScanEvent)]
pub(super) struct Shown {
    /// Counts 1, 2, 3 … within the scan, without a hole.
    #[schema(minimum = 1)]
    seq: i64,
    scan_id: Uuid,
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
            scan_id: row.scan_id,
            at: row.at.into(),
            level: row.level,
            r#type: row.kind,
            message: row.message,
            data: row.data.0,
        }
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
    of_scan(app, caller, repo_id, scan_id, query, &uri, &headers).await
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
    let limit = page::check_limit(query.limit)?;
    let wait = conditional::wait(query.wait)?;
    let after = match (&query.cursor, query.after) {
        (Some(cursor), _) => page::decode_cursor(cursor)?,
        (None, Some(after)) if after < 0 => {
            return Err(ApiError::invalid_field("after", "must be the `seq` of an event, or 0"));
        }
        (None, after) => after.unwrap_or(0),
    };
    let waiter = app.db.hub().waiter(scan_id);
    // Also tells whether the scan belongs to the caller.
    find(&app, &caller, repo_id, scan_id).await?;
    if wants_stream(headers) {
        return stream_from(app, caller, repo_id, scan_id, waiter, after, headers).await;
    }
    let read = || async {
        // First the state, then the events: what has ended has all its events.
        let ended = find(&app, &caller, repo_id, scan_id).await?.status.has_ended();
        let rows = db::events::after(&app.db, scan_id, after, limit + 1).await?;
        Ok::<_, ApiError>((ended || !rows.is_empty()).then_some(rows))
    };
    let rows = tokio::select! {
        rows = waiter.until(wait, read) => rows?.unwrap_or_default(),
        () = app.stopping.cancelled() => Vec::new(),
    };
    let mut response = Page::new(uri, rows, limit, |row| row.seq, Shown::from).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
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
    caller: Caller,
    repo_id: Uuid,
    scan_id: Uuid,
    waiter: Waiter,
    after: i64,
    waiting: VecDeque<EventRow>,
    ended: bool,
    until: Instant,
}

async fn stream_from(
    app: App,
    caller: Caller,
    repo_id: Uuid,
    scan_id: Uuid,
    waiter: Waiter,
    after: i64,
    headers: &HeaderMap,
) -> Result<Response> {
    let after = match headers.get(LAST_EVENT_ID).map(HeaderValue::to_str) {
        None | Some(Ok("")) => after,
        Some(id) => id
            .ok()
            .and_then(|id| id.parse::<i64>().ok())
            .filter(|id| *id >= 0)
            .ok_or_else(|| {
                ApiError::bad_request("The header `Last-Event-ID` must be the `seq` of an event.")
            })?,
    };
    let mut follow = Follow {
        app,
        caller,
        repo_id,
        scan_id,
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
        let text = serde_json::to_string(&Shown::from(row)).unwrap_or_default();
        Some((Ok(event.data(text)), follow))
    })
}

impl Follow {
    /// Reads what comes next. True if there is something, or nothing more will come.
    async fn read(&mut self) -> Result<bool> {
        let ended =
            find(&self.app, &self.caller, self.repo_id, self.scan_id).await?.status.has_ended();
        let rows = db::events::after(&self.app.db, self.scan_id, self.after, BATCH).await?;
        if let Some(last) = rows.last() {
            self.after = last.seq;
        }
        // A full batch may not be the last one.
        self.ended = ended && (rows.len() as u32) < BATCH;
        self.waiting = rows.into();
        Ok(self.ended || !self.waiting.is_empty())
    }

    /// The next event, or `None` where the stream ends: behind the last event, when
    /// the server stops, when the scan is gone or the database is away. Clients
    /// connect again and then hear why.
    async fn next(&mut self) -> Option<EventRow> {
        loop {
            if let Some(row) = self.waiting.pop_front() {
                return Some(row);
            }
            if self.ended || self.app.stopping.is_cancelled() || Instant::now() >= self.until {
                return None;
            }
            let ready = {
                let (app, caller) = (&self.app, &self.caller);
                let (repo_id, scan_id, after) = (self.repo_id, self.scan_id, self.after);
                let read = || async move {
                    let row = find(app, caller, repo_id, scan_id).await?;
                    let more = row.status.has_ended() || row.last_event > after;
                    Ok::<_, ApiError>(more.then_some(()))
                };
                let left = self.until.saturating_duration_since(Instant::now());
                tokio::select! {
                    ready = self.waiter.until(left, read) => ready,
                    () = self.app.stopping.cancelled() => return None,
                }
            };
            ready.ok()??;
            self.read().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests;
