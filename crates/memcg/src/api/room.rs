//! How much more a group can be charged, and whether it is above its limit.
//!
//! Invariants: the answers are of held bytes: stock that threads have is given back where it is
//! needed, so it counts as room.
//! Depends on: `memcg`; the engine.
//! Never: promises the room: others may take it before the caller does.

#![forbid(unsafe_code)]

use super::memcg::Memcg;
use crate::group::exact_charge::each_level;
use crate::units::Limit;

impl Memcg {
    /// The bytes that could still be charged to the group: the least that any level from here to
    /// the root has left below its max. [`Limit::MAX`] if no level has a limit; 0 if one is full,
    /// and once the group has been removed.
    ///
    /// What is left of a reserve (`memory.reserve`) counts as room: it was charged above already.
    /// Nothing keeps the room for the caller; [`Memcg::try_reserve`] does.
    ///
    /// ```
    /// use memcg::Limit;
    ///
    /// let tenant = memcg::root().create("room").unwrap();
    /// let query = tenant.create("query").unwrap();
    /// assert_eq!(query.room(), Limit::MAX);
    /// tenant.set_max(Limit::bytes(1 << 20)).unwrap();
    /// let sort = tenant.try_reserve(600 << 10).unwrap();
    /// assert_eq!(query.room(), Limit::bytes(424 << 10));
    /// # drop(sort);
    /// ```
    ///
    /// Cost: O(depth × threads).
    #[must_use]
    pub fn room(&self) -> Limit {
        self.with(|engine, _, group| {
            let (mut least, mut reserved) = (u64::MAX, 0u64);
            each_level(group, |level| {
                let max = level.counter.max();
                let reserve = level.counter.reserve();
                if max == u64::MAX && reserve == 0 {
                    return;
                }
                let held = engine.tree.usage(level).current;
                if max != u64::MAX {
                    least = least.min(max.saturating_sub(held).saturating_add(reserved));
                }
                // So much passes this level without being charged above it.
                reserved = reserved.saturating_add(reserve.saturating_sub(held));
            });
            Limit::bytes(least)
        })
        .unwrap_or(Limit::ZERO)
    }

    /// Whether the group and those below hold more than the group's max: charges were forced, or
    /// the limit was set below what was held. `false` once the group has been removed. Limits of
    /// the groups above are not asked. Cost: O(threads).
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.with(|engine, _, group| {
            let max = group.counter.max();
            // What is charged includes all that is held, so most groups need no sum.
            group.counter.usage() > max && engine.tree.usage(group).current > max
        })
        .unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use crate::api::{Flags, root};
    use crate::units::Limit;

    #[test]
    fn room_is_the_least_of_all_levels_without_stock() {
        let top = root().create("room-top").unwrap();
        let low = top.create("low").unwrap();
        top.set_max(Limit::bytes(8 << 20)).unwrap();
        low.set_max(Limit::bytes(6 << 20)).unwrap();
        // Taken from stock, of which some is left.
        let small = low.try_reserve(1024).unwrap();
        assert_eq!(low.room().get(), (6 << 20) - 1024);
        let beside = top.try_reserve(4 << 20).unwrap();
        assert_eq!(low.room().get(), (4 << 20) - 1024);
        assert_eq!(top.room(), low.room());
        let all = low.try_reserve(low.room().get()).unwrap();
        assert_eq!(low.room(), Limit::ZERO);
        assert!(low.try_reserve(8).is_err() && !top.is_over());
        drop((small, beside, all));
    }

    #[test]
    fn what_is_left_of_a_reserve_is_room_below_a_full_group() {
        let top = root().create("room-reserve").unwrap();
        let low = top.create("low").unwrap();
        top.set_max(Limit::bytes(4 << 20)).unwrap();
        low.write("memory.reserve", "1M").unwrap();
        let rest = top.try_reserve(3 << 20).unwrap();
        assert_eq!((top.room().get(), low.room().get()), (0, 1 << 20));
        let mine = low.try_reserve(1 << 20).unwrap();
        assert_eq!(low.room().get(), 0);
        assert!(low.try_reserve(8).is_err());
        drop((rest, mine));
    }

    #[test]
    fn a_group_is_over_while_it_holds_more_than_its_max() {
        let group = root().create("over").unwrap();
        let held = group.try_reserve(1 << 20).unwrap();
        assert!(!group.is_over());
        group.set_max(Limit::bytes(1 << 20)).unwrap();
        assert!(!group.is_over());
        let forced = group.try_reserve_with(4096, Flags::FORCE).unwrap();
        assert!(group.is_over() && group.room() == Limit::ZERO);
        drop(forced);
        assert!(!group.is_over());
        drop(held);
        group.remove().unwrap();
        assert!(!group.is_over() && group.room() == Limit::ZERO);
    }
}
