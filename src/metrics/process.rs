//! Figures of this process, read from `/proc` (Linux; elsewhere there are none).
//!
//! Names and units are those that all Prometheus clients use.

use prometheus::{Gauge, Opts, Registry};
use rustix::time::{ClockId, clock_gettime};

/// Ticks of a second in `/proc/<pid>/stat`: the ABI of Linux on every architecture
/// that this runs on (`USER_HZ`).
const TICKS: f64 = 100.0;

/// See the module.
pub(super) struct Process {
    cpu: Gauge,
    resident: Gauge,
    virtual_memory: Gauge,
    open_fds: Gauge,
    threads: Gauge,
}

impl Process {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| {
            let gauge = Gauge::with_opts(Opts::new(name, help))?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        let start = gauge("process_start_time_seconds", "When the process started, since 1970.")?;
        start.set(started().unwrap_or(0.0));
        Ok(Self {
            cpu: gauge("process_cpu_seconds_total", "Processor time of all threads.")?,
            resident: gauge("process_resident_memory_bytes", "Memory that is in use.")?,
            virtual_memory: gauge("process_virtual_memory_bytes", "Address space in use.")?,
            open_fds: gauge("process_open_fds", "Open files and sockets.")?,
            threads: gauge("process_threads", "Threads.")?,
        })
    }

    /// Reads the figures of now.
    pub(super) fn read(&self) {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        self.cpu.set(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        };
        self.resident.set(number("VmRSS:").unwrap_or(0.0) * 1024.0);
        self.virtual_memory.set(number("VmSize:").unwrap_or(0.0) * 1024.0);
        self.threads.set(number("Threads:").unwrap_or(0.0));
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.open_fds.set(open as f64);
    }
}

/// Start of the machine plus start of the process, both of Linux's own clock.
fn started() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    let own = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program may hold anything, so count from its closing bracket:
    // `starttime` is the 22nd field, the 20th behind it.
    let (_, fields) = own.rsplit_once(')')?;
    let ticks: f64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    Some(boot + ticks / TICKS)
}
