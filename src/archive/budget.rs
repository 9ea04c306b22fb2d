//! What reading an archive may cost.

use std::cell::Cell;
use std::io::{self, Read};
use std::time::Instant;

use super::{ArchiveError, Limits};
use crate::scan::Cancel;

/// Counts what came out of the decoders of one archive.
pub(super) struct Budget<'a> {
    pub(super) limits: &'a Limits,
    pub(super) cancel: &'a Cancel,
    started: Instant,
    allowed: u64,
    used: Cell<u64>,
    entries: Cell<u64>,
}

impl<'a> Budget<'a> {
    pub(super) fn new(limits: &'a Limits, packed: u64, cancel: &'a Cancel) -> Self {
        let by_ratio = packed.saturating_mul(limits.ratio).max(limits.free_bytes);
        Self {
            limits,
            cancel,
            started: Instant::now(),
            allowed: by_ratio.min(limits.total_bytes),
            used: Cell::new(0),
            entries: Cell::new(0),
        }
    }

    /// So many bytes came out.
    pub(super) fn spend(&self, bytes: u64) -> Result<(), ArchiveError> {
        self.used.set(self.used.get().saturating_add(bytes));
        self.announce(0)?;
        self.alive()
    }

    /// So many bytes are said to come.
    pub(super) fn announce(&self, bytes: u64) -> Result<(), ArchiveError> {
        if self.used.get().saturating_add(bytes) <= self.allowed {
            return Ok(());
        }
        Err(if self.allowed == self.limits.total_bytes {
            ArchiveError::new(
                "archive_too_large",
                format!(
                    "the contents of the archive exceed {} bytes, the limit for one archive",
                    self.limits.total_bytes
                ),
            )
        } else {
            ArchiveError::new(
                "archive_bomb",
                format!(
                    "the archive becomes more than {} times larger than it is, which source \
                     code does not: it looks like a decompression bomb",
                    self.limits.ratio
                ),
            )
        })
    }

    /// One file of so many bytes is said to come.
    pub(super) fn file(&self, name: &[u8], bytes: u64) -> Result<(), ArchiveError> {
        if bytes > self.limits.file_bytes {
            return Err(ArchiveError::new(
                "file_too_large",
                format!(
                    "{} has {bytes} bytes, more than the {} that one file may have",
                    super::path::shown(name),
                    self.limits.file_bytes
                ),
            ));
        }
        Ok(())
    }

    /// One more entry, of whatever kind.
    pub(super) fn entry(&self) -> Result<(), ArchiveError> {
        self.entries.set(self.entries.get() + 1);
        if self.entries.get() > self.limits.entries {
            return Err(ArchiveError::new(
                "too_many_files",
                format!(
                    "the archive has more than {} entries, the limit for one archive",
                    self.limits.entries
                ),
            ));
        }
        Ok(())
    }

    /// Whether anybody waits for the outcome, and still may.
    pub(super) fn alive(&self) -> Result<(), ArchiveError> {
        if self.cancel.is_cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        if self.started.elapsed() > self.limits.time {
            return Err(ArchiveError::new(
                "archive_too_slow",
                format!(
                    "reading the archive took more than {} seconds",
                    self.limits.time.as_secs()
                ),
            ));
        }
        Ok(())
    }
}

/// A decoder whose output is counted.
pub(super) struct Metered<'a, R> {
    pub(super) inner: R,
    pub(super) budget: &'a Budget<'a>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.budget.spend(read as u64)?;
        Ok(read)
    }
}
