//! How a push is kept: its pack in storage, then one transaction, and what is done when
//! nobody knows whether that happened.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sluice_git::{QuarantinedPack, Refusal, fault};
use uuid::Uuid;

use super::UploadRepository;
use super::refuse::storage_refusal;
use crate::db::uploads::{self, CommitPush, NewPack, PushOutcome};
use crate::db::{DbError, new_id};

/// How long a push whose connection to the database was lost during its commit waits to
/// learn what became of it. A database is back in that time, or its outage is a long one.
const IN_DOUBT: Duration = Duration::from_secs(20);

impl UploadRepository {
    /// Puts pack and index into storage; nobody refers to them yet. The keys belong to
    /// this push alone, also when two clients push the same pack at the same time: so
    /// one that is refused can take its own back without touching the other's.
    pub(super) async fn store(&self, pack: &QuarantinedPack) -> Result<NewPack, Refusal> {
        let prefix = format!("{}{}/", uploads::storage_prefix(self.upload.id), new_id());
        let mut stored = NewPack {
            name: pack.name.to_string(),
            pack_key: format!("{prefix}pack-{}.pack", pack.name),
            index_key: format!("{prefix}pack-{}.idx", pack.name),
            bytes: pack.bytes,
            index_bytes: 0,
            objects: u64::from(pack.objects),
        };
        let storage = &self.app.storage;
        storage.put_file(&stored.pack_key, pack.pack_path()).await.map_err(storage_refusal)?;
        fault::point("push.half-stored");
        stored.index_bytes = storage
            .put_file(&stored.index_key, pack.index_path())
            .await
            .map_err(storage_refusal)?;
        fault::point("push.stored");
        Ok(stored)
    }

    /// The transaction of a push. With its commit the push is acknowledged.
    pub(super) async fn record(&self, push: &CommitPush) -> Result<PushOutcome, DbError> {
        let mut tx = self.app.db.begin().await?;
        let outcome = uploads::commit_push(&mut tx, push).await?;
        if outcome.full.is_some() {
            // With the transaction all that it wrote is dropped.
            return Ok(outcome);
        }
        fault::point("push.before-commit");
        if let Err(error) = tx.commit().await {
            // A connection that is lost now does not tell whether the commit happened,
            // and whoever pushed must not be told that it did not if it did.
            let happened = match (&error, outcome.push_id) {
                (DbError::Unavailable(_), Some(id)) => self.look_for(id).await?,
                _ => false,
            };
            if !happened {
                return Err(error);
            }
            tracing::info!("a push was committed as the connection to the database broke");
        }
        fault::point("push.committed");
        Ok(outcome)
    }

    /// Asks until the database answers whether it has a push, for a while.
    async fn look_for(&self, push_id: Uuid) -> Result<bool, DbError> {
        self.in_doubt.store(true, Ordering::Relaxed);
        let ends = tokio::time::Instant::now() + IN_DOUBT;
        loop {
            match uploads::was_recorded(&self.app.db, self.upload.id, push_id).await {
                Err(DbError::Unavailable(_)) if tokio::time::Instant::now() < ends => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Err(error) => return Err(error),
                Ok(found) => {
                    self.in_doubt.store(false, Ordering::Relaxed);
                    return Ok(found);
                }
            }
        }
    }

    /// Takes back what was stored for a push whose pack was not recorded. Called only
    /// when the transaction is known not to have recorded it; what a crash leaves here
    /// is found by the clean-up.
    pub(super) async fn unstore(&self, pack: &NewPack) {
        for key in [&pack.index_key, &pack.pack_key] {
            if let Err(error) = self.app.storage.delete(key).await {
                tracing::warn!("cannot take back a pack that was refused: {error}");
            }
        }
    }
}
