//! Messages and what happens beside them, on both databases.

use std::time::Duration;

use super::*;
use crate::db::Sql;
use crate::db::scans::tests::new_scan;
use crate::db::scans::{self, Ending, ScanStatus};
use crate::db::testing::{Tenant, both, tenant};

async fn webhook(db: &Db, of: Tenant) -> Webhook {
    let wanted = Wanted {
        url: "https://example.org/hook".into(),
        description: String::new(),
        events: vec![Event::ScanCompleted],
        enabled: true,
    };
    let mut tx = db.begin().await.unwrap();
    let made = create(&mut tx, of.owner, of.project, new_id(), &wanted, vec![1]).await.unwrap();
    tx.commit().await.unwrap();
    made.flatten().unwrap()
}

async fn scan(db: &Db, of: Tenant) -> Uuid {
    let mut tx = db.begin().await.unwrap();
    let id = scans::create(&mut tx, &new_scan(of)).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn complete(db: &Db, scan: Uuid) -> Result<bool> {
    let mut tx = db.begin().await?;
    let ended = scans::finish(&mut tx, scan, &Ending::Completed(Summary::default())).await?;
    tx.commit().await?;
    Ok(ended)
}

async fn sent(db: &Db, of: &Webhook) -> usize {
    deliveries(db, of.owner_id, of.id, None, 100).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_is_deleted_does_not_undo_the_end_of_a_scan() {
    for test in both().await {
        let (db, name) = (&test.db, test.name);
        let ada = tenant(db).await;
        let (going, staying) = (webhook(db, ada).await, webhook(db, ada).await);
        let scan = scan(db, ada).await;
        // It is deleted, but not for others yet, when the scan ends.
        let mut tx = db.begin().await.unwrap();
        assert!(delete(&mut tx, ada.owner, going.id).await.unwrap());
        let ending = tokio::spawn({
            let db = db.clone();
            async move { complete(&db, scan).await }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        tx.commit().await.unwrap();
        assert!(ending.await.unwrap().unwrap(), "{name}");
        let row = scans::get(db, ada.owner, scan).await.unwrap().unwrap();
        assert_eq!(row.status, ScanStatus::Completed, "{name}");
        assert_eq!((sent(db, &going).await, sent(db, &staying).await), (0, 1), "{name}");
    }
}

/// The other way round: what tells it has begun, so it is deleted afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_is_being_told_is_deleted_afterwards() {
    for test in both().await {
        let (db, name) = (&test.db, test.name);
        let ada = tenant(db).await;
        let webhook = webhook(db, ada).await;
        let scan = scan(db, ada).await;
        let mut tx = db.begin().await.unwrap();
        let ending = Ending::Completed(Summary::default());
        assert!(scans::finish(&mut tx, scan, &ending).await.unwrap());
        let deleting = tokio::spawn({
            let (db, id) = (db.clone(), webhook.id);
            async move {
                let mut tx = db.begin().await?;
                let deleted = delete(&mut tx, ada.owner, id).await?;
                tx.commit().await?;
                Ok::<_, crate::db::DbError>(deleted)
            }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!deleting.is_finished(), "{name}");
        tx.commit().await.unwrap();
        assert!(deleting.await.unwrap().unwrap(), "{name}");
        assert_eq!(sent(db, &webhook).await, 0, "{name}: they go with it");
    }
}

/// Both lock the webhook and its messages; in one order, or they would wait for each
/// other until PostgreSQL gives one of them up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_try_is_noted_while_the_webhook_is_deleted() {
    for test in both().await {
        let (db, name) = (&test.db, test.name);
        let ada = tenant(db).await;
        for _ in 0..30 {
            let webhook = webhook(db, ada).await;
            let mut tx = db.begin().await.unwrap();
            let delivery = ping(&mut tx, &webhook).await.unwrap().unwrap();
            tx.commit().await.unwrap();
            let failed = Attempt { error: Some("no answer".into()), ..Attempt::default() };
            let noting = tokio::spawn({
                let db = db.clone();
                async move {
                    let mut tx = db.begin().await?;
                    tried(&mut tx, &delivery, &failed).await?;
                    tx.commit().await
                }
            });
            let mut tx = db.begin().await.unwrap();
            let deleted = delete(&mut tx, ada.owner, webhook.id).await;
            assert!(deleted.is_ok_and(|deleted| deleted), "{name}");
            tx.commit().await.unwrap();
            let noted = noting.await.unwrap();
            assert!(noted.is_ok(), "{name}: {noted:?}");
        }
    }
}

#[tokio::test]
async fn a_receiver_that_takes_less_than_comes_in_is_disabled() {
    const MANY: Sql = Sql::pair(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $3) \
         INSERT INTO webhook_deliveries (id, webhook_id, owner_id, message_id, event, payload, \
         status, created_at) SELECT randomblob(16), $1, $2, randomblob(16), 'ping', '', \
         'pending', 1 FROM n",
        "INSERT INTO webhook_deliveries (id, webhook_id, owner_id, message_id, event, payload, \
         status, created_at) SELECT gen_random_uuid(), $1, $2, gen_random_uuid(), 'ping', '', \
         'pending', 1 FROM generate_series(1, $3)",
    );
    const WAITING: Sql = Sql::both("SELECT count(*) FROM webhook_deliveries WHERE webhook_id = $1");
    for test in both().await {
        let (db, name) = (&test.db, test.name);
        let ada = tenant(db).await;
        let webhook = webhook(db, ada).await;
        let mut tx = db.begin().await.unwrap();
        let row = args![webhook.id, ada.owner, i64::from(MAX_WAITING) - 1];
        tx.execute(MANY, row).await.unwrap();
        tx.commit().await.unwrap();
        for (enabled, what) in [(true, "the last one that may wait"), (false, "one too many")] {
            assert!(complete(db, scan(db, ada).await).await.unwrap(), "{name}");
            let now = get(db, ada.owner, webhook.id).await.unwrap().unwrap();
            assert_eq!(now.enabled, enabled, "{name}: {what}");
            assert_eq!(now.disabled_reason.is_none(), enabled, "{name}: {what}");
            let (count,): (i64,) = db.conn().fetch_one(WAITING, args![webhook.id]).await.unwrap();
            assert_eq!(count, i64::from(MAX_WAITING), "{name}: {what}");
        }
    }
}

#[tokio::test]
async fn a_receiver_may_ask_for_a_day_at_most_and_not_for_less_than_is_due() {
    let seconds = |n: i64| n * 1_000_000;
    for test in both().await {
        let (db, name) = (&test.db, test.name);
        let ada = tenant(db).await;
        let webhook = webhook(db, ada).await;
        for (wish, pause) in [
            (None, seconds(RETRIES[0])),
            (Some(0), seconds(RETRIES[0])),
            (Some(seconds(60)), seconds(60)),
            (Some(i64::MAX), MAX_RETRY_AFTER),
            (Some(-5), seconds(RETRIES[0])),
        ] {
            let mut tx = db.begin().await.unwrap();
            let delivery = ping(&mut tx, &webhook).await.unwrap().unwrap();
            let error = Some("The receiver answered 503.".into());
            let failed = Attempt { error, retry_after: wish, ..Attempt::default() };
            let noted = tried(&mut tx, &delivery, &failed).await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(noted, Some(pause), "{name}: {wish:?}");
        }
    }
}
