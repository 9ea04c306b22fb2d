//! The signing secret, and the keys that are derived from it.
//!
//! One secret is configured or generated; each use has a key of its own, so that
//! what one use gives away says nothing about another.
//!
//! # Rotation
//!
//! A process makes everything new with one secret and accepts what was made with
//! several: `SLUICE_JWT_SECRET` and `SLUICE_JWT_SECRETS_ACCEPTED`. Requests go to any
//! server while servers are started anew one after the other, so the next secret has to
//! be accepted everywhere before the first server uses it:
//!
//! 1. Every server and worker is started with the old secret and the new one accepted.
//! 2. Every server and worker is started with the new secret and the old one accepted.
//! 3. `sluice reseal` seals anew what the old secret sealed: secrets of webhooks, and
//!    credentials of private repositories.
//! 4. After the life of an access token the old secret is taken off the list.
//!
//! Nobody is signed out: sessions, API keys and upload tokens are rows that know
//! nothing of the secret. An access token names its secret (`kid`).
//!
//! Two keys must stay the same for as long as there is data: the one by which a secret
//! in the code is known again ([`Keys::secret_identity`]; with another one every finding
//! of a secret would be new), and that of answers kept for `Idempotency-Key` (a retry
//! finds its answer by it, whichever server it meets). They are made once, from the
//! secret of that day, and kept in the database ([`crate::db::lasting_keys`]), sealed
//! under a key of the current secret. That day is the first start of a program that knows
//! of them: a database of before is started once with the secret that it has.

use std::fmt::{self, Write as _};
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use hmac::{Hmac, Mac as _};
use rand::Rng as _;
use sha2::Sha256;

use super::seal;
use super::token::{Claims, Refused, Signer};
use crate::config::{Config, Secret};
use crate::db::{Db, lasting_keys};

/// All keys of a process. Every replica with the same secrets has the same.
pub struct Keys {
    /// What makes new things, and what is accepted besides.
    sets: Vec<KeySet>,
    secret_identity: [u8; 32],
    idempotency: [u8; 32],
}

/// The keys of one secret.
struct KeySet {
    /// Names the secret, and gives nothing of it away.
    id: String,
    signer: Signer,
    webhooks: [u8; 32],
    source_credentials: [u8; 32],
    push_nonces: [u8; 32],
    /// Seals the keys that outlive the secret.
    lasting: [u8; 32],
}

impl KeySet {
    /// HMAC-SHA-256 of the secret over a label (the expand step of HKDF, RFC 5869, for
    /// one block).
    fn derive(secret: &Secret) -> Self {
        let key = |label: &[u8]| hmac(secret.0.as_bytes(), &[label]);
        let id = hex(&key(b"sluice/key-id"))[..16].to_owned();
        Self {
            signer: Signer::new(&key(b"sluice/jwt"), &id),
            id,
            webhooks: key(b"sluice/webhooks"),
            source_credentials: key(b"sluice/source-credentials"),
            push_nonces: key(b"sluice/push-nonces"),
            lasting: key(b"sluice/lasting-keys"),
        }
    }
}

/// Names of the keys that outlive the secret, which stand in the database.
const SECRET_IDENTITY: &str = "secret-identity";
const IDEMPOTENCY: &str = "idempotency";

/// No secret of this process opens the keys that the database keeps.
#[derive(Debug, thiserror::Error)]
#[error(
    "this database was used with another signing secret: set SLUICE_JWT_SECRET to it, or name it \
     in SLUICE_JWT_SECRETS_ACCEPTED; if it is lost, `sluice reseal --lost` begins anew"
)]
pub struct OtherSecret;

impl Keys {
    /// The keys of a secret on a database that was never used.
    pub fn derive(secret: &Secret) -> Self {
        Self::with(secret, &[])
    }

    /// The same, with secrets that are accepted besides.
    pub fn with(secret: &Secret, accepted: &[Secret]) -> Self {
        let mut sets = vec![KeySet::derive(secret)];
        for set in accepted.iter().map(KeySet::derive) {
            if sets.iter().all(|known| known.id != set.id) {
                sets.push(set);
            }
        }
        let text = secret.0.as_bytes();
        Self {
            sets,
            secret_identity: hmac(text, &[b"sluice/secret-identity"]),
            idempotency: hmac(text, &[b"sluice/idempotency"]),
        }
    }

    /// Takes the keys that outlive secrets from the database, and leaves its own there if
    /// it is the first.
    ///
    /// # Errors
    ///
    /// [`OtherSecret`], or those of the database.
    pub async fn keep(mut self, db: &Db) -> anyhow::Result<Self> {
        self.secret_identity = self.kept(db, SECRET_IDENTITY, self.secret_identity).await?;
        self.idempotency = self.kept(db, IDEMPOTENCY, self.idempotency).await?;
        Ok(self)
    }

    async fn kept(&self, db: &Db, name: &str, first: [u8; 32]) -> anyhow::Result<[u8; 32]> {
        let set = self.current();
        let row = match lasting_keys::get(db, name).await? {
            Some(row) => row,
            None => {
                let sealed = seal::seal(&set.lasting, name.as_bytes(), &first)?;
                // Of two that are first at the same time one wins.
                lasting_keys::put_first(db, name, &sealed, &set.id).await?
            }
        };
        self.open_lasting(name, &row.sealed).ok_or_else(|| OtherSecret.into())
    }

    fn open_lasting(&self, name: &str, sealed: &[u8]) -> Option<[u8; 32]> {
        let open = |set: &KeySet| seal::open(&set.lasting, name.as_bytes(), sealed);
        self.sets.iter().find_map(open)?.try_into().ok()
    }

    /// Seals the lasting keys with the current secret, where another one did; answers
    /// how many. What no secret opens is made anew if `lost`.
    ///
    /// # Errors
    ///
    /// [`OtherSecret`], or those of the database.
    pub async fn reseal(&self, db: &Db, lost: bool) -> anyhow::Result<u64> {
        let set = self.current();
        let mut resealed = 0;
        for (name, first) in
            [(SECRET_IDENTITY, self.secret_identity), (IDEMPOTENCY, self.idempotency)]
        {
            let Some(row) = lasting_keys::get(db, name).await? else { continue };
            let key = match self.open_lasting(name, &row.sealed) {
                Some(_) if row.sealed_by == set.id => continue,
                Some(key) => key,
                None if lost => first,
                None => return Err(OtherSecret.into()),
            };
            let sealed = seal::seal(&set.lasting, name.as_bytes(), &key)?;
            lasting_keys::replace(db, name, &sealed, &set.id).await?;
            resealed += 1;
        }
        Ok(resealed)
    }

    fn current(&self) -> &KeySet {
        // There is one by construction.
        &self.sets[0]
    }

    pub(super) fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        self.current().signer.sign(claims)
    }

    /// Of one secret the token is, if it is ours; which one its signature tells.
    pub(super) fn check(&self, token: &str) -> Result<Claims, Refused> {
        let mut outcome = Err(Refused::Invalid);
        for set in &self.sets {
            outcome = set.signer.check(token);
            if outcome != Err(Refused::Invalid) {
                break;
            }
        }
        outcome
    }

    /// Key of the identities by which the secrets engine knows a secret again
    /// without keeping it.
    pub fn secret_identity(&self) -> &[u8; 32] {
        &self.secret_identity
    }

    /// Key of what is kept for `Idempotency-Key`.
    pub fn idempotency(&self) -> &[u8; 32] {
        &self.idempotency
    }

    /// Keys under which the secrets of webhooks are kept; the first one seals.
    pub fn webhooks(&self) -> Vec<&[u8; 32]> {
        self.sets.iter().map(|set| &set.webhooks).collect()
    }

    /// Keys of the nonces of signed pushes; the first one makes them.
    pub fn push_nonces(&self) -> Vec<&[u8; 32]> {
        self.sets.iter().map(|set| &set.push_nonces).collect()
    }

    /// Keys of the credentials of private repositories; the first one seals.
    pub fn source_credentials(&self) -> Vec<&[u8; 32]> {
        self.sets.iter().map(|set| &set.source_credentials).collect()
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
                "{} holds no signing secret of at least 32 characters; restore it (if it is lost, \
                 remove it and run `sluice reseal --lost`, which makes a new one)",
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

    #[test]
    fn new_things_are_made_with_one_secret_and_several_are_accepted() {
        let (old, new) = (Secret("x".repeat(32)), Secret("y".repeat(32)));
        let (user, session) = (uuid::Uuid::now_v7(), uuid::Uuid::now_v7());
        let at = crate::db::now() / 1_000_000;
        let claims = Claims::new(user, session, at);
        let sign = |keys: &Keys| keys.sign(&claims).unwrap();
        let before = Keys::derive(&old);
        let prepared = Keys::with(&old, std::slice::from_ref(&new));
        let rotated = Keys::with(&new, &[old.clone(), new.clone()]);
        let after = Keys::derive(&new);
        assert_eq!(rotated.sets.len(), 2);
        // Neighbours in time accept each other's tokens.
        for (one, other) in [(&before, &prepared), (&prepared, &rotated), (&rotated, &after)] {
            assert_eq!(other.check(&sign(one)), Ok(claims.clone()));
        }
        assert_eq!(prepared.check(&sign(&rotated)), Ok(claims.clone()));
        assert_eq!(before.check(&sign(&rotated)), Err(Refused::Invalid));
        assert_eq!(after.check(&sign(&prepared)), Err(Refused::Invalid));
        let late = Claims::new(user, session, at - 10_000);
        assert_eq!(rotated.check(&prepared.sign(&late).unwrap()), Err(Refused::Expired));
        let kid = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
        assert_eq!(kid(&sign(&prepared)), prepared.sets[0].id);
        assert_ne!(kid(&sign(&prepared)), kid(&sign(&rotated)));
        for (seals, opens) in [
            (prepared.webhooks(), rotated.webhooks()),
            (prepared.source_credentials(), rotated.source_credentials()),
            (prepared.push_nonces(), rotated.push_nonces()),
        ] {
            assert!(opens.contains(&seals[0]) && opens[0] != seals[0]);
        }
    }

    #[tokio::test]
    async fn keys_that_outlive_secrets_are_those_of_the_first_day() {
        let secret = |c: &str| Secret(c.repeat(32));
        for test in crate::db::testing::both().await {
            let db = &test.db;
            let first = Keys::derive(&secret("x")).keep(db).await.unwrap();
            let (identity, idempotency) = (first.secret_identity, first.idempotency);
            assert_eq!(identity, Keys::derive(&secret("x")).secret_identity);
            let other = Keys::derive(&secret("y")).keep(db).await.unwrap_err();
            assert!(other.is::<OtherSecret>(), "{other}");

            let next = Keys::with(&secret("y"), &[secret("x")]).keep(db).await.unwrap();
            assert_eq!((next.secret_identity, next.idempotency), (identity, idempotency));
            assert_eq!(next.reseal(db, false).await.unwrap(), 2);
            assert_eq!(next.reseal(db, false).await.unwrap(), 0);
            let alone = Keys::derive(&secret("y")).keep(db).await.unwrap();
            assert_eq!((alone.secret_identity, alone.idempotency), (identity, idempotency));

            let lost = Keys::derive(&secret("z"));
            assert!(lost.reseal(db, false).await.unwrap_err().is::<OtherSecret>());
            assert_eq!(lost.reseal(db, true).await.unwrap(), 2);
            let anew = Keys::derive(&secret("z")).keep(db).await.unwrap();
            assert_ne!(anew.secret_identity, identity);
        }
    }
}
