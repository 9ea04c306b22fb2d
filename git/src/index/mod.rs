//! Indexing a pack and reading all of its objects.
//!
//! Everything that decodes packs stands behind this module, and today it is done by gix-pack. The
//! rest of the crate knows two operations: [`write()`] turns a stream into a `.pack` and an `.idx`,
//! completing a thin pack from the repository's objects, and [`Pack::visit`] shows every object of
//! a pack but the blobs once, on all cores. An indexer that does both in one pass can take its place.
//!
//! The decoder runs on hostile input, so a panic in it is caught and reported as a damaged pack.

use std::{
    fs, io,
    io::BufRead,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use gix_features::progress::{Discard, Progress};
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use gix_pack::{cache, data, index};

use crate::firewall::Limits;

/// What went wrong. The text is for the log; it may name paths.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Pack(String),
    #[error("the decoder panicked: {0}")]
    Panic(String),
    #[error(transparent)]
    Io(#[from] io::Error),
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

/// Reads a pack of `declared_objects` from `input` and writes it with its index into `packs`.
///
/// Bases that a thin pack leaves out are taken from `store` and from nowhere else. `None` means
/// that the pack is empty and nothing was written. Blocking; ends early once `interrupt` is set.
pub(crate) fn write(
    input: &mut dyn BufRead,
    packs: &Path,
    store: &Path,
    declared_objects: u32,
    limits: &Limits,
    interrupt: &AtomicBool,
) -> Result<Option<Written>, Error> {
    let options = gix_pack::bundle::write::Options {
        thread_limit: None,
        iteration_mode: data::input::Mode::Verify,
        index_version: index::Version::default(),
        alloc_limit_bytes: Some(allocation_limit(limits, declared_objects)),
        ..Default::default()
    };
    // Without objects there is nothing to complete a thin pack from, and the pack passes unchanged.
    let bases = if is_empty(store)? { None } else { Some(open(store)?) };
    let outcome = guarded(|| {
        gix_pack::Bundle::write_to_directory(
            input,
            Some(packs),
            &mut Discard,
            interrupt,
            bases,
            gix_hash::Kind::Sha1,
            options,
        )
    })?;
    let (Some(pack), Some(index)) = (outcome.data_path, outcome.index_path) else {
        return Ok(None);
    };
    // A pack is protected by its quarantine, so the marker against collection is not needed.
    if let Some(keep) = outcome.keep_path {
        fs::remove_file(keep)?;
    }
    Ok(Some(Written {
        name: outcome.index.data_hash,
        bytes: fs::metadata(&pack)?.len(),
        objects: outcome.index.num_objects,
        pack,
        index,
    }))
}

/// The decoder's table of deltas takes about 100 bytes an object and counts as one allocation.
fn allocation_limit(limits: &Limits, objects: u32) -> usize {
    let largest_object = usize::try_from(limits.object_bytes).unwrap_or(usize::MAX);
    largest_object.max((objects as usize).saturating_mul(256)).max(1 << 20)
}

/// An object store over `objects` and its alternates, as they are now: to look for what is missing
/// does not read the folders again, since hostile packs can ask for that millions of times.
pub(crate) fn open(objects: &Path) -> io::Result<gix_odb::Handle> {
    let mut store = gix_odb::at(objects, gix_hash::Kind::Sha1)?;
    store.refresh_never();
    Ok(store)
}

fn is_empty(objects: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(objects)? {
        let entry = entry?;
        let name = entry.file_name();
        let loose = name.len() == 2;
        let packed = name == "pack" && fs::read_dir(entry.path())?.next().is_some();
        let elsewhere = name == "info" && entry.path().join("alternates").exists();
        if loose || packed || elsewhere {
            return Ok(false);
        }
    }
    Ok(true)
}

/// An indexed pack, opened.
pub(crate) struct Pack {
    bundle: gix_pack::Bundle,
}

impl Pack {
    pub fn open(index: &Path) -> Result<Self, Error> {
        let bundle = guarded(|| gix_pack::Bundle::at(index, gix_hash::Kind::Sha1))?;
        Ok(Self { bundle })
    }

    /// How many objects there are.
    pub fn objects(&self) -> u32 {
        self.bundle.index.num_objects()
    }

    /// The place of an object among all, in the order of their ids.
    pub fn position(&self, id: &oid) -> Option<u32> {
        self.bundle.index.lookup(id)
    }

    /// The id of the object at a place below [`Self::objects`].
    pub fn id(&self, position: u32) -> ObjectId {
        self.bundle.index.oid_at_index(position).to_owned()
    }

    /// The kind of every object, in the order of ids, from the headers of the entries alone: a delta
    /// is what its base is.
    pub fn kinds(&self) -> Result<Vec<Kind>, Error> {
        guarded(|| self.read_kinds())
    }

    fn read_kinds(&self) -> Result<Vec<Kind>, Malformed> {
        let index = &self.bundle.index;
        let mut entries: Vec<(data::Offset, u32)> =
            (0..self.objects()).map(|at| (index.pack_offset_at_index(at), at)).collect();
        entries.sort_unstable();
        let place = |offset| entries.binary_search_by_key(&offset, |entry| entry.0);
        let mut known: Vec<Option<Kind>> = vec![None; entries.len()];
        let mut kinds = vec![Kind::Blob; entries.len()];
        // The deltas from the entry in hand down to one whose kind is known.
        let mut chain = Vec::new();
        for (first, (_, position)) in entries.iter().enumerate() {
            let mut here = first;
            let kind = loop {
                if let Some(kind) = known[here] {
                    break kind;
                }
                if chain.len() > entries.len() {
                    return Err(Malformed("deltas that are their own base"));
                }
                chain.push(here);
                let offset = entries[here].0;
                let entry =
                    self.bundle.pack.entry(offset).map_err(|_| Malformed("an unknown entry"))?;
                let base = match entry.header {
                    data::entry::Header::Commit => break Kind::Commit,
                    data::entry::Header::Tree => break Kind::Tree,
                    data::entry::Header::Blob => break Kind::Blob,
                    data::entry::Header::Tag => break Kind::Tag,
                    data::entry::Header::OfsDelta { base_distance } => {
                        data::entry::Header::verified_base_pack_offset(offset, base_distance)
                    }
                    data::entry::Header::RefDelta { base_id } => {
                        self.position(&base_id).map(|base| index.pack_offset_at_index(base))
                    }
                };
                here = base
                    .and_then(|offset| place(offset).ok())
                    .ok_or(Malformed("a delta without its base"))?;
            };
            for delta in chain.drain(..) {
                known[delta] = Some(kind);
            }
            kinds[*position as usize] = kind;
        }
        Ok(kinds)
    }

    /// Shows every object once, though blobs only if they cannot be left out, from several threads, each with its own clone of
    /// `visitor`, which gets the object's kind, bytes and place. `kinds` are those of
    /// [`Self::kinds()`]. The bytes were hashed when the index was written and are not hashed again;
    /// blobs link to nothing, so that nothing is left to be learned from them.
    pub fn visit<V>(
        &self,
        kinds: &[Kind],
        limits: &Limits,
        interrupt: &AtomicBool,
        visitor: V,
    ) -> Result<(), Error>
    where
        V: FnMut(Kind, &[u8], u32) + Send + Clone,
    {
        let (index, pack) = (&self.bundle.index, &self.bundle.pack);
        let offset = |at: &u32| index.pack_offset_at_index(*at);
        let mut wanted: Vec<u32> = (0..self.objects()).collect();
        wanted.sort_unstable_by_key(offset);
        let is_blob = |at: &u32| kinds.get(*at as usize) == Some(&Kind::Blob);
        // The decoder reads on from the header of the pack, so its first entry has to be among them.
        // Git begins with a commit; a pack that begins with a blob is read whole.
        if wanted.first().is_some_and(|first| !is_blob(first)) {
            wanted.retain(|at| !is_blob(at));
        }
        let mut visitor = visitor;
        guarded(|| {
            // A delta has the kind of its base, so no base is left out.
            let tree = cache::delta::Tree::from_offsets_in_pack(
                pack.path(),
                wanted.into_iter(),
                &offset,
                &|id| Ok(self.position(id).map(|at| offset(&at))),
                &mut Discard,
                interrupt,
                gix_hash::Kind::Sha1,
            )?;
            tree.traverse(
                |range, pack: &data::File| pack.entry_slice(range),
                pack,
                pack.pack_end() as u64,
                move |at: &mut u32,
                      _: &dyn Progress,
                      context: cache::delta::traverse::Context<'_>| {
                    let kind = kinds.get(*at as usize).copied().unwrap_or(Kind::Blob);
                    visitor(kind, context.decompressed, *at);
                    Ok(())
                },
                cache::delta::traverse::Options {
                    object_progress: Box::new(Discard),
                    size_progress: &mut Discard,
                    thread_limit: None,
                    should_interrupt: interrupt,
                    object_hash: gix_hash::Kind::Sha1,
                    alloc_limit_bytes: Some(allocation_limit(limits, self.objects())),
                },
            )
        })?;
        Ok(())
    }
}

/// The entries of a pack do not fit together.
#[derive(Debug, thiserror::Error)]
#[error("the pack has {0}")]
struct Malformed(&'static str);

/// Turns the decoder's errors and panics into ours, and tells a damaged pack from a disk that failed.
fn guarded<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<T, Error>
where
    E: std::error::Error + 'static,
{
    let error = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error,
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            return Err(Error::Panic(text));
        }
    };
    let mut text = error.to_string();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && ours(io.kind())
        {
            return Err(Error::Io(io.kind().into()));
        }
        cause = error.source();
        if let Some(cause) = cause {
            text.push_str(": ");
            text.push_str(&cause.to_string());
        }
    }
    Err(Error::Pack(text))
}

/// Whether an error of this kind comes from the disk. The decoder also reports damaged packs as I/O
/// errors, of other kinds.
fn ours(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        FileTooLarge, NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    matches!(
        kind,
        FileTooLarge
            | NotFound
            | PermissionDenied
            | QuotaExceeded
            | ReadOnlyFilesystem
            | StorageFull
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_not_a_damaged_pack() {
        let fail = |kind: io::ErrorKind| guarded(|| Err::<(), _>(io::Error::from(kind)));
        assert!(matches!(fail(io::ErrorKind::StorageFull), Err(Error::Io(_))));
        assert!(matches!(fail(io::ErrorKind::UnexpectedEof), Err(Error::Pack(_))));
    }

    #[test]
    fn a_panic_is_caught() {
        let result = guarded(|| -> io::Result<()> { panic!("{} deltas", 3) });
        assert!(matches!(result, Err(Error::Panic(text)) if text == "3 deltas"));
    }
}
