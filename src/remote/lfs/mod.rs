//! Git LFS beside the remote: large files that git itself only points to.
//!
//! A repository that uses LFS cannot be pushed without this: the client's hook uploads
//! what the commits point to before git sends them, and gives the push up if it
//! cannot. Served are the batch API with the `basic` transfer, its verification, and
//! locks, all below `/git/<upload_id>.git/info/lfs/`, for whoever may push or fetch there.
//! ([batch](https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md),
//! [basic transfers](https://github.com/git-lfs/git-lfs/blob/main/docs/api/basic-transfers.md),
//! [locking](https://github.com/git-lfs/git-lfs/blob/main/docs/api/locking.md))
//!
//! Bytes go through this process to the storage, one MiB at a time, and count only
//! once their SHA-256 and size are what the client said. Ingest puts them in place of
//! the files that point to them.

mod batch;
mod error;
mod locks;
mod transfer;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef, FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, header};
use axum::routing::{get, post};
use serde::Deserialize;
use sluice_git::firewall::Room;
use sluice_git::slots::Slots;
use sluice_git::{Access, Credentials, Direction};

use super::access::Door;
use crate::accounts::Scope;
use crate::db::uploads::Upload;
use crate::db::{usage, users};
use crate::quota::{self, Stored};
use crate::server::App;
use error::LfsError;

/// The media type of all answers and questions in JSON.
const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

/// Most bytes of a question in JSON: ten thousand objects fit.
const MAX_QUESTION: usize = 2 << 20;

/// Most objects of one question; clients ask for a hundred at a time.
const MAX_OBJECTS: usize = 10_000;

/// What the handlers share.
#[derive(Clone, FromRef)]
pub(super) struct Lfs {
    app: App,
    door: Door,
    /// Bounds the objects that are received at once, and with them the memory.
    receives: Slots,
}

/// The routes, from the root of the server on.
pub(super) fn router(app: App) -> Router {
    let at_once = usize::try_from(app.config.limits.pushes_at_once).unwrap_or(64).max(1);
    let lfs = Lfs { door: Door::new(app.clone()), app, receives: Slots::new(at_once) };
    Router::new()
        .route("/git/{remote}/info/lfs/objects/batch", post(batch::batch))
        .route("/git/{remote}/info/lfs/verify", post(transfer::verify))
        .route("/git/{remote}/info/lfs/locks", get(locks::list).post(locks::lock))
        .route("/git/{remote}/info/lfs/locks/verify", post(locks::verify))
        .route("/git/{remote}/info/lfs/locks/{id}/unlock", post(locks::unlock))
        .layer(DefaultBodyLimit::max(MAX_QUESTION))
        // Bounded by the size that was announced, not by that of a question.
        .route(
            "/git/{remote}/info/lfs/objects/{oid}",
            get(transfer::download).put(transfer::upload).layer(DefaultBodyLimit::disable()),
        )
        .fallback(async || LfsError::not_found("There is nothing at this address."))
        .method_not_allowed_fallback(async || LfsError::method_not_allowed())
        .with_state(lfs)
}

/// The remote of a request, opened for whoever asks.
pub(super) struct Opened {
    upload: Upload,
    /// What the client calls itself.
    name: Option<String>,
    /// What the client showed; it shows the same again where an answer sends it.
    authorization: Option<HeaderValue>,
    /// Where the server is reached, up to `/info/lfs`.
    base: String,
}

#[derive(Deserialize)]
struct Segments {
    remote: String,
}

impl FromRequestParts<Lfs> for Opened {
    type Rejection = LfsError;

    async fn from_request_parts(parts: &mut Parts, lfs: &Lfs) -> Result<Self, LfsError> {
        let Path(Segments { remote }) = Path::from_request_parts(parts, lfs)
            .await
            .map_err(|_| LfsError::not_found("There is nothing at this address."))?;
        let path = remote.strip_suffix(".git").unwrap_or(&remote).to_owned();
        let credentials = sluice_git::credentials(&parts.headers);
        let name = match &credentials {
            Some(Credentials::Basic { user, password })
                if !password.is_empty() && !user.starts_with("upl_") =>
            {
                named(user)
            }
            _ => None,
        };
        let base = format!("{}/git/{path}.git/info/lfs", lfs.app.public_url);
        // The batch comes before both ways; what it names is asked for again.
        let (direction, scopes): (_, &[Scope]) = if parts.method == Method::GET {
            (Direction::Fetch, &[Scope::Read])
        } else if parts.uri.path().ends_with("/objects/batch") {
            (Direction::Fetch, &[Scope::Read, Scope::Push])
        } else {
            (Direction::Push, &[Scope::Push])
        };
        let access =
            Access { path, direction, credentials, user_agent: None, session: String::new() };
        let upload = lfs.door.open_for(access, scopes).await?.into_upload();
        let authorization = parts.headers.get(header::AUTHORIZATION).cloned();
        Ok(Self { upload, name, authorization, base })
    }
}

impl Opened {
    /// How much more may be kept here.
    async fn room(&self, app: &App) -> Result<Option<Room>, LfsError> {
        let project = usage::stored(&app.db, self.upload.project_id).await?;
        let stored = Stored { upload: Some(self.upload.stored_bytes), project };
        Ok(quota::room(app, stored).await?)
    }

    /// What the asker is called in locks.
    async fn who(&self, app: &App) -> Result<String, LfsError> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let user = users::get(&app.db, self.upload.owner_id).await?;
        Ok(user.map_or_else(String::new, |user| user.email))
    }
}

/// The name that a client gives itself, if it is one.
fn named(user: &str) -> Option<String> {
    let fits = (1..=200).contains(&user.len()) && !user.chars().any(char::is_control);
    // The names that stand for none, where the token is the password.
    let meant = !matches!(user, "x" | "git" | "token" | "x-access-token" | "oauth2");
    (fits && meant).then(|| user.to_owned())
}

/// An id of LFS: SHA-256 in lower-case hex.
fn is_oid(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// True for the path of a request that is answered here.
pub(super) fn is_mine(path: &str) -> bool {
    path.contains("/info/lfs/")
}
