//! Signed pushes, with SSH keys and the real `ssh-keygen`.

use std::{fs, process::Command};

use crate::{
    git::{Clone, Git, each, versions},
    support::{Server, hook, work},
};

/// A working copy that signs with a key of its own, and the public key.
fn signer(server: &Server) -> (Clone, String) {
    let clone = work(server);
    let key = clone.folder.path().join(".git/key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "ada@example.com", "-f"])
        .arg(&key)
        .status()
        .unwrap();
    assert!(made.success());
    clone.git(&["config", "gpg.format", "ssh"]).succeeds();
    clone.git(&["config", "user.signingKey", key.to_str().unwrap()]).succeeds();
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    (clone, public)
}

fn server() -> Server {
    server_for(versions().pop().unwrap())
}

fn server_for(git: Git) -> Server {
    let server = Server::for_git(git, &["--run-hooks"]);
    server.create("repo.git", &[]);
    server.set(&[
        ("http.receivepack", "true"),
        ("receive.certNonceSeed", "sekrit"),
        ("receive.certNonceSlop", "60"),
        ("receive.advertisePushOptions", "true"),
    ]);
    let show = "git cat-file blob $GIT_PUSH_CERT > cert.txt; \
                echo $GIT_PUSH_CERT_STATUS,$GIT_PUSH_CERT_SIGNER,$GIT_PUSH_CERT_NONCE_STATUS,\
                $GIT_PUSH_CERT_KEY";
    hook(&server, "pre-receive", show);
    server
}

#[test]
fn the_certificate_is_kept_and_its_signer_told() {
    each(|git| kept_and_told(git.clone()));
}

fn kept_and_told(git: Git) {
    let server = server_for(git);
    let (clone, public) = signer(&server);
    let push = |arguments: &[&str]| {
        clone.push(&server.url(), &[&["--signed=true", "-o", "x y"], arguments].concat())
    };
    // Nobody vouches for the key.
    push(&["main"]).succeeds().says("remote: U,,OK,SHA256:");
    let certificate = fs::read_to_string(server.folder().join("cert.txt")).unwrap();
    assert!(certificate.starts_with("certificate version 0.1\npusher "), "{certificate}");
    assert!(certificate.contains("push-option x y\n"), "{certificate}");
    assert!(certificate.contains(" refs/heads/main\n-----BEGIN SSH SIGNATURE"), "{certificate}");
    fs::write(server.folder().join("signers"), format!("ada@example.com {public}")).unwrap();
    server.set(&[("gpg.ssh.allowedSignersFile", "signers")]);
    push(&["main:b", ":b"]).fails();
    push(&["main:b"]).succeeds().says("remote: G,ada@example.com,OK,SHA256:");
    push(&[":b"]).succeeds().says("remote: G,ada@example.com,OK,");
    // Without --signed it is an ordinary push.
    clone.push(&server.url(), &["main:c"]).succeeds().says("remote: ,,,");
    server.sound();
}

#[test]
fn signed_pushes_are_offered_if_there_is_a_seed() {
    let server = server();
    let (clone, _) = signer(&server);
    server.ask(&["config", "--unset", "receive.certNonceSeed"]);
    let run = clone.push(&server.url(), &["--signed=true", "main"]);
    run.fails().says("does not support --signed push");
    clone.push(&server.url(), &["--signed=if-asked", "main"]).succeeds();
}

/// Sends the certificate of an earlier push again.
fn again(server: &Server, change: impl Fn(String) -> String) -> String {
    let certificate = fs::read_to_string(server.folder().join("cert.txt")).unwrap();
    let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let mut body = line("push-cert\0 report-status push-options object-format=sha1");
    for text in change(certificate).split_inclusive('\n') {
        body.push_str(&line(text));
    }
    body += &(line("push-cert-end\n") + "0000" + &line("x y") + "0000");
    let file = server.root.path().join("again");
    fs::write(&file, body).unwrap();
    let output = Command::new("curl")
        .args(["-s", "-m", "60", "-H", "Content-Type: application/x-git-receive-pack-request"])
        .args(["--data-binary", &format!("@{}", file.display())])
        .arg(format!("{}/git-receive-pack", server.url()))
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn old_and_changed_certificates_are_known_as_such() {
    let server = server();
    let (clone, _) = signer(&server);
    clone.push(&server.url(), &["main", "main:b"]).succeeds();
    let log =
        "echo $GIT_PUSH_CERT_STATUS,$GIT_PUSH_CERT_NONCE_STATUS,$GIT_PUSH_CERT_NONCE_SLOP >> log";
    let keep = "test -n \"$GIT_PUSH_CERT\" && git cat-file blob $GIT_PUSH_CERT > cert.txt";
    hook(&server, "pre-receive", &format!("{log}; {keep}; exit 0"));
    clone.push(&server.url(), &["--signed=true", "-o", "x y", ":b"]).succeeds();
    let original = fs::read_to_string(server.folder().join("cert.txt")).unwrap();
    let restore = || {
        let id = server.id("main");
        server.ask(&["update-ref", "refs/heads/b", &id]);
        fs::write(server.folder().join("cert.txt"), &original).unwrap();
    };
    for (change, says) in [
        (Box::new(|text: String| text) as Box<dyn Fn(String) -> String>, "U,OK,"),
        (Box::new(|text: String| text.replace("pushee", "pushee x")), "B,OK,"),
        (Box::new(|text: String| text.replace("nonce 1", "nonce 9")), "B,BAD,"),
        (Box::new(|text: String| text.replace("nonce", "nonsense")), "B,MISSING,"),
        (Box::new(|text: String| text.split("-----").next().unwrap().to_owned()), "N,OK,"),
    ] {
        restore();
        let answer = again(&server, change);
        assert!(answer.contains("ok refs/heads/b"), "{answer}");
        let log = fs::read_to_string(server.folder().join("log")).unwrap();
        assert_eq!(log.lines().last(), Some(says));
    }
    // Later than is allowed, it is only a proof of what was once meant.
    restore();
    server.ask(&["config", "receive.certNonceSlop", "0"]);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    again(&server, |text| text);
    let log = fs::read_to_string(server.folder().join("log")).unwrap();
    assert!(log.lines().last().unwrap().starts_with("U,SLOP,"), "{log}");

    restore();
    let answer = again(&server, |text| text.replace("push-option x y", "push-option z"));
    assert!(answer.contains("inconsistent push options"), "{answer}");
    let answer = again(&server, |text| text.replace("\n\n", "\n"));
    assert!(answer.contains("malformed push certificate"), "{answer}");
    server.sound();
}
