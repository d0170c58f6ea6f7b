//! Kmem ids and groups that linger, under every schedule that a few preemptions make: an id's
//! reuse, an end against a first use, the last byte against the removal.

use crate::group::id::KmemId;
use crate::group::loom::{charge_exact, go, group, join, root, uncharge_exact};
use crate::group::{Hierarchy, Memcg};
use crate::kmem::Kmem;
use crate::kmem::id::HeadId;
use crate::kmem::per_id::{IdPolicy, PerId, Put};
use crate::offline;
use crate::sync::id::Id;
use crate::thread::ThreadRec;

type Tree = &'static Hierarchy;

/// What a model works on; freed when it is over.
struct Lists {
    kmem: Kmem,
    table: PerId<HeadId>,
}

fn model(preemptions: usize, f: impl Fn(Tree, &'static Lists) + Sync + Send + 'static) {
    crate::group::loom::model(preemptions, move |tree| {
        let lists: &'static Lists = Box::leak(Box::new(Lists {
            kmem: Kmem::default(),
            table: PerId::default(),
        }));
        f(tree, lists);
        // SAFETY: the threads that knew them have been joined.
        unsafe {
            lists.table.clear(&lists.kmem);
            drop(Box::from_raw(core::ptr::from_ref(lists).cast_mut()));
        }
    });
}

/// Enters `value` for a group as a list does: what came too late is taken out again.
fn enter(tree: Tree, lists: &Lists, rec: &ThreadRec, group: &Memcg, value: u32) -> Option<KmemId> {
    let _pin = tree.threads.epoch.pin(rec);
    let id = tree.kmem_id(group).ok()?;
    assert_eq!(
        lists.table.insert(&lists.kmem, id, HeadId::new(value)),
        Put::Done
    );
    if tree.still_has_kmem_id(group, id) {
        return Some(id);
    }
    // Whoever of the two takes it out ends it.
    lists.table.remove(&lists.kmem, id);
    None
}

/// Ends a group's id as its end does.
fn end(tree: Tree, lists: &Lists, rec: &ThreadRec, group: &Memcg) {
    let _pin = tree.threads.epoch.pin(rec);
    if let Some(id) = tree.end_kmem_id(group) {
        lists.table.remove(&lists.kmem, id);
        tree.free_kmem_id(id);
    }
}

fn reuse(policy: IdPolicy) {
    model(3, move |tree, lists| {
        assert!(lists.kmem.tables.set_policy(policy));
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, root(tree), "b");
        let id = enter(tree, lists, rec, a, 10).unwrap();
        let reader = go(move || {
            let _pin = tree.threads.epoch.pin(other);
            for _ in 0..2 {
                if let Some(id) = tree.kmem_id_if_any(a) {
                    let found = lists.table.get(&lists.kmem, other, id);
                    assert!(
                        found.is_none() || found == Some(HeadId::new(10)),
                        "{found:?}"
                    );
                }
            }
        });
        end(tree, lists, rec, a);
        for _ in 0..3 {
            tree.collect();
        }
        let next = enter(tree, lists, rec, b, 20).unwrap();
        reader.join().unwrap();
        for _ in 0..4 {
            tree.collect();
        }
        assert!(next == id || next.raw() == id.raw() + 1);
        assert_eq!(
            lists.table.get(&lists.kmem, rec, next),
            Some(HeadId::new(20))
        );
        end(tree, lists, rec, b);
    });
}

#[test]
fn loom_an_id_reused_in_an_array_is_not_seen_by_a_pinned_reader() {
    reuse(IdPolicy::ReparentAndFree);
}

#[test]
fn loom_an_id_reused_in_a_tree_is_not_seen_by_a_pinned_reader() {
    reuse(IdPolicy::ShrinkableTree);
}

#[test]
fn loom_a_first_use_beside_the_end_leaves_nothing_under_the_id() {
    model(4, |tree, lists| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let user = go(move || {
            enter(tree, lists, other, a, 10);
        });
        end(tree, lists, rec, a);
        user.join().unwrap();
        let mut left = 0;
        lists.table.each(&lists.kmem, |_, _| left += 1);
        assert_eq!(left, 0);
        assert_eq!(tree.kmem_id_if_any(a), None);
    });
}

#[test]
fn loom_two_first_uses_get_the_same_id() {
    model(2, |tree, _| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, a, "b");
        let id = move |rec: &'static ThreadRec| {
            let _pin = tree.threads.epoch.pin(rec);
            tree.kmem_id(b).unwrap()
        };
        let user = go(move || id(other));
        let mine = id(rec);
        assert_eq!(user.join().unwrap(), mine);
        assert_eq!(tree.kmem_ids.in_use(), 3);
    });
}

#[test]
fn loom_a_reader_of_a_tree_never_finds_what_is_anothers() {
    model(3, |tree, lists| {
        assert!(lists.kmem.tables.set_policy(IdPolicy::ShrinkableTree));
        let (rec, other) = (join(tree), join(tree));
        let (kmem, table) = (&lists.kmem, &lists.table);
        let second: &'static PerId<HeadId> = Box::leak(Box::default());
        assert_eq!(
            table.insert(kmem, KmemId::new(1), HeadId::new(10)),
            Put::Done
        );
        assert_eq!(
            table.insert(kmem, KmemId::new(2), HeadId::new(11)),
            Put::Done
        );
        let reader = go(move || {
            let found = table.get(kmem, other, KmemId::new(2));
            assert!(
                found.is_none() || found == Some(HeadId::new(11)),
                "{found:?}"
            );
            assert_eq!(
                table.get(kmem, other, KmemId::new(1)),
                Some(HeadId::new(10))
            );
        });
        // Its nodes are the other's then, with other things in them.
        assert_eq!(table.remove(kmem, KmemId::new(2)), Some(HeadId::new(11)));
        assert_eq!(
            second.insert(kmem, KmemId::new(2), HeadId::new(99)),
            Put::Done
        );
        reader.join().unwrap();
        assert_eq!(table.get(kmem, rec, KmemId::new(2)), None);
        // SAFETY: the thread that knew it has been joined.
        unsafe {
            second.clear(kmem);
            drop(Box::from_raw(core::ptr::from_ref(second).cast_mut()));
        }
    });
}

fn remove(tree: Tree, lists: &Lists, rec: &ThreadRec, group: &Memcg) {
    let _pin = tree.threads.epoch.pin(rec);
    offline::remove(tree, &lists.kmem, rec, group).unwrap();
}

fn settle(tree: Tree, lists: &Lists, rec: &ThreadRec) {
    let _pin = tree.threads.epoch.pin(rec);
    offline::deferred_end::finish(tree, &lists.kmem);
}

#[test]
fn loom_the_last_byte_beside_the_removal_ends_the_group_once() {
    model(3, |tree, lists| {
        assert!(tree.set_lingers(true));
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let tag = a.tag();
        assert!(charge_exact(tree, rec, tag, 16));
        let freer = go(move || {
            uncharge_exact(tree, other, tag, 8);
            uncharge_exact(tree, other, tag, 8);
            settle(tree, lists, other);
        });
        remove(tree, lists, rec, a);
        freer.join().unwrap();
        settle(tree, lists, rec);
        assert_eq!((tree.nr_lingering(), tree.nr_lingered()), (0, 1));
        assert_eq!(root(tree).counter.usage(), 0);
    });
}

#[test]
fn loom_a_refill_beside_the_removal_leaves_no_stock() {
    model(2, |tree, lists| {
        assert!(tree.set_lingers(true));
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let tag = a.tag();
        tree.ref_objcg(tag);
        let worker = go(move || {
            tree.charge(other, tag, 8).unwrap();
            tree.uncharge(other, tag, 8);
        });
        remove(tree, lists, rec, a);
        worker.join().unwrap();
        {
            // Charged through stock before it lingered, and back into it: then a thread that was at
            // it was skipped.
            let _pin = tree.threads.epoch.pin(rec);
            tree.drain(rec, root(tree));
        }
        settle(tree, lists, rec);
        assert_eq!(tree.nr_lingering(), 0);
        let _pin = tree.threads.epoch.pin(rec);
        tree.unref_objcg(tag);
    });
}

#[test]
fn loom_last_bytes_of_parent_and_child_end_both() {
    model(2, |tree, lists| {
        assert!(tree.set_lingers(true));
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, a, "b");
        let tags = [a.tag(), b.tag()];
        for tag in tags {
            assert!(charge_exact(tree, rec, tag, 8));
        }
        remove(tree, lists, rec, b);
        remove(tree, lists, rec, a);
        assert_eq!(tree.nr_lingering(), 2);
        let freer = go(move || {
            uncharge_exact(tree, other, tags[1], 8);
            settle(tree, lists, other);
        });
        uncharge_exact(tree, rec, tags[0], 8);
        settle(tree, lists, rec);
        freer.join().unwrap();
        settle(tree, lists, rec);
        assert_eq!((tree.nr_lingering(), tree.nr_lingered()), (0, 2));
    });
}
