//! Signed pushes, hidden refs, and what a push leaves in the log.

use std::path::Path;

use serde_json::{Value, json};

use crate::on_both;
use crate::support::client::text;
use crate::support::{Client, Git, Place, Work, samples, until};

on_both!(the_signer_of_a_push_is_shown);

/// A key without a pass phrase, and its public half.
fn key(folder: &Path, name: &str) -> String {
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "ada@laptop", "-f", name])
        .current_dir(folder)
        .status()
        .expect("ssh-keygen runs");
    assert!(made.success());
    std::fs::read_to_string(folder.join(format!("{name}.pub"))).expect("a public key")
}

async fn signed(work: &Work, key: &Path, url: &str, more: &[&str]) -> crate::support::git::Said {
    let key = format!("user.signingKey={}", key.display());
    let args = ["-c", "gpg.format=ssh", "-c", &key, "push", "--signed=yes"];
    let args: Vec<&str> = args.iter().chain(more).copied().chain([url, "main"]).collect();
    work.run(&args).await
}

async fn shown(client: &Client, made: &Value) -> Value {
    client.get(&format!("/v1/git-uploads/{}", text(&made["id"]))).await.expect(200).json()
}

async fn the_signer_of_a_push_is_shown(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    let keys = tempfile::tempdir().expect("a temporary folder");
    let line = key(keys.path(), "known");
    key(keys.path(), "stranger");
    let body = json!({"name": "laptop", "public_key": line});
    let made = client.post("/v1/signing-keys/", body.clone()).await.expect(201).json();
    client.post("/v1/signing-keys/", body).await.problem(409, "key_exists");
    let fingerprint = text(&made["fingerprint"]);
    assert!(fingerprint.starts_with("SHA256:") && made["key_type"] == "ssh-ed25519", "{made}");
    assert_eq!(client.all("/v1/signing-keys").await, std::slice::from_ref(&made));
    let wrong = json!({"name": "x", "public_key": "nonsense"});
    client.post("/v1/signing-keys/", wrong).await.problem(422, "validation_failed");

    for git in Git::all() {
        let upload = client.upload(json!({"scan": false})).await;
        let url = text(&upload["push_url"]);
        let work = samples::small(&git).await;
        signed(&work, &keys.path().join("known"), &url, &["-o", "no-scan"]).await.expect();
        let signer = shown(&client, &upload).await["signed_by"].clone();
        let told = (&signer["status"], &signer["name"], &signer["fingerprint"]);
        assert_eq!(
            told,
            (&json!("good"), &json!("laptop"), &json!(fingerprint)),
            "{}",
            git.version
        );
        assert!(
            text(&signer["pusher"]).contains("ada@example.org")
                || !text(&signer["pusher"]).is_empty()
        );

        work.write("a", "1\n");
        work.commit("by somebody else").await;
        signed(&work, &keys.path().join("stranger"), &url, &[]).await.expect();
        let signer = shown(&client, &upload).await["signed_by"].clone();
        assert_eq!((&signer["status"], &signer["name"]), (&json!("unknown_key"), &Value::Null));
        assert_ne!(signer["fingerprint"], json!(fingerprint));

        work.write("a", "2\n");
        work.commit("by nobody").await;
        work.push(&url, &["main"]).await.expect();
        assert_eq!(shown(&client, &upload).await["signed_by"], Value::Null);
    }
    let path = format!("/v1/signing-keys/{}", text(&made["id"]));
    client.delete(&path).await.expect(204);
    client.delete(&path).await.problem(404, "not_found");
}

/// A program that signs as `gpg` would be asked to, in a way of its own.
fn forger(folder: &Path, name: &str, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let program = folder.join(name);
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
    program.to_str().expect("UTF-8").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_signatures_are_kept_and_wrong_ones_refused() {
    let place = Place::sqlite();
    let server = place.start().await;
    let client = server.admin().await;
    let keys = tempfile::tempdir().expect("a temporary folder");
    key(keys.path(), "known");
    let pgp = forger(
        keys.path(),
        "pgp",
        "cat >/dev/null; echo '[GNUPG:] SIG_CREATED ' >&2; \
         printf -- '-----BEGIN PGP SIGNATURE-----\\n\\nabc\\n-----END PGP SIGNATURE-----\\n'",
    );
    // Signs something else than what it is given.
    let other = forger(
        keys.path(),
        "other",
        "for file; do :; done; echo more >> \"$file\"; exec ssh-keygen \"$@\"",
    );
    for git in Git::all() {
        let upload = client.upload(json!({"scan": false})).await;
        let url = text(&upload["push_url"]);
        let work = samples::small(&git).await;
        let key = format!("user.signingKey={}", keys.path().join("known").display());
        let program = format!("gpg.ssh.program={other}");
        let args = [
            "-c",
            "gpg.format=ssh",
            "-c",
            &key,
            "-c",
            &program,
            "push",
            "--signed=yes",
            &url,
            "main",
        ];
        work.run(&args).await.refused("not that of what it pushes");
        let now = shown(&client, &upload).await;
        assert_eq!((&now["pushes"], &now["signed_by"]), (&json!(0), &Value::Null));

        let program = format!("gpg.program={pgp}");
        let args =
            ["-c", &program, "-c", "user.signingKey=x", "push", "--signed=yes", &url, "main"];
        work.run(&args).await.expect();
        let signer = shown(&client, &upload).await["signed_by"].clone();
        assert_eq!(
            (&signer["status"], &signer["fingerprint"]),
            (&json!("unverified"), &Value::Null)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_refs_stay_hidden_and_the_log_names_the_client() {
    let place = Place::sqlite();
    let server = place.start().await;
    let client = server.admin().await;
    for git in Git::all() {
        let upload = client.upload(json!({"scan": false})).await;
        let url = text(&upload["push_url"]);
        let work = samples::small(&git).await;
        let said = work.push(&url, &["main", "main:refs/_internal/x"]).await;
        said.refused("deny updating a hidden ref");
        let refs = shown(&client, &upload).await["refs"].clone();
        assert_eq!(refs.as_array().map(Vec::len), Some(1), "{refs}");
        let listed = work.run(&["ls-remote", &url]).await.expect();
        assert!(!listed.out.contains("_internal"), "{}", listed.out);
        // Progress is left out on demand, results are not.
        work.write("a", "1\n");
        work.commit("quietly").await;
        let said = work
            .run(&["-c", "transfer.advertiseSID=true", "push", "-q", &url, "main"])
            .await
            .expect();
        assert!(!said.err.contains("ingesting"), "{}", said.err);
        let agent = format!("git/{}", git.version.split(' ').nth(2).expect("a version"));
        until("the log tells of the push", async || {
            let log = server.log();
            let mut lines = log.lines().filter(|line| line.contains("push ends"));
            lines.any(|line| line.contains(&agent) && line.contains("client_session")).then_some(())
        })
        .await;
    }
}
