//! The flip of a task's words, with the limits of cache objects (`memory.kmem.max`) kept.
//!
//! Objects of caches are counted in a word of their own, which has a limit of its own on every
//! level. So it has room of its own: counted at the target's side, below the common ancestor,
//! before it flips; and it flips first. The source goes on counting what flipped until the task's
//! bytes have flipped as well, so a way back needs no room. Between the two flips nobody adds to
//! the word (`Hierarchy::count_slab` waits a moment), so what goes back is no more than what the
//! source still counts.
//!
//! Invariants: if the words did not flip, both are where they were, and what they say is counted
//! there.
//! Depends on: `target_room` for the room of the task's bytes; `group::kmem_charge` for that of its
//! objects.
//! Never: takes stock back; `whole` does, and tries again.

use super::target_room::Way;
use super::{Attach, MoveError};
use crate::group::flip_word::Unchanged;
use crate::group::kmem_charge::SLAB_SIDE;
use crate::group::objcg::Objcg;
use crate::group::{CellId, Hierarchy, Refusal};
use crate::thread::ThreadRec;

impl Attach<'_> {
    /// Makes room at the target for all the cache objects the task has now.
    pub(super) fn cover_slab(&mut self, tree: &Hierarchy, way: &Way<'_>) -> Result<(), Refusal> {
        let have = tree.objcgs.get(self.tag).side[SLAB_SIDE].read().bytes;
        let more = have.saturating_sub(self.slab);
        if more > 0 {
            tree.count_slab_below(way.target, way.common, more)?;
            self.slab += more;
        }
        Ok(())
    }

    /// Gives that room back.
    pub(super) fn give_back_slab(&mut self, tree: &Hierarchy, way: &Way<'_>) {
        let room = core::mem::take(&mut self.slab);
        tree.uncount_slab_below(way.target, way.common, room);
    }

    /// Flips the own word, for which there is room, and all that is counted with it; answers the
    /// bytes. The caller is pinned, and holds the task's lock.
    ///
    /// # Errors
    /// When the task has grown meanwhile; when its objects have grown beyond the room there is;
    /// when it has ended. Nothing has changed then.
    pub(super) fn flip(
        &mut self,
        tree: &Hierarchy,
        rec: &ThreadRec,
        way: &Way<'_>,
    ) -> Result<u64, Stopped> {
        let own = tree.objcgs.get(self.tag);
        let (from, to) = (own.cell(), way.target.cell());
        let objects = loop {
            match own.side[SLAB_SIDE].flip(from, to, self.slab) {
                Ok(objects) => break objects,
                Err(Unchanged::Grown(_)) => {
                    self.cover_slab(tree, way).map_err(|_| Stopped::Full)?
                }
                Err(_) => return Err(Stopped::Ended),
            }
        };
        let moved = match self.rooms[0].flip(tree, way, own) {
            Ok(moved) => moved,
            Err(why) => {
                let room = self.slab - objects;
                self.slab = room + unflip(tree, way, own, (to, from), objects);
                return Err(match why {
                    Unchanged::Grown(_) => Stopped::Grown,
                    Unchanged::Moved | Unchanged::Range => Stopped::Ended,
                });
            }
        };
        let unused = core::mem::take(&mut self.slab) - objects;
        tree.uncount_slab_below(way.target, way.common, unused);
        tree.uncount_slab_below(way.source, way.common, objects);
        self.follow_own_word(tree, rec, way);
        Ok(moved)
    }
}

/// Flips the objects' word back to where `kept` bytes of it are counted still; answers the bytes.
fn unflip(
    tree: &Hierarchy,
    way: &Way<'_>,
    own: &Objcg,
    (from, to): (CellId, CellId),
    mut kept: u64,
) -> u64 {
    loop {
        match own.side[SLAB_SIDE].flip(from, to, kept) {
            Ok(back) => {
                tree.uncount_slab_below(way.source, way.common, kept - back);
                return back;
            }
            // Forced, or by one who did not wait for us.
            Err(Unchanged::Grown(now)) => {
                tree.force_slab_below(way.source, way.common, now - kept);
                kept = now;
            }
            Err(_) => {
                tree.report_broken();
                return kept;
            }
        }
    }
}

/// Who was full, and of what.
pub(super) enum NoRoom {
    /// `memory.max`.
    Max(Refusal),
    /// `memory.kmem.max`.
    Kmem(Refusal),
}

/// Why words did not flip.
pub(super) enum Stopped {
    /// More was charged meanwhile than there is room for.
    Grown,
    /// There is no room for the cache objects there are more of.
    Full,
    /// The task has ended.
    Ended,
}

impl From<NoRoom> for MoveError {
    fn from(full: NoRoom) -> Self {
        match full {
            NoRoom::Max(refusal) => Self::Full(refusal),
            NoRoom::Kmem(refusal) => Self::KmemFull(refusal),
        }
    }
}
