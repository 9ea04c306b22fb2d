//! Indexing a pack and reading all of its objects.
//!
//! Everything that decodes packs stands behind this module, and today it is done by gix-pack. The
//! rest of the crate knows two operations: [`write()`] turns a stream into a `.pack` and an `.idx`,
//! completing a thin pack from the repository's objects, and [`Pack::visit`] shows every object of
//! a pack once, on all cores. An indexer that does both in one pass can take its place.
//!
//! The decoder runs on hostile input, so a panic in it is caught and reported as a damaged pack.

use std::{
    fs, io,
    io::BufRead,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use gix_features::progress::Discard;
use gix_hash::{ObjectId, oid};
use gix_object::Kind;
use gix_pack::{data, index};

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

    /// Shows every object once, from several threads, each with its own clone of `visitor`. The
    /// bytes were hashed when the index was written and are not hashed again.
    pub fn visit<V>(&self, limits: &Limits, interrupt: &AtomicBool, visitor: V) -> Result<(), Error>
    where
        V: FnMut(Kind, &[u8], &oid) + Send + Clone,
    {
        let options = index::traverse::Options {
            traversal: index::traverse::Algorithm::DeltaTreeLookup,
            check: index::traverse::SafetyCheck::SkipFileAndObjectChecksumVerification,
            thread_limit: None,
            alloc_limit_bytes: Some(allocation_limit(limits, self.objects())),
            make_pack_lookup_cache: || gix_pack::cache::Never,
        };
        let mut visitor = visitor;
        guarded(|| {
            self.bundle.index.traverse(
                &self.bundle.pack,
                &mut Discard,
                interrupt,
                move |kind: Kind,
                      data: &[u8],
                      entry: &index::Entry,
                      _: &dyn gix_features::progress::Progress| {
                    visitor(kind, data, &entry.oid);
                    Ok(())
                },
                options,
            )
        })?;
        Ok(())
    }
}

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
