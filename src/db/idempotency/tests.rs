use super::super::Sql;
use super::super::testing::{TestDb, both};
use super::super::users::{self, NewUser};
use super::*;

async fn user(test: &TestDb) -> Uuid {
    let mut tx = test.db.begin().await.unwrap();
    let new = NewUser { email: "ada@x.org", name: "", password_hash: "h", groups: &[] };
    let id = users::insert(&mut tx, &new).await.unwrap();
    tx.commit().await.unwrap();
    id
}

fn kept() -> Kept {
    Kept { status: 201, headers: vec![("location".into(), "/x".into())], body: b"body".to_vec() }
}

/// Makes all rows older by so many microseconds.
async fn age(test: &TestDb, by: i64) {
    const AGE: Sql = Sql::both("UPDATE idempotency_keys SET created_at = created_at - $1");
    let mut tx = test.db.begin().await.unwrap();
    tx.execute(AGE, args![by]).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn of_many_at_once_one_runs() {
    for test in both().await {
        let owner = user(&test).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let db = test.db.clone();
            tasks.spawn(async move { claim(&db, owner, "k", b"request").await.unwrap() });
        }
        let all = tasks.join_all().await;
        let runs = all.iter().filter(|c| matches!(c, Claim::Run { .. })).count();
        let waits = all.iter().filter(|c| matches!(c, Claim::Running)).count();
        assert_eq!((runs, waits), (1, 15), "{}", test.name);
    }
}

#[tokio::test]
async fn an_answer_is_kept_for_its_request_for_a_day() {
    for test in both().await {
        let owner = user(&test).await;
        let Claim::Run { fence } = claim(&test.db, owner, "k", b"1").await.unwrap() else {
            panic!("{}: the first claim runs", test.name)
        };
        keep(&test.db, owner, "k", fence, &kept()).await.unwrap();
        let Claim::Answered(answer) = claim(&test.db, owner, "k", b"1").await.unwrap() else {
            panic!("{}: the answer is kept", test.name)
        };
        assert_eq!((answer.status, answer.body.as_slice()), (201, &b"body"[..]));
        assert_eq!(answer.headers, kept().headers);
        let other = claim(&test.db, owner, "k", b"2").await.unwrap();
        assert!(matches!(other, Claim::OtherRequest), "{other:?}");
        // An answer is not given back.
        release(&test.db, owner, "k", fence).await.unwrap();
        age(&test, KEPT - 60_000_000).await;
        assert_eq!(drop_old(&test.db).await.unwrap(), 0);
        let again = claim(&test.db, owner, "k", b"1").await.unwrap();
        assert!(matches!(again, Claim::Answered(_)), "{again:?}");
        age(&test, 60_000_000).await;
        let late = claim(&test.db, owner, "k", b"2").await.unwrap();
        assert!(matches!(late, Claim::Run { .. }), "{late:?}");
        age(&test, KEPT).await;
        assert_eq!(drop_old(&test.db).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_claim_is_given_back_or_taken_over() {
    for test in both().await {
        let owner = user(&test).await;
        let run = async |request: &[u8]| match claim(&test.db, owner, "k", request).await.unwrap() {
            Claim::Run { fence } => fence,
            other => panic!("{}: {other:?}", test.name),
        };
        let fence = run(b"1").await;
        release(&test.db, owner, "k", fence).await.unwrap();
        let fence = run(b"2").await;
        // Its process died: another takes it over, and the first one, should it live
        // after all, changes nothing.
        age(&test, ABANDONED).await;
        let dead = fence - ABANDONED;
        let taken = run(b"3").await;
        keep(&test.db, owner, "k", dead, &kept()).await.unwrap();
        release(&test.db, owner, "k", dead).await.unwrap();
        let still = claim(&test.db, owner, "k", b"3").await.unwrap();
        assert!(matches!(still, Claim::Running), "{still:?}");
        keep(&test.db, owner, "k", taken, &kept()).await.unwrap();
        let answered = claim(&test.db, owner, "k", b"3").await.unwrap();
        assert!(matches!(answered, Claim::Answered(_)), "{answered:?}");
    }
}
