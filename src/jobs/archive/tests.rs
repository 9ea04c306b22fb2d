//! Archives by URL, whole: more than one try, and what stays of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use serde_json::{Value, json};

use super::*;
use crate::accounts::testing::TestServer;
use crate::api::scans::tests::signed_in;
use crate::db::jobs::Lane;
use crate::db::testing::{TestDb, both};
use crate::db::{Sql, args};
use crate::queue::Workers;

/// A server of others with one archive that is packed anew each time and grows; how often
/// it was asked for.
async fn others() -> (String, Arc<AtomicUsize>) {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(8);
    archive.append_data(&mut header, "README.md", &b"# A tree"[..]).unwrap();
    let archive = archive.into_inner().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let serve = async move |State(asked): State<Arc<AtomicUsize>>| {
        let times = asked.fetch_add(1, Ordering::Relaxed);
        [archive.clone(), vec![0; times * 512]].concat()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/tree.tar", listener.local_addr().unwrap());
    let router = Router::new().fallback(serve).with_state(asked.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, asked)
}

async fn start(test: TestDb) -> TestServer {
    let change = |config: &mut crate::config::Config| {
        config.workers = 1;
        config.allow_private_urls = true;
        config.allow_http_urls = true;
    };
    TestServer::start(test, change, Router::new()).await
}

async fn stop(server: &TestServer, workers: Workers) {
    server.app.stopping.cancel();
    workers.stopped().await;
}

async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not in time: {what}");
}

/// Makes a repository of the archive; where it is shown.
async fn made(server: &TestServer, project: Uuid, token: &str, url: &str) -> String {
    let list = format!("/v1/projects/{project}/repositories");
    let body = json!({"name": "r", "source_type": "archive", "source_url": url, "scan": false});
    let (status, made) = server.post(&list, token, &body).await;
    assert_eq!(status, 201, "{}: {made}", server.name);
    format!("/v1/repositories/{}", made["id"].as_str().unwrap())
}

/// What lies below `archives/`.
async fn stored(server: &TestServer) -> usize {
    server.app.storage.list("archives/", None, 100).await.unwrap().items.len()
}

/// The tries so far of the ingest that waits for another one.
async fn waits(server: &TestServer) -> Option<i64> {
    const WAITING: Sql =
        Sql::both("SELECT attempt FROM jobs WHERE kind = 'ingest' AND status = 'queued'");
    let row: Option<(i64,)> = server.app.db.conn().fetch_optional(WAITING, args![]).await.unwrap();
    row.map(|row| row.0)
}

/// Makes the next try due.
async fn hurry(server: &TestServer) {
    const HURRY: Sql = Sql::both("UPDATE jobs SET run_at = 0 WHERE status = 'queued'");
    let mut tx = server.app.db.begin().await.unwrap();
    tx.execute(HURRY, args![]).await.unwrap();
    tx.wake_workers();
    tx.commit().await.unwrap();
}

/// Lets every try fail behind the fetch, as a full or broken disk does: nothing can be
/// unpacked.
fn break_the_disk(server: &TestServer) -> PathBuf {
    let tmp = server.app.config.data_dir.join("tmp");
    let _ = std::fs::remove_dir_all(&tmp);
    std::fs::create_dir_all(&server.app.config.data_dir).unwrap();
    std::fs::write(&tmp, "in the way").unwrap();
    tmp
}

#[tokio::test]
async fn a_second_try_goes_on_with_what_the_first_one_fetched() {
    let (url, asked) = others().await;
    for test in both().await {
        let server = start(test).await;
        let name = server.name;
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        asked.store(0, Ordering::Relaxed);
        let broken = break_the_disk(&server);
        let path = made(&server, ada.project, &token, &url).await;
        let workers = Workers::start(&server.app);
        until("the first try has failed", async || {
            let here = stored(&server).await == 1;
            (here && waits(&server).await.is_some_and(|tries| tries > 0)).then_some(())
        })
        .await;
        std::fs::remove_file(broken).unwrap();
        let ready = until("the archive is read", async || {
            hurry(&server).await;
            let (_, now) = server.get(&path, &token).await;
            matches!(now["ingest_status"].as_str(), Some("ready" | "failed")).then_some(now)
        })
        .await;
        assert_eq!(ready["ingest_status"], "ready", "{name}: {ready}");
        assert_eq!(ready["snapshot"]["file_count"], 1, "{name}: {ready}");
        assert_eq!(asked.load(Ordering::Relaxed), 1, "{name}: it is not fetched again");
        until("the archive is dropped", async || (stored(&server).await == 0).then_some(())).await;
        stop(&server, workers).await;
    }
}

#[tokio::test]
async fn an_archive_goes_with_the_last_try() {
    let (url, _) = others().await;
    for test in both().await {
        let server = start(test).await;
        let (name, db) = (server.name, &server.app.db);
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let failed = async |path: &str| -> Value {
            until("the ingest fails", async || {
                hurry(&server).await;
                let (_, now) = server.get(path, &token).await;
                (now["ingest_status"] == "failed").then_some(now)
            })
            .await
        };

        // Its process died in every try, each time with the archive in storage.
        let given_up = made(&server, ada.project, &token, &url).await;
        let mut key = String::new();
        for attempt in 1..=jobs::MAX_ATTEMPTS {
            let job = jobs::claim_of(db, Lane::Fetches, "killed", -1).await.unwrap().unwrap();
            assert_eq!(job.attempt, attempt, "{name}");
            job.payload["archive"]["key"].as_str().unwrap().clone_into(&mut key);
            assert_eq!(jobs::rescue(db).await.unwrap(), 1, "{name}");
        }
        server.app.storage.put_bytes(&key, "whatever".into()).await.unwrap();
        let workers = Workers::start(&server.app);
        let shown = failed(&given_up).await;
        assert!(shown["ingest_error"]["message"].as_str().unwrap().contains("gave it up"));
        until("the archive is dropped", async || (stored(&server).await == 0).then_some(())).await;

        // Every try failed behind the fetch.
        break_the_disk(&server);
        let path = made(&server, ada.project, &token, &url).await;
        until("it is stored", async || (stored(&server).await == 1).then_some(())).await;
        let shown = failed(&path).await;
        assert_eq!(shown["ingest_error"]["code"], "internal", "{name}: {shown}");
        until("the archive is dropped", async || (stored(&server).await == 0).then_some(())).await;
        stop(&server, workers).await;
    }
}
