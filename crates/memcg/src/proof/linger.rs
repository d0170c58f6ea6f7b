//! Groups that linger: what they keep, until when, whoever frees it; and ids, under each policy and
//! either ending.

#![forbid(unsafe_code)]

use crate::engine::group_end::GroupEnd;
use crate::engine::{Engine, Flags, Request};
use crate::group::Tag;
use crate::group::id::KmemId;
use crate::group::kind::Kind;
use crate::group::kmem_id::ROOT_ID;
use crate::group::{IdError, Memcg, ROOT};
use crate::kmem::per_id::IdPolicy;
use crate::offline;
use crate::sync::id::Id;
use crate::testing::common::*;
use crate::thread::ThreadRec;

mod linger_model;

const POLICIES: [IdPolicy; 3] = [
    IdPolicy::ReparentAndFree,
    IdPolicy::ReclaimOfflineFirst,
    IdPolicy::ShrinkableTree,
];

struct World {
    engine: &'static Engine,
    rec: &'static ThreadRec,
}

impl World {
    fn new(end: GroupEnd, policy: IdPolicy) -> Self {
        let engine = Engine::leaked();
        assert!(engine.set_group_end(end) && engine.set_id_policy(policy));
        let rec = engine.tree.threads.join().unwrap().1;
        Self { engine, rec }
    }

    fn root(&self) -> &'static Memcg {
        self.engine.tree.memcgs.get(ROOT)
    }

    fn create(&self, parent: &Memcg, name: &str) -> &'static Memcg {
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec);
        tree.memcgs
            .get(tree.create(parent, name.as_bytes()).unwrap())
    }

    fn id(&self, group: &Memcg) -> Result<KmemId, IdError> {
        let _pin = self.engine.tree.threads.epoch.pin(self.rec);
        self.engine.kmem_id(self.rec, group, Flags::NOWAIT)
    }

    fn charge(&self, tag: Tag, bytes: u64) {
        let _pin = self.engine.tree.threads.epoch.pin(self.rec);
        self.engine
            .charge(self.rec, Request::heap(tag, bytes, Flags::NOWAIT))
            .unwrap();
    }

    fn free_by(&self, rec: &ThreadRec, tag: Tag, bytes: u64) {
        self.engine.uncharge(rec, tag, bytes, Kind::Heap);
        self.engine.finish_lingering(rec);
    }

    fn free(&self, tag: Tag, bytes: u64) {
        self.free_by(self.rec, tag, bytes);
    }

    fn remove(&self, group: &Memcg) {
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec);
        offline::remove(tree, &self.engine.kmem, self.rec, group).unwrap();
    }

    fn current(&self, group: &Memcg) -> u64 {
        let _pin = self.engine.tree.threads.epoch.pin(self.rec);
        self.engine.tree.usage(group).current
    }

    fn collect(&self) {
        for _ in 0..4 {
            self.engine.tree.collect();
        }
    }

    fn audit(&self) {
        if let Err(wrong) = self.engine.tree.audit() {
            panic!("{wrong}");
        }
    }
}

#[test]
fn a_group_lingers_until_its_last_byte_whoever_frees_it() {
    for policy in POLICIES {
        let w = World::new(GroupEnd::Linger, policy);
        let a = w.create(w.root(), "a");
        let tag = a.tag();
        let id = w.id(a).unwrap();
        w.charge(tag, 100);
        w.charge(tag, 4096);
        w.remove(a);
        assert_eq!(w.engine.tree.lookup(b"/a"), None);
        assert!(a.is_lingering() && !a.is_online());
        assert_eq!(w.engine.tree.nr_lingering(), 1);
        assert_eq!((w.current(a), w.current(w.root())), (4200, 4200));
        assert_eq!(a.counter.granted(), 0, "its stock was drained");
        let keeps = policy != IdPolicy::ReparentAndFree;
        let kept = w.engine.tree.kmem_id_if_any(a);
        assert_eq!(kept, keeps.then_some(id), "{policy:?}");
        w.audit();
        // The name is free at once.
        let again = w.create(w.root(), "a");
        assert!(!core::ptr::eq(again, a));
        w.free(tag, 104);
        assert!(a.is_lingering());
        std::thread::scope(|s| {
            s.spawn(|| {
                let (index, rec) = w.engine.tree.threads.join().unwrap();
                w.free_by(rec, tag, 4096);
                w.engine.tree.return_all(rec);
                w.engine.tree.threads.leave(index);
            });
        });
        assert_eq!(w.engine.tree.nr_lingering(), 0);
        assert_eq!(w.engine.tree.nr_lingered(), 1);
        w.remove(again);
        w.collect();
        w.audit();
        let other = w.create(w.root(), "other");
        assert_eq!(w.id(other), Ok(id), "{policy:?}");
        w.remove(other);
        w.engine.tree.return_all(w.rec);
        assert_empty(&w.engine.tree);
    }
}

#[test]
fn an_empty_group_and_stock_alone_do_not_linger() {
    let w = World::new(GroupEnd::Linger, IdPolicy::ReclaimOfflineFirst);
    let a = w.create(w.root(), "a");
    w.id(a).unwrap();
    w.remove(a);
    assert_eq!(w.engine.tree.nr_lingering(), 0);
    let b = w.create(w.root(), "b");
    w.charge(b.tag(), 64);
    w.free(b.tag(), 64);
    assert!(b.counter.usage() > 0, "stocked");
    w.remove(b);
    assert_eq!(w.engine.tree.nr_lingering(), 0);
    w.engine.tree.return_all(w.rec);
    assert_empty(&w.engine.tree);
}

#[test]
fn a_parent_lingers_as_long_as_what_is_below_it() {
    let w = World::new(GroupEnd::Linger, IdPolicy::ShrinkableTree);
    let a = w.create(w.root(), "a");
    let b = w.create(a, "b");
    let c = w.create(b, "c");
    w.id(c).unwrap();
    w.charge(c.tag(), 64);
    for group in [c, b, a] {
        w.remove(group);
    }
    let tag = c.tag();
    assert_eq!(w.engine.tree.nr_lingering(), 3);
    assert_eq!(w.engine.id_stat().in_use, 4);
    w.audit();
    w.free(tag, 64);
    assert_eq!(w.engine.tree.nr_lingering(), 0);
    w.engine.tree.return_all(w.rec);
    assert_empty(&w.engine.tree);
    assert_eq!(w.engine.id_stat().in_use, 1);
}

#[test]
fn a_charge_in_the_name_of_a_lingering_group_stays_with_it_and_takes_no_stock() {
    let w = World::new(GroupEnd::Linger, IdPolicy::ReparentAndFree);
    let a = w.create(w.root(), "a");
    let tag = a.tag();
    w.charge(tag, 64);
    w.remove(a);
    w.charge(tag, 64);
    assert_eq!((w.current(a), a.counter.granted()), (128, 0));
    assert_eq!(a.nr_events(crate::group::Event::Late, true), 1);
    // Refused, and undone.
    a.counter.set_max(128);
    let refused = w
        .engine
        .charge(w.rec, Request::heap(tag, 8, Flags::NOWAIT))
        .unwrap_err();
    assert_eq!(refused.refusal.group, Some(a.index()));
    w.free(tag, 64);
    w.free(tag, 64);
    assert_eq!(w.engine.tree.nr_lingering(), 0);
    w.engine.tree.return_all(w.rec);
    assert_empty(&w.engine.tree);
}

#[test]
fn a_reserve_goes_back_when_its_group_begins_to_linger() {
    let w = World::new(GroupEnd::Linger, IdPolicy::ReparentAndFree);
    let a = w.create(w.root(), "a");
    set_reserve(&w.engine.tree, a, 1 << 20).unwrap();
    let tag = a.tag();
    w.charge(tag, 64);
    w.remove(a);
    assert_eq!(w.root().counter.usage(), 64);
    w.audit();
    w.free(tag, 64);
    w.engine.tree.return_all(w.rec);
    assert_empty(&w.engine.tree);
}

#[test]
fn arrays_grow_only_after_those_that_linger_were_asked() {
    let w = World::new(GroupEnd::Linger, IdPolicy::ReclaimOfflineFirst);
    let room = w.engine.kmem.tables.room();
    let mut tags = Vec::new();
    for n in ROOT_ID.raw() + 1..room {
        let group = w.create(w.root(), &n.to_string());
        assert_eq!(w.id(group), Ok(KmemId::new(n)));
        w.charge(group.tag(), 64);
        tags.push(group.tag());
        w.remove(group);
    }
    let next = w.create(w.root(), "next");
    assert_eq!(w.id(next), Ok(KmemId::new(room)), "asked in vain");
    let stat = w.engine.id_stat().tables;
    assert_eq!((stat.asked, stat.helped), (1, 0));
    assert!(w.engine.kmem.tables.room() > room);
    for tag in tags {
        w.free(tag, 64);
    }
    w.remove(next);
    w.engine.tree.return_all(w.rec);
    assert_empty(&w.engine.tree);
}

#[test]
fn options_are_set_before_the_first_group() {
    let w = World::new(GroupEnd::Reparent, IdPolicy::ReparentAndFree);
    w.create(w.root(), "a");
    assert!(!w.engine.set_group_end(GroupEnd::Linger));
    assert!(w.engine.set_group_end(GroupEnd::Reparent), "as it is");
    assert!(!w.engine.tree.lingers());
    for policy in POLICIES {
        assert_eq!(IdPolicy::of_name(policy.name()), Some(policy));
    }
    for end in [GroupEnd::Linger, GroupEnd::Reparent] {
        assert_eq!(GroupEnd::of_name(end.name()), Some(end));
    }
}

/// Rounds of create, charge, remove, with one in `every` outlived by its object for `life` rounds.
fn churn(end: GroupEnd, policy: IdPolicy, rounds: u32) {
    const SURVIVORS: usize = 100;
    let w = World::new(end, policy);
    let table = crate::kmem::per_id::PerId::default();
    let mut survivors = std::collections::VecDeque::new();
    let free = |w: &World, tag| w.free(tag, 64);
    let mut settled = None;
    for n in 0..rounds {
        let group = w.create(w.root(), &(n % 1000).to_string());
        let tag = group.tag();
        let id = w.id(group).unwrap();
        let tree = &w.engine.tree;
        {
            let _pin = tree.threads.epoch.pin(w.rec);
            let put = table.insert(&w.engine.kmem, id, group.index());
            assert_eq!(
                put,
                crate::kmem::per_id::Put::Done,
                "nothing is left of the last"
            );
            let got = table.get(&w.engine.kmem, w.rec, id);
            assert_eq!(got, Some(group.index()));
            // What a list does at a group's end.
            table.remove(&w.engine.kmem, id);
        }
        w.charge(tag, 64);
        w.remove(group);
        match n % 10 {
            0 => survivors.push_back(tag),
            _ => free(&w, tag),
        }
        if survivors.len() > SURVIVORS {
            free(&w, survivors.pop_front().unwrap());
        }
        if n == rounds / 4 {
            settled = Some((w.engine.id_stat(), w.engine.tree.memcgs.high_water()));
        }
    }
    let (before, groups) = settled.unwrap();
    let now = w.engine.id_stat();
    // Those that linger, and some batches that wait for the epochs.
    assert!(now.highest < 700, "{end:?} {policy:?}: {now:?}");
    assert!(now.highest <= before.highest + 100, "{before:?} {now:?}");
    assert!(w.engine.tree.memcgs.high_water() <= groups + 300);
    let stat = now.tables;
    match policy {
        IdPolicy::ShrinkableTree => assert_eq!((stat.arrays, stat.trees), (0, 0)),
        IdPolicy::ReparentAndFree | IdPolicy::ReclaimOfflineFirst => {
            assert_eq!(stat.arrays, table.bytes(&w.engine.kmem))
        }
    }
    let lingering = if end == GroupEnd::Linger {
        survivors.len()
    } else {
        0
    };
    assert_eq!(now.lingering as usize, lingering);
    w.audit();
    for tag in survivors {
        free(&w, tag);
    }
    assert_eq!(w.engine.tree.nr_lingering(), 0);
    w.engine.tree.return_all(w.rec);
    assert_empty(&w.engine.tree);
}

#[test]
fn ids_records_and_tables_stay_bounded_under_churn_with_survivors() {
    for policy in POLICIES {
        for end in [GroupEnd::Reparent, GroupEnd::Linger] {
            churn(end, policy, 6_000);
        }
    }
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Alone in its process: `cargo test --release -- --ignored --exact` and this name.
#[test]
#[ignore = "a million rounds of each kind; measures the whole process"]
fn a_million_rounds_of_each_kind_leave_memory_flat() {
    for policy in POLICIES {
        for end in [GroupEnd::Reparent, GroupEnd::Linger] {
            churn(end, policy, 50_000);
            let before = resident();
            churn(end, policy, 1_000_000);
            let more = resident().saturating_sub(before);
            println!("{end:?} {policy:?}: {more} bytes more");
            // A hierarchy of its own each time, never freed.
            assert!(more < 4 << 20, "{end:?} {policy:?}: {more}");
        }
    }
}

#[test]
fn last_bytes_freed_everywhere_at_once_end_every_group_once() {
    const THREADS: usize = 4;
    for policy in POLICIES {
        let w = World::new(GroupEnd::Linger, policy);
        let rounds = 150;
        for n in 0..rounds {
            let a = w.create(w.root(), &format!("a{n}"));
            let b = w.create(a, "b");
            w.id(b).unwrap();
            let tags = [a.tag(), b.tag()];
            for tag in tags {
                for _ in 0..THREADS {
                    w.charge(tag, 64);
                }
            }
            std::thread::scope(|s| {
                for _ in 0..THREADS {
                    s.spawn(|| {
                        let (index, rec) = w.engine.tree.threads.join().unwrap();
                        for tag in tags {
                            // Some of it through stock.
                            let _ = w.engine.charge(rec, Request::heap(tag, 8, Flags::NOWAIT));
                            w.engine.uncharge(rec, tag, 64, Kind::Heap);
                            w.engine.uncharge(rec, tag, 8, Kind::Heap);
                        }
                        w.engine.tree.return_all(rec);
                        w.engine.tree.threads.leave(index);
                    });
                }
                w.remove(b);
                w.remove(a);
            });
            w.engine.finish_lingering(w.rec);
            w.engine.reap(w.rec);
            assert_eq!(w.engine.tree.nr_lingering(), 0, "{policy:?}, round {n}");
        }
        assert_eq!(w.engine.tree.nr_lingered(), rounds * 2);
        w.engine.tree.return_all(w.rec);
        assert_empty(&w.engine.tree);
    }
}
