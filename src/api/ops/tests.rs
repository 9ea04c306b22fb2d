use serde_json::json;

use crate::accounts::testing::{TestServer, both};
use crate::config::LIMITS;
use crate::db::{Sql, args};

async fn operator(server: &TestServer) -> String {
    const GROUP: Sql = Sql::both("UPDATE users SET groups = $2 WHERE id = $1");
    let id = server.user("ops@example.org").await;
    let mut tx = server.app.db.begin().await.unwrap();
    let groups = crate::db::Value::json(&["ops"]);
    tx.execute(GROUP, args![id, groups]).await.unwrap();
    tx.commit().await.unwrap();
    server.login("ops@example.org").await.0
}

#[tokio::test]
async fn only_operators_operate() {
    for server in both().await {
        server.user("ada@example.org").await;
        let (ada, _) = server.login("ada@example.org").await;
        for (token, status) in [(ada.as_str(), 403), ("wrong", 401)] {
            assert_eq!(server.get("/v1/ops/limits", token).await.0, status, "{}", server.name);
            assert_eq!(server.get("/v1/ops/workers", token).await.0, status);
            assert_eq!(server.post("/v1/ops/cleanup", token, &json!({})).await.0, status);
        }
    }
}

#[tokio::test]
async fn operators_see_quotas_workers_and_what_a_clean_up_would_do() {
    for server in both().await {
        let (token, name) = (operator(&server).await, server.name);
        let (status, body) = server.get("/v1/ops/limits", &token).await;
        assert_eq!(status, 200, "{name}: {body}");
        let items = body["items"].as_array().unwrap();
        assert_eq!(items.len(), LIMITS.len());
        let projects = items.iter().find(|limit| limit["name"] == "projects").unwrap();
        assert_eq!(
            (&projects["value"], &projects["unit"], &projects["env"], &projects["used"]),
            (&json!(10_000), &json!("count"), &json!("SLUICE_LIMIT_PROJECTS"), &json!(0))
        );

        let db = &server.app.db;
        crate::db::jobs::worker_seen(db, "here:1", "here", "1.0").await.unwrap();
        crate::db::jobs::schedule_cleanup(db, 0).await.unwrap();
        let job = crate::db::jobs::claim(db, "here:1", 60_000_000).await.unwrap().unwrap();
        let mut tx = db.begin().await.unwrap();
        let more = crate::db::jobs::NewJob {
            kind: crate::db::jobs::JobKind::DeleteObjects,
            subject_id: crate::db::new_id(),
            owner_id: None,
            payload: json!({"prefixes": []}),
        };
        crate::db::jobs::insert(&mut tx, &more).await.unwrap();
        tx.commit().await.unwrap();
        let (status, body) = server.get("/v1/ops/workers", &token).await;
        assert_eq!(status, 200, "{name}: {body}");
        let worker = &body["items"][0];
        assert_eq!((&worker["id"], &worker["status"]), (&json!("here:1"), &json!("alive")));
        assert_eq!(worker["jobs"][0]["id"], json!(job.id), "{body}");
        assert_eq!((&body["queue_depth"], &body["dead_letters"]), (&json!(1), &json!(0)));
        assert_eq!(body["messages"], json!(null), "{name}: there is no queue of messages");

        let (status, body) =
            server.post("/v1/ops/cleanup", &token, &json!({"dry_run": true})).await;
        assert_eq!(status, 200, "{name}: {body}");
        assert_eq!(body["removed"]["orphaned_packs"], json!({"objects": 0, "bytes": 0}));
        assert_eq!((&body["dry_run"], &body["next_cursor"]), (&json!(true), &json!(null)));
        for (bad, field) in [
            (json!({"older_than": 3599}), "older_than"),
            (json!({"older_than": 315_360_001}), "older_than"),
            (json!({"older_than": -1}), "older_than"),
            (json!({"cursor": "../x"}), "cursor"),
            (json!({"cursor": "packs/x/y"}), "cursor"),
            (json!({"force": true}), "force"),
        ] {
            let (status, body) = server.post("/v1/ops/cleanup", &token, &bad).await;
            assert_eq!(status, 422, "{name}: {bad}: {body}");
            assert_eq!(body["errors"][0]["field"], field, "{body}");
        }
    }
}

#[tokio::test]
async fn metrics_name_templates_and_never_paths() {
    for server in both().await {
        server.user("ada@example.org").await;
        let (token, _) = server.login("ada@example.org").await;
        let secret_id = crate::db::new_id();
        let path = format!("/v1/projects/{secret_id}");
        assert_eq!(server.get(&path, &token).await.0, 404);
        assert_eq!(server.get("/nowhere/secret", &token).await.0, 404);
        assert_eq!(server.post("/v1/healthz", &token, &json!({})).await.0, 405);
        let git = format!("/git/{secret_id}.git/info/refs?service=git-receive-pack");
        assert_eq!(server.get(&git, "wrong").await.0, 401);
        let response = server.request(reqwest::Method::GET, "/metrics").send().await.unwrap();
        assert_eq!(response.status(), 200);
        let kind = response.headers()["content-type"].to_str().unwrap();
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        let text = response.text().await.unwrap();
        for line in [
            r#"sluice_http_requests_total{method="GET",route="/v1/projects/{id}",status="404"} 1"#,
            r#"sluice_http_requests_total{method="GET",route="other",status="404"} 1"#,
            r#"sluice_http_requests_total{method="POST",route="/v1/healthz",status="405"} 1"#,
            r#"sluice_http_requests_total{method="GET",route="/git/{upload_id}.git/info/refs",status="401"} 1"#,
            "sluice_http_requests_in_flight 1",
            "sluice_database_up 1",
            r#"sluice_jobs_queued{kind="scan"} 0"#,
        ] {
            let template = line.contains("projects");
            let found = text.lines().any(|found| {
                found == line
                    || (template
                        && found.starts_with(
                            r#"sluice_http_requests_total{method="GET",route="/v1/projects/{"#,
                        )
                        && found.ends_with(r#"status="404"} 1"#))
            });
            assert!(found, "{}: no {line} in\n{text}", server.name);
        }
        for name in [
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
            "process_start_time_seconds",
        ] {
            let value: f64 = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
                .unwrap_or_else(|| panic!("no {name}"));
            assert!(value > 0.0, "{name}");
        }
        assert!(!text.contains(&secret_id.to_string()) && !text.contains("nowhere"));
        assert!(!text.contains("ada@example.org"));
    }
}
