//! Whether a value is a secret, given what its name promises.

use super::name::Class;
use crate::scan::model::Confidence;
use crate::scan::secrets::format::{Facet, Format};
use crate::scan::secrets::placeholder;
use crate::scan::secrets::rarity::{self, Classes, Rarity};

/// Longest value of an assignment; longer ones are data.
pub const MAX_VALUE: usize = 512;

/// What people write where any value will do, without digits and symbols.
const TEST_WORDS: [&str; 58] = [
    "password",
    "passwd",
    "pass",
    "passw",
    "passphrase",
    "secret",
    "token",
    "test",
    "testing",
    "tests",
    "tester",
    "admin",
    "root",
    "user",
    "guest",
    "default",
    "none",
    "null",
    "nil",
    "true",
    "false",
    "undefined",
    "empty",
    "unknown",
    "foo",
    "bar",
    "baz",
    "qux",
    "abc",
    "abcd",
    "abcdef",
    "key",
    "apikey",
    "value",
    "string",
    "hello",
    "world",
    "helloworld",
    "letmein",
    "welcome",
    "qwerty",
    "login",
    "demo",
    "temp",
    "tmp",
    "mypassword",
    "testpassword",
    "testpass",
    "passwordtest",
    "pwd",
    "asdf",
    "asdfasdf",
    "blah",
    "secretkey",
    "bogus",
    "invalid",
    "wrong",
    "postgres",
];

/// Beginnings of what is public, computed or no value at all.
const NOT_SECRET: [&str; 25] = [
    "ssh-rsa",
    "ssh-ed25519",
    "ecdsa-sha2",
    "-----begin public",
    "-----begin cert",
    "miib",
    "miic",
    "migf",
    "mfkw",
    "mcow",
    "data:",
    "sha1-",
    "sha256-",
    "sha384-",
    "sha512-",
    "sha1:",
    "sha256:",
    "md5:",
    "pbkdf2",
    "pk_live",
    "pk_test",
    "pk.eyj",
    "urn:",
    "mailto:",
    "file:",
];

/// Judges a value: `None` if it is none that has to be hidden.
pub fn judge(class: Class, value: &[u8], facet: Facet, quoted: bool) -> Option<Confidence> {
    let least = match class {
        Class::Password => 6,
        Class::Secret => 12,
        Class::Key => 20,
    };
    if value.len() < least || value.len() > MAX_VALUE {
        return None;
    }
    if value.iter().any(|b| b.is_ascii_whitespace() || b.is_ascii_control() || !b.is_ascii()) {
        return None;
    }
    if placeholder::is_placeholder(value) || is_test_word(value) || is_something_else(value) {
        return None;
    }
    if !quoted && is_expression(value, facet.format) {
        return None;
    }
    let rarity = rarity::rarity(value);
    if facet.lenient {
        // Tests and documents are full of values that look right and open nothing.
        let convincing = rarity == Rarity::Random && value.len() >= 20 && class != Class::Key;
        return convincing.then_some(Confidence::Low);
    }
    match (class, rarity) {
        (_, Rarity::Plain) => None,
        (Class::Password, Rarity::Random) => Some(Confidence::High),
        (Class::Password | Class::Secret, Rarity::Made) if names_itself(value) => None,
        (Class::Password, Rarity::Made) => {
            let chosen = facet.format.is_config()
                && value.iter().any(u8::is_ascii_digit)
                && value.iter().all(u8::is_ascii_alphanumeric);
            (chosen || !is_name(value)).then_some(Confidence::Medium)
        }
        (Class::Secret, Rarity::Random) if value.len() >= 16 => Some(Confidence::High),
        (Class::Secret, Rarity::Random) => Some(Confidence::Medium),
        (Class::Secret, Rarity::Made) => {
            // A chosen secret: only where values are configured.
            (facet.format.is_config() && !is_name(value) && rarity::distinct(value) >= 8)
                .then_some(Confidence::Low)
        }
        (Class::Key, Rarity::Random) if value.len() >= 32 && !is_digest(value) => {
            Some(Confidence::Low)
        }
        (Class::Key, _) => None,
    }
}

/// True for `password`, `Admin123`, `test-secret!`: words of the list with
/// nothing but digits and symbols around.
pub fn is_test_word(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    let mut parts = lower.split(|b| !b.is_ascii_alphabetic()).filter(|p| !p.is_empty()).peekable();
    parts.peek().is_some()
        && parts.all(|p| TEST_WORDS.iter().any(|w| w.as_bytes() == p) || p.len() == 1)
        || is_leet_test_word(&lower)
}

/// `p@ssw0rd`, `passw0rd!`, `t3st`.
fn is_leet_test_word(lower: &[u8]) -> bool {
    let plain: Vec<u8> = lower
        .iter()
        .map(|b| match b {
            b'0' => b'o',
            b'1' | b'!' => b'i',
            b'3' => b'e',
            b'4' | b'@' => b'a',
            b'5' | b'$' => b's',
            b'7' => b't',
            b => *b,
        })
        .filter(u8::is_ascii_alphabetic)
        .collect();
    TEST_WORDS.iter().any(|w| w.len() >= 4 && w.as_bytes() == plain)
}

/// True for `my_Password_1!`: what people write into samples, hardly into use.
fn names_itself(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    ["password", "passwd", "passphrase", "secret", "token", "apikey", "api_key", "api-key"]
        .iter()
        .any(|w| memchr::memmem::find(&lower, w.as_bytes()).is_some())
}

/// What regular expressions hold and secrets hardly ever do.
const EXPRESSIONS: [&str; 11] =
    ["[a-z", "[0-9", "[a-f", "[^", "]{", "(?:", "(?p<", "\\d", "\\w", "\\s", ".*"];

/// Paths, addresses, UUIDs, host names, files, times, public material.
fn is_something_else(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    let Ok(text) = std::str::from_utf8(&lower) else {
        return true;
    };
    if NOT_SECRET.iter().any(|p| text.starts_with(p)) || text.contains("://") || is_uuid(&lower) {
        return true;
    }
    if EXPRESSIONS.iter().any(|e| text.contains(e)) {
        return true;
    }
    if is_password_hash(value) || (text.starts_with("eyj") && text.contains('.')) {
        // A token that its own rule refused is none.
        return true;
    }
    if value.first() == Some(&b'$') && is_name(value) {
        return true;
    }
    if ["/", "./", "../", "~", "\\\\"].iter().any(|p| text.starts_with(p)) && is_path(text) {
        return true;
    }
    if text.as_bytes().get(1..3) == Some(b":\\") || (text.contains('/') && is_path(text)) {
        return true;
    }
    // `db.example.internal:5432`, `app.settings.secret`, `1.2.3.4`.
    let dotted: Vec<_> = text.split(['.', ':']).collect();
    dotted.len() >= 3
        && dotted.iter().all(|p| {
            p.len() <= 20 && p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
        && rarity::rarity(value) != Rarity::Random
}

fn is_path(text: &str) -> bool {
    text.split('/')
        .filter(|p| !p.is_empty())
        .all(|part| part.len() < 12 || rarity::rarity(part.as_bytes()) != Rarity::Random)
        && text.matches('/').count() >= 1
        && !text.ends_with('=')
        && text.split('/').filter(|p| p.len() > 2).any(|p| is_name(p.as_bytes()))
}

fn is_uuid(lower: &[u8]) -> bool {
    lower.len() == 36
        && lower.iter().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// `$2b$12$…`, `$6$…`, `$argon2id$…`: computed from a password.
fn is_password_hash(value: &[u8]) -> bool {
    value.first() == Some(&b'$') && memchr::memchr_iter(b'$', value).count() >= 3
}

/// Hex as long as a digest or an object id.
fn is_digest(value: &[u8]) -> bool {
    matches!(value.len(), 32 | 40 | 56 | 64 | 96 | 128) && value.iter().all(u8::is_ascii_hexdigit)
}

/// True for an unquoted value that a program computes.
fn is_expression(value: &[u8], format: Format) -> bool {
    let has = |set: &[u8]| value.iter().any(|b| set.contains(b));
    match format {
        Format::Env | Format::Ini | Format::Netrc | Format::Xml => {
            value.ends_with(b")") || value.ends_with(b"}")
        }
        Format::Yaml => {
            value.ends_with(b")")
                || has(b"{}")
                || matches!(value.first(), Some(b'|' | b'>' | b'&' | b'*' | b'!' | b'['))
        }
        Format::Shell | Format::Docker => has(b"$`(){}<>"),
        _ => has(b"()[]{}<>;,\"'`"),
    }
}

/// True for what looks like a name in a program: words, joined by separators, humps
/// or nothing, each with at most a number behind: `sha256_password`, `userName2`.
pub fn is_name(value: &[u8]) -> bool {
    let value = value.strip_prefix(b"$").unwrap_or(value);
    if !value.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':')) {
        return false;
    }
    let parts = value.split(|b| !b.is_ascii_alphanumeric()).filter(|p| !p.is_empty());
    let mut letters = 0;
    for part in parts {
        let end = part.iter().rposition(|b| !b.is_ascii_digit()).map_or(0, |p| p + 1);
        let Some(word) = part.get(..end) else {
            return false;
        };
        if part.len() - end > 4 || !word.iter().all(u8::is_ascii_alphabetic) {
            return false;
        }
        letters += word.len();
    }
    let classes = Classes::of(value);
    letters >= 3
        && (classes.changes - classes.symbol.min(classes.changes)) * 4 <= value.len()
        && rarity::surprise(value).is_none_or(|s| s < 4.9)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: Facet = Facet { format: Format::Env, lenient: false };
    const CODE: Facet = Facet { format: Format::Script, lenient: false };
    const TEST: Facet = Facet { format: Format::Script, lenient: true };

    fn sees(class: Class, value: &str, facet: Facet) -> bool {
        judge(class, value.as_bytes(), facet, true).is_some()
    }

    #[test]
    fn passwords() {
        for value in ["Tr0ub4dor&3", "Z1ON0101", "kX92mfPq", "b1gB1rd#99"] {
            assert!(sees(Class::Password, value, CONFIG), "{value}");
            assert!(sees(Class::Password, value, CODE), "{value}");
            assert!(!sees(Class::Password, value, TEST), "{value}");
        }
    }

    #[test]
    fn no_passwords() {
        for value in [
            "password",
            "Password1!",
            "changeme",
            "admin123",
            "P@ssw0rd",
            "test-secret",
            "${PW}",
            "getPassword",
            "user.password",
            "/etc/app/password",
            "https://x.invalid/login",
            "d3b07384-d113-4ec6-a7d5-2c8c5f0e3f0a",
            "$2b$12$abcdefghijklmnopqrstuv",
            "12345678",
            "password_confirmation",
            "SECRET_KEY",
            "aaaaaaaa",
            "current-password",
        ] {
            assert!(!sees(Class::Password, value, CONFIG), "{value}");
        }
    }

    #[test]
    fn secrets() {
        assert!(sees(Class::Secret, "q8Zt3LmPx0Yv7RbKc2Wd", CODE));
        assert!(sees(Class::Secret, "9f86d081884c7d659a2feaa0c55ad015", CODE));
        assert!(!sees(Class::Secret, "application/x-www-form-urlencoded", CODE));
        assert!(!sees(Class::Secret, "AccessTokenProvider", CODE));
        assert!(!sees(Class::Secret, "gh[pousr]_[A-Za-z0-9]{36}(?:x|q)", CODE));
        assert!(!sees(Class::Secret, "sha256-47DEQpj8HBSaTImW5JCeuQeRkm5NMpJWZG3hSuFU", CODE));
        assert!(!sees(Class::Key, "9f86d081884c7d659a2feaa0c55ad015", CODE));
    }
}
