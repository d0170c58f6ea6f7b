//! What proofs share: charging as an engine does, a small random source, a hierarchy alone in the
//! world.

use crate::counter;
use crate::group::exact_charge::{Mode, Refusal};
use crate::group::kind::Kind;
use crate::group::{Hierarchy, Memcg, ROOT, Tag};
use crate::sync::lock::Rank;
use crate::thread::ThreadRec;

pub type Tree = &'static Hierarchy;

/// Charges as an engine does: stock, then drain who is full and try again.
pub fn charge(tree: Tree, rec: &ThreadRec, tag: Tag, bytes: u64) -> Result<(), Refusal> {
    let _pin = tree.threads.epoch.pin(rec);
    let mut outcome = tree.charge(rec, tag, bytes);
    for _ in 0..8 {
        let Err(refusal) = outcome else { break };
        let full = tree.group_of_refusal(&refusal);
        if !full.is_some_and(|full| tree.drain_for_charge(rec, full)) {
            break;
        }
        outcome = tree.charge_exact(tag, bytes, Mode::Within);
    }
    outcome
}

/// Charges whom the thread works for.
pub fn charge_current(tree: Tree, rec: &ThreadRec, bytes: u64) -> Result<Tag, Refusal> {
    let tag = rec.current().expect("the thread works for somebody");
    match rec.charge_hit(bytes) {
        Some(charged) => assert_eq!(charged.owner, Some(tag)),
        None => charge(tree, rec, tag, bytes)?,
    }
    Ok(tag)
}

/// A reservation, as the engine makes one.
pub fn reserve(tree: Tree, rec: &ThreadRec, tag: Tag, bytes: u64) -> Result<(), Refusal> {
    if !rec.reserve_hit(Some(tag), bytes) {
        charge(tree, rec, tag, bytes)?;
        let _pin = tree.threads.epoch.pin(rec);
        tree.count_reserved(rec, tag, bytes);
    }
    Ok(())
}

pub fn free(tree: Tree, rec: &ThreadRec, tag: Tag, bytes: u64, kind: Kind) {
    match kind {
        Kind::Heap | Kind::Page => return tree.uncharge(rec, tag, bytes),
        Kind::Reserved => {
            if !rec.unreserve_hit(Some(tag), bytes) {
                let _pin = tree.threads.epoch.pin(rec);
                tree.uncount_reserved(rec, tag, bytes);
                tree.uncharge(rec, tag, bytes);
            }
            return;
        }
        Kind::Mapped | Kind::Slab => {}
    }
    let _pin = tree.threads.epoch.pin(rec);
    tree.sub_side(tag, bytes, kind);
    tree.uncharge_exact(tag, bytes);
}

/// Sets a group's reserve, as the engine does; `None` where the parent has no room for it or the
/// group is not online.
pub fn set_reserve(tree: Tree, group: &Memcg, reserve: u64) -> Option<()> {
    let _held = group.lock.lock(Rank::Group);
    if !group.is_online() {
        return None;
    }
    counter::set_reserve(group, reserve, || tree.report_broken()).ok()
}

/// Nothing is left of all but the root, once the epochs have passed.
pub fn assert_empty(tree: Tree) {
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
pub fn alone() -> (Tree, &'static ThreadRec) {
    let tree = Hierarchy::leaked();
    (tree, tree.threads.join().unwrap().1)
}

/// Small, fast, the same on every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }

    /// One of several.
    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.next(all.len() as u64) as usize]
    }
}
