//! Public keys by which the signer of a push is known.

use uuid::Uuid;

use super::{Conn, Result, Tx, args, new_id, now, statements};

macro_rules! columns {
    () => {
        "id, name, key_type, public_key, fingerprint, created_at"
    };
}

statements! {
    INSERT = "INSERT INTO signing_keys (id, owner_id, name, key_type, public_key, fingerprint, \
              created_at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
              ON CONFLICT (owner_id, fingerprint) DO NOTHING";
    COUNT = "SELECT count(*) FROM signing_keys WHERE owner_id = $1";
    LIST = concat(
        "SELECT ", columns!(), " FROM signing_keys \
         WHERE owner_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
    );
    FIND = concat(
        "SELECT ", columns!(), " FROM signing_keys WHERE owner_id = $1 AND fingerprint = $2"
    );
    DELETE = "DELETE FROM signing_keys WHERE id = $1 AND owner_id = $2";
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct SigningKey {
    /// Its id.
    pub id: Uuid,
    /// What its owner calls it.
    pub name: String,
    /// Name of the algorithm as SSH writes it.
    pub key_type: String,
    /// The line of an `authorized_keys` file, without its comment.
    pub public_key: String,
    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    pub fingerprint: String,
    /// Microseconds.
    pub created_at: i64,
}

/// A key to insert.
#[derive(Debug, Clone)]
pub struct NewSigningKey<'a> {
    /// Whose it is.
    pub owner_id: Uuid,
    /// What its owner calls it.
    pub name: &'a str,
    /// See [`SigningKey::key_type`].
    pub key_type: &'a str,
    /// See [`SigningKey::public_key`].
    pub public_key: &'a str,
    /// See [`SigningKey::fingerprint`].
    pub fingerprint: &'a str,
}

/// Inserts a key; `None` if the account has it already.
pub async fn insert(tx: &mut Tx, key: &NewSigningKey<'_>) -> Result<Option<SigningKey>> {
    let (id, at) = (new_id(), now());
    let args = args![id, key.owner_id, key.name, key.key_type, key.public_key, key.fingerprint, at];
    let inserted = tx.execute(INSERT, args).await? == 1;
    Ok(inserted.then(|| SigningKey {
        id,
        name: key.name.to_owned(),
        key_type: key.key_type.to_owned(),
        public_key: key.public_key.to_owned(),
        fingerprint: key.fingerprint.to_owned(),
        created_at: at,
    }))
}

/// How many keys an account has.
pub async fn count(conn: impl Into<Conn<'_>>, owner_id: Uuid) -> Result<u64> {
    let (count,): (i64,) = conn.into().fetch_one(COUNT, args![owner_id]).await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Keys of an account, newest first, those older than `after`.
pub async fn list(
    conn: impl Into<Conn<'_>>,
    owner_id: Uuid,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Vec<SigningKey>> {
    // No id that is ever made is as great as the greatest.
    let after = after.unwrap_or(Uuid::max());
    conn.into().fetch_all(LIST, args![owner_id, after, limit]).await
}

/// The key of an account with this fingerprint.
pub async fn find(
    conn: impl Into<Conn<'_>>,
    owner_id: Uuid,
    fingerprint: &str,
) -> Result<Option<SigningKey>> {
    conn.into().fetch_optional(FIND, args![owner_id, fingerprint]).await
}

/// Deletes a key; false if the account has no such key.
pub async fn delete(tx: &mut Tx, owner_id: Uuid, id: Uuid) -> Result<bool> {
    Ok(tx.execute(DELETE, args![id, owner_id]).await? == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::{both, tenant};

    #[tokio::test]
    async fn a_key_is_known_to_its_account_alone_and_once() {
        for test in both().await {
            let ada = tenant(&test.db).await.owner;
            let eve = tenant(&test.db).await.owner;
            let new = |owner_id, name| NewSigningKey {
                owner_id,
                name,
                key_type: "ssh-ed25519",
                public_key: "ssh-ed25519 AAAA",
                fingerprint: "SHA256:x",
            };
            let mut tx = test.db.begin().await.unwrap();
            let key = insert(&mut tx, &new(ada, "laptop")).await.unwrap().unwrap();
            assert_eq!(insert(&mut tx, &new(ada, "again")).await.unwrap(), None);
            assert!(insert(&mut tx, &new(eve, "hers")).await.unwrap().is_some());
            tx.commit().await.unwrap();
            let name = test.name;
            assert_eq!(find(&test.db, ada, "SHA256:x").await.unwrap(), Some(key.clone()), "{name}");
            assert_eq!(find(&test.db, ada, "SHA256:y").await.unwrap(), None, "{name}");
            let listed = list(&test.db, ada, None, 10).await.unwrap();
            assert_eq!(listed, std::slice::from_ref(&key), "{name}");
            assert_eq!(list(&test.db, ada, Some(key.id), 10).await.unwrap(), [], "{name}");
            let mut tx = test.db.begin().await.unwrap();
            assert!(!delete(&mut tx, eve, key.id).await.unwrap(), "{name}: of somebody else");
            assert!(delete(&mut tx, ada, key.id).await.unwrap());
            tx.commit().await.unwrap();
            assert_eq!(
                (count(&test.db, ada).await.unwrap(), count(&test.db, eve).await.unwrap()),
                (0, 1)
            );
        }
    }
}
