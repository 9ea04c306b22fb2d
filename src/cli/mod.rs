//! The commands, one file each.

mod backup;
mod check;
mod demo;
mod log;
mod migrate;
mod reseal;
pub mod scan;
mod serve;
pub mod user;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError, Sources};

/// A self-hosted server that takes source code by git push, by URL or as an archive, and
/// tells what is dangerous in it.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, after_help = after_help(), after_long_help = after_long_help())]
struct Cli {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole server: API, git remote and workers in one process (the default)
    Serve(serve::ServeArgs),
    /// Workers alone, beside servers on the same PostgreSQL
    Worker,
    /// Scans a folder, git repository or archive on this machine, without a server
    Scan(scan::ScanArgs),
    /// A throw-away server that a sample repository is pushed to; needs no configuration
    Demo(demo::DemoArgs),
    /// Accounts
    User(user::UserArgs),
    /// Copies everything that the embedded run keeps, while it serves
    Backup(backup::BackupArgs),
    /// Brings a backup back into an empty data folder
    Restore(backup::BackupArgs),
    /// Brings the database up to date and exits
    Migrate,
    /// Seals with the current signing secret what another one sealed, after a rotation
    Reseal(reseal::ResealArgs),
    /// Reaches every dependency and says how it went
    Check(check::CheckArgs),
    /// Prints the OpenAPI document of the API
    Openapi,
}

/// Flags that beat the environment, which beats the file.
#[derive(Debug, Args, Default, Clone)]
pub struct ConfigArgs {
    /// TOML file with the keys of the environment
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to bind; :0 picks a free port (SLUICE_LISTEN)
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// What clients reach the server by (SLUICE_PUBLIC_URL)
    #[arg(long, global = true, value_name = "URL")]
    public_url: Option<String>,
    /// Everything that the embedded run keeps (SLUICE_DATA_DIR)
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// sqlite://… or postgres://… (SLUICE_DATABASE_URL)
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// file://DIR (SLUICE_STORAGE)
    #[arg(long, global = true, value_name = "URL")]
    storage: Option<String>,
    /// Jobs side by side (SLUICE_WORKERS)
    #[arg(long, global = true, value_name = "N")]
    workers: Option<String>,
    /// Tracing filter (SLUICE_LOG)
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// text or json (SLUICE_LOG_FORMAT)
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl ConfigArgs {
    /// Reads and checks the whole configuration.
    fn read(self) -> Result<Config, ConfigError> {
        let flags = vec![
            ("SLUICE_LISTEN", self.listen),
            ("SLUICE_PUBLIC_URL", self.public_url),
            ("SLUICE_DATA_DIR", self.data_dir),
            ("SLUICE_DATABASE_URL", self.database_url),
            ("SLUICE_STORAGE", self.storage),
            ("SLUICE_WORKERS", self.workers),
            ("SLUICE_LOG", self.log),
            ("SLUICE_LOG_FORMAT", self.log_format),
        ];
        Config::from_sources(Sources::read(flags, self.config.as_deref())?)
    }
}

fn after_help() -> String {
    use std::fmt::Write as _;
    let mut text =
        String::from("Configuration (environment, or the same keys in --config FILE):\n");
    for key in crate::config::KEYS {
        let _ = writeln!(text, "  {:<27} {} [{}]", key.env, key.meaning, key.default);
    }
    text.push_str("  SLUICE_LIMIT_…              quotas: see --help, or /v1/ops/limits");
    text
}

fn after_long_help() -> String {
    use std::fmt::Write as _;
    let mut text = after_help() + "\n\nQuotas:\n";
    for limit in crate::config::LIMITS {
        let meaning = limit.meaning.trim();
        let _ = writeln!(text, "  {}\n    {meaning} [{} {}]", limit.env, limit.default, limit.unit);
    }
    text
}

/// Parses the command line, runs the command, and answers its exit status.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let command = match cli.command {
        // A local scan needs neither configuration nor runtime.
        Some(Command::Scan(args)) => return scan::run(args),
        Some(command) => command,
        None => Command::Serve(serve::ServeArgs::default()),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("sluice: cannot start: {error}");
            return ExitCode::from(2);
        }
    };
    let outcome = runtime.block_on(run(cli.config, command));
    // Blocking threads that still run have nothing to lose: what they write becomes
    // visible only by a transaction that they no longer reach.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    log::flush();
    outcome.unwrap_or_else(|error| {
        eprintln!("sluice: {error:#}");
        ExitCode::from(2)
    })
}

async fn run(flags: ConfigArgs, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => {
            let config = flags.read()?;
            log::init(&config);
            serve::run(config, args).await
        }
        Command::Worker => {
            let config = flags.read()?;
            log::init(&config);
            serve::run_worker(config).await
        }
        Command::Scan(args) => Ok(scan::run(args)),
        // What the user has configured is not for a throw-away server.
        Command::Demo(args) => demo::run(flags, args).await,
        Command::User(args) => {
            let db = migrate::open(&flags.read()?).await?;
            let outcome = user::run(&db, args).await;
            db.close().await;
            outcome
        }
        Command::Backup(args) => backup::backup(&flags.read()?, args).await,
        Command::Restore(args) => backup::restore(&flags.read()?, args).await,
        Command::Migrate => migrate::run(&flags.read()?).await,
        Command::Check(args) => check::run(flags.read()?, &args).await,
        Command::Reseal(args) => reseal::run(&flags.read()?, args).await,
        Command::Openapi => {
            print!("{}", crate::api::openapi::text());
            Ok(ExitCode::SUCCESS)
        }
    }
}
