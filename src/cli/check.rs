//! `sluice check`: reads the configuration and reaches every dependency; or asks the
//! process that listens here whether it lives.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::config::Config;
use crate::server::App;

/// Flags of `sluice check`.
#[derive(Debug, Args, Default)]
pub struct CheckArgs {
    /// Only asks the server or worker at SLUICE_LISTEN whether it lives: cheap enough for
    /// the health check of a container
    #[arg(long)]
    live: bool,
}

/// A process that lives answers sooner.
const LIVE: Duration = Duration::from_secs(2);

/// What `args` ask for.
pub async fn run(config: Config, args: &CheckArgs) -> anyhow::Result<ExitCode> {
    if args.live { live(config.listen).await } else { all(config).await }
}

/// Asks who listens at an address of this machine.
async fn live(mut address: SocketAddr) -> anyhow::Result<ExitCode> {
    // Whoever listens everywhere is asked here.
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let client = reqwest::Client::builder().no_proxy().timeout(LIVE).build()?;
    let said = client.get(format!("http://{address}/v1/healthz")).send().await;
    Ok(match said.and_then(reqwest::Response::error_for_status) {
        Ok(_) => {
            println!("{address} lives");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{address} does not answer: {error}");
            ExitCode::FAILURE
        }
    })
}

/// Prints a line for each dependency; fails unless all are reachable.
async fn all(config: Config) -> anyhow::Result<ExitCode> {
    println!("{:<14} ok", "configuration");
    let app = match App::open(config, String::new(), false).await {
        Ok(app) => app,
        Err(error) => {
            // Its outermost sentence names what cannot be opened.
            println!("{:<14} {error:#}", "start");
            return Ok(ExitCode::FAILURE);
        }
    };
    let mut all = true;
    for (name, check) in crate::api::health::checks(&app).await {
        match check.detail {
            None => println!("{name:<14} ok ({} ms)", check.latency_ms),
            Some(detail) => {
                all = false;
                println!("{name:<14} {detail}");
            }
        }
    }
    app.db.close().await;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
