//! What the storage hands out: writers, readers, and what it says of an object.

use std::fs::File;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

use super::{StorageError, folder, s3};

/// What a listing says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// When it was written; for a linked file, when that was written.
    pub modified: SystemTime,
}

/// A page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// In byte order of their keys.
    pub items: Vec<ObjectMeta>,
    /// The `after` of the next page; `None` if this is the last.
    pub next: Option<String>,
}

/// What a removal removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Writes one object from front to end. Nothing is visible before
/// [`ObjectWriter::finish`]; dropping it instead leaves nothing behind.
#[derive(Debug)]
pub struct ObjectWriter {
    backend: WriterBackend,
    written: u64,
}

#[derive(Debug)]
enum WriterBackend {
    Folder(folder::Writer),
    S3(s3::Writer),
}

impl ObjectWriter {
    pub(super) fn folder(writer: folder::Writer) -> Self {
        Self { backend: WriterBackend::Folder(writer), written: 0 }
    }

    pub(super) fn s3(writer: s3::Writer) -> Self {
        Self { backend: WriterBackend::S3(writer), written: 0 }
    }

    /// Appends bytes. Each call costs a change of threads or more, so callers
    /// gather about a MiB.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        let length = bytes.len() as u64;
        match &mut self.backend {
            WriterBackend::Folder(writer) => writer.write(bytes).await?,
            WriterBackend::S3(writer) => writer.write(bytes).await?,
        }
        self.written += length;
        Ok(())
    }

    /// Bytes so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Makes the object durable and visible, and returns its size.
    pub async fn finish(self) -> Result<u64, StorageError> {
        match self.backend {
            WriterBackend::Folder(writer) => writer.finish(self.written).await?,
            WriterBackend::S3(writer) => writer.finish(self.written).await?,
        }
        Ok(self.written)
    }
}

/// An open object that is read from at many places, by many readers at once. It
/// stays readable when the object is removed meanwhile, if the backend can do that.
#[derive(Debug, Clone)]
pub struct ObjectFile {
    backend: FileBackend,
    size: u64,
}

#[derive(Debug, Clone)]
enum FileBackend {
    Folder(Arc<File>),
    S3(s3::File),
}

impl ObjectFile {
    pub(super) fn folder(file: File, size: u64) -> Self {
        Self { backend: FileBackend::Folder(Arc::new(file)), size }
    }

    pub(super) fn s3(file: s3::File, size: u64) -> Self {
        Self { backend: FileBackend::S3(file), size }
    }

    /// Bytes of the object.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of a range that lies within the object.
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        if let FileBackend::S3(file) = &self.backend {
            self.length(&range)?;
            return file.read(range).await;
        }
        let file = self.clone();
        folder::blocking("read an object", move || {
            let mut bytes = Vec::new();
            file.read_blocking(range, &mut bytes)?;
            Ok(Bytes::from(bytes))
        })
        .await
    }

    /// As [`ObjectFile::read`] for threads that may block; replaces the content of
    /// `into` and uses its memory again.
    pub fn read_blocking(&self, range: Range<u64>, into: &mut Vec<u8>) -> Result<(), StorageError> {
        let length = self.length(&range)?;
        match &self.backend {
            FileBackend::Folder(file) => {
                into.resize(length, 0);
                folder::read_at(file, range.start, into)
            }
            FileBackend::S3(file) => {
                let bytes = file.read_blocking(range)?;
                into.clear();
                into.extend_from_slice(&bytes);
                Ok(())
            }
        }
    }

    /// Bytes of a range, which must lie within the object.
    fn length(&self, range: &Range<u64>) -> Result<usize, StorageError> {
        let Range { start, end } = *range;
        end.checked_sub(start)
            .filter(|_| end <= self.size)
            .and_then(|length| usize::try_from(length).ok())
            .ok_or(StorageError::InvalidRange { start, end, size: self.size })
    }
}

/// Streams an object.
pub struct ObjectReader {
    backend: ReaderBackend,
    length: u64,
}

enum ReaderBackend {
    Folder(tokio::io::Take<tokio::fs::File>),
    S3(s3::Download),
}

impl std::fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectReader").field("length", &self.length).finish_non_exhaustive()
    }
}

impl ObjectReader {
    pub(super) fn folder(file: tokio::io::Take<tokio::fs::File>, length: u64) -> Self {
        Self { backend: ReaderBackend::Folder(file), length }
    }

    pub(super) fn s3(download: s3::Download, length: u64) -> Self {
        Self { backend: ReaderBackend::S3(download), length }
    }

    /// Bytes that this reader gives in all.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl AsyncRead for ObjectReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match &mut self.backend {
            ReaderBackend::Folder(file) => Pin::new(file).poll_read(cx, buf),
            ReaderBackend::S3(download) => Pin::new(download).poll_read(cx, buf),
        }
    }
}
