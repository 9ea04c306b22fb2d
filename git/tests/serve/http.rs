//! The HTTP side: addresses, users, versions.

use std::{fs, process::Command};

use crate::support::{Server, clone, work};

/// Runs curl and gives what it prints.
fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-s", "-m", "60"]).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn status(arguments: &[&str]) -> String {
    curl(&[&["-o", "/dev/null", "-w", "%{http_code} %{http_version}"], arguments].concat())
}

/// Sends a push of an empty pack, and gives the answer.
pub fn push_without_objects(server: &Server, id: &str, name: &str) -> String {
    let zero = "0".repeat(40);
    let command = format!("{zero} {id} {name}\0 report-status object-format=sha1");
    let mut body = format!("{:04x}{command}0000", command.len() + 4).into_bytes();
    body.extend_from_slice(b"PACK\0\0\0\x02\0\0\0\0");
    let checksum = [
        0x02, 0x9d, 0x08, 0x82, 0x3b, 0xd8, 0xa8, 0xea, 0xb5, 0x10, 0xad, 0x6a, 0xc7, 0x5c, 0x82,
        0x3c, 0xfd, 0x3e, 0xd3, 0x1e,
    ];
    body.extend_from_slice(&checksum);
    let file = server.root.path().join("body");
    fs::write(&file, body).unwrap();
    curl(&[
        "--http2-prior-knowledge",
        "-H",
        "Content-Type: application/x-git-receive-pack-request",
        "--data-binary",
        &format!("@{}", file.display()),
        &format!("{}/git-receive-pack", server.url()),
    ])
}

#[test]
fn repositories_are_found_below_the_root_and_nowhere_else() {
    let server = Server::with(&[]);
    server.create("deep/er/down.git", &[]);
    server.create("plain", &[]);
    let info = |path: &str| {
        let url = format!("http://{}/{path}/info/refs?service=git-upload-pack", server.address);
        status(&["--path-as-is", &url])
    };
    for path in ["repo", "repo.git", "repo.git/", "deep/er/down", "deep/er/down.git", "plain"] {
        assert_eq!(info(path), "200 1.1", "{path}");
    }
    let outside = tempfile::tempdir().unwrap();
    let up = format!("../{}", outside.path().file_name().unwrap().to_string_lossy());
    server.git.run(outside.path(), &["init", "-q", "--bare", "."]).succeeds();
    for path in [
        "none",
        "deep",
        "deep/er",
        &up,
        "repo.git/../plain",
        "deep/%2e%2e/repo",
        "deep%2fer%2fdown",
    ] {
        assert_eq!(info(path), "404 1.1", "{path}");
    }
    // A link is the operator's own doing.
    std::os::unix::fs::symlink(outside.path(), server.root.path().join("linked.git")).unwrap();
    assert_eq!(info("linked"), "200 1.1");
}

#[test]
fn a_push_needs_a_user_unless_the_repository_says_otherwise() {
    let server = Server::start(&[]);
    server.create("repo.git", &[]);
    let work = work(&server);
    work.push(&server.url(), &["main"]).fails().says("could not read Username");
    work.push(&server.url_of("ada", "repo"), &["main"]).succeeds();
    server.ask(&["config", "http.receivepack", "false"]);
    let run = work.push(&server.url_of("ada", "repo"), &["main:b"]);
    run.fails().says("http.receivepack is false");
    server.ask(&["config", "http.receivepack", "true"]);
    work.push(&server.url(), &["main:b"]).succeeds();
    clone(&server, &server.url(), &[]).0.succeeds();
    server.ask(&["config", "http.uploadpack", "false"]);
    clone(&server, &server.url(), &[]).0.fails().says("http.uploadpack is false");
    server.sound();
}

#[test]
fn both_versions_of_http_without_tls() {
    let server = Server::with(&[]);
    let work = work(&server);
    let url = format!("{}/info/refs?service=git-upload-pack", server.url());
    assert_eq!(status(&["--http2-prior-knowledge", &url]), "200 2");
    // With `HTTP/2` git asks whether the connection can be upgraded, and goes on without.
    let push = ["-c", "http.version=HTTP/2", "push", &server.url(), "main"];
    work.git(&push).succeeds();
    work.git(&["-c", "http.version=HTTP/2", "ls-remote", &server.url()]).succeeds().says("main");
    let id = server.id("main");
    let answer = push_without_objects(&server, &id, "refs/heads/over-h2");
    assert!(answer.contains("ok refs/heads/over-h2"), "{answer}");
    server.sound();
}

#[test]
fn a_large_push_comes_in_chunks() {
    let server = Server::with(&[]);
    let work = work(&server);
    let noise: Vec<u8> = (0..6_000_000_u64)
        .map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ (n >> 13) as u8)
        .collect();
    work.commit_bytes("noise", &noise);
    work.git(&["-c", "http.postBuffer=65536", "push", "-q", &server.url(), "main"]).succeeds();
    server.sound();
    let (run, copy) = clone(&server, &server.url(), &[]);
    run.succeeds();
    assert_eq!(fs::read(copy.folder.path().join("noise")).unwrap(), noise);
}

#[test]
fn a_configuration_that_cannot_be_followed_is_said() {
    let server = Server::with(&[]);
    let work = work(&server);
    let config = server.folder().join("config");
    let good = fs::read_to_string(&config).unwrap();
    for (more, sentence) in [
        ("[extensions]\n\trefStorage = reftable\n", "refs are kept in a format"),
        ("[extensions]\n\tobjectFormat = md5\n", "object format md5 is not known"),
    ] {
        fs::write(&config, format!("{good}{more}")).unwrap();
        work.push(&server.url(), &["main"]).fails().says(sentence);
    }
    fs::write(&config, "this is [no configuration").unwrap();
    work.push(&server.url(), &["main"]).fails().says("500");
    // Included files are not read.
    fs::write(server.folder().join("more"), "[http]\n\treceivepack = false\n").unwrap();
    fs::write(&config, format!("{good}[include]\n\tpath = more\n")).unwrap();
    work.push(&server.url(), &["main"]).succeeds();
}

#[test]
fn what_a_killed_server_leaves_is_removed_by_the_next() {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
        time::Duration,
    };
    let server = Server::with(&[]);
    // The beginning of a push, and then nothing.
    let command = format!("{} {} refs/heads/main\0report-status", "0".repeat(40), "1".repeat(40));
    let body = format!("{:04x}{command}0000PACK\0\0\0\x02\0\0\0\x01", command.len() + 4);
    let mut half = TcpStream::connect(&server.address).unwrap();
    let request = format!(
        "POST /repo.git/git-receive-pack HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\
         Content-Type: application/x-git-receive-pack-request\r\n\r\n{body}"
    );
    half.write_all(request.as_bytes()).unwrap();
    let waits = |wanted: usize| {
        (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            server.quarantines() == wanted
        })
    };
    assert!(waits(1));
    // A client that goes away takes its quarantine with it.
    drop(half);
    assert!(waits(0));

    let mut half = TcpStream::connect(&server.address).unwrap();
    half.write_all(request.as_bytes()).unwrap();
    assert!(waits(1));
    let server = server.killed_and_started_again();
    assert_eq!(half.read(&mut [0; 10]).unwrap_or(0), 0);
    assert_eq!(server.quarantines(), 1);
    work(&server).push(&server.url(), &["main"]).succeeds();
    server.sound();
}

#[test]
fn the_end_is_said_in_time() {
    for signal in ["-INT", "-TERM"] {
        let server = Server::start(&[]);
        let id = server.id_of_process();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        assert!(server.ended(), "{signal}");
    }
}
