//! Good packs: the same index as two others write, and a thin pack that git finds complete.

use super::*;

#[test]
fn packs_that_git_makes() {
    let folder = tempfile::tempdir().unwrap();
    repository(folder.path(), 400);
    let all = ["pack-objects", "--all", "--stdout", "-q"];
    for more in [&["--delta-base-offset"][..], &[], &["--depth=1"], &["--window=0"]] {
        let pack = git(folder.path(), &[&all[..], more].concat(), b"");
        let done = same(&pack);
        assert!(done.table.order.len() > 1500, "{}", done.table.order.len());
        assert!(done.seen.iter().any(|(kind, ..)| *kind == Kind::Tag));
    }
}

#[test]
fn the_pack_of_this_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let inside = Command::new("git").arg("-C").arg(&root).args(["rev-parse", "HEAD"]).output();
    // The sources may also come without their history.
    if inside.is_ok_and(|inside| inside.status.success()) {
        same(&git(&root, &["pack-objects", "--all", "--stdout", "-q", "--delta-base-offset"], b""));
    }
}

#[test]
fn however_the_bytes_arrive() {
    let folder = tempfile::tempdir().unwrap();
    repository(folder.path(), 5);
    let pack = git(folder.path(), &["pack-objects", "--all", "--stdout", "-q"], b"");
    let expected = same(&pack).index;
    for piece in [1, 7, 100] {
        let done = ours_with(&pack, folder.path(), generous(), piece).unwrap();
        assert_eq!(done.index, expected, "in pieces of {piece}");
    }
}

/// Bases that come later, bases that are deltas themselves, the same object twice.
#[test]
fn deltas_by_id_in_any_order() {
    let mut noise = Noise(7);
    for _ in 0..20 {
        let mut contents = vec![noise.bytes(200)];
        let mut entries = Vec::new();
        for _ in 0..60 {
            let base = &contents[noise.below(contents.len())];
            let (kept, added) = (noise.below(base.len()), noise.bytes(20));
            entries.push((blob_id(base), delta(base.len(), kept, &added)));
            let content = [&base[..kept], &added].concat();
            contents.push(content);
        }
        for at in (1..entries.len()).rev() {
            entries.swap(at, noise.below(at + 1));
        }
        let mut pack = Pack::new();
        let root = noise.below(entries.len());
        for (at, (base, delta)) in entries.iter().enumerate() {
            if at == root {
                pack.blob(&contents[0]);
            }
            pack.ref_delta(base, delta);
        }
        same(&pack.finish());
    }
}

#[test]
fn the_same_object_more_than_once() {
    let mut pack = Pack::new();
    let base = b"the base of it all".to_vec();
    let first = pack.blob(&base);
    pack.blob(&base);
    let change = delta(base.len(), 8, b"!");
    pack.ofs_delta(first, &change);
    pack.ofs_delta(first, &change);
    pack.blob(b"the base!");
    let pack = pack.finish();
    let done = ours(&pack).unwrap();
    // In gix-pack their order is another.
    assert!(git_index(&pack).unwrap() == done.index);
    assert_eq!(done.table.order.len(), 5);
}

#[test]
fn chains_as_long_as_you_like() {
    let start = b"x".repeat(50);
    let mut pack = Pack::new();
    let mut base = pack.blob(&start);
    for number in 0..70_000_u32 {
        base = pack
            .ofs_delta(base, &delta(if number == 0 { 50 } else { 54 }, 50, &number.to_be_bytes()));
    }
    // Here gix-pack counts beyond what it can.
    let pack = pack.finish();
    assert!(git_index(&pack).unwrap() == ours(&pack).unwrap().index);
    // By id and back to front, so that none is known before the one behind it.
    let mut contents = vec![start];
    for number in 0..3000_u32 {
        let last = contents.last().unwrap();
        contents.push([&last[..50], &number.to_be_bytes()].concat());
    }
    let mut pack = Pack::new();
    for pair in contents.windows(2).rev() {
        pack.ref_delta(&blob_id(&pair[0]), &delta(pair[0].len(), 50, &pair[1][50..]));
    }
    pack.blob(&contents[0]);
    same(&pack.finish());
}

#[test]
fn an_empty_pack_is_nothing() {
    assert!(matches!(ours(&Pack::new().finish()), Err(Error::Pack(text)) if text == "empty"));
}

#[test]
fn a_thin_pack_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    repository(folder.path(), 120);
    let past = tempfile::tempdir().unwrap();
    git(past.path(), &["init", "-q", "--bare", "."], b"");
    let (from, to) = ("v50", past.path().to_str().unwrap());
    git(folder.path(), &["push", "-q", to, &format!("{from}^{{commit}}:refs/heads/main")], b"");
    let wanted = format!("main\nv110\n^{from}\n");
    for more in [&["--delta-base-offset"][..], &[]] {
        let arguments = ["pack-objects", "--revs", "--thin", "--stdout", "-q"];
        let thin = git(folder.path(), &[&arguments[..], more].concat(), wanted.as_bytes());
        assert!(git_index(&thin).is_none(), "the pack is not thin");
        let store = past.path().join("objects");
        let done = ours_with(&thin, &store, generous(), 1 << 16).unwrap();
        assert!(done.pack.len() > thin.len());
        assert_eq!(git_index(&done.pack), Some(done.index), "the completed pack");
        let elsewhere = tempfile::tempdir().unwrap();
        let refused = ours_with(&thin, elsewhere.path(), generous(), 1 << 16);
        assert!(matches!(refused, Err(Error::Pack(_))));
    }
}

/// Packs beyond 2 GiB have a table of large offsets.
#[test]
fn offsets_beyond_31_bits() {
    let places = [12, (1 << 31) - 1, 1 << 31, 5 << 32, 7 << 40];
    let mut entries =
        Entries { layout: entry::Layout::default(), found: Found::new(Sha1), refs: Vec::new() };
    for place in places {
        entries.layout.offsets.push(place);
        entries.layout.crcs.push(place as u32 ^ 7);
        entries.found.push(BLOB, entry::NONE);
        let entry = entries.found.kinds.len() as u32 - 1;
        entries.found.set_id(entry, &blob_id(&place.to_be_bytes()));
    }
    let order = entries.found.sorted();
    let mut index = Vec::new();
    write::index(&mut index, &entries, &order, &blob_id(b"pack")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let shown =
        String::from_utf8(git(folder.path(), &["show-index", "--object-format=sha1"], &index))
            .unwrap();
    let expected: Vec<String> = order
        .iter()
        .map(|entry| {
            let place = places[*entry as usize];
            format!("{place} {} ({:08x})", entries.found.id(*entry), place as u32 ^ 7)
        })
        .collect();
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    let path = folder.path().join("a.idx");
    fs::write(&path, &index).unwrap();
    let read = gix_pack::index::File::at(&path, Sha1).unwrap();
    read.verify_checksum(&mut gix_features::progress::Discard, &AtomicBool::new(false)).unwrap();
    for place in places {
        let at = read.lookup(blob_id(&place.to_be_bytes())).unwrap();
        assert_eq!(read.pack_offset_at_index(at), place);
    }
}
