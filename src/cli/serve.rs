//! `sluice serve` and `sluice worker`.

use std::process::ExitCode;

use clap::Args;

use crate::config::Config;
use crate::queue::Workers;
use crate::server::{App, DataLock, Server, look_after_folder, stop_on_signal};

/// Flags of `sluice serve`.
#[derive(Debug, Args, Default)]
pub struct ServeArgs {
    /// Serves requests only; jobs wait for a `sluice worker`
    #[arg(long)]
    no_worker: bool,
    /// Expects a database that is up to date already
    #[arg(long)]
    no_migrate: bool,
}

/// Runs the server until a signal.
pub async fn run(config: Config, args: ServeArgs) -> anyhow::Result<ExitCode> {
    let server = Server::start(config, !args.no_migrate).await?;
    stop_on_signal(server.app().stopping.clone())?;
    if let Some(account) = server.first_account() {
        match &account.password {
            Some(password) => eprintln!(
                "created the account {} with the password {password} (shown this once)",
                account.email
            ),
            None => eprintln!("created the account {} with the password you set", account.email),
        }
    }
    println!("sluice {} listens on http://{}", env!("CARGO_PKG_VERSION"), server.address());
    println!("clients reach it at {}", server.app().public_url);
    server.serve(!args.no_worker).await?;
    Ok(ExitCode::SUCCESS)
}

/// Runs workers until a signal.
pub async fn run_worker(config: Config) -> anyhow::Result<ExitCode> {
    if config.database_url.starts_with("sqlite:") {
        anyhow::bail!(
            "workers of their own need PostgreSQL: with SQLite the server runs them itself"
        );
    }
    let public_url = config
        .public_url
        .as_ref()
        .map_or_else(String::new, |url| url.as_str().trim_end_matches('/').to_owned());
    let data_dir = config.data_dir.clone();
    let app = App::open(config, public_url, false).await?;
    // What it keeps there is its own, as with a server.
    let _lock = DataLock::acquire(&data_dir)?;
    crate::remote::sweep(&app).await?;
    stop_on_signal(app.stopping.clone())?;
    let workers = Workers::start(&app);
    tokio::spawn(look_after_folder(app.clone()));
    app.stopping.cancelled().await;
    workers.stopped().await;
    app.db.close().await;
    Ok(ExitCode::SUCCESS)
}
