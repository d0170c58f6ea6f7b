//! Moves that leave a part behind: an amount goes into a residual (see `group::residual`), or
//! arrives in one.
//!
//! Whoever shifts an amount adds it to where it goes before taking it from where it was: the task,
//! which frees meanwhile, finds its bytes in the two together at every moment. What was added too
//! much is taken off again.
//!
//! Invariants: the own word keeps what no residual can hold: kinds that have a count of their own,
//! and stock.
//! Depends on: `target_room` for the groups' side; `kmem_limit` for the flip; `group::residual`.
//! Never: loses a byte, but for the policy that is named after it (`leaky`).

use super::kmem_limit::Stopped;
use super::target_room::{Room, Way, drain};
use super::{Attach, MoveError, Moved, PIECE, ROUNDS};
use crate::group::kind::NR_SIDE_KINDS;
use crate::group::objcg::Objcg;
use crate::group::{Hierarchy, MovePolicy, OwnerPages, Tag};
use crate::thread::ThreadRec;

/// Puts at most `bytes` of a residual into the own word, whatever the groups: their counts are the
/// caller's affair. Answers how much there was.
pub(super) fn join(tree: &Hierarchy, own: &Objcg, residual: &Objcg, bytes: u64) -> u64 {
    if bytes == 0 || own.charged.add(Some(own.cell()), bytes).is_err() {
        return 0;
    }
    let moved = residual.charged.sub_up_to(bytes, 0).bytes;
    if own.charged.sub(bytes - moved).is_err() {
        tree.report_broken();
    }
    moved
}

/// The other way round: at most `bytes` of the own word, which keeps what it counts by kind and
/// what is stocked.
fn part(tree: &Hierarchy, tag: Tag, own: &Objcg, residual: &Objcg, bytes: u64) -> u64 {
    if bytes == 0 || residual.charged.add(residual.cell_if_any(), bytes).is_err() {
        return 0;
    }
    let moved = own.charged.sub_up_to(bytes, kept_by(tree, tag, own)).bytes;
    if residual.charged.sub(bytes - moved).is_err() {
        tree.report_broken();
    }
    moved
}

/// What only the own word can hold: kinds with a count of their own, pages, and stock.
fn kept_by(tree: &Hierarchy, tag: Tag, own: &Objcg) -> u64 {
    let kinds = (0..NR_SIDE_KINDS).map(|side| own.side[side].read().bytes);
    let pages = tree.owner_pages(tag).map_or(0, OwnerPages::memory);
    kinds.sum::<u64>() + pages + own.granted.read().bytes
}

impl Attach<'_> {
    /// What fits goes; if not even what cannot be parted does, the task goes and all it holds
    /// stays. Under the task's lock.
    pub(super) fn move_what_fits(
        &mut self,
        tree: &Hierarchy,
        rec: &ThreadRec,
    ) -> Result<Moved, MoveError> {
        match self.move_whole(tree, rec, false) {
            Err(MoveError::Full(_) | MoveError::KmemFull(_)) => {}
            other => return other,
        }
        let own = tree.objcgs.get(self.tag);
        let way = self.way(tree, own);
        tree.end_stock(rec, self.tag);
        let residual = tree
            .residual_in(self.tag, Some(way.source))
            .ok_or(MoveError::Scattered)?;
        for _ in 0..ROUNDS {
            let bytes = own.charged_bytes();
            let fits = bytes.min(way.free().saturating_add(self.rooms[0].bytes)) & !7;
            if fits < kept_by(tree, self.tag, own) {
                break;
            }
            if self.rooms[0].cover(&way, fits).is_err() {
                self.rooms[0].give_back(tree, &way);
                continue;
            }
            part(tree, self.tag, own, residual, bytes - fits);
            match self.flip(tree, rec, &way) {
                Ok(moved) => {
                    return Ok(Moved {
                        moved,
                        stayed: tree.stayed_bytes(self.tag),
                        pieces: self.pieces,
                    });
                }
                Err(Stopped::Grown) => {}
                // Its objects do not fit: no part of it would.
                Err(Stopped::Full) => break,
                Err(Stopped::Ended) => return Err(MoveError::NoTask),
            }
        }
        self.rooms[0].give_back(tree, &way);
        self.give_back_slab(tree, &way);
        let successor = tree
            .new_successor(self.tag, way.target)
            .ok_or(MoveError::NoMemory)?;
        Ok(self.supersede(tree, rec, successor))
    }

    /// What can be evicted stays, marked; all else goes or nothing does. Under the task's lock.
    pub(super) fn move_but_evictable(
        &mut self,
        tree: &Hierarchy,
        rec: &ThreadRec,
    ) -> Result<Moved, MoveError> {
        let own = tree.objcgs.get(self.tag);
        if self.evictable == 0 {
            return self.move_whole(tree, rec, false);
        }
        let way = self.way(tree, own);
        tree.end_stock(rec, self.tag);
        let residual = tree
            .residual_in(self.tag, Some(way.source))
            .ok_or(MoveError::Scattered)?;
        let stays = own
            .charged_bytes()
            .saturating_sub(kept_by(tree, self.tag, own));
        let parted = part(
            tree,
            self.tag,
            own,
            residual,
            stays.min(self.evictable) & !7,
        );
        let was_marked = residual.is_marked();
        residual.mark(true);
        tree.note_marked();
        self.move_whole(tree, rec, false).inspect_err(|_| {
            residual.mark(was_marked);
            join(tree, own, residual, parted.min(residual.charged_bytes()));
        })
    }

    /// The move of 2008: a piece of the task is charged to the target and taken off the source,
    /// then the next.
    pub(super) fn ship_by_pieces(
        &mut self,
        tree: &Hierarchy,
        rec: &ThreadRec,
    ) -> Result<(), MoveError> {
        let own = tree.objcgs.get(self.tag);
        let way = self.way(tree, own);
        if core::ptr::eq(way.source, way.target) {
            return Ok(());
        }
        self.cover_slab_or_drain(tree, rec)?;
        tree.end_stock(rec, self.tag);
        let residual = tree
            .residual_in(self.tag, Some(way.target))
            // What was there before would be moved back with the residual charge.
            .filter(|residual| self.pieces > 0 || residual.charged_bytes() == 0)
            .ok_or(MoveError::Scattered)?;
        loop {
            let left = own
                .charged_bytes()
                .saturating_sub(kept_by(tree, self.tag, own));
            if left == 0 {
                return Ok(());
            }
            let mut room = Room::default();
            match room.cover(&way, left.min(PIECE)) {
                Ok(()) => {
                    let moved = part(tree, self.tag, own, residual, left.min(PIECE));
                    room.transfer(tree, &way, moved);
                    self.pieces += 1;
                }
                Err(full) => {
                    room.give_back(tree, &way);
                    if !drain(tree, rec, &full) {
                        return Err(MoveError::Full(full));
                    }
                }
            }
        }
    }

    /// The undo of 2008: back a piece at a time, and a failure on the way back is ignored: that
    /// piece is charged to nobody. Answers how much that was.
    pub(super) fn ship_back(&self, tree: &Hierarchy) -> Option<u64> {
        if self.policy != MovePolicy::Leaky || self.pieces == 0 {
            return None;
        }
        let own = tree.objcgs.get(self.tag);
        let target = tree.memcgs.get(self.target);
        let residual = tree.residuals(self.tag).find(|residual| {
            residual.cell_if_any() == Some(target.cell()) && target.cell() != own.cell()
        })?;
        let back = Way::new(target, tree.resolve(own.cell()).group, false);
        let mut lost = 0;
        while residual.charged_bytes() > 0 {
            let piece = residual.charged_bytes().min(PIECE);
            let mut room = Room::default();
            let moved = match room.cover(&back, piece) {
                Ok(()) => {
                    let moved = join(tree, own, residual, piece);
                    room.transfer(tree, &back, moved);
                    moved
                }
                Err(_) => {
                    room.give_back(tree, &back);
                    let moved = tree.lose(self.tag, residual, piece);
                    lost += moved;
                    moved
                }
            };
            if moved == 0 {
                break;
            }
        }
        (lost > 0).then_some(lost)
    }
}
