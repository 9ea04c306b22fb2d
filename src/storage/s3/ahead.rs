//! Reading ahead: who goes through an object in small steps asks for it in large ones.
//!
//! A scan reads thousands of frames of some KiB, one after the other and from several
//! threads; a request for each would cost more than all the rest of the scan. So a read
//! that begins where the last one of its object ended takes a window with it, twice as
//! long as the window before, up to [`WINDOW`]; the reads that follow find it. A read
//! anywhere else asks for its bytes and nothing more, so that showing one file of a
//! snapshot moves one file.
//!
//! The windows of all objects together take no more than [`MOST`] bytes: the one that
//! was not used for longest makes room. Those that wait for a window wait for one
//! request together.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::storage::StorageError;

/// Bytes of the first window of a run.
const FIRST: u64 = 256 << 10;

/// Most bytes of a window.
const WINDOW: u64 = 4 << 20;

/// Most bytes of all windows of a process.
const MOST: u64 = 64 << 20;

/// The windows of a process.
#[derive(Debug, Default)]
pub(super) struct Windows {
    kept: Mutex<Kept>,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    windows: Vec<Window>,
    bytes: u64,
    clock: u64,
}

#[derive(Debug)]
struct Window {
    track: u64,
    range: Range<u64>,
    used: u64,
    content: Arc<OnceCell<Bytes>>,
}

/// Where the readers of one open object are. Its windows go with it.
#[derive(Debug)]
pub(super) struct Track {
    windows: Arc<Windows>,
    number: u64,
    size: u64,
    run: Mutex<Run>,
}

#[derive(Debug)]
struct Run {
    /// Behind the last read that asked the bucket.
    next: u64,
    /// Length of the next window.
    length: u64,
}

/// What a read is to ask for.
enum Plan {
    /// A window that is there or on its way.
    Window(Range<u64>, Arc<OnceCell<Bytes>>),
    /// The range itself.
    Alone,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Windows {
    /// Begins to follow an object.
    pub(super) fn track(self: &Arc<Self>, size: u64) -> Track {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let run = Mutex::new(Run { next: 0, length: FIRST });
        Track { windows: self.clone(), number, size, run }
    }
}

impl Kept {
    fn find(&mut self, track: u64, range: &Range<u64>) -> Option<Plan> {
        self.clock += 1;
        let clock = self.clock;
        let window = self.windows.iter_mut().find(|window| {
            window.track == track
                && window.range.start <= range.start
                && range.end <= window.range.end
        })?;
        window.used = clock;
        Some(Plan::Window(window.range.clone(), window.content.clone()))
    }

    fn add(&mut self, track: u64, range: Range<u64>) -> Plan {
        let length = range.end - range.start;
        while self.bytes + length > MOST {
            let oldest = self.windows.iter().enumerate().min_by_key(|(_, window)| window.used);
            let Some((oldest, _)) = oldest else { break };
            let gone = self.windows.swap_remove(oldest).range;
            self.bytes -= gone.end - gone.start;
        }
        let content = Arc::new(OnceCell::new());
        self.windows.push(Window {
            track,
            range: range.clone(),
            used: self.clock,
            content: content.clone(),
        });
        self.bytes += length;
        Plan::Window(range, content)
    }

    fn forget(&mut self, track: u64) {
        let bytes = &mut self.bytes;
        self.windows.retain(|window| {
            let stays = window.track != track;
            if !stays {
                *bytes -= window.range.end - window.range.start;
            }
            stays
        });
    }
}

/// A part of a window.
fn part(window: &Range<u64>, content: &Bytes, range: &Range<u64>) -> Bytes {
    let at = |place: u64| (place - window.start) as usize;
    content.slice(at(range.start)..at(range.end))
}

impl Track {
    /// The bytes of a range, if they are here.
    pub(super) fn at_hand(&self, range: &Range<u64>) -> Option<Bytes> {
        match lock(&self.windows.kept).find(self.number, range)? {
            Plan::Window(window, content) => Some(part(&window, content.get()?, range)),
            Plan::Alone => None,
        }
    }

    /// The bytes of a range within the object, which `fetch` brings if need be.
    pub(super) async fn read<F>(
        &self,
        range: Range<u64>,
        fetch: impl Fn(Range<u64>) -> F,
    ) -> Result<Bytes, StorageError>
    where
        F: Future<Output = Result<Bytes, StorageError>>,
    {
        match self.plan(&range) {
            Plan::Alone => fetch(range).await,
            Plan::Window(window, content) => {
                // Of many who wait one asks; if that fails, the next one does.
                let content = content.get_or_try_init(|| fetch(window.clone())).await?;
                Ok(part(&window, content, &range))
            }
        }
    }

    fn plan(&self, range: &Range<u64>) -> Plan {
        // Held while the windows are looked at, so that of several threads in one run
        // only one begins the next window.
        let mut run = lock(&self.run);
        let mut kept = lock(&self.windows.kept);
        if let Some(found) = kept.find(self.number, range) {
            return found;
        }
        // Whoever was overtaken reads what lies behind, which ends no run.
        let behind = range.end <= run.next && run.next - range.end < WINDOW;
        if behind && run.length > FIRST {
            return Plan::Alone;
        }
        // Threads overtake each other a little, and a frame may reach over the end of
        // its window.
        let near = range.start <= run.next + run.length / 2 && range.end > run.next;
        let long = range.end - range.start >= WINDOW;
        if !near || run.next == 0 || long {
            *run = Run { next: range.end, length: FIRST };
            return Plan::Alone;
        }
        let start = range.start.min(run.next);
        let end = (start + run.length).max(range.end).min(self.size);
        if end - start > WINDOW {
            *run = Run { next: range.end, length: FIRST };
            return Plan::Alone;
        }
        *run = Run { next: end, length: (run.length * 2).min(WINDOW) };
        kept.add(self.number, start..end)
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        lock(&self.windows.kept).forget(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(track: &Track, asked: &Mutex<Vec<Range<u64>>>, range: Range<u64>) {
        let bytes = track
            .read(range.clone(), |range| async {
                lock(asked).push(range.clone());
                Ok(range.map(|n| n as u8).collect())
            })
            .await
            .unwrap();
        assert!(bytes.iter().copied().eq(range.map(|n| n as u8)));
    }

    #[tokio::test]
    async fn who_goes_on_where_he_was_takes_ever_longer_windows() {
        let (windows, asked) = (Arc::new(Windows::default()), Mutex::default());
        let size = 20 << 20;
        let track = windows.track(size);
        let mut at = 8;
        while at < size {
            let end = (at + 50_000).min(size);
            read(&track, &asked, at..end).await;
            at = end;
        }
        let asked = lock(&asked);
        assert!(asked.len() < 12, "{asked:?}");
        let bytes: u64 = asked.iter().map(|range| range.end - range.start).sum();
        assert!(bytes < size + size / 10, "{bytes}");
    }

    #[tokio::test]
    async fn who_jumps_gets_what_he_asks_for() {
        let (windows, asked) = (Arc::new(Windows::default()), Mutex::default());
        let track = windows.track(1 << 30);
        for n in 1..50_u64 {
            // Backwards, and far apart.
            let start = (60 - n) * (10 << 20);
            read(&track, &asked, start..start + 1000).await;
        }
        assert!(lock(&asked).iter().all(|range| range.end - range.start == 1000));
        assert_eq!(lock(&windows.kept).bytes, 0);
    }

    #[tokio::test]
    async fn windows_are_bounded_and_go_with_their_object() {
        let (windows, asked) = (Arc::new(Windows::default()), Mutex::default());
        let tracks: Vec<Track> = (0..30).map(|_| windows.track(16 << 20)).collect();
        for at in (0..(12_u64 << 20)).step_by(100_000) {
            for track in &tracks {
                read(track, &asked, at..at + 100_000).await;
                assert!(lock(&windows.kept).bytes <= MOST);
            }
        }
        drop(tracks);
        let kept = lock(&windows.kept);
        assert!(kept.windows.is_empty() && kept.bytes == 0);
    }

    #[tokio::test]
    async fn what_fails_is_asked_for_again() {
        let windows = Arc::new(Windows::default());
        let track = windows.track(1 << 20);
        let asked = Mutex::default();
        read(&track, &asked, 0..10).await;
        let failed = track
            .read(10..20, |_| async { Err(StorageError::NotFound { key: "k".to_owned() }) })
            .await;
        assert!(failed.is_err());
        read(&track, &asked, 10..20).await;
        read(&track, &asked, 20..30).await;
        assert_eq!(lock(&asked).len(), 2);
    }
}
