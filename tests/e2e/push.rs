//! What a user of git sees, with every git of this machine.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use crate::on_both;
use crate::support::client::text;
use crate::support::{Client, Git, Place, Server, Work, samples, until};

on_both!(credentials, refs_of_every_kind);

/// The push URL with other credentials.
fn url_with(made: &Value, server: &Server, user: &str, password: &str) -> String {
    let host = server.address.strip_prefix("http://").expect("http");
    format!("http://{user}:{password}@{host}/git/{}.git", text(&made["id"]))
}

async fn untouched(client: &Client, made: &Value) {
    let now =
        client.get(&format!("/v1/git-uploads/{}", text(&made["id"]))).await.expect(200).json();
    assert_eq!((&now["pushes"], &now["refs"]), (&json!(0), &json!([])), "{now}");
    assert_eq!(now["repository_id"], Value::Null, "{now}");
}

async fn credentials(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    place.run(&["user", "add", "eve@example.org", "--password-stdin"], "a long password\n").await;
    let eve = server.anonymous().sign_in("eve@example.org", "a long password").await;
    let key = |scopes: Value| {
        let client = client.clone();
        async move {
            let body = json!({"name": "push", "scopes": scopes});
            let made = client.post("/v1/api-keys/", body).await.expect(201).json();
            text(&made["key"])
        }
    };
    let (pushing, reading) = (key(json!(["push"])).await, key(json!(["read"])).await);
    let access = client.token.clone().expect("a token");
    let of_eve = eve.token.clone().expect("a token");

    for git in Git::all() {
        let work = samples::small(&git).await;
        let made = client.upload(json!({"scan": false})).await;
        let other = client.upload(json!({"scan": false})).await;
        for wrong in ["nonsense", &text(&other["token"]), "slk_0123456789abcdef", "a.b.c"] {
            let said = work.push(&url_with(&made, &server, "x", wrong), &["main"]).await;
            said.refused("Authentication failed");
        }
        let bare = format!("{}/git/{}.git", server.address, text(&made["id"]));
        assert!(!work.push(&bare, &["main"]).await.ok, "without credentials");
        work.push(&url_with(&made, &server, "eve", &of_eve), &["main"]).await.refused("not found");
        let said = work.push(&url_with(&made, &server, "x", &reading), &["main"]).await;
        assert!(!said.ok && said.err.contains("403"), "{}", said.err);
        untouched(&client, &made).await;

        // All that should work do, one after the other.
        for (index, secret) in [&text(&made["token"]), &pushing, &access].into_iter().enumerate() {
            work.write("count", index.to_string());
            work.commit("again").await;
            let url = url_with(&made, &server, "anybody", secret);
            work.push(&url, &["main"]).await.expect();
        }
        let bearer = format!("http.extraHeader=Authorization: Bearer {pushing}");
        work.commit("with a header").await;
        work.run(&["-c", &bearer, "push", &bare, "main"]).await.expect();
        let now = client.ingested(&text(&made["id"])).await;
        assert_eq!((&now["pushes"], &now["head_commit"]), (&json!(4), &json!(work.head().await)));

        // A deleted remote says so, and one that expired too.
        let id = text(&made["id"]);
        client.delete(&format!("/v1/git-uploads/{id}")).await.expect(204);
        work.commit("too late").await;
        work.push(&text(&made["push_url"]), &["main"]).await.refused("was deleted");
        let short = client.upload(json!({"expires_in": 1})).await;
        let path = format!("/v1/git-uploads/{}", text(&short["id"]));
        until("the upload expires", async || {
            let now = client.get(&path).await.expect(200).json();
            (now["status"] == "expired").then_some(())
        })
        .await;
        work.push(&text(&short["push_url"]), &["main"]).await.refused("expired");
        untouched(&client, &short).await;
    }
}

async fn refs_of_every_kind(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    for git in Git::all() {
        let made = client.upload(json!({"scan": false})).await;
        let (id, url) = (text(&made["id"]), text(&made["push_url"]));
        let refs = async || -> Vec<String> {
            let now = client.get(&format!("/v1/git-uploads/{id}")).await.expect(200).json();
            let refs = now["refs"].as_array().expect("refs").iter();
            refs.map(|one| text(&one["name"])).collect()
        };
        let work = samples::small(&git).await;

        // Two branches and an annotated tag at once, all or nothing.
        work.run(&["branch", "side"]).await.expect();
        work.run(&["tag", "-a", "v1", "-m", "first"]).await.expect();
        work.push(&url, &["--atomic", "main", "side", "v1"]).await.expect();
        let all = ["refs/heads/main", "refs/heads/side", "refs/tags/v1"];
        assert_eq!(refs().await, all, "{}", git.version);

        // Nothing new is nothing at all.
        let said = work.push(&url, &["main"]).await.expect();
        assert!(said.err.contains("Everything up-to-date"), "{}", said.err);

        // History that was rewritten needs --force.
        work.run(&["commit", "-q", "--amend", "-m", "begun again"]).await.expect();
        work.push(&url, &["main"]).await.refused("rejected");
        work.push(&url, &["--force", "main"]).await.expect();
        let now = client.ingested(&id).await;
        assert_eq!(now["head_commit"], work.head().await.as_str());

        // An atomic push with one that cannot be leaves the other as it was.
        work.run(&["branch", "third"]).await.expect();
        let said = work.push(&url, &["--atomic", "third", "third:refs/heads/main/below"]).await;
        assert!(!said.ok, "a branch cannot lie below another");
        assert_eq!(refs().await, all);

        // Deleted: a branch and a tag, but not the one that HEAD names.
        work.push(&url, &[":refs/heads/side", ":refs/tags/v1"]).await.expect();
        assert!(!refs().await.iter().any(|name| name.contains("side") || name.contains("v1")));
        assert!(!work.push(&url, &[":refs/heads/main"]).await.ok);
        assert!(refs().await.contains(&"refs/heads/main".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_taken_out_again_is_found_in_the_history() {
    let place = Place::sqlite();
    let server = place.start().await;
    let client = server.admin().await;
    for git in Git::all() {
        let made = client.upload(json!({})).await;
        let work = Work::new(&git).await;
        work.write("deploy/.env", samples::env_file("old"));
        work.commit("oh no").await;
        work.write("deploy/.env", "# nothing here\n");
        work.commit("out again").await;
        // Another one only on a side branch.
        work.run(&["checkout", "-q", "-b", "side"]).await.expect();
        work.write("side.env", samples::env_file("side"));
        work.commit("on the side").await;
        work.run(&["checkout", "-q", "main"]).await.expect();
        work.push(&text(&made["push_url"]), &["main", "side"]).await.expect();
        let (upload, _) = client.scanned(&text(&made["id"])).await;
        let mut found: Vec<(String, bool)> = client
            .findings(&text(&upload["repository_id"]))
            .await
            .iter()
            .map(|finding| {
                let place = &finding["location"];
                (text(&place["path"]), place["in_history"].as_bool().expect("a flag"))
            })
            .collect();
        found.sort();
        assert_eq!(found, [("deploy/.env".to_owned(), true), ("side.env".to_owned(), true)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shallow_clone_is_taken() {
    let place = Place::sqlite();
    let server = place.start().await;
    let client = server.admin().await;
    for git in Git::all() {
        let whole = samples::demo(&git).await;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let origin = format!("file://{}", whole.path().display());
        let clone = ["clone", "-q", "--depth=1", &origin, "."];
        git.run(dir.path(), &clone).await.expect();
        let shallow = Work::at(&git, dir);
        let made = client.upload(json!({})).await;
        shallow.push(&text(&made["push_url"]), &["main"]).await.expect();
        let (upload, scan) = client.scanned(&text(&made["id"])).await;
        assert_eq!(upload["head_commit"], whole.head().await.as_str());
        assert!(scan["summary"]["critical"].as_u64().is_some_and(|count| count > 0), "{scan}");
        // A commit on top of it goes through as well.
        shallow.write("more.txt", "more\n");
        let head = shallow.commit("more").await;
        shallow.push(&text(&made["push_url"]), &["main"]).await.expect();
        assert_eq!(client.ingested(&text(&made["id"])).await["head_commit"], head.as_str());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_larger_than_the_buffer_of_git_is_probed_and_chunked() {
    let place = Place::sqlite();
    let server = place.start().await;
    let client = server.admin().await;
    for git in Git::all() {
        let made = client.upload(json!({"scan": false})).await;
        let work = Work::new(&git).await;
        // Sums of a count: bytes that do not get smaller.
        for file in 0..40u32 {
            let bytes: Vec<u8> = (0..2_000u32)
                .flat_map(|part| Sha512::digest([file.to_le_bytes(), part.to_le_bytes()].concat()))
                .collect();
            work.write(&format!("noise/{file}.bin"), bytes);
        }
        let head = work.commit("noise").await;
        let url = text(&made["push_url"]);
        work.run(&["-c", "http.postBuffer=65536", "push", &url, "main"]).await.expect();
        let upload = client.ingested(&text(&made["id"])).await;
        assert_eq!(upload["head_commit"], head.as_str());
        assert!(upload["bytes_received"].as_u64().is_some_and(|n| n > 4 << 20), "{upload}");
    }
}
