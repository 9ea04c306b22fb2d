//! The protocol behind HTTP, looked at without git.

use gix_object::Kind;

use crate::support::{
    Server,
    pack::{self, Pack},
    raw::{self, ZERO, line},
};

fn push(capabilities: &str) -> Vec<u8> {
    let (body, tip) = pack::good();
    [raw::create(&tip, capabilities), body].concat()
}

const REPORT: &str = "000eunpack ok\n0017ok refs/heads/main\n0000";

#[test]
fn the_report_has_the_form_that_was_asked_for() {
    for (capabilities, answer) in [
        ("report-status", REPORT.to_owned()),
        (" report-status-v2 ofs-delta", REPORT.to_owned()),
        ("report-status side-band-64k quiet", format!("002e\u{1}{REPORT}0000")),
        ("side-band-64k quiet", "0000".to_owned()),
        ("", "0000".to_owned()),
    ] {
        let server = Server::start();
        let text = raw::post(&server, &push(capabilities))
            .text()
            .replace("0019\u{2}storing the push\n", "");
        assert_eq!(text, answer, "{capabilities}");
        assert_eq!(server.ref_names(), ["refs/heads/main"]);
    }
}

#[test]
fn a_flush_alone_or_nothing_at_all_is_no_push() {
    let server = Server::start();
    for body in [b"0000".as_slice(), b""] {
        // In chunks, since a length of four would be the probe.
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}{}Transfer-Encoding: chunked\r\n\r\n",
            raw::PUSH,
            raw::TYPE,
            raw::authorization()
        );
        let chunk = if body.is_empty() { Vec::new() } else { [b"4\r\n", body, b"\r\n"].concat() };
        let response = raw::send(&server, &[request.as_bytes(), &chunk, b"0\r\n\r\n"].concat());
        assert_eq!((response.status, response.body.as_slice()), (200, b"".as_slice()));
    }
    server.assert_untouched();
}

#[test]
fn malformed_lines_get_a_sentence() {
    let server = Server::start();
    let (_, tip) = pack::good();
    let first = line(&format!("{ZERO} {tip} refs/heads/main\0report-status side-band-64k"));
    for (body, status, sentence) in [
        (b"zzzz".repeat(3), 400, "four hexadecimal digits"),
        (b"0004".repeat(3), 400, "has the length 4"),
        (b"0003abcde".to_vec(), 400, "has the length 3"),
        (b"fffffffff".to_vec(), 400, "has the length 65535"),
        (line(&format!("{ZERO} {tip} refs/heads/main")), 400, "no list of capabilities"),
        ([first.clone(), b"zzzz".to_vec()].concat(), 200, "four hexadecimal digits"),
        (first.clone(), 200, "ended in the middle"),
        ([first.clone(), line("rubbish")].concat(), 200, "expected \"<old> <new> <ref>\""),
        (line("push-cert\0side-band-64k"), 200, "signed pushes are not offered"),
        (line("push-cert\0"), 400, "signed pushes are not offered"),
        (
            [
                line(&format!("{ZERO} {tip} refs/heads/main\0side-band-64k object-format=sha256")),
                b"0000".to_vec(),
            ]
            .concat(),
            200,
            "object format sha256 is not offered",
        ),
    ] {
        let response = raw::post(&server, &body);
        assert_eq!(response.status, status, "{sentence}");
        assert!(response.text().contains(sentence), "{sentence}: {}", response.text());
        if status == 200 {
            assert_eq!(response.body.get(4), Some(&3), "on the band for last words");
        }
    }
    server.assert_untouched();
}

#[test]
fn a_ref_named_twice_is_refused() {
    let server = Server::start();
    let (body, tip) = pack::good();
    let commands = [
        line(&format!("{ZERO} {tip} refs/heads/main\0report-status")),
        line(&format!("{ZERO} {tip} refs/heads/main")),
        line(&format!("{ZERO} {tip} refs/heads/other")),
        b"0000".to_vec(),
    ]
    .concat();
    let text = raw::post(&server, &[commands, body].concat()).text();
    assert_eq!(text.matches("ng refs/heads/main multiple updates").count(), 2, "{text}");
    assert!(text.contains("ok refs/heads/other"), "{text}");
}

#[test]
fn deletions_bring_no_pack() {
    let server = Server::start();
    assert!(raw::post(&server, &push("report-status")).text().contains("ok refs/heads/main"));
    let (_, tip) = pack::good();
    let delete = |old: &str, name: &str| {
        let command = line(&format!("{old} {ZERO} {name}\0report-status side-band-64k"));
        raw::post(&server, &[command, b"0000".to_vec()].concat()).text()
    };
    let text = delete(&tip.to_string(), "refs/heads/nothing");
    assert!(text.contains("warning: deleting a non-existent ref refs/heads/nothing"), "{text}");
    assert!(text.contains("ok refs/heads/nothing"), "{text}");
    let text = delete(&"1".repeat(40), "refs/heads/main");
    assert!(text.contains("ng refs/heads/main incorrect old value provided"), "{text}");
    let text = delete(&tip.to_string(), "refs/heads/main");
    assert!(text.contains("ok refs/heads/main"), "{text}");
    assert!(server.ref_names().is_empty());
}

#[test]
fn an_empty_pack_creates_a_ref_to_what_is_there() {
    let server = Server::start();
    raw::post(&server, &push("report-status"));
    let (_, tip) = pack::good();
    let command = line(&format!("{ZERO} {tip} refs/heads/copy\0report-status"));
    let empty = Pack::new().finish();
    assert_eq!(empty.len(), 32);
    let text = raw::post(&server, &[command, b"0000".to_vec(), empty].concat()).text();
    assert!(text.contains("ok refs/heads/copy"), "{text}");
    let nowhere = line(&format!("{ZERO} {} refs/heads/no\0report-status", "1".repeat(40)));
    let text =
        raw::post(&server, &[nowhere, b"0000".to_vec(), Pack::new().finish()].concat()).text();
    assert!(text.contains("ng refs/heads/no missing necessary objects"), "{text}");
    assert_eq!(server.packs(), 1);
    server.fsck();
}

#[test]
fn old_values_are_compared() {
    let server = Server::start();
    raw::post(&server, &push("report-status"));
    let mut pack = Pack::new();
    let blob = pack.add(Kind::Blob, b"other\n");
    let tip = pack.commit_of(&[("100644", "a", blob)]);
    let body = pack.finish();
    let send = |old: &str| {
        let command = line(&format!("{old} {tip} refs/heads/main\0report-status"));
        raw::post(&server, &[command, b"0000".to_vec(), body.clone()].concat()).text()
    };
    assert!(send(ZERO).contains("ng refs/heads/main reference already exists"));
    assert!(send(&"1".repeat(40)).contains("ng refs/heads/main incorrect old value provided"));
    assert!(send(&pack::good().1.to_string()).contains("ok refs/heads/main"));
    server.fsck();
}
