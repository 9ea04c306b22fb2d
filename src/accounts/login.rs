//! Sign-in, refresh and the first account.

use std::net::IpAddr;

use tracing::Instrument as _;
use uuid::Uuid;

use super::password::{self, PasswordError, Slot};
use super::{access_token, email, token};
use crate::config::Config;
use crate::db::sessions::{self, EndReason, Rotation};
use crate::db::users::{self, NewUser};
use crate::db::{Db, DbError};
use crate::server::App;

/// What a sign-in or a refresh gives.
#[derive(Clone)]
pub struct Tokens {
    /// For the API; lives for [`token::ACCESS_SECONDS`].
    pub access: String,
    /// For the next refresh, once.
    pub refresh: String,
}

/// Why a sign-in or a refresh gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Wrong password, unknown or disabled account: nobody is told which.
    #[error("the e-mail or the password is wrong")]
    Refused,
    /// The refresh token is unknown or its session has ended.
    #[error("the refresh token is not valid")]
    RefreshRefused,
    /// Too many failures.
    #[error("too many failed sign-ins")]
    Throttled {
        /// Seconds until the next try is looked at.
        retry_after: u64,
    },
    /// Too many sign in at once.
    #[error("too many sign in at once")]
    Busy,
    /// The database says no.
    #[error(transparent)]
    Database(#[from] DbError),
    /// A defect.
    #[error(transparent)]
    Internal(anyhow::Error),
}

impl From<PasswordError> for LoginError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::Busy,
            other => Self::Internal(other.into()),
        }
    }
}

/// How many times the quota of an account from one address an account, and an address,
/// have in all.
const WIDE: u64 = 10;

/// Signs in by e-mail and password.
///
/// Failures are counted by account (also by one that does not exist) from an address,
/// and, ten times as many ([`WIDE`]), by account and by address alone: who mistypes a
/// password locks out neither a whole office behind one address nor, from elsewhere,
/// the account's owner. Whoever has used up a quota is not looked at. The count is
/// read and written while a password slot is held, so that many tries at once get
/// at most a slot's number beyond the quota.
///
/// # Errors
///
/// [`LoginError`].
pub async fn login(
    app: &App,
    address: &str,
    password: String,
    peer: Option<IpAddr>,
) -> Result<Tokens, LoginError> {
    let (app, email) = (app.clone(), email::normalize(address));
    // A task of its own: who goes away before the answer is counted all the same.
    let task = async move { try_login(&app, &email, password, peer).await };
    tokio::spawn(task.in_current_span())
        .await
        .map_err(|error| LoginError::Internal(error.into()))?
}

async fn try_login(
    app: &App,
    email: &str,
    password: String,
    peer: Option<IpAddr>,
) -> Result<Tokens, LoginError> {
    let narrow = app.config.limits.login_failures;
    let wide = narrow.saturating_mul(WIDE);
    let place = peer.map(|peer| network(peer).to_string());
    let account = format!("account:{email}");
    let pair = format!("account:{email} address:{}", place.as_deref().unwrap_or_default());
    let mut limits = vec![(account.clone(), wide), (pair.clone(), narrow)];
    limits.extend(place.map(|place| (format!("address:{place}"), wide)));

    let slot = Slot::acquire().await?;
    for (key, limit) in &limits {
        let limit = *limit;
        if let Some(wait) = sessions::throttled(&app.db, key, limit).await? {
            app.metrics.limit_hit("login_failures");
            let retry_after = u64::try_from(wait).unwrap_or(0).div_ceil(1_000_000);
            return Err(LoginError::Throttled { retry_after });
        }
    }
    let user = users::by_email(&app.db, email).await?;
    let kept = user.as_ref().map(|user| user.password_hash.clone());
    let right = slot.verify(password, kept).await?;

    let mut tx = app.db.begin().await?;
    let Some(user) = user.filter(|user| right && user.disabled_at.is_none()) else {
        let keys: Vec<String> = limits.into_iter().map(|(key, _)| key).collect();
        sessions::count_failure(&mut tx, &keys).await?;
        tx.commit().await?;
        return Err(LoginError::Refused);
    };
    // The failures of the address stay: one good account must not clean the slate
    // of whoever tries many.
    sessions::forget_failures(&mut tx, &account).await?;
    sessions::forget_failures(&mut tx, &pair).await?;
    let (refresh, hash) = token::new_refresh_token();
    let session = sessions::create(&mut tx, user.id, &hash).await?;
    tx.commit().await?;
    tracing::info!(user_id = %user.id, session_id = %session, "signed in");
    tokens(app, user.id, session, refresh)
}

/// What counts as one address: of IPv6 the network, since each customer has 2^64.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & (u128::MAX << 64)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Takes a refresh token and gives new tokens of the same session. One that was
/// used before ends the session: either its owner or a thief presents it, and
/// nobody can tell which.
///
/// # Errors
///
/// [`LoginError`].
pub async fn refresh(app: &App, presented: &str) -> Result<Tokens, LoginError> {
    let (next, next_hash) = token::new_refresh_token();
    let mut tx = app.db.begin().await?;
    let rotation = sessions::rotate(&mut tx, &token::hash(presented), &next_hash).await?;
    tx.commit().await?;
    match rotation {
        Rotation::Rotated { session_id, owner_id } => tokens(app, owner_id, session_id, next),
        Rotation::Reused { session_id, owner_id } => {
            tracing::warn!(
                user_id = %owner_id, %session_id,
                "a used refresh token was presented again: the session is ended"
            );
            Err(LoginError::RefreshRefused)
        }
        Rotation::Refused => Err(LoginError::RefreshRefused),
    }
}

fn tokens(app: &App, user: Uuid, session: Uuid, refresh: String) -> Result<Tokens, LoginError> {
    let access = access_token(&app.keys, user, session).map_err(LoginError::Internal)?;
    Ok(Tokens { access, refresh })
}

/// Ends a session: its access tokens stop working with the commit.
pub async fn logout(db: &Db, session: Uuid) -> Result<(), DbError> {
    let mut tx = db.begin().await?;
    sessions::end(&mut tx, session, EndReason::Logout).await?;
    tx.commit().await
}

/// The account that was made at the first start.
pub struct FirstAccount {
    /// Its e-mail.
    pub email: String,
    /// Its password, to be shown once; `None` if it came from the configuration.
    pub password: Option<String>,
}

/// Makes the first account, in the group `ops`, if there is none at all.
///
/// # Errors
///
/// If the configured e-mail or password cannot be used, or the database fails.
pub async fn ensure_first_account(
    db: &Db,
    config: &Config,
) -> anyhow::Result<Option<FirstAccount>> {
    if users::any(db).await? {
        return Ok(None);
    }
    let email = email::normalize(&config.admin_email);
    email::check(&email).map_err(|e| anyhow::anyhow!("SLUICE_ADMIN_EMAIL: {e}"))?;
    let (password, generated) = match &config.admin_password {
        Some(secret) => (secret.0.clone(), None),
        None => {
            let password = password::generate();
            (password.clone(), Some(password))
        }
    };
    password::check(&password).map_err(|e| anyhow::anyhow!("SLUICE_ADMIN_PASSWORD: {e}"))?;
    let password_hash = Slot::acquire().await?.hash(password).await?;
    let user = NewUser {
        email: &email,
        name: "Administrator",
        password_hash: &password_hash,
        groups: &["ops".to_owned()],
    };
    let mut tx = db.begin().await?;
    match users::insert(&mut tx, &user).await {
        Ok(_) => tx.commit().await?,
        // Another process that starts at the same time was faster.
        Err(DbError::Conflict(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    Ok(Some(FirstAccount { email, password: generated }))
}

#[cfg(test)]
mod tests {
    use super::network;

    #[test]
    fn an_address_is_a_network_of_one_customer() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
