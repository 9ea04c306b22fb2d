//! Clients that misbehave: nothing of what they began is left, and the next push works.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::crash::scanned_once;
use crate::limits::hits;
use crate::on_both;
use crate::support::client::text;
use crate::support::{Client, Git, Place, Server, pack, raw, samples, until};

on_both!(rude_clients);

/// Quarantines, also empty ones.
fn quarantines(place: &Place) -> usize {
    place.entries("git/incoming").len()
}

/// Nothing of a push is left anywhere.
async fn nothing_left(place: &Place, client: &Client, made: &Value) {
    until("the quarantine is gone", async || (quarantines(place) == 0).then_some(())).await;
    let stored = place.stored("packs");
    assert!(stored.is_empty(), "{stored:?}");
    let path = format!("/v1/git-uploads/{}", text(&made["id"]));
    // A push that took a while is shown, and taken back by a task of its own.
    until("the push is taken back", async || {
        let now = client.get(&path).await.expect(200).json();
        assert_eq!((&now["pushes"], &now["refs"]), (&json!(0), &json!([])), "{now}");
        assert_eq!(now["repository_id"], Value::Null, "{now}");
        (now["status"] == "awaiting_push" && now["bytes_received"] == 0).then_some(())
    })
    .await;
}

/// Begins a push of which `sent` is sent, and waits until the server works on it.
async fn begun(
    place: &Place,
    server: &Server,
    made: &Value,
    length: usize,
    sent: &[u8],
) -> tokio::net::TcpStream {
    let mut stream = raw::connect(server).await;
    raw::begin(&mut stream, made, length, sent).await;
    until("the push is in quarantine", async || (quarantines(place) > 0).then_some(())).await;
    stream
}

async fn rude_clients(mut place: Place) {
    place.set("SLUICE_LIMIT_PUSH_IDLE_SECONDS", "2");
    let server = place.start().await;
    let client = server.admin().await;
    let made = client.upload(json!({})).await;
    let (good, tip) = pack::good();
    let push = raw::create(&tip, &good);
    let half = push.len() - good.len() / 2;

    // Vanishes: in the head, in the commands, in the pack.
    for end in [0, 40, half] {
        let mut stream = raw::connect(&server).await;
        raw::begin(&mut stream, &made, push.len(), &push[..end]).await;
        drop(stream);
        nothing_left(&place, &client, &made).await;
    }
    drop(begun(&place, &server, &made, push.len(), &push[..half]).await);
    nothing_left(&place, &client, &made).await;

    // Stalls in the commands, and in the pack after it was shown as under way.
    let started = Instant::now();
    let mut stream = raw::connect(&server).await;
    raw::begin(&mut stream, &made, push.len(), &push[..40]).await;
    let said = raw::read(&mut stream).await;
    assert!(said.contains("nothing arrived for 2 seconds"), "{said}");
    let mut stream = begun(&place, &server, &made, push.len(), &push[..half - 40]).await;
    for byte in &push[half - 40..half] {
        stream.write_all(&[*byte]).await.expect("sent");
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    let said = raw::read(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    assert!(said.contains("nothing arrived for 2 seconds"), "{said}");
    assert!(started.elapsed() >= Duration::from_secs(4), "a pause is no stall");
    assert_eq!(hits(&server, "push_idle_seconds").await, 2);
    nothing_left(&place, &client, &made).await;

    // Sends half a pack and says that this was all.
    let said = raw::push(&server, &made, &push[..half]).await;
    assert!(said.contains("unpack the pack ends early"), "{said}");
    assert!(said.contains("ng refs/heads/main"), "{said}");
    nothing_left(&place, &client, &made).await;

    // The same in pieces whose end never comes.
    let mut stream = raw::connect(&server).await;
    let head =
        raw::head(&made, 0, "Transfer-Encoding: chunked\r\n").replace("Content-Length: 0\r\n", "");
    let piece = format!("{half:x}\r\n");
    for part in [head.as_bytes(), piece.as_bytes(), &push[..half], b"\r\n"] {
        stream.write_all(part).await.expect("sent");
    }
    until("the push is in quarantine", async || (quarantines(&place) > 0).then_some(())).await;
    drop(stream);
    nothing_left(&place, &client, &made).await;

    // A byte at a time is slow and no crime; whoever waits for the end gets it.
    let patient = client.upload(json!({})).await;
    let mut stream = raw::connect(&server).await;
    for byte in raw::head(&patient, push.len(), "").as_bytes().iter().chain(&push) {
        stream.write_all(&[*byte]).await.expect("sent");
        stream.flush().await.expect("sent");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let said = raw::read(&mut stream).await;
    assert!(said.contains("ok refs/heads/main"), "{said}");

    // Goes away once all is sent: what was pushed is there as a whole, or not at all.
    let hasty = client.upload(json!({})).await;
    let mut stream = raw::connect(&server).await;
    raw::begin(&mut stream, &hasty, push.len(), &push).await;
    drop(stream);
    until("no quarantine is left", async || (quarantines(&place) == 0).then_some(())).await;
    let path = format!("/v1/git-uploads/{}", text(&hasty["id"]));
    let now = client.get(&path).await.expect(200).json();
    match now["pushes"].as_u64() {
        Some(0) => assert_eq!(now["refs"], json!([]), "{now}"),
        Some(1) => assert_eq!(now["refs"][0]["oid"], tip.to_string().as_str(), "{now}"),
        _ => panic!("{now}"),
    }

    // And the next push of the first one works.
    let work = samples::small(&Git::any()).await;
    work.push(&server.push_url(&made), &["main"]).await.expect();
    assert!(!scanned_once(&client, &text(&made["id"])).await.is_empty());
    assert_eq!(quarantines(&place), 0);
}
