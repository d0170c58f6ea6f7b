//! What a group is told beside `max` and `high`: protections, a reserve, policies. Each is a file
//! as well, and the two are the same setting.
//!
//! Invariants: what was set is read back. A removed group takes no setting.
//! Depends on: `memcg`; `engine::group_limits`, which the files use too.
//! Never: parses text; the files do ([`Memcg::write`]).

#![forbid(unsafe_code)]

use super::error::{LimitError, ReserveError};
use super::memcg::Memcg;
use crate::engine::Engine;
use crate::engine::budget::{InUse, Line};
use crate::engine::group_limits::{Bound, NoReserve, RESERVE_MAX};
use crate::group::{self, MovePolicy, OfflinePolicy, OomPolicy, ROOT, Refusal};
use crate::thread::ThreadRec;
use crate::units::Limit;

impl Memcg {
    /// The bytes of the group that reclaim spares while other groups can give (`memory.low`); zero
    /// at first, and once the group has been removed.
    #[must_use]
    pub fn low(&self) -> Limit {
        self.get(Limit::ZERO, |group| Limit::bytes(group.counter.low()))
    }

    /// Sets the bytes that reclaim spares while other groups can give. What is in force is bounded
    /// by the protection of the groups above, by the kernel's arithmetic.
    ///
    /// # Errors
    /// See [`LimitError`].
    pub fn set_low(&self, low: Limit) -> Result<(), LimitError> {
        self.not_root()?;
        self.set_bound(Bound::Low, low)
    }

    /// The bytes of the group that reclaim never takes (`memory.min`); zero at first, and once the
    /// group has been removed.
    #[must_use]
    pub fn min(&self) -> Limit {
        self.get(Limit::ZERO, |group| Limit::bytes(group.counter.min()))
    }

    /// Sets the bytes that reclaim never takes. As for [`Memcg::set_low`], groups above bound it.
    ///
    /// # Errors
    /// See [`LimitError`].
    pub fn set_min(&self, min: Limit) -> Result<(), LimitError> {
        self.not_root()?;
        self.set_bound(Bound::Min, min)
    }

    /// The bytes that are guaranteed to the group (`memory.reserve`); 0 at first, and once it has
    /// been removed.
    #[must_use]
    pub fn guaranteed(&self) -> u64 {
        self.get(0, |group| group.counter.reserve())
    }

    /// Guarantees the group `bytes`: they are charged to the groups above now, whether the group
    /// uses them or not, so that no group above refuses them later. 0 ends it.
    ///
    /// ```
    /// use memcg::Limit;
    ///
    /// let service = memcg::root().create("service-with-reserve").unwrap();
    /// service.set_max(Limit::bytes(10 << 20)).unwrap();
    /// let query = service.create("query").unwrap();
    /// query.try_set_reserve(6 << 20).unwrap();
    /// let full = service.try_reserve(5 << 20).unwrap_err();
    /// assert_eq!((full.group.as_str(), full.max), ("/service-with-reserve", 10 << 20));
    /// assert!(query.try_reserve(6 << 20).is_ok());
    /// ```
    ///
    /// # Errors
    /// When a group above has no room for it: the error names that group, and nothing has changed.
    /// Of a removed group and of the root, which nobody can guarantee anything, the error names the
    /// group itself with a max of 0; of more than 128 TiB with that as its max.
    pub fn try_set_reserve(&self, bytes: u64) -> Result<(), ReserveError> {
        let own = |max| ReserveError {
            group: self.group_path(),
            bytes,
            usage: 0,
            max,
        };
        self.with(|engine, rec, group| engine.set_reserve(rec, group, bytes))
            .unwrap_or(Err(NoReserve::Gone))
            .map_err(|why| match why {
                NoReserve::Gone | NoReserve::Root => own(0),
                NoReserve::TooLarge => own(RESERVE_MAX),
                NoReserve::Full(refusal) => ReserveError::of_refusal(bytes, refusal),
            })
    }

    /// What happens when a charge meets the group's max (`memory.oom.policy`); the default once the
    /// group has been removed.
    #[must_use]
    pub fn oom_policy(&self) -> OomPolicy {
        self.get(OomPolicy::Default, group::Memcg::oom_policy)
    }

    /// Sets what happens when a charge meets the group's max. The policy of the group that is full
    /// decides, not that of the group that is charged. What threads stock for the group is taken
    /// back. Cost: O(threads).
    ///
    /// # Errors
    /// See [`LimitError`].
    pub fn set_oom_policy(&self, policy: OomPolicy) -> Result<(), LimitError> {
        self.set(|engine, rec, group| engine.set_oom_policy(rec, group, policy))
    }

    /// Whether a kill takes the whole group (`memory.oom.group`); `false` at first, and once the
    /// group has been removed.
    #[must_use]
    pub fn oom_group(&self) -> bool {
        self.get(false, group::Memcg::is_oom_group)
    }

    /// Sets whether a kill that meets a task of the group, or the group itself, takes all of it and
    /// of the groups below.
    ///
    /// # Errors
    /// See [`LimitError`].
    pub fn set_oom_group(&self, on: bool) -> Result<(), LimitError> {
        self.set(|_, _, group| group.set_oom_group(on))
    }

    /// How far debt may take the group above its max (`memory.debt.max`); [`Limit::MAX`] at first,
    /// and once the group has been removed.
    #[must_use]
    pub fn debt_max(&self) -> Limit {
        self.get(Limit::MAX, |group| match group.index() {
            ROOT => Limit::MAX,
            _ => Limit::bytes(group.debt_max()),
        })
    }

    /// Bounds the debt of the group, which can end a Rust program: an allocation of Rust's global
    /// allocator beyond max + `debt` is answered null, and Rust ends the process for that.
    ///
    /// [`Limit::MAX`], the value at first, never does. Beyond a bound the group acts as by
    /// [`OomPolicy::Deny`]. One line on stderr says which group it was, before the process ends.
    ///
    /// # Errors
    /// See [`LimitError`].
    pub fn set_debt_max(&self, debt: Limit) -> Result<(), LimitError> {
        self.set(|engine, rec, group| {
            group.set_debt_max(debt.get());
            // Stock that the last bound allowed may be more than the new one does.
            engine.tree.drain(rec, group);
        })
    }

    /// What the bytes of a task do that moves into the group (`memory.move`); the default once the
    /// group has been removed.
    #[must_use]
    pub fn move_policy(&self) -> MovePolicy {
        self.get(MovePolicy::Transfer, group::Memcg::move_policy)
    }

    /// Sets what the bytes of a task do that moves into the group. The root has it, too.
    ///
    /// # Errors
    /// [`LimitError::Gone`].
    pub fn set_move_policy(&self, policy: MovePolicy) -> Result<(), LimitError> {
        self.with(|_, _, group| group.set_move_policy(policy))
            .ok_or(LimitError::Gone)
    }

    /// Where the group's objects go when it ends (`memory.offline`); the default once it has been
    /// removed.
    #[must_use]
    pub fn offline_policy(&self) -> OfflinePolicy {
        self.get(OfflinePolicy::Parent, group::Memcg::offline_policy)
    }

    /// Sets where the group's objects go when it ends.
    ///
    /// # Errors
    /// See [`LimitError`].
    pub fn set_offline_policy(&self, policy: OfflinePolicy) -> Result<(), LimitError> {
        self.set(|_, _, group| group.set_offline_policy(policy))
    }

    /// The limit of the bytes of objects of kmem caches (`memory.kmem.max`); [`Limit::MAX`] at
    /// first, and once the group has been removed.
    #[must_use]
    pub fn kmem_max(&self) -> Limit {
        self.get(Limit::MAX, |group| Limit::bytes(group.kmem_max()))
    }

    /// Sets the limit of the bytes of objects of kmem caches. Cost: O(threads).
    ///
    /// # Errors
    /// See [`LimitError`].
    pub fn set_kmem_max(&self, max: Limit) -> Result<(), LimitError> {
        self.not_root()?;
        self.set_bound(Bound::KmemMax, max)
    }

    /// Of the root: how far beyond its max those go that cannot be refused (`memory.emergency`); a
    /// sixteenth of max if nothing else was set. [`Limit::MAX`] for other groups.
    #[must_use]
    pub fn emergency(&self) -> Limit {
        self.with(|engine, _, group| match group.index() {
            ROOT => Limit::bytes(engine.budget.emergency()),
            _ => Limit::MAX,
        })
        .unwrap_or(Limit::MAX)
    }

    /// Sets how far beyond the root's max those go that cannot be refused: beyond that, Rust's
    /// global allocator is answered null, and the process ends. `None`: a sixteenth of max.
    ///
    /// # Errors
    /// [`LimitError::NotRoot`]; [`LimitError::InUse`] if the process has more already.
    pub fn set_emergency(&self, bytes: Option<Limit>) -> Result<(), LimitError> {
        let line = bytes.map_or(Line::Auto, |bytes| Line::Bytes(bytes.get()));
        self.set_of_root(|engine, rec| engine.set_emergency(rec, line))?
            .map_err(|InUse(_)| LimitError::InUse)
    }

    /// Sets the throttle line of the root as it is at first: nine tenths of the least of the
    /// process's cgroup limit, RLIMIT_AS, RLIMIT_DATA and the machine's memory, once any group has
    /// a limit. See [`Memcg::set_high`] for what it does there.
    ///
    /// # Errors
    /// [`LimitError::NotRoot`].
    pub fn set_high_auto(&self) -> Result<(), LimitError> {
        self.set_of_root(|engine, rec| engine.set_root_high(rec, Line::Auto))
    }

    /// Of the root: the free memory with pages that the allocator may keep (`memory.overhead.max`);
    /// [`Limit::MAX`] at first, and for other groups.
    #[must_use]
    pub fn overhead_max(&self) -> Limit {
        self.with(|engine, _, group| {
            let bytes = engine.kmem.spare_max().filter(|_| group.index() == ROOT);
            bytes.map_or(Limit::MAX, |bytes| Limit::bytes(bytes as u64))
        })
        .unwrap_or(Limit::MAX)
    }

    /// Sets how much free memory with pages the allocator may keep. What is more goes back to the
    /// kernel now, and from then on.
    ///
    /// # Errors
    /// [`LimitError::NotRoot`].
    pub fn set_overhead_max(&self, max: Limit) -> Result<(), LimitError> {
        self.set_of_root(|engine, _| engine.set_spare_max(max))
    }

    fn get<R>(&self, otherwise: R, f: impl FnOnce(&group::Memcg) -> R) -> R {
        self.with(|_, _, group| f(group)).unwrap_or(otherwise)
    }

    /// Refuses the root, which does not have every setting.
    fn not_root(&self) -> Result<(), LimitError> {
        let is_root = self.with(|_, _, group| group.index() == ROOT);
        match is_root {
            None => Err(LimitError::Gone),
            Some(true) => Err(LimitError::Root),
            Some(false) => Ok(()),
        }
    }

    /// Has `f` change a setting that the root does not have.
    fn set(&self, f: impl FnOnce(&Engine, &ThreadRec, &group::Memcg)) -> Result<(), LimitError> {
        self.not_root()?;
        self.with(|engine, rec, group| f(engine, rec, group))
            .ok_or(LimitError::Gone)
    }

    /// Has `f` change a setting that only the root has.
    fn set_of_root<R>(&self, f: impl FnOnce(&Engine, &ThreadRec) -> R) -> Result<R, LimitError> {
        self.with(|engine, rec, group| match group.index() {
            ROOT => Ok(f(engine, rec)),
            _ => Err(LimitError::NotRoot),
        })
        .unwrap_or(Err(LimitError::Gone))
    }
}

impl ReserveError {
    pub(super) fn of_refusal(bytes: u64, refusal: Refusal) -> Self {
        Self::new(&crate::engine::ChargeError { bytes, refusal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::root;

    #[test]
    fn what_is_set_by_a_call_is_read_in_the_file_and_the_other_way_round() {
        let group = root().create("typed").unwrap();
        group.set_low(Limit::bytes(4096)).unwrap();
        group.set_min(Limit::MAX).unwrap();
        group.try_set_reserve(8192).unwrap();
        group.set_oom_policy(OomPolicy::Kill).unwrap();
        group.set_oom_group(true).unwrap();
        group.set_debt_max(Limit::bytes(1 << 20)).unwrap();
        group.set_move_policy(MovePolicy::Lazy).unwrap();
        group.set_offline_policy(OfflinePolicy::Evict).unwrap();
        group.set_kmem_max(Limit::bytes(1 << 30)).unwrap();
        for (file, text) in [
            ("memory.low", "4096"),
            ("memory.min", "max"),
            ("memory.reserve", "8192"),
            ("memory.oom.policy", "[kill]"),
            ("memory.oom.group", "1"),
            ("memory.debt.max", "1048576"),
            ("memory.move", "[lazy]"),
            ("memory.offline", "[evict]"),
            ("memory.kmem.max", "1073741824"),
        ] {
            assert!(group.read(file).unwrap().contains(text), "{file}");
        }
        for (file, value) in [
            ("memory.low", "0"),
            ("memory.min", "8K"),
            ("memory.reserve", "0"),
            ("memory.oom.policy", "deny"),
            ("memory.oom.group", "0"),
            ("memory.debt.max", "max"),
            ("memory.move", "stay"),
            ("memory.offline", "auto"),
            ("memory.kmem.max", "max"),
        ] {
            group.write(file, value).unwrap();
        }
        assert_eq!((group.low(), group.min().get()), (Limit::ZERO, 8192));
        assert_eq!(
            (group.guaranteed(), group.oom_policy(), group.oom_group()),
            (0, OomPolicy::Deny, false)
        );
        assert_eq!(
            (group.debt_max(), group.kmem_max()),
            (Limit::MAX, Limit::MAX)
        );
        assert_eq!(group.move_policy(), MovePolicy::Stay);
        assert_eq!(group.offline_policy(), OfflinePolicy::Auto);
    }

    #[test]
    fn removed_groups_and_the_root_refuse_what_they_do_not_have() {
        let group = root().create("typed-gone").unwrap();
        assert_eq!(group.set_emergency(None), Err(LimitError::NotRoot));
        assert_eq!(group.set_high_auto(), Err(LimitError::NotRoot));
        assert_eq!(group.set_overhead_max(Limit::MAX), Err(LimitError::NotRoot));
        group.remove().unwrap();
        for (of, error) in [
            (group.clone(), LimitError::Gone),
            (root(), LimitError::Root),
        ] {
            let answers = [
                of.set_low(Limit::ZERO),
                of.set_min(Limit::ZERO),
                of.set_oom_policy(OomPolicy::Debt),
                of.set_oom_group(true),
                of.set_debt_max(Limit::ZERO),
                of.set_offline_policy(OfflinePolicy::Evict),
                of.set_kmem_max(Limit::ZERO),
            ];
            assert!(answers.iter().all(|answer| *answer == Err(error)));
            assert_eq!(of.try_set_reserve(4096).unwrap_err().max, 0);
        }
        assert_eq!(root().set_move_policy(MovePolicy::Transfer), Ok(()));
        assert_eq!(
            group.set_move_policy(MovePolicy::Stay),
            Err(LimitError::Gone)
        );
        assert_eq!(group.try_set_reserve(1).unwrap_err().group, "/typed-gone");
    }

    #[test]
    fn a_reserve_that_does_not_fit_names_who_is_full() {
        let top = root().create("typed-full").unwrap();
        let low = top.create("low").unwrap();
        top.set_max(Limit::bytes(1 << 20)).unwrap();
        let held = top.try_reserve(600 << 10).unwrap();
        let error = low.try_set_reserve(600 << 10).unwrap_err();
        assert_eq!((&*error.group, error.max), ("/typed-full", 1 << 20));
        assert_eq!(low.guaranteed(), 0);
        low.try_set_reserve(400 << 10).unwrap();
        assert_eq!(low.try_set_reserve(1 << 60).unwrap_err().max, 1 << 47);
        drop(held);
    }
}
