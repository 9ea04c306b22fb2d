//! With storage in a bucket: the way of the code from the push to its removal, replicas
//! with folders of their own, a cache that is too small, and a bucket that is away.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use sluice::storage::{S3, Storage};

use crate::support::client::text;
use crate::support::s3::{Switch, Way};
use crate::support::{Client, Git, Place, Server, Work, s3, samples, until};
use crate::{archives, crash, story};

/// Keys below the prefix of a test.
async fn keys(bucket: &S3) -> Vec<String> {
    let page = Storage::S3(bucket.clone()).list("", None, 1000).await.expect("a listing");
    assert_eq!(page.next, None);
    page.items.into_iter().map(|object| object.key).collect()
}

/// A remote, and where to push to.
async fn remote(client: &Client, name: &str) -> (String, String) {
    let made = client.upload(json!({ "name": name })).await;
    (text(&made["id"]), text(&made["push_url"]))
}

/// The address at another replica.
fn at(url: &str, server: &Server) -> String {
    let (head, rest) = url.split_once("://").expect("an address");
    let (user, rest) = rest.split_once('@').expect("a token");
    let (_, path) = rest.split_once('/').expect("a path");
    let host = server.address.split_once("://").expect("an address").1;
    format!("{head}://{user}@{host}/{path}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_push_to_removal() {
    let (place, bucket) = Place::scaled().await;
    let server = place.start().await;
    let client = server.admin().await;
    let project = client.post("/v1/projects/", json!({"name": "Parcels"})).await.expect(201).json();
    let project = format!("/v1/projects/{}", text(&project["id"]));
    let id = project.rsplit('/').next().expect("an id");
    let made = client.upload(json!({"project_id": id, "name": "parcels"})).await;
    let (upload, url) = (text(&made["id"]), text(&made["push_url"]));

    // A push, and what follows from it.
    let work = samples::small(&Git::any()).await;
    let movie: Vec<u8> =
        (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
    work.write("media/film.bin", &movie);
    work.commit("a film").await;
    work.push(&url, &["HEAD"]).await.expect();
    let (_, scan) = client.scanned(&upload).await;
    assert_eq!(scan["status"], "completed", "{scan}");
    let repository = text(&scan["repository_id"]);
    assert!(!client.findings(&repository).await.is_empty());
    story::artifacts(&client, &scan).await;

    // Files, whole and in part.
    let base = format!("/v1/repositories/{repository}");
    let users = client.get(&format!("{base}/source-files/service/users.py")).await.expect(200);
    assert_eq!(users.body, std::fs::read(work.path().join("service/users.py")).expect("there"));
    let film = format!("{base}/source-files/media/film.bin");
    assert!(client.get(&film).await.expect(200).body == movie);
    let part = client.request(Method::GET, &film).header("range", "bytes=1048570-2097170");
    let part = Client::send(part).await.expect(206);
    assert!(part.body == movie[1_048_570..=2_097_170]);
    let first = text(&scan["artifacts"][0]["url"]);
    let first = &first[first.find("/v1/").expect("a path")..];
    let whole = client.get(first).await.expect(200).body;
    assert!(!whole.is_empty());

    // The clone has what was pushed.
    let clone = tempfile::tempdir().expect("a folder");
    Git::any().run(clone.path(), &["clone", "-q", &url, "again"]).await.expect();
    assert!(std::fs::read(clone.path().join("again/media/film.bin")).expect("cloned") == movie);

    // An archive.
    let files = work.run(&["archive", "--format=tar.gz", "-o", "../plain.tgz", "HEAD"]);
    files.await.expect();
    let archive = work.path().parent().expect("a folder").join("plain.tgz");
    let archive = std::fs::read(archive).expect("made");
    let path = format!("{project}/repositories");
    let made = archives::send(&client, &path, &archive, &[("name", "plain")]).await;
    let ready = archives::settled(&client, &made).await;
    assert_eq!(ready["ingest_status"], "ready", "{ready}");

    // All of it is in the bucket, and goes with the project.
    let found = keys(&bucket).await;
    for prefix in ["packs/", "snapshots/", "artifacts/"] {
        assert!(found.iter().any(|key| key.starts_with(prefix)), "{prefix}: {found:?}");
    }
    assert!(!place.data().join("objects").exists(), "objects are nowhere else");
    client.delete(&project).await.expect(204);
    until("the objects are gone", async || {
        let left = keys(&bucket).await;
        let ours = |key: &&String| !key.starts_with("health/");
        left.iter().all(|key| !ours(&key)).then_some(())
    })
    .await;
    let later = std::time::SystemTime::now() + Duration::from_secs(3600);
    let unfinished = Storage::S3(bucket).unfinished(later, 10).await.expect("a list");
    assert_eq!(unfinished, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_took_another_one_has() {
    let (place, _) = Place::scaled().await;
    let other = place.replica();
    let first = place.start_with(&["--no-worker"]).await;
    let second = other.start().await;
    let client = first.admin().await;
    let (id, url) = remote(&client, "shared").await;
    let work = samples::small(&Git::any()).await;
    work.push(&url, &["HEAD"]).await.expect();

    // The worker of the other replica reads what this one took.
    let (_, scan) = client.scanned(&id).await;
    assert_eq!(scan["status"], "completed", "{scan}");
    let clone = tempfile::tempdir().expect("a folder");
    let there = at(&url, &second);
    Git::any().run(clone.path(), &["clone", "-q", &there, "again"]).await.expect();
    let cloned = Work::at(&Git::any(), clone);
    let head = cloned.run(&["-C", "again", "rev-parse", "HEAD"]).await.expect().out;
    assert_eq!(head.trim(), work.head().await);

    // And back: each push builds on what the other replica took.
    for round in 0..4 {
        let name = format!("round-{round}.txt");
        work.write(&name, format!("round {round}\n"));
        let commit = work.commit(&name).await;
        let to = if round % 2 == 0 { &there } else { &url };
        work.push(to, &["HEAD"]).await.expect();
        for url in [&url, &there] {
            let refs = work.run(&["ls-remote", url, "refs/heads/main"]).await.expect().out;
            assert!(refs.starts_with(&commit), "{refs}");
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    Git::any().run(folder.path(), &["clone", "-q", &url, "last"]).await.expect();
    assert!(folder.path().join("last/round-3.txt").exists());
}

/// Bytes of packs in a data folder.
fn at_hand(data: &Path) -> u64 {
    let Ok(folders) = std::fs::read_dir(data.join("git")) else { return 0 };
    let packs = |folder: PathBuf| std::fs::read_dir(folder.join("objects/pack"));
    folders
        .flatten()
        .filter_map(|folder| packs(folder.path()).ok())
        .flat_map(|packs| packs.flatten().filter_map(|pack| Some(pack.metadata().ok()?.len())))
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_is_too_small_is_kept_to_and_everything_still_works() {
    const LIMIT: u64 = 150_000;
    let (mut place, _) = Place::scaled().await;
    place.set("SLUICE_LIMIT_GIT_CACHE_BYTES", &LIMIT.to_string());
    let server = place.start().await;
    let client = server.admin().await;
    let git = Git::any();
    let mut remotes = Vec::new();
    for n in 0..5 {
        let (id, url) = remote(&client, &format!("r{n}")).await;
        let work = samples::small(&git).await;
        work.write("noise.bin", crash::noise(60_000));
        work.commit("noise").await;
        work.push(&url, &["HEAD"]).await.expect();
        remotes.push((id, url, work));
    }
    for (id, ..) in &remotes {
        client.scanned(id).await;
    }
    until("the cache is within its limit", async || {
        (at_hand(&place.data()) <= LIMIT).then_some(())
    })
    .await;

    // What is gone from here comes back: for a fetch, for a push on top of it, and for
    // the history of a scan.
    for (n, (id, url, work)) in remotes.iter().enumerate() {
        let clone = tempfile::tempdir().expect("a folder");
        git.run(clone.path(), &["clone", "-q", url, "again"]).await.expect();
        let noise = std::fs::read(clone.path().join("again/noise.bin")).expect("cloned");
        assert_eq!(noise, std::fs::read(work.path().join("noise.bin")).expect("there"));
        work.write("more.txt", format!("more {n}\n"));
        work.commit("more").await;
        work.push(url, &["HEAD"]).await.expect();
        let (_, scan) = client.scanned(id).await;
        let path = format!("/v1/repositories/{}/scans", text(&scan["repository_id"]));
        let asked = client.post(&path, json!({"history": true})).await.expect(201).json();
        let ended = client.ended(&text(&scan["repository_id"]), &text(&asked["id"])).await;
        assert_eq!(ended["status"], "completed", "{ended}");
    }
    // Many who miss the same at once.
    let (_, url, work) = &remotes[0];
    let head = work.head().await;
    let clones = (0..6).map(|_| async {
        let clone = tempfile::tempdir().expect("a folder");
        git.run(clone.path(), &["clone", "-q", url, "again"]).await.expect();
        let cloned = git.run(&clone.path().join("again"), &["rev-parse", "HEAD"]).await.expect();
        assert_eq!(cloned.out.trim(), head);
    });
    futures::future::join_all(clones).await;

    until("the cache is within its limit again", async || {
        (at_hand(&place.data()) <= LIMIT).then_some(())
    })
    .await;
    let limits = client.get("/v1/ops/limits").await.expect(200).json();
    let limits = limits["items"].as_array().expect("limits");
    let cache = limits.iter().find(|limit| limit["name"] == "git_cache_bytes").expect("listed");
    assert_eq!(cache["value"], LIMIT);
    assert!(cache["used"].as_u64().expect("counted") <= LIMIT, "{cache}");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_of_a_pack_at_hand_is_not_taken_for_one() {
    let (place, _) = Place::scaled().await;
    let server = place.start().await;
    let client = server.admin().await;
    let (id, url) = remote(&client, "damaged").await;
    let work = samples::small(&Git::any()).await;
    work.push(&url, &["HEAD"]).await.expect();
    client.scanned(&id).await;
    drop(server);
    // As a power cut may leave them.
    let packs = place.data().join(format!("git/{id}.git/objects/pack"));
    let mut cut = 0;
    for pack in std::fs::read_dir(&packs).expect("packs").flatten() {
        std::fs::remove_file(pack.path()).expect("removed");
        std::fs::write(pack.path(), b"").expect("cut");
        cut += 1;
    }
    assert!(cut >= 2);
    let server = place.start().await;
    let clone = tempfile::tempdir().expect("a folder");
    Git::any().run(clone.path(), &["clone", "-q", &at(&url, &server), "again"]).await.expect();
    assert!(clone.path().join("again/README.md").exists());
}

/// Asks for readiness until it has this status; each answer comes within two seconds.
async fn ready(server: &Server, wanted: u16) -> Value {
    let nobody = server.anonymous();
    until("readiness changes", async || {
        let started = Instant::now();
        let answer = nobody.get("/v1/readyz").await;
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        (answer.status.as_u16() == wanted).then(|| answer.json())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_away_is_told_of_and_comes_back_without_a_restart() {
    let way = Switch::to(&s3::endpoint()).await;
    let mut place = Place::postgres().await;
    place.bucket(&way.endpoint(), &s3::prefix());
    let server = place.start().await;
    let client = server.admin().await;
    let (id, url) = remote(&client, "away").await;
    let work = samples::small(&Git::any()).await;
    work.push(&url, &["HEAD"]).await.expect();
    let (_, scan) = client.scanned(&id).await;
    let file = format!("/v1/repositories/{}/source-files/README.md", text(&scan["repository_id"]));
    ready(&server, 200).await;

    for cut in [Way::Refusing, Way::Silent] {
        way.turn(cut);
        let answer = ready(&server, 503).await;
        assert_eq!(answer["checks"]["storage"]["status"], "error", "{answer}");
        assert_eq!(answer["checks"]["database"]["status"], "ok", "{answer}");
        let said = text(&answer["checks"]["storage"]["error"]);
        assert!(!said.contains("127.0.0.1") && !said.contains('/'), "{said}");

        // A request that needs the bucket fails in its time, with a sentence.
        let started = Instant::now();
        let refused = client.get(&file).await;
        refused.problem(503, "unavailable");
        assert!(refused.header("retry-after").is_some());
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        // A push is refused, and nothing of it is there.
        work.write("more.txt", format!("{cut:?}\n"));
        work.commit("more").await;
        work.push(&url, &["HEAD"]).await.refused("storage");

        way.turn(Way::Open);
        ready(&server, 200).await;
        client.get(&file).await.expect(200);
        work.push(&url, &["HEAD"]).await.expect();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_has_a_line_for_the_bucket() {
    let (mut place, _) = Place::scaled().await;
    place.run(&["migrate"], "").await;
    let checked = place.run(&["check"], "").await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.out.contains("storage        ok ("), "{}", checked.out);

    place.set("AWS_SECRET_ACCESS_KEY", "of-somebody-else");
    let refused = place.run(&["check"], "").await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.out.contains("SLUICE_STORAGE"), "{}", refused.out);
    assert!(refused.out.contains("is denied"), "{}", refused.out);
    assert!(!refused.out.contains("of-somebody-else"), "{}", refused.out);

    place.set("SLUICE_STORAGE", "s3://sluice-nowhere").set("AWS_SECRET_ACCESS_KEY", s3::KEYS.1);
    let missing = place.run(&["serve"], "").await;
    assert_ne!(missing.code, Some(0));
    assert!(missing.err.contains("there is no bucket \"sluice-nowhere\""), "{}", missing.err);

    place.set("SLUICE_STORAGE", "s3://key:secret@bucket");
    let none = place.run(&["serve"], "").await;
    assert!(none.err.contains("SLUICE_STORAGE must be"), "{}", none.err);
    assert!(!none.err.contains("secret@"), "{}", none.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_writer_left_in_the_bucket_is_cleaned_up() {
    let (mut place, bucket) = Place::scaled().await;
    let storage = Storage::S3(bucket);
    let later = std::time::SystemTime::now() + Duration::from_secs(3600);
    let id = uuid::Uuid::now_v7();
    let ours = format!("packs/{id}/{id}/pack-1.pack");
    // The bucket may be shared with others, whose writes are none of our business.
    for key in [ours.as_str(), "dumps/of/others"] {
        let mut writer = storage.writer(key).await.expect("a writer");
        writer.write(vec![1; 9 << 20].into()).await.expect("written");
        // As a process does that is killed: nothing of it runs any more.
        std::mem::forget(writer);
    }
    until("the parts have arrived", async || {
        let found = storage.unfinished(later, 10).await.expect("a list");
        (found.len() == 2 && found.iter().all(|one| one.bytes == 8 << 20)).then_some(())
    })
    .await;

    let clean = async |server: &Server, dry_run: bool| {
        let client = server.admin().await;
        let asked = json!({ "dry_run": dry_run });
        let answer = client.post("/v1/ops/cleanup", asked).await.expect(200).json();
        answer["removed"]["unfinished_objects"].clone()
    };
    // It may be that of a writer that lives.
    let server = place.start().await;
    assert_eq!(clean(&server, false).await, json!({"objects": 0, "bytes": 0}));
    drop(server);

    // The scheduled clean-up would be faster.
    place.later(Some(48));
    let server = place.start_with(&["--no-worker"]).await;
    let expected = json!({"objects": 1, "bytes": 8 << 20});
    assert_eq!(clean(&server, true).await, expected);
    assert_eq!(storage.unfinished(later, 10).await.expect("a list").len(), 2);
    assert_eq!(clean(&server, false).await, expected);
    let left = storage.unfinished(later, 10).await.expect("a list");
    assert_eq!(left.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(), ["dumps/of/others"]);
}
