//! `sluice scan`: the engine without a server.
//!
//! Exit status: 0 if nothing at or above the threshold was found, 1 if something
//! was, 2 if the scan could not be done. Findings go to standard output, everything
//! else to standard error.

mod archive;
mod folder;
mod refs;
mod repository;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use crate::scan::report::{self, Meta};
use crate::scan::{
    Cancel, EngineKind, Level, Limits, NoStore, Observer, Progress, ScanConfig, Severity, Source,
};
use crate::scan::{assemble, driver};

/// Options of `sluice scan`.
#[derive(Debug, Args)]
pub struct ScanArgs {
    /// Folder, git repository (with a work tree or bare) or archive (zip, or tar as it
    /// is or in gzip, zstd, xz or bzip2).
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// How findings are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Look for secrets in all commits of the repository too.
    #[arg(long)]
    pub history: bool,
    /// Exit with 1 if something at or above this severity is found (critical, high,
    /// medium, low, info).
    #[arg(long, value_name = "SEVERITY", default_value = "info")]
    pub fail_on: Severity,
    /// Leave out what matches this glob (may be given several times).
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Scan only what matches this glob (may be given several times).
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// Engines to run: secrets, code, dependencies.
    #[arg(long, value_delimiter = ',', value_name = "ENGINE")]
    pub engines: Vec<EngineKind>,
    /// Folder with advisories in OSV format, or `sample` for the built-in set.
    #[arg(long, value_name = "DIR", env = "SLUICE_ADVISORIES")]
    pub advisories: Option<String>,
    /// Threads to scan with (default: one for each core).
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// Forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// All findings as one object.
    Json,
    /// SARIF 2.1.0.
    Sarif,
}

/// Runs the command.
pub fn run(args: ScanArgs) -> ExitCode {
    match scan(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            // The reader of the output went away: nobody is left to be told.
            if !is_broken_pipe(&e) {
                eprintln!("sluice scan: {e:#}");
            }
            ExitCode::from(2)
        }
    }
}

fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// The key under which local scans tell secrets apart.
///
/// It is the same everywhere, so that fingerprints of one folder agree between the
/// machines of a team and their CI. The price: who has a report and a guess can
/// check the guess, as with any public hash. A server has a key of its own.
const IDENTITY: [u8; 32] = *b"sluice scan, local, no secret...";

/// True if nothing reaches the threshold.
fn scan(args: &ScanArgs) -> anyhow::Result<bool> {
    let limits = Limits::default();
    let cancel = Cancel::new();
    let source = open(args)?;
    let threads =
        args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let database = args.advisories.as_deref().map(assemble::advisories).transpose()?;
    let engines = assemble::engines(IDENTITY, database, threads)?;
    let config = ScanConfig {
        engines: if args.engines.is_empty() {
            EngineKind::ALL.to_vec()
        } else {
            args.engines.clone()
        },
        include: args.include.clone(),
        exclude: args.exclude.clone(),
        history: args.history,
    };
    let observer = Warnings;
    let outcome =
        driver::run(&engines, source.as_ref(), &NoStore, &config, &limits, &observer, &cancel)?;
    let meta = Meta {
        name: name_of(&args.path),
        timestamp: Some(jiff::Timestamp::now().to_string()),
        ..Meta::default()
    };
    let stdout = io::stdout();
    let color = args.format == Format::Text
        && stdout.is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let mut out = BufWriter::new(stdout.lock());
    match args.format {
        Format::Text => report::text(&mut out, &outcome, color)?,
        Format::Json => report::write_findings_json(&mut out, &outcome, &meta)?,
        Format::Sarif => report::write_sarif(&mut out, &outcome, engines.rules(), &meta)?,
    }
    out.flush()?;
    Ok(!outcome.findings.iter().any(|f| f.suppressed.is_none() && f.severity >= args.fail_on))
}

fn open(args: &ScanArgs) -> anyhow::Result<Box<dyn Source>> {
    let path = &args.path;
    let shown = path.display();
    let kind = std::fs::metadata(path).with_context(|| format!("cannot read {shown}"))?;
    if kind.is_file() {
        return Ok(Box::new(archive::open(path, args.history)?));
    }
    if !kind.is_dir() {
        bail!("{shown} is neither a folder nor a file");
    }
    if let Some(git) = refs::GitDir::of_work_tree(path)? {
        return Ok(Box::new(repository::WorkTree::open(path, git, args.history)?));
    }
    if let Some(git) = refs::GitDir::bare(path)? {
        return Ok(Box::new(repository::Bare::open(git)?));
    }
    if args.history {
        bail!("{shown} is no git repository and has no history: leave --history out");
    }
    Ok(Box::new(folder::Folder::new(path.clone())))
}

fn name_of(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    full.file_name().map_or_else(|| "/".to_owned(), |n| n.to_string_lossy().into_owned())
}

/// Shows warnings and errors on standard error.
struct Warnings;

impl Observer for Warnings {
    fn event(&self, level: Level, _: &str, message: &str, _: serde_json::Value) {
        if level != Level::Info {
            // Paths come from the scanned tree and must not drive the terminal.
            let plain: String =
                message.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            let _ = writeln!(io::stderr(), "{}: {plain}", level.as_str());
        }
    }

    fn progress(&self, _: &Progress) {}
}
