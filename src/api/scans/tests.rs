//! Scans over a socket. What a worker would do is done by the same functions that
//! the worker calls.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::accounts::testing::{TestServer, answer, both};
use crate::db::artifacts::{self, Artifact};
use crate::db::scans::{self, Ending, Summary};
use crate::db::testing::{Tenant, repository_of};
use crate::db::{Sql, args, jobs};
use crate::scan::Progress;

/// An account with a repository, signed in.
pub(crate) async fn signed_in(server: &TestServer, email: &str) -> (Tenant, String) {
    let owner = server.user(email).await;
    let tenant = repository_of(&server.app.db, owner).await;
    (tenant, server.login(email).await.0)
}

pub(crate) fn scans_of(tenant: Tenant) -> String {
    format!("/v1/repositories/{}/scans", tenant.repository)
}

/// A scan by a request; answers its id.
pub(crate) async fn started(server: &TestServer, tenant: Tenant, token: &str) -> Uuid {
    let (status, scan) = server.post(&scans_of(tenant), token, &json!({})).await;
    assert_eq!(status, 201, "{}: {scan}", server.name);
    scan["id"].as_str().unwrap().parse().unwrap()
}

pub(crate) async fn begin(server: &TestServer, scan: Uuid) {
    let mut tx = server.app.db.begin().await.unwrap();
    assert!(scans::start(&mut tx, scan, "worker").await.unwrap());
    tx.commit().await.unwrap();
}

pub(crate) async fn complete(server: &TestServer, scan: Uuid) {
    let mut tx = server.app.db.begin().await.unwrap();
    let summary = Summary { high: 1, new: 1, ..Summary::default() };
    assert!(scans::finish(&mut tx, scan, &Ending::Completed(summary)).await.unwrap());
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_scan_is_created_with_its_configuration_and_shown() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let path = scans_of(ada);
        // Without a body, and with a slash.
        let request = server.request(Method::POST, &format!("{path}/")).bearer_auth(&token);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 201, "{}", server.name);
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        let created: Value = response.json().await.unwrap();
        let expected = json!({
            "engines": ["secrets", "code", "dependencies"],
            "include": [], "exclude": [], "history": false, "ref": null,
        });
        assert_eq!(created["config"], expected, "{}", server.name);
        assert_eq!(created["commit"], "c0ffee", "the head of the repository");
        let (status, shown) = server.get(&location, &token).await;
        assert_eq!((status, &shown), (200, &created), "{}", server.name);
        let fields: Vec<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
        let contract = [
            "id",
            "repository_id",
            "project_id",
            "status",
            "trigger",
            "config",
            "commit",
            "progress",
            "summary",
            "error",
            "artifacts",
            "created_at",
            "started_at",
            "finished_at",
            "worker_id",
        ];
        assert_eq!(fields, contract, "{}", server.name);
        assert_eq!((&shown["status"], &shown["trigger"]), (&json!("queued"), &json!("api")));

        let body = json!({
            "engines": ["code", "secrets", "code"], "include": ["src/**"], "exclude": ["*.min.js"],
            "history": true, "ref": "refs/heads/main",
        });
        let (status, other) = server.post(&path, &token, &body).await;
        assert_eq!(status, 201, "{}: {other}", server.name);
        assert_eq!(other["config"]["engines"], json!(["secrets", "code"]));
        assert_eq!(other["config"]["ref"], "refs/heads/main");
        assert_eq!(other["commit"], created["commit"], "{}: the head", server.name);

        let (_, page) = server.get(&format!("{path}?limit=1"), &token).await;
        assert_eq!(page["items"][0]["id"], other["id"], "{}: newest first", server.name);
        let next = format!("{path}?limit=1&cursor={}", page["next_cursor"].as_str().unwrap());
        let (_, page) = server.get(&next, &token).await;
        assert_eq!((&page["items"][0]["id"], &page["next_cursor"]), (&created["id"], &Value::Null));
        let of_project = format!("/v1/projects/{}/scans", ada.project);
        let (_, page) = server.get(&of_project, &token).await;
        assert_eq!(page["items"].as_array().map(Vec::len), Some(2), "{}", server.name);
    }
}

#[tokio::test]
async fn what_cannot_be_scanned_is_refused_with_a_reason() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let path = scans_of(ada);
        let table = [
            (json!({"engines": []}), "engines"),
            (json!({"engines": ["code", "magic"]}), "engines[1]"),
            (json!({"engines": "code"}), "engines"),
            (json!({"include": ["a[b"]}), "include"),
            (json!({"exclude": vec!["x"; 201]}), "exclude"),
            (json!({"exclude": ["x".repeat(1_001)]}), "exclude"),
            (json!({"history": 1}), "history"),
            (json!({"ref": ""}), "ref"),
            (json!({"ref": "a b"}), "ref"),
            (json!({"ref": "a..b"}), "ref"),
            (json!({"ref": "topic"}), "ref"),
            (json!({"depth": 3}), "depth"),
        ];
        for (body, field) in table {
            let (status, problem) = server.post(&path, &token, &body).await;
            assert_eq!(status, 422, "{}: {body}: {problem}", server.name);
            assert_eq!(problem["errors"][0]["field"], field, "{}: {problem}", server.name);
        }
        const PENDING: Sql =
            Sql::both("UPDATE repositories SET ingest_status = 'pending' WHERE id = $1");
        let mut tx = server.app.db.begin().await.unwrap();
        tx.execute(PENDING, args![ada.repository]).await.unwrap();
        tx.commit().await.unwrap();
        let (status, problem) = server.post(&path, &token, &json!({})).await;
        assert_eq!((status, &problem["code"]), (409, &json!("not_ready")), "{}", server.name);
        let (_, page) = server.get(&path, &token).await;
        assert_eq!(page["items"], json!([]), "{}: nothing is left behind", server.name);
    }
}

#[tokio::test]
async fn scans_of_others_are_not_there() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let (eve, eves) = signed_in(&server, "eve@example.org").await;
        let scan = started(&server, ada, &token).await;
        let path = scans_of(ada);
        let through_own = format!("{}/{scan}", scans_of(eve));
        for path in [
            path.clone(),
            format!("{path}/{scan}"),
            format!("{path}/{scan}/events"),
            format!("{path}/{scan}/artifacts/log.txt"),
            format!("/v1/projects/{}/scans", ada.project),
            through_own.clone(),
            format!("{through_own}/events"),
        ] {
            assert_eq!(server.get(&path, &eves).await.0, 404, "{}: {path}", server.name);
            assert_eq!(server.get(&path, "nothing").await.0, 401, "{}: {path}", server.name);
        }
        assert_eq!(server.post(&path, &eves, &json!({})).await.0, 404, "{}", server.name);
        for path in [format!("{path}/{scan}"), through_own] {
            let request = server.request(Method::DELETE, &path).bearer_auth(&eves);
            assert_eq!(answer(request).await.0, 404, "{}: {path}", server.name);
        }
        let (_, shown) = server.get(&format!("{path}/{scan}"), &token).await;
        assert_eq!(shown["status"], "queued", "{}", server.name);
    }
}

#[tokio::test]
async fn a_poll_waits_for_a_change_and_no_longer() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let scan = started(&server, ada, &token).await;
        let path = format!("{}/{scan}", scans_of(ada));
        let poll = async |wait: u32, tag: Option<&str>| {
            let mut request =
                server.request(Method::GET, &format!("{path}?wait={wait}")).bearer_auth(&token);
            if let Some(tag) = tag {
                request = request.header("if-none-match", tag);
            }
            let begun = Instant::now();
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            let tag = response.headers()["etag"].to_str().unwrap().to_owned();
            let body: Value = response.json().await.unwrap_or(Value::Null);
            (status, tag, body, begun.elapsed())
        };
        let (status, tag, _, _) = poll(0, None).await;
        assert_eq!(status, 200, "{}", server.name);
        let (status, same, _, _) = poll(0, Some(&tag)).await;
        assert_eq!((status, &same), (304, &tag), "{}", server.name);
        let (status, _, _, took) = poll(1, Some(&tag)).await;
        assert_eq!(status, 304, "{}", server.name);
        assert!(took >= Duration::from_secs(1), "{}: {took:?}", server.name);

        // With the tag, and without one.
        for known in [Some(tag.as_str()), None] {
            let change = async {
                tokio::time::sleep(Duration::from_millis(150)).await;
                if known.is_some() {
                    begin(&server, scan).await;
                } else {
                    let mut tx = server.app.db.begin().await.unwrap();
                    let progress = Progress { files_done: 7, ..Progress::default() };
                    scans::set_progress(&mut tx, scan, &progress).await.unwrap();
                    tx.commit().await.unwrap();
                }
            };
            let ((status, _, body, took), ()) = tokio::join!(poll(30, known), change);
            assert_eq!((status, &body["status"]), (200, &json!("running")), "{}", server.name);
            let waited = Duration::from_millis(100)..Duration::from_secs(5);
            assert!(waited.contains(&took), "{}: {took:?}", server.name);
        }
        // A tag that is old already is answered at once, and so is a scan that ended.
        let (status, _, body, took) = poll(30, Some(&tag)).await;
        assert_eq!((status, &body["progress"]["files_done"]), (200, &json!(7)));
        assert!(took < Duration::from_secs(5), "{}: {took:?}", server.name);
        complete(&server, scan).await;
        let (_, tag, body, _) = poll(30, None).await;
        assert_eq!(body["summary"]["high"], 1, "{}", server.name);
        let (status, _, _, took) = poll(30, Some(&tag)).await;
        assert_eq!(status, 304, "{}", server.name);
        assert!(took < Duration::from_secs(5), "{}: {took:?}", server.name);

        for bad in ["wait=61", "wait=-1", "wait=soon", "hurry=1"] {
            let (status, _) = server.get(&format!("{path}?{bad}"), &token).await;
            assert_eq!(status, 422, "{}: {bad}", server.name);
        }
    }
}

#[tokio::test]
async fn a_poll_ends_when_the_server_stops() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let scan = started(&server, ada, &token).await;
        let path = format!("{}/{scan}", scans_of(ada));
        let (poll, events) = (format!("{path}?wait=60"), format!("{path}/events?after=1&wait=60"));
        let begun = Instant::now();
        let (a, b, ()) =
            tokio::join!(server.get(&poll, &token), server.get(&events, &token), async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                server.app.stopping.cancel();
            });
        assert_eq!((a.0, b.0), (200, 200), "{}", server.name);
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", server.name);
    }
}

#[tokio::test]
async fn a_scan_is_cancelled_once() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let cancel = async |scan: Uuid| {
            let path = format!("{}/{scan}", scans_of(ada));
            answer(server.request(Method::DELETE, &path).bearer_auth(&token)).await
        };
        let scan = started(&server, ada, &token).await;
        let (status, body) = cancel(scan).await;
        assert_eq!((status, &body["status"]), (200, &json!("cancelled")), "{}", server.name);
        let (status, body) = cancel(scan).await;
        assert_eq!((status, &body["code"]), (409, &json!("ended")), "{}", server.name);

        let scan = started(&server, ada, &token).await;
        let job = jobs::claim(&server.app.db, "w", 60_000_000).await.unwrap().unwrap();
        begin(&server, scan).await;
        let (status, body) = cancel(scan).await;
        assert_eq!((status, &body["status"]), (200, &json!("running")), "{}", server.name);
        let beat = jobs::heartbeat(&server.app.db, job.id, job.fence, 60_000_000).await.unwrap();
        assert_eq!(beat, jobs::Heartbeat::CancelRequested, "{}", server.name);
    }
}

#[tokio::test]
async fn artefacts_are_listed_and_downloaded() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let scan = started(&server, ada, &token).await;
        let key = format!("artifacts/{scan}/results.sarif");
        server.app.storage.put_bytes(&key, Bytes::from_static(b"{\"runs\":[]}")).await.unwrap();
        let artifact = Artifact {
            scan_id: scan,
            name: "results.sarif".into(),
            content_type: "application/sarif+json".into(),
            size: 11,
            sha256: "abc".into(),
            storage_key: key,
        };
        let lost = Artifact {
            name: "log.txt".into(),
            storage_key: "artifacts/x/log".into(),
            ..artifact.clone()
        };
        let mut tx = server.app.db.begin().await.unwrap();
        artifacts::put(&mut tx, &artifact).await.unwrap();
        artifacts::put(&mut tx, &lost).await.unwrap();
        tx.commit().await.unwrap();
        let path = format!("{}/{scan}", scans_of(ada));
        let (_, shown) = server.get(&path, &token).await;
        let listed = &shown["artifacts"][1];
        let url = listed["url"].as_str().unwrap();
        assert_eq!(url, format!("{}{path}/artifacts/results.sarif", server.url));
        let (_, page) = server.get(&scans_of(ada), &token).await;
        assert_eq!(page["items"][0]["artifacts"], shown["artifacts"], "{}", server.name);

        let get = |path: String| server.request(Method::GET, &path).bearer_auth(&token);
        let path = format!("{path}/artifacts");
        let response = get(format!("{path}/results.sarif")).send().await.unwrap();
        assert_eq!(response.status(), 200, "{}", server.name);
        let headers = response.headers().clone();
        for (name, value) in [
            ("content-type", "application/sarif+json"),
            ("content-length", "11"),
            ("etag", "\"abc\""),
            ("content-security-policy", "sandbox"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(headers[name], value, "{}", server.name);
        }
        assert_eq!(response.bytes().await.unwrap(), "{\"runs\":[]}");
        let again = get(format!("{path}/results.sarif")).header("if-none-match", "\"abc\"");
        assert_eq!(answer(again).await.0, 304, "{}", server.name);
        for name in ["log.txt", "nothing", "..%2f..%2fsluice.db", "%00"] {
            let (status, problem) = answer(get(format!("{path}/{name}"))).await;
            assert_eq!(status, 404, "{}: {name}: {problem}", server.name);
        }
    }
}
