//! Locks: who says that others should leave a path alone.
//!
//! Everybody who may use a remote acts for one account, so a lock is held by a name:
//! the one that the client gives as its user name, or else the account's e-mail. It
//! protects against mistakes, not against malice.

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};
use uuid::Uuid;

use super::batch::{answer, question};
use super::error::LfsError;
use super::{Lfs, Opened};
use crate::api::time::Time;
use crate::db::lfs::{self, LfsLock, Locked, MAX_LOCKS};

/// Locks of one page.
const PAGE: u32 = 100;

/// Most bytes of a path.
const MAX_PATH: usize = 4096;

#[derive(Deserialize)]
struct RefName {
    name: Option<String>,
}

#[derive(Deserialize)]
struct NewLock {
    path: String,
    #[serde(rename = "ref")]
    of: Option<RefName>,
}

#[derive(Deserialize)]
pub(super) struct Listed {
    path: Option<String>,
    id: Option<String>,
    cursor: Option<String>,
    limit: Option<u32>,
}

#[derive(Deserialize)]
struct Verified {
    cursor: Option<String>,
    limit: Option<u32>,
}

#[derive(Deserialize)]
struct Unlocked {
    #[serde(default)]
    force: bool,
}

#[derive(Deserialize)]
pub(super) struct Segments {
    id: String,
}

fn shown(lock: &LfsLock) -> JsonValue {
    json!({
        "id": lock.id,
        "path": lock.path,
        "locked_at": Time(lock.created_at),
        "owner": { "name": lock.owner },
    })
}

/// A page, and the cursor of the next.
async fn page(
    state: &Lfs,
    opened: &Opened,
    cursor: Option<&str>,
    limit: Option<u32>,
) -> Result<(Vec<LfsLock>, Option<Uuid>), LfsError> {
    let after = match cursor.filter(|cursor| !cursor.is_empty()) {
        Some(cursor) => Some(Uuid::try_parse(cursor).map_err(|_| {
            LfsError::invalid("The cursor is none of this server; leave it out to begin anew.")
        })?),
        None => None,
    };
    let limit = limit.filter(|limit| *limit > 0).unwrap_or(PAGE).min(PAGE);
    let mut locks = lfs::locks(&state.app.db, opened.upload.id, after, limit + 1).await?;
    let more = locks.len() > limit as usize;
    locks.truncate(limit as usize);
    let next = locks.last().filter(|_| more).map(|lock| lock.id);
    Ok((locks, next))
}

pub(super) async fn lock(
    State(state): State<Lfs>,
    opened: Opened,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response<Body>, LfsError> {
    let wanted: NewLock = question(&headers, body)?;
    let path = wanted.path.as_str();
    if path.is_empty() || path.len() > MAX_PATH || path.contains('\0') {
        return Err(LfsError::invalid(format!("A path has 1 to {MAX_PATH} bytes and no NUL.")));
    }
    let of = wanted.of.and_then(|of| of.name);
    if of.as_ref().is_some_and(|name| name.len() > MAX_PATH || name.contains('\0')) {
        return Err(LfsError::invalid("The name of the ref is too long, or has a NUL."));
    }
    let (db, id) = (&state.app.db, opened.upload.id);
    let who = opened.who(&state.app).await?;
    match lfs::lock(db, id, path, of.as_deref(), &who).await? {
        Locked::New(lock) => Ok(answer(StatusCode::CREATED, &json!({ "lock": shown(&lock) }))),
        Locked::Held(lock) => Ok(answer(
            StatusCode::CONFLICT,
            &json!({
                "lock": shown(&lock),
                "message": format!("This path is locked by {}.", lock.owner),
            }),
        )),
        Locked::TooMany => Err(LfsError::invalid(format!(
            "This remote has {MAX_LOCKS} locks, which is the most; give some back first."
        ))),
    }
}

pub(super) async fn list(
    State(state): State<Lfs>,
    opened: Opened,
    query: Result<Query<Listed>, QueryRejection>,
) -> Result<Response<Body>, LfsError> {
    let Query(wanted) =
        query.map_err(|_| LfsError::invalid("The parameters cannot be understood."))?;
    let (db, upload) = (&state.app.db, opened.upload.id);
    // One path or one id is asked for by those who want to unlock it.
    let one = match (&wanted.path, &wanted.id) {
        (Some(path), _) => Some(lfs::lock_on(db, upload, path).await?),
        (None, Some(id)) => Some(match Uuid::try_parse(id) {
            Ok(id) => lfs::lock_by_id(db, upload, id).await?,
            Err(_) => None,
        }),
        (None, None) => None,
    };
    let (locks, next) = match one {
        Some(found) => {
            let id = wanted.id.as_deref();
            let fits = |lock: &LfsLock| id.is_none_or(|id| lock.id.to_string() == id);
            (found.into_iter().filter(fits).collect(), None)
        }
        None => page(&state, &opened, wanted.cursor.as_deref(), wanted.limit).await?,
    };
    let locks: Vec<JsonValue> = locks.iter().map(shown).collect();
    Ok(answer(StatusCode::OK, &listing(json!({ "locks": locks }), next)))
}

/// What a client asks before it pushes.
pub(super) async fn verify(
    State(state): State<Lfs>,
    opened: Opened,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response<Body>, LfsError> {
    let wanted: Verified = question(&headers, body)?;
    let (locks, next) = page(&state, &opened, wanted.cursor.as_deref(), wanted.limit).await?;
    let who = opened.who(&state.app).await?;
    let (ours, theirs): (Vec<&LfsLock>, Vec<&LfsLock>) =
        locks.iter().partition(|lock| lock.owner == who);
    let show = |locks: Vec<&LfsLock>| locks.into_iter().map(shown).collect::<Vec<_>>();
    let body = json!({ "ours": show(ours), "theirs": show(theirs) });
    Ok(answer(StatusCode::OK, &listing(body, next)))
}

fn listing(mut body: JsonValue, next: Option<Uuid>) -> JsonValue {
    if let (Some(next), Some(fields)) = (next, body.as_object_mut()) {
        fields.insert("next_cursor".into(), next.to_string().into());
    }
    body
}

pub(super) async fn unlock(
    State(state): State<Lfs>,
    opened: Opened,
    Path(Segments { id }): Path<Segments>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response<Body>, LfsError> {
    let wanted: Unlocked = question(&headers, body)?;
    let missing = || LfsError::not_found("There is no such lock.");
    let id = Uuid::try_parse(&id).map_err(|_| missing())?;
    let (db, upload) = (&state.app.db, opened.upload.id);
    let lock = lfs::lock_by_id(db, upload, id).await?.ok_or_else(missing)?;
    if !wanted.force && lock.owner != opened.who(&state.app).await? {
        return Err(LfsError::new(
            StatusCode::FORBIDDEN,
            format!("This path is locked by {}; only --force takes it away.", lock.owner),
        ));
    }
    if !lfs::unlock(db, upload, id).await? {
        return Err(missing());
    }
    Ok(answer(StatusCode::OK, &json!({ "lock": shown(&lock) })))
}
