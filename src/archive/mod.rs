//! Source code that comes as an archive: zip, tar, and tar in gzip, zstd, xz or
//! bzip2, told by content and never by name.
//!
//! An archive is walked, never unpacked: no name in it ever becomes a path on disk.
//! [`import()`] turns it into git objects in a folder that the caller throws away, one
//! deterministic commit on top; ingest, snapshot and scan work on these as on a push.
//! (To write a snapshot directly would need a second writer with the same order,
//! deduplication and frames. The detour costs a fast deflate and a read, and gives
//! blobs the ids that git gives them: results of a scan are kept by these, so the next
//! archive of the same project costs what changed, and so does a move to `git push`.)
//!
//! # What holds
//!
//! - **Everything is hostile.** Numbers in headers are compared with limits before
//!   they are believed, and with the bytes afterwards. Two places that say different
//!   things about one entry are a refusal, not a choice: who exploits archives lives
//!   from readers that choose differently.
//! - **Memory** is what the list of entries takes (about 250 bytes each) plus one
//!   decoder's window, at most [`MAX_WINDOW`]; files are streamed.
//! - **Time**: decoders stop at the limit of bytes, of the ratio, of time, or when the
//!   job is cancelled, whichever is first.
//! - All of it blocks; it runs on threads that may.
//!
//! # Refused, reported, kept
//!
//! As with a push: refused is what cannot be kept faithfully or breaks out of a
//! folder, reported ([`Note`]) is what only some systems misread.
//!
//! | in the archive | outcome |
//! |---|---|
//! | `..`, a leading `/`, `C:\`, `\\server`, NUL in a name | refused |
//! | backslashes | in a zip folders, as old Windows tools meant them; in a tar part of the name |
//! | two files of one path | refused, unless they are equal |
//! | a file below a file or a link | refused |
//! | symbolic links | kept as links, never followed; those that lead out are reported |
//! | hard links | the file of that name before it, or refused |
//! | devices, pipes, sockets | left out and reported: they hold no source |
//! | names reserved by Windows, names that fold together, names that are no UTF-8 | kept and reported |
//! | sizes that lie, overlaps, checksums that differ, sparse files, several volumes, encryption | refused |
//! | one folder around everything | taken off, as the archives of GitHub have it |
//! | `.git` at the top or below that one folder | its history, see [`history`] |
//! | other `.git` folders | left out and reported |
//! | archives in an archive | kept as the files that they are |
//!
//! Formats: [APPNOTE](https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT) of
//! PKWARE for zip, [pax](https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html)
//! of POSIX and the [GNU manual](https://www.gnu.org/software/tar/manual/html_node/Standard.html)
//! for tar.

mod budget;
mod collect;
mod form;
pub mod history;
mod pack;
mod path;
mod stream;
mod tar;
#[cfg(test)]
mod tests;
mod zip;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gix_hash::ObjectId;

pub use form::{Form, SNIFF, sniff};
pub use history::History;

use crate::scan::Cancel;
use budget::Budget;

/// Largest window that a decoder may ask for, in bytes: what `zstd --long` and
/// `xz -9` need, with room.
pub const MAX_WINDOW: u64 = 160 << 20;

/// Bounds of an archive.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of all contents together.
    pub total_bytes: u64,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Entries of all kinds.
    pub entries: u64,
    /// Bytes that one byte of the archive may become on average, once there are more
    /// than `free_bytes`. Source code stays below 20; the formats allow a thousand
    /// and more.
    pub ratio: u64,
    /// Bytes that come out before the ratio counts.
    pub free_bytes: u64,
    /// Folders within folders.
    pub depth: usize,
    /// Bytes of a path.
    pub path: usize,
    /// From the first byte to the last.
    pub time: Duration,
    /// Limits of the packs of a `.git`.
    pub packs: sluice_git::firewall::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            total_bytes: 16 << 30,
            file_bytes: 512 << 20,
            entries: 1_000_000,
            ratio: 100,
            free_bytes: 256 << 20,
            depth: 128,
            path: 4096,
            time: Duration::from_hours(1),
            packs: sluice_git::firewall::Limits::default(),
        }
    }
}

/// Why an archive is not taken. The code is stable; the sentence is for whoever made
/// the archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive is at fault.
    #[error("{message}")]
    Refused {
        /// A stable word.
        code: &'static str,
        /// A sentence.
        message: String,
    },
    /// The packs of its `.git` go beyond a limit.
    #[error("{message}")]
    Packs {
        /// The limit, by the name of its field in [`sluice_git::firewall::Limits`].
        limit: &'static str,
        /// A sentence.
        message: String,
    },
    /// The job was cancelled.
    #[error("the job was cancelled")]
    Cancelled,
    /// A disk failed, not the archive.
    #[error("the archive cannot be read or its contents not be written: {0}")]
    Io(io::Error),
}

impl ArchiveError {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self::Refused { code, message: message.into() }
    }

    fn damaged(what: impl std::fmt::Display) -> Self {
        Self::new("damaged_archive", format!("the archive is damaged or cut off: {what}"))
    }

    fn lying(what: impl std::fmt::Display) -> Self {
        Self::new("inconsistent_archive", format!("the archive contradicts itself: {what}"))
    }

    /// A stable word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Packs { .. } => "bad_history",
            Self::Cancelled => "cancelled",
            Self::Io(error) if error.kind() == io::ErrorKind::StorageFull => "storage_full",
            Self::Io(_) => "storage_unavailable",
        }
    }

    /// True if the same archive may be taken later, unchanged.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Io(_))
    }

    /// An error that came out of a chain of decoders over the archive: ours, the
    /// disk's, or that of a decoder that met damage.
    fn reading(error: io::Error, name: &[u8]) -> Self {
        if error.get_ref().is_some_and(|inner| inner.is::<Self>()) {
            return match error.into_inner().map(|inner| inner.downcast::<Self>()) {
                Some(Ok(own)) => *own,
                _ => Self::damaged("it cannot be read"),
            };
        }
        if error.raw_os_error().is_some() {
            return Self::Io(error);
        }
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it ends too soon".to_owned(),
            _ => error.to_string(),
        };
        if name.is_empty() {
            Self::damaged(reason)
        } else {
            Self::damaged(format!("{} cannot be read: {reason}", path::shown(name)))
        }
    }
}

impl From<ArchiveError> for io::Error {
    fn from(error: ArchiveError) -> Self {
        Self::other(error)
    }
}

/// Something odd that was accepted or left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// A stable word.
    pub code: &'static str,
    /// A sentence.
    pub message: String,
    /// How often.
    pub count: u64,
    /// The first few places, lossy.
    pub paths: Vec<String>,
}

/// So many places of one kind are named.
const NAMED: usize = 20;

/// Collects notes; equal ones are counted.
#[derive(Debug, Default)]
struct Notes(BTreeMap<&'static str, Note>);

impl Notes {
    fn add(&mut self, code: &'static str, message: &str, path: &[u8]) {
        let note = self.0.entry(code).or_insert_with(|| Note {
            code,
            message: message.to_owned(),
            count: 0,
            paths: Vec::new(),
        });
        note.count += 1;
        if note.paths.len() < NAMED && !path.is_empty() {
            note.paths.push(path::shown(path));
        }
    }
}

/// What a walk tells. Paths are clean: relative, with `/` between components, none of
/// them empty, `.` or `..`.
trait Sink {
    /// A file of exactly `size` bytes. What is not read of it is skipped.
    fn file(
        &mut self,
        path: &[u8],
        executable: bool,
        size: u64,
        content: &mut dyn io::Read,
    ) -> Result<(), ArchiveError>;
    /// A symbolic link and where it points.
    fn symlink(&mut self, path: &[u8], target: &[u8]) -> Result<(), ArchiveError>;
    /// Another name of a file.
    fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), ArchiveError>;
    /// A folder.
    fn folder(&mut self, path: &[u8]) -> Result<(), ArchiveError>;
    /// The commit that the archive says it was made of.
    fn commit(&mut self, id: &str);
    /// Something odd.
    fn note(&mut self, code: &'static str, message: &str, path: &[u8]);
}

/// What became of an archive.
#[derive(Debug)]
pub struct Imported {
    /// A folder of git objects below the scratch folder.
    pub objects: PathBuf,
    /// The commit to ingest: that of `HEAD`, or one that stands for the archive.
    pub head: ObjectId,
    /// The commit that may be shown: that of `HEAD`, or the one that the archive says
    /// it was made of. `None` for a plain archive.
    pub commit: Option<String>,
    /// What a `.git` in the archive gave.
    pub history: Option<History>,
    /// What is odd about it.
    pub notes: Vec<Note>,
    /// Files and links, before those of the history take their place.
    pub files: u64,
}

/// Reads the archive at `file` into git objects below `scratch`, an empty folder of
/// the caller's, to be removed by it.
pub fn import(
    file: &Path,
    scratch: &Path,
    limits: &Limits,
    cancel: &Cancel,
) -> Result<Imported, ArchiveError> {
    let file = File::open(file).map_err(ArchiveError::Io)?;
    let packed = file.metadata().map_err(ArchiveError::Io)?.len();
    let budget = Budget::new(limits, packed, cancel);
    let mut collector = collect::Collector::new(scratch, &budget)?;
    walk(&file, packed, &budget, &mut collector)?;
    collector.finish()
}

fn walk(
    file: &File,
    packed: u64,
    budget: &Budget<'_>,
    sink: &mut dyn Sink,
) -> Result<(), ArchiveError> {
    let head = stream::head(file)?;
    match sniff(&head)? {
        Form::Zip => zip::walk(file, packed, budget, sink),
        Form::Tar => tar::walk(&mut stream::plain(file, budget)?, budget, sink),
        form => {
            let mut reader = stream::decoded(file, form, budget)?;
            tar::walk(&mut reader, budget, sink)
        }
    }
}
