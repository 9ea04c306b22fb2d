//! Multipart uploads whose writer died: no listing shows them, and they cost as objects
//! do until they are aborted.

use std::time::{Duration, SystemTime};

use super::S3;
use super::client::Failure;
use crate::storage::StorageError;
use crate::storage::key::validate_key;

/// Parts that are counted of one upload; what has more counts as having so many.
const PARTS: i32 = 1000;

/// A write that was begun and neither finished nor given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Key of the object that it would have been.
    pub key: String,
    /// Bytes that were sent.
    pub bytes: u64,
    /// When it was begun.
    pub started: SystemTime,
    /// The backend's name for it.
    pub(super) id: String,
}

impl S3 {
    pub(in crate::storage) async fn unfinished(
        &self,
        before: SystemTime,
        most: usize,
    ) -> Result<Vec<Unfinished>, StorageError> {
        let failed = |failure| self.failed_for_all("look for unfinished objects", failure);
        let mut found = Vec::new();
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            let call = self.client().list_multipart_uploads().bucket(self.bucket());
            let call = call.set_key_marker(key_marker).set_upload_id_marker(id_marker);
            let page = call.prefix(self.full("")).send().await;
            let page = page.map_err(|e| failed(Failure::of(&e)))?;
            let next = (page.next_key_marker.clone(), page.next_upload_id_marker.clone());
            let more = page.is_truncated == Some(true) && next.0.is_some();
            for upload in page.uploads.unwrap_or_default() {
                let (Some(full), Some(id), Some(at)) =
                    (upload.key, upload.upload_id, upload.initiated)
                else {
                    continue;
                };
                // What is no key of ours belongs to somebody else.
                let key = full.strip_prefix(self.full("").as_str());
                let Some(key) = key.filter(|key| validate_key(key).is_ok()) else { continue };
                let seconds = Duration::from_secs(u64::try_from(at.secs()).unwrap_or(0));
                let started = SystemTime::UNIX_EPOCH + seconds;
                if started >= before {
                    continue;
                }
                let bytes = self.sent(key, &id).await?;
                found.push(Unfinished { key: key.to_owned(), bytes, started, id });
                if found.len() == most {
                    return Ok(found);
                }
            }
            if !more {
                return Ok(found);
            }
            (key_marker, id_marker) = next;
        }
    }

    async fn sent(&self, key: &str, id: &str) -> Result<u64, StorageError> {
        let call = self.client().list_parts().bucket(self.bucket()).key(self.full(key));
        match call.upload_id(id).max_parts(PARTS).send().await {
            Ok(page) => Ok(page.parts().iter().filter_map(|p| u64::try_from(p.size?).ok()).sum()),
            Err(error) => match Failure::of(&error) {
                // Ended meanwhile.
                failure if failure.status == Some(404) => Ok(0),
                failure => Err(self.failed_for_all("look for unfinished objects", failure)),
            },
        }
    }

    pub(in crate::storage) async fn give_up(&self, it: &Unfinished) -> Result<(), StorageError> {
        let call = self.client().abort_multipart_upload().bucket(self.bucket());
        match call.key(self.full(&it.key)).upload_id(&it.id).send().await {
            Ok(_) => Ok(()),
            Err(error) => match Failure::of(&error) {
                failure if failure.status == Some(404) => Ok(()),
                failure => Err(self.failed_for_all("give up an unfinished object", failure)),
            },
        }
    }

    /// Gives up an upload of this process. What cannot be given up is found later.
    pub(super) async fn abort(&self, key: &str, id: &str) {
        let it = Unfinished {
            key: key.to_owned(),
            bytes: 0,
            started: SystemTime::UNIX_EPOCH,
            id: id.to_owned(),
        };
        if let Err(error) = self.give_up(&it).await {
            tracing::warn!("parts of an object stay until the clean-up: {error}");
        }
    }
}
