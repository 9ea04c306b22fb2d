//! Extractors whose rejections are problems (RFC 9457), never plain text.
//!
//! Handlers of this room use these and no others of axum's: so a body that is no
//! JSON, an unknown field or a bad id is answered alike everywhere.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::error::ApiError;
use super::json::parse;

/// A JSON body. Its type must carry `#[serde(deny_unknown_fields)]`.
///
/// - no JSON media type: 415; not JSON: 400; wrong type, missing or unknown field:
///   422 with the path of the field; too large: 413; too slow: 408.
/// - A NUL character anywhere in a string is 422: no database keeps it alike.
#[derive(Debug)]
pub struct Json<T>(pub T);

/// A JSON body that may be absent: then it is the default.
#[derive(Debug)]
pub struct OptionalJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let media = media_type(&request);
        let bytes = read(request, state).await?;
        media?;
        parse(&bytes).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let media = media_type(&request);
        let bytes = read(request, state).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        media?;
        parse(&bytes).map(Self)
    }
}

/// Whether a body is a form with files.
pub(super) fn is_multipart(headers: &axum::http::HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("multipart/form-data")
}

/// Whether the body says of itself that it is JSON in UTF-8 (RFC 8259, 8.1: there is no
/// other).
fn media_type(request: &Request) -> Result<(), ApiError> {
    let mut values = request.headers().get_all(header::CONTENT_TYPE).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(ApiError::bad_request("The header `Content-Type` was sent twice."));
    }
    let mut parts = value.and_then(|value| value.to_str().ok()).unwrap_or_default().split(';');
    let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    if json && charset.is_none_or(|name| name.eq_ignore_ascii_case("utf-8")) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "Send the body as JSON in UTF-8, with the header `Content-Type: application/json`.",
    ))
}

/// How long a body may take in all; it is small.
const BODY: Duration = Duration::from_secs(60);

/// Reads a body within [`BODY`], or answers 408.
pub(super) async fn in_time<T>(reading: impl Future<Output = T>) -> Result<T, ApiError> {
    tokio::time::timeout(BODY, reading).await.map_err(|_| {
        ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            format!("The body did not come within {} seconds.", BODY.as_secs()),
        )
        .with_header(header::CONNECTION, HeaderValue::from_static("close"))
    })
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    in_time(Bytes::from_request(request, state)).await?.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "payload_too_large",
                "The body is larger than this server takes.",
            )
            .by_limit("request_bytes")
        } else {
            ApiError::bad_request("The body could not be read to its end.")
        }
    })
}

/// The query string. Its type must carry `#[serde(deny_unknown_fields)]`; a bad
/// or unknown parameter is 422.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        if query.contains("%00") {
            return Err(ApiError::invalid_field("query", "must not contain NUL characters"));
        }
        let de = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
        serde_path_to_error::deserialize(de).map(Self).map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." { "query".to_owned() } else { path };
            ApiError::invalid_field(field, error.into_inner().to_string())
        })
    }
}

/// All pairs of the query string, for filters that may be given several times.
#[derive(Debug)]
pub struct QueryPairs(pub Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for QueryPairs {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        if query.contains("%00") {
            return Err(ApiError::invalid_field("query", "must not contain NUL characters"));
        }
        Ok(Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

/// One id in the path. Anything that is no UUID is a 404: there is no such object.
#[derive(Debug, Clone, Copy)]
pub struct Id(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Path(id) =
            axum::extract::Path::<String>::from_request_parts(parts, state)
                .await
                .map_err(|_| ApiError::not_found("object"))?;
        Ok(Self(uuid(&id)?))
    }
}

/// Two ids in the path.
#[derive(Debug, Clone, Copy)]
pub struct Ids(pub Uuid, pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Ids {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Path((a, b)) =
            axum::extract::Path::<(String, String)>::from_request_parts(parts, state)
                .await
                .map_err(|_| ApiError::not_found("object"))?;
        Ok(Self(uuid(&a)?, uuid(&b)?))
    }
}

/// Two ids and a name in the path.
#[derive(Debug, Clone)]
pub struct IdsAndName(pub Uuid, pub Uuid, pub String);

impl<S: Send + Sync> FromRequestParts<S> for IdsAndName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Path((a, b, name)) =
            axum::extract::Path::<(String, String, String)>::from_request_parts(parts, state)
                .await
                .map_err(|_| ApiError::not_found("object"))?;
        Ok(Self(uuid(&a)?, uuid(&b)?, name))
    }
}

/// Only the hyphenated lower- or upper-case form: one object has one address.
pub fn uuid(text: &str) -> Result<Uuid, ApiError> {
    if text.len() == 36
        && let Ok(id) = Uuid::try_parse(text)
    {
        return Ok(id);
    }
    Err(ApiError::not_found("object"))
}
