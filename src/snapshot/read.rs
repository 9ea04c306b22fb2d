//! Reads a snapshot: one entry, one folder, one file, or all of them.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use gix_hash::ObjectId;
use gix_object::bstr::{BStr, BString};
use sha2::{Digest, Sha256};

use super::SnapshotError;
use super::cache::FrameCache;
use super::frame::{Decoder, FRAME_MAX, HEADER};
use super::manifest::{
    BlockRef, Entry, EntryKind, Foot, MAGIC, ObjectRef, Rest, decode_block, decode_tables,
    foot_length, hash_of,
};
use crate::storage::{ObjectFile, Storage, StorageError};

/// Bytes at the end of a manifest that are read with its foot: the tables of some 20,000
/// files.
const TAIL: u64 = 32 << 10;

/// Data objects that are opened at once.
const OPENED: usize = 8;

/// Most bytes of a seek table: that of a blob of 1 TiB.
const MAX_SEEK_TABLE: u32 = 12 << 20;

/// An open snapshot: index and object table are in memory, everything else is read
/// when it is asked for. Cheap to clone, for any number of threads.
#[derive(Debug, Clone)]
pub struct Snapshot(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    key: String,
    prefix: String,
    manifest: ObjectFile,
    foot: Foot,
    blocks: Vec<BlockRef>,
    objects: Vec<ObjectRef>,
    files: Vec<ObjectFile>,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// A folder, by its path without a slash; only where the listing does not go
    /// into folders.
    Folder(BString),
    /// Anything else.
    Entry(Entry),
}

impl Listed {
    /// Its path.
    pub fn path(&self) -> &BStr {
        match self {
            Self::Folder(path) => path.as_ref(),
            Self::Entry(entry) => entry.path.as_ref(),
        }
    }
}

/// A page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the order of the manifest.
    pub items: Vec<Listed>,
    /// The `after` of the next page; `None` if this is the last.
    pub next: Option<BString>,
}

thread_local! {
    /// A decompressor has tables of some 100 KiB, so each thread keeps one.
    static DECODER: std::cell::RefCell<Option<Decoder>> = const { std::cell::RefCell::new(None) };
}

impl Snapshot {
    /// Opens the snapshot whose manifest has this key.
    pub async fn open(storage: &Storage, key: &str) -> Result<Self, SnapshotError> {
        let corrupt = |what| SnapshotError::Corrupt { key: key.to_owned(), what };
        let prefix = key
            .strip_suffix("/manifest")
            .and_then(|folder| folder.rsplit_once('/'))
            .map(|(prefix, _)| prefix.to_owned())
            .ok_or_else(|| corrupt("its key is not that of a manifest"))?;
        let manifest = storage.file(key).await?;
        if manifest.size() < MAGIC as u64 {
            return Err(corrupt("it is too short"));
        }
        // Foot and tables of most in one read: in a bucket each is a request.
        let from = manifest.size().saturating_sub(TAIL);
        let beginning = manifest.read(0..MAGIC as u64);
        let tail = manifest.read(from..manifest.size());
        let (beginning, tail) = futures::try_join!(beginning, tail)?;
        let hash = hash_of(&beginning)
            .ok_or_else(|| corrupt("it is no manifest of a version that this server reads"))?;
        let end = manifest
            .size()
            .checked_sub(foot_length(hash) as u64)
            .filter(|end| *end >= MAGIC as u64)
            .ok_or_else(|| corrupt("it is too short"))?;
        let place = |at: u64| at.checked_sub(from).and_then(|at| usize::try_from(at).ok());
        let foot = place(end)
            .and_then(|at| Foot::decode(tail.get(at..)?, manifest.size(), hash))
            .ok_or_else(|| corrupt("its foot is malformed"))?;
        let tables = match place(foot.index_at).zip(place(end)) {
            Some((index, end)) if index <= end && end <= tail.len() => tail.slice(index..end),
            _ => manifest.read(foot.index_at..end).await?,
        };
        let (blocks, objects) =
            decode_tables(&foot, &tables).ok_or_else(|| corrupt("its index is malformed"))?;
        let keys: Vec<String> = objects.iter().map(|o| format!("{prefix}/{}", o.name)).collect();
        let open = keys.into_iter().map(|key| {
            let storage = storage.clone();
            async move { storage.file(&key).await }
        });
        let opened = futures::stream::iter(open).buffered(OPENED);
        let files: Vec<ObjectFile> = opened.try_collect().await?;
        if files.iter().zip(&objects).any(|(file, object)| file.size() != object.size) {
            return Err(corrupt("a data object has another size"));
        }
        let key = key.to_owned();
        Ok(Self(Arc::new(Inner { key, prefix, manifest, foot, blocks, objects, files })))
    }

    /// Key of the manifest.
    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// Prefix of the repository.
    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// Object id of the tree.
    pub fn tree(&self) -> ObjectId {
        self.0.foot.tree
    }

    /// Entries of all kinds.
    pub fn entries(&self) -> u64 {
        self.0.foot.entries
    }

    /// Files and links.
    pub fn file_count(&self) -> u64 {
        self.0.foot.files
    }

    /// Bytes of all files and links.
    pub fn total_bytes(&self) -> u64 {
        self.0.foot.bytes
    }

    /// Keys of all data objects that this snapshot needs.
    pub fn objects(&self) -> Vec<String> {
        self.0.objects.iter().map(|o| format!("{}/{}", self.0.prefix, o.name)).collect()
    }

    pub(super) fn object_refs(&self) -> &[ObjectRef] {
        &self.0.objects
    }

    fn corrupt(&self, what: &'static str) -> SnapshotError {
        SnapshotError::Corrupt { key: self.0.key.clone(), what }
    }

    /// Runs a read on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, SnapshotError> + Send + 'static,
    ) -> Result<T, SnapshotError> {
        let snapshot = self.clone();
        match tokio::task::spawn_blocking(move || work(&snapshot)).await {
            Ok(result) => result,
            Err(error) => {
                let error = std::io::Error::other(error.to_string());
                Err(StorageError::io("read a snapshot", error).into())
            }
        }
    }

    /// The entry at a path, if there is one. A folder has none.
    pub async fn entry(&self, path: &[u8]) -> Result<Option<Entry>, SnapshotError> {
        let path = path.to_owned();
        self.blocking(move |s| s.entry_blocking(&path)).await
    }

    /// As [`Snapshot::entry`], for threads that may block.
    pub fn entry_blocking(&self, path: &[u8]) -> Result<Option<Entry>, SnapshotError> {
        let Some(block) = self.block_of(path).and_then(|n| self.0.blocks.get(n)) else {
            return Ok(None);
        };
        let mut found = None;
        self.each_in(block, &mut Vec::new(), |at, rest| {
            if at == path {
                found = Some(rest.at(at));
            }
            &**at < path
        })?;
        Ok(found)
    }

    /// A file by its path: its entry and all its bytes, in one change of threads.
    /// Refuses what has more than `max` bytes.
    pub async fn read_path(&self, path: &[u8], max: u64) -> Result<(Entry, Bytes), SnapshotError> {
        let path = path.to_owned();
        self.blocking(move |s| {
            let entry = s.entry_blocking(&path)?.filter(|e| e.kind != EntryKind::Submodule);
            let entry = entry.ok_or_else(|| SnapshotError::NotFound {
                path: String::from_utf8_lossy(&path).into_owned(),
            })?;
            let bytes = s.read_blocking(&entry, max, &mut FrameCache::new(0))?;
            Ok((entry, bytes.into()))
        })
        .await
    }

    /// All bytes of an entry, refused if these are more than `max`.
    pub async fn read(&self, entry: &Entry, max: u64) -> Result<Bytes, SnapshotError> {
        let entry = entry.clone();
        self.blocking(move |s| Ok(s.read_blocking(&entry, max, &mut FrameCache::new(0))?.into()))
            .await
    }

    /// As [`Snapshot::read`], for threads that may block.
    pub fn read_blocking(
        &self,
        entry: &Entry,
        max: u64,
        cache: &mut FrameCache,
    ) -> Result<Vec<u8>, SnapshotError> {
        if entry.size > max {
            return Err(SnapshotError::TooLarge { size: entry.size, max });
        }
        self.read_range_blocking(entry, 0..entry.size, cache)
    }

    /// Some bytes of an entry; a range that goes beyond the end is cut. The caller
    /// bounds the range: of a large file only the frames in it are read.
    pub async fn read_range(
        &self,
        entry: &Entry,
        range: Range<u64>,
    ) -> Result<Bytes, SnapshotError> {
        let entry = entry.clone();
        self.blocking(move |s| {
            Ok(s.read_range_blocking(&entry, range, &mut FrameCache::new(0))?.into())
        })
        .await
    }

    /// Streams a range of an entry in pieces of at most a MiB, for downloads.
    pub fn stream(
        &self,
        entry: &Entry,
        range: Range<u64>,
    ) -> impl futures::Stream<Item = Result<Bytes, SnapshotError>> + Send + use<> {
        let end = range.end.min(entry.size);
        let start = range.start;
        let state = (self.clone(), entry.clone(), start);
        futures::stream::try_unfold(state, move |(snapshot, entry, at)| async move {
            if at >= end {
                return Ok(None);
            }
            // Ends at a frame's end, so that no frame is read twice.
            let frame = FRAME_MAX as u64;
            let next = ((at / frame + 1) * frame).min(end);
            let bytes = snapshot.read_range(&entry, at..next).await?;
            Ok(Some((bytes, (snapshot, entry, next))))
        })
    }

    /// As [`Snapshot::read_range`], for threads that may block.
    pub fn read_range_blocking(
        &self,
        entry: &Entry,
        range: Range<u64>,
        cache: &mut FrameCache,
    ) -> Result<Vec<u8>, SnapshotError> {
        let end = range.end.min(entry.size);
        let start = range.start.min(end);
        if start == end || entry.kind == EntryKind::Submodule {
            return Ok(Vec::new());
        }
        let (object, frame_max) = (entry.place.object, FRAME_MAX as u64);
        if entry.size <= frame_max {
            let frame = self.frame(object, entry.place.offset, entry.place.length, cache)?;
            let within = u64::from(entry.place.within);
            let part = frame.get((within + start) as usize..(within + end) as usize);
            return Ok(part.ok_or_else(|| self.corrupt("a file leaves its frame"))?.to_vec());
        }
        let pieces = entry.size.div_ceil(frame_max);
        let table = entry.place.length;
        if table > MAX_SEEK_TABLE || u64::from(table) != pieces * 12 + HEADER as u64 {
            return Err(self.corrupt("a seek table has the wrong size"));
        }
        let table = self.frame(object, entry.place.offset, table, cache)?;
        let mut content = Vec::new();
        for piece in start / frame_max..end.div_ceil(frame_max) {
            let at = piece as usize * 12;
            let line = table.get(at..at + 12).and_then(|line| line.split_first_chunk::<8>());
            let (offset, length) = line
                .and_then(|(offset, length)| Some((offset, length.first_chunk::<4>()?)))
                .map(|(offset, length)| (u64::from_le_bytes(*offset), u32::from_le_bytes(*length)))
                .ok_or_else(|| self.corrupt("a seek table is malformed"))?;
            let frame = self.frame(object, offset, length, cache)?;
            let first = piece * frame_max;
            if frame.len() as u64 != frame_max.min(entry.size - first) {
                return Err(self.corrupt("a piece of a large file has the wrong size"));
            }
            let part = start.saturating_sub(first) as usize..(end - first).min(frame_max) as usize;
            content.extend_from_slice(frame.get(part).unwrap_or_default());
        }
        Ok(content)
    }

    /// The content of a frame, from the cache or the data object.
    fn frame(
        &self,
        object: u32,
        offset: u64,
        length: u32,
        cache: &mut FrameCache,
    ) -> Result<Arc<Vec<u8>>, SnapshotError> {
        if let Some(frame) = cache.get(object, offset) {
            return Ok(frame);
        }
        let (file, key) = self
            .0
            .files
            .get(object as usize)
            .zip(self.0.objects.get(object as usize))
            .ok_or_else(|| self.corrupt("it names a data object that is not in its table"))?;
        if length > MAX_SEEK_TABLE + HEADER as u32 {
            return Err(self.corrupt("a frame is too long"));
        }
        let end = offset.checked_add(length.into()).ok_or_else(|| self.corrupt("an offset"))?;
        file.read_blocking(offset..end, &mut cache.buffer)?;
        let content = DECODER.with_borrow_mut(|decoder| {
            if decoder.is_none() {
                let new = Decoder::new().map_err(|e| StorageError::io("read a frame", e))?;
                *decoder = Some(new);
            }
            match decoder {
                Some(decoder) => decoder.decode(&key.name, &cache.buffer),
                None => Err(self.corrupt("no decompressor")),
            }
        })?;
        let content = Arc::new(content);
        cache.put(object, offset, &content);
        Ok(content)
    }

    /// The block that may hold a path: the last one that begins at or before it.
    fn block_of(&self, path: &[u8]) -> Option<usize> {
        self.0.blocks.partition_point(|block| block.first.as_slice() <= path).checked_sub(1)
    }

    fn each_in(
        &self,
        block: &BlockRef,
        buffer: &mut Vec<u8>,
        each: impl FnMut(&BStr, Rest) -> bool,
    ) -> Result<(), SnapshotError> {
        let end = block.offset + u64::from(block.length);
        self.0.manifest.read_blocking(block.offset..end, buffer)?;
        let hash = self.0.foot.tree.kind();
        decode_block(block, buffer, hash, each).ok_or_else(|| self.corrupt("a block is malformed"))
    }

    /// Calls `each` with all entries in order until it says false.
    pub(super) fn each_entry(
        &self,
        mut each: impl FnMut(&BStr, Rest) -> bool,
    ) -> Result<(), SnapshotError> {
        let mut buffer = Vec::new();
        for block in &self.0.blocks {
            let mut more = true;
            self.each_in(block, &mut buffer, |path, rest| {
                more = each(path, rest);
                more
            })?;
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// All entries, by path, for threads that may block.
    pub fn all_blocking(&self) -> Result<Vec<Entry>, SnapshotError> {
        let mut all = Vec::new();
        self.each_entry(|path, rest| {
            all.push(rest.at(path));
            true
        })?;
        Ok(all)
    }

    /// As [`Snapshot::list_blocking`].
    pub async fn list(
        &self,
        folder: &[u8],
        recursive: bool,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Listing, SnapshotError> {
        let (folder, after) = (folder.to_owned(), after.map(<[u8]>::to_owned));
        self.blocking(move |s| s.list_blocking(&folder, recursive, after.as_deref(), limit)).await
    }

    /// One page of a folder (empty: the root; no slash behind it): its entries and
    /// folders, or everything below it. In byte order of the paths, a folder counting
    /// with a slash behind its name. An unknown folder is an empty listing. `after` is
    /// [`Listing::next`] of the page before. Reads only blocks that have a part in it.
    pub fn list_blocking(
        &self,
        folder: &[u8],
        recursive: bool,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Listing, SnapshotError> {
        let mut prefix = folder.to_owned();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        // Everything from `from` on is wanted; a folder that ended a page is passed
        // over by starting behind its last possible path.
        let mut from = prefix.clone();
        if let Some(after) = after.filter(|a| *a >= prefix.as_slice()) {
            from = match after.strip_suffix(b"/") {
                Some(folder) => [folder, b"0"].concat(),
                None => [after, b"\0"].concat(),
            };
        }
        let mut listing = Listing::default();
        let mut number = self.block_of(&from).unwrap_or(0);
        let mut buffer = Vec::new();
        let mut over = false;
        while let Some(block) = self.0.blocks.get(number).filter(|_| !over) {
            number += 1;
            let mut jump = false;
            self.each_in(block, &mut buffer, |path, rest| {
                if &**path < from.as_slice() {
                    return true;
                }
                let Some(name) = path.strip_prefix(prefix.as_slice()) else {
                    over = true;
                    return false;
                };
                if listing.items.len() >= limit {
                    // There is more; say where this page ended.
                    listing.next = listing.items.last().map(|last| match last {
                        Listed::Folder(path) => [path.as_slice(), b"/"].concat().into(),
                        Listed::Entry(entry) => entry.path.clone(),
                    });
                    over = true;
                    return false;
                }
                match name.iter().position(|b| *b == b'/').filter(|_| !recursive) {
                    Some(slash) => {
                        let end = prefix.len() + slash;
                        let folder = path.get(..end).unwrap_or_default();
                        listing.items.push(Listed::Folder(folder.into()));
                        // `0` is the byte behind the slash.
                        from = [folder, b"0"].concat();
                        jump = true;
                    }
                    None => listing.items.push(Listed::Entry(rest.at(path))),
                }
                true
            })?;
            if jump && !over {
                // A large folder's blocks are jumped over.
                number = number.max(self.block_of(&from).unwrap_or(0));
            }
        }
        Ok(listing)
    }

    /// Reads the whole manifest and checks its digest, for threads that may block.
    pub fn verify(&self) -> Result<(), SnapshotError> {
        let mut digest = Sha256::new();
        let end = self.0.manifest.size() - 32;
        let mut buffer = Vec::new();
        let mut at = 0;
        while at < end {
            let next = (at + FRAME_MAX as u64).min(end);
            self.0.manifest.read_blocking(at..next, &mut buffer)?;
            digest.update(&buffer);
            at = next;
        }
        let digest: [u8; 32] = digest.finalize().into();
        if digest == self.0.foot.digest { Ok(()) } else { Err(self.corrupt("its digest")) }
    }

    /// SHA-256 of the manifest as its foot gives it, hex.
    pub fn digest(&self) -> String {
        self.0.foot.digest_hex()
    }
}
