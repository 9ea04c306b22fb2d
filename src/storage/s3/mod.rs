//! Objects in a bucket of S3, or of whatever speaks its protocol.
//!
//! A key lies below the prefix of the configuration as it is. What the promises of
//! [`crate::storage`] rest on:
//!
//! * **Whole, and written once**: every write is conditional on the key being free, and a
//!   multipart upload shows nothing before it is completed ([`writer`]). A bucket that
//!   ignores the condition is refused at the start.
//! * **Bounded**: parts that are on their way share [`ROOM`] bytes in all, windows that
//!   were read ahead ([`ahead`]) share others; a writer gathers one part.
//! * **A bucket that is away** costs seconds, not minutes ([`client`]): each call has a
//!   time of its own, is tried three times, and a stream that stalls is taken up again
//!   where it broke off.
//!
//! Nothing here blocks an async thread; threads that may block wait for a task of the
//! runtime that opened the storage.

mod ahead;
mod client;
mod reader;
mod unfinished;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Credentials, Region, SharedCredentialsProvider};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::ahead::Windows;
use self::client::{Failure, QUICK, TIMES, within};
use super::key::validate_key;
use super::object::{ObjectMeta, Page, Removed};
use super::{MAX_PAGE, StorageError};

pub(super) use reader::{Download, File};
pub use unfinished::Unfinished;
pub(super) use writer::Writer;

/// Bytes of parts that may be on their way at once, of all writers of a process.
const ROOM: usize = 128 << 20;

/// What it is given out in.
const GRAIN: usize = 64 << 10;

/// How long a part waits for its turn.
const TURN: Duration = Duration::from_secs(60);

/// A bucket, or a part of one. Cheap to clone.
#[derive(Clone)]
pub struct S3(Arc<Inner>);

struct Inner {
    client: Client,
    bucket: String,
    /// Empty, or with a slash at its end.
    prefix: String,
    /// For threads that block, and for what goes on behind a drop.
    runtime: Handle,
    room: Arc<Semaphore>,
    windows: Arc<Windows>,
    reads: AtomicU64,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client knows credentials.
        write!(f, "S3({}/{})", self.0.bucket, self.0.prefix)
    }
}

impl S3 {
    /// Opens the bucket that the environment leads to, and sees whether it is one that
    /// objects can be kept in.
    pub(super) async fn open(bucket: &str, prefix: &str) -> Result<Self, StorageError> {
        Self::open_with(bucket, prefix, &crate::aws::config(&TIMES).await).await
    }

    /// The same at an address that the environment does not name, with a key and its
    /// secret. `prefix` is empty or has a slash at its end.
    pub async fn open_at(
        bucket: &str,
        prefix: &str,
        endpoint: &str,
        (key, secret): (&str, &str),
    ) -> Result<Self, StorageError> {
        let credentials = Credentials::new(key, secret, None, None, "given");
        let sdk = crate::aws::config(&TIMES).await;
        let region = sdk.region().cloned().unwrap_or(Region::from_static("us-east-1"));
        let sdk = sdk
            .into_builder()
            .region(region)
            .endpoint_url(endpoint)
            .credentials_provider(SharedCredentialsProvider::new(credentials));
        Self::open_with(bucket, prefix, &sdk.build()).await
    }

    async fn open_with(bucket: &str, prefix: &str, sdk: &SdkConfig) -> Result<Self, StorageError> {
        let store = Self(Arc::new(Inner {
            client: client::client(sdk),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            runtime: Handle::current(),
            room: Arc::new(Semaphore::new(ROOM / GRAIN)),
            windows: Arc::new(Windows::default()),
            reads: AtomicU64::new(0),
        }));
        store.try_out().await?;
        Ok(store)
    }

    /// Fails unless the bucket is there and keeps what was written first.
    async fn try_out(&self) -> Result<(), StorageError> {
        const USING: &str = "use the bucket";
        // A listing, because what fails of it says why; a HEAD has no words.
        let call = self.client().list_objects_v2().bucket(self.bucket()).prefix(self.full(""));
        if let Err(error) = call.max_keys(1).send().await {
            return Err(self.failed_for_all(USING, Failure::of(&error)));
        }
        let key = format!("health/{}", uuid::Uuid::new_v4());
        let put = async || {
            let call = self.client().put_object().bucket(self.bucket()).key(self.full(&key));
            let call = call.body(ByteStream::from_static(b"probe")).if_none_match("*");
            call.send().await.map_err(|error| Failure::of(&error))
        };
        put().await.map_err(|failure| self.failed_for_all(USING, failure))?;
        let again = put().await;
        self.delete(&key).await?;
        match again {
            Err(failure) if failure.status == Some(412) => Ok(()),
            Err(failure) => Err(self.failed_for_all(USING, failure)),
            Ok(_) => Err(StorageError::unavailable(
                USING,
                "it ignores If-None-Match, which keeps writers from replacing what is there: use \
                 a service that honours conditional writes",
            )),
        }
    }

    fn client(&self) -> &Client {
        &self.0.client
    }

    fn bucket(&self) -> &str {
        &self.0.bucket
    }

    fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    fn windows(&self) -> &Arc<Windows> {
        &self.0.windows
    }

    /// The key as the bucket has it.
    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.0.prefix)
    }

    fn failed(&self, operation: &'static str, key: &str, failure: Failure) -> StorageError {
        failure.error(operation, self.bucket(), Some(key))
    }

    /// As [`S3::failed`] of a call that no missing object makes fail.
    fn failed_for_all(&self, operation: &'static str, failure: Failure) -> StorageError {
        failure.error(operation, self.bucket(), None)
    }

    /// Counts a request for content.
    fn count(&self) {
        self.0.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests for the content of objects that were made so far.
    pub fn reads(&self) -> u64 {
        self.0.reads.load(Ordering::Relaxed)
    }

    /// Room for a part of so many bytes.
    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, StorageError> {
        let grains = bytes.div_ceil(GRAIN).clamp(1, ROOM / GRAIN) as u32;
        let turn = self.0.room.clone().acquire_many_owned(grains);
        match tokio::time::timeout(TURN, turn).await {
            Ok(Ok(room)) => Ok(room),
            _ => Err(StorageError::unavailable("write an object", "too many others are written")),
        }
    }

    pub(super) async fn size(&self, key: &str) -> Result<u64, StorageError> {
        let call = self.client().head_object().bucket(self.bucket()).key(self.full(key));
        let found = call.send().await;
        let found = found.map_err(|e| self.failed("look for an object", key, Failure::of(&e)))?;
        let length = found.content_length.and_then(|length| u64::try_from(length).ok());
        let silent = || StorageError::unavailable("look for an object", "it gives no length");
        length.ok_or_else(silent)
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let call = self.client().delete_object().bucket(self.bucket()).key(self.full(key));
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error) => match self.failed("remove an object", key, Failure::of(&error)) {
                StorageError::NotFound { .. } => Ok(()),
                error => Err(error),
            },
        }
    }

    pub(super) async fn delete_prefix(&self, prefix: &str) -> Result<Removed, StorageError> {
        let mut removed = Removed::default();
        let mut after = None;
        loop {
            let page = self.list(prefix, after.as_deref(), MAX_PAGE).await?;
            self.delete_all(&page.items).await?;
            removed.objects += page.items.len() as u64;
            removed.bytes += page.items.iter().map(|object| object.size).sum::<u64>();
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(removed),
            }
        }
    }

    /// Removes up to [`MAX_PAGE`] objects with one request.
    async fn delete_all(&self, objects: &[ObjectMeta]) -> Result<(), StorageError> {
        const REMOVING: &str = "remove objects";
        let failed = |text: String| StorageError::unavailable(REMOVING, text);
        if objects.is_empty() {
            return Ok(());
        }
        let mut batch = Delete::builder().quiet(true);
        for object in objects {
            let name = ObjectIdentifier::builder().key(self.full(&object.key)).build();
            batch = batch.objects(name.map_err(|e| failed(e.to_string()))?);
        }
        let batch = batch.build().map_err(|e| failed(e.to_string()))?;
        let call = self.client().delete_objects().bucket(self.bucket()).delete(batch);
        let answer = call.send().await;
        let answer = answer.map_err(|e| self.failed_for_all(REMOVING, Failure::of(&e)))?;
        let left = answer.errors().iter().find(|e| e.code() != Some("NoSuchKey"));
        match left {
            Some(error) => Err(failed(format!("it says {}", error.code().unwrap_or("nothing")))),
            None => Ok(()),
        }
    }

    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, StorageError> {
        let mut start = after.map(|key| self.full(key));
        let mut page = Page::default();
        loop {
            let call = self.client().list_objects_v2().bucket(self.bucket());
            let call = call.prefix(self.full(prefix)).max_keys(limit as i32);
            let found = call.set_start_after(start).send().await;
            let found = found.map_err(|e| self.failed_for_all("list objects", Failure::of(&e)))?;
            let more = found.is_truncated == Some(true);
            let mut last = None;
            for object in found.contents.unwrap_or_default() {
                let Some(full) = object.key else { continue };
                // What cannot be a key was put here by somebody else and is no object.
                let key = full.strip_prefix(&self.0.prefix);
                if let Some(key) = key.filter(|key| validate_key(key).is_ok()) {
                    let modified = object.last_modified.and_then(|at| at.try_into().ok());
                    page.items.push(ObjectMeta {
                        key: key.to_owned(),
                        size: object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                        modified: modified.unwrap_or(SystemTime::UNIX_EPOCH),
                    });
                }
                last = Some(full);
            }
            match last {
                Some(last) if more && page.items.is_empty() => start = Some(last),
                _ => {
                    page.next =
                        more.then(|| page.items.last().map(|object| object.key.clone())).flatten();
                    return Ok(page);
                }
            }
        }
    }

    /// Writes, reads and removes a probe, within four seconds.
    pub(super) async fn check(&self) -> Result<(), StorageError> {
        const CHECKING: &str = "write a probe";
        let key = format!("health/{}", uuid::Uuid::new_v4());
        let full = self.full(&key);
        let probe = Bytes::from(key.clone());
        let call = self.client().put_object().bucket(self.bucket()).key(&full);
        let call = call.body(ByteStream::from(probe.clone())).if_none_match("*");
        let put = call.customize().config_override(within(&QUICK)).send().await;
        put.map_err(|e| self.failed_for_all(CHECKING, Failure::of(&e)))?;
        let call = self.client().get_object().bucket(self.bucket()).key(&full);
        let read = match call.customize().config_override(within(&QUICK)).send().await {
            Ok(answer) => tokio::time::timeout(QUICK.attempt, answer.body.collect())
                .await
                .map(|body| body.map(|bytes| bytes.into_bytes()).unwrap_or_default())
                .map_err(|_| StorageError::unavailable("read a probe", "no answer in time")),
            Err(error) => Err(self.failed("read a probe", &key, Failure::of(&error))),
        };
        let call = self.client().delete_object().bucket(self.bucket()).key(&full);
        let removed = call.customize().config_override(within(&QUICK)).send().await;
        let same = read? == probe;
        removed.map_err(|e| self.failed_for_all("remove a probe", Failure::of(&e)))?;
        if same { Ok(()) } else { Err(StorageError::Mismatch { key }) }
    }
}
