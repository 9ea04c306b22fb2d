//! What backup and restore ask of the embedded database.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::types::Json;
use sqlx::{Connection as _, Executor as _};
use uuid::Uuid;

use super::repositories::ArchiveCame;
use super::{Db, DbError, Result, args, statements};

statements! {
    PACKS = "SELECT pack_key, index_key, bytes FROM upload_packs";
    ARTIFACTS = "SELECT storage_key, sha256, size FROM scan_artifacts";
    SNAPSHOTS = "SELECT manifest_key FROM snapshots";
    UPLOADS = "SELECT id FROM git_uploads";
    REPOSITORIES = "SELECT id FROM repositories";
    INGESTS = "SELECT payload FROM jobs WHERE kind = 'ingest' \
               AND status IN ('queued', 'running')";
}

/// Newest version of the schema that this program knows.
pub fn newest_schema() -> i64 {
    sqlx::migrate!("migrations/sqlite").iter().map(|step| step.version).max().unwrap_or(0)
}

async fn open(url: &str) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|_| DbError::Config("SLUICE_DATABASE_URL is no SQLite URL".into()))?
        .create_if_missing(false)
        .busy_timeout(Duration::from_secs(30));
    Ok(SqliteConnection::connect_with(&options).await?)
}

/// Copies the database into a new file as it is at one moment, while others write.
pub async fn copy(url: &str, target: &Path) -> Result<()> {
    let path = target
        .to_str()
        .ok_or_else(|| DbError::Config("the path of the copy is no UTF-8".into()))?;
    let mut conn = open(url).await?;
    // A reader of the write-ahead log: it blocks nobody and sees one commit.
    sqlx::query("VACUUM INTO ?").bind(path).execute(&mut conn).await?;
    conn.close().await?;
    Ok(())
}

/// Version of the schema, if this is a database of ours and whole.
pub async fn schema(url: &str) -> Result<i64> {
    let mut conn = open(url).await?;
    let (check,): (String,) = sqlx::query_as("PRAGMA quick_check(1)").fetch_one(&mut conn).await?;
    if check != "ok" {
        return Err(DbError::Config(format!("the database is damaged: {check}")));
    }
    let (version,): (i64,) =
        sqlx::query_as("SELECT max(version) FROM _sqlx_migrations WHERE success")
            .fetch_one(&mut conn)
            .await?;
    // Closing folds the log into the file.
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").await?;
    conn.close().await?;
    Ok(version)
}

/// Everything that the database refers to in storage.
#[derive(Debug, Default)]
pub struct Referred {
    /// Key of the pack, key of the index, size of the pack.
    pub packs: Vec<(String, String, i64)>,
    /// Key, SHA-256, size.
    pub artifacts: Vec<(String, String, i64)>,
    /// Keys of manifests.
    pub snapshots: Vec<(String,)>,
    /// Ids of remotes, which may own more than packs.
    pub uploads: Vec<(Uuid,)>,
    /// Ids of repositories, which may own archives.
    pub repositories: Vec<(Uuid,)>,
    /// Keys of archives that came and wait for their ingest: only its job names them.
    pub archives: Vec<String>,
}

#[derive(Deserialize)]
struct Waiting {
    archive: Option<ArchiveCame>,
}

/// See [`Referred`].
pub async fn referred(db: &Db) -> Result<Referred> {
    let ingests: Vec<(Json<Waiting>,)> = db.conn().fetch_all(INGESTS, args![]).await?;
    Ok(Referred {
        archives: ingests
            .into_iter()
            .filter_map(|(payload,)| payload.0.archive)
            // What is yet to be fetched is not stored.
            .filter(|came| !came.fetch)
            .map(|came| came.key)
            .collect(),
        packs: db.conn().fetch_all(PACKS, args![]).await?,
        artifacts: db.conn().fetch_all(ARTIFACTS, args![]).await?,
        snapshots: db.conn().fetch_all(SNAPSHOTS, args![]).await?,
        uploads: db.conn().fetch_all(UPLOADS, args![]).await?,
        repositories: db.conn().fetch_all(REPOSITORIES, args![]).await?,
    })
}
