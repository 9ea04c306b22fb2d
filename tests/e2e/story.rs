//! The main job from the first sign-in to the second scan.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::on_both;
use crate::support::client::text;
use crate::support::{Client, Git, Place, Work, samples};

on_both!(from_push_to_findings, identities_stay);

async fn from_push_to_findings(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    let me = client.get("/v1/auth/me").await.expect(200).json();
    assert_eq!((&me["email"], &me["groups"]), (&json!("admin@localhost"), &json!(["ops"])));

    // A project and a remote in it.
    let project = client.post("/v1/projects/", json!({"name": "Parcels"})).await.expect(201).json();
    let made = client.upload(json!({"project_id": project["id"], "name": "parcels"})).await;
    let (id, token) = (text(&made["id"]), text(&made["token"]));
    assert_eq!(made["username"], format!("upl_{id}"));
    assert!(text(&made["push_url"]).contains(&token));
    assert!(!text(&made["remote_url"]).contains(&token));
    let path = format!("/v1/git-uploads/{id}");
    let waiting = client.get(&path).await.expect(200);
    assert_eq!(waiting.json()["status"], "awaiting_push");
    assert!(!waiting.text().contains(&token), "a token is shown once");
    let tag = waiting.header("etag").expect("a tag").to_owned();
    client.get_if_none_match(&path, &tag).await.expect(304);

    // Somebody waits while the push comes.
    let waiter = {
        let (client, path, tag) = (client.clone(), format!("{path}?wait=40"), tag.clone());
        tokio::spawn(async move { client.get_if_none_match(&path, &tag).await })
    };
    let work = samples::small(&Git::any()).await;
    let head = work.head().await;
    let said = work.push(&text(&made["push_url"]), &["HEAD"]).await.expect();
    assert!(said.err.contains("remote: sluice:"), "{}", said.err);
    assert!(!said.err.contains(&token), "git prints no token");
    let woken = waiter.await.expect("an answer").expect(200).json();
    assert_ne!(woken["status"], "awaiting_push");

    let (upload, scan) = client.scanned(&id).await;
    assert_eq!(upload["head_commit"], head.as_str());
    assert_eq!(upload["refs"], json!([{"name": "refs/heads/main", "oid": head}]));
    assert_eq!((&upload["pushes"], &scan["trigger"]), (&json!(1), &json!("push")));
    client.get_if_none_match(&path, &tag).await.expect(200);

    let (repository, scan_id) = (text(&scan["repository_id"]), text(&scan["id"]));
    let base = format!("/v1/repositories/{repository}");
    let read = client.get(&base).await.expect(200);
    let tag = read.header("etag").expect("a tag").to_owned();
    client.get_if_none_match(&base, &tag).await.expect(304);
    let read = read.json();
    assert_eq!((&read["ingest_status"], &read["head_commit"]), (&json!("ready"), &json!(head)));
    assert_eq!(read["snapshot"]["file_count"], 5);
    assert!(text(&read["languages"][0]["name"]).len() > 1, "{read}");

    follow(&client, &format!("{base}/scans/{scan_id}")).await;
    findings(&client, &base, &repository, &scan_id).await;
    artifacts(&client, &scan).await;
    source(&client, &base, &work).await;

    // The project sums up.
    let project = format!("/v1/projects/{}", text(&project["id"]));
    let shown = client.get(&project).await.expect(200).json();
    assert_eq!(shown["repository_count"], 1);
    assert_eq!(shown["scan_rollup"]["by_status"]["completed"], 1);
    assert_eq!(client.all(&format!("{project}/scans")).await.len(), 1);
}

/// Events by polling and as server-sent events.
async fn follow(client: &Client, scan: &str) {
    let tag = client.get(scan).await.expect(200).header("etag").expect("a tag").to_owned();
    client.get_if_none_match(scan, &tag).await.expect(304);
    let events = client.all(&format!("{scan}/events?limit=2")).await;
    let seqs: Vec<u64> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=events.len() as u64).collect::<Vec<_>>());
    assert_eq!(events[0]["type"], "queued");
    assert_eq!(events[events.len() - 1]["type"], "completed");
    let later = client.get(&format!("{scan}/events?after=2")).await.expect(200).json();
    assert_eq!(later["items"][0]["seq"], 3);
    // Nothing comes after the last one, so nobody waits for it.
    let none = client.get(&format!("{scan}/events?after={}&wait=40", events.len())).await;
    assert_eq!(none.expect(200).json()["items"], json!([]));

    let stream = |last: Option<u64>| {
        let request = client
            .request(reqwest::Method::GET, &format!("{scan}/events"))
            .header("accept", "text/event-stream");
        match last {
            Some(last) => request.header("last-event-id", last.to_string()),
            None => request,
        }
    };
    let whole = Client::send(stream(None)).await.expect(200);
    assert_eq!(whole.header("content-type"), Some("text/event-stream"));
    let streamed: Vec<Value> = whole
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect();
    assert_eq!(streamed, events);
    let rest = Client::send(stream(Some(2))).await.expect(200).text();
    assert!(rest.starts_with("id: 3\n") || rest.contains("\nid: 3\n"), "{rest}");
    assert!(!rest.contains("id: 2\n"), "{rest}");
    Client::send(stream(Some(events.len() as u64))).await.expect(204);
}

async fn findings(client: &Client, base: &str, repository: &str, scan: &str) {
    let all = client.findings(repository).await;
    for engine in ["secrets", "code", "dependencies"] {
        let some = client.all(&format!("{base}/findings?engine={engine}")).await;
        assert!(!some.is_empty() && some.iter().all(|f| f["engine"] == engine), "{engine}");
    }
    let list = serde_json::to_string(&all).expect("JSON");
    assert!(!list.contains(&samples::mail_key("head")), "a secret is shown masked");
    for finding in &all {
        assert_eq!((&finding["status"], &finding["state"]), (&json!("open"), &json!("new")));
        assert_eq!(finding["first_seen_scan_id"], scan);
        assert!(finding["priority"].as_u64().is_some_and(|priority| priority <= 100));
        let one = format!("{base}/findings/{}", text(&finding["id"]));
        assert_eq!(&client.get(&one).await.expect(200).json(), finding);
    }
    let injection = client.all(&format!("{base}/findings?path=service/users.py")).await;
    assert_eq!(injection.len(), 1, "{injection:?}");
    assert_eq!(injection[0]["location"]["start_line"], 12, "{}", injection[0]);
    assert_eq!(injection[0]["cwe"], json!(["CWE-89"]));
    assert!(client.all(&format!("{base}/findings?status=dismissed")).await.is_empty());
    assert!(client.all(&format!("{base}/findings?q=no-such-word")).await.is_empty());

    // One is dismissed, and taken back.
    let one = format!("{base}/findings/{}", text(&injection[0]["id"]));
    client.put(&one, json!({"status": "dismissed"})).await.problem(422, "validation_failed");
    let dismissal = json!({"status": "dismissed", "reason": "accepted_risk", "comment": "known"});
    let dismissed = client.put(&one, dismissal).await.expect(200).json();
    assert_eq!(
        (&dismissed["status"], &dismissed["history"][0]["by"]),
        (&json!("dismissed"), &json!("admin@localhost"),)
    );
    assert_eq!(client.all(&format!("{base}/findings?status=dismissed")).await.len(), 1);
    let back = client.put(&one, json!({"status": "open"})).await.expect(200).json();
    assert_eq!(back["history"].as_array().map(Vec::len), Some(2));
}

pub async fn artifacts(client: &Client, scan: &Value) {
    let list = scan["artifacts"].as_array().expect("artefacts");
    let mut names: Vec<String> = list.iter().map(|artifact| text(&artifact["name"])).collect();
    names.sort();
    assert_eq!(names, ["findings.json", "log.txt", "results.sarif", "sbom.cdx.json"]);
    for artifact in list {
        let url = text(&artifact["url"]);
        let path = &url[url.find("/v1/").expect("a path")..];
        let got = client.get(path).await.expect(200);
        assert_eq!(got.body.len() as u64, artifact["size"].as_u64().expect("a size"));
        let sum = format!("{:x}", Sha256::digest(&got.body));
        assert_eq!(artifact["sha256"], sum.as_str(), "{artifact}");
        let key = samples::mail_key("head");
        assert!(!got.text().contains(&key), "{path} holds a secret");
        match text(&artifact["name"]).as_str() {
            "results.sarif" => {
                let sarif: serde_sarif::sarif::Sarif =
                    serde_json::from_slice(&got.body).expect("SARIF");
                assert!(sarif.runs[0].results.as_ref().is_some_and(|results| results.len() >= 3));
            }
            "sbom.cdx.json" => {
                let sbom = got.json();
                assert_eq!(
                    (&sbom["bomFormat"], &sbom["specVersion"]),
                    (&json!("CycloneDX"), &json!("1.6"),)
                );
                assert_eq!(sbom["components"][0]["purl"], "pkg:npm/lodash@4.17.20");
            }
            _ => {}
        }
        let tag = got.header("etag").expect("a tag");
        client.get_if_none_match(path, tag).await.expect(304);
    }
}

async fn source(client: &Client, base: &str, work: &Work) {
    let tree = client.all(&format!("{base}/source-tree?recursive=true")).await;
    let mut files: Vec<String> =
        tree.iter().filter(|e| e["type"] == "file").map(|e| text(&e["path"])).collect();
    files.sort();
    assert_eq!(
        files,
        ["README.md", "service/config/.env", "service/users.py", "web/index.js", "web/yarn.lock"]
    );
    let root = client.all(&format!("{base}/source-tree")).await;
    assert_eq!(root.iter().filter(|entry| entry["type"] == "dir").count(), 2);
    for path in files {
        let got = client.get(&format!("{base}/source-files/{path}")).await.expect(200);
        assert_eq!(got.body, std::fs::read(work.path().join(&path)).expect("a file"));
        assert_eq!(got.header("x-content-type-options"), Some("nosniff"));
        let tag = got.header("etag").expect("a tag");
        client.get_if_none_match(&format!("{base}/source-files/{path}"), tag).await.expect(304);
    }
    let python = format!("{base}/source-files/service/users.py");
    let part = client.request(reqwest::Method::GET, &python).header("range", "bytes=0-5");
    assert_eq!(Client::send(part).await.expect(206).body, b"import");
    let lines = client.get(&format!("{python}?lines=2-2")).await.expect(200).json();
    assert_eq!(lines["lines"], json!(["from flask import Flask, request"]));
    let missing = client.get(&format!("{base}/source-files/no/such/file")).await;
    missing.problem(404, "not_found");
    let profile = client.get(&format!("{base}/threat-profile")).await.expect(200).json();
    assert_eq!(profile["source"], "generated");
    assert!(profile["entry_points"].to_string().contains("service/users.py"), "{profile}");
}

/// A finding keeps its id and its status when its file moves or gets longer.
async fn identities_stay(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    let made = client.upload(json!({})).await;
    let work = samples::small(&Git::any()).await;
    for name in ["orders", "bills", "routes"] {
        work.write(&format!("service/{name}.py"), samples::injectable(name));
    }
    work.commit("more").await;
    work.push(&text(&made["push_url"]), &["main"]).await.expect();
    let (upload, first) = client.scanned(&text(&made["id"])).await;
    let repository = text(&upload["repository_id"]);
    let before = client.findings(&repository).await;
    let id_at = |findings: &[Value], path: &str| {
        let found: Vec<_> = findings.iter().filter(|f| f["location"]["path"] == path).collect();
        assert_eq!(found.len(), 1, "{path}: {findings:?}");
        found[0].clone()
    };
    let secret = text(&id_at(&before, "service/config/.env")["id"]);
    let dismissal = json!({"status": "dismissed", "reason": "used_in_tests"});
    let one = format!("/v1/repositories/{repository}/findings/{secret}");
    client.put(&one, dismissal).await.expect(200);

    // Lines move, a file is renamed, a weakness is mended.
    work.write("service/users.py", format!("# Users.\n\n\n{}", samples::injectable("users")));
    work.run(&["mv", "service/config/.env", "service/.env.production"]).await.expect();
    work.write("service/orders.py", samples::careful("orders"));
    work.commit("change").await;
    work.push(&text(&made["push_url"]), &["main"]).await.expect();
    let (_, second) = client.scanned(&text(&made["id"])).await;
    assert_ne!(first["id"], second["id"]);
    let after = client.findings(&repository).await;
    assert_eq!(before.len(), after.len(), "nothing is new, nothing is forgotten");

    let moved = id_at(&after, "service/users.py");
    assert_eq!(moved["id"], id_at(&before, "service/users.py")["id"]);
    assert_eq!(
        (&moved["location"]["start_line"], &moved["state"]),
        (&json!(15), &json!("unchanged"),)
    );
    let renamed = id_at(&after, "service/.env.production");
    assert_eq!((&renamed["id"], &renamed["status"]), (&json!(secret), &json!("dismissed")));
    let mended = id_at(&after, "service/orders.py");
    assert_eq!(mended["id"], id_at(&before, "service/orders.py")["id"]);
    assert_eq!(mended["state"], "fixed");
    assert_eq!(mended["last_seen_scan_id"], first["id"]);
    let summary = &second["summary"];
    assert_eq!((&summary["new"], &summary["fixed"]), (&json!(0), &json!(1)), "{summary}");
    // Neither the mended nor the dismissed one counts as open.
    assert_eq!(summary["unchanged"], before.len() - 2, "{summary}");

    // What did not change was not looked at again.
    let path = format!(
        "/v1/repositories/{repository}/scans/{}/artifacts/findings.json",
        text(&second["id"])
    );
    let report = client.get(&path).await.expect(200).json();
    // All but the two files with new content: the renamed one has the old, and the old
    // content of the two is now looked for in the history.
    assert_eq!((&report["files_scanned"], &report["history_blobs"]), (&json!(8), &json!(2)));
    assert_eq!(report["results_reused"], 8);
}
