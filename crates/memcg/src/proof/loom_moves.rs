//! Groups that end while a task moves, and what the two leave, under every schedule that a few
//! preemptions make.
//!
//! These models need two sibling rooms, so they stand above both. Each says which mistake it was
//! seen to catch.

#![forbid(unsafe_code)]

use crate::attach::loom::{Parted, end_task, only_groups_are_left};
use crate::attach::move_task;
use crate::group::OfflinePolicy;
use crate::group::cell::OfflineAction;
use crate::group::loom::{
    charge_exact, current, go, group, join, model, root, task, uncharge_exact,
};
use crate::offline::loom::remove;

#[test]
fn loom_a_charge_under_way_never_reaches_a_group_made_of_the_one_it_left() {
    model(3, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let tag = task(tree, rec, a);
        let charger = go(move || assert!(charge_exact(tree, other, tag, 8)));
        {
            let _pin = tree.threads.epoch.pin(rec);
            move_task(tree, rec, tag, root(tree)).unwrap();
        }
        assert!(remove(tree, rec, a));
        for _ in 0..3 {
            tree.collect();
        }
        let b = group(tree, rec, root(tree), "b");
        b.counter.set_max(0);
        charger.join().unwrap();
        assert_eq!(b.counter.peak(), 0);
        assert_eq!(current(tree, rec, root(tree)), 8);
    });
}

/// Catches: an end noted only after its cell leads on.
#[test]
fn loom_who_finds_a_thing_inherited_finds_what_its_group_s_end_said_of_it() {
    model(6, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        a.set_offline_policy(OfflinePolicy::NextTouch);
        let (tag, cell) = (a.tag(), a.cell());
        assert!(charge_exact(tree, rec, tag, 8));
        let toucher = go(move || {
            let _pin = tree.threads.epoch.pin(other);
            let found = tree.resolve(cell);
            assert!(
                !found.inherited
                    || tree.has_offline_action(cell, &[OfflineAction::RechargeToToucher])
            );
        });
        assert!(remove(tree, rec, a));
        toucher.join().unwrap();
        uncharge_exact(tree, rec, tag, 8);
    });
}

/// Catches: a dead cell skipped without taking along what its end said, or before.
#[test]
fn loom_what_an_end_said_is_found_while_its_cell_is_skipped() {
    model(3, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let a = group(tree, rec, root(tree), "a");
        let b = group(tree, rec, a, "b");
        let c = group(tree, rec, b, "c");
        b.set_offline_policy(OfflinePolicy::NextTouch);
        let (tag, cell) = (c.tag(), c.cell());
        assert!(charge_exact(tree, rec, tag, 8));
        assert!(remove(tree, rec, c) && remove(tree, rec, b));
        let walker = go(move || {
            let _pin = tree.threads.epoch.pin(other);
            tree.resolve(cell);
            assert!(tree.has_offline_action(cell, &[OfflineAction::RechargeToToucher]));
        });
        let has_offline_action = || {
            let _pin = tree.threads.epoch.pin(rec);
            tree.has_offline_action(cell, &[OfflineAction::RechargeToToucher])
                && !tree.has_offline_action(cell, &[OfflineAction::RechargeToHolder])
        };
        assert!(has_offline_action());
        assert!(remove(tree, rec, a));
        assert!(has_offline_action());
        walker.join().unwrap();
        uncharge_exact(tree, rec, tag, 8);
    });
}

/// Catches: a residual that is not let go with its owner.
#[test]
fn loom_a_residual_paid_off_while_its_group_ends_is_the_parents_to_pay() {
    model(5, |tree| {
        let (rec, other) = (join(tree), join(tree));
        let Parted { a, b, tag } = Parted::new(tree, rec);
        let freer = go(move || {
            uncharge_exact(tree, other, tag, 8);
            uncharge_exact(tree, other, tag, 16);
        });
        assert!(remove(tree, rec, a));
        freer.join().unwrap();
        assert_eq!(current(tree, rec, b), 0);
        assert_eq!(root(tree).counter.usage(), 0);
        end_task(tree, rec, tag);
        only_groups_are_left(tree, 2);
    });
}
