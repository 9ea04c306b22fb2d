//! The real binary on a free port, in a folder of its own.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Client, PATIENCE, until};

/// Password of the first account, unless a test is about the generated one.
pub const ADMIN_PASSWORD: &str = "correct horse battery staple";

/// A data folder, a database and an environment: a server may be started here again
/// and again.
pub struct Place {
    pub dir: TempDir,
    /// `None`: SQLite in the data folder.
    pub postgres: Option<String>,
    env: BTreeMap<String, String>,
}

impl Place {
    pub fn sqlite() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let env = [
            ("SLUICE_LISTEN", ":0".to_owned()),
            ("SLUICE_DATA_DIR", dir.path().join("data").display().to_string()),
            ("SLUICE_ADMIN_PASSWORD", ADMIN_PASSWORD.to_owned()),
            ("SLUICE_WORKERS", "2".to_owned()),
            ("SLUICE_ADVISORIES", "sample".to_owned()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        Self { dir, postgres: None, env }
    }

    pub async fn postgres() -> Self {
        let server = std::env::var("TEST_POSTGRES_URL")
            .expect("TEST_POSTGRES_URL: run the tests with tests/run, which starts PostgreSQL");
        let name = format!("e2e_{}", uuid::Uuid::now_v7().simple());
        let admin = sqlx::PgPool::connect(&format!("{server}/postgres")).await.expect("PostgreSQL");
        sqlx::query(&format!("CREATE DATABASE {name}")).execute(&admin).await.expect("a database");
        admin.close().await;
        let url = format!("{server}/{name}");
        let mut place = Self::sqlite();
        place.set("SLUICE_DATABASE_URL", &url);
        place.set("SLUICE_JWT_SECRET", "a secret for tests that is long enough");
        place.postgres = Some(url);
        place
    }

    pub fn set(&mut self, key: &str, value: &str) -> &mut Self {
        self.env.insert(key.to_owned(), value.to_owned());
        self
    }

    pub fn unset(&mut self, key: &str) -> &mut Self {
        self.env.remove(key);
        self
    }

    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// The place of another process on the same database and storage; what it keeps of its
    /// own is elsewhere. From now on this one shares its storage too.
    pub fn beside(&mut self) -> Self {
        let shared = format!("file://{}", self.dir.path().join("shared").display());
        self.set("SLUICE_STORAGE", &shared);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut place = Self { dir, postgres: self.postgres.clone(), env: self.env.clone() };
        let data = place.data().display().to_string();
        place.set("SLUICE_DATA_DIR", &data);
        place
    }

    /// Starts `sluice worker` and waits until it takes jobs.
    pub async fn start_worker(&self) -> Server {
        let mut server = self.spawn(&["worker"]);
        until("the worker works", async || {
            let ended = server.child.try_wait().expect("a child");
            assert!(ended.is_none(), "the worker ended at once: {}", server.log());
            server.log().contains("workers started").then_some(())
        })
        .await;
        server
    }

    fn spawn(&self, args: &[&str]) -> Server {
        let mut child = self
            .command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let out = gather(child.stdout.take().expect("standard output"));
        let err = gather(child.stderr.take().expect("standard error"));
        Server { child, out, err, address: String::new() }
    }

    /// The binary with the environment of this place and nothing else of sluice's.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("SLUICE_") {
                command.env_remove(key);
            }
        }
        command.args(args).envs(&self.env).current_dir(self.dir.path());
        command
    }

    /// Whatever starts here from now on takes it to be so many hours later; `None`: the
    /// time that it is.
    pub fn later(&mut self, hours: Option<u32>) -> &mut Self {
        match hours {
            Some(hours) => {
                // In the folder of this machine's kind.
                let library = std::fs::read_dir("/usr/lib")
                    .expect("libraries")
                    .flatten()
                    .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
                    .find(|library| library.is_file())
                    .expect("libfaketime is here: see tests/run");
                self.set("LD_PRELOAD", library.to_str().expect("UTF-8"))
                    .set("FAKETIME", &format!("+{hours}h"))
                    // Neither what measures time nor what stamps files.
                    .set("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                    .set("NO_FAKE_STAT", "1")
            }
            None => self.unset("LD_PRELOAD").unset("FAKETIME"),
        }
    }

    /// Runs a command that ends by itself.
    pub async fn run(&self, args: &[&str], stdin: &str) -> Ended {
        let mut command = self.command(args);
        let stdin = stdin.to_owned();
        tokio::task::spawn_blocking(move || run(&mut command, &stdin)).await.expect("it ran")
    }

    pub async fn start(&self) -> Server {
        self.start_with(&[]).await
    }

    /// Starts `sluice serve` and waits until it listens.
    pub async fn start_with(&self, args: &[&str]) -> Server {
        let all: Vec<&str> = std::iter::once("serve").chain(args.iter().copied()).collect();
        let mut server = self.spawn(&all);
        let marker = " listens on ";
        server.address = until("the server listens", async || {
            let ended = server.child.try_wait().expect("a child");
            assert!(ended.is_none(), "the server ended at once: {}", server.log());
            let out = server.out.lock().expect("a lock");
            let at = out.find(marker)? + marker.len();
            let (line, _) = out[at..].split_once('\n')?;
            Some(line.to_owned())
        })
        .await;
        server
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

fn run(command: &mut Command, stdin: &str) -> Ended {
    use std::io::Write as _;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sluice runs");
    let mut input = child.stdin.take().expect("standard input");
    // A command that does not read its input closes it.
    let _ = input.write_all(stdin.as_bytes());
    drop(input);
    let ends = Instant::now() + PATIENCE;
    while child.try_wait().expect("a child").is_none() {
        if Instant::now() > ends {
            child.kill().expect("killed");
            panic!("sluice did not end by itself");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().expect("its output");
    Ended {
        code: status.code(),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

fn gather(pipe: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let into = text.clone();
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            into.lock().expect("a lock").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    text
}

/// A running server. Dropping it kills the process, and only this one.
pub struct Server {
    child: Child,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
    /// `http://127.0.0.1:PORT`
    pub address: String,
}

impl Server {
    /// Standard error so far.
    pub fn log(&self) -> String {
        self.err.lock().expect("a lock").clone()
    }

    /// Standard output so far.
    pub fn out(&self) -> String {
        self.out.lock().expect("a lock").clone()
    }

    /// A client that is nobody.
    pub fn anonymous(&self) -> Client {
        Client::new(&self.address)
    }

    /// A client of the first account.
    pub async fn admin(&self) -> Client {
        self.anonymous().sign_in("admin@localhost", ADMIN_PASSWORD).await
    }

    /// A URL of this server with user name and password, whatever port it has now.
    pub fn push_url(&self, made: &serde_json::Value) -> String {
        let host = self.address.strip_prefix("http://").expect("http");
        let text = super::client::text;
        format!(
            "http://{}:{}@{host}/git/{}.git",
            text(&made["username"]),
            text(&made["token"]),
            text(&made["id"])
        )
    }

    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("a status");
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let done = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(done.success());
    }

    /// Waits for its end; the status and how long it took.
    pub async fn ended(&mut self) -> (Option<i32>, Duration) {
        let started = Instant::now();
        let child = &mut self.child;
        loop {
            if let Some(status) = child.try_wait().expect("a child") {
                return (status.code(), started.elapsed());
            }
            assert!(started.elapsed() < PATIENCE, "the server did not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server said:\n{}", self.log());
        }
    }
}

/// Every file below a folder.
pub fn files_below(dir: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .flat_map(|entry| {
            let path = entry.path();
            if path.is_dir() { files_below(&path) } else { vec![path] }
        })
        .collect()
}
