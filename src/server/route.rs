//! From a request to the room that answers it: git under `/git/`, all else the API.
//!
//! What holds for every answer is here, by construction: a request id, one log line
//! (method, path and status; never a query or a header, which may carry secrets),
//! panics as problems, and paths that answer with and without a trailing slash.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use axum::response::IntoResponse as _;
use futures::FutureExt as _;
use tower::{Service, ServiceExt as _, service_fn};
use tracing::Instrument as _;

use super::App;
use crate::api::error::{ApiError, REQUEST_ID};
use crate::api::idempotency;
use crate::api::rate::Slot;
use crate::metrics::{self, LimitHit};

/// Target of the log line of each request.
pub const ACCESS: &str = "sluice::access";

const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The whole server as one service, with routes of the caller's beside its own.
pub fn service(
    app: &App,
    more: Router<App>,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    let routes: Router<App> = crate::api::router()
        .merge(more)
        .fallback(async || ApiError::not_found("address"))
        .method_not_allowed_fallback(async |method: Method| {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                format!(
                    "This address does not answer {method}; the header Allow lists what it does."
                ),
            )
        });
    let limit = usize::try_from(app.config.limits.request_bytes).unwrap_or(usize::MAX);
    // Each layer of a router costs every request that passes it an allocation or two.
    let around =
        || tower::ServiceBuilder::new().map_request(note_route).layer(DefaultBodyLimit::max(limit));
    let keys = axum::middleware::from_fn_with_state(app.clone(), idempotency::layer);
    let rooms = Arc::new(Rooms {
        app: app.clone(),
        keyed: routes.clone().layer(around().layer(keys)).with_state(app.clone()),
        api: routes.layer(around()).with_state(app.clone()),
        remote: crate::remote::Remote::new(app.clone()),
    });
    service_fn(move |request: Request<Body>| {
        let rooms = Arc::clone(&rooms);
        async move { Ok(observed(&rooms, request).await) }
    })
}

/// Who answers.
struct Rooms {
    app: App,
    api: Router,
    /// The same for requests that may have been made before.
    keyed: Router,
    remote: crate::remote::Remote,
}

/// Where the template of the route is left for whoever counts the answer.
#[derive(Clone, Default)]
struct Route(Arc<OnceLock<MatchedPath>>);

fn note_route(request: Request<Body>) -> Request<Body> {
    let extensions = request.extensions();
    if let (Some(note), Some(route)) = (extensions.get::<Route>(), extensions.get::<MatchedPath>())
    {
        // Empty before: a request takes one route.
        let _ = note.0.set(route.clone());
    }
    request
}

async fn observed(rooms: &Rooms, mut request: Request<Body>) -> Response<Body> {
    let metrics = &rooms.app.metrics;
    let started = Instant::now();
    let in_flight = metrics.request();
    let id = request_id(&request);
    if let Ok(value) = HeaderValue::try_from(&id) {
        request.headers_mut().insert(REQUEST_ID_HEADER, value);
    }
    let rate = Slot::default();
    request.extensions_mut().insert(rate.clone());
    let route = Route::default();
    request.extensions_mut().insert(route.clone());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let span = tracing::info_span!("request", request_id = id, %method, path);
    let git = path.starts_with("/git/").then(|| metrics::git_route(&path));
    let answer = async {
        if path.starts_with("/git/") {
            // Boxed: a push is a large thing to carry through every request.
            Box::pin(rooms.remote.answer(request)).await
        } else if path.contains("%00") {
            // No name has a NUL, and not every database could look for one.
            ApiError::not_found("address").into_response()
        } else {
            normalise(&mut request);
            // A router never fails: its error is uninhabited.
            let api = if idempotency::is_keyed(&request) { &rooms.keyed } else { &rooms.api };
            let Ok(response) = api.clone().oneshot(request).await;
            response
        }
    };
    let caught = AssertUnwindSafe(answer).catch_unwind();
    let mut response = REQUEST_ID
        .scope(id.clone(), async {
            match caught.await {
                Ok(response) => response,
                Err(panic) => {
                    ApiError::internal(anyhow::anyhow!("{}", panic_text(&*panic))).into_response()
                }
            }
        })
        .instrument(span.clone())
        .await;
    if let Ok(value) = HeaderValue::try_from(&id) {
        response.headers_mut().insert(REQUEST_ID_HEADER, value);
    }
    rate.tell(response.headers_mut());
    if let Some(LimitHit(limit)) = response.extensions().get() {
        metrics.limit_hit(limit);
    }
    response
        .headers_mut()
        .entry(header::X_CONTENT_TYPE_OPTIONS)
        .or_insert(HeaderValue::from_static("nosniff"));
    let route = git.or(route.0.get().map(MatchedPath::as_str)).unwrap_or(metrics::OTHER);
    in_flight.answered(&method, route, response.status());
    span.in_scope(|| {
        tracing::info!(
            target: ACCESS,
            status = response.status().as_u16(),
            ms = started.elapsed().as_millis() as u64,
            "answered"
        );
    });
    response
}

/// The client's own id if it is harmless in a log, else a new one.
fn request_id(request: &Request<Body>) -> String {
    request
        .headers()
        .get(REQUEST_ID_HEADER)
        .and_then(|value| value.to_str().ok())
        .filter(|id| {
            (1..=128).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        })
        .map_or_else(|| crate::db::new_id().to_string(), str::to_owned)
}

/// Takes the trailing slash off.
fn normalise(request: &mut Request<Body>) {
    let uri = request.uri();
    let path = uri.path();
    if path.len() < 2 || !path.ends_with('/') {
        return;
    }
    let trimmed = path.trim_end_matches('/');
    let path = if trimmed.is_empty() { "/" } else { trimmed };
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    if let Ok(new) = PathAndQuery::try_from(text) {
        parts.path_and_query = Some(new);
        if let Ok(new) = Uri::from_parts(parts) {
            *request.uri_mut() = new;
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a handler panicked")
}
