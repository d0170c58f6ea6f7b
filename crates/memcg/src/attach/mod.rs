//! Moving a task: all its bytes change groups, or nothing does.
//!
//! Kept: at every moment the bytes are charged at the source or the target or, for the length of the move, at both below
//! their nearest common ancestor; never at neither. No limit is passed. A refused move leaves everything as it was.
//! Relied on: the task's lock orders its moves and its end; a group with a task stays online; the flips of `group`.
//! Never done: touching a thing that was charged; stopping the task, which charges and frees all the while.

use crate::counter::{Level, Over, try_charge, uncharge};
use crate::group::charge::Refusal;
use crate::group::objcg::{NR_SIDE_KINDS, Objcg, State};
use crate::group::word::Unchanged;
use crate::group::{Hierarchy, Memcg};
use crate::sync::atomic::Ordering;
use crate::sync::lock::Rank;
use crate::thread::ThreadRec;

/// Rounds of making the reservation larger because the task went on charging.
const ROUNDS: usize = 16;

/// Why a move was refused; nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MoveError {
    /// The task has ended.
    NoTask,
    /// The target has been removed.
    NoGroup,
    /// A group on the target's side is full.
    Full(Refusal),
    /// The task charged faster than room could be reserved for it, sixteen times over.
    Busy,
}

/// Moves the task `tag` to `target`. The caller is pinned, and `rec` is its thread's. Cost: O(depth), some CAS a level.
///
/// # Errors
/// See [`MoveError`].
pub fn move_task(
    tree: &Hierarchy,
    rec: &ThreadRec,
    tag: u32,
    target: &Memcg,
) -> Result<(), MoveError> {
    let objcg = tree.objcgs.get(tag);
    let _task = objcg.lock.lock(Rank::Task);
    if objcg.state() != State::Task {
        return Err(MoveError::NoTask);
    }
    // A live task's group is online and its cell's own.
    let source = tree.resolve(objcg.cell()).group;
    if core::ptr::eq(source, target) {
        return if target.is_online() {
            Ok(())
        } else {
            Err(MoveError::NoGroup)
        };
    }
    if !tree.add_task_to(target) {
        return Err(MoveError::NoGroup);
    }
    let common = common_ancestor(source, target);
    let moved = transfer(tree, objcg, source, target, common).or_else(|refused| match refused {
        // What the target's own threads stock may be all that is in the way.
        MoveError::Full(refusal) if refusal.group != 0 => {
            let full = tree.memcgs.get(refusal.group);
            if tree.drain_for_charge(rec, full) {
                transfer(tree, objcg, source, target, common)
            } else {
                Err(refused)
            }
        }
        other => Err(other),
    });
    if let Err(why) = moved {
        tree.remove_task_from(target);
        return Err(why);
    }
    tree.move_side_words(objcg, source, target, common);
    tree.rehome(objcg, source, target);
    tree.remove_task_from(source);
    // The stock it brought may be more than the target's budget: then it is taken back once.
    let mut level = Some(target);
    while let Some(group) = level {
        if core::ptr::eq(group, common) {
            break;
        }
        if group.counter.granted() > group.counter.stock_budget() {
            tree.drain(rec, group);
            break;
        }
        level = group.parent();
    }
    Ok(())
}

/// The transaction on bytes: reserve at the target, flip, release the source.
fn transfer(
    tree: &Hierarchy,
    objcg: &Objcg,
    source: &Memcg,
    target: &Memcg,
    common: &Memcg,
) -> Result<(), MoveError> {
    let within = |_: &Memcg| Over::By(0);
    let mut reserved = 0; // charged on the target's side
    let mut owed = 0; // what that passes up to the common ancestor, which has it from the source's side already
    let mut paid = 0; // charged at the common ancestor because the source's reserve will keep its bytes there
    let mut outcome = Err(MoveError::Busy);
    for _ in 0..ROUNDS {
        let bytes = objcg.charged.read().bytes;
        if bytes > reserved {
            match try_charge(target, Some(common), bytes - reserved, within) {
                Ok(up) => {
                    owed += up;
                    reserved = bytes;
                }
                Err(full) => {
                    outcome = Err(refusal(&full));
                    break;
                }
            }
            // With a reserve at the source the common ancestor keeps bytes the source gives up: they must fit twice.
            let kept = owed.saturating_sub(given_up(source, common, bytes));
            if kept > paid {
                match try_charge(common, None, kept - paid, within) {
                    Ok(_) => paid = kept,
                    Err(full) => {
                        outcome = Err(refusal(&full));
                        break;
                    }
                }
            }
        }
        match objcg.charged.flip(source.cell(), target.cell(), reserved) {
            Ok(moved) => {
                // What was reserved too much (the task freed meanwhile) goes into the same sum: on its own it would
                // first have to be charged to the common ancestor, above its max perhaps.
                let freed = uncharge(source, Some(common), moved)
                    .and_then(|up| Ok(up + uncharge(target, Some(common), reserved - moved)?));
                match freed {
                    Ok(freed) => settle(tree, common, owed, paid + freed),
                    Err(_) => tree.report_broken(),
                }
                return Ok(());
            }
            Err(Unchanged::Grown(_)) => {}
            Err(_) => {
                outcome = Err(MoveError::NoTask);
                break;
            }
        }
    }
    match uncharge(target, Some(common), reserved) {
        Ok(back) => settle(tree, common, owed, paid + back),
        Err(_) => tree.report_broken(),
    }
    outcome
}

fn refusal(full: &crate::counter::Refused<'_, Memcg>) -> MoveError {
    MoveError::Full(Refusal {
        group: full.level.index(),
        usage: full.usage,
        max: full.level.counter.max(),
    })
}

/// Brings the common ancestor and all above from what was paid to what is due.
fn settle(tree: &Hierarchy, common: &Memcg, due: u64, paid: u64) {
    let books = if due > paid {
        // Only where a reserve changed meanwhile; it was promised, so it is given.
        try_charge(common, None, due - paid, |_| Over::Any)
            .map_err(|_| ())
            .map(|_| ())
    } else {
        uncharge(common, None, paid - due)
            .map_err(|_| ())
            .map(|_| ())
    };
    if books.is_err() {
        tree.report_broken();
    }
}

/// What the source's side would give back to the common ancestor for `bytes`, as reserves and usage are now.
fn given_up(source: &Memcg, common: &Memcg, bytes: u64) -> u64 {
    let mut owed = bytes;
    let mut level = source;
    while !core::ptr::eq(level, common) && owed > 0 {
        let (usage, reserve) = (level.counter.usage(), level.counter.reserve());
        owed = usage.max(reserve) - usage.saturating_sub(owed).max(reserve);
        match level.parent() {
            Some(parent) => level = parent,
            None => break,
        }
    }
    owed
}

/// The nearest group both are within. One of the two, possibly.
fn common_ancestor<'a>(a: &'a Memcg, b: &'a Memcg) -> &'a Memcg {
    let (mut a, mut b) = (a, b);
    while !core::ptr::eq(a, b) {
        let deeper = if a.depth() >= b.depth() {
            &mut a
        } else {
            &mut b
        };
        match deeper.parent() {
            Some(parent) => *deeper = parent,
            None => return a,
        }
    }
    a
}

impl Hierarchy {
    /// Flips the words without limits: granted stock and side kinds, each with the groups' counts of it.
    fn move_side_words(&self, objcg: &Objcg, source: &Memcg, target: &Memcg, common: &Memcg) {
        let below = |start: &Memcg, f: &dyn Fn(&Memcg)| {
            let mut level = Some(start);
            while let Some(group) = level.filter(|group| !core::ptr::eq(*group, common)) {
                f(group);
                level = group.parent();
            }
        };
        let (from, to) = (source.cell(), target.cell());
        for side in 0..=NR_SIDE_KINDS {
            let word = if side == 0 {
                &objcg.granted
            } else {
                &objcg.side[side - 1]
            };
            let add = |group: &Memcg, n: u64| match side {
                0 => group.counter.grant_forced(n),
                _ => group.add_side_kind(side - 1, n),
            };
            let sub = |group: &Memcg, n: u64| match side {
                0 => group.counter.ungrant(n),
                _ => group.add_side_kind(side - 1, n.wrapping_neg()),
            };
            loop {
                let n = word.read().bytes;
                below(target, &|group| add(group, n));
                match word.flip(from, to, n) {
                    Ok(moved) => {
                        below(target, &|group| sub(group, n - moved));
                        below(source, &|group| sub(group, moved));
                        break;
                    }
                    Err(Unchanged::Grown(_)) => below(target, &|group| sub(group, n)),
                    Err(_) => {
                        below(target, &|group| sub(group, n));
                        self.report_broken();
                        break;
                    }
                }
            }
        }
    }

    /// The owner's reference on the cell, and its name's place, follow.
    fn rehome(&self, objcg: &Objcg, source: &Memcg, target: &Memcg) {
        self.hold_cell(target.cell());
        self.unref_cell(source.cell());
        self.rehang_name(objcg.name(), target.name());
    }
}

impl Memcg {
    fn add_side_kind(&self, side: usize, by: u64) {
        self.side_count(side).fetch_add(by, Ordering::Relaxed);
    }
}
