//! `cache C … dentry`, `NAME walk C DIR`: entries of real directories, cached.

use crate::command::Name;
use crate::words::show;
use crate::world::Fault;
use memcg::{CacheOptions, Task, safe_point};
use memcg_dentry::{DEFAULT_FRESHNESS, DentryCache, Tour};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The caches of a scenario, and the last walk of each task.
#[derive(Default)]
pub struct Dentries {
    caches: Mutex<HashMap<Name, Arc<DentryCache>>>,
    walks: Mutex<HashMap<Name, Tour>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file system's word on a directory.
fn refused(dir: &OsStr, why: &std::io::Error) -> Fault {
    let errno = match why.kind() {
        std::io::ErrorKind::NotFound => "ENOENT",
        std::io::ErrorKind::NotADirectory => "ENOTDIR",
        std::io::ErrorKind::OutOfMemory => "ENOMEM",
        std::io::ErrorKind::PermissionDenied => "EACCES",
        _ => "EINVAL",
    };
    Fault::refused(errno, format!("{}: {why}", show(dir.as_bytes())))
}

impl Dentries {
    /// Makes a cache of the whole file system's entries. `bytes`: what an entry is expected to have at least, or 0.
    pub fn create(&self, name: &[u8], bytes: u64, options: CacheOptions<'_>) -> Result<(), Fault> {
        let cache = DentryCache::in_cache("/", DEFAULT_FRESHNESS, options)
            .map_err(|why| refused(OsStr::new("/"), &why))?;
        if bytes > cache.entry_bytes() {
            let message = format!("an entry has {} bytes", cache.entry_bytes());
            return Err(Fault::refused("EINVAL", message));
        }
        let mut caches = lock(&self.caches);
        if caches.contains_key(name) {
            drop(caches);
            let message = format!("cache '{}': there is one of that name", show(name));
            return Err(Fault::refused("EEXIST", message));
        }
        caches.insert(name.to_vec(), Arc::new(cache));
        Ok(())
    }

    /// Whether there is one of that name.
    pub fn has(&self, name: &[u8]) -> bool {
        lock(&self.caches).contains_key(name)
    }

    fn cache(&self, name: &[u8]) -> Result<Arc<DentryCache>, Fault> {
        let found = lock(&self.caches).get(name).cloned();
        found.ok_or_else(|| {
            let message = format!(
                "cache '{}': there is none of entries of that name: 'cache NAME dentry' makes one",
                show(name)
            );
            Fault::refused("ENOENT", message)
        })
    }

    /// Walks a directory for a task.
    pub fn walk(&self, task: &[u8], owner: &Task, cache: &[u8], dir: &[u8]) -> Result<(), Fault> {
        let cache = self.cache(cache)?;
        let dir = OsStr::from_bytes(dir);
        let path = std::path::absolute(dir).map_err(|why| refused(dir, &why))?;
        let tour = {
            let _for_the_task = owner.enter();
            let tour = cache.walk(path).map_err(|why| refused(dir, &why))?;
            safe_point();
            tour
        };
        lock(&self.walks).insert(task.to_vec(), tour);
        Ok(())
    }

    /// A figure of a cache or of a task's last walk; `None`: of something else.
    pub fn figure(&self, name: &[u8], what: &str) -> Result<Option<u64>, Fault> {
        let of_cache = |figure: fn(&DentryCache) -> u64| Ok(Some(figure(&*self.cache(name)?)));
        let of_walk = |figure: fn(Tour) -> u64| {
            let tour = lock(&self.walks).get(name).copied();
            let none = || Fault::refused("ENOENT", format!("{} has not walked", show(name)));
            tour.map(figure).map(Some).ok_or_else(none)
        };
        match what {
            "entries" => of_cache(|cache| cache.stats().entries),
            "reclaimed" => of_cache(|cache| cache.stats().reclaimed),
            "walked" => of_walk(|tour| tour.names),
            "hits" => of_walk(|tour| tour.hits),
            "uncached" => of_walk(|tour| tour.uncached),
            _ => Ok(None),
        }
    }

    /// Ends all caches.
    pub fn clear(&self) {
        let caches = std::mem::take(&mut *lock(&self.caches));
        drop(caches);
    }
}
