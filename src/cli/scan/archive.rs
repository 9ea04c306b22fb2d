//! A tar archive, plain or compressed with gzip or zstd.
//!
//! The contents are unpacked once into one temporary file without a name, so that
//! nothing in the archive ever becomes a path on disk.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};

use crate::scan::{Cancel, FileEntry, HistoryEntry, Limits, Source, SourceError};

/// Most bytes of all files together.
const MAX_TOTAL: u64 = 16 << 30;

/// Most bytes that one byte of the archive may become, once more than
/// [`FREE`] bytes have come out.
const MAX_RATIO: u64 = 200;

/// Bytes that come out before the ratio counts.
const FREE: u64 = 256 << 20;

/// Longest path, in bytes.
const MAX_PATH: usize = 4096;

/// An unpacked archive.
pub(super) struct Archive {
    spool: Mutex<File>,
    files: Vec<FileEntry>,
}

impl Archive {
    pub(super) fn open(path: &Path, limits: &Limits) -> anyhow::Result<Self> {
        let shown = path.display();
        let mut file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
        let packed = file.metadata().with_context(|| format!("cannot read {shown}"))?.len();
        let mut magic = Vec::new();
        (&mut file)
            .take(262)
            .read_to_end(&mut magic)
            .and_then(|_| file.seek(SeekFrom::Start(0)))
            .with_context(|| format!("cannot read {shown}"))?;
        let file = BufReader::with_capacity(1 << 16, file);
        let reader: Box<dyn Read> = if magic.starts_with(&[0x1f, 0x8b]) {
            Box::new(flate2::read::MultiGzDecoder::new(file))
        } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
            // Frames that need more than 128 MiB of window are refused.
            decoder.window_log_max(27)?;
            Box::new(decoder)
        } else if magic.get(257..262) == Some(b"ustar") {
            Box::new(file)
        } else if magic.starts_with(b"PK\x03\x04") {
            bail!("{shown} is a zip archive, which is not scanned as it is: unpack it first");
        } else {
            bail!(
                "{shown} is neither a folder, a git repository nor a tar archive (plain, gzip \
                 or zstd)"
            );
        };
        let allowed = packed.saturating_mul(MAX_RATIO).clamp(FREE, MAX_TOTAL);
        unpack(reader, allowed, limits).with_context(|| format!("cannot unpack {shown}"))
    }
}

/// Ends the stream with an error once more than the allowed bytes have come out.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other("it becomes far larger than it is and may be a decompression bomb")
        })?;
        Ok(read)
    }
}

fn unpack(reader: Box<dyn Read>, allowed: u64, limits: &Limits) -> anyhow::Result<Archive> {
    let mut archive = tar::Archive::new(Bounded { inner: reader, left: allowed });
    let mut spool = tempfile::tempfile().context("cannot make a temporary file")?;
    let mut files = Vec::new();
    let mut offset = 0u64;
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let Some(path) = clean(&entry.path_bytes()) else {
            continue;
        };
        if limits.max_files != 0 && files.len() as u64 >= limits.max_files {
            bail!("it has more than {} files", limits.max_files);
        }
        let size = entry.size();
        // The driver leaves larger files out, so their bytes need no room.
        if limits.max_file_bytes == 0 || size <= limits.max_file_bytes {
            let written = io::copy(&mut entry, &mut spool)?;
            files.push(FileEntry {
                path,
                size: written,
                blob: name(files.len()),
                position: offset,
            });
            offset += written;
        } else {
            files.push(FileEntry { path, size, blob: name(files.len()), position: offset });
        }
    }
    spool.flush()?;
    Ok(Archive { spool: Mutex::new(spool), files })
}

/// Nothing is kept between local scans, so that a number will do.
fn name(n: usize) -> String {
    format!("{n:040x}")
}

/// The path as it is shown, without `.` and empty components; `None` for one that
/// leads out of the archive or is too long.
fn clean(path: &[u8]) -> Option<String> {
    if path.len() > MAX_PATH {
        return None;
    }
    let path = String::from_utf8_lossy(path);
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part => parts.push(part),
        }
    }
    (!parts.is_empty() && !parts.contains(&".git")).then(|| parts.join("/"))
}

impl Source for Archive {
    fn files(&self) -> Result<Vec<FileEntry>, SourceError> {
        Ok(self.files.clone())
    }

    fn read(&self, entry: &FileEntry) -> Result<Vec<u8>, SourceError> {
        let mut bytes = Vec::new();
        let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        spool
            .seek(SeekFrom::Start(entry.position))
            .and_then(|_| (&mut *spool).take(entry.size).read_to_end(&mut bytes))
            .map_err(|e| SourceError(format!("{} cannot be read back: {e}", entry.path)))?;
        Ok(bytes)
    }

    fn history(&self, _: &Cancel) -> Result<Vec<HistoryEntry>, SourceError> {
        Ok(Vec::new())
    }

    fn read_history(&self, entry: &HistoryEntry) -> Result<Vec<u8>, SourceError> {
        Err(SourceError(format!("an archive has no history to read {} from", entry.path)))
    }
}
