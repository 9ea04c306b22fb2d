//! Processes of sluice that run, and what is asked of them.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::server::ADMIN_PASSWORD;
use super::topology::Front;
use super::{Client, PATIENCE, until};

/// One process of sluice. Dropping it kills it, and only it.
pub(super) struct Process {
    child: Child,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
}

impl Process {
    pub(super) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sluice starts");
        let out = gather(child.stdout.take().expect("standard output"));
        let err = gather(child.stderr.take().expect("standard error"));
        Self { child, out, err }
    }

    fn out(&self) -> String {
        self.out.lock().expect("a lock").clone()
    }

    fn err(&self) -> String {
        self.err.lock().expect("a lock").clone()
    }

    /// Waits until it says where it listens: `http://127.0.0.1:PORT`.
    pub(super) async fn listens(&self) -> String {
        let marker = " listens on ";
        until("the server listens", async || {
            let pid = self.child.id();
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let ended = state.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"));
            assert!(!ended, "the server ended at once: {}", self.err());
            let out = self.out();
            let at = out.find(marker)? + marker.len();
            let (line, _) = out[at..].split_once('\n')?;
            Some(line.to_owned())
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running server: one process or all of the stack.
pub struct Server {
    pub(super) processes: Vec<Process>,
    pub(super) front: Option<Front>,
    /// `http://127.0.0.1:PORT`, of the proxy if there is one.
    pub address: String,
}

impl Server {
    /// Standard error so far, process by process.
    pub fn log(&self) -> String {
        self.processes.iter().map(Process::err).collect()
    }

    /// Standard output so far, process by process.
    pub fn out(&self) -> String {
        self.processes.iter().map(Process::out).collect()
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

    /// The ids of its processes.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(|process| process.child.id()).collect()
    }

    /// The id of the only one.
    pub fn pid(&self) -> u32 {
        let pids = self.pids();
        assert_eq!(pids.len(), 1, "a test about one process");
        pids[0]
    }

    /// What servers and workers tell a scraper; of several the sums of each figure.
    pub async fn metrics(&self) -> String {
        let mut sums = BTreeMap::<String, f64>::new();
        let mut servers = 0;
        let mut whole = String::new();
        for process in &self.processes {
            let client = Client::new(&process.listens().await);
            whole = client.get("/metrics").await.expect(200).text();
            servers += 1;
            for line in whole.lines().filter(|line| !line.starts_with('#')) {
                let (series, value) = line.rsplit_once(' ').expect("a figure");
                *sums.entry(series.to_owned()).or_default() += value.parse::<f64>().expect(line);
            }
        }
        if servers == 1 {
            return whole;
        }
        let line = |(series, value): (String, f64)| format!("{series} {value}");
        sums.into_iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// kill -9, all at once.
    pub fn kill(mut self) {
        for process in &mut self.processes {
            process.child.kill().expect("killed");
        }
        for process in &mut self.processes {
            process.child.wait().expect("a status");
        }
    }

    /// Sends SIGTERM to all.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends any signal to all: `-STOP`, `-CONT`.
    pub fn signal(&self, name: &str) {
        let pids = self.pids().into_iter().map(|pid| pid.to_string());
        let done = Command::new("kill").arg(name).args(pids).status().expect("kill runs");
        assert!(done.success());
    }

    /// Waits for its end; the status and how long it took. If a process is killed by a
    /// signal, the others are killed with it.
    pub async fn ended(&mut self) -> (Option<i32>, Duration) {
        let started = Instant::now();
        let code = loop {
            let status = |process: &mut Process| process.child.try_wait().expect("a child");
            let all: Vec<_> = self.processes.iter_mut().map(status).collect();
            if all.iter().flatten().any(|status| status.code().is_none()) {
                for process in &mut self.processes {
                    process.child.kill().expect("killed");
                    process.child.wait().expect("a status");
                }
                break None;
            }
            if all.iter().all(Option::is_some) {
                let codes = all.iter().flatten().filter_map(std::process::ExitStatus::code);
                break codes.max_by_key(|code| *code != 0);
            }
            assert!(started.elapsed() < PATIENCE, "the server did not end: {all:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        if let Some(front) = &self.front {
            front.stop();
        }
        (code, started.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.child.kill();
        }
        if std::thread::panicking() {
            eprintln!("the server said:\n{}", self.log());
        }
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
