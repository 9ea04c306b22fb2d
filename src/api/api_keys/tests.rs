use reqwest::Method;
use serde_json::{Value, json};

use crate::accounts::testing::{TestServer, answer, both};
use crate::accounts::token;
use crate::db::testing as database;
use crate::db::{self, Sql, args, users};

const EMAIL: &str = "ada@example.org";
const PATH: &str = "/v1/api-keys";

/// A server with an account that is signed in.
async fn signed_in(server: &TestServer) -> String {
    server.user(EMAIL).await;
    server.login(EMAIL).await.0
}

async fn create(server: &TestServer, token: &str, body: Value) -> Value {
    let (status, created) = server.post(PATH, token, &body).await;
    assert_eq!(status, 201, "{}: {created}", server.name);
    created
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

async fn delete(server: &TestServer, token: &str, id: &str) -> u16 {
    let request = server.request(Method::DELETE, &format!("{PATH}/{id}"));
    answer(request.bearer_auth(token)).await.0
}

#[tokio::test]
async fn a_key_is_shown_once_and_works_until_it_is_deleted() {
    for server in both().await {
        let access = signed_in(&server).await;
        let created = create(&server, &access, json!({"name": " ci "})).await;
        let key = text(&created["key"]);
        assert!(token::parse(key).is_some(), "{}: {key}", server.name);
        assert_eq!(created["name"], "ci");
        assert_eq!(created["scopes"], json!(["read", "write", "push"]), "it is shown what it may");
        assert!(key.starts_with(text(&created["prefix"])));
        assert_eq!(server.get("/v1/auth/me", key).await.1["email"], EMAIL);

        // The use is noted by a task of its own.
        let mut row = Value::Null;
        for _ in 0..200 {
            row = server.get(PATH, &access).await.1["items"][0].clone();
            if !row["last_used_at"].is_null() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(!row["last_used_at"].is_null());
        assert!(row.get("key").is_none() && row.get("hash").is_none(), "{row}");
        assert_eq!(row["id"], created["id"]);

        let id = text(&created["id"]);
        server.user("eve@example.org").await;
        let (eve, _) = server.login("eve@example.org").await;
        assert_eq!(delete(&server, &eve, id).await, 404);
        assert_eq!(server.get(PATH, &eve).await.1["items"], json!([]));
        assert_eq!(delete(&server, &access, id).await, 204);
        assert_eq!(delete(&server, &access, id).await, 404);
        assert_eq!(server.get("/v1/auth/me", key).await.0, 401);
    }
}

#[tokio::test]
async fn keys_end_with_their_time_and_with_their_account() {
    const EXPIRE: Sql = Sql::both("UPDATE api_keys SET expires_at = $1");
    for server in both().await {
        let access = signed_in(&server).await;
        let body = json!({"name": "a", "expires_at": "2999-01-01T00:00:00+01:00"});
        let created = create(&server, &access, body).await;
        assert_eq!(created["expires_at"], "2998-12-31T23:00:00.000Z", "{}", server.name);
        let key = text(&created["key"]);
        assert_eq!(server.get("/v1/auth/me", key).await.0, 200);
        let mut tx = server.app.db.begin().await.unwrap();
        tx.execute(EXPIRE, args![db::now() - 1]).await.unwrap();
        // Time itself needs no word: what is remembered knows its end.
        tx.forget_callers();
        tx.commit().await.unwrap();
        let (status, problem) = server.get("/v1/auth/me", key).await;
        assert_eq!(status, 401);
        assert!(text(&problem["detail"]).contains("expired"));

        let other = create(&server, &access, json!({"name": "b"})).await;
        let mut tx = server.app.db.begin().await.unwrap();
        let id = users::by_email(&mut tx, EMAIL).await.unwrap().unwrap().id;
        users::disable(&mut tx, id).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(server.get("/v1/auth/me", text(&other["key"])).await.0, 401);
    }
}

#[tokio::test]
async fn scopes_limit_what_a_key_may_do() {
    let server = TestServer::start(database::sqlite().await, |_| (), axum::Router::new()).await;
    let access = signed_in(&server).await;
    let key = async |scopes: &[&str]| {
        let scopes = (!scopes.is_empty()).then_some(scopes);
        let body = json!({"name": "k", "scopes": scopes});
        text(&create(&server, &access, body).await["key"]).to_owned()
    };
    let (read, write) = (key(&["read", "read"]).await, key(&["write"]).await);
    let (push, both) = (key(&["push"]).await, key(&["read", "write"]).await);
    for (token, status) in [(&read, 200), (&write, 403), (&push, 403), (&both, 200)] {
        assert_eq!(server.get(PATH, token).await.0, status);
    }
    // A key that is limited gives nobody more than it has.
    for token in [&read, &write, &push, &both] {
        let (status, problem) = server.post(PATH, token, &json!({"name": "more"})).await;
        assert_eq!((status, &problem["code"]), (403, &json!("forbidden")));
    }
    let all = key(&[]).await;
    create(&server, &all, json!({"name": "more"})).await;
    let (status, problem) = server.post("/v1/auth/logout", &all, &Value::Null).await;
    assert_eq!((status, &problem["code"]), (409, &json!("no_session")));
}

#[tokio::test]
async fn bad_requests_name_each_field() {
    let few = |config: &mut crate::config::Config| config.limits.api_keys = 1;
    let server = TestServer::start(database::sqlite().await, few, axum::Router::new()).await;
    let access = signed_in(&server).await;
    for (body, fields) in [
        (json!({}), vec!["body"]),
        (json!({"name": ""}), vec!["name"]),
        (json!({"name": "x".repeat(201)}), vec!["name"]),
        (json!({"name": "a\nb"}), vec!["name"]),
        (json!({"name": "a\u{0}b"}), vec!["body"]),
        (json!({"name": "a", "scopes": ["read", "admin"]}), vec!["scopes[1]"]),
        (json!({"name": "a", "scopes": []}), vec!["scopes"]),
        (json!({"name": "a", "expires_at": "tomorrow"}), vec!["expires_at"]),
        (json!({"name": "", "expires_at": "2001-01-01T00:00:00Z"}), vec!["name", "expires_at"]),
        (json!({"name": "a", "owner": "eve"}), vec!["owner"]),
    ] {
        let (status, problem) = server.post(PATH, &access, &body).await;
        assert_eq!(status, 422, "{body}: {problem}");
        let named: Vec<_> = problem["errors"].as_array().unwrap().iter().collect();
        let named: Vec<_> = named.iter().map(|e| text(&e["field"])).collect();
        assert_eq!(named, fields, "{problem}");
    }
    create(&server, &access, json!({"name": "x".repeat(200)})).await;
    let (status, problem) = server.post(PATH, &access, &json!({"name": "one more"})).await;
    assert_eq!((status, &problem["code"]), (403, &json!("quota_exceeded")));
    assert_eq!(delete(&server, &access, "no-uuid").await, 404);
}

#[tokio::test]
async fn pages_of_keys_hold_each_once() {
    for server in both().await {
        let access = signed_in(&server).await;
        for n in 0..5 {
            create(&server, &access, json!({"name": format!("k{n}")})).await;
        }
        let (mut names, mut path) = (Vec::new(), format!("{PATH}?limit=2"));
        loop {
            let (status, page) = server.get(&path, &access).await;
            assert_eq!(status, 200, "{}: {page}", server.name);
            let items = page["items"].as_array().unwrap();
            names.extend(items.iter().map(|row| text(&row["name"]).to_owned()));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            path = format!("{PATH}?limit=2&cursor={cursor}");
        }
        assert_eq!(names, ["k4", "k3", "k2", "k1", "k0"]);
    }
}
