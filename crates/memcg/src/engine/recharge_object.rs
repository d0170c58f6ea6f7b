//! Recharge: a single thing gets another owner.
//!
//! The new owner is charged first, then the tag is swapped, then the old owner is uncharged. For a
//! moment both are charged, and a group above both needs room for the thing twice.
//!
//! Invariants: a thing is charged to the old owner, to the new one, or for a moment to both, never
//! to neither. No limit of the target is exceeded, `memory.kmem.max` included, unless the target is
//! observed. A thing that does
//! not fit stays with its owner, and the group that was to have it counts `recharge_failed`. If
//! several threads recharge a thing at once, one swap succeeds at a time; the others uncharge what
//! they charged.
//! Depends on: the caller, who holds the thing; `group::cell` for the offline action of a group
//! that has ended.
//! Never: reclaims, kills or goes into debt in the target; looks at a thing that nobody has asked
//! about.

#![forbid(unsafe_code)]

use super::{Accounting, Engine, Flags, Request};
use crate::group::cell::OfflineAction;
use crate::group::exact_charge::{Mode, round_up};
use crate::group::{Caller, Event, Kind, ROOT_TAG, Refusal, Tag};
use crate::kmem::bad;
use crate::thread::ThreadRec;

impl Engine {
    /// Charges a request within every limit, after a drain at most, or does nothing: also where
    /// others stand in line for room. Where the target is observed it is charged whatever the
    /// limits say.
    fn charge_in_room(&self, rec: &ThreadRec, request: Request) -> Result<(), Refusal> {
        let Request { tag, kind, .. } = request;
        let bytes = round_up(request.bytes);
        let is_hit = match kind {
            Kind::Reserved => rec.reserve_hit(Some(tag), bytes),
            Kind::Heap | Kind::Page | Kind::Mapped | Kind::Slab => {
                rec.charge_hit_of(tag, bytes, false)
            }
        };
        if is_hit {
            return Ok(());
        }
        let tree = &self.tree;
        let _pin = tree.threads.epoch.pin(rec);
        self.pass_door(tag)?;
        tree.charge(rec, tag, bytes).or_else(|refusal| {
            let full = tree.group_of_refusal(&refusal);
            let target = tree.resolve(tree.objcgs.get(tag).cell()).group;
            if let Some(full) = full.filter(|_| target.is_observed()) {
                self.observe(full, request, Caller::Door);
                return tree.charge_as(rec, tag, bytes, Mode::Force);
            }
            if !full.is_some_and(|full| tree.drain_for_charge(rec, full)) {
                return Err(refusal);
            }
            tree.charge_exact(tag, bytes, Mode::Within)
        })?;
        if kind == Kind::Reserved {
            tree.count_reserved(rec, tag, bytes);
        }
        Ok(())
    }

    /// Counts, in the group of `tag`, a recharge to `tag` that was refused.
    #[cold]
    fn recharge_failed(&self, rec: &ThreadRec, tag: Tag) {
        let _pin = self.tree.threads.epoch.pin(rec);
        let target = self.tree.resolve(self.tree.objcgs.get(tag).cell()).group;
        target.event(Event::RechargeFailed);
    }

    /// Charges `bytes` of a reservation to the owner `tag`, to which the caller has a reference.
    /// The caller uncharges the old owner afterwards.
    ///
    /// # Errors
    /// The group that was full; the failure has been counted.
    pub fn charge_given(&self, rec: &ThreadRec, tag: Tag, bytes: u64) -> Result<(), Refusal> {
        if bytes == 0 {
            return Ok(());
        }
        self.charge_in_room(rec, Request::reserved(tag, bytes, Flags::NOWAIT))
            .inspect_err(|_| self.recharge_failed(rec, tag))
    }

    /// The owner of the cache's object at `at`, and the bytes that it is charged. The owner is
    /// `None` if nobody is charged.
    ///
    /// Ends the process if there is no such object.
    pub fn owner_of_cached(&self, at: usize) -> (Option<Tag>, u64) {
        match self.kmem.locate_cached(at) {
            Ok((slab, offset)) => slab.owner_and_bytes(offset),
            Err(why) => bad::bad_pointer(b"recharge", at, why),
        }
    }

    /// Makes `to` the owner of the cache's object at `at`. The caller has a reference to `to` and
    /// holds the object. `false`: `to` owns the object already, or another thread has changed its
    /// owner meanwhile, or nobody is charged for it. Cost: a charge, an uncharge, a CAS.
    ///
    /// # Errors
    /// The group that was full; the failure has been counted.
    pub fn recharge_cached(&self, rec: &ThreadRec, at: usize, to: Tag) -> Result<bool, Refusal> {
        let (slab, offset) = match self.kmem.locate_cached(at) {
            Ok(found) => found,
            Err(why) => bad::bad_pointer(b"recharge", at, why),
        };
        let (from, bytes) = slab.owner_and_bytes(offset);
        let Some(from) = from.filter(|&from| from != to) else {
            return Ok(false);
        };
        if self.accounting() != Accounting::On {
            return Ok(false);
        }
        let request = Request::heap(to, bytes, Flags::NOWAIT);
        self.charge_in_room(rec, request)
            .and_then(|()| {
                self.count_object(rec, request)
                    .inspect_err(|_| self.undo_charge(rec, to, bytes))
            })
            .inspect_err(|_| self.recharge_failed(rec, to))?;
        let swapped = self.kmem.retag_cached(slab, offset, from, to);
        if swapped {
            self.uncharge_object(rec, Some(from), bytes);
        } else {
            self.undo_object(rec, Some(to), bytes);
        }
        Ok(swapped)
    }

    /// Whether the owner `tag` belongs to a group that has ended and whose offline action is one of
    /// `how`. The caller holds something that is charged to `tag`, so the owner is there. Cost: two
    /// loads if the owner lives.
    #[inline]
    pub fn has_offline_action(
        &self,
        rec: &ThreadRec,
        tag: Option<Tag>,
        how: &[OfflineAction],
    ) -> bool {
        tag.is_some_and(|tag| {
            !self.tree.objcgs.get(tag).is_live() && self.ended_with(rec, tag, how)
        })
    }

    #[cold]
    fn ended_with(&self, rec: &ThreadRec, tag: Tag, how: &[OfflineAction]) -> bool {
        let _pin = self.tree.threads.epoch.pin(rec);
        self.tree
            .has_offline_action(self.tree.objcgs.get(tag).cell(), how)
    }

    /// Runs `f` with the owner that the thread works for, which stays referenced meanwhile, if
    /// things that it uses may be recharged to it. A thread that works for the root takes nothing
    /// over: `f` does not run, and the answer is `false`.
    pub fn with_toucher(&self, rec: &ThreadRec, f: impl FnOnce(Tag) -> bool) -> bool {
        self.with_owner(rec, |to| to.filter(|&to| to != ROOT_TAG).is_some_and(f))
    }
}
