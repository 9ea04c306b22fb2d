//! Snapshots of repositories that the real git made, read back against what git says.

#[path = "support/s3.rs"]
mod s3;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures::TryStreamExt;
use gix_hash::ObjectId;
use sluice::scan::Cancel;
use sluice::snapshot::{
    EntryKind, FRAME_MAX, FrameCache, Listed, Options, Snapshot, SnapshotError, SnapshotInfo,
    TreeLimits, write,
};
use sluice::storage::Storage;
use tokio::runtime::Handle;

struct House {
    dir: tempfile::TempDir,
    storage: Storage,
}

impl House {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}", dir.path().join("objects").display());
        let storage = Storage::open(&url).await.unwrap();
        Self::with(dir, storage)
    }

    fn with(dir: tempfile::TempDir, storage: Storage) -> Self {
        std::fs::create_dir(dir.path().join("work")).unwrap();
        let house = Self { dir, storage };
        house.git(&["init", "-q", "-b", "main"]);
        house
    }

    fn work(&self) -> std::path::PathBuf {
        self.dir.path().join("work")
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
            .args(arguments)
            .current_dir(self.work())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn put(&self, path: &str, content: &[u8]) {
        let path = self.work().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn commit(&self) -> ObjectId {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "x"]);
        self.git(&["rev-parse", "HEAD^{tree}"]).parse().unwrap()
    }

    /// Makes a tree from lines of `git ls-tree`, whatever is in them.
    fn raw_tree(&self, entries: &[(&str, &[u8], ObjectId)]) -> ObjectId {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend_from_slice(mode.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(0);
            bytes.extend_from_slice(id.as_slice());
        }
        let file = self.dir.path().join("tree");
        std::fs::write(&file, bytes).unwrap();
        let file = file.to_str().unwrap();
        self.git(&["hash-object", "-t", "tree", "-w", "--literally", file]).parse().unwrap()
    }

    async fn write_with(
        &self,
        tree: ObjectId,
        id: &str,
        previous: Option<&Snapshot>,
        options: Options,
        cancel: &Cancel,
    ) -> Result<SnapshotInfo, SnapshotError> {
        let odb = gix_odb::at(self.work().join(".git/objects"), gix_hash::Kind::Sha1)
            .unwrap()
            .into_arc()
            .unwrap();
        let (storage, previous, cancel) = (self.storage.clone(), previous.cloned(), cancel.clone());
        let (id, runtime) = (id.to_owned(), Handle::current());
        tokio::task::spawn_blocking(move || {
            let previous = previous.as_ref();
            let prefix = "snapshots/r";
            write(
                &odb,
                tree,
                &storage,
                &runtime,
                prefix,
                &id,
                previous,
                &options,
                &|_, _| {},
                &cancel,
            )
        })
        .await
        .unwrap()
    }

    async fn write(&self, tree: ObjectId, id: &str, previous: Option<&Snapshot>) -> SnapshotInfo {
        self.write_with(tree, id, previous, Options::default(), &Cancel::new()).await.unwrap()
    }

    async fn open(&self, info: &SnapshotInfo) -> Snapshot {
        Snapshot::open(&self.storage, &info.key).await.unwrap()
    }

    /// Each path of HEAD with its mode and id, as git tells them.
    fn truth(&self) -> BTreeMap<String, (String, String)> {
        self.git(&["ls-tree", "-r", "-z", "HEAD"])
            .split('\0')
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (meta, path) = line.split_once('\t').unwrap();
                let mut meta = meta.split(' ');
                let mode = meta.next().unwrap().to_owned();
                (path.to_owned(), (mode, meta.nth(1).unwrap().to_owned()))
            })
            .collect()
    }

    /// Compares the snapshot with HEAD, every byte of it.
    async fn check(&self, snapshot: &Snapshot) {
        snapshot.verify().unwrap();
        let truth = self.truth();
        let all = snapshot.all_blocking().unwrap();
        assert_eq!(all.len(), truth.len());
        let mut cache = FrameCache::default();
        for (entry, (path, (mode, id))) in all.iter().zip(&truth) {
            assert_eq!(entry.path, path.as_str());
            assert_eq!(entry.id.to_string(), *id);
            let kind = match mode.as_str() {
                "100644" => EntryKind::File,
                "100755" => EntryKind::Executable,
                "120000" => EntryKind::Symlink,
                _ => EntryKind::Submodule,
            };
            assert_eq!(entry.kind, kind, "{path}");
            assert_eq!(snapshot.entry(path.as_bytes()).await.unwrap().as_ref(), Some(entry));
            if kind != EntryKind::Submodule {
                let bytes = snapshot.read_blocking(entry, u64::MAX, &mut cache).unwrap();
                assert_eq!(bytes.len() as u64, entry.size);
                let hash =
                    gix_object::compute_hash(gix_hash::Kind::Sha1, gix_object::Kind::Blob, &bytes)
                        .unwrap();
                assert_eq!(hash, entry.id, "{path} {} {:?}", entry.size, bytes.get(..40));
            }
        }
    }
}

fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    std::iter::repeat_with(|| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 24) as u8
    })
    .take(length)
    .collect()
}

/// A tree with everything that is special.
fn fill(house: &House) {
    for n in 0..300 {
        house.put(
            &format!("src/m{}/file{n}.txt", n % 7),
            format!("content {n}\n").repeat(n).as_bytes(),
        );
    }
    house.put("empty", b"");
    house.put("copy/of/empty", b"");
    house.put("a", b"a");
    house.put("a-b/x", b"sorts before a/");
    house.put("ab", b"ab");
    house.put("large/text", "line of text\n".repeat(300_000).as_bytes());
    house.put("large/noise", &noise(3 * FRAME_MAX + 12_345, 1));
    house.put("large/exact", &noise(2 * FRAME_MAX, 2));
    house.put("large/medium", &noise(200_000, 3));
    house.put("odd/ü ' \" \t\n name", b"odd");
    house.put("run.sh", b"#!/bin/sh\n");
    house.git(&["update-index", "--add", "--chmod=+x", "run.sh"]);
    std::os::unix::fs::symlink("/etc/passwd", house.work().join("link")).unwrap();
    let submodule = "160000,0123456789012345678901234567890123456789,sub/module";
    house.git(&["update-index", "--add", "--cacheinfo", submodule]);
    house.git(&["config", "core.fileMode", "true"]);
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(house.work().join("run.sh"), mode).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_comes_back_as_git_has_it() {
    let house = House::new().await;
    fill(&house);
    let tree = house.commit();
    let info = house.write(tree, "one", None).await;
    assert_eq!(info.tree, tree.to_string());
    assert_eq!(info.file_count + info.submodules, house.truth().len() as u64);
    let snapshot = house.open(&info).await;
    assert_eq!(snapshot.digest(), info.digest);
    house.check(&snapshot).await;
    let kept: u64 = house
        .storage
        .list("snapshots/", None, 100)
        .await
        .unwrap()
        .items
        .iter()
        .map(|o| o.size)
        .sum();
    assert_eq!(kept, info.bytes_stored);

    // Packed, with deltas, by one thread: the same.
    house.git(&["gc", "-q"]);
    let options = Options { threads: 1, ..Options::default() };
    let info = house.write_with(tree, "two", None, options, &Cancel::new()).await.unwrap();
    house.check(&house.open(&info).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_tree_is_a_snapshot() {
    let house = House::new().await;
    let tree = house.commit();
    let info = house.write(tree, "one", None).await;
    let snapshot = house.open(&info).await;
    assert_eq!((info.file_count, snapshot.entries()), (0, 0));
    assert_eq!(snapshot.entry(b"x").await.unwrap(), None);
    assert_eq!(snapshot.list(b"", true, None, 10).await.unwrap().items, []);
    house.check(&snapshot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_files_are_read_and_streamed() {
    let house = House::new().await;
    fill(&house);
    let info = house.write(house.commit(), "one", None).await;
    let snapshot = house.open(&info).await;
    for path in ["large/noise", "large/exact", "large/text", "large/medium", "src/m1/file71.txt"] {
        let content = std::fs::read(house.work().join(path)).unwrap();
        let size = content.len() as u64;
        let (entry, bytes) = snapshot.read_path(path.as_bytes(), size).await.unwrap();
        assert!(bytes == content, "{path}");
        assert!(matches!(
            snapshot.read(&entry, size - 1).await,
            Err(SnapshotError::TooLarge { .. })
        ));
        let frame = FRAME_MAX as u64;
        for start in [0, 1, size / 2, frame - 1, frame, size - 1, size, size + 5] {
            for length in [0, 1, 100, frame, 2 * frame + 1, u64::MAX / 2] {
                let bytes = snapshot.read_range(&entry, start..start + length).await.unwrap();
                let from = start.min(size) as usize;
                let to = (start + length).min(size) as usize;
                assert!(bytes == content[from..to], "{path} {start}+{length}");
            }
        }
        let start = size / 3;
        let parts: Vec<_> = snapshot.stream(&entry, start..size - 1).try_collect().await.unwrap();
        assert!(parts.iter().all(|part| part.len() <= FRAME_MAX));
        assert!(parts.concat() == content[start as usize..size as usize - 1]);
    }
    assert!(matches!(snapshot.read_path(b"src", 9).await, Err(SnapshotError::NotFound { .. })));
    let submodule = snapshot.read_path(b"sub/module", 9).await;
    assert!(matches!(submodule, Err(SnapshotError::NotFound { .. })));
    // The link is its target, not what it points to.
    assert_eq!(snapshot.read_path(b"link", 99).await.unwrap().1, "/etc/passwd");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_are_listed_in_pages() {
    let house = House::new().await;
    fill(&house);
    let info = house.write(house.commit(), "one", None).await;
    let snapshot = house.open(&info).await;
    let truth: Vec<String> = house.truth().into_keys().collect();
    for folder in ["", "src", "src/m1", "large", "a", "a-b", "nothing", "odd", "sr", "copy"] {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        for recursive in [true, false] {
            let mut expected: Vec<String> = Vec::new();
            for path in truth.iter().filter(|p| p.starts_with(&prefix)) {
                let name = match path[prefix.len()..].find('/').filter(|_| !recursive) {
                    Some(slash) => path[..=prefix.len() + slash].to_owned(),
                    None => path.clone(),
                };
                if expected.last() != Some(&name) {
                    expected.push(name);
                }
            }
            for limit in [1, 3, 1000] {
                let mut seen = Vec::new();
                let mut after: Option<Vec<u8>> = None;
                loop {
                    let page = snapshot
                        .list(folder.as_bytes(), recursive, after.as_deref(), limit)
                        .await
                        .unwrap();
                    assert!(page.items.len() <= limit);
                    seen.extend(page.items.iter().map(|item| match item {
                        Listed::Folder(path) => format!("{path}/"),
                        Listed::Entry(entry) => entry.path.to_string(),
                    }));
                    match page.next {
                        Some(next) => after = Some(next.into()),
                        None => break,
                    }
                    assert!(seen.len() <= expected.len(), "{folder:?} does not end");
                }
                assert_eq!(seen, expected, "{folder:?} {recursive} {limit}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_snapshot_costs_what_changed() {
    let house = House::new().await;
    fill(&house);
    let first = house.write(house.commit(), "one", None).await;
    let one = house.open(&first).await;
    house.put("src/m1/file1.txt", b"changed");
    house.put("new", b"new");
    house.git(&["mv", "large/noise", "moved"]);
    house.git(&["rm", "-q", "ab"]);
    let second = house.write(house.commit(), "two", Some(&one)).await;
    let two = house.open(&second).await;
    house.check(&two).await;
    assert_eq!(second.blobs_written, 2);
    // Two small blobs and a manifest of some 300 lines.
    assert!(second.bytes_stored < 20_000, "{}", second.bytes_stored);
    assert_eq!(two.objects().len(), 2);

    // Nothing changed: a manifest alone.
    let third = house.write(house.commit(), "three", Some(&two)).await;
    assert_eq!((third.blobs_written, third.blobs_reused), (0, third.file_count));
    house.check(&house.open(&third).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mostly_dead_is_written_anew() {
    let house = House::new().await;
    for n in 0..10 {
        house.put(&format!("f{n}"), &noise(50_000, n + 1));
    }
    let mut snapshot = house.open(&house.write(house.commit(), "0", None).await).await;
    for n in 0..6 {
        house.put(&format!("f{n}"), &noise(50_000, n + 100));
    }
    let info = house.write(house.commit(), "1", Some(&snapshot)).await;
    assert_eq!(info.blobs_written, 10, "an object with 4 of 10 blobs alive was kept");
    snapshot = house.open(&info).await;
    assert_eq!(snapshot.objects(), ["snapshots/r/1/data-0"]);
    house.check(&snapshot).await;

    // Many small changes do not give many objects.
    let mut most = 0;
    for n in 2..80 {
        house.put(&format!("g{n}"), &noise(100, n + 1000));
        let info = house.write(house.commit(), &n.to_string(), Some(&snapshot)).await;
        snapshot = house.open(&info).await;
        most = most.max(snapshot.objects().len());
    }
    assert!(most <= sluice::snapshot::MAX_OBJECTS, "{most}");
    house.check(&snapshot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_trees_are_refused_with_a_reason() {
    let house = House::new().await;
    house.put("x", b"x");
    house.commit();
    let blob: ObjectId = house.git(&["rev-parse", "HEAD:x"]).parse().unwrap();
    let nowhere: ObjectId = "0123456789012345678901234567890123456789".parse().unwrap();
    let names: [&[u8]; 5] = [b".", b"..", b"a/b", b"../x", b""];
    for (n, name) in names.into_iter().enumerate() {
        let tree = house.raw_tree(&[("100644", name, blob)]);
        let id = format!("bad{n}");
        let result = house.write_with(tree, &id, None, Options::default(), &Cancel::new()).await;
        assert!(
            matches!(
                result,
                Err(SnapshotError::MalformedTree { .. } | SnapshotError::Object { .. })
            ),
            "{name:?}: {result:?}"
        );
    }
    let twice = house.raw_tree(&[("100644", b"a", blob), ("100644", b"a", blob)]);
    let apart =
        house.raw_tree(&[("100644", b"b", blob), ("100644", b"a", blob), ("100644", b"b", blob)]);
    let missing = house.raw_tree(&[("100644", b"a", nowhere)]);
    let missing_tree = house.raw_tree(&[("40000", b"a", nowhere)]);
    let no_tree = house.raw_tree(&[("40000", b"a", blob)]);
    for (n, tree) in [twice, apart, missing, missing_tree, no_tree, blob].into_iter().enumerate() {
        let id = format!("odd{n}");
        assert!(
            house.write_with(tree, &id, None, Options::default(), &Cancel::new()).await.is_err(),
            "{n}"
        );
    }
    // A tree in itself a thousand times is cut by its depth.
    let mut deep = house.raw_tree(&[("100644", b"x", blob)]);
    for _ in 0..200 {
        deep = house.raw_tree(&[("40000", b"d", deep)]);
    }
    let result = house.write_with(deep, "deep", None, Options::default(), &Cancel::new()).await;
    assert!(matches!(result, Err(SnapshotError::Limit { .. })), "{result:?}");
    // Ten folders that hold the same ten folders, and so on: more files than atoms.
    let mut bomb = house.raw_tree(&[("100644", b"x", blob)]);
    for _ in 0..30 {
        let names: Vec<String> = (0..10).map(|n| format!("d{n}")).collect();
        let entries: Vec<_> = names.iter().map(|n| ("40000", n.as_bytes(), bomb)).collect();
        bomb = house.raw_tree(&entries);
    }
    let limits = TreeLimits { max_entries: 5_000, ..TreeLimits::default() };
    let options = Options { limits, ..Options::default() };
    let result = house.write_with(bomb, "bomb", None, options, &Cancel::new()).await;
    assert!(matches!(result, Err(SnapshotError::Limit { max: 5_000, .. })), "{result:?}");
    // Nothing of all that can be seen.
    assert!(house.storage.list("", None, 10).await.unwrap().items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_out_of_order_are_put_in_order() {
    let house = House::new().await;
    house.put("x", b"x");
    house.commit();
    let blob: ObjectId = house.git(&["rev-parse", "HEAD:x"]).parse().unwrap();
    let inner = house.raw_tree(&[("100644", b"z", blob), ("100644", b"y", blob)]);
    let tree = house.raw_tree(&[
        ("100644", b"b", blob),
        ("40000", b"a", inner),
        ("100644", b"a.b", blob),
        ("100644", b"a-b", blob),
    ]);
    let options = Options::default();
    let info = house.write_with(tree, "odd", None, options, &Cancel::new()).await.unwrap();
    let snapshot = house.open(&info).await;
    let listing = snapshot.list(b"", true, None, 10).await.unwrap();
    let paths: Vec<String> = listing.items.iter().map(|item| item.path().to_string()).collect();
    assert_eq!(paths, ["a-b", "a.b", "a/y", "a/z", "b"]);
    assert_eq!(snapshot.read_path(b"a/y", 10).await.unwrap().1, b"x".as_slice());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_fold_together_are_kept_and_reported() {
    let house = House::new().await;
    house.put("dir/README", b"one");
    house.put("dir/readme", b"two");
    house.put("dir/Ärger", b"three");
    house.put("dir/ärger", b"four");
    let info = house.write(house.commit(), "one", None).await;
    assert_eq!(info.collisions, 2);
    assert_eq!(info.collision_paths, ["dir/readme", "dir/ärger"]);
    house.check(&house.open(&info).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_the_wish_to_stop_end_the_writing() {
    let house = House::new().await;
    fill(&house);
    let tree = house.commit();
    let limits = TreeLimits { max_bytes: 1_000_000, ..TreeLimits::default() };
    let options = Options { limits, threads: 2, ..Options::default() };
    let result = house.write_with(tree, "a", None, options, &Cancel::new()).await;
    assert!(matches!(result, Err(SnapshotError::Limit { max: 1_000_000, .. })), "{result:?}");
    let cancel = Cancel::new();
    cancel.cancel();
    let result = house.write_with(tree, "b", None, Options::default(), &cancel).await;
    assert!(matches!(result, Err(SnapshotError::Cancelled)));
    assert!(!house.storage.exists("snapshots/r/a/manifest").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_noticed_wherever_it_is() {
    let house = House::new().await;
    for n in 0..200 {
        house.put(&format!("f{n}"), format!("content {n}").repeat(50).as_bytes());
    }
    let info = house.write(house.commit(), "one", None).await;
    let manifest = house.storage.local_path(&info.key).unwrap();
    let good = std::fs::read(&manifest).unwrap();
    let reads_all = |path: &Path, bytes: &[u8]| {
        std::fs::write(path, bytes).unwrap();
        let (storage, key) = (house.storage.clone(), info.key.clone());
        async move {
            let snapshot = Snapshot::open(&storage, &key).await?;
            let mut cache = FrameCache::default();
            for entry in snapshot.all_blocking()? {
                snapshot.read_blocking(&entry, 1 << 20, &mut cache)?;
            }
            snapshot.verify()
        }
    };
    assert!(reads_all(&manifest, &good).await.is_ok());
    for at in (0..good.len()).step_by(17).chain(good.len() - 112..good.len()) {
        let mut bad = good.clone();
        bad[at] ^= 0x41;
        assert!(reads_all(&manifest, &bad).await.is_err(), "byte {at} of {}", good.len());
    }
    for length in (0..good.len()).step_by(97) {
        assert!(reads_all(&manifest, &good[..length]).await.is_err(), "cut to {length}");
    }
    std::fs::write(&manifest, &good).unwrap();
    let data = house.storage.local_path("snapshots/r/one/data-0").unwrap();
    let good = std::fs::read(&data).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    assert!(reads_all(&data, &bad).await.is_err());
    assert!(reads_all(&data, &good[1..]).await.is_err());
    assert!(reads_all(&data, &good).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_threads_read_at_once() {
    let house = House::new().await;
    fill(&house);
    let info = house.write(house.commit(), "one", None).await;
    let snapshot = Arc::new(house.open(&info).await);
    let all = Arc::new(snapshot.all_blocking().unwrap());
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let (snapshot, all) = (Arc::clone(&snapshot), Arc::clone(&all));
            tokio::task::spawn_blocking(move || {
                let mut cache = FrameCache::new(2);
                for entry in all.iter().skip(task).step_by(3) {
                    let bytes = snapshot.read_blocking(entry, u64::MAX, &mut cache).unwrap();
                    assert_eq!(bytes.len() as u64, entry.size);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_of_a_snapshot_in_a_bucket_asks_for_little_more_than_its_bytes() {
    const FILES: usize = 5_000;
    let bucket = s3::bucket().await;
    let house = House::with(tempfile::tempdir().unwrap(), Storage::S3(bucket.clone()));
    for n in 0..FILES {
        let lines = (0..60).map(|line| format!("let x{line} = {};\n", (n * 7919 + line) % 9973));
        house.put(&format!("src/m{}/f{n}.js", n % 100), lines.collect::<String>().as_bytes());
    }
    let tree = house.commit();
    let info = house.write(tree, "one", None).await;
    assert_eq!(info.file_count, FILES as u64);

    let before = bucket.reads();
    let snapshot = Snapshot::open(&house.storage, &info.key).await.unwrap();
    let opened = bucket.reads() - before;
    let reading = snapshot.clone();
    let entries = tokio::task::spawn_blocking(move || {
        let mut entries = reading.all_blocking().unwrap();
        entries.sort_by_key(|entry| entry.place);
        entries
    })
    .await
    .unwrap();
    let (entries, next) = (Arc::new(entries), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (snapshot, entries, next) = (snapshot.clone(), entries.clone(), next.clone());
            tokio::task::spawn_blocking(move || {
                let mut cache = FrameCache::default();
                let mut bytes = 0;
                while let Some(entry) =
                    entries.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    bytes += snapshot.read_blocking(entry, 1 << 20, &mut cache).unwrap().len();
                }
                bytes as u64
            })
        })
        .collect();
    let mut bytes = 0;
    for thread in threads {
        bytes += thread.await.unwrap();
    }
    assert_eq!(bytes, info.total_bytes);
    let asked = bucket.reads() - before;
    println!("{FILES} files, {bytes} bytes: {opened} requests to open, {asked} in all");
    assert!(asked < 40, "{asked} requests for {FILES} files");

    // One file needs the head and the foot, one block of entries and one frame.
    let before = bucket.reads();
    let snapshot = Snapshot::open(&house.storage, &info.key).await.unwrap();
    snapshot.read_path(b"src/m7/f4007.js", 1 << 20).await.unwrap();
    assert!(bucket.reads() - before <= 4);
}
