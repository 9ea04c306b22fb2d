//! Repositories.

use axum::extract::{FromRequest as _, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::caller::Caller;
use super::conditional;
use super::error::{ApiError, Problem, Result};
use super::extract::{Id, Json, Query, is_multipart};
use super::fields::{Check, GitRef, Name, Text};
use super::page::{Page, PageQuery};
use super::time::Time;
use crate::db::repositories::{
    self, Failure, Language, NewRepository, OpenFindings, Repository, SourceType,
};
use crate::db::{projects, uploads};
use crate::server::App;

mod by_url;
pub(super) mod upload;

use by_url::{CredentialsInput, Wanted};

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(read, update, remove))
        .routes(routes!(by_url::ingest))
        .routes(routes!(by_url::set_credentials, by_url::remove_credentials))
}

#[derive(Serialize, ToSchema)]
#[schema(as = Repository)]
struct Row {
    id: Uuid,
    project_id: Uuid,
    name: String,
    description: String,
    source_type: String,
    source_url: Option<String>,
    ingest_status: String,
    ingest_error: Option<Failure>,
    default_branch: Option<String>,
    head_commit: Option<String>,
    snapshot: Option<Snapshot>,
    languages: Vec<Language>,
    open_findings: OpenFindings,
    last_scan: Option<LastScan>,
    created_at: Time,
    updated_at: Time,
}

#[derive(Serialize, ToSchema)]
struct Snapshot {
    id: Uuid,
    commit: Option<String>,
    file_count: i64,
    total_bytes: i64,
    created_at: Time,
}

#[derive(Serialize, ToSchema)]
struct LastScan {
    id: Uuid,
    status: String,
    finished_at: Option<Time>,
}

impl From<Repository> for Row {
    fn from(repository: Repository) -> Self {
        Self {
            ingest_error: repository.ingest_error().cloned(),
            snapshot: repository.snapshot().map(|snapshot| Snapshot {
                id: snapshot.id,
                commit: snapshot.commit,
                file_count: snapshot.file_count,
                total_bytes: snapshot.total_bytes,
                created_at: Time(snapshot.created_at),
            }),
            languages: repository.languages().to_vec(),
            last_scan: repository.last_scan().map(|scan| LastScan {
                id: scan.id,
                status: scan.status,
                finished_at: scan.finished_at.map(Time),
            }),
            id: repository.id,
            project_id: repository.project_id,
            name: repository.name,
            description: repository.description,
            source_type: repository.source_type,
            source_url: repository.source_url,
            ingest_status: repository.ingest_status,
            default_branch: repository.default_branch,
            head_commit: repository.head_commit,
            open_findings: repository.open_findings,
            created_at: Time(repository.created_at),
            updated_at: Time(repository.updated_at),
        }
    }
}

/// The tag of what is shown: the row's version, and the last scan, which changes on
/// its own.
fn etag(repository: &Repository) -> String {
    let scan = repository.last_scan().map(|scan| format!("-{}-{}", scan.id.simple(), scan.status));
    format!(
        "\"{}-{}{}\"",
        repository.id.simple(),
        repository.version,
        scan.as_deref().unwrap_or_default()
    )
}

/// The repositories of a project
///
/// Newest first.
#[utoipa::path(get, path = "/v1/projects/{project_id}/repositories", tag = "Repositories",
    operation_id = "list_repositories", params(PageQuery),
    responses((status = OK, description = "A page of repositories.", body = Page<Row>)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Id(project_id): Id,
    uri: Uri,
    Query(query): Query<PageQuery>,
) -> Result<Page<Row>> {
    let (limit, after) = (query.limit()?, query.after()?);
    project(&app, &caller, project_id).await?;
    let rows = repositories::list(&app.db, caller.user_id, project_id, after, limit + 1).await?;
    Ok(Page::new(&uri, rows, limit, |row| row.id, Row::from))
}

async fn project(app: &App, caller: &Caller, id: Uuid) -> Result<()> {
    match projects::get(&app.db, caller.user_id, id).await? {
        Some(_) => Ok(()),
        None => Err(ApiError::not_found("project")),
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RepositoryInput, example = json!({"name": "shop", "source_type": "git_upload"}))]
struct Create {
    /// White space around it is taken off.
    #[schema(value_type = Name)]
    name: String,
    /// A text for people, perhaps of several lines.
    #[schema(value_type = Option<Text>)]
    description: Option<String>,
    source_type: SourceType,
    /// An upload without a repository, whose pushes are to fill this one.
    upload_id: Option<Uuid>,
    /// `false`: the code is not scanned once it is here; with `git_upload`, the pushes
    /// of that upload are not.
    scan: Option<bool>,
    /// With `git` and `archive`: where it is fetched from, by `https://`; without a user
    /// name, password or fragment, and with `git` without a query.
    #[schema(
        min_length = 1,
        max_length = 2048,
        format = "uri",
        example = "https://git.example.com/shop.git"
    )]
    source_url: Option<String>,
    /// With `git`: the branch or tag, the full name of a ref, or the commit id; left out,
    /// what the remote's `HEAD` points to.
    #[schema(value_type = Option<GitRef>)]
    r#ref: Option<String>,
    /// With `git` and `archive`: who may read what is private.
    credentials: Option<CredentialsInput>,
    /// With `git`: fetch the whole history, and scan it, not the newest commit alone.
    history: Option<bool>,
}

/// Add a repository to a project
///
/// As JSON, or with an archive as `multipart/form-data`: zip, or tar as it is or in gzip,
/// zstd, xz or bzip2, told by its content. Fields may come in any order.
#[utoipa::path(post, path = "/v1/projects/{project_id}/repositories", tag = "Repositories",
    operation_id = "create_repository", request_body(content((Create = "application/json"), (upload::Form = "multipart/form-data"))), responses(
        (status = CREATED, description = "The repository, which is `pending` until its code is here.", body = Row),
        (status = CONFLICT, description = "The upload fills another repository already.", body = Problem, content_type = "application/problem+json"),
    ))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Id(project_id): Id,
    request: Request,
) -> Result<Response> {
    if is_multipart(request.headers()) {
        project(&app, &caller, project_id).await?;
        return match upload::receive(&app, &caller, Some(project_id), request).await? {
            upload::Outcome::Answered(answer) => Ok(answer),
            upload::Outcome::Received(received) => {
                let made = upload::make(&app, &caller, project_id, received, false).await?;
                Ok((StatusCode::CREATED, axum::Json(Row::from(made))).into_response())
            }
        };
    }
    let Json(body) = Json::<Create>::from_request(request, &app).await?;
    let made = create_from_json(&app, &caller, project_id, body).await?;
    Ok((StatusCode::CREATED, axum::Json(Row::from(made))).into_response())
}

async fn create_from_json(
    app: &App,
    caller: &Caller,
    project_id: Uuid,
    body: Create,
) -> Result<Repository> {
    let mut check = Check::default();
    let name = check.name("name", &body.name);
    let description = check.text("description", body.description.as_deref());
    let wanted = match body.source_type {
        SourceType::Git | SourceType::Archive => {
            if body.upload_id.is_some() {
                check.refuse("upload_id", "goes with the source_type `git_upload`");
            }
            let (url, git_ref) = (body.source_url.as_deref(), body.r#ref.as_deref());
            let (credentials, history) = (body.credentials, body.history);
            let kind = body.source_type;
            Some(Wanted::check(
                app,
                &mut check,
                kind,
                url,
                git_ref,
                credentials,
                history,
                body.scan,
            ))
        }
        SourceType::GitUpload => {
            let foreign = [
                ("source_url", body.source_url.is_some()),
                ("ref", body.r#ref.is_some()),
                ("credentials", body.credentials.is_some()),
                ("history", body.history.is_some()),
            ];
            for (field, _) in foreign.iter().filter(|(_, given)| *given) {
                check.refuse(field, "does not go with the source_type `git_upload`");
            }
            if body.scan.is_some() && body.upload_id.is_none() {
                check.refuse("scan", "goes with upload_id; else set it when you make the upload");
            }
            None
        }
    };
    check.done()?;
    project(app, caller, project_id).await?;
    let mut tx = app.db.begin().await?;
    let free = match body.upload_id {
        Some(upload_id) => uploads::lock_free(&mut tx, caller.user_id, upload_id).await?,
        None => Some(true),
    };
    match free {
        Some(true) => {}
        Some(false) => {
            return Err(ApiError::conflict(
                "upload_in_use",
                "The upload fills another repository already; make a new upload.",
            ));
        }
        None => return Err(ApiError::invalid_field("upload_id", "there is no such upload")),
    }
    let new = NewRepository {
        project_id,
        owner_id: caller.user_id,
        name,
        description,
        source_type: body.source_type,
        source_url: wanted.as_ref().and_then(Wanted::url),
        source_ref: wanted.as_ref().and_then(Wanted::git_ref),
    };
    let repository = repositories::create(&mut tx, &new).await?;
    if let Some(wanted) = wanted {
        wanted.begin(app, &mut tx, &repository).await?;
    }
    if let Some(upload_id) = body.upload_id {
        uploads::fill(&mut tx, upload_id, &repository, body.scan).await?;
    }
    tx.commit().await?;
    Ok(repository)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Poll {
    /// Answer as soon as something changed, or after so many seconds.
    #[param(minimum = 0, maximum = 60)]
    wait: Option<u32>,
}

/// One repository
///
/// Made for polling: `ETag` with `If-None-Match`, and `wait`.
#[utoipa::path(get, path = "/v1/repositories/{repo_id}", tag = "Repositories",
    operation_id = "get_repository", params(Poll, ("If-None-Match" = Option<String>, Header, description = "The `ETag` that the client has.")), responses(
        (status = OK, description = "The repository.", body = Row, headers(("ETag" = String, description = "Changes with what is shown."))),
        (status = NOT_MODIFIED, description = "It is as the client knows it."),
    ))]
async fn read(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
    Query(query): Query<Poll>,
) -> Result<Response> {
    let wait = conditional::wait(query.wait)?;
    let repository = conditional::changed(
        &app,
        &headers,
        id,
        wait,
        || async {
            repositories::get(&app.db, caller.user_id, id)
                .await?
                .ok_or_else(|| ApiError::not_found("repository"))
        },
        etag,
        |repository| matches!(repository.ingest_status.as_str(), "ready" | "failed"),
    )
    .await?;
    let etag = etag(&repository);
    Ok(conditional::respond(&headers, &etag, &Row::from(repository)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RepositoryUpdate, example = json!({"name": "shop", "description": "The web shop."}))]
struct Update {
    /// White space around it is taken off.
    #[schema(value_type = Name)]
    name: String,
    /// A text for people, perhaps of several lines.
    #[schema(value_type = Option<Text>)]
    description: Option<String>,
}

/// Rename or describe a repository
///
/// Replaces both fields; a description that is left out becomes empty.
#[utoipa::path(put, path = "/v1/repositories/{repo_id}", tag = "Repositories",
    operation_id = "update_repository", request_body = Update,
    responses((status = OK, description = "The repository as it is now.", body = Row)))]
async fn update(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Json(body): Json<Update>,
) -> Result<axum::Json<Row>> {
    let mut check = Check::default();
    let name = check.name("name", &body.name);
    let description = check.text("description", body.description.as_deref());
    check.done()?;
    let mut tx = app.db.begin().await?;
    let repository = repositories::update(&mut tx, caller.user_id, id, &name, &description)
        .await?
        .ok_or_else(|| ApiError::not_found("repository"))?;
    tx.commit().await?;
    Ok(axum::Json(repository.into()))
}

/// Delete a repository and everything below it
///
/// Scans, findings and stored objects included; what runs is cancelled.
#[utoipa::path(delete, path = "/v1/repositories/{repo_id}", tag = "Repositories",
    operation_id = "delete_repository", responses((status = NO_CONTENT, description = "Deleted.")))]
async fn remove(State(app): State<App>, caller: Caller, Id(id): Id) -> Result<StatusCode> {
    if repositories::delete(&app.db, caller.user_id, id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::not_found("repository"))
    }
}

#[cfg(test)]
mod tests;
