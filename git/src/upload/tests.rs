//! What real clients do not show: when work stops, what it may take, and where walks end.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    sync::{Arc, atomic::AtomicBool},
};

use gix_hash::{Kind::Sha1, ObjectId};
use gix_object::Kind;

use super::{
    Error,
    connected::{Connected, Known},
    count::{Goal, count},
    exchange::Exchange,
    filter::Filter,
    graph::{Graph, mark},
    negotiate,
    objects::Collected,
    pack, policy,
    request::Fetch,
    store::{PlaceSet, Store},
    view::View,
};
use crate::{
    Ref,
    remote::{FetchPolicy, Wants},
};

/// A bare repository.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.git(&["init", "-q", "--bare", "-b", "main", "."], b"");
        folder
    }

    fn git(&self, arguments: &[&str], input: &[u8]) -> String {
        let mut child = Command::new("git")
            .current_dir(self.0.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "git {arguments:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn id(&self, revision: &str) -> ObjectId {
        ObjectId::from_hex(self.git(&["rev-parse", revision], b"").as_bytes()).unwrap()
    }

    fn objects(&self) -> std::path::PathBuf {
        self.0.path().join("objects")
    }

    fn store(&self) -> Store {
        Store::open(&self.objects(), Sha1).unwrap()
    }

    /// Empty commits on a branch, a second apart, the last of them at `end`.
    fn commits(&self, branch: &str, count: u64, end: u64) {
        let commits: Vec<String> = (1..=count)
            .map(|number| {
                let date = end + number - count;
                let who = format!("committer T <t@example.com> {date} +0000");
                format!("commit refs/heads/{branch}\n{who}\ndata 2\nm\n")
            })
            .collect();
        self.git(&["fast-import", "--quiet"], commits.concat().as_bytes());
    }

    fn view(&self) -> View {
        let refs = self.git(&["for-each-ref", "--format=%(objectname) %(refname)"], b"");
        let read = |line: &str| {
            let (id, name) = line.split_once(' ').unwrap();
            Ref { name: name.into(), id: ObjectId::from_hex(id.as_bytes()).unwrap() }
        };
        View {
            refs: refs.lines().map(read).collect(),
            head: None,
            shallow: Vec::new(),
            objects: self.objects(),
            hash: Sha1,
            policy: FetchPolicy::default(),
            hidden_tips: std::collections::HashSet::default(),
        }
    }
}

#[test]
fn what_is_read_whole_has_a_limit() {
    let folder = Folder::new();
    let lines: Vec<String> = (0..4000).map(|line| format!("line {line}\n")).collect();
    let large = lines.concat();
    let id = folder.git(&["hash-object", "-w", "--stdin"], large.as_bytes());
    let other = format!("{large}and one more\n");
    let other = folder.git(&["hash-object", "-w", "--stdin"], other.as_bytes());
    let read = |id: &str, allocation: usize| {
        let mut store = Store::with_allocation(&folder.objects(), Sha1, allocation).unwrap();
        let place = store.place(&ObjectId::from_hex(id.as_bytes()).unwrap()).unwrap();
        store.read(place, &mut Vec::new()).map(drop)
    };
    let check = || {
        for id in [&id, &other] {
            assert!(read(id, 1 << 20).is_ok());
            assert!(read(id, large.len() / 2).is_err());
        }
    };
    check();
    let list = format!("{id}\n{other}\n");
    folder.git(&["pack-objects", "-q", "objects/pack/pack"], list.as_bytes());
    folder.git(&["prune-packed", "-q"], b"");
    assert!(!folder.objects().join(&id[..2]).exists(), "it is in a pack now");
    check();
}

#[test]
fn no_step_goes_on_for_nobody() {
    let folder = Folder::new();
    folder.commits("main", 3, 1_700_000_000);
    let (tip, old) = (folder.id("main"), folder.id("main~2"));
    let cancel = Arc::new(AtomicBool::new(true));
    let mut store = folder.store();
    // Nothing is left to be searched for: it is the list of wants that ends.
    let refused = policy::refused(&mut store, &[], &[tip], &[tip], Wants::Tips, &cancel);
    assert!(matches!(refused, Err(Error::Cancelled)));
    let view = folder.view();
    for request in [
        Fetch { want_refs: vec!["refs/heads/main".into()], ..Fetch::default() },
        Fetch { shallow: vec![old], ..Fetch::default() },
    ] {
        let opened = Exchange::open(&view, &request, &cancel);
        assert!(matches!(opened.err(), Some(Error::Cancelled)));
    }
    let place = store.place(&tip).unwrap();
    let goal = Goal { explicit: vec![(place, Kind::Blob)], ..Goal::default() };
    let counted = count(&mut Graph::new([]), &mut store, &goal, &Filter::default(), false, &cancel);
    assert!(matches!(counted.err(), Some(Error::Cancelled)));
    let objects = folder.objects();
    let known = Known { objects: &objects, hash: Sha1, shallow: &[], complete: &[old] };
    assert!(Connected::new(&known, &cancel).is_none());
    let mut connected = Connected::new(&known, &AtomicBool::new(false)).unwrap();
    assert!(!connected.lead_somewhere(&[tip], &cancel));
    // The same goes on afterwards.
    assert!(connected.lead_somewhere(&[tip], &AtomicBool::new(false)));
    assert!(connected.lead_somewhere(&[tip], &AtomicBool::new(false)));
}

/// Takes a pack, and notes how large its largest piece was.
#[derive(Default)]
struct Taken {
    bytes: Vec<u8>,
    largest: usize,
}

impl pack::Sink for Taken {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.largest = self.largest.max(bytes.len());
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

#[test]
fn loose_objects_pass_in_pieces() {
    let folder = Folder::new();
    let mut seed = 1_u64;
    let noise: Vec<u8> = (0..(3 << 17))
        .flat_map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_le_bytes()
        })
        .collect();
    let ids = [&noise[..], b"small", b""]
        .map(|content| folder.git(&["hash-object", "-w", "--stdin"], content));
    // Less than the largest of them has.
    let mut store = Store::with_allocation(&folder.objects(), Sha1, 1 << 20).unwrap();
    let places =
        ids.each_ref().map(|id| store.place(&ObjectId::from_hex(id.as_bytes()).unwrap()).unwrap());
    let mut write = |cancel: bool| {
        let collected = Collected { found: places.to_vec(), bases: PlaceSet::default() };
        let mut taken = Taken::default();
        pack::write(&mut store, collected, true, &mut taken, &AtomicBool::new(cancel))
            .map(|_| taken)
    };
    let taken = write(false).unwrap();
    assert!(taken.largest <= 1 << 20, "{}", taken.largest);
    assert!(matches!(write(true).err(), Some(Error::Cancelled)));
    let other = Folder::new();
    other.git(&["index-pack", "--stdin", "--strict"], &taken.bytes);
    for id in &ids {
        other.git(&["cat-file", "-e", id], b"");
    }
    // It says another size than it has.
    let path = folder.objects().join(&ids[1][..2]).join(&ids[1][2..]);
    std::fs::remove_file(&path).unwrap();
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"blob 3\0small").unwrap();
    std::fs::write(&path, encoder.finish().unwrap()).unwrap();
    assert!(matches!(write(false).err(), Some(Error::Internal(_))));
}

#[test]
fn ends_of_entries_are_found_piece_by_piece() {
    let folder = Folder::new();
    let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let ids: Vec<String> = [&large[..], b"small", b"", &large[..large.len() / 2]]
        .iter()
        .map(|content| folder.git(&["hash-object", "-w", "--stdin"], content))
        .collect();
    folder.git(&["pack-objects", "-q", "objects/pack/pack"], (ids.join("\n") + "\n").as_bytes());
    let store = folder.store();
    let stored = &store.packs()[0];
    let mut offsets: Vec<u64> =
        (0..4).map(|position| stored.index.pack_offset_at_index(position)).collect();
    offsets.sort_unstable();
    offsets.push(stored.data.pack_end() as u64);
    let mut ends = pack::Ends::default();
    for pair in offsets.windows(2) {
        let entry = stored.data.entry(pair[0]).unwrap();
        assert_eq!(ends.find(stored, &entry, &AtomicBool::new(false)).unwrap(), pair[1]);
        let stopped = ends.find(stored, &entry, &AtomicBool::new(true));
        assert!(matches!(stopped, Err(Error::Cancelled)));
        let lying = gix_pack::data::Entry { decompressed_size: 3, ..entry };
        assert!(ends.find(stored, &lying, &AtomicBool::new(false)).is_err());
    }
}

#[test]
fn a_want_that_meets_nothing_is_not_followed_to_the_beginning() {
    const END: u64 = 1_700_000_000;
    let folder = Folder::new();
    folder.commits("main", 500, END);
    folder.commits("apart", 1, END - 10);
    let mut store = folder.store();
    let cancel = AtomicBool::new(false);
    let mut enough = |have: &str| {
        let mut graph = Graph::new([]);
        let want = graph.find(&mut store, &folder.id("main")).unwrap().unwrap();
        let have = graph.find(&mut store, &folder.id(have)).unwrap().unwrap();
        graph.set(have, mark::THEIRS);
        let found = negotiate::enough(&mut graph, &mut store, &[want], &[have], &cancel).unwrap();
        (found, graph.len())
    };
    let (found, met) = enough("apart");
    assert!(!found && met < 20, "{met} commits");
    let (found, met) = enough("main~300");
    assert!(found && met >= 300, "{met} commits");
}
