//! Files that are replaced as a whole: `<file>.lock` is created, written, and renamed.
//!
//! Git does the same, so it and we keep out of each other's way. A lock that is dropped leaves
//! nothing.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Nobody else writes the file.
pub struct Lock {
    target: PathBuf,
    path: PathBuf,
    file: File,
    /// Folders above the file are removed up to here if they are empty.
    floor: PathBuf,
    done: bool,
}

impl Lock {
    /// Locks `floor/below`, making the folders in between, and waits so long for somebody else.
    ///
    /// [`io::ErrorKind::NotADirectory`] means that a file stands where a folder has to be.
    pub fn acquire(floor: &Path, below: &str, patience: Duration) -> io::Result<Self> {
        let target = floor.join(below);
        let path = floor.join(format!("{below}.lock"));
        let begun = Instant::now();
        loop {
            let folder = target.parent().unwrap_or(floor);
            let created = match fs::create_dir_all(folder) {
                // A file is in the way.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => OpenOptions::new().write(true).create_new(true).open(&path),
            };
            match created {
                Ok(file) => {
                    return Ok(Self { target, path, file, floor: floor.to_owned(), done: false });
                }
                // Locked by somebody, or the folder was empty and somebody has removed it.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
                    ) && begun.elapsed() < patience =>
                {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes what the file will hold, durably.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_all()
    }

    /// Puts what was written in the place of the file.
    pub fn commit(mut self) -> io::Result<()> {
        let renamed = fs::rename(&self.path, &self.target).or_else(|error| {
            // Folders that git left empty may stand there.
            if !self.target.is_dir() {
                return Err(error);
            }
            remove_empty(&self.target)?;
            fs::rename(&self.path, &self.target)
        });
        self.done = renamed.is_ok();
        renamed
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.path);
            prune(&self.target, &self.floor);
        }
    }
}

/// Removes the folders above a file that is gone, as far as they are empty and below `floor`. The
/// folders right below `refs` and `logs` stay, as with git.
pub fn prune(file: &Path, floor: &Path) {
    for folder in file.ancestors().skip(1) {
        let depth = folder.strip_prefix(floor).map_or(0, |rest| rest.components().count());
        let keep = if folder.starts_with(floor.join("logs")) { 3 } else { 2 };
        if depth <= keep || fs::remove_dir(folder).is_err() {
            return;
        }
    }
}

/// Removes a folder that holds nothing but such folders.
pub fn remove_empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        remove_empty(&entry.path())?;
    }
    fs::remove_dir(folder)
}
