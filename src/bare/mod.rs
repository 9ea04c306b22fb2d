//! Local bare repositories: one for each upload, a cache of its stored packs.
//!
//! Every reader of git objects (the check of a push, ingest, the history of a scan)
//! works on such a folder and holds it meanwhile ([`Objects`]). What nobody holds may be
//! deleted at any time: where the packs are copies, as with storage in a bucket, those
//! that were not used for longest go when there are too many bytes of them
//! ([`Cache`]). Whoever asks for a folder gets it with every pack that the database
//! knows of, so it does not matter which replica took a push and which one is asked.

mod cache;

use std::fs;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use uuid::Uuid;

use crate::db::uploads::{self, Pack};
use crate::server::App;
use crate::storage::{Storage, StorageError};

pub use cache::Cache;
use cache::Hold;

/// Packs that are brought back at once for one folder.
const AT_ONCE: usize = 8;

/// An object folder that stays as long as this is held.
#[derive(Debug)]
pub struct Objects {
    path: PathBuf,
    hold: Hold,
}

impl Deref for Objects {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl Objects {
    /// Has whoever misses a pack here wait, as long as the answer is kept. None if somebody
    /// brings packs already.
    pub fn build(&self) -> Option<tokio::sync::OwnedMutexGuard<()>> {
        self.hold.building().try_lock_owned().ok()
    }

    /// Notes that a pack was moved in, by its name. Blocks.
    pub fn came(&self, name: &str) {
        let bytes = ["pack", "idx"].map(|extension| file(&self.path, name, extension));
        self.hold.add(bytes.iter().map(|path| cache::counted(path)).sum());
    }
}

/// Where pushes are received. On the file system of the object folders, because a
/// checked pack is renamed from here to there.
pub fn incoming(app: &App) -> PathBuf {
    root(&app.config.data_dir).join("incoming")
}

fn root(data_dir: &Path) -> PathBuf {
    data_dir.join("git")
}

fn folder(root: &Path, upload_id: Uuid) -> PathBuf {
    root.join(format!("{upload_id}.git"))
}

/// The object folder of an upload, which may be missing, with whatever is in it.
pub fn place(app: &App, upload_id: Uuid) -> Objects {
    let path = folder(&root(&app.config.data_dir), upload_id).join("objects");
    Objects { path, hold: app.bare.hold(upload_id) }
}

/// The object folder of an upload, with every pack that the database knows of.
pub async fn objects(app: &App, upload_id: Uuid) -> anyhow::Result<Objects> {
    let objects = place(app, upload_id);
    let packs = uploads::packs(&app.db, upload_id).await?;
    let (dir, copies) = (objects.to_path_buf(), matches!(app.storage, Storage::S3(_)));
    let look = move || {
        fs::create_dir_all(dir.join("pack"))?;
        fs::create_dir_all(dir.join("info"))?;
        // Of two runs of this process, the later one knows by it what was used last.
        if let Some(folder) = dir.parent().filter(|_| copies) {
            fs::File::open(folder)?.set_modified(SystemTime::now())?;
        }
        missing(&dir, packs)
    };
    if tokio::task::spawn_blocking(look.clone()).await??.is_empty() {
        return Ok(objects);
    }
    // Goes on when whoever asked has left: the next one who asks finds more of it.
    let task = build(app.clone(), objects.to_path_buf(), objects.hold.clone(), look);
    tokio::spawn(task).await??;
    Ok(objects)
}

/// Brings what is missing of a folder.
async fn build(
    app: App,
    objects: PathBuf,
    hold: Hold,
    look: impl FnOnce() -> io::Result<Vec<Pack>> + Send + 'static,
) -> anyhow::Result<()> {
    // Of many who miss the same, one brings it.
    let building = hold.building();
    let _one = building.lock().await;
    let missing = tokio::task::spawn_blocking(look).await??;
    let scratch = incoming(&app);
    tokio::fs::create_dir_all(&scratch).await?;
    let bring = missing.into_iter().map(|pack| {
        let (storage, scratch) = (app.storage.clone(), scratch.clone());
        let objects = objects.clone();
        async move {
            fetch(&storage, &scratch, &objects, &pack)
                .await
                .with_context(|| format!("cannot bring back the pack {}", pack.name))
        }
    });
    let brought = futures::stream::iter(bring).buffer_unordered(AT_ONCE).try_collect::<()>().await;
    // What came before one failed counts too.
    tokio::task::spawn_blocking(move || hold.measure()).await?;
    brought
}

/// The object folder of an upload, made if it is missing, with whatever is in it.
pub async fn objects_root(app: &App, upload_id: Uuid) -> io::Result<Objects> {
    let objects = place(app, upload_id);
    tokio::fs::create_dir_all(objects.join("pack")).await?;
    Ok(objects)
}

/// Removes the object folder of an upload that is gone.
pub async fn forget(app: &App, upload_id: Uuid) -> io::Result<()> {
    app.bare.forget(upload_id);
    match tokio::fs::remove_dir_all(folder(&root(&app.config.data_dir), upload_id)).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn missing(objects: &Path, packs: Vec<Pack>) -> io::Result<Vec<Pack>> {
    let mut missing = Vec::new();
    for pack in packs {
        if !is_whole(objects, &pack)? {
            missing.push(pack);
        }
    }
    Ok(missing)
}

/// True if pack and index are there as the database knows them.
fn is_whole(objects: &Path, pack: &Pack) -> io::Result<bool> {
    let size = |extension| match fs::metadata(file(objects, &pack.name, extension)) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    // An index has at least so many bytes for each object, behind a table of 1 KiB.
    let index = 1024 + 28 * pack.objects.unsigned_abs();
    // Most often found missing by its index, which is written last.
    Ok(size("idx")?.is_some_and(|bytes| bytes >= index)
        && size("pack")? == Some(pack.bytes.unsigned_abs()))
}

fn file(objects: &Path, name: &str, extension: &str) -> PathBuf {
    objects.join("pack").join(format!("pack-{name}.{extension}"))
}

/// Brings a pack and then its index from storage: by link where storage is a folder
/// on the same file system, by copy otherwise. Neither has its name before it is whole
/// and on the disk; what a death leaves lies among the quarantines, which are swept.
async fn fetch(
    storage: &Storage,
    scratch: &Path,
    objects: &Path,
    pack: &Pack,
) -> anyhow::Result<()> {
    let parts = [(&pack.pack_key, "pack"), (&pack.index_key, "idx")];
    let scratch = {
        let root = scratch.to_owned();
        let make = move || tempfile::Builder::new().prefix("incoming-").tempdir_in(root);
        tokio::task::spawn_blocking(make).await??
    };
    let mut whole = Vec::new();
    for (key, extension) in parts {
        let target = file(objects, &pack.name, extension);
        let copy = scratch.path().join(extension);
        if let Some(stored) = storage.local_path(key) {
            let to = copy.clone();
            // Of one that is not there the storage tells why.
            if tokio::task::spawn_blocking(move || fs::hard_link(stored, to)).await?.is_ok() {
                whole.push((copy, target));
                continue;
            }
        }
        let mut reader = storage.reader(key, None).await?;
        ensure!(
            extension != "pack" || reader.length() == pack.bytes.unsigned_abs(),
            "it has {} bytes in storage instead of {}",
            reader.length(),
            pack.bytes
        );
        let mut out = tokio::fs::File::create_new(&copy).await?;
        tokio::io::copy(&mut reader, &mut out)
            .await
            .map_err(|error| StorageError::of_copy("bring back a pack", error))?;
        out.sync_all().await?;
        tokio::fs::set_permissions(&copy, fs::Permissions::from_mode(0o444)).await?;
        whole.push((copy, target));
    }
    tokio::task::spawn_blocking(move || {
        for (copy, target) in whole {
            // In place of a half, if there is one; or of the same, which a push has just
            // moved there: equal names mean equal contents.
            fs::rename(copy, target)?;
        }
        drop(scratch);
        anyhow::Ok(())
    })
    .await?
}
