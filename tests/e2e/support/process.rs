//! What a process costs, as the kernel counts it.

use super::Server;

/// A server that is watched from here on.
pub struct Watch {
    pids: Vec<u32>,
    idle: u64,
    ticks: u64,
}

/// What a server took since it is watched, all its processes together.
#[derive(Debug)]
pub struct Cost {
    /// The most memory above what it had, in bytes.
    pub memory: u64,
    /// Of all threads, in milliseconds.
    pub cpu_ms: u64,
}

/// The kernel's unit of CPU time on every Linux of today.
const TICKS_PER_SECOND: u64 = 100;

impl Watch {
    pub fn begin(server: &Server) -> Self {
        let pids = server.pids();
        for pid in &pids {
            // Forgets the peak so far.
            std::fs::write(format!("/proc/{pid}/clear_refs"), "5")
                .expect("the peak can be forgotten");
        }
        let (idle, ticks) = (sum(&pids, |pid| status(pid, "VmRSS:")), sum(&pids, ticks));
        Self { pids, idle, ticks }
    }

    pub fn cost(&self) -> Cost {
        let peak = sum(&self.pids, |pid| status(pid, "VmHWM:"));
        Cost {
            memory: peak.saturating_sub(self.idle),
            cpu_ms: (sum(&self.pids, ticks) - self.ticks) * 1000 / TICKS_PER_SECOND,
        }
    }
}

fn sum(pids: &[u32], of: impl Fn(u32) -> u64) -> u64 {
    pids.iter().map(|pid| of(*pid)).sum()
}

fn status(pid: u32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = text.lines().find(|line| line.starts_with(field)).expect("a field");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("KiB") * 1024
}

fn ticks(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    // Behind the name, which may hold anything: fields 14 and 15 are user and system time.
    let (_, rest) = text.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("ticks")).sum()
}
