//! Another signing secret, while everything goes on.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::client::text;
use crate::support::upstream::TOKEN;
use crate::support::{Client, Git, Place, Server, Upstream, Work, samples, until};

const OLD: &str = "a secret for tests that is long enough";
const NEW: &str = "another secret for tests that is long enough";

/// What a receiver of messages was sent.
type Received = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

async fn receiver() -> (String, Received) {
    let received = Received::default();
    let take = async |State(received): State<Received>, headers: HeaderMap, body: Bytes| {
        received.lock().expect("a lock").push((headers, body));
    };
    let router = Router::new().fallback(take).with_state(received.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, received)
}

/// Whether the secret that the user was shown signed a message (Standard Webhooks).
fn is_signed(secret: &str, (headers, body): &(HeaderMap, Bytes)) -> bool {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).expect("a header");
    let key = STANDARD.decode(secret.strip_prefix("whsec_").expect("a secret")).expect("base64");
    let mut mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(&key).expect("a key");
    mac.update(format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).as_bytes());
    mac.update(body);
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    header("webhook-signature").split(' ').any(|signature| signature == expected)
}

fn at(client: &Client, server: &Server) -> Client {
    client.at(server)
}

/// Everything that lives on.
struct Kept {
    session: Client,
    api_key: Client,
    hook: Value,
    received: Received,
    private: String,
    made: Value,
    work: Work,
    /// Fingerprints of the findings of secrets.
    secrets: Vec<String>,
    once: Value,
}

async fn secrets_of(client: &Client, repository: &str) -> Vec<String> {
    let found = client.all(&format!("/v1/repositories/{repository}/findings?engine=secrets")).await;
    let mut prints: Vec<String> = found.iter().map(|found| text(&found["fingerprint"])).collect();
    prints.sort();
    prints
}

fn once(client: &Client) -> reqwest::RequestBuilder {
    let request = client.request(Method::POST, "/v1/projects");
    request.header("idempotency-key", "kept").json(&json!({"name": "once"}))
}

impl Kept {
    async fn begin(server: &Server, upstream: &Upstream) -> Self {
        let session = server.admin().await;
        let made = session.post("/v1/api-keys", json!({"name": "k"})).await.expect(201).json();
        let api_key = session.with_token(&text(&made["key"]));
        let project = session.post("/v1/projects", json!({"name": "p"})).await.expect(201).json();
        let project = text(&project["id"]);
        let (url, received) = receiver().await;
        let body = json!({"url": url, "events": ["upload.ready"]});
        let hooks = format!("/v1/projects/{project}/webhooks");
        let hook = session.post(&hooks, body).await.expect(201).json();

        let git = Git::any();
        let work = samples::small(&git).await;
        let url = upstream.repository(&work, "theirs").await;
        let url = url.replace(&upstream.url, &format!("{}/private", upstream.url));
        let body = json!({"name": "r", "source_type": "git", "source_url": url, "scan": false,
                          "credentials": {"token": TOKEN}});
        let repositories = format!("/v1/projects/{project}/repositories");
        let private = session.post(&repositories, body).await.expect(201).json();

        let made = session.upload(json!({})).await;
        work.push(&server.push_url(&made), &["main"]).await.expect();
        let (upload, _) = session.scanned(&text(&made["id"])).await;
        let secrets = secrets_of(&session, &text(&upload["repository_id"])).await;
        assert!(!secrets.is_empty());
        let first = Client::send(once(&session)).await.expect(201).json();
        let private = text(&private["id"]);
        Self { session, api_key, hook, received, private, made, work, secrets, once: first }
    }

    /// Asks for all of it. The first server is the one that works.
    async fn lives_on(&self, servers: [&Server; 2], access_token: bool) {
        for server in servers {
            let key = at(&self.api_key, server);
            key.get("/v1/auth/me").await.expect(200);
            if access_token {
                at(&self.session, server).get("/v1/auth/me").await.expect(200);
            }
            let again = Client::send(once(&key)).await.expect(201);
            assert_eq!(again.header("idempotency-replayed"), Some("true"));
            assert_eq!(again.json(), self.once);
        }
        // A token of each is good at the other.
        for (one, other) in [(servers[0], servers[1]), (servers[1], servers[0])] {
            at(&one.admin().await, other).get("/v1/auth/me").await.expect(200);
        }
        let key = at(&self.api_key, servers[1]);
        let before = self.received.lock().expect("a lock").len();
        let ping = format!("/v1/webhooks/{}/ping", text(&self.hook["id"]));
        key.post(&ping, json!({})).await.expect(202);
        until("a message comes", async || {
            (self.received.lock().expect("a lock").len() > before).then_some(())
        })
        .await;
        let message = self.received.lock().expect("a lock")[before].clone();
        assert!(is_signed(&text(&self.hook["secret"]), &message), "{message:?}");

        let repository = format!("/v1/repositories/{}", self.private);
        key.post(&format!("{repository}/ingest"), json!({})).await;
        let fetched = until("the code is fetched", async || {
            let now = key.get(&repository).await.expect(200).json();
            let ended = matches!(now["ingest_status"].as_str(), Some("ready" | "failed"));
            ended.then_some(now)
        })
        .await;
        assert_eq!(fetched["ingest_status"], "ready", "{fetched}");

        self.work.write("more.txt", uuid::Uuid::new_v4().to_string());
        self.work.commit("more").await;
        self.work.push(&servers[1].push_url(&self.made), &["main"]).await.expect();
        let (upload, scan) = key.scanned(&text(&self.made["id"])).await;
        let found = secrets_of(&key, &text(&upload["repository_id"])).await;
        assert_eq!(found, self.secrets);
        assert_eq!(scan["summary"]["new"], 0, "{scan}");
        assert_eq!(scan["summary"]["fixed"], 0, "{scan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_replaced_while_everything_goes_on() {
    let upstream = Upstream::start().await;
    let mut first = Place::postgres().await;
    Upstream::reachable(&mut first);
    first.set("SLUICE_JWT_SECRET", OLD);
    let mut second = first.beside();
    let mut a = first.start().await;
    let mut b = second.start_with(&["--no-worker"]).await;
    let kept = Kept::begin(&a, &upstream).await;
    kept.lives_on([&a, &b], true).await;

    // Both accept the next one before one of them uses it.
    let steps = [(OLD, Some(NEW)), (NEW, Some(OLD))];
    for (secret, accepted) in steps {
        for place in [&mut first, &mut second] {
            place.set("SLUICE_JWT_SECRET", secret);
            place.set("SLUICE_JWT_SECRETS_ACCEPTED", accepted.expect("one"));
        }
        a.terminate();
        assert_eq!(a.ended().await.0, Some(0));
        a = first.start().await;
        kept.lives_on([&a, &b], true).await;
        b.terminate();
        assert_eq!(b.ended().await.0, Some(0));
        b = second.start_with(&["--no-worker"]).await;
        kept.lives_on([&a, &b], true).await;
    }

    let resealed = second.run(&["reseal"], "").await;
    assert_eq!(resealed.code, Some(0), "{resealed:?}");
    assert!(
        resealed.out.contains("2 keys of the server, 1 webhooks, 1 credentials"),
        "{resealed:?}"
    );
    let again = second.run(&["reseal"], "").await;
    assert!(again.out.contains("0 keys of the server, 0 webhooks, 0 credentials"), "{again:?}");
    kept.lives_on([&a, &b], true).await;

    // The old one is forgotten.
    for place in [&mut first, &mut second] {
        place.unset("SLUICE_JWT_SECRETS_ACCEPTED");
    }
    a.kill();
    b.kill();
    a = first.start().await;
    b = second.start_with(&["--no-worker"]).await;
    kept.lives_on([&a, &b], false).await;
    // An access token of long ago is refused; its session goes on.
    let session = at(&kept.session, &b);
    session.get("/v1/auth/me").await.problem(401, "unauthorized");
    let refresh = json!({ "refresh_token": session.refresh_token });
    let fresh = session.post("/v1/auth/refresh", refresh).await.expect(200).json();
    at(&session.with_token(&text(&fresh["access_token"])), &a).get("/v1/auth/me").await.expect(200);

    // Nobody starts with a secret that has nothing to do with the data.
    second.set("SLUICE_JWT_SECRET", OLD);
    b.kill();
    let refused = second.run(&["serve"], "").await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("SLUICE_JWT_SECRETS_ACCEPTED"), "{}", refused.err);
    let refused = second.run(&["reseal"], "").await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
}

/// The embedded run keeps its secret in a file until one is configured.
#[tokio::test(flavor = "multi_thread")]
async fn the_secret_of_the_file_can_be_replaced_and_a_lost_one_too() {
    let mut place = Place::sqlite();
    let server = place.start().await;
    let client = server.admin().await;
    server.kill();
    let file = place.data().join("jwt.key");
    let old = std::fs::read_to_string(&file).expect("a secret").trim().to_owned();
    place.set("SLUICE_JWT_SECRET", NEW).set("SLUICE_JWT_SECRETS_ACCEPTED", &old);
    let server = place.start().await;
    at(&client, &server).get("/v1/auth/me").await.expect(200);
    assert_eq!(place.run(&["reseal"], "").await.code, Some(0));
    server.kill();
    place.unset("SLUICE_JWT_SECRETS_ACCEPTED");
    let server = place.start().await;
    let refresh = json!({ "refresh_token": client.refresh_token });
    at(&client, &server).post("/v1/auth/refresh", refresh).await.expect(200);
    server.kill();

    place.set("SLUICE_JWT_SECRET", "a third secret that nobody has seen before");
    let refused = place.run(&["serve"], "").await;
    assert!(refused.err.contains("reseal --lost"), "{}", refused.err);
    let anew = place.run(&["reseal", "--lost"], "").await;
    assert_eq!(anew.code, Some(0), "{anew:?}");
    place.start().await.admin().await.get("/v1/auth/me").await.expect(200);
}
