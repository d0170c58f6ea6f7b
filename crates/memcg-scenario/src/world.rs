//! What a scenario has made: its tasks, what they hold, and the way to the engine.
//!
//! Kept: everything here is shared by the threads of `parallel`; no lock is held over a call of the engine that may take
//! long or free anything.

use crate::command::{Name, Needs};
use crate::dentries::Dentries;
use crate::heap::Objects;
use crate::holders::{Held, SharedCharge};
use crate::kept::{Kept, KeptObjects};
use crate::subsystems::{Asked, Registered};
use crate::words::show;
use memcg::testing::engine::Engine;
use memcg::testing::engine::process::{engine, with_rec};
use memcg::testing::files::FileError;
use memcg::testing::thread::ThreadRec;
use memcg::{Charge, Event, Moved, SizedCache, Task, root};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why a command did not do what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was refused; `fails` can name the error.
    Refused {
        /// The error's name.
        errno: String,
        /// What, where, what to do.
        message: String,
    },
    /// Something is not as expected.
    Wrong(String),
    /// This build cannot do it.
    Lacks {
        /// What was asked for.
        what: String,
        /// What it needs.
        needs: Needs,
    },
}

impl Fault {
    /// A refusal.
    pub fn refused(errno: &str, message: impl Into<String>) -> Fault {
        Fault::Refused {
            errno: errno.to_owned(),
            message: message.into(),
        }
    }
}

impl From<FileError> for Fault {
    fn from(error: FileError) -> Fault {
        Fault::refused(error.errno.name(), error.message)
    }
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Fault::Refused { errno, message } => write!(f, "{errno}: {message}"),
            Fault::Wrong(why) => f.write_str(why),
            Fault::Lacks { what, needs } => write!(
                f,
                "'{what}' needs {}, which this build does not have",
                needs.text()
            ),
        }
    }
}

/// Something a task holds.
pub enum Part {
    /// Heap objects.
    Heap(Objects),
    /// A reservation.
    Reserved(Charge),
    /// One that others may hold as well.
    Shared(SharedCharge),
    /// Objects of a cache that gives them up.
    Kept(KeptObjects),
}

impl Part {
    /// Bytes it takes.
    pub fn bytes(&self) -> u64 {
        match self {
            Part::Heap(objects) => objects.bytes(),
            Part::Reserved(charge) => charge.bytes(),
            Part::Shared(charge) => charge.bytes(),
            Part::Kept(objects) => objects.bytes(),
        }
    }

    /// Objects, or reservations, that are left of it.
    pub fn left(&self) -> u64 {
        match self {
            Part::Heap(objects) => objects.len() as u64,
            Part::Reserved(_) | Part::Shared(_) => 1,
            Part::Kept(objects) => objects.left(),
        }
    }

    /// It is used by who the thread works for: what a group that has ended left may be his from now on.
    pub fn touch(&mut self) {
        match self {
            Part::Heap(objects) => objects.touch(),
            Part::Reserved(charge) => drop(charge.touch()),
            Part::Shared(charge) => charge.touch(),
            Part::Kept(objects) => objects.touch(),
        }
    }

    /// The first object of it that does not hold what was written into it.
    pub fn first_damaged(&self) -> Option<usize> {
        match self {
            Part::Heap(objects) => objects.first_damaged(),
            Part::Reserved(_) | Part::Shared(_) => None,
            Part::Kept(objects) => objects.first_damaged(),
        }
    }

    /// What it is, in words.
    fn text(&self) -> String {
        match self {
            Part::Heap(objects) => format!("{} objects", objects.len()),
            Part::Reserved(_) | Part::Shared(_) => format!("{} bytes reserved", self.bytes()),
            // How many is its cache's affair.
            Part::Kept(_) => "objects that can be given up".to_owned(),
        }
    }
}

/// What a tag names.
pub struct Things {
    /// The task that holds it.
    pub holder: Name,
    /// In the order they were made.
    pub parts: Vec<Part>,
    /// Who holds it as well.
    pub others: Vec<(Name, Held)>,
}

/// What all tags name.
#[derive(Default)]
pub struct Table(Mutex<HashMap<Name, Things>>);

impl Table {
    /// Runs `f` on what a tag names, to change it. No engine's work that may free something.
    pub fn change<R>(&self, tag: &[u8], f: impl FnOnce(&mut Things) -> R) -> Result<R, Fault> {
        let mut things = lock(&self.0);
        things.get_mut(tag).map(f).ok_or_else(|| no_tag(tag))
    }

    /// Runs `f` on what a tag names, if there is anything.
    pub fn look<R>(&self, tag: &[u8], f: impl FnOnce(&Things) -> R) -> Option<R> {
        lock(&self.0).get(tag).map(f)
    }
}

/// See the module.
pub struct World {
    tasks: Mutex<HashMap<Name, Arc<Task>>>,
    killed: Mutex<HashSet<Name>>,
    things: Arc<Table>,
    caches: Mutex<HashMap<Name, Arc<SizedCache>>>,
    /// Caches of entries of directories.
    pub dentries: Dentries,
    /// Caches whose objects are given up.
    pub kept: Kept,
    subsystems: Mutex<HashMap<Name, Registered>>,
    /// By task.
    moves: Mutex<HashMap<Name, Moved>>,
    /// Bytes that moves lost, as published, by task.
    leaked: Mutex<HashMap<Name, u64>>,
    /// Kills for memory that were seen.
    kills: AtomicU64,
    seeds: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Empty, on this process's engine.
    pub fn new() -> World {
        engine().options.set_strict(true);
        World {
            tasks: Mutex::default(),
            killed: Mutex::default(),
            things: Arc::default(),
            caches: Mutex::default(),
            dentries: Dentries::default(),
            kept: Kept::default(),
            subsystems: Mutex::default(),
            moves: Mutex::default(),
            leaked: Mutex::default(),
            kills: AtomicU64::new(0),
            seeds: AtomicU64::new(1),
        }
    }

    /// Runs `f` with the engine and the thread's record.
    pub fn with<R>(f: impl FnOnce(&'static Engine, &'static ThreadRec) -> R) -> Result<R, Fault> {
        with_rec(f).ok_or_else(|| Fault::refused("ENOMEM", "no memory for a thread's record"))
    }

    /// What is written into objects begins there.
    pub fn set_seed(&self, seed: u64) {
        self.seeds.store(seed, Ordering::Relaxed);
    }

    /// A number no other pattern of this scenario has.
    pub fn next_seed(&self) -> u64 {
        self.seeds.fetch_add(1, Ordering::Relaxed)
    }

    /// A live task.
    pub fn task(&self, name: &[u8]) -> Result<Arc<Task>, Fault> {
        let found = lock(&self.tasks).get(name).cloned();
        found.ok_or_else(|| {
            let why = if self.is_killed(name) {
                "it was killed"
            } else {
                "there is none of that name: 'task NAME PATH' makes one"
            };
            Fault::refused("ESRCH", format!("task '{}': {why}", show(name)))
        })
    }

    /// The id of a live task, if there is one of that name.
    pub fn task_id(&self, name: &[u8]) -> Option<u32> {
        lock(&self.tasks).get(name).map(|task| task.id())
    }

    /// Keeps a new task.
    pub fn add_task(&self, name: &[u8], task: Task) -> Result<(), Fault> {
        let mut tasks = lock(&self.tasks);
        if tasks.contains_key(name) {
            drop(tasks);
            drop(task);
            let message = format!("task '{}': there is one of that name", show(name));
            return Err(Fault::refused("EEXIST", message));
        }
        tasks.insert(name.to_vec(), Arc::new(task));
        drop(tasks);
        lock(&self.killed).remove(name);
        Ok(())
    }

    /// Ends a task: what it holds is freed, then it is gone.
    pub fn end_task(&self, name: &[u8]) -> Result<(), Fault> {
        let task = self.task(name)?;
        lock(&self.tasks).remove(name);
        let (mut held, mut ends) = (Vec::new(), Vec::new());
        {
            let mut things = lock(&self.things.0);
            let tags: Vec<Name> = things
                .iter()
                .filter(|(_, thing)| thing.holder == name)
                .map(|(tag, _)| tag.clone())
                .collect();
            for tag in tags {
                held.extend(things.remove(&tag));
            }
            for thing in things.values_mut() {
                let others = std::mem::take(&mut thing.others);
                let (its, others): (Vec<_>, Vec<_>) =
                    others.into_iter().partition(|(holder, _)| holder == name);
                thing.others = others;
                ends.extend(its);
            }
        }
        drop((held, ends));
        drop(task);
        Ok(())
    }

    /// Ends the tasks that were told to die; whether there was one.
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

    /// Whether `holder` may add to what `tag` names.
    pub fn check_tag(&self, tag: &[u8], holder: &[u8]) -> Result<(), Fault> {
        match lock(&self.things.0).get(tag) {
            Some(thing) if thing.holder != holder => Err(Fault::refused(
                "EEXIST",
                format!("'{}' is held by {}", show(tag), show(&thing.holder)),
            )),
            _ => Ok(()),
        }
    }

    /// Adds to what `tag` names.
    pub fn hold(&self, tag: &[u8], holder: &[u8], part: Part) -> Result<(), Fault> {
        let refused = {
            let mut things = lock(&self.things.0);
            let thing = things.entry(tag.to_vec()).or_insert_with(|| Things {
                holder: holder.to_vec(),
                parts: Vec::new(),
                others: Vec::new(),
            });
            if thing.holder == holder {
                thing.parts.push(part);
                return Ok(());
            }
            part
        };
        // Freed where no lock is held.
        drop(refused);
        self.check_tag(tag, holder)
    }

    /// What all tags name.
    pub fn things(&self) -> &Arc<Table> {
        &self.things
    }

    /// Takes what a tag names out.
    pub fn take(&self, tag: &[u8]) -> Result<Things, Fault> {
        let taken = lock(&self.things.0).remove(tag);
        taken.ok_or_else(|| no_tag(tag))
    }

    /// Hands a tag on.
    pub fn give(&self, tag: &[u8], from: &[u8], to: &[u8]) -> Result<(), Fault> {
        let mut things = lock(&self.things.0);
        let thing = things.get_mut(tag).ok_or_else(|| no_tag(tag))?;
        if thing.holder != from {
            let message = format!("'{}' is held by {}", show(tag), show(&thing.holder));
            return Err(Fault::refused("EPERM", message));
        }
        thing.holder = to.to_vec();
        Ok(())
    }

    /// Runs `f` on what a tag names, to change it. No engine's work that may free something.
    pub fn change<R>(&self, tag: &[u8], f: impl FnOnce(&mut Things) -> R) -> Result<R, Fault> {
        self.things.change(tag, f)
    }

    /// Runs `f` on what a tag names, if there is anything.
    pub fn look<R>(&self, tag: &[u8], f: impl FnOnce(&Things) -> R) -> Option<R> {
        self.things.look(tag, f)
    }

    /// Keeps a new subsystem.
    pub fn add_subsystem(&self, name: &[u8], new: Registered) -> Result<(), Fault> {
        let mut subsystems = lock(&self.subsystems);
        if subsystems.contains_key(name) {
            drop(subsystems);
            drop(new);
            let message = format!("subsystem '{}': there is one of that name", show(name));
            return Err(Fault::refused("EEXIST", message));
        }
        subsystems.insert(name.to_vec(), new);
        Ok(())
    }

    /// What a subsystem was asked.
    pub fn subsystem(&self, name: &[u8]) -> Result<Arc<Asked>, Fault> {
        let found = lock(&self.subsystems)
            .get(name)
            .map(|found| Arc::clone(&found.asked));
        found.ok_or_else(|| {
            let message = format!("subsystem '{}': there is none of that name", show(name));
            Fault::refused("ENOENT", message)
        })
    }

    /// A task has moved.
    pub fn note_move(&self, task: &[u8], moved: Moved) {
        lock(&self.moves).insert(task.to_vec(), moved);
    }

    /// What a task's last move did.
    pub fn last_move(&self, task: &[u8]) -> Result<Moved, Fault> {
        let found = lock(&self.moves).get(task).copied();
        found.ok_or_else(|| {
            Fault::refused("ESRCH", format!("task '{}' has never moved", show(task)))
        })
    }

    /// A move of a task has lost bytes.
    pub fn note_leak(&self, task: &[u8], bytes: u64) {
        *lock(&self.leaked).entry(task.to_vec()).or_default() += bytes;
    }

    /// Bytes that moves of a task have lost.
    pub fn leaked_by(&self, task: &[u8]) -> u64 {
        lock(&self.leaked).get(task).copied().unwrap_or(0)
    }

    /// Keeps a new cache.
    pub fn add_cache(&self, name: &[u8], cache: SizedCache) -> Result<(), Fault> {
        let mut caches = lock(&self.caches);
        if caches.contains_key(name) {
            drop(caches);
            drop(cache);
            let message = format!("cache '{}': there is one of that name", show(name));
            return Err(Fault::refused("EEXIST", message));
        }
        caches.insert(name.to_vec(), Arc::new(cache));
        Ok(())
    }

    /// A cache.
    pub fn cache(&self, name: &[u8]) -> Result<Arc<SizedCache>, Fault> {
        let found = lock(&self.caches).get(name).cloned();
        found.ok_or_else(|| {
            let shown = show(name);
            if self.dentries.has(name) {
                let message = format!(
                    "cache '{shown}': 'NAME walk {shown} DIR' fills a dentry cache; 'cache C size=N reclaimable' makes one to allocate from that can be reclaimed"
                );
                return Fault::refused("EINVAL", message);
            }
            let message = format!("cache '{shown}': there is none of that name");
            Fault::refused("ENOENT", message)
        })
    }

    /// Every tag, and what is held under it by whom.
    pub fn holdings(&self) -> Vec<(Name, String)> {
        lock(&self.things.0)
            .iter()
            .map(|(tag, thing)| {
                let parts: Vec<String> = thing.parts.iter().map(Part::text).collect();
                let what = format!("{} of {}", parts.join(", "), show(&thing.holder));
                (tag.clone(), what)
            })
            .collect()
    }

    /// Frees everything and ends every task.
    pub fn clear(&self) {
        let things = std::mem::take(&mut *lock(&self.things.0));
        drop(things);
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        drop(tasks);
        let caches = std::mem::take(&mut *lock(&self.caches));
        drop(caches);
        self.dentries.clear();
        self.kept.clear();
        let subsystems = std::mem::take(&mut *lock(&self.subsystems));
        drop(subsystems);
    }
}

fn no_tag(tag: &[u8]) -> Fault {
    Fault::refused("ENOENT", format!("'{}': nothing is called so", show(tag)))
}
