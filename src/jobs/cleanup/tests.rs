//! Orphans go, what is referred to stays.

use std::fs::File;

use bytes::Bytes;

use super::*;
use crate::accounts::testing::{TestServer, both};
use crate::db::testing::tenant;
use crate::db::{Sql, args};

/// A UUIDv7 of two days ago.
fn old_id() -> Uuid {
    let at = (now() / 1_000_000).unsigned_abs() - 2 * 86_400;
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, at, 0))
}

/// Stores an object as if two days ago.
async fn put_old(server: &TestServer, key: &str) {
    put(server, key).await;
    age(&server.app.storage.local_path(key).unwrap());
}

async fn put(server: &TestServer, key: &str) {
    server.app.storage.put_bytes(key, Bytes::from_static(b"12345")).await.unwrap();
}

fn age(path: &Path) {
    let at = SystemTime::now() - Duration::from_hours(48);
    File::open(path).unwrap().set_modified(at).unwrap();
}

fn request(dry_run: bool) -> Request {
    Request { dry_run, grace: GRACE, after: None }
}

#[test]
fn keys_are_told_apart() {
    let (a, b) = (old_id(), old_id());
    assert_eq!(
        Key::parse(&format!("packs/{a}/{b}/pack-0.idx")),
        Some(Key::Pack { upload: a, push: Some(b) })
    );
    for other in ["lfs/ab/cd", &format!("{b}/pack-0.rev"), &format!("{b}/x/pack-0.pack")] {
        let key = Key::parse(&format!("packs/{a}/{other}"));
        assert_eq!(key, Some(Key::Pack { upload: a, push: None }), "{other}");
    }
    assert_eq!(
        Key::parse(&format!("snapshots/{a}/{b}/data-0")),
        Some(Key::Snapshot { repository: a, snapshot: b })
    );
    for strange in ["x/y/z", "packs/x/y", "snapshots/x", "health/a/b", "results/x/y"] {
        assert_eq!(Key::parse(strange), None, "{strange}");
    }
    assert!(Key::parse(&format!("snapshots/{a}/notes")).is_none());
    let young = Key::Pack { upload: a, push: Some(crate::db::new_id()) };
    assert!(young.made_at() > now() - 60_000_000, "as young as its youngest id");
}

#[tokio::test]
async fn orphans_go_and_what_is_referred_to_stays() {
    const UPLOAD: Sql = Sql::both(
        "INSERT INTO git_uploads (id, owner_id, project_id, name, scan, token_hash, status, \
         created_at, expires_at) VALUES ($1, $2, $3, 'u', $4, $5, 'awaiting_push', $6, $7)",
    );
    const PACK: Sql = Sql::both(
        "INSERT INTO upload_packs (upload_id, name, pack_key, index_key, bytes, objects, \
         created_at) VALUES ($1, 'p', $2, $3, 5, 1, $4)",
    );
    const SNAPSHOT: Sql = Sql::both(
        "INSERT INTO snapshots (id, repository_id, owner_id, commit_id, manifest_key, file_count, \
         total_bytes, created_at) VALUES ($1, $2, $3, 'c', 'k', 0, 0, $4)",
    );
    for server in both().await {
        let (app, name) = (&server.app, server.name);
        let of = tenant(&app.db).await;
        let (upload, expired, push, lost) = (old_id(), old_id(), old_id(), old_id());
        let (snapshot, stale, gone) = (old_id(), old_id(), old_id());
        let kept = [
            format!("packs/{upload}/{push}/pack-0.pack"),
            format!("packs/{upload}/{push}/pack-0.idx"),
            format!("packs/{upload}/lfs/0"),
            format!("snapshots/{}/{snapshot}/data-0", of.repository),
            "unknown/object".to_owned(),
        ];
        let orphans = [
            (format!("packs/{upload}/{lost}/pack-1.pack"), "orphaned_packs"),
            (format!("packs/{gone}/lfs/0"), "orphaned_packs"),
            (format!("snapshots/{gone}/{gone}/manifest"), "orphaned_snapshots"),
            (format!("artifacts/{gone}/1/log.txt"), "orphaned_artifacts"),
            (format!("archives/{gone}/a.zip"), "orphaned_archives"),
            (format!("health/{gone}"), "stale_probes"),
        ];
        let ingested = format!("snapshots/{}/{stale}/data-0", of.repository);
        let archive = format!("archives/{}/{stale}", of.repository);
        let young = format!("packs/{upload}/{}/pack-2.pack", crate::db::new_id());
        let fresh = format!("packs/{upload}/{}/pack-3.pack", old_id());
        let mut tx = app.db.begin().await.unwrap();
        for (id, ends) in [(upload, now() + 1_000_000_000), (expired, now() - 200_000_000_000)] {
            let hash = id.as_bytes().to_vec();
            let row = args![id, of.owner, of.project, true, hash, now(), ends];
            tx.execute(UPLOAD, row).await.unwrap();
        }
        tx.execute(PACK, args![upload, &kept[0], &kept[1], now()]).await.unwrap();
        tx.execute(SNAPSHOT, args![snapshot, of.repository, of.owner, now()]).await.unwrap();
        let payload = serde_json::json!({});
        let job = jobs::NewJob {
            kind: jobs::JobKind::Ingest,
            subject_id: of.repository,
            owner_id: Some(of.owner),
            payload,
        };
        jobs::insert(&mut tx, &job).await.unwrap();
        tx.commit().await.unwrap();
        for key in kept
            .iter()
            .chain(orphans.iter().map(|(key, _)| key))
            .chain([&ingested, &archive, &young])
        {
            put_old(&server, key).await;
        }
        put(&server, &fresh).await;
        let quarantine = bare::incoming(app).join("incoming-dead");
        std::fs::create_dir_all(quarantine.join("pack")).unwrap();
        let half = quarantine.join("pack/half");
        std::fs::write(&half, b"PACK").unwrap();
        for path in [&half, &quarantine.join("pack"), &quarantine] {
            age(path);
        }
        std::fs::create_dir_all(bare::incoming(app).join("incoming-alive")).unwrap();

        let planned = clean(app, &request(true)).await.unwrap();
        for (key, _) in &orphans {
            assert!(app.storage.exists(key).await.unwrap(), "{name}: a dry run removed {key}");
        }
        let done = clean(app, &request(false)).await.unwrap();
        assert_eq!(planned, done, "{name}: a dry run tells what a real one does");
        let expected = |kind: &str| orphans.iter().filter(|(_, of)| *of == kind).count() as u64;
        for (kind, removed) in done.report.kinds() {
            let (objects, bytes) = match kind {
                "expired_remotes" => (1, 0),
                "abandoned_quarantines" => (1, 4),
                _ => (expected(kind), 5 * expected(kind)),
            };
            assert_eq!(removed, Removed { objects, bytes }, "{name}: {kind}");
        }
        for (key, _) in &orphans {
            assert!(!app.storage.exists(key).await.unwrap(), "{name}: {key} is still there");
        }
        for key in kept.iter().chain([&young, &fresh, &ingested, &archive]) {
            assert!(app.storage.exists(key).await.unwrap(), "{name}: {key} was removed");
        }
        assert!(!quarantine.exists() && bare::incoming(app).join("incoming-alive").exists());

        // Once nothing ingests it, what an ingest left behind goes too; and nothing else.
        let mut tx = app.db.begin().await.unwrap();
        jobs::cancel(&mut tx, of.repository).await.unwrap();
        tx.commit().await.unwrap();
        let done = clean(app, &request(false)).await.unwrap().report;
        let one = Removed { objects: 1, bytes: 5 };
        let both = Report { orphaned_snapshots: one, orphaned_archives: one, ..Report::default() };
        assert_eq!(done, both, "{name}");
        for key in [&ingested, &archive] {
            assert!(!app.storage.exists(key).await.unwrap(), "{name}: {key}");
        }
    }
}

#[tokio::test]
async fn a_clean_up_is_scheduled_once() {
    for test in crate::db::testing::both().await {
        for _ in 0..3 {
            jobs::schedule_cleanup(&test.db, 1_000_000_000).await.unwrap();
        }
        let waiting = jobs::waiting(&test.db).await.unwrap();
        assert_eq!(waiting.len(), 1, "{}", test.name);
        assert_eq!((waiting[0].kind.as_str(), waiting[0].queued), ("cleanup", 1));
        let job = jobs::claim(&test.db, "w", 1_000_000).await.unwrap().unwrap();
        assert_eq!(job.kind, jobs::JobKind::Cleanup);
        let mut tx = test.db.begin().await.unwrap();
        jobs::end(&mut tx, job.id, job.fence, &End::Done).await.unwrap();
        tx.commit().await.unwrap();
        jobs::schedule_cleanup(&test.db, 1_000_000_000).await.unwrap();
        assert!(jobs::waiting(&test.db).await.unwrap().is_empty(), "{}", test.name);
        jobs::schedule_cleanup(&test.db, 0).await.unwrap();
        assert_eq!(jobs::waiting(&test.db).await.unwrap().len(), 1, "{}", test.name);
    }
}

/// Whatever a failure of the storage is wrapped in, a job waits for it.
#[test]
fn a_storage_that_is_away_is_known_in_every_wrapping() {
    let away = || StorageError::Unavailable {
        operation: "read an object",
        cause: std::io::Error::other("no answer in time"),
    };
    let snapshot = || SnapshotError::Storage(away());
    let wrapped: [anyhow::Error; 5] = [
        away().into(),
        snapshot().into(),
        IngestError::Snapshot(snapshot()).into(),
        std::io::Error::other(away()).into(),
        anyhow::Error::from(away()).context("cannot bring back a pack"),
    ];
    for error in &wrapped {
        assert!(super::storage_unavailable(error), "{error:#}");
    }
    let other: [anyhow::Error; 3] = [
        SnapshotError::Cancelled.into(),
        std::io::Error::other("else").into(),
        StorageError::Full.into(),
    ];
    assert!(!other.iter().any(super::storage_unavailable));
}
