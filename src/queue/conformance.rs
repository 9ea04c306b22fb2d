//! What every backend of the queue promises, on every database. A new backend adds
//! itself to [`queues`].

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{LEASE, Queue};
use crate::db::jobs::{self, CancelOutcome, End, Heartbeat, JobKind, NewJob};
use crate::db::testing::{TestDb, both};
use crate::db::{Db, DbError, new_id};

async fn queues() -> Vec<(TestDb, Queue)> {
    both()
        .await
        .into_iter()
        .map(|test| {
            let queue = Queue::embedded(test.db.clone());
            (test, queue)
        })
        .collect()
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
