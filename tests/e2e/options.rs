//! Push options, with every git of this machine.

use serde_json::{Value, json};

use crate::on_both;
use crate::support::client::text;
use crate::support::{Client, Git, Place, Work, samples};

on_both!(a_waiting_push_shows_what_was_found, protection_comes_before_any_ref_moves);

async fn upload(client: &Client, made: &Value) -> Value {
    client.get(&format!("/v1/git-uploads/{}", text(&made["id"]))).await.expect(200).json()
}

/// Pushes `main` with an option.
async fn push(work: &Work, made: &Value, option: &str) -> crate::support::git::Said {
    work.run(&["push", "-o", option, &text(&made["push_url"]), "main"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn options_are_known_or_refused_by_name() {
    let place = Place::sqlite();
    let server = place.start().await;
    let client = server.admin().await;
    for git in Git::all() {
        let made = client.upload(json!({})).await;
        let work = samples::small(&git).await;
        push(&work, &made, "foo").await.refused("\"foo\" is not known here");
        push(&work, &made, "fail-on=bad").await.refused("use info, low");
        let now = upload(&client, &made).await;
        assert_eq!((&now["pushes"], &now["refs"]), (&json!(0), &json!([])), "{now}");
        let said = push(&work, &made, "no-scan").await.expect();
        assert!(said.err.contains("No scan."), "{}", said.err);
        let upload = client.ingested(&text(&made["id"])).await;
        assert_eq!((&upload["status"], &upload["scan_id"]), (&json!("ready"), &Value::Null));
        let scans = format!("/v1/repositories/{}/scans", text(&upload["repository_id"]));
        assert!(client.all(&scans).await.is_empty());
    }
}

async fn a_waiting_push_shows_what_was_found(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    for git in Git::all() {
        let made = client.upload(json!({})).await;
        let work = samples::small(&git).await;
        let said = push(&work, &made, "wait").await.expect();
        // The scan is over when git returns, and nobody has to ask again.
        let now = upload(&client, &made).await;
        assert_eq!(now["status"], "ready", "{now}");
        let repository = text(&now["repository_id"]);
        let scan = format!("/v1/repositories/{repository}/scans/{}", text(&now["scan_id"]));
        let scan = client.get(&scan).await.expect(200).json();
        assert_eq!(scan["status"], "completed", "{scan}");
        for word in ["service/users.py:12", "service/config/.env:1", " new, 0 fixed", &repository] {
            assert!(said.err.contains(word), "no {word:?} in {}", said.err);
        }
        let key = samples::mail_key("head");
        assert!(!said.err.contains(&key), "a secret is shown masked: {}", said.err);

        // Mended, and pushed again.
        work.write("service/users.py", samples::careful("users"));
        work.commit("mended").await;
        let said = push(&work, &made, "wait").await.expect();
        assert!(said.err.contains("1 fixed"), "{}", said.err);
        assert!(!said.err.contains("users.py"), "{}", said.err);

        // Without a scan there is only the ingest to wait for.
        work.write("README.md", "# Another\n");
        work.commit("words").await;
        let url = text(&made["push_url"]);
        let said = work.run(&["push", "-o", "wait", "-o", "no-scan", &url, "main"]).await.expect();
        assert!(said.err.contains("ingested, not scanned"), "{}", said.err);
        assert_eq!(upload(&client, &made).await["status"], "ready");
    }
}

async fn protection_comes_before_any_ref_moves(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    for git in Git::all() {
        let made = client.upload(json!({})).await;
        let work = Work::new(&git).await;
        work.write("README.md", "# Parcels\n");
        work.commit("begin").await;
        push(&work, &made, "fail-on=info").await.expect();
        let (before, _) = client.scanned(&text(&made["id"])).await;
        let stored = || place.everything().iter().filter(|name| of_a_pack(name)).count();
        let packs = stored();

        // A weakness in the tree, and a secret that only the history still holds.
        work.write("deploy/.env", samples::env_file("oh no"));
        work.commit("oh no").await;
        std::fs::remove_file(work.path().join("deploy/.env")).expect("removed");
        work.write("app.py", samples::injectable("users"));
        work.commit("out again").await;
        let said = push(&work, &made, "fail-on=high").await;
        assert!(!said.ok, "{}", said.err);
        for word in [
            "push protection: 2 findings at or above high",
            "app.py:12",
            "deploy/.env:1",
            "no longer in the tree",
            "fix: ",
            "sluice:ignore",
        ] {
            assert!(said.err.contains(word), "no {word:?} in {}", said.err);
        }
        assert!(!said.err.contains(&samples::mail_key("oh no")), "{}", said.err);
        let now = upload(&client, &made).await;
        assert_eq!(
            (&now["refs"], &now["pushes"], &now["head_commit"]),
            (&before["refs"], &before["pushes"], &before["head_commit"]),
        );
        assert_eq!(stored(), packs, "nothing of a refused push is kept");
        // Neither does a new branch or tag get past it.
        let url = text(&made["push_url"]);
        let side = ["push", "-o", "fail-on=high", &url, "main:refs/tags/v1", "main:refs/heads/b"];
        assert!(!work.run(&side).await.ok);

        // Whoever means it leaves the option out. What is there already is then no
        // reason to refuse what comes after it.
        work.push(&url, &["main"]).await.expect();
        client.scanned(&text(&made["id"])).await;
        work.write("README.md", "# Parcels and more\n");
        work.write("app.py", format!("{}# one more line\n", samples::injectable("users")));
        work.commit("words").await;
        push(&work, &made, "fail-on=high").await.expect();

        // A comment in the source lets one pass.
        work.write("more.py", samples::injectable("more"));
        work.commit("more").await;
        assert!(!push(&work, &made, "fail-on=high").await.ok);
        let ignored = samples::injectable("more").replace(
            "    cursor.execute(",
            "    # sluice:ignore * -- the table is public\n    cursor.execute(",
        );
        work.write("more.py", ignored);
        work.run(&["commit", "-q", "--amend", "-a", "--no-edit"]).await.expect();
        push(&work, &made, "fail-on=high").await.expect();
    }
}

fn of_a_pack(name: &str) -> bool {
    let extension = std::path::Path::new(name).extension();
    extension.is_some_and(|extension| extension == "pack" || extension == "idx")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_chosen_by_name_or_id() {
    let place = Place::sqlite();
    let server = place.start().await;
    let client = server.admin().await;
    let git = Git::any();
    let project = |name: &'static str| {
        let client = client.clone();
        async move { client.post("/v1/projects/", json!({"name": name})).await.expect(201).json() }
    };
    let shop = project("shop").await;
    let (twin, _) = (project("twin").await, project("twin").await);
    let work = samples::small(&git).await;

    let made = client.upload(json!({})).await;
    push(&work, &made, "project=nowhere").await.refused("no project \"nowhere\"");
    push(&work, &made, "project=twin").await.refused("several projects");
    push(&work, &made, "project=shop").await.expect();
    let now = client.ingested(&text(&made["id"])).await;
    assert_eq!(now["project_id"], shop["id"]);
    let repository = format!("/v1/repositories/{}", text(&now["repository_id"]));
    assert_eq!(client.get(&repository).await.json()["project_id"], shop["id"]);
    // It stays there.
    work.write("README.md", "# Another\n");
    work.commit("words").await;
    let id = format!("project={}", text(&twin["id"]));
    push(&work, &made, &id).await.refused("another project");
    push(&work, &made, "project=shop").await.expect();

    let made = client.upload(json!({})).await;
    push(&work, &made, &id).await.expect();
    assert_eq!(client.ingested(&text(&made["id"])).await["project_id"], twin["id"]);
}
