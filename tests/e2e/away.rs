//! A dependency goes away and comes back: every request is answered in time and says
//! when to come again, and nothing has to be started anew.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::on_both;
use crate::support::client::text;
use crate::support::{Answer, Client, Forwarder, Git, Place, Server, Way, Work, samples, until};

on_both!(a_storage_that_is_away);

/// Longer than a request may take, on a machine that does other things too.
const SOON: Duration = Duration::from_secs(9);

/// 503 as a problem, with the time to wait.
#[track_caller]
fn unavailable(answer: &Answer) {
    answer.problem(503, "unavailable");
    let wait: u64 = answer.header("retry-after").and_then(|v| v.parse().ok()).expect("Retry-After");
    assert!((1..=60).contains(&wait));
}

/// Readiness within its two seconds: which dependencies it names.
async fn not_ready(server: &Server) -> Vec<String> {
    let asked = Instant::now();
    let answer = server.anonymous().get("/v1/readyz").await;
    let took = asked.elapsed();
    assert!(took < Duration::from_millis(2_300), "readiness took {took:?}");
    let body = answer.json();
    let checks = body["checks"].as_object().expect("checks");
    let bad = checks.iter().filter(|(_, check)| check["status"] != "ok");
    bad.map(|(name, _)| name.clone()).collect()
}

async fn ready(server: &Server) {
    until("the server is ready", async || {
        (server.anonymous().get("/v1/readyz").await.status == 200).then_some(())
    })
    .await;
}

/// Many requests at once, of many kinds.
async fn all_refused(client: &Client, upload: &str) {
    let mut requests = JoinSet::new();
    for index in 0..60 {
        let client = client.clone();
        let upload = upload.to_owned();
        requests.spawn(async move {
            let asked = Instant::now();
            let answer = match index % 6 {
                0 => client.get("/v1/auth/me").await,
                1 => client.get("/v1/projects").await,
                2 => client.post("/v1/projects", json!({"name": "p"})).await,
                3 => client.get(&format!("/v1/git-uploads/{upload}?wait=30")).await,
                4 => {
                    let request = client.request(Method::POST, "/v1/projects");
                    let request = request.header("idempotency-key", format!("k{index}"));
                    Client::send(request.json(&json!({"name": "p"}))).await
                }
                _ => {
                    let body = json!({"refresh_token": "not one of ours"});
                    client.post("/v1/auth/refresh", body).await
                }
            };
            (index, answer, asked.elapsed())
        });
    }
    while let Some(done) = requests.join_next().await {
        let (index, answer, took) = done.expect("an answer");
        assert!(took < SOON, "request {index} took {took:?}");
        unavailable(&answer);
    }
}

async fn git_is_told(work: &Work, url: &str, says: &str) {
    let asked = Instant::now();
    let listed = work.run(&["ls-remote", url]).await;
    listed.refused(says);
    let pushed = work.push(url, &["main"]).await;
    pushed.refused(says);
    assert!(asked.elapsed() < 2 * SOON, "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_refuses_or_hangs() {
    let mut place = Place::postgres().await;
    let url = place.postgres.clone().expect("PostgreSQL");
    let (_, rest) = url.split_once('@').expect("a user");
    let (host, name) = rest.split_once('/').expect("a database");
    let way = Forwarder::to(&[host]).await;
    place.set("SLUICE_DATABASE_URL", &format!("postgres://postgres@{}/{name}", way.address));
    let server = place.start().await;
    let other = place.beside();
    let worker = other.start_worker("worker").await;
    let client = server.admin().await;
    let git = Git::any();
    let work = samples::small(&git).await;
    let made = client.upload(json!({})).await;
    let (id, push_url) = (text(&made["id"]), server.push_url(&made));
    work.push(&push_url, &["main"]).await.expect();
    client.scanned(&id).await;

    for (round, trouble) in [Way::Refused, Way::Swallowed].into_iter().enumerate() {
        // One that waits when it begins is answered too.
        let waiting = tokio::spawn({
            let (client, path) = (client.clone(), format!("/v1/git-uploads/{id}?wait=30"));
            async move {
                let now = client.get(&path[..path.len() - 8]).await.expect(200);
                let tag = now.header("etag").expect("a tag").to_owned();
                client.get_if_none_match(&path, &tag).await
            }
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        way.set(trouble);
        // While nobody has noticed yet, and once it is known.
        all_refused(&client, &id).await;
        let asked = Instant::now();
        all_refused(&client, &id).await;
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        git_is_told(&work, &push_url, "cannot reach its database").await;
        assert_eq!(not_ready(&server).await, ["database", "queue"], "{trouble:?}");
        server.anonymous().get("/v1/healthz").await.expect(200);
        // Long enough for whoever would fill the log.
        tokio::time::sleep(Duration::from_secs(6)).await;

        let back = Instant::now();
        way.set(Way::Open);
        ready(&server).await;
        assert!(back.elapsed() < Duration::from_secs(6), "{:?}", back.elapsed());
        let answer = waiting.await.expect("an answer");
        assert!([200, 304, 503].contains(&answer.status.as_u16()), "{}", answer.status);
        // All is as it was, also for the worker.
        client.get("/v1/auth/me").await.expect(200);
        work.write("more.py", samples::injectable(&format!("round{round}")));
        work.commit("more").await;
        work.push(&push_url, &["main"]).await.expect();
        let asked = Instant::now();
        client.scanned(&id).await;
        assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
        let now = client.get(&format!("/v1/git-uploads/{id}")).await.expect(200).json();
        assert_eq!(now["refs"][0]["oid"], work.head().await.as_str(), "{now}");

        for (who, log) in [("server", server.log()), ("worker", worker.log())] {
            let said = |text: &str| log.lines().filter(|line| line.contains(text)).count();
            assert_eq!(said("the database is away"), round + 1, "{who}: {log}");
            assert_eq!(said("the database is back"), round + 1, "{who}: {log}");
            assert!(said("cannot claim a job") <= round + 1, "{who}: {log}");
            assert!(said("the sweeper failed") <= round + 1, "{who}: {log}");
            assert!(said("are not heard") <= round + 1, "{who}: {log}");
        }
        let quiet = worker.log().lines().count();
        assert!(quiet < 60 * (round + 1), "the worker says too much: {}", worker.log());
    }
    let projects = client.all("/v1/projects").await;
    assert!(projects.iter().all(|project| project["name"] != "p"), "nothing was half done");
}

/// A server that is stopped while its database hangs ends all the same, and one that is
/// started then says why it cannot.
#[tokio::test(flavor = "multi_thread")]
async fn start_and_stop_while_the_database_hangs() {
    let mut place = Place::postgres().await;
    let url = place.postgres.clone().expect("PostgreSQL");
    let (_, rest) = url.split_once('@').expect("a user");
    let (host, name) = rest.split_once('/').expect("a database");
    let way = Forwarder::to(&[host]).await;
    place.set("SLUICE_DATABASE_URL", &format!("postgres://postgres@{}/{name}", way.address));
    let mut server = place.start().await;
    way.set(Way::Swallowed);
    server.terminate();
    let (code, took) = server.ended().await;
    assert_eq!(code, Some(0), "{}", server.log());
    assert!(took < Duration::from_secs(30), "{took:?}");
    for trouble in [Way::Swallowed, Way::Refused] {
        way.set(trouble);
        let started = Instant::now();
        let ended = place.run(&["serve"], "").await;
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.err.contains("SLUICE_DATABASE_URL"), "{}", ended.err);
        assert!(ended.err.contains("cannot be reached"), "{}", ended.err);
    }
    way.set(Way::Open);
    place.start().await;
}

async fn a_storage_that_is_away(place: Place) {
    let server = place.start().await;
    let client = server.admin().await;
    let git = Git::any();
    let work = samples::small(&git).await;
    let made = client.upload(json!({})).await;
    let (id, push_url) = (text(&made["id"]), server.push_url(&made));
    work.push(&push_url, &["main"]).await.expect();
    let (upload, scan) = client.scanned(&id).await;
    let repository = format!("/v1/repositories/{}", text(&upload["repository_id"]));
    let source = format!("{repository}/source-files/service/users.py");
    client.get(&source).await.expect(200);

    let (objects, aside) = (place.data().join("objects"), place.dir.path().join("aside"));
    std::fs::rename(&objects, &aside).expect("moved");
    std::fs::write(&objects, "no folder").expect("a file");
    // And no copy of it is here any more.
    for entry in std::fs::read_dir(place.data().join("git")).expect("a folder").flatten() {
        if entry.file_name() != "incoming" {
            std::fs::remove_dir_all(entry.path()).expect("removed");
        }
    }
    assert_eq!(not_ready(&server).await, ["storage"]);
    let paths: Vec<String> = scan["artifacts"]
        .as_array()
        .expect("artefacts")
        .iter()
        .map(|artifact| {
            let url = text(&artifact["url"]);
            url.find("/v1/").map_or(url.clone(), |at| url[at..].to_owned())
        })
        .chain([source.clone(), format!("{source}?lines=1-2"), format!("{repository}/source-tree")])
        .collect();
    for path in &paths {
        unavailable(&client.get(path).await);
    }
    let archive = samples::form(client.request(Method::POST, "/v1/sessions"));
    unavailable(&Client::send(archive).await);
    unavailable(&client.post("/v1/ops/cleanup", json!({})).await);
    work.write("more.py", samples::injectable("more"));
    work.commit("more").await;
    work.push(&push_url, &["main"]).await.refused("cannot reach its storage");
    let copy = Work::at(&git, tempfile::tempdir().expect("a temporary folder"));
    copy.run(&["clone", "-q", &push_url, "."]).await.refused("cannot reach its storage");
    lfs_is_told(&server, &made).await;
    // A job waits, and none of its tries is used up: they would be by now.
    let scans = format!("{repository}/scans");
    let waits = client.post(&scans, json!({})).await.expect(201).json();
    let waits = format!("{scans}/{}", text(&waits["id"]));
    tokio::time::sleep(Duration::from_secs(25)).await;
    let now = client.get(&waits).await.expect(200).json();
    assert!(now["status"] == "queued" || now["status"] == "running", "{now}");
    assert_eq!(server.log().matches("the database is away").count(), 0);

    std::fs::remove_file(&objects).expect("removed");
    std::fs::rename(&aside, &objects).expect("moved back");
    ready(&server).await;
    for path in &paths {
        client.get(path).await.expect(200);
    }
    let ended = client.ended(&text(&upload["repository_id"]), &text(&now["id"])).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    work.push(&push_url, &["main"]).await.expect();
    client.scanned(&id).await;
}

/// An object of LFS that is to be stored.
async fn lfs_is_told(server: &Server, made: &Value) {
    use base64::Engine as _;
    use sha2::{Digest as _, Sha256};
    let bytes = b"large";
    let oid = format!("{:x}", Sha256::digest(bytes));
    let path = format!("/git/{}.git/info/lfs/objects/{oid}?size=5", text(&made["id"]));
    let login = format!("{}:{}", text(&made["username"]), text(&made["token"]));
    let login = base64::engine::general_purpose::STANDARD.encode(login);
    let request = server.anonymous().request(Method::PUT, &path);
    let request = request.header("authorization", format!("Basic {login}")).body(&bytes[..]);
    let answer = Client::send(request).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert!(answer.json()["message"].as_str().expect("a sentence").contains("storage"));
}
