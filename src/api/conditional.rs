//! `ETag`, `If-None-Match` and `?wait=` of single objects.
//!
//! The tag of a row is its id and `version`, which grows with every change.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use uuid::Uuid;

use super::error::{ApiError, Result};
use crate::server::App;

/// Longest wait of a poll, in seconds.
pub const MAX_WAIT: u32 = 60;

/// The checked `?wait=`.
pub fn wait(seconds: Option<u32>) -> Result<Duration> {
    match seconds.unwrap_or(0) {
        seconds @ 0..=MAX_WAIT => Ok(Duration::from_secs(u64::from(seconds))),
        _ => Err(ApiError::invalid_field("wait", format!("must be 0 to {MAX_WAIT} seconds"))),
    }
}

/// The entity tag of a row in a certain version.
pub fn etag(id: Uuid, version: i64) -> String {
    format!("\"{}-{version}\"", id.simple())
}

/// True if `If-None-Match` names this tag (RFC 9110, 13.1.2: weak comparison).
pub fn none_match(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim())
        .any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

/// The object with its tag, or 304 if the client has it already.
pub fn respond(headers: &HeaderMap, etag: &str, body: &impl Serialize) -> Response {
    let mut response = if none_match(headers, etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Json(body).into_response()
    };
    if let Ok(value) = HeaderValue::try_from(etag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

/// Reads an object, and while it is what the client has already, waits for a change:
/// at most `limit`, and not beyond the stop of the server. A client that names no
/// tag in `If-None-Match` waits for a change of what is there now, unless that is
/// `settled`: then nothing is to come.
///
/// # Errors
///
/// Those of `read`; an object that goes away meanwhile is its 404.
pub async fn changed<T, F, Fut>(
    app: &App,
    headers: &HeaderMap,
    topic: Uuid,
    limit: Duration,
    mut read: F,
    tag: impl Fn(&T) -> String,
    settled: impl Fn(&T) -> bool,
) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    if limit.is_zero() {
        return read().await;
    }
    let waiter = app.db.hub().waiter(topic);
    let first = read().await?;
    let before = tag(&first);
    let known = headers.contains_key(header::IF_NONE_MATCH);
    if if known { !none_match(headers, &before) } else { settled(&first) } {
        return Ok(first);
    }
    let changed = waiter.until(limit, || {
        let next = read();
        async {
            let next: T = next.await?;
            Ok::<_, ApiError>((tag(&next) != before).then_some(next))
        }
    });
    tokio::select! {
        changed = changed => Ok(changed?.unwrap_or(first)),
        () = app.stopping.cancelled() => Ok(first),
    }
}
