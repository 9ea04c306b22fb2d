//! One server a data folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use anyhow::Context as _;

/// Held while a server uses a data folder; the system gives it back when the
/// process ends, however it ends.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Takes the lock.
    ///
    /// # Errors
    ///
    /// If another process holds it.
    pub fn acquire(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => anyhow::bail!(
                "another sluice uses the folder {}: stop it, or set SLUICE_DATA_DIR",
                dir.display()
            ),
            Err(TryLockError::Error(e)) => Err(e).with_context(|| "cannot lock the data folder"),
        }
    }
}
