//! The walk over the levels: charge from a group to the root, undo when a level refuses, give back.
//!
//! Invariants: a charge is made at every level of its path or at none. A level passes its max only
//! as far as the caller says, but for what `undo` explains.
//! Depends on: `page_counter` for a step. What a level is, and who is told of it, is said by
//! [`Level`].
//! Never: a lock, a wait, a policy.

#![forbid(unsafe_code)]

use super::page_counter::{Over, PageCounter};

/// A level of the tree, as the walk needs it.
pub trait Level {
    /// Its counter.
    fn counter(&self) -> &PageCounter;
    /// The level above; `None` at the root.
    fn parent(&self) -> Option<&Self>;
    /// Told when a charge left `usage` above `high`.
    fn above_high(&self, usage: u64);
    /// Told when a charge took the level from within its max to above it.
    fn crossed_max(&self);
}

/// Who was full.
pub struct Refused<'a, L: ?Sized> {
    /// The level that refused; everything below it is as before.
    pub level: &'a L,
    /// Its usage when it refused.
    pub usage: u64,
}

/// Charges `n` bytes to `start` and every level above it up to, not including, `end` (`None`: to
/// the root).
///
/// All or nothing. `Ok` is what `end` has yet to be charged (0 at the root). `over` says how far
/// above its max each level may be taken. A refusal that somebody else's undone charge may have
/// caused is tried once more. Cost: one CAS a level.
pub fn try_charge<'a, L: Level>(
    start: &'a L,
    end: Option<&L>,
    n: u64,
    over: impl Fn(&L) -> Over,
) -> Result<u64, Refused<'a, L>> {
    let mut owed = n;
    let mut level = start;
    loop {
        if owed == 0 {
            return Ok(0);
        }
        if end.is_some_and(|end| core::ptr::eq(end, level)) {
            return Ok(owed);
        }
        let over = over(level);
        let counter = level.counter();
        let undone = counter.undone();
        let step = counter.charge(owed, over).or_else(|usage| {
            let room = counter.max().saturating_sub(counter.usage()) >= owed;
            if room || counter.undone() != undone {
                counter.charge(owed, over)
            } else {
                Err(usage)
            }
        });
        match step {
            Ok(step) => {
                if step.usage > counter.high() {
                    level.above_high(step.usage);
                }
                if over != Over::By(0) && counter.crosses_max(step.usage, owed) {
                    level.crossed_max();
                }
                owed = step.up;
            }
            Err(usage) => {
                undo(start, level, n, owed);
                return Err(Refused { level, usage });
            }
        }
        match level.parent() {
            Some(parent) => level = parent,
            None => return Ok(0),
        }
    }
}

/// Takes a charge of `n` back from the levels below `refuser`, which was to be charged `unpaid` and
/// was not.
///
/// With reserves, a level may now give back another amount than it asked for, because others
/// charged or uncharged meanwhile. What it gives back beyond `unpaid` was paid by somebody else and
/// goes up as an uncharge; what is missing belongs to the reserve the level was promised and goes
/// up as a forced charge: the one case in which a level passes its max unasked, by no more than the
/// refused charges under way, when a reserve they had crossed is given back and taken by a third in
/// between. (Refusing instead would break the promise; charging from the top down would refuse what
/// a reserve guarantees.)
fn undo<L: Level>(start: &L, refuser: &L, n: u64, unpaid: u64) {
    let mut back = n;
    let mut level = start;
    while !core::ptr::eq(level, refuser) {
        if back == 0 {
            break;
        }
        match level.counter().undo(back) {
            Some(step) => back = step.up,
            None => return,
        }
        match level.parent() {
            Some(parent) => level = parent,
            None => return,
        }
    }
    if back > unpaid {
        let _ = uncharge(refuser, None, back - unpaid);
    } else if unpaid > back {
        let _ = try_charge(refuser, None, unpaid - back, |_| Over::Any);
    }
}

/// Takes `n` bytes off `start` and every level above up to, not including, `end`.
///
/// `Ok` is what `end` has yet to be relieved of; `Err` is a level that did not hold what it was
/// asked for: the books are wrong. Cost: one CAS a level.
pub fn uncharge<'a, L: Level>(start: &'a L, end: Option<&L>, n: u64) -> Result<u64, &'a L> {
    let mut owed = n;
    let mut level = start;
    loop {
        if owed == 0 {
            return Ok(0);
        }
        if end.is_some_and(|end| core::ptr::eq(end, level)) {
            return Ok(owed);
        }
        owed = level.counter().uncharge(owed).ok_or(level)?.up;
        match level.parent() {
            Some(parent) => level = parent,
            None => return Ok(0),
        }
    }
}

/// Sets the reserve of `level`, charged in advance to those above: what of it is not in use yet
/// must fit there, and a larger one is refused while any of them is above its max. What is in use
/// already is charged there too, forced perhaps, and with the reserve would stay so when it is
/// freed. A smaller one is never refused.
///
/// `broken` is told when a level above did not hold what was to be given back. The caller
/// serializes writers of this level's reserve. Cost: a walk or two.
pub fn set_reserve<'a, L: Level>(
    level: &'a L,
    bytes: u64,
    broken: impl FnOnce(),
) -> Result<(), Refused<'a, L>> {
    let above = level.parent();
    level.counter().set_reserve(
        bytes,
        |more| match above {
            Some(parent) => try_charge(parent, None, more, |_| Over::By(0)).map(|_| ()),
            None => Ok(()),
        },
        || {
            let mut at = above;
            while let Some(level) = at {
                let usage = level.counter().usage();
                if usage > level.counter().max() {
                    return Err(Refused { level, usage });
                }
                at = level.parent();
            }
            Ok(())
        },
        |back| {
            if let Some(parent) = above
                && uncharge(parent, None, back).is_err()
            {
                broken();
            }
        },
    )
}

/// Grants `n` bytes of stock under `start` and all above: within the budget of `start` itself and
/// of every limited level. `false`, and nothing changed, when one has spent it. For a `forced`
/// charge levels that are full have a budget as well.
pub fn grant<L: Level>(start: &L, n: u64, forced: bool) -> bool {
    let mut level = start;
    let mut own = true;
    loop {
        let counter = level.counter();
        if !counter.is_closed() {
            let bounded =
                core::mem::take(&mut own) || counter.max() != super::page_counter::UNLIMITED;
            if !counter.grant(n, bounded, forced) {
                ungrant_below(start, Some(level), n);
                return false;
            }
        }
        match level.parent() {
            Some(parent) => level = parent,
            None => return true,
        }
    }
}

/// Takes a grant back from `start` and all above.
pub fn ungrant<L: Level>(start: &L, n: u64) {
    ungrant_below(start, None, n);
}

fn ungrant_below<L: Level>(start: &L, end: Option<&L>, n: u64) {
    let mut level = start;
    while !end.is_some_and(|end| core::ptr::eq(end, level)) {
        // A closed level's count is read by nobody any more.
        level.counter().ungrant(n);
        match level.parent() {
            Some(parent) => level = parent,
            None => return,
        }
    }
}
