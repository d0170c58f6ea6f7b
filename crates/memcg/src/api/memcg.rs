//! Handles on groups: making, finding and removing them, their limits and figures.
//!
//! Invariants: a handle is on one group for ever: never on one that was made later in the same
//! record or under the same path. It holds the group's own owner, whose charges go to the nearest
//! group above once the group has been removed.
//! Depends on: `pinned`, `scope`; the engine.
//! Never: keeps a group from being removed.

#![forbid(unsafe_code)]

use super::error::{CreateError, LimitError, RemoveError};
use super::group_path::GroupPath;
use super::pinned::{path_of_name, pinned};
use super::scope::{Entered, no_account};
use crate::engine::Engine;
use crate::engine::group_limits::{Bound, NotSet};
use crate::engine::process_engine::{engine, with_rec};
use crate::group::usage::Usage;
use crate::group::{self, Event, GroupId, ROOT, ROOT_TAG, Tag};
use crate::sync::lock::Rank;
use crate::thread::ThreadRec;
use crate::units::Limit;

/// A handle on a group of this process.
///
/// The handle does not keep the group. Once [`Memcg::remove`] was called, through any handle, the
/// group can still be entered, and what is then charged goes to the nearest group above that is
/// left. Cloning is an atomic increment.
pub struct Memcg {
    index: GroupId,
    generation: u32,
    tag: Tag,
}

/// The root of this process's groups. It cannot be removed; its limits are the process's own budget
/// ([`Memcg::set_max`]). Makes the engine when it is first called.
#[must_use]
pub fn root() -> Memcg {
    engine().tree.ref_objcg(ROOT_TAG);
    Memcg {
        index: ROOT,
        generation: engine().tree.memcgs.get(ROOT).generation(),
        tag: ROOT_TAG,
    }
}

impl Clone for Memcg {
    fn clone(&self) -> Self {
        engine().tree.ref_objcg(self.tag);
        Self { ..*self }
    }
}

impl Drop for Memcg {
    fn drop(&mut self) {
        with_rec(|engine, rec| {
            let _pin = engine.tree.threads.epoch.pin(rec);
            engine.tree.unref_objcg(self.tag);
        });
    }
}

/// Two handles are equal if they are on the same group. A group made later under the same path is
/// another.
impl PartialEq for Memcg {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.generation) == (other.index, other.generation)
    }
}

impl Eq for Memcg {}

impl core::hash::Hash for Memcg {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        (self.index, self.generation).hash(state);
    }
}

impl core::fmt::Debug for Memcg {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Memcg({})", self.path())
    }
}

impl Memcg {
    /// A handle on the group of an index, if the group is online.
    pub(crate) fn of_index(engine: &Engine, index: GroupId) -> Option<Self> {
        let group = engine.tree.memcgs.get(index);
        // Under the lock it cannot go offline, so its owner is still named by it.
        let _held = group.lock.lock(Rank::Group);
        if !group.is_online() {
            return None;
        }
        engine.tree.ref_objcg(group.tag());
        Some(Self {
            index,
            generation: group.generation(),
            tag: group.tag(),
        })
    }

    /// A handle on the group of an index and a generation, if the group is online or lingers. The
    /// caller is pinned if the group may linger.
    pub(crate) fn of_ask(engine: &Engine, index: GroupId, generation: u32) -> Option<Self> {
        let group = engine.tree.memcgs.get(index);
        if group.is_lingering() && group.generation() == generation {
            let tag = group.tag();
            return engine.tree.try_ref_objcg(tag).then_some(Self {
                index,
                generation,
                tag,
            });
        }
        Self::of_index(engine, index).filter(|group| group.generation == generation)
    }

    /// Runs `f` on the group if it is still there, pinned.
    pub(crate) fn with<R>(
        &self,
        f: impl FnOnce(&'static Engine, &'static ThreadRec, &group::Memcg) -> R,
    ) -> Option<R> {
        pinned(|engine, rec| {
            let group = engine.tree.memcgs.get(self.index);
            // A handle on one that lingers is made for shrinkers alone, in `of_ask`.
            let is_there = group.is_online() || group.is_lingering();
            (group.generation() == self.generation && is_there).then(|| f(engine, rec, group))
        })
    }

    /// Makes a group in this one. The name has 1 to 255 bytes, without `/`, NUL and control
    /// characters, and is neither `.` nor `..`. Cost: O(depth).
    ///
    /// # Errors
    /// See [`CreateError`].
    pub fn create(&self, name: impl AsRef<[u8]>) -> Result<Memcg, CreateError> {
        self.with(|engine, _, group| {
            let made = engine.change(|| engine.tree.create(group, name.as_ref()));
            let index = made.map_err(CreateError::of)?;
            Memcg::of_index(engine, index).ok_or(CreateError::Gone)
        })
        .unwrap_or(Err(CreateError::Gone))
    }

    /// The group at `path` below this one, whose names are separated by `/`; `None` if there is
    /// none. Cost: a look-up for each name.
    #[must_use]
    pub fn lookup(&self, path: impl AsRef<[u8]>) -> Option<Memcg> {
        self.with(|engine, _, _| {
            let index = path
                .as_ref()
                .split(|&b| b == b'/')
                .filter(|part| !part.is_empty())
                .try_fold(self.index, |at, part| engine.tree.child(at, part))?;
            Memcg::of_index(engine, index)
        })
        .flatten()
    }

    /// The group's children, oldest first; none once it has been removed.
    #[must_use]
    pub fn children(&self) -> Vec<Memcg> {
        let _free = no_account();
        self.with(|engine, _, group| {
            // Room first: nothing is allocated under the group's lock.
            let mut all = Vec::with_capacity(64);
            loop {
                all.clear();
                let mut fits = true;
                engine.tree.each_child(group, |index, _| {
                    fits = all.len() < all.capacity();
                    if fits {
                        all.push(index);
                    }
                    fits
                });
                if fits {
                    return all
                        .into_iter()
                        .filter_map(|index| Memcg::of_index(engine, index))
                        .collect();
                }
                all.reserve(all.capacity() * 2);
            }
        })
        .unwrap_or_default()
    }

    /// Removes the group at once, whatever it holds. What is still charged belongs to the parent
    /// from here on, or goes where the group's `memory.offline` says
    /// ([`OfflinePolicy`](crate::OfflinePolicy)). By `evict` shrinkers are asked first, on this
    /// thread: hold no lock that they take.
    ///
    /// Cost: O(1), but by `evict` and `mapper`.
    ///
    /// # Errors
    /// While it has children or live tasks: see [`RemoveError`]. Scopes inside it do not matter.
    pub fn remove(&self) -> Result<(), RemoveError> {
        self.with(|engine, rec, group| engine.remove(rec, group).map_err(RemoveError::of))
            .unwrap_or(Err(RemoveError::Gone))
    }

    /// The tag of the group's own owner, which the handle has a reference to.
    #[inline]
    pub(crate) fn tag(&self) -> Tag {
        self.tag
    }

    /// Whether the group is there: it has not been removed.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.with(|_, _, group| group.is_online()).unwrap_or(false)
    }

    /// The group's path, `/` for the root; of a removed group, the path it had. Accounted to
    /// nobody.
    #[must_use]
    pub fn path(&self) -> String {
        let _free = no_account();
        pinned(|engine, _| path_of_name(engine, engine.tree.objcgs.get(self.tag).name()))
    }

    /// The group's path for an error: text is made when it is read.
    pub(crate) fn group_path(&self) -> GroupPath {
        GroupPath::of_tag(self.tag)
    }

    /// Charges what this thread allocates to the group until the guard is dropped.
    ///
    /// If the group is removed meanwhile, the nearest group above that is left is charged.
    ///
    /// Do not hold the guard across an `.await`: other futures that the thread runs meanwhile would
    /// be charged to the group as well. Use [`Memcg::scope`] for a future. See
    /// [`Entered`] for what happens when guards are dropped in another order.
    ///
    /// ```
    /// #[global_allocator]
    /// static ALLOCATOR: memcg::Alloc = memcg::Alloc;
    ///
    /// let group = memcg::root().create("entered").unwrap();
    /// let entered = group.enter();
    /// let rows = vec![0u8; 4096];
    /// drop(entered);
    /// let other = vec![0u8; 4096];
    /// assert_eq!(group.current(), 4096);
    /// # drop((rows, other));
    /// ```
    #[inline]
    pub fn enter(&self) -> Entered {
        Entered::new(Some(self.tag))
    }

    /// Runs `f` in the group: what this thread allocates meanwhile is charged to it. A panic of `f`
    /// leaves the group, too.
    #[inline]
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        let _entered = self.enter();
        f()
    }

    /// Gets up to `bytes` back from the group and those below it, by shrinkers, on this thread.
    /// Answers how many bytes came back. Stock goes back first, and does not count. The same as
    /// writing `memory.reclaim`. 0 once the group has been removed.
    pub fn reclaim(&self, bytes: u64) -> u64 {
        self.with(|engine, rec, group| engine.reclaim_bytes(rec, group, bytes))
            .unwrap_or(0)
    }

    /// The bytes that the group and those below hold. Exact when nothing is in flight. 0 once the
    /// group has been removed. O(threads).
    #[must_use]
    pub fn current(&self) -> u64 {
        self.usage().current
    }

    /// The bytes that the group and those below hold, by kind. Zeros once it has been removed.
    /// O(threads).
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.with(|engine, _, group| engine.tree.usage(group))
            .unwrap_or_default()
    }

    /// The most bytes that were ever charged to the group and below, stock included; 0 once it has
    /// been removed. [`Memcg::watch_peak`] begins a peak of your own.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.with(|_, _, group| group.counter.peak()).unwrap_or(0)
    }

    /// The hard limit; [`Limit::MAX`] for none, and once the group has been removed.
    #[must_use]
    pub fn max(&self) -> Limit {
        self.with(|engine, _, group| {
            Limit::bytes(match group.index() {
                ROOT => engine.budget.max(),
                _ => group.counter.max(),
            })
        })
        .unwrap_or(Limit::MAX)
    }

    /// Sets the hard limit. Who is refused at it, who is charged above it and who is told to end is
    /// a matter of the group's `memory.oom.policy`; docs/enforcement.md has the table.
    ///
    /// What threads stock for the group and those below is taken back first. Where more than the
    /// limit is held, reclaim begins here and now: shrinkers run on this thread, so hold no lock
    /// that they take. Where the policy is `kill`, tasks that hold the excess are told to end.
    ///
    /// The root's limit is the budget of the process, held against the larger of what is charged
    /// and what is resident. At it who can be refused is refused, whatever the policies say; a Rust
    /// global allocator goes a sixteenth beyond it (`memory.emergency`), and then the process ends.
    ///
    /// Cost: O(threads), and what shrinkers take.
    ///
    /// # Errors
    /// See [`LimitError`].
    pub fn set_max(&self, max: Limit) -> Result<(), LimitError> {
        self.set_bound(Bound::Max, max)
    }

    /// The throttle line; [`Limit::MAX`] for none, and once the group has been removed. The root's
    /// is the one in force.
    #[must_use]
    pub fn high(&self) -> Limit {
        self.with(|engine, _, group| {
            Limit::bytes(match group.index() {
                ROOT => engine.budget.high_in_force(),
                _ => group.counter.high(),
            })
        })
        .unwrap_or(Limit::MAX)
    }

    /// Sets the throttle line: above it charges owe delays. A thread pays at safe points
    /// ([`safe_point`](super::safe_point)) and in charges that may wait; a future in a group is
    /// held back between its polls ([`Scoped`](super::Scoped)).
    ///
    /// Stock is taken back, and shrinkers run on this thread, as by [`Self::set_max`].
    ///
    /// The root's line throttles nobody: above it the engine's worker reclaims, and tasks that the
    /// program made in groups above their own max are told to end.
    ///
    /// # Errors
    /// See [`LimitError`].
    pub fn set_high(&self, high: Limit) -> Result<(), LimitError> {
        self.set_bound(Bound::High, high)
    }

    /// Sets a bound; of the root, too.
    pub(super) fn set_bound(&self, bound: Bound, line: Limit) -> Result<(), LimitError> {
        self.with(|engine, rec, group| engine.set_bound(rec, group, bound, line.get()))
            .unwrap_or(Err(NotSet::Gone))
            .map_err(|why| match why {
                NotSet::Gone => LimitError::Gone,
                NotSet::InUse(_) => LimitError::InUse,
            })
    }

    /// How often `event` happened in the group and below; 0 once it has been removed.
    #[must_use]
    pub fn nr_events(&self, event: Event) -> u64 {
        self.with(|_, _, group| group.nr_events(event, false))
            .unwrap_or(0)
    }
}
