//! Git uploads: remotes to push to.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::caller::{Caller, Scope};
use super::conditional;
use super::error::{ApiError, Result};
use super::extract::{Id, OptionalJson, Query};
use super::fields::{Check, GitRef, Name};
use super::page::{Page, PageQuery};
use super::time::Time;
use crate::accounts::token::{Kind, new_token};
use crate::db::repositories::Failure;
use crate::db::uploads::{self, NewUpload, ObjectFormat, Ref, Signer, Status, Upload};
use crate::db::{self, projects, repositories};
use crate::server::App;

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(read, remove))
}

/// Life of an upload whose maker does not say, in seconds.
const DEFAULT_EXPIRES_IN: u64 = 3600;
/// Name of the remote in the commands that are shown.
const REMOTE: &str = "sluice";

#[derive(Serialize, ToSchema)]
#[schema(as = GitUpload)]
struct Row {
    id: Uuid,
    name: String,
    status: Status,
    repository_id: Option<Uuid>,
    project_id: Uuid,
    scan_id: Option<Uuid>,
    scan: bool,
    head_commit: Option<String>,
    r#ref: Option<String>,
    /// Of which kind the ids of objects are; null until the first push decides.
    object_format: Option<ObjectFormat>,
    /// Who signed the newest push (`git push --signed`); null if nobody did.
    signed_by: Option<Signer>,
    pushes: i64,
    bytes_received: i64,
    objects_received: i64,
    error: Option<Failure>,
    remote_url: String,
    created_at: Time,
    pushed_at: Option<Time>,
    expires_at: Time,
}

#[derive(Serialize, ToSchema)]
#[schema(as = GitUploadWithRefs)]
struct Whole {
    #[serde(flatten)]
    row: Row,
    refs: Vec<Ref>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = GitUploadWithToken)]
struct Created {
    #[serde(flatten)]
    whole: Whole,
    push_url: String,
    username: String,
    /// Shown this once.
    token: String,
    commands: Vec<String>,
}

fn row(app: &App, upload: Upload, at: i64) -> Row {
    Row {
        status: upload.status(at),
        bytes_received: upload.bytes_received(at),
        objects_received: upload.objects_received(at),
        error: upload.error().cloned(),
        object_format: upload.object_format(),
        signed_by: upload.signed_by().cloned(),
        remote_url: remote_url(app, upload.id),
        id: upload.id,
        name: upload.name,
        repository_id: upload.repository_id,
        project_id: upload.project_id,
        scan_id: upload.scan_id,
        scan: upload.scan,
        head_commit: upload.head_commit,
        r#ref: upload.head_ref.or(upload.wanted_ref),
        pushes: upload.pushes,
        created_at: Time(upload.created_at),
        pushed_at: upload.pushed_at.map(Time),
        expires_at: Time(upload.expires_at),
    }
}

fn remote_url(app: &App, id: Uuid) -> String {
    format!("{}/git/{id}.git", app.public_url)
}

/// Credential helpers tell the remotes of one host apart by the user name.
fn username(id: Uuid) -> String {
    format!("upl_{id}")
}

/// The remote's URL with user name and token: it works as it is. The token stands in
/// the userinfo, which git never prints, and not in the path, which it does.
fn push_url(app: &App, id: Uuid, token: &str) -> Result<String> {
    let mut url = Url::parse(&remote_url(app, id)).map_err(ApiError::internal)?;
    let named = url.set_username(&username(id)).and_then(|()| url.set_password(Some(token)));
    named.map_err(|()| ApiError::internal(anyhow::anyhow!("the public URL takes no user name")))?;
    Ok(url.into())
}

/// The account's git uploads
///
/// Newest first.
#[utoipa::path(get, path = "/v1/git-uploads", tag = "Git uploads", operation_id = "list_git_uploads",
    params(PageQuery), responses((status = OK, description = "A page of uploads.", body = Page<Row>)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<PageQuery>,
) -> Result<Page<Row>> {
    let limit = query.limit()?;
    let rows = uploads::list(&app.db, caller.user_id, query.after()?, limit + 1).await?;
    let at = db::now();
    Ok(Page::new(&uri, rows, limit, |upload| upload.id, |upload| row(&app, upload, at)))
}

#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GitUploadInput, example = json!({"name": "shop", "ref": "main", "expires_in": 3600}))]
struct Create {
    /// Where the repository is made; left out: the account's default project.
    project_id: Option<Uuid>,
    /// The repository that the push fills; left out: a new one with the first push.
    repository_id: Option<Uuid>,
    /// Name of the new repository.
    #[schema(value_type = Option<Name>)]
    name: Option<String>,
    /// The branch that is ingested; left out: the head of what is pushed.
    #[schema(value_type = Option<GitRef>)]
    r#ref: Option<String>,
    /// Whether a push is scanned; left out: yes.
    scan: Option<bool>,
    /// `sha256` for a repository that was made with `git init --object-format=sha256`; left
    /// out: the first push decides, if its git is one of the newer (2.41), and `sha1` if not.
    object_format: Option<ObjectFormat>,
    /// Life of the remote in seconds; left out: an hour.
    #[schema(minimum = 1, maximum = 2_592_000, default = 3600)]
    expires_in: Option<u64>,
}

/// Make a remote to push to
///
/// The answer holds the push URL with its token, shown this once, and the commands
/// to type.
#[utoipa::path(post, path = "/v1/git-uploads", tag = "Git uploads", operation_id = "create_git_upload",
    request_body = Option<Create>, responses((status = CREATED, description = "The new upload.", body = Created)))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    OptionalJson(body): OptionalJson<Create>,
) -> Result<Response> {
    // 0. The answer opens the remote, so it takes what a push takes.
    caller.require_scope(Scope::Push)?;

    // 1. The fields on their own.
    let limits = &app.config.limits;
    let mut check = Check::default();
    let name = body.name.as_deref().map(|name| check.name("name", name));
    let wanted_ref = body.r#ref.as_deref().map(full_ref);
    if wanted_ref.as_deref().is_some_and(|name| !sluice_git::refs::valid_name(name)) {
        check.refuse("ref", "must be a branch such as `main`, or the full name of a ref");
    }
    let expires_in =
        body.expires_in.unwrap_or_else(|| DEFAULT_EXPIRES_IN.min(limits.upload_seconds));
    if !(1..=limits.upload_seconds).contains(&expires_in) {
        check.refuse("expires_in", format!("must be 1 to {} seconds", limits.upload_seconds));
        if expires_in > 0 {
            app.metrics.limit_hit("upload_seconds");
        }
    }
    check.done()?;

    // 2. Where to: the repository's project, the named one, or the default one.
    let owner = caller.user_id;
    let mut tx = app.db.begin().await?;
    if uploads::count_open(&mut tx, owner).await?.cast_unsigned() >= limits.uploads {
        app.metrics.limit_hit("uploads");
        return Err(ApiError::quota_exceeded(format!(
            "An account has at most {} open git uploads; delete one, or wait until one expires.",
            limits.uploads
        )));
    }
    let repository = match body.repository_id {
        None => None,
        Some(id) => Some(repositories::get(&mut tx, owner, id).await?.ok_or_else(|| {
            ApiError::invalid_field("repository_id", "there is no such repository")
        })?),
    };
    let project_id = match (body.project_id, &repository) {
        (Some(id), Some(repository)) if id != repository.project_id => {
            return Err(ApiError::invalid_field(
                "project_id",
                "the repository is in another project; leave this out",
            ));
        }
        (_, Some(repository)) => repository.project_id,
        (Some(id), None) => {
            projects::get(&mut tx, owner, id)
                .await?
                .ok_or_else(|| ApiError::invalid_field("project_id", "there is no such project"))?
                .id
        }
        (None, None) => projects::default_of(&mut tx, owner).await?.id,
    };

    // 3. The upload and its token.
    let (token, token_hash) = new_token(Kind::Upload);
    let new = NewUpload {
        owner_id: owner,
        project_id,
        repository_id: body.repository_id,
        name: name.or_else(|| repository.map(|repository| repository.name)),
        wanted_ref,
        scan: body.scan.unwrap_or(true),
        token_hash: token_hash.to_vec(),
        object_format: body.object_format,
        expires_at: db::now().saturating_add(
            i64::try_from(expires_in).unwrap_or(i64::MAX).saturating_mul(1_000_000),
        ),
    };
    let upload = uploads::create(&mut tx, &new).await?;
    tx.commit().await?;

    let id = upload.id;
    let push_url = push_url(&app, id, &token)?;
    let what = upload.wanted_ref.as_deref().map_or("HEAD".to_owned(), shell_word);
    let created = Created {
        commands: vec![
            format!("git remote add {REMOTE} {push_url}"),
            format!("git push {REMOTE} {what}"),
        ],
        push_url,
        username: username(id),
        token,
        whole: Whole { row: row(&app, upload, db::now()), refs: Vec::new() },
    };
    let mut response = (StatusCode::CREATED, axum::Json(created)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `main` stands for the branch.
fn full_ref(name: &str) -> String {
    if name.starts_with("refs/") { name.to_owned() } else { format!("refs/heads/{name}") }
}

/// A word for a shell: a valid name of a ref may hold `$`, `;` and quotes.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Poll {
    /// Answer as soon as something changed, or after so many seconds.
    #[param(minimum = 0, maximum = 60)]
    wait: Option<u32>,
}

/// One git upload
///
/// Made for polling: `ETag` with `If-None-Match`, and `wait`.
#[utoipa::path(get, path = "/v1/git-uploads/{upload_id}", tag = "Git uploads",
    operation_id = "get_git_upload", params(Poll, ("If-None-Match" = Option<String>, Header, description = "The `ETag` that the client has.")), responses(
        (status = OK, description = "The upload.", body = Whole, headers(("ETag" = String, description = "Changes with what is shown."))),
        (status = NOT_MODIFIED, description = "It is as the client knows it."),
    ))]
async fn read(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    headers: HeaderMap,
    Query(query): Query<Poll>,
) -> Result<Response> {
    let mut wait = conditional::wait(query.wait)?;
    if !wait.is_zero()
        && let Some(upload) = uploads::get(&app.db, caller.user_id, id).await?
        && let Some(left) = upload.turns_in(db::now())
    {
        // Nobody writes when its time is over: the wait ends just behind that moment.
        wait = wait.min(left + Duration::from_millis(1));
    }
    let upload = conditional::changed(
        &app,
        &headers,
        id,
        wait,
        || async {
            uploads::get(&app.db, caller.user_id, id)
                .await?
                .ok_or_else(|| ApiError::not_found("git upload"))
        },
        etag,
        |upload| {
            matches!(upload.status(db::now()), Status::Ready | Status::Failed | Status::Expired)
        },
    )
    .await?;
    let etag = etag(&upload);
    let refs = uploads::refs(&app.db, id).await?;
    let whole = Whole { row: row(&app, upload, db::now()), refs };
    Ok(conditional::respond(&headers, &etag, &whole))
}

/// The tag of what is shown: the row's version, and the status, which time alone can
/// change.
fn etag(upload: &Upload) -> String {
    let status = upload.status(db::now()) as u8;
    format!("\"{}-{}-{status}\"", upload.id.simple(), upload.version)
}

/// Close a remote
///
/// It stops answering at once; the repository made from it stays.
#[utoipa::path(delete, path = "/v1/git-uploads/{upload_id}", tag = "Git uploads",
    operation_id = "delete_git_upload", responses((status = NO_CONTENT, description = "Closed.")))]
async fn remove(State(app): State<App>, caller: Caller, Id(id): Id) -> Result<StatusCode> {
    let mut tx = app.db.begin().await?;
    let deleted = uploads::delete(&mut tx, caller.user_id, id).await?;
    tx.commit().await?;
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::not_found("git upload")) }
}

#[cfg(test)]
mod tests;
