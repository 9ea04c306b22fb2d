//! Log lines, to standard error: standard output belongs to what was asked for.
//!
//! The line of an answered request ([`ACCESS`]) is written together with those that
//! come within [`PAUSE`] after it, since a system call for each of them costs a busy
//! server a noticeable part of its requests a second. Every other line is written at
//! once, behind those that wait, so that the order is that of the events and the last
//! words of a process that dies are there.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::Metadata;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::config::{Config, LogFormat};
use crate::server::ACCESS;

/// How long the line of an answered request may wait for others.
const PAUSE: Duration = Duration::from_millis(20);

/// Bytes that may wait; more are written at once.
const WAITING: usize = 64 << 10;

/// The lines of this process, once there is a log.
static LINES: OnceLock<Lines> = OnceLock::new();

/// Starts the log, once for a process.
///
/// Libraries are heard from `info` up whatever the filter says: below it they log
/// what they carry, and that may be a header or a body with a secret in it.
pub(super) fn init(config: &Config) {
    use std::io::IsTerminal as _;

    // Both are filters of the whole subscriber: those of one layer, combined, lose lines.
    let careful = filter_fn(|line| {
        *line.level() <= tracing::Level::INFO || line.target().starts_with("sluice")
    });
    let layer = fmt::layer().with_writer(LINES.get_or_init(Lines::start).clone());
    let layer = match config.log_format {
        LogFormat::Text => layer.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let filter = EnvFilter::new(&config.log);
    tracing_subscriber::registry().with(layer).with(filter).with(careful).init();
}

/// Writes what waits; to be called before the process ends.
pub(super) fn flush() {
    if let Some(lines) = LINES.get() {
        Shared::write(&mut lines.0.lock(), io::stderr());
    }
}

/// Lines on their way to standard error.
#[derive(Clone)]
struct Lines(Arc<Shared>);

struct Shared {
    waiting: Mutex<Vec<u8>>,
    some: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        // Consistent after every statement, also after a panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next line in.
    fn add(&self, line: &[u8], may_wait: bool, out: impl io::Write) {
        let mut waiting = self.lock();
        let first = waiting.is_empty();
        waiting.extend_from_slice(line);
        if !may_wait || waiting.len() >= WAITING {
            Self::write(&mut waiting, out);
        } else if first {
            self.some.notify_one();
        }
    }

    /// Writes what waits: under the lock, so that lines keep their order.
    fn write(waiting: &mut Vec<u8>, mut out: impl io::Write) {
        // A log that cannot be written has nowhere to say so.
        let _ = out.write_all(waiting);
        waiting.clear();
    }

    fn write_for_ever(&self) {
        loop {
            let some = self.some.wait_while(self.lock(), |waiting| waiting.is_empty());
            drop(some);
            thread::sleep(PAUSE);
            Self::write(&mut self.lock(), io::stderr());
        }
    }
}

impl Lines {
    fn start() -> Self {
        let shared = Arc::new(Shared { waiting: Mutex::default(), some: Condvar::new() });
        let own = Arc::clone(&shared);
        let writer = thread::Builder::new().name("log".into()).spawn(move || own.write_for_ever());
        if let Err(error) = writer {
            // Lines wait for the next that may not.
            eprintln!("sluice: the log has no thread of its own: {error}");
        }
        Self(shared)
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { shared: &self.0, may_wait: false }
    }

    fn make_writer_for(&'a self, line: &Metadata<'_>) -> Line<'a> {
        Line { shared: &self.0, may_wait: line.target() == ACCESS }
    }
}

/// One line, which the subscriber writes whole.
struct Line<'a> {
    shared: &'a Shared,
    may_wait: bool,
}

impl io::Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.shared.add(line, self.may_wait, io::stderr());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_may_wait_is_written_before_the_next_that_may_not() {
        let shared = Shared { waiting: Mutex::default(), some: Condvar::new() };
        let mut out = Vec::new();
        shared.add(b"a request\n", true, &mut out);
        assert_eq!(out, b"");
        shared.add(b"a fault\n", false, &mut out);
        assert_eq!(out, b"a request\na fault\n");
        shared.add(b"another request\n", true, &mut out);
        shared.add(&vec![b'x'; WAITING], true, &mut out);
        assert!(out.len() > WAITING, "what waits is bounded");
        assert!(shared.lock().is_empty());
    }
}
