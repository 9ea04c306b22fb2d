//! Keys by which the signer of a push is known.
//!
//! An API key that is limited to scopes cannot change them: who may say whose key it is
//! may say who has signed.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::caller::Caller;
use super::error::{ApiError, Result};
use super::extract::{Id, Json, Query};
use super::fields::{Check, Name, SshPublicKey};
use super::page::{Page, PageQuery};
use super::time::Time;
use crate::accounts::signing;
use crate::db;
use crate::db::signing_keys::{NewSigningKey, SigningKey};
use crate::server::App;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(remove))
}

/// Keys of one account.
const MAX_KEYS: u64 = 100;

#[derive(Serialize, ToSchema)]
#[schema(as = SigningKey)]
struct Row {
    id: Uuid,
    name: String,
    /// Such as `ssh-ed25519`.
    key_type: String,
    public_key: String,
    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    fingerprint: String,
    created_at: Time,
}

impl From<SigningKey> for Row {
    fn from(key: SigningKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            key_type: key.key_type,
            public_key: key.public_key,
            fingerprint: key.fingerprint,
            created_at: key.created_at.into(),
        }
    }
}

/// The account's signing keys
///
/// Newest first. A push that was signed with one of them shows it as its signer.
#[utoipa::path(get, path = "/v1/signing-keys", tag = "Signing keys", operation_id = "list_signing_keys",
    params(PageQuery), responses((status = OK, description = "A page of keys.", body = Page<Row>)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<PageQuery>,
) -> Result<Page<Row>> {
    let limit = query.limit()?;
    let rows = db::signing_keys::list(&app.db, caller.user_id, query.after()?, limit + 1).await?;
    Ok(Page::new(&uri, rows, limit, |row| row.id, Row::from))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SigningKeyInput, example = json!({
    "name": "laptop",
    "public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAQUsBUqhhrNteEuVxzYbIRVCg1x6KUqznu4mYVT7nha ada@laptop",
}))]
struct Create {
    /// For people, to tell keys apart.
    #[schema(value_type = Name)]
    name: String,
    /// The line of a `.pub` file: Ed25519, ECDSA (P-256, P-384) or RSA of at least 2048 bits.
    #[schema(value_type = SshPublicKey)]
    public_key: String,
}

/// Register a signing key
///
/// The public half of a key of SSH. Sign with it: `git config gpg.format ssh`,
/// `git config user.signingKey <file>`, `git push --signed`.
#[utoipa::path(post, path = "/v1/signing-keys", tag = "Signing keys", operation_id = "create_signing_key",
    request_body = Create, responses((status = CREATED, description = "The key.", body = Row)))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<Create>,
) -> Result<Response> {
    may_manage(&caller)?;
    let mut check = Check::default();
    let name = check.name("name", &body.name);
    let key = match signing::SigningKey::parse(&body.public_key) {
        Ok(key) => Some(key),
        Err(why) => {
            check.refuse("public_key", why);
            None
        }
    };
    check.done()?;
    let Some(key) = key else { return Err(ApiError::invalid_field("public_key", "is missing")) };
    let new = NewSigningKey {
        owner_id: caller.user_id,
        name: &name,
        key_type: &key.key_type,
        public_key: &key.line,
        fingerprint: &key.fingerprint,
    };
    let mut tx = app.db.begin().await?;
    db::users::lock(&mut tx, caller.user_id).await?;
    if db::signing_keys::count(&mut tx, caller.user_id).await? >= MAX_KEYS {
        return Err(ApiError::quota_exceeded(format!(
            "An account has at most {MAX_KEYS} signing keys; delete one that is no longer used."
        )));
    }
    let row = db::signing_keys::insert(&mut tx, &new).await?;
    let row =
        row.ok_or_else(|| ApiError::conflict("key_exists", "The account has this key already."))?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, axum::Json(Row::from(row))).into_response())
}

/// Delete a signing key
///
/// Pushes that were signed with it go on showing it; later ones are of an unknown key.
#[utoipa::path(delete, path = "/v1/signing-keys/{signing_key_id}", tag = "Signing keys",
    operation_id = "delete_signing_key",
    responses((status = NO_CONTENT, description = "Deleted.")))]
async fn remove(State(app): State<App>, caller: Caller, Id(id): Id) -> Result<StatusCode> {
    may_manage(&caller)?;
    let mut tx = app.db.begin().await?;
    let deleted = db::signing_keys::delete(&mut tx, caller.user_id, id).await?;
    tx.commit().await?;
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::not_found("signing key")) }
}

fn may_manage(caller: &Caller) -> Result<()> {
    if caller.unrestricted() {
        Ok(())
    } else {
        Err(ApiError::forbidden(
            "An API key that is limited to scopes cannot register or delete signing keys; sign in \
             instead.",
        ))
    }
}
