use reqwest::Method;
use serde_json::{Value, json};

use crate::accounts::testing::{TestServer, answer, both};
use crate::db::testing as database;

const PATH: &str = "/v1/projects/";

async fn send(
    server: &TestServer,
    method: Method,
    path: &str,
    token: &str,
    body: Value,
) -> (u16, Value) {
    answer(server.request(method, path).bearer_auth(token).json(&body)).await
}

#[tokio::test]
async fn a_project_from_its_making_to_its_end() {
    for server in both().await {
        let name = server.name;
        server.user("ada@example.org").await;
        server.user("eve@example.org").await;
        let (ada, _) = server.login("ada@example.org").await;
        let (eve, _) = server.login("eve@example.org").await;
        let (status, made) =
            server.post(PATH, &ada, &json!({"name": " Shop ", "description": "a\nb"})).await;
        assert_eq!(status, 201, "{name}: {made}");
        assert_eq!((&made["name"], &made["description"]), (&json!("Shop"), &json!("a\nb")));
        assert_eq!(made["repository_count"], 0);
        assert_eq!(
            made["scan_rollup"],
            json!({"total": 0, "last_scan_at": null,
                   "by_status": {"cancelled": 0, "completed": 0, "failed": 0, "queued": 0,
                                 "running": 0},
                   "open_findings": {"critical": 0, "high": 0, "medium": 0, "low": 0, "info": 0}}),
            "{name}"
        );
        let path = format!("{PATH}{}", made["id"].as_str().unwrap());
        assert_eq!(server.get(&path, &ada).await, (200, made.clone()), "{name}");

        // Others find nothing, whatever they try.
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let (status, body) =
                send(&server, method.clone(), &path, &eve, json!({"name": "x"})).await;
            assert_eq!((status, &body["code"]), (404, &json!("not_found")), "{name}: {method}");
        }
        assert_eq!(server.get(PATH, &eve).await.1["items"], json!([]), "{name}");
        assert_eq!(answer(server.request(Method::GET, &path)).await.0, 401, "{name}");

        let (status, changed) = send(&server, Method::PUT, &path, &ada, json!({"name": "B"})).await;
        assert_eq!(
            (status, &changed["name"], &changed["description"]),
            (200, &json!("B"), &json!(""))
        );
        assert_eq!(send(&server, Method::DELETE, &path, &ada, json!({})).await.0, 204, "{name}");
        assert_eq!(server.get(&path, &ada).await.0, 404, "{name}");
        assert_eq!(send(&server, Method::DELETE, &path, &ada, json!({})).await.0, 404, "{name}");
    }
}

#[tokio::test]
async fn pages_neither_repeat_nor_skip() {
    for server in both().await {
        server.user("ada@example.org").await;
        let (ada, _) = server.login("ada@example.org").await;
        let mut made = Vec::new();
        for n in 0..5 {
            let (_, body) = server.post(PATH, &ada, &json!({"name": format!("p{n}")})).await;
            made.push(body["id"].as_str().unwrap().to_owned());
        }
        made.reverse();
        let (mut seen, mut path) = (Vec::new(), format!("{PATH}?limit=2"));
        loop {
            let (status, page) = server.get(&path, &ada).await;
            assert_eq!(status, 200, "{}: {page}", server.name);
            for item in page["items"].as_array().unwrap() {
                seen.push(item["id"].as_str().unwrap().to_owned());
            }
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            path = format!("{PATH}?limit=2&cursor={cursor}");
            // What is made meanwhile is newer than the page.
            server.post(PATH, &ada, &json!({"name": "new"})).await;
        }
        assert_eq!(seen, made, "{}: newest first", server.name);
        for query in ["limit=0", "limit=201", "limit=x", "cursor=%21", "cursor=e30", "page=2"] {
            let (status, body) = server.get(&format!("{PATH}?{query}"), &ada).await;
            assert_eq!((status, &body["code"]), (422, &json!("validation_failed")), "{query}");
        }
    }
}

#[tokio::test]
async fn bad_input_names_its_field() {
    for server in both().await {
        server.user("ada@example.org").await;
        let (ada, _) = server.login("ada@example.org").await;
        for (body, field) in [
            (json!({}), "body"),
            (json!({"name": ""}), "name"),
            (json!({"name": "  "}), "name"),
            (json!({"name": "x".repeat(201)}), "name"),
            (json!({"name": "a\u{7}b"}), "name"),
            (json!({"name": "a\u{0}b"}), "body"),
            (json!({"name": 5}), "name"),
            (json!({"name": "a", "description": "x".repeat(10_001)}), "description"),
            (json!({"name": "a", "owner_id": "x"}), "owner_id"),
            (json!([]), "body"),
        ] {
            let (status, problem) = server.post(PATH, &ada, &body).await;
            assert_eq!(status, 422, "{}: {body} gave {problem}", server.name);
            assert_eq!(problem["errors"][0]["field"], field, "{body} gave {problem}");
        }
        // The bounds themselves are fine, in characters and not in bytes.
        let (status, made) = server.post(PATH, &ada, &json!({"name": "ü".repeat(200)})).await;
        assert_eq!(status, 201, "{}: {made}", server.name);
        let request = server.request(Method::POST, PATH).bearer_auth(&ada).body("{");
        assert_eq!(answer(request).await.0, 415, "{}", server.name);
        for id in ["1", "%00", "00000000-0000-0000-0000-00000000000g", "{}", "..%2f.."] {
            assert_eq!(server.get(&format!("{PATH}{id}"), &ada).await.0, 404, "{id}");
        }
    }
}

#[tokio::test]
async fn the_quota_holds_for_requests_side_by_side() {
    for test in [database::sqlite().await, database::postgres().await] {
        let change = |config: &mut crate::config::Config| config.limits.projects = 3;
        let server = TestServer::start(test, change, axum::Router::new()).await;
        server.user("ada@example.org").await;
        let (ada, _) = server.login("ada@example.org").await;
        let requests = (0..8).map(async |_| server.post(PATH, &ada, &json!({"name": "p"})).await);
        let answers = futures::future::join_all(requests).await;
        let made = answers.iter().filter(|(status, _)| *status == 201).count();
        let refused = answers
            .iter()
            .filter(|(status, body)| *status == 403 && body["code"] == "quota_exceeded");
        assert_eq!((made, refused.count()), (3, 5), "{}: {answers:?}", server.name);
    }
}
