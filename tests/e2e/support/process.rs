//! What a process costs, as the kernel counts it.

use super::Server;

/// A server that is watched from here on.
pub struct Watch {
    /// Of each process: its id, its memory, its time.
    processes: Vec<(u32, u64, u64)>,
}

/// What a server took since it is watched.
#[derive(Debug)]
pub struct Cost {
    /// The most memory above what it had, in bytes; of several processes, of the one that
    /// took most.
    pub memory: u64,
    /// Of all threads, in milliseconds.
    pub cpu_ms: u64,
}

/// The kernel's unit of CPU time on every Linux of today.
const TICKS_PER_SECOND: u64 = 100;

impl Watch {
    pub fn begin(server: &Server) -> Self {
        let begin = |pid: u32| {
            // Forgets the peak so far.
            std::fs::write(format!("/proc/{pid}/clear_refs"), "5")
                .expect("the peak can be forgotten");
            (pid, status(pid, "VmRSS:"), ticks(pid))
        };
        Self { processes: server.pids().into_iter().map(begin).collect() }
    }

    pub fn cost(&self) -> Cost {
        let memory =
            |(pid, idle, _): &(u32, u64, u64)| status(*pid, "VmHWM:").saturating_sub(*idle);
        let spent = |(pid, _, before): &(u32, u64, u64)| ticks(*pid) - before;
        Cost {
            memory: self.processes.iter().map(memory).max().unwrap_or_default(),
            cpu_ms: self.processes.iter().map(spent).sum::<u64>() * 1000 / TICKS_PER_SECOND,
        }
    }
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
