//! Every git on this machine.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

#[derive(Debug, Clone)]
pub struct Git {
    program: PathBuf,
    pub version: String,
}

/// How a git command ended, and all that it printed.
#[derive(Debug)]
pub struct Run {
    pub ok: bool,
    pub output: String,
}

impl Run {
    /// Panics with the whole output unless it contains `text`.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(self.output.contains(text), "expected {text:?} in:\n{}", self.output);
        self
    }

    #[track_caller]
    pub fn succeeds(&self) -> &Self {
        assert!(self.ok, "{}", self.output);
        self
    }

    #[track_caller]
    pub fn fails(&self) -> &Self {
        assert!(!self.ok, "{}", self.output);
        self
    }
}

/// One of each version that stands in the folders of `PATH`.
pub fn versions() -> Vec<Git> {
    let mut found = BTreeMap::new();
    for folder in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()) {
        let program = folder.join("git");
        let Ok(output) = Command::new(&program).arg("--version").output() else {
            continue;
        };
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        found.entry(version.clone()).or_insert(Git { program, version });
    }
    assert!(!found.is_empty(), "these tests need git");
    found.into_values().collect()
}

impl Git {
    pub fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", folder)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "Tester")
                .env(format!("GIT_{role}_EMAIL"), "tester@example.com")
                .env(format!("GIT_{role}_DATE"), "1700000000 +0000");
        }
        command
    }

    pub fn run(&self, folder: &Path, arguments: &[&str]) -> Run {
        let output = self.command(folder).args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        Run { ok: output.status.success(), output: String::from_utf8_lossy(&text).into_owned() }
    }
}

/// A working copy.
pub struct Clone {
    pub git: Git,
    pub folder: tempfile::TempDir,
}

impl Clone {
    /// A repository with one commit on `main`.
    pub fn new(git: &Git) -> Self {
        let clone = Self { git: git.clone(), folder: tempfile::tempdir().unwrap() };
        clone.git(&["init", "-q", "-b", "main", "."]).succeeds();
        clone.commit("first");
        clone
    }

    pub fn git(&self, arguments: &[&str]) -> Run {
        self.git.run(self.folder.path(), arguments)
    }

    /// What a command prints, trimmed.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> String {
        let run = self.git(arguments);
        run.succeeds();
        run.output.trim().to_owned()
    }

    /// Writes a file of that name and commits it.
    #[track_caller]
    pub fn commit(&self, name: &str) -> String {
        self.commit_bytes(name, format!("the text of {name}\n").repeat(50).as_bytes())
    }

    #[track_caller]
    pub fn commit_bytes(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.folder.path().join(name), bytes).unwrap();
        self.git(&["add", "."]).succeeds();
        self.git(&["commit", "-q", "-m", name]).succeeds();
        self.ask(&["rev-parse", "HEAD"])
    }

    pub fn push(&self, url: &str, arguments: &[&str]) -> Run {
        let all: Vec<&str> = ["push", url].into_iter().chain(arguments.iter().copied()).collect();
        self.git(&all)
    }
}

/// Runs a story once for each git.
pub fn each(story: impl Fn(&Git)) {
    for git in versions() {
        eprintln!("with {}", git.version);
        story(&git);
    }
}
