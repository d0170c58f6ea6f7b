//! Caches of the entries of real directories, and what a walk over a directory met.
//!
//! Invariants: a cache is of the whole file system, so a path means the same in each.
//! Depends on: `memcg-dentry`.
//! Never: holds its lock while a directory is read.

#![forbid(unsafe_code)]

use crate::text::line::Name;
use crate::text::word::show;
use crate::world::fault::Fault;
use crate::world::lock::lock;
use memcg::testing::os::errno::Errno;
use memcg::{CacheOptions, Task, safe_point};
use memcg_dentry::{DEFAULT_FRESHNESS, DentryCache, Tour};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex};

/// The caches of a scenario, and the last walk of each task.
#[derive(Default)]
pub struct Dentries {
    caches: Mutex<HashMap<Name, Arc<DentryCache>>>,
    walks: Mutex<HashMap<Name, Tour>>,
}

/// What the file system said about a directory, as a refusal.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "std's enum of errors is open"
)]
fn refused(dir: &OsStr, why: &std::io::Error) -> Fault {
    let errno = match why.kind() {
        std::io::ErrorKind::NotFound => Errno::ENOENT,
        std::io::ErrorKind::NotADirectory => Errno::ENOTDIR,
        std::io::ErrorKind::OutOfMemory => Errno::ENOMEM,
        std::io::ErrorKind::PermissionDenied => Errno::EACCES,
        _ => Errno::EINVAL,
    };
    Fault::refused(errno, format!("{}: {why}", show(dir.as_bytes())))
}

impl Dentries {
    /// Makes a cache of the whole file system's entries. `bytes` is the least that an entry is
    /// expected to have, or 0.
    ///
    /// # Errors
    /// EINVAL when an entry has fewer bytes, EEXIST when there is a cache of that name.
    pub fn create(&self, name: &[u8], bytes: u64, options: CacheOptions<'_>) -> Result<(), Fault> {
        let cache = DentryCache::in_cache("/", DEFAULT_FRESHNESS, options)
            .map_err(|why| refused(OsStr::new("/"), &why))?;
        if bytes > cache.entry_bytes() {
            let message = format!("an entry has {} bytes", cache.entry_bytes());
            return Err(Fault::refused(Errno::EINVAL, message));
        }
        let mut caches = lock(&self.caches);
        if caches.contains_key(name) {
            drop(caches);
            let message = format!("cache '{}': there is one of that name", show(name));
            return Err(Fault::refused(Errno::EEXIST, message));
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
                "cache '{}': there is none of entries of that name: 'cache C dentry' makes one",
                show(name)
            );
            Fault::refused(Errno::ENOENT, message)
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

    /// Entries that a cache has, and those that were reclaimed from it.
    ///
    /// # Errors
    /// ENOENT when there is no such cache.
    pub fn counts(&self, name: &[u8]) -> Result<(u64, u64), Fault> {
        let stats = self.cache(name)?.stats();
        Ok((stats.entries, stats.reclaimed))
    }

    /// What a task's last walk met.
    ///
    /// # Errors
    /// ENOENT when it has not walked.
    pub fn last_walk(&self, task: &[u8]) -> Result<Tour, Fault> {
        let tour = lock(&self.walks).get(task).copied();
        let none = || Fault::refused(Errno::ENOENT, format!("{} has not walked", show(task)));
        tour.ok_or_else(none)
    }

    /// Ends all caches.
    pub fn clear(&self) {
        let caches = std::mem::take(&mut *lock(&self.caches));
        drop(caches);
    }
}
