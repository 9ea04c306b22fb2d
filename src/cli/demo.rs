//! `sluice demo`: a throw-away server, the sample repository, and a push from one to
//! the other.
//!
//! It does what a user does, with what a user has: the real server on a free port,
//! its API over HTTP, the real `git`. Nothing of the user's is read or changed: not the
//! configuration of sluice (no `SLUICE_…` variable and no file; `--log` and
//! `--log-format` are the only settings that it takes), not that of git, and
//! everything is kept in one temporary folder, which is gone when the command ends,
//! however it ends short of being killed.
//!
//! Exit status: 0 if the push was accepted, the scan completed, all planted weaknesses
//! were found and no look-alike was reported; 1 if not; 2 if the demo could not run;
//! 130 if it was interrupted before the findings were shown.

mod client;
mod compare;
mod folder;
mod repository;
mod sample;
mod show;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::ConfigArgs;
use crate::config::{Config, ConfigError, Sources};
use crate::server::Server;
use client::{Client, ScanAt};
use compare::{Expected, Verdict};
use folder::Folder;
use repository::Git;
use show::Show;

/// Flags of `sluice demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Ends once the findings are shown, instead of serving them until Ctrl-C
    #[arg(long)]
    exit: bool,
}

/// Log lines would stand between those that the demo prints.
const LOG: &str = "warn";
/// After this time from the push on the scan counts as not completed. It takes a few
/// seconds.
const PATIENCE: Duration = Duration::from_mins(5);
/// Status of a command that was interrupted, as shells count it.
const INTERRUPTED: u8 = 130;

/// Runs the command.
pub(super) async fn run(flags: ConfigArgs, args: DemoArgs) -> anyhow::Result<ExitCode> {
    refuse_settings(&flags)?;
    // Whoever has no git shall hear so at once.
    repository::check_git().await?;
    let stop = CancellationToken::new();
    let folder = Folder::new(stop.clone())?;
    super::log::init(&config(folder.path(), &flags)?);
    let outcome = in_folder(&folder, &flags, args.exit, &stop).await;
    folder.remove().await;
    match outcome {
        // The reader of the output went away: nobody is left to be told.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::from(2)),
        outcome => outcome,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// A setting that has no effect is worse than an error.
fn refuse_settings(flags: &ConfigArgs) -> anyhow::Result<()> {
    let given = [
        ("--config", flags.config.is_some()),
        ("--listen", flags.listen.is_some()),
        ("--public-url", flags.public_url.is_some()),
        ("--data-dir", flags.data_dir.is_some()),
        ("--database-url", flags.database_url.is_some()),
        ("--storage", flags.storage.is_some()),
        ("--workers", flags.workers.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((flag, _)) => anyhow::bail!(
            "the demo runs a throw-away server with settings of its own: leave {flag} out, or \
             use `sluice serve`"
        ),
    }
}

/// The settings of the server, from nothing but the flags for the log.
fn config(folder: &Path, flags: &ConfigArgs) -> anyhow::Result<Config, ConfigError> {
    let data = folder.join("server");
    let data = data.to_str().ok_or_else(|| {
        ConfigError("the temporary folder has a name that is no UTF-8: set TMPDIR".into())
    })?;
    let mut values = vec![
        ("SLUICE_LISTEN", "127.0.0.1:0"),
        ("SLUICE_DATA_DIR", data),
        ("SLUICE_ADVISORIES", "sample"),
        ("SLUICE_LOG", flags.log.as_deref().unwrap_or(LOG)),
    ];
    values.extend(flags.log_format.as_deref().map(|format| ("SLUICE_LOG_FORMAT", format)));
    Config::from_sources(Sources::given(values))
}

/// Runs the server, and beside it whoever uses it.
async fn in_folder(
    folder: &Folder,
    flags: &ConfigArgs,
    exit: bool,
    stop: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    let config = config(folder.path(), flags)?;
    let server = tokio::select! {
        server = Server::start(config, true) => server?,
        () = stop.cancelled() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let stopping = server.app().stopping.clone();
    let user = User::new(&server, exit)?;
    let serving = tokio::spawn(server.serve(true));
    let told = tokio::select! {
        told = user.tell(folder.path()) => Some(told),
        () = stop.cancelled() => None,
    };
    if !exit && matches!(&told, Some(Ok(Ending { worth_staying: true, .. }))) {
        stop.cancelled().await;
    }
    stopping.cancel();
    let served = serving.await;
    let Some(told) = told else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let ending = told?;
    served.context("the server broke down")??;
    Ok(if ending.as_it_must_be { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// How the demo went.
struct Ending {
    /// The push was accepted, the scan completed, and what it found is right.
    as_it_must_be: bool,
    /// There are findings to look at.
    worth_staying: bool,
}

/// Who uses the server.
struct User {
    address: std::net::SocketAddr,
    public_url: String,
    email: String,
    password: String,
    exit: bool,
}

impl User {
    fn new(server: &Server, exit: bool) -> anyhow::Result<Self> {
        let account = server.first_account().context("the server made no account")?;
        Ok(Self {
            address: server.address(),
            public_url: server.app().public_url.clone(),
            email: account.email.clone(),
            password: account.password.clone().context("the server made no password")?,
            exit,
        })
    }

    /// From sign-in to the last line of the report.
    async fn tell(&self, folder: &Path) -> anyhow::Result<Ending> {
        let mut show = Show::new();
        show.step(&format!("a throw-away server listens on {}", self.public_url))?;
        let client = Client::sign_in(self.address, &self.email, &self.password).await?;
        let project = client.create_project("Harbor").await?;
        let upload = client.create_upload(project, "harbor").await?;
        show.step(&format!(
            "signed in as {}, made the project Harbor and the remote {}",
            self.email, upload.remote_url
        ))?;

        let git = Git::new(folder)?;
        let commits = git.replay().await?;
        show.step(&format!("made the sample repository, {commits} commits; pushing it:"))?;
        show.command("git push sluice main")?;
        let pushed = Instant::now();
        if !git.push(&upload.push_url).await? {
            return failed(&mut show, "git push failed: its own words are above");
        }

        show.step("the push was accepted; what the server does with it:")?;
        let follow = follow(&client, &mut show, upload.id, pushed);
        let (scan, took) = match tokio::time::timeout(PATIENCE, follow).await {
            Err(_) => {
                let seconds = PATIENCE.as_secs();
                return failed(&mut show, &format!("the scan did not end in {seconds} seconds"));
            }
            Ok(followed) => match followed? {
                Ok(followed) => followed,
                Err(why) => return failed(&mut show, &why),
            },
        };

        let findings = client.findings(scan).await?;
        show.step("the findings, the worst first:")?;
        for finding in &findings {
            show.finding(finding)?;
        }
        let expected = Expected::embedded()?;
        let verdict = Verdict::new(&expected, &findings);
        show.summary(&findings, &verdict, took)?;
        let address =
            format!("{}/v1/repositories/{}/findings", self.public_url, scan.repository_id);
        show.step(&format!("the findings are at {address}"))?;
        if !self.exit {
            let key = client.create_api_key("demo").await?;
            show.way_in(&address, &self.email, &self.password, &key)?;
        }
        Ok(Ending { as_it_must_be: verdict.is_right(), worth_staying: true })
    }
}

fn failed(show: &mut Show, why: &str) -> anyhow::Result<Ending> {
    show.failure(why)?;
    Ok(Ending { as_it_must_be: false, worth_staying: false })
}

/// Follows what becomes of a push to the last event of its scan. The answer is the scan
/// and the time since `pushed`, or why there is no completed scan.
async fn follow(
    client: &Client,
    show: &mut Show,
    upload: uuid::Uuid,
    pushed: Instant,
) -> anyhow::Result<Result<(ScanAt, Duration), String>> {
    let scan = match client.scan_of(upload).await? {
        Ok(scan) => scan,
        Err(why) => return Ok(Err(why)),
    };
    let mut after = 0;
    let mut took = pushed.elapsed();
    let mut ended = None;
    loop {
        let events = client.events(scan, after, ended.is_none()).await?;
        took = if events.is_empty() { took } else { pushed.elapsed() };
        for event in &events {
            show.event(event, took)?;
            after = event.seq;
        }
        if !events.is_empty() {
            continue;
        }
        // What has ended has all its events, so they are asked for once more after it.
        match ended {
            None => ended = client.scan_end(scan).await?,
            Some(end) => {
                return Ok(match end.status.as_str() {
                    "completed" => Ok((scan, took)),
                    _ => Err(end.sentence()),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;
