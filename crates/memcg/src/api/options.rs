//! How groups end and what becomes of their kmem ids: chosen by a program before it makes its first group.

#![forbid(unsafe_code)]

use super::memcg::Memcg;
use crate::engine::Flags;
use crate::engine::process::engine;
use crate::os::clock;
use core::fmt;
use core::time::Duration;

pub use crate::engine::ids::IdStat;
pub use crate::engine::linger::{GroupEnd, Reaped};
pub use crate::group::IdError;
pub use crate::kmem::per_id::{IdPolicy, TableStat};

/// How long what has ended may be waited for: until others have looked away from it, a twentieth of a second at most.
const GRACE_LOOKS: usize = 100;
const GRACE_STEP_NS: u64 = 500_000;

/// An option was not set: what it decides has begun already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLate;

impl fmt::Display for TooLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it can only be set before the first group is made")
    }
}

impl core::error::Error for TooLate {}

/// Chooses what becomes of a removed group that still holds bytes; at first [`GroupEnd::Reparent`].
///
/// # Errors
/// `TooLate`, once there has been a group other than the root.
pub fn set_group_end(end: GroupEnd) -> Result<(), TooLate> {
    engine().set_group_end(end).then_some(()).ok_or(TooLate)
}

/// Chooses what becomes of kmem ids; at first [`IdPolicy::ReparentAndFree`].
///
/// # Errors
/// `TooLate`, once a list or a cache has kept something for a group.
pub fn set_id_policy(policy: IdPolicy) -> Result<(), TooLate> {
    engine().set_id_policy(policy).then_some(()).ok_or(TooLate)
}

/// Sets the largest kmem id that is given, within 1 and 2²⁰ − 1; at first 65,535. Groups with a larger one keep it.
///
/// When all are in use, what lists and caches keep is kept with the nearest group above that has an id.
pub fn set_kmem_id_max(max: u32) {
    engine().tree.kmem_ids.set_max_id(max);
}

impl Memcg {
    /// Its kmem id, by which lists and caches keep something for it; given now if it has none, to the groups above as well. They ask for
    /// it themselves, with the first thing they keep. By [`IdPolicy::ReclaimOfflineFirst`] shrinkers of the program may run here.
    ///
    /// # Errors
    /// See [`IdError`]. When all are in use that heals as groups that have one go; those that have just gone are waited for, a
    /// twentieth of a second at most.
    pub fn kmem_id(&self) -> Result<u32, IdError> {
        let flags = Flags::WAIT.with(Flags::USER);
        let ask = || {
            self.with(|engine, rec, group| engine.kmem_id(rec, group, flags))
                .unwrap_or(Err(IdError::Gone))
        };
        let first = ask();
        if first != Err(IdError::Exhausted) {
            return first;
        }
        // Those of groups that have just gone are free when nobody looks at them any more: we do not, here.
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

/// What kmem ids, and the tables they index, take and took. O(1).
#[must_use]
pub fn id_stat() -> IdStat {
    engine().id_stat()
}

/// One round of the zombie reaper: every removed group that lingers is asked for all it holds. Runs shrinkers of the program
/// on this thread. O(groups).
pub fn reap() -> Reaped {
    crate::engine::process::with_rec(|engine, rec| engine.reap(rec)).unwrap_or_default()
}

/// Has the engine's worker do a round of [`reap`] that often; `None`, as at first: never. In whole milliseconds, one at least.
pub fn set_reap_interval(interval: Option<Duration>) {
    let ms = interval.map_or(0, |interval| {
        u32::try_from(interval.as_millis())
            .unwrap_or(u32::MAX)
            .max(1)
    });
    engine().options.set_reap_interval_ms(ms);
    if ms != 0 {
        crate::engine::worker::thread::want();
        engine().ring_worker();
    }
}
