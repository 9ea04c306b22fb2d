//! What the servers on one PostgreSQL tell each other of the requests of accounts.
//!
//! A message, not a row: it is worth something for a minute at most, and what is lost
//! costs a little of the limit. PostgreSQL carries it to whoever listens (NOTIFY) and
//! keeps nothing. See [`crate::api::rate`].

use tokio::sync::broadcast;
use uuid::Uuid;

use super::{Db, Result, args, statements};

/// The channel on which it is told.
pub(super) const CHANNEL: &str = "sluice_rates";

/// Accounts in one message, which holds 8,000 bytes (PostgreSQL's limit): an id has 32,
/// a number and its separators at most 22.
pub const MOST: usize = 140;

statements! {
    TELL = pair("SELECT $1", "SELECT CAST(pg_notify('sluice_rates', $1) AS TEXT)");
}

/// Tells how many requests of each account were served here since the last time.
///
/// # Errors
///
/// Those of the database; then nobody was told.
pub async fn tell(db: &Db, served: &[(Uuid, u64)]) -> Result<()> {
    for part in served.chunks(MOST) {
        let words: Vec<String> =
            part.iter().map(|(id, count)| format!("{}={count}", id.simple())).collect();
        let text = format!("{}:{}", db.hub().process().simple(), words.join(","));
        let _: (String,) = db.conn().fetch_one(TELL, args![text]).await?;
    }
    Ok(())
}

/// What the other servers tell, from now on. Whoever reads too slowly loses the oldest.
#[derive(Debug)]
pub struct Told(broadcast::Receiver<String>);

/// `None`: there are no other servers on this database.
pub fn listen(db: &Db) -> Option<Told> {
    db.hub().rates().map(Told)
}

impl Told {
    /// The next message: accounts and how many requests were served elsewhere. `None`
    /// once nothing more can come.
    pub async fn next(&mut self) -> Option<Vec<(Uuid, u64)>> {
        loop {
            match self.0.recv().await {
                Ok(text) => return Some(parse(&text)),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// What cannot be read is left out: a newer version may say more.
fn parse(text: &str) -> Vec<(Uuid, u64)> {
    text.split(',')
        .filter_map(|word| {
            let (id, count) = word.split_once('=')?;
            Some((id.parse().ok()?, count.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::db::testing;

    #[tokio::test]
    async fn servers_on_postgres_tell_each_other_and_never_themselves() {
        let test = testing::postgres().await;
        let other = Db::open(&test.url).await.unwrap();
        let mut told = listen(&test.db).unwrap();
        let served: Vec<_> = (1..=300).map(|n| (Uuid::from_u128(n), u64::MAX)).collect();
        let mut heard = std::collections::HashMap::new();
        let all = tokio::time::timeout(Duration::from_secs(20), async {
            // Until it listens, nothing is heard.
            while heard.len() < served.len() {
                tell(&test.db, &[(Uuid::from_u128(1), 7)]).await.unwrap();
                tell(&other, &served).await.unwrap();
                let wait = Duration::from_millis(200);
                while let Ok(next) = tokio::time::timeout(wait, told.next()).await {
                    heard.extend(next.unwrap());
                }
            }
        });
        all.await.unwrap();
        assert!(heard.values().all(|count| *count == u64::MAX), "one's own message is not heard");
        assert!(listen(&testing::sqlite().await.db).is_none());
        assert_eq!(parse("x,1=2,=,00000000000000000000000000000001=7"), [(Uuid::from_u128(1), 7)]);
    }
}
