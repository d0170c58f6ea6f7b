//! What a group costs in memory.
//!
//! Invariants: all records of a group together stay within its budget.
//! Depends on: the sizes of the records that are named here.
//! Never: a part of the library: these are tests.

#![forbid(unsafe_code)]

use super::events::EventCounts;
use super::id::ROOT;
use super::pressure::Pressure;
use super::watch::WatchRec;
use super::{Hierarchy, Memcg, Objcg, cell::Cell, name::NameRec};

/// Bytes a group may take, all its records and its place in the index included.
const MOST: usize = 512;

#[test]
fn the_records_of_a_group_fit_its_budget() {
    // A shard doubles its buckets when it has as many groups, so a group has at most two of four
    // bytes.
    let buckets = 2 * 4;
    let records =
        size_of::<Memcg>() + size_of::<Cell>() + size_of::<Objcg>() + size_of::<NameRec>();
    assert!(records + buckets <= MOST, "{records} + {buckets}");
    assert_eq!(size_of::<Memcg>(), 320);
    // What the documents say of those that few groups have.
    assert_eq!(size_of::<EventCounts>(), 296);
    assert_eq!(size_of::<Pressure>(), 112);
    assert_eq!(size_of::<WatchRec>(), 24);
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Alone in its process, or others' memory is counted: `cargo test --release -- --ignored --exact`
/// and this name.
#[test]
#[ignore = "measures the whole process"]
fn a_million_groups_take_no_more_than_their_budget_each() {
    const GROUPS: usize = 1_000_000;
    let tree = Hierarchy::leaked();
    let (_, rec) = tree.threads.join().unwrap();
    let before = resident();
    for n in 0..GROUPS {
        let _pin = tree.threads.epoch.pin(rec);
        let name = format!("group{n:07}");
        tree.create(tree.memcgs.get(ROOT), name.as_bytes()).unwrap();
    }
    let each = (resident() - before) / GROUPS;
    println!("{each} bytes a group");
    assert!(each <= MOST);
}
