//! Local bare repositories: one for each upload, a cache of its stored packs.
//!
//! Every reader of git objects (the check of a push, ingest, the history of a scan)
//! works on such a folder. It may be deleted at any time while nobody uses it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use uuid::Uuid;

use crate::db::uploads::{self, Pack};
use crate::server::App;
use crate::storage::Storage;

/// Where pushes are received. On the file system of the object folders, because a
/// checked pack is renamed from here to there.
pub fn incoming(app: &App) -> PathBuf {
    app.config.data_dir.join("git").join("incoming")
}

fn folder(app: &App, upload_id: Uuid) -> PathBuf {
    app.config.data_dir.join("git").join(format!("{upload_id}.git"))
}

/// The object folder of an upload, with every pack that the database knows of.
pub async fn objects(app: &App, upload_id: Uuid) -> anyhow::Result<PathBuf> {
    let objects = folder(app, upload_id).join("objects");
    let packs = uploads::packs(&app.db, upload_id).await?;
    let dir = objects.clone();
    let missing = tokio::task::spawn_blocking(move || missing(&dir, packs)).await??;
    for pack in missing {
        fetch(&app.storage, &objects, &pack)
            .await
            .with_context(|| format!("cannot bring back the pack {}", pack.name))?;
    }
    Ok(objects)
}

/// The object folder of an upload, made if it is missing, with whatever is in it.
pub async fn objects_root(app: &App, upload_id: Uuid) -> io::Result<PathBuf> {
    let objects = folder(app, upload_id).join("objects");
    tokio::fs::create_dir_all(objects.join("pack")).await?;
    Ok(objects)
}

/// Removes the object folder of an upload that is gone.
pub async fn forget(app: &App, upload_id: Uuid) -> io::Result<()> {
    match tokio::fs::remove_dir_all(folder(app, upload_id)).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn missing(objects: &Path, packs: Vec<Pack>) -> io::Result<Vec<Pack>> {
    fs::create_dir_all(objects.join("pack"))?;
    fs::create_dir_all(objects.join("info"))?;
    let mut missing = Vec::new();
    for pack in packs {
        // A pack is found by its index, which is written last.
        if !file(objects, &pack.name, "idx").try_exists()? {
            missing.push(pack);
        }
    }
    Ok(missing)
}

fn file(objects: &Path, name: &str, extension: &str) -> PathBuf {
    objects.join("pack").join(format!("pack-{name}.{extension}"))
}

/// Brings a pack and then its index from storage: by link where storage is a folder
/// on the same file system, by copy otherwise. Whoever else does the same at the
/// same time writes the same bytes.
async fn fetch(storage: &Storage, objects: &Path, pack: &Pack) -> anyhow::Result<()> {
    for (key, extension) in [(&pack.pack_key, "pack"), (&pack.index_key, "idx")] {
        let target = file(objects, &pack.name, extension);
        if let Some(stored) = storage.local_path(key) {
            let linked = {
                let target = target.clone();
                tokio::task::spawn_blocking(move || fs::hard_link(stored, target)).await?
            };
            match linked {
                Ok(()) => continue,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                // Why it is not there the storage tells.
                Err(_) => {}
            }
        }
        let mut reader = storage.reader(key, None).await?;
        let scratch = target.with_extension(format!("{extension}.{}", Uuid::new_v4().simple()));
        let mut out = tokio::fs::File::create_new(&scratch).await?;
        let copied = async {
            tokio::io::copy(&mut reader, &mut out).await?;
            tokio::io::AsyncWriteExt::flush(&mut out).await?;
            tokio::fs::rename(&scratch, &target).await
        };
        if let Err(error) = copied.await {
            let _ = tokio::fs::remove_file(&scratch).await;
            return Err(error.into());
        }
    }
    Ok(())
}
