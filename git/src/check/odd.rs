//! What is odd about objects, for whoever looks at them outside of a push.
//!
//! The same eyes as those of a push: what it records as an [`Observation`](super::Observation) is
//! found here again.

use gix_hash::Kind as Hash;

use super::{Flaw, Oddity, object, tree};

pub use super::gitmodules::read as submodules;

/// What is odd about the name of an entry of a tree: [`Oddity::DotGit`] or
/// [`Oddity::LinkedGitmodules`]. `link` says that it is a symbolic link.
pub fn name(name: &[u8], link: bool) -> Option<Oddity> {
    tree::odd_name(name, link)
}

/// What is odd about a tree. `each` is called with every name and whether it is a symbolic link, `odd`
/// with what is odd and the name of which it is, if it is that of one.
pub fn tree(
    data: &[u8],
    hash: Hash,
    mut each: impl FnMut(&[u8], bool),
    odd: impl FnMut(Oddity, &[u8]),
) -> Result<(), Flaw> {
    let link = |kind| kind == tree::EntryKind::Link;
    let bounds = tree::Bounds::NONE;
    match hash.len_in_bytes() {
        20 => tree::read::<20>(data, bounds, |entry| each(entry.name, link(entry.kind)), odd),
        _ => tree::read::<32>(data, bounds, |entry| each(entry.name, link(entry.kind)), odd),
    }
}

/// What is odd about a commit.
pub fn commit(data: &[u8], hash: Hash) -> Result<Vec<Oddity>, Flaw> {
    object::commit(data, hash).map(|commit| commit.oddities)
}
