//! What the messages add to the promises of every queue (see `conformance`): that
//! nothing depends on them.

mod away;

use std::collections::HashSet;

use serde_json::json;

use super::testing::{Process, QUICK, SERVICES, new_name, part};
use super::*;
use crate::db::jobs::{End, FETCHES_OF_AN_ACCOUNT, JobKind, NewJob};
use crate::db::testing::{TestDb, postgres, tenant};
use crate::db::{Sql, args, new_id};

/// A database, a service and the name of a queue of the test's own.
struct Place {
    name: &'static str,
    test: TestDb,
    endpoint: String,
    queue: String,
}

impl Place {
    async fn at(name: &'static str, endpoint: String) -> Self {
        Self { name, test: postgres().await, endpoint, queue: new_name() }
    }

    /// One on each service.
    async fn each() -> Vec<Self> {
        let mut places = Vec::new();
        for (name, variable) in SERVICES {
            places.push(Self::at(name, part(variable)).await);
        }
        places
    }

    async fn server(&self) -> Process {
        Process::server(&self.test.url, &self.endpoint, &self.queue, QUICK).await
    }

    async fn worker(&self) -> Process {
        Process::worker(&self.test.url, &self.endpoint, &self.queue, QUICK).await
    }
}

async fn insert(db: &Db, count: usize) -> HashSet<Uuid> {
    let mut tx = db.begin().await.unwrap();
    let mut ids = HashSet::new();
    for _ in 0..count {
        let (kind, payload) = (JobKind::Scan, json!({}));
        let job = NewJob { kind, subject_id: new_id(), owner_id: None, payload };
        ids.insert(jobs::insert(&mut tx, &job).await.unwrap());
    }
    tx.commit().await.unwrap();
    ids
}

async fn end(process: &Process, job: &Job) {
    let mut tx = process.db.begin().await.unwrap();
    jobs::end(&mut tx, job.id, job.fence, &End::Done).await.unwrap();
    tx.commit().await.unwrap();
    process.sqs.ended(job);
}

/// Whatever is waited for here takes no longer.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap_or_else(|_| {
        panic!("not in time: {what}");
    })
}

/// Asks until it is so.
async fn until(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

async fn depth(process: &Process) -> Depth {
    process.sqs.depth(Duration::ZERO).await.unwrap()
}

/// Waits until so many messages wait, and none is anywhere else.
async fn waiting(process: &Process, count: i64) {
    until("messages wait", async || {
        let depth = depth(process).await;
        (depth.waiting, depth.in_flight, depth.delayed) == (count, 0, 0)
    })
    .await;
}

async fn next(process: &Process) -> Job {
    let next = process.queue.next("w", &process.stopping);
    soon("a job", next).await.expect("not stopped")
}

/// Nothing comes for a while.
async fn nothing(process: &Process) {
    let next = process.queue.next("w", &process.stopping);
    let got = tokio::time::timeout(Duration::from_millis(1500), next).await;
    assert!(got.is_err(), "{got:?}");
}

/// Runs jobs in several slots until as many have ended as there are; each once.
async fn run_all(process: &Process, expected: &HashSet<Uuid>) {
    let slots = (0..4).map(|_| async {
        let mut mine = Vec::new();
        while let Some(job) = process.queue.next("w", &process.stopping).await {
            end(process, &job).await;
            mine.push(job.id);
            if jobs::pending(&process.db).await.unwrap() == 0 {
                // Time for a second run, if there is one.
                tokio::time::sleep(Duration::from_millis(700)).await;
                process.stopping.cancel();
            }
        }
        mine
    });
    let ran = soon("all jobs", futures::future::join_all(slots)).await.concat();
    assert_eq!(ran.len(), expected.len(), "each once");
    assert_eq!(&ran.into_iter().collect::<HashSet<_>>(), expected);
}

async fn sent_at(db: &Db, id: Uuid) -> Option<i64> {
    const SENT: Sql = Sql::both("SELECT sent_at FROM jobs WHERE id = $1");
    let (at,): (Option<i64>,) = db.conn().fetch_one(SENT, args![id]).await.unwrap();
    at
}

#[tokio::test]
async fn a_job_of_one_process_is_taken_by_another_within_a_second() {
    for place in Place::each().await {
        let (server, worker) = (place.server().await, place.worker().await);
        // The queue is created and the first poll has begun.
        let first = insert(&server.db, 1).await;
        let job = next(&worker).await;
        assert!(first.contains(&job.id));
        end(&worker, &job).await;
        let (later, stopping) = (worker.queue.clone(), worker.stopping.clone());
        let slot = tokio::spawn(async move {
            let job = later.next("w", &stopping).await;
            (job, Instant::now())
        });
        tokio::time::sleep(Duration::from_millis(500)).await;
        let committed = Instant::now();
        let ids = insert(&server.db, 1).await;
        let (job, at) = soon("the job", slot).await.unwrap();
        let job = job.unwrap();
        assert!(ids.contains(&job.id), "{}", place.name);
        let took = at.duration_since(committed);
        assert!(took < Duration::from_secs(1), "{}: {took:?}", place.name);
        end(&worker, &job).await;
        waiting(&worker, 0).await;
        worker.stop().await;
    }
}

/// What a process committed and did not get to send is sent by the relay of another one.
#[tokio::test]
async fn a_relay_sends_what_was_not_sent() {
    for place in Place::each().await {
        let worker = place.worker().await;
        // This process knows of no queue: it stands for one that died after its commit.
        let ids = insert(&place.test.db, 3).await;
        for _ in 0..3 {
            let job = next(&worker).await;
            assert!(ids.contains(&job.id) && worker.sqs.0.held().contains_key(&job.id));
            end(&worker, &job).await;
        }
        waiting(&worker, 0).await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_message_that_is_lost_costs_no_job() {
    for place in Place::each().await {
        let server = place.server().await;
        let ids = insert(&server.db, 3).await;
        waiting(&server, 3).await;
        let (raw, url) = server.sqs.0.client.raw().await;
        raw.purge_queue().queue_url(&url).send().await.unwrap();
        waiting(&server, 0).await;
        for id in &ids {
            assert!(sent_at(&server.db, *id).await.is_some(), "{}", place.name);
        }
        let worker = place.worker().await;
        run_all(&worker, &ids).await;
        worker.stop().await;
    }
}

/// The same while others come all the time.
#[tokio::test]
async fn a_message_that_is_lost_among_others_costs_no_job() {
    for place in Place::each().await {
        let worker = place.worker().await;
        // As if a relay had died before it could send what it took over.
        let unsent = Db::open(&place.test.url).await.unwrap();
        let id = insert(&unsent, 1).await.into_iter().next().unwrap();
        jobs::sent(&unsent, now(), &[(id, 0)]).await.unwrap();
        let slots: Vec<_> = (0..2)
            .map(|_| {
                let (queue, stopping) = (worker.queue.clone(), worker.stopping.clone());
                let (db, sqs) = (worker.db.clone(), worker.sqs.clone());
                tokio::spawn(async move {
                    while let Some(job) = queue.next("w", &stopping).await {
                        let mut tx = db.begin().await.unwrap();
                        jobs::end(&mut tx, job.id, job.fence, &End::Done).await.unwrap();
                        tx.commit().await.unwrap();
                        sqs.ended(&job);
                    }
                })
            })
            .collect();
        const STATUS: Sql = Sql::both("SELECT status FROM jobs WHERE id = $1");
        let mut others = 0;
        until("the lost one", async || {
            insert(&worker.db, 1).await;
            others += 1;
            tokio::time::sleep(Duration::from_millis(200)).await;
            let (status,): (String,) = worker.db.conn().fetch_one(STATUS, args![id]).await.unwrap();
            status == "done"
        })
        .await;
        worker.stopping.cancel();
        for slot in slots {
            slot.await.unwrap();
        }
        assert!(others > 5, "{}: {others} came first", place.name);
        worker.stop().await;
    }
}

#[tokio::test]
async fn messages_that_come_twice_run_each_job_once() {
    for place in Place::each().await {
        let server = place.server().await;
        let ids = insert(&server.db, 20).await;
        waiting(&server, 20).await;
        for id in &ids {
            assert_eq!(server.sqs.0.client.send(&[(*id, Lane::Work, 0)]).await, Ok(vec![true]));
        }
        waiting(&server, 40).await;
        let worker = place.worker().await;
        run_all(&worker, &ids).await;
        worker.stop().await;
        // The second ones find nothing to do and are taken away.
        let worker = place.worker().await;
        nothing(&worker).await;
        waiting(&worker, 0).await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_message_that_is_seen_while_the_lease_is_held_runs_nothing() {
    for place in Place::each().await {
        let worker = place.worker().await;
        insert(&worker.db, 1).await;
        let job = next(&worker).await;
        let receipt = worker.sqs.0.held()[&job.id].receipt.clone();
        assert_eq!(depth(&worker).await.in_flight, 1, "{}", place.name);
        assert_eq!(worker.sqs.0.client.show(&[(receipt, 0)]).await, Ok(true));
        let other = place.worker().await;
        nothing(&other).await;
        waiting(&other, 0).await;
        end(&worker, &job).await;
        other.stop().await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_heartbeat_keeps_the_message_and_a_release_shows_it() {
    for place in Place::each().await {
        let worker = place.worker().await;
        insert(&worker.db, 1).await;
        let job = next(&worker).await;
        // As if the lease had almost run out.
        let receipt = worker.sqs.0.held()[&job.id].receipt.clone();
        assert_eq!(worker.sqs.0.client.show(&[(receipt, 2)]).await, Ok(true));
        worker.sqs.extended(&job);
        let other = place.worker().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        nothing(&other).await;
        assert_eq!(depth(&other).await.in_flight, 1, "{}", place.name);
        jobs::release(&worker.db, job.id, job.fence).await.unwrap();
        let released = Instant::now();
        worker.sqs.released(&job).await;
        assert!(sent_at(&worker.db, job.id).await.is_some(), "{}: no second one", place.name);
        let again = next(&other).await;
        assert_eq!((again.id, again.attempt), (job.id, 1), "{}", place.name);
        assert!(released.elapsed() < Duration::from_secs(2), "{:?}", released.elapsed());
        end(&other, &again).await;
        waiting(&other, 0).await;
        other.stop().await;
        worker.stop().await;
    }
}

/// A worker that went away leaves a message and a lease; another worker does the job when
/// both have run out, and once.
#[tokio::test]
async fn a_job_of_a_worker_that_went_away_is_done_by_another_one() {
    for place in Place::each().await {
        let gone = place.worker().await;
        insert(&gone.db, 1).await;
        let job = next(&gone).await;
        let receipt = gone.sqs.0.held()[&job.id].receipt.clone();
        gone.stopping.cancel();
        jobs::heartbeat(&gone.db, job.id, job.fence, -1).await.unwrap();
        assert_eq!(gone.sqs.0.client.show(&[(receipt, 0)]).await, Ok(true));
        let worker = place.worker().await;
        assert_eq!(jobs::rescue(&worker.db).await.unwrap(), 1);
        let again = next(&worker).await;
        assert_eq!((again.id, again.attempt), (job.id, 2), "{}", place.name);
        nothing(&worker).await;
        end(&worker, &again).await;
        waiting(&worker, 0).await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn the_queue_holds_back_what_is_not_due() {
    for place in Place::each().await {
        let worker = place.worker().await;
        let ids = insert(&worker.db, 1).await;
        let job = next(&worker).await;
        let mut tx = worker.db.begin().await.unwrap();
        jobs::retry(&mut tx, job.id, job.fence, "later", 2_500_000).await.unwrap();
        tx.commit().await.unwrap();
        worker.sqs.ended(&job);
        let put_back = Instant::now();
        until("the message is held back", async || depth(&worker).await.delayed == 1).await;
        let again = next(&worker).await;
        assert!(ids.contains(&again.id) && again.attempt == 2, "{}", place.name);
        let took = put_back.elapsed();
        assert!((2400..6000).contains(&took.as_millis()), "{}: {took:?}", place.name);
        // So late that no message can be held back: it is sent when it is due.
        let mut tx = worker.db.begin().await.unwrap();
        jobs::retry(&mut tx, again.id, again.fence, "later", 3_600_000_000).await.unwrap();
        tx.commit().await.unwrap();
        worker.sqs.ended(&again);
        waiting(&worker, 0).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(sent_at(&worker.db, job.id).await, None, "{}", place.name);
        // One of an earlier wait is of no use; one that comes early is seen again in time.
        let sent = worker.sqs.0.client.send(&[(job.id, Lane::Work, 0)]).await;
        assert_eq!(sent, Ok(vec![true]));
        nothing(&worker).await;
        waiting(&worker, 0).await;
        const EARLY: Sql = Sql::both("UPDATE jobs SET run_at = $2, sent_at = $2 WHERE id = $1");
        let mut tx = worker.db.begin().await.unwrap();
        tx.execute(EARLY, args![job.id, now() + 4_000_000]).await.unwrap();
        tx.commit().await.unwrap();
        let sent = worker.sqs.0.client.send(&[(job.id, Lane::Work, 0)]).await;
        assert_eq!(sent, Ok(vec![true]));
        nothing(&worker).await;
        assert_eq!(next(&worker).await.id, job.id, "{}", place.name);
        assert!(worker.sqs.0.held().contains_key(&job.id), "{}: by that message", place.name);
        worker.stop().await;
    }
}

/// Share of an account: two fetches run, the third begins when one of them ends, though
/// its message came and went.
#[tokio::test]
async fn fetches_that_have_to_wait_run_when_another_one_ended() {
    for place in Place::each().await {
        let worker = place.worker().await;
        let owner = tenant(&worker.db).await.owner;
        let mut tx = worker.db.begin().await.unwrap();
        let count = FETCHES_OF_AN_ACCOUNT + 3;
        for _ in 0..count {
            let payload = json!({"source": "git", "scan": true, "history": false});
            let (kind, owner_id) = (JobKind::Ingest, Some(owner));
            let job = NewJob { kind, subject_id: new_id(), owner_id, payload };
            jobs::insert(&mut tx, &job).await.unwrap();
        }
        tx.commit().await.unwrap();
        // A process listens while a slot of work is idle.
        let (work, stopping) = (worker.queue.clone(), worker.stopping.clone());
        tokio::spawn(async move { work.next("w", &stopping).await });
        let slots = (0..4).map(|_| async {
            let mut ran = 0;
            while let Some(job) = worker.queue.next_of(Lane::Fetches, "w", &worker.stopping).await {
                let running = jobs::running(&worker.db, 100).await.unwrap();
                assert!(running.len() as i64 <= FETCHES_OF_AN_ACCOUNT, "{running:?}");
                tokio::time::sleep(Duration::from_millis(300)).await;
                end(&worker, &job).await;
                ran += 1;
                if jobs::pending(&worker.db).await.unwrap() == 0 {
                    worker.stopping.cancel();
                }
            }
            ran
        });
        let ran = soon("all fetches", futures::future::join_all(slots)).await;
        assert_eq!(ran.into_iter().sum::<i64>(), count, "{}", place.name);
        worker.stop().await;
    }
}

/// While all slots of work are busy this process does not listen: the other lanes find
/// their jobs in the table.
#[tokio::test]
async fn a_busy_process_leaves_messages_alone_and_fetches_go_on() {
    for place in Place::each().await {
        let worker = place.worker().await;
        let owner = tenant(&worker.db).await.owner;
        insert(&worker.db, 1).await;
        let busy = next(&worker).await;
        let (fetches, stopping) = (worker.queue.clone(), worker.stopping.clone());
        let fetch =
            tokio::spawn(async move { fetches.next_of(Lane::Fetches, "w", &stopping).await });
        until("it waits", async || worker.sqs.0.rooms.free(Lane::Fetches) == 1).await;
        insert(&worker.db, 5).await;
        let mut tx = worker.db.begin().await.unwrap();
        let payload = json!({"source": "git", "scan": true, "history": false});
        let (kind, owner_id) = (JobKind::Ingest, Some(owner));
        let job = NewJob { kind, subject_id: new_id(), owner_id, payload };
        let id = jobs::insert(&mut tx, &job).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(soon("the fetch", fetch).await.unwrap().unwrap().id, id, "{}", place.name);
        until("the others wait", async || depth(&worker).await.waiting == 6).await;
        end(&worker, &busy).await;
        worker.stop().await;
    }
}

/// Its message does not go round while nobody can claim the job.
#[tokio::test]
async fn a_message_waits_for_the_database_and_is_shown_when_the_process_stops() {
    for place in Place::each().await {
        let (server, worker) = (place.server().await, place.worker().await);
        let ids = insert(&server.db, 1).await;
        let job = next(&worker).await;
        assert!(ids.contains(&job.id));
        end(&server, &job).await;
        worker.sqs.ended(&job);
        worker.db.close().await;
        let slots: Vec<_> = (0..3)
            .map(|_| {
                let (queue, stopping) = (worker.queue.clone(), worker.stopping.clone());
                tokio::spawn(async move { queue.next("w", &stopping).await })
            })
            .collect();
        let ids = insert(&server.db, 3).await;
        until("all are kept", async || depth(&server).await.in_flight == 3).await;
        let before = calls(&worker, "ReceiveMessage");
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(calls(&worker, "ReceiveMessage"), before, "{}", place.name);
        assert_eq!(depth(&server).await.in_flight, 3, "{}", place.name);
        worker.stop().await;
        for slot in slots {
            assert!(slot.await.unwrap().is_none());
        }
        let other = place.worker().await;
        for _ in 0..3 {
            let job = next(&other).await;
            assert!(ids.contains(&job.id) && other.sqs.0.held().contains_key(&job.id));
            end(&other, &job).await;
        }
        other.stop().await;
    }
}

#[tokio::test]
async fn stopping_ends_a_long_poll_at_once() {
    for place in Place::each().await {
        let worker =
            Process::worker(&place.test.url, &place.endpoint, &place.queue, Pace::default()).await;
        let (queue, stopping) = (worker.queue.clone(), worker.stopping.clone());
        let slot = tokio::spawn(async move { queue.next("w", &stopping).await });
        until("it listens", async || worker.sqs.0.silence.lasts() > Duration::from_millis(300))
            .await;
        let began = Instant::now();
        worker.stop().await;
        assert!(slot.await.unwrap().is_none());
        assert!(began.elapsed() < Duration::from_secs(1), "{}: {:?}", place.name, began.elapsed());
    }
}

/// How often a call was made.
fn calls(process: &Process, call: &str) -> u64 {
    ["ok", "error"].iter().map(|o| process.sqs.figures().with_label_values(&[call, o]).get()).sum()
}

#[tokio::test]
async fn an_idle_process_polls_once_whatever_it_has_of_slots() {
    for place in Place::each().await {
        let worker = place.worker().await;
        let mut slots = JoinSet::new();
        for lane in Lane::ALL {
            for _ in 0..8 {
                let (queue, stopping) = (worker.queue.clone(), worker.stopping.clone());
                slots.spawn(async move { queue.next_of(lane, "w", &stopping).await });
            }
        }
        until("it listens", async || !worker.sqs.0.silence.lasts().is_zero()).await;
        let before = calls(&worker, "ReceiveMessage");
        tokio::time::sleep(Duration::from_secs(7)).await;
        // Each waits for two seconds.
        let polls = calls(&worker, "ReceiveMessage") - before;
        assert!((1..=4).contains(&polls), "{}: {polls}", place.name);
        for call in ["SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"] {
            assert_eq!(calls(&worker, call), 0, "{}: {call}", place.name);
        }
        worker.stop().await;
    }
}

/// Ours are deleted, others are not: an operator finds them among the dead letters.
#[tokio::test]
async fn messages_that_nobody_can_read_become_dead_letters() {
    for place in Place::each().await {
        let worker = place.worker().await;
        let (raw, url) = worker.sqs.0.client.raw().await;
        raw.send_message().queue_url(&url).message_body("for somebody else").send().await.unwrap();
        let ids = insert(&worker.db, 1).await;
        let job = next(&worker).await;
        assert!(ids.contains(&job.id), "{}", place.name);
        end(&worker, &job).await;
        nothing(&worker).await;
        until("it is left alone", async || depth(&worker).await.in_flight == 1).await;
        worker.stop().await;

        // A poll that nobody waits for any more would take the next message along.
        tokio::time::sleep(QUICK.wait + Duration::from_millis(200)).await;
        let server = place.server().await;
        let body = json!({"job": new_id(), "lane": "nights"}).to_string();
        raw.send_message().queue_url(&url).message_body(body).send().await.unwrap();
        assert_eq!(depth(&server).await.dead, Some(0), "{}", place.name);
        until("it is dead", async || {
            let receive = raw.receive_message().queue_url(&url).visibility_timeout(0);
            receive.send().await.unwrap();
            depth(&server).await.dead == Some(1)
        })
        .await;
    }
}
