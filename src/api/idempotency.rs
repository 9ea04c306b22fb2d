//! `Idempotency-Key`: a POST that is sent again creates nothing again.
//!
//! The first request with a key claims it in the database, runs, and its answer is
//! kept for 24 hours; the same request again (method, path with query, body) gets
//! the same answer with `Idempotency-Replayed: true`. While the first one runs the
//! second is 409; another request with the same key is 422.
//!
//! - Keys belong to an account: those of two never meet.
//! - Answers that ask for another try (429 and 5xx) are not kept, and neither are
//!   those whose body has no known size or more than [`MAX_ANSWER`].
//! - The request runs to its end and is kept also if its client goes away; a client
//!   that retries is the reason for all this.
//! - Answers hold tokens that are shown once. So the body is kept encrypted
//!   (ChaCha20-Poly1305) under a key that is derived from the server's secret and
//!   the client's key, and of the client's key only a keyed hash is kept: a copy of
//!   the database opens nothing.
//! - A multipart body is streamed to storage and never held, so its hash is known only
//!   at its end: its handler claims the key then ([`Deferred`]), by the fields and the
//!   digest of the file, whatever the boundary. What is refused before is not kept, and
//!   neither is a file that was sent a second time.
//! - The claim is not in the transaction of the handler. If the process dies
//!   between the two, the claim is given up after five minutes; until then a retry
//!   is 409, after it the request runs again.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes, HttpBody as _, to_bytes};
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce};
use futures::FutureExt as _;
use rand::Rng as _;
use sha2::{Digest as _, Sha256};
use tracing::Instrument as _;
use uuid::Uuid;

use super::caller::Caller;
use super::error::{ApiError, REQUEST_ID, Result};
use crate::accounts::{hex, hmac};
use crate::db::idempotency::{self as rows, Claim, Kept};
use crate::server::App;

/// The header that names a key.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest key, in characters.
const MAX_KEY: usize = 255;
/// Largest answer that is kept, in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// Headers of an answer that are kept.
const KEPT_HEADERS: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::LOCATION, header::ETAG, header::CACHE_CONTROL];
/// Bytes of the nonce before the encrypted body.
const NONCE: usize = 12;

/// Whether [`layer`] has something to do about a request.
pub fn is_keyed(request: &Request) -> bool {
    request.method() == Method::POST && request.headers().contains_key(KEY)
}

/// The middleware; to be mounted by `axum::middleware::from_fn_with_state`. Other
/// requests than POSTs of an authenticated caller with a key pass untouched.
pub async fn layer(State(app): State<App>, request: Request, next: Next) -> Response {
    if !is_keyed(&request) {
        return next.run(request).await;
    }
    run(app, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

async fn run(app: App, request: Request, next: Next) -> Result<Response> {
    let (mut parts, body) = request.into_parts();
    // The handler says what is wrong with the credentials, if it asks for any:
    // sign-in and refresh create no objects and take no key.
    let Ok(caller) = Caller::from_request_parts(&mut parts, &app).await else {
        return Ok(next.run(Request::from_parts(parts, body)).await);
    };
    let key = key(&parts.headers)?;
    if super::extract::is_multipart(&parts.headers) {
        return deferred(app, caller.user_id, key, Request::from_parts(parts, body), next).await;
    }
    let limit = usize::try_from(app.config.limits.request_bytes).unwrap_or(usize::MAX);
    let body = super::extract::in_time(to_bytes(body, limit))
        .await?
        .map_err(|error| unreadable(&error))?;
    let seal = Seal::new(&app, caller.user_id, &key, request_hash(&parts, &body));
    let fence = match claim(&app, caller.user_id, &seal).await? {
        Ok(fence) => fence,
        Err(kept) => return Ok(kept),
    };
    let request = Request::from_parts(parts, Body::from(body));
    // A task of its own, since the future of a handler is dropped when its client
    // goes away. It keeps the id and the span of the request.
    let id = REQUEST_ID.try_with(Clone::clone).unwrap_or_default();
    let task = async move {
        let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        finish(&app, caller.user_id, &seal, fence, answer).await
    };
    match tokio::spawn(REQUEST_ID.scope(id, task).in_current_span()).await {
        Ok(Ok(response)) => Ok(response),
        // To whoever catches panics of handlers.
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => Err(ApiError::internal(error)),
    }
}

/// Claims the key: its fence, or the answer that was given before.
async fn claim(app: &App, owner: Uuid, seal: &Seal) -> Result<std::result::Result<i64, Response>> {
    match rows::claim(&app.db, owner, &seal.name, &seal.request).await? {
        Claim::Run { fence } => Ok(Ok(fence)),
        Claim::Running => Err(ApiError::conflict(
            "idempotency_key_in_use",
            "A request with this Idempotency-Key is still running; try again soon.",
        )
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))),
        Claim::OtherRequest => Err(ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "This Idempotency-Key was used for another request; take a new one.",
        )),
        Claim::Answered(kept) => Ok(Err(replay(seal, kept)?)),
    }
}

/// The key of a request whose body is streamed: an extension of the request, for the
/// handler that reads it.
#[derive(Clone)]
pub struct Deferred(Arc<DeferredInner>);

struct DeferredInner {
    app: App,
    owner: Uuid,
    key: String,
    /// Method, path and query.
    head: [u8; 32],
    claimed: Mutex<Option<(Seal, i64)>>,
}

impl Deferred {
    /// Claims the key for a body of this digest. An answer that was given before is to
    /// be given again.
    pub async fn claim(&self, body: &[u8; 32]) -> Result<Option<Response>> {
        let inner = &self.0;
        let mut hash = Sha256::new();
        hash.update(inner.head);
        hash.update(body);
        let seal = Seal::new(&inner.app, inner.owner, &inner.key, hash.finalize().into());
        match claim(&inner.app, inner.owner, &seal).await? {
            Ok(fence) => {
                *inner.claimed.lock().unwrap_or_else(PoisonError::into_inner) = Some((seal, fence));
                Ok(None)
            }
            Err(kept) => Ok(Some(kept)),
        }
    }
}

/// Runs a request that claims its key itself.
async fn deferred(
    app: App,
    owner: Uuid,
    key: String,
    request: Request,
    next: Next,
) -> Result<Response> {
    let (mut parts, body) = request.into_parts();
    let head = request_hash(&parts, &Bytes::new());
    let inner = DeferredInner { app: app.clone(), owner, key, head, claimed: Mutex::default() };
    let deferred = Deferred(Arc::new(inner));
    parts.extensions.insert(deferred.clone());
    let request = Request::from_parts(parts, body);
    let id = REQUEST_ID.try_with(Clone::clone).unwrap_or_default();
    let task = async move {
        let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        let claimed = deferred.0.claimed.lock().unwrap_or_else(PoisonError::into_inner).take();
        match claimed {
            Some((seal, fence)) => finish(&app, owner, &seal, fence, answer).await,
            None => answer,
        }
    };
    match tokio::spawn(REQUEST_ID.scope(id, task).in_current_span()).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => Err(ApiError::internal(error)),
    }
}

/// The one key of a request.
fn key(headers: &HeaderMap) -> Result<String> {
    let mut values = headers.get_all(KEY).iter();
    values
        .next()
        .filter(|_| values.next().is_none())
        .and_then(|value| value.to_str().ok())
        .filter(|key| (1..=MAX_KEY).contains(&key.len()))
        .filter(|key| key.bytes().all(|byte| byte.is_ascii_graphic()))
        .map(str::to_owned)
        .ok_or_else(|| {
            ApiError::invalid_field(
                "Idempotency-Key",
                format!("must be given once, with 1 to {MAX_KEY} printable ASCII characters and no space"),
            )
        })
}

fn unreadable(error: &axum::Error) -> ApiError {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if inner.is::<http_body_util::LengthLimitError>() {
            return ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "payload_too_large",
                "The body is larger than this server takes.",
            )
            .by_limit("request_bytes");
        }
        source = inner.source();
    }
    ApiError::bad_request("The body could not be read to its end.")
}

/// What makes two requests the same. A path is the same with and without its
/// trailing slash.
fn request_hash(parts: &axum::http::request::Parts, body: &Bytes) -> [u8; 32] {
    let path = parts.uri.path();
    let mut hash = Sha256::new();
    for part in [
        parts.method.as_str().as_bytes(),
        path.strip_suffix('/').unwrap_or(path).as_bytes(),
        parts.uri.query().unwrap_or_default().as_bytes(),
        body,
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// What is derived from an account, a client's key and a request.
struct Seal {
    /// The name under which the client's key is kept.
    name: String,
    /// Hash of the request; the body is bound to it.
    request: [u8; 32],
    cipher: ChaCha20Poly1305,
}

impl Seal {
    fn new(app: &App, owner: Uuid, key: &str, request: [u8; 32]) -> Self {
        let derive =
            |label: &[u8]| hmac(app.keys.idempotency(), &[label, owner.as_bytes(), key.as_bytes()]);
        let name = hex(&derive(b"name"));
        Self { name, request, cipher: ChaCha20Poly1305::new(&derive(b"body").into()) }
    }

    /// A nonce, then the encrypted body.
    fn close(&self, body: &[u8]) -> Result<Vec<u8>, chacha20poly1305::Error> {
        let nonce: [u8; NONCE] = rand::rng().random();
        let payload = Payload { msg: body, aad: &self.request };
        let mut sealed = nonce.to_vec();
        sealed.extend(self.cipher.encrypt(&Nonce::from(nonce), payload)?);
        Ok(sealed)
    }

    fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, chacha20poly1305::Error> {
        let (nonce, msg) = sealed.split_first_chunk::<NONCE>().ok_or(chacha20poly1305::Error)?;
        self.cipher.decrypt(&Nonce::from(*nonce), Payload { msg, aad: &self.request })
    }
}

type Panic = Box<dyn std::any::Any + Send>;

/// Keeps the answer or gives the key back. The answer goes out in either case:
/// what the request did is done.
async fn finish(
    app: &App,
    owner: Uuid,
    seal: &Seal,
    fence: i64,
    answer: Result<Response, Panic>,
) -> Result<Response, Panic> {
    let (answer, kept) = match answer {
        Ok(response) => {
            let (response, kept) = keep(seal, response).await;
            (Ok(response), kept)
        }
        Err(panic) => (Err(panic), None),
    };
    let done = match &kept {
        Some(kept) => rows::keep(&app.db, owner, &seal.name, fence, kept).await,
        None => rows::release(&app.db, owner, &seal.name, fence).await,
    };
    if let Err(error) = done {
        tracing::warn!("the answer of an Idempotency-Key was not kept: {error}");
    }
    answer
}

/// The same answer, and what is kept of it.
async fn keep(seal: &Seal, response: Response) -> (Response, Option<Kept>) {
    let status = response.status();
    let small = response.body().size_hint().upper().is_some_and(|size| size <= MAX_ANSWER as u64);
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || !small {
        return (response, None);
    }
    let (parts, body) = response.into_parts();
    let body = match to_bytes(body, MAX_ANSWER).await {
        Ok(body) => body,
        Err(error) => return (ApiError::internal(error).into_response(), None),
    };
    let headers = KEPT_HEADERS
        .iter()
        .filter_map(|name| {
            let value = parts.headers.get(name)?.to_str().ok()?;
            Some((name.as_str().to_owned(), value.to_owned()))
        })
        .collect();
    let kept = seal.close(&body).ok().map(|body| Kept {
        status: i64::from(status.as_u16()),
        headers,
        body,
    });
    (Response::from_parts(parts, Body::from(body)), kept)
}

/// A kept answer, as it was.
fn replay(seal: &Seal, kept: Kept) -> Result<Response> {
    let damaged = || ApiError::internal(anyhow::anyhow!("a kept answer cannot be read"));
    let body = seal.open(&kept.body).map_err(|_| damaged())?;
    let status = u16::try_from(kept.status).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let mut response = (status.ok_or_else(damaged)?, body).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    for (name, value) in kept.headers {
        let name = HeaderName::try_from(name).map_err(|_| damaged())?;
        headers.insert(name, HeaderValue::try_from(value).map_err(|_| damaged())?);
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

#[cfg(test)]
mod tests;
