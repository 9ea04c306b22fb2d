//! Repositories whose code is fetched from a URL: what is asked for, the credentials of
//! private ones, and fetching again.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Row;
use crate::api::caller::Caller;
use crate::api::error::{ApiError, Problem, Result};
use crate::api::extract::{Id, Json, OptionalJson};
use crate::api::fields::Check;
use crate::db::repositories::{self, ArchiveCame, Repository, SourceType, archive_prefix};
use crate::db::sources::{self, Source};
use crate::db::{Tx, jobs, new_id};
use crate::jobs::fetch::credentials::Credentials;
use crate::jobs::ingest::fetch_job;
use crate::server::App;

/// Longest user name or token, characters.
const MAX_CREDENTIAL: usize = 4096;

/// Who may read a private repository. Kept encrypted, and shown to nobody.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RepositoryCredentials, example = json!({"token": "a-token-that-may-read"}))]
pub(super) struct CredentialsInput {
    /// The user's name, where the host asks for one besides the token; without a colon.
    #[schema(min_length = 1, max_length = 4096, pattern = r"^[\x21-\x39\x3b-\x7e]+$")]
    username: Option<String>,
    /// A token (or password) that may read the repository.
    #[schema(min_length = 1, max_length = 4096, pattern = r"^[\x21-\x7e]+$")]
    token: String,
}

impl std::fmt::Debug for CredentialsInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CredentialsInput(…)")
    }
}

impl CredentialsInput {
    fn check(&self, check: &mut Check, prefix: &str) {
        let sound = |text: &str| {
            (1..=MAX_CREDENTIAL).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
        };
        if self.username.as_deref().is_some_and(|name| !sound(name) || name.contains(':')) {
            check.refuse(
                &format!("{prefix}username"),
                "needs 1 to 4096 visible ASCII characters, none of them a colon",
            );
        }
        if !sound(&self.token) {
            check.refuse(&format!("{prefix}token"), "needs 1 to 4096 visible ASCII characters");
        }
    }

    fn seal(self, app: &App, repository: &Repository) -> Result<Vec<u8>> {
        let credentials = Credentials { username: self.username, token: self.token };
        credentials.seal(&app.keys, repository.owner_id, repository.id).map_err(ApiError::internal)
    }
}

/// What a request says of the URL.
pub(super) struct Wanted {
    /// By git, or as an archive.
    kind: SourceType,
    url: Option<String>,
    git_ref: Option<String>,
    credentials: Option<CredentialsInput>,
    history: bool,
    scan: bool,
}

impl Wanted {
    /// Checks the fields for a repository of the source type `git` or `archive`. Only the form of the
    /// URL, and its address if it has one in place of a name: the name is looked up when
    /// it is fetched.
    pub(super) fn check(
        app: &App,
        check: &mut Check,
        kind: SourceType,
        url: Option<&str>,
        git_ref: Option<&str>,
        credentials: Option<CredentialsInput>,
        history: Option<bool>,
        scan: Option<bool>,
    ) -> Self {
        let mut canonical = None;
        match url.map(|url| app.guard.check_url(url)) {
            None if kind == SourceType::Archive => check.refuse(
                "source_url",
                "is needed; or send the archive itself as multipart/form-data",
            ),
            None => check.refuse("source_url", "is needed for the source_type `git`"),
            Some(Err(error)) => check.refuse("source_url", error.to_string()),
            Some(Ok(url))
                if url.fragment().is_some()
                    || (url.query().is_some() && kind == SourceType::Git) =>
            {
                check.refuse("source_url", "must not have a query or a fragment");
            }
            Some(Ok(url)) => canonical = Some(url.to_string()),
        }
        if let Some(name) = git_ref
            && !is_ref(name)
        {
            check.refuse(
                "ref",
                "must be a branch or tag such as `main`, the full name of a ref, or a commit id",
            );
        }
        if let Some(credentials) = &credentials {
            credentials.check(check, "credentials.");
        }
        if kind == SourceType::Archive {
            for (field, given) in [("ref", git_ref.is_some()), ("history", history.is_some())] {
                if given {
                    check.refuse(field, "does not go with the source_type `archive`");
                }
            }
        }
        Self {
            kind,
            url: canonical,
            git_ref: git_ref.map(str::to_owned),
            credentials,
            history: history.unwrap_or(false),
            scan: scan.unwrap_or(true),
        }
    }

    pub(super) fn url(&self) -> Option<String> {
        self.url.clone()
    }

    pub(super) fn git_ref(&self) -> Option<String> {
        self.git_ref.clone()
    }

    /// Records what the fetch needs, and asks for it.
    pub(super) async fn begin(self, app: &App, tx: &mut Tx, repository: &Repository) -> Result<()> {
        let credentials = match self.credentials {
            Some(credentials) => Some(credentials.seal(app, repository)?),
            None => None,
        };
        let source = Source { credentials, history: self.history };
        sources::put(tx, repository.id, &source).await?;
        ask(tx, self.kind, repository, self.scan, self.history).await
    }
}

/// Asks for a fetch, by git or of an archive.
async fn ask(
    tx: &mut Tx,
    kind: SourceType,
    repository: &Repository,
    scan: bool,
    history: bool,
) -> Result<()> {
    if kind == SourceType::Archive {
        let key = format!("{}{}", archive_prefix(repository.id), new_id());
        let came = ArchiveCame { key, scan, session: false, fetch: true };
        repositories::archive_came(tx, repository, &came).await?;
    } else {
        repositories::new_head(tx, repository.id).await?;
        jobs::insert(tx, &fetch_job(repository, scan, history)).await?;
    }
    Ok(())
}

/// A commit id, the full name of a ref, or the short one of a branch or a tag.
fn is_ref(name: &str) -> bool {
    let id = name.len() == 40 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let full =
        if name.starts_with("refs/") { name.to_owned() } else { format!("refs/heads/{name}") };
    id || (name.len() <= 244 && sluice_git::refs::valid_name(&full))
}

/// How to fetch again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = IngestInput, example = json!({"scan": true}))]
pub(super) struct Again {
    /// `false`: what is new is not scanned.
    scan: Option<bool>,
    /// `true`: from now on the whole history is fetched, and scanned.
    history: Option<bool>,
}

/// Fetch a repository's URL again
///
/// The repository is `pending` until it is done. If nothing has changed upstream, it is
/// `ready` again at once: the event `ingest.completed` says so by `unchanged`, and nothing is
/// scanned, unless the history is wanted and was not scanned yet.
#[utoipa::path(post, path = "/v1/repositories/{repo_id}/ingest", tag = "Repositories",
    operation_id = "ingest_repository", request_body = Option<Again>, responses(
        (status = ACCEPTED, description = "The repository, which is `pending` until it was fetched.", body = Row),
        (status = CONFLICT, description = "A fetch is under way (`ingest_under_way`), the code does not come from a URL (`not_fetched`), or it comes from an archive and its history is asked for (`no_history`).", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn ingest(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    OptionalJson(body): OptionalJson<Again>,
) -> Result<(StatusCode, axum::Json<Row>)> {
    let mut tx = app.db.begin().await?;
    let repository = lock(&mut tx, &caller, id).await?;
    if matches!(repository.ingest_status.as_str(), "pending" | "ingesting") {
        return Err(ApiError::conflict(
            "ingest_under_way",
            "The repository is being fetched already; wait until it is `ready` or `failed`.",
        ));
    }
    let kind = if repository.source_type == SourceType::Archive.as_str() {
        SourceType::Archive
    } else {
        SourceType::Git
    };
    if kind == SourceType::Archive && body.history.is_some() {
        // No fault of the request: of another repository it may be asked.
        return Err(ApiError::conflict(
            "no_history",
            "The code comes from an archive, which has no history to fetch; leave `history` out.",
        ));
    }
    if body.history == Some(true) {
        sources::want_history(&mut tx, id).await?;
    }
    let history = sources::get(&mut tx, id).await?.is_some_and(|source| source.history);
    ask(&mut tx, kind, &repository, body.scan.unwrap_or(true), history).await?;
    let repository = repositories::get(&mut tx, caller.user_id, id).await?;
    let repository = repository.ok_or_else(|| ApiError::not_found("repository"))?;
    tx.commit().await?;
    Ok((StatusCode::ACCEPTED, axum::Json(repository.into())))
}

/// Replace the credentials of a repository
///
/// They are used from the next fetch on.
#[utoipa::path(put, path = "/v1/repositories/{repo_id}/credentials", tag = "Repositories",
    operation_id = "set_repository_credentials", request_body = CredentialsInput, responses(
        (status = NO_CONTENT, description = "They are kept, encrypted."),
        (status = CONFLICT, description = "The code does not come from a URL (`not_fetched`).", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn set_credentials(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
    Json(body): Json<CredentialsInput>,
) -> Result<StatusCode> {
    let mut check = Check::default();
    body.check(&mut check, "");
    check.done()?;
    let mut tx = app.db.begin().await?;
    let repository = lock(&mut tx, &caller, id).await?;
    let sealed = body.seal(&app, &repository)?;
    sources::set_credentials(&mut tx, id, Some(sealed)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove the credentials of a repository
#[utoipa::path(delete, path = "/v1/repositories/{repo_id}/credentials", tag = "Repositories",
    operation_id = "remove_repository_credentials", responses(
        (status = NO_CONTENT, description = "There are none any more."),
        (status = CONFLICT, description = "The code does not come from a URL (`not_fetched`).", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn remove_credentials(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
) -> Result<StatusCode> {
    let mut tx = app.db.begin().await?;
    lock(&mut tx, &caller, id).await?;
    sources::set_credentials(&mut tx, id, None).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A repository of the caller that is fetched from a URL, locked.
async fn lock(tx: &mut Tx, caller: &Caller, id: Uuid) -> Result<Repository> {
    let repository = repositories::lock_one(tx, caller.user_id, id).await?;
    let repository = repository.ok_or_else(|| ApiError::not_found("repository"))?;
    if repository.source_url.is_none() {
        return Err(ApiError::conflict(
            "not_fetched",
            "The code of this repository is not fetched from a URL.",
        ));
    }
    Ok(repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_ref() {
        for name in ["main", "feature/a", "v1.0", "refs/tags/v1", &"ab".repeat(20)] {
            assert!(is_ref(name), "{name}");
        }
        for name in ["", "a..b", "a b", "refs/", "refs/heads", "a\0b", "x.lock", "HEAD"] {
            assert!(!is_ref(name), "{name}");
        }
    }
}
