//! Stock: bytes charged in advance, kept per thread and owner, so that most charges are a
//! subtraction.
//!
//! Invariants: a slot's balance is part of its owner's `charged`. Its cap is part of its owner's
//! `granted`, and the balance never passes the cap. A slot holds a reference on its owner, so the
//! tag in a slot is never reused. A move or a group's end touches no slot: the bytes belong to the
//! owner.
//! Depends on: `exact_charge` for what stock is filled from and emptied into; `thread` for the
//! record and the guard of its slots.
//! Never: a call of anything while a slot is looked at, which is between `enter` and the drop of
//! its guard, for a few instructions. What a slot lacks is charged outside, then deposited. What it
//! has too much of is taken out, then uncharged outside.

#![forbid(unsafe_code)]

use super::cap::{CAP, WIDE};
use super::exact_charge::{Mode, Refusal};
use super::flip_word::{Unchanged, Word};
use super::{Hierarchy, Kind, Tag};
use crate::counter::{grant, ungrant};
use crate::sync::atomic::Ordering::Relaxed;
use crate::thread::slot::Slot;
use crate::thread::{SLOTS, SlotsGuard, ThreadRec, UNTRACKED};

/// What a slot held: its owner must get it back.
struct Taken {
    tag: Option<Tag>,
    balance: u64,
    cap: u64,
    slab: u64,
    spare: u64,
}

impl SlotsGuard<'_> {
    /// Takes `bytes` from the stock of `tag`, which is the current owner.
    #[inline(always)]
    pub(crate) fn consume(&self, tag: Option<Tag>, bytes: u64) -> bool {
        let slot = self.rec().current_slot();
        let balance = slot.balance.load(Relaxed);
        if !slot.tag.is(tag, Relaxed) || balance < bytes {
            return false;
        }
        slot.balance.store(balance - bytes, Relaxed);
        true
    }

    /// Puts `bytes` into the stock of `tag`, if a slot has room for them.
    #[inline(always)]
    pub(crate) fn give(&self, tag: Option<Tag>, bytes: u64) -> bool {
        let rec = self.rec();
        rec.slot_of(tag)
            .is_some_and(|slot| give_slot(&rec.slots[slot], bytes))
    }

    /// As [`Self::give`], looking only where `tag` usually is: with whom the thread works for, and
    /// at home.
    #[inline(always)]
    pub(crate) fn give_home(&self, tag: Option<Tag>, bytes: u64) -> bool {
        self.rec()
            .slot_near(tag)
            .is_some_and(|slot| give_slot(slot, bytes))
    }
}

#[inline(always)]
pub(super) fn give_slot(slot: &Slot, bytes: u64) -> bool {
    let balance = slot.balance.load(Relaxed) + bytes;
    if balance > slot.cap.load(Relaxed) {
        return false;
    }
    slot.balance.store(balance, Relaxed);
    true
}

/// A charge that was made, and the tag that what is charged is to carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Charged {
    /// The owner; `None`: what the thread takes is not accounted.
    pub owner: Option<Tag>,
}

impl Charged {
    /// Of what is not accounted.
    pub const NOBODY: Self = Self { owner: None };
}

impl ThreadRec {
    /// A hit: takes `bytes` from the current owner's stock. `None`: there are not so many.
    #[inline(always)]
    pub fn charge_hit(&self, bytes: u64) -> Option<Charged> {
        let busy = self.enter()?;
        let owner = self.current.load(Relaxed);
        busy.consume(owner, bytes).then_some(Charged { owner })
    }

    /// A hit for any owner. Of stock that was forced above a limit only `forced` charges get
    /// something.
    #[inline]
    pub fn charge_hit_of(&self, tag: Tag, bytes: u64, forced: bool) -> bool {
        let Some(_busy) = self.enter() else {
            return false;
        };
        let Some(slot) = self.slot_of(Some(tag)) else {
            return false;
        };
        if !forced && self.slots[slot].spare.is_closed() {
            return false;
        }
        let balance = self.slots[slot].balance.load(Relaxed);
        if balance < bytes {
            return false;
        }
        self.slots[slot].balance.store(balance - bytes, Relaxed);
        true
    }

    /// Whether stock of the owner that the thread works for was forced above a limit.
    #[inline(always)]
    pub fn has_forced_stock(&self) -> bool {
        self.current_slot().spare.is_closed()
    }

    /// The slot of `tag`, if it is where it usually is: with whom the thread works for, or at home.
    /// The owner, busy.
    #[inline(always)]
    pub(super) fn slot_near(&self, tag: Option<Tag>) -> Option<&Slot> {
        let slot = self.current_slot();
        if slot.tag.is(tag, Relaxed) {
            return Some(slot);
        }
        let home = Self::home(tag);
        let slot = &self.slots[home];
        if slot.tag.is(tag, Relaxed) {
            return Some(slot);
        }
        let slot = &self.slots[home ^ 1];
        (home ^ 1 != UNTRACKED && slot.tag.is(tag, Relaxed)).then_some(slot)
    }

    /// A hit the other way: puts `bytes` back into the stock of `tag`, if a slot has room for them.
    #[inline(always)]
    pub fn uncharge_hit(&self, tag: Option<Tag>, bytes: u64) -> bool {
        self.enter().is_some_and(|busy| busy.give(tag, bytes))
    }

    /// The tag this thread charges; `None` where what it takes is not accounted.
    #[inline(always)]
    pub fn current(&self) -> Option<Tag> {
        self.current.load(Relaxed)
    }

    /// The caller's slots as they are now, for sums: tag and balance. Another thread's are a moment
    /// old.
    pub fn stocks(&self) -> impl Iterator<Item = (Tag, u64)> {
        self.named().filter_map(|slot| {
            Some((
                self.slots[slot].tag.load(Relaxed)?,
                self.slots[slot].balance.load(Relaxed),
            ))
        })
    }
}

impl Hierarchy {
    /// Charges `bytes` (a multiple of 8) to `tag` within the limits: from stock, or with a refill
    /// of it, or exactly. What the limits refuse is the engine's affair.
    pub fn charge(&self, rec: &ThreadRec, tag: Tag, bytes: u64) -> Result<(), Refusal> {
        self.charge_as(rec, tag, bytes, Mode::Within)
    }

    /// As [`Self::charge`], as far above the limits as `mode` allows.
    pub fn charge_as(
        &self,
        rec: &ThreadRec,
        tag: Tag,
        bytes: u64,
        mode: Mode,
    ) -> Result<(), Refusal> {
        if rec.charge_hit_of(tag, bytes, mode != Mode::Within) {
            return Ok(());
        }
        let _pin = self.threads.epoch.pin(rec);
        if self.refill(rec, tag, bytes, mode) {
            return Ok(());
        }
        self.charge_exact(tag, bytes, mode)
    }

    /// Takes `bytes` off `tag`: into stock, or exactly.
    pub fn uncharge(&self, rec: &ThreadRec, tag: Tag, bytes: u64) {
        if rec.uncharge_hit(Some(tag), bytes) {
            return;
        }
        let _pin = self.threads.epoch.pin(rec);
        if bytes > WIDE {
            // More than any slot keeps.
            return self.uncharge_exact(tag, bytes);
        }
        let _transit = rec.begin_transit();
        let granted = self.widen(rec, tag, bytes);
        // Half the cap stays, so that the next charge is a hit as well as the next uncharge.
        let mut unused = granted;
        let surplus = rec.enter().and_then(|_busy| {
            let slot = rec.slot_of(Some(tag))?;
            let mut cap = rec.slots[slot].cap.load(Relaxed);
            // Asked while busy: who forbids it stock drains us afterwards.
            if granted > 0 && self.may_widen(tag) {
                cap += granted;
                rec.slots[slot].cap.store(cap, Relaxed);
                unused = 0;
            }
            let all = rec.slots[slot].balance.load(Relaxed) + bytes;
            let keep = all.min(cap / 2);
            rec.slots[slot].balance.store(keep, Relaxed);
            Some(all - keep)
        });
        if unused > 0 {
            self.ungrant_word(tag, unused);
        }
        let surplus = surplus.unwrap_or(bytes);
        if surplus > 0 {
            self.uncharge_exact(tag, surplus);
        }
    }

    /// Fills the slot of `tag` and takes `bytes` from it. `false`, with nothing changed but perhaps
    /// a slot emptied for it, when the budget is spent, a limit is near that `mode` keeps to, or
    /// the slots may not be touched. Stock that may be above a limit closes the slot.
    #[cold]
    fn refill(&self, rec: &ThreadRec, tag: Tag, bytes: u64, mode: Mode) -> bool {
        let forced = mode != Mode::Within;
        if bytes > CAP.1 / 4 {
            return false;
        }
        if !self.objcgs.get(tag).may_stock() && !self.regain_stock(tag) {
            return false;
        }
        let _transit = rec.begin_transit();
        if !self.have_slot(rec, tag, false) {
            return false;
        }
        let Some(cap) = rec
            .slot_of(Some(tag))
            .map(|slot| rec.slots[slot].cap.load(Relaxed))
        else {
            return false;
        };
        let wanted = self.next_cap(tag, cap, bytes, forced);
        let more = wanted.saturating_sub(cap);
        if !forced && !self.may_fit(tag, bytes + wanted.max(cap) / 2) {
            return false;
        }
        let granted = more > 0 && self.grant_word(tag, more, forced);
        let cap = if granted { wanted } else { cap };
        let fill = cap / 2;
        if fill < bytes || self.charge_exact(tag, bytes + fill, mode).is_err() {
            if granted {
                self.ungrant_word(tag, more);
            }
            return false;
        }
        let granted = if granted { more } else { 0 };
        // Deposit. A drain (or a handler) may have emptied or replaced the slot meanwhile: then the
        // grant may be gone.
        let (mut surplus, mut unused, mut spare) = (fill, granted, 0);
        if let Some(_busy) = rec.enter()
            // Asked while busy: who forbids it drains us afterwards.
            && self.objcgs.get(tag).may_stock()
            && let Some(slot) = rec.slot_of(Some(tag))
        {
            let room = rec.slots[slot].cap.load(Relaxed) + granted;
            let all = rec.slots[slot].balance.load(Relaxed) + fill;
            rec.slots[slot].cap.store(room, Relaxed);
            rec.slots[slot].balance.store(all.min(room), Relaxed);
            surplus = all - all.min(room);
            unused = 0;
            if forced {
                spare = rec.slots[slot].spare.close();
            } else {
                rec.slots[slot].spare.open();
            }
        }
        if unused > 0 {
            self.ungrant_word(tag, unused);
        }
        if spare > 0 {
            self.sub_side(tag, spare, Kind::Reserved);
        }
        if surplus > 0 {
            self.uncharge_exact(tag, surplus);
        }
        self.return_if_lingering(rec, tag);
        true
    }

    /// Sees to it that a slot names `tag`, which is live or named by the caller. Evicts another if
    /// it must.
    ///
    /// With `scope` one more scope stands on the slot: from the same look on, or a signal handler
    /// could evict it first.
    pub(super) fn have_slot(&self, rec: &ThreadRec, tag: Tag, scope: bool) -> bool {
        let (taken, _transit, _pin) = {
            let Some(_busy) = rec.enter() else {
                return false;
            };
            let found = rec.slot_of(Some(tag));
            let Some(slot) = found.or_else(|| victim(rec, tag)) else {
                return false;
            };
            if scope {
                rec.slots[slot]
                    .scopes
                    .store(rec.slots[slot].scopes.load(Relaxed) + 1, Relaxed);
            }
            if rec.current.is(Some(tag), Relaxed) {
                // It may have been entered while it could not get a slot.
                rec.stand_at(ThreadRec::place_of(slot));
            }
            if found.is_some() {
                return true;
            }
            self.ref_objcg(tag);
            let (transit, pin) = (rec.begin_transit(), self.threads.epoch.pin(rec));
            let taken = empty_slot(rec, slot);
            rec.set_tag(slot, Some(tag));
            (taken, transit, pin)
        };
        self.give_back(&taken);
        true
    }

    fn give_back(&self, taken: &Taken) {
        let Some(tag) = taken.tag else {
            return;
        };
        if taken.cap > 0 {
            self.ungrant_word(tag, taken.cap);
        }
        if taken.slab > 0 {
            self.sub_side(tag, taken.slab, Kind::Slab);
        }
        if taken.spare > 0 {
            self.sub_side(tag, taken.spare, Kind::Reserved);
        }
        if taken.balance > 0 {
            self.uncharge_exact(tag, taken.balance);
        }
        self.unref_objcg(tag);
    }

    /// Empties one slot (of a drained thread, or of the caller's while busy) but leaves its name;
    /// returns the bytes.
    pub(super) fn drain_slot(&self, rec: &ThreadRec, slot: usize) -> u64 {
        let Some(tag) = rec.slots[slot].tag.load(Relaxed) else {
            return 0;
        };
        let balance = rec.slots[slot].balance.swap(0, Relaxed);
        let cap = rec.slots[slot].cap.swap(0, Relaxed);
        let slab = rec.slots[slot].slab.swap(0, Relaxed);
        if cap > 0 {
            self.ungrant_word(tag, cap);
        }
        if slab > 0 {
            self.sub_side(tag, slab, Kind::Slab);
        }
        if balance > 0 {
            self.uncharge_exact(tag, balance);
        }
        balance
    }

    /// Returns what the thread holds of stock that was forced above a limit. The next charges are
    /// made exactly, or from stock within the limits.
    pub fn return_forced(&self, own: &ThreadRec) {
        let has_any = || {
            own.named()
                .any(|slot| own.slots[slot].spare.is_closed() && own.slots[slot].has_any())
        };
        if !has_any() {
            return;
        }
        let _pin = self.threads.epoch.pin(own);
        let _transit = own.begin_transit();
        if let Some(_busy) = own.enter() {
            for slot in own.named() {
                if own.slots[slot].spare.is_closed() {
                    self.drain_slot(own, slot);
                }
            }
        }
    }

    /// Returns all stock and all names of a thread that leaves, or that only its record is left of.
    /// Scopes it still stands in end by it; it charges nobody from here on.
    pub fn return_all(&self, rec: &ThreadRec) {
        self.end_scopes(rec);
        let _pin = self.threads.epoch.pin(rec);
        let _transit = rec.begin_transit();
        while let Some(slot) = rec.named().next() {
            // A drainer that is at it is done in a moment; it never waits for us (it skips who is
            // busy).
            let taken = loop {
                if let Some(_busy) = rec.enter() {
                    rec.slots[slot].scopes.store(0, Relaxed);
                    break empty_slot(rec, slot);
                }
                crate::sync::relax();
            };
            self.give_back(&taken);
        }
    }

    /// Has the groups grant `bytes` of stock to the owner; `forced` where being near a limit, or
    /// above it, is no hindrance.
    pub(super) fn grant_word(&self, tag: Tag, bytes: u64, forced: bool) -> bool {
        let _walk = self.begin_walk();
        let word: &Word = &self.objcgs.get(tag).granted;
        loop {
            let cell = word.read().in_cell();
            let group = self.resolve(cell).group;
            if self.lingers() && group.is_lingering() || !grant(group, bytes, forced) {
                return false;
            }
            match word.add(Some(cell), bytes) {
                Ok(()) => return true,
                Err(why) => {
                    ungrant(self.resolve(cell).group, bytes);
                    if why != Unchanged::Moved {
                        return false;
                    }
                }
            }
        }
    }

    fn ungrant_word(&self, tag: Tag, bytes: u64) {
        let _walk = self.begin_walk();
        match self.objcgs.get(tag).granted.sub(bytes) {
            Ok(was) => ungrant(self.resolve(was.in_cell()).group, bytes),
            Err(_) => self.report_broken(),
        }
    }
}

/// A slot for `tag`: one of the two it is looked for in, free or not stood on; else any free one,
/// else the next by the clock that is not stood on.
fn victim(rec: &ThreadRec, tag: Tag) -> Option<usize> {
    let free = |slot: &usize| *slot != UNTRACKED && rec.slots[*slot].tag.load(Relaxed).is_none();
    let idle = |slot: &usize| *slot != UNTRACKED && rec.slots[*slot].scopes.load(Relaxed) == 0;
    let hand = rec.hand.load(Relaxed) as usize;
    rec.hand.store(((hand + 1) % SLOTS) as u32, Relaxed);
    let home = ThreadRec::home(Some(tag));
    let pair = [home ^ (hand & 1), home ^ 1 ^ (hand & 1)];
    pair.into_iter()
        .find(free)
        .or_else(|| pair.into_iter().find(idle))
        .or_else(|| (0..SLOTS).find(free))
        .or_else(|| (0..SLOTS).map(|i| (hand + i) % SLOTS).find(idle))
}

fn empty_slot(rec: &ThreadRec, slot: usize) -> Taken {
    let tag = rec.slots[slot].tag.load(Relaxed);
    rec.set_tag(slot, None);
    Taken {
        tag,
        balance: rec.slots[slot].balance.swap(0, Relaxed),
        cap: rec.slots[slot].cap.swap(0, Relaxed),
        slab: rec.slots[slot].slab.swap(0, Relaxed),
        spare: rec.slots[slot].spare.take(),
    }
}
