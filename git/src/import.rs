//! Packs that came by another way than a push: in an archive, or by a fetch.
//!
//! They are as hostile as those of a push and get the same treatment: measured by the
//! [firewall](crate::firewall) before anything is allocated, indexed anew, every object looked at
//! once. One thing is different. A push sends what its refs reach, so a link that leads nowhere
//! refuses it; a repository that people worked in holds leftovers whose links were pruned. So here
//! missing objects are told, and the caller finds out whether they matter.

use std::{
    collections::HashSet,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use bytes::Bytes;
use gix_hash::ObjectId;
use tokio::sync::mpsc;

use crate::{
    check::{Observation, closure::Closure, fsck::Fsck},
    firewall::{Chunk, Counters, Limits, PackReader},
    index,
};

/// Ids of objects are made with this.
const HASH: gix_hash::Kind = gix_hash::Kind::Sha1;

/// Why packs are not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// They are at fault; a sentence for whoever sent them.
    #[error("{0}")]
    Refused(String),
    /// They are larger than they may be: the limit, by the name of its field in [`Limits`], and a
    /// sentence.
    #[error("{1}")]
    Limit(&'static str, String),
    /// The flag was set.
    #[error("cancelled")]
    Cancelled,
    /// The disk is at fault.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A pack that was indexed and checked.
#[derive(Debug, Clone)]
pub struct ImportedPack {
    /// The `.pack` file.
    pub pack: PathBuf,
    /// The `.idx` file.
    pub index: PathBuf,
    /// The checksum that names it.
    pub name: ObjectId,
    /// Bytes of the `.pack` file.
    pub bytes: u64,
    /// How many objects.
    pub objects: u32,
}

/// What became of the packs.
#[derive(Debug, Default)]
pub struct Imported {
    /// Without those that were empty or there twice.
    pub packs: Vec<ImportedPack>,
    /// A link of some object leads nowhere.
    pub missing: bool,
    /// Of the given shallow commits those whose parents are missing indeed.
    pub shallow: Vec<ObjectId>,
    /// What is odd, at most [`crate::MAX_OBSERVATIONS`].
    pub observations: Vec<Observation>,
}

/// Indexes the pack files `sources` into the object folder `objects` and checks them. The sources
/// are only read. Blocking, not to be called on a thread of an async runtime; ends early once
/// `cancel` is set. After an error the folder is to be thrown away.
pub fn import(
    sources: &[PathBuf],
    objects: &Path,
    shallow: &[ObjectId],
    limits: &Limits,
    cancel: &AtomicBool,
) -> Result<Imported, Error> {
    let packs = objects.join("pack");
    fs::create_dir_all(&packs)?;
    let grafts: HashSet<ObjectId> = shallow.iter().copied().collect();
    let target =
        index::Target { packs: &packs, store: objects, hash: HASH, limits, interrupt: cancel };
    // The packs may build on each other, so what they link to is known when all are there.
    let room = announced(sources)?;
    let mut imported = Imported::default();
    let mut pending = Vec::new();
    for source in sources {
        let closure = Closure::new(&grafts, room, &Fsck::Record, limits, cancel);
        let indexed = write(source, &target, &closure, limits);
        if let Some((_, sentence)) = closure.unsound() {
            return Err(Error::Refused(sentence));
        }
        let Some(index::Indexed { written, table }) = indexed? else { continue };
        if imported.packs.iter().any(|pack| pack.name == written.name) {
            continue;
        }
        pending.push((closure, table));
        imported.packs.push(ImportedPack {
            pack: written.pack,
            index: written.index,
            name: written.name,
            bytes: written.bytes,
            objects: written.objects,
        });
    }
    let store = index::open(objects, HASH)?;
    for (closure, table) in pending {
        let found = closure.finish(&table, &store).ok_or(Error::Cancelled)?;
        imported.missing |= found.missing.is_some();
        imported.shallow.extend(found.new_shallow);
        let room = crate::MAX_OBSERVATIONS.saturating_sub(imported.observations.len());
        imported.observations.extend(found.observations.into_iter().take(room));
    }
    imported.shallow.sort();
    imported.shallow.dedup();
    Ok(imported)
}

/// How many objects the packs say they hold together.
fn announced(sources: &[PathBuf]) -> io::Result<u64> {
    let mut sum = 0;
    for source in sources {
        let mut header = Vec::with_capacity(12);
        fs::File::open(source)?.take(12).read_to_end(&mut header)?;
        if let Some(count) = header.last_chunk::<4>().filter(|_| header.len() == 12) {
            sum += u64::from(u32::from_be_bytes(*count));
        }
    }
    Ok(sum)
}

/// Sends a file through the firewall to the indexer.
fn write(
    source: &Path,
    target: &index::Target<'_>,
    closure: &Closure<'_, 20>,
    limits: &Limits,
) -> Result<Option<index::Indexed>, Error> {
    let inspector = closure.inspector(index::open(target.store, HASH)?);
    let mut file = fs::File::open(source)?;
    let (sender, receiver) = mpsc::channel(4);
    std::thread::scope(|scope| {
        let feed = scope.spawn(move || -> io::Result<()> {
            loop {
                let mut chunk = Vec::with_capacity(1 << 16);
                (&mut file).take(1 << 16).read_to_end(&mut chunk)?;
                let last = chunk.is_empty();
                let chunk = if last { Chunk::End } else { Chunk::Data(Bytes::from(chunk)) };
                // The reader stops listening when it refuses.
                if sender.blocking_send(chunk).is_err() || last {
                    return Ok(());
                }
            }
        });
        let counters = Arc::new(Counters::default());
        let mut reader = PackReader::new(receiver, limits.clone(), HASH, counters);
        let indexed = match reader.declared_objects() {
            Ok(_) => index::receive(&mut reader, target, inspector, || ()),
            Err(failure) => Err(failure.into()),
        };
        drop(reader);
        feed.join().unwrap_or_else(|_| Err(io::Error::other("the reader panicked")))?;
        indexed.map_err(|error| damaged(error, target.interrupt))
    })
}

fn damaged(error: index::Error, cancel: &AtomicBool) -> Error {
    if cancel.load(std::sync::atomic::Ordering::Relaxed) {
        return Error::Cancelled;
    }
    match error {
        index::Error::Pack(text) => {
            tracing::warn!(error = %text, "a pack could not be indexed");
            Error::Refused("a pack is damaged, or builds on objects that are not here".into())
        }
        index::Error::Panic(text) => {
            tracing::error!(panic = %text, "the pack decoder panicked");
            Error::Refused("a pack cannot be decoded".into())
        }
        index::Error::Violation(violation) => {
            let why = format!("a pack is not taken: {violation}");
            match violation.limit() {
                Some(limit) => Error::Limit(limit, why),
                None => Error::Refused(why),
            }
        }
        // The feeder ended before its time.
        index::Error::ClientGone | index::Error::Interrupted => Error::Cancelled,
        index::Error::Io(error) => error.into(),
    }
}
