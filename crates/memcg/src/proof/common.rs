//! What the proofs share: charging as an engine does, a small random source, a hierarchy alone in the world.

use crate::counter::{Level, Over, try_charge, uncharge};
use crate::group::charge::{Mode, Refusal};
use crate::group::objcg::Kind;
use crate::group::{Hierarchy, Memcg, ROOT};
use crate::sync::lock::Rank;
use crate::thread::ThreadRec;

pub(super) type Tree = &'static Hierarchy;

/// Charges as an engine does: stock, then drain who is full and try again.
pub(super) fn charge(tree: Tree, rec: &ThreadRec, tag: u32, bytes: u64) -> Result<(), Refusal> {
    let _pin = tree.threads.epoch.pin(rec);
    let mut outcome = tree.charge(rec, tag, bytes);
    for _ in 0..8 {
        let Err(refusal) = outcome else { break };
        if refusal.group == 0 || !tree.drain_for_charge(rec, tree.memcgs.get(refusal.group)) {
            break;
        }
        outcome = tree.charge_exact(tag, bytes, Mode::Within);
    }
    outcome
}

/// Charges whom the thread works for.
pub(super) fn charge_current(tree: Tree, rec: &ThreadRec, bytes: u64) -> Result<u32, Refusal> {
    match rec.charge_hit(bytes) {
        Some(tag) => Ok(tag),
        None => charge(tree, rec, rec.current(), bytes).map(|()| rec.current()),
    }
}

/// A reservation, as the engine makes one.
pub(super) fn reserve(tree: Tree, rec: &ThreadRec, tag: u32, bytes: u64) -> Result<(), Refusal> {
    if !rec.reserve_hit(tag, bytes) {
        charge(tree, rec, tag, bytes)?;
        let _pin = tree.threads.epoch.pin(rec);
        tree.count_reserved(rec, tag, bytes);
    }
    Ok(())
}

pub(super) fn free(tree: Tree, rec: &ThreadRec, tag: u32, bytes: u64, kind: Kind) {
    match kind {
        Kind::Heap => return tree.uncharge(rec, tag, bytes),
        Kind::Reserved => {
            if !rec.unreserve_hit(tag, bytes) {
                let _pin = tree.threads.epoch.pin(rec);
                tree.uncount_reserved(rec, tag, bytes);
                tree.uncharge(rec, tag, bytes);
            }
            return;
        }
        _ => {}
    }
    let _pin = tree.threads.epoch.pin(rec);
    tree.sub_side(tag, bytes, kind);
    tree.uncharge_exact(tag, bytes);
}

pub(super) fn set_reserve(tree: Tree, group: &Memcg, reserve: u64) -> Result<(), ()> {
    let _held = group.lock.lock(Rank::Group);
    if !group.is_online() {
        return Err(());
    }
    let Some(parent) = group.parent() else {
        return Err(());
    };
    group.counter.set_reserve(
        reserve,
        |more| {
            try_charge(parent, None, more, |_| Over::By(0))
                .map(|_| ())
                .map_err(|_| ())
        },
        |back| {
            if uncharge(parent, None, back).is_err() {
                tree.report_broken();
            }
        },
    )
}

/// Nothing is left of all but the root, once the epochs have passed.
pub(super) fn assert_empty(tree: Tree) {
    for _ in 0..8 {
        tree.collect();
    }
    tree.audit().unwrap();
    assert_eq!(tree.memcgs.get(ROOT).counter.usage(), 0);
    assert_eq!(tree.memcgs.get(ROOT).counter.granted(), 0);
    assert_eq!(tree.limbo_len(), 0);
    let in_use = [
        tree.memcgs.in_use(),
        tree.cells.in_use(),
        tree.objcgs.in_use(),
        tree.names.in_use(),
    ];
    assert_eq!(in_use, [1; 4]);
}

/// One thread's record, and a place to work.
pub(super) fn alone() -> (Tree, &'static ThreadRec) {
    let tree = Hierarchy::leaked();
    (tree, tree.threads.join().unwrap().1)
}

/// Small, fast, the same on every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }

    /// One of several.
    pub(super) fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.next(all.len() as u64) as usize]
    }
}
