//! Forms over a socket, good and hostile.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::accounts::testing::{TestServer, answer, both};
use crate::db;

const BOUNDARY: &str = "----form-of-a-test";

/// One part of a form.
pub(crate) fn part(name: &str, file: Option<&str>, content: &[u8]) -> Vec<u8> {
    let mut bytes = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"");
    if let Some(file) = file {
        bytes.push_str(&format!("; filename=\"{file}\"\r\nContent-Type: application/x-anything"));
    }
    bytes.push_str("\r\n\r\n");
    let mut bytes = bytes.into_bytes();
    bytes.extend_from_slice(content);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// A form of these parts.
pub(crate) fn form(
    server: &TestServer,
    path: &str,
    token: &str,
    parts: &[Vec<u8>],
) -> RequestBuilder {
    let mut body = parts.concat();
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    raw(server, path, token, body)
}

fn raw(
    server: &TestServer,
    path: &str,
    token: &str,
    body: impl Into<reqwest::Body>,
) -> RequestBuilder {
    server
        .request(Method::POST, path)
        .bearer_auth(token)
        .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
        .body(body)
}

/// A zip with one small file, made by hand.
pub(crate) fn small_zip() -> Vec<u8> {
    let crc = crc32fast::hash(b"hello").to_le_bytes();
    let common =
        [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &crc, &[5, 0, 0, 0, 5, 0, 0, 0, 5, 0, 0, 0]]
            .concat();
    let local = [b"PK\x03\x04", &common[..], b"a.txthello"].concat();
    let line = [b"PK\x01\x02\x14\x00", &common[..], &[0; 14], b"a.txt"].concat();
    let (size, at) = ((line.len() as u32).to_le_bytes(), (local.len() as u32).to_le_bytes());
    [&local[..], &line, b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &size, &at, &[0, 0]].concat()
}

async fn prepared(server: &TestServer) -> (String, String, String) {
    server.user("ada@example.org").await;
    server.user("eve@example.org").await;
    let (ada, _) = server.login("ada@example.org").await;
    let (eve, _) = server.login("eve@example.org").await;
    let (_, project) = server.post("/v1/projects", &ada, &json!({"name": "Shop"})).await;
    let id = project["id"].as_str().unwrap();
    (ada, eve, format!("/v1/projects/{id}/repositories"))
}

/// Archives in storage.
async fn stored(server: &TestServer) -> usize {
    server.app.storage.list("archives/", None, 100).await.unwrap().items.len()
}

#[tokio::test]
async fn a_form_in_any_order_makes_a_repository() {
    for server in both().await {
        let (ada, eve, path) = prepared(&server).await;
        let zip = part("file", Some("shop-1.0.tar.gz"), &small_zip());
        let (status, made) = answer(form(&server, &path, &ada, &[zip.clone()])).await;
        assert_eq!(status, 201, "{made}");
        assert_eq!(made["name"], "shop-1.0");
        for (field, wanted) in [
            ("source_type", json!("archive")),
            ("source_url", json!(null)),
            ("ingest_status", json!("pending")),
            ("head_commit", json!(null)),
        ] {
            assert_eq!(made[field], wanted, "{field}");
        }
        let fields = [
            part("description", None, "größer".as_bytes()),
            zip.clone(),
            part("scan", None, b"false"),
            part("name", None, b" shop "),
            part("source_type", None, b"archive"),
        ];
        let (status, made) = answer(form(&server, &path, &ada, &fields)).await;
        assert_eq!(
            (status, &made["name"], &made["description"]),
            (201, &json!("shop"), &json!("größer"))
        );
        assert_eq!(stored(&server).await, 2);
        let (_, list) = server.get(&path, &ada).await;
        assert_eq!(list["items"].as_array().unwrap().len(), 2);
        assert_eq!(answer(form(&server, &path, &eve, &[zip])).await.0, 404);
        assert_eq!(stored(&server).await, 2, "nothing is taken for a stranger");
        // The repository takes the archive with it.
        let repository = format!("/v1/repositories/{}", made["id"].as_str().unwrap());
        let deleted = server.request(Method::DELETE, &repository).bearer_auth(&ada);
        assert_eq!(answer(deleted).await.0, 204);
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_and_leaves_nothing() {
    let test = db::testing::sqlite().await;
    let server = TestServer::start(
        test,
        |config| config.limits.archive_bytes = 2 << 20,
        axum::Router::new(),
    )
    .await;
    let (ada, _, path) = prepared(&server).await;
    let zip = || part("file", Some("a.zip"), &small_zip());
    let large = [small_zip(), vec![0; 3 << 20]].concat();
    for (parts, status, code) in [
        (vec![part("name", None, b"x")], 422, "validation_failed"),
        (vec![], 422, "validation_failed"),
        (vec![zip(), zip()], 422, "validation_failed"),
        (vec![zip(), part("other", None, b"x")], 422, "validation_failed"),
        (vec![zip(), part("name", None, b"\xff")], 422, "validation_failed"),
        (vec![zip(), part("name", None, b"a\nb")], 422, "validation_failed"),
        (vec![zip(), part("name", None, b"")], 422, "validation_failed"),
        (vec![zip(), part("name", None, &[b'x'; 70_000])], 422, "validation_failed"),
        (vec![zip(), part("scan", None, b"maybe")], 422, "validation_failed"),
        (vec![zip(), part("source_type", None, b"git")], 422, "validation_failed"),
        (vec![part("file", Some("a.zip"), b"no archive")], 422, "unsupported_archive"),
        (vec![part("file", Some("a.zip"), b"")], 422, "unsupported_archive"),
        (vec![part("file", Some("a.7z"), b"7z\xbc\xaf\x27\x1c")], 422, "unsupported_archive"),
        (vec![part("file", Some("a.zip"), &large)], 413, "payload_too_large"),
    ] {
        let (got, body) = answer(form(&server, &path, &ada, &parts)).await;
        assert_eq!((got, &body["code"]), (status, &json!(code)), "{body}");
    }
    let cut = [zip(), b"--".to_vec()].concat();
    assert_eq!(answer(raw(&server, &path, &ada, cut)).await.0, 400);
    let endless = format!("--{BOUNDARY}\r\nX: {}", "x".repeat(5 << 20));
    let (status, body) = answer(raw(&server, &path, &ada, endless)).await;
    assert_eq!(status, 400, "{body}");
    let no_boundary = server
        .request(Method::POST, &path)
        .bearer_auth(&ada)
        .header("content-type", "multipart/form-data")
        .body("x");
    assert_eq!(answer(no_boundary).await.0, 400);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stored(&server).await, 0);
    let (_, list) = server.get(&path, &ada).await;
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing() {
    let server = both().await.remove(0);
    let (ada, _, path) = prepared(&server).await;
    let begun = [part("file", Some("a.zip"), &small_zip()), vec![0; 100]].concat();
    let pieces = futures::stream::iter([
        Ok::<_, std::io::Error>(begun),
        Err(std::io::Error::other("the client is gone")),
    ]);
    let sent = raw(&server, &path, &ada, reqwest::Body::wrap_stream(pieces)).send().await;
    assert!(sent.is_err());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(stored(&server).await, 0);
    assert_eq!(server.get(&path, &ada).await.1["items"], json!([]));
}

#[tokio::test]
async fn the_same_form_again_makes_nothing_again() {
    for server in both().await {
        let (ada, _, path) = prepared(&server).await;
        let zip = part("file", Some("a.zip"), &small_zip());
        let send = async |parts: &[Vec<u8>]| {
            let request = form(&server, &path, &ada, parts).header("idempotency-key", "k1");
            let response = request.send().await.unwrap();
            let replayed = response.headers().contains_key("idempotency-replayed");
            let status = response.status().as_u16();
            (status, replayed, response.json::<Value>().await.unwrap())
        };
        let named = |name: &str| part("name", None, name.as_bytes());
        let (status, replayed, first) = send(&[zip.clone(), named("x")]).await;
        assert_eq!((status, replayed), (201, false), "{first}");
        let (status, replayed, second) = send(&[named("x"), zip.clone()]).await;
        assert_eq!((status, replayed), (201, true), "the order of fields is no difference");
        assert_eq!(first, second);
        let (status, _, other) = send(&[zip.clone(), named("y")]).await;
        assert_eq!((status, &other["code"]), (422, &json!("idempotency_key_reused")));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(stored(&server).await, 1);
    }
}
