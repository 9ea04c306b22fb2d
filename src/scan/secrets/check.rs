//! Structural checks: what a format promises beyond its alphabet and length.
//!
//! A value that fails its check was never issued by the provider, so it is not
//! reported at all; one that passes is reported with high confidence.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// The checks a rule can ask for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Nothing beyond the expression.
    #[default]
    None,
    /// The last six characters are the CRC-32 of the random part, in base 62.
    /// Source: "Behind GitHub's new authentication token formats", 2021; npm uses
    /// the same scheme.
    Crc32Body,
    /// The last six characters are the CRC-32 of everything before, the prefix
    /// included, in base 62: the form of this project's own keys.
    Crc32Whole,
    /// A JSON Web Token: the header decodes to an object with `alg` (RFC 7515).
    Jwt,
    /// The body between the lines of a PEM block decodes (RFC 7468).
    Pem,
    /// An AWS key id: base 32 that holds an account number of twelve digits.
    AwsKeyId,
    /// Base64 of `user:password` (RFC 7617).
    Basic,
    /// Base64 of 64 bytes: the account keys of Azure Storage and Cosmos DB.
    Base64Of64,
    /// Base64 of 32 bytes.
    Base64Of32,
    /// Base64url whose decoded bytes start like a macaroon of `pypi.org`.
    Pypi,
    /// The first part is the base64 of a Discord id (17 to 19 digits).
    Discord,
    /// Bech32 with a valid checksum (BIP-173).
    Bech32,
    /// Base64 of a JSON object.
    Base64Json,
    /// A letter and a digit at least, both cases: tells generated base 62 from words.
    Mixed,
}

impl Check {
    /// True if the value keeps what its format promises.
    pub fn holds(self, value: &[u8]) -> bool {
        match self {
            Self::None => true,
            Self::Crc32Body => crc32_tail(value, true),
            Self::Crc32Whole => crc32_tail(value, false),
            Self::Jwt => is_jwt(value),
            Self::Pem => is_pem_body(value),
            Self::AwsKeyId => is_aws_key_id(value),
            Self::Basic => is_basic(value),
            Self::Base64Of64 => decode(value).is_some_and(|d| d.len() == 64),
            Self::Base64Of32 => decode(value).is_some_and(|d| d.len() == 32),
            Self::Pypi => is_pypi(value),
            Self::Discord => is_discord(value),
            Self::Bech32 => is_bech32(value),
            Self::Base64Json => decode(value).is_some_and(|d| {
                serde_json::from_slice::<serde_json::Value>(&d).is_ok_and(|v| v.is_object())
            }),
            Self::Mixed => {
                value.iter().any(u8::is_ascii_digit)
                    && value.iter().any(u8::is_ascii_lowercase)
                    && value.iter().any(u8::is_ascii_uppercase)
            }
        }
    }
}

/// Decodes base64 in either alphabet, padded or not.
pub fn decode(value: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(value).or_else(|_| URL_SAFE.decode(value)).ok()
}

/// A CRC-32 in base 62, six digits, most significant first, digits before
/// capitals before small letters.
pub fn base62(mut n: u32) -> [u8; 6] {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut out = [b'0'; 6];
    for place in out.iter_mut().rev() {
        *place = DIGITS[(n % 62) as usize];
        n /= 62;
    }
    out
}

fn crc32_tail(value: &[u8], body_only: bool) -> bool {
    let Some((head, tail)) = value.len().checked_sub(6).and_then(|at| value.split_at_checked(at))
    else {
        return false;
    };
    let from = match memchr::memrchr(b'_', head) {
        Some(p) if body_only => p + 1,
        _ => 0,
    };
    head.get(from..).is_some_and(|body| base62(crc32fast::hash(body)) == tail)
}

fn is_jwt(value: &[u8]) -> bool {
    let mut parts = value.split(|b| *b == b'.').map(|part| URL_SAFE.decode(part).ok());
    let Some(header) = parts.next().flatten() else {
        return false;
    };
    // The sample of every introduction to JSON Web Tokens.
    let is_sample = |payload: &Vec<u8>| {
        ["John Doe", "1234567890"]
            .iter()
            .any(|w| memchr::memmem::find(payload, w.as_bytes()).is_some())
    };
    if parts.next().flatten().as_ref().is_none_or(is_sample) {
        return false;
    }
    serde_json::from_slice::<serde_json::Value>(&header)
        .is_ok_and(|v| v.get("alg").is_some_and(serde_json::Value::is_string))
}

/// The characters of a PEM body without what surrounds them in source code:
/// line ends, escapes, quotes, indentation, comment signs, headers.
pub fn pem_body(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for line in value.split(|b| matches!(b, b'\n' | b'\r')) {
        // Headers: "Proc-Type: 4,ENCRYPTED", "Version: GnuPG v1".
        if memchr::memmem::find(line, b": ").is_some() {
            continue;
        }
        let mut rest = line;
        while let Some((b, tail)) = rest.split_first() {
            rest = tail;
            match b {
                b'\\' => rest = tail.get(1..).unwrap_or_default(),
                b if b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=') => out.push(*b),
                _ => {}
            }
        }
    }
    out
}

fn is_pem_body(value: &[u8]) -> bool {
    if value.len() > 40_000 || memchr::memmem::find(value, b"-----").is_some() {
        return false;
    }
    let mut body = pem_body(value);
    // OpenPGP blocks end with a checksum of their own: `=abcd`.
    if let Some(at) = memchr::memchr(b'=', &body) {
        let tail = body.get(at..).unwrap_or_default();
        if tail.iter().any(|b| *b != b'=') {
            body.truncate(at);
        }
    }
    if body.len() < 40 || super::rarity::distinct(&body) < 16 {
        return false;
    }
    // A sum of base64 characters that is 1 modulo 4 cannot be; comment signs that
    // are letters of the alphabet (`//`) may stand in between, so a remainder is
    // cut instead of refused.
    body.truncate(body.len() / 4 * 4);
    let Some(der) = decode(&body) else {
        return false;
    };
    super::rarity::entropy(&der) > 4.0
}

fn is_aws_key_id(value: &[u8]) -> bool {
    let Some(id) = value.get(4..) else {
        return false;
    };
    // Ids from before 2019 hold no account number; they go on with I or J.
    if matches!(id.first(), Some(b'I' | b'J')) {
        return true;
    }
    let mut bits = 0_u64;
    for b in id.iter().take(10) {
        let digit = match b {
            b'A'..=b'Z' => b - b'A',
            b'2'..=b'7' => b - b'2' + 26,
            _ => return false,
        };
        bits = bits << 5 | u64::from(digit);
    }
    // 50 bits were read; the account number are the 40 behind the first.
    (bits >> 9) & 0xff_ffff_ffff < 1_000_000_000_000
}

fn is_basic(value: &[u8]) -> bool {
    let Some(text) = decode(value) else {
        return false;
    };
    let Some(at) = memchr::memchr(b':', &text) else {
        return false;
    };
    let (user, password) = (&text[..at], &text[at + 1..]);
    text.iter().all(|b| (b' '..=b'~').contains(b))
        && password.len() >= 4
        && !(super::placeholder::is_placeholder(password)
            || super::assign::value::is_test_word(password)
            || user == password)
}

fn is_pypi(value: &[u8]) -> bool {
    value
        .strip_prefix(b"pypi-")
        .and_then(|v| URL_SAFE.decode(v).ok())
        .is_some_and(|d| memchr::memmem::find(d.get(..24).unwrap_or(&d), b"pypi.org").is_some())
}

fn is_discord(value: &[u8]) -> bool {
    value
        .split(|b| *b == b'.')
        .next()
        .and_then(|v| URL_SAFE.decode(v).ok())
        .is_some_and(|d| (17..=19).contains(&d.len()) && d.iter().all(u8::is_ascii_digit))
}

/// The generator of the checksum, BIP-173.
fn bech32_polymod(values: impl Iterator<Item = u8>) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    values.fold(1, |sum, v| {
        let top = sum >> 25;
        let sum = (sum & 0x1ff_ffff) << 5 ^ u32::from(v);
        GENERATOR
            .iter()
            .enumerate()
            .filter(|(i, _)| top >> i & 1 == 1)
            .fold(sum, |sum, (_, g)| sum ^ g)
    })
}

/// The alphabet of Bech32.
const BECH32: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

fn bech32_values(value: &[u8]) -> Option<Vec<u8>> {
    let lower = value.to_ascii_lowercase();
    let at = memchr::memrchr(b'1', &lower)?;
    let (human, data) = (lower.get(..at)?, lower.get(at + 1..)?);
    let mut values: Vec<u8> = human.iter().map(|b| b >> 5).collect();
    values.push(0);
    values.extend(human.iter().map(|b| b & 31));
    for b in data {
        values.push(memchr::memchr(*b, BECH32)? as u8);
    }
    Some(values)
}

fn is_bech32(value: &[u8]) -> bool {
    bech32_values(value).is_some_and(|v| bech32_polymod(v.into_iter()) == 1)
}

/// The six characters that make `human1data` valid; for examples.
#[cfg(test)]
pub fn bech32_checksum(human_and_data: &str) -> String {
    let mut values = bech32_values(human_and_data.as_bytes()).unwrap();
    values.extend([0; 6]);
    let sum = bech32_polymod(values.into_iter()) ^ 1;
    (0..6).map(|i| char::from(BECH32[(sum >> (5 * (5 - i)) & 31) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_tails() {
        let body = "abcdefghijABCDEFGHIJ0123456789zz";
        let tail = |text: &str| {
            String::from_utf8(base62(crc32fast::hash(text.as_bytes())).to_vec()).unwrap()
        };
        let whole = format!("slk_{body}");
        assert!(Check::Crc32Whole.holds(format!("{whole}{}", tail(&whole)).as_bytes()));
        assert!(Check::Crc32Body.holds(format!("{whole}{}", tail(body)).as_bytes()));
        assert!(!Check::Crc32Whole.holds(format!("{whole}{}", tail(body)).as_bytes()));
        assert!(!Check::Crc32Whole.holds(b"short"));
    }

    #[test]
    fn aws_ids_hold_an_account() {
        // Documented by AWS itself as an example.
        assert!(Check::AwsKeyId.holds(b"AKIAIOSFODNN7EXAMPLE"));
        assert!(Check::AwsKeyId.holds([&b"ASIA"[..], b"QNZGKIQY56JQ7WML"].concat().as_slice()));
        assert!(!Check::AwsKeyId.holds(b"AKIA777777777777777"));
        assert!(!Check::AwsKeyId.holds(b"AKIA1111111111111111"));
    }

    #[test]
    fn jwt_headers_decode() {
        assert!(Check::Jwt.holds(b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.x"));
        assert!(!Check::Jwt.holds(b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpX.e30.x"));
    }

    #[test]
    fn bech32_of_the_standard() {
        assert!(Check::Bech32.holds(b"A12UEL5L"));
        assert!(Check::Bech32.holds(b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"));
        assert!(!Check::Bech32.holds(b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5"));
    }

    #[test]
    fn basic_credentials() {
        let of = |text: &str| STANDARD.encode(text);
        assert!(Check::Basic.holds(of("deploy:Kd83sommerQ").as_bytes()));
        assert!(!Check::Basic.holds(of("user:password").as_bytes()));
        assert!(!Check::Basic.holds(of("no colon here").as_bytes()));
    }
}
