//! Tokens: access tokens, refresh tokens, and those that people keep in files.
//!
//! - An **access token** is a JWT (RFC 7519) signed with HS256. It lives for
//!   [`ACCESS_SECONDS`] and names its session, which is looked up on every use:
//!   so logout takes effect at once.
//! - A **refresh token** is 32 random bytes in base64url. It is used once.
//! - **API keys** (`slk_…`) and **upload tokens** (`slu_…`) are a prefix, 32 random
//!   base62 characters (190 bits), and the CRC-32 of all before it in 6 base62
//!   characters: what was cut off or mistyped, or is no token of ours, is refused
//!   without asking the database, and scanners find a leaked one without doubt.
//!
//! Of all but the first only the SHA-256 is kept. A slow hash would add nothing:
//! nobody guesses 190 random bits.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rand::Rng as _;
use rand::distr::{Alphanumeric, SampleString as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// SHA-256 of a token: what the database keeps.
pub type TokenHash = [u8; 32];

/// Life of an access token, in seconds.
pub const ACCESS_SECONDS: i64 = 15 * 60;

/// Random characters of a kept token.
const RANDOM: usize = 32;
/// Base62 characters that hold any CRC-32.
const CHECKSUM: usize = 6;
/// Digits of the checksum, by value.
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Tokens that people keep, told apart by their prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Works wherever a token is asked for, in the name of its owner.
    ApiKey,
    /// Opens one git upload.
    Upload,
}

impl Kind {
    /// What the token begins with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::ApiKey => "slk_",
            Self::Upload => "slu_",
        }
    }
}

/// The hash under which a token is kept.
pub fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// A new token and the hash to keep.
pub fn new_token(kind: Kind) -> (String, TokenHash) {
    let mut token = kind.prefix().to_owned();
    Alphanumeric.append_string(&mut rand::rng(), &mut token, RANDOM);
    token.push_str(&checksum(&token));
    let hash = hash(&token);
    (token, hash)
}

/// The kind and hash of a token whose form and checksum are right.
pub fn parse(token: &str) -> Option<(Kind, TokenHash)> {
    let kind =
        [Kind::ApiKey, Kind::Upload].into_iter().find(|kind| token.starts_with(kind.prefix()))?;
    let body = kind.prefix().len() + RANDOM;
    if token.len() != body + CHECKSUM || !token.is_char_boundary(body) {
        return None;
    }
    let (named, sum) = token.split_at(body);
    let alphanumeric = named[kind.prefix().len()..].bytes().all(|b| b.is_ascii_alphanumeric());
    (alphanumeric && sum == checksum(named)).then(|| (kind, hash(token)))
}

/// CRC-32 (ISO-HDLC, as in gzip) in base62, most significant digit first.
fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes()) as usize;
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[rest % BASE62.len()];
        rest /= BASE62.len();
    }
    digits.iter().map(|&digit| char::from(digit)).collect()
}

/// A new refresh token and the hash to keep.
pub fn new_refresh_token() -> (String, TokenHash) {
    let mut bytes = [0; 32];
    rand::rng().fill(&mut bytes);
    let token = URL_SAFE_NO_PAD.encode(bytes);
    let hash = hash(&token);
    (token, hash)
}

/// Who issues, and for whom: a token of another use of the same key is refused.
const ISSUER: &str = "sluice";
const AUDIENCE: &str = "sluice-api";

/// What an access token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    /// The account.
    pub sub: Uuid,
    /// Its session.
    pub sid: Uuid,
    /// When it was made, in seconds since 1970.
    pub iat: i64,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// Who made it.
    pub iss: String,
    /// For whom.
    pub aud: String,
}

impl Claims {
    /// Those of an access token that is made at `at` (seconds since 1970).
    pub(super) fn new(user: Uuid, session: Uuid, at: i64) -> Self {
        Self {
            sub: user,
            sid: session,
            iat: at,
            exp: at + ACCESS_SECONDS,
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
        }
    }
}

/// Signs and checks access tokens.
pub(super) struct Signer {
    header: Header,
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

/// Why an access token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It was good once.
    Expired,
    /// It is none of ours.
    Invalid,
}

impl Signer {
    /// `id` names the key, and stands in the header of what it signs.
    pub(super) fn new(key: &[u8; 32], id: &str) -> Self {
        // Only this algorithm: the header of a token has no say in it.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(id.to_owned());
        Self {
            header,
            encoding: EncodingKey::from_secret(key),
            decoding: DecodingKey::from_secret(key),
            validation,
        }
    }

    /// # Errors
    ///
    /// Never for these claims; what the library says otherwise.
    pub(super) fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        jsonwebtoken::encode(&self.header, claims, &self.encoding)
    }

    pub(super) fn check(&self, token: &str) -> Result<Claims, Refused> {
        use jsonwebtoken::errors::ErrorKind;
        jsonwebtoken::decode(token, &self.decoding, &self.validation)
            .map(|data| data.claims)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => Refused::Expired,
                _ => Refused::Invalid,
            })
    }
}

#[cfg(test)]
mod tests;
