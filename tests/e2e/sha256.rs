//! Repositories whose objects are named by SHA-256.

use serde_json::{Value, json};

use crate::on_both;
use crate::support::client::text;
use crate::support::{Client, Git, Place, Work, samples};

on_both!(sha256_is_pushed_scanned_and_cloned_back);

async fn of(git: &Git, format: &str) -> Work {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let work = Work::at(git, dir);
    let init = format!("--object-format={format}");
    work.run(&["init", "-q", "-b", "main", &init, "."]).await.expect();
    work.write("README.md", "# Parcels\n");
    work.write("service/users.py", samples::injectable("users"));
    work.write("service/config/.env", samples::env_file("head"));
    work.commit("begin").await;
    work
}

async fn shown(client: &Client, made: &Value) -> Value {
    client.get(&format!("/v1/git-uploads/{}", text(&made["id"]))).await.expect(200).json()
}

async fn sha256_is_pushed_scanned_and_cloned_back(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    for git in Git::all() {
        let made = client.upload(json!({"object_format": "sha256"})).await;
        assert_eq!(made["object_format"], "sha256");
        let (id, url) = (text(&made["id"]), text(&made["push_url"]));
        let work = of(&git, "sha256").await;
        work.push(&url, &["main"]).await.expect();
        let (upload, _) = client.scanned(&id).await;
        let head = work.head().await;
        assert_eq!(head.len(), 64);
        assert_eq!(
            (&upload["head_commit"], &upload["object_format"]),
            (&json!(head), &json!("sha256"))
        );
        let repository = text(&upload["repository_id"]);
        let found = client.findings(&repository).await;
        let paths: Vec<String> = found.iter().map(|f| text(&f["location"]["path"])).collect();
        assert!(paths.contains(&"service/users.py".to_owned()), "{paths:?}");
        assert!(paths.contains(&"service/config/.env".to_owned()), "{paths:?}");
        let file = format!("/v1/repositories/{repository}/source-files/README.md");
        assert_eq!(client.get(&file).await.expect(200).text(), "# Parcels\n");

        // The next push costs what changed, and the secret stays in the history.
        std::fs::remove_file(work.path().join("service/config/.env")).expect("removed");
        work.write("more/a.py", "x = 1\n");
        work.commit("second").await;
        work.push(&url, &["main"]).await.expect();
        let (upload, scan) = client.scanned(&id).await;
        assert_eq!(upload["head_commit"], json!(work.head().await));
        assert_eq!(scan["summary"]["new"], 0, "{scan}");
        let found = client.findings(&repository).await;
        let secret = found.iter().find(|f| f["engine"] == "secrets").expect("the secret");
        assert_eq!(secret["location"]["in_history"], true, "{secret}");
        assert_eq!(secret["location"]["commit"], json!(head));

        // Protection reads them too.
        work.write("leak/.env", samples::env_file("another"));
        work.commit("leak").await;
        let said = work.run(&["push", "-o", "fail-on=high", &url, "main"]).await;
        assert!(!said.ok && said.err.contains("leak/.env:1"), "{}", said.err);
        work.run(&["reset", "-q", "--hard", "HEAD^"]).await.expect();

        // Back again, by every git that reads such repositories.
        for reader in Git::all() {
            let dir = tempfile::tempdir().expect("a temporary folder");
            reader.run(dir.path(), &["clone", "-q", &url, "back"]).await.expect();
            let back = dir.path().join("back");
            let said = reader.run(&back, &["rev-parse", "HEAD"]).await.expect();
            assert_eq!(said.out.trim(), work.head().await, "{}", reader.version);
            reader.run(&back, &["fsck", "--strict"]).await.expect();
        }

        let other = of(&git, "sha1").await;
        let said = other.push(&url, &["main:refs/heads/other"]).await;
        assert!(!said.ok, "{}", said.err);
        assert_eq!(shown(&client, &made).await["pushes"], 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sluice_scan_reads_them_too() {
    let place = Place::sqlite();
    let work = of(&Git::any(), "sha256").await;
    std::fs::remove_file(work.path().join("service/config/.env")).expect("removed");
    work.commit("out again").await;
    let (tree, bare) = (work.path().to_owned(), work.path().join(".git"));
    for path in [tree, bare] {
        let path = path.to_str().expect("UTF-8");
        let said = place.run(&["scan", path, "--history", "--format", "json"], "").await;
        assert_eq!(said.code, Some(1), "{}", said.err);
        let report: Value = serde_json::from_str(&said.out).expect("JSON");
        let places: Vec<String> = report["findings"]
            .as_array()
            .expect("findings")
            .iter()
            .map(|f| format!("{} {}", text(&f["location"]["path"]), f["location"]["in_history"]))
            .collect();
        for place in ["service/users.py false", "service/config/.env true"] {
            assert!(places.contains(&place.to_owned()), "no {place} in {places:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_push_decides_where_nobody_said() {
    let place = Place::sqlite();
    let server = place.start().await;
    let client = server.admin().await;
    for git in Git::all() {
        // "git version 2.47.3"
        let version = git.version.split(' ').nth(2).unwrap_or_default();
        let mut numbers = version.split('.').map(|n| n.parse().unwrap_or(0));
        let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        for format in ["sha1", "sha256"] {
            let made = client.upload(json!({"scan": false})).await;
            assert_eq!(made["object_format"], Value::Null);
            let url = text(&made["push_url"]);
            // An empty one can be cloned, and asked.
            git.run(of(&git, "sha1").await.path(), &["ls-remote", &url]).await.expect();
            let work = of(&git, format).await;
            let said = work.push(&url, &["main"]).await;
            if format == "sha256" && version < (2, 41) {
                assert!(!said.ok, "{}", said.err);
                assert_eq!(shown(&client, &made).await["object_format"], Value::Null);
                continue;
            }
            said.expect();
            let upload = client.ingested(&text(&made["id"])).await;
            assert_eq!(upload["status"], "ready", "{upload}");
            assert_eq!(upload["object_format"], format, "{}", git.version);
            let other = of(&git, if format == "sha1" { "sha256" } else { "sha1" }).await;
            assert!(!other.push(&url, &["main:refs/heads/other"]).await.ok);
            work.write("more", "more\n");
            work.commit("more").await;
            work.push(&url, &["main"]).await.expect();
        }
        // From a clone without its history too: its commit comes before the format.
        if version >= (2, 41) {
            let made = client.upload(json!({"scan": false})).await;
            let work = of(&git, "sha256").await;
            work.write("more", "more\n");
            work.commit("more").await;
            let from = format!("file://{}", work.path().display());
            let dir = tempfile::tempdir().expect("a temporary folder");
            git.run(dir.path(), &["clone", "-q", "--depth=1", &from, "shallow"]).await.expect();
            let url = text(&made["push_url"]);
            git.run(&dir.path().join("shallow"), &["push", &url, "main"]).await.expect();
            assert_eq!(client.ingested(&text(&made["id"])).await["object_format"], "sha256");
        }
    }
    client
        .post("/v1/git-uploads/", json!({"object_format": "md5"}))
        .await
        .problem(422, "validation_failed");
}
