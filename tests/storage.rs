//! One suite for every backend of the storage: a further backend adds a
//! constructor to [`on_each_backend`] and nothing else.

#[path = "support/s3.rs"]
mod s3;

use std::collections::BTreeSet;
use std::io::Write;

use bytes::Bytes;
use futures::StreamExt as _;
use sluice::storage::{MAX_PAGE, Storage, StorageError};
use tokio::io::AsyncReadExt;

/// A backend with nothing in it; the guard keeps it alive.
struct Backend {
    storage: Storage,
    _guard: Option<tempfile::TempDir>,
}

async fn folder() -> Backend {
    let guard = tempfile::tempdir().unwrap();
    let storage =
        Storage::open(&format!("file://{}", guard.path().join("objects").display())).await.unwrap();
    Backend { storage, _guard: Some(guard) }
}

async fn bucket() -> Backend {
    Backend { storage: Storage::S3(s3::bucket().await), _guard: None }
}

/// Runs one story on each backend.
macro_rules! on_each_backend {
    ($(async fn $name:ident($storage:ident: &Storage) $body:block)*) => {
        on_each_backend!(on_folder folder $(async fn $name($storage: &Storage) $body)*);
        on_each_backend!(on_s3 bucket $(async fn $name($storage: &Storage) $body)*);
    };
    ($backend:ident $open:ident $(async fn $name:ident($storage:ident: &Storage) $body:block)*) => {
        mod $backend {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let backend = $open().await;
                    let $storage = &backend.storage;
                    $body
                }
            )*
        }
    };
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn keys(storage: &Storage, prefix: &str) -> Vec<String> {
    let page = storage.list(prefix, None, MAX_PAGE).await.unwrap();
    assert_eq!(page.next, None);
    page.items.into_iter().map(|o| o.key).collect()
}

on_each_backend! {
    async fn what_was_put_is_read_back(storage: &Storage) {
        storage.put_bytes("packs/1/a.pack", bytes("hello world")).await.unwrap();
        storage.put_bytes("packs/1/empty", Bytes::new()).await.unwrap();
        assert_eq!(storage.get("packs/1/a.pack", 11).await.unwrap(), "hello world");
        assert_eq!(storage.get("packs/1/empty", 0).await.unwrap(), "");
        assert_eq!(storage.size("packs/1/a.pack").await.unwrap(), 11);
        assert!(storage.exists("packs/1/a.pack").await.unwrap());
        assert_eq!(storage.read_range("packs/1/a.pack", 6..11).await.unwrap(), "world");
        assert_eq!(storage.read_range("packs/1/a.pack", 3..3).await.unwrap(), "");
    }

    async fn what_is_not_there_is_said_to_be_missing(storage: &Storage) {
        storage.put_bytes("a/b", bytes("x")).await.unwrap();
        for key in ["nothing", "a", "a/c", "a/b/c"] {
            assert!(!storage.exists(key).await.unwrap(), "{key}");
            let missing = |e: StorageError| matches!(e, StorageError::NotFound { .. });
            assert!(missing(storage.get(key, 9).await.unwrap_err()), "{key}");
            assert!(missing(storage.size(key).await.unwrap_err()), "{key}");
            assert!(missing(storage.read_range(key, 0..0).await.unwrap_err()), "{key}");
            assert!(missing(storage.reader(key, None).await.unwrap_err()), "{key}");
            assert!(missing(storage.file(key).await.unwrap_err()), "{key}");
            storage.delete(key).await.unwrap();
        }
        assert_eq!(storage.get("a/b", 9).await.unwrap(), "x");
    }

    async fn reading_is_bounded_by_the_caller(storage: &Storage) {
        storage.put_bytes("a", bytes("12345")).await.unwrap();
        assert!(matches!(
            storage.get("a", 4).await,
            Err(StorageError::TooLarge { size: 5, max: 4, .. })
        ));
        #[allow(clippy::reversed_empty_ranges)]
        for range in [0..6, 5..6, 6..6, 3..2, 0..u64::MAX] {
            assert!(
                matches!(
                    storage.read_range("a", range.clone()).await,
                    Err(StorageError::InvalidRange { size: 5, .. })
                ),
                "{range:?}"
            );
            assert!(storage.reader("a", Some(range)).await.is_err());
        }
    }

    async fn a_key_is_written_once(storage: &Storage) {
        storage.put_bytes("a/b", bytes("first")).await.unwrap();
        storage.put_bytes("a/b", bytes("FIRST")).await.unwrap();
        assert_eq!(storage.get("a/b", 9).await.unwrap(), "first");
        assert!(matches!(
            storage.put_bytes("a/b", bytes("another")).await,
            Err(StorageError::Conflict { existing: 5, size: 7, .. })
        ));
        let mut writer = storage.writer("a/b").await.unwrap();
        writer.write(bytes("x")).await.unwrap();
        assert!(matches!(writer.finish().await, Err(StorageError::Conflict { .. })));
        assert_eq!(storage.get("a/b", 9).await.unwrap(), "first");
        assert_eq!(keys(storage, "").await, ["a/b"]);
    }

    async fn of_many_writers_of_one_key_one_content_stays(storage: &Storage) {
        let writes = (0..16u8).map(|n| {
            let storage = storage.clone();
            tokio::spawn(async move {
                storage.put_bytes("race/key", Bytes::from(vec![n; 4096])).await
            })
        });
        for write in futures::future::join_all(writes).await {
            write.unwrap().unwrap();
        }
        let content = storage.get("race/key", 4096).await.unwrap();
        assert!(content.iter().all(|b| *b == content[0]), "two contents were mixed");
    }

    async fn of_many_writers_with_different_sizes_one_wins_and_the_others_know(storage: &Storage) {
        let writes = (0..16usize).map(|n| {
            let storage = storage.clone();
            tokio::spawn(async move {
                let content = Bytes::from(vec![n as u8; 1000 + n % 2]);
                let mut writer = storage.writer("race/sizes").await.unwrap();
                writer.write(content).await.unwrap();
                (n, writer.finish().await)
            })
        });
        let ended = futures::future::join_all(writes).await;
        let content = storage.get("race/sizes", 4096).await.unwrap();
        assert!(content.iter().all(|b| *b == content[0]), "two contents were mixed");
        for ended in ended {
            let (n, outcome) = ended.unwrap();
            if content.len() == 1000 + n % 2 {
                assert_eq!(outcome.unwrap(), content.len() as u64);
            } else {
                let existing = content.len() as u64;
                assert!(
                    matches!(outcome, Err(StorageError::Conflict { existing: at, .. }) if at == existing),
                    "{outcome:?}"
                );
            }
        }
    }

    async fn large_objects_come_in_parts_and_are_whole(storage: &Storage) {
        const SIZE: u64 = 40 << 20;
        let content: Vec<u8> = (0..SIZE).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let content = Bytes::from(content);
        let mut writer = storage.writer("large/streamed").await.unwrap();
        for piece in 0..SIZE.div_ceil(1_000_000) {
            let end = ((piece + 1) * 1_000_000).min(SIZE);
            writer.write(content.slice((piece * 1_000_000) as usize..end as usize)).await.unwrap();
        }
        assert_eq!(writer.finish().await.unwrap(), SIZE);
        storage.put_bytes("large/whole", content.clone()).await.unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&content).unwrap();
        assert_eq!(storage.put_file("large/file", file.path()).await.unwrap(), SIZE);
        for key in ["large/streamed", "large/whole", "large/file"] {
            assert_eq!(storage.size(key).await.unwrap(), SIZE, "{key}");
            assert!(storage.get(key, SIZE).await.unwrap() == content, "{key}");
            // Across the border of two parts.
            let (start, end) = ((8 << 20) - 5, (8 << 20) + 7);
            let part = storage.read_range(key, start..end).await.unwrap();
            assert_eq!(part, content.slice(start as usize..end as usize), "{key}");
        }
        // Once, as all others are.
        storage.put_bytes("large/whole", content.slice(..)).await.unwrap();
        let shorter = storage.put_bytes("large/whole", content.slice(1..)).await;
        assert!(matches!(shorter, Err(StorageError::Conflict { .. })), "{shorter:?}");
        assert!(storage.get("large/whole", SIZE).await.unwrap() == content);
    }

    async fn of_large_writers_of_one_key_one_wins(storage: &Storage) {
        let writes = (0..4usize).map(|n| {
            let storage = storage.clone();
            tokio::spawn(async move {
                let size = (9 << 20) + n % 2;
                let mut writer = storage.writer("race/large").await.unwrap();
                writer.write(Bytes::from(vec![n as u8; size])).await.unwrap();
                (n, size as u64, writer.finish().await)
            })
        });
        let ended = futures::future::join_all(writes).await;
        let content = storage.get("race/large", 10 << 20).await.unwrap();
        assert!(content.iter().all(|b| *b == content[0]), "two contents were mixed");
        for ended in ended {
            let (n, size, outcome) = ended.unwrap();
            if size == content.len() as u64 {
                assert_eq!(outcome.unwrap(), size, "{n}");
            } else {
                assert!(matches!(outcome, Err(StorageError::Conflict { .. })), "{n}: {outcome:?}");
            }
        }
    }

    async fn a_large_writer_that_is_dropped_leaves_nothing(storage: &Storage) {
        let mut dropped = storage.writer("large/dropped").await.unwrap();
        for _ in 0..20 {
            dropped.write(Bytes::from(vec![1; 1 << 20])).await.unwrap();
        }
        drop(dropped);
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
        for _ in 0..200 {
            if storage.unfinished(later, 10).await.unwrap().is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(storage.unfinished(later, 10).await.unwrap(), []);
        assert!(keys(storage, "").await.is_empty());
        assert!(!storage.exists("large/dropped").await.unwrap());
    }

    async fn more_keys_than_a_page_has_are_listed_and_removed(storage: &Storage) {
        const MANY: usize = 1_050;
        let put = futures::stream::iter(0..MANY).map(|n| async move {
            storage.put_bytes(&format!("many/{n:05}/x"), bytes("abc")).await.unwrap();
        });
        put.buffer_unordered(16).collect::<Vec<()>>().await;
        storage.put_bytes("more/x", bytes("stays")).await.unwrap();
        let first = storage.list("many/", None, 5_000).await.unwrap();
        assert_eq!(first.items.len(), MAX_PAGE);
        let after = first.next.unwrap();
        let second = storage.list("many/", Some(&after), 5_000).await.unwrap();
        assert_eq!(second.next, None);
        let seen: Vec<String> =
            first.items.into_iter().chain(second.items).map(|object| object.key).collect();
        let expected: Vec<String> = (0..MANY).map(|n| format!("many/{n:05}/x")).collect();
        assert_eq!(seen, expected);
        let removed = storage.delete_prefix("many/").await.unwrap();
        assert_eq!((removed.objects, removed.bytes), (MANY as u64, 3 * MANY as u64));
        assert_eq!(keys(storage, "").await, ["more/x"]);
    }

    async fn a_writer_shows_nothing_before_it_is_finished(storage: &Storage) {
        let mut writer = storage.writer("s/x").await.unwrap();
        for _ in 0..3 {
            writer.write(Bytes::from(vec![7; 100_000])).await.unwrap();
        }
        assert_eq!(writer.written(), 300_000);
        assert!(!storage.exists("s/x").await.unwrap());
        assert!(keys(storage, "").await.is_empty());
        assert_eq!(writer.finish().await.unwrap(), 300_000);
        assert_eq!(storage.get("s/x", 300_000).await.unwrap(), vec![7; 300_000]);

        let mut dropped = storage.writer("s/y").await.unwrap();
        dropped.write(bytes("gone")).await.unwrap();
        drop(dropped);
        assert_eq!(keys(storage, "").await, ["s/x"]);
    }

    async fn a_local_file_becomes_an_object(storage: &Storage) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![3; 200_000]).unwrap();
        assert_eq!(storage.put_file("packs/1/p", file.path()).await.unwrap(), 200_000);
        // Again, as a job that is tried again does.
        assert_eq!(storage.put_file("packs/1/p", file.path()).await.unwrap(), 200_000);
        file.close().unwrap();
        assert_eq!(storage.get("packs/1/p", 200_000).await.unwrap(), vec![3; 200_000]);
        let nowhere = std::path::Path::new("/nonexistent/file");
        assert!(storage.put_file("packs/1/q", nowhere).await.is_err());
        assert!(storage.put_file("packs/1/q", &std::env::temp_dir()).await.is_err());
        assert_eq!(keys(storage, "").await, ["packs/1/p"]);
    }

    async fn objects_are_streamed_whole_and_in_part(storage: &Storage) {
        let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        storage.put_bytes("big", Bytes::from(content.clone())).await.unwrap();
        let mut all = Vec::new();
        let mut reader = storage.reader("big", None).await.unwrap();
        assert_eq!(reader.length(), 3_000_000);
        reader.read_to_end(&mut all).await.unwrap();
        assert!(all == content);
        let mut part = Vec::new();
        let mut reader = storage.reader("big", Some(999_999..1_000_100)).await.unwrap();
        reader.read_to_end(&mut part).await.unwrap();
        assert_eq!(part, &content[999_999..1_000_100]);
    }

    async fn an_open_object_is_read_from_several_threads(storage: &Storage) {
        let content: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        storage.put_bytes("a", Bytes::from(content.clone())).await.unwrap();
        let file = storage.file("a").await.unwrap();
        assert_eq!(file.size(), 100_000);
        assert_eq!(file.read(10..20).await.unwrap(), &content[10..20]);
        let threads: Vec<_> = (0..4u64)
            .map(|thread| {
                let (file, content) = (file.clone(), content.clone());
                tokio::task::spawn_blocking(move || {
                    let mut buffer = Vec::new();
                    for at in (thread..90_000).step_by(777) {
                        file.read_blocking(at..at + 1000, &mut buffer).unwrap();
                        assert!(buffer == content[at as usize..at as usize + 1000]);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.await.unwrap();
        }
        assert!(file.read(99_999..100_001).await.is_err());
    }

    async fn pages_come_in_byte_order_without_gap_or_repetition(storage: &Storage) {
        // `-` and `.` sort before the slash, `0` behind it.
        let all: BTreeSet<&str> = [
            "p/a", "p/a-b", "p/a.b", "p/a0", "p/b/1", "p/b/2", "p/b-/1", "p/b.c/1", "p/b0/1",
            "p/c/d/e", "q", "o/x",
        ]
        .into();
        for key in &all {
            storage.put_bytes(key, bytes(key)).await.unwrap();
        }
        for prefix in ["", "p/", "p/b/", "nothing/"] {
            let expected: Vec<_> = all.iter().filter(|k| k.starts_with(prefix)).copied().collect();
            for limit in [1, 2, 5, 100] {
                let mut seen = Vec::new();
                let mut after = None;
                loop {
                    let page = storage.list(prefix, after.as_deref(), limit).await.unwrap();
                    assert!(page.items.len() <= limit);
                    for object in page.items {
                        assert_eq!(object.size, object.key.len() as u64);
                        assert!(object.modified.elapsed().unwrap().as_secs() < 600);
                        seen.push(object.key);
                    }
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                // SeaweedFS has its folders in the order of their names, without the
                // slash; what counts for whoever goes on is that nothing is left out.
                if matches!(storage, Storage::S3(_)) {
                    seen.sort_unstable();
                }
                assert_eq!(seen, expected, "{prefix:?} by {limit}");
            }
        }
    }

    async fn a_prefix_is_removed_and_nothing_beside_it(storage: &Storage) {
        for n in 0..30 {
            storage.put_bytes(&format!("packs/1/{n}/x"), bytes("abc")).await.unwrap();
        }
        storage.put_bytes("packs/10/x", bytes("stays")).await.unwrap();
        let removed = storage.delete_prefix("packs/1/").await.unwrap();
        assert_eq!((removed.objects, removed.bytes), (30, 90));
        assert_eq!(storage.delete_prefix("packs/1/").await.unwrap().objects, 0);
        assert_eq!(keys(storage, "").await, ["packs/10/x"]);
        storage.put_bytes("packs/1/0/x", bytes("again")).await.unwrap();
        assert_eq!(storage.get("packs/1/0/x", 9).await.unwrap(), "again");
    }

    async fn writes_and_removals_in_one_folder_do_not_hinder_each_other(storage: &Storage) {
        let tasks = (0..8).map(|task| {
            let storage = storage.clone();
            tokio::spawn(async move {
                for n in 0..20 {
                    let key = format!("deep/folder/{task}-{n}");
                    storage.put_bytes(&key, Bytes::from_static(b"x")).await.unwrap();
                    storage.delete(&key).await.unwrap();
                }
            })
        });
        for task in futures::future::join_all(tasks).await {
            task.unwrap();
        }
        assert!(keys(storage, "").await.is_empty());
    }

    async fn unusable_keys_are_refused_by_every_call(storage: &Storage) {
        for key in ["", "../x", "a/../b", "/etc/passwd", "a b", "tmp/x", "a\0b"] {
            let refused = |e: StorageError| matches!(e, StorageError::InvalidKey { .. });
            assert!(refused(storage.put_bytes(key, Bytes::new()).await.unwrap_err()));
            assert!(refused(storage.writer(key).await.unwrap_err()));
            assert!(refused(storage.get(key, 1).await.unwrap_err()));
            assert!(refused(storage.reader(key, None).await.unwrap_err()));
            assert!(refused(storage.delete(key).await.unwrap_err()));
            assert!(refused(storage.exists(key).await.unwrap_err()));
            assert!(refused(storage.list("", Some(key), 1).await.unwrap_err()));
            assert!(storage.local_path(key).is_none());
        }
        assert!(storage.list("../", None, 1).await.is_err());
        assert!(storage.delete_prefix("a").await.is_err());
    }

    async fn the_check_leaves_nothing_behind(storage: &Storage) {
        storage.check().await.unwrap();
        assert!(keys(storage, "").await.is_empty());
    }
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    for url in ["", "objects", "file://", "ftp://x", "file:x", "s3://", "s3://a:b@bucket"] {
        assert!(matches!(Storage::open(url).await, Err(StorageError::InvalidUrl)), "{url:?}");
    }
}

#[tokio::test]
async fn a_folder_links_a_file_instead_of_copying_it() {
    use std::os::unix::fs::MetadataExt;
    let guard = tempfile::tempdir().unwrap();
    let url = format!("file://{}", guard.path().join("objects").display());
    let storage = Storage::open(&url).await.unwrap();
    let file = guard.path().join("pack");
    std::fs::write(&file, b"pack").unwrap();
    storage.put_file("packs/1/pack", &file).await.unwrap();
    let object = storage.local_path("packs/1/pack").unwrap();
    let inode = |path: &std::path::Path| std::fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&object), inode(&file));
}

#[tokio::test]
async fn a_folder_that_is_away_is_unavailable_and_recovers() {
    let guard = tempfile::tempdir().unwrap();
    let root = guard.path().join("objects");
    let storage = Storage::open(&format!("file://{}", root.display())).await.unwrap();
    let away = guard.path().join("away");
    std::fs::rename(&root, &away).unwrap();
    assert!(matches!(storage.check().await, Err(StorageError::Unavailable { .. })));
    std::fs::rename(&away, &root).unwrap();
    storage.check().await.unwrap();
}

#[tokio::test]
async fn what_a_dead_process_left_is_swept_and_the_living_are_left_alone() {
    let guard = tempfile::tempdir().unwrap();
    let root = guard.path().join("objects");
    let url = format!("file://{}", root.display());
    let living = Storage::open(&url).await.unwrap();
    let mut writer = living.writer("a/b").await.unwrap();
    writer.write(Bytes::from_static(b"half ")).await.unwrap();
    // A part whose lock nobody holds is that of a process that was killed.
    let dead = root.join("tmp/dead");
    std::fs::create_dir(&dead).unwrap();
    std::fs::write(dead.join("lock"), b"").unwrap();
    std::fs::write(dead.join("0"), b"half").unwrap();

    let second = Storage::open(&url).await.unwrap();
    assert!(!dead.exists());
    writer.write(Bytes::from_static(b"whole")).await.unwrap();
    writer.finish().await.unwrap();
    assert_eq!(second.get("a/b", 99).await.unwrap(), "half whole");
}
