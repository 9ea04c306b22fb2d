//! The real binary on free ports, in a folder of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use sluice::storage::{S3, Storage};

use super::running::{Process, Server};
use super::topology::{Front, Topology};
use super::{PATIENCE, s3};

/// Password of the first account, unless a test is about the generated one.
pub const ADMIN_PASSWORD: &str = "correct horse battery staple";

/// Folders, a database and an environment: servers may be started here again and again.
pub struct Place {
    pub dir: TempDir,
    /// `None`: SQLite in the data folder.
    pub postgres: Option<String>,
    topology: Topology,
    /// Of the stack.
    store: Option<S3>,
    env: BTreeMap<String, String>,
}

impl Place {
    /// The embedded run on SQLite; or the stack, if that is what is tested.
    pub fn sqlite() -> Self {
        match Topology::wanted() {
            Topology::Single => Self::embedded(),
            Topology::Stack => tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(Self::stack())
            }),
        }
    }

    /// One process on PostgreSQL; or the stack, if that is what is tested.
    pub async fn postgres() -> Self {
        match Topology::wanted() {
            Topology::Single => Self::on_postgres().await,
            Topology::Stack => Self::stack().await,
        }
    }

    fn embedded() -> Self {
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
        Self { dir, postgres: None, topology: Topology::Single, store: None, env }
    }

    async fn on_postgres() -> Self {
        let server = std::env::var("TEST_POSTGRES_URL")
            .expect("TEST_POSTGRES_URL: run the tests with tests/run, which starts PostgreSQL");
        let name = format!("e2e_{}", uuid::Uuid::now_v7().simple());
        let admin = sqlx::PgPool::connect(&format!("{server}/postgres")).await.expect("PostgreSQL");
        sqlx::query(&format!("CREATE DATABASE {name}")).execute(&admin).await.expect("a database");
        admin.close().await;
        let url = format!("{server}/{name}");
        let mut place = Self::embedded();
        place.set("SLUICE_DATABASE_URL", &url);
        place.set("SLUICE_JWT_SECRET", "a secret for tests that is long enough");
        // The same as without a word, but for every process.
        let objects = format!("file://{}", place.dir.path().join("data/objects").display());
        place.set("SLUICE_STORAGE", &objects);
        place.postgres = Some(url);
        place
    }

    /// PostgreSQL, a prefix of its own in the bucket, and a queue of its own.
    async fn stack() -> Self {
        let mut place = Self::on_postgres().await;
        let prefix = s3::prefix();
        place.bucket(&s3::endpoint(), &prefix);
        let queue = std::env::var("TEST_SQS_MINISTACK")
            .expect("TEST_SQS_MINISTACK: run the tests with tests/stack, which starts SQS");
        let name = format!("sqs://e2e-{}", uuid::Uuid::now_v7().simple());
        place.set("SLUICE_QUEUE", &name).set("AWS_ENDPOINT_URL_SQS", &queue);
        place.store = Some(s3::at(&s3::endpoint(), &prefix).await.expect("the object store"));
        place.topology = Topology::Stack;
        place
    }

    /// PostgreSQL, and a prefix of its own in the bucket of this run, which it is also
    /// opened at for looking.
    pub async fn scaled() -> (Self, S3) {
        let mut place = Self::on_postgres().await;
        let prefix = s3::prefix();
        place.bucket(&s3::endpoint(), &prefix);
        let bucket = s3::at(&s3::endpoint(), &prefix).await.expect("the object store");
        (place, bucket)
    }

    /// Objects go to a prefix of the bucket of an object store.
    pub fn bucket(&mut self, endpoint: &str, prefix: &str) -> &mut Self {
        let bucket = format!("s3://{}/{prefix}", s3::BUCKET);
        self.set("SLUICE_STORAGE", &bucket)
            .set("AWS_ENDPOINT_URL_S3", endpoint)
            .set("AWS_ACCESS_KEY_ID", s3::KEYS.0)
            .set("AWS_SECRET_ACCESS_KEY", s3::KEYS.1)
    }

    /// A replica: the same database and storage, and a data folder of its own.
    pub fn replica(&self) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut replica = Self {
            postgres: self.postgres.clone(),
            topology: Topology::Single,
            store: None,
            env: self.env.clone(),
            dir,
        };
        let data = replica.data().display().to_string();
        replica.set("SLUICE_DATA_DIR", &data);
        replica
    }

    pub fn set(&mut self, key: &str, value: &str) -> &mut Self {
        self.env.insert(key.to_owned(), value.to_owned());
        self
    }

    pub fn unset(&mut self, key: &str) -> &mut Self {
        self.env.remove(key);
        self
    }

    /// Everything that the embedded run keeps. The stack has no such folder: a test that
    /// looked into it would find nothing there and be content.
    #[track_caller]
    pub fn data(&self) -> PathBuf {
        assert!(self.topology == Topology::Single, "a test about one process: see tests/stack");
        self.dir.path().join("data")
    }

    /// The data folder of each process.
    fn folders(&self) -> Vec<PathBuf> {
        let names: &[&str] = match self.topology {
            Topology::Single => &["data"],
            Topology::Stack => &["server-1", "server-2", "worker-1", "worker-2"],
        };
        names.iter().map(|name| self.dir.path().join(name)).collect()
    }

    /// The keys of what is stored below a prefix, such as `packs`.
    pub fn stored(&self, prefix: &str) -> Vec<String> {
        if let Some(store) = &self.store {
            let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
            let listing = listed(store, &prefix);
            return tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(listing)
            });
        }
        let root = self.dir.path().join("data/objects");
        let relative = |file: PathBuf| {
            file.strip_prefix(&root).map(|key| key.display().to_string()).expect("below the root")
        };
        files_below(&root.join(prefix)).into_iter().map(relative).collect()
    }

    /// What lies in a folder of the data folders, such as `git/incoming`, not deeper.
    pub fn entries(&self, folder: &str) -> Vec<PathBuf> {
        let of = |data: PathBuf| std::fs::read_dir(data.join(folder)).into_iter().flatten();
        self.folders().into_iter().flat_map(of).flatten().map(|entry| entry.path()).collect()
    }

    /// Every file in a folder of the data folders.
    pub fn files(&self, folder: &str) -> Vec<PathBuf> {
        let of = |data: PathBuf| files_below(&data.join(folder));
        self.folders().into_iter().flat_map(of).collect()
    }

    /// Something is on its way into the store. An object store shows nothing of an object
    /// that is not complete, so of the stack this is not asked.
    pub fn half_stored(&self) -> bool {
        let written = |file: PathBuf| file.metadata().is_ok_and(|metadata| metadata.len() > 0);
        self.topology == Topology::Stack || self.files("objects/tmp").into_iter().any(written)
    }

    /// The names of all files in data folders and store. Of several servers each copies
    /// packs from the store when it is asked for them, so there the copies do not count.
    pub fn everything(&self) -> Vec<String> {
        let names = self.files("").into_iter().map(|file| file.display().to_string());
        if self.topology == Topology::Single {
            return names.collect();
        }
        let kept = names.filter(|name| !name.contains(".git/"));
        kept.chain(self.stored("")).collect()
    }

    /// What the server keeps in all is summed up by each process now and then (`quota`);
    /// after this all have.
    pub async fn replicas_agree(&self) {
        if self.topology == Topology::Stack {
            tokio::time::sleep(Duration::from_millis(5_100)).await;
        }
    }

    /// The place of another process on the same database and storage; what it keeps of its
    /// own is elsewhere. From now on this one shares its storage too.
    pub fn beside(&mut self) -> Self {
        let shared = format!("file://{}", self.dir.path().join("shared").display());
        if self.store.is_none() {
            self.set("SLUICE_STORAGE", &shared);
        }
        self.replica()
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
        if self.store.is_some() {
            // The store lets nobody in whose clock goes wrong; by this door it does.
            let late = hours.map(|_| std::env::var("TEST_S3_LATE").expect("see tests/stack"));
            self.set("AWS_ENDPOINT_URL_S3", &late.unwrap_or_else(s3::endpoint));
        }
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

    /// Starts `sluice serve`, or all of the stack, and waits until it can be used.
    pub async fn start_with(&self, args: &[&str]) -> Server {
        let mut serve = vec!["serve"];
        serve.extend(args);
        if self.topology == Topology::Single {
            let process = Process::start(self.command(&serve));
            let address = process.listens().await;
            return Server { processes: vec![process], front: None, address };
        }
        let mut front = Front::bind();
        let address = format!("http://localhost:{}", front.port());
        let start = |name: &str, args: &[&str]| {
            let mut command = self.command(args);
            command.env("SLUICE_DATA_DIR", self.dir.path().join(name));
            if !self.env.contains_key("SLUICE_PUBLIC_URL") {
                command.env("SLUICE_PUBLIC_URL", &address);
            }
            Process::start(command)
        };
        if !serve.contains(&"--no-worker") {
            serve.push("--no-worker");
        }
        // Both at once, as machines come up: the schema and the first account are made once.
        let mut processes = vec![start("server-1", &serve), start("server-2", &serve)];
        let mut servers = Vec::new();
        for process in &processes {
            let address = process.listens().await;
            servers.push(address["http://".len()..].parse().expect("an address"));
        }
        front.serve(servers);
        let workers = ["worker-1", "worker-2"].into_iter().take(self.workers(args));
        let workers: Vec<Process> = workers.map(|name| start(name, &["worker"])).collect();
        for worker in &workers {
            worker.listens().await;
        }
        processes.extend(workers);
        let address = format!("http://127.0.0.1:{}", front.port());
        Server { processes, front: Some(front), address }
    }

    /// Starts `sluice worker`, with a data folder of its own, and waits until it tells of
    /// itself.
    pub async fn start_worker(&self, name: &str) -> Server {
        let mut command = self.command(&["worker"]);
        command.env("SLUICE_DATA_DIR", self.dir.path().join(name));
        let process = Process::start(command);
        let address = process.listens().await;
        Server { processes: vec![process], front: None, address }
    }

    /// How many of them. A test that has a process die at a point knows what else was
    /// under way: there is no worker if the push dies, and no second one if a job does. A
    /// test that wants one job at a time gets one worker.
    fn workers(&self, args: &[&str]) -> usize {
        let fault = self.env.get("SLUICE_FAULT").map_or("", String::as_str);
        match fault.split('.').next() {
            _ if args.contains(&"--no-worker") => 0,
            Some("push") => 0,
            Some("ingest" | "scan") => 1,
            _ if self.env.get("SLUICE_WORKERS").is_some_and(|slots| slots == "1") => 1,
            _ => 2,
        }
    }
}

/// The keys of an object store below a prefix.
async fn listed(store: &S3, prefix: &str) -> Vec<String> {
    let storage = Storage::S3(store.clone());
    let mut keys = Vec::new();
    loop {
        let after = keys.last().cloned();
        let page = storage.list(prefix, after.as_deref(), 1000).await.expect("a listing");
        keys.extend(page.items.into_iter().map(|object| object.key));
        if page.next.is_none() {
            return keys;
        }
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
