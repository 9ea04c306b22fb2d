//! `sluice check`: reads the configuration and reaches every dependency.

use std::process::ExitCode;

use crate::config::Config;
use crate::server::App;

/// Prints a line for each dependency; fails unless all are reachable.
pub async fn run(config: Config) -> anyhow::Result<ExitCode> {
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
