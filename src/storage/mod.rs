//! Objects: the interface and its backends.
//!
//! An object is a run of bytes under a key. It is written once, whole, and never
//! changes: whoever reads a key reads all of it or is told that there is none.
//! That is all that the rooms above rely on, so a folder on the same disk and a
//! bucket far away are the same to them. [`Storage`] is an enum, not a trait
//! object: the folder backend in a temporary directory is the fast fake of every
//! test, and `tests/storage.rs` runs one conformance suite on each backend.
//!
//! # Promises, the same for every backend
//!
//! * **Durable**: when a write returns, the object survives a power cut.
//! * **Whole or not at all**: nothing is visible before [`ObjectWriter::finish`]
//!   (or `put_…`) returns; a writer that is dropped leaves nothing behind.
//! * **Written once**: writing a key again with as many bytes succeeds and changes
//!   nothing (a job that is tried again meets its own traces); with another size
//!   it is a [`StorageError::Conflict`].
//! * **Bounded**: no call takes memory that depends on the size of an object or the
//!   number of keys; a caller names what it is ready to take.
//! * **Off the async threads**: blocking file work runs on blocking threads.
//!
//! # Keys and the life of what is kept
//!
//! | prefix | what | written by | ends with |
//! |---|---|---|---|
//! | `packs/<upload_id>/` | packs, their indices and LFS objects of a git remote | the push, before its transaction | the remote and every repository made from it |
//! | `snapshots/<repo_id>/<snapshot_id>/` | `manifest` and `data-N`, see [`crate::snapshot`] | ingest | the last manifest of the repository that names the object |
//! | `artifacts/<scan_id>/` | SARIF, SBOM and log of a scan | the scan | the scan |
//! | `archives/<repo_id>/` | an archive that a user handed in | the API, before its transaction | its ingest |
//! | `health/` | the probe of [`Storage::check`] | readiness | the probe itself |
//!
//! | parts of a multipart upload (S3 only; no key shows them) | what a writer has sent | [`ObjectWriter`] | the writer, or the clean-up a day after the writer died |
//!
//! The id in a prefix is that of the row that owns the objects, so whatever a
//! crash leaves between a write and its transaction is found by listing a prefix
//! and asking the database for the row.
//!
//! Nothing may expire by age: the database says what lives. The one lifecycle rule that a
//! bucket should have is `AbortIncompleteMultipartUpload` after some days, for the parts
//! that are left when nobody runs the clean-up. On a bucket with versions another rule
//! should end versions that are no longer current, since what is removed here stays there
//! as such.

//!
//! # What it costs in a bucket
//!
//! Measured by `benches/run scale` and `tests/s3.rs`: a push with its scan writes eight
//! objects (two of the pack, two of the snapshot, four artefacts), each with one request as
//! long as it has less than 8 MiB; a scan of 5,000 files reads with ten requests, and one
//! that follows on the machine that took the push reads no pack. 10 million pushes a month
//! are 80 million writes (400 USD at 5 USD a million) and about 100 million reads (40 USD at
//! 0.40 USD). So the number of objects costs more than their bytes, which is why there is
//! no object for a file. Nothing lists the bucket but the clean-up, 1,000 keys a request:
//! 80 million keys are 80,000 requests, some pages at a time.

mod error;
mod folder;
mod key;
mod location;
mod object;
mod s3;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;

pub use error::StorageError;
pub use folder::Folder;
pub use key::{MAX_KEY, validate_key, validate_prefix};
pub use location::Location;
pub use object::{ObjectFile, ObjectMeta, ObjectReader, ObjectWriter, Page, Removed};
pub use s3::{S3, Unfinished};

/// Most objects on one [`Page`].
pub const MAX_PAGE: usize = 1000;

/// Where objects are kept. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Storage {
    /// A folder of this machine.
    Folder(Folder),
    /// A bucket, or a part of one.
    S3(S3),
}

impl Storage {
    /// Opens what `SLUICE_STORAGE` names: `file://DIR`, where `DIR` may be relative
    /// to the working directory, or `s3://BUCKET[/PREFIX]`. The folder is created if it
    /// is missing, and what an earlier process left half-written in it is removed. The
    /// bucket must be there; endpoint, region and credentials are those of the
    /// environment.
    pub async fn open(url: &str) -> Result<Self, StorageError> {
        match Location::parse(url).map_err(|_| StorageError::InvalidUrl)? {
            Location::Folder(dir) => Ok(Self::Folder(Folder::open(&dir).await?)),
            Location::Bucket { bucket, prefix } => Ok(Self::S3(S3::open(&bucket, &prefix).await?)),
        }
    }

    /// Writes a small object whole.
    pub async fn put_bytes(&self, key: &str, bytes: Bytes) -> Result<(), StorageError> {
        let key = validate_key(key)?;
        match self {
            Self::Folder(folder) => folder.put_bytes(key, bytes).await,
            Self::S3(bucket) => bucket.put_bytes(key, bytes).await,
        }
    }

    /// Makes a finished local file an object and returns its size. A folder on the
    /// same file system links to it, so no second copy is made: the caller must
    /// not write to the file afterwards, and may remove its own name for it.
    pub async fn put_file(&self, key: &str, path: &Path) -> Result<u64, StorageError> {
        let key = validate_key(key)?;
        match self {
            Self::Folder(folder) => folder.put_file(key, path).await,
            Self::S3(bucket) => bucket.put_file(key, path).await,
        }
    }

    /// Starts an object of unknown size.
    pub async fn writer(&self, key: &str) -> Result<ObjectWriter, StorageError> {
        let key = validate_key(key)?;
        match self {
            Self::Folder(folder) => folder.writer(key).await.map(ObjectWriter::folder),
            Self::S3(bucket) => Ok(ObjectWriter::s3(bucket.writer(key))),
        }
    }

    /// All bytes of an object, refused with [`StorageError::TooLarge`] if these are
    /// more than `max`.
    pub async fn get(&self, key: &str, max: u64) -> Result<Bytes, StorageError> {
        if let Self::S3(bucket) = self {
            return bucket.get(validate_key(key)?, max).await;
        }
        let file = self.file(key).await?;
        if file.size() > max {
            return Err(StorageError::TooLarge { key: key.to_owned(), size: file.size(), max });
        }
        let size = file.size();
        file.read(0..size).await
    }

    /// The bytes of a range, which must lie within the object and is what the
    /// caller is ready to hold in memory.
    pub async fn read_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.file(key).await?.read(range).await
    }

    /// Streams an object or a part of it, for downloads.
    pub async fn reader(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<ObjectReader, StorageError> {
        let key = validate_key(key)?;
        match self {
            Self::Folder(folder) => folder.reader(key, range).await,
            Self::S3(bucket) => {
                let (download, length) = bucket.reader(key, range).await?;
                Ok(ObjectReader::s3(download, length))
            }
        }
    }

    /// An open object to read from at many places.
    pub async fn file(&self, key: &str) -> Result<ObjectFile, StorageError> {
        let key = validate_key(key)?;
        match self {
            Self::Folder(folder) => folder.file(key).await,
            Self::S3(bucket) => {
                let (file, size) = bucket.file(key).await?;
                Ok(ObjectFile::s3(file, size))
            }
        }
    }

    /// Size in bytes; [`StorageError::NotFound`] if there is no such object.
    pub async fn size(&self, key: &str) -> Result<u64, StorageError> {
        let key = validate_key(key)?;
        match self {
            Self::Folder(folder) => folder.size(key).await,
            Self::S3(bucket) => bucket.size(key).await,
        }
    }

    /// True if there is such an object.
    pub async fn exists(&self, key: &str) -> Result<bool, StorageError> {
        match self.size(key).await {
            Ok(_) => Ok(true),
            Err(StorageError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes an object; one that is not there is no error. A removal need not
    /// survive a power cut: whoever removes lists again.
    pub async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let key = validate_key(key)?;
        match self {
            Self::Folder(folder) => folder.delete(key).await,
            Self::S3(bucket) => bucket.delete(key).await,
        }
    }

    /// Removes every object below a prefix and says what that was.
    pub async fn delete_prefix(&self, prefix: &str) -> Result<Removed, StorageError> {
        let prefix = validate_prefix(prefix)?;
        if let Self::S3(bucket) = self {
            return bucket.delete_prefix(prefix).await;
        }
        let mut removed = Removed::default();
        loop {
            // Always the first page: what was removed is no longer on it.
            let page = self.list(prefix, None, MAX_PAGE).await?;
            for object in &page.items {
                self.delete(&object.key).await?;
                removed.objects += 1;
                removed.bytes += object.size;
            }
            if page.next.is_none() {
                return Ok(removed);
            }
        }
    }

    /// One page of the objects below a prefix, in byte order of their keys (some services
    /// have `a/` before `a-`; pages go on from each other there too). `limit` is cut to
    /// 1…[`MAX_PAGE`]; [`Page::next`] is the `after` of the next page.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, StorageError> {
        let prefix = validate_prefix(prefix)?;
        let after = after.map(validate_key).transpose()?;
        let limit = limit.clamp(1, MAX_PAGE);
        match self {
            Self::Folder(folder) => folder.list(prefix, after, limit).await,
            Self::S3(bucket) => bucket.list(prefix, after, limit).await,
        }
    }

    /// Writes of dead processes that began before a time, at most `most` of them; only
    /// what the backend keeps of them until they are given up.
    pub async fn unfinished(
        &self,
        before: SystemTime,
        most: usize,
    ) -> Result<Vec<Unfinished>, StorageError> {
        match self {
            // Swept by whoever opens the folder.
            Self::Folder(_) => Ok(Vec::new()),
            Self::S3(bucket) => bucket.unfinished(before, most).await,
        }
    }

    /// Gives up a write; one that has ended meanwhile is no error.
    pub async fn give_up(&self, unfinished: &Unfinished) -> Result<(), StorageError> {
        match self {
            Self::Folder(_) => Ok(()),
            Self::S3(bucket) => bucket.give_up(unfinished).await,
        }
    }

    /// Writes, reads and removes a probe: what readiness asks.
    pub async fn check(&self) -> Result<(), StorageError> {
        if let Self::S3(bucket) = self {
            return bucket.check().await;
        }
        let key = format!("health/{}", uuid::Uuid::new_v4());
        let probe = Bytes::from(key.clone());
        self.put_bytes(&key, probe.clone()).await?;
        let read = self.get(&key, 1024).await;
        self.delete(&key).await?;
        if read? == probe { Ok(()) } else { Err(StorageError::Mismatch { key }) }
    }

    /// The file that holds an object, if the backend keeps it as a local file: for
    /// tools that map or link a pack instead of reading it. It must not be changed.
    pub fn local_path(&self, key: &str) -> Option<PathBuf> {
        let key = validate_key(key).ok()?;
        match self {
            Self::Folder(folder) => Some(folder.path(key)),
            Self::S3(_) => None,
        }
    }
}
