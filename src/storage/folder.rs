//! Objects as files below a folder: the key is the path.
//!
//! What is being written lies below `tmp/<process>/` and gets its name by a hard
//! link, which fails if the name is taken: so a name never changes its content, and
//! no reader sees half a file. Before a write returns, the file and every folder on
//! the way to it are synced.
//!
//! Several processes may share the folder. Each keeps a locked file in its own part
//! of `tmp/`; whoever opens the folder removes the parts whose lock is free, as the
//! process that held it is gone (the system gives a lock back on death).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::key::RESERVED;
use super::object::{ObjectFile, ObjectMeta, ObjectReader, Page};
use super::{StorageError, validate_key};

/// A folder of this machine.
#[derive(Debug, Clone)]
pub struct Folder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// This process's part of `tmp/`.
    scratch: PathBuf,
    /// Held as long as `scratch` is in use.
    _lock: File,
    next: AtomicU64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Whatever is still written to has a handle of its own; a failure is
        // repaired by the next process that opens the folder.
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

/// Runs file work on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StorageError::io(operation, io::Error::other(error))),
    }
}

/// Fills `into` from a place in the file.
pub(super) fn read_at(file: &File, start: u64, into: &mut [u8]) -> Result<(), StorageError> {
    file.read_exact_at(into, start).map_err(|e| StorageError::io("read an object", e))
}

impl Folder {
    /// Creates the folder if need be and removes what dead processes left in `tmp/`.
    pub async fn open(root: &Path) -> Result<Self, StorageError> {
        let root = root.to_owned();
        blocking("open the folder", move || {
            Self::open_blocking(&root).map_err(|e| StorageError::io("open the folder", e))
        })
        .await
    }

    fn open_blocking(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let root = fs::canonicalize(root)?;
        let tmp = root.join(RESERVED);
        fs::create_dir_all(&tmp)?;
        // One process at a time sweeps and takes its part, so that none removes the
        // part of another between its creation and its lock.
        let gate =
            OpenOptions::new().create(true).truncate(false).write(true).open(tmp.join("lock"))?;
        gate.lock()?;
        for entry in fs::read_dir(&tmp)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let dead = match File::open(entry.path().join("lock")) {
                Ok(lock) => lock.try_lock().is_ok(),
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            };
            if dead {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let scratch = tmp.join(uuid::Uuid::new_v4().to_string());
        fs::create_dir(&scratch)?;
        let lock = File::create(scratch.join("lock"))?;
        lock.lock()?;
        Ok(Self(Arc::new(Inner { root, scratch, _lock: lock, next: AtomicU64::new(0) })))
    }

    /// The folder, absolute.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    pub(super) fn path(&self, key: &str) -> PathBuf {
        self.0.root.join(key)
    }

    /// The folder may go away as a whole (a mount that is lost): then nothing is known of any
    /// object, and none is taken for missing.
    fn is_there(&self, operation: &'static str) -> Result<(), StorageError> {
        match fs::symlink_metadata(&self.0.scratch) {
            Ok(_) => Ok(()),
            Err(cause) => Err(StorageError::Unavailable { operation, cause }),
        }
    }

    /// What an error at a key means.
    fn at_key(&self, operation: &'static str, key: &str, error: io::Error) -> StorageError {
        match StorageError::io_at(operation, key, error) {
            missing @ StorageError::NotFound { .. } => {
                self.is_there(operation).err().unwrap_or(missing)
            }
            other => other,
        }
    }

    fn scratch_file(&self) -> PathBuf {
        self.0.scratch.join(self.0.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    pub(super) async fn put_bytes(&self, key: &str, bytes: Bytes) -> Result<(), StorageError> {
        let mut writer = self.writer(key).await?;
        let size = bytes.len() as u64;
        writer.write(bytes).await?;
        writer.finish(size).await
    }

    pub(super) async fn put_file(&self, key: &str, source: &Path) -> Result<u64, StorageError> {
        let (folder, key, source) = (self.clone(), key.to_owned(), source.to_owned());
        blocking("take in a file", move || folder.put_file_blocking(&key, &source)).await
    }

    fn put_file_blocking(&self, key: &str, source: &Path) -> Result<u64, StorageError> {
        let taking = |e| StorageError::io("take in a file", e);
        let mut file = File::open(source).map_err(taking)?;
        let metadata = file.metadata().map_err(taking)?;
        if !metadata.is_file() {
            return Err(taking(io::Error::other("only a plain file can become an object")));
        }
        let size = metadata.len();
        file.sync_all().map_err(taking)?;
        match self.publish(source, key, size) {
            // Another file system, or one without links: the only case that copies.
            Err(StorageError::Unavailable { cause: error, .. })
                if matches!(
                    error.kind(),
                    io::ErrorKind::CrossesDevices
                        | io::ErrorKind::Unsupported
                        | io::ErrorKind::PermissionDenied
                        | io::ErrorKind::TooManyLinks
                ) => {}
            other => return other.map(|()| size),
        }
        let scratch = Scratch(self.scratch_file());
        let mut copy = File::create_new(&scratch.0).map_err(taking)?;
        let copied = io::copy(&mut file, &mut copy).map_err(taking)?;
        copy.sync_all().map_err(taking)?;
        self.publish(&scratch.0, key, copied)?;
        Ok(copied)
    }

    pub(super) async fn writer(&self, key: &str) -> Result<Writer, StorageError> {
        let (folder, key) = (self.clone(), key.to_owned());
        blocking("start an object", move || {
            let scratch = Scratch(folder.scratch_file());
            let file =
                File::create_new(&scratch.0).map_err(|e| StorageError::io("start an object", e))?;
            Ok(Writer { state: Some(State { file, scratch }), folder, key })
        })
        .await
    }

    /// Gives a synced file the name of the key, durably, unless the name is taken.
    fn publish(&self, from: &Path, key: &str, size: u64) -> Result<(), StorageError> {
        let to = self.path(key);
        let naming = |e| StorageError::io("name an object", e);
        let parent = to.parent().unwrap_or(&self.0.root);
        let mut attempts = 0;
        loop {
            let linked = make_folders(&self.0.root, parent).and_then(|()| fs::hard_link(from, &to));
            match linked {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let existing = fs::symlink_metadata(&to).map_err(naming)?;
                    if !existing.is_file() || existing.len() != size {
                        let existing = existing.len();
                        return Err(StorageError::Conflict { key: key.to_owned(), existing, size });
                    }
                    // Whoever wrote it may not have synced the folder yet.
                    break;
                }
                // A removal may take an empty folder away under our feet.
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempts < 100 => {
                    attempts += 1;
                }
                Err(error) => return Err(naming(error)),
            }
        }
        match sync_folder(parent) {
            // The object was removed again, and its folder with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced.map_err(naming),
        }
    }

    pub(super) async fn file(&self, key: &str) -> Result<ObjectFile, StorageError> {
        let (folder, key) = (self.clone(), key.to_owned());
        blocking("open an object", move || {
            let (file, size) = folder.open_object(&key)?;
            Ok(ObjectFile::folder(file, size))
        })
        .await
    }

    fn open_object(&self, key: &str) -> Result<(File, u64), StorageError> {
        let opening = |e| self.at_key("open an object", key, e);
        let file = File::open(self.path(key)).map_err(opening)?;
        let metadata = file.metadata().map_err(opening)?;
        if metadata.is_file() {
            Ok((file, metadata.len()))
        } else {
            Err(StorageError::NotFound { key: key.to_owned() })
        }
    }

    pub(super) async fn reader(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<ObjectReader, StorageError> {
        let (folder, owned) = (self.clone(), key.to_owned());
        let (file, size) = blocking("open an object", move || folder.open_object(&owned)).await?;
        let Range { start, end } = range.unwrap_or(0..size);
        if start > end || end > size {
            return Err(StorageError::InvalidRange { start, end, size });
        }
        let mut file = tokio::fs::File::from_std(file);
        if start > 0 {
            file.seek(io::SeekFrom::Start(start))
                .await
                .map_err(|e| StorageError::io_at("read an object", key, e))?;
        }
        Ok(ObjectReader::folder(file.take(end - start), end - start))
    }

    pub(super) async fn size(&self, key: &str) -> Result<u64, StorageError> {
        let (folder, key) = (self.clone(), key.to_owned());
        blocking("look for an object", move || match fs::symlink_metadata(folder.path(&key)) {
            Ok(metadata) if metadata.is_file() => Ok(metadata.len()),
            Ok(_) => Err(StorageError::NotFound { key }),
            Err(error) => Err(folder.at_key("look for an object", &key, error)),
        })
        .await
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let (folder, key) = (self.clone(), key.to_owned());
        blocking("remove an object", move || {
            let path = folder.path(&key);
            match fs::remove_file(&path) {
                Ok(()) => {}
                // A folder is no object: keys below it are not meant.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound
                            | io::ErrorKind::NotADirectory
                            | io::ErrorKind::IsADirectory
                    ) =>
                {
                    return folder.is_there("remove an object");
                }
                Err(error) => return Err(StorageError::io("remove an object", error)),
            }
            // Empty folders go too; the first that is not empty ends it.
            for parent in path.ancestors().skip(1).take_while(|p| *p != folder.root()) {
                if fs::remove_dir(parent).is_err() {
                    break;
                }
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, StorageError> {
        let (folder, prefix) = (self.clone(), prefix.to_owned());
        let after = after.map(str::to_owned);
        blocking("list objects", move || {
            folder.is_there("list objects")?;
            let mut items = Vec::new();
            // One more than asked for tells whether there is a next page.
            collect(folder.root(), &prefix, after.as_deref(), limit + 1, &mut items)
                .map_err(|e| StorageError::io("list objects", e))?;
            let more = items.len() > limit;
            items.truncate(limit);
            let next = more.then(|| items.last().map(|o| o.key.clone())).flatten();
            Ok(Page { items, next })
        })
        .await
    }
}

/// Appends the objects below `prefix` with keys behind `after`, up to `limit`.
/// Memory is that of the names of the folders on the way, not of the whole tree.
fn collect(
    root: &Path,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
    items: &mut Vec<ObjectMeta>,
) -> io::Result<()> {
    let entries = match fs::read_dir(root.join(prefix)) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    // A folder sorts as its name with a slash, so that the keys come in byte order.
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        // What cannot be a key was put here by somebody else and is no object.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if prefix.is_empty() && name == RESERVED {
            continue;
        }
        let kind = entry.file_type()?;
        let slash = if kind.is_dir() { "/" } else { "" };
        let key = format!("{prefix}{name}{slash}");
        // A folder that `after` lies in may hold more.
        let wanted = after
            .is_none_or(|after| key.as_str() > after || (kind.is_dir() && after.starts_with(&key)));
        if wanted && (kind.is_file() || kind.is_dir()) {
            names.push(key);
        }
    }
    names.sort_unstable();
    for key in names {
        if items.len() >= limit {
            return Ok(());
        }
        if key.ends_with('/') {
            collect(root, &key, after, limit, items)?;
        } else if validate_key(&key).is_ok() {
            match fs::symlink_metadata(root.join(&key)) {
                Ok(metadata) => items.push(ObjectMeta {
                    size: metadata.len(),
                    modified: metadata.modified()?,
                    key,
                }),
                // Removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Creates the folders from `root` down to `folder` and makes their names durable.
/// Fails with `NotFound` if a removal takes one of them away meanwhile.
fn make_folders(root: &Path, folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let Some(parent) = folder.parent().filter(|p| p.starts_with(root)) else {
        return fs::create_dir_all(folder);
    };
    make_folders(root, parent)?;
    match fs::create_dir(folder) {
        // Another writer may have been faster; it may not have synced yet.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_folder(parent),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// An unfinished file that goes away with its owner.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // If it stays, the next process that opens the folder removes it.
        let _ = fs::remove_file(&self.0);
    }
}

/// The folder's side of an [`super::ObjectWriter`].
#[derive(Debug)]
pub(super) struct Writer {
    /// Taken by the thread that writes; missing after a write that failed.
    state: Option<State>,
    folder: Folder,
    key: String,
}

#[derive(Debug)]
struct State {
    file: File,
    scratch: Scratch,
}

fn broken() -> StorageError {
    StorageError::io("write an object", io::Error::other("an earlier write of it failed"))
}

impl Writer {
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        let mut state = self.state.take().ok_or_else(broken)?;
        let state = blocking("write an object", move || {
            state.file.write_all(&bytes).map_err(|e| StorageError::io("write an object", e))?;
            Ok(state)
        })
        .await?;
        self.state = Some(state);
        Ok(())
    }

    pub(super) async fn finish(mut self, size: u64) -> Result<(), StorageError> {
        let state = self.state.take().ok_or_else(broken)?;
        blocking("finish an object", move || {
            state.file.sync_all().map_err(|e| StorageError::io("finish an object", e))?;
            self.folder.publish(&state.scratch.0, &self.key, size)
        })
        .await
    }
}
