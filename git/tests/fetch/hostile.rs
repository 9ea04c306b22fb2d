//! Requests that are damaged, too large or made to hurt, and clients that go away.

use std::{
    io::{Read as _, Write as _},
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use sluice_git::FetchPolicy;

use crate::{
    raw::{self as request, DELIMITER, FLUSH, ask, command, lines, post},
    story::{served, served_with},
    support::{Options, Server, git, pack::Pack, raw},
};

const ONE: &str = "1111111111111111111111111111111111111111";

fn limited() -> Options {
    let mut fetch_policy = FetchPolicy::default();
    fetch_policy.limits.request_bytes = 64 << 10;
    fetch_policy.limits.wants = 10;
    fetch_policy.limits.haves = 20;
    fetch_policy.limits.shallow = 5;
    Options { fetch_policy, ..Options::default() }
}

#[test]
fn what_is_not_the_protocol_is_an_error_in_one_line() {
    let server = Server::start();
    let says = |version: &str, body: &[u8], sentence: &str| {
        let response = post(&server, version, body);
        assert_eq!(response.status, 200, "{body:?}");
        let text = response.text();
        assert!(text.contains("ERR ") && text.contains(sentence), "{sentence:?} in {text:?}");
    };
    says("0", b"zzzz\n", "hexadecimal");
    says("0", b"0003\n", "length 3");
    says("0", b"0032want ", "middle of a line");
    says("0", &lines(&["want xyz", FLUSH]), "expected an object id, not 'xyz'");
    says("0", &lines(&["hello", FLUSH]), "expected to get object ID, not 'hello'");
    says("0", &lines(&[&format!("want {ONE}"), FLUSH, "done"]), "not our ref 1111");
    says("0", &lines(&[&format!("want {ONE} object-format=sha256"), FLUSH, "done"]), "mismatched");
    says("0", &lines(&[&format!("want {ONE}"), "deepen 0", FLUSH]), "invalid deepen: 0");
    says("0", &lines(&[&format!("want {ONE}"), "deepen -1", FLUSH]), "invalid deepen: -1");
    says("0", &lines(&[&format!("want {ONE}"), FLUSH, "hello"]), "expected a have or done");
    says("0", &lines(&[&format!("want {ONE}"), FLUSH, DELIMITER]), "delimiter");
    says("2", &lines(&["command=fetch", "frobnicate", FLUSH]), "unknown capability 'frobnicate'");
    says("2", &lines(&["command=push", FLUSH]), "invalid command 'push'");
    says("2", &lines(&["agent=x", FLUSH]), "no command requested");
    says("2", &lines(&["command=fetch", "command=fetch", FLUSH]), "unknown capability");
    says(
        "2",
        &lines(&["command=fetch", "object-format=sha256", FLUSH]),
        "mismatched object format",
    );
    says("2", &lines(&["command=fetch", DELIMITER, "thin-pack"]), "expected a flush");
    says("2", &lines(&["command=fetch"]), "ends before its flush");
    says("2", &command("fetch", &["packfile-uris https"]), "unexpected argument");
    says("2", &command("fetch", &[&format!("want {ONE}"), "done"]), "not our ref 1111");
    says("2", &command("fetch", &["deepen 99999999999999999999"]), "invalid deepen");
    says("2", &command("ls-refs", &["peel", "everything"]), "unexpected argument: 'everything'");
    let nested = format!("filter {}blob:none", "combine:".repeat(1000));
    says("2", &command("fetch", &[&nested]), "not supported");
    let nested = (0..1000).fold("blob:none".to_owned(), |inner, _| format!("combine:{inner}"));
    says("2", &command("fetch", &[&format!("filter {nested}+tree:0")]), "not supported");
    let many: Vec<String> = (0..300).map(|number| format!("server-option={number}")).collect();
    let many: Vec<&str> =
        many.iter().map(String::as_str).chain(["command=ls-refs", FLUSH]).collect();
    says("2", &lines(&many), "too many capabilities");
    // Nothing was asked for.
    assert_eq!(post(&server, "2", b"0000").body, b"");
    assert_eq!(post(&server, "2", b"").body, b"");
    assert_eq!(ask(&server, "fetch", &["done"]), "");
}

#[test]
fn commits_with_thousands_of_parents_and_folders_in_folders() {
    let server = Server::start();
    let mut pack = Pack::new();
    let blob = pack.add(gix_object::Kind::Blob, b"x");
    let mut tree =
        pack.add(gix_object::Kind::Tree, &crate::support::pack::tree(&[("100644", "f", blob)]));
    // Each folder holds the one below twice: without remembering, 2^300 visits.
    for _ in 0..300 {
        let entries = [("40000", "a", tree), ("40000", "b", tree)];
        tree = pack.add(gix_object::Kind::Tree, &crate::support::pack::tree(&entries));
    }
    let parents: Vec<_> = (0..2000)
        .map(|number| {
            let name = format!("{number:04}");
            let tree = crate::support::pack::tree(&[("40000", &name, tree)]);
            let tree = pack.add(gix_object::Kind::Tree, &tree);
            pack.commit(&tree, &[])
        })
        .collect();
    let one = pack.commit(&tree, &parents);
    let tip = pack.commit(&tree, &[parents.as_slice(), &[one]].concat());
    request::push(&server, &tip, pack);
    let want = format!("want {tip}");
    for extra in ["no-progress", "filter tree:200", "filter blob:none", "deepen 2"] {
        let started = Instant::now();
        let answer = post(&server, "2", &command("fetch", &[&want, extra, "done"])).body;
        assert!(answer.ends_with(b"0000") && answer.len() > 10_000, "{extra}");
        assert!(started.elapsed() < Duration::from_secs(10), "{extra}: {:?}", started.elapsed());
    }
}

#[test]
fn every_flipped_byte_is_answered() {
    let git = &git::versions()[0];
    let (server, work) = served(git);
    let main = work.ask(&["rev-parse", "main"]);
    let request = command("fetch", &[&format!("want {main}"), "deepen 1", "filter tree:0", "done"]);
    for at in 0..request.len() {
        let mut bad = request.clone();
        bad[at] ^= 2;
        assert_eq!(post(&server, "2", &bad).status, 200, "byte {at}");
    }
}

#[test]
fn limits_have_sentences() {
    let server = Server::with(limited());
    let many = |line: &str, count: usize| vec![format!("{line} {ONE}"); count];
    let says = |arguments: &[String], sentence: &str| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let text = ask(&server, "fetch", &arguments);
        assert!(text.contains(sentence), "{sentence:?} in {text:?}");
    };
    says(&many("want", 11), "more than 10 wants in one request");
    says(&many("have", 21), "more than 20 haves in one request");
    says(&many("shallow", 6), "more than 5 shallow commits in one request");
    says(&many("deepen-not", 11), "more than 10 deepen-not lines in one request");
    says(&many("want-ref", 10), "duplicate want-ref");
    says(&many("want-ref", 11), "too many want-refs");
    says(&many("have", 3000), "larger than this remote reads");
    let ids = many("oid", 11);
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert!(ask(&server, "object-info", &ids).contains("too many objects"));
}

#[test]
fn bodies_in_gzip_and_bombs() {
    let git = &git::versions()[0];
    let (server, work) = served(git);
    let gzip = |data: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    let send = |server: &Server, body: &[u8]| {
        let head = request::head("2", "Content-Encoding: gzip\r\n", body.len());
        raw::send(server, &[head.as_bytes(), body].concat())
    };
    let want = format!("want {}", work.ask(&["rev-parse", "main"]));
    let body = gzip(&command("fetch", &[&want, "done"]));
    assert!(send(&server, &body).text().contains("packfile\n"));
    assert!(send(&server, b"not gzip").text().contains("damaged"));
    let started = Instant::now();
    let bomb = gzip(&vec![b'0'; 1 << 30]);
    assert!(send(&server, &bomb).text().contains("larger than this remote reads"));
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn the_probe_needs_no_credentials() {
    let server = Server::start();
    let list = raw::get(&server, "/repo.git/info/refs?service=git-upload-pack", "");
    assert_eq!(list.status, 401);
    assert!(list.header("www-authenticate")[0].starts_with("Basic realm=\"sluice\""));
    let opened = server.opened();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}Content-Length: 4\r\n\r\n0000",
        request::FETCH,
        request::TYPE
    );
    let response = raw::send(&server, head.as_bytes());
    assert_eq!((response.status, response.body.len()), (200, 0));
    assert_eq!(response.header("content-type"), ["application/x-git-upload-pack-result"]);
    assert_eq!(server.opened(), opened);
    let head = head.replace("Content-Length: 4\r\n\r\n0000", "Content-Length: 5\r\n\r\n00000");
    assert_eq!(raw::send(&server, head.as_bytes()).status, 401);
}

/// A repository whose pack is large: 48 MiB that do not compress.
fn large(options: Options) -> (Server, String) {
    let server = Server::with(options);
    let mut pack = Pack::new();
    let mut seed = 1_u64;
    let mut entries = Vec::new();
    let names: Vec<String> = (0..12).map(|number| format!("{number:02}.bin")).collect();
    for name in &names {
        let noise: Vec<u8> = (0..(4 << 17))
            .flat_map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed.to_le_bytes()
            })
            .collect();
        entries.push(("100644", name.as_str(), pack.add(gix_object::Kind::Blob, &noise)));
    }
    let tip = pack.commit_of(&entries);
    request::push(&server, &tip, pack);
    (server, tip.to_string())
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn clients_that_go_away_leave_nothing() {
    let mut options = Options::default();
    options.config.concurrent_fetches = 2;
    options.config.receive_wait = Duration::from_secs(20);
    let (server, tip) = large(options);
    let body = command("fetch", &[&format!("want {tip}"), "done"]);
    let before = (descriptors(), resident());
    // More than there are places: each must be free again when the next asks for it.
    for round in 0..12 {
        let mut stream = request::begin(&server, "2", &body);
        let mut some = vec![0; 4096 << (round % 4)];
        stream.read_exact(&mut some).unwrap();
        drop(stream);
    }
    let grown = resident().saturating_sub(before.1);
    assert!(grown < 32 << 10, "the pack is not held in memory: {grown} KiB more");
    let whole = post(&server, "2", &body);
    assert!(whole.body.len() > 48 << 20 && whole.body.ends_with(b"0000"));
    drop(whole);
    let until = Instant::now() + Duration::from_secs(10);
    while descriptors() > before.0 {
        assert!(Instant::now() < until, "{} descriptors, before {}", descriptors(), before.0);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let mut options = Options::default();
    options.config.concurrent_fetches = 1;
    options.config.idle_timeout = Duration::from_secs(1);
    options.config.receive_wait = Duration::from_secs(20);
    let (server, tip) = large(options);
    let body = command("fetch", &[&format!("want {tip}"), "done"]);
    let idle = request::begin(&server, "2", &body);
    let started = Instant::now();
    assert!(post(&server, "2", &body).body.ends_with(b"0000"), "the only place is free again");
    assert!(started.elapsed() < Duration::from_secs(15));
    // It may have come to its place after the other one.
    let until = Instant::now() + Duration::from_secs(30);
    while server.state(|state| state.limits.clone()) != ["idle_timeout"] {
        assert!(Instant::now() < until, "nobody hears of it");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(idle);
}

#[test]
fn a_fetch_has_its_time() {
    let mut options = Options::default();
    options.fetch_policy.limits.wall_time = Duration::from_secs(2);
    let (server, tip) = large(options);
    let body = command("fetch", &[&format!("want {tip}"), "done"]);
    let mut stream = request::begin(&server, "2", &body);
    std::thread::sleep(Duration::from_secs(3));
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    let text = String::from_utf8_lossy(&rest);
    assert!(text.contains("longer than 2 seconds, the limit"), "it ends with the reason");
    assert_eq!(server.state(|state| state.limits.clone()), ["wall_time"]);
    assert!(rest.len() < 48 << 20);
}

/// It reads all the time, a little.
#[test]
fn a_slow_client_keeps_its_place_no_longer_than_its_time() {
    let mut options = Options::default();
    options.fetch_policy.limits.wall_time = Duration::from_secs(4);
    options.config.concurrent_fetches = 1;
    options.config.receive_wait = Duration::from_secs(20);
    let server = Server::with(options);
    let mut seed = 1_u64;
    let noise: Vec<u8> = (0..(24 << 17))
        .flat_map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_le_bytes()
        })
        .collect();
    let mut pack = Pack::new();
    let blob = pack.add(gix_object::Kind::Blob, &noise);
    let tip = pack.commit_of(&[("100644", "large", blob)]);
    request::push(&server, &tip, pack);
    let want = format!("want {tip}");
    let mut slow = request::begin(&server, "2", &command("fetch", &[&want, "done"]));
    slow.read_exact(&mut [0; 1000]).unwrap();
    let started = Instant::now();
    let gone = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut some = vec![0; 64 << 10];
            while !gone.load(std::sync::atomic::Ordering::Relaxed) {
                if slow.read(&mut some).is_ok_and(|read| read == 0) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        // What is left of the time of the first is well below that of the second.
        std::thread::sleep(Duration::from_secs(2));
        let text = ask(&server, "fetch", &[&want, "filter tree:0", "done"]);
        gone.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(text.contains("packfile\n"), "{text:?}");
    });
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_large_request_waits_for_its_turn_before_it_is_held() {
    let mut options = Options::default();
    options.config.concurrent_fetches = 1;
    options.config.receive_wait = Duration::from_millis(300);
    let (server, tip) = {
        let server = Server::with(options);
        let mut pack = Pack::new();
        let blob = pack.add(gix_object::Kind::Blob, b"x");
        let tip = pack.commit_of(&[("100644", "f", blob)]);
        request::push(&server, &tip, pack);
        (server, tip)
    };
    let want = format!("want {tip}");
    let haves = vec![format!("have {ONE}"); 4000];
    let arguments: Vec<&str> =
        [want.as_str()].into_iter().chain(haves.iter().map(String::as_str)).collect();
    let body = command("fetch", &[&arguments[..], &["done"]].concat());
    assert!(body.len() > 160 << 10);
    // All but its end.
    let mut open = raw::connect(&server);
    let head = request::head("2", "", body.len());
    open.write_all(head.as_bytes()).unwrap();
    open.write_all(&body[..150 << 10]).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let small = command("fetch", &[&want, "done"]);
    let text = post(&server, "2", &small).text();
    assert!(text.contains("ERR the server serves as many fetches as it can"), "{text:?}");
    open.write_all(&body[150 << 10..]).unwrap();
    assert!(raw::read(&mut open).text().contains("packfile\n"));
    assert!(post(&server, "2", &small).text().contains("packfile\n"));
}

#[test]
fn too_many_fetches_are_told_to_come_back() {
    let mut options = Options::default();
    options.config.concurrent_fetches = 1;
    options.config.receive_wait = Duration::from_millis(200);
    let (server, tip) = large(options);
    let body = command("fetch", &[&format!("want {tip}"), "done"]);
    let mut first = request::begin(&server, "2", &body);
    first.read_exact(&mut [0; 1000]).unwrap();
    let text = post(&server, "2", &body).text();
    assert!(text.contains("ERR the server serves as many fetches as it can"), "{text:?}");
    assert_eq!(server.state(|state| state.limits.clone()), ["concurrent_fetches"]);
}

#[test]
fn stored_objects_that_are_damaged() {
    let git = &git::versions()[0];
    let (server, work) = served_with(git, Options::default());
    let main = work.ask(&["rev-parse", "main"]);
    let folder = server.path().join("objects/pack");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "pack") {
            let mut bytes = std::fs::read(&path).unwrap();
            let length = bytes.len();
            bytes[40..length - 20].iter_mut().for_each(|byte| *byte ^= 0x5a);
            let mut permissions = std::fs::metadata(&path).unwrap().permissions();
            #[allow(
                clippy::permissions_set_readonly_false,
                reason = "a folder of this test alone"
            )]
            permissions.set_readonly(false);
            std::fs::set_permissions(&path, permissions).unwrap();
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let text = ask(&server, "fetch", &[&format!("want {main}"), "done"]);
    assert!(text.contains("the server failed while it"), "{text:?}");
    assert!(!text.contains(server.path().to_str().unwrap()), "no path of the server");
}
