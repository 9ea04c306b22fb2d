//! Pushes at the same time.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::on_both;
use crate::support::client::text;
use crate::support::process::Watch;
use crate::support::server::files_below;
use crate::support::{Client, Git, Place, Work, pack, raw, samples, until};

on_both!(
    two_pushes_to_one_ref,
    two_pushes_to_two_refs,
    a_slow_push_holds_no_other_up,
    sixty_four_pushes_to_sixty_four_uploads
);

/// A place where pushes wait for each other: git has read the refs of the remote by
/// then, and has sent nothing.
pub struct Barrier(tempfile::TempDir);

impl Barrier {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn guard(&self, work: &Work) {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = self.0.path().display();
        let hook = work.path().join(".git/hooks/pre-push");
        std::fs::create_dir_all(hook.parent().expect("a folder")).expect("a folder");
        let script = format!(
            "#!/bin/sh\n: > '{dir}/ready.'$$\nwhile [ ! -e '{dir}/go' ]; do sleep 0.05; done\n"
        );
        std::fs::write(&hook, script).expect("a hook");
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("a hook");
    }

    /// Lets them go once so many are there.
    pub async fn open(&self, pushes: usize) {
        let ready = || std::fs::read_dir(self.0.path()).expect("a folder").count();
        until("all pushes are ready", async || (ready() >= pushes).then_some(())).await;
        std::fs::write(self.0.path().join("go"), "").expect("a file");
    }
}

async fn shown(client: &Client, made: &Value) -> Value {
    client.get(&format!("/v1/git-uploads/{}", text(&made["id"]))).await.expect(200).json()
}

/// What is stored of packs: two files for each.
fn stored(place: &Place) -> usize {
    place.stored("packs").len()
}

async fn clones(git: &Git, url: &str, branch: &str) -> Work {
    let copy = Work::at(git, tempfile::tempdir().expect("a temporary folder"));
    copy.run(&["clone", "-q", "-b", branch, url, "."]).await.expect();
    copy.run(&["fsck", "--full", "--strict"]).await.expect();
    copy
}

async fn two_pushes_to_one_ref(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    let git = Git::any();
    let made = client.upload(json!({"scan": false})).await;
    let url = text(&made["push_url"]);

    // Both create it; then both move it on.
    for (round, reason) in
        ["reference already exists", "incorrect old value provided"].into_iter().enumerate()
    {
        let barrier = Barrier::new();
        let mut works = Vec::new();
        for name in ["one", "other"] {
            let work =
                if round == 0 { Work::new(&git).await } else { clones(&git, &url, "main").await };
            work.write(&format!("{name}-{round}"), name);
            work.commit(name).await;
            barrier.guard(&work);
            works.push(work);
        }
        let what = ["main"];
        let (one, other, ()) =
            tokio::join!(works[0].push(&url, &what), works[1].push(&url, &what), barrier.open(2));
        assert!(one.ok != other.ok, "one wins: {} {}", one.err, other.err);
        let (winner, loser, lost) =
            if one.ok { (&works[0], &works[1], other) } else { (&works[1], &works[0], one) };
        lost.refused(&format!("[remote rejected] main -> main ({reason})"));
        let now = shown(&client, &made).await;
        assert_eq!(now["refs"][0]["oid"], winner.head().await.as_str(), "{now}");
        assert_eq!(now["pushes"], round + 1, "{now}");
        assert_eq!(stored(&place), 2 * (round + 1), "what was refused is taken back");
        // Whoever lost learns what to do by trying again.
        loser.push(&url, &what).await.refused("fetch first");
    }
    assert!(!files_below(&clones(&git, &url, "main").await.path().join(".git")).is_empty());
}

async fn two_pushes_to_two_refs(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    let git = Git::any();
    let made = client.upload(json!({})).await;
    let url = text(&made["push_url"]);
    let barrier = Barrier::new();
    let mut works = Vec::new();
    for name in ["one", "other"] {
        let work = Work::new(&git).await;
        work.write(name, name);
        work.commit(name).await;
        barrier.guard(&work);
        works.push(work);
    }
    let (one, other, ()) = tokio::join!(
        works[0].push(&url, &["main:one"]),
        works[1].push(&url, &["main:other"]),
        barrier.open(2)
    );
    one.expect();
    other.expect();
    let now = shown(&client, &made).await;
    assert_eq!((&now["pushes"], now["refs"].as_array().map(Vec::len)), (&json!(2), Some(2)));
    for (work, branch) in works.iter().zip(["one", "other"]) {
        assert_eq!(clones(&git, &url, branch).await.head().await, work.head().await);
    }
    client.scanned(&text(&made["id"])).await;
}

/// All of a push but its end lies outside of what pushes of one upload do in turn.
async fn a_slow_push_holds_no_other_up(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    let made = client.upload(json!({"scan": false})).await;
    let (good, tip) = pack::good();
    let push = raw::create_ref("refs/heads/slow", &tip, &good);
    let (first, last) = push.split_at(push.len() - 1);
    let mut slow = raw::connect(&server).await;
    raw::begin(&mut slow, &made, push.len(), first).await;
    let waiting = || place.entries("git/incoming").len();
    until("the slow push is in quarantine", async || (waiting() > 0).then_some(())).await;

    let work = samples::small(&Git::any()).await;
    work.push(&text(&made["push_url"]), &["main"]).await.expect();
    assert_eq!(waiting(), 1, "the slow one is still under way");
    assert_eq!(shown(&client, &made).await["pushes"], 1);

    tokio::io::AsyncWriteExt::write_all(&mut slow, last).await.expect("sent");
    let said = raw::read(&mut slow).await;
    assert!(said.contains("ok refs/heads/slow"), "{said}");
    let now = shown(&client, &made).await;
    assert_eq!((&now["pushes"], now["refs"].as_array().map(Vec::len)), (&json!(2), Some(2)));
    assert_eq!(stored(&place), 4);
}

async fn sixty_four_pushes_to_sixty_four_uploads(mut place: Place) {
    // Nothing else is to be measured, and nothing to be waited for.
    place.set("SLUICE_WORKERS", "1");
    let server = place.start().await;
    let client = server.admin().await;
    let work = std::sync::Arc::new(samples::small(&Git::any()).await);
    let head = work.head().await;
    let mut uploads = Vec::new();
    for _ in 0..64 {
        uploads.push(client.upload(json!({"scan": false})).await);
    }
    let watch = Watch::begin(&server);
    let mut pushes = JoinSet::new();
    for made in &uploads {
        let (work, url) = (work.clone(), text(&made["push_url"]));
        pushes.spawn(async move { work.push(&url, &["main"]).await });
    }
    while let Some(said) = pushes.join_next().await {
        said.expect("it ran").expect();
    }
    let cost = watch.cost();
    println!("64 pushes at once: {cost:?}");
    assert!(cost.memory < 64 << 20, "{cost:?}");
    for made in &uploads {
        let now = shown(&client, made).await;
        assert_eq!((&now["pushes"], now["refs"][0]["oid"].as_str()), (&json!(1), Some(&*head)));
    }
    assert_eq!(stored(&place), 128);
    // An ingest that brings a pack from the store has it there for a moment.
    until("no quarantine is left", async || place.entries("git/incoming").is_empty().then_some(()))
        .await;
}
