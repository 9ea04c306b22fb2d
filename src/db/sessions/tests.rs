use super::super::testing::{TestDb, both};
use super::super::users::{self, NewUser};
use super::super::{Sql, Value};
use super::*;

async fn user(test: &TestDb) -> Uuid {
    let mut tx = test.db.begin().await.unwrap();
    let new = NewUser { email: "ada@x.org", name: "", password_hash: "h", groups: &[] };
    let id = users::insert(&mut tx, &new).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn session(test: &TestDb, owner: Uuid, refresh: &[u8]) -> Uuid {
    let mut tx = test.db.begin().await.unwrap();
    let id = create(&mut tx, owner, refresh).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn turn(db: &Db, presented: &[u8], next: &[u8]) -> Rotation {
    let mut tx = db.begin().await.unwrap();
    let rotation = rotate(&mut tx, presented, next).await.unwrap();
    tx.commit().await.unwrap();
    rotation
}

async fn run(test: &TestDb, sql: Sql, args: Vec<Value>) {
    let mut tx = test.db.begin().await.unwrap();
    tx.execute(sql, args.into()).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_session_is_its_owners_until_it_ends() {
    for test in both().await {
        let owner = user(&test).await;
        let id = session(&test, owner, b"1").await;
        assert_eq!(caller(&test.db, id, owner).await.unwrap().unwrap().email, "ada@x.org");
        assert!(caller(&test.db, id, new_id()).await.unwrap().is_none(), "{}", test.name);
        let mut tx = test.db.begin().await.unwrap();
        end(&mut tx, id, EndReason::Logout).await.unwrap();
        tx.commit().await.unwrap();
        assert!(caller(&test.db, id, owner).await.unwrap().is_none());
        assert_eq!(turn(&test.db, b"1", b"2").await, Rotation::Refused);
    }
}

#[tokio::test]
async fn a_used_refresh_token_ends_its_session() {
    for test in both().await {
        let owner = user(&test).await;
        let session_id = session(&test, owner, b"1").await;
        let rotated = Rotation::Rotated { session_id, owner_id: owner };
        assert_eq!(turn(&test.db, b"1", b"2").await, rotated, "{}", test.name);
        assert_eq!(turn(&test.db, b"2", b"3").await, rotated);
        let reused = Rotation::Reused { session_id, owner_id: owner };
        assert_eq!(turn(&test.db, b"1", b"4").await, reused);
        assert!(caller(&test.db, session_id, owner).await.unwrap().is_none());
        assert_eq!(turn(&test.db, b"3", b"5").await, Rotation::Refused);
        assert_eq!(turn(&test.db, b"unknown", b"6").await, Rotation::Refused);
    }
}

#[tokio::test]
async fn of_many_that_present_the_same_token_one_gets_the_next() {
    for test in both().await {
        let owner = user(&test).await;
        let session_id = session(&test, owner, b"first").await;
        let mut tasks = tokio::task::JoinSet::new();
        for next in 0..16_u8 {
            let db = test.db.clone();
            tasks.spawn(async move { turn(&db, b"first", &[next]).await });
        }
        let all = tasks.join_all().await;
        let rotated = |r: &&Rotation| matches!(r, Rotation::Rotated { .. });
        assert_eq!(all.iter().filter(rotated).count(), 1, "{}: {all:?}", test.name);
        assert!(caller(&test.db, session_id, owner).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn time_and_disabling_end_a_session_too() {
    const EXPIRE: Sql = Sql::both("UPDATE auth_sessions SET expires_at = $1");
    for test in both().await {
        let owner = user(&test).await;
        let id = session(&test, owner, b"1").await;
        run(&test, EXPIRE, vec![(now() - 1).into()]).await;
        assert_eq!(turn(&test.db, b"1", b"2").await, Rotation::Refused, "{}", test.name);
        assert_eq!(drop_dead(&test.db, now()).await.unwrap(), 1);
        assert!(caller(&test.db, id, owner).await.unwrap().is_none());

        let id = session(&test, owner, b"3").await;
        let other = session(&test, owner, b"4").await;
        let mut tx = test.db.begin().await.unwrap();
        users::disable(&mut tx, owner).await.unwrap();
        tx.commit().await.unwrap();
        assert!(caller(&test.db, id, owner).await.unwrap().is_none());
        assert_eq!(turn(&test.db, b"3", b"5").await, Rotation::Refused);
        let mut tx = test.db.begin().await.unwrap();
        assert_eq!(end_all(&mut tx, owner, EndReason::Disabled).await.unwrap(), 2);
        assert_eq!(end_all(&mut tx, owner, EndReason::Password).await.unwrap(), 0);
        end(&mut tx, other, EndReason::Reuse).await.unwrap();
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn failures_are_counted_in_a_window() {
    const AGE: Sql = Sql::both("UPDATE login_failures SET window_started_at = $1");
    for test in both().await {
        let keys = ["account:a".to_owned(), "address:b".to_owned()];
        let count = async || {
            let mut tx = test.db.begin().await.unwrap();
            count_failure(&mut tx, &keys).await.unwrap();
            tx.commit().await.unwrap();
        };
        count().await;
        assert_eq!(throttled(&test.db, &keys[0], 2).await.unwrap(), None, "{}", test.name);
        count().await;
        let wait = throttled(&test.db, &keys[0], 2).await.unwrap().unwrap();
        assert!(wait > 0 && wait <= FAILURE_WINDOW);
        assert!(throttled(&test.db, &keys[1], 2).await.unwrap().is_some());
        assert!(throttled(&test.db, "account:c", 2).await.unwrap().is_none());
        // An old window counts no more, and the next failure begins a new one.
        run(&test, AGE, vec![(now() - FAILURE_WINDOW).into()]).await;
        assert_eq!(throttled(&test.db, &keys[0], 2).await.unwrap(), None);
        count().await;
        assert_eq!(throttled(&test.db, &keys[0], 2).await.unwrap(), None);
        assert!(throttled(&test.db, &keys[0], 1).await.unwrap().is_some());
        let mut tx = test.db.begin().await.unwrap();
        forget_failures(&mut tx, &keys[0]).await.unwrap();
        tx.commit().await.unwrap();
        assert!(throttled(&test.db, &keys[0], 1).await.unwrap().is_none());
        run(&test, AGE, vec![0_i64.into()]).await;
        assert_eq!(drop_failures(&test.db).await.unwrap(), 1);
    }
}
