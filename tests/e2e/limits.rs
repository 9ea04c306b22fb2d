//! Limits of a push: each refuses with a sentence that names it, is counted, and leaves
//! nothing behind.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::on_both;
use crate::support::client::text;
use crate::support::pack::Pack;
use crate::support::{Client, Git, Place, Server, Work, pack, raw, samples, until};

on_both!(quotas_of_stored_bytes, a_quota_is_exact_when_pushes_come_together);

/// Bytes that nothing compresses.
fn noise(label: &str, length: usize) -> Vec<u8> {
    let block = |number: usize| Sha256::digest(format!("{label}/{number}"));
    (0..length.div_ceil(32)).flat_map(block).take(length).collect()
}

/// How often each limit refused something.
pub async fn hits(server: &Server, limit: &str) -> u64 {
    let metrics = server.metrics().await;
    let line = format!("sluice_limit_hits_total{{limit=\"{limit}\"}} ");
    metrics.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
}

fn stored(place: &Place) -> usize {
    place.stored("packs").len()
}

async fn committed(git: &Git, files: &[(&str, Vec<u8>)]) -> Work {
    let work = Work::new(git).await;
    for (path, bytes) in files {
        work.write(path, bytes);
    }
    work.commit("all of it").await;
    work
}

/// A blob and deltas that each stand on the one before them.
fn chain_of_deltas(length: u8) -> Pack {
    let mut pack = Pack::new();
    let base = [b'x'; 10];
    pack.add(gix_object::Kind::Blob, &base);
    // Headers of such small entries are one byte, and so are the ways back.
    let mut distance = 1 + pack::deflate(&base).len() as u8;
    for number in 0..length {
        let size = 10 + number;
        // All of the base, and one byte more.
        let delta = [size, size + 1, 0x90, size, 1, number];
        let deflated = pack::deflate(&delta);
        pack.header(6, delta.len() as u64);
        pack.raw(&[distance]);
        pack.raw(&deflated);
        distance = 2 + deflated.len() as u8;
    }
    pack
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_limit_of_a_pack_has_its_sentence() {
    let mut place = Place::sqlite();
    for (key, value) in [
        ("PUSH_BYTES", "200_000"),
        ("PUSH_OBJECTS", "500"),
        ("OBJECT_BYTES", "1_000_000"),
        ("PUSH_INFLATED_BYTES", "5_000_000"),
        ("PUSH_RESOLVED_BYTES", "20_000_000"),
        ("DELTA_DEPTH", "5"),
        ("TREE_ENTRIES", "50"),
        ("PATH_BYTES", "100"),
        ("PUSH_COMMANDS", "3"),
        ("UPLOAD_REFS", "3"),
    ] {
        place.set(&format!("SLUICE_LIMIT_{key}"), value);
    }
    let server = place.start().await;
    let client = server.admin().await;
    let git = Git::any();
    let made = client.upload(json!({"scan": false})).await;
    let url = text(&made["push_url"]);

    // What people push with git.
    let large = committed(&git, &[("large", noise("large", 300_000))]).await;
    let huge = committed(&git, &[("huge", vec![b'x'; 2_000_000])]).await;
    let many = Work::new(&git).await;
    for number in 0..600 {
        many.write(&format!("{}/{number}", number / 40), number.to_string());
    }
    many.commit("many").await;
    let wide = Work::new(&git).await;
    for number in 0..51 {
        wide.write(&format!("d/{number}"), number.to_string());
    }
    wide.commit("wide").await;
    let long = committed(&git, &[(&"n".repeat(101), b"x".to_vec())]).await;
    for (work, limit, sentence) in [
        (&large, "push_bytes", "the pack is larger than 195 KiB, the limit"),
        (&huge, "object_bytes", "holds an object of 1.9 MiB and the limit is 977 KiB"),
        (&many, "push_objects", "objects and the limit is 500"),
        (&wide, "tree_entries", "has more than 50 entries, the limit; spread them over"),
        (&long, "path_bytes", "has an entry whose name is longer than 100 bytes, the limit"),
    ] {
        work.push(&url, &["main"]).await.refused(sentence);
        assert_eq!(hits(&server, limit).await, 1, "{limit}");
    }

    // What only somebody with bad intent does.
    let (_, tip) = pack::good();
    let mut inflates = Pack::new();
    let mut resolves = Pack::new();
    let mut base = inflates.add(gix_object::Kind::Blob, &vec![0; 900_000]);
    for number in 1..8_u8 {
        base = inflates.add(gix_object::Kind::Blob, &vec![number; 900_000]);
    }
    assert_eq!(base, resolves.add(gix_object::Kind::Blob, &vec![7; 900_000]));
    for number in 0..30_u8 {
        // Sizes of 900,000; copy all but one byte; insert one.
        let delta = [0xa0, 0xf7, 0x36, 0xa0, 0xf7, 0x36, 0xf0, 0x9f, 0xbb, 0x0d, 1, number];
        resolves.ref_delta(&base, &delta);
    }
    let chained = chain_of_deltas(6);
    for (pack, limit, sentence) in [
        (chained, "delta_depth", "has a chain of more than 5 deltas"),
        (inflates, "push_inflated_bytes", "the pack inflates to more than 4.8 MiB, the limit"),
        (resolves, "push_resolved_bytes", "amount to more than 19 MiB, the limit"),
    ] {
        let said = raw::push(&server, &made, &raw::create(&tip, &pack.finish())).await;
        assert!(said.contains(sentence), "{limit}: {said}");
        assert_eq!(hits(&server, limit).await, 1, "{limit}");
    }

    // Refs: of one push, and of the remote.
    let work = samples::small(&git).await;
    let refs: Vec<String> = (0..4).map(|n| format!("main:refs/heads/b{n}")).collect();
    let refs: Vec<&str> = refs.iter().map(String::as_str).collect();
    work.push(&url, &refs).await.refused("more than 3 refs in one push");
    assert_eq!(hits(&server, "push_commands").await, 1);
    assert_eq!(stored(&place), 0, "nothing of all that is left");
    work.push(&url, &refs[..3]).await.expect();
    work.push(&url, &refs[3..]).await.refused("too many refs");
    assert_eq!(hits(&server, "upload_refs").await, 1);

    // Names that are short and a path that is long come in, and are told by the ingest.
    let nested = client.upload(json!({"scan": false})).await;
    let path = format!("{}/file", "folder/".repeat(20).trim_end_matches('/'));
    let work = committed(&git, &[(&path, b"x".to_vec())]).await;
    work.push(&text(&nested["push_url"]), &["main"]).await.expect();
    let now = client.ingested(&text(&nested["id"])).await;
    assert_eq!(now["status"], "failed", "{now}");
    assert!(text(&now["error"]["message"]).contains("100"), "{now}");
}

async fn upload_in(client: &Client, project: &Value) -> Value {
    client.upload(json!({"scan": false, "project_id": project["id"]})).await
}

async fn used(client: &Client, limit: &str) -> u64 {
    let limits = client.get("/v1/ops/limits").await.expect(200).json();
    let items = limits["items"].as_array().expect("items");
    let found = items.iter().find(|item| item["name"] == limit).expect("a limit");
    found["used"].as_u64().unwrap_or_else(|| panic!("{found}"))
}

async fn quotas_of_stored_bytes(mut place: Place) {
    place
        .set("SLUICE_LIMIT_UPLOAD_STORED_BYTES", "300_000")
        .set("SLUICE_LIMIT_PROJECT_STORED_BYTES", "700_000")
        .set("SLUICE_LIMIT_SERVER_STORED_BYTES", "900_000");
    let server = place.start().await;
    let client = server.admin().await;
    let git = Git::any();
    let project = async |name: &str| {
        client.post("/v1/projects", json!({"name": name})).await.expect(201).json()
    };
    let (shop, till) = (project("Shop").await, project("Till").await);
    let work = Work::new(&git).await;
    let add = async |label: &str, length| {
        work.write(label, noise(label, length));
        work.commit(label).await;
    };

    // The remote.
    let first = upload_in(&client, &shop).await;
    let url = text(&first["push_url"]);
    add("a", 150_000).await;
    work.push(&url, &["main"]).await.expect();
    let kept = used(&client, "upload_stored_bytes").await;
    assert!((150_000..160_000).contains(&kept), "{kept}");
    add("b", 200_000).await;
    let said = work.push(&url, &["main"]).await;
    said.refused("this remote has room for 14");
    said.refused("of the 293 KiB that one may keep");
    assert_eq!(hits(&server, "upload_stored_bytes").await, 1);
    assert_eq!(stored(&place), 2);
    let now = client.ingested(&text(&first["id"])).await;
    assert_eq!(now["pushes"], 1, "{now}");
    // What brings nothing is no matter of room; nor is what fits.
    work.push(&url, &["HEAD~:refs/heads/again"]).await.expect();

    // Objects of Git LFS count too: told by the batch, and by the upload itself.
    let oid = "5".repeat(64);
    let batch = json!({"operation": "upload", "objects": [{"oid": oid, "size": 200_000}]});
    let base = format!("/git/{}.git/info/lfs/objects", text(&first["id"]));
    let request = client
        .request(reqwest::Method::POST, &format!("{base}/batch"))
        .header("content-type", "application/vnd.git-lfs+json")
        .body(batch.to_string());
    let answer = Client::send(request).await.expect(200).json();
    let error = &answer["objects"][0]["error"];
    assert_eq!(error["code"], 507, "{answer}");
    assert!(text(&error["message"]).starts_with("This remote has room for"), "{answer}");
    let request =
        client.request(reqwest::Method::PUT, &format!("{base}/{oid}?size=200000")).body(Vec::new());
    Client::send(request).await.expect(507);

    // The project: snapshots count as well, so ask what is there.
    let second = upload_in(&client, &shop).await;
    work.run(&["reset", "-q", "--hard", "HEAD~"]).await.expect();
    work.push(&text(&second["push_url"]), &["main"]).await.expect();
    client.ingested(&text(&second["id"])).await;
    let kept = used(&client, "project_stored_bytes").await;
    assert!((500_000..700_000).contains(&kept), "two packs, two snapshots: {kept}");
    assert_eq!(used(&client, "server_stored_bytes").await, kept);
    let third = upload_in(&client, &shop).await;
    add("c", usize::try_from(700_000 - kept).unwrap()).await;
    let said = work.push(&text(&third["push_url"]), &["main"]).await;
    said.refused("the project has room for");
    assert_eq!(hits(&server, "project_stored_bytes").await, 1);

    // An archive for it is refused in the same way.
    let path = format!("/v1/projects/{}/repositories", text(&shop["id"]));
    let mut archive = tar::Builder::new(Vec::new());
    let bytes = noise("d", 250_000);
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, "d", bytes.as_slice()).expect("a tar");
    let mut body =
        b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"d.tar\"\r\n\r\n"
            .to_vec();
    body.extend(archive.into_inner().expect("a tar"));
    body.extend(b"\r\n--b--\r\n");
    let request = client
        .request(reqwest::Method::POST, &path)
        .header("content-type", "multipart/form-data; boundary=b")
        .body(body);
    let answer = Client::send(request).await;
    let problem = answer.problem(403, "quota_exceeded");
    assert!(text(&problem["detail"]).starts_with("The project has room for"), "{problem}");

    // Another project has room of its own, until the server has none.
    let other = upload_in(&client, &till).await;
    work.run(&["reset", "-q", "--hard", "HEAD~"]).await.expect();
    work.push(&text(&other["push_url"]), &["main"]).await.expect();
    client.ingested(&text(&other["id"])).await;
    let last = upload_in(&client, &till).await;
    place.replicas_agree().await;
    let said = work.push(&text(&last["push_url"]), &["main"]).await;
    said.refused("the server has no room for this within its quota");
    assert_eq!(hits(&server, "server_stored_bytes").await, 1);

    // What goes makes room.
    client.delete(&format!("/v1/projects/{}", text(&shop["id"]))).await.expect(204);
    until("there is room again", async || {
        let said = work.push(&text(&last["push_url"]), &["main"]).await;
        said.ok.then_some(())
    })
    .await;
}

/// Each of two packs fits as long as the other is not there, and both were announced
/// before either came.
async fn a_quota_is_exact_when_pushes_come_together(mut place: Place) {
    place.set("SLUICE_LIMIT_UPLOAD_STORED_BYTES", "150_000");
    let server = place.start().await;
    let client = server.admin().await;
    let made = client.upload(json!({"scan": false})).await;
    let mut under_way = Vec::new();
    for name in ["one", "other"] {
        let mut pack = Pack::new();
        let blob = pack.add(gix_object::Kind::Blob, &noise(name, 90_000));
        let tip = pack.commit_of(&[("100644", name, blob)]);
        let push = raw::create_ref(&format!("refs/heads/{name}"), &tip, &pack.finish());
        let mut stream = raw::connect(&server).await;
        raw::begin(&mut stream, &made, push.len(), &push[..push.len() - 1]).await;
        under_way.push((stream, push[push.len() - 1]));
    }
    let waiting = || place.entries("git/incoming").len();
    until("both are in quarantine", async || (waiting() == 2).then_some(())).await;
    let mut said = Vec::new();
    for (stream, last) in &mut under_way {
        tokio::io::AsyncWriteExt::write_all(stream, &[*last]).await.expect("sent");
    }
    for (stream, _) in &mut under_way {
        said.push(raw::read(stream).await);
    }
    let won = said.iter().filter(|said| said.contains("ok refs/heads/")).count();
    assert_eq!(won, 1, "{said:?}");
    let lost = said.iter().find(|said| !said.contains("ok refs/heads/")).expect("one lost");
    assert!(lost.contains("the quota of stored bytes does not suffice"), "{lost}");
    assert!(lost.contains("would keep more than the 146 KiB that one may keep"), "{lost}");
    assert_eq!(stored(&place), 2, "what was refused is taken back");
    let path = format!("/v1/git-uploads/{}", text(&made["id"]));
    let now = client.get(&path).await.expect(200).json();
    assert_eq!((&now["pushes"], now["refs"].as_array().map(Vec::len)), (&json!(1), Some(1)));
    assert_eq!(hits(&server, "upload_stored_bytes").await, 1);
    assert!(used(&client, "upload_stored_bytes").await < 150_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_at_once_with_one_token() {
    let mut place = Place::sqlite();
    place.set("SLUICE_LIMIT_PUSHES_PER_TOKEN", "1");
    let server = place.start().await;
    let client = server.admin().await;
    let made = client.upload(json!({"scan": false})).await;
    let (good, tip) = pack::good();
    let push = raw::create_ref("refs/heads/slow", &tip, &good);
    let mut slow = raw::connect(&server).await;
    raw::begin(&mut slow, &made, push.len(), &push[..push.len() - 1]).await;
    let waiting = || place.entries("git/incoming").len();
    until("the slow push is in quarantine", async || (waiting() > 0).then_some(())).await;

    let work = samples::small(&Git::any()).await;
    let said = work.push(&text(&made["push_url"]), &["main"]).await;
    said.refused("1 pushes with this token are under way");
    said.refused("SLUICE_LIMIT_PUSHES_PER_TOKEN");
    assert_eq!(hits(&server, "pushes_per_token").await, 1);
    // Another token of the same person is another one.
    let host = server.address.strip_prefix("http://").expect("http");
    let access = client.token.clone().expect("a token");
    let url = format!("http://x:{access}@{host}/git/{}.git", text(&made["id"]));
    work.push(&url, &["main"]).await.expect();
    // One that broke off counts no longer.
    drop(slow);
    work.commit("more").await;
    until("the turn is free", async || {
        work.push(&text(&made["push_url"]), &["main"]).await.ok.then_some(())
    })
    .await;
}
