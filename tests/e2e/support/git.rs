//! The real git, each one on this machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

/// One git program.
#[derive(Debug, Clone)]
pub struct Git {
    program: PathBuf,
    pub version: String,
}

/// What git said.
#[derive(Debug)]
pub struct Said {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

impl Said {
    #[track_caller]
    pub fn expect(self) -> Self {
        assert!(self.ok, "git failed: {}{}", self.out, self.err);
        self
    }

    /// Git failed, and its user reads this.
    #[track_caller]
    pub fn refused(&self, says: &str) {
        assert!(!self.ok, "git went through: {}{}", self.out, self.err);
        assert!(self.err.contains(says), "{says:?} is not in: {}", self.err);
    }
}

impl Git {
    /// The first git on the path.
    pub fn any() -> Self {
        Self::all().into_iter().next().expect("git is installed")
    }

    /// Every distinct git, told apart by its version.
    pub fn all() -> Vec<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path)
            .chain(["/usr/local/bin", "/usr/bin"].into_iter().map(PathBuf::from));
        let mut seen = BTreeSet::new();
        folders
            .map(|folder| folder.join("git"))
            .filter(|program| program.is_file())
            .filter_map(|program| {
                let out = std::process::Command::new(&program).arg("version").output().ok()?;
                let version = String::from_utf8_lossy(&out.stdout).trim().to_owned();
                seen.insert(version.clone()).then_some(Self { program, version })
            })
            .collect()
    }

    /// Runs in a folder, with no configuration but what is given.
    pub async fn run(&self, folder: &Path, args: &[&str]) -> Said {
        let mut command = tokio::process::Command::new(&self.program);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("GIT_") {
                command.env_remove(key);
            }
        }
        let run = command
            .args(args)
            .current_dir(folder)
            .env("HOME", folder)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env_remove("SSH_ASKPASS")
            .env("GIT_AUTHOR_NAME", "Ada")
            .env("GIT_AUTHOR_EMAIL", "ada@example.org")
            .env("GIT_COMMITTER_NAME", "Ada")
            .env("GIT_COMMITTER_EMAIL", "ada@example.org")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(55), run)
            .await
            .unwrap_or_else(|_| panic!("git {args:?} hangs"))
            .expect("git runs");
        Said {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A repository of a user.
pub struct Work {
    pub git: Git,
    dir: TempDir,
}

impl Work {
    pub async fn new(git: &Git) -> Self {
        let work = Self::at(git, tempfile::tempdir().expect("a temporary folder"));
        work.run(&["init", "-q", "-b", "main", "."]).await.expect();
        work
    }

    /// A repository that is already in a folder.
    pub fn at(git: &Git, dir: TempDir) -> Self {
        Self { git: git.clone(), dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub async fn run(&self, args: &[&str]) -> Said {
        self.git.run(self.dir.path(), args).await
    }

    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    /// Commits everything; the commit's id.
    pub async fn commit(&self, message: &str) -> String {
        self.run(&["add", "-A"]).await.expect();
        self.run(&["commit", "-q", "--allow-empty", "-m", message]).await.expect();
        self.head().await
    }

    pub async fn head(&self) -> String {
        self.run(&["rev-parse", "HEAD"]).await.expect().out.trim().to_owned()
    }

    /// Pushes to a URL.
    pub async fn push(&self, url: &str, what: &[&str]) -> Said {
        let args: Vec<&str> = ["push", url].into_iter().chain(what.iter().copied()).collect();
        self.run(&args).await
    }
}
