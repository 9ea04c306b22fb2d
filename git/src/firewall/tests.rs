use std::io::Write;

use flate2::{Compression, write::ZlibEncoder};

use super::{
    header::{OFS_DELTA, REF_DELTA},
    *,
};

/// A pack made by hand, so that it can lie.
struct Pack(Vec<u8>);

impl Pack {
    fn new(objects: u32) -> Self {
        Self([b"PACK\0\0\0\x02".as_slice(), &objects.to_be_bytes()].concat())
    }

    fn header(&mut self, kind: u8, size: u64) {
        let mut byte = (kind << 4) | (size & 15) as u8;
        let mut rest = size >> 4;
        while rest > 0 {
            self.0.push(byte | 0x80);
            byte = (rest & 0x7f) as u8;
            rest >>= 7;
        }
        self.0.push(byte);
    }

    fn entry(mut self, kind: u8, size: u64, base: &[u8], data: &[u8]) -> Self {
        self.header(kind, size);
        self.0.extend_from_slice(base);
        self.0.extend_from_slice(&deflate(data));
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 20]);
        self.0
    }
}

fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn small() -> Limits {
    Limits {
        pack_bytes: 10_000,
        objects: 5,
        object_bytes: 1000,
        inflated_bytes: 2500,
        resolved_bytes: 3000,
        resolved_ratio: 1,
        delta_depth: 2,
        wall_time: Duration::from_secs(1),
        ..Limits::default()
    }
}

/// The result must not depend on how the bytes are cut.
fn scan_with(limits: &Limits, pack: &[u8]) -> Result<bool, Violation> {
    let whole = {
        let mut scanner = Scanner::new(limits.clone());
        scanner.feed(pack).map(|()| scanner.is_done())
    };
    for size in [1, 7] {
        let mut scanner = Scanner::new(limits.clone());
        let cut =
            pack.chunks(size).try_for_each(|chunk| scanner.feed(chunk)).map(|()| scanner.is_done());
        assert_eq!(cut, whole, "in pieces of {size}");
    }
    whole
}

fn scan(pack: &[u8]) -> Result<bool, Violation> {
    scan_with(&small(), pack)
}

const BLOB: u8 = 3;

#[test]
fn good_packs_pass() {
    assert_eq!(scan(&Pack::new(0).end()), Ok(true));
    let pack = Pack::new(3)
        .entry(BLOB, 5, b"", b"hello")
        .entry(BLOB, 0, b"", b"")
        .entry(REF_DELTA, 4, &[1; 20], &[5, 1, 1, b'x'])
        .end();
    assert_eq!(scan(&pack), Ok(true));
    assert_eq!(scan(&pack[..pack.len() - 1]), Ok(false), "not done without the whole checksum");
}

#[test]
fn headers_are_checked_before_anything_is_done() {
    assert_eq!(scan(b"PICK\0\0\0\x02\0\0\0\0"), Err(Violation::NotAPack));
    assert_eq!(scan(b"PACK\0\0\0\x04\0\0\0\0"), Err(Violation::Version(4)));
    assert_eq!(
        scan(b"PACK\0\0\0\x02\xff\xff\xff\xff"),
        Err(Violation::Objects { found: u32::MAX, limit: 5 })
    );
    let mut pack = Pack::new(1);
    pack.header(BLOB, 1001);
    assert_eq!(scan(&pack.0), Err(Violation::ObjectBytes { found: 1001, limit: 1000 }));
    let mut pack = Pack::new(1);
    pack.header(5, 1);
    assert_eq!(scan(&pack.0), Err(Violation::EntryType(5)));
    let mut pack = Pack::new(1).0;
    pack.extend_from_slice(&[0xbf; 12]);
    assert_eq!(scan(&pack), Err(Violation::SizeOverflow));
}

#[test]
fn declared_sizes_must_be_true() {
    assert_eq!(
        scan(&Pack::new(1).entry(BLOB, 10, b"", &[0; 900]).end()),
        Err(Violation::TooLong(10))
    );
    assert_eq!(
        scan(&Pack::new(1).entry(BLOB, 10, b"", b"x").end()),
        Err(Violation::WrongSize { declared: 10, found: 1 })
    );
    assert_eq!(
        scan(&Pack::new(1).entry(REF_DELTA, 1, &[1; 20], &[5]).end()),
        Err(Violation::ShortDelta)
    );
}

#[test]
fn a_bomb_stops_at_its_declared_size() {
    let bomb = deflate(&vec![0; 50 << 20]);
    let mut pack = Pack::new(1);
    pack.header(BLOB, 900);
    pack.0.extend_from_slice(&bomb);
    let mut scanner = Scanner::new(Limits { pack_bytes: 1 << 20, ..small() });
    assert_eq!(scanner.feed(&pack.0), Err(Violation::TooLong(900)));
    assert!(scanner.inflated_bytes() <= 900 + (64 << 10), "{}", scanner.inflated_bytes());
}

#[test]
fn budgets_count_over_all_objects() {
    let blob = |pack: Pack| pack.entry(BLOB, 900, b"", &[0; 900]);
    let limits = Limits { inflated_bytes: 1500, ..small() };
    assert_eq!(
        scan_with(&limits, &blob(blob(Pack::new(2))).end()),
        Err(Violation::InflatedBytes(1500))
    );
    let limits = Limits { resolved_bytes: 1500, ..small() };
    assert_eq!(
        scan_with(&limits, &blob(blob(Pack::new(2))).end()),
        Err(Violation::ResolvedBytes(1500))
    );
    let limits = Limits { pack_bytes: 20, ..small() };
    assert_eq!(scan_with(&limits, &blob(Pack::new(1)).end()), Err(Violation::PackBytes(20)));
}

#[test]
fn what_may_be_kept_bounds_a_pack_that_brings_something() {
    let with = |bytes| {
        let room = Room { bytes, quota: "upload", sentence: "there is room for less".into() };
        Limits { room: Some(room), ..small() }
    };
    let pack = Pack::new(1).entry(BLOB, 5, &[], b"hello").end();
    let fits = pack.len() as u64;
    assert_eq!(scan_with(&with(fits), &pack), Ok(true));
    let refused = scan_with(&with(fits - 1), &pack).unwrap_err();
    assert_eq!(
        (refused.to_string().as_str(), refused.limit()),
        ("there is room for less", Some("upload"))
    );
    // A ref to what is there already comes with a pack of nothing.
    assert_eq!(scan_with(&with(0), &Pack::new(0).end()), Ok(true));
}

#[test]
fn small_deltas_with_large_results_are_counted() {
    // A delta that says it makes 1001 bytes of a base of 5.
    let pack = Pack::new(1).entry(REF_DELTA, 3, &[1; 20], &[5, 0xe9, 7]).end();
    assert_eq!(scan(&pack), Err(Violation::ObjectBytes { found: 1001, limit: 1000 }));
    // 600 deltas of 2 MiB each in a few KB.
    let limits = Limits {
        objects: 1000,
        object_bytes: 4 << 20,
        resolved_bytes: u64::MAX,
        pack_bytes: 1 << 20,
        inflated_bytes: 1 << 20,
        ..small()
    };
    let mut pack = Pack::new(600);
    for _ in 0..600 {
        pack = pack.entry(REF_DELTA, 5, &[1; 20], &[5, 0x80, 0x80, 0x80, 1]);
    }
    assert_eq!(scan_with(&limits, &pack.end()), Err(Violation::ResolvedRatio(1)));
}

#[test]
fn delta_chains_are_bounded_and_bases_exist() {
    let delta = [5, 1, 1, b'x'];
    let length = 2 + deflate(&delta).len() as u8;
    let first = 1 + deflate(b"hello").len() as u8;
    let chain = |count: u32| {
        let mut pack = Pack::new(count + 1).entry(BLOB, 5, b"", b"hello");
        for at in 0..count {
            pack = pack.entry(OFS_DELTA, 4, &[if at == 0 { first } else { length }], &delta);
        }
        pack.end()
    };
    assert_eq!(scan(&chain(2)), Ok(true));
    assert_eq!(scan(&chain(3)), Err(Violation::DeltaDepth(2)));
    let lost = Pack::new(2).entry(BLOB, 5, b"", b"hello").entry(OFS_DELTA, 4, &[first - 1], &delta);
    assert_eq!(scan(&lost.end()), Err(Violation::BadBase));
    let before = Pack::new(1).entry(OFS_DELTA, 4, &[100], &delta);
    assert_eq!(scan(&before.end()), Err(Violation::BadBase));
    let itself = Pack::new(1).entry(OFS_DELTA, 4, &[0], &delta);
    assert_eq!(scan(&itself.end()), Err(Violation::BadBase));
}

#[test]
fn junk_damage_and_padding_are_found() {
    let mut pack = Pack::new(1).entry(BLOB, 5, b"", b"hello").end();
    pack.push(0);
    assert_eq!(scan(&pack), Err(Violation::TrailingJunk));
    let mut pack = Pack::new(1);
    pack.header(BLOB, 5);
    pack.0.extend_from_slice(&[0xff; 30]);
    assert_eq!(scan(&pack.0), Err(Violation::Deflate));
    // A deflate stream of empty stored blocks never says anything and never ends.
    let mut pack = Pack::new(1);
    pack.header(BLOB, 5);
    pack.0.extend_from_slice(&[0x78, 0x01]);
    for _ in 0..20_000 {
        pack.0.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
    }
    let limits = Limits { pack_bytes: 1 << 20, ..small() };
    assert_eq!(scan_with(&limits, &pack.0), Err(Violation::Padded));
}

#[test]
fn sizes_read_well() {
    let text = [0, 999, 1024, 1536, 128 << 20, 4 << 30].map(|size| Size(size).to_string());
    assert_eq!(text, ["0 bytes", "999 bytes", "1 KiB", "1.5 KiB", "128 MiB", "4 GiB"]);
}

/// A small generator (xorshift), so that a failure can be repeated.
fn noise(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[test]
fn damaged_packs_never_break_the_scanner() {
    let good = Pack::new(3)
        .entry(BLOB, 5, b"", b"hello")
        .entry(BLOB, 300, b"", &[b'x'; 300])
        .entry(REF_DELTA, 4, &[1; 20], &[5, 1, 1, b'x'])
        .end();
    assert_eq!(scan(&good), Ok(true));
    let mut seed = 0x5eed;
    for _ in 0..5000 {
        let mut bad = good.clone();
        for _ in 0..=noise(&mut seed) % 4 {
            let at = noise(&mut seed) as usize % bad.len();
            bad[at] = noise(&mut seed) as u8;
        }
        bad.truncate(noise(&mut seed) as usize % (bad.len() + 1));
        // The reason may depend on how the bytes are cut, the verdict may not.
        let verdict = |size: usize| {
            let mut scanner = Scanner::new(small());
            let fed = bad.chunks(size).try_for_each(|chunk| scanner.feed(chunk));
            fed.map(|()| scanner.is_done()).ok()
        };
        assert_eq!(verdict(1), verdict(usize::MAX), "{bad:?}");
    }
}
