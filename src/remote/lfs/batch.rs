//! What is to be transferred, and where to.

use std::collections::HashMap;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value as JsonValue, json};
use sluice_git::firewall::Room;

use super::error::LfsError;
use super::{Lfs, MAX_OBJECTS, MEDIA_TYPE, Opened, is_oid};
use crate::db::lfs;
use crate::words::sentence;

#[derive(Deserialize)]
pub(super) struct Batch {
    operation: Operation,
    #[serde(default)]
    transfers: Vec<String>,
    objects: Vec<Wanted>,
    hash_algo: Option<String>,
}

#[derive(Deserialize, PartialEq, Eq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Operation {
    Upload,
    Download,
}

#[derive(Deserialize)]
struct Wanted {
    oid: String,
    size: u64,
}

/// Reads a question.
pub(super) fn question<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<T, LfsError> {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim();
    if !media_type.eq_ignore_ascii_case(MEDIA_TYPE) {
        return Err(LfsError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("The body of this request has to be of type {MEDIA_TYPE}."),
        ));
    }
    serde_json::from_slice(&body?)
        .map_err(|error| LfsError::invalid(format!("The body cannot be understood: {error}.")))
}

/// An answer.
pub(super) fn answer(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_string(body).unwrap_or_default();
    let kind = HeaderValue::from_static(MEDIA_TYPE);
    (status, [(header::CONTENT_TYPE, kind)], text).into_response()
}

pub(super) async fn batch(
    State(state): State<Lfs>,
    opened: Opened,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response<Body>, LfsError> {
    let batch: Batch = question(&headers, body)?;
    if !batch.transfers.is_empty() && !batch.transfers.iter().any(|name| name == "basic") {
        return Err(LfsError::invalid("This server offers the transfer `basic` only."));
    }
    if batch.hash_algo.as_deref().is_some_and(|name| name != "sha256") {
        return Err(LfsError::new(
            StatusCode::CONFLICT,
            "This server knows objects by their SHA-256 only.",
        ));
    }
    if batch.objects.len() > MAX_OBJECTS {
        return Err(LfsError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("Ask for at most {MAX_OBJECTS} objects at once."),
        ));
    }
    let oids: Vec<&str> =
        batch.objects.iter().map(|o| o.oid.as_str()).filter(|oid| is_oid(oid)).collect();
    let known: HashMap<String, u64> = lfs::among(&state.app.db, opened.upload.id, &oids)
        .await?
        .into_iter()
        .map(|object| (object.oid, object.size.unsigned_abs()))
        .collect();
    let most = state.app.config.limits.lfs_object_bytes;
    if batch.operation == Operation::Upload {
        let over = |wanted: &&Wanted| wanted.size > most && !known.contains_key(&wanted.oid);
        let times = batch.objects.iter().filter(over).count() as u64;
        if times > 0 {
            state.app.metrics.limit_hits("lfs_object_bytes", times);
        }
    }
    let room = match batch.operation {
        Operation::Upload => opened.room(&state.app).await?,
        Operation::Download => None,
    };
    let objects: Vec<JsonValue> = batch
        .objects
        .iter()
        .map(|wanted| {
            one(&opened, batch.operation, wanted, known.get(&wanted.oid), most, room.as_ref())
        })
        .collect();
    let body = json!({ "transfer": "basic", "objects": objects, "hash_algo": "sha256" });
    Ok(answer(StatusCode::OK, &body))
}

/// What is to be done about one object.
fn one(
    opened: &Opened,
    operation: Operation,
    wanted: &Wanted,
    known: Option<&u64>,
    most: u64,
    room: Option<&Room>,
) -> JsonValue {
    let Wanted { oid, size } = wanted;
    let failed = |code: u16, message: String| json!({ "oid": oid, "size": size, "error": { "code": code, "message": message } });
    if !is_oid(oid) {
        return failed(422, "The oid has to be a SHA-256 in lower-case hex.".into());
    }
    let mut header = serde_json::Map::new();
    if let Some(value) = opened.authorization.as_ref().and_then(|value| value.to_str().ok()) {
        header.insert("Authorization".into(), value.into());
    }
    let base = &opened.base;
    match (operation, known) {
        (_, Some(stored)) if stored != size => {
            failed(422, format!("This object has {stored} bytes, not {size}."))
        }
        // It is here: no action means that there is nothing to do.
        (Operation::Upload, Some(_)) => json!({ "oid": oid, "size": size }),
        (Operation::Upload, None) if *size > most => failed(
            422,
            format!(
                "This object has more than the {most} bytes that one may have here \
                 (SLUICE_LIMIT_LFS_OBJECT_BYTES)."
            ),
        ),
        (Operation::Upload, None) if room.is_some_and(|room| *size > room.bytes) => {
            failed(507, room.map(|room| sentence(&room.sentence)).unwrap_or_default())
        }
        (Operation::Upload, None) => json!({
            "oid": oid,
            "size": size,
            "authenticated": true,
            "actions": {
                "upload": { "href": format!("{base}/objects/{oid}?size={size}"), "header": header },
                "verify": { "href": format!("{base}/verify"), "header": header },
            },
        }),
        (Operation::Download, Some(_)) => json!({
            "oid": oid,
            "size": size,
            "authenticated": true,
            "actions": {
                "download": { "href": format!("{base}/objects/{oid}"), "header": header },
            },
        }),
        (Operation::Download, None) => failed(404, "This remote has no such object.".into()),
    }
}
