//! Who calls.
//!
//! A handler that serves a tenant takes a [`Caller`]; every look-up of an object
//! then names `caller.user_id`, so that what belongs to others is never found.
//!
//! The API takes `Authorization: Bearer` with an access token or an API key. A key
//! that is limited to scopes needs `read` for safe methods (RFC 9110, 9.2.1) and
//! `write` for all others; the extractor sees to that, so that no handler can
//! forget it.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::error::ApiError;
use super::rate;
use crate::accounts::{AuthError, authenticate};
pub use crate::accounts::{Caller, Scope, Via};
use crate::server::App;

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        // Kept in the request: a middleware and the handler ask once.
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        let caller = authenticate(app, bearer(&parts.headers)?).await?;
        if let Some(slot) = parts.extensions.get::<rate::Slot>() {
            let taken = app.limiter.take(caller.user_id);
            if let Ok(Some(left)) | Err(left) = taken {
                slot.set(left);
            }
            taken.map_err(rate::Left::refusal)?;
        }
        let scope = if parts.method.is_safe() { Scope::Read } else { Scope::Write };
        caller.require_scope(scope)?;
        parts.extensions.insert(caller.clone());
        Ok(caller)
    }
}

/// The token of `Authorization: Bearer` (RFC 6750, 2.1).
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(ApiError::unauthorized(
            "Send an access token or an API key in one header `Authorization: Bearer …`.",
        ));
    };
    value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty())
        .ok_or_else(|| {
            ApiError::unauthorized(
                "The header `Authorization` must be `Bearer` and an access token or an API key.",
            )
        })
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Database(error) => error.into(),
            refused => Self::unauthorized(refused.to_string()),
        }
    }
}

impl Caller {
    /// # Errors
    ///
    /// 403 unless the account is in the group.
    pub fn require_group(&self, group: &str) -> Result<(), ApiError> {
        if self.in_group(group) {
            Ok(())
        } else {
            Err(ApiError::forbidden(format!("This is for members of the group `{group}` only.")))
        }
    }

    /// # Errors
    ///
    /// 403 if an API key was presented that is limited to other scopes.
    pub fn require_scope(&self, scope: Scope) -> Result<(), ApiError> {
        if self.may(scope) {
            Ok(())
        } else {
            Err(ApiError::forbidden(format!(
                "The API key lacks the scope `{}`, which this request needs.",
                scope.as_str()
            )))
        }
    }
}
