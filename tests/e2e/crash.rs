//! What was acknowledged survives the death of the process; what was not, is not
//! there.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::on_both;
use crate::support::client::text;
use crate::support::{Client, Git, Place, Upstream, pack, raw, samples, until};

on_both!(killed_during_a_fetch, killed_during_a_push, stopped_during_a_scan);

/// What tells one set of findings from another.
fn shape(findings: &[Value]) -> Vec<(String, String, String)> {
    let mut shape: Vec<_> = findings
        .iter()
        .map(|f| (text(&f["fingerprint"]), text(&f["rule_id"]), f["location"].to_string()))
        .collect();
    shape.sort();
    shape
}

/// Exactly one scan, complete, with events without a hole.
pub async fn scanned_once(client: &Client, upload: &str) -> Vec<Value> {
    let (upload, scan) = client.scanned(upload).await;
    let (repository, id) = (text(&upload["repository_id"]), text(&scan["id"]));
    let scans = client.all(&format!("/v1/repositories/{repository}/scans")).await;
    assert_eq!(scans.len(), 1, "{scans:?}");
    assert_eq!(scan["artifacts"].as_array().map(Vec::len), Some(4), "{scan}");
    let events = client.events(&repository, &id).await;
    let ends = events.iter().filter(|event| event["type"] == "completed").count();
    assert_eq!(ends, 1, "{events:?}");
    assert_eq!(events[events.len() - 1]["type"], "completed");
    client.findings(&repository).await
}

/// kill -9, so many milliseconds after git said that the push went through.
async fn killed_after(place: Place, delays: &[u64]) {
    let git = Git::any();
    let work = samples::demo(&git).await;
    let mut server = place.start().await;
    let mut expected = None;
    for delay in std::iter::once(None).chain(delays.iter().copied().map(Some)) {
        let client = server.admin().await;
        let made = client.upload(json!({})).await;
        work.push(&server.push_url(&made), &["main"]).await.expect();
        if let Some(delay) = delay {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            server.kill();
            server = place.start().await;
        }
        let client = server.admin().await;
        let found = shape(&scanned_once(&client, &text(&made["id"])).await);
        assert!(found.len() >= 25, "{found:?}");
        // The first run, without a kill, says what is right.
        assert_eq!(expected.get_or_insert_with(|| found.clone()), &found, "after {delay:?} ms");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_soon_after_a_push() {
    killed_after(Place::sqlite(), &[0, 5, 20, 50, 100]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_later_after_a_push() {
    killed_after(Place::sqlite(), &[200, 400, 700, 1000, 1500]).await;
}

/// On PostgreSQL others may hold jobs, so a lease has to run out first.
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_a_push_on_postgres() {
    killed_after(Place::postgres().await, &[0, 300]).await;
}

async fn killed_during_a_push(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    let made = client.upload(json!({})).await;
    let (pack, tip) = pack::good();
    let mut connection = raw::connect(&server).await;
    let push = raw::create(&tip, &pack[..12]);
    raw::begin(&mut connection, &made, 100_000, &push).await;
    let waiting = || place.entries("git/incoming").len();
    until("the push is in quarantine", async || (waiting() > 0).then_some(())).await;
    server.kill();
    drop(connection);
    assert!(waiting() > 0, "the test kills in the middle of a push");

    let server = place.start().await;
    assert_eq!(waiting(), 0, "{:?}", place.files("git/incoming"));
    let client = server.admin().await;
    let path = format!("/v1/git-uploads/{}", text(&made["id"]));
    let now = client.get(&path).await.expect(200).json();
    assert_eq!(
        (&now["status"], &now["pushes"], &now["refs"]),
        (&json!("awaiting_push"), &json!(0), &json!([]),)
    );
    assert!(place.stored("packs").is_empty());
    let work = samples::small(&Git::any()).await;
    work.push(&server.push_url(&made), &["main"]).await.expect();
    assert!(!scanned_once(&client, &text(&made["id"])).await.is_empty());
}

/// Bytes that nothing compresses.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

/// kill -9 while half of a repository, and half of an archive, has come by URL.
async fn killed_during_a_fetch(mut place: Place) {
    let upstream = Upstream::start().await;
    Upstream::reachable(&mut place);
    let work = samples::small(&Git::any()).await;
    work.write("assets/noise.bin", noise(1 << 20));
    let head = work.commit("much to fetch").await;
    let git_url = upstream.repository(&work, "shop.git").await;
    work.run(&["archive", "--format=tar", "-o", "../shop.tar", "HEAD"]).await.expect();
    let tar = work.path().parent().expect("a folder").join("shop.tar");
    let archive_url = upstream.file("shop.tar", &std::fs::read(&tar).expect("made"));
    std::fs::remove_file(tar).expect("removed");

    let server = place.start().await;
    let client = server.admin().await;
    let project = client.post("/v1/projects", json!({"name": "p"})).await.expect(201).json();
    let project = format!("/v1/projects/{}", text(&project["id"]));
    upstream.close();
    let mut made = Vec::new();
    for (kind, url) in [("git", git_url), ("archive", archive_url)] {
        let body = json!({"name": kind, "source_type": kind, "source_url": url});
        let answer = client.post(&format!("{project}/repositories"), body).await;
        made.push(text(&answer.expect(201).json()["id"]));
    }
    let waiting = || place.entries("git/incoming").len();
    let writing = || place.half_stored();
    until("half of each is here", async || {
        (upstream.halves() == 2 && waiting() > 0 && writing()).then_some(())
    })
    .await;
    server.kill();
    assert!(waiting() > 0 && writing(), "the test kills in the middle of a fetch");
    upstream.open();

    let server = place.start().await;
    assert_eq!(waiting(), 0, "{:?}", place.files("git/incoming"));
    let client = server.admin().await;
    for id in &made {
        let path = format!("/v1/repositories/{id}");
        let scan = until("it is fetched and scanned", async || {
            let now = client.get(&path).await.expect(200).json();
            assert_ne!(now["ingest_status"], "failed", "{now}");
            if now["ingest_status"] == "ready" {
                assert_eq!(now["head_commit"], json!(head), "{now}");
            }
            now["last_scan"]["id"].as_str().map(str::to_owned)
        })
        .await;
        let scan = client.ended(id, &scan).await;
        assert_eq!(scan["status"], "completed", "{scan}");
        let scans = client.all(&format!("{path}/scans")).await;
        assert_eq!(scans.len(), 1, "{scans:?}");
        assert!(!client.findings(id).await.is_empty());
        let events = client.all(&format!("{project}/events?limit=200")).await;
        let of_it = |kind: &str| {
            let same = |e: &&Value| e["repository_id"] == json!(id) && e["type"] == json!(kind);
            events.iter().filter(same).count()
        };
        assert_eq!((of_it("ingest.started"), of_it("ingest.completed")), (2, 1), "{events:?}");
    }
    // What the first try wrote is nowhere: one pack with its index, no archive.
    until("the archive is dropped", async || place.stored("archives").is_empty().then_some(()))
        .await;
    assert_eq!(place.stored("packs").len(), 2);
    // `snapshots/REPOSITORY/SNAPSHOT/…`
    let snapshots: BTreeSet<String> = place
        .stored("snapshots")
        .iter()
        .filter_map(|key| Some(key.rsplit_once('/')?.0.to_owned()))
        .collect();
    assert_eq!(snapshots.len(), made.len(), "{snapshots:?}");
}

async fn stopped_during_a_scan(mut place: Place) {
    place.set("SLUICE_WORKERS", "1");
    let mut server = place.start().await;
    let client = server.admin().await;
    let work = samples::demo(&Git::any()).await;
    for index in 0..300 {
        let text = samples::injectable(&format!("f{index}")).repeat(10);
        work.write(&format!("more/module_{index}.py"), text);
    }
    work.commit("much to look at").await;
    let made = client.upload(json!({})).await;
    work.push(&server.push_url(&made), &["main"]).await.expect();
    let upload = client.ingested(&text(&made["id"])).await;
    let scan = format!(
        "/v1/repositories/{}/scans/{}",
        text(&upload["repository_id"]),
        text(&upload["scan_id"])
    );
    until("the scan runs", async || {
        (client.get(&scan).await.expect(200).json()["status"] != "queued").then_some(())
    })
    .await;
    // Somebody waits, and a stream is open: neither holds the server up.
    let waiting = tokio::spawn({
        let (client, path) = (client.clone(), format!("{scan}/events?after=100000&wait=45"));
        async move { client.get(&path).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.terminate();
    let (code, took) = server.ended().await;
    assert_eq!(code, Some(0), "{}", server.log());
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    waiting.await.expect("an answer").expect(200);
    until("the log is whole", async || server.log().contains("stopped").then_some(())).await;
    assert!(server.log().contains("goes back to the queue"), "{}", server.log());
    assert!(!client.reachable().await);

    let server = place.start().await;
    let client = server.admin().await;
    assert!(!scanned_once(&client, &text(&made["id"])).await.is_empty());
}
