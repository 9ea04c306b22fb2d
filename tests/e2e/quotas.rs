//! Every quota is counted where it refuses.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::crash::noise;
use crate::support::client::text;
use crate::support::{Client, Git, Place, Server, Upstream, Work, pack, raw, samples, until};

/// Quotas of requests, all on one server, and how often the story meets them.
const OF_REQUESTS: &[(&str, &str, u64)] = &[
    ("request_bytes", "3000", 2),
    ("requests_per_minute", "200", 1),
    ("upload_seconds", "100", 1),
    ("login_failures", "2", 1),
    ("projects", "2", 1),
    ("uploads", "1", 1),
    ("api_keys", "1", 1),
    ("archive_bytes", "1500", 1),
    ("lfs_object_bytes", "10", 2),
];

/// Quotas of pushes and of what follows them, each on a server of its own, and whether
/// git goes through.
const OF_PUSHES: &[(&str, &str, bool)] = &[
    ("push_bytes", "10000", false),
    ("push_objects", "3", false),
    ("object_bytes", "10000", false),
    ("push_inflated_bytes", "10000", false),
    ("push_resolved_bytes", "10000", false),
    ("delta_depth", "0", false),
    ("upload_refs", "1", false),
    ("push_commands", "1", false),
    ("push_wait_seconds", "0", true),
    ("snapshot_files", "2", true),
    ("snapshot_bytes", "1000", true),
    ("scan_file_bytes", "30", true),
    ("scan_findings", "1", true),
    ("scan_seconds", "1", true),
];

/// Quotas of clients that send nothing any more.
const OF_SILENCE: &[&str] = &["push_seconds", "push_idle_seconds"];

/// Quotas of archives and of what comes by URL.
const OF_SOURCES: &[&str] = &["fetch_seconds", "push_idle_seconds", "archive_seconds"];

/// Whoever meets it waits for a minute first; the tests of `sluice-git` do not.
const NOT_MET: &[&str] = &["pushes_at_once"];

/// Those whose sentences the tests of [`crate::limits`] read too.
const ELSEWHERE: &[&str] = &[
    "tree_entries",
    "path_bytes",
    "pushes_per_token",
    "upload_stored_bytes",
    "project_stored_bytes",
    "server_stored_bytes",
];

/// Refuses nobody: `sluice::bare` keeps to it.
const KEPT_TO: &[&str] = &["git_cache_bytes"];

#[test]
fn no_quota_is_left_out() {
    let mut met: Vec<&str> = OF_REQUESTS.iter().map(|(name, ..)| *name).collect();
    met.extend(OF_PUSHES.iter().map(|(name, ..)| *name));
    met.extend([OF_SILENCE, OF_SOURCES, NOT_MET, ELSEWHERE, KEPT_TO].concat());
    met.sort_unstable();
    met.dedup();
    let mut all: Vec<&str> = sluice::config::LIMITS.iter().map(|limit| limit.name).collect();
    all.sort_unstable();
    assert_eq!(met, all);
}

/// How often each quota refused something.
async fn hits(server: &Server) -> BTreeMap<String, u64> {
    let figures = server.metrics().await;
    let prefix = "sluice_limit_hits_total{limit=\"";
    let hit = |line: &str| {
        let (name, count) = line.strip_prefix(prefix)?.split_once("\"} ")?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    figures.lines().filter_map(hit).collect()
}

/// Waits until a quota was met, and no other.
async fn met(server: &Server, name: &str) -> u64 {
    let found = until(name, async || {
        let hits = hits(server).await;
        (!hits.is_empty()).then_some(hits)
    })
    .await;
    assert_eq!(found.keys().collect::<Vec<_>>(), [name], "{found:?}");
    found[name]
}

fn limited(name: &str, value: &str) -> Place {
    let mut place = Place::sqlite();
    place.set(&format!("SLUICE_LIMIT_{}", name.to_uppercase()), value);
    Upstream::reachable(&mut place);
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_of_requests_are_counted() {
    let mut place = Place::sqlite();
    for (name, value, _) in OF_REQUESTS {
        place.set(&format!("SLUICE_LIMIT_{}", name.to_uppercase()), value);
    }
    let server = place.start().await;
    let client = server.admin().await;
    place.run(&["user", "add", "eve@example.org", "--password-stdin"], "a long password\n").await;
    let eve = server.anonymous().sign_in("eve@example.org", "a long password").await;

    let long = json!({"name": "p", "description": "x".repeat(4000)});
    client.post("/v1/projects", long.clone()).await.problem(413, "payload_too_large");
    let with_key = client.request(Method::POST, "/v1/projects").header("idempotency-key", "k");
    Client::send(with_key.json(&long)).await.problem(413, "payload_too_large");
    let late = json!({"expires_in": 101});
    client.post("/v1/git-uploads", late).await.problem(422, "validation_failed");
    for name in ["one", "two"] {
        client.post("/v1/projects", json!({"name": name})).await.expect(201);
    }
    let third = client.post("/v1/projects", json!({"name": "three"})).await;
    third.problem(403, "quota_exceeded");
    let projects = client.all("/v1/projects").await;
    let project = text(&projects[0]["id"]);
    let made = client.upload(json!({"project_id": project})).await;
    let second = client.post("/v1/git-uploads", json!({"project_id": project})).await;
    second.problem(403, "quota_exceeded");
    client.post("/v1/api-keys", json!({"name": "k"})).await.expect(201);
    client.post("/v1/api-keys", json!({"name": "l"})).await.problem(403, "quota_exceeded");
    let wrong = json!({"email": "nobody@example.org", "password": "wrong and long"});
    for status in [401, 401, 429] {
        server.anonymous().post("/v1/auth/login", wrong.clone()).await.expect(status);
    }
    let form = client.request(Method::POST, &format!("/v1/projects/{project}/repositories"));
    Client::send(samples::form(form)).await.problem(413, "payload_too_large");
    let lfs = format!("/git/{}.git/info/lfs/objects", text(&made["id"]));
    let login = (text(&made["username"]), text(&made["token"]));
    let ask = |method: Method, path: &str| {
        client.request(method, path).basic_auth(&login.0, Some(&login.1))
    };
    let oid = "a".repeat(64);
    let question = json!({"operation": "upload", "objects": [{"oid": oid, "size": 11}]});
    let batch = ask(Method::POST, &format!("{lfs}/batch"))
        .header("content-type", "application/vnd.git-lfs+json")
        .body(question.to_string());
    let said = Client::send(batch).await.expect(200).json();
    assert_eq!(said["objects"][0]["error"]["code"], 422, "{said}");
    let put = ask(Method::PUT, &format!("{lfs}/{oid}?size=11")).body("12345678901");
    Client::send(put).await.expect(422);
    let refused = async || {
        for _ in 0..300 {
            let answer = eve.get("/v1/auth/me").await;
            if answer.status.as_u16() == 429 {
                return answer;
            }
        }
        panic!("eve may ask as often as she likes");
    };
    assert!(refused().await.header("retry-after").is_some());

    let hits = hits(&server).await;
    let expected: BTreeMap<String, u64> =
        OF_REQUESTS.iter().map(|(name, _, times)| ((*name).to_owned(), *times)).collect();
    assert_eq!(hits, expected);
}

/// A repository with two branches, something that nothing compresses, and a file whose
/// every version is best told by the one before.
async fn much() -> Work {
    let work = samples::small(&Git::any()).await;
    let noise = noise(20_000);
    work.write("noise.bin", &noise);
    let mut file = vec![0; 40_000];
    for (round, part) in noise.chunks(2_000).take(6).enumerate() {
        // As noise is, but not the same twice.
        let part: Vec<u8> = part.iter().map(|byte| byte ^ 0x55).collect();
        file[round * 6_000..][..part.len()].copy_from_slice(&part);
        work.write("long.bin", &file);
        work.commit("again").await;
    }
    work.run(&["branch", "other"]).await.expect();
    work.run(&["repack", "-q", "-a", "-d", "-f", "--depth=20"]).await.expect();
    work
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_of_pushes_are_counted() {
    let work = much().await;
    let large = Work::new(&Git::any()).await;
    for index in 0..400 {
        let code = samples::injectable(&format!("f{index}")).repeat(40);
        large.write(&format!("module_{index}.py"), code);
    }
    large.commit("much to look at").await;
    for (name, value, goes_through) in OF_PUSHES {
        let place = limited(name, value);
        let server = place.start().await;
        let client = server.admin().await;
        let made = client.upload(json!({})).await;
        let work = if *name == "scan_seconds" { &large } else { &work };
        let refs = match *name {
            "upload_refs" | "push_commands" => "refs/heads/*:refs/heads/*",
            _ => "refs/heads/main",
        };
        let url = text(&made["push_url"]);
        let said = match *name {
            "push_wait_seconds" => work.run(&["push", "-o", "wait", &url, refs]).await,
            _ => work.push(&url, &[refs]).await,
        };
        assert_eq!(said.ok, *goes_through, "{name}: {}", said.err);
        assert!(met(&server, name).await > 0);
        let figures = server.metrics().await;
        let refused = "sluice_pushes_total{outcome=\"refused\"";
        assert_eq!(figures.contains(refused), !goes_through, "{name}: {figures}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_of_silent_clients_are_counted() {
    for name in OF_SILENCE {
        let place = limited(name, "1");
        let server = place.start().await;
        let client = server.admin().await;
        let made = client.upload(json!({})).await;
        let (pack, tip) = pack::good();
        let mut connection = raw::connect(&server).await;
        raw::begin(&mut connection, &made, 100_000, &raw::create(&tip, &pack[..12])).await;
        assert_eq!(met(&server, name).await, 1);
        drop(connection);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_of_sources_are_counted() {
    let upstream = Upstream::start().await;
    let work = samples::small(&Git::any()).await;
    work.write("noise.bin", noise(1 << 20));
    work.commit("much to fetch").await;
    let git = upstream.repository(&work, "shop.git").await;
    let archive = upstream.file("noise.tar", &noise(200_000));
    upstream.close();
    let by_url = [("git", &git), ("archive", &archive)];
    let none: &[(&str, &String)] = &[];
    let stories = [by_url.as_slice(), by_url.as_slice(), none];
    for (name, sources) in OF_SOURCES.iter().zip(stories) {
        let value = if sources.is_empty() { "0" } else { "1" };
        let place = limited(name, value);
        let server = place.start().await;
        let client = server.admin().await;
        let project = client.post("/v1/projects", json!({"name": "p"})).await.expect(201).json();
        let list = format!("/v1/projects/{}/repositories", text(&project["id"]));
        let failed = async |made: Value| {
            let path = format!("/v1/repositories/{}", text(&made["id"]));
            until("the ingest fails", async || {
                let now = client.get(&path).await.expect(200).json();
                (now["ingest_status"] == "failed").then(|| text(&now["ingest_error"]["code"]))
            })
            .await
        };
        if sources.is_empty() {
            let form = samples::form(client.request(Method::POST, &list));
            let made = Client::send(form).await.expect(201).json();
            assert_eq!(failed(made).await, "archive_too_slow");
            assert_eq!(met(&server, name).await, 1);
            continue;
        }
        for (times, (kind, url)) in (1..).zip(sources) {
            let body = json!({"name": kind, "source_type": kind, "source_url": url});
            let made = client.post(&list, body).await.expect(201).json();
            assert_eq!(failed(made).await, "timeout", "{name} {kind}");
            assert_eq!(met(&server, name).await, times, "{name} {kind}");
        }
    }
    // An archive by URL meets the quota of one that is sent.
    upstream.open();
    let place = limited("archive_bytes", "100000");
    let server = place.start().await;
    let client = server.admin().await;
    let project = client.post("/v1/projects", json!({"name": "p"})).await.expect(201).json();
    let list = format!("/v1/projects/{}/repositories", text(&project["id"]));
    let body = json!({"name": "a", "source_type": "archive", "source_url": archive});
    client.post(&list, body).await.expect(201);
    assert_eq!(met(&server, "archive_bytes").await, 1);
}
