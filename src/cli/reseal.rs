//! `sluice reseal`: the end of a rotation of the signing secret.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::accounts::{Keys, jwt_secret, token};
use crate::config::Config;
use crate::db::Db;
use crate::jobs::reseal;

/// Flags of `sluice reseal`.
#[derive(Debug, Args)]
pub struct ResealArgs {
    /// The secret that was used before is lost: begins anew with the current one. Findings of
    /// secrets get other identities, and what was sealed before stays closed
    #[arg(long)]
    lost: bool,
}

/// Seals everything with the current secret; fails if something could not be opened.
pub async fn run(config: &Config, args: ResealArgs) -> anyhow::Result<ExitCode> {
    let db = Db::open(&config.database_url).await.context("SLUICE_DATABASE_URL")?;
    db.check_schema().await?;
    let secret = jwt_secret(config).context("cannot keep the signing secret")?;
    let mut keys = Keys::with(&secret, &config.accepted_secrets);
    if !args.lost {
        keys = keys.keep(&db).await?;
    }
    let report = reseal::run(&db, &keys, args.lost).await?;
    db.close().await;
    println!(
        "sealed anew: {} keys of the server, {} webhooks, {} credentials of repositories",
        report.lasting_keys, report.webhooks, report.credentials
    );
    if report.unreadable > 0 {
        println!(
            "{} secrets of webhooks or credentials could not be opened with any secret: name the \
             one that sealed them in SLUICE_JWT_SECRETS_ACCEPTED, or have their owners set them \
             again",
            report.unreadable
        );
        return Ok(ExitCode::FAILURE);
    }
    println!(
        "everything is sealed with the current secret; others may be taken off \
         SLUICE_JWT_SECRETS_ACCEPTED {} minutes after the last server began to use it",
        token::ACCESS_SECONDS / 60
    );
    Ok(ExitCode::SUCCESS)
}
