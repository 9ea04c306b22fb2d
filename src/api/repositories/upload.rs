//! An archive as `multipart/form-data` (RFC 7578), streamed to storage.
//!
//! - Never held in memory: the file goes to storage in pieces of a MiB, everything else
//!   has bounds of its own, and headers that do not end are cut off.
//! - What is wrong with the file is told as early as it is known: by its first bytes
//!   if it is no archive, by its length as soon as that exceeds the limit.
//! - Whatever ends the request before the repository is made (a refusal, a client that
//!   is gone, a database that is away) removes what was stored for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use sluice_git::firewall::Room;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::caller::Caller;
use crate::api::error::{ApiError, Result};
use crate::api::fields::{Check, Name, Text};
use crate::api::idempotency::Deferred;
use crate::archive;
use crate::db::new_id;
use crate::db::repositories::{
    self, ArchiveCame, NewRepository, Repository, SourceType, archive_prefix,
};
use crate::db::usage;
use crate::quota::{self, Stored as Kept};
use crate::server::App;
use crate::storage::{ObjectWriter, Storage, StorageError};
use crate::words::sentence;

/// Bytes of one field that is no file.
const MAX_FIELD: usize = 64 << 10;
/// Fields of one form.
const MAX_FIELDS: usize = 16;
/// Bytes that may lie between two pieces of a field: boundaries, and headers of parts.
const MAX_AHEAD: usize = 4 << 20;
/// Bytes that go to storage at once.
const PIECE: usize = 1 << 20;

/// The fields of the form, for the document.
#[derive(serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ArchiveForm)]
#[allow(dead_code)]
pub(crate) struct Form {
    /// White space around it is taken off. Left out: the name of the file without its ending.
    #[schema(value_type = Option<Name>)]
    name: Option<String>,
    /// A text for people, perhaps of several lines.
    #[schema(value_type = Option<Text>)]
    description: Option<String>,
    /// May be left out.
    #[schema(pattern = "^archive$")]
    source_type: Option<String>,
    /// `false`: the archive is not scanned once it is ready.
    scan: Option<bool>,
    /// A zip, tar, tar.gz, tar.zst, tar.xz or tar.bz2.
    #[schema(value_type = String, format = Binary, content_media_type = "application/octet-stream")]
    file: Vec<u8>,
}

/// What a form brought.
pub(crate) struct Received {
    /// The repository that is to be made.
    id: Uuid,
    name: String,
    description: String,
    scan: bool,
    stored: Stored,
}

/// What became of a form.
pub(crate) enum Outcome {
    Received(Received),
    /// The same request was answered before, by its `Idempotency-Key`.
    Answered(Response),
}

/// An object that is removed again unless it is kept.
struct Stored {
    storage: Storage,
    key: String,
    kept: bool,
}

impl Drop for Stored {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (storage, key) = (self.storage.clone(), std::mem::take(&mut self.key));
        tokio::spawn(async move {
            if let Err(error) = storage.delete(&key).await {
                tracing::warn!("an archive that nobody needs stays until the clean-up: {error}");
            }
        });
    }
}

/// Reads the form; `project_id` is where the repository goes, if that is known.
pub(crate) async fn receive(
    app: &App,
    caller: &Caller,
    project_id: Option<Uuid>,
    request: Request,
) -> Result<Outcome> {
    let project = match project_id {
        Some(id) => usage::stored(&app.db, id).await?,
        None => 0,
    };
    let room = quota::room(app, Kept { upload: None, project }).await?;
    let deferred = request.extensions().get::<Deferred>().cloned();
    let content_type = request.headers().get(header::CONTENT_TYPE).cloned();
    let boundary = content_type
        .as_ref()
        .and_then(|value| value.to_str().ok())
        .and_then(|value| multer::parse_boundary(value).ok())
        .filter(|boundary| (1..=70).contains(&boundary.len()))
        .ok_or_else(|| {
            ApiError::bad_request("The header Content-Type of the form has no usable boundary.")
        })?;
    let id = new_id();
    let mut reader = Reader::new(app, id, &boundary, request, room);
    let (texts, file) = reader.run().await?;
    let Some((stored, digest, file_name)) = file else {
        return Err(ApiError::invalid_field("file", "is required: the archive"));
    };

    let mut check = Check::default();
    let named = texts.get("name").cloned().or_else(|| file_name.as_deref().map(stem));
    let name = match named {
        Some(name) => check.name("name", &name),
        None => {
            check.refuse("name", "is required, since the file has no name");
            String::new()
        }
    };
    let description = check.text("description", texts.get("description").map(String::as_str));
    if texts.get("source_type").is_some_and(|value| value != "archive") {
        check.refuse("source_type", "a form with a file is of the type `archive`");
    }
    let scan = match texts.get("scan").map(String::as_str) {
        None | Some("true") => true,
        Some("false") => false,
        Some(_) => {
            check.refuse("scan", "must be true or false");
            true
        }
    };
    check.done()?;
    if let Some(deferred) = deferred {
        let mut hash = Sha256::new();
        for (name, value) in &texts {
            for part in [name, value] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        hash.update(digest);
        if let Some(answer) = deferred.claim(&hash.finalize().into()).await? {
            return Ok(Outcome::Answered(answer));
        }
    }
    tracing::debug!(user = %caller.user_id, "an archive came in");
    Ok(Outcome::Received(Received { id, name, description, scan, stored }))
}

/// Makes the repository of an archive that came in, and asks for its ingest.
pub(crate) async fn make(
    app: &App,
    caller: &Caller,
    project_id: Uuid,
    mut received: Received,
    session: bool,
) -> Result<Repository> {
    let mut tx = app.db.begin().await?;
    let new = NewRepository {
        project_id,
        owner_id: caller.user_id,
        name: received.name.clone(),
        description: received.description.clone(),
        source_type: SourceType::Archive,
        source_url: None,
        source_ref: None,
    };
    let repository = repositories::create_with_id(&mut tx, received.id, &new).await?;
    let came = ArchiveCame {
        fetch: false,
        key: received.stored.key.clone(),
        // The scan of a session is asked for on its own.
        scan: received.scan && !session,
        session,
    };
    repositories::archive_came(&mut tx, &repository, &came).await?;
    tx.commit().await?;
    received.stored.kept = true;
    repositories::get(&app.db, caller.user_id, received.id)
        .await?
        .ok_or_else(|| ApiError::not_found("repository"))
}

/// The name of a file without its folder and ending.
fn stem(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let lower = name.to_ascii_lowercase();
    let endings =
        [".tar.gz", ".tar.zst", ".tar.xz", ".tar.bz2", ".tgz", ".tbz2", ".txz", ".tar", ".zip"];
    let ending = endings.iter().find(|ending| lower.ends_with(*ending));
    let stem = name.get(..name.len() - ending.map_or(0, |e| e.len())).unwrap_or(name);
    let stem: String = stem.chars().filter(|c| !c.is_control()).take(200).collect();
    if stem.trim().is_empty() { "archive".to_owned() } else { stem }
}

/// A stored file, its SHA-256 and the name that the client gave it.
type File = (Stored, [u8; 32], Option<String>);

struct Reader<'a> {
    app: &'a App,
    id: Uuid,
    form: multer::Multipart<'static>,
    /// Bytes that were handed to the parser and have not come out of it.
    ahead: Arc<AtomicUsize>,
    limit: u64,
    /// How much more may be kept.
    room: Option<Room>,
    idle: Duration,
}

impl<'a> Reader<'a> {
    fn new(app: &'a App, id: Uuid, boundary: &str, request: Request, room: Option<Room>) -> Self {
        let ahead = Arc::new(AtomicUsize::new(0));
        let counter = ahead.clone();
        // The parser keeps what it has not understood yet, headers without an end for
        // one, so what it may keep is bounded here.
        let stream = request.into_body().into_data_stream().map(move |piece| {
            let piece = piece.map_err(std::io::Error::other)?;
            let before = counter.fetch_add(piece.len(), Ordering::Relaxed);
            if before + piece.len() > MAX_AHEAD {
                return Err(std::io::Error::other(TooFar));
            }
            Ok::<Bytes, std::io::Error>(piece)
        });
        let limits = &app.config.limits;
        Self {
            app,
            id,
            form: multer::Multipart::new(stream, boundary),
            ahead,
            limit: limits.archive_bytes,
            room,
            idle: Duration::from_secs(limits.push_idle_seconds.max(1)),
        }
    }

    async fn run(&mut self) -> Result<(BTreeMap<String, String>, Option<File>)> {
        let mut texts = BTreeMap::new();
        let mut file = None;
        for _ in 0..MAX_FIELDS {
            let next = timed(self.idle, self.form.next_field()).await?;
            let Some(field) = next.map_err(|error| Self::unreadable(&error))? else {
                return Ok((texts, file));
            };
            self.ahead.store(0, Ordering::Relaxed);
            let name = field.name().unwrap_or_default().to_owned();
            let known = ["name", "description", "source_type", "scan", "file"];
            let Some(name) = known.into_iter().find(|known| *known == name) else {
                let short: String = name.chars().take(50).collect();
                return Err(ApiError::invalid_field(
                    if short.is_empty() { "body" } else { &short },
                    "unknown field: a form has name, description, source_type, scan and file",
                ));
            };
            if texts.contains_key(name) || (name == "file" && file.is_some()) {
                return Err(ApiError::invalid_field(name, "must be given once"));
            }
            if name == "file" {
                file = Some(self.file(field).await?);
            } else {
                let text = self.text(name, field).await?;
                texts.insert(name.to_owned(), text);
            }
        }
        Err(ApiError::invalid_field("body", format!("must not have more than {MAX_FIELDS} fields")))
    }

    async fn piece(&self, field: &mut multer::Field<'_>) -> Result<Option<Bytes>> {
        let piece = timed(self.idle, field.chunk()).await?;
        self.ahead.store(0, Ordering::Relaxed);
        piece.map_err(|error| Self::unreadable(&error))
    }

    async fn text(&self, name: &str, mut field: multer::Field<'_>) -> Result<String> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece(&mut field).await? {
            if bytes.len() + piece.len() > MAX_FIELD {
                return Err(ApiError::invalid_field(
                    name,
                    format!("must not be longer than {MAX_FIELD} bytes"),
                ));
            }
            bytes.extend_from_slice(&piece);
        }
        String::from_utf8(bytes).map_err(|_| ApiError::invalid_field(name, "must be UTF-8"))
    }

    async fn file(&self, mut field: multer::Field<'_>) -> Result<File> {
        let file_name = field.file_name().map(str::to_owned);
        let key = format!("{}{}", archive_prefix(self.id), new_id());
        let mut hash = Sha256::new();
        let mut buffer = Vec::with_capacity(PIECE);
        let mut writer: Option<ObjectWriter> = None;
        let mut total = 0u64;
        loop {
            let piece = self.piece(&mut field).await?;
            let last = piece.is_none();
            if let Some(piece) = piece {
                total += piece.len() as u64;
                if total > self.limit {
                    return Err(ApiError::new(
                        StatusCode::PAYLOAD_TOO_LARGE,
                        "payload_too_large",
                        format!(
                            "The archive is larger than {} bytes, the limit of this server.",
                            self.limit
                        ),
                    )
                    .with_header(header::CONNECTION, HeaderValue::from_static("close"))
                    .by_limit("archive_bytes"));
                }
                if let Some(room) = &self.room
                    && total > room.bytes
                {
                    self.app.metrics.limit_hit(room.quota);
                    return Err(ApiError::quota_exceeded(sentence(&room.sentence))
                        .with_header(header::CONNECTION, HeaderValue::from_static("close")));
                }
                hash.update(&piece);
                buffer.extend_from_slice(&piece);
            }
            if writer.is_none() && (last || buffer.len() >= archive::SNIFF) {
                let head = buffer.get(..archive::SNIFF).unwrap_or(&buffer);
                archive::sniff(head).map_err(|error| refused(&error))?;
                writer = Some(self.app.storage.writer(&key).await.map_err(storage)?);
            }
            if let Some(writer) = &mut writer
                && (last || buffer.len() >= PIECE)
                && !buffer.is_empty()
            {
                writer.write(std::mem::take(&mut buffer).into()).await.map_err(storage)?;
            }
            if last {
                break;
            }
        }
        if let Some(writer) = writer {
            writer.finish().await.map_err(storage)?;
        }
        let stored = Stored { storage: self.app.storage.clone(), key, kept: false };
        Ok((stored, hash.finalize().into(), file_name))
    }

    fn unreadable(error: &multer::Error) -> ApiError {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(inner) = source {
            if inner.is::<TooFar>()
                || inner
                    .downcast_ref::<std::io::Error>()
                    .and_then(std::io::Error::get_ref)
                    .is_some_and(|inner| inner.is::<TooFar>())
            {
                return ApiError::bad_request(format!("The form is malformed: {TooFar}."));
            }
            source = inner.source();
        }
        match error {
            multer::Error::StreamReadFailed(_) => {
                ApiError::bad_request("The body could not be read to its end.")
            }
            _ => ApiError::bad_request(format!("The form is malformed: {error}.")),
        }
    }
}

/// Headers that do not end.
#[derive(Debug, thiserror::Error)]
#[error("the headers of a part do not end")]
struct TooFar;

/// A storage that is full or away is told as one that may be back.
fn storage(error: StorageError) -> ApiError {
    match error {
        StorageError::Full | StorageError::Unavailable { .. } => ApiError::unavailable(error),
        error => ApiError::internal(error),
    }
}

/// 422 with the code that the ingest would have given.
fn refused(error: &archive::ArchiveError) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error.code(), format!("file: {error}."))
        .with_header(header::CONNECTION, HeaderValue::from_static("close"))
}

async fn timed<T>(idle: Duration, work: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(idle, work).await.map_err(|_| {
        ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            format!("Nothing came for {} seconds.", idle.as_secs()),
        )
        .with_header(header::CONNECTION, HeaderValue::from_static("close"))
        .by_limit("push_idle_seconds")
    })
}

#[cfg(test)]
pub(crate) mod tests;
