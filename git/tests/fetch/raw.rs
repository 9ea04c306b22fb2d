//! Requests of a fetch made by hand.

use std::io::Write as _;
use std::net::TcpStream;

use sluice_git::ObjectId;

use crate::support::{
    Server, pack,
    raw::{self, Response},
};

pub const FETCH: &str = "/repo.git/git-upload-pack";
pub const TYPE: &str = "Content-Type: application/x-git-upload-pack-request\r\n";

pub const DELIMITER: &str = "\u{1}";
pub const FLUSH: &str = "";

/// Lines with [`FLUSH`] and [`DELIMITER`] between them.
pub fn lines(lines: &[&str]) -> Vec<u8> {
    lines
        .iter()
        .flat_map(|line| match *line {
            FLUSH => b"0000".to_vec(),
            DELIMITER => b"0001".to_vec(),
            text => raw::line(text),
        })
        .collect()
}

/// A request of version 2.
pub fn command(name: &str, arguments: &[&str]) -> Vec<u8> {
    let command = format!("command={name}");
    let head = [command.as_str(), "agent=test/1", "object-format=sha1", DELIMITER];
    lines(&[&head, arguments, &[FLUSH]].concat())
}

pub fn head(version: &str, extra: &str, length: usize) -> String {
    let protocol =
        if version == "0" { String::new() } else { format!("Git-Protocol: version={version}\r\n") };
    format!(
        "POST {FETCH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{TYPE}{}{protocol}{extra}Content-Length: {length}\r\n\r\n",
        raw::authorization()
    )
}

pub fn post(server: &Server, version: &str, body: &[u8]) -> Response {
    raw::send(server, &[head(version, "", body.len()).as_bytes(), body].concat())
}

/// Sends a request and does not read the answer.
pub fn begin(server: &Server, version: &str, body: &[u8]) -> TcpStream {
    let mut stream = raw::connect(server);
    stream.write_all(&[head(version, "", body.len()).as_bytes(), body].concat()).unwrap();
    stream
}

/// The text of the answer to a request of version 2, which is a 200.
#[track_caller]
pub fn ask(server: &Server, name: &str, arguments: &[&str]) -> String {
    let response = post(server, "2", &command(name, arguments));
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), ["application/x-git-upload-pack-result"]);
    response.text()
}

/// Pushes a pack made by hand.
#[track_caller]
pub fn push(server: &Server, tip: &ObjectId, pack: pack::Pack) {
    let body = [raw::create(tip, "report-status"), pack.finish()].concat();
    let answer = raw::post(server, &body).text();
    assert!(answer.contains("ok refs/heads/main"), "{answer}");
}
