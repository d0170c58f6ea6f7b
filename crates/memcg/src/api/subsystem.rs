//! Subsystems: parts of the program that are asked when a task moves, beside memory.
//!
//! Invariants: a subsystem that registers or leaves while a move is under way is, or is not, part
//! of that move as a whole.
//! Depends on: `engine`, which asks for what a `lazy` move left behind.
//! Never: calls or drops a subsystem while the register is locked.
//!
//! The moves themselves are in `moving`. (After the cgroup v1 callbacks of that name.)

#![forbid(unsafe_code)]

use super::contained::contained;
use super::memcg::Memcg;
use super::scope::no_account;
use crate::engine::reclaim::evict;
use crate::group::MovePolicy;
use core::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A part of the program that is asked when a task moves between groups.
///
/// Its functions are called on the mover's thread, under no lock of the engine, and may do whatever
/// a program may: allocate, make and remove groups, move other tasks. A move of the task they are
/// asked about is refused ([`MoveError::Moving`](super::MoveError::Moving)). A panic of
/// `can_attach` is a refusal; one of the others changes nothing.
///
/// ```
/// use std::sync::Arc;
///
/// /// Tasks stay in their department.
/// struct Departments;
/// impl memcg::Subsystem for Departments {
///     fn name(&self) -> &str { "departments" }
///     fn can_attach(&self, task: &memcg::Attaching) -> Result<(), String> {
///         match task.to().path().starts_with("/sales") {
///             true => Err("sales is full".into()),
///             false => Ok(()),
///         }
///     }
/// }
///
/// let _registered = memcg::register_subsystem(Arc::new(Departments));
/// let sales = memcg::root().create("sales").unwrap();
/// let task = memcg::root().task("t").unwrap();
/// assert!(task.move_to(&sales).is_err());
/// ```
pub trait Subsystem: Send + Sync + 'static {
    /// The subsystem's name, for messages.
    fn name(&self) -> &str;

    /// Whether the task may move. Refuse, or reserve, here whatever would make `attach` fail.
    ///
    /// # Errors
    /// Why not, in words for people.
    fn can_attach(&self, task: &Attaching) -> Result<(), String>;

    /// Called when the task has moved.
    fn attach(&self, _task: &Attaching) {}

    /// Called when the task does not move although this subsystem agreed: takes back what
    /// `can_attach` did.
    fn cancel_attach(&self, _task: &Attaching) {}

    /// How many bytes of the task this subsystem could evict, from a cache of the program, say. In
    /// a `lazy` move that many bytes stay behind.
    fn evictable(&self, _task: &Attaching) -> u64 {
        0
    }

    /// Frees about `bytes` of those bytes of the task with that id which
    /// [`evictable`](Self::evictable) counted, and answers how many bytes it freed. Called when
    /// bytes that a `lazy` move left behind are in the way of others, and do not fit into the group
    /// where the task is now. What is not freed here is reclaimed from the tasks of the group in
    /// which the bytes are.
    ///
    /// It is called where [shrinkers](super::Shrinker) are: on a thread that charges with `WAIT`
    /// and `USER`, on one that wrote a limit or `memory.reclaim`, on the engine's worker; on
    /// several at once. What it charges is charged by force. A panic ends that call.
    fn evict(&self, _task: u32, _bytes: u64) -> u64 {
        0
    }
}

/// A move that subsystems are asked about.
#[derive(Debug)]
pub struct Attaching {
    pub(super) task: u32,
    pub(super) from: Memcg,
    pub(super) to: Memcg,
    pub(super) policy: MovePolicy,
}

impl Attaching {
    /// The task's id.
    #[must_use]
    pub fn task(&self) -> u32 {
        self.task
    }

    /// The group that the task is in until it has moved.
    #[must_use]
    pub fn from(&self) -> &Memcg {
        &self.from
    }

    /// The group that it is to move to.
    #[must_use]
    pub fn to(&self) -> &Memcg {
        &self.to
    }

    /// What is to become of the task's bytes.
    #[must_use]
    pub fn policy(&self) -> MovePolicy {
        self.policy
    }
}

type Registered = Vec<(u64, Arc<dyn Subsystem>)>;

static SUBSYSTEMS: Mutex<(u64, Registered)> = Mutex::new((0, Vec::new()));

fn all() -> MutexGuard<'static, (u64, Registered)> {
    // A panic leaves nothing half done: the list is valid between any two statements.
    SUBSYSTEMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A registered subsystem. Dropping this unregisters it.
#[must_use = "the subsystem is asked until this is dropped"]
#[derive(Debug)]
pub struct SubsystemRegistration(u64);

impl Drop for SubsystemRegistration {
    fn drop(&mut self) {
        let _free = no_account();
        let gone = {
            let mut all = all();
            let at = all.1.iter().position(|(number, _)| *number == self.0);
            at.map(|at| all.1.remove(at))
        };
        // Its own drop runs here, where the list is not locked.
        drop(gone);
    }
}

/// Registers `subsystem`: it is asked whenever a task moves, after those that were registered
/// before.
pub fn register_subsystem(subsystem: Arc<dyn Subsystem>) -> SubsystemRegistration {
    let _free = no_account();
    evict::set_evict(evict_of);
    let mut all = all();
    all.0 += 1;
    let number = all.0;
    all.1.push((number, subsystem));
    SubsystemRegistration(number)
}

/// Asks subsystems, in order, until `bytes` bytes of the task are freed or all were asked.
fn evict_of(task: u32, bytes: u64) {
    let asked = Asked::all();
    let mut left = bytes;
    for (_, subsystem) in asked.iter() {
        let freed = contained(|| subsystem.evict(task, left)).unwrap_or(0);
        left = left.saturating_sub(freed);
        if left == 0 {
            break;
        }
    }
}

/// The subsystems that are registered now. The list is accounted to nobody.
pub(super) struct Asked(Registered);

impl Asked {
    pub(super) fn all() -> Self {
        let _free = no_account();
        Self(all().1.clone())
    }
}

impl Deref for Asked {
    type Target = [(u64, Arc<dyn Subsystem>)];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let _free = no_account();
        self.0 = Vec::new();
    }
}
