//! A real object store for tests: the one that `tests/run` started, with a prefix for
//! each test; one of a test's own, to be killed; and a way to one that can be cut.

#![allow(dead_code)]

use std::net::TcpListener as StdListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sluice::storage::{S3, Storage, StorageError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the parts of the tests are opened with.
pub const KEYS: (&str, &str) = ("test", "testtest");

/// The bucket that is there.
pub const BUCKET: &str = "sluice-test";

fn given(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name}: run the tests with tests/run, which starts it"))
}

/// Where the object store of this run is.
pub fn endpoint() -> String {
    given("TEST_S3_ENDPOINT")
}

/// A prefix that nobody else has.
pub fn prefix() -> String {
    format!("{}/", uuid::Uuid::now_v7())
}

/// A part of the bucket with nothing in it.
pub async fn bucket() -> S3 {
    at(&endpoint(), &prefix()).await.expect("the object store of this run")
}

/// A part of the bucket of an object store.
pub async fn at(endpoint: &str, prefix: &str) -> Result<S3, StorageError> {
    S3::open_at(BUCKET, prefix, endpoint, KEYS).await
}

/// An object store of a test's own.
pub struct Own {
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Own {
    pub async fn start() -> Self {
        let mut own =
            Self { dir: tempfile::tempdir().expect("a folder"), port: free_ports(), child: None };
        own.again().await;
        own
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("gone");
        }
    }

    /// Starts it with the data that it has, and waits until it answers.
    pub async fn again(&mut self) {
        let child = Command::new(given("TEST_S3_COMMAND"))
            .arg(self.dir.path())
            .arg(self.port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("an object store");
        self.child = Some(child);
        for _ in 0..400 {
            if at(&self.endpoint(), "start/").await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the object store did not start in {}", self.dir.path().display());
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The first of five ports that are free, as those 10,000 above them are.
fn free_ports() -> u16 {
    let free = |port: u16| StdListener::bind(("127.0.0.1", port)).is_ok();
    for _ in 0..1000 {
        let base = 12_000 + rand::random_range(0..2000) * 5;
        if (0..5).all(|n| free(base + n) && free(base + 10_000 + n)) {
            return base;
        }
    }
    panic!("no free ports");
}

/// What becomes of bytes on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// They arrive.
    Open,
    /// Connections are taken, and nothing arrives any more in either direction.
    Silent,
    /// Connections are ended at once.
    Refusing,
}

/// A way to a server that can be cut.
pub struct Switch {
    pub port: u16,
    way: Arc<watch::Sender<Way>>,
    task: tokio::task::JoinHandle<()>,
}

impl Switch {
    /// A way to `http://HOST:PORT`.
    pub async fn to(endpoint: &str) -> Self {
        let target = endpoint.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let way = Arc::new(watch::Sender::new(Way::Open));
        let turned = way.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (target, way) = (target.clone(), turned.subscribe());
                tokio::spawn(carry(client, target, way));
            }
        });
        Self { port, way, task }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn turn(&self, way: Way) {
        self.way.send_replace(way);
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut client: TcpStream, target: String, mut way: watch::Receiver<Way>) {
    loop {
        let now = *way.borrow_and_update();
        match now {
            Way::Refusing => return,
            // Held open until the way is turned.
            Way::Silent => {
                if way.changed().await.is_err() {
                    return;
                }
                // Whatever was under way is lost.
                if *way.borrow() != Way::Silent {
                    return;
                }
            }
            Way::Open => {
                let Ok(mut server) = TcpStream::connect(&target).await else { return };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
                    _ = way.changed() => {}
                }
                // A connection outlives only what silences it.
                if *way.borrow() != Way::Silent {
                    return;
                }
            }
        }
    }
}

/// Most memory that this process ever had, in bytes.
pub fn peak() -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib << 10
}

/// The storage of a bucket.
pub fn storage(bucket: &S3) -> Storage {
    Storage::S3(bucket.clone())
}
