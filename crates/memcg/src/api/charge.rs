//! Reservations: charges with no memory of the engine's behind them.
//!
//! Invariants: the bytes of a charge keep its owner, as those of any charged thing do. A charge of
//! no bytes keeps it by a counted reference.
//! Depends on: `engine::charge_loop`.
//! Never: touches more than the thread's stock, where a few bytes are taken and given back.

#![forbid(unsafe_code)]

use super::error::{MergeError, ReserveError};
use super::memcg::Memcg;
use super::pinned::pinned;
use crate::engine::process_engine::{engine, with_rec};
use crate::engine::{ChargeError, Flags, Request};
use crate::group::cell::OfflineAction;
use crate::group::exact_charge::round_up;
use crate::group::{Kind, Refusal, Tag};
use core::fmt;

/// Bytes charged to a group or a task until this is dropped. Counters are kept in multiples of 8.
///
/// ```
/// let group = memcg::root().create("reservations").unwrap();
/// group.set_max(memcg::Limit::bytes(1 << 20)).unwrap();
/// let mut sort = group.try_reserve(600 << 10).unwrap();
/// assert!(group.try_reserve(600 << 10).is_err());
/// let merge_buffer = sort.split(200 << 10);
/// sort.resize(100 << 10).unwrap();
/// assert_eq!(group.current(), 300 << 10);
/// drop((sort, merge_buffer));
/// assert_eq!(group.current(), 0);
/// ```
#[must_use = "the bytes are given back when this is dropped"]
pub struct Charge {
    /// The owner; `None`: the bytes are not accounted.
    tag: Option<Tag>,
    bytes: u64,
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Charge")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// The most bytes that a charge takes from stock.
const MOST_HIT: u64 = 1 << 20;

/// Charges `bytes` to the group or task that the thread charges, as [`Memcg::try_reserve`].
///
/// # Errors
/// See [`Memcg::try_reserve`].
pub fn try_reserve(bytes: u64) -> Result<Charge, ReserveError> {
    let tag = with_rec(|_, rec| rec.current()).flatten();
    Charge::new(tag, bytes, Flags::NOWAIT)
}

impl Charge {
    /// Charges the owner `tag`, to which the caller has a reference; or its successor, if its task
    /// has moved without its bytes.
    #[inline]
    pub(crate) fn new(tag: Option<Tag>, bytes: u64, flags: Flags) -> Result<Self, ReserveError> {
        let tag = tag.filter(|_| !flags.has(Flags::NOACCOUNT));
        let is_hit = bytes <= MOST_HIT
            && with_rec(|_, rec| rec.reserve_hit(tag, round_up(bytes))).unwrap_or(false);
        if is_hit && bytes > 0 {
            return Ok(Self { tag, bytes });
        }
        Self::new_slow(tag, bytes, flags)
    }

    /// As [`Self::new`], of what may not wait. Answers the refusal as it is.
    pub(super) fn at_door(tag: Tag, bytes: u64) -> Result<Self, ChargeError> {
        let tag = pinned(|engine, _| engine.tree.ref_live_tag(tag));
        let mut charge = Self {
            tag: Some(tag),
            bytes: 0,
        };
        charge.try_grow(bytes, Flags::NOWAIT)?;
        Ok(charge)
    }

    /// Bytes, more than none, that are charged to `tag` already.
    pub(super) fn of_charged(tag: Tag, bytes: u64) -> Self {
        debug_assert!(bytes > 0);
        Self {
            tag: Some(tag),
            bytes,
        }
    }

    #[cold]
    fn new_slow(tag: Option<Tag>, bytes: u64, flags: Flags) -> Result<Self, ReserveError> {
        let tag = tag.map(|tag| pinned(|engine, _| engine.tree.ref_live_tag(tag)));
        let mut charge = Self { tag, bytes: 0 };
        charge.grow(bytes, flags)?;
        Ok(charge)
    }

    /// Takes a reference to the owner.
    fn ref_owner(&self) {
        if let Some(tag) = self.tag {
            engine().tree.ref_objcg(tag);
        }
    }

    /// Drops the reference of a charge of no bytes.
    fn release(&self) {
        if let Some(tag) = self.tag {
            with_rec(|engine, rec| {
                let _pin = engine.tree.threads.epoch.pin(rec);
                engine.tree.unref_objcg(tag);
            });
        }
    }

    /// Sets the bytes. Takes or drops the reference that keeps the owner of a charge of no bytes.
    fn set_bytes(&mut self, bytes: u64) {
        let was_empty = core::mem::replace(&mut self.bytes, bytes) == 0;
        match (was_empty, bytes == 0) {
            (true, false) => self.release(),
            (false, true) => self.ref_owner(),
            _ => {}
        }
    }

    /// The bytes that this charge holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn grow(&mut self, by: u64, flags: Flags) -> Result<(), ReserveError> {
        self.try_grow(by, flags)
            .map_err(|refused| ReserveError::new(&refused))
    }

    fn try_grow(&mut self, by: u64, flags: Flags) -> Result<(), ChargeError> {
        let Some(new) = self
            .bytes
            .checked_add(by)
            .filter(|&n| n <= crate::group::Objcg::LIMIT)
        else {
            let refusal = Refusal {
                group: None,
                usage: self.bytes,
                max: crate::group::Objcg::LIMIT,
            };
            return Err(ChargeError { bytes: by, refusal });
        };
        let more = round_up(new) - round_up(self.bytes);
        if let Some(tag) = self.tag.filter(|_| more > 0) {
            // It has an owner, so its bytes are charged: they will be uncharged.
            let flags = flags.without(Flags::NOACCOUNT);
            with_rec(|engine, rec| engine.charge(rec, Request::reserved(tag, more, flags)))
                .transpose()?;
        }
        self.set_bytes(new);
        Ok(())
    }

    fn shrink(&mut self, by: u64) {
        let new = self.bytes - by;
        let less = round_up(self.bytes) - round_up(new);
        // First the owner is kept by other means, if no bytes remain; then the bytes are uncharged.
        self.set_bytes(new);
        self.give_back(less);
    }

    /// Uncharges bytes that `self.bytes` no longer counts.
    #[inline]
    fn give_back(&self, bytes: u64) {
        if let Some(tag) = self.tag.filter(|_| bytes > 0) {
            with_rec(|engine, rec| engine.uncharge(rec, tag, bytes, Kind::Reserved));
        }
    }

    /// Recharges the bytes to `group`. It is charged first, then the present owner is uncharged, so
    /// a group above both needs room for the bytes twice for a moment. If `group` has been removed,
    /// the nearest group above it is charged.
    ///
    /// # Errors
    /// When a limit is in the way; then nothing has changed, and `recharge_failed` is counted
    /// there. Nothing is reclaimed for it, and nobody goes into debt.
    pub fn give(&mut self, group: &Memcg) -> Result<(), ReserveError> {
        self.change_owner(group.tag())
    }

    /// Recharges the bytes to the group or task that the thread charges, as [`Charge::give`] does.
    ///
    /// # Errors
    /// See [`Charge::give`].
    pub fn take(&mut self) -> Result<(), ReserveError> {
        match with_rec(|_, rec| rec.current()).flatten() {
            Some(tag) => self.change_owner(tag),
            None => Ok(()),
        }
    }

    /// Says that what the reservation stands for was used. If its group has been removed, with
    /// `next-touch` as its `memory.offline`, the bytes are recharged to the group or task that the
    /// thread charges, and the answer is `true`. If they do not fit there, they stay where they
    /// are, and `recharge_failed` is counted. A thread that charges nobody or the root takes
    /// nothing over.
    ///
    /// Cost: two loads where its owner lives.
    pub fn touch(&mut self) -> bool {
        let is_left = |engine: &crate::engine::Engine, rec| {
            self.bytes > 0
                && engine.has_offline_action(rec, self.tag, &[OfflineAction::RechargeToToucher])
        };
        if !with_rec(is_left).unwrap_or(false) {
            return false;
        }
        with_rec(|engine, rec| engine.with_toucher(rec, |to| self.change_owner(to).is_ok()))
            .unwrap_or(false)
    }

    pub(super) fn was_left(&self, how: &[OfflineAction]) -> bool {
        self.bytes > 0
            && with_rec(|engine, rec| engine.has_offline_action(rec, self.tag, how))
                .unwrap_or(false)
    }

    /// Makes `tag`, or its successor, the owner. The caller has a reference to `tag`.
    fn change_owner(&mut self, tag: Tag) -> Result<(), ReserveError> {
        let tag = pinned(|engine, _| engine.tree.ref_live_tag(tag));
        let new = Self {
            tag: Some(tag),
            bytes: 0,
        };
        let all = round_up(self.bytes);
        with_rec(|engine, rec| engine.charge_given(rec, tag, all))
            .transpose()
            .map_err(|refusal| {
                ReserveError::new(&ChargeError {
                    bytes: all,
                    refusal,
                })
            })?;
        let mut new = new;
        new.set_bytes(self.bytes);
        // The assignment drops the old charge, which uncharges its bytes.
        *self = new;
        Ok(())
    }

    /// Changes the bytes it holds to `bytes`.
    ///
    /// # Errors
    /// When a limit is in the way of the growth; it then holds what it held.
    pub fn resize(&mut self, bytes: u64) -> Result<(), ReserveError> {
        self.resize_with(bytes, Flags::NOWAIT)
    }

    /// As [`Charge::resize`], but to find room it does what `flags` allow, as
    /// [`Memcg::try_reserve_with`](super::Memcg::try_reserve_with) does.
    ///
    /// # Errors
    /// See [`Charge::resize`].
    pub fn resize_with(&mut self, bytes: u64, flags: Flags) -> Result<(), ReserveError> {
        if bytes >= self.bytes {
            return self.grow(bytes - self.bytes, flags);
        }
        self.shrink(self.bytes - bytes);
        Ok(())
    }

    /// Splits off `bytes` into a charge of their own. Where the cut is not at a multiple of 8, the
    /// rounding of both halves is charged in addition, whatever the limit.
    ///
    /// # Panics
    /// When it holds fewer bytes.
    pub fn split(&mut self, bytes: u64) -> Charge {
        assert!(
            bytes <= self.bytes,
            "a charge of {} bytes cannot give {bytes}",
            self.bytes
        );
        let rest = self.bytes - bytes;
        let extra = round_up(rest) + round_up(bytes) - round_up(self.bytes);
        if let Some(tag) = self.tag.filter(|_| extra > 0) {
            let forced = with_rec(|engine, rec| {
                engine.charge(rec, Request::reserved(tag, extra, Flags::FORCE))
            });
            debug_assert!(forced.is_none_or(|charged| charged.is_ok()));
        }
        let was_empty = self.bytes == 0;
        self.bytes = rest;
        let other = Charge {
            tag: self.tag,
            bytes,
        };
        // Of the two, a charge of no bytes needs a reference to the owner.
        if bytes == 0 {
            other.ref_owner();
        }
        if rest == 0 && !was_empty {
            self.ref_owner();
        }
        other
    }

    /// Adds the bytes of `other` to this.
    ///
    /// # Errors
    /// When `other` belongs to another owner: both are as they were, and `other` comes back.
    pub fn merge(&mut self, mut other: Charge) -> Result<(), (MergeError, Charge)> {
        if other.tag != self.tag {
            return Err((MergeError::OtherOwner, other));
        }
        let all = self.bytes + other.bytes;
        let less = round_up(self.bytes) + round_up(other.bytes) - round_up(all);
        let other_bytes = core::mem::take(&mut other.bytes);
        if other_bytes > 0 {
            // Its bytes kept the owner, and `self` has them now, so there is no reference to drop.
            core::mem::forget(other);
        }
        if all > 0 {
            self.set_bytes(all);
        }
        self.give_back(less);
        Ok(())
    }

    /// Leaves the bytes charged for good. They outlive this value and every handle, and show in
    /// `memory.owners` once their task or group has ended. For memory that is given to code that
    /// never frees it.
    pub fn forget(self) {
        if self.bytes == 0 {
            self.release();
        }
        core::mem::forget(self);
    }
}

impl Memcg {
    /// Charges `bytes` of whatever the program wants to count, until the [`Charge`] is dropped.
    /// Waits for nothing. If the group has been removed, the nearest group above is charged.
    ///
    /// Cost: a subtraction if the thread has stock of the group.
    ///
    /// # Errors
    /// When a limit is in the way. It names the group that is full, its usage and its max.
    pub fn try_reserve(&self, bytes: u64) -> Result<Charge, ReserveError> {
        Charge::new(Some(self.tag()), bytes, Flags::NOWAIT)
    }

    /// As [`Memcg::try_reserve`], doing what `flags` allow: wait for reclaim, run shrinkers on this
    /// thread, go beyond the limit.
    ///
    /// # Errors
    /// See [`Memcg::try_reserve`].
    pub fn try_reserve_with(&self, bytes: u64, flags: Flags) -> Result<Charge, ReserveError> {
        Charge::new(Some(self.tag()), bytes, flags)
    }
}

impl Drop for Charge {
    #[inline]
    fn drop(&mut self) {
        if self.bytes == 0 {
            return self.release();
        }
        // The bytes are what keeps the owner: nothing may look at it after this.
        self.give_back(round_up(self.bytes));
    }
}
