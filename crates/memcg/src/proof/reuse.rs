//! A million groups, a hundred thousand tasks: what is over is used again.

#![forbid(unsafe_code)]

use crate::group::ROOT;
use crate::group::exact_charge::Mode;
use crate::offline;
use crate::testing::common::*;

/// Bounds that have nothing to do with how many there ever were: some batches wait for three
/// epochs.
const FEW: u32 = 600;

#[test]
fn a_million_groups_created_and_removed_reuse_their_ids() {
    let (tree, rec) = alone();
    for n in 0..1_000_000u32 {
        let _pin = tree.threads.epoch.pin(rec);
        let name = n.to_be_bytes().map(|b| b'a' + (b >> 4));
        let index = tree.create(tree.memcgs.get(ROOT), &name).unwrap();
        offline::remove_alone(tree, tree.memcgs.get(index)).unwrap();
    }
    for (what, high_water) in [
        ("groups", tree.memcgs.high_water()),
        ("cells", tree.cells.high_water()),
        ("owners", tree.objcgs.high_water()),
        ("names", tree.names.high_water()),
    ] {
        assert!(high_water < FEW, "{high_water} {what}");
    }
    assert_empty(tree);
}

#[test]
fn ended_tasks_cost_what_they_leaked_and_that_only_until_it_is_freed() {
    const TASKS: u32 = 100_000;
    let (tree, rec) = alone();
    let group = {
        let _pin = tree.threads.epoch.pin(rec);
        let index = tree.create(tree.memcgs.get(ROOT), b"group").unwrap();
        tree.memcgs.get(index)
    };
    let mut leaked = Vec::new();
    for n in 0..TASKS {
        let pin = tree.threads.epoch.pin(rec);
        let tag = tree.new_task(group, b"task", 0).unwrap();
        drop(pin);
        // Each has two objects and frees one; every tenth frees both.
        for bytes in [64, 4096] {
            charge(tree, rec, tag, bytes).unwrap();
        }
        tree.uncharge(rec, tag, 4096);
        match n % 10 {
            0 => tree.uncharge(rec, tag, 64),
            _ => leaked.push(tag),
        }
        let _pin = tree.threads.epoch.pin(rec);
        tree.end_task(tag);
    }
    let nr_leaked = leaked.len() as u32;
    assert!(tree.objcgs.high_water() < nr_leaked + FEW);
    assert!(tree.names.high_water() < nr_leaked + FEW);
    assert_eq!(tree.cells.in_use(), 2);
    {
        let _pin = tree.threads.epoch.pin(rec);
        let usage = tree.usage(group);
        assert_eq!(usage.current - usage.engine, u64::from(nr_leaked) * 64);
        offline::remove_alone(tree, group).unwrap();
    }
    for tag in leaked {
        tree.uncharge(rec, tag, 64);
    }
    tree.return_all(rec);
    assert_empty(tree);
}

#[test]
fn chains_of_removed_groups_go_with_their_last_survivor() {
    const DEPTH: usize = 50;
    let (tree, rec) = alone();
    let mut survivors = Vec::new();
    for round in 0..2_000 {
        let _pin = tree.threads.epoch.pin(rec);
        let mut at = ROOT;
        let mut chain = Vec::new();
        for _ in 0..DEPTH {
            at = tree.create(tree.memcgs.get(at), b"deeper").unwrap();
            chain.push(at);
            let tag = tree.memcgs.get(at).tag();
            tree.charge_exact(tag, 8, Mode::Within).unwrap();
            survivors.push(tag);
        }
        for index in chain.into_iter().rev() {
            offline::remove_alone(tree, tree.memcgs.get(index)).unwrap();
        }
        // Some of the chain are walked (and halved), and go, before the rest.
        for n in 0..20 {
            let at = (round * 7 + n * 13) % survivors.len();
            tree.uncharge(rec, survivors.swap_remove(at), 8);
        }
    }
    let held = survivors.len() as u64 * 8;
    {
        let _pin = tree.threads.epoch.pin(rec);
        let usage = tree.usage(tree.memcgs.get(ROOT));
        assert_eq!(usage.current - usage.engine, held);
    }
    assert!(tree.memcgs.high_water() < FEW);
    for tag in survivors {
        tree.uncharge(rec, tag, 8);
    }
    tree.return_all(rec);
    assert_empty(tree);
}
