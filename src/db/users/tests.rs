use super::super::testing::both;
use super::super::{DbError, new_id};
use super::*;

fn ada(groups: &[String]) -> NewUser<'_> {
    NewUser { email: "ada@example.org", name: "Ada", password_hash: "hash", groups }
}

#[tokio::test]
async fn an_account_is_found_by_id_and_email() {
    for test in both().await {
        assert!(!any(&test.db).await.unwrap(), "{}", test.name);
        let groups = ["ops".to_owned()];
        let mut tx = test.db.begin().await.unwrap();
        let id = insert(&mut tx, &ada(&groups)).await.unwrap();
        lock(&mut tx, id).await.unwrap();
        tx.commit().await.unwrap();
        assert!(any(&test.db).await.unwrap());
        let user = get(&test.db, id).await.unwrap().unwrap();
        assert_eq!((user.email.as_str(), user.name.as_str()), ("ada@example.org", "Ada"));
        assert_eq!((user.groups.0.as_slice(), user.disabled_at), (&groups[..], None));
        assert_eq!(by_email(&test.db, "ada@example.org").await.unwrap().unwrap().id, id);
        assert!(by_email(&test.db, "eve@example.org").await.unwrap().is_none());
        assert!(get(&test.db, new_id()).await.unwrap().is_none());
        assert_eq!(list(&test.db).await.unwrap().len(), 1);
        assert!(!format!("{user:?}").contains("hash"));
    }
}

#[tokio::test]
async fn an_email_is_taken_once() {
    for test in both().await {
        let mut tx = test.db.begin().await.unwrap();
        insert(&mut tx, &ada(&[])).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = test.db.begin().await.unwrap();
        let twice = insert(&mut tx, &ada(&[])).await.unwrap_err();
        assert!(matches!(twice, DbError::Conflict(_)), "{}: {twice:?}", test.name);
    }
}

#[tokio::test]
async fn a_password_changes_and_disabling_is_done_once() {
    for test in both().await {
        let mut tx = test.db.begin().await.unwrap();
        let id = insert(&mut tx, &ada(&[])).await.unwrap();
        set_password(&mut tx, id, "other").await.unwrap();
        assert!(disable(&mut tx, id).await.unwrap(), "{}", test.name);
        assert!(!disable(&mut tx, id).await.unwrap());
        tx.commit().await.unwrap();
        let user = get(&test.db, id).await.unwrap().unwrap();
        assert_eq!(user.password_hash, "other");
        assert!(user.disabled_at.is_some());
    }
}
