//! Ours against two others: git's own indexer and gix-pack's read the same packs, and what comes out
//! is compared byte by byte.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use flate2::{Compression, write::ZlibEncoder};
use gix_hash::Kind::Sha1;
use tokio::sync::mpsc;

use super::*;
use crate::firewall::{Chunk, Counters, Limits};

mod broken;
mod costly;
mod large;
mod same;

/// Remembers what it was shown.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(Kind, ObjectId, usize)>>>);

impl Visit for Seen {
    fn visit(&mut self, kind: Kind, content: &[u8], id: &oid) {
        assert_eq!(gix_object::compute_hash(Sha1, kind, content).unwrap(), id);
        self.0.lock().unwrap().push((kind, id.to_owned(), content.len()));
    }
}

/// What became of a pack.
struct Done {
    pack: Vec<u8>,
    index: Vec<u8>,
    table: Table,
    seen: Vec<(Kind, ObjectId, usize)>,
}

fn generous() -> Limits {
    Limits { delta_depth: u16::MAX, object_bytes: 1 << 30, ..Limits::default() }
}

/// Our indexer. `store` are the objects that a thin pack may build on. Nothing but the two files
/// may be left when it is done, and nothing at all when it refuses.
fn ours_with(pack: &[u8], store: &Path, limits: Limits, piece: usize) -> Result<Done, Error> {
    let packs = tempfile::tempdir().unwrap();
    let (sender, receiver) = mpsc::channel(4);
    let pieces: Vec<Bytes> = pack.chunks(piece).map(Bytes::copy_from_slice).collect();
    let feed = std::thread::spawn(move || {
        for piece in pieces {
            if sender.blocking_send(Chunk::Data(piece)).is_err() {
                return;
            }
        }
        let _ = sender.blocking_send(Chunk::End);
    });
    let seen = Seen::default();
    let counters = Arc::new(Counters::default());
    let mut reader = PackReader::new(receiver, limits.clone(), Sha1, counters);
    let interrupt = AtomicBool::new(false);
    let target =
        Target { packs: packs.path(), store, hash: Sha1, limits: &limits, interrupt: &interrupt };
    let indexed = match reader.declared_objects() {
        Ok(_) => receive(&mut reader, &target, seen.clone(), || ()),
        Err(failure) => Err(failure.into()),
    };
    drop(reader);
    feed.join().unwrap();
    let files = || fs::read_dir(packs.path()).unwrap().count();
    let indexed = indexed.inspect_err(|_| assert_eq!(files(), 0))?;
    let Some(Indexed { written, table }) = indexed else {
        assert_eq!(files(), 0);
        return Err(Error::Pack("empty".into()));
    };
    assert_eq!(files(), 2);
    let (pack, index) = (fs::read(&written.pack).unwrap(), fs::read(&written.index).unwrap());
    assert_eq!(pack.len() as u64, written.bytes);
    let seen = std::mem::take(&mut *seen.0.lock().unwrap());
    Ok(Done { pack, index, table, seen })
}

fn ours(pack: &[u8]) -> Result<Done, Error> {
    let store = tempfile::tempdir().unwrap();
    ours_with(pack, store.path(), generous(), 1 << 16)
}

/// `git index-pack`.
fn git_index(pack: &[u8]) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let (file, index) = (folder.path().join("a.pack"), folder.path().join("a.idx"));
    fs::write(&file, pack).unwrap();
    let mut command = Command::new("git");
    command.arg("index-pack").arg("-o").arg(&index).arg(&file).current_dir(folder.path());
    let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    done.success().then(|| fs::read(&index).unwrap())
}

/// The indexer of gix-pack.
fn gix_index(pack: &[u8]) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let options = gix_pack::bundle::write::Options {
        thread_limit: Some(1),
        iteration_mode: gix_pack::data::input::Mode::Verify,
        index_version: gix_pack::index::Version::default(),
        alloc_limit_bytes: Some(1 << 30),
        ..Default::default()
    };
    let outcome = gix_pack::Bundle::write_to_directory(
        &mut &pack[..],
        Some(folder.path()),
        &mut gix_features::progress::Discard,
        &AtomicBool::new(false),
        None::<gix_odb::Handle>,
        Sha1,
        options,
    );
    Some(fs::read(outcome.ok()?.index_path?).unwrap())
}

/// All three take the pack, write the same index, and the visitor sees what it has to.
#[track_caller]
fn same(pack: &[u8]) -> Done {
    let done = ours(pack).unwrap();
    assert!(done.pack == pack, "the pack has changed");
    assert!(git_index(pack).unwrap() == done.index, "git writes another index");
    assert!(gix_index(pack).unwrap() == done.index, "gix-pack writes another index");
    let mut seen: Vec<ObjectId> = done.seen.iter().map(|(_, id, _)| *id).collect();
    seen.sort();
    let table = &done.table;
    let structures = table.order.iter().filter(|entry| {
        kind_of(table.found.kinds[**entry as usize]).is_some_and(|kind| kind != Kind::Blob)
    });
    let expected: Vec<ObjectId> =
        structures.map(|entry| table.found.id(*entry).to_owned()).collect();
    assert!(seen == expected, "the visitor saw {} of {}", seen.len(), expected.len());
    done
}

/// Runs git in a folder, with nothing of the machine's configuration.
fn git(folder: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("git");
    command.current_dir(folder).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    for who in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{who}_NAME"), "T")
            .env(format!("GIT_{who}_EMAIL"), "t@example.com");
        command.env(format!("GIT_{who}_DATE"), "1700000000 +0000");
    }
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "git {arguments:?}");
    output.stdout
}

/// A small generator (xorshift), so that a failure can be repeated.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    fn lines(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| format!("line {:x}\n", self.next() % 5000)).collect()
    }
}

/// A repository with a history of files that change a little each time, folders and tags.
fn repository(folder: &Path, commits: usize) {
    git(folder, &["init", "-q", "-b", "main", "."], b"");
    let mut noise = Noise(42);
    let mut files: Vec<Vec<String>> = (0..20).map(|_| noise.lines(150)).collect();
    let mut stream = Vec::new();
    for commit in 0..commits {
        let who = format!("committer T <t@example.com> {} +0000\n", 1_700_000_000 + commit);
        stream.extend_from_slice(format!("commit refs/heads/main\n{who}data 2\nm\n").as_bytes());
        for _ in 0..3 {
            let number = noise.below(files.len());
            let line = noise.below(files[number].len());
            files[number][line] = noise.lines(1).concat();
            let text = files[number].concat();
            let head = format!("M 100644 inline d{}/f{number}\ndata {}\n", number % 4, text.len());
            stream.extend_from_slice(head.as_bytes());
            stream.extend_from_slice(text.as_bytes());
            stream.push(b'\n');
        }
        if commit % 10 == 0 {
            let tagger = who.replace("committer", "tagger");
            let tag = format!("tag v{commit}\nfrom refs/heads/main\n{tagger}data 2\nt\n");
            stream.extend_from_slice(tag.as_bytes());
        }
    }
    git(folder, &["fast-import", "--quiet"], &stream);
}

fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn blob_id(data: &[u8]) -> ObjectId {
    gix_object::compute_hash(Sha1, Kind::Blob, data).unwrap()
}

const BLOB: u8 = 3;
const OFS_DELTA: u8 = 6;
const REF_DELTA: u8 = 7;

/// A pack made by hand.
struct Pack {
    objects: u32,
    bytes: Vec<u8>,
}

impl Pack {
    fn new() -> Self {
        Self { objects: 0, bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec() }
    }

    /// Adds an entry, and says where it begins.
    fn entry(&mut self, kind: u8, size: usize, base: &[u8], deflated: &[u8]) -> u64 {
        let start = self.bytes.len() as u64;
        let mut byte = (kind << 4) | (size & 15) as u8;
        let mut rest = size >> 4;
        while rest > 0 {
            self.bytes.push(byte | 0x80);
            byte = (rest & 0x7f) as u8;
            rest >>= 7;
        }
        self.bytes.push(byte);
        self.bytes.extend_from_slice(base);
        self.bytes.extend_from_slice(deflated);
        self.objects += 1;
        start
    }

    fn blob(&mut self, data: &[u8]) -> u64 {
        self.entry(BLOB, data.len(), b"", &deflate(data))
    }

    fn ref_delta(&mut self, base: &ObjectId, delta: &[u8]) -> u64 {
        self.entry(REF_DELTA, delta.len(), base.as_slice(), &deflate(delta))
    }

    fn ofs_delta(&mut self, base: u64, delta: &[u8]) -> u64 {
        let mut distance = self.bytes.len() as u64 - base;
        let mut bytes = vec![(distance & 0x7f) as u8];
        loop {
            distance >>= 7;
            if distance == 0 {
                break;
            }
            distance -= 1;
            bytes.insert(0, (distance & 0x7f) as u8 | 0x80);
        }
        self.entry(OFS_DELTA, delta.len(), &bytes, &deflate(delta))
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes[8..12].copy_from_slice(&self.objects.to_be_bytes());
        seal(&mut self.bytes);
        self.bytes
    }
}

/// Puts the right checksum behind a pack.
fn seal(pack: &mut Vec<u8>) {
    let mut hasher = gix_hash::hasher(Sha1);
    hasher.update(pack);
    pack.extend_from_slice(hasher.try_finalize().unwrap().as_slice());
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while number > 0x7f {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

/// A delta that keeps the first `kept` bytes of its base and adds some.
fn delta(base: usize, kept: usize, added: &[u8]) -> Vec<u8> {
    let mut out = [varint(base), varint(kept + added.len())].concat();
    let mut from = 0;
    while from < kept {
        let length = (kept - from).min(0x00ff_ffff);
        out.push(0xff);
        out.extend_from_slice(&(from as u32).to_le_bytes());
        out.extend_from_slice(&(length as u32).to_le_bytes()[..3]);
        from += length;
    }
    for piece in added.chunks(127) {
        out.push(piece.len() as u8);
        out.extend_from_slice(piece);
    }
    out
}
