//! Recharge: a single thing gets another owner.
//!
//! Kept: all or nothing. The new owner is charged first, then the tag is swapped, then the old
//! owner is uncharged: for a moment both are charged, never neither, and a group above both needs
//! room for it twice. Never above a limit of the target's, nor of `memory.kmem.max`. What does not
//! fit stays where it is, and is counted (`recharge_failed`) in the group that was to have it. Of
//! several who recharge one thing at once the swap lets one at a time through; each takes back what
//! it charged for nothing. Relied on: who asks holds the thing; `group::cell` for what a group's
//! end said of what it left. Never done: reclaim, a kill or debt in the target; a look at a thing
//! nobody has asked about.

#![forbid(unsafe_code)]

use super::{Accounting, Engine, Flags, Request};
use crate::group::cell::OfflineAction;
use crate::group::exact_charge::{Mode, round_up};
use crate::group::{Event, Kind, ROOT_TAG, Refusal, Tag};
use crate::kmem::bad;
use crate::thread::ThreadRec;

impl Engine {
    /// Charges `bytes` to an owner that the caller names, within every limit, or not at all: after
    /// a drain at most.
    fn charge_in_room(&self, rec: &ThreadRec, request: Request) -> Result<(), Refusal> {
        let Request { tag, kind, .. } = request;
        let bytes = round_up(request.bytes);
        let is_hit = match kind {
            Kind::Reserved => rec.reserve_hit(Some(tag), bytes),
            Kind::Heap | Kind::Mapped | Kind::Slab => rec.charge_hit_of(tag, bytes),
        };
        if is_hit {
            return Ok(());
        }
        let tree = &self.tree;
        let _pin = tree.threads.epoch.pin(rec);
        tree.charge(rec, tag, bytes).or_else(|refusal| {
            let full = tree.group_of_refusal(&refusal);
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

    /// Counts a recharge to `tag` that was refused.
    #[cold]
    fn recharge_failed(&self, rec: &ThreadRec, tag: Tag) {
        let _pin = self.tree.threads.epoch.pin(rec);
        let target = self.tree.resolve(self.tree.objcgs.get(tag).cell()).group;
        target.event(Event::RechargeFailed);
    }

    /// Charges `bytes` of a reservation to an owner that the caller names, for one who will
    /// uncharge its old owner.
    ///
    /// # Errors
    /// Who was full; it has been counted.
    pub fn charge_given(&self, rec: &ThreadRec, tag: Tag, bytes: u64) -> Result<(), Refusal> {
        if bytes == 0 {
            return Ok(());
        }
        self.charge_in_room(rec, Request::reserved(tag, bytes, Flags::NOWAIT))
            .inspect_err(|_| self.recharge_failed(rec, tag))
    }

    /// The owner of the object of a cache at `at`, `None` if nobody is charged for it, and the
    /// bytes it is charged.
    ///
    /// Ends the process if there is no such object.
    pub fn owner_of_cached(&self, at: usize) -> (Option<Tag>, u64) {
        match self.kmem.locate_cached(at) {
            Ok((slab, offset)) => slab.owner_and_bytes(offset),
            Err(why) => bad::bad_pointer(b"recharge", at, why),
        }
    }

    /// Makes `to`, which the caller names, the owner of the object of a cache at `at`, which the
    /// caller holds. `false`: it is already, or another thread has made it somebody else's, or
    /// nobody is charged for it. Cost: a charge, an uncharge, a CAS.
    ///
    /// # Errors
    /// Who was full; it has been counted.
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

    /// Whether what `tag` owns was left by a group that has ended, for one of `how`. Of an owner
    /// that lives: two loads. `tag` is charged for something the caller holds.
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

    /// Runs `f` with the owner the thread works for, named for the length of it, if that is to be
    /// charged for what it uses: work in no group at all takes nothing over.
    pub fn with_toucher(&self, rec: &ThreadRec, f: impl FnOnce(Tag) -> bool) -> bool {
        self.with_owner(rec, |to| to.filter(|&to| to != ROOT_TAG).is_some_and(f))
    }
}
