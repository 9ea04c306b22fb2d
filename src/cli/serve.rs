//! `sluice serve` and `sluice worker`.

use std::process::ExitCode;

use clap::Args;

use crate::config::Config;
use crate::server::{Server, Worker, stop_on_signal};

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
    let worker = Worker::start(config).await?;
    stop_on_signal(worker.app().stopping.clone())?;
    if let Some(address) = worker.address() {
        println!("worker {} listens on http://{address}", env!("CARGO_PKG_VERSION"));
    }
    worker.work().await;
    Ok(ExitCode::SUCCESS)
}
