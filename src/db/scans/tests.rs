//! The life of a scan, on both databases.

use super::*;
use crate::db::testing::{Tenant, both, repository_of, tenant};
use crate::db::{Db, artifacts};

pub(crate) fn new_scan(tenant: Tenant) -> NewScan {
    NewScan {
        repository_id: tenant.repository,
        project_id: tenant.project,
        owner_id: tenant.owner,
        upload_id: None,
        trigger: Trigger::Api,
        settings: Settings::default(),
        commit_id: None,
        snapshot_id: None,
    }
}

async fn created(db: &Db, tenant: Tenant) -> ScanRow {
    let mut tx = db.begin().await.unwrap();
    let id = create(&mut tx, &new_scan(tenant)).await.unwrap();
    tx.commit().await.unwrap();
    get(db, tenant.owner, id).await.unwrap().unwrap()
}

async fn read(db: &Db, scan: &ScanRow) -> ScanRow {
    get(db, scan.owner_id, scan.id).await.unwrap().unwrap()
}

async fn kinds(db: &Db, scan: &ScanRow) -> Vec<String> {
    let rows = events::after(db, scan.id, 0, 100).await.unwrap();
    rows.into_iter().map(|row| row.kind).collect()
}

const REPOSITORY: crate::db::Sql =
    crate::db::Sql::both("SELECT last_scan_id, version FROM repositories WHERE id = $1");

#[tokio::test]
async fn a_scan_goes_from_its_job_to_its_last_event() {
    for test in both().await {
        let db = &test.db;
        let tenant = tenant(db).await;
        let scan = created(db, tenant).await;
        assert_eq!((scan.status, scan.last_event), (ScanStatus::Queued, 1), "{}", test.name);
        assert_eq!(scan.config.0, Settings::default());
        let (last, version): (Option<Uuid>, i64) =
            db.conn().fetch_one(REPOSITORY, args![tenant.repository]).await.unwrap();
        assert_eq!(last, Some(scan.id));

        let job = jobs::claim(db, "w", 60_000_000).await.unwrap().expect("its job");
        assert_eq!((job.kind, job.subject_id), (JobKind::Scan, scan.id));
        let mut tx = db.begin().await.unwrap();
        jobs::hold(&mut tx, job.id, job.fence).await.unwrap();
        assert!(start(&mut tx, scan.id, "w").await.unwrap());
        let snapshot = new_id();
        set_source(&mut tx, scan.id, "c0ffee", snapshot).await.unwrap();
        let progress = Progress { phase: "code".into(), files_done: 3, ..Progress::default() };
        set_progress(&mut tx, scan.id, &progress).await.unwrap();
        tx.commit().await.unwrap();
        let running = read(db, &scan).await;
        assert_eq!(running.status, ScanStatus::Running);
        assert_eq!(
            (running.commit_id.as_deref(), running.snapshot_id),
            (Some("c0ffee"), Some(snapshot))
        );
        assert_eq!(running.progress.0, progress);
        assert!(running.version > scan.version && running.started_at.is_some());

        // Another worker goes on after the first one died: the start stays.
        let mut tx = db.begin().await.unwrap();
        assert!(start(&mut tx, scan.id, "x").await.unwrap());
        tx.commit().await.unwrap();
        let again = read(db, &scan).await;
        assert_eq!(again.started_at, running.started_at);
        assert_eq!(again.worker_id.as_deref(), Some("x"));

        let summary = Summary { critical: 2, new: 2, ..Summary::default() };
        let mut tx = db.begin().await.unwrap();
        assert!(finish(&mut tx, scan.id, &Ending::Completed(summary)).await.unwrap());
        tx.commit().await.unwrap();
        let ended = read(db, &scan).await;
        assert_eq!((ended.status, ended.summary.0), (ScanStatus::Completed, summary));
        // Nothing is under way any more; how far it came is still told.
        let over = Progress { phase: "completed".into(), ..progress };
        assert_eq!(ended.progress.0, over, "{}", test.name);
        assert!(ended.finished_at.is_some() && ended.error.is_none());
        assert_eq!(kinds(db, &scan).await, ["queued", "completed"]);
        let (_, later): (Option<Uuid>, i64) =
            db.conn().fetch_one(REPOSITORY, args![tenant.repository]).await.unwrap();
        assert!(later > version, "the repository shows its last scan");

        // What has ended never moves again.
        let mut tx = db.begin().await.unwrap();
        assert!(!finish(&mut tx, scan.id, &Ending::Cancelled).await.unwrap());
        assert!(!start(&mut tx, scan.id, "w").await.unwrap());
        set_progress(&mut tx, scan.id, &Progress::default()).await.unwrap();
        tx.commit().await.unwrap();
        let still = read(db, &scan).await;
        assert_eq!((still.status, still.version), (ended.status, ended.version));
        assert_eq!(kinds(db, &scan).await.len(), 2);
    }
}

#[tokio::test]
async fn a_failure_is_told_in_the_row_and_in_the_last_event() {
    for test in both().await {
        let scan = created(&test.db, tenant(&test.db).await).await;
        let failure = Failure { code: "no_such_ref".into(), message: "Name a branch.".into() };
        let mut tx = test.db.begin().await.unwrap();
        assert!(finish(&mut tx, scan.id, &Ending::Failed(failure.clone())).await.unwrap());
        tx.commit().await.unwrap();
        let row = read(&test.db, &scan).await;
        assert_eq!(row.status, ScanStatus::Failed, "{}", test.name);
        assert_eq!(row.progress.phase, "failed", "{}", test.name);
        assert_eq!(row.error.map(|e| e.0), Some(failure));
        let last = events::after(&test.db, scan.id, 1, 10).await.unwrap().pop().unwrap();
        assert_eq!((last.level.as_str(), last.message.as_str()), ("error", "Name a branch."));
    }
}

#[tokio::test]
async fn a_queued_scan_is_cancelled_at_once_and_a_running_one_is_asked() {
    for test in both().await {
        let db = &test.db;
        let ada = tenant(db).await;
        let eve = tenant(db).await;
        let other = repository_of(db, ada.owner).await;
        let scan = created(db, ada).await;
        for (owner, repository) in [
            (eve.owner, ada.repository),
            (eve.owner, eve.repository),
            (ada.owner, other.repository),
        ] {
            let mut tx = db.begin().await.unwrap();
            let outcome = cancel(&mut tx, owner, repository, scan.id).await.unwrap();
            assert!(matches!(outcome, Cancel::NotFound), "{}: {outcome:?}", test.name);
            tx.commit().await.unwrap();
        }
        let mut tx = db.begin().await.unwrap();
        let outcome = cancel(&mut tx, ada.owner, ada.repository, scan.id).await.unwrap();
        assert!(matches!(outcome, Cancel::Cancelled), "{}: {outcome:?}", test.name);
        tx.commit().await.unwrap();
        assert_eq!(read(db, &scan).await.status, ScanStatus::Cancelled);
        assert_eq!(kinds(db, &scan).await, ["queued", "cancelled"]);
        assert!(jobs::claim(db, "w", 60_000_000).await.unwrap().is_none());
        let mut tx = db.begin().await.unwrap();
        let outcome = cancel(&mut tx, ada.owner, ada.repository, scan.id).await.unwrap();
        assert!(matches!(outcome, Cancel::Ended), "{}: {outcome:?}", test.name);
        drop(tx);

        let scan = created(db, ada).await;
        let job = jobs::claim(db, "w", 60_000_000).await.unwrap().unwrap();
        let mut tx = db.begin().await.unwrap();
        let outcome = cancel(&mut tx, ada.owner, ada.repository, scan.id).await.unwrap();
        assert!(matches!(outcome, Cancel::Requested), "{}: {outcome:?}", test.name);
        tx.commit().await.unwrap();
        let beat = jobs::heartbeat(db, job.id, job.fence, 60_000_000).await.unwrap();
        assert_eq!(beat, jobs::Heartbeat::CancelRequested);
    }
}

#[tokio::test]
async fn lists_are_newest_first_and_know_their_owner() {
    for test in both().await {
        let db = &test.db;
        let ada = tenant(db).await;
        let eve = tenant(db).await;
        let mut scans = Vec::new();
        for _ in 0..5 {
            scans.push(created(db, ada).await.id);
        }
        scans.reverse();
        for scope in [Scope::Repository(ada.repository), Scope::Project(ada.project)] {
            let ids = async |owner, before| -> Vec<Uuid> {
                let rows = list(db, owner, scope, before, 3).await.unwrap();
                rows.into_iter().map(|row| row.id).collect()
            };
            assert_eq!(ids(ada.owner, None).await, scans[..3], "{}", test.name);
            assert_eq!(ids(ada.owner, Some(scans[2])).await, scans[3..]);
            assert!(ids(eve.owner, None).await.is_empty());
        }
        assert!(get(db, eve.owner, scans[0]).await.unwrap().is_none());
        assert!(scannable(db, eve.owner, ada.repository).await.unwrap().is_none());
        let repository = scannable(db, ada.owner, ada.repository).await.unwrap().unwrap();
        assert_eq!(repository.ingest_status, "ready");
    }
}

#[tokio::test]
async fn artefacts_belong_to_their_scan() {
    for test in both().await {
        let db = &test.db;
        let ada = tenant(db).await;
        let scan = created(db, ada).await;
        let other = created(db, ada).await;
        let artifact = artifacts::Artifact {
            scan_id: scan.id,
            name: "results.sarif".into(),
            content_type: "application/sarif+json".into(),
            size: 12,
            sha256: "00".into(),
            storage_key: "artifacts/1".into(),
        };
        let better = artifacts::Artifact { size: 13, ..artifact.clone() };
        let mut tx = db.begin().await.unwrap();
        artifacts::put(&mut tx, &artifact).await.unwrap();
        artifacts::put(&mut tx, &better).await.unwrap();
        tx.commit().await.unwrap();
        let both = artifacts::of_scans(db, &[scan.id, other.id]).await.unwrap();
        assert_eq!(both, std::slice::from_ref(&better), "{}", test.name);
        assert!(artifacts::of_scans(db, &[other.id]).await.unwrap().is_empty());
        let find = async |owner, name: &str| {
            artifacts::get(db, owner, ada.repository, scan.id, name).await.unwrap()
        };
        assert_eq!(find(ada.owner, "results.sarif").await, Some(better.clone()));
        assert_eq!(find(ada.owner, "log.txt").await, None);
        assert_eq!(find(new_id(), "results.sarif").await, None);
    }
}
