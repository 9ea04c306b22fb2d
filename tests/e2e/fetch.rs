//! What was pushed comes back: clones and fetches of an upload by its URL.

use serde_json::{Value, json};

use crate::on_both;
use crate::support::client::text;
use crate::support::{Git, Place, Server, Work, samples, until};

on_both!(an_upload_is_cloned_back, only_its_owner_reads_an_upload);

const VERSIONS: [&str; 3] = ["protocol.version=0", "protocol.version=1", "protocol.version=2"];

/// Clones into a new folder.
async fn clone(git: &Git, version: &str, url: &str, options: &[&str]) -> Work {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let args: Vec<&str> = ["-c", version, "clone", "-q"]
        .into_iter()
        .chain(options.iter().copied())
        .chain([url, "."])
        .collect();
    git.run(dir.path(), &args).await.expect();
    Work::at(git, dir)
}

/// Everything that the branch leads to, by id and path.
async fn objects(work: &Work) -> String {
    work.run(&["fsck", "--strict"]).await.expect();
    let mut lines: Vec<String> = work
        .run(&["rev-list", "--objects", "HEAD"])
        .await
        .expect()
        .out
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines.join("\n")
}

async fn an_upload_is_cloned_back(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    for git in Git::all() {
        let made = client.upload(json!({"scan": false})).await;
        let (id, url) = (text(&made["id"]), text(&made["push_url"]));
        // Nothing is there yet, and that is no error.
        clone(&git, VERSIONS[2], &url, &[]).await;

        let work = samples::small(&git).await;
        work.run(&["tag", "-a", "v1", "-m", "first"]).await.expect();
        work.push(&url, &["main", "v1"]).await.expect();
        for version in VERSIONS {
            let copy = clone(&git, version, &url, &[]).await;
            assert_eq!(objects(&copy).await, objects(&work).await, "{}", git.version);
            assert_eq!(copy.run(&["tag"]).await.expect().out, "v1\n");

            // One more commit, pushed and fetched.
            work.write("more.txt", version);
            let head = work.commit("more").await;
            work.push(&url, &["main"]).await.expect();
            copy.run(&["-c", version, "pull", "-q"]).await.expect();
            assert_eq!(copy.head().await, head);
            assert_eq!(objects(&copy).await, objects(&work).await);

            let short = clone(&git, version, &url, &["--depth=1", "--filter=blob:none"]).await;
            assert_eq!(short.run(&["rev-list", "--count", "HEAD"]).await.expect().out, "1\n");
            assert_eq!(short.run(&["status", "--porcelain"]).await.expect().out, "");
        }

        // The folder of objects is a cache: it comes back from storage.
        let caches = || {
            let name = format!("{id}.git");
            let mut all = place.entries("git");
            all.retain(|folder| folder.file_name().is_some_and(|found| *found == *name));
            all
        };
        assert!(!caches().is_empty(), "there is a cache");
        for cache in caches() {
            std::fs::remove_dir_all(cache).expect("removed");
        }
        let copy = clone(&git, VERSIONS[2], &url, &[]).await;
        assert_eq!(objects(&copy).await, objects(&work).await);
        assert!(!caches().is_empty());
    }
    let figures = server.metrics().await;
    let value = |name: &str| {
        let line = figures.lines().find(|line| line.starts_with(name)).expect(name);
        line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a number")
    };
    assert!(value("sluice_fetches_total{kind=\"clone\"}") >= 7.0, "{figures}");
    assert!(value("sluice_fetches_total{kind=\"fetch\"}") >= 3.0, "{figures}");
    assert!(value("sluice_fetch_sent_bytes_total") > 1000.0, "{figures}");
}

/// The URL of an upload with other credentials.
fn url_with(made: &Value, server: &Server, password: &str) -> String {
    let host = server.address.strip_prefix("http://").expect("http");
    format!("http://x:{password}@{host}/git/{}.git", text(&made["id"]))
}

async fn only_its_owner_reads_an_upload(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    place.run(&["user", "add", "eve@example.org", "--password-stdin"], "a long password\n").await;
    let eve = server.anonymous().sign_in("eve@example.org", "a long password").await;
    let key = async |scope: &str| {
        let body = json!({"name": scope, "scopes": [scope]});
        text(&client.post("/v1/api-keys/", body).await.expect(201).json()["key"])
    };
    let (pushing, reading) = (key("push").await, key("read").await);
    let git = Git::any();
    let made = client.upload(json!({"scan": false})).await;
    let other = client.upload(json!({"scan": false})).await;
    let work = samples::small(&git).await;
    work.push(&text(&made["push_url"]), &["main"]).await.expect();

    let list = async |url: &str| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        git.run(dir.path(), &["ls-remote", url]).await
    };
    for wrong in ["nonsense", &text(&other["token"]), "slk_0123456789abcdef"] {
        list(&url_with(&made, &server, wrong)).await.refused("Authentication failed");
    }
    let bare = format!("{}/git/{}.git", server.address, text(&made["id"]));
    assert!(!list(&bare).await.ok, "without credentials");
    let of_eve = eve.token.clone().expect("a token");
    list(&url_with(&made, &server, &of_eve)).await.refused("not found");
    list(&url_with(&made, &server, &pushing)).await.refused("lacks the scope `read`");
    let access = client.token.clone().expect("a token");
    for right in [&text(&made["token"]), &reading, &access] {
        let said = list(&url_with(&made, &server, right)).await.expect();
        assert!(said.out.contains("refs/heads/main"), "{}", said.out);
    }

    // What is in one upload cannot be had from another.
    other_upload_has_nothing(&work, &text(&other["push_url"])).await;

    client.delete(&format!("/v1/git-uploads/{}", text(&made["id"]))).await.expect(204);
    list(&text(&made["push_url"])).await.refused("was deleted");
    let short = client.upload(json!({"expires_in": 1})).await;
    let path = format!("/v1/git-uploads/{}", text(&short["id"]));
    until("the upload expires", async || {
        let now = client.get(&path).await.expect(200).json();
        (now["status"] == "expired").then_some(())
    })
    .await;
    list(&text(&short["push_url"])).await.refused("expired");
}

async fn other_upload_has_nothing(work: &Work, other: &str) {
    let head = work.head().await;
    let stranger = Work::new(&work.git).await;
    let said = stranger.run(&["-c", VERSIONS[2], "fetch", "-q", other, &head]).await;
    said.refused("not our ref");
}
