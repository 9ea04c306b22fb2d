//! A client made by hand: it sends exactly what a test wants to send.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sluice_git::ObjectId;

use super::{Server, TOKEN};

pub const PUSH: &str = "/repo.git/git-receive-pack";
pub const TYPE: &str = "Content-Type: application/x-git-receive-pack-request\r\n";

/// A response, its body put together if it was chunked.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }
}

pub fn authorization() -> String {
    format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("x:{TOKEN}")))
}

pub fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Sends a request as it is and reads the answer until the server closes.
pub fn send(server: &Server, request: &[u8]) -> Response {
    let mut stream = connect(server);
    // A server that has refused early may close before all was sent.
    let _ = stream.write_all(request);
    read(&mut stream)
}

pub fn read(stream: &mut TcpStream) -> Response {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a response");
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let mut body = bytes[end + 4..].to_vec();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = unchunk(&body);
    }
    Response { status, head, body }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        let data = &rest[end + 2..];
        out.extend_from_slice(&data[..size.min(data.len())]);
        if size == 0 || data.len() < size + 2 {
            break;
        }
        rest = &data[size + 2..];
    }
    out
}

pub fn get(server: &Server, path: &str, headers: &str) -> Response {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    send(server, request.as_bytes())
}

/// A push with credentials and a length.
pub fn post(server: &Server, body: &[u8]) -> Response {
    post_with(server, &authorization(), body)
}

pub fn post_with(server: &Server, headers: &str, body: &[u8]) -> Response {
    let head = format!(
        "POST {PUSH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{TYPE}{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    send(server, &[head.as_bytes(), body].concat())
}

pub fn line(text: &str) -> Vec<u8> {
    format!("{:04x}{text}", text.len() + 4).into_bytes()
}

pub const ZERO: &str = "0000000000000000000000000000000000000000";

/// The commands to create `main` at `tip`, with these capabilities.
pub fn create(tip: &ObjectId, capabilities: &str) -> Vec<u8> {
    [line(&format!("{ZERO} {tip} refs/heads/main\0{capabilities}")), b"0000".to_vec()].concat()
}
