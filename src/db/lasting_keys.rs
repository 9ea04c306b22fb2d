//! Keys that stay the same whatever becomes of the signing secret, sealed by the caller.

use super::{Conn, Db, Result, args, now, statements};

statements! {
    GET = "SELECT sealed, sealed_by FROM lasting_keys WHERE name = $1";
    PUT = "INSERT INTO lasting_keys (name, sealed, sealed_by, created_at, updated_at) \
           VALUES ($1, $2, $3, $4, $4) ON CONFLICT (name) DO NOTHING";
    REPLACE = "UPDATE lasting_keys SET sealed = $2, sealed_by = $3, updated_at = $4 \
               WHERE name = $1";
}

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Kept {
    /// The key, sealed.
    pub sealed: Vec<u8>,
    /// The id of the secret that sealed it.
    pub sealed_by: String,
}

/// A key by its name.
pub async fn get(conn: impl Into<Conn<'_>>, name: &str) -> Result<Option<Kept>> {
    conn.into().fetch_optional(GET, args![name]).await
}

/// Keeps a key unless there is one of this name; the one that is kept then.
pub async fn put_first(db: &Db, name: &str, sealed: &[u8], sealed_by: &str) -> Result<Kept> {
    let mut tx = db.begin().await?;
    tx.execute(PUT, args![name, sealed, sealed_by, now()]).await?;
    tx.commit().await?;
    // A statement of its own: it sees what another one committed before the insert.
    db.conn().fetch_one(GET, args![name]).await
}

/// Keeps the same key sealed otherwise.
pub async fn replace(db: &Db, name: &str, sealed: &[u8], sealed_by: &str) -> Result<()> {
    let mut tx = db.begin().await?;
    tx.execute(REPLACE, args![name, sealed, sealed_by, now()]).await?;
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::both;

    #[tokio::test]
    async fn the_first_key_of_a_name_stays() {
        for test in both().await {
            assert_eq!(get(&test.db, "k").await.unwrap(), None);
            let first = put_first(&test.db, "k", b"one", "a").await.unwrap();
            assert_eq!(put_first(&test.db, "k", b"two", "b").await.unwrap(), first);
            assert_eq!((first.sealed.as_slice(), first.sealed_by.as_str()), (&b"one"[..], "a"));
            replace(&test.db, "k", b"one again", "b").await.unwrap();
            let now = get(&test.db, "k").await.unwrap().unwrap();
            assert_eq!((now.sealed.as_slice(), now.sealed_by.as_str()), (&b"one again"[..], "b"));
        }
    }
}
