//! Two servers and a worker on one PostgreSQL and one storage, each with a data folder of
//! its own: whatever one of them is told, the others act upon.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::concurrency::Barrier;
use crate::crash::scanned_once;
use crate::support::client::text;
use crate::support::{Client, Forwarder, Git, Place, Server, Work, raw, samples, until};

struct Cluster {
    a: Server,
    b: Server,
    worker: Server,
    // Folders of the processes.
    _places: [Place; 3],
}

/// Changes the place of all processes before they start.
async fn cluster(change: impl Fn(&mut Place)) -> Cluster {
    let mut first = Place::postgres().await;
    change(&mut first);
    let (second, third) = (first.beside(), first.beside());
    // The first start at the same moment: both migrate, both want to make the account.
    let (a, b) =
        tokio::join!(first.start_with(&["--no-worker"]), second.start_with(&["--no-worker"]));
    let made = [&a, &b].map(|server| server.log().matches("created the account").count());
    assert_eq!(made.iter().sum::<usize>(), 1, "{made:?}");
    let worker = third.start_worker("worker").await;
    Cluster { a, b, worker, _places: [first, second, third] }
}

/// The same caller at another server.
fn at(client: &Client, server: &Server) -> Client {
    client.at(server)
}

fn upload_path(made: &Value) -> String {
    format!("/v1/git-uploads/{}", text(&made["id"]))
}

async fn cloned(git: &Git, url: &str) -> Work {
    let copy = Work::at(git, tempfile::tempdir().expect("a temporary folder"));
    copy.run(&["clone", "-q", url, "."]).await.expect();
    copy.run(&["fsck", "--full", "--strict"]).await.expect();
    copy
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requests_of_one_push_go_to_different_servers() {
    let cluster = cluster(|_| {}).await;
    let (a, b) = (&cluster.a, &cluster.b);
    let client = a.admin().await;
    let both = Forwarder::to(&[&a.address[7..], &b.address[7..]]).await;
    let git = Git::any();
    let work = samples::demo(&git).await;
    let made = client.upload(json!({})).await;
    let through = a.push_url(&made).replace(&a.address[7..], &both.address.to_string());
    // One connection for each request.
    let close = "http.extraHeader=Connection: close";
    for round in 0..3 {
        work.write("more.txt", format!("{round}"));
        work.commit("more").await;
        let before = both.taken();
        work.run(&["-c", close, "push", &through, "main"]).await.expect();
        let after = both.taken();
        assert!(after[0] > before[0] && after[1] > before[1], "{before:?} {after:?}");
        // What one took in, either gives back.
        for server in [a, b] {
            let copy = cloned(&git, &server.push_url(&made)).await;
            assert_eq!(copy.head().await, work.head().await);
        }
    }
    let copy = Work::at(&git, tempfile::tempdir().expect("a temporary folder"));
    copy.run(&["-c", close, "clone", "-q", &through, "."]).await.expect();
    assert_eq!(copy.head().await, work.head().await);

    // The worker has neither taken in nor given out any of it.
    let other = at(&client, b);
    let (upload, scan) = other.scanned(&text(&made["id"])).await;
    assert_eq!(upload["pushes"], 3, "{upload}");
    let repository = text(&upload["repository_id"]);
    let findings = client.findings(&repository).await;
    assert!(findings.len() >= 25, "{}", findings.len());
    assert_eq!(other.findings(&repository).await, findings);
    for server in [&client, &other] {
        for artifact in scan["artifacts"].as_array().expect("artefacts") {
            let path = text(&artifact["url"]);
            let path = path.find("/v1/").map_or(path.as_str(), |at| &path[at..]);
            server.get(path).await.expect(200);
        }
        let source = format!("/v1/repositories/{repository}/source-files/more.txt");
        assert_eq!(server.get(&source).await.expect(200).text(), "2");
    }
    assert!(cluster.worker.log().contains("workers started"));
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_and_streams_hear_of_what_other_processes_commit() {
    let cluster = cluster(|_| {}).await;
    let (a, b) = (&cluster.a, &cluster.b);
    let client = a.admin().await;
    let other = at(&client, b);
    let git = Git::any();
    let work = samples::demo(&git).await;
    let made = client.upload(json!({})).await;

    // Nothing looks on its own for as long as a wait lasts.
    let tag = other.get(&upload_path(&made)).await.expect(200);
    let tag = tag.header("etag").expect("a tag").to_owned();
    let wait = tokio::spawn({
        let (other, path) = (other.clone(), format!("{}?wait=45", upload_path(&made)));
        async move {
            let request = other.request(Method::GET, &path).header("if-none-match", tag);
            (Client::send(request).await, Instant::now())
        }
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!wait.is_finished());
    let pushed = Instant::now();
    work.push(&a.push_url(&made), &["main"]).await.expect();
    let (answer, at_last) = wait.await.expect("an answer");
    let changed = answer.expect(200).json();
    assert!(changed["pushes"] == 1 || changed["status"] != "awaiting_push", "{changed}");
    let took = at_last.duration_since(pushed);
    assert!(took < Duration::from_secs(8), "{took:?}");

    // The worker scans; a stream of each server tells all of it, in order.
    let upload = client.ingested(&text(&made["id"])).await;
    let scan = format!(
        "/v1/repositories/{}/scans/{}",
        text(&upload["repository_id"]),
        text(&upload["scan_id"])
    );
    let streamed = async |client: &Client| {
        let request = client.request(Method::GET, &format!("{scan}/events"));
        let request = request.header("accept", "text/event-stream");
        let text = Client::send(request).await.expect(200).text();
        let data = text
            .lines()
            .filter_map(|line| line.strip_prefix("data: ").or(line.strip_prefix("data:")));
        data.map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect::<Vec<_>>()
    };
    let (one, two) = tokio::join!(streamed(&client), streamed(&other));
    assert_eq!(one, two);
    for (index, event) in one.iter().enumerate() {
        assert_eq!(event["seq"], index + 1, "{event}");
    }
    assert_eq!(one.last().expect("events")["type"], "completed");
    assert!(!scanned_once(&other, &text(&made["id"])).await.is_empty());

    // A push that waits for its scan, which no process of its server does.
    work.write("late.py", samples::injectable("late"));
    work.commit("late").await;
    let said = work.push(&b.push_url(&made), &["-o", "wait", "main"]).await.expect();
    assert!(said.err.contains("sluice: found"), "{}", said.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_keys_of_requests_are_those_of_all_servers() {
    let cluster = cluster(|place| {
        place.set("SLUICE_LIMIT_LOGIN_FAILURES", "4");
    })
    .await;
    let (a, b) = (&cluster.a, &cluster.b);
    let client = a.admin().await;
    let other = at(&client, b);

    // The answer to a request is given again by whoever is asked.
    let make = |client: &Client| {
        let request = client.request(Method::POST, "/v1/projects");
        request.header("idempotency-key", "one-key").json(&json!({"name": "once"}))
    };
    let first = Client::send(make(&client)).await.expect(201);
    let again = Client::send(make(&other)).await.expect(201);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.json(), first.json());
    // At the same moment one runs; the other is told so, or gets its answer.
    let race = |client: &Client| {
        let request = client.request(Method::POST, "/v1/projects");
        Client::send(request.header("idempotency-key", "race").json(&json!({"name": "race"})))
    };
    let (one, two) = tokio::join!(race(&client), race(&other));
    for answer in [&one, &two] {
        assert!([201, 409].contains(&answer.status.as_u16()), "{}", answer.text());
    }
    let named = client.all("/v1/projects").await;
    assert_eq!(named.iter().filter(|project| project["name"] == "race").count(), 1);

    // A refresh token that was used at one server ends the session at the other.
    let used = client.refresh_token.clone().expect("a token");
    let body = json!({ "refresh_token": used });
    let fresh = client.post("/v1/auth/refresh", body.clone()).await.expect(200).json();
    let fresh = client.with_token(&text(&fresh["access_token"]));
    at(&fresh, b).get("/v1/auth/me").await.expect(200);
    other.post("/v1/auth/refresh", body).await.problem(401, "unauthorized");
    for client in [&client, &other, &fresh, &at(&fresh, b)] {
        client.get("/v1/auth/me").await.problem(401, "unauthorized");
    }

    // A logout at one server counts at once at the other.
    let client = a.admin().await;
    let other = at(&client, b);
    other.get("/v1/auth/me").await.expect(200);
    client.post("/v1/auth/logout", json!({})).await.expect(204);
    other.get("/v1/auth/me").await.problem(401, "unauthorized");

    // Failures are counted over both.
    let wrong = json!({"email": "admin@localhost", "password": "a wrong password"});
    for server in [a, b, a, b] {
        let answer = server.anonymous().post("/v1/auth/login", wrong.clone()).await;
        answer.problem(401, "unauthorized");
    }
    for server in [a, b] {
        let answer = server.anonymous().post("/v1/auth/login", wrong.clone()).await;
        answer.problem(429, "rate_limited");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_server_stops_stops_everywhere() {
    let cluster = cluster(|place| {
        place.set("SLUICE_WORKERS", "1");
    })
    .await;
    let (a, b) = (&cluster.a, &cluster.b);
    let client = a.admin().await;
    let other = at(&client, b);
    let work = samples::demo(&Git::any()).await;
    for index in 0..300 {
        let text = samples::injectable(&format!("f{index}")).repeat(10);
        work.write(&format!("more/module_{index}.py"), text);
    }
    work.commit("much to look at").await;
    let made = client.upload(json!({})).await;
    work.push(&a.push_url(&made), &["main"]).await.expect();
    let upload = client.ingested(&text(&made["id"])).await;
    let scan = format!(
        "/v1/repositories/{}/scans/{}",
        text(&upload["repository_id"]),
        text(&upload["scan_id"])
    );
    until("the scan runs", async || {
        (other.get(&scan).await.expect(200).json()["status"] == "running").then_some(())
    })
    .await;
    let asked = Instant::now();
    client.delete(&scan).await.expect(200);
    let ended = until("the worker stops", async || {
        let now = other.get(&scan).await.expect(200).json();
        (now["status"] != "running").then_some(now)
    })
    .await;
    assert_eq!(ended["status"], "cancelled", "{ended}");
    // Well before the heartbeat that would read the wish.
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());

    client.delete(&upload_path(&made)).await.expect(204);
    work.write("late.txt", "late\n");
    work.commit("late").await;
    for server in [b, a] {
        work.push(&server.push_url(&made), &["main"]).await.refused("deleted");
    }
    other.get(&upload_path(&made)).await.problem(404, "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_pushes_to_one_ref_on_two_servers_one_wins() {
    let cluster = cluster(|_| {}).await;
    let (a, b) = (&cluster.a, &cluster.b);
    let client = a.admin().await;
    let git = Git::any();
    let made = client.upload(json!({"scan": false})).await;
    for round in 1..=3 {
        let barrier = Barrier::new();
        let mut works = Vec::new();
        for name in ["one", "other"] {
            let work = match round {
                1 => Work::new(&git).await,
                _ => cloned(&git, &a.push_url(&made)).await,
            };
            work.write(&format!("{name}-{round}"), name);
            work.commit(name).await;
            barrier.guard(&work);
            works.push(work);
        }
        let (to_a, to_b) = (a.push_url(&made), b.push_url(&made));
        let (one, other, ()) = tokio::join!(
            works[0].push(&to_a, &["main"]),
            works[1].push(&to_b, &["main"]),
            barrier.open(2)
        );
        assert!(one.ok != other.ok, "one wins: {} {}", one.err, other.err);
        let (winner, lost) = if one.ok { (&works[0], other) } else { (&works[1], one) };
        lost.refused("[remote rejected] main -> main");
        for server in [a, b] {
            let now = at(&client, server).get(&upload_path(&made)).await.expect(200).json();
            assert_eq!(now["refs"][0]["oid"], winner.head().await.as_str(), "{now}");
            assert_eq!(now["pushes"], round, "{now}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_one_limit_of_requests() {
    const LIMIT: usize = 40;
    let cluster = cluster(|place| {
        place.set("SLUICE_LIMIT_REQUESTS_PER_MINUTE", &LIMIT.to_string());
    })
    .await;
    let (a, b) = (&cluster.a, &cluster.b);
    let client = a.admin().await;
    let other = at(&client, b);
    // Both listen by now, or within a moment.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let started = Instant::now();
    for _ in 0..LIMIT / 2 {
        client.get("/v1/auth/me").await.expect(200);
    }
    // The other one hears of it within two seconds.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut served = LIMIT / 2;
    while other.get("/v1/auth/me").await.status == 200 {
        served += 1;
        assert!(served < 2 * LIMIT, "each server has a limit of its own");
    }
    // A bucket refills evenly.
    let refilled = LIMIT * started.elapsed().as_secs() as usize / 60 + 1;
    assert!(served <= LIMIT + refilled, "{served} and {refilled}");
    until("the first one knows too", async || {
        (client.get("/v1/auth/me").await.status == 429).then_some(())
    })
    .await;
    let refused = other.get("/v1/auth/me").await;
    if refused.status == 429 {
        assert!(refused.header("retry-after").is_some());
        refused.problem(429, "rate_limited");
    }
    // Nobody else is touched, and the push has an account of its own token.
    a.anonymous().get("/v1/healthz").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_has_one_process_workers_too() {
    let place = Place::postgres().await;
    let server = place.start_with(&["--no-worker"]).await;
    let second = place.run(&["worker"], "").await;
    assert_eq!(second.code, Some(2), "{second:?}");
    assert!(second.err.contains("another sluice uses the folder"), "{}", second.err);
    let made = server.admin().await.upload(json!({"scan": false})).await;
    let (pack, tip) = (crate::support::pack::good().0, crate::support::pack::good().1);
    let said = raw::push(&server, &made, &raw::create(&tip, &pack)).await;
    assert!(said.contains("ok refs/heads/main"), "{said}");
}
