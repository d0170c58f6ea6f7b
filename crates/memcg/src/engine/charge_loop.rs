//! The loop around a charge: stock, limits, drain, retry, policy.
//!
//! Invariants: a refused charge has charged nobody. What is tried again is the same request.
//! Depends on: `group` for the charge itself; `reclaim` and `oom_kill` for room; `throttle` for the
//! delay that is owed.
//! Never: waits, or runs code of the program, where the request's flags do not allow it.

#![forbid(unsafe_code)]

use super::{Accounting, By, Engine, Flags, Request};
use crate::group::exact_charge::{Mode, Refusal, round_up};
use crate::group::{Event, Kind, OomPolicy, Tag};
use crate::sync::id::Id;
use crate::thread::ThreadRec;

/// A refused charge: nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChargeError {
    /// The bytes that were asked for.
    pub bytes: u64,
    /// The group that was full, its usage and its max.
    pub refusal: Refusal,
}

impl Engine {
    /// Makes a charge, its bytes rounded up to a multiple of 8; answers what was charged (0 with
    /// [`Flags::NOACCOUNT`]).
    ///
    /// # Errors
    /// When a limit stands in the way and neither a drain nor the group's policy helps.
    pub fn charge(&self, rec: &ThreadRec, request: Request) -> Result<u64, ChargeError> {
        let bytes = round_up(request.bytes);
        let request = Request { bytes, ..request };
        let Request { tag, flags, .. } = request;
        if flags.has(Flags::NOACCOUNT) {
            return Ok(0);
        }
        let is_hit = match request.kind {
            Kind::Heap => rec.charge_hit_of(tag, bytes),
            Kind::Reserved => rec.reserve_hit(Some(tag), bytes),
            Kind::Mapped | Kind::Slab => false,
        };
        if is_hit {
            return Ok(bytes);
        }
        let owed_before = rec.owed_ns();
        self.charge_slow(rec, request)?;
        if flags.has(Flags::WAIT) && !flags.has(Flags::OWE) {
            // No longer pinned: a sleeper must not hold up the epochs.
            if flags.has(Flags::USER) {
                self.help(rec, By::All);
                if self.reclaim_high(rec, tag) {
                    rec.forgive_owed(owed_before);
                }
            } else {
                self.help(rec, By::Engine);
            }
            // A future owes instead of sleeping: its thread has others to poll.
            if !rec.is_polling() {
                self.safe_point(rec, crate::counter::throttle_curve::MAX_DELAY_NS);
            }
        }
        Ok(bytes)
    }

    /// Makes a charge that is no hit, and notes the delay it owes.
    fn charge_slow(&self, rec: &ThreadRec, request: Request) -> Result<(), ChargeError> {
        let Request {
            tag, bytes, kind, ..
        } = request;
        let _pin = self.tree.threads.epoch.pin(rec);
        if !flags_pass_doors(request.flags) && !rec.is_helping() {
            self.pass_door(tag)
                .map_err(|refusal| ChargeError { bytes, refusal })?;
        }
        let first = match kind {
            Kind::Heap | Kind::Reserved => self.tree.charge(rec, tag, bytes),
            Kind::Mapped | Kind::Slab => self.charge_exact(request, Mode::Within),
        };
        first
            .or_else(|refusal| self.charge_refused(rec, request, refusal))
            .map_err(|refusal| ChargeError { bytes, refusal })?;
        match kind {
            Kind::Reserved => self.tree.count_reserved(rec, tag, bytes),
            Kind::Heap | Kind::Mapped | Kind::Slab => self.tree.add_side(tag, bytes, kind),
        }
        self.owe(rec, request);
        if self.tree.is_broken() {
            self.on_broken();
        }
        Ok(())
    }

    /// Charges the owner and all groups above it, past all stock, as far as `mode` allows.
    fn charge_exact(&self, request: Request, mode: Mode) -> Result<(), Refusal> {
        self.tree.charge_exact(request.tag, request.bytes, mode)
    }

    /// Handles a refusal. The charge is forced, or tried again after a drain and after a reclaim;
    /// then the group's policy decides between debt, a kill and a refusal.
    #[cold]
    fn charge_refused(
        &self,
        rec: &ThreadRec,
        request: Request,
        refusal: Refusal,
    ) -> Result<(), Refusal> {
        let tree = &self.tree;
        let Request { tag, flags, .. } = request;
        // What a reclaiming thread charges is forced, or reclaim would wait for itself.
        if flags.has(Flags::FORCE) || rec.is_helping() {
            return self.charge_exact(request, Mode::Force);
        }
        let Some(full) = tree.group_of_refusal(&refusal) else {
            return Err(refusal);
        };
        full.event(Event::Max);
        let mut last = refusal;
        // Stock in and below the full group is charged, but nothing holds it. If the charge would
        // fit without it, drain it, once.
        let without_stock = refusal.usage.saturating_sub(full.counter.granted());
        let drain = || {
            // A stall is counted only if there is something to drain, so that a refusal stays
            // quick.
            let _stall = full.is_drain_due().then(|| tree.stall(rec, tag));
            tree.drain_for_charge(rec, full)
        };
        if without_stock.saturating_add(request.bytes) <= full.counter.max() && drain() {
            match self.charge_exact(request, Mode::Within) {
                Ok(()) => return Ok(()),
                Err(again) => last = again,
            }
        }
        if self.may_reclaim() {
            match self.charge_after_reclaim(rec, request, last) {
                Ok(()) => return Ok(()),
                Err(again) => last = again,
            }
        }
        // Found anew: reclaim may have taken long.
        let Some(full) = tree.group_of_refusal(&last) else {
            return Err(last);
        };
        if flags.has(Flags::EARLY) {
            return Err(last);
        }
        let by_default = flags.has(Flags::DEBT);
        let may_owe = match full.oom_policy() {
            OomPolicy::Debt => true,
            OomPolicy::Default => by_default,
            OomPolicy::Deny | OomPolicy::Kill => false,
        };
        if may_owe {
            match self.charge_exact(request, Mode::Debt { by_default }) {
                Ok(()) => return Ok(()),
                Err(again) => last = again,
            }
        }
        if full.oom_policy() == OomPolicy::Kill && last.group.is_some() {
            match self.charge_after_kill(rec, request, last) {
                Ok(()) => return Ok(()),
                Err(again) => last = again,
            }
        }
        if let Some(full) = tree.group_of_refusal(&last) {
            full.event(Event::Oom);
        }
        Err(last)
    }

    /// Has a task told to die, and charges in advance against the bytes that it will give back.
    /// Where that credit is not enough and the request may wait, waits for the task to end.
    #[cold]
    fn charge_after_kill(
        &self,
        rec: &ThreadRec,
        request: Request,
        refusal: Refusal,
    ) -> Result<(), Refusal> {
        let mut last = refusal;
        // No task dies for bytes that are only stock: stock is drained first, however lately that
        // was done.
        for _ in 0..super::reclaim::ROUNDS {
            let Some(full) = self.tree.group_of_refusal(&last) else {
                return Err(last);
            };
            if full.counter.granted() == 0 || self.tree.drain(rec, full) == 0 {
                break;
            }
            match self.charge_exact(request, Mode::Within) {
                Ok(()) => return Ok(()),
                Err(again) => last = again,
            }
        }
        if last.group != refusal.group {
            // Another group is full as well. Its own policy decides, at the next charge.
            return Err(last);
        }
        let Some(group) = last.group else {
            return Err(last);
        };
        for _ in 0..super::progress::STEPS {
            let full = self.tree.memcgs.get(group);
            let by = self.oom_kill(full, request.bytes);
            if by == 0 {
                return Err(last);
            }
            match self.charge_exact(request, Mode::Beyond { group, by }) {
                Ok(()) => return Ok(()),
                // Another group is full as well. Its own policy decides, at the next charge.
                Err(again) if again.group != Some(group) => return Err(again),
                Err(again) => last = again,
            }
            if !request.flags.has(Flags::WAIT) {
                return Err(last);
            }
            let _lifted = self.tree.threads.epoch.lift(rec);
            crate::os::clock::sleep_ns(super::progress::STEP_NS);
        }
        Err(last)
    }

    /// Tries again as long as reclaim makes room. If the request may not wait, only has the worker
    /// reclaim, for later charges.
    #[cold]
    fn charge_after_reclaim(
        &self,
        rec: &ThreadRec,
        request: Request,
        refusal: Refusal,
    ) -> Result<(), Refusal> {
        let tree = &self.tree;
        let mut last = refusal;
        if !request.flags.has(Flags::WAIT) {
            if let Some(full) = tree.group_of_refusal(&last)
                && request.bytes <= full.counter.max()
            {
                self.wake_reclaim(full, request.bytes);
            }
            return Err(last);
        }
        for _ in 0..super::reclaim::ROUNDS {
            let Some(full) = tree.group_of_refusal(&last) else {
                return Err(last);
            };
            // A request larger than max can never fit: nothing is reclaimed for it.
            if request.bytes > full.counter.max() || !self.make_room(rec, full, request) {
                break;
            }
            // Found anew: room may have taken long to make.
            if let Some(full) = tree.group_of_refusal(&last) {
                tree.drain_for_charge(rec, full);
            }
            match self.charge_exact(request, Mode::Within) {
                Ok(()) => return Ok(()),
                Err(again) => last = again,
            }
        }
        Err(last)
    }

    /// Uncharges `bytes`, as [`Self::charge`] answered them.
    pub fn uncharge(&self, rec: &ThreadRec, tag: Tag, bytes: u64, kind: Kind) {
        if self.accounting() == Accounting::Broken {
            return;
        }
        match kind {
            Kind::Heap => {
                if rec.uncharge_hit(Some(tag), bytes) {
                    return;
                }
                self.tree.uncharge(rec, tag, bytes);
            }
            Kind::Reserved => {
                if rec.unreserve_hit(Some(tag), bytes) {
                    return;
                }
                let _pin = self.tree.threads.epoch.pin(rec);
                self.tree.uncount_reserved(rec, tag, bytes);
                self.tree.uncharge(rec, tag, bytes);
            }
            Kind::Mapped | Kind::Slab => {
                let _pin = self.tree.threads.epoch.pin(rec);
                self.tree.sub_side(tag, bytes, kind);
                self.tree.uncharge_exact(tag, bytes);
            }
        }
        self.note_ends();
        if self.tree.is_broken() {
            self.on_broken();
        }
    }

    /// Undoes a charge of an object's `bytes` that was made a moment ago, because the object cannot
    /// be had for another reason. As [`Self::uncharge`], but the owner's residual charges in other
    /// groups stay as they were.
    #[cold]
    pub(super) fn undo_charge(&self, rec: &ThreadRec, tag: Tag, bytes: u64) {
        {
            let _pin = self.tree.threads.epoch.pin(rec);
            if self.accounting() != Accounting::Broken && self.tree.residual_bytes(tag) > 0 {
                // Such an owner has no stock.
                self.tree.undo_charge(tag, bytes);
                self.note_ends();
                return;
            }
        }
        self.uncharge(rec, tag, bytes, Kind::Heap);
    }

    /// Whether `tag` may be an owner's. Asked before the tag of a thing is used, since the program
    /// may have overwritten it.
    pub fn is_tag(&self, tag: Tag) -> bool {
        tag.raw() < self.tree.objcgs.high_water()
    }
}

/// Whether such a charge does not ask at the door: it cannot be refused, or not so.
fn flags_pass_doors(flags: Flags) -> bool {
    flags.has(Flags::FORCE) || flags.has(Flags::DEBT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{ROOT, ROOT_TAG};

    #[test]
    fn a_charge_that_may_wait_pays_its_delay_and_one_that_may_not_owes_it() {
        let engine = Engine::leaked();
        let (_, rec) = engine.tree.threads.join().unwrap();
        let group = {
            let _pin = engine.tree.threads.epoch.pin(rec);
            let root = engine.tree.memcgs.get(ROOT);
            engine
                .tree
                .memcgs
                .get(engine.tree.create(root, b"a").unwrap())
        };
        group.counter.set_high(1 << 20);
        let charge = |flags| engine.charge(rec, Request::reserved(group.tag(), 1 << 20, flags));
        charge(Flags::NOWAIT).unwrap();
        assert_eq!(rec.owed_ns(), 0);
        charge(Flags::NOWAIT).unwrap();
        let owed = rec.owed_ns();
        assert!(owed > 0 && group.nr_events(Event::High, true) == 1);
        charge(Flags::WAIT.with(Flags::OWE)).unwrap();
        assert!(rec.owed_ns() >= owed);
        engine.uncharge(rec, group.tag(), 1 << 20, Kind::Reserved);
        group.counter.set_high((2 << 20) + (900 << 10));
        let start = std::time::Instant::now();
        charge(Flags::WAIT).unwrap();
        assert!(rec.owed_ns() < crate::counter::throttle_curve::WAIVED_DELAY_NS);
        assert!(start.elapsed().as_nanos() as u64 >= owed.min(2_000_000_000));
    }

    #[test]
    fn nobody_dies_for_what_nobody_holds() {
        let engine = Engine::leaked();
        let tree = &engine.tree;
        let (mine, other) = (
            tree.threads.join().unwrap().1,
            tree.threads.join().unwrap().1,
        );
        let make = |parent, name: &[u8]| {
            let _pin = tree.threads.epoch.pin(mine);
            tree.memcgs
                .get(tree.create(tree.memcgs.get(parent), name).unwrap())
        };
        let above = make(ROOT, b"above");
        let (group, beside) = (make(above.index(), b"a"), make(above.index(), b"b"));
        let task = {
            let _pin = tree.threads.epoch.pin(mine);
            tree.new_task(group, b"task", 0).unwrap()
        };
        above.set_oom_policy(OomPolicy::Kill);
        group.counter.set_max(64 << 20);
        above.counter.set_max((64 << 20) + 16);
        let charge =
            |rec, tag, bytes| engine.charge(rec, Request::reserved(tag, bytes, Flags::NOWAIT));
        // Another thread has stock in both: the one on the way is full by it, and so is what is
        // above.
        charge(other, task, 8).unwrap();
        charge(other, beside.tag(), 8).unwrap();
        assert!(group.counter.granted() > 0 && beside.counter.granted() > 0);
        charge(mine, task, (64 << 20) - 8).unwrap();
        assert!(!tree.objcgs.get(task).is_killed());
        assert_eq!(above.nr_events(Event::OomKill, false), 0);
    }

    #[test]
    fn what_is_not_to_be_accounted_is_not() {
        let engine = Engine::leaked();
        let (_, rec) = engine.tree.threads.join().unwrap();
        let charged = engine.charge(rec, Request::heap(ROOT_TAG, 100, Flags::NOACCOUNT));
        assert_eq!(charged, Ok(0));
        assert_eq!(engine.tree.memcgs.get(ROOT).counter.usage(), 0);
    }
}
