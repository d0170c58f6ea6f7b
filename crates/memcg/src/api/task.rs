//! Tasks: sessions, queries, futures; whatever moves between groups as a unit.

use super::charge::Charge;
use super::error::{MoveError, ReserveError, TaskError};
use super::memcg::Memcg;
use super::scope::Entered;
use crate::attach;
use crate::engine::Flags;
use crate::engine::process::{engine, with_rec};

/// A live task. Dropping it ends it: what it still holds stays in its group, as a line of `memory.owners`, until freed.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: memcg::Alloc = memcg::Alloc;
///
/// let (small, large) = (memcg::root().create("small").unwrap(), memcg::root().create("large").unwrap());
/// let query = small.task("query 7").unwrap();
/// let rows = query.run(|| vec![7u64; 1 << 17]);
/// query.move_to(&large).unwrap();
/// assert_eq!(small.current(), 0);
/// assert!(large.current() >= 1 << 20);
/// drop(rows);
/// ```
pub struct Task {
    tag: u32,
}

impl Task {
    /// A task in `group`. The name is for people.
    ///
    /// # Errors
    /// See [`TaskError`].
    pub fn new(group: &Memcg, name: impl AsRef<[u8]>) -> Result<Task, TaskError> {
        group
            .with(|engine, _, group| {
                let tag = engine.change(|| engine.tree.new_task(group, name.as_ref(), 0))?;
                Ok(Task { tag })
            })
            .unwrap_or(Err(TaskError::Gone))
    }

    /// Its id, as `cgroup.procs` lists it.
    #[must_use]
    pub fn id(&self) -> u32 {
        engine().tree.objcgs.get(self.tag).id()
    }

    /// What this thread allocates is charged to the task until the guard is dropped.
    pub fn enter(&self) -> Entered {
        Entered::new(self.tag)
    }

    /// Runs `f` for the task. Also left by a panic.
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        let _entered = self.enter();
        f()
    }

    /// Moves the task, with every byte it holds, to `group`: all or nothing, while it goes on charging and freeing.
    /// Cost: O(depth), whatever it holds.
    ///
    /// # Errors
    /// When it does not fit there; then nothing has changed. See [`MoveError`].
    pub fn move_to(&self, group: &Memcg) -> Result<(), MoveError> {
        group
            .with(|engine, rec, group| {
                engine
                    .lists_follow(self.tag, || {
                        engine.change(|| attach::move_task(&engine.tree, rec, self.tag, group))
                    })
                    .map_err(MoveError::new)
            })
            .unwrap_or(Err(MoveError::Gone))
    }

    /// The group it is in.
    #[must_use]
    pub fn group(&self) -> Option<Memcg> {
        with_rec(|engine, rec| {
            let _pin = engine.tree.threads.epoch.pin(rec);
            let group = engine
                .tree
                .resolve(engine.tree.objcgs.get(self.tag).cell())
                .group;
            Memcg::of_index(engine, group.index())
        })
        .flatten()
    }

    /// Bytes its things hold. O(threads).
    #[must_use]
    pub fn held(&self) -> u64 {
        let tree = &engine().tree;
        tree.objcgs
            .get(self.tag)
            .charged_bytes()
            .saturating_sub(tree.stocked_for(self.tag))
    }

    /// As [`Memcg::try_reserve`], for the task.
    ///
    /// # Errors
    /// As there.
    pub fn try_reserve(&self, bytes: u64) -> Result<Charge, ReserveError> {
        Charge::new(self.tag, bytes, Flags::NOWAIT)
    }

    /// Whether it was told to die, by `cgroup.kill` or because its group was out of memory: it is to stop as soon as it can.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        engine().tree.objcgs.get(self.tag).is_killed()
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
