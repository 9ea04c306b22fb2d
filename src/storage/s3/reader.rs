//! Reading objects of a bucket: streams that go on where they broke off, and open
//! objects that are read from at many places.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures::Stream;
use tokio_util::io::StreamReader;

use super::S3;
use super::ahead::Track;
use super::client::Failure;
use crate::storage::StorageError;

/// A stream that gives nothing for so long has stalled.
const IDLE: Duration = Duration::from_secs(5);

/// How often a stream that breaks off is taken up again without a byte in between.
const TRIES: u32 = 3;

/// What a download is read from.
pub(in crate::storage) type Download =
    StreamReader<Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>, Bytes>;

const READING: &str = "read an object";

fn broke_off(why: &str) -> StorageError {
    StorageError::unavailable(READING, why)
}

/// Bytes of an object from one place to another.
pub(super) struct Body {
    store: S3,
    key: String,
    at: u64,
    end: u64,
    open: Option<ByteStream>,
    tries: u32,
}

impl Body {
    /// Of a range that is known to lie within the object.
    pub(super) fn new(store: S3, key: &str, range: Range<u64>) -> Self {
        let (at, end) = (range.start, range.end);
        Self { store, key: key.to_owned(), at, end, open: None, tries: 0 }
    }

    /// The same of an answer that has begun.
    pub(super) fn begun(store: S3, key: &str, range: Range<u64>, answer: ByteStream) -> Self {
        Self { open: Some(answer), ..Self::new(store, key, range) }
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, StorageError> {
        loop {
            if self.at >= self.end {
                return self.close().await.map(|()| None);
            }
            let body = match &mut self.open {
                Some(body) => body,
                None => {
                    let range = self.at..self.end;
                    let answer = self.store.get_range(&self.key, &range).await;
                    let answer = answer.map_err(|f| self.store.failed(READING, &self.key, f))?;
                    self.open.insert(answer.body)
                }
            };
            match tokio::time::timeout(IDLE, body.next()).await {
                Ok(Some(Ok(bytes))) if bytes.is_empty() => {}
                Ok(Some(Ok(bytes))) if bytes.len() as u64 > self.end - self.at => {
                    return Err(StorageError::Mismatch { key: self.key.clone() });
                }
                Ok(Some(Ok(bytes))) => {
                    self.at += bytes.len() as u64;
                    self.tries = 0;
                    return Ok(Some(bytes));
                }
                broken => {
                    self.open = None;
                    self.tries += 1;
                    if self.tries > TRIES {
                        return Err(broke_off(match broken {
                            Err(_) => "it sent nothing for five seconds",
                            _ => "the transfer broke off again and again",
                        }));
                    }
                    tokio::time::sleep(Duration::from_millis(100 << self.tries)).await;
                }
            }
        }
    }

    /// Behind the last byte the SDK tells whether the checksum that the bucket keeps is
    /// that of what came.
    async fn close(&mut self) -> Result<(), StorageError> {
        let Some(mut body) = self.open.take() else { return Ok(()) };
        match tokio::time::timeout(IDLE, body.next()).await {
            Ok(None) | Err(_) => Ok(()),
            Ok(Some(Ok(more))) if more.is_empty() => Ok(()),
            Ok(Some(_)) => Err(StorageError::Mismatch { key: self.key.clone() }),
        }
    }

    /// All of it. The caller is ready to hold that much.
    pub(super) async fn collect(mut self) -> Result<Bytes, StorageError> {
        let mut all = Vec::with_capacity((self.end - self.at) as usize);
        while let Some(bytes) = self.next().await? {
            all.extend_from_slice(&bytes);
        }
        Ok(all.into())
    }

    fn download(self) -> Download {
        let stream = futures::stream::try_unfold(self, |mut body| async move {
            let bytes = body.next().await.map_err(io::Error::other)?;
            Ok(bytes.map(|bytes| (bytes, body)))
        });
        StreamReader::new(Box::pin(stream))
    }
}

/// Bytes of the whole object behind an answer with a part of it.
fn total(answer: &GetObjectOutput) -> Option<u64> {
    match &answer.content_range {
        Some(range) => range.rsplit_once('/')?.1.parse().ok(),
        None => u64::try_from(answer.content_length?).ok(),
    }
}

impl S3 {
    /// Asks for a range, which must not be empty.
    async fn get_range(&self, key: &str, range: &Range<u64>) -> Result<GetObjectOutput, Failure> {
        self.count();
        let call = self.client().get_object().bucket(self.bucket()).key(self.full(key));
        let call = call.range(format!("bytes={}-{}", range.start, range.end - 1));
        call.send().await.map_err(|error| Failure::of(&error))
    }

    pub(in crate::storage) async fn get(&self, key: &str, max: u64) -> Result<Bytes, StorageError> {
        self.count();
        let call = self.client().get_object().bucket(self.bucket()).key(self.full(key));
        let answer = call.send().await;
        let answer = answer.map_err(|e| self.failed(READING, key, Failure::of(&e)))?;
        let size = total(&answer).ok_or_else(|| broke_off("it does not say how long it is"))?;
        if size > max {
            return Err(StorageError::TooLarge { key: key.to_owned(), size, max });
        }
        Body::begun(self.clone(), key, 0..size, answer.body).collect().await
    }

    pub(in crate::storage) async fn reader(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<(Download, u64), StorageError> {
        let (answer, range) = match range {
            None => {
                self.count();
                let call = self.client().get_object().bucket(self.bucket()).key(self.full(key));
                let answer = call.send().await;
                let answer = answer.map_err(|e| self.failed(READING, key, Failure::of(&e)))?;
                let size =
                    total(&answer).ok_or_else(|| broke_off("it does not say how long it is"))?;
                (answer, 0..size)
            }
            Some(range) => {
                let Range { start, end } = range;
                // HTTP has no word for an empty range, and no bucket has objects of 2^53.
                let sayable = start < end && end < 1 << 53;
                let answer = if sayable { Some(self.get_range(key, &range).await) } else { None };
                let answer = match answer {
                    Some(Ok(answer)) => answer,
                    Some(Err(failure)) if failure.status != Some(416) => {
                        return Err(self.failed(READING, key, failure));
                    }
                    _ => {
                        let size = self.size(key).await?;
                        if start == end && end <= size {
                            let nothing = Body::new(self.clone(), key, start..start);
                            return Ok((nothing.download(), 0));
                        }
                        return Err(StorageError::InvalidRange { start, end, size });
                    }
                };
                match total(&answer) {
                    Some(size) if end > size => {
                        return Err(StorageError::InvalidRange { start, end, size });
                    }
                    Some(_) => (answer, range),
                    None => return Err(broke_off("it does not say which part it sends")),
                }
            }
        };
        let length = range.end - range.start;
        Ok((Body::begun(self.clone(), key, range, answer.body).download(), length))
    }

    pub(in crate::storage) async fn file(&self, key: &str) -> Result<(File, u64), StorageError> {
        let size = self.size(key).await?;
        let track = Arc::new(self.windows().track(size));
        Ok((File { store: self.clone(), key: key.into(), track }, size))
    }
}

/// An open object.
#[derive(Debug, Clone)]
pub(in crate::storage) struct File {
    store: S3,
    key: Arc<str>,
    track: Arc<Track>,
}

impl File {
    /// Bytes of a range that lies within the object.
    pub(in crate::storage) async fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let fetch = |range| Body::new(self.store.clone(), &self.key, range).collect();
        self.track.read(range, fetch).await
    }

    /// As [`File::read`], for threads that may block.
    pub(in crate::storage) fn read_blocking(
        &self,
        range: Range<u64>,
    ) -> Result<Bytes, StorageError> {
        if let Some(bytes) = self.track.at_hand(&range) {
            return Ok(bytes);
        }
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let file = self.clone();
        self.store.runtime().spawn(async move {
            // Nobody waits any more if it cannot be sent.
            let _ = sender.send(file.read(range).await);
        });
        // A runtime that ends drops its tasks.
        receiver.recv().unwrap_or_else(|_| Err(broke_off("the server stops")))
    }
}
