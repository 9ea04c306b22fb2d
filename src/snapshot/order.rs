//! In which order blobs are read.
//!
//! A delta is decoded on top of its base, and bases lie near their deltas in a pack.
//! Read in the order of the pack, the base was just decoded and is still cached; read
//! by path, a chain of fifty may be decoded anew for each of its fifty blobs.

use gix_hash::ObjectId;

/// More packs than this are not looked into: a repository with so many has small ones.
const MAX_PACKS: usize = 64;

/// Sorts blobs by the place that the first pack with them gives; those in no pack
/// (loose, or in alternates) follow in the order they had. Only speed depends on it,
/// so a pack that cannot be opened is passed over: reading tells what is wrong with it.
pub(super) fn by_pack(odb: &gix_odb::HandleArc, blobs: &mut [(usize, ObjectId)]) {
    let Ok(folder) = std::fs::read_dir(odb.store_ref().path().join("pack")) else {
        return;
    };
    let hash = odb.store_ref().object_hash();
    let packs: Vec<_> = folder
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "idx"))
        .take(MAX_PACKS)
        .filter_map(|path| gix_pack::index::File::at(path, hash).ok())
        .collect();
    blobs.sort_by_cached_key(|(_, id)| {
        packs
            .iter()
            .enumerate()
            .find_map(|(number, pack)| Some((number, pack.pack_offset_at_index(pack.lookup(id)?))))
            .unwrap_or((usize::MAX, 0))
    });
}
