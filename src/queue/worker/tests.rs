//! Whole jobs in a real server on each database: which of them are given up, and who is
//! told of it.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::*;
use crate::accounts::testing::TestServer;
use crate::api::scans::tests::{scans_of, signed_in, started};
use crate::db::testing::both;
use crate::db::{Sql, args};
use crate::jobs::fetch::error::FetchError;
use crate::net::NetError;

async fn start(test: crate::db::testing::TestDb) -> TestServer {
    let change = |config: &mut crate::config::Config| {
        config.workers = 1;
        config.allow_private_urls = true;
        config.allow_http_urls = true;
        config.limits.fetch_seconds = 2;
    };
    TestServer::start(test, change, Router::new()).await
}

async fn stop(server: &TestServer, workers: Workers) {
    server.app.stopping.cancel();
    workers.stopped().await;
}

/// Asks until the answer is one.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not in time: {what}");
}

/// Waits until nothing runs or waits, also of what the sweeper asked for.
async fn settled(db: &crate::db::Db) {
    until("all jobs end", async || (jobs::pending(db).await.unwrap() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_job_that_ends_its_process_each_time_is_given_up() {
    for test in both().await {
        let server = start(test).await;
        let (name, db) = (server.name, &server.app.db);
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let scan = started(&server, ada, &token).await;
        for attempt in 1..=jobs::MAX_ATTEMPTS {
            // A process that dies leaves a lease that runs out.
            let job = jobs::claim(db, "killed", -1).await.unwrap().expect("a job");
            assert_eq!((job.subject_id, job.attempt), (scan, attempt), "{name}");
            assert_eq!(jobs::rescue(db).await.unwrap(), 1, "{name}");
        }
        let workers = Workers::start(&server.app);
        let path = format!("{}/{scan}", scans_of(ada));
        let shown = until("the scan ends", async || {
            let (_, shown) = server.get(&path, &token).await;
            (shown["status"] == "failed").then_some(shown)
        })
        .await;
        // Had it begun, it would have found nothing to scan.
        assert_eq!(shown["error"]["code"], "internal", "{name}: {shown}");
        assert!(shown["error"]["message"].as_str().unwrap().contains("gave it up"), "{shown}");
        assert_eq!(shown["started_at"], Value::Null, "{name}: {shown}");
        settled(db).await;
        assert_eq!(jobs::dead(db).await.unwrap(), [("scan".to_owned(), 1)], "{name}");
        stop(&server, workers).await;
    }
}

/// What is logged while it is there.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A server of others: `/slow` drips, everything else is no archive.
async fn others() -> (String, Arc<AtomicUsize>) {
    async fn serve(State(slow): State<Arc<AtomicUsize>>, uri: Uri) -> Response {
        if !uri.path().starts_with("/slow") {
            return "no archive".into_response();
        }
        slow.fetch_add(1, Ordering::Relaxed);
        Body::from_stream(futures::stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Some((Ok::<_, std::io::Error>("drip"), ()))
        }))
        .into_response()
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let slow = Arc::new(AtomicUsize::new(0));
    let router = Router::new().fallback(serve).with_state(slow.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, slow)
}

/// The user named the server and the archive, and is told; the operator has no fault to
/// look for in the log, and no dead letter.
#[tokio::test]
async fn what_the_user_gave_is_no_fault_of_the_server() {
    const HURRY: Sql = Sql::both("UPDATE jobs SET run_at = 0 WHERE status = 'queued'");
    let (url, slow) = others().await;
    // Nobody listens there any more.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}/shop", closed.local_addr().unwrap());
    drop(closed);
    for test in both().await {
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let server = start(test).await;
        let (name, db) = (server.name, &server.app.db);
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let workers = Workers::start(&server.app);
        let list = format!("/v1/projects/{}/repositories", ada.project);
        slow.store(0, Ordering::Relaxed);
        for (kind, source, code) in [
            ("git", nobody.clone(), "connection_failed"),
            ("git", format!("{url}/shop"), "not_a_git_repository"),
            ("archive", format!("{nobody}.zip"), "connection_failed"),
            ("archive", format!("{url}/shop.zip"), "unsupported_archive"),
            ("archive", format!("{url}/slow.zip"), "timeout"),
        ] {
            let body = json!({"name": "r", "source_type": kind, "source_url": source});
            let (status, made) = server.post(&list, &token, &body).await;
            assert_eq!(status, 201, "{name}: {made}");
            let path = format!("/v1/repositories/{}", made["id"].as_str().unwrap());
            let failed = until(&source, async || {
                let mut tx = db.begin().await.unwrap();
                tx.execute(HURRY, args![]).await.unwrap();
                tx.wake_workers();
                tx.commit().await.unwrap();
                let (_, now) = server.get(&path, &token).await;
                (now["ingest_status"] == "failed").then_some(now)
            })
            .await;
            assert_eq!(failed["ingest_error"]["code"], code, "{name}: {source}: {failed}");
            let message = failed["ingest_error"]["message"].as_str().unwrap();
            assert!(message.ends_with('.') && !message.ends_with(".."), "{name}: {message}");
        }
        assert_eq!(slow.load(Ordering::Relaxed), 1, "{name}: the same time is not given again");
        assert_eq!(jobs::dead(db).await.unwrap(), [], "{name}");
        settled(db).await;
        let figures = server.request(reqwest::Method::GET, "/metrics").send().await.unwrap();
        let figures = figures.text().await.unwrap();
        assert!(figures.contains(r#"sluice_jobs_dead{kind="ingest"} 0"#), "{name}: {figures}");
        let tries = r#"sluice_jobs_total{kind="ingest",outcome="unreachable"} 8"#;
        assert!(figures.contains(tries), "{name}: {figures}");
        let late = r#"sluice_limit_hits_total{limit="fetch_seconds"} 1"#;
        assert!(figures.contains(late), "{name}: {figures}");
        stop(&server, workers).await;
        let log = log.text();
        assert!(log.contains("the job is tried again"), "{name}: {log}");
        assert!(!log.contains("ERROR") && !log.contains("WARN"), "{name}: {log}");
    }
}

/// An error of ours is one, whatever was fetched.
#[test]
fn errors_of_the_server_itself_stay_errors() {
    let host = || "example.org".to_owned();
    let theirs = [
        anyhow::Error::from(NetError::ConnectionFailed { host: host() }),
        FetchError::Net(NetError::Timeout { host: host() }).into(),
        FetchError::NotGit.into(),
    ];
    assert!(theirs.iter().all(crate::jobs::is_theirs));
    let ours = [
        anyhow::Error::from(NetError::Unusable),
        FetchError::Net(NetError::Unusable).into(),
        DbError::Fenced.into(),
        anyhow::anyhow!("the disk"),
    ];
    assert!(!ours.iter().any(crate::jobs::is_theirs));
}
