//! Tests of the seam itself, on both databases.

mod plans;

use super::testing::both;
use super::*;

/// Every file of this room that declares statements.
fn statements() -> Vec<(&'static str, &'static [(&'static str, Sql)])> {
    vec![
        ("api_keys", api_keys::STATEMENTS),
        ("artifacts", artifacts::STATEMENTS),
        ("backup", backup::STATEMENTS),
        ("cleanup", cleanup::STATEMENTS),
        ("events", events::STATEMENTS),
        ("findings", findings::STATEMENTS),
        ("findings::texts", findings::texts::STATEMENTS),
        ("idempotency", idempotency::STATEMENTS),
        ("jobs", jobs::STATEMENTS),
        ("jobs::lanes", jobs::lanes::STATEMENTS),
        ("jobs::messages", jobs::messages::STATEMENTS),
        ("lasting_keys", lasting_keys::STATEMENTS),
        ("lfs", lfs::STATEMENTS),
        ("project_counters", project_counters::STATEMENTS),
        ("project_events", project_events::STATEMENTS),
        ("projects", projects::STATEMENTS),
        ("rates", rates::STATEMENTS),
        ("repositories", repositories::STATEMENTS),
        ("repositories::ingest", repositories::ingest::STATEMENTS),
        ("repositories::profile", repositories::profile::STATEMENTS),
        ("results", results::STATEMENTS),
        ("scans", scans::STATEMENTS),
        ("schema", schema::STATEMENTS),
        ("sessions", sessions::STATEMENTS),
        ("signing_keys", signing_keys::STATEMENTS),
        ("snapshots", snapshots::STATEMENTS),
        ("sources", sources::STATEMENTS),
        ("uploads", uploads::STATEMENTS),
        ("uploads::push", uploads::push::STATEMENTS),
        ("uploads::refs", uploads::refs::STATEMENTS),
        ("usage", usage::STATEMENTS),
        ("users", users::STATEMENTS),
        ("webhooks", webhooks::STATEMENTS),
    ]
}

#[tokio::test]
async fn prepare_all() {
    use sqlx::Executor as _;
    for test in both().await {
        for (file, list) in statements() {
            for (name, sql) in list {
                let outcome = match &test.db.backend {
                    Backend::Sqlite { write, .. } => write.prepare(sql.sqlite).await.err(),
                    Backend::Postgres(postgres) => {
                        postgres.pool().prepare(sql.postgres).await.err()
                    }
                };
                assert!(outcome.is_none(), "{file}::{name} on {}: {outcome:?}", test.name);
            }
        }
    }
}

#[tokio::test]
async fn a_transaction_that_is_dropped_changes_nothing() {
    const INSERT: Sql = Sql::both(
        "INSERT INTO login_failures (key, failures, window_started_at) VALUES ($1, $2, $3)",
    );
    const COUNT: Sql = Sql::both("SELECT count(*) FROM login_failures");
    for test in both().await {
        let mut tx = test.db.begin().await.unwrap();
        tx.execute(INSERT, args!["a", 1_i64, now()]).await.unwrap();
        drop(tx);
        let (rows,): (i64,) = test.db.conn().fetch_one(COUNT, args![]).await.unwrap();
        assert_eq!(rows, 0, "{}", test.name);
        let mut tx = test.db.begin().await.unwrap();
        tx.execute(INSERT, args!["a", 1_i64, now()]).await.unwrap();
        let twice = tx.execute(INSERT, args!["a", 1_i64, now()]).await.unwrap_err();
        assert!(matches!(twice, DbError::Conflict(_)), "{}: {twice:?}", test.name);
    }
}

#[tokio::test]
async fn writers_wait_for_each_other_and_never_fail() {
    const ADD: Sql = Sql::both("UPDATE login_failures SET failures = failures + 1 WHERE key = $1");
    const INSERT: Sql = Sql::both(
        "INSERT INTO login_failures (key, failures, window_started_at) VALUES ($1, $2, $3)",
    );
    const READ: Sql = Sql::both("SELECT failures FROM login_failures WHERE key = $1");
    for test in both().await {
        let mut tx = test.db.begin().await.unwrap();
        tx.execute(INSERT, args!["k", 0_i64, 0_i64]).await.unwrap();
        tx.commit().await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let db = test.db.clone();
            tasks.spawn(async move {
                for _ in 0..10 {
                    let mut tx = db.begin().await.unwrap();
                    tx.execute(ADD, args!["k"]).await.unwrap();
                    tx.commit().await.unwrap();
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let (sum,): (i64,) = test.db.conn().fetch_one(READ, args!["k"]).await.unwrap();
        assert_eq!(sum, 160, "{}", test.name);
    }
}

#[tokio::test]
async fn a_commit_wakes_whoever_waits_for_the_row() {
    let test = super::testing::sqlite().await;
    let topic = new_id();
    let waiter = test.db.hub().waiter(topic);
    let db = test.db.clone();
    let writer = tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let mut tx = db.begin().await.unwrap();
        tx.wake(topic);
        tx.commit().await.unwrap();
    });
    let started = std::time::Instant::now();
    let reads = std::cell::Cell::new(0);
    let got: Result<Option<()>> = waiter
        .until(std::time::Duration::from_secs(30), || {
            reads.set(reads.get() + 1);
            let second = reads.get() == 2;
            async move { Ok(second.then_some(())) }
        })
        .await;
    assert_eq!((got.unwrap(), reads.get()), (Some(()), 2));
    assert!(started.elapsed().as_secs() < 2, "the commit woke it, not the fall-back");
    writer.await.unwrap();
    drop(waiter);
    assert_eq!(test.db.hub().waiting(), 0);
}
