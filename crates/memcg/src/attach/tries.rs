//! How often a move that is refused tries to make room at the target.
//!
//! Invariants: a try that was refused is made again only where something has changed since: stock
//! has come back.
//! Depends on: `Attach::cover`, which counts its calls here.
//! Never: two threads in one count; each has its own.

use super::{MoveError, move_task};
use crate::group::exact_charge::Mode;
use crate::group::{GroupId, Hierarchy, Kind, Memcg, ROOT, Tag};
use crate::thread::ThreadRec;
use std::cell::Cell;

std::thread_local! {
    static TRIES: Cell<u32> = const { Cell::new(0) };
}

/// One more try.
pub(super) fn count() {
    TRIES.set(TRIES.get() + 1);
}

fn child(
    tree: &'static Hierarchy,
    rec: &ThreadRec,
    parent: GroupId,
    name: &[u8],
) -> &'static Memcg {
    let _pin = tree.threads.epoch.pin(rec);
    let index = tree.create(tree.memcgs.get(parent), name).unwrap();
    tree.memcgs.get(index)
}

/// A task of 64 KiB in /a, and /b, where it is to go.
struct World {
    tree: &'static Hierarchy,
    rec: &'static ThreadRec,
    target: &'static Memcg,
    task: Tag,
}

impl World {
    const HELD: u64 = 64 << 10;

    fn new() -> Self {
        let tree = Hierarchy::leaked();
        let (_, rec) = tree.threads.join().unwrap();
        let (a, target) = (child(tree, rec, ROOT, b"a"), child(tree, rec, ROOT, b"b"));
        let _pin = tree.threads.epoch.pin(rec);
        let task = tree.new_task(a, b"task", 0).unwrap();
        tree.charge_exact(task, Self::HELD, Mode::Within).unwrap();
        Self {
            tree,
            rec,
            target,
            task,
        }
    }

    /// Moves the task; answers what came of it, and the tries.
    fn go(&self) -> (Result<(), MoveError>, u32) {
        let _pin = self.tree.threads.epoch.pin(self.rec);
        let before = TRIES.get();
        let outcome = move_task(self.tree, self.rec, self.task, self.target);
        self.tree.audit().unwrap();
        (outcome, TRIES.get() - before)
    }
}

#[test]
fn a_transfer_that_memory_max_refuses_is_tried_once() {
    let w = World::new();
    w.target.counter.set_max(World::HELD / 2);
    let (outcome, tries) = w.go();
    assert!(matches!(outcome, Err(MoveError::Full(_))), "{outcome:?}");
    assert_eq!(tries, 1);
    w.target.counter.set_max(World::HELD);
    assert_eq!(w.go(), (Ok(()), 1));
}

#[test]
fn a_transfer_that_memory_kmem_max_refuses_is_tried_once() {
    let w = World::new();
    w.tree.add_side(w.task, World::HELD, Kind::Slab);
    w.target.set_kmem_max(World::HELD / 2);
    let (outcome, tries) = w.go();
    assert!(
        matches!(outcome, Err(MoveError::KmemFull(_))),
        "{outcome:?}"
    );
    assert_eq!(tries, 1);
    w.target.set_kmem_max(World::HELD);
    assert_eq!(w.go(), (Ok(()), 1));
}

#[test]
fn a_refused_transfer_is_tried_again_when_objects_counted_in_advance_have_come_back() {
    let w = World::new();
    let _pin = w.tree.threads.epoch.pin(w.rec);
    w.tree.charge(w.rec, w.task, 64).unwrap();
    w.tree.charge_slab(w.rec, w.task, 64, false).unwrap();
    assert!(w.tree.slab_stocked_for(w.task) > 0);
    w.target.set_kmem_max(64);
    assert_eq!(w.go(), (Ok(()), 2));
}

#[test]
fn a_refused_transfer_is_tried_again_when_stock_at_the_target_has_come_back() {
    let w = World::new();
    let _pin = w.tree.threads.epoch.pin(w.rec);
    w.tree.charge(w.rec, w.target.tag(), 64).unwrap();
    assert!(w.target.counter.granted() > 0);
    w.target.counter.set_max(World::HELD + 64);
    assert_eq!(w.go(), (Ok(()), 2));
}
