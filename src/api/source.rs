//! The source of a repository: its tree, and its files byte by byte, both from the
//! snapshot that the last ingest wrote.
//!
//! What was pushed is hostile to whoever looks at it. A browser that is sent to a
//! file must never run it: text is plain text whatever its name says, images are
//! told by their first bytes, all else is a download; and `nosniff` and a sandbox
//! without any right stand around it.

use std::ops::Range;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::caller::Caller;
use super::conditional;
use super::error::{ApiError, Problem, Result};
use super::extract::{Id, Query, uuid};
use super::page::{Page, check_limit};
use crate::db::repositories::{self, Repository};
use crate::db::snapshots;
use crate::scan::inventory::{decode, encoding_of, language_of_path};
use crate::server::App;
use crate::snapshot::{Entry, EntryKind, Listed, Snapshot, SnapshotError};
use crate::storage::StorageError;

mod range;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    // The rest of the path is the file's: axum writes that `{*path}`, OpenAPI has no
    // word for it. So the route is mounted under its own spelling.
    let (documented, api) = OpenApiRouter::<App>::new().routes(routes!(file)).split_for_parts();
    drop(documented);
    let mut router = OpenApiRouter::new()
        .routes(routes!(tree))
        .route("/v1/repositories/{repo_id}/source-files/{*path}", axum::routing::get(file));
    router.get_openapi_mut().merge(api);
    router
}

/// Longest cursor: a path of 4,096 bytes in base64.
const MAX_CURSOR: usize = 8_192;
/// Bytes of a file by which its type is told.
const HEAD: u64 = 8_192;
/// Most lines of one answer.
const MAX_LINES: u64 = 5_000;
/// Most bytes of text of one answer.
const MAX_LINES_BYTES: usize = 2 << 20;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TreeQuery {
    /// The folder to list; left out: the root.
    path: Option<String>,
    /// Whether what lies in its folders is listed too.
    recursive: Option<bool>,
    /// The branch that was ingested, or a commit that has a snapshot.
    r#ref: Option<String>,
    /// Entries of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// From `next_cursor` of the page before, as it is.
    #[param(min_length = 1, max_length = 8192)]
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = TreeEntry)]
struct Row {
    path: String,
    /// `file`, `dir`, `symlink` or `submodule`.
    r#type: &'static str,
    size: Option<u64>,
    oid: Option<String>,
    language: Option<&'static str>,
}

impl From<Listed> for Row {
    fn from(listed: Listed) -> Self {
        let path = String::from_utf8_lossy(listed.path()).into_owned();
        match listed {
            Listed::Folder(_) => {
                Self { path, r#type: "dir", size: None, oid: None, language: None }
            }
            Listed::Entry(entry) => {
                let (r#type, bytes) = match entry.kind {
                    EntryKind::File | EntryKind::Executable => ("file", true),
                    EntryKind::Symlink => ("symlink", true),
                    EntryKind::Submodule => ("submodule", false),
                };
                Self {
                    language: (r#type == "file").then(|| language_of_path(&path)).flatten(),
                    path,
                    r#type,
                    size: bytes.then_some(entry.size),
                    oid: Some(entry.id.to_string()),
                }
            }
        }
    }
}

/// The tree of the ingested source
///
/// In the order of the paths.
#[utoipa::path(get, path = "/v1/repositories/{repo_id}/source-tree", tag = "Source", operation_id = "get_source_tree",
    params(TreeQuery), responses((status = OK, description = "A page of entries.", body = Page<Row>)))]
async fn tree(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    uri: Uri,
    Query(query): Query<TreeQuery>,
) -> Result<Page<Row>> {
    let limit = check_limit(query.limit)? as usize;
    let after = query.cursor.as_deref().map(decode_cursor).transpose()?;
    let folder = query.path.as_deref().unwrap_or_default().trim_matches('/').to_owned();
    let snapshot = open(&app, &caller, id, query.r#ref.as_deref()).await?;
    let recursive = query.recursive.unwrap_or(false);
    let listing = snapshot
        .list(folder.as_bytes(), recursive, after.as_deref(), limit)
        .await
        .map_err(unreadable)?;
    // Git keeps no empty folders: a page without entries tells of none, unless it is
    // the root or comes behind another page.
    if listing.items.is_empty() && !folder.is_empty() && after.is_none() {
        return Err(match snapshot.entry(folder.as_bytes()).await.map_err(unreadable)? {
            Some(_) => ApiError::new(
                StatusCode::NOT_FOUND,
                "not_a_folder",
                "This is a file, not a folder: ask for source-files/PATH.",
            ),
            None => ApiError::not_found("folder in this snapshot"),
        });
    }
    let next = listing.next.map(|next| URL_SAFE_NO_PAD.encode(&*next));
    Ok(Page::with_cursor(&uri, listing.items.into_iter().map(Row::from).collect(), next))
}

fn decode_cursor(cursor: &str) -> Result<Vec<u8>> {
    let fits = (1..=MAX_CURSOR).contains(&cursor.len());
    let bytes = if !fits { None } else { URL_SAFE_NO_PAD.decode(cursor).ok() };
    bytes.ok_or_else(|| ApiError::invalid_field("cursor", "take it from `next_cursor` as it is"))
}

/// The snapshot that `ref` names: the current one by the names of its branch and
/// commit, an older one by its commit.
async fn open(app: &App, caller: &Caller, id: Uuid, r#ref: Option<&str>) -> Result<Snapshot> {
    let repository = repositories::get(&app.db, caller.user_id, id)
        .await?
        .ok_or_else(|| ApiError::not_found("repository"))?;
    let row = match r#ref.filter(|name| !is_current(&repository, name)) {
        None => snapshots::current(&app.db, id).await?.ok_or_else(|| {
            ApiError::new(
                StatusCode::NOT_FOUND,
                "not_ingested",
                "There is no source yet: push to the repository, then wait until its \
                 ingest_status is ready.",
            )
        })?,
        Some(commit) => snapshots::by_commit(&app.db, caller.user_id, id, commit)
            .await?
            .ok_or_else(|| ApiError::not_found("ref with a snapshot in this repository"))?,
    };
    Snapshot::open(&app.storage, &row.manifest_key).await.map_err(unreadable)
}

fn is_current(repository: &Repository, name: &str) -> bool {
    let branch = repository.default_branch.as_deref();
    name == "HEAD"
        || repository.head_commit.as_deref() == Some(name)
        || branch.is_some_and(|branch| name.strip_prefix("refs/heads/").unwrap_or(name) == branch)
}

fn unreadable(error: SnapshotError) -> ApiError {
    match error {
        SnapshotError::NotFound { .. } => ApiError::not_found("file in this snapshot"),
        // The repository, or its oldest snapshots, were deleted a moment ago.
        SnapshotError::Storage(StorageError::NotFound { .. }) => {
            ApiError::not_found("source any more")
        }
        SnapshotError::Storage(error @ StorageError::Unavailable { .. }) => {
            ApiError::unavailable(error)
        }
        other => ApiError::internal(other),
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct FileQuery {
    /// The branch that was ingested, or a commit that has a snapshot.
    r#ref: Option<String>,
    /// Only these lines, from 1, as JSON: `10-40` or `10`; at most 5,000 of them.
    #[param(pattern = r"^[1-9][0-9]{0,6}(-[1-9][0-9]{0,6})?$", example = "10-40")]
    lines: Option<String>,
}

/// A file of the ingested source
///
/// Its bytes, with a content type that a browser will not run; `path` is the rest of
/// the address, slashes included. With `lines` some of its lines as JSON.
#[utoipa::path(get, path = "/v1/repositories/{repo_id}/source-files/{path}", tag = "Source", operation_id = "get_source_file",
    params(
        FileQuery,
        ("repo_id" = Uuid, Path, description = "The repository."),
        ("path" = String, Path, description = "The file's path from the root.", example = "src/main.rs"),
        ("Range" = Option<String>, Header, description = "One range of bytes.", example = "bytes=0-99"),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` that the client has."),
    ), responses(
        (status = OK, description = "The file, or its lines.", headers(("ETag" = String, description = "The object id of the content.")), content(
            (String = "text/plain; charset=utf-8"), (Excerpt = "application/json"), (String = "application/octet-stream"), (String = "image/png"), (String = "image/jpeg"), (String = "image/gif"), (String = "image/webp"), (String = "text/plain; charset=utf-16le"), (String = "text/plain; charset=utf-16be"), (String = "text/plain; charset=iso-8859-1"))),
        (status = PARTIAL_CONTENT, description = "The range that was asked for.", content(
            (String = "text/plain; charset=utf-8"), (String = "application/octet-stream"), (String = "image/png"), (String = "image/jpeg"), (String = "image/gif"), (String = "image/webp"), (String = "text/plain; charset=utf-16le"), (String = "text/plain; charset=utf-16be"), (String = "text/plain; charset=iso-8859-1"))),
        (status = NOT_MODIFIED, description = "It is as the client knows it."),
        (status = RANGE_NOT_SATISFIABLE, description = "The range begins behind the end.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn file(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    Query(query): Query<FileQuery>,
) -> Result<Response> {
    let (id, path) = address(&uri)?;
    let lines = query.lines.as_deref().map(parse_lines).transpose()?;
    let snapshot = open(&app, &caller, id, query.r#ref.as_deref()).await?;
    let entry = match snapshot.entry(&path).await.map_err(unreadable)? {
        Some(entry) if entry.kind == EntryKind::Submodule => {
            return Err(ApiError::new(
                StatusCode::NOT_FOUND,
                "submodule",
                "This is a submodule: its files are in another repository.",
            ));
        }
        Some(entry) => entry,
        None => return Err(ApiError::not_found("file in this snapshot")),
    };
    if let Some(lines) = lines {
        return excerpt(&app, &snapshot, &entry, lines, &headers).await;
    }

    let etag = format!("\"{}\"", entry.id);
    if conditional::none_match(&headers, &etag) {
        return Ok(answer(StatusCode::NOT_MODIFIED, &etag, Body::empty()));
    }
    let wanted = match range::of(&headers, &etag, entry.size) {
        range::Wanted::Whole => None,
        range::Wanted::Part(part) => Some(part),
        range::Wanted::Nothing => {
            let size = HeaderValue::try_from(format!("bytes */{}", entry.size));
            let error = ApiError::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "range_not_satisfiable",
                format!("The file has {} bytes; the range begins behind them.", entry.size),
            );
            return Err(match size {
                Ok(size) => error.with_header(header::CONTENT_RANGE, size),
                Err(_) => error,
            });
        }
    };
    let head = snapshot.read_range(&entry, 0..HEAD).await.map_err(unreadable)?;
    let content_type = content_type(&entry, &head);
    let (status, part) = match wanted {
        Some(part) => (StatusCode::PARTIAL_CONTENT, part),
        None => (StatusCode::OK, 0..entry.size),
    };
    let length = part.end - part.start;
    let content_range = content_range(&part, entry.size);
    // The head is read already, and most files are no longer.
    let body = if status == StatusCode::OK && entry.size <= HEAD {
        Body::from(head)
    } else {
        Body::from_stream(snapshot.stream(&entry, part))
    };
    let mut response = answer(status, &etag, body);
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(value) = HeaderValue::try_from(content_range)
    {
        fields.insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

fn content_range(part: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", part.start, part.end.saturating_sub(1))
}

/// Repository and path, from the address itself: a path is bytes, of which the
/// router would take only UTF-8.
fn address(uri: &Uri) -> Result<(Uuid, Vec<u8>)> {
    let (id, path) = uri
        .path()
        .strip_prefix("/v1/repositories/")
        .and_then(|rest| rest.split_once("/source-files/"))
        .ok_or_else(|| ApiError::not_found("object"))?;
    Ok((uuid(id)?, percent_decode_str(path).collect()))
}

/// An answer that no browser runs.
fn answer(status: StatusCode, etag: &str, body: Body) -> Response {
    const FIXED: [(HeaderName, &str); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
        (header::CACHE_CONTROL, "private, no-cache"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    let mut response = (status, body).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    for (name, value) in FIXED {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if let Ok(value) = HeaderValue::try_from(etag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

/// The truthful type of a file, of those that a browser cannot run.
fn content_type(entry: &Entry, head: &[u8]) -> &'static str {
    use crate::scan::inventory::Encoding;
    if entry.kind == EntryKind::Symlink {
        return "text/plain; charset=utf-8";
    }
    let starts = |magic: &[u8]| head.starts_with(magic);
    if starts(b"\x89PNG\r\n\x1a\n") {
        "image/png"
    } else if starts(b"\xff\xd8\xff") {
        "image/jpeg"
    } else if starts(b"GIF87a") || starts(b"GIF89a") {
        "image/gif"
    } else if starts(b"RIFF") && head.get(8..12) == Some(b"WEBP") {
        "image/webp"
    } else {
        match encoding_of(head) {
            Some(Encoding::Utf8) => "text/plain; charset=utf-8",
            Some(Encoding::Utf16Le) => "text/plain; charset=utf-16le",
            Some(Encoding::Utf16Be) => "text/plain; charset=utf-16be",
            Some(Encoding::Latin1) => "text/plain; charset=iso-8859-1",
            None => "application/octet-stream",
        }
    }
}

/// First and last line, counted from 1.
fn parse_lines(text: &str) -> Result<(u64, u64)> {
    let bad =
        || ApiError::invalid_field("lines", "must be FIRST-LAST such as 10-40, or one number");
    let number = |text: &str| {
        // A sign would be taken for a number too.
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| digits).ok_or_else(bad)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first == 0 || last < first {
        return Err(bad());
    }
    Ok((first, last.min(first.saturating_add(MAX_LINES - 1))))
}

#[derive(Serialize, ToSchema)]
#[schema(as = Lines)]
struct Excerpt {
    path: String,
    oid: String,
    start_line: u64,
    /// The last line that is there.
    end_line: u64,
    total_lines: u64,
    lines: Vec<String>,
}

async fn excerpt(
    app: &App,
    snapshot: &Snapshot,
    entry: &Entry,
    (first, last): (u64, u64),
    headers: &HeaderMap,
) -> Result<Response> {
    let etag = format!("\"{}-{first}-{last}\"", entry.id);
    if conditional::none_match(headers, &etag) {
        return Ok(answer(StatusCode::NOT_MODIFIED, &etag, Body::empty()));
    }
    let max = app.config.limits.scan_file_bytes;
    if entry.size > max {
        return Err(ApiError::invalid_field(
            "lines",
            format!("the file has more than {max} bytes; read a part of it with `Range`"),
        )
        .by_limit("scan_file_bytes"));
    }
    let bytes = snapshot.read(entry, max).await.map_err(unreadable)?;
    let (path, oid) = (String::from_utf8_lossy(&entry.path).into_owned(), entry.id.to_string());
    // A file of many MiB takes a while to decode.
    let found = tokio::task::spawn_blocking(move || {
        let text = decode(&bytes)
            .ok_or_else(|| ApiError::invalid_field("lines", "the file is not text"))?;
        let (mut total, mut size, mut lines) = (0, 0, Vec::new());
        for line in text.lines() {
            total += 1;
            if (first..=last).contains(&total) {
                size += line.len();
                if size > MAX_LINES_BYTES {
                    return Err(ApiError::invalid_field(
                        "lines",
                        "these lines are too long; ask for fewer, or use `Range`",
                    ));
                }
                lines.push(line.to_owned());
            }
        }
        Ok(Excerpt {
            path,
            oid,
            start_line: first,
            end_line: last.min(total),
            total_lines: total,
            lines,
        })
    });
    let found = found.await.map_err(ApiError::internal)??;
    Ok(conditional::respond(headers, &etag, &found))
}

#[cfg(test)]
mod tests;
