//! Sign-in, refresh, logout, me.

use std::net::{IpAddr, SocketAddr};

use axum::Extension;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::caller::{Caller, Via};
use super::error::{ApiError, Problem, Result};
use super::extract::Json;
use super::time::Time;
use crate::accounts::{self, LoginError, Tokens, token};
use crate::db;
use crate::server::App;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(me))
}

/// Longest e-mail and password that are looked at, in bytes.
const MAX_EMAIL: usize = 320;
const MAX_PASSWORD: usize = 4096;
/// Longest refresh token that is looked at, in bytes; ours have 43.
const MAX_REFRESH: usize = 256;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "admin@localhost", "password": "correct horse battery staple"}))]
struct Login {
    /// The account's e-mail address, in any case.
    #[schema(max_length = 320)]
    email: String,
    /// At most 4,096 bytes.
    #[schema(max_length = 4096)]
    password: String,
}

/// Sign in
///
/// A wrong password and an unknown address get the same answer in the same time;
/// many failures, by account or by client address, are answered with 429.
#[utoipa::path(post, path = "/v1/auth/login", tag = "Authentication", operation_id = "login",
    security(()), request_body = Login, responses(
        (status = OK, description = "A pair of tokens.", body = TokenBody),
        (status = UNAUTHORIZED, description = "The e-mail or the password is wrong.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn login(
    State(app): State<App>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    headers: HeaderMap,
    Json(body): Json<Login>,
) -> Result<Response> {
    if body.email.len() > MAX_EMAIL {
        return Err(ApiError::invalid_field("email", "is longer than any e-mail address"));
    }
    if body.password.len() > MAX_PASSWORD {
        return Err(ApiError::invalid_field("password", "has at most 1024 characters"));
    }
    let peer = peer.map(|Extension(ConnectInfo(address))| address.ip());
    let peer = peer.map(|peer| client_address(&app.config.trusted_proxies, peer, &headers));
    let tokens = accounts::login(&app, &body.email, body.password, peer).await?;
    Ok(respond(tokens))
}

/// Where a request comes from: the peer, or what a proxy that is trusted says of its own
/// peer. Proxies add to the end of `X-Forwarded-For`, so it is read from there, and what
/// stands before the first address that is no trusted proxy is the client's own word.
fn client_address(trusted: &[IpNet], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let is_trusted =
        |address: IpAddr| trusted.iter().any(|network| network.contains(&address.to_canonical()));
    let mut at = peer;
    let values: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    for value in values.into_iter().rev() {
        if !is_trusted(at) {
            break;
        }
        match value.trim().parse() {
            Ok(before) => at = before,
            Err(_) => break,
        }
    }
    at
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"refresh_token": "Xq3mN0…"}))]
struct Refresh {
    /// From the answer to the sign-in or the last refresh.
    refresh_token: String,
}

/// Change a refresh token for new tokens
///
/// Refresh tokens rotate: one that was used already ends the whole session.
#[utoipa::path(post, path = "/v1/auth/refresh", tag = "Authentication", operation_id = "refresh",
    security(()), request_body = Refresh, responses(
        (status = OK, description = "A new pair of tokens.", body = TokenBody),
        (status = UNAUTHORIZED, description = "The token is unknown, used, or its session has ended.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn refresh(State(app): State<App>, Json(body): Json<Refresh>) -> Result<Response> {
    if body.refresh_token.len() > MAX_REFRESH {
        return Err(LoginError::RefreshRefused.into());
    }
    Ok(respond(accounts::refresh(&app, &body.refresh_token).await?))
}

/// End the session
///
/// Its access tokens stop working at once.
#[utoipa::path(post, path = "/v1/auth/logout", tag = "Authentication", operation_id = "logout",
    responses(
        (status = NO_CONTENT, description = "Ended."),
        (status = CONFLICT, description = "An API key has no session.", body = Problem, content_type = "application/problem+json"),
    ))]
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

#[derive(Serialize, ToSchema)]
struct Me {
    id: Uuid,
    email: String,
    name: String,
    groups: Vec<String>,
    created_at: Time,
}

/// The account that calls
#[utoipa::path(get, path = "/v1/auth/me", tag = "Authentication", operation_id = "me",
    responses((status = OK, description = "The account.", body = Me)))]
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

#[derive(Serialize, ToSchema)]
#[schema(as = Tokens)]
struct TokenBody {
    /// A JWT, to be sent as `Authorization: Bearer`.
    access_token: String,
    /// Good for one refresh: presented again, it ends the session.
    refresh_token: String,
    /// Always `bearer`.
    token_type: &'static str,
    /// Life of the access token, in seconds.
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
