//! Sign-in, refresh, logout, me.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::caller::{Caller, Via};
use super::error::{ApiError, Result};
use super::extract::Json;
use super::time::Time;
use crate::accounts::{self, LoginError, Tokens, token};
use crate::db;
use crate::server::App;

/// The routes of this group.
pub fn router() -> Router<App> {
    Router::new()
        .route("/v1/auth/login", post(login))
        .route("/v1/auth/refresh", post(refresh))
        .route("/v1/auth/logout", post(logout))
        .route("/v1/auth/me", get(me))
}

/// Longest e-mail and password that are looked at, in bytes.
const MAX_EMAIL: usize = 320;
const MAX_PASSWORD: usize = 4096;
/// Longest refresh token that is looked at, in bytes; ours have 43.
const MAX_REFRESH: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    email: String,
    password: String,
}

async fn login(
    State(app): State<App>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    Json(body): Json<Login>,
) -> Result<Response> {
    if body.email.len() > MAX_EMAIL {
        return Err(ApiError::invalid_field("email", "is longer than any e-mail address"));
    }
    if body.password.len() > MAX_PASSWORD {
        return Err(ApiError::invalid_field("password", "has at most 1024 characters"));
    }
    let peer = peer.map(|Extension(ConnectInfo(address))| address.ip());
    let tokens = accounts::login(&app, &body.email, body.password, peer).await?;
    Ok(respond(tokens))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refresh {
    refresh_token: String,
}

async fn refresh(State(app): State<App>, Json(body): Json<Refresh>) -> Result<Response> {
    if body.refresh_token.len() > MAX_REFRESH {
        return Err(LoginError::RefreshRefused.into());
    }
    Ok(respond(accounts::refresh(&app, &body.refresh_token).await?))
}

async fn logout(State(app): State<App>, caller: Caller) -> Result<StatusCode> {
    let Via::Session(session) = caller.via else {
        return Err(ApiError::conflict(
            "no_session",
            "An API key has no session that could end; delete the key instead.",
        ));
    };
    accounts::logout(&app.db, session).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Serialize)]
struct Me {
    id: Uuid,
    email: String,
    name: String,
    groups: Vec<String>,
    created_at: Time,
}

async fn me(State(app): State<App>, caller: Caller) -> Result<axum::Json<Me>> {
    let user = db::users::get(&app.db, caller.user_id)
        .await?
        .ok_or_else(|| ApiError::not_found("account"))?;
    Ok(axum::Json(Me {
        id: user.id,
        email: user.email,
        name: user.name,
        groups: user.groups.0,
        created_at: user.created_at.into(),
    }))
}

#[derive(Serialize)]
struct TokenBody {
    access_token: String,
    refresh_token: String,
    token_type: &'static str,
    expires_in: i64,
}

/// The answer of RFC 6749, 5.1, which no cache may keep.
fn respond(tokens: Tokens) -> Response {
    let body = TokenBody {
        access_token: tokens.access,
        refresh_token: tokens.refresh,
        token_type: "bearer",
        expires_in: token::ACCESS_SECONDS,
    };
    let mut response = axum::Json(body).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Refused => Self::unauthorized("The e-mail or the password is wrong."),
            LoginError::RefreshRefused => {
                Self::unauthorized("The refresh token is not valid: sign in again.")
            }
            LoginError::Throttled { retry_after } => Self::too_many_requests(
                "Too many failed sign-ins; wait before the next try.",
                retry_after,
            ),
            LoginError::Busy => Self::unavailable(error),
            LoginError::Database(error) => error.into(),
            LoginError::Internal(error) => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests;
