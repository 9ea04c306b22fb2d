//! Lets contents into memory only while there is room.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::scan::model::Cancel;

/// How long a waiting thread sleeps before it looks for a wish to stop.
const NAP: Duration = Duration::from_millis(25);

#[derive(Default)]
struct Used {
    bytes: u64,
    items: usize,
}

/// A bound on bytes and on items in flight. A single item larger than the bound
/// passes when nothing else is in flight, so nothing waits for ever.
pub(super) struct Gate {
    used: Mutex<Used>,
    freed: Condvar,
    max_bytes: u64,
    max_items: usize,
}

/// Room that was given; gives it back when dropped, also while unwinding.
pub(super) struct Pass<'a> {
    gate: &'a Gate,
    bytes: u64,
}

impl Gate {
    pub(super) fn new(max_bytes: u64, max_items: usize) -> Self {
        Self { used: Mutex::default(), freed: Condvar::new(), max_bytes, max_items }
    }

    /// Waits for room; `None` once somebody wishes to stop.
    pub(super) fn enter(&self, bytes: u64, cancel: &Cancel) -> Option<Pass<'_>> {
        let mut used = self.lock();
        loop {
            if cancel.is_cancelled() {
                return None;
            }
            let fits =
                used.items < self.max_items && used.bytes.saturating_add(bytes) <= self.max_bytes;
            if fits || used.items == 0 {
                used.bytes = used.bytes.saturating_add(bytes);
                used.items += 1;
                return Some(Pass { gate: self, bytes });
            }
            used = self.freed.wait_timeout(used, NAP).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A holder that panicked between two additions cannot exist: the numbers are
    /// right even in a poisoned lock.
    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut used = self.gate.lock();
        used.bytes = used.bytes.saturating_sub(self.bytes);
        used.items = used.items.saturating_sub(1);
        drop(used);
        self.gate.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_one_large_item_through_and_stops_when_told() {
        let gate = Gate::new(10, 2);
        let cancel = Cancel::new();
        let large = gate.enter(100, &cancel);
        assert!(large.is_some());
        cancel.cancel();
        assert!(gate.enter(1, &cancel).is_none());
        drop(large);
        let cancel = Cancel::new();
        let first = gate.enter(5, &cancel);
        let second = gate.enter(5, &cancel);
        assert!(first.is_some() && second.is_some());
        std::thread::scope(|s| {
            let third = s.spawn(|| gate.enter(5, &cancel).is_some());
            std::thread::sleep(Duration::from_millis(5));
            assert!(!third.is_finished());
            drop(first);
            assert!(third.join().is_ok_and(|entered| entered));
        });
    }
}
