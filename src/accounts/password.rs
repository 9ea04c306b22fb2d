//! Passwords: Argon2id (RFC 9106) with the parameters that OWASP's Password
//! Storage Cheat Sheet names first: 19 MiB, two passes, one lane.
//!
//! A hash takes tens of milliseconds of a core and 19 MiB, so it runs on a
//! blocking thread and only with a [`Slot`]: as many as there are cores. More that
//! sign in at once wait, for [`PATIENCE`] at most.

use std::sync::LazyLock;
use std::time::Duration;

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use rand::distr::{Alphanumeric, SampleString as _};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Memory of one hash, in KiB.
const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over the memory.
const PASSES: u32 = 2;
/// Lanes.
const LANES: u32 = 1;

/// How long somebody waits for a slot before the answer is "try again soon".
const PATIENCE: Duration = Duration::from_secs(15);

/// Shortest and longest password, in characters.
pub const LENGTH: std::ops::RangeInclusive<usize> = 8..=1024;

/// Stands for the hash of an unknown account, so that its answer costs the same
/// work. It is random: no password is known that fits, and none would be taken.
const UNKNOWN: &str = "$argon2id$v=19$m=19456,t=2,p=1$HR0qieNDwMKsbevTE6iEeg$\
                       pdjIYVu+VVIlTRRJcGovg8yFhhKklGC9E0fh+3msXm8";

static SLOTS: LazyLock<Semaphore> = LazyLock::new(|| {
    Semaphore::new(std::thread::available_parallelism().map_or(2, std::num::NonZero::get))
});

/// What can go wrong besides a wrong password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many sign in at once.
    #[error("too many passwords are being checked at once")]
    Busy,
    /// The kept hash cannot be read.
    #[error("a kept password hash cannot be read: {0}")]
    Kept(argon2::password_hash::Error),
    /// The library refused to hash.
    #[error("a password could not be hashed: {0}")]
    Hash(argon2::password_hash::Error),
    /// The thread that hashed went away.
    #[error("the thread that hashed a password failed")]
    Thread(#[from] tokio::task::JoinError),
}

/// The right to hash one password at a time.
#[derive(Debug)]
pub struct Slot {
    permit: SemaphorePermit<'static>,
}

impl Slot {
    /// Waits for a free slot.
    ///
    /// # Errors
    ///
    /// [`PasswordError::Busy`] after 15 seconds.
    pub async fn acquire() -> Result<Self, PasswordError> {
        match tokio::time::timeout(PATIENCE, SLOTS.acquire()).await {
            Ok(Ok(permit)) => Ok(Self { permit }),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(PasswordError::Busy),
        }
    }

    /// True if this is the password. Without a kept hash (there is no such
    /// account) the same work is done and the answer is false.
    pub async fn verify(
        self,
        password: String,
        kept: Option<String>,
    ) -> Result<bool, PasswordError> {
        self.run(move || {
            let known = kept.is_some();
            let text = kept.as_deref().unwrap_or(UNKNOWN);
            let hash = PasswordHash::new(text).map_err(PasswordError::Kept)?;
            match hasher()?.verify_password(password.as_bytes(), &hash) {
                Ok(()) => Ok(known),
                Err(argon2::password_hash::Error::Password) => Ok(false),
                Err(error) => Err(PasswordError::Kept(error)),
            }
        })
        .await
    }

    /// The hash to keep, with a salt of its own.
    pub async fn hash(self, password: String) -> Result<String, PasswordError> {
        self.run(move || {
            let salt = SaltString::generate(&mut OsRng);
            let hash =
                hasher()?.hash_password(password.as_bytes(), &salt).map_err(PasswordError::Hash)?;
            Ok(hash.to_string())
        })
        .await
    }

    /// The slot moves to the thread: it stays taken until the work is done, also
    /// if whoever asked has gone away.
    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop(self.permit);
            result
        })
        .await?
    }
}

fn hasher() -> Result<Argon2<'static>, PasswordError> {
    let params =
        Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|e| PasswordError::Hash(e.into()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// A password that nobody has to remember: 24 characters, 142 bits.
pub fn generate() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), 24)
}

/// # Errors
///
/// A sentence, if the length is not within [`LENGTH`] or there is a control
/// character, which no terminal and no form types the same way twice.
pub fn check(password: &str) -> Result<(), &'static str> {
    if !LENGTH.contains(&password.chars().count()) {
        return Err("a password needs 8 to 1024 characters");
    }
    if password.chars().any(char::is_control) {
        return Err("a password must not contain control characters");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_right_password_and_no_other() {
        let slot = || Slot::acquire();
        let hash = slot().await.unwrap().hash("correct horse".into()).await.unwrap();
        let again = slot().await.unwrap().hash("correct horse".into()).await.unwrap();
        assert_ne!(hash, again, "each has a salt of its own");
        let verify = async |password: &str, kept: Option<&str>| {
            let slot = slot().await.unwrap();
            slot.verify(password.into(), kept.map(Into::into)).await
        };
        assert!(verify("correct horse", Some(&hash)).await.unwrap());
        assert!(!verify("correct horsf", Some(&hash)).await.unwrap());
        assert!(!verify("", Some(&hash)).await.unwrap());
        assert!(!verify("correct horse", None).await.unwrap());
        assert!(verify("x", Some("no hash")).await.is_err());
    }

    /// The cost of a hash is in its parameters: where they are the same, an
    /// unknown account takes the time of a known one.
    #[tokio::test]
    async fn an_unknown_account_costs_the_same_work() {
        let kept = Slot::acquire().await.unwrap().hash("correct horse".into()).await.unwrap();
        let (kept, unknown) =
            (PasswordHash::new(&kept).unwrap(), PasswordHash::new(UNKNOWN).unwrap());
        assert_eq!(kept.algorithm, unknown.algorithm);
        assert_eq!(kept.version, unknown.version);
        assert_eq!(kept.params, unknown.params);
        assert_eq!(kept.salt.unwrap().len(), unknown.salt.unwrap().len());
        assert_eq!(kept.hash.unwrap().len(), unknown.hash.unwrap().len());
        assert_eq!(kept.params.to_string(), "m=19456,t=2,p=1");
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        assert!(check("sieben7").is_err());
        assert!(check("ääääääää").is_ok());
        assert!(check(&"ä".repeat(1024)).is_ok());
        assert!(check(&"a".repeat(1025)).is_err());
        assert!(check("tab\tinside").is_err());
        assert!(check(&generate()).is_ok());
        assert_ne!(generate(), generate());
    }
}
