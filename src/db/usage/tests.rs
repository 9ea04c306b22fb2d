use super::super::testing::{both, tenant};
use super::super::{Sql, new_id, projects, repositories};
use super::*;

async fn rows(db: &Db) -> Vec<(String, i64)> {
    const ROWS: Sql = Sql::both("SELECT kind, quantity FROM usage ORDER BY kind");
    db.conn().fetch_all(ROWS, args![]).await.unwrap()
}

async fn sums_of(db: &Db) -> Vec<(String, i64)> {
    const SUMS: Sql = Sql::both(
        "SELECT kind, CAST(sum(quantity) AS BIGINT) FROM usage_daily GROUP BY kind ORDER BY kind",
    );
    db.conn().fetch_all(SUMS, args![]).await.unwrap()
}

fn pairs(rows: &[(&str, i64)]) -> Vec<(String, i64)> {
    rows.iter().map(|(kind, quantity)| ((*kind).to_owned(), *quantity)).collect()
}

#[tokio::test]
async fn an_event_counts_once_whoever_writes_it_again() {
    for test in both().await {
        let of = tenant(&test.db).await;
        let event = |subject_id, quantities| Event {
            subject_id,
            owner_id: of.owner,
            project_id: of.project,
            at: now(),
            quantities,
        };
        let scan = new_id();
        for quantities in [
            &[(Kind::Scans, 1), (Kind::ScanCpuMs, 20)][..],
            // Another run of the same job measured something else.
            &[(Kind::Scans, 1), (Kind::ScanCpuMs, 30), (Kind::FilesScanned, 4)],
            &[],
        ] {
            let mut tx = test.db.begin().await.unwrap();
            record(&mut tx, &event(scan, quantities)).await.unwrap();
            tx.commit().await.unwrap();
        }
        let expected = pairs(&[("files_scanned", 4), ("scan_cpu_ms", 20), ("scans", 1)]);
        assert_eq!(rows(&test.db).await, expected, "{}", test.name);
        assert_eq!(sums_of(&test.db).await, expected, "{}", test.name);

        let mut tx = test.db.begin().await.unwrap();
        record(&mut tx, &event(new_id(), &[(Kind::Scans, 1)])).await.unwrap();
        drop(tx);
        assert_eq!(rows(&test.db).await, expected, "{}: with its transaction or not", test.name);
    }
}

#[tokio::test]
async fn what_is_kept_ends_once_with_what_it_goes_with() {
    for test in both().await {
        let db = &test.db;
        let of = tenant(db).await;
        let keep_one = async |key: &str, holder_id, bytes| {
            let kept = Kept { key, holder_id, owner_id: of.owner, project_id: of.project, bytes };
            let mut tx = db.begin().await.unwrap();
            keep(&mut tx, &[kept.clone(), kept]).await.unwrap();
            tx.commit().await.unwrap();
        };
        keep_one("a", of.repository, 100).await;
        keep_one("b", of.repository, 10).await;
        let upload = new_id();
        keep_one("c", upload, 1).await;
        let kept =
            async || (stored(db, of.project).await.unwrap(), stored_in_all(db).await.unwrap());
        assert_eq!(kept().await, (111, 111), "{}", test.name);
        let mut tx = db.begin().await.unwrap();
        remove(&mut tx, Gone::Key("b")).await.unwrap();
        remove(&mut tx, Gone::Key("b")).await.unwrap();
        remove(&mut tx, Gone::Holder(upload)).await.unwrap();
        tx.commit().await.unwrap();
        let sums = pairs(&[("removed", 11), ("stored", 111)]);
        assert_eq!(sums_of(db).await, sums, "{}", test.name);
        assert_eq!(kept().await, (100, 100), "{}", test.name);
        assert_eq!(most(db).await.unwrap().project_bytes, 100, "{}", test.name);

        assert!(repositories::delete(db, of.owner, of.repository).await.unwrap());
        let sums = pairs(&[("removed", 111), ("stored", 111)]);
        assert_eq!(sums_of(db).await, sums, "{}", test.name);
        assert_eq!(kept().await, (0, 0), "{}", test.name);
        assert!(projects::delete(db, of.owner, of.project).await.unwrap());
        let mut tx = view(db).await.unwrap();
        let all = names(&mut tx, of.owner).await.unwrap();
        assert_eq!(all, [(of.project, "project".to_owned())], "{}: its name stays", test.name);
        assert_eq!(sums_of(db).await, sums, "{}: nothing twice", test.name);
    }
}

#[tokio::test]
async fn a_view_does_not_change_while_others_write() {
    for test in both().await {
        let of = tenant(&test.db).await;
        let who = Of { owner_id: of.owner, project_id: None };
        let mut tx = view(&test.db).await.unwrap();
        let day = now().div_euclid(DAY);
        assert!(by_day(&mut tx, who, day, day + 2).await.unwrap().is_empty());
        let event = Event {
            subject_id: new_id(),
            owner_id: of.owner,
            project_id: of.project,
            at: now(),
            quantities: &[(Kind::Pushes, 1)],
        };
        let mut writer = test.db.begin().await.unwrap();
        record(&mut writer, &event).await.unwrap();
        writer.commit().await.unwrap();
        assert!(by_project(&mut tx, who, day, day + 2).await.unwrap().is_empty(), "{}", test.name);
        drop(tx);
        let mut tx = view(&test.db).await.unwrap();
        assert_eq!(by_project(&mut tx, who, day, day + 2).await.unwrap().len(), 1);
    }
}
