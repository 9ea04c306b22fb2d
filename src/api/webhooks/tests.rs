//! Webhooks against a real receiver on a socket, which checks signatures with code of
//! its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::accounts::testing::{TestServer, answer};
use crate::api::scans::tests::{begin, signed_in, started};
use crate::db::findings::{Coverage, merge};
use crate::db::jobs::{self, JobKind, NewJob};
use crate::db::scans::{self, Ending};
use crate::db::testing::{Tenant, TestDb};
use crate::db::webhooks::{MAX_PENDING, RETRIES};
use crate::db::{Sql, args, new_id};
use crate::queue::Workers;
use crate::scan::{Confidence, EngineKind, Finding, Location, Severity, Span};

/// What came in.
#[derive(Clone)]
struct Message {
    headers: HeaderMap,
    body: Bytes,
    path: String,
}

/// A receiver that answers with these statuses in turn, and 200 behind them; 0 hangs.
#[derive(Clone)]
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<Message>>>,
    answers: Arc<Mutex<VecDeque<u16>>>,
}

impl Receiver {
    async fn start(answers: &[u16]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            url: format!("http://{}/hook", listener.local_addr().unwrap()),
            got: Arc::default(),
            answers: Arc::new(Mutex::new(answers.iter().copied().collect())),
        };
        let router = Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    fn got(&self) -> Vec<Message> {
        self.got.lock().unwrap().clone()
    }

    async fn wait_for(&self, count: usize) -> Vec<Message> {
        let begun = Instant::now();
        while self.got().len() < count {
            let seen = self.got().len();
            assert!(begun.elapsed() < Duration::from_secs(20), "{seen} of {count} messages");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.got()
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    receiver.got.lock().unwrap().push(Message { headers, body, path });
    let status = receiver.answers.lock().unwrap().pop_front().unwrap_or(200);
    match status {
        0 => std::future::pending().await,
        429 => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "3600")]).into_response(),
        302 => (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")], "moved").into_response(),
        status => (StatusCode::from_u16(status).unwrap(), "x".repeat(10_000)).into_response(),
    }
}

/// HMAC-SHA-256 as RFC 2104 writes it down, for keys of up to a block.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

/// How many of the signatures this secret made.
fn verified(message: &Message, secret: &str) -> usize {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let field = |name: &str| message.headers[name].to_str().unwrap();
    let at: i64 = field("webhook-timestamp").parse().unwrap();
    assert!((at - crate::db::now() / 1_000_000).abs() < 60, "a fresh time");
    let mut text = format!("{}.{at}.", field("webhook-id")).into_bytes();
    text.extend_from_slice(&message.body);
    let expected = format!("v1,{}", STANDARD.encode(hmac(&key, &text)));
    field("webhook-signature").split(' ').filter(|one| *one == expected).count()
}

async fn start(test: TestDb, private: bool) -> TestServer {
    let change = |config: &mut crate::config::Config| {
        config.allow_private_urls = private;
        config.allow_http_urls = private;
        config.workers = 1;
    };
    TestServer::start(test, change, Router::new()).await
}

async fn both() -> Vec<TestServer> {
    let mut servers = Vec::new();
    for test in crate::db::testing::both().await {
        servers.push(start(test, true).await);
    }
    servers
}

/// Makes a webhook; answers its address and its secret.
async fn hook(
    server: &TestServer,
    tenant: Tenant,
    token: &str,
    url: &str,
    events: &[&str],
) -> (String, String) {
    let path = format!("/v1/projects/{}/webhooks", tenant.project);
    let body = json!({"url": url, "events": events});
    let (status, made) = server.post(&path, token, &body).await;
    assert_eq!(status, 201, "{}: {made}", server.name);
    let path = format!("/v1/webhooks/{}", made["id"].as_str().unwrap());
    (path, made["secret"].as_str().unwrap().to_owned())
}

/// Makes what waits for its next try due.
async fn hurry(server: &TestServer) {
    const HURRY: Sql = Sql::both("UPDATE jobs SET run_at = 0 WHERE status = 'queued'");
    let mut tx = server.app.db.begin().await.unwrap();
    tx.execute(HURRY, args![]).await.unwrap();
    tx.wake_workers();
    tx.commit().await.unwrap();
}

/// The newest delivery, once it has that many tries.
async fn tried(server: &TestServer, hook: &str, token: &str, attempts: i64) -> Value {
    let begun = Instant::now();
    loop {
        let (_, page) = server.get(&format!("{hook}/deliveries"), token).await;
        let newest = page["items"][0].clone();
        if newest["attempts"] == attempts {
            return newest;
        }
        assert!(begun.elapsed() < Duration::from_secs(25), "{}: {newest}", server.name);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

#[tokio::test]
async fn a_message_is_signed_and_tried_until_it_is_taken() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let workers = Workers::start(&server.app);
        let receiver = Receiver::start(&[500, 503]).await;
        let (hook, secret) = hook(&server, ada, &token, &receiver.url, &["scan.completed"]).await;
        let (status, delivery) = server.post(&format!("{hook}/ping"), &token, &json!({})).await;
        assert_eq!((status, &delivery["status"]), (202, &json!("pending")), "{}", server.name);
        let failed = tried(&server, &hook, &token, 1).await;
        assert_eq!(failed["status"], "pending", "{}: {failed}", server.name);
        assert_eq!(failed["response_status"], 500);
        assert_eq!(failed["response_body"].as_str().unwrap().len(), 4096);
        assert!(failed["next_attempt_at"].is_string(), "{failed}");
        let (_, shown) = server.get(&hook, &token).await;
        assert!(shown["failing_since"].is_string(), "{}: {shown}", server.name);
        assert!(shown.get("secret").is_none(), "shown once: {shown}");
        hurry(&server).await;
        tried(&server, &hook, &token, 2).await;
        hurry(&server).await;
        let done = tried(&server, &hook, &token, 3).await;
        assert_eq!(
            (&done["status"], &done["error"]),
            (&json!("delivered"), &Value::Null),
            "{}: {done}",
            server.name
        );
        let (_, shown) = server.get(&hook, &token).await;
        assert_eq!(shown["failing_since"], Value::Null, "{}", server.name);
        let got = receiver.wait_for(3).await;
        let ids: Vec<_> = got.iter().map(|m| m.headers["webhook-id"].clone()).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{}: {ids:?}", server.name);
        assert!(got.iter().all(|m| verified(m, &secret) == 1), "{}", server.name);
        let body: Value = serde_json::from_slice(&got[0].body).unwrap();
        assert_eq!(body["type"], "ping", "{}", server.name);

        // Redelivered: the same message, known by its id. Rotated: both secrets sign.
        let rotate = format!("{hook}/rotate-secret");
        let (status, rotated) = server.post(&rotate, &token, &json!({})).await;
        assert_eq!(status, 200, "{}: {rotated}", server.name);
        let new_secret = rotated["secret"].as_str().unwrap();
        let again = format!("{hook}/deliveries/{}/redeliver", done["id"].as_str().unwrap());
        assert_eq!(server.post(&again, &token, &json!({})).await.0, 202, "{}", server.name);
        let got = receiver.wait_for(4).await;
        assert_eq!(got[3].headers["webhook-id"], ids[0], "{}", server.name);
        assert_eq!(got[3].body, got[0].body, "{}", server.name);
        assert_eq!((verified(&got[3], &secret), verified(&got[3], new_secret)), (1, 1));
        server.app.stopping.cancel();
        workers.stopped().await;
    }
}

/// Ten tries, more than a job of another kind has.
#[tokio::test]
async fn a_message_is_taken_at_the_last_try() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let workers = Workers::start(&server.app);
        let receiver = Receiver::start(&[500; RETRIES.len()]).await;
        let (hook, _) = hook(&server, ada, &token, &receiver.url, &["upload.ready"]).await;
        let (status, _) = server.post(&format!("{hook}/ping"), &token, &json!({})).await;
        assert_eq!(status, 202, "{}", server.name);
        for attempt in 1..=RETRIES.len() as i64 {
            let failed = tried(&server, &hook, &token, attempt).await;
            assert_eq!(failed["status"], "pending", "{}: {failed}", server.name);
            hurry(&server).await;
        }
        let done = tried(&server, &hook, &token, RETRIES.len() as i64 + 1).await;
        assert_eq!(done["status"], "delivered", "{}: {done}", server.name);
        server.app.stopping.cancel();
        workers.stopped().await;
    }
}

/// A receiver that names a time gets neither this message nor another one before it.
#[tokio::test]
async fn a_receiver_is_left_alone_until_it_wants_more() {
    const HOUR: i64 = 3600;
    for server in both().await {
        let name = server.name;
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let receiver = Receiver::start(&[429]).await;
        let (hook, _) = hook(&server, ada, &token, &receiver.url, &["scan.completed"]).await;
        for _ in 0..2 {
            let (status, _) = server.post(&format!("{hook}/ping"), &token, &json!({})).await;
            assert_eq!(status, 202, "{name}");
        }
        let scan = started(&server, ada, &token).await;
        begin(&server, scan).await;
        // Only deliveries are to be done here.
        let mut tx = server.app.db.begin().await.unwrap();
        jobs::cancel(&mut tx, scan).await.unwrap();
        tx.commit().await.unwrap();
        let workers = Workers::start(&server.app);
        receiver.wait_for(1).await;
        let due = async || -> Vec<i64> {
            let (_, page) = server.get(&format!("{hook}/deliveries"), &token).await;
            let rows = page["items"].as_array().unwrap();
            let at = |row: &Value| row["next_attempt_at"].as_str().unwrap().parse().unwrap();
            rows.iter().map(|row| jiff::Timestamp::as_second(at(row))).collect()
        };
        let begun = Instant::now();
        let now = crate::db::now() / 1_000_000;
        let in_an_hour = |at: &i64| (now + HOUR - 60..=now + HOUR + 60).contains(at);
        while !due().await.iter().all(in_an_hour) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{name}: {:?}", due().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // What happens meanwhile waits too.
        let mut tx = server.app.db.begin().await.unwrap();
        let ending = Ending::Completed(scans::Summary::default());
        assert!(scans::finish(&mut tx, scan, &ending).await.unwrap());
        tx.commit().await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let all = due().await;
        assert!(all.len() == 3 && all.iter().all(in_an_hour), "{name}: {all:?}");
        assert_eq!(receiver.got().len(), 1, "{name}");
        // Once it takes a message the pause is over.
        hurry(&server).await;
        receiver.wait_for(4).await;
        let id = hook.rsplit('/').next().unwrap().parse().unwrap();
        let paused = async || {
            let hook = crate::db::webhooks::by_id(&server.app.db, id).await.unwrap().unwrap();
            hook.paused_until.is_some()
        };
        while paused().await {
            assert!(begun.elapsed() < Duration::from_secs(30), "{name}: the pause goes on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server.app.stopping.cancel();
        workers.stopped().await;
    }
}

#[tokio::test]
async fn who_wants_no_more_is_disabled_and_redirects_are_not_followed() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let workers = Workers::start(&server.app);
        let receiver = Receiver::start(&[302, 410]).await;
        let (hook, _) = hook(&server, ada, &token, &receiver.url, &["upload.ready"]).await;
        let ping = format!("{hook}/ping");
        server.post(&ping, &token, &json!({})).await;
        let moved = tried(&server, &hook, &token, 1).await;
        assert_eq!(
            (&moved["status"], &moved["response_status"]),
            (&json!("pending"), &json!(302)),
            "{}",
            server.name
        );
        assert!(moved["error"].as_str().unwrap().contains("redirects are not followed"));
        hurry(&server).await;
        let gone = tried(&server, &hook, &token, 2).await;
        assert_eq!(gone["status"], "failed", "{}: {gone}", server.name);
        assert!(receiver.got().iter().all(|m| m.path == "/hook"), "{}", server.name);
        let (_, shown) = server.get(&hook, &token).await;
        assert_eq!(shown["enabled"], false, "{}: {shown}", server.name);
        assert!(shown["disabled_reason"].as_str().unwrap().contains("410"), "{shown}");
        let (status, problem) = server.post(&ping, &token, &json!({})).await;
        assert_eq!((status, &problem["code"]), (409, &json!("disabled")), "{}", server.name);
        // Enabled again, all is forgotten.
        let body = json!({"url": receiver.url, "events": ["finding.new"], "description": "x"});
        let put = server.request(Method::PUT, &hook).bearer_auth(&token).json(&body);
        let (status, shown) = answer(put).await;
        assert_eq!(status, 200, "{}: {shown}", server.name);
        assert_eq!(
            (&shown["enabled"], &shown["disabled_reason"], &shown["events"]),
            (&json!(true), &Value::Null, &json!(["finding.new"]))
        );
        assert_eq!(server.post(&ping, &token, &json!({})).await.0, 202, "{}", server.name);
        receiver.wait_for(3).await;
        server.app.stopping.cancel();
        workers.stopped().await;
    }
}

/// Receivers hang; whoever else is to be told is told, and the one worker goes on.
#[tokio::test]
async fn a_slow_receiver_keeps_nobody_waiting() {
    let server = start(crate::db::testing::sqlite().await, true).await;
    let (ada, token) = signed_in(&server, "ada@example.org").await;
    let (eve, eves) = signed_in(&server, "eve@example.org").await;
    let (slow, quick) = (Receiver::start(&[0; 30]).await, Receiver::start(&[]).await);
    let (hook_slow, _) = hook(&server, ada, &token, &slow.url, &["upload.ready"]).await;
    let (hook_quick, _) = hook(&server, ada, &token, &quick.url, &["upload.ready"]).await;
    let workers = Workers::start(&server.app);
    let ping = async |hook: &str, token: &str| {
        let (status, _) = server.post(&format!("{hook}/ping"), token, &json!({})).await;
        assert_eq!(status, 202);
    };
    for _ in 0..5 {
        ping(&hook_slow, &token).await;
    }
    // One at a time goes to one webhook, so another of the account has its turn.
    slow.wait_for(1).await;
    ping(&hook_quick, &token).await;
    quick.wait_for(1).await;
    assert_eq!(slow.got().len(), 1);
    // And four at a time to one account, so another account has its turn.
    for _ in 0..6 {
        let (more, _) = hook(&server, ada, &token, &slow.url, &["upload.ready"]).await;
        ping(&more, &token).await;
    }
    slow.wait_for(4).await;
    let (hook_eve, _) = hook(&server, eve, &eves, &quick.url, &["upload.ready"]).await;
    ping(&hook_eve, &eves).await;
    quick.wait_for(2).await;
    assert_eq!(slow.got().len(), 4);
    let hook = hook_slow;

    let mut tx = server.app.db.begin().await.unwrap();
    let subject_id = new_id();
    let payload = json!({ "prefixes": [] });
    let job = NewJob { kind: JobKind::DeleteObjects, subject_id, owner_id: None, payload };
    let id = jobs::insert(&mut tx, &job).await.unwrap();
    tx.commit().await.unwrap();
    const DONE: Sql = Sql::both("SELECT status FROM jobs WHERE id = $1");
    let begun = Instant::now();
    loop {
        let (status,): (String,) = server.app.db.conn().fetch_one(DONE, args![id]).await.unwrap();
        if status == "done" {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The oldest of them is given up in time, and will be tried again.
    let (_, page) = server.get(&format!("{hook}/deliveries"), &token).await;
    let oldest = page["items"][4]["id"].as_str().unwrap().to_owned();
    let begun = Instant::now();
    let slow = loop {
        let (_, shown) = server.get(&format!("{hook}/deliveries/{oldest}"), &token).await;
        if shown["attempts"] == 1 {
            break shown;
        }
        assert!(begun.elapsed() < Duration::from_secs(25), "{shown}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(slow["status"], "pending", "{slow}");
    assert!(slow["error"].as_str().unwrap().contains("too long"), "{slow}");
    assert!(slow["duration_ms"].as_i64().unwrap() < 17_000, "{slow}");
    server.app.stopping.cancel();
    workers.stopped().await;
}

fn leak(n: usize) -> Finding {
    Finding {
        fingerprint: format!("{n:036}0000"),
        engine: EngineKind::Secrets,
        rule_id: "aws-access-key".into(),
        title: "AWS access key".into(),
        message: "Here.".into(),
        severity: Severity::Critical,
        confidence: Confidence::High,
        location: Location {
            path: format!("src/{n}.py"),
            span: Span { start_line: 3, start_column: 1, end_line: 3, end_column: 9 },
            commit: None,
            in_history: false,
        },
        other_locations: Vec::new(),
        snippet: "key = AKIA-the-value".into(),
        symbol: String::new(),
        flow: Vec::new(),
        package: None,
        priority: 90,
        suppressed: None,
    }
}

#[tokio::test]
async fn a_scan_tells_that_it_ended_and_what_is_new() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let receiver = Receiver::start(&[]).await;
        let all = ["scan.completed", "finding.new"];
        let (_, secret) = hook(&server, ada, &token, &receiver.url, &all).await;
        hook(&server, ada, &token, &receiver.url, &["upload.ready"]).await;
        let scan = started(&server, ada, &token).await;
        begin(&server, scan).await;
        let mut tx = server.app.db.begin().await.unwrap();
        let row = scans::get(&mut tx, ada.owner, scan).await.unwrap().unwrap();
        let found = (0..60).map(leak).collect();
        let summary = merge(&mut tx, &row, &Coverage::default(), found, |_| None).await.unwrap();
        scans::finish(&mut tx, scan, &Ending::Completed(summary)).await.unwrap();
        tx.commit().await.unwrap();
        // Only deliveries are to be done here.
        let mut tx = server.app.db.begin().await.unwrap();
        jobs::cancel(&mut tx, scan).await.unwrap();
        tx.commit().await.unwrap();
        let workers = Workers::start(&server.app);
        let got = receiver.wait_for(2).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(receiver.got().len(), 2, "{}: the other one wants nothing", server.name);
        let mut bodies: Vec<Value> =
            got.iter().map(|m| serde_json::from_slice(&m.body).unwrap()).collect();
        bodies.sort_by_key(|body| body["type"].as_str().map(str::to_owned));
        let [new, completed] = bodies.try_into().unwrap();
        assert_eq!(completed["type"], "scan.completed", "{}", server.name);
        assert_eq!(completed["data"]["summary"]["critical"], 60, "{}", server.name);
        assert_eq!(completed["data"]["scan_id"], scan.to_string());
        assert_eq!(
            (&new["type"], &new["data"]["count"]),
            (&json!("finding.new"), &json!(60)),
            "{}",
            server.name
        );
        assert_eq!(new["data"]["findings"].as_array().unwrap().len(), 50, "{}", server.name);
        assert_eq!(new["data"]["findings"][0]["rule_id"], "aws-access-key");
        for message in &got {
            assert_eq!(verified(message, &secret), 1, "{}", server.name);
            let text = String::from_utf8_lossy(&message.body);
            assert!(!text.contains("the-value"), "{}: {text}", server.name);
        }
        server.app.stopping.cancel();
        workers.stopped().await;
    }
}

#[tokio::test]
async fn bounds_owners_and_the_network_behind_the_server() {
    for test in crate::db::testing::both().await {
        let server = start(test, false).await;
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let (_, other) = signed_in(&server, "bob@example.org").await;
        let path = format!("/v1/projects/{}/webhooks", ada.project);
        let url = "https://example.org/hook";
        for (body, field) in [
            (json!({"url": "http://example.org/", "events": ["upload.ready"]}), "url"),
            (json!({"url": "https://127.0.0.1/", "events": ["upload.ready"]}), "url"),
            (json!({"url": "https://10.1.2.3:8443/", "events": ["upload.ready"]}), "url"),
            (json!({"url": "https://[::1]/", "events": ["upload.ready"]}), "url"),
            (json!({"url": "https://169.254.169.254/", "events": ["upload.ready"]}), "url"),
            (json!({"url": "ftp://example.org/", "events": ["upload.ready"]}), "url"),
            (json!({"url": url, "events": []}), "events"),
            (json!({"url": url, "events": ["ping"]}), "events[0]"),
            (json!({"url": url, "events": ["upload.ready", "upload.ready"]}), "events[1]"),
            (json!({"url": url, "events": ["upload.ready"], "secret": "mine"}), "secret"),
        ] {
            let (status, problem) = server.post(&path, &token, &body).await;
            assert_eq!(status, 422, "{}: {body}: {problem}", server.name);
            assert_eq!(problem["errors"][0]["field"], field, "{}: {problem}", server.name);
        }
        let body = json!({"url": url, "events": ["upload.ready"]});
        assert_eq!(server.post(&path, &other, &body).await.0, 404, "{}", server.name);
        let mut made = String::new();
        for _ in 0..20 {
            made = hook(&server, ada, &token, url, &["upload.ready"]).await.0;
        }
        let (status, problem) = server.post(&path, &token, &body).await;
        assert_eq!((status, &problem["code"]), (403, &json!("quota_exceeded")), "{}", server.name);
        let (_, page) = server.get(&format!("{path}?limit=3"), &token).await;
        assert_eq!(page["items"].as_array().unwrap().len(), 3, "{}", server.name);
        assert!(page["next_cursor"].is_string(), "{}", server.name);
        for suffix in ["", "/deliveries"] {
            let status = server.get(&format!("{made}{suffix}"), &other).await.0;
            assert_eq!(status, 404, "{}: {suffix}", server.name);
        }
        for suffix in ["/ping", "/rotate-secret"] {
            let status = server.post(&format!("{made}{suffix}"), &other, &json!({})).await.0;
            assert_eq!(status, 404, "{}: {suffix}", server.name);
        }
        let delete = async |token: &str| {
            answer(server.request(Method::DELETE, &made).bearer_auth(token)).await.0
        };
        assert_eq!(delete(&other).await, 404, "{}", server.name);
        assert_eq!(delete(&token).await, 204, "{}", server.name);
        assert_eq!(server.get(&made, &token).await.0, 404, "{}", server.name);
    }
}

/// A webhook that was made while private networks were allowed is refused when sent to.
#[tokio::test]
async fn every_try_passes_the_guard() {
    let server = start(crate::db::testing::sqlite().await, false).await;
    let (ada, token) = signed_in(&server, "ada@example.org").await;
    let receiver = Receiver::start(&[]).await;
    let (hook, _) = hook(&server, ada, &token, "https://example.org/hook", &["upload.ready"]).await;
    const MOVE: Sql = Sql::both("UPDATE webhooks SET url = $1");
    let mut tx = server.app.db.begin().await.unwrap();
    tx.execute(MOVE, args![receiver.url.as_str()]).await.unwrap();
    tx.commit().await.unwrap();
    let workers = Workers::start(&server.app);
    server.post(&format!("{hook}/ping"), &token, &json!({})).await;
    let refused = tried(&server, &hook, &token, 1).await;
    assert_eq!(refused["status"], "failed", "{refused}");
    assert!(receiver.got().is_empty());
    server.app.stopping.cancel();
    workers.stopped().await;
}

#[tokio::test]
async fn only_so_many_messages_are_added_by_hand() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let (hook, _) =
            hook(&server, ada, &token, "http://127.0.0.1:1029/hook", &["upload.ready"]).await;
        let ping = format!("{hook}/ping");
        for _ in 0..MAX_PENDING {
            assert_eq!(server.post(&ping, &token, &json!({})).await.0, 202, "{}", server.name);
        }
        let (status, problem) = server.post(&ping, &token, &json!({})).await;
        assert_eq!((status, &problem["code"]), (409, &json!("too_many_pending")));
    }
}
