//! User name and token of a private repository, sealed for the database.
//!
//! ChaCha20-Poly1305 (RFC 8439) with a random nonce, under a key that is derived from the
//! signing secret. Owner and repository are authenticated with it, so that a row copied
//! to another repository opens nowhere.

use std::fmt;

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::accounts::Keys;

/// Bytes of a nonce.
const NONCE: usize = 12;

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
        let nonce: [u8; NONCE] = rand::Rng::random(&mut rand::rng());
        let text = serde_json::to_vec(self)?;
        let aad = bound_to(owner, repository);
        let payload = Payload { msg: &text, aad: &aad };
        let mut sealed = nonce.to_vec();
        let body = cipher(keys)
            .encrypt(&Nonce::from(nonce), payload)
            .map_err(|_| anyhow::anyhow!("credentials cannot be sealed"))?;
        sealed.extend(body);
        Ok(sealed)
    }

    /// From the database; `None` if they were sealed with another key or for another
    /// repository.
    pub(crate) fn open(keys: &Keys, owner: Uuid, repository: Uuid, sealed: &[u8]) -> Option<Self> {
        let (nonce, msg) = sealed.split_first_chunk::<NONCE>()?;
        let aad = bound_to(owner, repository);
        let text = cipher(keys).decrypt(&Nonce::from(*nonce), Payload { msg, aad: &aad }).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// The value of `Authorization`.
    pub(in crate::jobs) fn basic(&self) -> String {
        use base64::Engine as _;
        let user = self.username.as_deref().unwrap_or(ANYBODY);
        let text = format!("{user}:{}", self.token);
        format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(text))
    }
}

fn cipher(keys: &Keys) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(keys.source_credentials().into())
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
        assert_eq!(Credentials::open(&keys, owner, repository, b"short"), None);
        assert_eq!(format!("{credentials:?}"), "Credentials(…)");
    }
}
