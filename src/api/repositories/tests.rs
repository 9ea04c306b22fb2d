use reqwest::Method;
use serde_json::{Value, json};

use crate::accounts::testing::{TestServer, answer, both};

async fn send(
    server: &TestServer,
    method: Method,
    path: &str,
    token: &str,
    body: Value,
) -> (u16, Value) {
    answer(server.request(method, path).bearer_auth(token).json(&body)).await
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

/// Tokens of two accounts, and the repositories' path in a project of the first.
async fn prepared(server: &TestServer) -> (String, String, String) {
    server.user("ada@example.org").await;
    server.user("eve@example.org").await;
    let (ada, _) = server.login("ada@example.org").await;
    let (eve, _) = server.login("eve@example.org").await;
    let (_, project) = server.post("/v1/projects", &ada, &json!({"name": "Shop"})).await;
    (ada, eve, format!("/v1/projects/{}/repositories/", text(&project["id"])))
}

#[tokio::test]
async fn a_repository_from_its_making_to_its_end() {
    for server in both().await {
        let name = server.name;
        let (ada, eve, list) = prepared(&server).await;
        let body = json!({"name": "api", "source_type": "git_upload", "description": "d"});
        let (status, made) = server.post(&list, &ada, &body).await;
        assert_eq!(status, 201, "{name}: {made}");
        for (field, wanted) in [
            ("source_type", json!("git_upload")),
            ("source_url", json!(null)),
            ("ingest_status", json!("pending")),
            ("ingest_error", json!(null)),
            ("default_branch", json!(null)),
            ("head_commit", json!(null)),
            ("snapshot", json!(null)),
            ("languages", json!([])),
            ("open_findings", json!({"critical": 0, "high": 0, "medium": 0, "low": 0, "info": 0})),
            ("last_scan", json!(null)),
        ] {
            assert_eq!(made[field], wanted, "{name}: {field}");
        }
        let path = format!("/v1/repositories/{}", text(&made["id"]));
        let response = server.request(Method::GET, &path).bearer_auth(&ada).send().await.unwrap();
        let etag = response.headers()["etag"].to_str().unwrap().to_owned();
        assert_eq!(response.json::<Value>().await.unwrap(), made, "{name}");
        let cached = server.request(Method::GET, &path).bearer_auth(&ada);
        assert_eq!(answer(cached.header("If-None-Match", &etag)).await.0, 304, "{name}");
        let (_, project) = server.get(list.trim_end_matches("/repositories/"), &ada).await;
        assert_eq!(project["repository_count"], 1, "{name}");

        for part in ["", "/threat-profile", "/source-tree", "/source-files/a"] {
            assert_eq!(server.get(&format!("{path}{part}"), &eve).await.0, 404, "{name}: {part}");
        }
        for part in ["/threat-profile", "/source-tree", "/source-files/a"] {
            let (status, problem) = server.get(&format!("{path}{part}"), &ada).await;
            assert_eq!((status, &problem["code"]), (404, &json!("not_ingested")), "{name}: {part}");
        }
        for method in [Method::PUT, Method::DELETE] {
            let (status, _) = send(&server, method, &path, &eve, json!({"name": "x"})).await;
            assert_eq!(status, 404, "{name}");
        }
        assert_eq!(server.get(&list, &eve).await.0, 404, "{name}");
        assert_eq!(server.post(&list, &eve, &body).await.0, 404, "{name}");

        let (status, changed) = send(&server, Method::PUT, &path, &ada, json!({"name": "b"})).await;
        assert_eq!((status, &changed["name"]), (200, &json!("b")), "{name}");
        let stale = server.request(Method::GET, &path).bearer_auth(&ada);
        assert_eq!(answer(stale.header("If-None-Match", &etag)).await.0, 200, "{name}");
        assert_eq!(server.get(&list, &ada).await.1["items"][0], changed, "{name}");
        assert_eq!(send(&server, Method::DELETE, &path, &ada, json!({})).await.0, 204, "{name}");
        assert_eq!(server.get(&path, &ada).await.0, 404, "{name}");
    }
}

#[tokio::test]
async fn bad_input_names_its_field() {
    for server in both().await {
        let (ada, _, list) = prepared(&server).await;
        for (body, field) in [
            (json!({"name": "a"}), "body"),
            (json!({"name": "a", "source_type": "svn"}), "source_type"),
            (json!({"name": "a", "source_type": "git", "source_url": "x"}), "source_url"),
            (json!({"name": "a", "source_type": "archive"}), "source_url"),
            (json!({"name": "", "source_type": "git_upload"}), "name"),
            (json!({"name": "a", "source_type": "git_upload", "source_url": "x"}), "source_url"),
            (json!({"name": "a", "source_type": "git_upload", "scan": true}), "scan"),
            (json!({"name": "a", "source_type": "git_upload", "upload_id": 7}), "upload_id"),
            (
                json!({"name": "a", "source_type": "git_upload",
                       "upload_id": "00000000-0000-7000-8000-000000000000"}),
                "upload_id",
            ),
            (json!({"name": "a", "source_type": "git_upload", "url": "x"}), "url"),
        ] {
            let (status, problem) = server.post(&list, &ada, &body).await;
            assert_eq!(status, 422, "{}: {body} gave {problem}", server.name);
            assert_eq!(problem["errors"][0]["field"], field, "{body} gave {problem}");
        }
        assert_eq!(server.get(&list, &ada).await.1["items"], json!([]), "{}", server.name);
    }
}

#[tokio::test]
async fn an_upload_fills_one_repository() {
    for server in both().await {
        let name = server.name;
        let (ada, eve, list) = prepared(&server).await;
        let (_, upload) = server.post("/v1/git-uploads", &ada, &json!({})).await;
        let (_, foreign) = server.post("/v1/git-uploads", &eve, &json!({})).await;
        let body = |upload: &Value| {
            json!({"name": "a", "source_type": "git_upload", "upload_id": upload["id"],
                   "scan": false})
        };
        assert_eq!(server.post(&list, &ada, &body(&foreign)).await.0, 422, "{name}");
        let (status, made) = server.post(&list, &ada, &body(&upload)).await;
        assert_eq!(status, 201, "{name}: {made}");
        let path = format!("/v1/git-uploads/{}", text(&upload["id"]));
        let (_, shown) = server.get(&path, &ada).await;
        assert_eq!(shown["repository_id"], made["id"], "{name}");
        assert_eq!(shown["project_id"], made["project_id"], "{name}");
        assert_eq!(shown["scan"], false, "{name}");
        let (status, problem) = server.post(&list, &ada, &body(&upload)).await;
        assert_eq!((status, &problem["code"]), (409, &json!("upload_in_use")), "{name}");

        // The remote goes with its repository.
        let repository = format!("/v1/repositories/{}", text(&made["id"]));
        assert_eq!(send(&server, Method::DELETE, &repository, &ada, json!({})).await.0, 204);
        assert_eq!(server.get(&path, &ada).await.0, 404, "{name}");
    }
}
