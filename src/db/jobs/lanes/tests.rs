//! Jobs from before there were lanes, on both databases.

use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::db::testing::{both_before, tenant};
use crate::db::{Sql, Value, new_id};

/// The migration reads the payload in SQL as [`Lane::of`] does.
#[tokio::test]
async fn jobs_that_wait_come_into_their_lanes() {
    const JOB: Sql = Sql::both(
        "INSERT INTO jobs (id, owner_id, kind, subject_id, payload, status, run_at, max_attempts, \
         cancel_requested, created_at) VALUES ($1, $2, $3, $4, $5, 'queued', 1, 5, $6, 1)",
    );
    const WEBHOOK: Sql = Sql::both(
        "INSERT INTO webhooks (id, project_id, owner_id, url, description, events, enabled, \
         secret, created_at, updated_at) VALUES ($1, $2, $3, 'u', '', $4, $5, $6, 1, 1)",
    );
    const DELIVERY: Sql = Sql::both(
        "INSERT INTO webhook_deliveries (id, webhook_id, owner_id, message_id, event, payload, \
         status, created_at) VALUES ($1, $2, $3, $1, 'ping', '', 'pending', 1)",
    );
    const LANE: Sql = Sql::both("SELECT lane, max_attempts, serial_id FROM jobs WHERE id = $1");
    for test in both_before(10).await {
        let (db, name) = (&test.db, test.name);
        let ada = tenant(db).await;
        let (webhook, delivery, lost) = (new_id(), new_id(), new_id());
        let archive = |fetch: Option<bool>| {
            let mut came = json!({"key": "k", "scan": true, "session": false});
            if let Some(fetch) = fetch {
                came["fetch"] = fetch.into();
            }
            json!({ "archive": came })
        };
        let any = new_id();
        let cases = [
            (JobKind::Ingest, any, json!({"source": "git", "scan": true}), None),
            (JobKind::Ingest, any, archive(Some(true)), None),
            (JobKind::Ingest, any, archive(Some(false)), None),
            (JobKind::Ingest, any, archive(None), None),
            (JobKind::Ingest, any, json!({"source": "push", "upload_id": any, "scan": true}), None),
            (JobKind::Ingest, any, json!({"upload_id": any, "scan": true}), None),
            (JobKind::Scan, any, json!({"source": "git"}), None),
            (JobKind::Cleanup, any, json!({}), None),
            (JobKind::Webhook, delivery, json!({}), Some(webhook)),
            // Its webhook was deleted.
            (JobKind::Webhook, lost, json!({}), Some(lost)),
        ];
        let mut tx = db.begin().await.unwrap();
        let events = Value::json(&["upload.ready"]);
        let row = args![webhook, ada.project, ada.owner, events, true, &[1_u8][..]];
        tx.execute(WEBHOOK, row).await.unwrap();
        tx.execute(DELIVERY, args![delivery, webhook, ada.owner]).await.unwrap();
        let mut ids = Vec::new();
        for (kind, subject, payload, _) in &cases {
            let id = new_id();
            let payload = Value::json(payload);
            let row = args![id, ada.owner, kind.as_str(), *subject, payload, false];
            tx.execute(JOB, row).await.unwrap();
            ids.push(id);
        }
        tx.commit().await.unwrap();

        db.migrate().await.unwrap();
        for (id, (kind, _, payload, serial)) in ids.into_iter().zip(&cases) {
            let (lane, most, found): (String, i64, Option<Uuid>) =
                db.conn().fetch_one(LANE, args![id]).await.unwrap();
            let expected = Lane::of(*kind, payload);
            assert_eq!(lane, expected.as_str(), "{name}: {kind:?} {payload}");
            assert_eq!(most, super::super::max_attempts(*kind), "{name}: {kind:?}");
            assert_eq!(found, *serial, "{name}: {kind:?}");
        }
        for (lane, count) in [(Lane::Fetches, 2), (Lane::Deliveries, 2), (Lane::Work, 6)] {
            for _ in 0..count {
                assert!(claim_of(db, lane, "w", 1_000_000).await.unwrap().is_some(), "{name}");
            }
            assert!(claim_of(db, lane, "w", 1_000_000).await.unwrap().is_none(), "{name}");
        }
    }
}
