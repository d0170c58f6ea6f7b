//! Caches against a naive model: threads allocate for groups, hand over, free, end; the books are
//! what the objects are.

use super::ledger;
use crate::engine::worker::By;
use crate::engine::{Engine, Flags};
use crate::group::Tag;
use crate::group::kind::Kind;
use crate::group::objcg::State;
use crate::group::{GroupId, ROOT, ROOT_TAG};
use crate::kmem::cache::{CacheStat, Plan, Ways};
use crate::kmem::id::CacheId;
use crate::offline;
use crate::testing::common::Random;
use crate::thread::ThreadRec;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Barrier, Mutex};

/// A live object: where, of which cache, whose, and what was written into it.
struct Thing {
    at: usize,
    cache: CacheId,
    tag: Option<Tag>,
    bytes: usize,
    mark: u8,
}

impl Thing {
    fn check(&self) {
        for place in [0, self.bytes / 2, self.bytes - 1] {
            // SAFETY: in the object.
            let found = unsafe { (self.at as *const u8).add(place).read() };
            assert_eq!(found, self.mark);
        }
    }
}

struct World {
    engine: &'static Engine,
    /// By index.
    groups: Mutex<Vec<GroupId>>,
    nr_groups: AtomicU32,
    caches: Vec<(CacheId, usize)>,
}

impl World {
    fn new(ways: Ways) -> Self {
        let engine = Engine::leaked();
        let (_, rec) = engine.tree.threads.join().unwrap();
        let caches = [(24, 8), (200, 64), (1000, 8), (9000, 16)]
            .into_iter()
            .map(|(bytes, align)| {
                let plan = Plan {
                    name: b"thing",
                    bytes,
                    align,
                    ways,
                    ctor: None,
                };
                (engine.create_cache(rec, &plan).unwrap(), bytes)
            })
            .collect();
        let world = Self {
            engine,
            groups: Mutex::default(),
            nr_groups: AtomicU32::new(0),
            caches,
        };
        for _ in 0..6 {
            world.add_group(rec, &mut world.groups.lock().unwrap());
        }
        engine.tree.return_all(rec);
        world
    }

    fn add_group(&self, rec: &ThreadRec, groups: &mut Vec<GroupId>) {
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(rec);
        let name = self.nr_groups.fetch_add(1, Ordering::Relaxed).to_string();
        groups.push(tree.create(tree.memcgs.get(ROOT), name.as_bytes()).unwrap());
    }

    /// One group less, whatever it holds, and a new one.
    fn replace_group(&self, rec: &ThreadRec, random: &mut Random) {
        let mut groups = self.groups.lock().unwrap();
        let at = random.next(groups.len() as u64) as usize;
        let group = groups.swap_remove(at);
        {
            let _pin = self.engine.tree.threads.epoch.pin(rec);
            let group = self.engine.tree.memcgs.get(group);
            offline::remove(&self.engine.tree, &self.engine.kmem, rec, group).unwrap();
        }
        self.add_group(rec, &mut groups);
    }

    /// Whom to work for, named until it is released.
    fn some_owner(&self, random: &mut Random) -> Tag {
        let groups = self.groups.lock().unwrap();
        let group = groups[random.next(groups.len() as u64) as usize];
        let tag = self.engine.tree.memcgs.get(group).tag();
        self.engine.tree.ref_objcg(tag);
        tag
    }

    fn alloc(&self, rec: &ThreadRec, random: &mut Random) -> Option<Thing> {
        let (cache, bytes) = self.caches[random.next(self.caches.len() as u64) as usize];
        let tag = self.some_owner(random);
        let tree = &self.engine.tree;
        let scope = tree.enter_scope(rec, Some(tag));
        let flags = [Flags::NOWAIT, Flags::WAIT][random.next(2) as usize];
        let found = self.engine.alloc_cached(rec, cache, flags);
        tree.leave_scope(rec, scope);
        {
            let _pin = tree.threads.epoch.pin(rec);
            tree.unref_objcg(tag);
        }
        let at = found.ok()?.at;
        let mark = random.next(256) as u8;
        // SAFETY: an object of so many bytes.
        unsafe { (at as *mut u8).write_bytes(mark, bytes) };
        let tag = match self.engine.kmem.caches.get(cache).ways() {
            ways if ways.has(Ways::NOACCOUNT) => None,
            _ => Some(tag),
        };
        Some(Thing {
            at,
            cache,
            tag,
            bytes,
            mark,
        })
    }

    fn free(&self, rec: &ThreadRec, thing: &Thing) {
        thing.check();
        // SAFETY: live; ends here.
        unsafe { self.engine.free_cached(rec, thing.at, false) };
    }

    /// The books are what `live` says.
    fn check(&self, live: &[Thing]) {
        let tree = &self.engine.tree;
        ledger::check(self.engine);
        let mut held = BTreeMap::<Option<Tag>, u64>::new();
        let mut count = BTreeMap::<CacheId, usize>::new();
        for thing in live {
            thing.check();
            let bytes = self.engine.kmem.caches.get(thing.cache).charged_bytes();
            *held.entry(thing.tag).or_default() += bytes;
            *count.entry(thing.cache).or_default() += 1;
        }
        for (tag, owner) in tree.objcgs.each() {
            if owner.state() != State::Free {
                let counted = owner.side_bytes(Kind::Slab) - tree.slab_stocked_for(tag);
                assert_eq!(counted, held.get(&Some(tag)).copied().unwrap_or(0));
            }
        }
        let high = self.engine.kmem.caches.high_water() as usize;
        let mut stats = vec![CacheStat::default(); high];
        self.engine.kmem.cache_stats(&mut stats);
        let mut active = BTreeMap::<CacheId, usize>::new();
        for ((index, cache), stat) in self.engine.kmem.caches.each().zip(stats.iter().skip(1)) {
            assert_eq!(stat.slabs, cache.nr_slabs() as usize);
            let root = cache.root().unwrap_or(index);
            *active.entry(root).or_default() += stat.active;
        }
        for &(cache, _) in &self.caches {
            let count = count.get(&cache).copied().unwrap_or(0);
            assert_eq!(active[&cache], count);
        }
    }

    /// Caches there are, alive or dead.
    fn nr_caches(&self) -> usize {
        let caches = &self.engine.kmem.caches;
        caches.each().filter(|(_, cache)| cache.is_there()).count()
    }
}

/// Threads allocate, free, hand over to one another and end; between rounds, at rest, everything
/// adds up.
fn storm(ways: Ways, rounds: u64) {
    let world = World::new(ways);
    let shared = Mutex::new(Vec::new());
    for round in 0..rounds {
        let barrier = Barrier::new(3);
        std::thread::scope(|s| {
            for me in 0..3 {
                let (world, shared, barrier) = (&world, &shared, &barrier);
                s.spawn(move || {
                    let engine = world.engine;
                    let (index, rec) = engine.tree.threads.join().unwrap();
                    engine.tree.enter_for_good(rec, ROOT_TAG);
                    let mut random = Random(0x1234_5678 + round * 31 + me);
                    let mut own = Vec::new();
                    barrier.wait();
                    for _ in 0..6_000 {
                        match random.next(16) {
                            0..=7 => own.extend(world.alloc(rec, &mut random)),
                            8..=9 | 12 if !own.is_empty() => {
                                let at = random.next(own.len() as u64) as usize;
                                world.free(rec, &own.swap_remove(at));
                            }
                            10 if random.next(100) == 0 => world.replace_group(rec, &mut random),
                            11 if random.next(20) == 0 => {
                                engine.run_deferred(rec, By::All);
                            }
                            13 => shared.lock().unwrap().extend(own.pop()),
                            _ => {
                                let thing: Option<Thing> = shared.lock().unwrap().pop();
                                if let Some(thing) = thing {
                                    world.free(rec, &thing);
                                }
                            }
                        }
                    }
                    shared.lock().unwrap().extend(own);
                    engine.kmem.leave_caches(rec);
                    engine.tree.return_all(rec);
                    engine.tree.threads.leave(index);
                });
            }
        });
        world.check(&shared.lock().unwrap());
    }
    let (_, rec) = world.engine.tree.threads.join().unwrap();
    let all: Vec<Thing> = core::mem::take(&mut shared.lock().unwrap());
    for &(cache, _) in &world.caches {
        world.engine.destroy_cache(rec, cache);
        assert!(world.engine.kmem.caches.get(cache).is_dead());
    }
    for thing in &all {
        world.free(rec, thing);
    }
    assert_eq!(
        world.nr_caches(),
        0,
        "a dead cache outlives its last object"
    );
    world.engine.kmem.leave_caches(rec);
    world.engine.tree.return_all(rec);
    ledger::check(world.engine);
    let root = world.engine.tree.memcgs.get(ROOT);
    assert_eq!(root.counter.usage(), 0);
    assert_eq!(root.side_kind(Kind::Slab), 0);
}

#[test]
fn what_caches_hold_is_what_the_books_say() {
    storm(Ways::default(), 4);
}

#[test]
fn full_slabs_in_a_list_change_nothing_but_the_cost() {
    storm(Ways::TRACKED, 3);
}

#[test]
fn constructed_and_unaccounted_objects_live_by_the_same_rules() {
    storm(Ways::CONSTRUCTED.with(Ways::NOACCOUNT), 3);
}

#[test]
fn every_group_has_slabs_of_its_own_and_leaves_them_to_their_last_object() {
    storm(Ways::PER_GROUP, 4);
}

#[test]
fn slabs_handed_over_one_by_one_change_nothing_but_the_cost() {
    storm(Ways::TRACKED.with(Ways::PER_GROUP), 4);
}

#[test]
fn a_cache_whose_full_slabs_are_listed_hands_all_over_and_is_gone_at_once() {
    let world = World::new(Ways::TRACKED.with(Ways::PER_GROUP));
    let engine = world.engine;
    let tree = &engine.tree;
    let (_, rec) = tree.threads.join().unwrap();
    let (cache, _) = world.caches[0];
    let group = world.groups.lock().unwrap()[0];
    let things: Vec<_> = (0..5_000)
        .map(|_| take(&world, rec, group, cache, Flags::WAIT))
        .collect();
    let child = engine.kmem.caches.get(things[0].1);
    let heir = engine.kmem.caches.get(cache);
    assert_eq!((child.nr_slabs(), heir.nr_slabs()), (3, 0));
    {
        let _pin = tree.threads.epoch.pin(rec);
        offline::remove(tree, &engine.kmem, rec, tree.memcgs.get(group)).unwrap();
        engine.kmem.tend_caches(tree);
    }
    assert_eq!((child.is_there(), heir.nr_slabs()), (false, 3));
    assert_eq!(engine.kmem.cache_of(things[0].0), Some(cache));
    for thing in &things {
        // SAFETY: live; ends here.
        unsafe { engine.free_cached(rec, thing.0, false) };
    }
    ledger::check(engine);
}

/// An object for a group, and the cache it lies in.
fn take(
    world: &World,
    rec: &ThreadRec,
    group: GroupId,
    cache: CacheId,
    flags: Flags,
) -> (usize, CacheId) {
    let tree = &world.engine.tree;
    let scope = tree.enter_scope(rec, Some(tree.memcgs.get(group).tag()));
    let at = world.engine.alloc_cached(rec, cache, flags).unwrap().at;
    tree.leave_scope(rec, scope);
    (at, world.engine.kmem.cache_of(at).unwrap())
}

#[test]
fn who_may_not_wait_gets_an_object_of_the_cache_itself_charged_to_its_owner() {
    let world = World::new(Ways::PER_GROUP);
    let engine = world.engine;
    let (_, rec) = engine.tree.threads.join().unwrap();
    let (cache, _) = world.caches[1];
    let group = world.groups.lock().unwrap()[0];
    let (first, of) = take(&world, rec, group, cache, Flags::NOWAIT);
    assert_eq!(of, cache);
    let bytes = engine.kmem.caches.get(cache).charged_bytes();
    assert_eq!(engine.tree.slab_bytes(engine.tree.memcgs.get(group)), bytes);
    assert_eq!(engine.run_deferred(rec, By::Engine), 1);
    let (second, child) = take(&world, rec, group, cache, Flags::NOWAIT);
    let (third, same) = take(&world, rec, group, cache, Flags::WAIT);
    assert!(child != cache && same == child);
    let other = world.groups.lock().unwrap()[1];
    let (fourth, others) = take(&world, rec, other, cache, Flags::WAIT);
    assert!(others != cache && others != child);
    for at in [first, second, third, fourth] {
        // SAFETY: live; ends here.
        unsafe { engine.free_cached(rec, at, false) };
    }
    ledger::check(engine);
}

#[test]
fn a_dead_cache_is_the_parents_allocates_nothing_and_ends_with_its_last_object() {
    let world = World::new(Ways::PER_GROUP);
    let engine = world.engine;
    let tree = &engine.tree;
    let (_, rec) = tree.threads.join().unwrap();
    let (cache, _) = world.caches[0];
    let group = world.groups.lock().unwrap()[0];
    let things: Vec<_> = (0..5_000)
        .map(|_| take(&world, rec, group, cache, Flags::WAIT))
        .collect();
    let child = things[0].1;
    let record = engine.kmem.caches.get(child);
    assert!(things.iter().all(|thing| thing.1 == child) && record.nr_slabs() == 3);
    let tag = tree.memcgs.get(group).tag();
    tree.ref_objcg(tag);
    {
        let _pin = tree.threads.epoch.pin(rec);
        offline::remove(tree, &engine.kmem, rec, tree.memcgs.get(group)).unwrap();
        let owner = tree.objcgs.get(record.owner().unwrap()).cell();
        assert_eq!(tree.resolve(owner).group.index(), ROOT);
    }
    assert!(record.is_dead() && record.nr_slabs() == 3);
    // Who still works for the removed group is served by the cache itself.
    let scope = tree.enter_scope(rec, Some(tag));
    let late = engine.alloc_cached(rec, cache, Flags::WAIT).unwrap().at;
    tree.leave_scope(rec, scope);
    assert_eq!(engine.kmem.cache_of(late), Some(cache));
    let held = tree.slab_bytes(tree.memcgs.get(ROOT));
    assert_eq!(held, 5_001 * record.charged_bytes());
    let (last, rest) = things.split_last().unwrap();
    for thing in rest {
        // SAFETY: live; ends here.
        unsafe { engine.free_cached(rec, thing.0, false) };
    }
    assert_eq!(record.nr_slabs(), 1, "a slab goes the moment it is empty");
    assert!(record.is_there());
    for at in [last.0, late] {
        // SAFETY: live; ends here.
        unsafe { engine.free_cached(rec, at, false) };
    }
    assert!(!record.is_there());
    ledger::check(engine);
}

#[test]
fn a_group_that_ends_without_an_object_leaves_no_cache_and_no_owner() {
    for ways in [Ways::PER_GROUP, Ways::PER_GROUP.with(Ways::MAGAZINES)] {
        let world = World::new(ways);
        let engine = world.engine;
        let (_, rec) = engine.tree.threads.join().unwrap();
        let (cache, _) = world.caches[0];
        let caches = world.nr_caches();
        let owners = engine.tree.objcgs.in_use();
        for _ in 0..20 {
            world.add_group(rec, &mut world.groups.lock().unwrap());
            let group = world.groups.lock().unwrap().pop().unwrap();
            let (at, child) = take(&world, rec, group, cache, Flags::WAIT);
            assert_ne!(child, cache);
            // SAFETY: live; ends here. A hit: what it leaves is in the thread's slot.
            unsafe { engine.free_cached(rec, at, false) };
            let _pin = engine.tree.threads.epoch.pin(rec);
            let group = engine.tree.memcgs.get(group);
            offline::remove(&engine.tree, &engine.kmem, rec, group).unwrap();
            assert_eq!(world.nr_caches(), caches);
        }
        engine.tree.return_all(rec);
        for _ in 0..8 {
            engine.tree.collect();
        }
        assert_eq!(engine.tree.objcgs.in_use(), owners);
    }
}

#[test]
fn an_empty_magazine_does_not_outlive_its_cache() {
    let world = World::new(Ways::MAGAZINES);
    let engine = world.engine;
    let (_, rec) = engine.tree.threads.join().unwrap();
    let (_, other) = engine.tree.threads.join().unwrap();
    let (cache, _) = world.caches[0];
    let group = world.groups.lock().unwrap()[0];
    let (at, _) = take(&world, rec, group, cache, Flags::WAIT);
    // SAFETY: live; ends here, in another thread's magazine.
    unsafe { engine.free_cached(other, at, false) };
    engine.kmem.reap_caches(&engine.tree, true);
    assert_eq!(engine.kmem.caches.get(cache).nr_slabs(), 0);
    engine.destroy_cache(rec, cache);
    // The next of its number is of the other slab kind: what the slot has would be taken for a
    // slab.
    let plan = Plan {
        name: b"next",
        bytes: 24,
        align: 8,
        ways: Ways::default(),
        ctor: None,
    };
    let next = (0..10).find(|_| {
        engine.tree.collect();
        engine.create_cache(rec, &plan) == Some(cache)
    });
    assert!(next.is_some(), "the number is used again");
    let things: Vec<_> = (0..100)
        .map(|_| take(&world, other, group, cache, Flags::WAIT).0)
        .collect();
    for at in things {
        // SAFETY: live; ends here.
        unsafe { engine.free_cached(rec, at, false) };
    }
    for rec in [rec, other] {
        engine.kmem.leave_caches(rec);
        engine.tree.return_all(rec);
    }
    ledger::check(engine);
}

#[test]
fn magazines_hand_objects_on_between_threads_and_groups() {
    storm(Ways::MAGAZINES, 4);
    storm(Ways::MAGAZINES.with(Ways::CONSTRUCTED), 2);
}

#[test]
fn magazines_of_every_group_of_its_own() {
    storm(Ways::MAGAZINES.with(Ways::PER_GROUP), 3);
}

#[test]
fn the_reaper_takes_what_is_not_used_and_leaves_what_is() {
    let world = World::new(Ways::MAGAZINES);
    let engine = world.engine;
    let (_, rec) = engine.tree.threads.join().unwrap();
    let (cache, _) = world.caches[1];
    let group = world.groups.lock().unwrap()[0];
    let things: Vec<_> = (0..5_000)
        .map(|_| take(&world, rec, group, cache, Flags::WAIT).0)
        .collect();
    let record = engine.kmem.caches.get(cache);
    let slabs = record.nr_slabs();
    for at in things {
        // SAFETY: live; ends here.
        unsafe { engine.free_cached(rec, at, false) };
    }
    // The array and the magazine hold objects of slabs that are otherwise empty; a few empty ones
    // are kept.
    let kept = record.nr_slabs();
    assert!(slabs == 20 && kept > 0 && kept <= 8, "{slabs} {kept}");
    engine.kmem.reap_caches(&engine.tree, false);
    for _ in 0..100 {
        engine.kmem.reap_caches(&engine.tree, false);
    }
    assert_eq!(record.nr_slabs(), 0);
    ledger::check(engine);
    let at = take(&world, rec, group, cache, Flags::WAIT).0;
    engine.kmem.reap_caches(&engine.tree, true);
    assert_eq!(record.nr_slabs(), 1);
    // SAFETY: live; ends here.
    unsafe { engine.free_cached(rec, at, false) };
    ledger::check(engine);
}
