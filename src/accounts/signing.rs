//! Signatures of pushes: keys of SSH, and what they have signed
//! ([SSHSIG](https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.sshsig)).
//!
//! No program is started and no file is written: key, text and signature all come from
//! outside. A signature proves that whoever holds the key signed this text for git; whose
//! key it is says the account that has registered it.

use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, LineEnding, PublicKey, SshSig};

/// What git signs for. A signature made for something else does not count.
const NAMESPACE: &str = "git";

/// Bytes of a line with a public key; one of RSA with 16,384 bits takes 2,800.
const MAX_KEY: usize = 8 << 10;

/// Bytes of a signature in its armour.
const MAX_SIGNATURE: usize = 16 << 10;

/// Characters of a line of a signature, as `ssh-keygen` writes it.
const LINE: usize = 70;

/// Bits of the shortest key of RSA that is accepted.
const RSA_BITS: usize = 2048;

/// A public key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Name of the algorithm as SSH writes it.
    pub key_type: String,
    /// The line of an `authorized_keys` file, without options and comment.
    pub line: String,
    /// `SHA256:…`
    pub fingerprint: String,
    /// What stood behind the key, if anything: often `user@host`.
    pub comment: String,
}

impl SigningKey {
    /// Reads the line of a `.pub` file.
    ///
    /// # Errors
    ///
    /// A sentence's end, behind "public_key", that says why it cannot be used.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.contains("PRIVATE KEY") {
            return Err("is a private key: keep it, and send the file that ends in .pub");
        }
        if text.len() > MAX_KEY || text.lines().count() > 1 {
            return Err("must be one public key");
        }
        let key = PublicKey::from_openssh(text).map_err(
            |_| "must be a public key of SSH, such as `ssh-ed25519 AAAA… name`: one line of a .pub file",
        )?;
        usable(key.key_data())?;
        let mut plain = key.clone();
        plain.set_comment("");
        Ok(Self {
            key_type: key.algorithm().as_str().to_owned(),
            line: plain.to_openssh().map_err(|_| "cannot be written again")?.trim().to_owned(),
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
            comment: key.comment().to_owned(),
        })
    }
}

fn usable(key: &KeyData) -> Result<(), &'static str> {
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => Ok(()),
        Algorithm::Ecdsa { curve } => match curve {
            ssh_key::EcdsaCurve::NistP256 | ssh_key::EcdsaCurve::NistP384 => Ok(()),
            ssh_key::EcdsaCurve::NistP521 => Err("uses the curve P-521, which is not checked here"),
        },
        Algorithm::Rsa { .. } => {
            let bits =
                key.rsa().and_then(|rsa| rsa.n.as_positive_bytes()).map_or(0, |n| n.len() * 8);
            if bits < RSA_BITS { Err("is shorter than 2048 bits") } else { Ok(()) }
        }
        _ => Err("is of a kind that is not checked here; use Ed25519, ECDSA or RSA"),
    }
}

/// What a signature says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Whoever holds the key with this fingerprint signed the text.
    Good {
        /// `SHA256:…`
        fingerprint: String,
    },
    /// It is not the signature of this text, or was not made for git.
    Bad,
    /// It is not one that can be checked here: of PGP, of X.509, of another kind of key.
    Unknown,
}

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";

/// Checks the signature of a text.
pub fn verify(text: &[u8], signature: &[u8]) -> Verdict {
    if !signature.starts_with(BEGIN.as_bytes()) {
        return if signature.is_empty() { Verdict::Bad } else { Verdict::Unknown };
    }
    if signature.len() > MAX_SIGNATURE {
        return Verdict::Bad;
    }
    let Some(signature) = read(signature) else { return Verdict::Bad };
    let key = PublicKey::from(signature.public_key().clone());
    if usable(key.key_data()).is_err() {
        return Verdict::Unknown;
    }
    match key.verify(NAMESPACE, text, &signature) {
        Ok(()) => Verdict::Good { fingerprint: key.fingerprint(HashAlg::Sha256).to_string() },
        Err(_) => Verdict::Bad,
    }
}

/// Reads a signature, however its lines are wrapped. The crate passes over a wrong version
/// and wrong lengths; so what it read is written again, and has to be what came.
fn read(armoured: &[u8]) -> Option<SshSig> {
    let text = std::str::from_utf8(armoured).ok()?;
    let body = |text: &str| -> Option<String> {
        let body = text.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
        Some(body.split_ascii_whitespace().collect())
    };
    let came = body(text)?;
    let mut wrapped = format!("{BEGIN}\n");
    for (at, c) in came.chars().enumerate() {
        if at > 0 && at % LINE == 0 {
            wrapped.push('\n');
        }
        wrapped.push(c);
    }
    wrapped.push_str(&format!("\n{END}\n"));
    let signature = SshSig::from_pem(&wrapped).ok()?;
    let again = signature.to_pem(LineEnding::LF).ok()?;
    (signature.version() == SshSig::VERSION && body(&again)? == came).then_some(signature)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn run(folder: &Path, arguments: &[&str]) {
        let out = Command::new("ssh-keygen").args(arguments).current_dir(folder).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    /// A key and a signature of `text`, made by the program that git starts.
    fn signed(kind: &[&str], namespace: &str, text: &[u8]) -> (String, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let new = [&["-q", "-N", "", "-C", "ada@host", "-f", "key"], kind].concat();
        run(folder, &new);
        std::fs::write(folder.join("text"), text).unwrap();
        run(folder, &["-Y", "sign", "-n", namespace, "-f", "key", "text"]);
        let key = std::fs::read_to_string(folder.join("key.pub")).unwrap();
        (key, std::fs::read(folder.join("text.sig")).unwrap())
    }

    #[test]
    fn what_ssh_keygen_signs_is_good_and_nothing_else() {
        for kind in [
            &["-t", "ed25519"][..],
            &["-t", "ecdsa", "-b", "256"],
            &["-t", "ecdsa", "-b", "384"],
            &["-t", "rsa", "-b", "2048"],
        ] {
            let (key, signature) = signed(kind, "git", b"text\n");
            let key = SigningKey::parse(&key).unwrap();
            let fingerprint = key.fingerprint.clone();
            assert_eq!(verify(b"text\n", &signature), Verdict::Good { fingerprint }, "{kind:?}");
            assert_eq!(verify(b"text", &signature), Verdict::Bad, "{kind:?}");
            assert_eq!(verify(b"", &signature), Verdict::Bad);
            assert_eq!(key.comment, "ada@host");
            assert!(key.line.starts_with(&key.key_type) && !key.line.contains("ada"), "{key:?}");
            assert_eq!(SigningKey::parse(&key.line).unwrap().fingerprint, key.fingerprint);
            // However it is wrapped, since not every program wraps alike.
            let wide = String::from_utf8(signature.clone()).unwrap().replace('\n', "\r\n");
            assert!(matches!(verify(b"text\n", wide.as_bytes()), Verdict::Good { .. }));
            // Every character of it counts.
            let text = String::from_utf8(signature).unwrap();
            for (at, was) in text.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric()) {
                let other = if was == 'A' { "B" } else { "A" };
                let broken = format!("{}{other}{}", &text[..at], &text[at + 1..]);
                let verdict = verify(b"text\n", broken.as_bytes());
                let good = matches!(&verdict, Verdict::Good { fingerprint: print }
                    if *print == key.fingerprint);
                assert!(!good, "{kind:?} at {at}: {text}");
            }
        }
    }

    #[test]
    fn signatures_for_something_else_do_not_count() {
        let (_, signature) = signed(&["-t", "ed25519"], "file", b"text\n");
        assert_eq!(verify(b"text\n", &signature), Verdict::Bad);
        assert_eq!(verify(b"text\n", b""), Verdict::Bad);
        assert_eq!(verify(b"text\n", b"-----BEGIN PGP SIGNATURE-----\nx"), Verdict::Unknown);
        assert_eq!(verify(b"text\n", b"-----BEGIN SSH SIGNATURE-----\nx"), Verdict::Bad);
    }

    #[test]
    fn only_public_keys_that_can_be_checked_are_taken() {
        for (text, says) in [
            ("", "must be a public key"),
            ("ssh-ed25519 AAAA", "must be a public key"),
            ("a\nb", "one public key"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", "private key"),
            (&"x".repeat(9000), "one public key"),
        ] {
            let said = SigningKey::parse(text).unwrap_err();
            assert!(said.contains(says), "{text:?}: {said}");
        }
        let (key, signature) = signed(&["-t", "rsa", "-b", "1024"], "git", b"x");
        assert!(SigningKey::parse(&key).unwrap_err().contains("2048"));
        assert_eq!(verify(b"x", &signature), Verdict::Unknown);
    }
}
