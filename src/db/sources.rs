//! What a repository needs to fetch its code, besides the URL and the ref in its row:
//! credentials (sealed by the caller, never in the clear here) and how deep to go.

use uuid::Uuid;

use super::{Conn, Db, Result, Tx, args, now, statements};

statements! {
    PUT = "INSERT INTO repository_sources (repository_id, credentials, history, updated_at) \
           VALUES ($1, $2, $3, $4) ON CONFLICT (repository_id) DO UPDATE \
           SET credentials = excluded.credentials, history = excluded.history, \
           updated_at = excluded.updated_at";
    GET = "SELECT credentials, history FROM repository_sources WHERE repository_id = $1";
    SET_CREDENTIALS = "UPDATE repository_sources SET credentials = $2, updated_at = $3 \
                       WHERE repository_id = $1";
    SEALED = "SELECT s.repository_id, r.owner_id, s.credentials FROM repository_sources s \
              JOIN repositories r ON r.id = s.repository_id \
              WHERE s.repository_id > $1 AND s.credentials IS NOT NULL \
              ORDER BY s.repository_id LIMIT $2";
    RESEAL = "UPDATE repository_sources SET credentials = $3 \
              WHERE repository_id = $1 AND credentials = $2";
    WANT_HISTORY = "UPDATE repository_sources SET history = $2, updated_at = $3 \
                    WHERE repository_id = $1";
}

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Source {
    /// User name and token, sealed.
    pub credentials: Option<Vec<u8>>,
    /// The whole history is fetched, not the newest commit alone.
    pub history: bool,
}

/// Records it.
pub async fn put(tx: &mut Tx, repository_id: Uuid, source: &Source) -> Result<()> {
    let args = args![repository_id, source.credentials.clone(), source.history, now()];
    tx.execute(PUT, args).await?;
    Ok(())
}

/// Of a repository, for jobs and for handlers that have looked it up for its owner.
pub async fn get(conn: impl Into<Conn<'_>>, repository_id: Uuid) -> Result<Option<Source>> {
    conn.into().fetch_optional(GET, args![repository_id]).await
}

/// Replaces or removes the credentials.
pub async fn set_credentials(
    tx: &mut Tx,
    repository_id: Uuid,
    credentials: Option<Vec<u8>>,
) -> Result<()> {
    tx.execute(SET_CREDENTIALS, args![repository_id, credentials, now()]).await?;
    Ok(())
}

/// Credentials of a repository, for whoever seals them anew.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Sealed {
    /// Of what.
    pub repository_id: Uuid,
    /// Whose it is.
    pub owner_id: Uuid,
    /// User name and token, sealed.
    pub credentials: Vec<u8>,
}

/// All credentials behind a repository, by id.
pub async fn sealed(db: &Db, after: Uuid, limit: u32) -> Result<Vec<Sealed>> {
    db.conn().fetch_all(SEALED, args![after, limit]).await
}

/// Puts the same credentials in their place, sealed otherwise; false if they were replaced
/// meanwhile.
pub async fn reseal(db: &Db, repository_id: Uuid, old: &[u8], new: &[u8]) -> Result<bool> {
    let mut tx = db.begin().await?;
    let rows = tx.execute(RESEAL, args![repository_id, old, new]).await?;
    tx.commit().await?;
    Ok(rows == 1)
}

/// From now on the whole history is fetched.
pub async fn want_history(tx: &mut Tx, repository_id: Uuid) -> Result<()> {
    tx.execute(WANT_HISTORY, args![repository_id, true, now()]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::testing::{both, tenant};

    #[tokio::test]
    async fn credentials_come_and_go() {
        for test in both().await {
            let repository = tenant(&test.db).await.repository;
            assert_eq!(get(&test.db, repository).await.unwrap(), None);
            let mut source = Source { credentials: Some(vec![1, 2, 3]), history: false };
            let mut tx = test.db.begin().await.unwrap();
            put(&mut tx, repository, &source).await.unwrap();
            want_history(&mut tx, repository).await.unwrap();
            tx.commit().await.unwrap();
            source.history = true;
            assert_eq!(get(&test.db, repository).await.unwrap().as_ref(), Some(&source));
            let mut tx = test.db.begin().await.unwrap();
            set_credentials(&mut tx, repository, None).await.unwrap();
            tx.commit().await.unwrap();
            source.credentials = None;
            assert_eq!(get(&test.db, repository).await.unwrap(), Some(source), "{}", test.name);
        }
    }
}
