//! Options of groups' ends and of kmem ids. A program chooses them before it makes its first group.
//!
//! Invariants: an option that decides about groups is not changed once there has been one.
//! Depends on: `engine`.
//! Never: has a default that a program must change.

#![forbid(unsafe_code)]

use super::memcg::Memcg;
use crate::engine::Flags;
use crate::engine::process_engine::engine;
use crate::group::id::KmemId;
use crate::os::clock;
use crate::sync::id::Id;
use core::fmt;
use core::time::Duration;

pub use crate::engine::group_end::{GroupEnd, Reaped};
pub use crate::engine::ids::IdStat;
pub use crate::group::IdError;
pub use crate::kmem::per_id::{IdPolicy, TableStat};

/// How long a freed id is waited for: until no thread looks at it any more, but a twentieth of a
/// second at most.
const GRACE_LOOKS: usize = 100;
const GRACE_STEP_NS: u64 = 500_000;

/// An option was not set: what it decides about has begun already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLate;

impl fmt::Display for TooLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it can only be set before the first group is made")
    }
}

impl core::error::Error for TooLate {}

/// Chooses what becomes of a removed group that still holds bytes. The default is
/// [`GroupEnd::Reparent`].
///
/// # Errors
/// `TooLate`, once there has been a group other than the root.
pub fn set_group_end(end: GroupEnd) -> Result<(), TooLate> {
    engine().set_group_end(end).then_some(()).ok_or(TooLate)
}

/// Chooses what becomes of kmem ids. The default is [`IdPolicy::ReparentAndFree`].
///
/// # Errors
/// `TooLate`, once a list or a cache has kept something for a group.
pub fn set_id_policy(policy: IdPolicy) -> Result<(), TooLate> {
    engine().set_id_policy(policy).then_some(()).ok_or(TooLate)
}

/// Sets the largest kmem id that is given. It is at least 1 and at most 2²⁰ − 1: other values are
/// taken for the nearest of those. The default is 65,535. Groups that have a larger id keep it.
///
/// When all ids are in use, what lists and caches keep for a group is kept with the nearest group
/// above that has an id.
pub fn set_kmem_id_max(max: u32) {
    engine().tree.kmem_ids.set_max_id(max);
}

impl Memcg {
    /// The group's kmem id, by which lists and caches keep something for it. If the group has none
    /// it is given one now, and so are the groups above. Lists and caches ask for it themselves
    /// when they first keep something. By [`IdPolicy::ReclaimOfflineFirst`] shrinkers of the
    /// program may run here.
    ///
    /// # Errors
    /// See [`IdError`]. When all ids are in use, those of groups that have just ended are waited
    /// for, a twentieth of a second at most.
    pub fn kmem_id(&self) -> Result<u32, IdError> {
        let flags = Flags::WAIT.with(Flags::USER);
        let ask = || {
            self.with(|engine, rec, group| engine.kmem_id(rec, group, flags))
                .unwrap_or(Err(IdError::Gone))
        };
        let ask = || ask().map(KmemId::raw);
        let first = ask();
        if first != Err(IdError::Exhausted) {
            return first;
        }
        // Ids of groups that have just ended become free when no thread is pinned that could see
        // them. This thread is not pinned here.
        let tree = &engine().tree;
        for _ in 0..GRACE_LOOKS {
            if tree.limbo_len() == 0 {
                break;
            }
            tree.collect();
            let again = ask();
            if again != Err(IdError::Exhausted) {
                return again;
            }
            clock::sleep_ns(GRACE_STEP_NS);
        }
        ask()
    }
}

/// What kmem ids and the tables that they index take, and what they took so far. O(1).
#[must_use]
pub fn id_stat() -> IdStat {
    engine().id_stat()
}

/// One round of the zombie reaper: every removed group that lingers is asked to give up all it
/// holds. Shrinkers of the program run on this thread. O(groups).
pub fn reap() -> Reaped {
    crate::engine::process_engine::with_rec(|engine, rec| engine.reap(rec)).unwrap_or_default()
}

/// Makes the engine's worker do a round of [`reap`] at that interval, in whole milliseconds, at
/// least one. `None`, the default: never.
pub fn set_reap_interval(interval: Option<Duration>) {
    let ms = interval.map_or(0, |interval| {
        u32::try_from(interval.as_millis())
            .unwrap_or(u32::MAX)
            .max(1)
    });
    engine().options.set_reap_interval_ms(ms);
    if ms != 0 {
        crate::engine::worker::worker_thread::want();
        engine().ring_worker();
    }
}
