//! Charging an owner, exactly: the walk over the groups, then the owner's word; or the other way
//! round.
//!
//! A charge pays every group of the path of the cell it read, then adds to the word only if it
//! still names that cell; on a mismatch (the task has moved) it takes the payment back and starts
//! again. An uncharge takes from the word first and then walks the path of the cell it got. Between
//! the two steps the groups hold more than the words say, never less. An owner with residuals
//! (bytes that a move left elsewhere) pays those off first with what it frees.
//!
//! Invariants: a refused charge has changed nothing. Once no walk is under way, what the words say
//! is charged to the groups that their cells lead to.
//! Depends on: `flip_word`; the walk of `counter`; `over_limit` for how far above max; `recount`
//! for a fork in between.
//! Never: a lock, a wait, stock.

#![forbid(unsafe_code)]

use super::events::Event;
use super::flip_word::{AMOUNT_LIMIT, UNIT, Unchanged, Word};
use super::id::{CellId, GroupId};
use super::kind::Kind;
use super::memcg_record::Memcg;
use super::objcg::Objcg;
use super::over_limit::Caller;
use super::{Hierarchy, Tag};
use crate::counter::{Over, try_charge, uncharge};
use crate::sync::atomic::{AtomicU64, Ordering};

/// How far a charge may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Within every max.
    Within,
    /// As far above each max as the policy there lets the caller go.
    Policy(Caller),
    /// Whatever the limits say.
    Force,
}

/// A refused charge; nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The group that was full; `None` when the owner itself can hold no more.
    pub group: Option<GroupId>,
    /// Its usage then.
    pub usage: u64,
    /// Its max then.
    pub max: u64,
}

/// Who frees looks again so often before it is an error that an owner with a residual holds too
/// little: in between somebody moved it each time.
const SHIFTS: u32 = 64;

/// Rounds an amount up to what the books count in.
#[must_use]
pub const fn round_up(bytes: u64) -> u64 {
    (bytes + (UNIT - 1)) & !(UNIT - 1)
}

impl Hierarchy {
    /// The group that refused a charge; `None` when it was the owner itself. The caller is pinned.
    pub fn group_of_refusal(&self, refusal: &Refusal) -> Option<&Memcg> {
        refusal.group.map(|group| self.memcgs.get(group))
    }

    /// Charges `bytes` (a multiple of 8) to the owner and all groups above it. The caller is
    /// pinned. Cost: a CAS a level and one for the word.
    pub fn charge_exact(&self, tag: Tag, bytes: u64, mode: Mode) -> Result<(), Refusal> {
        self.charge_word(&self.objcgs.get(tag).charged, bytes, mode)
    }

    fn charge_word(&self, word: &Word, bytes: u64, mode: Mode) -> Result<(), Refusal> {
        let _walk = self.begin_walk();
        if bytes > AMOUNT_LIMIT {
            return Err(Refusal {
                group: None,
                usage: word.read().bytes,
                max: AMOUNT_LIMIT,
            });
        }
        loop {
            let cell = word.read().in_cell();
            let to = self.resolve(cell);
            try_charge(to.group, None, bytes, |level: &Memcg| match mode {
                Mode::Within => Over::By(0),
                Mode::Policy(caller) => level.over(caller),
                Mode::Force => Over::Any,
            })
            .map_err(|refused| {
                // What was undone may have been in the way of an end.
                self.finish_if_empty(cell);
                Refusal {
                    group: Some(refused.level.index()),
                    usage: refused.usage,
                    max: refused.level.counter.max(),
                }
            })?;
            match word.add(Some(cell), bytes) {
                Ok(()) => {
                    if to.inherited || self.lingers() && to.group.is_lingering() {
                        to.group.event(Event::Late);
                    }
                    self.tell_charged(to.group);
                    return Ok(());
                }
                Err(why) => {
                    self.uncharge_path(cell, bytes);
                    if why != Unchanged::Moved {
                        return Err(Refusal {
                            group: None,
                            usage: word.read().bytes,
                            max: AMOUNT_LIMIT,
                        });
                    }
                }
            }
        }
    }

    /// Takes `bytes` off the owner and all groups above it. The caller is pinned.
    pub fn uncharge_exact(&self, tag: Tag, bytes: u64) {
        let _walk = self.begin_walk();
        let objcg = self.objcgs.get(tag);
        let (mut left, mut tries) = (bytes, 0);
        loop {
            left -= self.uncharge_residuals(tag, left);
            if left == 0 && bytes != 0 {
                self.retire_if_done(tag);
                return;
            }
            match objcg.charged.sub(left) {
                Ok(was) => {
                    self.uncharge_path(was.in_cell(), left);
                    // Whether the owner has ended is asked behind the fence in there: asked before
                    // it, we might miss an end that misses our last byte.
                    if was.bytes == 0 {
                        self.retire_if_done(tag);
                    }
                    return;
                }
                // A move has put some of it into a residual since we looked there: its first one,
                // perhaps. Or out of one again.
                Err(_) if tries < SHIFTS && self.has_residual(tag) => tries += 1,
                Err(_) => {
                    self.report_broken();
                    return;
                }
            }
        }
    }

    /// Takes back a charge of `bytes` to `tag`, made a moment ago, that is not needed: nothing of
    /// the owner's residuals is paid off with it, so all is as before. The caller is pinned.
    pub(crate) fn undo_charge(&self, tag: Tag, bytes: u64) {
        {
            let _walk = self.begin_walk();
            if let Ok(was) = self.objcgs.get(tag).charged.sub(bytes) {
                self.uncharge_path(was.in_cell(), bytes);
                if was.bytes == 0 {
                    self.retire_if_done(tag);
                }
                return;
            }
        }
        // A move has put some of it into a residual meanwhile.
        self.uncharge_exact(tag, bytes);
    }

    pub(super) fn uncharge_path(&self, cell: CellId, bytes: u64) {
        self.uncharge_level(self.resolve(cell).group, bytes);
        self.finish_if_empty(cell);
    }

    /// Takes `bytes` off a level and those above it, and tells those who wait for room there. The
    /// caller is pinned.
    pub(crate) fn uncharge_level(&self, level: &Memcg, bytes: u64) {
        if uncharge(level, None, bytes).is_err() {
            self.report_broken();
        }
        self.tell_freed(level);
    }

    /// Counts a charge of a kind other than heap, already made, under its kind. The caller is
    /// pinned.
    pub fn add_side(&self, tag: Tag, bytes: u64, kind: Kind) {
        let _walk = self.begin_walk();
        let Some(side) = kind.side() else { return };
        let word = &self.objcgs.get(tag).side[side];
        loop {
            let cell = word.read().in_cell();
            let group = self.resolve(cell).group;
            each_level(group, |level| {
                level.side_kinds[side].fetch_add(bytes, Ordering::Relaxed);
            });
            match word.add(Some(cell), bytes) {
                Ok(()) => return,
                Err(why) => {
                    sub_side_path(self.resolve(cell).group, side, bytes);
                    if why != Unchanged::Moved {
                        self.report_broken();
                        return;
                    }
                }
            }
        }
    }

    /// Takes a charge out of its kind's count, before it is uncharged. The caller is pinned.
    pub fn sub_side(&self, tag: Tag, bytes: u64, kind: Kind) {
        let _walk = self.begin_walk();
        let Some(side) = kind.side() else { return };
        match self.objcgs.get(tag).side[side].sub(bytes) {
            Ok(was) => sub_side_path(self.resolve(was.in_cell()).group, side, bytes),
            Err(_) => self.report_broken(),
        }
    }
}

pub(crate) fn each_level(start: &Memcg, mut f: impl FnMut(&Memcg)) {
    use crate::counter::Level;
    let mut level = Some(start);
    while let Some(group) = level {
        f(group);
        level = group.parent();
    }
}

fn sub_side_path(start: &Memcg, side: usize, bytes: u64) {
    each_level(start, |level| {
        let count: &AtomicU64 = &level.side_kinds[side];
        count.fetch_sub(bytes, Ordering::Relaxed);
    });
}

impl Objcg {
    /// The most an owner can hold, in bytes.
    pub const LIMIT: u64 = AMOUNT_LIMIT;
}
