use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::accounts::testing::{PASSWORD, TestServer, answer, both, tokens};
use crate::accounts::{access_token, ensure_first_account};
use crate::db::sessions::{self, EndReason};
use crate::db::testing as database;
use crate::db::users;

const EMAIL: &str = "ada@example.org";

async fn refresh(server: &TestServer, token: &str) -> (u16, Value) {
    let body = json!({"refresh_token": token});
    answer(server.request(Method::POST, "/v1/auth/refresh").json(&body)).await
}

#[tokio::test]
async fn sign_in_gives_tokens_that_say_who_one_is() {
    for server in both().await {
        let id = server.user(EMAIL).await;
        let (status, body) = server.try_login(" Ada@Example.org ", PASSWORD).await;
        assert_eq!(status, 200, "{}: {body}", server.name);
        assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("bearer"), &json!(900)));
        let (access, _) = tokens(&body);
        let (status, me) = server.get("/v1/auth/me", &access).await;
        assert_eq!(status, 200);
        assert_eq!(me["id"], json!(id));
        assert_eq!((&me["email"], &me["name"]), (&json!(EMAIL), &json!("Ada")));
        assert_eq!(me["groups"], json!([]));
        assert!(me["created_at"].as_str().unwrap().ends_with('Z'));
    }
}

#[tokio::test]
async fn wrong_credentials_and_unknown_accounts_get_the_same_answer() {
    for server in both().await {
        let id = server.user(EMAIL).await;
        // All but the id of the request, which is never the same.
        let answer = async |email, password| {
            let (status, mut body) = server.try_login(email, password).await;
            assert!(body["request_id"].take().is_string(), "{body}");
            (status, body)
        };
        let wrong = answer(EMAIL, "wrong password").await;
        let unknown = answer("eve@example.org", "wrong password").await;
        assert_eq!(wrong.0, 401, "{}", server.name);
        assert_eq!(wrong, unknown);
        let mut tx = server.app.db.begin().await.unwrap();
        users::disable(&mut tx, id).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(answer(EMAIL, PASSWORD).await, wrong, "a disabled account");
    }
}

#[tokio::test]
async fn a_bad_sign_in_says_what_is_wrong() {
    let server = TestServer::start(database::sqlite().await, |_| (), axum::Router::new()).await;
    let post = |body: Value| answer(server.request(Method::POST, "/v1/auth/login").json(&body));
    for (body, field) in [
        (json!({"email": EMAIL}), "password"),
        (json!({"email": EMAIL, "password": 1}), "password"),
        (json!({"email": EMAIL, "password": "x", "otp": 1}), "otp"),
        (json!({"email": "x".repeat(400), "password": "x"}), "email"),
        (json!({"email": EMAIL, "password": "x".repeat(5000)}), "password"),
    ] {
        let (status, problem) = post(body).await;
        assert_eq!((status, &problem["code"]), (422, &json!("validation_failed")));
        assert!(problem["detail"].as_str().unwrap().contains(field), "{field}: {problem}");
    }
}

#[tokio::test]
async fn refresh_tokens_rotate_and_reuse_ends_the_session() {
    for server in both().await {
        server.user(EMAIL).await;
        let (access, first) = server.login(EMAIL).await;
        let other = server.login(EMAIL).await;
        let (status, body) = refresh(&server, &first).await;
        assert_eq!(status, 200, "{}: {body}", server.name);
        let (newer, second) = tokens(&body);
        assert_ne!(first, second);
        assert_eq!(server.get("/v1/auth/me", &access).await.0, 200);
        assert_eq!(server.get("/v1/auth/me", &newer).await.0, 200);

        assert_eq!(refresh(&server, &first).await.0, 401);
        for token in [&access, &newer] {
            assert_eq!(server.get("/v1/auth/me", token).await.0, 401);
        }
        assert_eq!(refresh(&server, &second).await.0, 401);
        assert_eq!(server.get("/v1/auth/me", &other.0).await.0, 200, "another session goes on");
        assert_eq!(refresh(&server, "").await.0, 401);
        assert_eq!(refresh(&server, &"x".repeat(10_000)).await.0, 401);
    }
}

#[tokio::test]
async fn logout_takes_effect_at_once() {
    for server in both().await {
        server.user(EMAIL).await;
        let (access, token) = server.login(EMAIL).await;
        let (status, _) = server.post("/v1/auth/logout", &access, &Value::Null).await;
        assert_eq!(status, 204, "{}", server.name);
        let (status, problem) = server.get("/v1/auth/me", &access).await;
        assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")));
        assert_eq!(refresh(&server, &token).await.0, 401);
    }
}

#[tokio::test]
async fn what_ends_an_account_or_its_sessions_ends_access() {
    for server in both().await {
        let id = server.user(EMAIL).await;
        let (access, _) = server.login(EMAIL).await;
        let mut tx = server.app.db.begin().await.unwrap();
        sessions::end_all(&mut tx, id, EndReason::Password).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(server.get("/v1/auth/me", &access).await.0, 401, "{}", server.name);

        let (access, token) = server.login(EMAIL).await;
        let mut tx = server.app.db.begin().await.unwrap();
        users::disable(&mut tx, id).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(server.get("/v1/auth/me", &access).await.0, 401);
        assert_eq!(refresh(&server, &token).await.0, 401);
    }
}

#[tokio::test]
async fn a_session_of_somebody_else_is_no_session() {
    let server = TestServer::start(database::sqlite().await, |_| (), axum::Router::new()).await;
    let ada = server.user(EMAIL).await;
    let eve = server.user("eve@example.org").await;
    let mut tx = server.app.db.begin().await.unwrap();
    let session = sessions::create(&mut tx, ada, b"hash").await.unwrap();
    tx.commit().await.unwrap();
    let own = access_token(&server.app.keys, ada, session).unwrap();
    assert_eq!(server.get("/v1/auth/me", &own).await.0, 200);
    let crossed = access_token(&server.app.keys, eve, session).unwrap();
    assert_eq!(server.get("/v1/auth/me", &crossed).await.0, 401);
}

#[tokio::test]
async fn only_one_bearer_header_counts() {
    let server = TestServer::start(database::sqlite().await, |_| (), axum::Router::new()).await;
    server.user(EMAIL).await;
    let (access, _) = server.login(EMAIL).await;
    let get = |values: &[String]| {
        let request = server.request(Method::GET, "/v1/auth/me");
        values.iter().fold(request, |request, value| request.header(header::AUTHORIZATION, value))
    };
    for good in ["Bearer", "bearer", "BEARER"] {
        assert_eq!(answer(get(&[format!("{good} {access}")])).await.0, 200, "{good}");
    }
    let bearer = format!("Bearer {access}");
    for bad in [
        vec![],
        vec![bearer.clone(), bearer.clone()],
        vec!["Bearer".into()],
        vec!["Bearer ".into()],
        vec![access.clone()],
        vec![format!("Basic {access}")],
        vec![format!("{bearer}x")],
        vec![format!("Bearer {}", "x".repeat(5000))],
    ] {
        let response = get(&bad).send().await.unwrap();
        assert_eq!(response.status(), 401, "{bad:?}");
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}

#[tokio::test]
async fn failures_are_throttled_by_account_and_by_address() {
    for test in database::both().await {
        let few = |config: &mut crate::config::Config| config.limits.login_failures = 3;
        let server = TestServer::start(test, few, axum::Router::new()).await;
        server.user(EMAIL).await;
        // A success forgets the failures of the account, not those of the address.
        assert_eq!(server.try_login(EMAIL, "wrong password").await.0, 401, "{}", server.name);
        server.login(EMAIL).await;
        for _ in 0..3 {
            assert_eq!(server.try_login("eve@example.org", "wrong password").await.0, 401);
        }
        // That account is closed from here, and no other.
        assert_eq!(server.try_login("eve@example.org", "wrong password").await.0, 429);
        server.login(EMAIL).await;
        let mut tx = server.app.db.begin().await.unwrap();
        for _ in 0..26 {
            let key = "address:127.0.0.1".to_owned();
            sessions::count_failure(&mut tx, &[key]).await.unwrap();
        }
        tx.commit().await.unwrap();
        // The address has used up its thirty: the right password is not looked at.
        let body = json!({"email": EMAIL, "password": PASSWORD});
        let request = server.request(Method::POST, "/v1/auth/login").json(&body);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 429);
        let wait: u64 = response.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
        assert!((1..=900).contains(&wait));
        // The account alone, from wherever.
        let mut tx = server.app.db.begin().await.unwrap();
        sessions::forget_failures(&mut tx, "address:127.0.0.1").await.unwrap();
        for _ in 0..30 {
            let key = format!("account:{EMAIL}");
            sessions::count_failure(&mut tx, &[key]).await.unwrap();
        }
        tx.commit().await.unwrap();
        assert_eq!(server.try_login("ADA@example.org", PASSWORD).await.0, 429);
        assert_eq!(server.try_login("kim@example.org", "wrong password").await.0, 401);
    }
}

#[test]
fn only_a_trusted_proxy_says_where_a_request_comes_from() {
    let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    let of = |peer: &str, forwarded: &[&str]| {
        let mut headers = header::HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        super::client_address(&trusted, peer.parse().unwrap(), &headers).to_string()
    };
    assert_eq!(of("192.0.2.1", &["198.51.100.7"]), "192.0.2.1", "anybody may say so");
    assert_eq!(of("10.0.0.1", &[]), "10.0.0.1");
    assert_eq!(of("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
    assert_eq!(of("::ffff:10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
    assert_eq!(of("10.0.0.1", &["1.1.1.1, 198.51.100.7", "10.0.0.2"]), "198.51.100.7");
    assert_eq!(of("10.0.0.1", &["nonsense"]), "10.0.0.1");
}

#[tokio::test]
async fn the_first_account_is_made_once_and_can_sign_in() {
    for server in both().await {
        let (db, config) = (&server.app.db, &server.app.config);
        let first = ensure_first_account(db, config).await.unwrap().unwrap();
        assert_eq!(first.email, "admin@localhost", "{}", server.name);
        assert!(ensure_first_account(db, config).await.unwrap().is_none());
        let (status, body) = server.try_login(&first.email, &first.password.unwrap()).await;
        assert_eq!(status, 200);
        let (_, me) = server.get("/v1/auth/me", &tokens(&body).0).await;
        assert_eq!(me["groups"], json!(["ops"]));
    }
}
