//! The snapshot format: the tree of one commit, kept in storage so that one file is
//! read, one folder listed and the whole tree scanned without git.
//!
//! A snapshot is a **manifest** (every path with what is needed to find its bytes)
//! and **data objects** (the bytes, in frames). One object a file would be 100,000
//! writes to a bucket, one archive could not be read at random: this is between
//! the two. Data objects belong to the repository, not to one snapshot: a later
//! snapshot names the places of blobs that an earlier one wrote, so it costs what
//! changed.
//!
//! Under the prefix `snapshots/<repo_id>` lie `<snapshot_id>/manifest` and
//! `<snapshot_id>/data-<n>`; the snapshot id must be a new one for every attempt,
//! as a key is written once. The manifest is written last: what a crash leaves is a
//! folder without a manifest that no manifest names.
//!
//! # What becomes of a tree
//!
//! Paths are bytes as git keeps them, sorted as bytes. A link is an entry whose
//! bytes are its target; it is never followed. A submodule is an entry with the id
//! of its commit and no bytes. A pointer of Git LFS is the file that it points to, where
//! the remote has it ([`Attached`]). Names that some file system would fold together are
//! kept as they are and counted in [`SnapshotInfo::collisions`]. A name that is
//! empty, `.`, `..` or holds a slash or a NUL ends the writing with an error.
//!
//! # Dead bytes
//!
//! A blob that is gone from the head stays in its data object. So an object of which
//! less than half is still in use is not used again: its living blobs are written
//! anew, and it can go once the snapshots that name it are gone. A snapshot therefore
//! names at most about twice its own bytes. It names at most
//! [`MAX_OBJECTS`] objects too: beyond, those with the fewest living bytes are
//! written anew together. To remove a snapshot: remove its manifest, then each data
//! object below the prefix that no manifest left ([`Snapshot::objects`]) names.
//!
//! # The format, byte by byte
//!
//! Integers are little endian; `varint` is unsigned LEB128 of at most 10 bytes.
//!
//! ## Data object
//!
//! The 8 bytes `SLUDATA1`, then frames:
//!
//! | bytes | |
//! |---|---|
//! | 4 | `raw`: bytes of content, at most [`FRAME_MAX`] |
//! | 4 | `stored`: bytes that follow the header, at most `raw` |
//! | 4 | CRC-32 (IEEE) of those bytes |
//! | 1 | 0: stored as they are, 1: one zstd frame |
//! | 3 | zero |
//! | `stored` | the content |
//!
//! Blobs of up to [`PACK_TARGET`] bytes share a frame of about that size; a larger
//! one has a frame of its own; one above [`FRAME_MAX`] is cut into pieces of that
//! size, a frame each, and is found by a *seek table*: one more frame whose content
//! is, for each piece, the offset of its frame (8 bytes) and its length with header
//! (4 bytes).
//!
//! ## Manifest
//!
//! | part | bytes |
//! |---|---|
//! | head | `SLUSNAP1`, or `SLUSNAP2` where ids are those of SHA-256 |
//! | blocks | entries, at most [`BLOCK_ENTRIES`] each |
//! | index | for each block: varint length of its first path, the path, varint offset, varint length, varint entries, 4 bytes CRC-32 of the block |
//! | objects | for each data object: varint length of its name, the name below the prefix, varint size, varint bytes of all blobs that were written to it |
//! | foot | 92 bytes and an id, see below |
//!
//! An entry: varint bytes that its path shares with the one before it in the block,
//! varint length of the rest, the rest; 1 byte kind (0 file, 1 executable, 2 link,
//! 3 submodule); the object id, of 20 bytes or with `SLUSNAP2` of 32; and unless it is a submodule, varints: size,
//! number of the data object, offset of the frame (or the seek table, if the size is
//! above [`FRAME_MAX`]), its length with header, place within the content.
//!
//! The foot: offset of the index (8), offset of the objects (8), blocks (8), objects
//! (8), entries (8), files and links (8), their bytes (8), object id of the tree (20 or 32),
//! CRC-32 of index and objects (4), SHA-256 of everything before this digest (32).
//!
//! A reader checks the CRC of what it reads and trusts no number before it allocates.
//! The digest names the whole; [`Snapshot::verify`] checks it.

mod attached;
mod cache;
mod compress;
mod error;
mod frame;
mod manifest;
mod order;
mod read;
mod tree;
mod write;

pub use attached::{Attached, AttachedObject};
pub use cache::{CachePool, FrameCache};
pub use error::SnapshotError;
pub use frame::FRAME_MAX;
pub(crate) use manifest::MAX_PATH;
pub use manifest::{BLOCK_ENTRIES, Entry, EntryKind, Place};
pub use read::{Listed, Listing, Snapshot};
pub use tree::TreeLimits;
pub use write::{MAX_OBJECTS, Options, PACK_TARGET, SnapshotInfo, write};
