//! Residual charges (*residuals*): bytes of an owner that a move left in another group.
//!
//! An owner's things name it whatever happens, so it cannot be told which of them stayed: what
//! stays is an *amount*. A residual is an owner of its own that no thing names. It is found through
//! the owner it belongs to: that owner's `Objcg::link` begins a chain, and nothing else uses the
//! link while they live. What the owner's things hold is its own word and its residuals together;
//! what they free pays the residuals off first. A residual is a line of the ledger of the group it
//! is in, and is inherited with that group.
//!
//! A *lost* residual is in no group: usage charged to nobody, as the move of 2008 left it when it
//! failed to move back.
//!
//! Invariants: an owner with a residual has no stock, so nothing is stocked that a residual holds.
//! A residual grows only by the one mover of its owner (`Objcg::begin_move`), who adds to it before
//! taking from the word: whoever frees finds enough in the two. Residuals leave the chain only with
//! their owner; one that is empty serves the next move.
//! Depends on: `objcg` for the words and the end of an owner; `name` for a residual's name.
//! Never: a residual of a residual; a look at a thing.

#![forbid(unsafe_code)]

use super::id::{CellId, NameId};
use super::limbo::What;
use super::memcg_record::Memcg;
use super::name::NAME_MAX;
use super::objcg::{Objcg, State};
use super::{Hierarchy, Tag};
use crate::sync::atomic::Ordering;
use crate::sync::id::Id;
use crate::thread::ThreadRec;

/// An owner has at most so many; a move that would need one more is refused.
pub const MAX_RESIDUALS: usize = 4;

impl Objcg {
    /// While it is somebody's: the first of its residuals; of a residual, the next of the same
    /// owner.
    pub(super) fn next_residual(&self) -> Option<Tag> {
        // Acquire pairs with the Release of `new_residual`: whole records.
        Tag::from_raw(self.link.load(Ordering::Acquire))
    }
}

impl Hierarchy {
    /// The residuals of an owner, the newest first, lost and empty ones too. The caller is pinned,
    /// the owner not retired.
    pub fn residuals(&self, tag: Tag) -> impl Iterator<Item = &Objcg> {
        let objcg = self.objcgs.get(tag);
        let first = match objcg.state() {
            State::Residual | State::Lost | State::Free => None,
            State::Group | State::Task | State::DeadGroup | State::DeadTask | State::Superseded => {
                objcg.next_residual()
            }
        };
        let at = |residual: Option<Tag>| residual.map(|residual| self.objcgs.get(residual));
        core::iter::successors(at(first), move |residual| at(residual.next_residual()))
    }

    /// Bytes of an owner that are not in its own word. The caller is pinned.
    pub fn residual_bytes(&self, tag: Tag) -> u64 {
        self.residuals(tag).map(Objcg::charged_bytes).sum()
    }

    /// Bytes of an owner that other groups have, without what is lost. The caller is pinned.
    pub fn stayed_bytes(&self, tag: Tag) -> u64 {
        let residuals = self
            .residuals(tag)
            .filter(|residual| residual.cell_if_any().is_some());
        residuals.map(Objcg::charged_bytes).sum()
    }

    /// Whether an owner has any record of a residual, also an empty one. The caller is pinned, the
    /// owner not retired.
    #[inline]
    pub(super) fn has_residual(&self, tag: Tag) -> bool {
        self.objcgs.get(tag).next_residual().is_some()
    }

    /// Pays off residuals with at most `bytes`; answers how much it was.
    #[inline]
    pub(super) fn uncharge_residuals(&self, tag: Tag, bytes: u64) -> u64 {
        if !self.has_residual(tag) {
            return 0;
        }
        let mut taken = 0;
        for residual in self.residuals(tag) {
            if taken == bytes {
                break;
            }
            let was = residual.charged.sub_up_to(bytes - taken, 0);
            if was.bytes > 0
                && let Some(cell) = was.cell
            {
                self.uncharge_path(cell, was.bytes);
            }
            taken += was.bytes;
        }
        taken
    }

    /// An owner that was denied stock because of its residuals gets it again once they are paid
    /// off. `false`: not yet.
    #[cold]
    pub(super) fn regain_stock(&self, tag: Tag) -> bool {
        let objcg = self.objcgs.get(tag);
        if objcg.state() == State::Superseded || self.residual_bytes(tag) != 0 {
            return false;
        }
        // Only while nobody moves it: a mover puts amounts into residuals after it has forbidden
        // stock.
        let Some(_task) = objcg.lock.try_lock(crate::sync::lock::Rank::Task) else {
            return false;
        };
        if objcg.is_moving() || self.residual_bytes(tag) != 0 {
            return false;
        }
        objcg.allow_stock();
        true
    }

    /// Takes all stock of an owner and lets it have no more: the first step of leaving bytes
    /// behind.
    pub(crate) fn end_stock(&self, own: &ThreadRec, tag: Tag) {
        self.objcgs.get(tag).forbid_stock();
        self.drain_owner(own, tag);
    }

    /// A residual of `tag` in `group` (`None`: in no group), of the owner's mover. `None` without
    /// memory or when there are too many.
    pub(crate) fn residual_in(&self, tag: Tag, group: Option<&Memcg>) -> Option<&Objcg> {
        let cell = group.map(Memcg::cell);
        if let Some(residual) = self
            .residuals(tag)
            .find(|residual| residual.cell_if_any() == cell)
        {
            return Some(residual);
        }
        let Some(group) = group else {
            return self.new_residual(tag, None);
        };
        let cell = group.cell();
        let name = self.copy_name(self.objcgs.get(tag).name(), group.name())?;
        let empty =
            |residual: &&Objcg| residual.cell_if_any().is_some() && residual.charged_bytes() == 0;
        if let Some(residual) = self.residuals(tag).find(empty) {
            let from = residual.cell();
            self.count_owner_out(residual);
            self.ref_cell(cell);
            for word in residual.words() {
                if word.flip(from, cell, 0).is_err() {
                    self.report_broken();
                }
            }
            self.unref_cell(from);
            // Release pairs with the Acquire of `Objcg::name`: the name's text is whole. Acquire is
            // not needed: the name that was here is from the residual's making or from an earlier
            // move of its owner, and `begin_move` has acquired what that move did.
            if let Some(before) = residual.name.swap(Some(name), Ordering::Release) {
                self.unref_name(before);
            }
            self.count_owner_in(residual);
            residual.begin_residual(crate::os::clock::wall_ns());
            return Some(residual);
        }
        let residual = self.new_residual(tag, Some((cell, name)));
        if residual.is_none() {
            self.unref_name(name);
        }
        residual
    }

    /// In the group of a cell, by a name; or in no group.
    fn new_residual(&self, tag: Tag, place: Option<(CellId, NameId)>) -> Option<&Objcg> {
        let in_groups = self
            .residuals(tag)
            .filter(|residual| residual.cell_if_any().is_some());
        if place.is_some() && in_groups.count() >= MAX_RESIDUALS {
            return None;
        }
        let new = self.alloc_or_collect(&self.objcgs, u32::MAX)?;
        let (objcg, residual) = (self.objcgs.get(tag), self.objcgs.get(new));
        let (cell, name, state) = match place {
            None => (None, None, State::Lost),
            Some((cell, name)) => (Some(cell), Some(name), State::Residual),
        };
        self.open_objcg(new, cell, name, state);
        residual.id.store(objcg.id(), Ordering::Relaxed);
        residual.begin_residual(crate::os::clock::wall_ns());
        residual
            .link
            .store(objcg.link.load(Ordering::Relaxed), Ordering::Relaxed);
        // Release pairs with the Acquire of `residuals`. Only the mover writes it.
        objcg.link.store(new.raw(), Ordering::Release);
        Some(residual)
    }

    /// At most `bytes` of a residual become nobody's: they stay charged to the owner, and to no
    /// group. Answers how much it was; 0 without memory.
    pub(crate) fn lose(&self, tag: Tag, residual: &Objcg, bytes: u64) -> u64 {
        let Some(lost) = self.residual_in(tag, None) else {
            return 0;
        };
        if lost.charged.add(None, bytes).is_err() {
            return 0;
        }
        let was = residual.charged.sub_up_to(bytes, 0);
        let _ = lost.charged.sub(bytes - was.bytes);
        self.uncharge_path(was.in_cell(), was.bytes);
        was.bytes
    }

    /// A move has left bytes that are marked.
    pub(crate) fn note_marked(&self) {
        // Release pairs with the Acquire of `begin_search_for_marked`: who finds it finds the
        // marks.
        self.marked.store(1, Ordering::Release);
    }

    /// Whether a move may have left marked bytes. Cost: a load.
    #[inline]
    pub fn may_have_marked(&self) -> bool {
        self.marked.load(Ordering::Relaxed) != 0
    }

    /// Begins a search for all marked bytes; `false`: there are none. Whoever finds some that stay
    /// where they are calls [`Self::note_marked`] again.
    pub(crate) fn begin_search_for_marked(&self) -> bool {
        // Acquire pairs with the Release of `note_marked`.
        self.marked.swap(0, Ordering::Acquire) != 0
    }

    /// Lets go of the chain of an owner that is retired, all of it empty. The caller is pinned.
    pub(super) fn release_residuals(&self, first: Option<Tag>) {
        let mut next = first;
        while let Some(at) = next {
            let residual = self.objcgs.get(at);
            next = residual.next_residual();
            if residual.state() == State::Lost {
                let _ = residual.end(State::Free, 0);
                self.retire(What::Objcg(at));
            } else {
                self.unref_objcg(at);
            }
        }
    }

    /// A new name with the text of `name`, below `above`. `None` without memory.
    pub(super) fn copy_name(&self, name: NameId, above: NameId) -> Option<NameId> {
        let (mut text, mut len) = ([0; NAME_MAX], 0);
        self.with_name(name, |piece| {
            let end = NAME_MAX.min(len + piece.len());
            text[len..end].copy_from_slice(&piece[..end - len]);
            len = end;
        });
        self.new_name(&text[..len], Some(above))
    }
}
