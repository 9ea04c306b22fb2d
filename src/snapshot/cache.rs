//! Decompressed frames, kept for the next file in them. A cache belongs to one
//! snapshot: frames are known by their place in it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// Frames that were just decompressed. Files of one folder share frames, so a reader
/// that goes through a tree decompresses each once. One for each thread is best.
#[derive(Debug)]
pub struct FrameCache {
    frames: VecDeque<((u32, u64), Arc<Vec<u8>>)>,
    capacity: usize,
    /// Where a frame is read to, used again.
    pub(super) buffer: Vec<u8>,
}

impl FrameCache {
    /// Keeps up to `capacity` frames of at most [`FRAME_MAX`](super::FRAME_MAX) bytes each.
    pub fn new(capacity: usize) -> Self {
        Self { frames: VecDeque::new(), capacity, buffer: Vec::new() }
    }

    pub(super) fn get(&self, object: u32, offset: u64) -> Option<Arc<Vec<u8>>> {
        let found = self.frames.iter().find(|(at, _)| *at == (object, offset));
        found.map(|(_, frame)| Arc::clone(frame))
    }

    /// Keeps a frame in place of the oldest one.
    pub(super) fn put(&mut self, object: u32, offset: u64, frame: &Arc<Vec<u8>>) {
        if self.capacity == 0 {
            return;
        }
        if self.frames.len() >= self.capacity {
            self.frames.pop_front();
        }
        self.frames.push_back(((object, offset), Arc::clone(frame)));
    }
}

impl Default for FrameCache {
    fn default() -> Self {
        Self::new(4)
    }
}

/// A [`FrameCache`] for each of many threads: take one, use it, put it back.
#[derive(Debug, Default)]
pub struct CachePool(Mutex<Vec<FrameCache>>);

impl CachePool {
    /// Lends a cache to `work`.
    pub fn with<T>(&self, work: impl FnOnce(&mut FrameCache) -> T) -> T {
        let lock = || self.0.lock().unwrap_or_else(|e| e.into_inner());
        let mut cache = lock().pop().unwrap_or_default();
        let result = work(&mut cache);
        lock().push(cache);
        result
    }
}
