//! What is true of buckets only: how they fail, what dead writers leave there, and how
//! much is asked of them. What is true of every storage is in `tests/storage.rs`.

#![allow(missing_docs)]

#[path = "support/s3.rs"]
mod s3;

use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use s3::{Own, Switch, Way};
use sluice::storage::{S3, Storage, StorageError};
use tokio::io::AsyncReadExt as _;

/// Longer than any call may take that moves no content, with some time for a busy machine.
const BOUNDED: Duration = Duration::from_secs(12);

fn unavailable<T: std::fmt::Debug>(outcome: Result<T, StorageError>) -> String {
    let error = outcome.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
    error.to_string()
}

/// Runs a call and gives its outcome, if it ends in time.
async fn timed<T>(call: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    let outcome = tokio::time::timeout(BOUNDED, call).await.expect("it ends in its time");
    (outcome, started.elapsed())
}

#[tokio::test]
async fn a_bucket_that_is_missing_is_told_of() {
    let opened = S3::open_at("sluice-nowhere", "", &s3::endpoint(), s3::KEYS).await;
    let said = unavailable(opened);
    assert!(said.contains("there is no bucket \"sluice-nowhere\": create it first"), "{said}");
}

#[tokio::test]
async fn wrong_credentials_are_told_of_and_not_repeated() {
    for keys in [("test", "a-wrong-secret-key"), ("a-wrong-access-key", "testtest")] {
        let opened = S3::open_at(s3::BUCKET, "", &s3::endpoint(), keys).await;
        let said = unavailable(opened);
        assert!(said.contains("is denied"), "{said}");
        assert!(said.contains("s3:PutObject"), "{said}");
        assert!(!said.contains("wrong") && !said.contains("testtest"), "{said}");
    }
}

#[tokio::test]
async fn an_address_where_nobody_is_is_told_of_soon() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (opened, _) = timed(s3::at(&format!("http://{closed}"), "")).await;
    let said = unavailable(opened);
    assert!(said.contains("cannot connect"), "{said}");

    // Taken by the system, and answered by nobody.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let (opened, _) = timed(s3::at(&format!("http://{address}"), "")).await;
    let said = unavailable(opened);
    assert!(said.contains("no answer in time"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_hangs_or_refuses_costs_seconds_and_recovers_without_a_restart() {
    let way = Switch::to(&s3::endpoint()).await;
    let storage = Storage::S3(s3::at(&way.endpoint(), &s3::prefix()).await.unwrap());
    storage.put_bytes("a/x", Bytes::from_static(b"content")).await.unwrap();

    for cut in [Way::Silent, Way::Refusing] {
        way.turn(cut);
        let (checked, took) = timed(storage.check()).await;
        unavailable(checked);
        assert!(took < Duration::from_secs(3), "{cut:?}: readiness waited {took:?}");
        // Many at once wait no longer than one.
        let calls = (0..20).map(|n| {
            let storage = storage.clone();
            async move {
                let key = format!("b/{n}");
                let put = storage.put_bytes(&key, Bytes::from_static(b"x"));
                let (put, size, read) =
                    tokio::join!(put, storage.size("a/x"), storage.get("a/x", 100));
                unavailable(put);
                unavailable(size);
                unavailable(read);
                unavailable(storage.list("a/", None, 10).await);
            }
        });
        let started = Instant::now();
        futures::future::join_all(calls).await;
        assert!(started.elapsed() < 2 * BOUNDED, "{cut:?}: {:?}", started.elapsed());
        way.turn(Way::Open);
        storage.check().await.unwrap();
        assert_eq!(storage.get("a/x", 100).await.unwrap(), "content");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_goes_on_where_it_broke_off() {
    const SIZE: u64 = 24 << 20;
    let way = Switch::to(&s3::endpoint()).await;
    let storage = Storage::S3(s3::at(&way.endpoint(), &s3::prefix()).await.unwrap());
    let content: Vec<u8> = (0..SIZE).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let content = Bytes::from(content);
    storage.put_bytes("a/x", content.clone()).await.unwrap();

    let mut reader = storage.reader("a/x", None).await.unwrap();
    let mut got = Vec::new();
    let mut piece = vec![0; 1 << 20];
    let mut cuts = 0;
    loop {
        let read = reader.read(&mut piece).await.unwrap();
        if read == 0 {
            break;
        }
        got.extend_from_slice(&piece[..read]);
        // Far enough from the end that the rest is not on its way already.
        if cuts < 2 && got.len() > (cuts + 1) * (4 << 20) {
            cuts += 1;
            way.turn(Way::Refusing);
            way.turn(Way::Open);
        }
    }
    assert_eq!(cuts, 2);
    assert!(content == got);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_the_death_of_the_object_store() {
    let mut own = Own::start().await;
    let storage = Storage::S3(s3::at(&own.endpoint(), &s3::prefix()).await.unwrap());
    for n in 0..20 {
        storage.put_bytes(&format!("a/{n}"), Bytes::from(vec![n; 1000])).await.unwrap();
    }
    let mut half = storage.writer("a/half").await.unwrap();
    half.write(Bytes::from(vec![1; 20 << 20])).await.unwrap();

    own.kill();
    let (size, _) = timed(storage.size("a/1")).await;
    unavailable(size);
    let (put, _) = timed(storage.put_bytes("a/late", Bytes::from_static(b"x"))).await;
    unavailable(put);
    let (read, _) = timed(storage.read_range("a/1", 0..10)).await;
    unavailable(read);
    let (checked, took) = timed(storage.check()).await;
    unavailable(checked);
    assert!(took < Duration::from_secs(3), "{took:?}");

    own.again().await;
    storage.check().await.unwrap();
    for n in 0..20 {
        assert_eq!(storage.get(&format!("a/{n}"), 1000).await.unwrap(), vec![n; 1000]);
    }
    assert!(!storage.exists("a/half").await.unwrap());
    // A part may have been lost with the object store: then the whole is, and it says so.
    match half.finish().await {
        Ok(size) => assert_eq!(storage.size("a/half").await.unwrap(), size),
        Err(_) => assert!(!storage.exists("a/half").await.unwrap()),
    }
    storage.put_bytes("a/late", Bytes::from_static(b"x")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_dead_writers_left_is_found_by_its_age_and_given_up() {
    let bucket = s3::bucket().await;
    let storage = Storage::S3(bucket);
    let mut writer = storage.writer("packs/1/x").await.unwrap();
    writer.write(Bytes::from(vec![1; 9 << 20])).await.unwrap();
    // As a process does that is killed: nothing of it runs any more.
    std::mem::forget(writer);

    let hour = Duration::from_secs(3600);
    let (earlier, later) = (SystemTime::now() - hour, SystemTime::now() + hour);
    assert_eq!(storage.unfinished(earlier, 10).await.unwrap(), []);
    let mut found = Vec::new();
    for _ in 0..100 {
        found = storage.unfinished(later, 10).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].key, "packs/1/x");
        // The part arrives in its own time.
        if found[0].bytes == 8 << 20 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(found[0].bytes, 8 << 20);
    storage.give_up(&found[0]).await.unwrap();
    storage.give_up(&found[0]).await.unwrap();
    assert_eq!(storage.unfinished(later, 10).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_depend_on_the_size_of_objects() {
    const SIZE: u64 = 200 << 20;
    let storage = Storage::S3(s3::bucket().await);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let piece: Vec<u8> =
        (0..1 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for _ in 0..SIZE >> 20 {
        file.write_all(&piece).unwrap();
    }
    drop(piece);
    let before = s3::peak();
    assert_eq!(storage.put_file("a/file", file.path()).await.unwrap(), SIZE);
    let mut reader = storage.reader("a/file", None).await.unwrap();
    let mut sink = tokio::io::sink();
    assert_eq!(tokio::io::copy(&mut reader, &mut sink).await.unwrap(), SIZE);
    let mut writer = storage.writer("a/streamed").await.unwrap();
    for _ in 0..SIZE >> 20 {
        writer.write(Bytes::from(vec![5; 1 << 20])).await.unwrap();
    }
    writer.finish().await.unwrap();
    let grown = s3::peak() - before;
    assert!(grown < 96 << 20, "{} MiB more", grown >> 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_an_object_in_small_steps_asks_for_large_parts_of_it() {
    let bucket = s3::bucket().await;
    let storage = Storage::S3(bucket.clone());
    let content: Vec<u8> =
        (0..10u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let content = Bytes::from(content);
    storage.put_bytes("a/x", content.clone()).await.unwrap();
    let file = storage.file("a/x").await.unwrap();
    let before = bucket.reads();
    // Several threads, as a scan has.
    let next = std::sync::Arc::new(std::sync::Mutex::new(0u64));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (file, content, next) = (file.clone(), content.clone(), next.clone());
            tokio::task::spawn_blocking(move || {
                let mut buffer = Vec::new();
                loop {
                    let start = {
                        let mut next = next.lock().unwrap();
                        let start = *next;
                        *next += 20_000;
                        start
                    };
                    if start >= file.size() {
                        return;
                    }
                    let end = (start + 20_000).min(file.size());
                    file.read_blocking(start..end, &mut buffer).unwrap();
                    assert!(buffer == content[start as usize..end as usize]);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.await.unwrap();
    }
    let asked = bucket.reads() - before;
    assert!(asked < 30, "{asked} requests for 525 reads");

    // And whoever wants one place gets that and nothing more.
    let before = bucket.reads();
    let file = storage.file("a/x").await.unwrap();
    assert_eq!(file.read(5_000_000..5_000_100).await.unwrap(), content[5_000_000..5_000_100]);
    assert_eq!(bucket.reads() - before, 1);
}
