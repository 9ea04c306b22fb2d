//! Which jobs have to be sent, on both databases.

use serde_json::json;

use super::*;
use crate::db::jobs::{self, End, JobKind, NewJob};
use crate::db::testing::{TestDb, both, explain};
use crate::db::{Sql, new_id, now};

fn a_scan() -> NewJob {
    NewJob { kind: JobKind::Scan, subject_id: new_id(), owner_id: None, payload: json!({}) }
}

async fn insert(test: &TestDb) -> Uuid {
    let mut tx = test.db.begin().await.unwrap();
    let id = jobs::insert(&mut tx, &a_scan()).await.unwrap();
    tx.commit().await.unwrap();
    id
}

#[tokio::test]
async fn a_job_is_sent_once_each_time_that_it_waits() {
    for test in both().await {
        let (db, name) = (&test.db, test.name);
        let mut outbox = db.hub().outbox(4);
        let id = insert(&test).await;
        let told = outbox.try_recv().unwrap();
        assert_eq!((told.id, told.lane, told.fence), (id, Lane::Work, 0), "{name}");
        assert_eq!(first_unsent(db).await.unwrap(), Some(told.run_at), "{name}");
        sent(db, now(), &[(id, 0)]).await.unwrap();
        assert_eq!(first_unsent(db).await.unwrap(), None, "{name}");
        assert!(take_unsent(db, now(), now(), 10).await.unwrap().is_empty(), "{name}");

        // A note of the wait before does not count for this one.
        let job = jobs::claim(db, "w", 1_000_000).await.unwrap().unwrap();
        let mut tx = db.begin().await.unwrap();
        jobs::retry(&mut tx, id, job.fence, "again", 0).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(outbox.try_recv().unwrap().fence, 1, "{name}");
        sent(db, now(), &[(id, 0)]).await.unwrap();
        assert!(first_unsent(db).await.unwrap().is_some(), "{name}");

        // What one takes over nobody else takes, unless it is taken back.
        let at = now();
        let taken = take_unsent(db, at, at, 10).await.unwrap();
        assert_eq!(taken.iter().map(|job| job.id).collect::<Vec<_>>(), [id], "{name}");
        assert!(take_unsent(db, at, at, 10).await.unwrap().is_empty(), "{name}");
        unsend(db, at - 1, &taken).await.unwrap();
        assert_eq!(first_unsent(db).await.unwrap(), None, "{name}: a note of another one");
        unsend(db, at, &taken).await.unwrap();
        assert!(first_unsent(db).await.unwrap().is_some(), "{name}");

        // Given back, and rescued.
        let job = jobs::claim(db, "w", 1_000_000).await.unwrap().unwrap();
        jobs::release(db, id, job.fence).await.unwrap();
        assert!(first_unsent(db).await.unwrap().is_some(), "{name}");
        assert!(outbox.try_recv().is_err(), "{name}: whoever gave it back shows its message");
        sent(db, now(), &[(id, job.fence)]).await.unwrap();
        let job = jobs::claim(db, "w", -1).await.unwrap().unwrap();
        assert_eq!(jobs::rescue(db).await.unwrap(), 1, "{name}");
        assert_eq!(outbox.try_recv().unwrap().fence, job.fence, "{name}");
        assert!(first_unsent(db).await.unwrap().is_some(), "{name}");

        // What ended is nobody's business.
        let job = jobs::claim(db, "w", 1_000_000).await.unwrap().unwrap();
        let mut tx = db.begin().await.unwrap();
        jobs::end(&mut tx, id, job.fence, &End::Done).await.unwrap();
        tx.commit().await.unwrap();
        sent(db, now(), &[(id, job.fence)]).await.unwrap();
        assert_eq!(first_unsent(db).await.unwrap(), None, "{name}");
        assert_eq!(first_untaken(db).await.unwrap(), None, "{name}");
    }
}

#[tokio::test]
async fn nothing_is_told_of_what_was_rolled_back_and_no_more_than_there_is_room_for() {
    for test in both().await {
        let mut outbox = test.db.hub().outbox(2);
        let mut tx = test.db.begin().await.unwrap();
        jobs::insert(&mut tx, &a_scan()).await.unwrap();
        tx.rollback().await.unwrap();
        for _ in 0..3 {
            insert(&test).await;
        }
        assert_eq!(std::iter::from_fn(|| outbox.try_recv().ok()).count(), 2, "{}", test.name);
        let taken = take_unsent(&test.db, now(), now(), 10).await.unwrap();
        assert_eq!(taken.len(), 3, "{}: the table has them all", test.name);
    }
}

#[tokio::test]
async fn what_was_sent_and_is_not_taken_is_sent_again_the_oldest_first() {
    for test in both().await {
        let (db, name) = (&test.db, test.name);
        let mut ids = Vec::new();
        for n in 1..=3 {
            let id = insert(&test).await;
            // Long ago; `sent` keeps later times of jobs that are due later.
            const SENT: Sql = Sql::both("UPDATE jobs SET sent_at = $2 WHERE id = $1");
            let mut tx = db.begin().await.unwrap();
            tx.execute(SENT, args![id, n * 1_000_000_i64]).await.unwrap();
            tx.commit().await.unwrap();
            ids.push(id);
        }
        assert_eq!(first_untaken(db).await.unwrap(), Some(1_000_000), "{name}");
        let taken = take_untaken(db, now(), 2_500_000, 1).await.unwrap();
        assert_eq!(taken.iter().map(|job| job.id).collect::<Vec<_>>(), ids[..1], "{name}");
        let taken = take_untaken(db, now(), 2_500_000, 10).await.unwrap();
        assert_eq!(taken.iter().map(|job| job.id).collect::<Vec<_>>(), ids[1..2], "{name}");
        assert!(take_untaken(db, now(), 2_500_000, 10).await.unwrap().is_empty(), "{name}");

        let mut tx = db.begin().await.unwrap();
        let later = now() + 60_000_000;
        let id = jobs::insert_serial(&mut tx, &a_scan(), None, later).await.unwrap();
        tx.commit().await.unwrap();
        sent(db, now(), &[(id, 0)]).await.unwrap();
        const SENT: Sql = Sql::both("SELECT sent_at FROM jobs WHERE id = $1");
        let (at,): (i64,) = db.conn().fetch_one(SENT, args![id]).await.unwrap();
        assert_eq!(at, later, "{name}: it cannot be received before");
    }
}

#[tokio::test]
async fn a_claim_by_name_takes_that_job_or_says_why_not() {
    use crate::db::jobs::{Named, claim_named};
    for test in both().await {
        let (db, name) = (&test.db, test.name);
        let (first, second) = (insert(&test).await, insert(&test).await);
        let claim = async |id| claim_named(db, id, "w", 60_000_000).await.unwrap();
        let Named::Claimed(job) = claim(second).await else { panic!("{name}") };
        assert_eq!((job.id, job.attempt, job.fence), (second, 1, 1), "{name}");
        assert!(matches!(claim(second).await, Named::Nothing), "{name}: it is held");
        let mut tx = db.begin().await.unwrap();
        jobs::retry(&mut tx, second, job.fence, "later", 60_000_000).await.unwrap();
        tx.commit().await.unwrap();
        assert!(matches!(claim(second).await, Named::Waits(at) if at > now()), "{name}");
        assert!(matches!(claim(new_id()).await, Named::Nothing), "{name}: it is gone");
        assert!(matches!(claim(first).await, Named::Claimed(_)), "{name}");
        // Of a lane with limits no job is claimed past them.
        let payload = json!({"source": "git", "scan": true, "history": false});
        let fetch = NewJob { kind: JobKind::Ingest, payload, ..a_scan() };
        let mut tx = db.begin().await.unwrap();
        let fetch = jobs::insert(&mut tx, &fetch).await.unwrap();
        tx.commit().await.unwrap();
        assert!(matches!(claim(fetch).await, Named::Nothing), "{name}");
    }
}

/// Each look reads one end of an index, however much waits.
#[tokio::test]
async fn a_look_reads_no_more_than_it_finds() {
    for test in both().await {
        let (db, sqlite) = (&test.db, test.db.is_sqlite());
        let (id, series) = if sqlite {
            (
                "randomblob(16)",
                "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < $1) \
                 SELECT n FROM s) s",
            )
        } else {
            ("gen_random_uuid()", "generate_series(1, $1) AS s(n)")
        };
        let sql = format!(
            "INSERT INTO jobs (id, kind, subject_id, payload, status, run_at, max_attempts, \
             cancel_requested, created_at, lane, sent_at) SELECT {id}, 'scan', {id}, '{{}}', \
             'queued', n, 5, $2, n, 'work', CASE WHEN n < 3000 THEN n ELSE NULL END FROM {series}"
        );
        let mut tx = db.begin().await.unwrap();
        tx.execute_built(&sql, args![6_000_i64, false]).await.unwrap();
        tx.execute_built("ANALYZE", args![]).await.unwrap();
        tx.commit().await.unwrap();
        let text = |sql: Sql| if sqlite { sql.sqlite } else { sql.postgres };
        for (sql, args, index) in [
            (FIRST_UNSENT, args![], "jobs_unsent"),
            (FIRST_UNTAKEN, args![], "jobs_sent"),
            (TAKE_UNSENT, args![1_i64, 1_i64, 10_i64], "jobs_unsent"),
            (TAKE_UNTAKEN, args![1_i64, 1_i64, 10_i64], "jobs_sent"),
        ] {
            let plan = explain(db, text(sql), args).await;
            let scans = plan.iter().any(|step| step.contains(index));
            let sorts = plan.iter().any(|step| {
                step.contains("Sort") || step.contains("TEMP B-TREE") || step.contains("Seq Scan")
            });
            assert!(scans && !sorts, "{}: {index}: {plan:#?}", test.name);
        }
    }
}
