//! Errors as LFS clients show them: JSON with a `message`.

use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::json;
use sluice_git::{Refusal, RefusalKind};

use super::MEDIA_TYPE;
use crate::api::error::REQUEST_ID;
use crate::db::DbError;
use crate::storage::StorageError;
use crate::words::sentence;

/// An answer that is an error.
#[derive(Debug)]
pub(in crate::remote) struct LfsError {
    status: StatusCode,
    message: String,
    retry_after: Option<u64>,
}

impl LfsError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    pub(super) fn no_room(why: &str) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, sentence(why))
    }

    /// 503, to be tried again after so many seconds.
    pub(super) fn try_again(message: impl Into<String>, seconds: u64) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, message);
        Self { retry_after: Some(seconds), ..error }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "This address answers to other methods only.")
    }
}

impl From<Refusal> for LfsError {
    fn from(refusal: Refusal) -> Self {
        let (status, wait) = match refusal.kind {
            RefusalKind::Unauthorized => (StatusCode::UNAUTHORIZED, None),
            RefusalKind::Forbidden => (StatusCode::FORBIDDEN, None),
            RefusalKind::NotFound => (StatusCode::NOT_FOUND, None),
            RefusalKind::Gone => (StatusCode::GONE, None),
            RefusalKind::TooManyRequests(wait) => (StatusCode::TOO_MANY_REQUESTS, Some(wait)),
            RefusalKind::Unavailable(wait) => (StatusCode::SERVICE_UNAVAILABLE, Some(wait)),
            RefusalKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        let retry_after = wait.map(|wait| wait.as_secs());
        Self { status, message: refusal.message, retry_after }
    }
}

impl From<DbError> for LfsError {
    fn from(error: DbError) -> Self {
        crate::remote::access::database(error).into()
    }
}

impl From<StorageError> for LfsError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Full => {
                tracing::error!("{error}");
                Self::new(
                    StatusCode::INSUFFICIENT_STORAGE,
                    "The server has no room left; ask its operator.",
                )
            }
            StorageError::Unavailable { .. } => {
                tracing::error!("{error}");
                Self::try_again(
                    "The server cannot reach its storage right now; try again in a moment.",
                    5,
                )
            }
            other => Refusal::internal(other).into(),
        }
    }
}

impl From<BytesRejection> for LfsError {
    fn from(rejection: BytesRejection) -> Self {
        Self::new(rejection.status(), "The body of this request cannot be read.")
    }
}

impl IntoResponse for LfsError {
    fn into_response(self) -> Response<Body> {
        let id = REQUEST_ID.try_with(Clone::clone).ok();
        let body = json!({ "message": self.message, "request_id": id });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if self.status == StatusCode::UNAUTHORIZED {
            let basic = HeaderValue::from_static("Basic realm=\"sluice\"");
            headers.insert(HeaderName::from_static("lfs-authenticate"), basic.clone());
            headers.insert(header::WWW_AUTHENTICATE, basic);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
