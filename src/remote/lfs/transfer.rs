//! The bytes of objects, in and out.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use bytes::BytesMut;
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

use super::batch::{answer, question};
use super::error::LfsError;
use super::{Lfs, Opened, is_oid};
use crate::accounts::hex;
use crate::db::lfs::{self, Added, LfsObject};
use crate::db::{new_id, uploads};
use crate::quota;
use crate::storage::ObjectWriter;

/// Bytes that are hashed and written at once.
const PART: usize = 1 << 20;

/// How long an object waits for its turn.
const TURN: Duration = Duration::from_mins(1);

#[derive(Deserialize)]
pub(super) struct Segments {
    oid: String,
}

#[derive(Deserialize)]
pub(super) struct Announced {
    /// Said in the batch, and put into the address of the upload by its answer.
    size: u64,
}

#[derive(Deserialize)]
pub(super) struct Claim {
    oid: String,
    size: u64,
}

/// Takes an object. It is there once this answers 200, and then it is durable.
pub(super) async fn upload(
    State(state): State<Lfs>,
    opened: Opened,
    Path(Segments { oid }): Path<Segments>,
    announced: Result<Query<Announced>, QueryRejection>,
    body: Body,
) -> Response<Body> {
    match take(&state, &opened, oid, announced, body).await {
        Ok(status) => status.into_response(),
        // What is left of the body is not read, so nothing can follow it. A client that is
        // not told sends its next request into a connection that is closed.
        Err(error) => ([(header::CONNECTION, "close")], error).into_response(),
    }
}

async fn take(
    state: &Lfs,
    opened: &Opened,
    oid: String,
    announced: Result<Query<Announced>, QueryRejection>,
    body: Body,
) -> Result<StatusCode, LfsError> {
    let Ok(Query(Announced { size })) = announced else {
        return Err(LfsError::invalid(
            "This address lacks the size of the object; take it from an answer of the batch API.",
        ));
    };
    if !is_oid(&oid) {
        return Err(LfsError::invalid("The oid has to be a SHA-256 in lower-case hex."));
    }
    let most = state.app.config.limits.lfs_object_bytes;
    if size > most {
        state.app.metrics.limit_hit("lfs_object_bytes");
        return Err(LfsError::invalid(format!(
            "This object has more than the {most} bytes that one may have here \
             (SLUICE_LIMIT_LFS_OBJECT_BYTES)."
        )));
    }
    if let Some(room) = opened.room(&state.app).await?
        && size > room.bytes
    {
        state.app.metrics.limit_hit(room.quota);
        return Err(LfsError::no_room(&room.sentence));
    }
    let owner = opened.upload.owner_id.as_u128();
    let Ok(_slot) = state.receives.take(Some(owner), TURN).await else {
        state.app.metrics.limit_hit("pushes_at_once");
        return Err(LfsError::try_again(
            "The server receives as many objects as it can, of one owner or in all; try again in \
             a minute.",
            60,
        ));
    };
    // A client that was told that it is missing may find that another was faster.
    if lfs::get(&state.app.db, opened.upload.id, &oid).await?.is_some() {
        return Ok(StatusCode::OK);
    }
    let prefix = uploads::storage_prefix(opened.upload.id);
    // The key belongs to this upload of it alone, so that taking it back harms no other.
    let key = format!("{prefix}{}/lfs-{oid}", new_id());
    let idle = Duration::from_secs(state.app.config.limits.push_idle_seconds);
    let writer = state.app.storage.writer(&key).await?;
    let received = receive(body, writer, size, opened.upload.hash(), idle).await;
    if received.as_ref().is_err_and(|error| error.status() == StatusCode::REQUEST_TIMEOUT) {
        state.app.metrics.limit_hit("push_idle_seconds");
    }
    let (writer, digest, blob) = received?;
    if digest != oid {
        return Err(LfsError::invalid(
            "The bytes that came have another SHA-256 than the object: nothing was kept. Send \
             it again; if it happens again, the file changed since it was added.",
        ));
    }
    writer.finish().await?;
    let object = LfsObject { oid, size: size as i64, blob, storage_key: key };
    let quotas = quota::quotas(&state.app);
    let added = lfs::add(&state.app.db, &opened.upload, &object, quotas).await;
    if !matches!(added, Ok(Added::New)) {
        // Another was faster, or the row was not written. If that is not known, the
        // clean-up looks again.
        let kept = matches!(added, Err(crate::db::DbError::Unavailable(_)));
        if !kept && let Err(error) = state.app.storage.delete(&object.storage_key).await {
            tracing::warn!("cannot take back an object that is not needed: {error}");
        }
    }
    match added? {
        Added::New => state.app.stored.add(size),
        Added::Known => {}
        Added::Full(full) => {
            let limit = quota::refused(&state.app, full);
            state.app.metrics.limit_hit(limit.name);
            return Err(LfsError::no_room(&limit.sentence));
        }
    }
    Ok(StatusCode::OK)
}

/// Streams the body to the storage; answers what it hashes to, as LFS and as git do.
async fn receive(
    body: Body,
    mut writer: ObjectWriter,
    size: u64,
    hash: gix_hash::Kind,
    idle: Duration,
) -> Result<(ObjectWriter, String, String), LfsError> {
    let wrong = |came: u64| {
        LfsError::invalid(format!(
            "{size} bytes were announced and {came} came: nothing was kept. Send it again."
        ))
    };
    let mut hashes = Hashes::new(size, hash);
    let mut came = 0u64;
    let mut part = BytesMut::new();
    let mut stream = body.into_data_stream();
    loop {
        let chunk = timeout(idle, stream.next()).await.map_err(|_| {
            LfsError::new(
                StatusCode::REQUEST_TIMEOUT,
                format!("Nothing came for {} seconds.", idle.as_secs()),
            )
        })?;
        let ended = chunk.is_none();
        if let Some(chunk) = chunk {
            let chunk = chunk.map_err(|_| wrong(came))?;
            came += chunk.len() as u64;
            if came > size {
                return Err(wrong(came));
            }
            part.extend_from_slice(&chunk);
        }
        if part.len() >= PART || (ended && !part.is_empty()) {
            let bytes = part.split().freeze();
            let (hashed, written) = tokio::join!(hashes.add(bytes.clone()), writer.write(bytes));
            written?;
            hashes = hashed?;
        }
        if ended {
            break;
        }
    }
    if came != size {
        return Err(wrong(came));
    }
    let (digest, blob) = hashes.end()?;
    Ok((writer, digest, blob))
}

/// SHA-256 of the content and the id of the blob that it would be.
struct Hashes {
    lfs: Sha256,
    git: gix_hash::Hasher,
}

impl Hashes {
    fn new(size: u64, hash: gix_hash::Kind) -> Self {
        let mut git = gix_hash::hasher(hash);
        git.update(format!("blob {size}\0").as_bytes());
        Self { lfs: Sha256::new(), git }
    }

    /// On a thread that may be busy for a while.
    async fn add(mut self, bytes: Bytes) -> Result<Self, LfsError> {
        tokio::task::spawn_blocking(move || {
            self.lfs.update(&bytes);
            self.git.update(&bytes);
            self
        })
        .await
        .map_err(|error| sluice_git::Refusal::internal(error).into())
    }

    fn end(self) -> Result<(String, String), LfsError> {
        let git = self.git.try_finalize().map_err(|_| {
            LfsError::invalid("This object is made to collide with another in git; it is refused.")
        })?;
        Ok((hex(&self.lfs.finalize().into()), git.to_string()))
    }
}

/// Gives an object, or the part of it that the client still lacks.
pub(super) async fn download(
    State(state): State<Lfs>,
    opened: Opened,
    Path(Segments { oid }): Path<Segments>,
    headers: HeaderMap,
) -> Result<Response<Body>, LfsError> {
    let missing = || LfsError::not_found("This remote has no such object.");
    if !is_oid(&oid) {
        return Err(missing());
    }
    let object = lfs::get(&state.app.db, opened.upload.id, &oid).await?.ok_or_else(missing)?;
    let size = object.size.unsigned_abs();
    let from = headers.get(header::RANGE).and_then(|value| value.to_str().ok()).and_then(resumes);
    let (status, range) = match from {
        Some(from) if from < size => (StatusCode::PARTIAL_CONTENT, from..size),
        Some(_) => {
            let all = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, all).into_response());
        }
        None => (StatusCode::OK, 0..size),
    };
    let part = format!("bytes {}-{}/{size}", range.start, size.saturating_sub(1));
    let reader = state.app.storage.reader(&object.storage_key, Some(range)).await?;
    let length = reader.length();
    let body = Body::from_stream(ReaderStream::with_capacity(reader, 64 << 10));
    let mut response = (status, body).into_response();
    let fields = response.headers_mut();
    let kind = HeaderValue::from_static("application/octet-stream");
    fields.insert(header::CONTENT_TYPE, kind);
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(part) = HeaderValue::try_from(part)
    {
        fields.insert(header::CONTENT_RANGE, part);
    }
    Ok(response)
}

/// The first byte that is wanted by a client that goes on with a download; other ranges
/// may be ignored ([RFC 9110, 14.2](https://www.rfc-editor.org/rfc/rfc9110#section-14.2)).
fn resumes(range: &str) -> Option<u64> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    if to.is_empty() { from.trim().parse().ok() } else { None }
}

/// Says whether an object is here, as it was announced.
pub(super) async fn verify(
    State(state): State<Lfs>,
    opened: Opened,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response<Body>, LfsError> {
    let claim: Claim = question(&headers, body)?;
    let found = lfs::get(&state.app.db, opened.upload.id, &claim.oid).await?;
    match found {
        Some(object) if object.size.unsigned_abs() == claim.size => {
            Ok(answer(StatusCode::OK, &json!({ "oid": claim.oid, "size": claim.size })))
        }
        Some(object) => Err(LfsError::invalid(format!(
            "This object has {} bytes, not {}.",
            object.size, claim.size
        ))),
        None => Err(LfsError::not_found("This object has not arrived.")),
    }
}
