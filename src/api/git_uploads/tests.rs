use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::accounts::testing::{TestServer, answer, both};
use crate::accounts::token;
use crate::db;
use crate::db::testing as database;
use crate::db::uploads;

const PATH: &str = "/v1/git-uploads/";

async fn signed_in(server: &TestServer, email: &str) -> String {
    server.user(email).await;
    server.login(email).await.0
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

async fn delete(server: &TestServer, path: &str, token: &str) -> u16 {
    answer(server.request(Method::DELETE, path).bearer_auth(token)).await.0
}

#[tokio::test]
async fn an_upload_says_how_to_push() {
    for server in both().await {
        let name = server.name;
        let ada = signed_in(&server, "ada@example.org").await;
        let request = server.request(Method::POST, PATH).bearer_auth(&ada);
        let (status, made) = answer(request).await;
        assert_eq!(status, 201, "{name}: {made}");
        let (id, token) = (text(&made["id"]), text(&made["token"]));
        assert!(matches!(token::parse(token), Some((token::Kind::Upload, _))), "{name}");
        let host = server.url.strip_prefix("http://").unwrap();
        assert_eq!(made["remote_url"], format!("http://{host}/git/{id}.git"));
        assert_eq!(made["username"], format!("upl_{id}"));
        assert_eq!(made["push_url"], format!("http://upl_{id}:{token}@{host}/git/{id}.git"));
        assert_eq!(made["commands"][1], "git push sluice HEAD");
        assert!(text(&made["commands"][0]).ends_with(text(&made["push_url"])), "{made}");
        for (field, wanted) in [
            ("status", json!("awaiting_push")),
            ("repository_id", json!(null)),
            ("scan_id", json!(null)),
            ("head_commit", json!(null)),
            ("ref", json!(null)),
            ("refs", json!([])),
            ("pushes", json!(0)),
            ("bytes_received", json!(0)),
            ("objects_received", json!(0)),
            ("error", json!(null)),
            ("pushed_at", json!(null)),
        ] {
            assert_eq!(made[field], wanted, "{name}: {field}");
        }
        let project =
            server.get(&format!("/v1/projects/{}", text(&made["project_id"])), &ada).await;
        assert_eq!(project.1["name"], "Uploads", "{name}");

        // The token is shown this once.
        let (_, shown) = server.get(&format!("{PATH}{id}"), &ada).await;
        let (_, listed) = server.get(PATH, &ada).await;
        assert_eq!(listed["items"][0]["id"], id, "{name}");
        assert!(!shown.to_string().contains(token) && !listed.to_string().contains(token));

        let eve = signed_in(&server, "eve@example.org").await;
        assert_eq!(server.get(&format!("{PATH}{id}"), &eve).await.0, 404, "{name}");
        assert_eq!(delete(&server, &format!("{PATH}{id}"), &eve).await, 404, "{name}");
        assert_eq!(server.get(PATH, &eve).await.1["items"], json!([]), "{name}");
        assert_eq!(delete(&server, &format!("{PATH}{id}"), &ada).await, 204, "{name}");
        assert_eq!(server.get(&format!("{PATH}{id}"), &ada).await.0, 404, "{name}");
    }
}

#[tokio::test]
async fn where_to_and_what() {
    for server in both().await {
        let name = server.name;
        let ada = signed_in(&server, "ada@example.org").await;
        let (_, project) = server.post("/v1/projects", &ada, &json!({"name": "Shop"})).await;
        let path = format!("/v1/projects/{}/repositories", text(&project["id"]));
        let body = json!({"name": "api", "source_type": "git_upload"});
        let (_, repository) = server.post(&path, &ada, &body).await;
        let body = json!({"repository_id": repository["id"], "ref": "release/1;x", "scan": false,
                          "expires_in": 60});
        let (status, made) = server.post(PATH, &ada, &body).await;
        assert_eq!(status, 201, "{name}: {made}");
        assert_eq!(made["project_id"], project["id"], "{name}");
        assert_eq!(made["repository_id"], repository["id"], "{name}");
        assert_eq!(
            (&made["name"], &made["ref"]),
            (&json!("api"), &json!("refs/heads/release/1;x"))
        );
        assert_eq!(made["commands"][1], "git push sluice 'refs/heads/release/1;x'", "{name}");

        let eve = signed_in(&server, "eve@example.org").await;
        let (_, other) = server.post("/v1/projects", &ada, &json!({"name": "Other"})).await;
        let foreign = |field: &str| json!({field: if field == "project_id" { &project } else { &repository }["id"]});
        for (token, body, field) in [
            (&eve, foreign("project_id"), "project_id"),
            (&eve, foreign("repository_id"), "repository_id"),
            (
                &ada,
                json!({"repository_id": repository["id"], "project_id": other["id"]}),
                "project_id",
            ),
            (&ada, json!({"project_id": "x"}), "project_id"),
            (&ada, json!({"ref": "a..b"}), "ref"),
            (&ada, json!({"ref": ""}), "ref"),
            (&ada, json!({"ref": "refs/"}), "ref"),
            (&ada, json!({"expires_in": 0}), "expires_in"),
            (&ada, json!({"expires_in": u64::MAX}), "expires_in"),
            (&ada, json!({"expires_in": -1}), "expires_in"),
            (&ada, json!({"name": "a\nb"}), "name"),
            (&ada, json!({"name": "x".repeat(201)}), "name"),
            (&ada, json!({"scan": "yes"}), "scan"),
            (&ada, json!({"token": "x"}), "token"),
        ] {
            let (status, problem) = server.post(PATH, token, &body).await;
            assert_eq!(status, 422, "{name}: {body} gave {problem}");
            assert_eq!(problem["errors"][0]["field"], field, "{name}: {body} gave {problem}");
        }
    }
}

#[tokio::test]
async fn a_poll_hears_of_a_change_and_of_time() {
    for server in both().await {
        let name = server.name;
        let ada = signed_in(&server, "ada@example.org").await;
        let (_, made) = server.post(PATH, &ada, &json!({"expires_in": 2})).await;
        let id: uuid::Uuid = text(&made["id"]).parse().unwrap();
        let path = format!("{PATH}{id}");
        let first = server.request(Method::GET, &path).bearer_auth(&ada).send().await.unwrap();
        let etag = first.headers()["etag"].to_str().unwrap().to_owned();
        let poll = async |query: &str, tag: &str| {
            let request = server.request(Method::GET, &format!("{path}{query}"));
            answer(request.bearer_auth(&ada).header("If-None-Match", tag)).await
        };
        assert_eq!(poll("", &etag).await, (304, Value::Null), "{name}");
        let started = Instant::now();
        assert_eq!(poll("?wait=20", "\"other\"").await.0, 200, "{name}: it differs already");
        assert!(started.elapsed() < Duration::from_secs(1), "{name}");

        let database = server.app.db.clone();
        let writer = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            uploads::receiving(&database, id, 0, 9, 1, db::now() + 500_000).await.unwrap();
        });
        let (status, shown) = poll("?wait=20", &etag).await;
        assert_eq!((status, &shown["status"]), (200, &json!("receiving")), "{name}: {shown}");
        assert_eq!(shown["bytes_received"], 9, "{name}");
        assert!(started.elapsed() < Duration::from_secs(1), "{name}: the commit woke it");
        writer.await.unwrap();

        // No one writes when the time is over; a wait without a tag hears of it too.
        tokio::time::sleep(Duration::from_millis(600)).await;
        let (_, shown) = server.get(&format!("{path}?wait=20"), &ada).await;
        assert_eq!(shown["status"], "expired", "{name}: {shown}");
        assert!(started.elapsed() < Duration::from_secs(8), "{name}");

        let started = Instant::now();
        let (status, _) = server.get(&format!("{path}?wait=1"), &ada).await;
        assert_eq!(status, 200, "{name}");
        assert!(started.elapsed() < Duration::from_millis(900), "{name}: nothing is to come");
        for query in ["wait=61", "wait=-1", "wait=x", "wait=1&wait=2", "waits=1"] {
            assert_eq!(server.get(&format!("{path}?{query}"), &ada).await.0, 422, "{query}");
        }
    }
}

#[tokio::test]
async fn the_quota_counts_remotes_that_answer() {
    for test in [database::sqlite().await, database::postgres().await] {
        let change = |config: &mut crate::config::Config| config.limits.uploads = 2;
        let server = TestServer::start(test, change, axum::Router::new()).await;
        let ada = signed_in(&server, "ada@example.org").await;
        let requests = (0..6).map(async |_| server.post(PATH, &ada, &json!({})).await);
        let answers = futures::future::join_all(requests).await;
        let made: Vec<_> = answers.iter().filter(|(status, _)| *status == 201).collect();
        assert_eq!(made.len(), 2, "{}: {answers:?}", server.name);
        let refused = answers.iter().find(|(status, _)| *status != 201).unwrap();
        assert_eq!((refused.0, &refused.1["code"]), (403, &json!("quota_exceeded")));
        let path = format!("{PATH}{}", text(&made[0].1["id"]));
        assert_eq!(delete(&server, &path, &ada).await, 204);
        assert_eq!(server.post(PATH, &ada, &json!({})).await.0, 201, "{}", server.name);
    }
}
