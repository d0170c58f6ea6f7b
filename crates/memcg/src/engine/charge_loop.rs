//! The loop around a charge: stock, limits, drain, retry, policy.
//!
//! Invariants: a refused charge has charged nobody. What is tried again is the same request.
//! Depends on: `group` for the charge itself; `reclaim` and `oom_kill` for room; `observe` for what
//! is counted instead of refused; `throttle` for what is owed.
//! Never: a wait, or code of the program, where the request's flags do not allow it.

#![forbid(unsafe_code)]

use super::{Accounting, By, Engine, Flags, Request};
use crate::group::exact_charge::{Mode, Refusal, round_up};
use crate::group::{Caller, Event, Kind, Memcg, Tag};
use crate::sync::id::Id;
use crate::thread::ThreadRec;

/// Inside `fallible` requests of so many bytes and more can be refused.
const FALLIBLE_FROM: u64 = 4096;

/// A refused charge: nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChargeError {
    /// The bytes that were asked for.
    pub bytes: u64,
    /// Who was full, and how full.
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
            Kind::Heap | Kind::Page => rec.charge_hit_of(tag, bytes, request.is_of_allocator()),
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

    fn charge_slow(&self, rec: &ThreadRec, request: Request) -> Result<(), ChargeError> {
        let Request {
            tag, bytes, kind, ..
        } = request;
        let _pin = self.tree.threads.epoch.pin(rec);
        if !request.is_of_allocator() && !request.flags.has(Flags::FORCE) && !rec.is_helping() {
            self.pass_door(tag)
                .map_err(|refusal| ChargeError { bytes, refusal })?;
        }
        self.charge_as(rec, request, Mode::Within)
            .or_else(|refusal| self.charge_refused(rec, request, refusal))
            .map_err(|refusal| ChargeError { bytes, refusal })?;
        match kind {
            Kind::Reserved => self.tree.count_reserved(rec, tag, bytes),
            Kind::Heap | Kind::Page | Kind::Mapped | Kind::Slab => {
                self.tree.add_side(tag, bytes, kind);
            }
        }
        self.owe(rec, request);
        if self.tree.is_broken() {
            self.on_broken();
        }
        Ok(())
    }

    /// Charges the owner and all groups above it as far as `mode` allows; with stock, where the
    /// kind knows any.
    fn charge_as(&self, rec: &ThreadRec, request: Request, mode: Mode) -> Result<(), Refusal> {
        match request.kind {
            Kind::Heap | Kind::Page | Kind::Reserved => {
                self.tree.charge_as(rec, request.tag, request.bytes, mode)
            }
            Kind::Mapped | Kind::Slab => self.charge_exact(request, mode),
        }
    }

    /// Charges the owner and all groups above it, past all stock, as far as `mode` allows.
    fn charge_exact(&self, request: Request, mode: Mode) -> Result<(), Refusal> {
        self.tree.charge_exact(request.tag, request.bytes, mode)
    }

    /// Who asks: inside `fallible` an allocator does so at the door.
    fn caller(&self, rec: &ThreadRec, request: Request) -> Caller {
        let is_infallible = request.flags.has(Flags::INFALLIBLE);
        if !request.is_of_allocator() || rec.is_fallible() {
            Caller::Door
        } else if is_infallible || self.options.debt_by_default() {
            Caller::Infallible
        } else {
            Caller::Malloc
        }
    }

    /// Seeks the way out of a refusal: a drain, a reclaim, or the full group's policy, by which the
    /// charge is made above max.
    #[cold]
    fn charge_refused(
        &self,
        rec: &ThreadRec,
        request: Request,
        refusal: Refusal,
    ) -> Result<(), Refusal> {
        let tree = &self.tree;
        let Request { tag, flags, .. } = request;
        // What reclaim charges is forced, or it would wait for itself.
        if rec.is_helping() {
            return self.charge_exact(request, Mode::Force);
        }
        let group = tree.resolve(tree.objcgs.get(tag).cell()).group;
        if flags.has(Flags::FORCE) {
            // Whoever is marked for it, it is made.
            if !group.is_observed() {
                let _ = self.mark_for(request, Caller::Infallible);
            }
            return self.charge_exact(request, Mode::Force);
        }
        // Nobody asks for less than a few pages to hear a no, and a thread that panics cannot.
        if rec.is_fallible()
            && request.is_of_allocator()
            && (request.bytes < FALLIBLE_FROM || std::thread::panicking())
        {
            return self.charge_exact(request, Mode::Force);
        }
        let Some(full) = tree.group_of_refusal(&refusal) else {
            return Err(refusal);
        };
        let caller = self.caller(rec, request);
        if group.is_observed() {
            self.observe(full, request, caller);
            return self.charge_as(rec, request, Mode::Force);
        }
        // Who runs in debt already goes on at once: neither stock nor reclaim would bring it below.
        let may_go_over = full.may_go_over(caller);
        if may_go_over && full.is_over() {
            return self.charge_over(rec, request, caller, refusal);
        }
        // The C library's calls ask twice. What is refused early is counted when it asks again.
        let asks_again = flags.has(Flags::EARLY | Flags::MALLOC);
        if !may_go_over && !asks_again {
            full.event(Event::Max);
        }
        let made = self
            .charge_after_drain(rec, request, caller, refusal)
            .or_else(|last| match self.may_reclaim() {
                true => self.charge_after_reclaim(rec, request, last),
                false => Err(last),
            });
        let Err(last) = made else {
            if !may_go_over && asks_again {
                full.event(Event::Max);
            }
            return Ok(());
        };
        if flags.has(Flags::EARLY) {
            return Err(last);
        }
        if caller != Caller::Door {
            return self.charge_over(rec, request, caller, last);
        }
        self.refuse(last)
    }

    /// Stock under a full group is charged but held by nobody: if all of it made room, takes it
    /// back and tries again, once for each group on the way.
    fn charge_after_drain(
        &self,
        rec: &ThreadRec,
        request: Request,
        caller: Caller,
        refusal: Refusal,
    ) -> Result<(), Refusal> {
        let tree = &self.tree;
        let mut last = refusal;
        while let Some(full) = tree.group_of_refusal(&last) {
            let without_stock = last.usage.saturating_sub(full.counter.granted());
            if without_stock.saturating_add(request.bytes) > full.counter.max() {
                break;
            }
            let has_drained = {
                // Where nothing will be drained nobody stands still, and a refusal stays quick.
                let _stall = full.is_drain_due().then(|| tree.stall(rec, request.tag));
                if full.may_go_over(caller) {
                    tree.drain_for_charge(rec, full)
                } else {
                    self.drain_for(rec, full, caller)
                }
            };
            if !has_drained {
                break;
            }
            match self.charge_exact(request, Mode::Within) {
                Ok(()) => return Ok(()),
                // From below to above, so this ends.
                Err(again) if again.group != last.group => last = again,
                Err(again) => return Err(again),
            }
        }
        Err(last)
    }

    /// Charges above max, as far as the policies of the groups on the way let the caller go. Where
    /// one of them kills, tasks are marked first.
    fn charge_over(
        &self,
        rec: &ThreadRec,
        request: Request,
        caller: Caller,
        refusal: Refusal,
    ) -> Result<(), Refusal> {
        let mode = Mode::Policy(caller);
        let made = self
            .mark_for(request, caller)
            .and_then(|()| self.charge_as(rec, request, mode));
        let Err(mut last) = made else {
            return Ok(());
        };
        // A bound is on what is held: stock goes first, once at each level from below to above.
        while let Some(full) = self.tree.group_of_refusal(&last)
            && (full.may_go_over(caller) || caller == Caller::Infallible)
            && self.drain_for(rec, full, caller)
        {
            match self.charge_exact(request, mode) {
                Ok(()) => return Ok(()),
                Err(again) if again.group != last.group => last = again,
                Err(again) => {
                    last = again;
                    break;
                }
            }
        }
        if request.flags.has(Flags::EARLY) {
            return Err(last);
        }
        // Counted already is only the refusal by a group that lets the caller go no further.
        if let Some(full) = self.tree.group_of_refusal(&last)
            && (last.group != refusal.group || full.may_go_over(caller))
        {
            full.event(Event::Max);
        }
        if caller == Caller::Infallible {
            self.say_null(request, &last);
        }
        self.refuse(last)
    }

    /// Takes back the stock under a full group: at once for who cannot be refused while any is in
    /// the way, else if the last drain is a while ago. `false`: nothing was or could be drained.
    fn drain_for(&self, rec: &ThreadRec, full: &Memcg, caller: Caller) -> bool {
        match caller {
            Caller::Infallible => self.tree.drain_at_once(rec, full),
            Caller::Malloc | Caller::Door => self.tree.drain_for_charge(rec, full),
        }
    }

    /// Counts a refusal.
    fn refuse(&self, last: Refusal) -> Result<(), Refusal> {
        if let Some(full) = self.tree.group_of_refusal(&last) {
            full.event(Event::Oom);
            if full.parent_index().is_none() {
                self.budget_is_tight();
            }
        }
        Err(last)
    }

    /// Tries again as long as room is made; leaves the rest to the worker where the caller may not
    /// wait.
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
            // What can never fit is not worth what others have.
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

    /// Gives back `bytes` as [`Self::charge`] answered them.
    pub fn uncharge(&self, rec: &ThreadRec, tag: Tag, bytes: u64, kind: Kind) {
        if self.accounting() == Accounting::Broken {
            return;
        }
        match kind {
            Kind::Heap | Kind::Page => {
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

    /// Takes back a charge of an object's `bytes` that was made a moment ago, for want of something
    /// else: as [`Self::uncharge`], but what a move left of the owner in other groups stays as it
    /// was.
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

    /// Whether a tag may be an owner's: asked before the tag of a thing is believed, which may have
    /// been overwritten.
    pub fn is_tag(&self, tag: Tag) -> bool {
        tag.raw() < self.tree.objcgs.high_water()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{OomPolicy, ROOT, ROOT_TAG};

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
