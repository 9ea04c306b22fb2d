//! User name and token of a private repository, sealed for the database.
//!
//! [Sealed](crate::accounts::seal) under a key that is derived from the signing secret.
//! Owner and repository are authenticated with it, so that a row copied to another
//! repository opens nowhere.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::accounts::{Keys, seal};

/// What git hosts take for the user where a token is the password.
const ANYBODY: &str = "x-access-token";

/// See the [module](self).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credentials {
    pub(crate) username: Option<String>,
    pub(crate) token: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Credentials {
    /// For the database.
    pub(crate) fn seal(
        &self,
        keys: &Keys,
        owner: Uuid,
        repository: Uuid,
    ) -> anyhow::Result<Vec<u8>> {
        let text = serde_json::to_vec(self)?;
        let key = keys.source_credentials()[0];
        Ok(seal::seal(key, &bound_to(owner, repository), &text)?)
    }

    /// From the database; `None` if they were sealed with another key or for another
    /// repository.
    pub(crate) fn open(keys: &Keys, owner: Uuid, repository: Uuid, sealed: &[u8]) -> Option<Self> {
        Self::open_any(keys, owner, repository, sealed).map(|(credentials, _)| credentials)
    }

    /// The same, and whether the current secret sealed them.
    pub(crate) fn open_any(
        keys: &Keys,
        owner: Uuid,
        repository: Uuid,
        sealed: &[u8],
    ) -> Option<(Self, bool)> {
        let keys = keys.source_credentials();
        let (text, current) = seal::open_any(&keys, &bound_to(owner, repository), sealed)?;
        Some((serde_json::from_slice(&text).ok()?, current))
    }

    /// The value of `Authorization`.
    pub(in crate::jobs) fn basic(&self) -> String {
        use base64::Engine as _;
        let user = self.username.as_deref().unwrap_or(ANYBODY);
        let text = format!("{user}:{}", self.token);
        format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(text))
    }
}

fn bound_to(owner: Uuid, repository: Uuid) -> [u8; 32] {
    let mut both = [0; 32];
    both[..16].copy_from_slice(owner.as_bytes());
    both[16..].copy_from_slice(repository.as_bytes());
    both
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn only_their_repository_opens_them() {
        let keys = Keys::derive(&Secret("x".repeat(32)));
        let (owner, repository, other) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        let credentials = Credentials { username: None, token: "hunter2-hunter2".into() };
        let sealed = credentials.seal(&keys, owner, repository).unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_ne!(sealed, credentials.seal(&keys, owner, repository).unwrap());
        let open = |keys, owner, repository| Credentials::open(keys, owner, repository, &sealed);
        assert_eq!(open(&keys, owner, repository), Some(credentials.clone()));
        assert_eq!(open(&keys, owner, other), None);
        assert_eq!(open(&keys, other, repository), None);
        let others = Keys::derive(&Secret("y".repeat(32)));
        assert_eq!(open(&others, owner, repository), None);
        let rotated = Keys::with(&Secret("y".repeat(32)), &[Secret("x".repeat(32))]);
        assert_eq!(open(&rotated, owner, repository), Some(credentials.clone()));
        assert_eq!(Credentials::open(&keys, owner, repository, b"short"), None);
        assert_eq!(format!("{credentials:?}"), "Credentials(…)");
    }
}
