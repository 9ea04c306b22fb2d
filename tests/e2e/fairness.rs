//! One account cannot keep the others out.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::on_both;
use crate::support::{Git, Place, pack, raw, samples, until};

on_both!(stalled_pushes_of_one_account);

async fn stalled_pushes_of_one_account(mut place: Place) {
    const SLOTS: usize = 8;
    place.set("SLUICE_LIMIT_PUSHES_AT_ONCE", &SLOTS.to_string());
    let server = place.start().await;
    let added =
        place.run(&["user", "add", "bob@example.org", "--password-stdin"], "bob's secret\n");
    assert_eq!(added.await.code, Some(0));
    let ada = server.admin().await;
    let bob = server.anonymous().sign_in("bob@example.org", "bob's secret").await;

    // Two for each slot, each to a remote with a token of its own, and all stall.
    let (good, tip) = pack::good();
    let push = raw::create(&tip, &good);
    let mut stalled: Vec<(TcpStream, serde_json::Value)> = Vec::new();
    for _ in 0..2 * SLOTS {
        let made = ada.upload(json!({"scan": false})).await;
        let mut stream = raw::connect(&server).await;
        raw::begin(&mut stream, &made, push.len(), &push[..push.len() - 1]).await;
        stalled.push((stream, made));
    }
    let incoming = place.data().join("git/incoming");
    let taken = || std::fs::read_dir(&incoming).map_or(0, |entries| entries.count());
    until("the slots are taken", async || (taken() >= SLOTS / 2).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(taken(), SLOTS / 2, "half of them");

    let work = samples::small(&Git::any()).await;
    for _ in 0..3 {
        let made = bob.upload(json!({"scan": false})).await;
        let started = Instant::now();
        work.push(&server.push_url(&made), &["main"]).await.expect();
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }
    assert_eq!(taken(), SLOTS / 2, "the others still stall");

    // Whoever waited gets in once there is room, and nothing was lost.
    for (stream, _) in &mut stalled {
        stream.write_all(&push[push.len() - 1..]).await.expect("sent");
    }
    for (stream, _) in &mut stalled {
        let said = raw::read(stream).await;
        assert!(said.contains("ok refs/heads/main"), "{said}");
    }
}
