//! Servers and workers as processes of their own, which hear of each other through
//! PostgreSQL and SQS.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::crash::scanned_once;
use crate::support::client::text;
use crate::support::{Client, Git, Place, Work, samples, until};

fn sqs() -> String {
    std::env::var("TEST_SQS_MINISTACK")
        .expect("TEST_SQS_MINISTACK: run the tests with tests/run, which starts SQS")
}

/// A database and a queue of the test's own; objects in a folder that all processes share.
async fn place(endpoint: &str) -> Place {
    let mut place = Place::postgres().await;
    let queue = format!("sqs://e2e-{}", uuid::Uuid::now_v7().simple());
    let objects = format!("file://{}", place.dir.path().join("objects").display());
    place
        .set("SLUICE_QUEUE", &queue)
        .set("SLUICE_STORAGE", &objects)
        .set("AWS_ENDPOINT_URL_SQS", endpoint)
        .set("AWS_REGION", "us-east-1")
        .set("AWS_ACCESS_KEY_ID", "test")
        .set("AWS_SECRET_ACCESS_KEY", "testtest");
    place
}

/// What takes a while to scan.
async fn much(git: &Git) -> Work {
    let work = samples::demo(git).await;
    for index in 0..300 {
        let text = samples::injectable(&format!("f{index}")).repeat(10);
        work.write(&format!("more/module_{index}.py"), text);
    }
    work.commit("much to look at").await;
    work
}

async fn scan_of(client: &Client, made: &Value) -> String {
    let upload = client.ingested(&text(&made["id"])).await;
    let (repository, scan) = (text(&upload["repository_id"]), text(&upload["scan_id"]));
    format!("/v1/repositories/{repository}/scans/{scan}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_to_one_process_is_scanned_by_another() {
    let place = place(&sqs()).await;
    let server = place.start_with(&["--no-worker"]).await;
    let worker = place.start_worker("worker").await;
    let client = server.admin().await;
    let made = client.upload(json!({})).await;
    let work = samples::small(&Git::any()).await;
    let url = text(&made["push_url"]);
    let said = work.run(&["push", "-o", "wait", &url, "main"]).await.expect();
    assert!(said.err.contains("service/users.py:12"), "{}", said.err);
    assert!(!scanned_once(&client, &text(&made["id"])).await.is_empty());

    // Nothing is left of the messages, and operators see it.
    let shown = until("the messages are gone", async || {
        let shown = client.get("/v1/ops/workers").await.expect(200).json();
        let messages = &shown["messages"];
        assert_eq!(messages["error"], Value::Null, "{shown}");
        let gone = messages["waiting"] == json!(0) && messages["in_flight"] == json!(0);
        gone.then_some(shown)
    })
    .await;
    assert_eq!(shown["messages"]["dead"], json!(0), "{shown}");
    assert_eq!((&shown["dead_letters"], &shown["queue_depth"]), (&json!(0), &json!(0)));
    assert_eq!(shown["items"].as_array().map(Vec::len), Some(1), "{shown}");
    assert_eq!(shown["items"][0]["status"], "alive", "{shown}");
    let figures = client.get("/metrics").await.expect(200).text();
    for line in [
        "sluice_queue_up 1",
        r#"sluice_queue_messages{state="dead"} 0"#,
        r#"sluice_queue_requests_total{call="CreateQueue",outcome="ok"} 2"#,
    ] {
        assert!(figures.lines().any(|found| found == line), "no {line} in {figures}");
    }
    assert!(!figures.contains("ReceiveMessage"), "it has nobody to receive for: {figures}");
    let checked = place.run(&["check"], "").await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.out.lines().any(|l| l.starts_with("queue") && l.contains("ok")));
    for log in [server.log(), worker.log()] {
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_in_a_scan_leaves_it_to_another_one() {
    let mut place = place(&sqs()).await;
    place.set("SLUICE_WORKERS", "1");
    let server = place.start_with(&["--no-worker"]).await;
    let first = place.start_worker("first").await;
    let client = server.admin().await;
    let made = client.upload(json!({})).await;
    much(&Git::any()).await.push(&text(&made["push_url"]), &["main"]).await.expect();
    let scan = scan_of(&client, &made).await;
    until("the scan runs", async || {
        (client.get(&scan).await.expect(200).json()["status"] == "running").then_some(())
    })
    .await;
    first.kill();
    let now = client.get(&scan).await.expect(200).json();
    assert_eq!(now["status"], "running", "the test kills in the middle of a scan");

    let _second = place.start_worker("second").await;
    assert!(!scanned_once(&client, &text(&made["id"])).await.is_empty());
    let shown = client.get("/v1/ops/workers").await.expect(200).json();
    assert_eq!(shown["dead_letters"], json!(0), "{shown}");
}

/// Frozen past its lease, it wakes up while another one does its job, or has done it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_was_frozen_changes_nothing() {
    let mut place = place(&sqs()).await;
    place.set("SLUICE_WORKERS", "1");
    let server = place.start_with(&["--no-worker"]).await;
    let frozen = place.start_worker("frozen").await;
    let client = server.admin().await;
    let made = client.upload(json!({})).await;
    much(&Git::any()).await.push(&text(&made["push_url"]), &["main"]).await.expect();
    let scan = scan_of(&client, &made).await;
    until("the scan runs", async || {
        (client.get(&scan).await.expect(200).json()["status"] == "running").then_some(())
    })
    .await;
    frozen.signal("-STOP");
    let now = client.get(&scan).await.expect(200).json();
    assert_eq!(now["status"], "running", "the test freezes in the middle of a scan");
    let _other = place.start_worker("other").await;
    until("another one has it", async || {
        let now = client.get(&scan).await.expect(200).json();
        let mine = format!(":{}:", frozen.pid());
        (!now["worker_id"].as_str().unwrap_or(&mine).contains(&mine)).then_some(())
    })
    .await;
    frozen.signal("-CONT");
    assert!(!scanned_once(&client, &text(&made["id"])).await.is_empty());
    until("it hears that it is late", async || {
        // From a heartbeat, or from what it wanted to write.
        frozen.log().contains("was lost").then_some(())
    })
    .await;
    // It works on as if nothing had been.
    assert!(!scanned_once(&client, &text(&made["id"])).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stops_hands_its_job_on() {
    let mut place = place(&sqs()).await;
    place.set("SLUICE_WORKERS", "1");
    let server = place.start_with(&["--no-worker"]).await;
    let mut workers = vec![place.start_worker("one").await, place.start_worker("two").await];
    let client = server.admin().await;
    let made = client.upload(json!({})).await;
    much(&Git::any()).await.push(&text(&made["push_url"]), &["main"]).await.expect();
    let scan = scan_of(&client, &made).await;
    let of = async |worker: &crate::support::Server| {
        let shown = client.get("/v1/ops/workers").await.expect(200).json();
        let id = format!(":{}:", worker.pid());
        let items = shown["items"].as_array().expect("workers").clone();
        let item = items.into_iter().find(|item| text(&item["id"]).contains(&id));
        item.map_or(Vec::new(), |item| item["jobs"].as_array().expect("jobs").clone())
    };
    let busy = until("one of them scans", async || {
        for (n, worker) in workers.iter().enumerate() {
            if of(worker).await.iter().any(|job| job["kind"] == "scan") {
                return Some(n);
            }
        }
        None
    })
    .await;
    let mut stopped = workers.remove(busy);
    stopped.terminate();
    let (code, took) = stopped.ended().await;
    assert_eq!(code, Some(0), "{}", stopped.log());
    assert!(took < Duration::from_secs(5), "{took:?}: {}", stopped.log());
    let ended = Instant::now();
    until("the other one scans", async || {
        let ended = client.get(&scan).await.expect(200).json()["status"] == "completed";
        (ended || !of(&workers[0]).await.is_empty()).then_some(())
    })
    .await;
    assert!(ended.elapsed() < Duration::from_secs(3), "{:?}", ended.elapsed());
    assert!(!scanned_once(&client, &text(&made["id"])).await.is_empty());
}

/// What a connection through a [`Link`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Takes everything and answers nothing.
    Hang,
    /// Ends every connection.
    Cut,
}

/// The way to a service, which can fail.
struct Link {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
}

impl Link {
    async fn to(endpoint: &str) -> Self {
        let target = endpoint.strip_prefix("http://").expect("http").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (mode, watched) = watch::channel(Mode::Pass);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target.clone(), watched.clone()));
            }
        });
        Self { address, mode }
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn carry(client: TcpStream, target: String, mut mode: watch::Receiver<Mode>) {
    let Ok(service) = TcpStream::connect(&target).await else { return };
    let (mut from, mut back) = client.into_split();
    let (mut answers, mut to) = service.into_split();
    let (mut asked, mut answered) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    loop {
        let now = *mode.borrow_and_update();
        match now {
            Mode::Pass => {}
            Mode::Cut => return,
            Mode::Hang => {
                if mode.changed().await.is_err() {
                    return;
                }
                continue;
            }
        }
        tokio::select! {
            changed = mode.changed() => if changed.is_err() { return },
            read = from.read(&mut asked) => match read {
                Ok(n) if n > 0 => if to.write_all(&asked[..n]).await.is_err() { return },
                _ => return,
            },
            read = answers.read(&mut answered) => match read {
                Ok(n) if n > 0 => if back.write_all(&answered[..n]).await.is_err() { return },
                _ => return,
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_tells_of_the_queue_within_two_seconds_and_work_goes_on() {
    let link = Link::to(&sqs()).await;
    let place = place(&link.endpoint()).await;
    let server = place.start_with(&["--no-worker"]).await;
    let _worker = place.start_worker("worker").await;
    let client = server.admin().await;
    let ready = async |wanted: u16| -> Value {
        until("readiness changes", async || {
            let began = Instant::now();
            let answer = client.get("/v1/readyz").await;
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
            (answer.status.as_u16() == wanted).then(|| answer.json())
        })
        .await
    };
    let scanned = async |label: &str| {
        let made = client.upload(json!({})).await;
        let work = samples::small(&Git::any()).await;
        work.write("label.txt", label);
        work.commit(label).await;
        let began = Instant::now();
        work.push(&text(&made["push_url"]), &["main"]).await.expect();
        let took = began.elapsed();
        assert!(took < Duration::from_secs(5), "{label}: no push waits for the queue: {took:?}");
        assert!(!scanned_once(&client, &text(&made["id"])).await.is_empty(), "{label}");
    };
    ready(200).await;
    scanned("before").await;
    for mode in [Mode::Hang, Mode::Cut] {
        link.mode.send_replace(mode);
        let answer = ready(503).await;
        assert_eq!(answer["checks"]["queue"]["status"], "error", "{answer}");
        assert_eq!(answer["checks"]["database"]["status"], "ok", "{answer}");
        let said = text(&answer["checks"]["queue"]["error"]);
        assert!(!said.contains("127.0.0.1"), "no address for everybody: {said}");
        scanned(&format!("{mode:?}")).await;
        let shown = client.get("/v1/ops/workers").await.expect(200).json();
        assert!(shown["messages"]["error"].is_string(), "{shown}");
        assert_eq!(shown["messages"]["waiting"], Value::Null, "{shown}");
        let checked = place.run(&["check"], "").await;
        assert_eq!(checked.code, Some(1), "{checked:?}");
        let line = checked.out.lines().find(|line| line.starts_with("queue"));
        assert!(line.is_some_and(|line| !line.contains(" ok")), "{}", checked.out);
        assert!(!checked.out.contains("testtest"), "{}", checked.out);
        // A server that starts meanwhile starts.
        let late = place.start_with(&["--no-worker", "--data-dir", "late"]).await;
        late.anonymous().get("/v1/healthz").await.expect(200);
        late.kill();
        link.mode.send_replace(Mode::Pass);
        ready(200).await;
        scanned(&format!("after {mode:?}")).await;
    }
}
