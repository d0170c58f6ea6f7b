//! Room at the target for one word: charged there before the word flips, so that its bytes are at
//! the source or the target or, in between, at both; never at neither.
//!
//! Room is charged to the levels of the target's side below the nearest common ancestor, which has
//! the bytes from the source's side already; or, *wide*, to all levels up to the root, as if the
//! bytes were there twice.
//!
//! Invariants: room that was charged is given back, or settled by a flip. The common ancestor, and
//! all above it, end with what is due there.
//! Depends on: the walk of `counter`; `group::flip_word`.
//! Never: passes a limit, but where a reserve was changed meanwhile; a lock.

use super::MoveError;
use crate::counter::{Level, Over, Refused, try_charge, uncharge};
use crate::group::exact_charge::Refusal;
use crate::group::flip_word::Unchanged;
use crate::group::objcg::Objcg;
use crate::group::{Hierarchy, Memcg};
use crate::sync::atomic::{Ordering, fence};
use crate::thread::ThreadRec;

/// Between which groups.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub source: &'a Memcg,
    pub target: &'a Memcg,
    /// The nearest group both are within.
    pub common: &'a Memcg,
    /// Room is charged up to the root.
    pub wide: bool,
}

impl<'a> Way<'a> {
    pub fn new(source: &'a Memcg, target: &'a Memcg, wide: bool) -> Self {
        let common = common_ancestor(source, target);
        Self {
            source,
            target,
            common,
            wide,
        }
    }

    fn end(&self) -> Option<&'a Memcg> {
        (!self.wide).then_some(self.common)
    }

    /// Bytes for which there would be room now: at most, since others charge meanwhile.
    pub fn free(&self) -> u64 {
        let mut least = u64::MAX;
        let mut level = Some(self.target);
        while let Some(group) = level.filter(|group| !core::ptr::eq(*group, self.common)) {
            let counter = &group.counter;
            least = least.min(counter.max().saturating_sub(counter.usage()));
            level = group.parent();
        }
        least
    }
}

/// What is charged for one word. Plain numbers: whoever holds it gives it back, or settles it.
#[derive(Clone, Copy, Default)]
pub(super) struct Room {
    /// Charged on the target's side.
    pub bytes: u64,
    /// What that passes up to the common ancestor, which has it from the source's side already.
    owed: u64,
    /// Charged at the common ancestor because the source's reserve will keep its bytes there.
    paid: u64,
}

impl Room {
    /// Makes room for `bytes` in all. After a refusal all of it is to be given back, or tried
    /// again.
    pub fn cover(&mut self, way: &Way<'_>, bytes: u64) -> Result<(), Refusal> {
        let more = bytes.saturating_sub(self.bytes);
        let within = |_: &Memcg| Over::By(0);
        let up = try_charge(way.target, way.end(), more, within).map_err(|full| refusal(&full))?;
        self.owed += up;
        self.bytes += more;
        // With a reserve at the source the common ancestor keeps bytes the source gives up: they
        // must fit twice.
        let kept = self
            .owed
            .saturating_sub(given_up(way.source, way.common, self.bytes));
        if kept > self.paid {
            match try_charge(way.common, None, kept - self.paid, within) {
                Ok(_) => self.paid = kept,
                Err(full) => return Err(refusal(&full)),
            }
        }
        Ok(())
    }

    /// Flips the word if the room is large enough, and gives back what it was charged for at the
    /// source.
    pub fn flip(
        &mut self,
        tree: &Hierarchy,
        way: &Way<'_>,
        objcg: &Objcg,
    ) -> Result<u64, Unchanged> {
        let moved = objcg
            .charged
            .flip(objcg.cell(), way.target.cell(), self.bytes)?;
        self.transfer(tree, way, moved);
        Ok(moved)
    }

    /// `moved` of the bytes there is room for have come from the source: those it gives up, and the
    /// room that was too much (the task freed meanwhile) goes into the same sum, for on its own it
    /// would first have to be charged to the common ancestor, above its max perhaps.
    pub fn transfer(&mut self, tree: &Hierarchy, way: &Way<'_>, moved: u64) {
        let room = core::mem::take(self);
        let freed = uncharge(way.source, way.end(), moved)
            .and_then(|up| Ok(up + uncharge(way.target, way.end(), room.bytes - moved)?));
        match freed {
            Ok(freed) => balance(tree, way.common, room.owed, room.paid + freed),
            Err(_) => tree.report_broken(),
        }
        if moved > 0 {
            tree.tell_charged(way.target);
        }
        tree.tell_freed(way.source);
        tree.tell_freed(way.target);
        if tree.lingers() && moved > 0 {
            // Pairs with that of `begin_linger`: the bytes may have been a lingering group's last.
            fence(Ordering::SeqCst);
            tree.note_if_done(way.source);
        }
    }

    /// Gives all of it back.
    pub fn give_back(&mut self, tree: &Hierarchy, way: &Way<'_>) {
        self.transfer(tree, way, 0);
    }
}

fn refusal(full: &Refused<'_, Memcg>) -> Refusal {
    Refusal {
        group: Some(full.level.index()),
        usage: full.usage,
        max: full.level.counter.max(),
    }
}

impl From<Refusal> for MoveError {
    fn from(refusal: Refusal) -> Self {
        Self::Full(refusal)
    }
}

/// Brings the common ancestor and all above from what was paid to what is due.
fn balance(tree: &Hierarchy, common: &Memcg, due: u64, paid: u64) {
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

/// What the source's side would give back to the common ancestor for `bytes`, as reserves and usage
/// are now.
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

/// Takes back stock under the group that was full.
pub(super) fn drain(tree: &Hierarchy, rec: &ThreadRec, full: &Refusal) -> bool {
    tree.group_of_refusal(full)
        .is_some_and(|group| tree.drain_for_charge(rec, group))
}
