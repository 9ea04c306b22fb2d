//! Whether the objects of a push are sound and complete.
//!
//! - **Sound**: every object can be parsed, and no tree has a name that breaks out of it
//!   ([`object`], [`tree`]). What is odd but harmless to keep is recorded as an [`Observation`].
//! - **Complete**: everything that an object of the pack links to is in the pack or in the
//!   repository ([`closure`]). The repository is complete by the same rule for every earlier push,
//!   and nothing is ever removed from it piecemeal; so it is enough to look at the links of the
//!   *new* objects, and no history is walked. The parents of shallow commits are left out.

use gix_hash::ObjectId;

pub(crate) mod closure;
pub mod fsck;
mod gitmodules;
pub(crate) mod object;
pub mod odd;
pub(crate) mod tree;

/// Why an object is refused, in words for the person who pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Flaw {
    #[error("is not a well-formed commit")]
    BadCommit,
    #[error("is not a well-formed tag")]
    BadTag,
    #[error("is not a well-formed tree")]
    BadTree,
    #[error("has a NUL byte in its header")]
    NulInHeader,
    #[error("has a header without an end")]
    UnterminatedHeader,
    #[error("has an entry whose name is empty, '.', '..' or contains a slash")]
    TreeName,
    #[error("has two entries of the same name")]
    DuplicateEntry,
    #[error("has more than {0} entries, the limit; spread them over several directories")]
    TooManyEntries(u32),
    #[error("has an entry whose name is longer than {0} bytes, the limit; give it a shorter one")]
    LongName(u32),
}

impl Flaw {
    /// The field of [`crate::firewall::Limits`] that the object goes beyond, if it is not simply
    /// wrong.
    pub fn limit(self) -> Option<&'static str> {
        match self {
            Self::TooManyEntries(_) => Some("tree_entries"),
            Self::LongName(_) => Some("path_bytes"),
            _ => None,
        }
    }
}

/// What is odd about an object that was accepted all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Oddity {
    /// A tree entry that is `.git`, or that HFS+ or NTFS would take for it.
    DotGit,
    /// A `.gitmodules` that is a symbolic link.
    LinkedGitmodules,
    /// A `.gitmodules` with a submodule name that leaves its directory.
    SubmoduleName,
    /// A `.gitmodules` with an address that git could take for an option or that hides a newline.
    SubmoduleUrl,
    /// A `.gitmodules` with a path that git could take for an option or that ends in a carriage return.
    SubmodulePath,
    /// A `.gitmodules` with a command that git would run to update a submodule.
    SubmoduleUpdate,
    /// So many different `.gitmodules` that not all of them were looked into.
    ManyGitmodules,
    /// A file mode written with leading zeros.
    ZeroPaddedMode,
    /// A tree whose entries are not in git's order.
    UnsortedTree,
    /// A commit without an author or a committer.
    MissingIdentity,
    /// A commit whose author or committer has no e-mail address.
    MissingEmail,
}

/// Something odd in what was pushed, to be shown as a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What is odd.
    pub kind: Oddity,
    /// The object in which it was seen.
    pub object: ObjectId,
    /// The name of the tree entry, or the offending value; empty if there is none.
    pub detail: String,
}

/// So many observations are kept of one push; the rest would say the same.
pub const MAX_OBSERVATIONS: usize = 1000;
