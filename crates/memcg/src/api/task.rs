//! Tasks: sessions, queries, futures; whatever moves between groups as a unit.
//!
//! Invariants: a task is in one group. What it holds is charged there, but for what a move left
//! behind by its policy.
//! Depends on: `moving`, `charge`.
//! Never: keeps a task whose handle was dropped.

#![forbid(unsafe_code)]

use super::charge::Charge;
use super::error::{MoveError, ReserveError, TaskError};
use super::memcg::Memcg;
use super::moving::move_task;
use super::pinned::pinned;
use super::scope::Entered;
use crate::attach::Moved;
use crate::engine::process_engine::{engine, with_rec};
use crate::engine::{Engine, Flags};
use crate::group::objcg::{Objcg, State};
use crate::group::{MovePolicy, Tag};
use core::fmt;

/// A live task. Dropping it ends the task. What it still holds stays in its group, as a line of
/// `memory.owners`, until it is freed.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: memcg::Alloc = memcg::Alloc;
///
/// let small = memcg::root().create("small").unwrap();
/// let large = memcg::root().create("large").unwrap();
/// let query = small.task("query 7").unwrap();
/// let rows = query.run(|| vec![7u64; 1 << 17]);
/// query.move_to(&large).unwrap();
/// assert_eq!(small.current(), 0);
/// assert!(large.current() >= 1 << 20);
/// drop(rows);
/// ```
#[must_use = "the task ends when this is dropped"]
#[derive(PartialEq, Eq, Hash)]
pub struct Task {
    tag: Tag,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.id())
            .field("group", &self.group())
            .finish()
    }
}

impl Task {
    /// Makes a task in `group`. The name is for people.
    ///
    /// # Errors
    /// See [`TaskError`].
    pub fn new(group: &Memcg, name: impl AsRef<[u8]>) -> Result<Task, TaskError> {
        group
            .with(|engine, _, group| {
                let made = engine.change(|| engine.tree.new_task(group, name.as_ref(), 0));
                let tag = made.map_err(TaskError::of)?;
                Ok(Task { tag })
            })
            .unwrap_or(Err(TaskError::Gone))
    }

    /// The task's id, as `cgroup.procs` lists it. A move does not change it.
    #[must_use]
    pub fn id(&self) -> u32 {
        pinned(|engine, _| self.owner(engine).id())
    }

    /// The tag of the owner that it was made with, which the handle names.
    #[inline]
    pub(crate) fn tag(&self) -> Tag {
        self.tag
    }

    /// Charges what this thread allocates to the task until the guard is dropped.
    ///
    /// The rules of [`Memcg::enter`] hold here too. Do not hold the guard across an `.await`: use
    /// [`in_group`](super::in_group) for a future.
    pub fn enter(&self) -> Entered {
        let own = engine().tree.objcgs.get(self.tag);
        if own.state() != State::Superseded {
            return Entered::new(Some(self.tag));
        }
        // The task has moved without its bytes. The reference keeps its present owner until the
        // scope has one of its own.
        pinned(|engine, _| {
            let live = engine.tree.ref_live_tag(self.tag);
            let entered = Entered::new(Some(live));
            engine.tree.unref_objcg(live);
            entered
        })
    }

    /// Runs `f` for the task: what this thread allocates meanwhile is charged to the task. If `f`
    /// panics, the thread charges again what it charged before.
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        let _entered = self.enter();
        f()
    }

    /// Moves the task to `group`, while it goes on charging and freeing, by the group's
    /// `memory.move`. Unless that was set it is `transfer`: the task moves with every byte it
    /// holds, all or nothing. Cost: O(depth), whatever the task holds; and what subsystems do.
    ///
    /// Every registered [`Subsystem`](super::Subsystem) is asked. Moves of one task wait for each
    /// other, up to a second.
    ///
    /// # Errors
    /// When it does not fit there, or a subsystem refuses; then nothing has changed. See
    /// [`MoveError`].
    pub fn move_to(&self, group: &Memcg) -> Result<(), MoveError> {
        self.move_by(group, None).map(|_| ())
    }

    /// As [`Self::move_to`], by this policy; answers what moved and what stayed. See
    /// [`MovePolicy`].
    ///
    /// ```
    /// use memcg::{Limit, MovePolicy};
    ///
    /// let (a, b) = (memcg::root().create("a").unwrap(), memcg::root().create("b").unwrap());
    /// let task = a.task("query").unwrap();
    /// let rows = task.try_reserve(800 << 20).unwrap();
    /// let stayed = task.move_to_with(&b, MovePolicy::Stay).unwrap().stayed;
    /// assert_eq!((a.current(), b.current(), stayed), (800 << 20, 0, 800 << 20));
    /// drop(rows);
    /// assert_eq!(a.current(), 0);
    /// ```
    ///
    /// # Errors
    /// See [`Self::move_to`].
    pub fn move_to_with(&self, group: &Memcg, policy: MovePolicy) -> Result<Moved, MoveError> {
        self.move_by(group, Some(policy))
    }

    fn move_by(&self, group: &Memcg, policy: Option<MovePolicy>) -> Result<Moved, MoveError> {
        with_rec(|engine, rec| move_task(engine, rec, self.tag, group, policy))
            .unwrap_or(Err(MoveError::NoMemory))
    }

    /// Says that the task uses `bytes` of what a `lazy` move left behind: as many of them as fit
    /// follow the task into its group. Answers how many did.
    pub fn follow(&self, bytes: u64) -> u64 {
        pinned(|engine, _| {
            let live = engine.tree.ref_live_tag(self.tag);
            let bytes = engine.change(|| engine.tree.follow(live, bytes));
            engine.tree.unref_objcg(live);
            bytes
        })
    }

    /// The group that the task is in.
    #[must_use]
    pub fn group(&self) -> Option<Memcg> {
        pinned(|engine, _| {
            let group = engine.tree.resolve(self.owner(engine).cell()).group;
            Memcg::of_index(engine, group.index())
        })
    }

    /// The bytes that the task holds, with those that a move left in another group, but without
    /// those that `stay` left there for good. O(threads).
    #[must_use]
    pub fn held(&self) -> u64 {
        pinned(|engine, _| engine.tree.held_by(engine.tree.live_tag(self.tag)))
    }

    /// The task's present owner. The caller is pinned.
    fn owner(&self, engine: &'static Engine) -> &'static Objcg {
        engine.tree.objcgs.get(engine.tree.live_tag(self.tag))
    }

    /// Charges `bytes` to the task, as [`Memcg::try_reserve`] does to a group.
    ///
    /// # Errors
    /// See [`Memcg::try_reserve`].
    pub fn try_reserve(&self, bytes: u64) -> Result<Charge, ReserveError> {
        Charge::new(Some(self.tag), bytes, Flags::NOWAIT)
    }

    /// Sets how readily the task is chosen when its group is out of memory and `memory.oom.policy`
    /// is `kill`: thousandths of the group's size that are added to what the task holds. −1000:
    /// never; 1000: before all others. Values beyond count as those.
    pub fn set_oom_score_adj(&self, adj: i16) {
        pinned(|engine, _| engine.change(|| engine.tree.set_oom_score_adj(self.tag, adj)));
    }

    /// The value that [`Self::set_oom_score_adj`] set; 0 at first.
    #[must_use]
    pub fn oom_score_adj(&self) -> i16 {
        pinned(|engine, _| self.owner(engine).oom_score_adj())
    }

    /// Whether the task was told to stop, by `cgroup.kill` or because its group was out of memory.
    /// It is to stop as soon as it can.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        pinned(|engine, _| self.owner(engine).is_killed())
    }
}

impl Memcg {
    /// Makes a task in the group: something that charges, and moves between groups as a whole.
    ///
    /// # Errors
    /// See [`TaskError`].
    pub fn task(&self, name: impl AsRef<[u8]>) -> Result<Task, TaskError> {
        Task::new(self, name)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        with_rec(|engine, rec| {
            let _pin = engine.tree.threads.epoch.pin(rec);
            engine.change(|| engine.tree.end_task(self.tag));
        });
    }
}
