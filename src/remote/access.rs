//! Who may push and fetch where.

use std::time::Duration;

use sluice_git::{Access, Credentials, Direction, Refusal};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::turns::Turns;
use super::upload::{Opened, UploadRepository};
use crate::accounts::token::{self, Kind};
use crate::accounts::{self, AuthError, Scope, Via};
use crate::api::time::Time;
use crate::db::{self, DbError, uploads};
use crate::server::App;

/// Opens uploads for those who hold their token, or who own them.
#[derive(Debug, Clone)]
pub(super) struct Door {
    app: App,
    turns: Turns,
}

impl Door {
    pub(super) fn new(app: App) -> Self {
        Self { app, turns: Turns::default() }
    }
}

impl sluice_git::Remote for Door {
    type Repo = UploadRepository;

    async fn open(&self, access: Access) -> Result<UploadRepository, Refusal> {
        let scope = match access.direction {
            Direction::Push => Scope::Push,
            Direction::Fetch => Scope::Read,
        };
        self.open_for(access, &[scope]).await
    }
}

impl Door {
    /// Opens an upload; an API key has to have one of these scopes.
    pub(super) async fn open_for(
        &self,
        access: Access,
        scopes: &[Scope],
    ) -> Result<UploadRepository, Refusal> {
        // The same answer whether the upload exists or not.
        let Some(secret) = access.credentials.as_ref().map(secret) else {
            return Err(Refusal::unauthorized(
                "This remote needs a token: the one shown when the upload was made, or an API key.",
            ));
        };
        if self.app.stopping.is_cancelled() {
            return Err(Refusal::unavailable(
                "The server is stopping; try again in a moment.",
                Duration::from_secs(5),
            ));
        }
        let id = Uuid::try_parse(&access.path).ok();
        let found = match id {
            Some(id) => uploads::remote(&self.app.db, id).await.map_err(database)?,
            None => None,
        };
        let mut shown = None;
        let remote = match token::parse(secret) {
            Some((Kind::Upload, hash)) => found
                .filter(|remote| bool::from(remote.token_hash.as_slice().ct_eq(&hash)))
                .ok_or_else(|| {
                    Refusal::unauthorized(
                        "The token does not open this remote. Take both from one answer of \
                         POST /v1/git-uploads/.",
                    )
                })?,
            _ => {
                let caller = accounts::authenticate(&self.app, secret).await.map_err(refused)?;
                shown = Some(match &caller.via {
                    Via::Session(id) | Via::ApiKey { id, .. } => *id,
                });
                if !scopes.iter().any(|scope| caller.may(*scope)) {
                    let names: Vec<String> =
                        scopes.iter().map(|scope| format!("`{}`", scope.as_str())).collect();
                    return Err(Refusal::forbidden(format!(
                        "This API key lacks the scope {}.",
                        names.join(" or ")
                    )));
                }
                found.filter(|remote| remote.upload.owner_id == caller.user_id).ok_or_else(
                    || {
                        Refusal::not_found(
                            "There is no such remote. Make one with POST /v1/git-uploads/.",
                        )
                    },
                )?
            }
        };
        let upload = remote.upload;
        if upload.deleted_at.is_some() {
            return Err(Refusal::gone(
                "This remote was deleted. Make a new upload and push there.",
            ));
        }
        if !upload.answers(db::now()) {
            return Err(Refusal::gone(format!(
                "This remote expired at {}. Make a new upload and push there.",
                Time(upload.expires_at)
            )));
        }
        let opened = Opened {
            // The token of an upload is the upload's alone.
            turn: Some((self.turns.clone(), shown.unwrap_or(upload.id))),
            project_stored: Some(remote.project_stored.unwrap_or(0)),
            upload,
        };
        Ok(UploadRepository::new(self.app.clone(), opened))
    }
}

/// The token. In Basic it is the password; some clients can only give a user name.
fn secret(credentials: &Credentials) -> &str {
    match credentials {
        Credentials::Bearer(token) => token,
        Credentials::Basic { user, password } if password.is_empty() => user,
        Credentials::Basic { password, .. } => password,
    }
}

fn refused(error: AuthError) -> Refusal {
    match error {
        AuthError::Database(error) => database(error),
        other => Refusal::unauthorized(other.to_string()),
    }
}

/// What the client sees of a database that fails.
pub(super) fn database(error: DbError) -> Refusal {
    match error {
        DbError::Unavailable(_) => {
            tracing::warn!("{error}");
            Refusal::unavailable(
                "The server cannot reach its database right now; try again in a moment.",
                Duration::from_secs(5),
            )
        }
        DbError::Full(_) => {
            tracing::error!("{error}");
            Refusal::unavailable(
                "The server has no room left; ask its operator.",
                Duration::from_secs(60),
            )
        }
        other => Refusal::internal(other),
    }
}
