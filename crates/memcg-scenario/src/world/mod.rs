//! What a scenario has made: its tasks, what they hold, its caches, and the way to the engine.
//!
//! Invariants: everything here is shared by the threads of `parallel`.
//! Depends on: the engine of this process.
//! Never: holds a lock over a call of the engine that may take long or free something.
//!
//! The files, each using those above it:
//!
//! - `lock`, `fault`: what all of them need
//! - `pattern`: what is written into things
//! - `objects`, `shared_charge`, `reclaimable`, `regions`: what a task can hold
//! - `things`: what it holds, by tag
//! - `dentries`, `subsystem`: caches of directory entries; who has a say when tasks move

pub mod dentries;
pub mod fault;
pub mod lock;
#[allow(unsafe_code, reason = "objects of the heap are raw memory")]
pub mod objects;
pub mod pattern;
pub mod reclaimable;
pub mod regions;
pub mod shared_charge;
pub mod subsystem;
pub mod things;

use crate::text::line::Name;
use crate::text::word::show;
use crate::world::dentries::Dentries;
use crate::world::fault::Fault;
use crate::world::lock::lock;
use crate::world::reclaimable::ReclaimableCaches;
use crate::world::subsystem::{CallCounts, Registered};
use crate::world::things::TagTable;
use memcg::testing::engine::Engine;
use memcg::testing::engine::process_engine::{engine, with_rec};
use memcg::testing::os::errno::Errno;
use memcg::testing::thread::ThreadRec;
use memcg::{Event, Moved, SizedCache, Task, root};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// All that a scenario has made.
pub struct World {
    tasks: Mutex<HashMap<Name, Arc<Task>>>,
    killed: Mutex<HashSet<Name>>,
    /// What tasks hold, by tag.
    pub things: Arc<TagTable>,
    caches: Mutex<HashMap<Name, Arc<SizedCache>>>,
    /// Caches of entries of directories.
    pub dentries: Dentries,
    /// Caches whose objects are given up when memory is short.
    pub reclaimable: ReclaimableCaches,
    subsystems: Mutex<HashMap<Name, Registered>>,
    /// By task.
    moves: Mutex<HashMap<Name, Moved>>,
    /// Bytes that moves lost, as published, by task.
    leaked: Mutex<HashMap<Name, u64>>,
    /// Kills for memory that were seen.
    kills: AtomicU64,
    seeds: AtomicU64,
}

impl World {
    /// An empty world on this process's engine, whose inconsistencies end the process from now on.
    pub fn new() -> World {
        engine().options.set_strict(true);
        World {
            tasks: Mutex::default(),
            killed: Mutex::default(),
            things: Arc::default(),
            caches: Mutex::default(),
            dentries: Dentries::default(),
            reclaimable: ReclaimableCaches::default(),
            subsystems: Mutex::default(),
            moves: Mutex::default(),
            leaked: Mutex::default(),
            kills: AtomicU64::new(0),
            seeds: AtomicU64::new(1),
        }
    }

    /// Runs `f` with the engine and the thread's record.
    ///
    /// # Errors
    /// ENOMEM when there is no memory for a record.
    pub fn with<R>(f: impl FnOnce(&'static Engine, &'static ThreadRec) -> R) -> Result<R, Fault> {
        with_rec(f).ok_or_else(|| Fault::refused(Errno::ENOMEM, "no memory for a thread's record"))
    }

    /// Sets the number that the patterns of objects begin with.
    pub fn set_seed(&self, seed: u64) {
        self.seeds.store(seed, Ordering::Relaxed);
    }

    /// A number no other pattern of this scenario has.
    pub fn next_seed(&self) -> u64 {
        self.seeds.fetch_add(1, Ordering::Relaxed)
    }

    /// A live task.
    ///
    /// # Errors
    /// ESRCH when there is none of that name.
    pub fn task(&self, name: &[u8]) -> Result<Arc<Task>, Fault> {
        let found = lock(&self.tasks).get(name).cloned();
        found.ok_or_else(|| {
            let why = if self.is_killed(name) {
                "it was killed"
            } else {
                "there is none of that name: 'task NAME PATH' makes one"
            };
            Fault::refused(Errno::ESRCH, format!("task '{}': {why}", show(name)))
        })
    }

    /// The id of a live task, if there is one of that name.
    pub fn task_id(&self, name: &[u8]) -> Option<u32> {
        lock(&self.tasks).get(name).map(|task| task.id())
    }

    /// Keeps a new task.
    ///
    /// # Errors
    /// EEXIST when there is one of that name.
    pub fn add_task(&self, name: &[u8], task: Task) -> Result<(), Fault> {
        let mut tasks = lock(&self.tasks);
        if tasks.contains_key(name) {
            drop(tasks);
            drop(task);
            let message = format!("task '{}': there is one of that name", show(name));
            return Err(Fault::refused(Errno::EEXIST, message));
        }
        tasks.insert(name.to_vec(), Arc::new(task));
        drop(tasks);
        lock(&self.killed).remove(name);
        Ok(())
    }

    /// Frees what a task holds, and ends it.
    ///
    /// # Errors
    /// ESRCH when there is none of that name.
    pub fn end_task(&self, name: &[u8]) -> Result<(), Fault> {
        let task = self.task(name)?;
        lock(&self.tasks).remove(name);
        drop(self.things.remove_all_of(name));
        drop(task);
        Ok(())
    }

    /// Ends the tasks that were told to die. Answers whether there was one.
    pub fn bury(&self) -> bool {
        let dead: Vec<Name> = {
            let tasks = lock(&self.tasks);
            let is_dead =
                |(name, task): (&Name, &Arc<Task>)| task.is_killed().then(|| name.clone());
            tasks.iter().filter_map(is_dead).collect()
        };
        for name in &dead {
            lock(&self.killed).insert(name.clone());
            // Another thread may have buried it.
            let _ = self.end_task(name);
        }
        !dead.is_empty()
    }

    /// As [`Self::bury`], if a kill for memory was counted since the last time.
    pub fn bury_after_oom(&self) -> bool {
        let kills = root().nr_events(Event::OomKill);
        self.kills.swap(kills, Ordering::Relaxed) != kills && self.bury()
    }

    /// Whether a task of that name was killed, and none has come since.
    pub fn is_killed(&self, name: &[u8]) -> bool {
        lock(&self.killed).contains(name)
    }

    /// Keeps a new subsystem.
    ///
    /// # Errors
    /// EEXIST when there is one of that name.
    pub fn add_subsystem(&self, name: &[u8], new: Registered) -> Result<(), Fault> {
        let mut subsystems = lock(&self.subsystems);
        if subsystems.contains_key(name) {
            drop(subsystems);
            drop(new);
            let message = format!("subsystem '{}': there is one of that name", show(name));
            return Err(Fault::refused(Errno::EEXIST, message));
        }
        subsystems.insert(name.to_vec(), new);
        Ok(())
    }

    /// How often a subsystem was called.
    ///
    /// # Errors
    /// ENOENT when there is none of that name.
    pub fn subsystem(&self, name: &[u8]) -> Result<Arc<CallCounts>, Fault> {
        let found = lock(&self.subsystems)
            .get(name)
            .map(|found| Arc::clone(&found.calls));
        found.ok_or_else(|| {
            let message = format!("subsystem '{}': there is none of that name", show(name));
            Fault::refused(Errno::ENOENT, message)
        })
    }

    /// Notes what a task's move did.
    pub fn note_move(&self, task: &[u8], moved: Moved) {
        lock(&self.moves).insert(task.to_vec(), moved);
    }

    /// What a task's last move did.
    ///
    /// # Errors
    /// ESRCH when it has never moved.
    pub fn last_move(&self, task: &[u8]) -> Result<Moved, Fault> {
        let found = lock(&self.moves).get(task).copied();
        found.ok_or_else(|| {
            Fault::refused(
                Errno::ESRCH,
                format!("task '{}' has never moved", show(task)),
            )
        })
    }

    /// Notes that a move of a task has lost bytes.
    pub fn note_leak(&self, task: &[u8], bytes: u64) {
        *lock(&self.leaked).entry(task.to_vec()).or_default() += bytes;
    }

    /// Bytes that moves of a task have lost.
    pub fn leaked_by(&self, task: &[u8]) -> u64 {
        lock(&self.leaked).get(task).copied().unwrap_or(0)
    }

    /// Keeps a new cache.
    ///
    /// # Errors
    /// EEXIST when there is one of that name.
    pub fn add_cache(&self, name: &[u8], cache: SizedCache) -> Result<(), Fault> {
        let mut caches = lock(&self.caches);
        if caches.contains_key(name) {
            drop(caches);
            drop(cache);
            let message = format!("cache '{}': there is one of that name", show(name));
            return Err(Fault::refused(Errno::EEXIST, message));
        }
        caches.insert(name.to_vec(), Arc::new(cache));
        Ok(())
    }

    /// A cache to allocate from.
    ///
    /// # Errors
    /// ENOENT when there is none of that name, EINVAL when it is one of directory entries.
    pub fn cache(&self, name: &[u8]) -> Result<Arc<SizedCache>, Fault> {
        let found = lock(&self.caches).get(name).cloned();
        found.ok_or_else(|| {
            let shown = show(name);
            if self.dentries.has(name) {
                let message = format!(
                    "cache '{shown}': 'TASK walk {shown} DIR' fills a dentry cache; \
                     'cache C size=N reclaimable' makes one to allocate from that can be reclaimed"
                );
                return Fault::refused(Errno::EINVAL, message);
            }
            let message = format!("cache '{shown}': there is none of that name");
            Fault::refused(Errno::ENOENT, message)
        })
    }

    /// Frees everything and ends every task.
    pub fn clear(&self) {
        self.things.clear();
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        drop(tasks);
        let caches = std::mem::take(&mut *lock(&self.caches));
        drop(caches);
        self.dentries.clear();
        self.reclaimable.clear();
        let subsystems = std::mem::take(&mut *lock(&self.subsystems));
        drop(subsystems);
    }
}
