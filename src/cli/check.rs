//! `sluice check`: reads the configuration and reaches every dependency.

use std::process::ExitCode;

use crate::config::Config;
use crate::server::App;

/// Prints a line for each dependency; fails unless all are reachable.
pub async fn run(config: Config) -> anyhow::Result<ExitCode> {
    println!("configuration  ok");
    let app = App::open(config, String::new(), false).await?;
    let mut all = true;
    for (name, check) in crate::api::health::checks(&app).await {
        match check.error {
            None => println!("{name:<14} ok ({} ms)", check.latency_ms),
            Some(error) => {
                all = false;
                println!("{name:<14} {error}");
            }
        }
    }
    app.db.close().await;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
