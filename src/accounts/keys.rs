//! The signing secret, and the keys that are derived from it.
//!
//! One secret is configured or generated; each use has a key of its own, so that
//! what one use gives away says nothing about another.

use std::fmt::{self, Write as _};
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use hmac::{Hmac, Mac as _};
use rand::Rng as _;
use sha2::Sha256;

use super::token::Signer;
use crate::config::{Config, Secret};

/// Keys derived from the secret. Every replica with the same secret has the same.
pub struct Keys {
    pub(super) signer: Signer,
    secret_identity: [u8; 32],
    idempotency: [u8; 32],
    webhooks: [u8; 32],
    source_credentials: [u8; 32],
    push_nonces: [u8; 32],
}

impl Keys {
    /// Derives all keys: HMAC-SHA-256 of the secret over a label (the expand step
    /// of HKDF, RFC 5869, for one block).
    pub fn derive(secret: &Secret) -> Self {
        let secret = secret.0.as_bytes();
        Self {
            signer: Signer::new(&hmac(secret, &[b"sluice/jwt"])),
            secret_identity: hmac(secret, &[b"sluice/secret-identity"]),
            idempotency: hmac(secret, &[b"sluice/idempotency"]),
            webhooks: hmac(secret, &[b"sluice/webhooks"]),
            source_credentials: hmac(secret, &[b"sluice/source-credentials"]),
            push_nonces: hmac(secret, &[b"sluice/push-nonces"]),
        }
    }

    /// Key of the identities by which the secrets engine knows a secret again
    /// without keeping it.
    pub fn secret_identity(&self) -> &[u8; 32] {
        &self.secret_identity
    }

    /// Key under which the secrets of webhooks are kept.
    pub fn webhooks(&self) -> &[u8; 32] {
        &self.webhooks
    }

    /// Key of what is kept for `Idempotency-Key`.
    pub fn idempotency(&self) -> &[u8; 32] {
        &self.idempotency
    }

    /// Key of the nonces of signed pushes.
    pub fn push_nonces(&self) -> &[u8; 32] {
        &self.push_nonces
    }

    /// Key of the credentials of private repositories.
    pub fn source_credentials(&self) -> &[u8; 32] {
        &self.source_credentials
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// HMAC-SHA-256 over parts, each with its length before it: two lists of parts
/// never give the same text.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // A key of any length is taken.
    let mut mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(key)
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The secret of the configuration, or the one that is generated at the first
/// start and kept in `<data>/jwt.key`, readable by its owner only. Blocks on the
/// disk: call it at the start.
///
/// # Errors
///
/// If the file cannot be read or made, or holds no secret; the error names it.
pub fn jwt_secret(config: &Config) -> io::Result<Secret> {
    if let Some(secret) = &config.jwt_secret {
        return Ok(secret.clone());
    }
    let path = config.data_dir.join("jwt.key");
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    match fs::read_to_string(&path) {
        Ok(text) => return kept(&path, &text),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(named(e)),
    }
    create(&config.data_dir, &path).map_err(named)?;
    // Read back, whoever made it: of two processes that start at once one wins.
    kept(&path, &fs::read_to_string(&path).map_err(named)?)
}

fn kept(path: &Path, text: &str) -> io::Result<Secret> {
    let secret = text.trim();
    if secret.len() < 32 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} holds no signing secret of at least 32 characters; restore it, or remove it \
                 to have a new one made (everybody signs in again)",
                path.display()
            ),
        ));
    }
    Ok(Secret(secret.to_owned()))
}

/// Writes a new secret under a temporary name (mode 0600), and gives it its name
/// only whole and only if there is none yet.
fn create(dir: &Path, path: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let bytes: [u8; 32] = rand::rng().random();
    let text = hex(&bytes);
    let mut file = tempfile::Builder::new().prefix(".jwt.key.").tempfile_in(dir)?;
    writeln!(file, "{text}")?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => fs::File::open(dir)?.sync_all(),
        Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn config(dir: &Path) -> Config {
        let mut config = Config::from_sources(Sources::default()).unwrap();
        config.data_dir = dir.to_owned();
        config.jwt_secret = None;
        config
    }

    #[test]
    fn the_secret_is_made_once_and_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir.path().join("deeper"));
        let first = jwt_secret(&config).unwrap();
        assert_eq!(first.0.len(), 64);
        assert!(jwt_secret(&config).unwrap() == first);
        let mode = fs::metadata(config.data_dir.join("jwt.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let names: Vec<_> = fs::read_dir(&config.data_dir).unwrap().collect();
        assert_eq!(names.len(), 1, "no temporary file stays");
    }

    #[test]
    fn of_many_that_start_at_once_all_have_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let secrets: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| jwt_secret(&config).unwrap().0)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(secrets.iter().all(|secret| secret == &secrets[0]));
    }

    #[test]
    fn a_damaged_file_is_named_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("jwt.key"), "short\n").unwrap();
        let error = jwt_secret(&config(dir.path())).unwrap_err().to_string();
        assert!(error.contains("jwt.key") && !error.contains("short\n"), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join("jwt.key")).unwrap(), "short\n");
    }

    #[test]
    fn each_use_has_its_own_key_and_none_is_printed() {
        let keys = Keys::derive(&Secret("x".repeat(32)));
        assert_ne!(keys.secret_identity(), keys.idempotency());
        assert_eq!(format!("{keys:?}"), "Keys(…)");
        let other = Keys::derive(&Secret("y".repeat(32)));
        assert_ne!(keys.idempotency(), other.idempotency());
        assert!(hex(&[0x0f; 32]).starts_with("0f0f"));
        assert_ne!(hmac(b"k", &[b"ab", b"c"]), hmac(b"k", &[b"a", b"bc"]));
    }
}
