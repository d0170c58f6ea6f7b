//! Moves of all a task holds, or nothing: room for every word first, then the flip of the task's
//! own word. It fails only if the task has grown meanwhile, or ended. The residuals join it then,
//! which cannot fail.
//!
//! Invariants: a word flips only into room that covers it. Room that is not used is given back.
//! Depends on: `target_room`, `kmem_limit`; `part` for residuals; the task's lock, which the caller
//! of `move_whole` holds.
//! Never: tries again after a drain that brought nothing.

use super::kmem_limit::{NoRoom, Stopped};
use super::part::join;
use super::target_room::{Room, drain};
use super::{Attach, MoveError, Moved, PIECE, ROUNDS};
use crate::group::kmem_charge::SLAB_SIDE;
use crate::group::objcg::Objcg;
use crate::group::{Hierarchy, Kind, Tag};
use crate::thread::ThreadRec;

impl Attach<'_> {
    /// The own word of the task, then its residuals, except what is lost: each with the number of
    /// its room.
    fn words<'a>(&self, tree: &'a Hierarchy) -> impl Iterator<Item = (usize, &'a Objcg)> + use<'a> {
        let own = tree.objcgs.get(self.tag);
        let residuals = tree
            .residuals(self.tag)
            .filter(|residual| residual.cell_if_any().is_some());
        core::iter::once(own).chain(residuals).enumerate()
    }

    /// Makes room for all the task holds now: one try, which a refusal ends.
    fn cover(&mut self, tree: &Hierarchy, residuals: bool) -> Result<(), NoRoom> {
        #[cfg(all(test, not(loom)))]
        super::tries::count();
        for (at, word) in self
            .words(tree)
            .take(if residuals { usize::MAX } else { 1 })
        {
            let way = self.way(tree, word);
            self.rooms[at]
                .cover(&way, word.charged_bytes())
                .map_err(NoRoom::Max)?;
        }
        let way = self.way(tree, tree.objcgs.get(self.tag));
        self.cover_slab(tree, &way).map_err(NoRoom::Kmem)
    }

    /// As [`Self::cover`]; what threads stock, at the target or for the task, may be all that is in
    /// the way, and is taken back then.
    pub(super) fn cover_or_drain(
        &mut self,
        tree: &Hierarchy,
        rec: &ThreadRec,
    ) -> Result<(), MoveError> {
        if let Err(full) = self.cover(tree, true) {
            if !self.drain_full(tree, rec, &full) {
                return Err(full.into());
            }
            self.cover(tree, true)?;
        }
        Ok(())
    }

    /// Makes room a piece at a time, as the target gives it; the source keeps the room of what has
    /// not flipped yet, so whoever refuses afterwards finds nothing to move back.
    pub(super) fn cover_by_pieces(
        &mut self,
        tree: &Hierarchy,
        rec: &ThreadRec,
    ) -> Result<(), MoveError> {
        self.cover_slab_or_drain(tree, rec)?;
        for (at, word) in self.words(tree) {
            let way = self.way(tree, word);
            loop {
                let (bytes, have) = (word.charged_bytes(), self.rooms[at].bytes);
                if bytes <= have {
                    break;
                }
                let next = bytes.min(have + PIECE);
                match self.rooms[at].cover(&way, next) {
                    Ok(()) => self.pieces += 1,
                    Err(full) => {
                        let full = NoRoom::Max(full);
                        if !self.drain_full(tree, rec, &full) {
                            return Err(full.into());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives back all room there is.
    pub(super) fn give_back(&mut self, tree: &Hierarchy) {
        for (at, word) in self.words(tree) {
            let way = self.way(tree, word);
            self.rooms[at].give_back(tree, &way);
        }
        let way = self.way(tree, tree.objcgs.get(self.tag));
        self.give_back_slab(tree, &way);
    }

    /// Makes room for the task's cache objects; what is counted in advance may be all that is in
    /// the way.
    pub(super) fn cover_slab_or_drain(
        &mut self,
        tree: &Hierarchy,
        rec: &ThreadRec,
    ) -> Result<(), MoveError> {
        let way = self.way(tree, tree.objcgs.get(self.tag));
        if let Err(full) = self.cover_slab(tree, &way) {
            let full = NoRoom::Kmem(full);
            if !self.drain_full(tree, rec, &full) {
                return Err(full.into());
            }
            self.cover_slab(tree, &way).map_err(NoRoom::Kmem)?;
        }
        Ok(())
    }

    /// Takes back stock that is in the way. `false`: nothing came of it, so another try would be
    /// refused as this one was.
    fn drain_full(&self, tree: &Hierarchy, rec: &ThreadRec, full: &NoRoom) -> bool {
        match full {
            // What is stocked at the target; and for the task, which takes no room when it is
            // given back.
            NoRoom::Max(full) => {
                let held = || tree.objcgs.get(self.tag).charged_bytes();
                let before = held();
                tree.drain_owner(rec, self.tag);
                drain(tree, rec, full) || held() < before
            }
            // What threads have counted in advance: of the task, and of who is at the target.
            NoRoom::Kmem(full) => {
                let group = tree.group_of_refusal(full);
                let objects = || tree.objcgs.get(self.tag).side[SLAB_SIDE].read().bytes;
                let counted = || group.map_or(0, |group| group.side_kind(Kind::Slab));
                let before = (objects(), counted());
                tree.drain_owner(rec, self.tag);
                if let Some(group) = group {
                    tree.drain(rec, group);
                }
                objects() < before.0 || counted() < before.1
            }
        }
    }

    /// The transaction on bytes: room at the target, flip, release the source; with or without what
    /// earlier moves left elsewhere. Under the task's lock.
    pub(super) fn move_whole(
        &mut self,
        tree: &Hierarchy,
        rec: &ThreadRec,
        residuals: bool,
    ) -> Result<Moved, MoveError> {
        let own = tree.objcgs.get(self.tag);
        let mut drained = false;
        for _ in 0..ROUNDS {
            if let Err(full) = self.cover(tree, residuals) {
                self.give_back(tree);
                if drained || !self.drain_full(tree, rec, &full) {
                    return Err(full.into());
                }
                drained = true;
                continue;
            }
            let way = self.way(tree, own);
            match self.flip(tree, rec, &way) {
                Ok(moved) => {
                    let more = if residuals {
                        self.gather(tree, own)
                    } else {
                        at_home(tree, self.tag)
                    };
                    return Ok(Moved {
                        moved: moved + more,
                        stayed: tree.stayed_bytes(self.tag),
                        pieces: self.pieces,
                    });
                }
                // The next round finds the room, or says who has none.
                Err(Stopped::Grown | Stopped::Full) => {}
                Err(Stopped::Ended) => return Err(MoveError::NoTask),
            }
        }
        Err(MoveError::Busy)
    }

    /// The residuals join the own word, which is at the target already, and for which there is
    /// room.
    fn gather(&mut self, tree: &Hierarchy, own: &Objcg) -> u64 {
        let mut sum = 0;
        for (at, residual) in self.words(tree).skip(1) {
            let way = self.way(tree, residual);
            let room: &mut Room = &mut self.rooms[at];
            let moved = join(tree, own, residual, room.bytes);
            room.transfer(tree, &way, moved);
            sum += moved;
        }
        sum
    }
}

/// What stayed in, or was shipped to, the group the own word is in now is a part of it no more.
/// Answers how much that was.
fn at_home(tree: &Hierarchy, tag: Tag) -> u64 {
    let own = tree.objcgs.get(tag);
    let residuals = tree
        .residuals(tag)
        .filter(|residual| residual.cell_if_any() == Some(own.cell()));
    residuals
        .map(|residual| join(tree, own, residual, residual.charged_bytes()))
        .sum()
}
