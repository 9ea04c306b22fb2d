//! Why a snapshot could not be written or read.

use crate::storage::StorageError;

/// Errors name the path or the object, never its content.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Somebody asked to stop.
    #[error("the snapshot was cancelled")]
    Cancelled,
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The object database misses an object or cannot decode it.
    #[error("cannot read object {id} of the repository: {reason}")]
    Object {
        /// Object id in hex.
        id: String,
        /// What the database said.
        reason: String,
    },
    /// A tree holds what no checkout can hold.
    #[error("the tree of the commit is malformed in folder {folder:?}: {reason}")]
    MalformedTree {
        /// Path of the folder, lossy.
        folder: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A limit of the configuration is exceeded.
    #[error("the commit has more than {max} {what}; ask the operator to raise the limit")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// The path is not in the tree, or is no file.
    #[error("there is no file {path:?} in the snapshot")]
    NotFound {
        /// The path that was asked for, lossy.
        path: String,
    },
    /// More than the caller is ready to take.
    #[error("the file has {size} bytes, more than the {max} that may be read at once")]
    TooLarge {
        /// Bytes of the file.
        size: u64,
        /// What the caller allowed.
        max: u64,
    },
    /// What is stored is not what was written.
    #[error("the snapshot {key:?} is damaged: {what}")]
    Corrupt {
        /// Key of the object.
        key: String,
        /// What is wrong.
        what: &'static str,
    },
}
