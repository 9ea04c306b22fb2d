//! Writes a snapshot: walk the tree, take over what an earlier snapshot holds,
//! compress the rest on all cores, write the manifest last.
//!
//! Workers compress ([`super::compress`]); the calling thread alone writes. Memory is
//! what the entries take (about 150 bytes each) plus, for each worker, its largest
//! blob and a few MiB.

use std::collections::HashMap;

use bytes::Bytes;
use gix_hash::ObjectId;
use gix_object::bstr::BString;
use tokio::runtime::Handle;

use super::attached::Attached;
use super::compress::{Batch, Beside, Item, compress};
use super::frame::{DATA_MAGIC, Encoder};
use super::manifest::{Builder, Entry, EntryKind, ObjectRef, Place};
use super::order;
use super::tree::{self, TreeLimits};
use super::{Snapshot, SnapshotError};
use crate::scan::Cancel;
use crate::storage::{ObjectWriter, Storage};

/// Blobs up to this size share frames of about this size.
pub const PACK_TARGET: usize = 64 << 10;

/// Most data objects that one snapshot names.
pub const MAX_OBJECTS: usize = 32;

/// A data object is ended once it has this many bytes, so that it is synced while
/// the next one is written.
const OBJECT_TARGET: u64 = 64 << 20;

/// A worker hands over what it has once it has this much.
pub(super) const BATCH: usize = 1 << 20;

/// How a snapshot is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Bounds of the tree.
    pub limits: TreeLimits,
    /// Threads that compress; 0 takes all cores.
    pub threads: usize,
    /// What takes the place of pointers to it.
    pub attached: Attached,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Key of the manifest, for [`Snapshot::open`].
    pub key: String,
    /// SHA-256 of the manifest, hex.
    pub digest: String,
    /// Object id of the tree, hex.
    pub tree: String,
    /// Files and links.
    pub file_count: u64,
    /// Their bytes.
    pub total_bytes: u64,
    /// Submodules.
    pub submodules: u64,
    /// Blobs whose place an earlier snapshot already had.
    pub blobs_reused: u64,
    /// Blobs that were written.
    pub blobs_written: u64,
    /// Bytes that were added to the storage, manifest included.
    pub bytes_stored: u64,
    /// Names that differ from another one of their folder in case only.
    pub collisions: u64,
    /// Some of them, lossy.
    pub collision_paths: Vec<String>,
}

/// Writes the snapshot `<prefix>/<id>` of a tree; blocks, so call it on a thread that
/// may. `prefix` is that of the repository; `previous` must lie below the same
/// one. `progress` hears blobs done and to do. `runtime` is that of the storage.
pub fn write(
    odb: &gix_odb::HandleArc,
    tree: ObjectId,
    storage: &Storage,
    runtime: &Handle,
    prefix: &str,
    id: &str,
    previous: Option<&Snapshot>,
    options: &Options,
    progress: &(dyn Fn(u64, u64) + Sync),
    cancel: &Cancel,
) -> Result<SnapshotInfo, SnapshotError> {
    let tree::Walked { mut entries, collisions } = tree::walk(odb, tree, &options.limits, cancel)?;
    let in_place = options.attached.put_in_place(odb, &mut entries, cancel)?;
    let mut objects = Vec::new();
    let blobs_reused = match previous {
        Some(previous) if previous.prefix() == prefix => {
            take_over(&mut entries, previous, &mut objects)?
        }
        _ => 0,
    };

    // Each blob once.
    let mut first: HashMap<ObjectId, usize> = HashMap::new();
    let mut pending = Vec::new();
    let mut again = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        if entry.kind == EntryKind::Submodule || entry.place.length != 0 {
            continue;
        }
        match first.entry(entry.id) {
            std::collections::hash_map::Entry::Occupied(same) => again.push((index, *same.get())),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(index);
                pending.push((index, entry.id));
            }
        }
    }
    drop(first);
    order::by_pack(odb, &mut pending);

    let mut sink = Sink {
        storage,
        runtime,
        prefix,
        id,
        objects,
        current: None,
        buffer: Vec::new(),
        open_large: HashMap::new(),
        finishing: Vec::new(),
        stored: 0,
        number: 0,
        encoder: Encoder::new().map_err(no_zstd)?,
        entries: &mut entries,
        max_bytes: options.limits.max_bytes,
        total: 0,
    };
    let beside = Beside { in_place: &in_place, storage, runtime };
    compress(odb, &beside, &pending, &mut sink, options, progress, cancel)?;
    sink.end_object()?;
    let Sink { finishing, objects, mut stored, .. } = sink;
    for task in finishing {
        runtime.block_on(task).map_err(|e| no_task(&e))??;
    }
    for (index, same) in again {
        if let Some((size, place)) = entries.get(same).map(|e| (e.size, e.place))
            && let Some(entry) = entries.get_mut(index)
        {
            (entry.size, entry.place) = (size, place);
        }
    }
    let total: u64 = entries.iter().fold(0, |sum, e| sum.saturating_add(e.size));
    if total > options.limits.max_bytes {
        return Err(SnapshotError::Limit { what: "bytes", max: options.limits.max_bytes });
    }
    if cancel.is_cancelled() {
        return Err(SnapshotError::Cancelled);
    }

    let key = format!("{prefix}/{id}/manifest");
    let mut writer = runtime.block_on(storage.writer(&key))?;
    let mut builder = Builder::new(tree.kind());
    for entry in &entries {
        builder.push(entry);
        if let Some(part) = builder.take(BATCH) {
            runtime.block_on(writer.write(part.into()))?;
        }
    }
    let (rest, foot) = builder.finish(tree, &objects);
    runtime.block_on(writer.write(rest.into()))?;
    stored += runtime.block_on(writer.finish())?;
    Ok(SnapshotInfo {
        key,
        digest: foot.digest_hex(),
        tree: tree.to_string(),
        file_count: foot.files,
        total_bytes: foot.bytes,
        submodules: foot.entries - foot.files,
        blobs_reused,
        blobs_written: pending.len() as u64,
        bytes_stored: stored,
        collisions: collisions.count,
        collision_paths: collisions.paths.iter().map(|p: &BString| p.to_string()).collect(),
    })
}

pub(super) fn no_zstd(error: std::io::Error) -> SnapshotError {
    SnapshotError::Storage(crate::storage::StorageError::io("prepare compression", error))
}

fn no_task(error: &tokio::task::JoinError) -> SnapshotError {
    let error = std::io::Error::other(error.to_string());
    SnapshotError::Storage(crate::storage::StorageError::io("finish an object", error))
}

/// Gives entries the places that `previous` has for their blobs, and fills `objects`
/// with the data objects that stay in use. Returns how many entries were served.
fn take_over(
    entries: &mut [Entry],
    previous: &Snapshot,
    objects: &mut Vec<ObjectRef>,
) -> Result<u64, SnapshotError> {
    let mut live = vec![0u64; previous.object_refs().len()];
    // Most paths hold what they held: both lists are sorted, so one pass finds them.
    let mut rest = entries.iter_mut().peekable();
    let mut missed: HashMap<ObjectId, Vec<&mut Entry>> = HashMap::new();
    previous.each_entry(|path, old| {
        while let Some(entry) = rest.next_if(|e| e.path.as_slice() < &**path) {
            missed.entry(entry.id).or_default().push(entry);
        }
        if let Some(entry) = rest.next_if(|e| e.path.as_slice() == &**path) {
            if entry.id == old.id && old.place.length != 0 {
                (entry.size, entry.place) = (old.size, old.place);
            } else {
                missed.entry(entry.id).or_default().push(entry);
            }
        }
        true
    })?;
    for entry in rest {
        missed.entry(entry.id).or_default().push(entry);
    }
    // What moved or was copied is found by its id.
    if !missed.is_empty() {
        previous.each_entry(|_, old| {
            if old.kind != EntryKind::Submodule
                && let Some(waiting) = missed.remove(&old.id)
            {
                for entry in waiting {
                    (entry.size, entry.place) = (old.size, old.place);
                }
            }
            !missed.is_empty()
        })?;
    }
    drop(missed);

    for entry in entries.iter_mut() {
        if entry.kind == EntryKind::Submodule {
            entry.place = Place::default();
        } else if entry.place.length != 0
            && let Some(live) = live.get_mut(entry.place.object as usize)
        {
            // A blob at two paths counts twice, which only puts a rewrite off.
            *live += entry.size;
        }
    }
    let keep = worth_keeping(previous.object_refs(), &live);
    let mut numbers = vec![None; live.len()];
    for (index, object) in previous.object_refs().iter().enumerate() {
        if keep.contains(&index)
            && let Some(number) = numbers.get_mut(index)
        {
            *number = Some(objects.len() as u32);
            objects.push(object.clone());
        }
    }
    let mut reused = 0;
    for entry in entries.iter_mut().filter(|e| e.place.length != 0) {
        match numbers.get(entry.place.object as usize).copied().flatten() {
            Some(number) => {
                entry.place.object = number;
                reused += 1;
            }
            None => (entry.size, entry.place) = (0, Place::default()),
        }
    }
    Ok(reused)
}

/// Which data objects stay in use: see "Dead bytes" on the room's page.
fn worth_keeping(objects: &[ObjectRef], live: &[u64]) -> Vec<usize> {
    let mut keep: Vec<(u64, usize)> = objects
        .iter()
        .zip(live)
        .enumerate()
        // An object of empty blobs only has no bytes at all and is cheap to write anew.
        .filter(|(_, (object, live))| **live > 0 && **live >= object.content / 2)
        .map(|(index, (_, live))| (*live, index))
        .collect();
    if keep.len() >= MAX_OBJECTS {
        // Half go at once, so that this happens once in many snapshots.
        keep.sort_unstable_by(|a, b| b.cmp(a));
        keep.truncate(MAX_OBJECTS / 2);
    }
    keep.into_iter().map(|(_, index)| index).collect()
}

type Finishing = tokio::task::JoinHandle<Result<u64, crate::storage::StorageError>>;

/// Writes data objects and notes where everything went.
pub(super) struct Sink<'a> {
    storage: &'a Storage,
    runtime: &'a Handle,
    prefix: &'a str,
    id: &'a str,
    objects: Vec<ObjectRef>,
    current: Option<ObjectWriter>,
    /// Of `current`, not yet written.
    buffer: Vec<u8>,
    /// Offsets and lengths of the pieces of large blobs that are not complete. All
    /// pieces of a blob lie in one object, so none is ended meanwhile.
    open_large: HashMap<usize, Vec<u8>>,
    finishing: Vec<Finishing>,
    stored: u64,
    number: u32,
    encoder: Encoder,
    entries: &'a mut [Entry],
    max_bytes: u64,
    total: u64,
}

impl Sink<'_> {
    pub(super) fn accept(&mut self, batch: &Batch) -> Result<(), SnapshotError> {
        if batch.items.is_empty() {
            return Ok(());
        }
        let base = self.append(&batch.frames)?;
        for item in &batch.items {
            match *item {
                Item::Blob { entry, size, frame, length, within } => {
                    self.place(entry, size, base + u64::from(frame), length, within)?;
                }
                Item::Piece { entry, frame, length } => {
                    let table = self.open_large.entry(entry).or_default();
                    table.extend_from_slice(&(base + u64::from(frame)).to_le_bytes());
                    table.extend_from_slice(&length.to_le_bytes());
                }
                Item::Large { entry, size } => {
                    let table = self.open_large.remove(&entry).unwrap_or_default();
                    let mut frame = Vec::new();
                    // Kept as it is, since it may be longer than a frame's content.
                    let length = self.encoder.append(&mut frame, &table, false);
                    let offset = self.append(&frame)?;
                    self.place(entry, size, offset, length, 0)?;
                }
            }
        }
        let full = self.current.as_ref().is_some_and(|w| w.written() >= OBJECT_TARGET);
        if full && self.open_large.is_empty() {
            self.end_object()?;
        }
        Ok(())
    }

    fn place(
        &mut self,
        entry: usize,
        size: u64,
        offset: u64,
        length: u32,
        within: u32,
    ) -> Result<(), SnapshotError> {
        self.total = self.total.saturating_add(size);
        if self.total > self.max_bytes {
            return Err(SnapshotError::Limit { what: "bytes", max: self.max_bytes });
        }
        let object = (self.objects.len() - 1) as u32;
        if let Some(object) = self.objects.last_mut() {
            object.content += size;
        }
        if let Some(entry) = self.entries.get_mut(entry) {
            entry.size = size;
            entry.place = Place { object, offset, length, within };
        }
        Ok(())
    }

    /// Appends to the current object, starting one if there is none, and returns the
    /// offset at which the bytes begin.
    fn append(&mut self, bytes: &[u8]) -> Result<u64, SnapshotError> {
        if self.current.is_none() {
            let name = format!("{}/data-{}", self.id, self.number);
            self.number += 1;
            let key = format!("{}/{name}", self.prefix);
            self.current = Some(self.runtime.block_on(self.storage.writer(&key))?);
            self.objects.push(ObjectRef { name, size: 0, content: 0 });
            self.buffer.extend_from_slice(DATA_MAGIC);
        }
        let written = self.current.as_ref().map_or(0, ObjectWriter::written);
        let offset = written + self.buffer.len() as u64;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BATCH {
            self.flush()?;
        }
        Ok(offset)
    }

    fn flush(&mut self) -> Result<(), SnapshotError> {
        if let Some(writer) = &mut self.current {
            let bytes = Bytes::from(std::mem::take(&mut self.buffer));
            self.runtime.block_on(writer.write(bytes))?;
        }
        Ok(())
    }

    /// Ends the current object; its syncing goes on beside what follows.
    fn end_object(&mut self) -> Result<(), SnapshotError> {
        self.flush()?;
        if let Some(writer) = self.current.take() {
            let size = writer.written();
            self.stored += size;
            if let Some(object) = self.objects.last_mut() {
                object.size = size;
            }
            self.finishing.push(self.runtime.spawn(writer.finish()));
        }
        Ok(())
    }
}
