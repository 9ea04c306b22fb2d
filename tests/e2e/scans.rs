//! Scans: cancelled in every state, narrowed, refused.

use serde_json::{Value, json};

use crate::on_both;
use crate::support::client::text;
use crate::support::{Client, Git, Place, samples, until};

on_both!(cancel_in_every_state, narrower_scans);

/// A repository that is ready, not scanned yet; its address.
async fn ready(client: &Client, work: &crate::support::Work) -> String {
    let made = client.upload(json!({"scan": false})).await;
    work.push(&text(&made["push_url"]), &["main"]).await.expect();
    let upload = client.ingested(&text(&made["id"])).await;
    assert_eq!(upload["status"], "ready", "{upload}");
    format!("/v1/repositories/{}", text(&upload["repository_id"]))
}

async fn cancel_in_every_state(mut place: Place) {
    // One worker: what comes second waits.
    place.set("SLUICE_WORKERS", "1");
    let server = place.start().await;
    let client = server.admin().await;
    let work = samples::demo(&Git::any()).await;
    for index in 0..300 {
        work.write(
            &format!("more/module_{index}.py"),
            samples::injectable(&format!("f{index}")).repeat(20),
        );
    }
    work.commit("much to look at").await;
    let base = ready(&client, &work).await;
    let begin = async || {
        text(&client.post(&format!("{base}/scans"), json!({})).await.expect(201).json()["id"])
    };
    let (running, queued) = (begin().await, begin().await);
    let path = |id: &str| format!("{base}/scans/{id}");
    let repository = base.rsplit('/').next().expect("an id");

    until("the first scan runs", async || {
        let now = client.get(&path(&running)).await.expect(200).json();
        (now["status"] != "queued").then_some(())
    })
    .await;
    let cancelled = client.delete(&path(&queued)).await.expect(200).json();
    assert_eq!(cancelled["status"], "cancelled", "{cancelled}");
    let answer = client.delete(&path(&running)).await.expect(200).json();
    assert!(["running", "cancelled"].contains(&text(&answer["status"]).as_str()), "{answer}");
    for id in [&running, &queued] {
        let ended = client.ended(repository, id).await;
        assert_eq!(ended["status"], "cancelled", "{ended}");
        assert_eq!(ended["artifacts"], json!([]));
        client.delete(&path(id)).await.problem(409, "ended");
        let events = client.events(repository, id).await;
        assert_eq!(events[events.len() - 1]["type"], "cancelled");
    }
    assert!(client.findings(repository).await.is_empty(), "a cancelled scan finds nothing");

    // The worker is free again.
    let third = text(
        &client
            .post(&format!("{base}/scans"), json!({"engines": ["secrets"], "include": [".env*"]}))
            .await
            .expect(201)
            .json()["id"],
    );
    let ended = client.ended(repository, &third).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    client.delete(&path(&third)).await.problem(409, "ended");
    client.events(repository, &third).await;
}

async fn narrower_scans(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    let base = ready(&client, &samples::small(&Git::any()).await).await;
    let repository = base.rsplit('/').next().expect("an id").to_owned();
    let scan = async |body: Value| {
        let made = client.post(&format!("{base}/scans/"), body).await.expect(201);
        assert!(made.header("location").is_some());
        client.ended(&repository, &text(&made.json()["id"])).await
    };
    let engines = async || {
        let mut engines: Vec<String> =
            client.findings(&repository).await.iter().map(|f| text(&f["engine"])).collect();
        engines.sort();
        engines.dedup();
        engines
    };
    let secrets = scan(json!({"engines": ["secrets"]})).await;
    assert_eq!((&secrets["status"], &secrets["trigger"]), (&json!("completed"), &json!("api")));
    assert_eq!(engines().await, ["secrets"]);
    scan(json!({"include": ["web/"]})).await;
    assert_eq!(engines().await, ["dependencies", "secrets"]);
    scan(json!({"exclude": ["service/users.py"]})).await;
    assert_eq!(engines().await, ["dependencies", "secrets"]);
    // What was not looked at is not taken for mended.
    let states: Vec<Value> =
        client.findings(&repository).await.iter().map(|f| f["state"].clone()).collect();
    assert!(!states.contains(&json!("fixed")), "{states:?}");
    let all = scan(Value::Object(serde_json::Map::new())).await;
    assert_eq!(engines().await, ["code", "dependencies", "secrets"]);
    assert_eq!(all["summary"]["new"], 1, "{all}");

    for (body, field) in [
        (json!({"include": ["["]}), "include"),
        (json!({"exclude": ["a{b"]}), "exclude"),
        (json!({"engines": ["magic"]}), "engines[0]"),
        (json!({"engines": []}), "engines"),
        (json!({"history": "yes"}), "history"),
        (json!({"speed": 1}), "speed"),
        (json!({"include": vec!["*"; 201]}), "include"),
        (json!({"ref": "a..b"}), "ref"),
    ] {
        let problem =
            client.post(&format!("{base}/scans"), body).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    assert_eq!(client.all(&format!("{base}/scans?limit=1")).await.len(), 4);

    // A repository without a push has nothing to scan.
    let project = client.post("/v1/projects", json!({"name": "p"})).await.expect(201).json();
    let empty = client
        .post(
            &format!("/v1/projects/{}/repositories", text(&project["id"])),
            json!({"name": "empty", "source_type": "git_upload"}),
        )
        .await
        .expect(201)
        .json();
    let path = format!("/v1/repositories/{}/scans", text(&empty["id"]));
    client.post(&path, json!({})).await.problem(409, "not_ready");
}
