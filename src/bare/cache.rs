//! Which object folders are at hand, who holds them, and which go.
//!
//! Counted are files with one name: a pack that is a link into the storage costs nothing
//! and wins nothing when it goes, so a folder of links stays. What is held is never
//! evicted, so the limit is passed by what is worked with at the moment, if that is
//! more. A folder leaves the cache by a change of its name, which nobody can come
//! between: whoever asks for it afterwards builds it anew.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::SystemTime;

use uuid::Uuid;

use super::folder;

/// The object folders of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// In bytes; 0 is no limit.
    limit: u64,
    state: Mutex<State>,
    /// Held by the one thread that evicts.
    evicting: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// The folders of earlier runs were counted, or are being counted.
    looked: bool,
    folders: HashMap<Uuid, Folder>,
    /// Of all folders.
    bytes: u64,
}

#[derive(Debug)]
struct Folder {
    users: usize,
    bytes: u64,
    used: SystemTime,
    building: Arc<tokio::sync::Mutex<()>>,
}

/// Keeps a folder where it is.
#[derive(Debug)]
pub(super) struct Hold {
    cache: Cache,
    id: Uuid,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs work on a thread that may block, if there is a runtime.
fn aside(work: impl FnOnce() + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn_blocking(work);
    }
}

/// Bytes of a file that go with it: none of a link.
pub(super) fn counted(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.nlink() == 1 => metadata.len(),
        _ => 0,
    }
}

/// Bytes of the packs of a folder that go with it.
fn measure(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder.join("objects").join("pack")) else { return 0 };
    entries.flatten().map(|entry| counted(&entry.path())).sum()
}

impl State {
    fn folder(&mut self, id: Uuid) -> &mut Folder {
        self.folders.entry(id).or_insert_with(|| Folder {
            users: 0,
            bytes: 0,
            used: SystemTime::now(),
            building: Arc::default(),
        })
    }

    fn set(&mut self, id: Uuid, bytes: u64) {
        let folder = self.folder(id);
        let before = std::mem::replace(&mut folder.bytes, bytes);
        self.bytes = (self.bytes - before).saturating_add(bytes);
    }
}

impl Cache {
    /// Of the folders below `<data_dir>/git`, with a limit in bytes; 0 is none.
    pub fn new(data_dir: &Path, limit: u64) -> Self {
        let root = super::root(data_dir);
        Self(Arc::new(Inner { root, limit, state: Mutex::default(), evicting: Mutex::default() }))
    }

    /// Bytes of packs that are at hand and no links, as far as they were counted.
    pub fn bytes(&self) -> u64 {
        lock(&self.0.state).bytes
    }

    /// Holds a folder, whether it is there or not.
    pub(super) fn hold(&self, id: Uuid) -> Hold {
        let mut state = lock(&self.0.state);
        let first = self.0.limit > 0 && !std::mem::replace(&mut state.looked, true);
        let folder = state.folder(id);
        folder.users += 1;
        folder.used = SystemTime::now();
        drop(state);
        if first {
            let cache = self.clone();
            aside(move || {
                cache.look();
                cache.evict();
            });
        }
        Hold { cache: self.clone(), id }
    }

    pub(super) fn forget(&self, id: Uuid) {
        let mut state = lock(&self.0.state);
        if let Some(folder) = state.folders.get(&id) {
            let unused = folder.users == 0;
            state.set(id, 0);
            if unused {
                state.folders.remove(&id);
            }
        }
    }

    fn is_full(&self) -> bool {
        self.0.limit > 0 && lock(&self.0.state).bytes > self.0.limit
    }

    /// Counts what earlier runs left. Blocks.
    fn look(&self) {
        let Ok(entries) = fs::read_dir(&self.0.root) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".git"));
            let Some(id) = id.and_then(|id| Uuid::try_parse(id).ok()) else { continue };
            let bytes = measure(&entry.path());
            let used = entry.metadata().and_then(|metadata| metadata.modified());
            let mut state = lock(&self.0.state);
            let known = state.folders.contains_key(&id);
            if bytes > 0 {
                state.set(id, bytes);
                if let (false, Ok(used)) = (known, used) {
                    state.folder(id).used = used;
                }
            }
        }
    }

    /// Lets the folders go that were not used for longest, until the limit is kept or
    /// all that is left is in use. Blocks.
    fn evict(&self) {
        // Whoever is at it sees what came meanwhile.
        let _one = match self.0.evicting.try_lock() {
            Ok(one) => one,
            Err(TryLockError::Poisoned(one)) => one.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        while self.is_full() {
            let mut unused: Vec<(SystemTime, Uuid)> = lock(&self.0.state)
                .folders
                .iter()
                .filter(|(_, folder)| folder.users == 0 && folder.bytes > 0)
                .map(|(id, folder)| (folder.used, *id))
                .collect();
            unused.sort_unstable();
            let mut gone = false;
            for (_, id) in unused {
                if !self.is_full() {
                    break;
                }
                match self.let_go(id) {
                    Ok(true) => gone = true,
                    Ok(false) => {}
                    Err(error) => tracing::warn!("cannot let go of packs at hand: {error}"),
                }
            }
            if !gone {
                return;
            }
        }
    }

    /// Removes a folder unless somebody holds it.
    fn let_go(&self, id: Uuid) -> io::Result<bool> {
        // Among the quarantines, which are swept if this process dies now.
        let away = self.0.root.join("incoming").join(format!("incoming-{}", Uuid::new_v4()));
        fs::create_dir_all(self.0.root.join("incoming"))?;
        {
            let mut state = lock(&self.0.state);
            let Some(folder) = state.folders.get(&id) else { return Ok(false) };
            if folder.users > 0 {
                return Ok(false);
            }
            let bytes = folder.bytes;
            match fs::rename(super::folder(&self.0.root, id), &away) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            state.set(id, 0);
            state.folders.remove(&id);
            tracing::debug!(upload = %id, bytes, "packs at hand were let go");
        }
        match fs::remove_dir_all(away) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(true),
        }
    }
}

impl Hold {
    /// For the one who builds the folder.
    pub(super) fn building(&self) -> Arc<tokio::sync::Mutex<()>> {
        lock(&self.cache.0.state).folder(self.id).building.clone()
    }

    /// Counts bytes that were moved in.
    pub(super) fn add(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let mut state = lock(&self.cache.0.state);
        let bytes = state.folder(self.id).bytes.saturating_add(bytes);
        state.set(self.id, bytes);
    }

    /// Counts what is there. Blocks.
    pub(super) fn measure(&self) {
        let bytes = measure(&folder(&self.cache.0.root, self.id));
        lock(&self.cache.0.state).set(self.id, bytes);
        if self.cache.is_full() {
            self.cache.evict();
        }
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        self.cache.hold(self.id)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.cache.0.state);
            let folder = state.folder(self.id);
            folder.users = folder.users.saturating_sub(1);
            // What has no bytes is not worth a line of memory.
            if folder.users == 0 && folder.bytes == 0 {
                state.folders.remove(&self.id);
            }
        }
        if self.cache.is_full() {
            let cache = self.cache.clone();
            aside(move || cache.evict());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct House {
        dir: tempfile::TempDir,
        cache: Cache,
    }

    impl House {
        fn new(limit: u64) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let cache = Cache::new(dir.path(), limit);
            Self { dir, cache }
        }

        fn path(&self, id: Uuid) -> PathBuf {
            folder(&super::super::root(self.dir.path()), id)
        }

        /// A folder with a pack of so many bytes.
        fn fill(&self, id: Uuid, bytes: usize) {
            let packs = self.path(id).join("objects/pack");
            fs::create_dir_all(&packs).unwrap();
            fs::write(packs.join("pack-1.pack"), vec![0; bytes]).unwrap();
        }

        fn build(&self, bytes: usize) -> Uuid {
            let id = Uuid::now_v7();
            let hold = self.cache.hold(id);
            self.fill(id, bytes);
            hold.measure();
            id
        }
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let house = House::new(250);
        let (first, second) = (house.build(100), house.build(100));
        drop(house.cache.hold(first));
        let third = house.build(100);
        assert!(!house.path(second).exists());
        assert!(house.path(first).exists() && house.path(third).exists());
        assert_eq!(house.cache.bytes(), 200);
        // Nothing but the quarantine's folder is left of it.
        assert_eq!(fs::read_dir(house.dir.path().join("git/incoming")).unwrap().count(), 0);
    }

    #[test]
    fn what_is_held_stays_whatever_it_takes() {
        let house = House::new(150);
        let first = house.build(100);
        let held = house.cache.hold(first);
        let again = held.clone();
        drop(held);
        let second = Uuid::now_v7();
        let hold = house.cache.hold(second);
        house.fill(second, 100);
        hold.measure();
        assert!(house.path(first).exists() && house.path(second).exists());
        drop(again);
        house.cache.evict();
        assert!(!house.path(first).exists() && house.path(second).exists());
        assert_eq!(house.cache.bytes(), 100);
    }

    #[test]
    fn links_cost_nothing_and_stay() {
        let house = House::new(50);
        let id = Uuid::now_v7();
        let hold = house.cache.hold(id);
        house.fill(id, 100);
        let pack = house.path(id).join("objects/pack/pack-1.pack");
        fs::hard_link(&pack, house.dir.path().join("stored")).unwrap();
        hold.measure();
        drop(hold);
        assert_eq!(house.cache.bytes(), 0);
        let other = house.build(60);
        house.cache.evict();
        assert!(house.path(id).exists());
        assert!(!house.path(other).exists());
        assert!(lock(&house.cache.0.state).folders.is_empty());
    }

    #[tokio::test]
    async fn what_earlier_runs_left_counts_by_the_time_of_its_last_use() {
        let house = House::new(250);
        let ids: Vec<Uuid> = (0..4).map(|_| Uuid::now_v7()).collect();
        for (age, id) in ids.iter().enumerate() {
            house.fill(*id, 100);
            let at = SystemTime::now() - std::time::Duration::from_secs(1000 * (age as u64 + 1));
            fs::File::open(house.path(*id)).unwrap().set_modified(at).unwrap();
        }
        drop(house.cache.hold(Uuid::now_v7()));
        for _ in 0..200 {
            if !house.path(ids[2]).exists() && !house.path(ids[3]).exists() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let there: Vec<bool> = ids.iter().map(|id| house.path(*id).exists()).collect();
        assert_eq!(there, [true, true, false, false]);
    }

    #[test]
    fn without_a_limit_everything_stays() {
        let house = House::new(0);
        let ids: Vec<Uuid> = (0..5).map(|_| house.build(1000)).collect();
        house.cache.evict();
        assert!(ids.iter().all(|id| house.path(*id).exists()));
        house.cache.forget(ids[0]);
        assert_eq!(house.cache.bytes(), 4000);
    }
}
