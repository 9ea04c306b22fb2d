//! Events over a socket: polled, waited for, streamed.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::accounts::testing::{TestServer, both};
use crate::api::scans::tests::{begin, complete, scans_of, signed_in, started};
use crate::db::events::{NewEvent, append};

async fn say(server: &TestServer, scan: Uuid, words: &[&str]) {
    let events: Vec<NewEvent> =
        words.iter().map(|word| NewEvent::info("note", word, json!({ "word": word }))).collect();
    let mut tx = server.app.db.begin().await.unwrap();
    append(&mut tx, scan, &events).await.unwrap();
    tx.commit().await.unwrap();
}

fn seqs(page: &Value) -> Vec<i64> {
    page["items"].as_array().unwrap().iter().map(|e| e["seq"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn events_are_read_page_by_page_and_waited_for() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let scan = started(&server, ada, &token).await;
        let path = format!("{}/{scan}/events", scans_of(ada));
        let get = async |query: &str| {
            let (status, page) = server.get(&format!("{path}{query}"), &token).await;
            assert_eq!(status, 200, "{}: {query}: {page}", server.name);
            page
        };
        let page = get("").await;
        let first = &page["items"][0];
        assert_eq!((&first["seq"], &first["type"]), (&json!(1), &json!("queued")));
        assert_eq!(first["scan_id"], scan.to_string(), "{}", server.name);
        let fields: Vec<&str> = first.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["seq", "scan_id", "at", "level", "type", "message", "data"]);

        say(&server, scan, &["a", "b", "c"]).await;
        let page = get("?after=1&limit=2").await;
        assert_eq!(seqs(&page), [2, 3], "{}", server.name);
        let cursor = page["next_cursor"].as_str().unwrap();
        assert_eq!(seqs(&get(&format!("?limit=2&cursor={cursor}")).await), [4]);

        let begun = Instant::now();
        let (page, ()) = tokio::join!(get("?after=4&wait=30"), async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            say(&server, scan, &["d"]).await;
        });
        assert_eq!(seqs(&page), [5], "{}", server.name);
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", server.name);
        assert_eq!(seqs(&get("?after=5&wait=1").await), [] as [i64; 0], "{}", server.name);
        begin(&server, scan).await;
        complete(&server, scan).await;
        let begun = Instant::now();
        assert_eq!(seqs(&get("?after=5&wait=30").await), [6], "{}", server.name);
        assert_eq!(seqs(&get("?after=6&wait=30").await), [] as [i64; 0], "{}", server.name);
        assert!(begun.elapsed() < Duration::from_secs(10), "{}: it has ended", server.name);

        for bad in ["after=-1", "after=x", "limit=0", "limit=201", "wait=61", "cursor=!", "x=1"] {
            let (status, problem) = server.get(&format!("{path}?{bad}"), &token).await;
            assert_eq!(status, 422, "{}: {bad}: {problem}", server.name);
        }
    }
}

async fn open(server: &TestServer, path: &str, token: &str, last: Option<&str>) -> Response {
    let mut request =
        server.request(Method::GET, path).bearer_auth(token).header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    request.send().await.unwrap()
}

/// Reads a stream to its end; answers id and data of each message.
async fn read(response: Response) -> Vec<(i64, Value)> {
    let mut text = String::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    text.split("\n\n")
        .filter(|message| message.contains("data:"))
        .map(|message| {
            let field = |name: &str| {
                message.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim()
            };
            (field("id:").parse().unwrap(), serde_json::from_str(field("data:")).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn a_stream_follows_to_the_last_event() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let scan = started(&server, ada, &token).await;
        let path = format!("{}/{scan}/events", scans_of(ada));
        let response = open(&server, &path, &token, None).await;
        assert_eq!(response.status(), 200, "{}", server.name);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let ((), messages) = tokio::join!(
            async {
                begin(&server, scan).await;
                for words in [&["a", "b"][..], &["line\nbreak\r\n\"ü\""], &["c"; 450]] {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    say(&server, scan, words).await;
                }
                complete(&server, scan).await;
            },
            tokio::time::timeout(Duration::from_secs(30), read(response)),
        );
        let messages = messages.expect("the stream ends with the scan");
        let ids: Vec<i64> = messages.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, (1..=455).collect::<Vec<_>>(), "{}", server.name);
        assert!(messages.iter().all(|(id, event)| event["seq"] == *id), "{}", server.name);
        assert_eq!(messages[3].1["message"], "line\nbreak\r\n\"ü\"", "{}", server.name);
        assert_eq!(messages.last().unwrap().1["type"], "completed", "{}", server.name);
        assert_eq!(server.app.db.hub().waiting(), 0, "{}: nobody waits any more", server.name);

        // Where it was, and behind the end.
        let rest = read(open(&server, &path, &token, Some("453")).await).await;
        assert_eq!(rest.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [454, 455]);
        let over = open(&server, &path, &token, Some("455")).await;
        assert_eq!(over.status(), 204, "{}", server.name);
        let bad = open(&server, &path, &token, Some("x")).await;
        assert_eq!(bad.status(), 400, "{}", server.name);
    }
}

#[tokio::test]
async fn a_stream_ends_when_the_server_stops() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let scan = started(&server, ada, &token).await;
        let path = format!("{}/{scan}/events", scans_of(ada));
        let response = open(&server, &path, &token, None).await;
        let (messages, ()) =
            tokio::join!(tokio::time::timeout(Duration::from_secs(10), read(response)), async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                server.app.stopping.cancel();
            },);
        assert_eq!(messages.expect("it ends").len(), 1, "{}", server.name);
    }
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_no_waiter() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let scan = started(&server, ada, &token).await;
        let path = format!("{}/{scan}/events", scans_of(ada));
        let mut stream = open(&server, &path, &token, None).await.bytes_stream();
        assert!(stream.next().await.is_some(), "{}", server.name);
        assert_eq!(server.app.db.hub().waiting(), 1, "{}", server.name);
        drop(stream);
        for _ in 0..500 {
            if server.app.db.hub().waiting() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(server.app.db.hub().waiting(), 0, "{}", server.name);
    }
}

#[tokio::test]
async fn a_project_tells_what_happens_in_it() {
    for server in both().await {
        let (ada, token) = signed_in(&server, "ada@example.org").await;
        let (_, other) = signed_in(&server, "bob@example.org").await;
        let path = format!("/v1/projects/{}/events", ada.project);
        let (status, page) = server.get(&path, &token).await;
        assert_eq!((status, &page["items"]), (200, &json!([])), "{}", server.name);
        let scan = started(&server, ada, &token).await;
        let begun = Instant::now();
        let waiting = format!("{path}?after=1&wait=30");
        let ((_, page), ()) = tokio::join!(server.get(&waiting, &token), async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            begin(&server, scan).await;
        });
        assert_eq!(seqs(&page), [2], "{}", server.name);
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", server.name);
        complete(&server, scan).await;
        let (_, page) = server.get(&path, &token).await;
        let types: Vec<&str> = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["type"].as_str().unwrap())
            .collect();
        assert_eq!(types, ["scan.queued", "scan.started", "scan.completed"], "{}", server.name);
        let last = &page["items"][2];
        let fields: Vec<&str> = last.as_object().unwrap().keys().map(String::as_str).collect();
        let contract =
            ["seq", "scan_id", "repository_id", "at", "level", "type", "message", "data"];
        assert_eq!(fields, contract, "{}", server.name);
        assert_eq!(last["scan_id"], scan.to_string(), "{}", server.name);
        assert_eq!(last["repository_id"], ada.repository.to_string(), "{}", server.name);
        assert_eq!(last["data"]["summary"]["high"], 1, "{}: {last}", server.name);
        let (_, page) = server.get(&format!("{path}?limit=2"), &token).await;
        let cursor = page["next_cursor"].as_str().unwrap();
        let (_, page) = server.get(&format!("{path}?limit=2&cursor={cursor}"), &token).await;
        assert_eq!(seqs(&page), [3], "{}", server.name);

        // A stream goes on behind its Last-Event-ID and does not end with a scan.
        let mut stream = open(&server, &path, &token, Some("2")).await.bytes_stream();
        let first = stream.next().await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&first).into_owned();
        assert!(text.contains("scan.completed"), "{}: {text}", server.name);
        let (status, _) = server
            .post(
                &format!("/v1/projects/{}/repositories", ada.project),
                &token,
                &json!({
                    "name": "made here", "source_type": "git_upload",
                }),
            )
            .await;
        assert_eq!(status, 201, "{}", server.name);
        let second = tokio::time::timeout(Duration::from_secs(10), stream.next()).await;
        let second = second.expect("it is told").unwrap().unwrap();
        let text = String::from_utf8_lossy(&second).into_owned();
        assert!(text.contains("repository.created"), "{}: {text}", server.name);
        assert!(text.contains("made here"), "{}: {text}", server.name);

        assert_eq!(server.get(&path, &other).await.0, 404, "{}", server.name);
        assert_eq!(server.get(&format!("{path}?after=-1"), &token).await.0, 422);
    }
}
