//! Whether a name says that its value is a secret.
//!
//! A name is split into words (`DB_PASSWORD`, `dbPassword`, `db-password`); what it
//! stands for is said by its last word that carries meaning: `token_url` is an
//! address, `password_field` a field, `secretName` a name.

/// What is looked for in a file to find the lines worth reading. Each name that
/// [`classify`] knows holds one of them.
pub const TRIGGERS: [&str; 9] =
    ["pass", "pwd", "psw", "secret", "token", "key", "cred", "auth", "identified by"];

/// What kind of value a name promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// May have been made up by a person.
    Password,
    /// Made by a program: long and random.
    Secret,
    /// Could be many things; only a long random value counts.
    Key,
}

/// Words that end the name of a password.
const PASSWORD: [&str; 12] = [
    "password",
    "passwd",
    "passwort",
    "passphrase",
    "passwrd",
    "pwd",
    "pass",
    "psw",
    "pswd",
    "passcode",
    "pasword",
    "pw",
];

/// Endings of words run together: `dbpassword`, `authtoken`.
const JOINED_PASSWORD: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "passwort",
    "dbpass",
    "userpass",
    "adminpass",
    "rootpass",
    "mysqlpass",
    "smtppass",
    "ftppass",
    "sshpass",
];

/// As above, for what programs make.
const JOINED_SECRET: [&str; 12] = [
    "secret",
    "apikey",
    "secretkey",
    "accesskey",
    "authtoken",
    "accesstoken",
    "privatekey",
    "authkey",
    "apitoken",
    "encryptionkey",
    "appkey",
    "masterkey",
];

/// What a key is for if it is a secret one.
const SECRET_KEYS: [&str; 33] = [
    "api",
    "secret",
    "access",
    "private",
    "encryption",
    "encrypt",
    "decryption",
    "auth",
    "account",
    "master",
    "signing",
    "sign",
    "app",
    "application",
    "client",
    "service",
    "shared",
    "session",
    "cipher",
    "crypto",
    "aes",
    "hmac",
    "jwt",
    "license",
    "storage",
    "consumer",
    "deploy",
    "webhook",
    "admin",
    "security",
    "server",
    "cookie",
    "priv",
];

/// What a token or key is of if it is none that has to be hidden.
const HARMLESS_BEFORE: [&str; 58] = [
    "public",
    "pub",
    "publishable",
    "primary",
    "foreign",
    "cache",
    "sort",
    "partition",
    "row",
    "hash",
    "index",
    "map",
    "dict",
    "lookup",
    "unique",
    "group",
    "object",
    "message",
    "i18n",
    "translation",
    "registry",
    "site",
    "next",
    "page",
    "continuation",
    "sync",
    "cancellation",
    "stop",
    "bos",
    "eos",
    "pad",
    "unk",
    "sep",
    "cls",
    "mask",
    "start",
    "end",
    "parse",
    "lexer",
    "csrf",
    "xsrf",
    "idempotency",
    "routing",
    "range",
    "json",
    "dom",
    "react",
    "hot",
    "shortcut",
    "column",
    "header",
    "query",
    "param",
    "session_storage",
    "local",
    "feature",
    "language",
    "tag",
];

/// Words that say nothing about what the value is.
const NEUTRAL: [&str; 30] = [
    "value",
    "val",
    "str",
    "string",
    "text",
    "plain",
    "plaintext",
    "raw",
    "default",
    "prod",
    "production",
    "dev",
    "development",
    "staging",
    "stage",
    "live",
    "sandbox",
    "main",
    "secondary",
    "old",
    "new",
    "current",
    "base64",
    "b64",
    "hex",
    "v",
    "root",
    "literal",
    "param",
    "backup",
];

/// Words that say that the value is none.
const NOT_REAL: [&str; 13] = [
    "fake",
    "dummy",
    "example",
    "mock",
    "sample",
    "placeholder",
    "invalid",
    "wrong",
    "bad",
    "incorrect",
    "encrypted",
    "hashed",
    "masked",
];

/// Longest name that is looked at.
const MAX_NAME: usize = 100;

/// What a name promises, or `None` if it does not say that it is a secret.
pub fn classify(name: &str) -> Option<Class> {
    if name.is_empty() || name.len() > MAX_NAME {
        return None;
    }
    // Of `config.db.password` only the last part names the value; dots and colons
    // separate what encloses it.
    let words = words(name);
    if words.iter().any(|w| NOT_REAL.contains(&w.as_str())) {
        return None;
    }
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    while words.len() > 1 && words.last().is_some_and(|w| NEUTRAL.contains(w)) {
        words.pop();
    }
    let last = *words.last()?;
    let before =
        words.len().checked_sub(2).and_then(|at| words.get(at)).copied().unwrap_or_default();
    if PASSWORD.contains(&last) || JOINED_PASSWORD.iter().any(|w| last.ends_with(w)) {
        let harmless = matches!(before, "no" | "bad" | "forgot" | "reset" | "confirm" | "by");
        let lone = last == "pass" || last == "pw";
        // `pass` alone is a word of its own in many grammars, `by_pass` no password.
        let word_of_a_grammar =
            lone && words.len() == 1 && !matches!(name, "pass" | "Pass" | "PASS");
        return (!harmless && !word_of_a_grammar).then_some(Class::Password);
    }
    if words.iter().any(|w| matches!(*w, "public" | "pub" | "publishable")) {
        return None;
    }
    if HARMLESS_BEFORE.contains(&before) {
        return None;
    }
    match last {
        "secret" | "secrets" | "token" | "apikey" | "credential" | "credentials" | "creds" => {
            Some(Class::Secret)
        }
        "key" if SECRET_KEYS.contains(&before) => Some(Class::Secret),
        "base" if before == "key" => Some(Class::Secret),
        "key" | "auth" | "authorization" => Some(Class::Key),
        _ if JOINED_SECRET.iter().any(|w| last.ends_with(w)) => Some(Class::Secret),
        _ if last.ends_with("token") && last.len() <= 16 => Some(Class::Secret),
        _ => None,
    }
}

/// The words of a name, in small letters. Digits separate, but for those behind a
/// first letter: `b64`, `i18n`.
fn words(name: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word = String::new();
    let bytes = name.as_bytes();
    for (at, b) in bytes.iter().enumerate() {
        let numbered =
            word.len() == 1 || word.bytes().skip(1).all(|w| w.is_ascii_digit()) && word.len() > 1;
        if b.is_ascii_digit() && numbered {
            word.push(char::from(*b));
            continue;
        }
        let before = at.checked_sub(1).and_then(|p| bytes.get(p)).copied().unwrap_or(b'_');
        let behind = bytes.get(at + 1).copied().unwrap_or(b'_');
        let hump = b.is_ascii_uppercase()
            && (before.is_ascii_lowercase()
                || (before.is_ascii_uppercase() && behind.is_ascii_lowercase()));
        if (hump || !b.is_ascii_alphabetic()) && !word.is_empty() {
            all.push(std::mem::take(&mut word));
        }
        if b.is_ascii_alphabetic() {
            word.push(char::from(b.to_ascii_lowercase()));
        }
    }
    if !word.is_empty() {
        all.push(word);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets() {
        for (name, class) in [
            ("password", Class::Password),
            ("DB_PASSWORD", Class::Password),
            ("dbPassword", Class::Password),
            ("spring.datasource.password", Class::Password),
            ("db_password_prod", Class::Password),
            ("mysql-root-password", Class::Password),
            ("SMTP_PASS", Class::Password),
            ("dbpassword", Class::Password),
            ("client_secret", Class::Secret),
            ("SECRET_KEY_BASE", Class::Secret),
            ("apiKey", Class::Secret),
            ("APIKey", Class::Secret),
            ("_authToken", Class::Secret),
            ("x-api-key", Class::Secret),
            ("consumerSecret", Class::Secret),
            ("key", Class::Key),
        ] {
            assert_eq!(classify(name), Some(class), "{name}");
        }
    }

    #[test]
    fn names_of_other_things() {
        for name in [
            "password_field",
            "token_url",
            "secretName",
            "key_id",
            "public_key",
            "primaryKey",
            "next_page_token",
            "pad_token",
            "passwordHash",
            "tokenizer",
            "compass",
            "keyboard",
            "author",
            "bypass",
            "fake_password",
            "csrf_token",
            "secret_version",
            "auth_type",
            "encrypted_password",
            "token_count",
            "monkey",
            "passport",
        ] {
            assert_eq!(classify(name), None, "{name}");
        }
    }
}
