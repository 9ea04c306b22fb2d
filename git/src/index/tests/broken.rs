//! Packs that are no good: whatever git refuses we refuse, and nothing panics.

use super::*;

#[track_caller]
fn refused(pack: Pack) {
    let pack = pack.finish();
    assert!(git_index(&pack).is_none(), "git takes it");
    match ours(&pack) {
        Err(Error::Pack(_) | Error::Violation(_)) => {}
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was taken"),
    }
}

#[test]
fn bases_that_are_nowhere() {
    let mut pack = Pack::new();
    pack.blob(b"hello");
    pack.ref_delta(&blob_id(b"other"), &delta(5, 4, b"x"));
    refused(pack);
    // Two that stand on each other.
    let (a, b) = (blob_id(b"hella"), blob_id(b"hellb"));
    let mut pack = Pack::new();
    pack.ref_delta(&b, &delta(5, 4, b"a"));
    pack.ref_delta(&a, &delta(5, 4, b"b"));
    refused(pack);
    // A delta on itself.
    let mut pack = Pack::new();
    pack.ref_delta(&a, &delta(5, 4, b"a"));
    refused(pack);
    // Into the middle of an entry.
    let mut pack = Pack::new();
    let place = pack.blob(b"hello");
    pack.ofs_delta(place + 1, &delta(5, 4, b"x"));
    refused(pack);
}

/// Git finds such a delta resolved already when it comes to the second.
#[test]
fn bases_that_are_there_twice() {
    let (base, change) = (blob_id(b"hello"), delta(5, 4, b"x"));
    let mut pack = Pack::new();
    pack.blob(b"hello");
    pack.blob(b"hello");
    pack.ref_delta(&base, &change);
    refused(pack);
    // The second is a delta itself.
    let mut pack = Pack::new();
    pack.blob(b"hello");
    pack.ref_delta(&base, &change);
    let other = pack.blob(b"hell");
    pack.ofs_delta(other, &delta(4, 4, b"o"));
    refused(pack);
}

#[test]
fn deltas_that_do_not_apply() {
    for bad in [
        &[5, 0][..],
        &[5, 1, 1],
        &[6, 2, 1, b'x', 1, b'y'],
        &[5, 3, 1, b'x', 1, b'y'],
        &[5, 1, 1, b'x', 1, b'y'],
        &[5, 2, 0, 1, b'x'],
        &[5, 6, 0x90, 6],
        &[5, 2, 0x91, 4, 2],
        &[5, 2, 3, b'x', b'y'],
    ] {
        let mut pack = Pack::new();
        let place = pack.blob(b"hello");
        pack.ofs_delta(place, bad);
        refused(pack);
    }
}

/// Hundreds of packs with a few bytes changed, cut off, or grown; half of them with a checksum that
/// is right again, so that the damage has to be found where it is.
#[test]
fn damaged_packs() {
    let folder = tempfile::tempdir().unwrap();
    repository(folder.path(), 6);
    let by_place = git(
        folder.path(),
        &["pack-objects", "--all", "--stdout", "-q", "--delta-base-offset"],
        b"",
    );
    let by_id = git(folder.path(), &["pack-objects", "--all", "--stdout", "-q"], b"");
    let mut noise = Noise(0x5eed);
    let mut taken = 0;
    for round in 0..400 {
        let made = odd(&mut noise);
        let good = [&by_place, &by_id, &made][round % 3];
        let mut bad = good[..good.len() - 20].to_vec();
        // What was made by hand is odd already, and often taken as it is.
        for _ in 0..noise.below(3).max(usize::from(round % 3 != 2)) {
            let at = noise.below(bad.len());
            match noise.below(4) {
                0 => bad[at] = noise.next() as u8,
                1 => bad[at] ^= 1 << noise.below(8),
                2 => bad.truncate(at.max(12)),
                _ => bad.insert(at, noise.next() as u8),
            }
        }
        if noise.below(8) == 0 {
            // The announced number of objects.
            bad[11] = bad[11].wrapping_add(1);
        }
        if noise.below(4) > 0 {
            seal(&mut bad);
        } else {
            bad.extend_from_slice(&good[good.len() - 20..]);
        }
        let (ours, git, gix) = (ours(&bad), git_index(&bad), gix_index(&bad));
        match ours {
            Ok(done) => {
                taken += 1;
                assert_eq!(Some(&done.index), git.as_ref(), "round {round}: git");
                assert_eq!(Some(&done.index), gix.as_ref(), "round {round}: gix-pack");
            }
            // It would be nothing to write for us.
            Err(Error::Pack(text)) if text == "empty" => {}
            Err(Error::Pack(_) | Error::Violation(_)) => {
                assert!(git.is_none(), "round {round}: git takes what we refuse");
            }
            Err(error) => panic!("round {round}: {error}"),
        }
    }
    assert!(taken > 20, "hardly any damage is harmless: {taken}");
}

/// A pack of deltas of which some bytes are arbitrary.
fn odd(noise: &mut Noise) -> Vec<u8> {
    let mut contents = vec![b"some text that repeats itself, text that repeats".to_vec()];
    let mut pack = Pack::new();
    let mut places = vec![pack.blob(&contents[0])];
    for _ in 0..8 {
        let at = noise.below(contents.len());
        let base = contents[at].clone();
        let (kept, added) = (noise.below(base.len()), noise.bytes(5));
        let mut change = delta(base.len(), kept, &added);
        if noise.below(20) == 0 {
            let at = noise.below(change.len());
            change[at] = noise.next() as u8;
        }
        let place = match noise.below(2) {
            0 => pack.ofs_delta(places[at], &change),
            _ => pack.ref_delta(&blob_id(&base), &change),
        };
        places.push(place);
        contents.push([&base[..kept], &added].concat());
    }
    pack.finish()
}

#[test]
fn work_stops_when_nobody_waits_for_it() {
    let mut pack = Pack::new();
    let place = pack.blob(b"hello");
    pack.ofs_delta(place, &delta(5, 4, b"x"));
    let pack = pack.finish();
    let packs = tempfile::tempdir().unwrap();
    let (sender, receiver) = mpsc::channel(4);
    sender.blocking_send(Chunk::Data(Bytes::from(pack))).unwrap();
    sender.blocking_send(Chunk::End).unwrap();
    let mut reader = PackReader::new(receiver, generous(), Sha1, Arc::new(Counters::default()));
    reader.declared_objects().unwrap();
    let interrupt = AtomicBool::new(true);
    let limits = generous();
    let target = Target {
        packs: packs.path(),
        store: packs.path(),
        hash: Sha1,
        limits: &limits,
        interrupt: &interrupt,
    };
    let result = receive(&mut reader, &target, Seen::default(), || ());
    assert!(matches!(result, Err(Error::Interrupted)));
    assert_eq!(fs::read_dir(packs.path()).unwrap().count(), 0);
}

#[test]
fn a_panic_is_caught() {
    let result = guarded(|| -> Result<(), Error> { panic!("{} deltas", 3) });
    assert!(matches!(result, Err(Error::Panic(text)) if text == "3 deltas"));
}
