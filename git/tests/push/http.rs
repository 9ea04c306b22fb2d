//! The HTTP layer, looked at without git.

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use crate::support::{Options, Server, pack, raw};

const INFO_REFS: &str = "/repo.git/info/refs?service=git-receive-pack";

#[test]
fn the_advertisement_has_the_right_headers() {
    let server = Server::start();
    for path in [INFO_REFS, "/repo/info/refs?service=git-receive-pack"] {
        let response = raw::get(&server, path, &raw::authorization());
        assert_eq!(response.status, 200);
        assert_eq!(
            response.header("content-type"),
            ["application/x-git-receive-pack-advertisement"]
        );
        assert_eq!(response.header("cache-control"), ["no-cache, max-age=0, must-revalidate"]);
        assert_eq!(response.header("pragma"), ["no-cache"]);
        assert_eq!(response.header("expires"), ["Fri, 01 Jan 1980 00:00:00 GMT"]);
        let text = response.text();
        assert!(text.starts_with("001f# service=git-receive-pack\n0000"), "{text}");
        assert!(text.contains(" capabilities^{}\0"), "{text}");
        assert!(text.contains("object-format=sha1"), "{text}");
        assert!(!text.contains("version 1"));
    }
    let headers = format!("{}Git-Protocol: version=1\r\n", raw::authorization());
    assert!(raw::get(&server, INFO_REFS, &headers).text().contains("0000000eversion 1\n"));
}

#[test]
fn without_credentials_basic_is_asked_for_first() {
    let server = Server::start();
    let response = raw::get(&server, INFO_REFS, "");
    assert_eq!(response.status, 401);
    assert_eq!(
        response.header("www-authenticate"),
        ["Basic realm=\"sluice\", Bearer realm=\"sluice\""],
        "one header: JGit sees the last one only"
    );
    assert_eq!(response.header("content-type"), ["text/plain; charset=utf-8"]);
    let (body, tip) = pack::good();
    let push = [raw::create(&tip, "report-status"), body].concat();
    assert_eq!(raw::post_with(&server, "", &push).status, 401);
    server.assert_untouched();
}

#[test]
fn a_refusal_reaches_those_who_hide_bodies() {
    let server = Server::start();
    let gone = "/gone.git/info/refs?service=git-receive-pack";
    let ask = |agent: &str| {
        raw::get(&server, gone, &format!("{}User-Agent: {agent}\r\n", raw::authorization()))
    };
    for agent in ["git/2.47.3", "curl/8.0.1"] {
        let response = ask(agent);
        assert_eq!(response.status, 410, "{agent}");
        assert_eq!(response.text(), "this upload has expired; create a new one\n");
    }
    for agent in ["git/2.0 (libgit2 1.9.7)", "git/dulwich/1.2.21", "git/1.0", "JGit/4.11.9"] {
        let response = ask(agent);
        assert_eq!(response.status, 200, "{agent}");
        let advertisement = ["application/x-git-receive-pack-advertisement"];
        assert_eq!(response.header("content-type"), advertisement);
        assert_eq!(
            response.text(),
            "001f# service=git-receive-pack\n00000032ERR this upload has expired; create a new one\n"
        );
    }
    // What a client has to act on stays a status.
    let none = raw::get(&server, gone, "User-Agent: git/1.0\r\n");
    assert_eq!(none.status, 401);
    server.assert_untouched();
}

#[test]
fn methods_and_services() {
    let server = Server::start();
    let request = |method: &str, path: &str, version: &str| {
        let head = format!(
            "{method} {path} HTTP/{version}\r\nHost: x\r\nConnection: close\r\n{}{}Content-Length: 0\r\n\r\n",
            raw::TYPE,
            raw::authorization()
        );
        raw::send(&server, head.as_bytes())
    };
    let response = request("POST", INFO_REFS, "1.1");
    assert_eq!((response.status, response.header("allow")), (405, vec!["GET, HEAD"]));
    let response = request("GET", raw::PUSH, "1.1");
    assert_eq!((response.status, response.header("allow")), (405, vec!["POST"]));
    assert_eq!(request("POST", INFO_REFS, "1.0").status, 400);
    assert_eq!(request("HEAD", INFO_REFS, "1.1").status, 200);
    for (path, sentence) in [
        ("/repo.git/info/refs?service=git-frobnicate", "not offered here"),
        ("/repo.git/info/refs", "smart HTTP"),
        ("/repo.git/HEAD", "smart HTTP"),
        ("/repo.git/objects/info/packs", "smart HTTP"),
    ] {
        let response = request("GET", path, "1.1");
        assert_eq!(response.status, 403, "{path}");
        assert!(response.text().contains(sentence), "{path}: {}", response.text());
        assert_eq!(response.header("content-type"), ["text/plain; charset=utf-8"]);
    }
    // The path decides which service a POST is for, and so does its type.
    let response = request("POST", "/repo.git/git-upload-pack", "1.1");
    assert_eq!(response.status, 415);
    assert!(response.text().contains("application/x-git-upload-pack-request"));
    assert_eq!(
        request("GET", "/repo.git/../x/info/refs?service=git-receive-pack", "1.1").status,
        404
    );
    assert_eq!(request("GET", "/", "1.1").status, 404);
}

#[test]
fn a_body_of_another_type_is_415() {
    let server = Server::start();
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-git-upload-pack-request\r\n",
    ] {
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{kind}{}Content-Length: 4\r\n\r\n0000",
            raw::PUSH,
            raw::authorization()
        );
        let response = raw::send(&server, head.as_bytes());
        assert_eq!(response.status, 415);
        assert!(response.text().contains("application/x-git-receive-pack-request"));
    }
    let encoding = format!("{}Content-Encoding: br\r\n", raw::authorization());
    assert_eq!(raw::post_with(&server, &encoding, b"xxxxx").status, 415);
}

#[test]
fn the_probe_needs_no_credentials_and_sees_no_repository() {
    let server = Server::start();
    for path in [raw::PUSH, "/no/such/thing.git/git-receive-pack"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}Content-Length: 4\r\n\r\n0000",
            raw::TYPE
        );
        let response = raw::send(&server, head.as_bytes());
        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-type"), ["application/x-git-receive-pack-result"]);
        assert_eq!(response.body, b"");
    }
    assert_eq!(raw::post_with(&server, "", b"junk").status, 400);
    assert_eq!(server.opened(), 0);
    // A probe that never comes is not waited for long.
    let mut options = Options::default();
    options.config.short_timeout = Duration::from_millis(100);
    let server = Server::with(options);
    let mut stream = raw::connect(&server);
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\n{}Content-Length: 4\r\n\r\n00",
        raw::PUSH,
        raw::TYPE
    );
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(raw::read(&mut stream).status, 408);
}

#[test]
fn gzip_bodies_under_both_names() {
    for name in ["gzip", "x-gzip"] {
        let server = Server::start();
        let (body, tip) = pack::good();
        let push = [raw::create(&tip, "report-status side-band-64k"), body].concat();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&push).unwrap();
        let zipped = encoder.finish().unwrap();
        let headers = format!("{}Content-Encoding: {name}\r\n", raw::authorization());
        let response = raw::post_with(&server, &headers, &zipped);
        assert!(response.text().contains("ok refs/heads/main"), "{response:?}");
        server.fsck();

        let damaged = raw::post_with(&server, &headers, &zipped[..zipped.len() - 6]);
        assert!(!damaged.text().contains("ok refs"), "{damaged:?}");
    }
}

#[test]
fn http_1_0_and_chunks_of_one_byte() {
    let (body, tip) = pack::good();
    let push = [raw::create(&tip, "report-status"), body].concat();
    let server = Server::start();
    let head = format!(
        "POST {} HTTP/1.0\r\n{}{}Content-Length: {}\r\n\r\n",
        raw::PUSH,
        raw::TYPE,
        raw::authorization(),
        push.len()
    );
    let response = raw::send(&server, &[head.as_bytes(), &push].concat());
    assert_eq!(response.text(), "000eunpack ok\n0017ok refs/heads/main\n0000");

    let server = Server::start();
    let mut request = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}{}Transfer-Encoding: chunked\r\n\r\n",
        raw::PUSH,
        raw::TYPE,
        raw::authorization()
    )
    .into_bytes();
    for byte in push {
        request.extend_from_slice(&[b'1', b'\r', b'\n', byte, b'\r', b'\n']);
    }
    request.extend_from_slice(b"0\r\n\r\n");
    let response = raw::send(&server, &request);
    assert_eq!(response.text(), "000eunpack ok\n0017ok refs/heads/main\n0000");
    server.fsck();
}

#[test]
fn an_expectation_is_answered_only_when_the_body_is_wanted() {
    let server = Server::start();
    let head = |authorization: &str| {
        format!(
            "POST {} HTTP/1.1\r\nHost: x\r\n{}{authorization}Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n",
            raw::PUSH,
            raw::TYPE
        )
    };
    let mut stream = raw::connect(&server);
    stream.write_all(head("").as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    let mut stream = raw::connect(&server);
    stream.write_all(head(&raw::authorization()).as_bytes()).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
}

#[test]
fn a_stalled_body_is_given_up() {
    let mut options = Options::default();
    options.config.idle_timeout = Duration::from_millis(200);
    let server = Server::with(options);
    let (body, tip) = pack::good();
    let commands = raw::create(&tip, "report-status");
    for sent in [10, commands.len(), commands.len() + 5, commands.len() + 40] {
        let push = [commands.clone(), body.clone()].concat();
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\n{}{}Content-Length: {}\r\n\r\n",
            raw::PUSH,
            raw::TYPE,
            raw::authorization(),
            push.len()
        );
        let started = Instant::now();
        let mut stream = raw::connect(&server);
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&push[..sent]).unwrap();
        let response = raw::read(&mut stream);
        assert_eq!(response.status, 408, "after {sent} bytes");
        assert_eq!(response.header("connection"), ["close"]);
        assert!(started.elapsed() < Duration::from_secs(5));
    }
    server.assert_untouched();
    assert_eq!(server.state(|state| state.limits.clone()), ["idle_timeout"; 4]);
}

#[test]
fn too_many_pushes_are_told_to_come_back() {
    too_many_pushes(None, 1, "the server receives as many pushes as it can");
}

#[test]
fn an_owner_leaves_room_for_others() {
    too_many_pushes(Some(7), 2, "the server receives 1 pushes to repositories of this owner");
}

/// The second of two pushes is refused.
fn too_many_pushes(owner: Option<u128>, at_once: usize, says: &str) {
    let mut options = Options { owner, ..Options::default() };
    options.config.concurrent_receives = at_once;
    options.config.receive_wait = Duration::from_millis(200);
    let server = Server::with(options);
    let (body, tip) = pack::good();
    let push = [raw::create(&tip, "report-status"), body].concat();
    let begin = |sent: usize| {
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}{}Content-Length: {}\r\n\r\n",
            raw::PUSH,
            raw::TYPE,
            raw::authorization(),
            push.len()
        );
        let mut stream = raw::connect(&server);
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&push[..sent]).unwrap();
        stream
    };
    // One is in the middle of its pack.
    let first = begin(push.len() - 10);
    let quarantine = server.path().join("quarantine");
    let until = Instant::now() + Duration::from_secs(10);
    while std::fs::read_dir(&quarantine).map_or(0, |entries| entries.count()) == 0 {
        assert!(Instant::now() < until, "the push is not received");
        std::thread::sleep(Duration::from_millis(10));
    }
    let response = raw::read(&mut begin(push.len()));
    let text = String::from_utf8_lossy(&response.body).into_owned();
    assert!(text.contains(says), "{text}");
    assert_eq!(server.state(|state| state.limits.clone()), ["concurrent_receives"]);
    drop(first);
}

#[test]
fn half_a_push_leaves_nothing() {
    let server = Server::start();
    let (body, tip) = pack::good();
    let push = [raw::create(&tip, "report-status side-band-64k"), body].concat();
    for sent in (0..push.len()).step_by(13) {
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\n{}{}Content-Length: {}\r\n\r\n",
            raw::PUSH,
            raw::TYPE,
            raw::authorization(),
            push.len()
        );
        let mut stream = raw::connect(&server);
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&push[..sent]).unwrap();
    }
    server.assert_untouched();
}

#[test]
fn more_pushes_than_are_received_at_once_are_told_to_come_back() {
    let mut options = Options::default();
    options.config.concurrent_receives = 1;
    options.config.receive_wait = Duration::from_millis(100);
    let server = Server::with(options);
    let (body, tip) = pack::good();
    let push = [raw::create(&tip, "report-status"), body].concat();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}{}Content-Length: {}\r\n\r\n",
        raw::PUSH,
        raw::TYPE,
        raw::authorization(),
        push.len()
    );
    let (first, last) = push.split_at(push.len() - 1);
    let mut slow = raw::connect(&server);
    slow.write_all(head.as_bytes()).unwrap();
    slow.write_all(first).unwrap();
    let quarantine = server.path().join("quarantine");
    let started = || std::fs::read_dir(&quarantine).is_ok_and(|entries| entries.count() == 1);
    assert!((0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        started()
    }));
    let said = raw::post(&server, &push).text();
    assert!(said.contains("ng refs/heads/main the server receives as many pushes as it can"));
    slow.write_all(last).unwrap();
    assert!(raw::read(&mut slow).text().contains("ok refs/heads/main"));
}

#[test]
fn keepalives_come_while_the_commit_runs() {
    let mut options = Options { commit_delay: Duration::from_millis(300), ..Options::default() };
    options.config.keepalive = Duration::from_millis(50);
    let server = Server::with(options);
    let (body, tip) = pack::good();
    let push = [raw::create(&tip, "report-status side-band-64k quiet"), body].concat();
    let text = raw::post(&server, &push).text();
    assert!(text.starts_with("0005\u{1}0005\u{1}"), "{text:?}");
    assert!(text.ends_with("ok refs/heads/main\n00000000"), "{text:?}");
}

#[test]
fn a_client_that_leaves_during_the_commit_does_not_stop_it() {
    let options = Options { commit_delay: Duration::from_millis(300), ..Options::default() };
    let server = Server::with(options);
    let (body, tip) = pack::good();
    let push = [raw::create(&tip, "report-status side-band-64k"), body].concat();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\n{}{}Content-Length: {}\r\n\r\n",
        raw::PUSH,
        raw::TYPE,
        raw::authorization(),
        push.len()
    );
    let mut stream = raw::connect(&server);
    stream.write_all(&[head.as_bytes(), &push].concat()).unwrap();
    // The first message comes out of the commit.
    let mut seen = Vec::new();
    let mut buffer = [0; 256];
    while !String::from_utf8_lossy(&seen).contains("storing") {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0);
        seen.extend_from_slice(&buffer[..read]);
    }
    drop(stream);
    for _ in 0..100 {
        if server.state(|state| state.commits) == 1 {
            return server.fsck();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the commit was lost");
}

#[test]
fn over_the_ceiling_nothing_more_is_read() {
    let mut options = Options::default();
    options.policy.limits.pack_bytes = 100;
    options.policy.drain_bytes = 2000;
    let server = Server::with(options);
    let (_, tip) = pack::good();
    let mut noise = pack::Pack::new();
    noise.add(gix_object::Kind::Blob, &[7; 90]);
    let push = |junk: usize| {
        let mut body = raw::create(&tip, "report-status side-band-64k");
        body.extend_from_slice(b"PACK\0\0\0\x02\0\0\0\x01");
        body.extend_from_slice(&vec![0xff; junk]);
        body
    };
    let text = raw::post(&server, &push(1500)).text();
    assert!(text.contains("unpack "), "{text}");
    let response = raw::post(&server, &push(5_000_000));
    assert_eq!(response.status, 413);
    assert_eq!(response.header("connection"), ["close"]);
    server.assert_untouched();
}

#[test]
fn a_push_that_may_not_be_made_is_told_in_band() {
    let options = Options {
        refuse_push: Some("this upload is closed\nask for a new one"),
        ..Options::default()
    };
    let server = Server::with(options);
    let (body, tip) = pack::good();
    let push = [raw::create(&tip, "report-status side-band-64k"), body].concat();
    let text = raw::post(&server, &push).text();
    assert!(text.contains("\u{2}this upload is closed\nask for a new one\n"), "{text:?}");
    assert!(text.contains("ng refs/heads/main this upload is closed\n"), "{text:?}");
    server.assert_untouched();
}

#[test]
fn a_push_over_http_2() {
    use http_body_util::{BodyExt, Full};

    let server = Server::start();
    let (body, tip) = pack::good();
    let push = [raw::create(&tip, "report-status side-band-64k quiet"), body].concat();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let send = |token: &str, push: Vec<u8>| {
        let request = hyper::Request::post(format!("http://{}{}", server.address, raw::PUSH))
            .header("content-type", "application/x-git-receive-pack-request")
            .header("authorization", format!("Bearer {token}"))
            .body(Full::new(bytes::Bytes::from(push)))
            .unwrap();
        runtime.block_on(async {
            let socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
            let executor = hyper_util::rt::TokioExecutor::new();
            let io = hyper_util::rt::TokioIo::new(socket);
            let (mut client, connection) =
                hyper::client::conn::http2::handshake(executor, io).await.unwrap();
            let connection = tokio::spawn(connection);
            let response = client.send_request(request).await.unwrap();
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            connection.abort();
            (status, String::from_utf8_lossy(&body).into_owned())
        })
    };
    assert_eq!(send("wrong", push.clone()).0, 401);
    let (status, text) = send(crate::support::TOKEN, push);
    assert_eq!(status, 200);
    assert!(text.ends_with("ok refs/heads/main\n00000000"), "{text:?}");
    server.fsck();
}

#[test]
fn a_client_that_leaves_during_the_checks_stops_them() {
    // So many objects that the checks outlast the connection.
    let mut body = pack::Pack::new();
    let mut tip = body.commit_of(&[]);
    let tree = pack::id(gix_object::Kind::Tree, b"");
    for _ in 0..20_000 {
        tip = body.commit(&tree, &[tip]);
    }
    let server = Server::start();
    let push = [raw::create(&tip, "report-status"), body.finish()].concat();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\n{}{}Content-Length: {}\r\n\r\n",
        raw::PUSH,
        raw::TYPE,
        raw::authorization(),
        push.len()
    );
    let mut stream = raw::connect(&server);
    stream.write_all(&[head.as_bytes(), &push].concat()).unwrap();
    stream.shutdown(std::net::Shutdown::Both).unwrap();
    drop(stream);
    server.assert_untouched();
}
