//! Errors as `application/problem+json` (RFC 9457).
//!
//! A constructor is named by its outcome. What the user may read (`detail`) is
//! kept apart from what the log needs (`cause`): an unexpected cause is logged
//! once, with the request's id, and shown as a bland sentence.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::db::DbError;
use crate::metrics::LimitHit;

/// What every handler answers.
pub type Result<T, E = ApiError> = std::result::Result<T, E>;

/// An error on its way to the client. Boxed, so that the happy way stays small.
#[derive(Debug)]
pub struct ApiError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    headers: HeaderMap,
    cause: Option<anyhow::Error>,
    limit: Option<LimitHit>,
}

/// One field of a request that is not as it should be.
#[derive(Debug, Clone, Serialize, PartialEq, Eq, ToSchema)]
pub struct FieldError {
    /// Path of the field, e.g. `engines[0]`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl FieldError {
    /// A field and what is wrong with it.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl ApiError {
    /// Any status with a stable word and a sentence.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            status,
            code,
            detail: detail.into(),
            errors: Vec::new(),
            headers: HeaderMap::new(),
            cause: None,
            limit: None,
        }))
    }

    /// The same error with what the log needs to know.
    fn caused_by(mut self, cause: impl Into<anyhow::Error>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// 400: the request cannot be read at all.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// 401, with the challenge that RFC 9110 asks for.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail).with_header(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"sluice\""),
        )
    }

    /// 403: a group or a scope is missing. Another user's object is a 404.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404: there is none, or it belongs to somebody else.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("There is no such {what}."))
    }

    /// 409: not in the state that the object is in.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 422 with the fields that are wrong.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = errors.first().map_or_else(
            || "The request is not valid.".to_owned(),
            |e| format!("{}: {}", e.field, e.message),
        );
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", detail);
        error.0.errors = errors;
        error
    }

    /// 422 about one field.
    pub fn invalid_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(field, message)])
    }

    /// 403 with the word that scripts look for: a quota is used up.
    pub fn quota_exceeded(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "quota_exceeded", detail)
    }

    /// 429, to be tried again after so many seconds.
    pub fn too_many_requests(detail: impl Into<String>, retry_after: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from(retry_after))
    }

    /// 503, to be tried again soon.
    pub fn unavailable(cause: impl Into<anyhow::Error>) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "A part of the server cannot be reached right now; try again soon.",
        )
        .caused_by(cause)
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("5"))
    }

    /// 500: a defect of ours. The cause goes to the log only.
    pub fn internal(cause: impl Into<anyhow::Error>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Something went wrong on our side. The log of the server has more, by the request id.",
        )
        .caused_by(cause)
    }

    /// Adds a header to the answer.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.append(name, value);
        self
    }

    /// Names the quota that refused the request, for the figures: see [`LimitHit`].
    pub fn by_limit(mut self, limit: &'static str) -> Self {
        self.0.limit = Some(LimitHit(limit));
        self
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What is wrong with the first field, or the sentence for the user.
    pub fn reason(&self) -> &str {
        self.0.errors.first().map_or(&self.0.detail, |error| &error.message)
    }

    /// The sentence for the user.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Unavailable(_) => Self::unavailable(error),
            DbError::Full(_) => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "storage_full",
                "The server has no room left; ask its operator.",
            )
            .caused_by(error),
            DbError::Gone(_) => {
                Self::conflict("gone", "Something this request refers to was deleted meanwhile.")
                    .caused_by(error)
            }
            other => Self::internal(other),
        }
    }
}

tokio::task_local! {
    /// The id of the request that is being answered, for the body of an error.
    pub static REQUEST_ID: String;
}

/// An error as it is shown (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "type": "urn:sluice:problem:not_found",
    "title": "Not Found",
    "status": 404,
    "detail": "There is no such project.",
    "code": "not_found",
    "request_id": "019a0000-0000-7000-8000-000000000000",
}))]
pub struct Problem {
    /// `urn:sluice:problem:` and the code.
    r#type: String,
    /// The name of the status.
    title: &'static str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// A sentence for people: what is wrong, and what to do.
    detail: String,
    /// A stable word for programs.
    code: &'static str,
    /// The id by which the server's log knows the request.
    request_id: String,
    /// With 422: every field that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldError>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let inner = *self.0;
        let request_id = REQUEST_ID.try_with(Clone::clone).unwrap_or_default();
        if let Some(cause) = &inner.cause {
            // The id stands in the span of the request as well; here it makes the
            // line complete for whoever greps for it.
            tracing::error!(request_id, code = inner.code, "{cause:#}");
        }
        let problem = Problem {
            r#type: format!("urn:sluice:problem:{}", inner.code),
            title: inner.status.canonical_reason().unwrap_or("Error"),
            status: inner.status.as_u16(),
            detail: inner.detail,
            code: inner.code,
            request_id,
            errors: inner.errors,
        };
        // A struct of strings and numbers always serializes.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (inner.status, body).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.headers_mut().extend(inner.headers);
        if let Some(limit) = inner.limit {
            response.extensions_mut().insert(limit);
        }
        response
    }
}
