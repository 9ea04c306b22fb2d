//! Accounts: who somebody is, and how they prove it.
//!
//! Passwords, tokens and keys are made and checked here; the rows behind them are
//! in [`crate::db`]. This room knows no HTTP: the API's extractor and the git
//! remote both ask [`authenticate`].

pub mod email;
mod keys;
mod login;
pub mod password;
pub mod seal;
pub mod signing;
pub mod token;

use uuid::Uuid;

use crate::db::{self, Db, DbError};
use crate::server::App;
use crate::words::words;
pub use keys::{Keys, OtherSecret, jwt_secret};
pub(crate) use keys::{hex, hmac};
pub use login::{FirstAccount, LoginError, Tokens, ensure_first_account, login, logout, refresh};
use token::{Claims, Kind, Refused};

/// The account behind a request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Owner of everything that this caller can see.
    pub user_id: Uuid,
    /// E-mail of the account, for histories.
    pub email: String,
    /// Groups, e.g. `ops`.
    pub groups: Vec<String>,
    /// What was presented.
    pub via: Via,
}

/// What a caller presented.
#[derive(Debug, Clone)]
pub enum Via {
    /// An access token of this session.
    Session(Uuid),
    /// An API key.
    ApiKey {
        /// Id of the key.
        id: Uuid,
        /// What it may do; empty: everything. Words that this version does not
        /// know grant nothing.
        scopes: Vec<String>,
    },
}

words! {
    /// What an API key can be limited to.
    Scope: "scope" {
        /// Requests to the API that change nothing.
        Read = "read",
        /// All other requests to the API.
        Write = "write",
        /// Pushing over git.
        Push = "push",
    }
}

impl Caller {
    /// True if what was presented is good for this.
    pub fn may(&self, scope: Scope) -> bool {
        match &self.via {
            Via::Session(_) => true,
            Via::ApiKey { scopes, .. } => {
                scopes.is_empty() || scopes.iter().any(|s| s == scope.as_str())
            }
        }
    }

    /// True if what was presented is good for everything that its owner may do.
    pub fn unrestricted(&self) -> bool {
        match &self.via {
            Via::Session(_) => true,
            Via::ApiKey { scopes, .. } => scopes.is_empty(),
        }
    }

    /// True if the account is in a group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

/// Why a token is refused, as a sentence for whoever presented it.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// It is none of ours, or was deleted, or its account is disabled.
    #[error("The token is not valid: sign in again, or use another API key.")]
    Invalid,
    /// It was good once.
    #[error("The token has expired: refresh it, sign in again, or use another API key.")]
    Expired,
    /// The session of the access token ended.
    #[error("The session has ended: sign in again.")]
    Ended,
    /// Nobody can say right now.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Who presents this access token or API key. Both are looked up on each use
/// ([`db::callers`]), so that logout, deletion and disabling take effect at once.
///
/// # Errors
///
/// [`AuthError`] says what is wrong with the token; upload tokens are refused here
/// as they open one upload and nothing else.
pub async fn authenticate(app: &App, token: &str) -> Result<Caller, AuthError> {
    match token::parse(token) {
        Some((Kind::ApiKey, hash)) => by_api_key(app, &hash).await,
        Some((Kind::Upload, _)) => Err(AuthError::Invalid),
        None => by_access_token(app, token).await,
    }
}

async fn by_access_token(app: &App, token: &str) -> Result<Caller, AuthError> {
    // Ours have about 300 bytes; nothing longer is worth decoding.
    if token.len() > 2048 {
        return Err(AuthError::Invalid);
    }
    let claims = app.keys.check(token).map_err(|refused| match refused {
        Refused::Expired => AuthError::Expired,
        Refused::Invalid => AuthError::Invalid,
    })?;
    let user = db::callers::session(&app.db, claims.sid, claims.sub)
        .await?
        .filter(|user| user.expires_at > db::now())
        .ok_or(AuthError::Ended)?;
    Ok(Caller {
        user_id: claims.sub,
        email: user.email,
        groups: user.groups.0,
        via: Via::Session(claims.sid),
    })
}

async fn by_api_key(app: &App, hash: &token::TokenHash) -> Result<Caller, AuthError> {
    let (key, fresh) = db::callers::api_key(&app.db, hash).await?.ok_or(AuthError::Invalid)?;
    let at = db::now();
    if key.expires_at.is_some_and(|end| end <= at) {
        return Err(AuthError::Expired);
    }
    // What is remembered was noted when it was read.
    if fresh && key.last_used_at.is_none_or(|used| used <= at - db::api_keys::USED_GRAIN) {
        // Nobody waits for this note: a reader must not wait for the writer.
        let (db, id) = (app.db.clone(), key.id);
        tokio::spawn(async move {
            if let Err(error) = db::api_keys::used(&db, id).await {
                tracing::warn!(key_id = %id, "the use of an API key was not noted: {error}");
            }
        });
    }
    Ok(Caller {
        user_id: key.owner_id,
        email: key.email,
        groups: key.groups.0,
        via: Via::ApiKey { id: key.id, scopes: key.scopes.0 },
    })
}

/// An access token for a session.
///
/// # Errors
///
/// Those of the library that signs; none is known for our claims.
pub fn access_token(keys: &Keys, user_id: Uuid, session_id: Uuid) -> anyhow::Result<String> {
    Ok(keys.sign(&Claims::new(user_id, session_id, db::now() / 1_000_000))?)
}

/// Forgets what is of no use any more: sessions that ended, failures whose window
/// is over, answers that were kept for their time. To be called now and then.
///
/// # Errors
///
/// Those of the database; what was forgotten before stays forgotten.
pub async fn sweep(db: &Db) -> Result<(), DbError> {
    db::sessions::drop_dead(db, db::now()).await?;
    db::sessions::drop_failures(db).await?;
    db::idempotency::drop_old(db).await?;
    Ok(())
}

#[cfg(test)]
pub(crate) mod testing;
