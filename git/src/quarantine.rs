//! A private place for a pack until it is known to be good.
//!
//! Each push gets a directory of its own, `incoming-*`, laid out like a git object directory whose
//! `info/alternates` names the repository's real objects: from inside, old and new objects are both
//! visible; from outside, nothing of the push is. Dropping the [`Quarantine`] removes everything,
//! so a refusal, a client that disconnects and a panic all end the same way; what a killed process
//! leaves behind is removed by [`sweep`] at the next start.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use gix_hash::ObjectId;

const PREFIX: &str = "incoming-";

/// A directory that disappears unless it is published.
#[derive(Debug)]
pub struct Quarantine {
    directory: tempfile::TempDir,
}

impl Quarantine {
    /// Makes a new quarantine below `root`, which is created if it is missing, for a push to the
    /// repository whose objects are in `objects`.
    pub fn create(root: &Path, objects: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let objects = objects.canonicalize()?;
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(root)?;
        fs::create_dir(directory.path().join("pack"))?;
        fs::create_dir(directory.path().join("info"))?;
        let mut alternates = objects.into_os_string().into_encoded_bytes();
        if alternates.contains(&b'\n') {
            return Err(io::Error::other("the path of the repository contains a newline"));
        }
        alternates.push(b'\n');
        fs::write(directory.path().join("info/alternates"), alternates)?;
        Ok(Self { directory })
    }

    /// The directory, to be opened as an object store that sees the repository's objects too.
    pub fn objects(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn packs(&self) -> PathBuf {
        self.directory.path().join("pack")
    }
}

/// A pack that was received, indexed and checked, and is still in quarantine.
#[derive(Debug)]
pub struct QuarantinedPack {
    pub(crate) quarantine: Quarantine,
    pub(crate) pack: PathBuf,
    pub(crate) index: PathBuf,
    /// The checksum that names the pack: its files are `pack-<name>.pack` and `.idx`.
    pub name: ObjectId,
    /// Size of the `.pack` file in bytes, completed bases included.
    pub bytes: u64,
    /// Objects in the pack, completed bases included.
    pub objects: u32,
    /// Bytes of all entries after inflating, deltas counted as deltas.
    pub inflated_bytes: u64,
}

impl QuarantinedPack {
    /// Where the `.pack` file is now.
    pub fn pack_path(&self) -> &Path {
        &self.pack
    }

    /// Where the `.idx` file is now.
    pub fn index_path(&self) -> &Path {
        &self.index
    }

    /// An object directory that sees this pack and everything of the repository, for a closer look
    /// before the push is accepted.
    pub fn objects_dir(&self) -> &Path {
        self.quarantine.objects()
    }

    /// Brings the bytes of both files to the disk. Blocking.
    pub fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.pack)?.sync_all()?;
        fs::File::open(&self.index)?.sync_all()
    }

    /// Moves the pack into `objects`, where readers find it, durably. Blocking.
    ///
    /// The files are synced first; the index goes last, because readers find a pack by its index.
    /// To publish what is there already is no error: equal names mean equal contents.
    pub fn publish(self, objects: &Path) -> io::Result<()> {
        self.sync()?;
        let packs = self.keep(objects)?;
        fs::File::open(&packs)?.sync_all()
    }

    /// Moves the pack into `objects` as [`QuarantinedPack::publish`] does, for a folder that is a
    /// mere cache: nothing is synced, so after a power cut the files may be missing or, unless
    /// their bytes were synced before, damaged. Returns the folder that they lie in. Blocking.
    pub fn keep(self, objects: &Path) -> io::Result<PathBuf> {
        let packs = objects.join("pack");
        fs::create_dir_all(&packs)?;
        for (from, extension) in [(&self.pack, "pack"), (&self.index, "idx")] {
            // As git has them: what may be read is for the folder to say.
            fs::set_permissions(from, fs::Permissions::from_mode(0o444))?;
            fs::rename(from, packs.join(format!("pack-{}.{extension}", self.name)))?;
        }
        Ok(packs)
    }
}

/// Removes the quarantines that a process left behind when it was killed, and says how many.
/// To be called before the first push is served, since nothing tells a dead quarantine from a
/// living one. Blocking.
pub fn sweep(root: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_quarantine_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let objects = root.path().join("objects");
        fs::create_dir(&objects).unwrap();
        let quarantine = Quarantine::create(&root.path().join("q"), &objects).unwrap();
        fs::write(quarantine.packs().join("half.pack"), b"PACK").unwrap();
        drop(quarantine);
        assert_eq!(fs::read_dir(root.path().join("q")).unwrap().count(), 0);
    }

    #[test]
    fn a_sweep_removes_quarantines_only() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(sweep(&root.path().join("missing")).unwrap(), 0);
        let quarantine = Quarantine::create(root.path(), root.path()).unwrap();
        let _left = quarantine.directory.keep();
        fs::create_dir(root.path().join("other")).unwrap();
        assert_eq!(sweep(root.path()).unwrap(), 1);
        assert!(root.path().join("other").is_dir());
    }
}
