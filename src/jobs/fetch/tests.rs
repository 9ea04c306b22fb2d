//! Whole fetches from a real git server (`git http-backend` behind a small web server)
//! into a real server of ours, on each database.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command as Process;

use super::*;
use crate::accounts::testing::TestServer;
use crate::db::{Sql, args, testing};
use crate::queue::Workers;

const TOKEN: &str = "sesame-opens-0123456789";

/// A folder of bare repositories that a web server serves.
struct Upstream {
    dir: TempDir,
    port: u16,
}

impl Upstream {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().fallback(serve).with_state(dir.path().to_owned());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let upstream = Self { dir, port };
        upstream.git(&["init", "-q", "-b", "main", "work"]).await;
        upstream.commit("app.py", "print('one')\n").await;
        upstream.commit("app.py", "print('two')\n").await;
        upstream.git(&["-C", "work", "tag", "-a", "-m", "first", "v1", "HEAD~1"]).await;
        upstream.git(&["-C", "work", "branch", "dev", "HEAD~1"]).await;
        upstream.git(&["clone", "-q", "--bare", "work", "shop.git"]).await;
        upstream.git(&["init", "-q", "--bare", "-b", "main", "empty.git"]).await;
        upstream
    }

    async fn git(&self, args: &[&str]) -> String {
        let done = Process::new("git")
            .args(args)
            .current_dir(self.dir.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .envs([("GIT_AUTHOR_NAME", "Ada"), ("GIT_AUTHOR_EMAIL", "a@example.org")])
            .envs([("GIT_COMMITTER_NAME", "Ada"), ("GIT_COMMITTER_EMAIL", "a@example.org")])
            .output()
            .await
            .unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    async fn commit(&self, file: &str, text: &str) {
        std::fs::write(self.dir.path().join("work").join(file), text).unwrap();
        self.git(&["-C", "work", "add", "."]).await;
        self.git(&["-C", "work", "commit", "-q", "-m", "more"]).await;
    }

    async fn id(&self, name: &str) -> String {
        self.git(&["-C", "work", "rev-parse", &format!("{name}^{{commit}}")]).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }
}

async fn serve(State(root): State<PathBuf>, request: Request<Body>) -> Response {
    let path = request.uri().path().to_owned();
    let basic = request.headers().get("authorization").and_then(|v| v.to_str().ok());
    let expected = Credentials { username: None, token: TOKEN.into() }.basic();
    if path.starts_with("/page") {
        return ([("content-type", "text/html")], "<html>hello</html>").into_response();
    }
    if path.starts_with("/dumb") {
        return format!("{}\trefs/heads/main\n", "ab".repeat(20)).into_response();
    }
    if path.starts_with("/slow") {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    if path.starts_with("/forbidden") {
        return StatusCode::FORBIDDEN.into_response();
    }
    if let Some(rest) = path.strip_prefix("/moved") {
        let to = format!("{rest}?{}", request.uri().query().unwrap_or_default());
        return (StatusCode::MOVED_PERMANENTLY, [("location", to)]).into_response();
    }
    if path.starts_with("/inside") {
        let to = "http://169.254.169.254/latest/info/refs".to_owned();
        return (StatusCode::FOUND, [("location", to)]).into_response();
    }
    if path.starts_with("/private") && basic != Some(expected.as_str()) {
        let challenge = [("www-authenticate", "Basic realm=\"x\"")];
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    }
    let old = path.starts_with("/old");
    let path = ["/private", "/old"]
        .iter()
        .find_map(|prefix| path.strip_prefix(prefix))
        .unwrap_or(&path)
        .to_owned();
    backend(&root, &path, old, request).await
}

/// One request by CGI (RFC 3875).
async fn backend(root: &Path, path: &str, old: bool, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: &str| {
        parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
    };
    let mut child = Process::new("git")
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("PATH_INFO", path)
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("GIT_PROTOCOL", if old { String::new() } else { header("git-protocol") })
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&body).await.unwrap();
    drop(stdin);
    let out = child.wait_with_output().await.unwrap().stdout;
    let end = out.windows(4).position(|part| part == b"\r\n\r\n").unwrap();
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&out[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(value[..3].parse::<u16>().unwrap()),
            _ => response.header(name, value),
        };
    }
    response.body(Body::from(out[end + 4..].to_vec())).unwrap()
}

/// A server of ours with workers, that may reach the loopback network.
struct Ours {
    server: TestServer,
    token: String,
    list: String,
    workers: Option<Workers>,
}

impl Ours {
    async fn start(test: testing::TestDb, change: impl FnOnce(&mut crate::config::Config)) -> Self {
        let reach = |config: &mut crate::config::Config| {
            config.allow_private_urls = true;
            config.allow_http_urls = true;
            config.workers = 2;
            change(config);
        };
        let server = TestServer::start(test, reach, Router::new()).await;
        server.user("ada@example.org").await;
        let (token, _) = server.login("ada@example.org").await;
        let (_, project) = server.post("/v1/projects", &token, &json!({"name": "p"})).await;
        let list = format!("/v1/projects/{}/repositories", project["id"].as_str().unwrap());
        let workers = Some(Workers::start(&server.app));
        Self { server, token, list, workers }
    }

    async fn make(&self, mut body: Value) -> String {
        body["name"] = "r".into();
        body["source_type"] = "git".into();
        let (status, made) = self.server.post(&self.list, &self.token, &body).await;
        assert_eq!(status, 201, "{}: {made}", self.server.name);
        assert_eq!(made["ingest_status"], "pending");
        assert!(!made.to_string().contains(TOKEN));
        format!("/v1/repositories/{}", made["id"].as_str().unwrap())
    }

    async fn settled(&self, path: &str) -> Value {
        for _ in 0..600 {
            let (_, now) = self.server.get(path, &self.token).await;
            if matches!(now["ingest_status"].as_str(), Some("ready" | "failed")) {
                assert!(!now.to_string().contains(TOKEN));
                return now;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{}: {path} is not settled", self.server.name);
    }

    async fn fetched(&self, body: Value) -> Value {
        let path = self.make(body).await;
        self.settled(&path).await
    }

    async fn again(&self, path: &str, body: Value) -> Value {
        let path_of = format!("{path}/ingest");
        let (status, answer) = self.server.post(&path_of, &self.token, &body).await;
        assert_eq!(status, 202, "{}: {answer}", self.server.name);
        self.settled(path).await
    }

    async fn end(mut self) {
        self.server.app.stopping.cancel();
        if let Some(workers) = self.workers.take() {
            workers.stopped().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_ref_of_every_kind_of_server() {
    let upstream = Upstream::start().await;
    let (main, first) = (upstream.id("main").await, upstream.id("v1").await);
    for test in testing::both().await {
        let ours = Ours::start(test, |_| ()).await;
        let credentials = json!({"token": TOKEN});
        for (path, git_ref, commit, branch) in [
            ("shop.git", json!(null), &main, json!("main")),
            ("shop.git", json!("dev"), &first, json!("dev")),
            ("shop.git", json!("v1"), &first, json!(null)),
            ("shop.git", json!("refs/tags/v1"), &first, json!(null)),
            ("shop.git", json!(first), &first, json!(null)),
            ("old/shop.git", json!(null), &main, json!("main")),
            ("old/shop.git", json!("v1"), &first, json!(null)),
            ("moved/shop.git", json!(null), &main, json!("main")),
            ("private/shop.git/", json!(null), &main, json!("main")),
        ] {
            let mut body = json!({"source_url": upstream.url(path), "scan": false});
            body["ref"] = git_ref.clone();
            if path.starts_with("private") {
                body["credentials"] = credentials.clone();
            }
            let done = ours.fetched(body).await;
            let what = format!("{} {path} {git_ref}: {done}", ours.server.name);
            assert_eq!(done["ingest_status"], "ready", "{what}");
            assert_eq!(done["head_commit"], json!(commit), "{what}");
            assert_eq!(done["default_branch"], branch, "{what}");
            assert_eq!(done["snapshot"]["file_count"], 1, "{what}");
            assert_eq!(done["last_scan"], json!(null), "{what}");
        }
        ours.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_fetched_says_why() {
    let upstream = Upstream::start().await;
    for test in testing::both().await {
        let ours = Ours::start(test, |config| config.limits.fetch_seconds = 3).await;
        let wrong = json!({"token": "nothing-that-opens"});
        for (path, git_ref, credentials, code) in [
            ("empty.git", json!(null), json!(null), "empty_repository"),
            ("old/empty.git", json!(null), json!(null), "empty_repository"),
            ("nothing.git", json!(null), json!(null), "repository_not_found"),
            ("page", json!(null), json!(null), "not_a_git_repository"),
            ("dumb", json!(null), json!(null), "dumb_protocol"),
            ("forbidden", json!(null), json!(null), "forbidden_by_server"),
            ("private/shop.git", json!(null), json!(null), "credentials_needed"),
            ("private/shop.git", json!(null), wrong, "credentials_refused"),
            ("shop.git", json!("other"), json!(null), "ref_not_found"),
            ("shop.git", json!("ab".repeat(20)), json!(null), "ref_not_found"),
            ("old/shop.git", json!("ab".repeat(20)), json!(null), "ref_not_found"),
            ("inside", json!(null), json!(null), "address_not_allowed"),
            ("slow", json!(null), json!(null), "timeout"),
        ] {
            let mut body = json!({"source_url": upstream.url(path), "ref": git_ref});
            body["credentials"] = credentials;
            let done = ours.fetched(body).await;
            let what = format!("{} {path}: {done}", ours.server.name);
            assert_eq!(done["ingest_status"], "failed", "{what}");
            assert_eq!(done["ingest_error"]["code"], code, "{what}");
            assert!(!what.contains("nothing-that-opens"));
        }
        ours.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetching_again() {
    for test in testing::both().await {
        let upstream = Upstream::start().await;
        let ours = Ours::start(test, |_| ()).await;
        let name = ours.server.name;
        let path = ours.make(json!({"source_url": upstream.url("shop.git")})).await;
        let first = ours.settled(&path).await;
        let scans = format!("{path}/scans");
        let (_, scan) = ours.server.get(&scans, &ours.token).await;
        assert_eq!(scan["items"][0]["trigger"], "ingest", "{name}: {scan}");

        // Nothing new: the same snapshot, no other scan.
        let same = ours.again(&path, json!({})).await;
        assert_eq!(same["snapshot"], first["snapshot"], "{name}");
        let (_, scan) = ours.server.get(&scans, &ours.token).await;
        assert_eq!(scan["items"].as_array().map(Vec::len), Some(1), "{name}");

        // A new commit, then another line of history, then all of it.
        upstream.commit("more.py", "print('three')\n").await;
        upstream.git(&["-C", "work", "push", "-q", "../shop.git", "main"]).await;
        let next = ours.again(&path, json!({"scan": false})).await;
        assert_eq!(next["head_commit"], json!(upstream.id("main").await), "{name}: {next}");
        assert_eq!(
            next["snapshot"]["file_count"],
            first["snapshot"]["file_count"].as_i64().unwrap() + 1
        );
        upstream.git(&["-C", "work", "reset", "-q", "--hard", "HEAD~1"]).await;
        upstream.commit("app.py", &format!("print('{name}')\n")).await;
        upstream.git(&["-C", "work", "push", "-q", "-f", "../shop.git", "main"]).await;
        let forced = ours.again(&path, json!({"scan": false})).await;
        assert_eq!(forced["head_commit"], json!(upstream.id("main").await), "{name}: {forced}");
        upstream.commit("last.py", "print('four')\n").await;
        upstream.git(&["-C", "work", "push", "-q", "../shop.git", "main"]).await;
        let whole = ours.again(&path, json!({"scan": false, "history": true})).await;
        assert_eq!(whole["head_commit"], json!(upstream.id("main").await), "{name}: {whole}");
        let id = whole["id"].as_str().unwrap().parse().unwrap();
        let app = &ours.server.app;
        let store = uploads::of_repository(&app.db, id).await.unwrap().unwrap();
        assert!(uploads::shallow(&app.db, store).await.unwrap().is_empty(), "{name}");

        // The store is nobody's remote.
        let (_, listed) = ours.server.get("/v1/git-uploads", &ours.token).await;
        assert_eq!(listed["items"], json!([]), "{name}");
        let answer = ours.server.get(&format!("/v1/git-uploads/{store}"), &ours.token).await;
        assert_eq!(answer.0, 404, "{name}");
        // With the repository its objects go.
        let gone = ours.server.request(reqwest::Method::DELETE, &path).bearer_auth(&ours.token);
        assert_eq!(gone.send().await.unwrap().status(), 204, "{name}");
        assert!(uploads::by_id(&app.db, store).await.unwrap().is_none(), "{name}");
        ours.end().await;
    }
}

/// Whoever asks for the history of a head that is here gets it scanned, once; and nothing
/// of all this is a push.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_of_an_unchanged_head_is_scanned() {
    for test in testing::both().await {
        let upstream = Upstream::start().await;
        let ours = Ours::start(test, |_| ()).await;
        let name = ours.server.name;
        let project = ours.list.trim_end_matches("/repositories");
        let hook =
            json!({"url": upstream.url("page"), "events": ["upload.ready", "scan.completed"]});
        let (status, hook) =
            ours.server.post(&format!("{project}/webhooks"), &ours.token, &hook).await;
        assert_eq!(status, 201, "{name}: {hook}");
        let path = ours.make(json!({"source_url": upstream.url("shop.git")})).await;
        let first = ours.settled(&path).await;
        let scans = async || -> Vec<Value> {
            let (_, page) = ours.server.get(&format!("{path}/scans"), &ours.token).await;
            page["items"].as_array().unwrap().clone()
        };
        let told = async || -> Vec<Value> {
            let list = format!("{project}/events?limit=200");
            let (_, page) = ours.server.get(&list, &ours.token).await;
            page["items"].as_array().unwrap().clone()
        };
        let unchanged = async || {
            let events = told().await;
            let same = |event: &&Value| {
                event["type"] == "ingest.completed" && event["data"]["unchanged"] == true
            };
            events.iter().filter(same).count()
        };

        // Asked for, but not to be scanned; then scanned; then there is nothing to do.
        for (body, expected) in [
            (json!({"history": true, "scan": false}), 1),
            (json!({}), 2),
            (json!({"history": true}), 2),
        ] {
            let before = unchanged().await;
            let again = ours.again(&path, body.clone()).await;
            assert_eq!(again["snapshot"], first["snapshot"], "{name}: {body}");
            assert_eq!(unchanged().await, before + 1, "{name}: {body}: it is told");
            assert_eq!(scans().await.len(), expected, "{name}: {body}");
        }
        let scan = scans().await[0].clone();
        assert_eq!(scan["config"]["history"], true, "{name}: {scan}");
        assert_eq!(scan["commit"], first["head_commit"], "{name}: {scan}");
        let scan = format!("{path}/scans/{}", scan["id"].as_str().unwrap());
        for attempt in 0.. {
            let (_, now) = ours.server.get(&scan, &ours.token).await;
            if now["status"] == "completed" {
                assert_eq!(now["progress"]["phase"], "completed", "{name}: {now}");
                break;
            }
            assert!(attempt < 600, "{name}: {now}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (_, page) = ours.server.get(&format!("{scan}/events"), &ours.token).await;
        let walked =
            |event: &Value| event["type"] == "phase" && event["data"]["phase"] == "history";
        assert!(page["items"].as_array().unwrap().iter().any(walked), "{name}: {page}");

        // Nobody has pushed anything.
        let events = told().await;
        let pushed = |event: &&Value| event["type"].as_str().unwrap().starts_with("upload.");
        assert_eq!(events.iter().find(pushed), None, "{name}");
        let hook = format!("/v1/webhooks/{}/deliveries", hook["id"].as_str().unwrap());
        let (_, sent) = ours.server.get(&hook, &ours.token).await;
        let kinds: Vec<&str> =
            sent["items"].as_array().unwrap().iter().filter_map(|d| d["event"].as_str()).collect();
        assert!(!kinds.is_empty(), "{name}: {sent}");
        assert!(kinds.iter().all(|kind| *kind == "scan.completed"), "{name}: {kinds:?}");
        let (_, bill) = ours.server.get("/v1/billing/summary", &ours.token).await;
        let totals = &bill["totals"];
        assert_eq!(
            (&totals["pushes"], &totals["bytes_received"]),
            (&json!(0), &json!(0)),
            "{bill}"
        );
        assert_eq!(totals["scans"], 2, "{name}: {bill}");
        const KEPT: Sql = Sql::both("SELECT count(*) FROM usage_storage WHERE storage_key LIKE $1");
        let (kept,): (i64,) =
            ours.server.app.db.conn().fetch_one(KEPT, args!["packs/%"]).await.unwrap();
        assert!(kept >= 2, "{name}: what is stored is on the bill");
        let figures = ours.server.request(reqwest::Method::GET, "/metrics").send().await.unwrap();
        let figures = figures.text().await.unwrap();
        assert!(!figures.contains("sluice_pushes_total{"), "{name}: {figures}");
        assert!(figures.contains("sluice_push_received_bytes_total 0"), "{name}: {figures}");
        // The newest commit alone, and then all of them.
        let fetches = r#"sluice_url_fetches_total{kind="git"} 2"#;
        assert!(figures.contains(fetches), "{name}: {figures}");
        ours.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_deletion_and_credentials() {
    let upstream = Upstream::start().await;
    let ours = Ours::start(testing::sqlite().await, |config| config.limits.push_objects = 2).await;
    let done = ours.fetched(json!({"source_url": upstream.url("shop.git")})).await;
    assert_eq!(done["ingest_error"]["code"], "pack_refused", "{done}");
    let message = done["ingest_error"]["message"].as_str().unwrap();
    assert!(message.ends_with('.') && !message.ends_with(".."), "{message}");
    let figures = ours.server.request(reqwest::Method::GET, "/metrics").send().await.unwrap();
    let figures = figures.text().await.unwrap();
    let limit = r#"sluice_limit_hits_total{limit="push_objects"} 1"#;
    assert!(figures.contains(limit) && !figures.contains("sluice_pushes_total{"), "{figures}");

    // While one is fetched there is no second time, and deleting it stops it.
    let path = ours.make(json!({"source_url": upstream.url("slow")})).await;
    let (status, answer) =
        ours.server.post(&format!("{path}/ingest"), &ours.token, &json!({})).await;
    assert_eq!((status, answer["code"].as_str()), (409, Some("ingest_under_way")), "{answer}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let gone = ours.server.request(reqwest::Method::DELETE, &path).bearer_auth(&ours.token);
    assert_eq!(gone.send().await.unwrap().status(), 204);
    for attempt in 0.. {
        if jobs::pending(&ours.server.app.db).await.unwrap() == 0 {
            break;
        }
        assert!(attempt < 100, "the fetch goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // Credentials are replaced and removed, and stand nowhere in the clear.
    let body =
        json!({"source_url": upstream.url("private/shop.git"), "credentials": {"token": TOKEN}});
    let path = ours.make(body).await;
    ours.settled(&path).await;
    let at = format!("{path}/credentials");
    let put = ours.server.request(reqwest::Method::PUT, &at).bearer_auth(&ours.token);
    assert_eq!(put.json(&json!({"token": "x"})).send().await.unwrap().status(), 204);
    let refused = ours.again(&path, json!({})).await;
    assert_eq!(refused["ingest_error"]["code"], "credentials_refused", "{refused}");
    let remove = ours.server.request(reqwest::Method::DELETE, &at).bearer_auth(&ours.token);
    assert_eq!(remove.send().await.unwrap().status(), 204);
    let needed = ours.again(&path, json!({})).await;
    assert_eq!(needed["ingest_error"]["code"], "credentials_needed", "{needed}");
    let data = ours.server.app.config.data_dir.parent().unwrap().to_owned();
    let mut folders = vec![data];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                let leaks = bytes.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes());
                assert!(!leaks, "{}", path.display());
            }
        }
    }

    // What is refused when it is asked for.
    for (field, body) in [
        ("source_url", json!({})),
        ("source_url", json!({"source_url": "https://user:pw@example.com/x"})),
        ("source_url", json!({"source_url": "https://169.254.169.254/x"})),
        ("source_url", json!({"source_url": "https://0x7f.1/x"})),
        ("source_url", json!({"source_url": "https://example.com/x?y"})),
        ("ref", json!({"source_url": "https://example.com/x", "ref": "a..b"})),
        (
            "credentials.token",
            json!({"source_url": "https://example.com/x", "credentials": {"token": "a b"}}),
        ),
        (
            "upload_id",
            json!({"source_url": "https://example.com/x", "upload_id": uuid::Uuid::nil()}),
        ),
    ] {
        let mut body = body;
        body["name"] = "r".into();
        body["source_type"] = "git".into();
        let (status, answer) = ours.server.post(&ours.list, &ours.token, &body).await;
        assert_eq!((status, &answer["errors"][0]["field"]), (422, &json!(field)), "{answer}");
    }
    ours.end().await;
}
