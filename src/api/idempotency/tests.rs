use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::accounts::testing::{TestServer, answer, both};
use crate::api::caller::Caller;
use crate::db::testing as database;
use crate::db::{Sql, args};

const EMAIL: &str = "ada@example.org";
const KEYS: &str = "/v1/api-keys";

/// A POST with a key.
fn send(server: &TestServer, path: &str, token: &str, key: &str, body: &Value) -> RequestBuilder {
    let request = server.request(Method::POST, path).bearer_auth(token);
    request.header("Idempotency-Key", key).json(body)
}

async fn signed_in(server: &TestServer, email: &str) -> String {
    server.user(email).await;
    server.login(email).await.0
}

#[tokio::test]
async fn the_same_request_gets_the_same_answer() {
    for server in both().await {
        let token = signed_in(&server, EMAIL).await;
        let body = json!({"name": "ci"});
        let first = send(&server, KEYS, &token, "k", &body).send().await.unwrap();
        assert_eq!(first.status(), 201, "{}", server.name);
        assert!(!first.headers().contains_key("idempotency-replayed"));
        let first_headers = first.headers().clone();
        let first: Value = first.json().await.unwrap();
        for _ in 0..2 {
            let again = send(&server, KEYS, &token, "k", &body).send().await.unwrap();
            assert_eq!(again.status(), 201);
            assert_eq!(again.headers()["idempotency-replayed"], "true");
            for name in ["content-type", "cache-control"] {
                assert_eq!(again.headers()[name], first_headers[name]);
            }
            let again: Value = again.json().await.unwrap();
            assert_eq!(again, first, "the key that is shown once included");
        }
        let (_, page) = server.get(KEYS, &token).await;
        assert_eq!(page["items"].as_array().unwrap().len(), 1);

        let (status, problem) =
            answer(send(&server, KEYS, &token, "k", &json!({"name": "other"}))).await;
        assert_eq!((status, &problem["code"]), (422, &json!("idempotency_key_reused")));
        // Another account has keys of its own.
        let eve = signed_in(&server, "eve@example.org").await;
        let response = send(&server, KEYS, &eve, "k", &body).send().await.unwrap();
        assert_eq!(response.status(), 201);
        assert!(!response.headers().contains_key("idempotency-replayed"));
    }
}

#[tokio::test]
async fn of_sixteen_at_once_one_creates() {
    for server in both().await {
        let token = signed_in(&server, EMAIL).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..16 {
            tasks.spawn(answer(send(&server, KEYS, &token, "k", &json!({"name": "ci"}))));
        }
        let all = tasks.join_all().await;
        let created: Vec<_> = all.iter().filter(|(status, _)| *status == 201).collect();
        assert!(!created.is_empty(), "{}: {all:?}", server.name);
        assert!(created.iter().all(|(_, body)| body["id"] == created[0].1["id"]));
        for (status, problem) in all.iter().filter(|(status, _)| *status != 201) {
            assert_eq!((*status, &problem["code"]), (409, &json!("idempotency_key_in_use")));
        }
        let (_, page) = server.get(KEYS, &token).await;
        assert_eq!(page["items"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn what_is_kept_opens_nothing_without_the_secret() {
    const READ: Sql = Sql::both("SELECT key, body FROM idempotency_keys");
    for server in both().await {
        let token = signed_in(&server, EMAIL).await;
        let request = send(&server, KEYS, &token, "my-key", &json!({"name": "ci"}));
        let (_, created) = answer(request).await;
        let rows: Vec<(String, Vec<u8>)> =
            server.app.db.conn().fetch_all(READ, args![]).await.unwrap();
        assert_eq!(rows.len(), 1, "{}", server.name);
        let (name, body) = &rows[0];
        assert!(!name.contains("my-key"));
        for secret in [created["key"].as_str().unwrap(), "slk_", "\"name\""] {
            assert!(memchr::memmem::find(body, secret.as_bytes()).is_none(), "{secret}");
        }
    }
}

#[tokio::test]
async fn keys_are_checked_and_other_requests_pass() {
    let server = TestServer::start(database::sqlite().await, |_| (), Router::new()).await;
    let token = signed_in(&server, EMAIL).await;
    let body = json!({"name": "ci"});
    for bad in ["", &"x".repeat(256)] {
        let (status, problem) = answer(send(&server, KEYS, &token, bad, &body)).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("Idempotency-Key")));
    }
    let twice = send(&server, KEYS, &token, "a", &body).header("Idempotency-Key", "b");
    assert_eq!(answer(twice).await.0, 422);
    // Without credentials the handler answers.
    assert_eq!(answer(send(&server, KEYS, "nobody", "a", &body)).await.0, 401);
    let login = json!({"email": EMAIL, "password": crate::accounts::testing::PASSWORD});
    let request = server.request(Method::POST, "/v1/auth/login").header("Idempotency-Key", "a");
    assert_eq!(answer(request.json(&login)).await.0, 200);
    // A refused request is kept as well: it is the answer to this request.
    let bad = json!({"name": ""});
    let first = answer(send(&server, KEYS, &token, "c", &bad)).await;
    let again = answer(send(&server, KEYS, &token, "c", &bad)).await;
    assert_eq!((first.0, &first), (422, &again));
    let large = json!({"name": "x".repeat(2 << 20)});
    assert_eq!(answer(send(&server, KEYS, &token, "d", &large)).await.0, 413);
}

/// Counts its calls: the first one fails or panics, a later one succeeds.
fn failing(calls: &Arc<AtomicUsize>, panics: bool) -> Router<crate::server::App> {
    let calls = calls.clone();
    let handler = move |_: Caller| {
        let calls = calls.clone();
        async move {
            match calls.fetch_add(1, Ordering::SeqCst) {
                0 if panics => panic!("as planned"),
                0 => StatusCode::INTERNAL_SERVER_ERROR,
                _ => StatusCode::CREATED,
            }
        }
    };
    let catch = tower_http::catch_panic::CatchPanicLayer::new();
    Router::new().route("/test", post(handler)).layer(catch)
}

#[tokio::test]
async fn a_failure_is_not_kept() {
    for panics in [false, true] {
        let calls = Arc::new(AtomicUsize::new(0));
        let more = failing(&calls, panics);
        let server = TestServer::start(database::sqlite().await, |_| (), more).await;
        let token = signed_in(&server, EMAIL).await;
        for (expected, total) in [(500, 1), (201, 2), (201, 2)] {
            let (status, _) = answer(send(&server, "/test", &token, "k", &json!({}))).await;
            assert_eq!((status, calls.load(Ordering::SeqCst)), (expected, total));
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_away_finds_its_answer_later() {
    let calls = Arc::new(AtomicUsize::new(0));
    let (begun, go) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let handler = {
        let (calls, begun, go) = (calls.clone(), begun.clone(), go.clone());
        move |_: Caller| async move {
            begun.notify_one();
            go.notified().await;
            calls.fetch_add(1, Ordering::SeqCst);
            (StatusCode::CREATED, "made")
        }
    };
    let more = Router::new().route("/test", post(handler));
    let server = TestServer::start(database::sqlite().await, |_| (), more).await;
    let token = signed_in(&server, EMAIL).await;
    let request = send(&server, "/test", &token, "k", &json!({}));
    let client = tokio::spawn(answer(request));
    begun.notified().await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    let (status, problem) = answer(send(&server, "/test", &token, "k", &json!({}))).await;
    assert_eq!((status, &problem["code"]), (409, &json!("idempotency_key_in_use")));
    go.notify_one();
    for _ in 0..200 {
        let response = send(&server, "/test", &token, "k", &json!({})).send().await.unwrap();
        if response.status() == 201 {
            assert_eq!(response.headers()["idempotency-replayed"], "true");
            assert_eq!(response.text().await.unwrap(), "made");
            assert_eq!(calls.load(Ordering::SeqCst), 1);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the answer was not kept");
}
