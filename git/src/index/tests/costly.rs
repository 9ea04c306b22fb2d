//! Packs that would cost more than their size shows, and work that nobody waits for any more.

use std::collections::HashSet;

use super::{
    spill::{Base, Out, Pages},
    *,
};
use crate::check::{closure::Closure, fsck::Fsck};

/// A base and a chain of deltas on it, each of which has about `added` bytes.
fn chain(deltas: u8, added: usize, by_id: bool) -> Vec<u8> {
    let mut noise = Noise(11);
    let mut content = noise.bytes(100);
    let mut pack = Pack::new();
    let mut place = pack.blob(&content);
    for _ in 0..deltas {
        let new = noise.bytes(added);
        let change = delta(content.len(), 0, &new);
        place = if by_id {
            pack.ref_delta(&blob_id(&content), &change)
        } else {
            pack.ofs_delta(place, &change)
        };
        content = new;
    }
    pack.finish()
}

fn outcome(pack: &[u8], limits: &Limits) -> Result<(), Violation> {
    let store = tempfile::tempdir().unwrap();
    match ours_with(pack, store.path(), limits.clone(), 1 << 16) {
        Ok(_) => Ok(()),
        Err(Error::Violation(violation)) => Err(violation),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_deltas_of_a_chain_have_a_limit_together() {
    let limits = Limits { object_bytes: 1000, ..Limits::default() };
    for by_id in [false, true] {
        assert_eq!(outcome(&chain(2, 900, by_id), &limits), Ok(()));
        assert_eq!(outcome(&chain(3, 900, by_id), &limits), Err(Violation::DeltaBytes(2000)));
    }
}

#[test]
fn chains_by_id_have_the_depth_of_others() {
    let limits = Limits { delta_depth: 5, ..Limits::default() };
    for by_id in [false, true] {
        assert_eq!(outcome(&chain(5, 20, by_id), &limits), Ok(()));
        assert_eq!(outcome(&chain(6, 20, by_id), &limits), Err(Violation::DeltaDepth(5)));
    }
}

/// A few bytes ask for 60 KB of a store.
fn thin() -> (tempfile::TempDir, Vec<u8>) {
    let store = tempfile::tempdir().unwrap();
    git(store.path(), &["init", "-q", "--bare", "."], b"");
    let mut noise = Noise(13);
    let mut pack = Pack::new();
    for _ in 0..3 {
        let base = noise.bytes(20_000);
        git(store.path(), &["hash-object", "-w", "--stdin"], &base);
        pack.ref_delta(&blob_id(&base), &delta(base.len(), 10, b"x"));
    }
    (store, pack.finish())
}

#[test]
fn bases_that_a_thin_pack_asks_for_count() {
    let (store, pack) = thin();
    let outcome =
        |limits: Limits| ours_with(&pack, &store.path().join("objects"), limits, 1 << 16).map(drop);
    assert!(outcome(Limits::default()).is_ok());
    let refused = outcome(Limits { resolved_bytes: 50_000, ..Limits::default() });
    assert!(matches!(refused, Err(Error::Violation(Violation::ResolvedBytes(50_000)))));
    let refused = outcome(Limits { pack_bytes: 50_000, ..Limits::default() });
    assert!(matches!(refused, Err(Error::Violation(Violation::PackBytes(50_000)))));
}

/// A target whose flag is set.
fn interrupted<T>(look: impl FnOnce(&Target<'_>) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let (limits, interrupt) = (generous(), AtomicBool::new(true));
    let path = folder.path();
    look(&Target { packs: path, store: path, hash: Sha1, limits: &limits, interrupt: &interrupt })
}

#[test]
fn nothing_is_completed_for_nobody() {
    let file = tempfile::tempfile().unwrap();
    let mut entries =
        Entries { layout: entry::Layout::default(), found: Found::new(Sha1), refs: Vec::new() };
    entries.refs.push(entry::RefDelta { base: blob_id(b"base"), entry: 0 });
    interrupted(|target| {
        let completed = thin::complete(&file, &mut entries, target, 0);
        assert!(matches!(completed, Err(Error::Interrupted)));
        let sealed = thin::seal(&file, &entries, target);
        assert!(matches!(sealed, Err(Error::Interrupted)));
        let base = Base::Memory(vec![0; 10]);
        let change = &delta(10, 5, b"")[2..];
        let applied =
            spill::apply(&base, &mut Pages::default(), change, Out::memory(5, None), target);
        assert!(matches!(applied, Err(Error::Interrupted)));
    });
}

#[test]
fn links_are_not_followed_for_nobody() {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "-q", "--bare", "."], b"");
    let store = open(&folder.path().join("objects"), Sha1).unwrap();
    let table = Table::new(Found::new(Sha1), Vec::new());
    let shallow = HashSet::new();
    for set in [false, true] {
        let interrupt = AtomicBool::new(set);
        let closure =
            Closure::<20>::new(&shallow, 1, &Fsck::Record, &Limits::default(), &interrupt);
        let tree = [b"100644 a\0".as_slice(), &[7; 20]].concat();
        let id = gix_object::compute_hash(Sha1, Kind::Tree, &tree).unwrap();
        closure.inspector(store.clone()).visit(Kind::Tree, &tree, &id);
        let findings = closure.finish(&table, &store);
        assert_eq!(findings.map(|found| found.missing.is_some()), (!set).then_some(true));
    }
}

#[test]
fn an_empty_pack_waits_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, receiver) = mpsc::channel(4);
    sender.blocking_send(Chunk::Data(Bytes::from(Pack::new().finish()))).unwrap();
    sender.blocking_send(Chunk::End).unwrap();
    let mut reader = PackReader::new(receiver, generous(), Sha1, Arc::new(Counters::default()));
    reader.declared_objects().unwrap();
    let (limits, interrupt) = (generous(), AtomicBool::new(false));
    let path = folder.path();
    let target =
        Target { packs: path, store: path, hash: Sha1, limits: &limits, interrupt: &interrupt };
    let resolving = || panic!("it waits");
    assert!(matches!(receive(&mut reader, &target, Seen::default(), resolving), Ok(None)));
}

/// Two bytes by turns, of pages that push each other out.
#[test]
fn a_delta_that_reads_the_same_again_and_again() {
    const PLACES: [u32; 2] = [0, 8 << 20];
    let file = tempfile::tempfile().unwrap();
    file.set_len((8 << 20) + 1).unwrap();
    let base = Base::Disk(file, (8 << 20) + 1);
    let apply = |copies: usize| {
        let change: Vec<u8> = (0..copies)
            .flat_map(|copy| {
                let from = PLACES[copy % 2].to_le_bytes();
                [0x9f, from[0], from[1], from[2], from[3], 1]
            })
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let (limits, interrupt) = (generous(), AtomicBool::new(false));
        let path = folder.path();
        let target =
            Target { packs: path, store: path, hash: Sha1, limits: &limits, interrupt: &interrupt };
        let out = Out::memory(copies, None);
        spill::apply(&base, &mut Pages::default(), &change[..], out, &target).map(drop)
    };
    assert!(apply(1000).is_ok());
    let refused = apply(300_000);
    assert!(matches!(refused, Err(Error::Violation(Violation::Scattered))), "{refused:?}");
}
