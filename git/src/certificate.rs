//! Signed pushes: a certificate that says who pushes what, signed by the client.
//!
//! ```text
//! certificate version 0.1
//! pusher <identity> <time>
//! pushee <url>                        what the client thinks it pushes to
//! nonce <nonce>                       what we advertised
//! push-option <option>                each option again
//!
//! <old> <new> <ref>                   the commands, which stand nowhere else
//! -----BEGIN SSH SIGNATURE-----       or of PGP, or of X.509
//! ```
//!
//! The nonce keeps somebody who has seen a certificate from sending it again. Over HTTP the request
//! that brings it is not the one that was given it, so it is made of the time and a keyed hash
//! ([`Nonces`]), and whoever knows the key can tell how old it is. Whether the signature is good, and
//! whose it is, is for the [`crate::Repository`] to find out: it knows the keys.
//! ([git push, --signed](https://git-scm.com/docs/git-push#Documentation/git-push.txt---signed))

use std::{
    fmt,
    ops::Range,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// How signatures begin. The last of these in a certificate ends what is signed.
const SIGNATURES: [&[u8]; 4] = [
    b"-----BEGIN PGP SIGNATURE-----",
    b"-----BEGIN PGP MESSAGE-----",
    b"-----BEGIN SIGNED MESSAGE-----",
    b"-----BEGIN SSH SIGNATURE-----",
];

/// Makes nonces and knows them again.
#[derive(Clone)]
pub struct Nonces {
    seed: Vec<u8>,
    /// Seeds of nonces that others made.
    accepted: Vec<Vec<u8>>,
    scope: String,
    slop: Duration,
}

impl fmt::Debug for Nonces {
    /// Without the seed, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nonces")
            .field("scope", &self.scope)
            .field("slop", &self.slop)
            .finish_non_exhaustive()
    }
}

impl Nonces {
    /// `seed` is a secret; `scope` names the repository, so that a certificate counts for no other.
    /// A nonce that is not older than `slop` is as good as the current one.
    pub fn new(seed: impl Into<Vec<u8>>, scope: impl Into<String>, slop: Duration) -> Self {
        Self { seed: seed.into(), accepted: Vec::new(), scope: scope.into(), slop }
    }

    /// Nonces made with this seed are good too, while a secret is changed for another one.
    #[must_use]
    pub fn accepting(mut self, seed: impl Into<Vec<u8>>) -> Self {
        self.accepted.push(seed.into());
        self
    }

    /// The nonce of this moment.
    pub(crate) fn current(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.at(&self.seed, now.as_secs())
    }

    /// `<seconds since 1970>-<hash>`
    fn at(&self, seed: &[u8], seconds: u64) -> String {
        // A key of any length is accepted.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(seed) else {
            return String::new();
        };
        mac.update(format!("{}:{seconds}", self.scope).as_bytes());
        let hash = BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        format!("{seconds}-{hash}")
    }

    /// What a nonce that came back says.
    pub(crate) fn judge(&self, nonce: Option<&str>) -> NonceStatus {
        let Some(nonce) = nonce else {
            return NonceStatus::Missing;
        };
        let issued = nonce.split_once('-').and_then(|(seconds, _)| seconds.parse::<u64>().ok());
        let Some(issued) = issued else {
            return NonceStatus::Bad;
        };
        let seeds = std::iter::once(&self.seed).chain(&self.accepted);
        let ours =
            |seed: &Vec<u8>| bool::from(self.at(seed, issued).as_bytes().ct_eq(nonce.as_bytes()));
        if !seeds.into_iter().any(ours) {
            return NonceStatus::Bad;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let age = now as i64 - issued as i64;
        if age == 0 || age.unsigned_abs() <= self.slop.as_secs() {
            NonceStatus::Ok
        } else {
            NonceStatus::Slop { seconds: age }
        }
    }
}

/// What is known about the nonce of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonceStatus {
    /// There is none.
    Missing,
    /// It was not made here, or not for this repository.
    Bad,
    /// It was made here, a moment ago.
    Ok,
    /// It was made here, longer ago than is allowed.
    Slop {
        /// So many seconds ago; negative if a clock was set back.
        seconds: i64,
    },
}

impl NonceStatus {
    /// The word in `GIT_PUSH_CERT_NONCE_STATUS`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Missing => "MISSING",
            Self::Bad => "BAD",
            Self::Ok => "OK",
            Self::Slop { .. } => "SLOP",
        }
    }
}

/// The certificate of a push.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    bytes: Vec<u8>,
    /// How many of the bytes are signed.
    signed: usize,
    /// Who pushes, as they say themselves.
    pub pusher: String,
    /// The address they push to, as they say.
    pub pushee: Option<String>,
    /// The nonce that they were given.
    pub nonce: Option<String>,
    /// What that says.
    pub nonce_status: NonceStatus,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("pusher", &self.pusher)
            .field("nonce_status", &self.nonce_status)
            .finish_non_exhaustive()
    }
}

impl Certificate {
    /// All of it, to be kept.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The part that is signed.
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(..self.signed).unwrap_or_default()
    }

    /// The signature; empty if there is none.
    pub fn signature(&self) -> &[u8] {
        self.bytes.get(self.signed..).unwrap_or_default()
    }
}

/// What stands in a certificate.
pub(crate) struct Parsed {
    pub certificate: Certificate,
    pub options: Vec<String>,
    /// Where the lines of the commands stand.
    commands: Range<usize>,
}

impl Parsed {
    /// The lines of the commands, cut as they are read: a line may be a single byte.
    pub fn commands(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.certificate.bytes.get(self.commands.clone()).unwrap_or_default();
        lines.split(|byte| *byte == b'\n')
    }
}

/// Reads a certificate; `None` if it is none. Of the options it keeps one more than `max_options`, so
/// that more than there may be are noticed.
pub(crate) fn parse(bytes: Vec<u8>, nonces: &Nonces, max_options: usize) -> Option<Parsed> {
    let signed = signature_at(&bytes);
    let payload = bytes.get(..signed)?;
    let headers = payload.windows(2).position(|pair| pair == b"\n\n")?;
    let (headers, commands) = payload.split_at_checked(headers)?;
    let headers = std::str::from_utf8(headers).ok()?;
    let mut lines = headers.lines();
    if lines.next() != Some("certificate version 0.1") {
        return None;
    }
    let (mut pusher, mut pushee, mut nonce, mut options) = (None, None, None, Vec::new());
    for line in lines {
        let (key, value) = line.split_once(' ')?;
        match key {
            "pusher" if pusher.is_none() => pusher = Some(value.to_owned()),
            "pushee" if pushee.is_none() => pushee = Some(value.to_owned()),
            "nonce" if nonce.is_none() => nonce = Some(value.to_owned()),
            "push-option" if options.len() > max_options => {}
            "push-option" => options.push(value.to_owned()),
            // A key twice would let two readers read two things.
            "pusher" | "pushee" | "nonce" => return None,
            _ => {}
        }
    }
    let commands = commands.get(2..)?;
    let ended = commands.ends_with(b"\n");
    let commands = signed - commands.len()..signed - usize::from(ended);
    let nonce_status = nonces.judge(nonce.as_deref());
    let pusher = pusher?;
    let certificate = Certificate { bytes, signed, pusher, pushee, nonce, nonce_status };
    Some(Parsed { certificate, options, commands })
}

/// Where the last signature begins.
fn signature_at(bytes: &[u8]) -> usize {
    let mut at = 0;
    let mut found = bytes.len();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if SIGNATURES.iter().any(|begin| line.starts_with(begin)) {
            found = at;
        }
        at += line.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonces(slop: u64) -> Nonces {
        Nonces::new("secret", "a/b", Duration::from_secs(slop))
    }

    fn now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
    }

    #[test]
    fn nonces_are_known_again_and_age() {
        let nonces = nonces(60);
        assert_eq!(nonces.judge(Some(&nonces.current())), NonceStatus::Ok);
        assert_eq!(nonces.judge(Some(&nonces.at(b"secret", now() - 30))), NonceStatus::Ok);
        let old = nonces.judge(Some(&nonces.at(b"secret", now() - 100)));
        assert!(matches!(old, NonceStatus::Slop { seconds: 100..=102 }), "{old:?}");
        assert_eq!(nonces.judge(None), NonceStatus::Missing);
        let other = Nonces::new("secret", "a/c", Duration::from_secs(60));
        for bad in ["", "x", "1-", "1-abc", "-", &other.current(), "99999999999999999999999-a"] {
            assert_eq!(nonces.judge(Some(bad)), NonceStatus::Bad, "{bad}");
        }
        assert!(!format!("{nonces:?}").contains("secret"));
        let next = Nonces::new("next", "a/b", Duration::from_secs(60)).accepting("secret");
        assert_eq!(next.judge(Some(&nonces.current())), NonceStatus::Ok);
        assert_eq!(next.judge(Some(&next.current())), NonceStatus::Ok);
        assert_eq!(nonces.judge(Some(&next.current())), NonceStatus::Bad);
    }

    const COMMAND: &str = "0 1 refs/heads/main";

    #[test]
    fn a_certificate_has_parts() {
        let text = format!(
            "certificate version 0.1\npusher A <a@b> 1 +0000\npushee http://x\nnonce 1-a\n\
             push-option a b\n\n{COMMAND}\n{COMMAND}\n-----BEGIN SSH SIGNATURE-----\nxyz\n"
        );
        let parse = |text: &str| super::parse(text.into(), &nonces(0), 1);
        let parsed = parse(&text).unwrap();
        assert_eq!(parsed.options, ["a b"]);
        let commands: Vec<&[u8]> = parsed.commands().collect();
        assert_eq!(commands, [COMMAND.as_bytes(), COMMAND.as_bytes()]);
        let certificate = parsed.certificate;
        assert_eq!(certificate.pusher, "A <a@b> 1 +0000");
        assert_eq!(certificate.nonce_status, NonceStatus::Bad);
        assert!(certificate.signature().starts_with(b"-----BEGIN SSH"));
        assert!(certificate.payload().ends_with(b"main\n"));
        for (from, to) in [
            ("version 0.1", "version 7"),
            ("pusher A", "nobody A"),
            ("pushee http://x", "nonce 2-b"),
            ("push-option a b\n\n", "push-option a b\n"),
            ("nonce 1-a", "nonce"),
        ] {
            assert!(parse(&text.replace(from, to)).is_none(), "{from}");
        }
        let unsigned = parse(&text.replace("-----BEGIN", "nothing"));
        assert_eq!(unsigned.unwrap().certificate.signature(), b"");
        let many = text.replace("push-option a b\n", &"push-option a b\n".repeat(1000));
        assert_eq!(parse(&many).unwrap().options.len(), 2, "enough to see that it is too many");
    }
}
