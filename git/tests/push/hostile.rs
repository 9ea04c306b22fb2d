//! Packs that are damaged, incomplete, or built to hurt.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use flate2::{Compression, write::ZlibEncoder};
use gix_object::Kind;
use sluice_git::{
    ObjectId, Oddity,
    fsck::{Fsck, Levels},
};

use crate::support::{
    Options, Server,
    pack::{self, Pack},
    raw::{self, ZERO, line},
};

/// Pushes a pack and gives the answer, which must come soon.
fn push_to(server: &Server, tip: &ObjectId, body: &[u8]) -> String {
    let started = Instant::now();
    let push = [&raw::create(tip, "report-status side-band-64k quiet"), body].concat();
    let response = raw::post(server, &push);
    assert_eq!(response.status, 200);
    assert!(started.elapsed() < Duration::from_secs(20), "it took {:?}", started.elapsed());
    response.text()
}

/// The push must be refused with a sentence, and leave nothing behind.
#[track_caller]
fn refused(tip: &ObjectId, body: &[u8], sentence: &str) {
    let server = Server::start();
    let text = push_to(&server, tip, body);
    assert!(text.contains(sentence), "expected {sentence:?} in {text:?}");
    assert!(text.contains("ng refs/heads/main "), "{text:?}");
    server.assert_untouched();
}

#[test]
fn damaged_packs() {
    let (good, tip) = pack::good();
    refused(&tip, &good[..good.len() - 1], "unpack the pack ends early");
    refused(&tip, &good[..20], "unpack the pack ends early");
    refused(&tip, b"", "unpack the pack ends early");
    refused(&tip, b"JUNK and more junk", "does not start with PACK");
    refused(&tip, &[&good[..], b"x"].concat(), "junk behind the end");
    let mut trailer = good.clone();
    *trailer.last_mut().unwrap() ^= 1;
    refused(&tip, &trailer, "unpack the pack is damaged");
    let mut version = good.clone();
    version[7] = 4;
    refused(&tip, &version, "version 4");
    let mut body = good;
    body[20] ^= 0x55;
    refused(&tip, &body, "unpack ");
}

#[test]
fn every_flipped_bit_is_noticed() {
    let server = Server::start();
    let (good, tip) = pack::good();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let text = push_to(&server, &tip, &bad);
        assert!(!text.contains("ok refs"), "byte {at}: {text:?}");
    }
    server.assert_untouched();
}

#[test]
fn four_billion_objects() {
    let (_, tip) = pack::good();
    refused(
        &tip,
        &Pack::new().finish_as(u32::MAX),
        "holds 4294967295 objects and the limit is 8000000",
    );
    refused(&tip, &Pack::new().finish_as(1000), "unpack ");
}

/// 4 GiB of zeros in 4 MB: after a flush the same deflated bytes can be said again and again.
fn bomb() -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    let zeros = vec![0; 16 << 20];
    let mut chunk = || {
        encoder.write_all(&zeros).unwrap();
        encoder.flush().unwrap();
        std::mem::take(encoder.get_mut())
    };
    // The first has the header of the stream in front, the second does not.
    let (mut out, repeated) = (chunk(), chunk());
    for _ in 1..256 {
        out.extend_from_slice(&repeated);
    }
    out
}

#[test]
fn a_bomb_of_four_gibibytes() {
    let bomb = bomb();
    let (_, tip) = pack::good();
    let mut honest = Pack::new();
    honest.header(3, 4 << 30);
    honest.raw(&bomb);
    refused(&tip, &honest.finish(), "holds an object of 4 GiB and the limit is 128 MiB");
    let mut lying = Pack::new();
    lying.header(3, 10);
    lying.raw(&bomb);
    refused(&tip, &lying.finish(), "says it has 10 bytes but inflates to more");
    // With objects of that size allowed, the sum of all objects still has its limit.
    let mut options = Options::default();
    options.policy.limits.object_bytes = 8 << 30;
    options.policy.limits.inflated_bytes = 64 << 20;
    options.policy.limits.resolved_ratio = u64::MAX;
    let server = Server::with(options);
    let mut allowed = Pack::new();
    allowed.header(3, 4 << 30);
    allowed.raw(&bomb);
    let text = push_to(&server, &tip, &allowed.finish());
    assert!(text.contains("inflates to more than 64 MiB, the limit"), "{text:?}");
    server.assert_untouched();
}

#[test]
fn deltas_that_make_much_of_little() {
    // 100 deltas that each copy a base of 16 MiB 7 times: 11 GB of objects in 20 KB.
    let mut pack = Pack::new();
    let base = pack.add(Kind::Blob, &vec![0; 0x00ff_ffff]);
    let size = |mut n: u64| {
        let mut out = Vec::new();
        while n > 0x7f {
            out.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
        out
    };
    for number in 0..100_u8 {
        let mut delta = [size(0x00ff_ffff), size(0x00ff_ffff * 7 + 1)].concat();
        for _ in 0..7 {
            delta.extend_from_slice(&[0xf0, 0xff, 0xff, 0xff]);
        }
        delta.extend_from_slice(&[1, number]);
        pack.ref_delta(&base, &delta);
    }
    refused(&base, &pack.finish(), "built to be expensive");
}

#[test]
fn deltas_without_a_base() {
    let (_, tip) = pack::good();
    let mut pack = Pack::new();
    pack.ref_delta(&tip, &[5, 1, 1, b'x']);
    refused(&tip, &pack.finish(), "builds on objects that are not here");
}

#[test]
fn a_long_chain_of_deltas_by_id() {
    // Each delta says: the base's bytes, then one more.
    let mut pack = Pack::new();
    let mut data = b"x".to_vec();
    let mut base = pack.add(Kind::Blob, &data);
    for number in 0..100_u8 {
        let delta = [data.len() as u8, data.len() as u8 + 1, 0x90, data.len() as u8, 1, number];
        pack.ref_delta(&base, &delta);
        data.push(number);
        base = pack::id(Kind::Blob, &data);
    }
    let tip = pack.commit_of(&[("100644", "a", base)]);
    let server = Server::start();
    let text = push_to(&server, &tip, &pack.finish());
    assert!(text.contains("ok refs/heads/main"), "{text:?}");
    server.fsck();
}

#[test]
fn missing_objects() {
    let nowhere = ObjectId::from_hex(&[b'1'; 40]).unwrap();
    let missing = "ng refs/heads/main missing necessary objects";
    let mut pack = Pack::new();
    let tip = pack.commit_of(&[("100644", "a", nowhere)]);
    refused(&tip, &pack.finish(), missing);
    let mut pack = Pack::new();
    let tip = pack.commit_of(&[("40000", "a", nowhere)]);
    refused(&tip, &pack.finish(), missing);
    let mut pack = Pack::new();
    let tip = pack.commit(&nowhere, &[]);
    refused(&tip, &pack.finish(), missing);
    let mut pack = Pack::new();
    let tree = pack.add(Kind::Tree, b"");
    let tip = pack.commit(&tree, &[nowhere]);
    refused(&tip, &pack.finish(), missing);
    // The tip itself.
    refused(&nowhere, &pack::good().0, missing);
    // An object of another kind than the tree says.
    let mut pack = Pack::new();
    let blob = pack.add(Kind::Blob, b"x");
    let tip = pack.commit_of(&[("40000", "a", blob)]);
    refused(&tip, &pack.finish(), missing);
    // A submodule's commit is somewhere else, and that is right.
    let mut pack = Pack::new();
    let tip = pack.commit_of(&[("160000", "a", nowhere)]);
    let server = Server::start();
    assert!(push_to(&server, &tip, &pack.finish()).contains("ok refs/heads/main"));
}

/// More than are remembered without a look at the repository.
#[test]
fn a_tree_of_300000_ids_that_do_not_exist() {
    let names: Vec<String> = (0..300_000).map(|number| format!("{number:06}")).collect();
    let entries: Vec<(&str, &str, ObjectId)> = names
        .iter()
        .map(|name| ("100644", name.as_str(), pack::id(Kind::Blob, name.as_bytes())))
        .collect();
    let mut pack = Pack::new();
    let tip = pack.commit_of(&entries);
    refused(&tip, &pack.finish(), "ng refs/heads/main missing necessary objects");
}

#[test]
fn an_incomplete_pack_does_not_stop_refs_that_need_nothing_of_it() {
    let server = Server::start();
    let (good, old) = pack::good();
    push_to(&server, &old, &good);
    let mut pack = Pack::new();
    let tip = pack.commit_of(&[("100644", "a", ObjectId::from_hex(&[b'1'; 40]).unwrap())]);
    let commands = [
        line(&format!("{ZERO} {tip} refs/heads/bad\0report-status")),
        line(&format!("{ZERO} {old} refs/heads/copy")),
        b"0000".to_vec(),
    ]
    .concat();
    let text = raw::post(&server, &[commands, pack.finish()].concat()).text();
    assert!(text.contains("ng refs/heads/bad missing necessary objects"), "{text}");
    assert!(text.contains("ok refs/heads/copy"), "{text}");
    assert_eq!(server.packs(), 1);
    server.fsck();
}

#[test]
fn a_shallow_line_forgives_parents_and_nothing_else() {
    let nowhere = ObjectId::from_hex(&[b'1'; 40]).unwrap();
    let send = |server: &Server, tip: &ObjectId, body: Vec<u8>| {
        let shallow = line(&format!("shallow {tip}"));
        raw::post(server, &[shallow, raw::create(tip, "report-status"), body].concat()).text()
    };
    let server = Server::start();
    let mut pack = Pack::new();
    let tree = pack.add(Kind::Tree, b"");
    let tip = pack.commit(&tree, &[nowhere]);
    let body = pack.finish();
    assert!(send(&server, &tip, body).contains("ok refs/heads/main"));
    assert_eq!(server.state(|state| state.shallow.clone()), [tip]);
    server.fsck();

    let server = Server::start();
    let mut pack = Pack::new();
    let tip = pack.commit(&nowhere, &[]);
    let body = pack.finish();
    assert!(send(&server, &tip, body).contains("missing necessary objects"));
    // A commit that has its parents is not shallow, whatever the client says.
    let server = Server::start();
    let (body, tip) = pack::good();
    assert!(send(&server, &tip, body).contains("ok refs/heads/main"));
    assert!(server.state(|state| state.shallow.is_empty()));
}

#[test]
fn trees_that_break_out() {
    for name in ["..", ".", "", "a/b"] {
        let mut pack = Pack::new();
        let blob = pack.add(Kind::Blob, b"x");
        let tip = pack.commit_of(&[("100644", name, blob)]);
        refused(
            &tip,
            &pack.finish(),
            "has an entry whose name is empty, '.', '..' or contains a slash",
        );
    }
    let mut pack = Pack::new();
    let blob = pack.add(Kind::Blob, b"x");
    let tip = pack.commit_of(&[("100644", "a", blob), ("100644", "a", blob)]);
    refused(&tip, &pack.finish(), "has two entries of the same name");
    let mut pack = Pack::new();
    let tip = pack.add(Kind::Commit, b"nonsense\n\n");
    refused(&tip, &pack.finish(), "is not a well-formed commit");
}

#[test]
fn dangerous_but_harmless_to_keep_is_recorded() {
    let server = Server::start();
    let mut pack = Pack::new();
    let modules = b"[submodule \"../../x\"]\n\tpath = x\n\turl = -u./payload\n";
    let modules = pack.add(Kind::Blob, modules);
    let blob = pack.add(Kind::Blob, b"x");
    let tip = pack.commit_of(&[
        ("100644", ".git", blob),
        ("100644", ".gitmodules", modules),
        ("100644", "git~1", blob),
    ]);
    let text = push_to(&server, &tip, &pack.finish());
    assert!(text.contains("ok refs/heads/main"), "{text:?}");
    let mut seen: Vec<Oddity> =
        server.state(|state| state.observations.iter().map(|o| o.kind).collect());
    seen.sort_by_key(|kind| format!("{kind:?}"));
    assert_eq!(seen, [Oddity::DotGit, Oddity::DotGit, Oddity::SubmoduleName, Oddity::SubmoduleUrl]);
}

/// So many that not all of them are looked into, in a folder each.
#[test]
fn ten_thousand_gitmodules() {
    let push = |count: u32, fsck: Fsck| {
        let mut options = Options::default();
        options.policy.fsck = fsck;
        let server = Server::with(options);
        let mut pack = Pack::new();
        let folders: Vec<(String, ObjectId)> = (0..count)
            .map(|number| {
                let file = pack.add(Kind::Blob, format!("# {number}\n").as_bytes());
                let tree = pack::tree(&[("100644", ".gitmodules", file)]);
                (format!("{number:05}"), pack.add(Kind::Tree, &tree))
            })
            .collect();
        let entries: Vec<(&str, &str, ObjectId)> =
            folders.iter().map(|(name, id)| ("40000", name.as_str(), *id)).collect();
        let tip = pack.commit_of(&entries);
        let text = push_to(&server, &tip, &pack.finish());
        let seen: Vec<Oddity> =
            server.state(|state| state.observations.iter().map(|o| o.kind).collect());
        (text, seen)
    };
    let (text, seen) = push(10_000, Fsck::Record);
    assert!(text.contains("ok refs/heads/main") && seen.is_empty(), "{text} {seen:?}");
    let (text, seen) = push(10_001, Fsck::Record);
    assert!(text.contains("ok refs/heads/main"), "{text}");
    assert_eq!(seen, [Oddity::ManyGitmodules]);
    let (text, _) = push(10_001, Fsck::Levels(Levels::default()));
    assert!(text.contains("more than 10000 different .gitmodules"), "{text}");
}

#[test]
fn limits_are_told_and_kept() {
    let mut options = Options::default();
    options.policy.limits.pack_bytes = 200;
    let server = Server::with(options);
    let mut pack = Pack::new();
    let noise: Vec<u8> =
        (0..2000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let tip = pack.add(Kind::Blob, &noise);
    let text = push_to(&server, &tip, &pack.finish());
    assert!(text.contains("unpack the pack is larger than 200 bytes, the limit"), "{text:?}");

    let mut options = Options::default();
    options.policy.commands.commands = 2;
    let server = Server::with(options);
    let commands: Vec<u8> = (0..3)
        .flat_map(|n| line(&format!("{ZERO} {tip} refs/heads/b{n}\0report-status side-band-64k")))
        .collect();
    let text = raw::post(&server, &commands).text();
    assert!(text.contains("more than 2 refs in one push"), "{text:?}");
    server.assert_untouched();
}

#[test]
fn a_push_that_takes_too_long_is_ended() {
    let mut options = Options::default();
    options.policy.limits.wall_time = Duration::from_millis(300);
    let server = Server::with(options);
    let (body, tip) = pack::good();
    let push = [raw::create(&tip, "report-status"), body].concat();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\n{}{}Content-Length: {}\r\n\r\n",
        raw::PUSH,
        raw::TYPE,
        raw::authorization(),
        push.len()
    );
    let mut stream = raw::connect(&server);
    stream.write_all(head.as_bytes()).unwrap();
    // A byte now and then is no idle connection, but it gets nowhere.
    let mut slow = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        for byte in push.iter().take(push.len() - 1) {
            if slow.write_all(&[*byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let response = raw::read(&mut stream);
    assert_eq!(response.status, 408);
    assert!(response.text().contains("took longer than"), "{response:?}");
    writer.join().unwrap();
    server.assert_untouched();
}

#[test]
fn a_list_of_refs_that_takes_too_long_is_ended() {
    let mut options = Options::default();
    options.policy.limits.wall_time = Duration::from_millis(300);
    let server = Server::with(options);
    let (body, tip) = pack::good();
    let push = [raw::create(&tip, "report-status"), body].concat();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\n{}{}Content-Length: {}\r\n\r\n",
        raw::PUSH,
        raw::TYPE,
        raw::authorization(),
        push.len()
    );
    let mut stream = raw::connect(&server);
    stream.write_all(head.as_bytes()).unwrap();
    let mut slow = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        // Its first line has more than a hundred bytes.
        for byte in push.iter().take(60) {
            if slow.write_all(&[*byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let started = Instant::now();
    let response = raw::read(&mut stream);
    assert_eq!(response.status, 408);
    assert!(response.text().contains("took longer than"), "{response:?}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    writer.join().unwrap();
}

#[test]
fn a_gzip_bomb_is_read_no_further_than_its_first_lie() {
    let server = Server::start();
    let (_, tip) = pack::good();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&raw::create(&tip, "report-status")).unwrap();
    encoder.write_all(b"PACK\0\0\0\x02\0\0\0\x01").unwrap();
    encoder.write_all(&vec![0; 64 << 20]).unwrap();
    let headers = format!("{}Content-Encoding: gzip\r\n", raw::authorization());
    let started = Instant::now();
    let text = raw::post_with(&server, &headers, &encoder.finish().unwrap()).text();
    assert!(text.contains("unpack the pack has an entry of the unknown type 0"), "{text:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
    server.assert_untouched();
}
