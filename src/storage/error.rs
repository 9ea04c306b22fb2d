//! Why the storage could not do what it was asked.

use std::io;

/// Errors are sentences for whoever runs the server; a key holds nothing secret.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No object has this key.
    #[error("there is no object {key:?} in the storage")]
    NotFound {
        /// The key that was asked for.
        key: String,
    },
    /// No room is left. Nothing was kept of what was being written.
    #[error("the storage is full: free some space or give it more, then try again")]
    Full,
    /// The backend does not answer or answers with an error of its own; the same
    /// call may succeed later.
    #[error("the storage is unavailable (cannot {operation}): {cause}")]
    Unavailable {
        /// What was being done, as a verb with its object.
        operation: &'static str,
        /// What the backend said. It is in the sentence, so it is no source besides.
        cause: io::Error,
    },
    /// The key was written before with another content.
    #[error(
        "the object {key:?} exists with {existing} bytes and cannot become one of {size} bytes"
    )]
    Conflict {
        /// The key.
        key: String,
        /// Bytes that are kept.
        existing: u64,
        /// Bytes that were to be written.
        size: u64,
    },
    /// The object is larger than the caller is ready to take.
    #[error("the object {key:?} has {size} bytes, more than the {max} that may be read at once")]
    TooLarge {
        /// The key.
        key: String,
        /// Its size in bytes.
        size: u64,
        /// What the caller allowed.
        max: u64,
    },
    /// The range does not lie within the object.
    #[error("bytes {start} to {end} do not lie within an object of {size} bytes")]
    InvalidRange {
        /// First byte.
        start: u64,
        /// Behind the last byte.
        end: u64,
        /// Size of the object.
        size: u64,
    },
    /// What is read is not what was written.
    #[error("the storage gave back something else than was written to {key:?}")]
    Mismatch {
        /// The key.
        key: String,
    },
    /// The key is none.
    #[error("{key:?} is no key of an object: {reason}")]
    InvalidKey {
        /// As it was given, cut to a readable length.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The address in the configuration is none. It is not repeated, as it might
    /// carry credentials.
    #[error(
        "the address of the storage is unusable: write file://DIRECTORY or s3://BUCKET[/PREFIX]"
    )]
    InvalidUrl,
}

impl StorageError {
    /// Tells the two causes apart that a person acts upon differently: a full disk
    /// (or an exhausted quota), and everything else.
    pub(crate) fn io(operation: &'static str, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Unavailable { operation, cause },
        }
    }

    /// The backend is at fault, in these words.
    pub(super) fn unavailable(operation: &'static str, why: impl Into<String>) -> Self {
        Self::Unavailable { operation, cause: io::Error::other(why.into()) }
    }

    /// What a copy from the storage to this machine failed with: that of the storage, if it
    /// was the reader's.
    pub(crate) fn of_copy(operation: &'static str, error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(error) => Self::io(operation, error),
        }
    }

    /// As [`StorageError::io`], where a missing file means a missing object.
    pub(crate) fn io_at(operation: &'static str, key: &str, source: io::Error) -> Self {
        match source.kind() {
            // A key that runs through another object (`a/b` where `a` is one)
            // names nothing either.
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory => Self::NotFound { key: key.to_owned() },
            _ => Self::io(operation, source),
        }
    }
}
