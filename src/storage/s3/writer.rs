//! Writing objects to a bucket.
//!
//! What is smaller than a part is one `PutObject`. Everything else is a multipart upload:
//! nothing of it is visible before it is completed, and parts go out while the next ones
//! are gathered. Both are conditional on the key being free (`If-None-Match: *`), so of
//! many writers of one key the bucket lets one win; the others compare sizes.
//!
//! Each part goes with its CRC-32, which the bucket checks before it takes it and keeps
//! with the object: so a fault on the way is found by whoever reads too. (A bucket that
//! does not know it: `AWS_REQUEST_CHECKSUM_CALCULATION=when_required`.)
//!
//! A writer that is dropped aborts its upload; what a dead process leaves is found by
//! the clean-up ([`super::unfinished`]) and by the lifecycle rule that the page of the
//! storage asks for.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use tokio::task::JoinSet;

use super::S3;
use super::client::{COMPLETE, Failure, sending, within};
use crate::storage::StorageError;
use crate::storage::folder::blocking;

/// Bytes of a part, and of the largest object that is put at once.
pub(super) const PART: usize = 8 << 20;

/// Most bytes of a part.
const MAX_PART: usize = 64 << 20;

/// Parts that an upload may have.
const MAX_PARTS: usize = 10_000;

/// Parts of one object on their way at once.
const IN_FLIGHT: usize = 3;

/// How often a write is tried that others are in the way of.
const CONFLICTS: u32 = 6;

const WRITING: &str = "write an object";

/// Bytes of the part with this number, from 1 on: small objects take little memory, and
/// 500 GB are possible.
fn part_size(number: usize) -> usize {
    match number {
        ..=1000 => PART,
        1001..=2000 => 2 * PART,
        2001..=3000 => 4 * PART,
        _ => MAX_PART,
    }
}

fn trouble(text: &str) -> StorageError {
    StorageError::unavailable(WRITING, text)
}

fn pause(attempt: u32) -> impl Future<Output = ()> {
    // Random, so that those who met do not meet again.
    let most = 50_u64 << attempt;
    tokio::time::sleep(Duration::from_millis(rand::random_range(most / 2..=most)))
}

impl S3 {
    /// Writes an object with one request.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), StorageError> {
        let size = bytes.len() as u64;
        let mut attempt = 0;
        loop {
            let call = self.client().put_object().bucket(self.bucket()).key(self.full(key));
            let call = call.body(ByteStream::from(bytes.clone())).if_none_match("*");
            let sent = call.customize().config_override(within(&sending(size))).send().await;
            let failure = match sent {
                Ok(_) => return Ok(()),
                Err(error) => Failure::of(&error),
            };
            match failure.status {
                // The key is taken: by another, or by a try of ours whose answer was lost.
                Some(412) if self.is_settled(key, size).await? => return Ok(()),
                // Removed again meanwhile, or others are at it at this moment.
                Some(412 | 409) if attempt < CONFLICTS => {
                    pause(attempt).await;
                    attempt += 1;
                }
                _ => return Err(self.failed_for_all(WRITING, failure)),
            }
        }
    }

    /// True if the key has an object of this size, false if it has none.
    async fn is_settled(&self, key: &str, size: u64) -> Result<bool, StorageError> {
        match self.size(key).await {
            Ok(existing) if existing == size => Ok(true),
            Ok(existing) => Err(StorageError::Conflict { key: key.to_owned(), existing, size }),
            Err(StorageError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(in crate::storage) async fn put_bytes(
        &self,
        key: &str,
        bytes: Bytes,
    ) -> Result<(), StorageError> {
        if bytes.len() <= PART {
            return self.put(key, bytes).await;
        }
        let size = bytes.len() as u64;
        // A job that is tried again meets its own traces, which spares the way.
        if self.is_settled(key, size).await? {
            return Ok(());
        }
        let mut writer = self.writer(key);
        writer.write(bytes).await?;
        writer.finish(size).await
    }

    /// Sends a file part by part; no more of it is in memory than what is on its way.
    pub(in crate::storage) async fn put_file(
        &self,
        key: &str,
        source: &Path,
    ) -> Result<u64, StorageError> {
        let source = source.to_owned();
        let opened = blocking("take in a file", move || {
            let taking = |e| StorageError::io("take in a file", e);
            let file = File::open(source).map_err(taking)?;
            let metadata = file.metadata().map_err(taking)?;
            if !metadata.is_file() {
                return Err(taking(io::Error::other("only a plain file can become an object")));
            }
            Ok((std::sync::Arc::new(file), metadata.len()))
        });
        let (file, size) = opened.await?;
        let read = async |start: u64, length: usize| {
            let file = file.clone();
            blocking("take in a file", move || {
                let mut part = BytesMut::zeroed(length);
                file.read_exact_at(&mut part, start)
                    .map_err(|e| StorageError::io("take in a file", e))?;
                Ok(part.freeze())
            })
            .await
        };
        if size <= PART as u64 {
            let _room = self.room(size as usize).await?;
            self.put(key, read(0, size as usize).await?).await?;
            return Ok(size);
        }
        if self.is_settled(key, size).await? {
            return Ok(size);
        }
        let mut writer = self.writer(key);
        let mut at = 0;
        while at < size {
            let length = usize::try_from(size - at).unwrap_or(MAX_PART).min(writer.next_size());
            writer.turn().await?;
            // Room first: of many files on their way only so much is read.
            let room = self.room(length).await?;
            writer.send(read(at, length).await?, Some(room)).await?;
            at += length as u64;
        }
        writer.finish(size).await?;
        Ok(size)
    }

    pub(in crate::storage) fn writer(&self, key: &str) -> Writer {
        Writer {
            store: self.clone(),
            key: key.to_owned(),
            buffer: BytesMut::new(),
            upload: None,
            broken: false,
        }
    }
}

/// The bucket's side of an [`crate::storage::ObjectWriter`].
#[derive(Debug)]
pub(in crate::storage) struct Writer {
    store: S3,
    key: String,
    /// Of the next part.
    buffer: BytesMut,
    upload: Option<Upload>,
    /// A part of it could not be written.
    broken: bool,
}

/// A multipart upload that has begun.
#[derive(Debug)]
struct Upload {
    store: S3,
    key: String,
    id: String,
    tasks: JoinSet<Result<CompletedPart, StorageError>>,
    parts: Vec<CompletedPart>,
    started: usize,
    /// Completed or aborted.
    ended: bool,
}

impl Writer {
    pub(in crate::storage) async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        if self.broken {
            return Err(trouble("an earlier write of it failed"));
        }
        let taken = self.take(bytes).await;
        if taken.is_err() {
            self.broken = true;
            self.upload = None;
        }
        taken
    }

    async fn take(&mut self, mut bytes: Bytes) -> Result<(), StorageError> {
        while !bytes.is_empty() {
            let size = self.next_size();
            if self.buffer.is_empty() && bytes.len() >= size {
                self.send(bytes.split_to(size), None).await?;
                continue;
            }
            let part = bytes.split_to(bytes.len().min(size - self.buffer.len()));
            self.buffer.extend_from_slice(&part);
            if self.buffer.len() == size {
                let part = std::mem::take(&mut self.buffer).freeze();
                self.send(part, None).await?;
            }
        }
        Ok(())
    }

    /// Bytes of the next part.
    fn next_size(&self) -> usize {
        part_size(self.upload.as_ref().map_or(0, |upload| upload.started) + 1)
    }

    /// Waits until one more part may be on its way.
    async fn turn(&mut self) -> Result<(), StorageError> {
        match &mut self.upload {
            Some(upload) => upload.at_most(IN_FLIGHT - 1).await,
            None => Ok(()),
        }
    }

    /// Sends a part, beside those that are on their way.
    async fn send(
        &mut self,
        bytes: Bytes,
        room: Option<tokio::sync::OwnedSemaphorePermit>,
    ) -> Result<(), StorageError> {
        self.turn().await?;
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => self.upload.insert(Upload::begin(&self.store, &self.key).await?),
        };
        if upload.started == MAX_PARTS {
            return Err(trouble("it is too large for a bucket"));
        }
        let room = match room {
            Some(room) => room,
            None => self.store.room(bytes.len()).await?,
        };
        upload.started += 1;
        let number = upload.started as i32;
        let (store, key, id) = (self.store.clone(), self.key.clone(), upload.id.clone());
        let part = async move {
            let sent = store.send_part(&key, &id, number, bytes).await;
            drop(room);
            sent
        };
        upload.tasks.spawn_on(part, self.store.runtime());
        Ok(())
    }

    pub(in crate::storage) async fn finish(mut self, size: u64) -> Result<(), StorageError> {
        if self.broken {
            return Err(trouble("an earlier write of it failed"));
        }
        let rest = std::mem::take(&mut self.buffer).freeze();
        if self.upload.is_none() {
            return self.store.put(&self.key, rest).await;
        }
        if !rest.is_empty() {
            self.send(rest, None).await?;
        }
        match self.upload.take() {
            Some(upload) => upload.complete(size).await,
            None => Ok(()),
        }
    }
}

impl S3 {
    async fn send_part(
        &self,
        key: &str,
        id: &str,
        number: i32,
        bytes: Bytes,
    ) -> Result<CompletedPart, StorageError> {
        let length = bytes.len() as u64;
        let call = self.client().upload_part().bucket(self.bucket()).key(self.full(key));
        let call = call.upload_id(id).part_number(number).body(ByteStream::from(bytes));
        let sent = call.customize().config_override(within(&sending(length))).send().await;
        let sent = sent.map_err(|e| self.failed_for_all(WRITING, Failure::of(&e)))?;
        Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(sent.e_tag)
            .set_checksum_crc32(sent.checksum_crc32)
            .build())
    }
}

impl Upload {
    async fn begin(store: &S3, key: &str) -> Result<Self, StorageError> {
        let call = store.client().create_multipart_upload().bucket(store.bucket());
        let begun = call.key(store.full(key)).send().await;
        let begun = begun.map_err(|e| store.failed_for_all(WRITING, Failure::of(&e)))?;
        let id = begun.upload_id.ok_or_else(|| trouble("it gives no name to an upload"))?;
        Ok(Self {
            store: store.clone(),
            key: key.to_owned(),
            id,
            tasks: JoinSet::new(),
            parts: Vec::new(),
            started: 0,
            ended: false,
        })
    }

    /// Waits until no more than so many parts are on their way.
    async fn at_most(&mut self, most: usize) -> Result<(), StorageError> {
        while self.tasks.len() > most {
            match self.tasks.join_next().await {
                Some(Ok(part)) => self.parts.push(part?),
                Some(Err(error)) => return Err(trouble(&error.to_string())),
                None => break,
            }
        }
        Ok(())
    }

    /// Makes the parts an object, or finds that another one is there.
    async fn complete(mut self, size: u64) -> Result<(), StorageError> {
        self.at_most(0).await?;
        self.parts.sort_by_key(|part| part.part_number);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(self.parts.clone())).build();
        let store = self.store.clone();
        let mut attempt = 0;
        loop {
            let call = store.client().complete_multipart_upload().bucket(store.bucket());
            let call = call.key(store.full(&self.key)).upload_id(&self.id);
            let call = call.multipart_upload(parts.clone()).if_none_match("*");
            let failure = match call.customize().config_override(within(&COMPLETE)).send().await {
                Ok(_) => {
                    // A bucket may say at the end of a good answer that it failed.
                    if store.is_settled(&self.key, size).await? {
                        self.ended = true;
                        return Ok(());
                    }
                    return Err(trouble("it lost what it had taken"));
                }
                Err(error) => Failure::of(&error),
            };
            match failure.status {
                // The key is taken: by another, or by a try of ours whose answer was lost
                // and with which the upload has ended.
                Some(412 | 409 | 404) if store.is_settled(&self.key, size).await? => {
                    self.abort().await;
                    return Ok(());
                }
                Some(412 | 409) if attempt < CONFLICTS => {
                    pause(attempt).await;
                    attempt += 1;
                }
                _ => return Err(store.failed_for_all(WRITING, failure)),
            }
        }
    }

    /// Drops what was sent.
    async fn abort(&mut self) {
        self.ended = true;
        self.store.abort(&self.key, &self.id).await;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (store, key) = (self.store.clone(), std::mem::take(&mut self.key));
        let (id, mut tasks) = (std::mem::take(&mut self.id), std::mem::take(&mut self.tasks));
        self.store.runtime().spawn(async move {
            // A part that arrives behind the abort would stay.
            tasks.shutdown().await;
            store.abort(&key, &id).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_so_that_objects_of_500_gigabytes_fit() {
        let total: u64 = (1..=MAX_PARTS).map(|number| part_size(number) as u64).sum();
        assert!(total > 500_000_000_000);
        assert_eq!(part_size(1), PART);
        assert!((1..=MAX_PARTS).all(|number| part_size(number) <= MAX_PART));
    }
}
