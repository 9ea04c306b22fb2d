//! The queue is gone, killed, silent or forbidden.

use std::process::{Child, Command, Stdio};

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;

use super::*;

#[tokio::test]
async fn a_queue_that_is_there_is_used_as_it_is() {
    for place in Place::each().await {
        let server = place.server().await;
        // The first queue is created, with one for its dead letters.
        assert_eq!(depth(&server).await.dead, Some(0), "{}", place.name);
        let (raw, url) = server.sqs.0.client.raw().await;
        // The next process finds both.
        let second = place.server().await;
        assert_eq!(second.sqs.0.client.urls().await, server.sqs.0.client.urls().await);
        assert_eq!(calls(&second, "CreateQueue"), 0);
        // One without: nothing is changed about it.
        let plain = new_name();
        raw.create_queue().queue_name(&plain).send().await.unwrap();
        let third = Process::server(&place.test.url, &place.endpoint, &plain, QUICK).await;
        assert_eq!(depth(&third).await.dead, None, "{}", place.name);
        assert_eq!(calls(&third, "CreateQueue"), 0);
        // One that is deleted while it is used is created again.
        raw.delete_queue().queue_url(&url).send().await.unwrap();
        insert(&server.db, 1).await;
        let worker = place.worker().await;
        let job = next(&worker).await;
        end(&worker, &job).await;
        worker.stop().await;
    }
}

/// ministack on a port of its own; ended with the test.
struct Ministack {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Ministack {
    async fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let child = Self::spawn(dir.path(), port);
        let mut it = Self { child, port, dir };
        it.ready().await;
        it
    }

    fn spawn(dir: &std::path::Path, port: u16) -> Child {
        Command::new(part("TEST_SQS_COMMAND"))
            .args([dir.as_os_str(), port.to_string().as_ref()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("ministack starts")
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn ready(&mut self) {
        let url = format!("{}/_ministack/health", self.endpoint());
        until("ministack answers", async || reqwest::get(&url).await.is_ok()).await;
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn again(&mut self) {
        self.child = Self::spawn(self.dir.path(), self.port);
        self.ready().await;
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The service is killed, and comes back without messages and even without the queue.
#[tokio::test]
async fn a_queue_that_is_killed_stops_nothing_and_is_used_again() {
    let mut service = Ministack::start().await;
    let place = Place::at("killed", service.endpoint()).await;
    let (server, worker) = (place.server().await, place.worker().await);
    insert(&server.db, 1).await;
    let running = next(&worker).await;
    // Of these there are messages, which are lost.
    let mut left = insert(&server.db, 3).await;
    until("they are sent", async || depth(&server).await.waiting == 3).await;
    service.kill();
    // Of these there never was one.
    left.extend(insert(&server.db, 3).await);
    for _ in 0..4 {
        let job = next(&worker).await;
        assert!(left.remove(&job.id));
        end(&worker, &job).await;
    }
    worker.sqs.extended(&running);
    end(&worker, &running).await;
    assert!(worker.sqs.check().await.is_err());
    service.again().await;
    for _ in 0..2 {
        let job = next(&worker).await;
        assert!(left.remove(&job.id));
        end(&worker, &job).await;
    }
    assert!(left.is_empty());
    // Everything goes its usual way again.
    let (queue, stopping) = (worker.queue.clone(), worker.stopping.clone());
    let slot = tokio::spawn(async move { queue.next("w", &stopping).await });
    until("there is no trouble", async || !worker.sqs.0.trouble()).await;
    insert(&server.db, 1).await;
    let job = soon("a job", slot).await.unwrap().unwrap();
    assert!(worker.sqs.0.held().contains_key(&job.id), "by a message");
    end(&worker, &job).await;
    worker.stop().await;
}

/// A service that takes connections and says nothing: the worst kind of away.
#[tokio::test]
async fn a_queue_that_hangs_stops_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            open.push(connection);
        }
    });
    let place = Place::at("hangs", endpoint).await;
    let (server, worker) = (place.server().await, place.worker().await);
    let began = Instant::now();
    let ids = insert(&server.db, 3).await;
    assert!(began.elapsed() < Duration::from_secs(1), "a commit waits for no message");
    for _ in 0..3 {
        let job = next(&worker).await;
        assert!(ids.contains(&job.id));
        end(&worker, &job).await;
    }
    let error = worker.sqs.depth(Duration::ZERO).await.unwrap_err();
    assert!(error.contains("does not answer"), "{error}");
    let began = Instant::now();
    worker.stop().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// No service that can be had here knows permissions, so this one only says no.
#[tokio::test]
async fn a_refusal_names_the_call_and_no_credentials() {
    async fn refuse(headers: HeaderMap) -> axum::response::Response {
        let call = headers["x-amz-target"].to_str().unwrap().to_owned();
        let (kind, message) = if call.ends_with("GetQueueUrl") {
            ("com.amazonaws.sqs#QueueDoesNotExist", "The specified queue does not exist.")
        } else {
            ("com.amazon.coral.service#AccessDeniedException", "User: x is not authorized")
        };
        (StatusCode::BAD_REQUEST, Json(json!({"__type": kind, "message": message}))).into_response()
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(refuse);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = Client::at(&endpoint, "shop".into()).await.unwrap();
    let error = client.urls().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "SQS refuses CreateQueue for the queue shop-dead: AccessDeniedException: User: x is not \
         authorized"
    );
    let nobody = Client::at("http://127.0.0.1:1", "shop".into()).await.unwrap();
    let error = nobody.urls().await.unwrap_err().to_string();
    assert!(error.starts_with("SQS does not answer: GetQueueUrl: "), "{error}");
    assert!(error.contains("refused") && !error.contains("testtest"), "{error}");
}
