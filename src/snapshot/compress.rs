//! Reads blobs and compresses them on all cores, for [`super::write()`].
//!
//! Workers take runs of blobs in the order of the pack and hand full batches to the
//! calling thread, which alone writes. The channel between them is short, so that
//! memory is bounded by a few batches for each worker and its largest blob.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use gix_hash::ObjectId;
use gix_object::FindExt;
use tokio::runtime::Handle;

use super::SnapshotError;
use super::attached::{AttachedObject, InPlace};
use super::frame::{Encoder, FRAME_MAX};
use super::tree::object_error;
use super::write::{BATCH, Options, PACK_TARGET, Sink, no_zstd};
use crate::scan::Cancel;
use crate::storage::Storage;

/// Blobs that a worker takes at a time: longer than the chains of deltas in a pack.
const RUN: usize = 256;

/// What a worker hands over: frames, and what lies in them.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) frames: Vec<u8>,
    pub(super) items: Vec<Item>,
}

pub(super) enum Item {
    /// A blob within one frame of this batch.
    Blob { entry: usize, size: u64, frame: u32, length: u32, within: u32 },
    /// The next piece of a large blob.
    Piece { entry: usize, frame: u32, length: u32 },
    /// All its pieces were handed over.
    Large { entry: usize, size: u64 },
}

/// What lies beside git's objects, and how it is read.
pub(super) struct Beside<'a> {
    pub(super) in_place: &'a InPlace<'a>,
    pub(super) storage: &'a Storage,
    pub(super) runtime: &'a Handle,
}

/// Reads and compresses `pending` on all cores, and gives the batches to `sink`.
pub(super) fn compress(
    odb: &gix_odb::HandleArc,
    beside: &Beside<'_>,
    pending: &[(usize, ObjectId)],
    sink: &mut Sink<'_>,
    options: &Options,
    progress: &(dyn Fn(u64, u64) + Sync),
    cancel: &Cancel,
) -> Result<(), SnapshotError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if options.threads == 0 { cores } else { options.threads };
    let threads = threads.min(pending.len().div_ceil(RUN)).max(1);
    let (sender, receiver) = sync_channel(2 * threads);
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    let failed: Mutex<Option<SnapshotError>> = Mutex::new(None);
    // Stops the workers when one of them or the sink fails.
    let stop = Cancel::new();
    let total = pending.len() as u64;
    let result = std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, odb) = (sender.clone(), odb.clone());
            let (next, done, failed, stop) = (&next, &done, &failed, &stop);
            scope.spawn(move || {
                let stopped = || stop.is_cancelled() || cancel.is_cancelled();
                let mut each = || {
                    progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
                    if stopped() { Err(SnapshotError::Cancelled) } else { Ok(()) }
                };
                let result = Worker::new(sender).and_then(|mut worker| {
                    while let Some(run) = pending
                        .get(next.fetch_add(1, Ordering::Relaxed).saturating_mul(RUN)..)
                        .filter(|rest| !rest.is_empty())
                    {
                        let run = run.get(..RUN).unwrap_or(run);
                        worker.run(&odb, beside, run, &mut each)?;
                    }
                    worker.hand_over()
                });
                if let Err(error) = result {
                    stop.cancel();
                    let mut failed = failed.lock().unwrap_or_else(|e| e.into_inner());
                    if failed.as_ref().is_none_or(|e| matches!(e, SnapshotError::Cancelled)) {
                        *failed = Some(error);
                    }
                }
            });
        }
        drop(sender);
        drain(receiver, sink, &stop)
    });
    result?;
    match failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Writes what the workers hand over. After a failure it stops them; dropping the
/// receiver frees those that wait for room.
fn drain(
    receiver: Receiver<Batch>,
    sink: &mut Sink<'_>,
    stop: &Cancel,
) -> Result<(), SnapshotError> {
    for batch in &receiver {
        if let Err(error) = sink.accept(&batch) {
            stop.cancel();
            return Err(error);
        }
    }
    Ok(())
}

struct Worker {
    sender: SyncSender<Batch>,
    encoder: Encoder,
    batch: Batch,
    /// Content of the shared frame that is being filled, and whose it is.
    shared: Vec<u8>,
    sharers: Vec<(usize, u32, u64)>,
    blob: Vec<u8>,
}

impl Worker {
    fn new(sender: SyncSender<Batch>) -> Result<Self, SnapshotError> {
        Ok(Self {
            sender,
            encoder: Encoder::new().map_err(no_zstd)?,
            batch: Batch::default(),
            shared: Vec::new(),
            sharers: Vec::new(),
            blob: Vec::new(),
        })
    }

    fn run(
        &mut self,
        odb: &gix_odb::HandleArc,
        beside: &Beside<'_>,
        run: &[(usize, ObjectId)],
        each: &mut impl FnMut() -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let mut blob = std::mem::take(&mut self.blob);
        for (entry, id) in run {
            if let Some(object) = beside.in_place.get(id) {
                self.add_attached(*entry, object, beside)?;
                each()?;
                continue;
            }
            // What is found may be a part of the buffer, or none of it.
            let found = odb.find_blob(id, &mut blob).map_err(|e| object_error(*id, &e))?;
            self.add(*entry, found.data)?;
            each()?;
            // One huge blob shall not hold its memory for the rest of the tree.
            if blob.capacity() > 8 * FRAME_MAX {
                blob = Vec::new();
            }
        }
        self.blob = blob;
        Ok(())
    }

    /// As [`Worker::add`], piece by piece, of content that may be of any size.
    fn add_attached(
        &mut self,
        entry: usize,
        object: &AttachedObject,
        beside: &Beside<'_>,
    ) -> Result<(), SnapshotError> {
        let file = beside.runtime.block_on(beside.storage.file(&object.key))?;
        let size = object.size;
        let mut piece = Vec::new();
        if size <= FRAME_MAX as u64 {
            file.read_blocking(0..size, &mut piece)?;
            return self.add(entry, &piece);
        }
        let mut compress = false;
        let mut start = 0;
        while start < size {
            let end = size.min(start + FRAME_MAX as u64);
            file.read_blocking(start..end, &mut piece)?;
            if start == 0 {
                compress = self.encoder.is_compressible(&piece);
            }
            let (frame, length) = self.frame(&piece, compress);
            self.batch.items.push(Item::Piece { entry, frame, length });
            self.hand_over_if_full()?;
            start = end;
        }
        self.batch.items.push(Item::Large { entry, size });
        Ok(())
    }

    fn add(&mut self, entry: usize, content: &[u8]) -> Result<(), SnapshotError> {
        let size = content.len() as u64;
        if content.len() <= PACK_TARGET {
            if self.shared.len() + content.len() > PACK_TARGET {
                self.end_frame()?;
            }
            self.sharers.push((entry, self.shared.len() as u32, size));
            self.shared.extend_from_slice(content);
            return Ok(());
        }
        let compress = self.encoder.is_compressible(content);
        if content.len() <= FRAME_MAX {
            let (frame, length) = self.frame(content, compress);
            self.batch.items.push(Item::Blob { entry, size, frame, length, within: 0 });
            return self.hand_over_if_full();
        }
        for piece in content.chunks(FRAME_MAX) {
            let (frame, length) = self.frame(piece, compress);
            self.batch.items.push(Item::Piece { entry, frame, length });
            self.hand_over_if_full()?;
        }
        self.batch.items.push(Item::Large { entry, size });
        Ok(())
    }

    fn frame(&mut self, content: &[u8], compress: bool) -> (u32, u32) {
        let frame = self.batch.frames.len() as u32;
        (frame, self.encoder.append(&mut self.batch.frames, content, compress))
    }

    fn end_frame(&mut self) -> Result<(), SnapshotError> {
        if self.sharers.is_empty() {
            return Ok(());
        }
        let shared = std::mem::take(&mut self.shared);
        let (frame, length) = self.frame(&shared, true);
        self.shared = shared;
        self.shared.clear();
        for (entry, within, size) in self.sharers.drain(..) {
            self.batch.items.push(Item::Blob { entry, size, frame, length, within });
        }
        self.hand_over_if_full()
    }

    fn hand_over_if_full(&mut self) -> Result<(), SnapshotError> {
        if self.batch.frames.len() < BATCH {
            return Ok(());
        }
        self.send()
    }

    /// Hands over everything, the frame that is being filled included.
    fn hand_over(&mut self) -> Result<(), SnapshotError> {
        self.end_frame()?;
        self.send()
    }

    fn send(&mut self) -> Result<(), SnapshotError> {
        // The receiver is gone only after the sink failed, which says why.
        self.sender.send(std::mem::take(&mut self.batch)).map_err(|_| SnapshotError::Cancelled)
    }
}
