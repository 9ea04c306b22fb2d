//! The indexer: a pack arrives and becomes a `.pack`, an `.idx` and a look at every object.
//!
//! ```text
//! scan     pass 1, while the body arrives: the firewall inflates, whole objects are hashed, the
//!          raw bytes are spooled
//! forest   which delta stands on what, in an order that bounds memory
//! resolve  pass 2, on all cores: each delta is applied and hashed once …
//! spill      … with what is too large for memory in files
//! thin     bases that the client left out are appended
//! write    the index
//! ```
//!
//! Commits, trees and tags are shown to a [`Visit`] in the same breath in which they are hashed, so
//! that no second decoding is needed to check them.
//!
//! # What holds
//!
//! - Each object is hashed once and shown once. A delta is inflated twice, once to be measured and
//!   once to be applied; only what a large object stands on may be made again.
//! - Memory is 20 MiB for objects and deltas, up to 16 MiB for one large tree, and about 75 bytes an
//!   object, whatever the bytes. Only a base that a thin pack leaves out is read whole.
//! - Work follows the sum of resolved bytes, which the firewall bounded before.
//! - Every number of a pack is checked where it is used. Should there be a panic all the same, it is
//!   caught and reported as a damaged pack.

use std::{
    any::Any,
    io::{self, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use gix_hash::{ObjectId, oid};
use gix_object::Kind;

use crate::firewall::{Failure, Limits, PackReader, Violation};

mod delta;
mod entry;
mod forest;
mod resolve;
mod scan;
mod source;
mod spill;
mod thin;
mod write;

use entry::{Entries, Found, UNKNOWN, kind_of};
use forest::Forest;
use scan::{Scan, Scanned};

/// What went wrong. The text is for the log; it may name paths.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The pack is damaged, or builds on what is not there.
    #[error("{0}")]
    Pack(String),
    /// The pack breaks a limit or the format.
    #[error(transparent)]
    Violation(Violation),
    /// It did not arrive whole.
    #[error("the client is gone")]
    ClientGone,
    #[error("the work was interrupted")]
    Interrupted,
    #[error("the decoder panicked: {0}")]
    Panic(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<delta::Broken> for Error {
    fn from(broken: delta::Broken) -> Self {
        Self::Pack(broken.to_string())
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Violation(violation) => Self::Violation(violation),
            Failure::ClientGone => Self::ClientGone,
            Failure::Io(error) => Self::Io(error),
            Failure::Interrupted => Self::Interrupted,
        }
    }
}

impl Error {
    fn panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned());
        Self::Panic(text.unwrap_or_default())
    }
}

/// Looks at commits, trees and tags, each once, on several threads, each of which has a clone.
pub(crate) trait Visit: Clone + Send {
    fn visit(&mut self, kind: Kind, content: &[u8], id: &oid);
}

/// The files of an indexed pack.
#[derive(Debug)]
pub(crate) struct Written {
    pub pack: PathBuf,
    pub index: PathBuf,
    pub name: ObjectId,
    pub bytes: u64,
    pub objects: u32,
}

/// The objects of a pack and their kinds.
pub(crate) struct Table {
    found: Found,
    /// Entries in the order of ids.
    order: Vec<u32>,
    /// Where the ids of each [`bucket`] begin in that order, and where the last ends.
    fan: Vec<u32>,
    bits: u32,
}

impl Table {
    fn new(found: Found, order: Vec<u32>) -> Self {
        // About one id in each bucket.
        let bits = (order.len() + 1).ilog2().min(16);
        let mut fan = vec![0; (1 << bits) + 1];
        for entry in &order {
            if let Some(count) = fan.get_mut(bucket(found.id(*entry), bits) + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for place in &mut fan {
            sum += *place;
            *place = sum;
        }
        Self { found, order, fan, bits }
    }

    /// The kind of an object; `None` if it is not in the pack.
    pub fn kind(&self, id: &oid) -> Option<Kind> {
        let bucket = bucket(id, self.bits);
        let range = *self.fan.get(bucket)? as usize..*self.fan.get(bucket + 1)? as usize;
        let candidates = self.order.get(range)?;
        let at = candidates.binary_search_by(|entry| self.found.id(*entry).cmp(id)).ok()?;
        kind_of(*self.found.kinds.get(*candidates.get(at)? as usize)?)
    }
}

/// The first `bits` bits of an id, of which there are at most 16.
fn bucket(id: &oid, bits: u32) -> usize {
    let first = id.as_bytes().first_chunk::<2>().copied().unwrap_or_default();
    usize::from(u16::from_be_bytes(first)) >> (16 - bits.min(16))
}

/// A pack that was received.
pub(crate) struct Indexed {
    pub written: Written,
    pub table: Table,
}

/// Where things are and who is told.
pub(crate) struct Target<'a> {
    /// The folder that gets the pack and its index.
    pub packs: &'a Path,
    /// Bases that a thin pack leaves out are taken from here and from nowhere else.
    pub store: &'a Path,
    pub hash: gix_hash::Kind,
    /// Those that the firewall has, for what only shows when deltas meet their bases.
    pub limits: &'a Limits,
    pub interrupt: &'a AtomicBool,
}

impl Target<'_> {
    fn go_on(&self) -> Result<(), Error> {
        if self.interrupt.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Receives a pack, whose header `reader` has read already.
///
/// `None` means that the pack is empty and nothing was written. `resolving` is called when the whole
/// pack is there and the work begins that needs all cores; it may wait until the flag is set, but
/// not longer. Blocking; ends early once the flag is set.
pub(crate) fn receive<V: Visit>(
    reader: &mut PackReader,
    target: &Target<'_>,
    visitor: V,
    resolving: impl FnOnce(),
) -> Result<Option<Indexed>, Error> {
    guarded(|| {
        let spool = tempfile::Builder::new().prefix("incoming-").tempfile_in(target.packs)?;
        let mut scan = Scan::new(spool.reopen()?, target.hash, target.interrupt, visitor.clone());
        let read = reader.read(&mut scan);
        let mut scanned = scan.finish(read)?;
        if scanned.entries.layout.len() == 0 {
            return Ok(None);
        }
        resolving();
        target.go_on()?;
        let objects = scanned.entries.layout.len() as u32;
        resolve(&mut scanned, target, &visitor, reader.resolved_bytes())?;
        finish(scanned, objects, spool, target).map(Some)
    })
}

/// What so many threads had to put off is made by one alone. More threads are first reduced by this
/// factor.
const FEW_THREADS: usize = 4;

/// Finds out what all deltas are. The objects of the pack have `resolved` bytes.
fn resolve<V: Visit>(
    scanned: &mut Scanned,
    target: &Target<'_>,
    visitor: &V,
    resolved: u64,
) -> Result<(), Error> {
    let Scanned { entries, checksum, file } = scanned;
    let mut job = resolve::Job { file, target, threads: resolve::cores(), alone: false };
    let objects = entries.layout.len();
    while entries.found.unknown > 0 {
        link(entries);
        let forest = Forest::new(entries);
        if forest.roots.is_empty() {
            // The store was asked before, and does not have more now.
            let asked = entries.layout.len() > objects;
            if asked || thin::complete(file, entries, target, resolved)? == 0 {
                return Err(Error::Pack("deltas whose bases are not here".into()));
            }
            continue;
        }
        let before = entries.found.unknown;
        let put_off = resolve::run(&job, entries, &forest, visitor)?;
        let unknown = entries.found.unknown;
        if unknown == before && !put_off.large && !put_off.crowded {
            return Err(Error::Pack("deltas that cannot be resolved".into()));
        }
        if put_off.crowded && unknown <= before / 2 {
            // Now more is known of what stands on what, and the order is a better one.
        } else if put_off.large || put_off.crowded {
            job.alone = job.threads <= FEW_THREADS;
            job.threads = job.threads.div_ceil(FEW_THREADS);
        } else {
            job.alone = false;
        }
    }
    if entries.layout.len() > objects {
        *checksum = thin::seal(file, entries, target)?;
    }
    Ok(())
}

/// Connects deltas that name their bases by id with objects that are known by now.
fn link(entries: &mut Entries) {
    let Entries { found, refs, .. } = entries;
    let unknown = |found: &Found, delta: &entry::RefDelta| {
        found.kinds.get(delta.entry as usize) == Some(&UNKNOWN)
    };
    refs.retain(|delta| unknown(found, delta));
    if refs.is_empty() {
        return;
    }
    let order = found.sorted();
    refs.retain(|delta| {
        let known = order.binary_search_by(|entry| found.id(*entry).cmp(&delta.base));
        let Some(entry) = known.ok().and_then(|at| order.get(at)) else { return true };
        if let Some(base) = found.bases.get_mut(delta.entry as usize) {
            *base = *entry;
        }
        false
    });
}

/// Whether a delta names its base by an id that several of the first `objects` entries have. The same
/// object twice is no harm, but git refuses this, so that nobody could index the pack again.
fn ambiguous(entries: &Entries, order: &[u32], objects: u32) -> bool {
    let found = &entries.found;
    let mut repeated = Vec::new();
    for (first, second) in order.iter().zip(order.iter().skip(1)) {
        if found.id(*first) == found.id(*second) && *second < objects {
            repeated.resize(found.kinds.len(), false);
            for entry in [*first, *second] {
                if let Some(mark) = repeated.get_mut(entry as usize) {
                    *mark = true;
                }
            }
        }
    }
    let by_id = (0..objects).filter(|entry| entries.layout.names_base_by_id(*entry));
    let mut bases = by_id.filter_map(|entry| found.bases.get(entry as usize));
    !repeated.is_empty() && bases.any(|base| repeated.get(*base as usize) == Some(&true))
}

fn finish(
    scanned: Scanned,
    objects: u32,
    spool: tempfile::NamedTempFile,
    target: &Target<'_>,
) -> Result<Indexed, Error> {
    let Scanned { entries, checksum, file } = scanned;
    std::os::unix::fs::FileExt::write_all_at(&file, checksum.as_slice(), entries.layout.end)?;
    let bytes = entries.layout.end + checksum.as_slice().len() as u64;
    let order = entries.found.sorted();
    if ambiguous(&entries, &order, objects) {
        return Err(Error::Pack("deltas on an object that is there twice".into()));
    }
    let index = tempfile::Builder::new().prefix("incoming-").tempfile_in(target.packs)?;
    write::index(index.as_file(), &entries, &order, &checksum)?;
    index.as_file().flush()?;

    let name = target.packs.join(format!("pack-{checksum}"));
    let place = |file: tempfile::NamedTempFile, extension: &str| -> io::Result<PathBuf> {
        let path = name.with_extension(extension);
        file.persist(&path).map_err(|error| error.error)?;
        Ok(path)
    };
    let pack = place(spool, "pack")?;
    let index = place(index, "idx")?;
    let written = Written { pack, index, name: checksum, bytes, objects: order.len() as u32 };
    Ok(Indexed { written, table: Table::new(entries.found, order) })
}

/// What reading one object may allocate: it, its base, and all deltas on the way to it. Enough for
/// objects of 512 MiB; see [`Limits::delta_bytes`].
pub(crate) const ALLOCATION: usize = 2 << 30;

/// An object store over `objects` and its alternates, as they are now: to look for what is missing
/// does not read the folders again, since hostile packs can ask for that millions of times.
pub(crate) fn open(objects: &Path, hash: gix_hash::Kind) -> io::Result<gix_odb::Handle> {
    let options = gix_odb::store::init::Options {
        alloc_limit_bytes: Some(ALLOCATION),
        ..gix_odb::store::init::Options::default()
    };
    let mut store = gix_odb::at_opts(objects, hash, Vec::new(), options)?;
    store.refresh_never();
    Ok(store)
}

fn guarded<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Error::panic(&*panic)))
}

#[cfg(test)]
mod tests;
