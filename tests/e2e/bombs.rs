//! Requests that are made to be expensive: each is refused with its sentence, and costs
//! next to nothing until then.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use gix_object::Kind;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::on_both;
use crate::support::client::text;
use crate::support::pack::{self, Pack};
use crate::support::process::{Cost, Watch};
use crate::support::{Git, Place, Server, raw, samples};

on_both!(cost_little_memory);

const MIB: u64 = 1 << 20;

/// Zeros, deflated: a KiB for each of these MiB. After a flush the same deflated
/// bytes can be said again and again.
fn zeros(mebibytes: usize) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; 1 << 20];
    let mut chunk = || {
        encoder.write_all(&zeros).unwrap();
        encoder.flush().unwrap();
        std::mem::take(encoder.get_mut())
    };
    // The first has the header of the stream in front, the second does not.
    let (mut out, repeated) = (chunk(), chunk());
    for _ in 1..mebibytes {
        out.extend_from_slice(&repeated);
    }
    // A last block of nothing, and the checksum of so many zeros.
    out.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    let sum = ((mebibytes << 20) % 65_521) as u32;
    out.extend_from_slice(&((sum << 16) | 1).to_be_bytes());
    out
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number > 0x7f {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

/// 200 deltas that each make an object of 50 MB of one that is 50 MB.
fn deltas() -> Vec<u8> {
    const SIZE: u64 = 50_000_000;
    let mut pack = Pack::new();
    let zeros = vec![0; SIZE as usize];
    let base = pack::id(Kind::Blob, &zeros);
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&zeros).unwrap();
    pack.header(3, SIZE);
    pack.raw(&encoder.finish().unwrap());
    for number in 0..200_u8 {
        let mut delta = [varint(SIZE), varint(SIZE)].concat();
        let mut left = SIZE - 1;
        while left > 0 {
            let length = left.min(0x00ff_ffff);
            delta.push(0xf0);
            delta.extend_from_slice(&(length as u32).to_le_bytes()[..3]);
            left -= length;
        }
        delta.extend_from_slice(&[1, number]);
        pack.ref_delta(&base, &delta);
    }
    pack.finish()
}

struct Bomb {
    name: &'static str,
    /// The whole request but its head.
    body: Vec<u8>,
    gzip: bool,
    refused: &'static str,
}

fn bombs() -> Vec<Bomb> {
    let (_, tip) = pack::good();
    let bomb = |name, body, refused| Bomb { name, body, gzip: false, refused };
    let mut all = Vec::new();

    // 4 MB that inflate to 4 GiB, and say so.
    let mut honest = Pack::new();
    honest.header(3, 4 << 30);
    honest.raw(&zeros(4096));
    let honest = raw::create(&tip, &honest.finish());
    assert!(honest.len() < 5_000_000, "{}", honest.len());
    all.push(bomb(
        "one blob of 4 GiB",
        honest,
        "holds an object of 4 GiB and the limit is 512 MiB",
    ));
    // The same as a lie.
    let mut lying = Pack::new();
    lying.header(3, 10);
    lying.raw(&zeros(4096));
    let lying = raw::create(&tip, &lying.finish());
    all.push(bomb("a blob of 10 bytes", lying, "says it has 10 bytes but inflates to more"));
    // The same in parts that are each within the limit.
    let mut parts = Pack::new();
    for _ in 0..10 {
        parts.header(3, 500 << 20);
        parts.raw(&zeros(500));
    }
    let parts = raw::create(&tip, &parts.finish());
    all.push(bomb("ten blobs of 500 MiB", parts, "built to be expensive"));

    let deltas = deltas();
    assert!(deltas.len() < 235_000, "{}", deltas.len());
    all.push(bomb("200 deltas of 50 MB", raw::create(&tip, &deltas), "built to be expensive"));
    all.push(bomb(
        "4294967295 objects",
        raw::create(&tip, &Pack::new().finish_as(u32::MAX)),
        "holds 4294967295 objects and the limit is 10000000",
    ));

    // Bodies that are compressed once more: zeros behind the commands, and in their place.
    let zeros = vec![0; 256 << 20];
    let head = raw::create(&tip, b"PACK\0\0\0\x02\0\0\0\x01");
    let body = gzip(&[head.as_slice(), &zeros].concat());
    let refused = "the pack has an entry of the unknown type 0";
    all.push(Bomb { gzip: true, ..bomb("gzip behind the commands", body, refused) });
    let body = gzip(&zeros);
    let refused = "HTTP/1.1 400";
    all.push(Bomb { gzip: true, ..bomb("gzip instead of commands", body, refused) });
    // Lines that are each in order, without an end.
    let line = raw::line(&format!("shallow {tip}\n"));
    let body = gzip(&line.repeat((64 << 20) / line.len()));
    let refused = "shallow commits in one push";
    all.push(Bomb { gzip: true, ..bomb("gzip of shallow lines", body, refused) });
    all
}

/// Sends it and reads the answer.
async fn send(server: &Server, made: &Value, bomb: &Bomb) -> String {
    let more = if bomb.gzip { "Content-Encoding: gzip\r\n" } else { "" };
    let head = raw::head(made, bomb.body.len(), more);
    let mut stream = raw::connect(server).await;
    let (mut reader, mut writer) = stream.split();
    let sending = async {
        // The server may have seen enough before all is sent.
        let _ = writer.write_all(head.as_bytes()).await;
        let _ = writer.write_all(&bomb.body).await;
    };
    let reading = raw::read(&mut reader);
    tokio::join!(sending, reading).1
}

/// Throws all of them at a server; what each one cost.
async fn thrown(place: &Place) -> Vec<(&'static str, Cost)> {
    let server = place.start().await;
    let client = server.admin().await;
    let made = client.upload(json!({"scan": false})).await;
    // Whatever a first push sets up once is no part of the cost.
    let work = samples::small(&Git::any()).await;
    let warm = client.upload(json!({"scan": false})).await;
    work.push(&text(&warm["push_url"]), &["main"]).await.expect();
    client.ingested(&text(&warm["id"])).await;
    let stored = place.stored("packs").len();

    let mut costs = Vec::new();
    for bomb in bombs() {
        let watch = Watch::begin(&server);
        let said = send(&server, &made, &bomb).await;
        let cost = watch.cost();
        println!("{:<28} {:>9} bytes: {cost:?}", bomb.name, bomb.body.len());
        assert!(said.contains(bomb.refused), "{}: {said}", bomb.name);
        assert!(!said.contains("ok refs"), "{}: {said}", bomb.name);
        costs.push((bomb.name, cost));
    }
    // The same against a fetch: a request that inflates without an end.
    let body = gzip(&raw::line(&format!("want {}\n", raw::ZERO)).repeat(1 << 20));
    let path = format!("/git/{}.git/git-upload-pack", text(&made["id"]));
    let request = client
        .request(reqwest::Method::POST, &path)
        .header("content-type", "application/x-git-upload-pack-request")
        .header("content-encoding", "gzip")
        .body(body);
    let watch = Watch::begin(&server);
    let answer = crate::support::Client::send(request).await;
    costs.push(("gzip of wants", watch.cost()));
    let said = answer.expect(200).text();
    assert!(said.contains("ERR the request is larger than this remote reads"), "{said}");

    let path = format!("/v1/git-uploads/{}", text(&made["id"]));
    let now = client.get(&path).await.expect(200).json();
    assert_eq!((&now["pushes"], &now["refs"]), (&json!(0), &json!([])), "{now}");
    assert_eq!(place.stored("packs").len(), stored);
    assert!(place.files("git/incoming").is_empty());
    // And the server is as good as before.
    work.push(&server.push_url(&made), &["main"]).await.expect();
    costs
}

async fn cost_little_memory(place: Place) {
    for (name, cost) in thrown(&place).await {
        assert!(cost.memory < 64 * MIB, "{name}: {} MiB", cost.memory / MIB);
    }
}

/// Timing decides no test of the gate; `benches/run bombs` runs this one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a benchmark: benches/run bombs"]
async fn cost_little_time() {
    for (name, cost) in thrown(&Place::sqlite()).await {
        assert!(cost.cpu_ms < 2000, "{name}: {} ms", cost.cpu_ms);
    }
}
