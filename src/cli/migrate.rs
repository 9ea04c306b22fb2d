//! `sluice migrate`.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::config::Config;
use crate::db::Db;

/// Opens the database of the configuration and brings it up to date.
pub async fn open(config: &Config) -> anyhow::Result<Db> {
    if config.database_url.starts_with("sqlite:") {
        std::fs::create_dir_all(&config.data_dir)
            .with_context(|| format!("cannot use the folder {}", config.data_dir.display()))?;
    }
    let db = Db::open(&config.database_url).await.context("SLUICE_DATABASE_URL")?;
    db.migrate().await?;
    Ok(db)
}

/// Brings the database up to date.
pub async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    open(config).await?.close().await;
    println!("the database is up to date");
    Ok(ExitCode::SUCCESS)
}
