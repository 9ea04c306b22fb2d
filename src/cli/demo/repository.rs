//! The sample repository on disk, made and pushed by the real git.
//!
//! Git runs as on a machine that was never used: it sees neither the user's nor the
//! system's configuration, no hooks, no templates, no credential helpers, no proxies, and
//! it never asks. Identities and dates are fixed, so that the commits have the same ids
//! everywhere.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::sample::{self, About, Commit};

/// Name of the remote, as in the commands that the API shows.
const REMOTE: &str = "sluice";

/// What git may see of the environment: where programs and libraries are found, and
/// where temporary files go.
const KEPT: [&str; 5] = ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "GIT_EXEC_PATH", "TMPDIR"];

/// Settings that hold for each command.
const SETTINGS: [&str; 5] = [
    "core.hooksPath=/dev/null",
    "core.autocrlf=false",
    "credential.helper=",
    // Nothing works on in the background in a folder that is to be removed.
    "gc.auto=0",
    "maintenance.auto=false",
];

/// Says so if there is no git to push with.
pub(super) async fn check_git() -> anyhow::Result<()> {
    let mut command = Command::new("git");
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let output = spawned(command.output().await)?;
    if !output.status.success() {
        bail!("`git --version` fails, and the demo pushes with the real git: {}", words(&output));
    }
    Ok(())
}

fn spawned<T>(result: std::io::Result<T>) -> anyhow::Result<T> {
    result.map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!(
            "there is no git on the PATH, and the demo pushes with the real git: install it \
             (https://git-scm.com/downloads) and run the demo again"
        ),
        _ => anyhow::Error::new(error).context("git cannot be run"),
    })
}

/// A work tree, and a home for the git that works in it.
pub(super) struct Git {
    tree: PathBuf,
    home: PathBuf,
}

impl Git {
    /// Makes the two folders inside `folder`.
    pub(super) fn new(folder: &Path) -> anyhow::Result<Self> {
        let git = Self { tree: folder.join("harbor"), home: folder.join("home") };
        for dir in [&git.tree, &git.home] {
            fs::create_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(git)
    }

    /// Makes the commits of the sample repository on `main`, and tells how many.
    pub(super) async fn replay(&self) -> anyhow::Result<usize> {
        let commits = sample::commits()?;
        self.run(&["init", "--quiet", "--template="], None).await?;
        // `init --initial-branch` is younger than the oldest git that pushes well.
        self.run(&["symbolic-ref", "HEAD", "refs/heads/main"], None).await?;
        let count = commits.len();
        for commit in commits {
            let tree = self.tree.clone();
            let about = tokio::task::spawn_blocking(move || write(&tree, commit)).await??;
            // The sample ignores some of the files that it holds, as people do.
            self.run(&["add", "--all", "--force"], None).await?;
            self.run(&["commit", "--quiet", "--message", &about.message], Some(&about)).await?;
        }
        Ok(count)
    }

    /// Pushes `main`, showing what git says. False if git says that it failed.
    pub(super) async fn push(&self, url: &str) -> anyhow::Result<bool> {
        self.run(&["remote", "add", REMOTE, url], None).await?;
        let mut command = self.command(&["push", REMOTE, "main"]);
        Ok(spawned(command.stdout(Stdio::inherit()).stderr(Stdio::inherit()).status().await)?
            .success())
    }

    async fn run(&self, args: &[&str], who: Option<&About>) -> anyhow::Result<()> {
        let mut command = self.command(args);
        if let Some(who) = who {
            for role in ["AUTHOR", "COMMITTER"] {
                command.env(format!("GIT_{role}_NAME"), &who.author_name);
                command.env(format!("GIT_{role}_EMAIL"), &who.author_email);
                command.env(format!("GIT_{role}_DATE"), &who.date);
            }
        }
        let output = spawned(command.output().await)?;
        if !output.status.success() {
            let name = args.first().copied().unwrap_or_default();
            bail!("`git {name}` failed while the sample repository was made: {}", words(&output));
        }
        Ok(())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.env_clear();
        for name in KEPT {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("HOME", &self.home)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C");
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command.args(args).current_dir(&self.tree).stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

/// Brings the work tree to what the commit leaves behind.
fn write(tree: &Path, commit: Commit) -> anyhow::Result<About> {
    for path in &commit.about.delete {
        fs::remove_file(tree.join(path)).with_context(|| format!("cannot remove {path}"))?;
    }
    for (path, bytes) in commit.files {
        let path = tree.join(path);
        path.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, bytes))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(commit.about)
}

/// What git had to say.
fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}
