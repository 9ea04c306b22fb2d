use super::super::testing::both;
use super::super::users::{self, NewUser};
use super::*;

#[tokio::test]
async fn a_key_is_kept_listed_used_and_deleted() {
    for test in both().await {
        let mut tx = test.db.begin().await.unwrap();
        let new = NewUser { email: "ada@x.org", name: "", password_hash: "h", groups: &[] };
        let owner = users::insert(&mut tx, &new).await.unwrap();
        let other = users::insert(&mut tx, &NewUser { email: "eve@x.org", ..new }).await.unwrap();
        let scopes = ["read".to_owned()];
        let mut keys = Vec::new();
        for (name, hash) in [("one", b"1"), ("two", b"2"), ("three", b"3")] {
            let prefix = "slk_abc";
            let key = NewApiKey {
                owner_id: owner,
                name,
                prefix,
                hash,
                scopes: &scopes,
                expires_at: Some(7),
            };
            keys.push(insert(&mut tx, &key).await.unwrap());
        }
        tx.commit().await.unwrap();
        assert_eq!(count(&test.db, owner).await.unwrap(), 3, "{}", test.name);
        assert_eq!(count(&test.db, other).await.unwrap(), 0);

        let names = |rows: Vec<ApiKey>| rows.into_iter().map(|r| r.name).collect::<Vec<_>>();
        assert_eq!(names(list(&test.db, owner, None, 2).await.unwrap()), ["three", "two"]);
        assert_eq!(names(list(&test.db, owner, Some(keys[1].id), 2).await.unwrap()), ["one"]);
        assert!(list(&test.db, other, None, 2).await.unwrap().is_empty());

        let found = caller(&test.db, b"2").await.unwrap().unwrap();
        assert_eq!((found.id, found.owner_id, found.expires_at), (keys[1].id, owner, Some(7)));
        assert_eq!((found.scopes.0.as_slice(), found.email.as_str()), (&scopes[..], "ada@x.org"));
        assert!(caller(&test.db, b"4").await.unwrap().is_none());

        used(&test.db, keys[1].id).await.unwrap();
        let first = caller(&test.db, b"2").await.unwrap().unwrap().last_used_at;
        assert!(first.is_some());
        used(&test.db, keys[1].id).await.unwrap();
        assert_eq!(caller(&test.db, b"2").await.unwrap().unwrap().last_used_at, first);

        let mut tx = test.db.begin().await.unwrap();
        assert!(!delete(&mut tx, other, keys[0].id).await.unwrap());
        assert!(delete(&mut tx, owner, keys[0].id).await.unwrap());
        assert!(!delete(&mut tx, owner, keys[0].id).await.unwrap());
        users::disable(&mut tx, owner).await.unwrap();
        tx.commit().await.unwrap();
        assert!(caller(&test.db, b"2").await.unwrap().is_none());
    }
}
