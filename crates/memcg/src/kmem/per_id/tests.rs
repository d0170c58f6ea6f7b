//! What is put is found, whatever the table is made of.

use super::*;
use crate::group::{GroupId, Hierarchy, ROOT};
use crate::kmem::id::HeadId;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[test]
fn places_fill_blocks_without_gap_or_overlap() {
    let mut expected = (0, 0);
    for id in 0..10_000 {
        assert_eq!(place(id), expected);
        expected.1 += 1;
        if expected.1 == (FIRST as usize) << expected.0 {
            expected = (expected.0 + 1, 0);
        }
    }
    assert!(place(ID_LIMIT - 1).0 < BLOCKS);
}

fn k(id: u32) -> KmemId {
    KmemId::new(id)
}

/// What tables map to here.
fn v(number: u32) -> HeadId {
    HeadId::new(number)
}

fn alone() -> (&'static Kmem, &'static ThreadRec) {
    let kmem: &'static Kmem = Box::leak(Box::default());
    kmem.init().unwrap();
    (kmem, Box::leak(Box::default()))
}

#[test]
fn an_array_that_memory_failed_for_once_has_no_gap_afterwards() {
    use crate::os::fault::{Plan, follow};
    // The places of large ids are in mapped blocks, so each of the first calls is for one.
    for call in 1..=5 {
        let (kmem, _) = alone();
        let table = PerId::<HeadId>::default();
        let plan: &'static Plan = Box::leak(Box::new(Plan::new(call, call)));
        follow(Some(plan));
        let first = table.insert(kmem, k(200_000), v(1));
        follow(None);
        assert_eq!(plan.failed(), 1, "call {call}");
        if first != Put::Done {
            assert_eq!(table.insert(kmem, k(200_000), v(1)), Put::Done);
        }
        assert_eq!(table.insert(kmem, k(1), v(2)), Put::Done);
        let mut all = Vec::new();
        table.each(kmem, |id, value| all.push((id, value)));
        assert_eq!(all, [(k(1), v(2)), (k(200_000), v(1))], "call {call}");
    }
}

#[test]
fn what_is_put_is_found_until_it_is_taken_and_the_memory_comes_back() {
    let (kmem, rec) = alone();
    let before = kmem.stat().live;
    let table = PerId::default();
    assert_eq!((table.get(kmem, rec, k(1)), table.bytes(kmem)), (None, 0));
    assert_eq!(table.remove(kmem, k(70_000)), None);
    assert_eq!(table.insert(kmem, k(5), v(50)), Put::Done);
    assert_eq!(table.insert(kmem, k(5), v(51)), Put::Found(v(50)));
    assert_eq!(table.bytes(kmem), 256);
    // Beyond what slabs hold.
    assert_eq!(table.insert(kmem, k(70_000), v(7)), Put::Done);
    assert_eq!(table.get(kmem, rec, k(70_000)), Some(v(7)));
    assert_eq!(table.get(kmem, rec, k(5)), Some(v(50)));
    assert_eq!(table.bytes(kmem), kmem.tables.stat().arrays);
    let mut all = Vec::new();
    table.each(kmem, |id, value| all.push((id, value)));
    assert_eq!(all, [(k(5), v(50)), (k(70_000), v(7))]);
    assert_eq!(table.remove(kmem, k(5)), Some(v(50)));
    assert_eq!(table.remove(kmem, k(5)), None);
    assert_eq!(table.get(kmem, rec, k(5)), None);
    // SAFETY: the table is a local of this test, and no other thread knows it.
    unsafe { table.clear(kmem) };
    assert_eq!((table.bytes(kmem), kmem.tables.stat().arrays), (0, 0));
    // What was freed from elsewhere counts as live until its heap looks.
    assert!(kmem.stat().live - before < 256 << 10);
}

#[test]
fn readers_find_everything_while_the_table_grows() {
    let (kmem, rec) = alone();
    let table = PerId::default();
    std::thread::scope(|s| {
        for t in 0..2 {
            let table = &table;
            s.spawn(move || {
                for id in (1..20_000).filter(|id| id % 2 == t) {
                    assert_eq!(table.insert(kmem, k(id), v(id)), Put::Done);
                    let back = id.saturating_sub(64).max(2 - t);
                    let back = back - (back % 2 != t) as u32;
                    if back > 0 {
                        assert_eq!(table.get(kmem, rec, k(back)), Some(v(back)));
                    }
                }
            });
        }
    });
    assert!((1..20_000).all(|id| table.get(kmem, rec, k(id)) == Some(v(id))));
    // SAFETY: the table is a local of this test, and the threads that used it have ended.
    unsafe { table.clear(kmem) };
}

const POLICIES: [IdPolicy; 3] = [
    IdPolicy::ReparentAndFree,
    IdPolicy::ReclaimOfflineFirst,
    IdPolicy::ShrinkableTree,
];

#[test]
fn the_policy_stays_once_a_table_is_used() {
    let (kmem, rec) = alone();
    assert!(kmem.tables.set_policy(IdPolicy::ShrinkableTree));
    let table = PerId::default();
    assert_eq!(table.insert(kmem, k(5), v(50)), Put::Done);
    assert!(!kmem.tables.set_policy(IdPolicy::ReparentAndFree));
    assert!(kmem.tables.set_policy(IdPolicy::ShrinkableTree));
    assert_eq!(table.get(kmem, rec, k(5)), Some(v(50)));
}

#[test]
fn a_tree_is_as_large_as_what_is_in_it() {
    let (kmem, rec) = alone();
    assert!(kmem.tables.set_policy(IdPolicy::ShrinkableTree));
    let node = size_of::<node::Node>() as u64;
    let (table, other) = (PerId::default(), PerId::default());
    for (id, nodes) in [(3, 1), (60, 1), (64, 3), (70_000, 6), (70_001, 6)] {
        assert_eq!(table.insert(kmem, k(id), v(id)), Put::Done);
        assert_eq!(table.bytes(kmem), nodes * node, "with {id}");
    }
    assert_eq!(other.insert(kmem, k(3), v(1)), Put::Done);
    assert_eq!(kmem.tables.stat().trees, 7 * node);
    for (id, nodes) in [(70_000, 6), (70_001, 3), (3, 3), (60, 2), (64, 0)] {
        assert_eq!(table.get(kmem, rec, k(id)), Some(v(id)));
        assert_eq!(table.remove(kmem, k(id)), Some(v(id)));
        assert_eq!(
            table.get(kmem, rec, k(id)),
            None,
            "the hint of {id} is stale"
        );
        assert_eq!(table.bytes(kmem), nodes * node, "without {id}");
    }
    assert_eq!(kmem.tables.stat().trees, node);
    assert_eq!(other.get(kmem, rec, k(3)), Some(v(1)));
}

#[test]
fn a_reader_never_finds_what_is_anothers_while_trees_change_nodes() {
    let (kmem, _) = alone();
    assert!(kmem.tables.set_policy(IdPolicy::ShrinkableTree));
    let tables: [PerId<HeadId>; 2] = Default::default();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|s| {
        for (t, table) in tables.iter().enumerate() {
            let (tables, over) = (&tables, &over);
            s.spawn(move || {
                let rec: ThreadRec = ThreadRec::default();
                let mut n = 0u32;
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    n = n.wrapping_add(7919);
                    for (t, table) in tables.iter().enumerate() {
                        let id = n % 5_000 + 1;
                        if let Some(value) = table.get(kmem, &rec, k(id)) {
                            assert_eq!(value, v(id * 2 + t as u32));
                        }
                    }
                }
            });
            s.spawn(move || {
                for round in 0..200 {
                    let ids = (1..5_000).step_by(37 + round);
                    for id in ids.clone() {
                        assert_eq!(
                            table.insert(kmem, k(id as u32), v(id as u32 * 2 + t as u32)),
                            Put::Done
                        );
                    }
                    for id in ids {
                        let was = v(id as u32 * 2 + t as u32);
                        assert_eq!(table.remove(kmem, k(id as u32)), Some(was));
                    }
                }
                over.store(true, std::sync::atomic::Ordering::Relaxed);
            });
        }
    });
    assert_eq!(kmem.tables.stat().trees, 0);
}

#[derive(Clone, Debug)]
enum Step {
    Create,
    Use(usize, usize),
    Get(usize, usize),
    End(usize),
    Collect,
}

fn steps() -> impl Strategy<Value = Step> {
    let any = 0..1000usize;
    prop_oneof![
        3 => Just(Step::Create),
        4 => (any.clone(), 0..2usize).prop_map(|(g, t)| Step::Use(g, t)),
        6 => (any.clone(), 0..2usize).prop_map(|(g, t)| Step::Get(g, t)),
        2 => any.prop_map(Step::End),
        1 => Just(Step::Collect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_lookup_finds_its_groups_entry_or_nothing_whoever_had_the_id(
        policy in 0..3usize,
        history in proptest::collection::vec(steps(), 1..300),
    ) {
        let kmem = alone().0;
        prop_assert!(kmem.tables.set_policy(POLICIES[policy]));
        let tree = Hierarchy::leaked();
        let rec = tree.threads.join().unwrap().1;
        let tables: [PerId<HeadId>; 2] = Default::default();
        // By group, what is entered for it in each table.
        let mut known: BTreeMap<GroupId, [Option<HeadId>; 2]> = BTreeMap::new();
        let mut next = 1;
        for step in history {
            let pin = tree.threads.epoch.pin(rec);
            let pick = |n: usize| known.keys().nth(n % known.len().max(1)).copied();
            match step {
                Step::Create => {
                    next += 1;
                    let group = tree.create(tree.memcgs.get(ROOT), next.to_string().as_bytes());
                    known.insert(group.unwrap(), [None; 2]);
                }
                Step::Use(g, t) => if let Some(g) = pick(g) {
                    let id = tree.kmem_id(tree.memcgs.get(g)).unwrap();
                    next += 1;
                    let put = tables[t].insert(kmem, id, v(next));
                    let entry = &mut known.get_mut(&g).unwrap()[t];
                    match *entry {
                        Some(was) => prop_assert_eq!(put, Put::Found(was)),
                        None => {
                            prop_assert_eq!(put, Put::Done);
                            *entry = Some(v(next));
                        }
                    }
                },
                Step::Get(g, t) => if let Some(g) = pick(g) {
                    let id = tree.kmem_id_if_any(tree.memcgs.get(g));
                    let found = id.and_then(|id| tables[t].get(kmem, rec, id));
                    prop_assert_eq!(found, known[&g][t]);
                },
                Step::End(g) => if let Some(g) = pick(g) {
                    let group = tree.memcgs.get(g);
                    let was = known.remove(&g).unwrap();
                    if let Some(id) = tree.end_kmem_id(group) {
                        for t in 0..2 {
                            prop_assert_eq!(tables[t].remove(kmem, id), was[t]);
                            prop_assert_eq!(tables[t].get(kmem, rec, id), None);
                        }
                        tree.free_kmem_id(id);
                    }
                },
                Step::Collect => {
                    drop(pin);
                    for _ in 0..4 {
                        tree.collect();
                    }
                }
            }
            for t in 0..2 {
                let mut entries = Vec::new();
                tables[t].each(kmem, |_, value| entries.push(value));
                entries.sort_unstable();
                let mut expected: Vec<HeadId> = known.values().filter_map(|e| e[t]).collect();
                expected.sort_unstable();
                prop_assert_eq!(entries, expected);
            }
            let stat = kmem.tables.stat();
            let bytes: u64 = tables.iter().map(|table| table.bytes(kmem)).sum();
            prop_assert_eq!(stat.arrays + stat.trees, bytes);
        }
    }
}
