//! API keys.
//!
//! A key that is limited to scopes cannot make or delete keys: it could give
//! itself what it was not given.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::caller::{Caller, Scope};
use super::error::{ApiError, FieldError, Result};
use super::extract::{Id, Json, Query};
use super::fields::{Ahead, Name};
use super::page::{Page, PageQuery};
use super::time::Time;
use crate::accounts::token::{Kind, new_token};
use crate::db;
use crate::db::api_keys::{ApiKey, NewApiKey};
use crate::server::App;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(remove))
}

/// Characters of a key that are kept and shown: the prefix and six more, of which
/// enough others stay secret.
const SHOWN: usize = 10;
/// Longest name, in characters.
const MAX_NAME: usize = 200;

#[derive(Serialize, ToSchema)]
#[schema(as = ApiKey)]
struct Row {
    id: Uuid,
    name: String,
    prefix: String,
    /// What it may do.
    scopes: Vec<String>,
    created_at: Time,
    last_used_at: Option<Time>,
    expires_at: Option<Time>,
}

impl From<ApiKey> for Row {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            prefix: key.prefix,
            scopes: if key.scopes.0.is_empty() {
                Scope::ALL.map(|scope| scope.as_str().to_owned()).to_vec()
            } else {
                key.scopes.0
            },
            created_at: key.created_at.into(),
            last_used_at: key.last_used_at.map(Time),
            expires_at: key.expires_at.map(Time),
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApiKeyWithSecret)]
struct Created {
    #[serde(flatten)]
    row: Row,
    /// Shown this once.
    key: String,
}

/// The account's API keys
///
/// Newest first. A key itself is never shown again, only its first characters.
#[utoipa::path(get, path = "/v1/api-keys", tag = "API keys", operation_id = "list_api_keys",
    params(PageQuery), responses((status = OK, description = "A page of keys.", body = Page<Row>)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<PageQuery>,
) -> Result<Page<Row>> {
    let limit = query.limit()?;
    let rows = db::api_keys::list(&app.db, caller.user_id, query.after()?, limit + 1).await?;
    Ok(Page::new(&uri, rows, limit, |row| row.id, Row::from))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ApiKeyInput, example = json!({"name": "nightly", "scopes": ["read"]}))]
struct Create {
    /// For people, to tell keys apart.
    #[schema(value_type = Name)]
    name: String,
    /// When it stops working; in the future. Left out: never.
    #[schema(value_type = Option<Ahead>)]
    expires_at: Option<String>,
    /// What it may do; left out: everything that the account may.
    #[schema(value_type = Option<Vec<Scope>>, min_items = 1)]
    scopes: Option<Vec<String>>,
}

/// Make an API key
///
/// The answer holds the key, shown this once: only its hash is kept.
#[utoipa::path(post, path = "/v1/api-keys", tag = "API keys", operation_id = "create_api_key",
    request_body = Create, responses((status = CREATED, description = "The new key.", body = Created)))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<Create>,
) -> Result<Response> {
    may_manage(&caller)?;
    let checked = check(&body)?;
    let (key, hash) = new_token(Kind::ApiKey);
    let new = NewApiKey {
        owner_id: caller.user_id,
        name: &checked.name,
        prefix: key.get(..SHOWN).unwrap_or(&key),
        hash: &hash,
        scopes: &checked.scopes,
        expires_at: checked.expires_at,
    };
    let limit = app.config.limits.api_keys;
    let mut tx = app.db.begin().await?;
    db::users::lock(&mut tx, caller.user_id).await?;
    if db::api_keys::count(&mut tx, caller.user_id).await? >= limit {
        app.metrics.limit_hit("api_keys");
        return Err(ApiError::quota_exceeded(format!(
            "An account has at most {limit} API keys; delete one that is no longer used."
        )));
    }
    let row = db::api_keys::insert(&mut tx, &new).await?.into();
    tx.commit().await?;
    let mut response = (StatusCode::CREATED, axum::Json(Created { row, key })).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Delete an API key
///
/// It stops working at once.
#[utoipa::path(delete, path = "/v1/api-keys/{key_id}", tag = "API keys", operation_id = "delete_api_key",
    responses((status = NO_CONTENT, description = "Deleted.")))]
async fn remove(State(app): State<App>, caller: Caller, Id(id): Id) -> Result<StatusCode> {
    may_manage(&caller)?;
    let mut tx = app.db.begin().await?;
    let deleted = db::api_keys::delete(&mut tx, caller.user_id, id).await?;
    tx.commit().await?;
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::not_found("API key")) }
}

fn may_manage(caller: &Caller) -> Result<()> {
    if caller.unrestricted() {
        Ok(())
    } else {
        Err(ApiError::forbidden(
            "An API key that is limited to scopes cannot make or delete keys; sign in instead.",
        ))
    }
}

struct Checked {
    name: String,
    scopes: Vec<String>,
    expires_at: Option<i64>,
}

/// Checks all fields, so that the answer names every one that is wrong.
fn check(body: &Create) -> Result<Checked> {
    let mut errors = Vec::new();
    let name = body.name.trim();
    if !(1..=MAX_NAME).contains(&name.chars().count()) {
        errors.push(FieldError::new("name", format!("needs 1 to {MAX_NAME} characters")));
    } else if name.chars().any(char::is_control) {
        errors.push(FieldError::new("name", "must not contain control characters"));
    }
    let mut scopes: Vec<String> = Vec::new();
    if body.scopes.as_ref().is_some_and(Vec::is_empty) {
        // Kept, it would be a key without limits, which is not what an empty list says.
        errors.push(FieldError::new("scopes", "must name a scope; left out, it is all"));
    }
    for (index, scope) in body.scopes.iter().flatten().enumerate() {
        if scope.parse::<Scope>().is_err() {
            let known = Scope::ALL.map(Scope::as_str).join(", ");
            errors.push(FieldError::new(
                format!("scopes[{index}]"),
                format!("must be one of {known}"),
            ));
            // One is enough to say so.
            break;
        }
        if !scopes.contains(scope) {
            scopes.push(scope.clone());
        }
    }
    let expires_at = match body.expires_at.as_deref().map(str::parse::<jiff::Timestamp>) {
        None => None,
        Some(Ok(at)) if at.as_microsecond() > db::now() => Some(at.as_microsecond()),
        Some(Ok(_)) => {
            errors.push(FieldError::new("expires_at", "must lie in the future"));
            None
        }
        Some(Err(_)) => {
            errors.push(FieldError::new(
                "expires_at",
                "must be a time of RFC 3339, such as 2030-01-31T12:00:00Z",
            ));
            None
        }
    };
    if errors.is_empty() {
        Ok(Checked { name: name.to_owned(), scopes, expires_at })
    } else {
        Err(ApiError::invalid(errors))
    }
}

#[cfg(test)]
mod tests;
