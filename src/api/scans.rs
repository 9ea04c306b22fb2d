//! Scans and their artefacts.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio_util::io::ReaderStream;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::caller::Caller;
use super::conditional;
use super::error::{ApiError, FieldError, Problem, Result};
use super::extract::{Id, Ids, IdsAndName, OptionalJson, Query};
use super::fields::{GitRef, Glob};
use super::page::{Page, PageQuery};
use super::time::Time;
use crate::db;
use crate::db::artifacts::Artifact;
use crate::db::scans::{
    Cancel, Failure, NewScan, ScanRow, ScanStatus, Scope, Settings, Summary, Trigger,
};
use crate::scan::driver::Globs;
use crate::scan::{EngineKind, Progress, ScanConfig};
use crate::server::App;
use crate::storage::StorageError;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, cancel))
        .routes(routes!(download))
        .routes(routes!(list_of_project))
}

/// Most globs of each kind.
const MAX_GLOBS: usize = 200;
/// Longest name of a ref, in bytes.
const MAX_REF: usize = 250;

/// A scan as it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct Scan {
    id: Uuid,
    repository_id: Uuid,
    project_id: Uuid,
    status: ScanStatus,
    trigger: Trigger,
    config: Settings,
    commit: Option<String>,
    progress: Progress,
    summary: Summary,
    error: Option<Failure>,
    artifacts: Vec<ArtifactLink>,
    created_at: Time,
    started_at: Option<Time>,
    finished_at: Option<Time>,
    worker_id: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Artifact)]
struct ArtifactLink {
    name: String,
    content_type: String,
    size: i64,
    sha256: String,
    url: String,
}

impl Scan {
    fn new(app: &App, row: ScanRow, artifacts: Vec<Artifact>) -> Self {
        let base = format!(
            "{}/v1/repositories/{}/scans/{}/artifacts",
            app.public_url, row.repository_id, row.id
        );
        Self {
            id: row.id,
            repository_id: row.repository_id,
            project_id: row.project_id,
            status: row.status,
            trigger: row.trigger,
            config: row.config.0,
            commit: row.commit_id,
            progress: row.progress.0,
            summary: row.summary.0,
            error: row.error.map(|error| error.0),
            artifacts: artifacts
                .into_iter()
                .map(|a| ArtifactLink {
                    url: format!("{base}/{}", a.name),
                    name: a.name,
                    content_type: a.content_type,
                    size: a.size,
                    sha256: a.sha256,
                })
                .collect(),
            created_at: row.created_at.into(),
            started_at: row.started_at.map(Time),
            finished_at: row.finished_at.map(Time),
            worker_id: row.worker_id,
        }
    }
}

/// What to scan; everything may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ScanInput, example = json!({"engines": ["secrets", "code"], "exclude": ["vendor/**"]}))]
struct Create {
    /// Left out: all of them.
    #[schema(min_items = 1)]
    engines: Option<Vec<EngineKind>>,
    /// Globs: only files that match one are scanned.
    #[schema(value_type = Option<Vec<Glob>>, max_items = 200)]
    include: Option<Vec<String>>,
    /// Globs: files that match one are left out.
    #[schema(value_type = Option<Vec<Glob>>, max_items = 200)]
    exclude: Option<Vec<String>>,
    /// Look for secrets in the history too.
    history: Option<bool>,
    /// The branch that was ingested; left out: that one.
    #[schema(value_type = Option<GitRef>)]
    r#ref: Option<String>,
}

/// Scan a repository
///
/// The body may be left out: then all engines scan what was ingested last.
#[utoipa::path(post, path = "/v1/repositories/{repo_id}/scans", tag = "Scans", operation_id = "create_scan",
    request_body = Option<Create>, responses(
        (status = CREATED, description = "The scan, `queued`.", body = Scan),
        (status = CONFLICT, description = "There is nothing to scan yet.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Id(repo_id): Id,
    OptionalJson(body): OptionalJson<Create>,
) -> Result<Response> {
    let mut tx = app.db.begin().await?;
    let repository = db::scans::scannable(&mut tx, caller.user_id, repo_id)
        .await?
        .ok_or_else(|| ApiError::not_found("repository"))?;
    tx.rollback().await?;
    let settings = check(body).await?;
    if repository.ingest_status != "ready" {
        return Err(ApiError::conflict(
            "not_ready",
            format!(
                "The repository is {}; a scan can start once its `ingest_status` is `ready`.",
                repository.ingest_status
            ),
        ));
    }
    let head = settings.git_ref.as_deref().is_none_or(|asked| {
        let short = asked.strip_prefix("refs/heads/").unwrap_or(asked);
        repository.default_branch.as_deref().is_some_and(|branch| branch == short)
    });
    if !head {
        return Err(ApiError::invalid_field(
            "ref",
            format!(
                "has no snapshot here: only the branch that was ingested can be scanned, which is \
                 {}",
                repository.default_branch.as_deref().unwrap_or("none so far")
            ),
        ));
    }
    let mut tx = app.db.begin().await?;
    let id = db::scans::create(
        &mut tx,
        &NewScan {
            repository_id: repo_id,
            project_id: repository.project_id,
            owner_id: caller.user_id,
            upload_id: None,
            trigger: Trigger::Api,
            settings,
            commit_id: repository.head_commit,
            snapshot_id: repository.snapshot_id,
        },
    )
    .await?;
    let row = db::scans::get(&mut tx, caller.user_id, id).await?;
    tx.commit().await?;
    let row = row.ok_or_else(|| ApiError::not_found("scan"))?;
    let tag = conditional::etag(row.id, row.version);
    let location = format!("/v1/repositories/{repo_id}/scans/{id}");
    let mut response =
        (StatusCode::CREATED, axum::Json(Scan::new(&app, row, Vec::new()))).into_response();
    for (name, value) in [(header::LOCATION, location), (header::ETAG, tag)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

async fn check(body: Create) -> Result<Settings> {
    let mut errors = Vec::new();
    let engines = body.engines.map_or_else(
        || EngineKind::ALL.to_vec(),
        |mut engines| {
            engines.sort_unstable();
            engines.dedup();
            engines
        },
    );
    if engines.is_empty() {
        errors.push(FieldError::new("engines", "name at least one, or leave the field out"));
    }
    let git_ref = body.r#ref.map(|name| name.trim().to_owned());
    if let Some(name) = &git_ref {
        let odd = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
        if name.is_empty() || name.len() > MAX_REF || name.contains(odd) || name.contains("..") {
            errors.push(FieldError::new("ref", "must be the name of a branch or tag"));
        }
    }
    let mut config = ScanConfig {
        engines,
        include: body.include.unwrap_or_default(),
        exclude: body.exclude.unwrap_or_default(),
        history: body.history.unwrap_or(false),
    };
    for (field, globs) in [("include", &config.include), ("exclude", &config.exclude)] {
        if globs.len() > MAX_GLOBS {
            errors.push(FieldError::new(field, format!("must be at most {MAX_GLOBS} globs")));
        }
    }
    if errors.is_empty() {
        // Globs are compiled, which may take a while: away from the async threads.
        let checked = tokio::task::spawn_blocking(move || {
            let mut errors = Vec::new();
            let alone = |include: &[String], exclude: &[String]| ScanConfig {
                include: include.to_vec(),
                exclude: exclude.to_vec(),
                ..ScanConfig::default()
            };
            for (field, part) in
                [("include", alone(&config.include, &[])), ("exclude", alone(&[], &config.exclude))]
            {
                if let Err(error) = Globs::new(&part) {
                    errors.push(FieldError::new(field, error.to_string()));
                }
            }
            (config, errors)
        })
        .await
        .map_err(ApiError::internal)?;
        config = checked.0;
        errors = checked.1;
    }
    if errors.is_empty() {
        Ok(Settings { config, git_ref })
    } else {
        Err(ApiError::invalid(errors))
    }
}

/// The scans of a repository
///
/// Newest first.
#[utoipa::path(get, path = "/v1/repositories/{repo_id}/scans", tag = "Scans", operation_id = "list_scans",
    params(PageQuery), responses((status = OK, description = "A page of scans.", body = Page<Scan>)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Id(repo_id): Id,
    uri: Uri,
    Query(query): Query<PageQuery>,
) -> Result<Page<Scan>> {
    if db::scans::scannable(&app.db, caller.user_id, repo_id).await?.is_none() {
        return Err(ApiError::not_found("repository"));
    }
    page(&app, &caller, Scope::Repository(repo_id), &uri, &query).await
}

/// The scans of all repositories of a project
///
/// Newest first.
#[utoipa::path(get, path = "/v1/projects/{project_id}/scans", tag = "Projects", operation_id = "list_project_scans",
    params(PageQuery), responses((status = OK, description = "A page of scans.", body = Page<Scan>)))]
async fn list_of_project(
    State(app): State<App>,
    caller: Caller,
    Id(project_id): Id,
    uri: Uri,
    Query(query): Query<PageQuery>,
) -> Result<Page<Scan>> {
    if db::projects::get(&app.db, caller.user_id, project_id).await?.is_none() {
        return Err(ApiError::not_found("project"));
    }
    page(&app, &caller, Scope::Project(project_id), &uri, &query).await
}

async fn page(
    app: &App,
    caller: &Caller,
    scope: Scope,
    uri: &Uri,
    query: &PageQuery,
) -> Result<Page<Scan>> {
    let limit = query.limit()?;
    let rows = db::scans::list(&app.db, caller.user_id, scope, query.after()?, limit + 1).await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let mut artifacts = db::artifacts::of_scans(&app.db, &ids).await?;
    Ok(Page::new(
        uri,
        rows,
        limit,
        |row| row.id,
        |row| {
            let own = artifacts.extract_if(.., |artifact| artifact.scan_id == row.id).collect();
            Scan::new(app, row, own)
        },
    ))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ShowQuery {
    /// Answer as soon as something changed, or after so many seconds.
    #[param(minimum = 0, maximum = 60)]
    wait: Option<u32>,
}

/// One scan
///
/// Made for polling: `ETag` with `If-None-Match`, and `wait`.
#[utoipa::path(get, path = "/v1/repositories/{repo_id}/scans/{scan_id}", tag = "Scans", operation_id = "get_scan",
    params(ShowQuery, ("If-None-Match" = Option<String>, Header, description = "The `ETag` that the client has.")), responses(
        (status = OK, description = "The scan.", body = Scan, headers(("ETag" = String, description = "Changes with what is shown."))),
        (status = NOT_MODIFIED, description = "It is as the client knows it."),
    ))]
async fn show(
    State(app): State<App>,
    caller: Caller,
    Ids(repo_id, scan_id): Ids,
    Query(query): Query<ShowQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    let wait = conditional::wait(query.wait)?;
    let waiter = app.db.hub().waiter(scan_id);
    let mut row = find(&app, &caller, repo_id, scan_id).await?;
    // Without a tag of the client, what it is shown first is what it knows.
    let known = if headers.contains_key(header::IF_NONE_MATCH) {
        None
    } else {
        Some(conditional::etag(row.id, row.version))
    };
    let changed = |row: &ScanRow| {
        let tag = conditional::etag(row.id, row.version);
        row.status.has_ended()
            || match &known {
                Some(known) => *known != tag,
                None => !conditional::none_match(&headers, &tag),
            }
    };
    if !wait.is_zero() && !changed(&row) {
        let read = || async {
            let row = find(&app, &caller, repo_id, scan_id).await?;
            Ok::<_, ApiError>(changed(&row).then_some(row))
        };
        let newer = tokio::select! {
            newer = waiter.until(wait, read) => newer?,
            () = app.stopping.cancelled() => None,
        };
        if let Some(newer) = newer {
            row = newer;
        }
    }
    let tag = conditional::etag(row.id, row.version);
    // A client that has it already needs no artefacts looked up.
    let artifacts = if conditional::none_match(&headers, &tag) {
        Vec::new()
    } else {
        db::artifacts::of_scans(&app.db, &[scan_id]).await?
    };
    Ok(conditional::respond(&headers, &tag, &Scan::new(&app, row, artifacts)))
}

/// The scan of the path, if it belongs to the caller.
pub(super) async fn find(
    app: &App,
    caller: &Caller,
    repo_id: Uuid,
    scan_id: Uuid,
) -> Result<ScanRow> {
    db::scans::get(&app.db, caller.user_id, scan_id)
        .await?
        .filter(|row| row.repository_id == repo_id)
        .ok_or_else(|| ApiError::not_found("scan"))
}

/// Cancel a scan
#[utoipa::path(delete, path = "/v1/repositories/{repo_id}/scans/{scan_id}", tag = "Scans", operation_id = "cancel_scan",
    responses(
        (status = OK, description = "The scan, which is cancelled or will be in a moment.", body = Scan),
        (status = CONFLICT, description = "It has ended.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Ids(repo_id, scan_id): Ids,
) -> Result<Response> {
    let mut tx = app.db.begin().await?;
    let outcome = db::scans::cancel(&mut tx, caller.user_id, repo_id, scan_id).await?;
    tx.commit().await?;
    match outcome {
        Cancel::NotFound => return Err(ApiError::not_found("scan")),
        Cancel::Ended => {
            return Err(ApiError::conflict("ended", "The scan has ended; nothing is to cancel."));
        }
        Cancel::Cancelled | Cancel::Requested => {}
    }
    let row = find(&app, &caller, repo_id, scan_id).await?;
    let artifacts = db::artifacts::of_scans(&app.db, &[scan_id]).await?;
    Ok(axum::Json(Scan::new(&app, row, artifacts)).into_response())
}

/// An artefact of a scan
///
/// `results.sarif`, `sbom.cdx.json`, `findings.json` or `log.txt`, as a download.
#[utoipa::path(get, path = "/v1/repositories/{repo_id}/scans/{scan_id}/artifacts/{name}", tag = "Scans",
    operation_id = "get_artifact", params(
        ("name" = String, Path, description = "Its name.", example = "results.sarif"),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` that the client has."),
    ), responses(
        (status = OK, description = "Its bytes.", headers(("ETag" = String, description = "Its SHA-256.")), content(
            (Object = "application/sarif+json"), (Object = "application/vnd.cyclonedx+json"), (Object = "application/json"), (String = "text/plain; charset=utf-8"))),
        (status = NOT_MODIFIED, description = "It is as the client knows it."),
    ))]
async fn download(
    State(app): State<App>,
    caller: Caller,
    IdsAndName(repo_id, scan_id, name): IdsAndName,
    headers: HeaderMap,
) -> Result<Response> {
    let artifact = db::artifacts::get(&app.db, caller.user_id, repo_id, scan_id, &name)
        .await?
        .ok_or_else(|| ApiError::not_found("artifact"))?;
    serve_artifact(&app, &artifact, &headers).await
}

/// Streams the bytes of an artefact.
async fn serve_artifact(app: &App, artifact: &Artifact, headers: &HeaderMap) -> Result<Response> {
    let tag = format!("\"{}\"", artifact.sha256);
    let mut response = if conditional::none_match(headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let reader = app.storage.reader(&artifact.storage_key, None).await.map_err(storage)?;
        let length = reader.length();
        let mut response = Body::from_stream(ReaderStream::new(reader)).into_response();
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        response
    };
    let disposition = format!("attachment; filename=\"{}\"", artifact.name);
    for (name, value) in [
        (header::CONTENT_TYPE, artifact.content_type.as_str()),
        (header::CONTENT_DISPOSITION, disposition.as_str()),
        (header::ETAG, tag.as_str()),
        (header::CACHE_CONTROL, "private, no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "sandbox"),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

fn storage(error: StorageError) -> ApiError {
    match error {
        StorageError::NotFound { .. } => ApiError::not_found("artifact"),
        StorageError::Unavailable { .. } => ApiError::unavailable(error),
        other => ApiError::internal(other),
    }
}

#[cfg(test)]
pub(crate) mod tests;
