//! Values that stand where a secret will stand, or show what one looks like.
//!
//! Used for every candidate, whichever detector brought it: what documentation,
//! templates and tests are full of must not be reported.

use super::rarity;

/// Words that no generated value holds and that writers of samples love. Looked
/// for in the lower-case value, anywhere.
const SAMPLE_WORDS: [&str; 43] = [
    "example",
    "sample",
    "changeme",
    "change_me",
    "change-me",
    "placeholder",
    "dummy",
    "fake",
    "redacted",
    "replace",
    "insert",
    "your_",
    "your-",
    "yourpass",
    "yoursecret",
    "yourkey",
    "yourtoken",
    "yourapi",
    "my_secret",
    "my-secret",
    "mysecret",
    "mypass",
    "my_pass",
    "my-password",
    "mytoken",
    "my_token",
    "my-token",
    "xxxx",
    "todo",
    "foobar",
    "foo_bar",
    "foo-bar",
    "notreal",
    "not_real",
    "not-real",
    "s3cr3t",
    "supersecret",
    "super-secret",
    "super_secret",
    "deadbeef",
    "lorem",
    "hidden",
    "secret_key",
];

/// Values that standards print and everybody copies (RFC 6749, RFC 6750, RFC 7519).
const PUBLISHED: [&str; 8] = [
    "2YotnFZFEjr1zCsicMWpAA",
    "tGzv3JOkF0XG5Qx2TlKWIA",
    "gX1fBat3bV",
    "mF_9.B5f-4.1JqM",
    "7Fjfp0ZBr1KtDRbnfVdmIw",
    "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIi",
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
];

/// Openings and closings that mean that something else is put in later.
const TEMPLATES: [&str; 27] = [
    "${", "$(", "#{", "{{", "}}", "<%", "%>", "%(", "%{", "$[", "@{", "{%", "[[", "]]", "{0}",
    "{1}", "%s", "%d", "%v", "ENC[", "!ref", "!vault", "arn:", "vault:", "op://", "ssm:",
    "keyvault",
];

/// True if a value is not meant to be one.
pub fn is_placeholder(value: &[u8]) -> bool {
    is_template(value) || is_sample(value)
}

/// True if something else will be put in here: `${X}`, `{{ x }}`, `<your key>`,
/// `%s`, `$X`.
pub fn is_template(value: &[u8]) -> bool {
    let text = String::from_utf8_lossy(value);
    let text = text.trim();
    if TEMPLATES.iter().any(|t| text.contains(t)) {
        return true;
    }
    let enclosed = |open, close| text.starts_with(open) && text.ends_with(close);
    if enclosed('<', '>') || enclosed('{', '}') || enclosed('[', ']') || enclosed('(', ')') {
        return true;
    }
    if (enclosed('%', '%') || enclosed('@', '@') || enclosed('_', '_')) && text.len() > 2 {
        return true;
    }
    // `$NAME` and `$name`, `:name` of a route, `&anchor` and `*alias` of YAML.
    let named = |rest: &str| {
        !rest.is_empty() && rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
    };
    if let Some(rest) = text.strip_prefix('$') {
        let one_case = rest.chars().all(|c| !c.is_ascii_lowercase())
            || rest.chars().all(|c| !c.is_ascii_uppercase() && !c.is_ascii_digit());
        return named(rest) && one_case;
    }
    if let Some(rest) = text.strip_prefix('<') {
        return rest.contains('>');
    }
    false
}

/// True if the value shows what one looks like: sample words, one character
/// over and over, counting.
pub fn is_sample(value: &[u8]) -> bool {
    if PUBLISHED.iter().any(|p| value.starts_with(p.as_bytes())) {
        return true;
    }
    let lower = value.to_ascii_lowercase();
    if SAMPLE_WORDS.iter().any(|w| memchr::memmem::find(&lower, w.as_bytes()).is_some()) {
        return true;
    }
    has_run(&lower) || rarity::is_sequence(&lower)
}

/// Five or more of the same character, or eight that count up, next to each
/// other. Chance gives one of these in less than one key in a million.
fn has_run(lower: &[u8]) -> bool {
    let (mut same, mut up, mut down) = (1, 1, 1);
    for pair in lower.windows(2) {
        let step = i16::from(pair[1]) - i16::from(pair[0]);
        same = if step == 0 { same + 1 } else { 1 };
        up = if step == 1 || (pair[0] == b'9' && pair[1] == b'0') { up + 1 } else { 1 };
        down = if step == -1 { down + 1 } else { 1 };
        if (same >= 6 && pair[1] != b'=') || up >= 7 || down >= 7 {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_seen() {
        for text in [
            "${DB_PASSWORD}",
            "{{ password }}",
            "<your-api-key>",
            "$PASSWORD",
            "%s",
            "changeme",
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "xxxxxxxxxxxx",
            "0000000000000000",
            "1234567890abcdef",
            "your_token_here",
            "%PASSWORD%",
            "$(cat x)",
            "abcdefghijklmnop",
            "__PASSWORD__",
            "#{token}",
            "ENC[AES256_GCM,data:x]",
        ] {
            assert!(is_placeholder(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn values_are_left() {
        for text in ["q8Zt3LmPx0Yv7RbKc2Wd", "hunter2!Kx", "$ecr3tW0rd", "Pa$$w0rd99"] {
            assert!(!is_placeholder(text.as_bytes()), "{text}");
        }
    }
}
