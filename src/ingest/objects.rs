//! Handles on the objects of one repository, for work on several threads.
//!
//! A handle belongs to one thread at a time and keeps caches of its own: without
//! them every object of a chain of deltas is put together from its beginning, which
//! made the walk of a history and the reading of its blobs several times slower.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use gix_odb::{HandleArc, Store};
use gix_pack::cache::lru::MemoryCappedHashmap as Bases;
use gix_pack::cache::object::MemoryCappedHashmap as Objects;

use super::{DELTA_CACHE, open_objects};

/// Recently decoded trees and commits of a walk, in bytes: the tree of a commit is
/// also the older side of the next comparison.
const WALK_CACHE: usize = 64 << 20;

/// See the module. Idle handles are kept, at most one for each thread that ever
/// read at the same time.
pub struct ObjectPool {
    store: Arc<Store>,
    idle: Mutex<Vec<HandleArc>>,
}

impl ObjectPool {
    /// Opens the objects folder of a bare repository whose ids are of this kind.
    pub fn open(objects: &Path, hash: gix_hash::Kind) -> io::Result<Self> {
        let first = open_objects(objects, hash)?;
        Ok(Self { store: first.into_inner().store(), idle: Mutex::default() })
    }

    fn handle(&self) -> HandleArc {
        let mut handle = self.store.to_cache_arc();
        handle.set_pack_cache(|| Box::new(Bases::new(DELTA_CACHE)));
        handle
    }

    /// Lends a handle whose caches stay warm from one loan to the next.
    pub fn with<T>(&self, work: impl FnOnce(&HandleArc) -> T) -> T {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let handle = idle.unwrap_or_else(|| self.handle());
        let result = work(&handle);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
        result
    }

    /// A handle for one long walk over commits and trees.
    pub fn walker(&self) -> HandleArc {
        let mut handle = self.handle();
        handle.set_object_cache(|| Box::new(Objects::new(WALK_CACHE)));
        handle
    }
}
