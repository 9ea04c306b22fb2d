//! `sluice backup DIR` and `sluice restore DIR`, for the embedded run.
//!
//! A backup is taken while the server serves. The database is copied first, as it is
//! at one moment; then every object that the copy refers to. Objects never change and
//! are stored before the row that refers to them, so all of them are there already:
//! whatever was acknowledged before the backup began is in it, and whatever comes
//! later is in it whole or not at all. Only a deletion, or an ingest that ends with its
//! archive, can take an object away before it is copied; then the database is copied
//! anew.
//!
//! # The folder
//!
//! | name | what |
//! |---|---|
//! | `sluice.db` | the database |
//! | `objects/` | stored objects by their keys; on the same file system these are links |
//! | `jwt.key` | the signing secret, unless it is configured |
//! | `SHA256SUMS` | of all of these, for `sha256sum -c` too |
//! | `manifest.json` | versions and the sum of `SHA256SUMS`; written last |
//!
//! Without `manifest.json` a backup is not complete and is never restored. A restore
//! checks every sum, builds the data folder beside its place and moves it there at
//! the end; it touches no folder that holds anything.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::api::time::Time;
use crate::config::Config;
use crate::db::{self, Db, backup, uploads};
use crate::snapshot::Snapshot;
use crate::storage::{MAX_PAGE, Storage};

/// Flags of `sluice backup` and `sluice restore`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Folder of the backup
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

const FORMAT: u32 = 1;
const DATABASE: &str = "sluice.db";
const SECRET: &str = "jwt.key";
const OBJECTS: &str = "objects";
const SUMS: &str = "SHA256SUMS";
const MANIFEST: &str = "manifest.json";

/// Copies of the database until deletions must have come to rest.
const TRIES: u32 = 5;

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// Of the program.
    version: String,
    /// Of the database.
    schema: i64,
    created_at: String,
    objects: u64,
    bytes: u64,
    /// `file`: in the backup; `configured`: wherever the operator keeps it.
    secret: String,
    /// SHA-256 of `SHA256SUMS`.
    sums: String,
}

fn embedded(config: &Config) -> anyhow::Result<()> {
    ensure!(
        config.database_url.starts_with("sqlite:") && config.storage.starts_with("file://"),
        "backup and restore are for the embedded run (SQLite and a folder). Elsewhere copy the \
         database first (pg_dump, or `.backup` of sqlite3) and the storage after it (`aws s3 \
         sync`, or versions of the bucket): every object that the database names is there by then"
    );
    Ok(())
}

fn private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn is_empty(dir: &Path) -> io::Result<bool> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Takes a backup.
pub async fn backup(config: &Config, args: BackupArgs) -> anyhow::Result<ExitCode> {
    embedded(config)?;
    let dir = std::path::absolute(&args.dir)?;
    ensure!(is_empty(&dir)?, "{} is not empty: name a new folder", dir.display());
    private_dir(&dir)
        // One that was there may be open to others, and the copy holds everything.
        .and_then(|()| fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("cannot make {}", dir.display()))?;
    let storage = Storage::open(&config.storage).await.context("SLUICE_STORAGE")?;

    let mut tries = 0;
    let (schema, keys) = loop {
        tries += 1;
        let database = dir.join(DATABASE);
        remove_database(&database)?;
        backup::copy(&config.database_url, &database)
            .await
            .with_context(|| format!("cannot copy the database {}", config.database_url))?;
        let schema = backup::schema(&url(&database)).await?;
        match objects(&storage, &dir).await? {
            Ok(keys) => break (schema, keys),
            Err(missing) if tries < TRIES => {
                eprintln!("{missing} was deleted meanwhile: the database is copied again");
            }
            Err(missing) => bail!("{missing} is missing in storage, so there is no whole backup"),
        }
    };
    // What only an earlier try referred to.
    let copied = dir.join(OBJECTS);
    let kept: BTreeSet<PathBuf> = keys.iter().map(|key| copied.join(key)).collect();
    for path in files(&copied)? {
        if !kept.contains(&path) {
            fs::remove_file(path)?;
        }
    }
    let secret = config.data_dir.join(SECRET);
    let in_file = config.jwt_secret.is_none() && secret.exists();
    if in_file {
        let mut out =
            File::options().write(true).create_new(true).mode(0o600).open(dir.join(SECRET))?;
        io::copy(&mut File::open(secret)?, &mut out)?;
        out.sync_all()?;
    }

    let (manifest, dir) = tokio::task::spawn_blocking(move || {
        finish(&dir, schema, if in_file { "file" } else { "configured" })
            .map(|manifest| (manifest, dir))
    })
    .await??;
    println!(
        "backed up the database and {} objects ({} bytes) to {}",
        manifest.objects,
        manifest.bytes,
        dir.display()
    );
    if !in_file {
        println!("the signing secret is configured and not in the backup: keep it beside it");
    }
    Ok(ExitCode::SUCCESS)
}

fn url(database: &Path) -> String {
    format!("sqlite://{}", database.display())
}

fn remove_database(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Copies every object that the copied database refers to, and checks that all are
/// there; the inner error names one that is not.
async fn objects(storage: &Storage, dir: &Path) -> anyhow::Result<Result<Vec<String>, String>> {
    let database = Db::open(&url(&dir.join(DATABASE))).await?;
    let referred = backup::referred(&database).await;
    database.close().await;
    let referred = referred?;

    // 1. What is referred to by its key, and what belongs to rows by its prefix.
    let mut keys = BTreeSet::new();
    let mut prefixes = BTreeSet::new();
    for (pack, index, _) in &referred.packs {
        keys.extend([pack.clone(), index.clone()]);
    }
    keys.extend(referred.artifacts.iter().map(|(key, ..)| key.clone()));
    keys.extend(referred.archives.iter().cloned());
    for (manifest,) in &referred.snapshots {
        keys.insert(manifest.clone());
        if let Some(folder) = manifest.strip_suffix("manifest") {
            prefixes.insert(folder.to_owned());
        }
    }
    prefixes.extend(referred.uploads.iter().map(|(id,)| uploads::storage_prefix(*id)));
    prefixes.extend(referred.repositories.iter().map(|(id,)| format!("archives/{id}/")));
    for prefix in prefixes {
        let mut after = None;
        loop {
            let page = storage.list(&prefix, after.as_deref(), MAX_PAGE).await?;
            // A pack that no row refers to belongs to a push that is not acknowledged.
            keys.extend(page.items.into_iter().map(|object| object.key).filter(|key| {
                !key.rsplit('/').next().is_some_and(|name| name.starts_with("pack-"))
            }));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
    }

    // 2. The objects.
    let target = dir.join(OBJECTS);
    private_dir(&target)?;
    for key in &keys {
        let to = target.join(key);
        if !to.exists() && !bring(storage, key, &to).await? {
            return Ok(Err(key.clone()));
        }
    }

    // 3. Sizes as the database has them, and snapshots that open with all their parts.
    for (key, size) in referred
        .packs
        .iter()
        .map(|(key, _, size)| (key, size))
        .chain(referred.artifacts.iter().map(|(key, _, size)| (key, size)))
    {
        let found = fs::metadata(target.join(key))?.len();
        ensure!(found == size.unsigned_abs(), "{key} has {found} bytes instead of {size}");
    }
    for (key, sha256, _) in &referred.artifacts {
        let path = target.join(key);
        let found = tokio::task::spawn_blocking(move || hash(&path)).await??.0;
        ensure!(found == *sha256, "{key} is not what the scan wrote");
    }
    let copy = Storage::open(&format!("file://{}", target.display())).await?;
    for (manifest,) in &referred.snapshots {
        if let Err(error) = Snapshot::open(&copy, manifest).await {
            tracing::debug!("{error}");
            return Ok(Err(manifest.clone()));
        }
    }
    drop(copy);
    fs::remove_dir_all(target.join("tmp"))?;
    Ok(Ok(keys.into_iter().collect()))
}

/// Links or copies an object; false if it is not there.
async fn bring(storage: &Storage, key: &str, to: &Path) -> anyhow::Result<bool> {
    private_dir(to.parent().unwrap_or(to))?;
    if let Some(path) = storage.local_path(key) {
        match fs::hard_link(path, to) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            // Another file system, or one without links.
            Err(_) => {}
        }
    }
    if !storage.exists(key).await? {
        return Ok(false);
    }
    let mut reader = storage.reader(key, None).await?;
    let mut out = tokio::fs::File::create(to).await?;
    tokio::io::copy(&mut reader, &mut out).await?;
    out.sync_all().await?;
    Ok(true)
}

/// All plain files below a folder.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// SHA-256 in hex, and bytes.
fn hash(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let bytes = io::copy(&mut file, &mut hash)?;
    Ok((format!("{:x}", hash.finalize()), bytes))
}

/// Writes the sums and then the manifest, which makes the backup whole.
fn finish(dir: &Path, schema: i64, secret: &str) -> anyhow::Result<Manifest> {
    let mut sums = String::new();
    let (mut objects, mut bytes) = (0, 0);
    for path in files(dir)? {
        let name = path.strip_prefix(dir)?.to_str().context("a name that is no UTF-8")?;
        let (sum, size) = hash(&path)?;
        writeln!(sums, "{sum}  {name}")?;
        if name.starts_with(OBJECTS) {
            objects += 1;
            bytes += size;
        }
    }
    write(&dir.join(SUMS), sums.as_bytes())?;
    let manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        schema,
        created_at: Time(db::now()).to_string(),
        objects,
        bytes,
        secret: secret.to_owned(),
        sums: format!("{:x}", Sha256::digest(sums.as_bytes())),
    };
    File::open(dir.join(DATABASE))?.sync_all()?;
    for path in files(dir)? {
        // Names, not contents: those are synced where they were written.
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
    }
    let scratch = dir.join(".manifest.json");
    write(&scratch, &serde_json::to_vec_pretty(&manifest)?)?;
    fs::rename(&scratch, dir.join(MANIFEST))?;
    File::open(dir)?.sync_all()?;
    Ok(manifest)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Restores a backup into an empty data folder.
pub async fn restore(config: &Config, args: BackupArgs) -> anyhow::Result<ExitCode> {
    embedded(config)?;
    let data = config.data_dir.clone();
    ensure!(
        config.database_url == db::sqlite_url(&data)
            && config.storage == format!("file://{}", data.join(OBJECTS).display()),
        "a restore fills SLUICE_DATA_DIR: leave SLUICE_DATABASE_URL and SLUICE_STORAGE out for it"
    );
    ensure!(
        is_empty(&data)?,
        "the data folder {} is not empty: a restore replaces nothing",
        data.display()
    );
    let dir = args.dir;
    let from = dir.clone();
    let place = data.clone();
    let (staging, manifest) = tokio::task::spawn_blocking(move || stage(&from, &place)).await??;
    let opened = backup::schema(&url(&staging.join(DATABASE))).await;
    let checked = opened.map_err(anyhow::Error::from).and_then(|schema| {
        ensure!(schema == manifest.schema, "the database is not that of the manifest");
        if data.exists() {
            // It is empty; a folder that got something meanwhile is left alone.
            fs::remove_dir(&data)?;
        }
        fs::rename(&staging, &data)?;
        if let Some(parent) = data.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    });
    if let Err(error) = checked {
        let _ = fs::remove_dir_all(&staging);
        return Err(error);
    }
    println!(
        "restored the backup of {} with {} objects to {}",
        manifest.created_at,
        manifest.objects,
        data.display()
    );
    if manifest.secret != "file" {
        println!("set SLUICE_JWT_SECRET to the secret of the backed up server");
    }
    Ok(ExitCode::SUCCESS)
}

/// Copies and checks everything into a folder beside the data folder.
fn stage(dir: &Path, data: &Path) -> anyhow::Result<(PathBuf, Manifest)> {
    // 1. Is it whole, and of a version that can be read?
    let text = match fs::read(dir.join(MANIFEST)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("{} is no complete backup: it has no {MANIFEST}", dir.display())
        }
        Err(error) => return Err(error).context(format!("cannot read {}", dir.display())),
    };
    let manifest: Manifest = serde_json::from_slice(&text)
        .with_context(|| format!("{MANIFEST} is not one of sluice"))?;
    ensure!(
        manifest.format == FORMAT && manifest.schema <= backup::newest_schema(),
        "the backup was made by sluice {}, which is newer than this one: restore it with that",
        manifest.version
    );
    let sums = fs::read_to_string(dir.join(SUMS)).with_context(|| format!("cannot read {SUMS}"))?;
    ensure!(
        format!("{:x}", Sha256::digest(sums.as_bytes())) == manifest.sums,
        "{SUMS} is damaged: the backup cannot be trusted"
    );

    // 2. Every file, checked on its way.
    let parent = data.parent().context("the data folder has no parent")?;
    private_dir(parent)?;
    let staging = tempfile::Builder::new().prefix(".sluice-restore-").tempdir_in(parent)?;
    for line in sums.lines() {
        let (sum, name) = line.split_once("  ").context("SHA256SUMS has a line that is none")?;
        let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        ensure!(plain, "{name:?} is no name of a backup");
        let to = staging.path().join(name);
        private_dir(to.parent().unwrap_or(&to))?;
        ensure!(copy(&dir.join(name), &to)? == sum, "{name} is damaged");
    }
    for path in files(staging.path())? {
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
    }
    Ok((staging.keep(), manifest))
}

/// Copies a file durably; answers the SHA-256 of what was copied.
fn copy(from: &Path, to: &Path) -> anyhow::Result<String> {
    let mut file = File::open(from).with_context(|| format!("{} is missing", from.display()))?;
    let mut out = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hash.update(bytes);
        out.write_all(bytes)?;
    }
    out.sync_all()?;
    Ok(format!("{:x}", hash.finalize()))
}
