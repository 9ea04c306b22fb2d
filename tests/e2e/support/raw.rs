//! A client made by hand: it sends exactly what a test wants to send.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sluice_git::ObjectId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::text;
use super::{PATIENCE, Server};

pub const ZERO: &str = "0000000000000000000000000000000000000000";

pub async fn connect(server: &Server) -> TcpStream {
    let host = server.address.strip_prefix("http://").expect("http");
    let stream = TcpStream::connect(host).await.expect("a connection");
    stream.set_nodelay(true).expect("an option");
    stream
}

pub fn line(text: &str) -> Vec<u8> {
    format!("{:04x}{text}", text.len() + 4).into_bytes()
}

/// A push that creates a ref.
pub fn create_ref(name: &str, tip: &ObjectId, pack: &[u8]) -> Vec<u8> {
    let command =
        format!("{ZERO} {tip} {name}\0report-status side-band-64k quiet agent=git/2.40\n");
    [line(&command).as_slice(), b"0000", pack].concat()
}

/// A push that creates `main`.
pub fn create(tip: &ObjectId, pack: &[u8]) -> Vec<u8> {
    create_ref("refs/heads/main", tip, pack)
}

/// The head of a push to an upload with its token; the body has so many bytes.
pub fn head(made: &Value, length: usize, more: &str) -> String {
    let login = format!("{}:{}", text(&made["username"]), text(&made["token"]));
    format!(
        "POST /git/{}.git/git-receive-pack HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Basic {}\r\nConnection: close\r\n{more}\
         Content-Type: application/x-git-receive-pack-request\r\nContent-Length: {length}\r\n\r\n",
        text(&made["id"]),
        STANDARD.encode(login)
    )
}

/// Sends the head of a push and the beginning of its body.
pub async fn begin(stream: &mut TcpStream, made: &Value, length: usize, body: &[u8]) {
    let head = head(made, length, "");
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(body).await.expect("sent");
    stream.flush().await.expect("sent");
}

/// Everything that the server says until it closes.
pub async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    read.expect("the server closes the connection").expect("an answer");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A whole push, and what the server says to it.
pub async fn push(server: &Server, made: &Value, body: &[u8]) -> String {
    let mut stream = connect(server).await;
    begin(&mut stream, made, body.len(), body).await;
    read(&mut stream).await
}
