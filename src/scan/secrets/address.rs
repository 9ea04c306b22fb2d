//! Credentials inside addresses: `scheme://user:password@host` (RFC 3986, 3.2.1).

use std::ops::Range;

use super::assign::value;
use super::format::Facet;
use super::placeholder;
use super::rarity::{self, Rarity};
use crate::scan::model::Confidence;

/// Longest user information that is looked at.
const MAX_USERINFO: usize = 300;

/// The password of the address whose `://` stands at `at`, if it is worth
/// reporting.
pub fn password(bytes: &[u8], at: usize, facet: Facet) -> Option<(Range<usize>, Confidence)> {
    let start = at + 3;
    let text = bytes.get(start..bytes.len().min(start + MAX_USERINFO))?;
    let end = text
        .iter()
        .position(|b| {
            b.is_ascii_whitespace()
                || b.is_ascii_control()
                || matches!(
                    b,
                    b'/' | b'?' | b'#' | b'"' | b'\'' | b'`' | b'<' | b'>' | b'\\' | b','
                )
        })
        .unwrap_or(text.len());
    let authority = &text[..end];
    let sign = memchr::memrchr(b'@', authority)?;
    let colon = memchr::memchr(b':', &authority[..sign])?;
    let (user, secret) = (&authority[..colon], &authority[colon + 1..sign]);
    let host = &authority[sign + 1..];
    if host.is_empty() || secret.len() < 4 {
        return None;
    }
    if placeholder::is_placeholder(secret) || value::is_test_word(secret) || user == secret {
        return None;
    }
    if secret
        .iter()
        .any(|b| matches!(b, b'{' | b'}' | b'(' | b')' | b'$' | b'[' | b']' | b'*' | b'%'))
        && rarity::rarity(secret) != Rarity::Random
    {
        return None;
    }
    let local = is_local(host);
    if is_reserved(host) {
        // People write their own systems under such names too, but then with a real
        // password, and a sample never holds one that looks generated.
        let convincing =
            !facet.lenient && secret.len() >= 16 && rarity::rarity(secret) == Rarity::Random;
        return convincing.then_some((start + colon + 1..start + sign, Confidence::Medium));
    }
    let confidence = match rarity::rarity(secret) {
        Rarity::Random if !facet.lenient => Confidence::High,
        Rarity::Made if !facet.lenient && !local && !value::is_name(secret) => Confidence::Medium,
        Rarity::Random if !local && secret.len() >= 16 => Confidence::Low,
        Rarity::Made if !facet.lenient && !local && facet.format.is_config() => Confidence::Low,
        _ => return None,
    };
    Some((start + colon + 1..start + sign, confidence))
}

/// Names that RFC 2606 and RFC 6761 keep for samples.
fn is_reserved(host: &[u8]) -> bool {
    let host = String::from_utf8_lossy(host).to_ascii_lowercase();
    let host = host.split(':').next().unwrap_or_default();
    ["example.com", "example.org", "example.net"].iter().any(|s| host.ends_with(s))
        || [".example", ".invalid", ".test"].iter().any(|s| host.ends_with(s))
        || matches!(
            host,
            "host" | "hostname" | "server" | "example" | "domain" | "domain.com" | "myhost"
        )
}

fn is_local(host: &[u8]) -> bool {
    let host = host.split(|b| *b == b':').next().unwrap_or_default();
    host == b"localhost" || host.starts_with(b"127.") || host == b"0.0.0.0"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::secrets::format::Format;

    fn of(text: &str) -> Option<&str> {
        let facet = Facet { format: Format::Env, lenient: false };
        let at = text.find("://")?;
        password(text.as_bytes(), at, facet).map(|(span, _)| &text[span])
    }

    #[test]
    fn credentials_in_addresses() {
        assert_eq!(
            of("DATABASE_URL=postgres://app:kX92mfPq7R@db.internal:5432/x"),
            Some("kX92mfPq7R")
        );
        assert_eq!(
            of("git clone https://bot:q8Zt3LmPx0Yv7RbKc2Wd@git.corp.io/a.git"),
            Some("q8Zt3LmPx0Yv7RbKc2Wd")
        );
        assert_eq!(
            of("x='postgres://u:UtYmUIRMlDQkOOclHZxnZh@db.shop.example/x'"),
            Some("UtYmUIRMlDQkOOclHZxnZh")
        );
        assert_eq!(of("amqp://a:b@c@rabbit.corp.io"), None);
    }

    #[test]
    fn harmless_addresses() {
        for text in [
            "https://x.io/a@b:c",
            "https://user:password@host/x",
            "postgres://u:${PW}@db/x",
            "http://user:pass@example.com/",
            "http://localhost:8000/@x",
            "ftp://anonymous:anonymous@ftp.x.org",
            "redis://:secret@localhost:6379",
            "https://user:<token>@x.io",
            "mongodb://root:root@mongo",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
