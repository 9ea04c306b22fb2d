//! Who signed a push, found out as git does: by `ssh-keygen` or `gpg`, with the keys of the operator.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use sluice_git::Certificate;

/// What is known about a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// As git abbreviates it: `G` is good, `U` good from a key that nobody vouches for, `B` bad,
    /// `E` cannot be checked, `N` not there.
    pub status: char,
    pub name: String,
    /// The fingerprint or the id of the key.
    pub key: String,
}

impl Default for Signer {
    fn default() -> Self {
        Self { status: 'N', name: String::new(), key: String::new() }
    }
}

/// Checks the signature. Blocking.
pub fn verify(certificate: &Certificate, allowed_signers: Option<&Path>) -> Signer {
    let signature = certificate.signature();
    let checked = if signature.is_empty() {
        return Signer::default();
    } else if signature.starts_with(b"-----BEGIN SSH SIGNATURE-----") {
        ssh(certificate.payload(), signature, allowed_signers)
    } else {
        gpg(certificate.payload(), signature)
    };
    checked.unwrap_or_else(|| Signer { status: 'E', ..Signer::default() })
}

fn ssh(payload: &[u8], signature: &[u8], allowed_signers: Option<&Path>) -> Option<Signer> {
    let file = write(signature)?;
    let keygen = |arguments: &[&str]| {
        let mut command = Command::new("ssh-keygen");
        command.arg("-Y").args(arguments).arg("-s").arg(file.path());
        command
    };
    if let Some(allowed) = allowed_signers.and_then(Path::to_str) {
        let (_, principals) = run(&mut keygen(&["find-principals", "-f", allowed]), b"")?;
        for principal in principals.lines() {
            let arguments = ["verify", "-n", "git", "-f", allowed, "-I", principal];
            let (good, text) = run(&mut keygen(&arguments), payload)?;
            if good && text.starts_with("Good \"git\" signature for ") {
                return Some(Signer { status: 'G', name: principal.into(), key: key(&text) });
            }
        }
    }
    let (good, text) = run(&mut keygen(&["check-novalidate", "-n", "git"]), payload)?;
    let status = if good { 'U' } else { 'B' };
    Some(Signer { status, name: String::new(), key: key(&text) })
}

/// `… with ED25519 key SHA256:…`
fn key(text: &str) -> String {
    text.split_whitespace().find(|word| word.starts_with("SHA256:")).unwrap_or_default().to_owned()
}

fn gpg(payload: &[u8], signature: &[u8]) -> Option<Signer> {
    let file = write(signature)?;
    let mut command = Command::new("gpg");
    command.args(["--status-fd=1", "--keyid-format=long", "--verify"]).arg(file.path()).arg("-");
    let (_, text) = run(&mut command, payload)?;
    let mut signer = Signer { status: 'E', ..Signer::default() };
    for line in text.lines().filter_map(|line| line.strip_prefix("[GNUPG:] ")) {
        let mut words = line.splitn(3, ' ');
        let (word, key, name) = (words.next()?, words.next(), words.next());
        let status = match word {
            "GOODSIG" => 'G',
            "BADSIG" => 'B',
            "EXPSIG" => 'X',
            "EXPKEYSIG" => 'Y',
            "REVKEYSIG" => 'R',
            "TRUST_UNDEFINED" | "TRUST_NEVER" if signer.status == 'G' => {
                signer.status = 'U';
                continue;
            }
            _ => continue,
        };
        let (key, name) = (key.unwrap_or_default().into(), name.unwrap_or_default().into());
        signer = Signer { status, name, key };
    }
    Some(signer)
}

fn write(signature: &[u8]) -> Option<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new().ok()?;
    file.write_all(signature).ok()?;
    Some(file)
}

/// Whether a program succeeds, and what it prints.
fn run(command: &mut Command, input: &[u8]) -> Option<(bool, String)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut stdin = child.stdin.take()?;
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().ok()?;
    let _ = writer.join();
    Some((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
}
