//! Moves of all a task holds, or nothing: room for every word first, then the flips, none of which can fail any more.

use super::part::join;
use super::room::Room;
use super::{Attach, MoveError, Moved, PIECE, ROUNDS};
use crate::group::charge::Refusal;
use crate::group::objcg::Objcg;
use crate::group::word::Unchanged;
use crate::group::{Hierarchy, Memcg};
use crate::thread::ThreadRec;

impl Attach {
    /// The own word of the task, then its rests, except what is lost: each with the number of its room.
    fn words<'a>(&self, tree: &'a Hierarchy) -> impl Iterator<Item = (usize, &'a Objcg)> + use<'a> {
        let own = tree.objcgs.get(self.tag);
        let rests = tree.rests(self.tag).filter(|rest| rest.cell() != 0);
        core::iter::once(own).chain(rests).enumerate()
    }

    /// Makes room for all the task holds now.
    fn cover(&mut self, tree: &Hierarchy, rests: bool) -> Result<(), Refusal> {
        for (at, word) in self.words(tree).take(if rests { usize::MAX } else { 1 }) {
            let way = self.way(tree, word);
            self.rooms[at].cover(&way, word.charged_bytes())?;
        }
        Ok(())
    }

    /// As [`Self::cover`]; what the target's own threads stock may be all that is in the way, and is taken back then.
    pub(super) fn cover_or_drain(
        &mut self,
        tree: &Hierarchy,
        rec: &ThreadRec,
    ) -> Result<(), MoveError> {
        if let Err(full) = self.cover(tree, true) {
            if !drain(tree, rec, &full) {
                return Err(MoveError::Full(full));
            }
            self.cover(tree, true)?;
        }
        Ok(())
    }

    /// Makes room a piece at a time, as the target gives it; the source keeps the room of what has not flipped yet, so
    /// whoever refuses afterwards finds nothing to move back.
    pub(super) fn cover_by_pieces(
        &mut self,
        tree: &Hierarchy,
        rec: &ThreadRec,
    ) -> Result<(), MoveError> {
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
                        if !drain(tree, rec, &full) {
                            return Err(MoveError::Full(full));
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
    }

    /// The transaction on bytes: room at the target, flip, release the source; with or without what earlier moves left
    /// elsewhere. Under the task's lock.
    pub(super) fn move_whole(
        &mut self,
        tree: &Hierarchy,
        rec: &ThreadRec,
        rests: bool,
    ) -> Result<Moved, MoveError> {
        let own = tree.objcgs.get(self.tag);
        let mut drained = false;
        for _ in 0..ROUNDS {
            if let Err(full) = self.cover(tree, rests) {
                self.give_back(tree);
                if drained || !drain(tree, rec, &full) {
                    return Err(MoveError::Full(full));
                }
                drained = true;
                continue;
            }
            let way = self.way(tree, own);
            match self.rooms[0].flip(tree, &way, own) {
                Ok(moved) => {
                    self.follow_own_word(tree, rec, &way);
                    let more = if rests {
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
                Err(Unchanged::Grown(_)) => {}
                Err(_) => return Err(MoveError::NoTask),
            }
        }
        Err(MoveError::Busy)
    }

    /// The rests join the own word, which is at the target already, and for which there is room.
    fn gather(&mut self, tree: &Hierarchy, own: &Objcg) -> u64 {
        let mut sum = 0;
        for (at, rest) in self.words(tree).skip(1) {
            let way = self.way(tree, rest);
            let room: &mut Room = &mut self.rooms[at];
            let moved = join(tree, own, rest, room.bytes);
            room.settle(tree, &way, moved);
            sum += moved;
        }
        sum
    }
}

/// What stayed in, or was shipped to, the group the own word is in now is a part of it no more. Answers how much that was.
fn at_home(tree: &Hierarchy, tag: u32) -> u64 {
    let own = tree.objcgs.get(tag);
    let rests = tree.rests(tag).filter(|rest| rest.cell() == own.cell());
    rests
        .map(|rest| join(tree, own, rest, rest.charged_bytes()))
        .sum()
}

/// Takes back stock under the group that was full.
pub(super) fn drain(tree: &Hierarchy, rec: &ThreadRec, full: &Refusal) -> bool {
    let group: Option<&Memcg> = (full.group != 0).then(|| tree.memcgs.get(full.group));
    group.is_some_and(|group| tree.drain_for_charge(rec, group))
}
