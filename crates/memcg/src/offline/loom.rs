//! A group's end against charges, refills and reserves, under every schedule that a few preemptions
//! make.

#![forbid(unsafe_code)]

use super::remove_alone;
use crate::group::loom::{
    Tree, charge_exact, current, go, group, join, model, reserve, root, uncharge_exact,
};
use crate::group::notice_word::Wish;
use crate::group::objcg::State;
use crate::group::{Memcg, ROOT};
use crate::thread::ThreadRec;

pub(crate) fn remove(tree: Tree, rec: &ThreadRec, group: &Memcg) -> bool {
    let _pin = tree.threads.epoch.pin(rec);
    remove_alone(tree, group).is_ok()
}

#[test]
fn loom_what_is_charged_and_freed_while_its_group_ends_is_the_parents() {
    model(6, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let tag = a.tag();
        assert!(charge_exact(tree, rec, tag, 24));
        let worker = go(move || {
            uncharge_exact(tree, other, tag, 16);
            assert!(charge_exact(tree, other, tag, 8));
        });
        assert!(remove(tree, rec, a));
        worker.join().unwrap();
        assert_eq!(current(tree, rec, root(tree)), 16);
        uncharge_exact(tree, rec, tag, 16);
        assert_eq!(tree.objcgs.get(tag).state(), State::Free);
    });
}

#[test]
fn loom_a_refill_while_its_group_ends_is_the_parents() {
    model(6, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let tag = a.tag();
        tree.ref_objcg(tag);
        let worker = go(move || tree.charge(other, tag, 8).unwrap());
        assert!(remove(tree, rec, a));
        worker.join().unwrap();
        assert_eq!(current(tree, rec, root(tree)), 8);
        let _pin = tree.threads.epoch.pin(rec);
        tree.unref_objcg(tag);
    });
}

#[test]
fn loom_a_reserve_goes_back_whole_when_its_group_ends_under_charges() {
    model(6, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let tag = a.tag();
        tree.ref_objcg(tag);
        reserve(a, 16);
        let worker = go(move || {
            assert!(charge_exact(tree, other, tag, 24));
            uncharge_exact(tree, other, tag, 16);
        });
        assert!(remove(tree, rec, a));
        worker.join().unwrap();
        assert_eq!(root(tree).counter.usage(), 8);
        uncharge_exact(tree, rec, tag, 8);
        let _pin = tree.threads.epoch.pin(rec);
        tree.unref_objcg(tag);
    });
}

#[test]
fn loom_a_child_and_its_parent_removed_at_once_lead_to_whom_is_left() {
    model(6, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, a, "b");
        let tag = b.tag();
        assert!(charge_exact(tree, rec, tag, 8));
        let remover = go(move || assert!(remove(tree, other, b)));
        let _ = remove(tree, rec, a);
        remover.join().unwrap();
        let _ = remove(tree, rec, a);
        assert!(!a.is_online() && !b.is_online());
        assert_eq!(current(tree, rec, root(tree)), 8);
        for _ in 0..4 {
            tree.collect();
        }
        // A group made of what was let go does not get the survivor.
        let c = group(tree, rec, root(tree), "c");
        assert_eq!(current(tree, rec, c), 0);
        tree.audit().unwrap();
        uncharge_exact(tree, rec, tag, 8);
    });
}

#[test]
fn loom_what_a_pinned_reader_found_is_not_used_again_before_it_goes() {
    model(6, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let (tag, index) = (a.tag(), a.index());
        let reader = go(move || {
            let _pin = tree.threads.epoch.pin(other);
            if tree.child(ROOT, b"a") != Some(index) {
                return;
            }
            let cell = a.cell();
            for _ in 0..2 {
                let at = tree.resolve(cell).group;
                assert!(at.index() == index || at.index() == ROOT);
                assert_eq!(a.tag(), tag, "the record is another group's");
                tree.with_name(a.name(), |text| assert_eq!(text, b"a"));
            }
        });
        assert!(remove(tree, rec, a));
        for _ in 0..3 {
            tree.collect();
        }
        let b = group(tree, rec, root(tree), "b");
        reader.join().unwrap();
        assert!(b.is_online());
    });
}

#[test]
fn loom_a_chain_halved_while_it_is_let_go_is_let_go_once() {
    model(3, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, a, "b");
        let c = group(tree, rec, b, "c");
        let tag = c.tag();
        let cell = c.cell();
        assert!(charge_exact(tree, rec, tag, 8));
        let reader_pin = tree.threads.epoch.pin(other);
        for group in [c, b, a] {
            assert!(remove(tree, rec, group));
        }
        core::mem::forget(reader_pin);
        let reader = go(move || {
            // On its way since before the owner went.
            assert_eq!(tree.resolve(cell).group.index(), ROOT);
            let _last = tree.threads.epoch.pin(other);
        });
        uncharge_exact(tree, rec, tag, 8);
        reader.join().unwrap();
    });
}

/// Catches: a wish that is noted at a group that has ended, and one that its end does not see.
#[test]
fn loom_a_wish_is_refused_or_told_of_its_group_s_end() {
    model(4, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let worker = go(move || assert!(remove(tree, other, a)));
        let is_noted = {
            let _pin = tree.threads.epoch.pin(rec);
            tree.wish(a, Wish::Room)
        };
        worker.join().unwrap();
        assert!(!is_noted || a.notice.is_told() && a.notice.take_told().ended);
        assert_eq!(tree.nr_wishes(), 0);
    });
}
