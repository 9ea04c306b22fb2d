//! How much processor time a scan takes.
//!
//! The threads of the pool serve all scans of a process, so the clock of the process
//! tells nothing about one of them. Each piece of work is measured on the thread
//! that does it, by the clock of that thread (`CLOCK_THREAD_CPUTIME_ID`), which
//! stands still while it waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The processor time of the thread that starts it, which must read it too.
pub(super) struct Stopwatch(Duration);

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self(thread_time())
    }

    pub(super) fn elapsed(&self) -> Duration {
        thread_time().saturating_sub(self.0)
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What several threads spent, in nanoseconds.
#[derive(Default)]
pub(super) struct Sum(AtomicU64);

impl Sum {
    /// Does the work on this thread and adds what it took.
    pub(super) fn count<T>(&self, work: impl FnOnce() -> T) -> T {
        let watch = Stopwatch::start();
        let result = work();
        let spent = u64::try_from(watch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(spent, Ordering::Relaxed);
        result
    }

    pub(super) fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_counts_and_sleep_does_not() {
        let sum = Sum::default();
        sum.count(|| std::thread::sleep(Duration::from_millis(50)));
        let slept = sum.total();
        assert!(slept < Duration::from_millis(25), "{slept:?}");
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    sum.count(|| {
                        let watch = Stopwatch::start();
                        while watch.elapsed() < Duration::from_millis(30) {}
                    });
                });
            }
        });
        assert!(sum.total() >= Duration::from_millis(60), "{:?}", sum.total());
    }
}
