//! Sealing: what the server has to know in the clear, kept so that a copy of the database
//! alone shows nothing.
//!
//! ChaCha20-Poly1305 (RFC 8439) with a random nonce of 12 bytes before the text. What it
//! belongs to is authenticated with it, so that a value copied to another row opens
//! nowhere.

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce};
use rand::Rng as _;

/// Bytes of the nonce.
const NONCE: usize = 12;

/// A text is too long to be sealed (256 GB).
#[derive(Debug, thiserror::Error)]
#[error("a secret cannot be sealed")]
pub struct SealError;

/// Seals `text` for the place that `belongs_to` names.
///
/// # Errors
///
/// None for texts of a sane length.
pub fn seal(key: &[u8; 32], belongs_to: &[u8], text: &[u8]) -> Result<Vec<u8>, SealError> {
    let nonce: [u8; NONCE] = rand::rng().random();
    let body = ChaCha20Poly1305::new(key.into())
        .encrypt(&Nonce::from(nonce), Payload { msg: text, aad: belongs_to })
        .map_err(|_| SealError)?;
    Ok([nonce.as_slice(), &body].concat())
}

/// The text; `None` if it was sealed with another key or for another place.
pub fn open(key: &[u8; 32], belongs_to: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, msg) = sealed.split_first_chunk::<NONCE>()?;
    let payload = Payload { msg, aad: belongs_to };
    ChaCha20Poly1305::new(key.into()).decrypt(&Nonce::from(*nonce), payload).ok()
}

/// The text, by the first of several keys that opens it, and whether that is the first
/// of all.
pub fn open_any(keys: &[&[u8; 32]], belongs_to: &[u8], sealed: &[u8]) -> Option<(Vec<u8>, bool)> {
    keys.iter().enumerate().find_map(|(at, key)| Some((open(key, belongs_to, sealed)?, at == 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_key_and_its_place_open_a_value() {
        let sealed = seal(&[7; 32], b"here", b"hunter2-hunter2").unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_ne!(sealed, seal(&[7; 32], b"here", b"hunter2-hunter2").unwrap());
        assert_eq!(open(&[7; 32], b"here", &sealed).as_deref(), Some(&b"hunter2-hunter2"[..]));
        assert_eq!(open(&[8; 32], b"here", &sealed), None);
        assert_eq!(open(&[7; 32], b"there", &sealed), None);
        assert_eq!(open(&[7; 32], b"here", b"short"), None);
        assert_eq!(open(&[7; 32], b"here", &sealed[..20]), None);
        let by = |keys: &[&[u8; 32]]| open_any(keys, b"here", &sealed).map(|(_, first)| first);
        assert_eq!(by(&[&[7; 32], &[8; 32]]), Some(true));
        assert_eq!(by(&[&[8; 32], &[7; 32]]), Some(false));
        assert_eq!(by(&[&[8; 32]]), None);
    }
}
