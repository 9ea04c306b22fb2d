//! The server as a child process, and repositories for it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::git::{Clone, Git, Run, versions};

/// The example stands beside the tests: `target/debug/deps/serve-…` and `target/debug/examples/serve`.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("examples/serve");
    assert!(
        program.exists(),
        "{} is missing; it is built by `cargo build -p sluice-git --example serve`",
        program.display()
    );
    program
}

/// A server over an empty folder.
pub struct Server {
    pub root: tempfile::TempDir,
    pub address: String,
    pub git: Git,
    process: Child,
}

impl Server {
    pub fn start(arguments: &[&str]) -> Self {
        Self::for_git(versions().pop().unwrap(), arguments)
    }

    /// A server that is to be used with this git.
    pub fn for_git(git: Git, arguments: &[&str]) -> Self {
        Self::over(tempfile::tempdir().unwrap(), git, arguments)
    }

    fn over(root: tempfile::TempDir, git: Git, arguments: &[&str]) -> Self {
        let mut process = Command::new(program())
            .args(["--listen", "127.0.0.1:0", "--root"])
            .arg(root.path())
            .args(arguments)
            .env("HOME", root.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { root, address, git, process }
    }

    /// A server with the repository `repo.git`, into which everybody may push.
    pub fn with(config: &[(&str, &str)]) -> Self {
        let server = Self::start(&[]);
        server.create("repo.git", &[]);
        server.set(&[("http.receivepack", "true")]);
        server.set(config);
        server
    }

    pub fn create(&self, path: &str, arguments: &[&str]) {
        let all = [&["init", "-q", "--bare", "-b", "main"], arguments, &[path]].concat();
        self.git.run(self.root.path(), &all).succeeds();
    }

    /// The folder of `repo.git`.
    pub fn folder(&self) -> PathBuf {
        self.root.path().join("repo.git")
    }

    pub fn set(&self, config: &[(&str, &str)]) {
        for (key, value) in config {
            self.ask(&["config", "--add", key, value]);
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/repo.git", self.address)
    }

    /// With the name of a user.
    pub fn url_of(&self, user: &str, path: &str) -> String {
        format!("http://{user}:any@{}/{path}", self.address)
    }

    /// What git says in the repository.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> String {
        let run = self.git.run(&self.folder(), arguments);
        run.succeeds();
        run.output.trim().to_owned()
    }

    /// What a ref points to; empty if there is none.
    pub fn id(&self, name: &str) -> String {
        let run = self.git.run(&self.folder(), &["rev-parse", "-q", "--verify", name]);
        run.output.trim().to_owned()
    }

    /// Git finds nothing wrong, and nothing of a push is left over.
    #[track_caller]
    pub fn sound(&self) {
        self.ask(&["fsck", "--full", "--strict", "--no-dangling"]);
        let left = leftovers(&self.folder());
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Locks and quarantines below a folder.
fn leftovers(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".lock") || name.starts_with("incoming-") {
            found.push(path);
        } else if path.is_dir() {
            found.extend(leftovers(&path));
        }
    }
    found
}

/// A working copy with one commit on `main`.
pub fn work(server: &Server) -> Clone {
    Clone::new(&server.git)
}

/// Clones into a new folder.
pub fn clone(server: &Server, url: &str, arguments: &[&str]) -> (Run, Clone) {
    let folder = tempfile::tempdir().unwrap();
    let all = [&["clone", "-q"], arguments, &[url, "."]].concat();
    let run = server.git.run(folder.path(), &all);
    (run, Clone { git: server.git.clone(), folder })
}

/// Writes a hook and makes it executable.
pub fn hook(server: &Server, name: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = server.folder().join("hooks").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

impl Server {
    pub fn id_of_process(&self) -> String {
        self.process.id().to_string()
    }

    /// Whether the process ends well within ten seconds.
    pub fn ended(mut self) -> bool {
        for _ in 0..100 {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        false
    }
}

impl Server {
    /// Nothing of a push is left over, whatever git says about the objects.
    pub fn sound_but_odd(&self) {
        let left = leftovers(&self.folder());
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Server {
    /// Kills the process, as a crash would, and starts another one over the same folder.
    pub fn killed_and_started_again(mut self) -> Self {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let root = std::mem::replace(&mut self.root, tempfile::tempdir().unwrap());
        Self::over(root, self.git.clone(), &[])
    }

    /// Folders in which a push waits until it is known to be good.
    pub fn quarantines(&self) -> usize {
        leftovers(&self.folder().join("objects")).len()
    }
}
