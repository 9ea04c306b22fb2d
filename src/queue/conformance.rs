//! What every backend of the queue promises, on every database. A new backend adds
//! itself to [`queues`].

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{LEASE, Queue};
use crate::db::jobs::{
    self, CancelOutcome, DELIVERIES_OF_AN_ACCOUNT, End, FETCHES_OF_AN_ACCOUNT, Heartbeat, Job,
    JobKind, Lane, NewJob,
};
use crate::db::testing::{Tenant, TestDb, both, tenant};
use crate::db::webhooks::{self, Event, Wanted};
use crate::db::{Db, DbError, new_id, now};

async fn queues() -> Vec<(TestDb, Queue)> {
    let embedded = both().await.into_iter().map(|test| {
        let queue = Queue::embedded(test.db.clone());
        (test, queue)
    });
    embedded.chain(super::sqs::testing::queues().await).collect()
}

fn new_job(subject_id: Uuid) -> NewJob {
    NewJob { kind: JobKind::Scan, subject_id, owner_id: None, payload: json!({"n": 1}) }
}

async fn insert(db: &Db, subject: Uuid) -> Uuid {
    let mut tx = db.begin().await.unwrap();
    let id = jobs::insert(&mut tx, &new_job(subject)).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("within ten seconds")
}

#[tokio::test]
async fn a_committed_job_is_claimed_once_and_a_rolled_back_one_never() {
    for (test, queue) in queues().await {
        let stop = CancellationToken::new();
        let mut tx = test.db.begin().await.unwrap();
        jobs::insert(&mut tx, &new_job(new_id())).await.unwrap();
        tx.rollback().await.unwrap();
        let subject = new_id();
        let id = insert(&test.db, subject).await;
        let job = soon(queue.next("w1", &stop)).await.unwrap();
        assert_eq!((job.id, job.subject_id, job.attempt), (id, subject, 1), "{}", test.name);
        assert_eq!(job.payload, json!({"n": 1}));
        let second =
            tokio::time::timeout(Duration::from_millis(300), queue.next("w2", &stop)).await;
        assert!(second.is_err(), "{}: nothing else to claim", test.name);
    }
}

#[tokio::test]
async fn an_idle_worker_is_woken_by_the_commit() {
    for (test, queue) in queues().await {
        let stop = CancellationToken::new();
        let waiting = tokio::spawn(async move {
            let job = queue.next("w", &stop).await;
            (job, Instant::now())
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        let inserted = Instant::now();
        insert(&test.db, new_id()).await;
        let (job, at) = soon(waiting).await.unwrap();
        assert!(job.is_some() && at.duration_since(inserted) < Duration::from_secs(1));
    }
}

#[tokio::test]
async fn many_workers_share_many_jobs_without_a_double() {
    for (test, queue) in queues().await {
        let stop = CancellationToken::new();
        let mut expected = HashSet::new();
        let mut tx = test.db.begin().await.unwrap();
        for _ in 0..40 {
            expected.insert(jobs::insert(&mut tx, &new_job(new_id())).await.unwrap());
        }
        tx.commit().await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..8 {
            let (queue, stop, db) = (queue.clone(), stop.clone(), test.db.clone());
            tasks.spawn(async move {
                let mut mine = Vec::new();
                while let Some(job) = queue.next(&format!("w{n}"), &stop).await {
                    let mut tx = db.begin().await.unwrap();
                    jobs::end(&mut tx, job.id, job.fence, &End::Done).await.unwrap();
                    tx.commit().await.unwrap();
                    mine.push(job.id);
                    if jobs::pending(&db).await.unwrap() == 0 {
                        stop.cancel();
                    }
                }
                mine
            });
        }
        let mut got = Vec::new();
        while let Some(mine) = soon(tasks.join_next()).await {
            got.extend(mine.unwrap());
        }
        assert_eq!(got.len(), 40, "{}: none twice", test.name);
        assert_eq!(got.into_iter().collect::<HashSet<_>>(), expected);
    }
}

#[tokio::test]
async fn stopping_ends_the_wait() {
    for (_test, queue) in queues().await {
        let stop = CancellationToken::new();
        let waiting = tokio::spawn({
            let stop = stop.clone();
            async move { queue.next("w", &stop).await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
        assert!(soon(waiting).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_retry_waits_and_counts_and_a_release_does_not_count() {
    for (test, queue) in queues().await {
        let stop = CancellationToken::new();
        insert(&test.db, new_id()).await;
        let first = soon(queue.next("w", &stop)).await.unwrap();
        let mut tx = test.db.begin().await.unwrap();
        jobs::retry(&mut tx, first.id, first.fence, "later", 700_000).await.unwrap();
        tx.commit().await.unwrap();
        let put_back = Instant::now();
        let second = soon(queue.next("w", &stop)).await.unwrap();
        assert!(put_back.elapsed() >= Duration::from_millis(650), "{}", test.name);
        assert_eq!((second.id, second.attempt), (first.id, 2));
        assert!(second.fence > first.fence);
        jobs::release(&test.db, second.id, second.fence).await.unwrap();
        let third = soon(queue.next("w", &stop)).await.unwrap();
        assert_eq!(third.attempt, 2, "{}: a release does not count", test.name);
    }
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_changes_nothing() {
    for (test, queue) in queues().await {
        let stop = CancellationToken::new();
        insert(&test.db, new_id()).await;
        let frozen = soon(queue.next("frozen", &stop)).await.unwrap();
        // The lease ends at once instead of in fifteen seconds.
        assert_eq!(
            jobs::heartbeat(&test.db, frozen.id, frozen.fence, -1).await.unwrap(),
            Heartbeat::Held
        );
        assert_eq!(jobs::rescue(&test.db).await.unwrap(), 1);
        let other = soon(queue.next("other", &stop)).await.unwrap();
        assert_eq!(other.id, frozen.id);
        let db = &test.db;
        assert_eq!(
            jobs::heartbeat(db, frozen.id, frozen.fence, LEASE).await.unwrap(),
            Heartbeat::Lost
        );
        let mut tx = db.begin().await.unwrap();
        let held = jobs::hold(&mut tx, frozen.id, frozen.fence).await;
        assert!(matches!(held, Err(DbError::Fenced)), "{}", test.name);
        let ended = jobs::end(&mut tx, frozen.id, frozen.fence, &End::Done).await;
        assert!(matches!(ended, Err(DbError::Fenced)));
        tx.rollback().await.unwrap();
        jobs::release(db, frozen.id, frozen.fence).await.unwrap();
        assert_eq!(
            jobs::heartbeat(db, other.id, other.fence, LEASE).await.unwrap(),
            Heartbeat::Held
        );
    }
}

#[tokio::test]
async fn cancelling_a_queued_a_running_and_an_ended_job() {
    for (test, queue) in queues().await {
        let stop = CancellationToken::new();
        let db = &test.db;
        let cancel = async |subject| {
            let mut tx = db.begin().await.unwrap();
            let outcome = jobs::cancel(&mut tx, subject).await.unwrap();
            tx.commit().await.unwrap();
            outcome
        };
        let subject = new_id();
        insert(db, subject).await;
        assert_eq!(cancel(subject).await, CancelOutcome::Cancelled, "{}", test.name);
        let running = new_id();
        insert(db, running).await;
        let job = soon(queue.next("w", &stop)).await.unwrap();
        assert_eq!(job.subject_id, running, "the cancelled one is never claimed");
        let heard = db.hub().waiter(job.id);
        let (outcome, ()) = tokio::join!(cancel(running), soon(heard.notified()));
        assert_eq!(outcome, CancelOutcome::Requested);
        assert_eq!(
            jobs::heartbeat(db, job.id, job.fence, LEASE).await.unwrap(),
            Heartbeat::CancelRequested
        );
        let mut tx = db.begin().await.unwrap();
        jobs::end(&mut tx, job.id, job.fence, &End::Cancelled).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(cancel(running).await, CancelOutcome::Ended);
    }
}

fn fetch(owner_id: Uuid, archive: bool) -> NewJob {
    let payload = if archive {
        json!({"archive": {"key": "k", "scan": false, "session": false, "fetch": true}})
    } else {
        json!({"source": "git", "scan": true, "history": false})
    };
    NewJob { kind: JobKind::Ingest, subject_id: new_id(), owner_id: Some(owner_id), payload }
}

#[tokio::test]
async fn fetches_hold_up_neither_other_work_nor_other_accounts() {
    for (test, _) in queues().await {
        let (db, name) = (&test.db, test.name);
        let (one, other) = (tenant(db).await.owner, tenant(db).await.owner);
        let mut tx = db.begin().await.unwrap();
        for n in 0..4 {
            jobs::insert(&mut tx, &fetch(one, n % 2 == 0)).await.unwrap();
        }
        let last = jobs::insert(&mut tx, &fetch(other, false)).await.unwrap();
        tx.commit().await.unwrap();
        let try_claim = async || jobs::claim_of(db, Lane::Fetches, "w", LEASE).await.unwrap();
        let claim = async || try_claim().await.expect("a fetch");
        assert!(jobs::claim(db, "w", LEASE).await.unwrap().is_none(), "{name}: not in this lane");
        assert_eq!(jobs::next_run(db).await.unwrap(), None, "{name}");
        let first = claim().await;
        assert_eq!(first.owner_id, Some(one));
        assert_eq!(claim().await.owner_id, Some(one), "{name}");
        assert_eq!(claim().await.id, last, "{name}: the other account has its turn");
        assert!(try_claim().await.is_none(), "{name}: the first has its share");
        assert_eq!(jobs::next_run_of(db, Lane::Fetches).await.unwrap(), None, "{name}");
        let mut tx = db.begin().await.unwrap();
        jobs::end(&mut tx, first.id, first.fence, &End::Done).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(claim().await.owner_id, Some(one), "{name}");
    }
}

async fn webhook(db: &Db, of: Tenant) -> Uuid {
    let wanted = Wanted {
        url: "https://example.org/hook".into(),
        description: String::new(),
        events: vec![Event::UploadReady],
        enabled: true,
    };
    let mut tx = db.begin().await.unwrap();
    let id = new_id();
    webhooks::create(&mut tx, of.owner, of.project, id, &wanted, vec![1]).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn deliver(db: &Db, owner: Uuid, webhook: Uuid, count: usize) {
    let mut tx = db.begin().await.unwrap();
    for _ in 0..count {
        let job = NewJob {
            kind: JobKind::Webhook,
            subject_id: new_id(),
            owner_id: Some(owner),
            payload: json!({}),
        };
        jobs::insert_serial(&mut tx, &job, Some(webhook), now()).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// Many claims at the same moment.
async fn claim_at_once(db: &Db, lane: Lane) -> Vec<Job> {
    let claims = (0..8).map(|n| {
        let db = db.clone();
        tokio::spawn(async move { jobs::claim_of(&db, lane, &format!("w{n}"), LEASE).await })
    });
    let claimed = soon(futures::future::join_all(claims)).await;
    claimed.into_iter().filter_map(|job| job.unwrap().unwrap()).collect()
}

async fn end_all(db: &Db, claimed: Vec<Job>) {
    let mut tx = db.begin().await.unwrap();
    for job in claimed {
        jobs::end(&mut tx, job.id, job.fence, &End::Done).await.unwrap();
    }
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_deliveries_to_one_webhook_run_at_once() {
    for (test, _) in queues().await {
        let (db, name) = (&test.db, test.name);
        let ada = tenant(db).await;
        let webhook = webhook(db, ada).await;
        deliver(db, ada.owner, webhook, 80).await;
        for _ in 0..20 {
            let claimed = claim_at_once(db, Lane::Deliveries).await;
            assert_eq!(claimed.len(), 1, "{name}");
            assert_eq!(jobs::next_run_of(db, Lane::Deliveries).await.unwrap(), None, "{name}");
            end_all(db, claimed).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_at_once_keep_the_share_of_an_account() {
    for (test, _) in queues().await {
        let (db, name) = (&test.db, test.name);
        let ada = tenant(db).await;
        for _ in 0..10 {
            for _ in 0..10 {
                deliver(db, ada.owner, webhook(db, ada).await, 1).await;
            }
            let mut tx = db.begin().await.unwrap();
            for n in 0..10 {
                jobs::insert(&mut tx, &fetch(ada.owner, n % 2 == 0)).await.unwrap();
            }
            tx.commit().await.unwrap();
            for (lane, most) in [
                (Lane::Deliveries, DELIVERIES_OF_AN_ACCOUNT),
                (Lane::Fetches, FETCHES_OF_AN_ACCOUNT),
            ] {
                let claimed = claim_at_once(db, lane).await;
                assert_eq!(claimed.len() as i64, most, "{name}: {lane:?}");
                end_all(db, claimed).await;
            }
        }
    }
}
