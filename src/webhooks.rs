//! Signatures and secrets of webhooks, as [Standard Webhooks] has them.
//!
//! A secret is `whsec_` and the base64 of 24 random bytes. A message carries
//! `webhook-id`, `webhook-timestamp` (seconds) and `webhook-signature`: for each secret
//! that is valid `v1,` and the base64 of HMAC-SHA-256 over `id.timestamp.body`, with a
//! space between them. The receiver compares, refuses what is older than a few minutes,
//! and remembers the id, since a message may come twice.
//!
//! Secrets are needed in the clear to sign, so they are kept
//! [sealed](crate::accounts::seal) under a key that is derived from the server's: a copy
//! of the database signs nothing.
//!
//! [Standard Webhooks]: https://www.standardwebhooks.com/

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use rand::Rng as _;
use sha2::Sha256;
use uuid::Uuid;

use crate::accounts::seal;

/// Random bytes of a secret.
const SECRET: usize = 24;

/// The raw bytes that sign.
pub struct SigningSecret([u8; SECRET]);

/// The secret cannot be decrypted: the server's own secret is not the one that it was
/// kept with.
#[derive(Debug, thiserror::Error)]
#[error("the secret of a webhook cannot be decrypted: the signing secret of this server changed")]
pub struct SealError;

impl SigningSecret {
    /// A new one.
    pub fn generate() -> Self {
        Self(rand::rng().random())
    }

    /// As the user gets it to see, once.
    pub fn reveal(&self) -> String {
        format!("whsec_{}", STANDARD.encode(self.0))
    }

    /// Sealed for the webhook with this id, under the first of the keys.
    pub fn seal(&self, keys: &[&[u8; 32]], webhook: Uuid) -> Result<Vec<u8>, SealError> {
        let key = keys.first().ok_or(SealError)?;
        seal::seal(key, webhook.as_bytes(), &self.0).map_err(|_| SealError)
    }

    /// The other way, under any of the keys; and whether it was the first.
    pub fn open(
        keys: &[&[u8; 32]],
        webhook: Uuid,
        sealed: &[u8],
    ) -> Result<(Self, bool), SealError> {
        let (text, first) = seal::open_any(keys, webhook.as_bytes(), sealed).ok_or(SealError)?;
        let secret = text.try_into().map(Self).map_err(|_| SealError)?;
        Ok((secret, first))
    }

    /// One signature, with its version.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        // A key of any length is taken.
        let mut mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(&self.0)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the specification's reference libraries.
    #[test]
    fn signs_as_the_reference_does() {
        let raw = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let secret = SigningSecret(raw.try_into().unwrap());
        let signature =
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(secret.reveal(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    }

    #[test]
    fn a_kept_secret_opens_for_its_webhook_and_key_only() {
        let (key, other, id) = ([7; 32], [8; 32], Uuid::now_v7());
        let secret = SigningSecret::generate();
        let sealed = secret.seal(&[&key, &other], id).unwrap();
        assert!(!sealed.windows(8).any(|window| window == &secret.0[..8]));
        let open = |keys: &[&[u8; 32]], id| SigningSecret::open(keys, id, &sealed);
        let (opened, first) = open(&[&key], id).unwrap();
        assert!(opened.0 == secret.0 && first);
        let (opened, first) = open(&[&other, &key], id).unwrap();
        assert!(opened.0 == secret.0 && !first);
        assert!(open(&[&key], Uuid::now_v7()).is_err());
        assert!(open(&[&other], id).is_err());
        assert!(SigningSecret::open(&[&key], id, b"short").is_err());
    }
}
