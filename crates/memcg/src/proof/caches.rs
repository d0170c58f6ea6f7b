//! Caches against a naive model: threads allocate for groups, hand over, free, end; the books are what the objects are.

use super::common::Random;
use super::ledger;
use crate::engine::{Engine, Flags};
use crate::group::objcg::Kind;
use crate::group::{ROOT, ROOT_TAG};
use crate::kmem::cache::{CacheStat, Plan, Ways};
use crate::thread::ThreadRec;
use std::collections::BTreeMap;
use std::sync::{Barrier, Mutex};

/// A live object: where, of which cache, whose, and what was written into it.
struct Thing {
    at: usize,
    cache: u32,
    tag: u32,
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
    groups: Vec<(u32, u32)>,
    caches: Vec<(u32, usize)>,
}

impl World {
    fn new(ways: Ways) -> Self {
        let engine = Engine::leaked();
        let (_, rec) = engine.tree.threads.join().unwrap();
        let groups = (0..6)
            .map(|n| {
                let _pin = engine.tree.threads.epoch.pin(rec);
                let root = engine.tree.memcgs.get(ROOT);
                let index = engine.tree.create(root, &[b'a' + n]).unwrap();
                (index, engine.tree.memcgs.get(index).tag())
            })
            .collect();
        let caches = [(24, 8), (200, 64), (1000, 8), (9000, 16)]
            .into_iter()
            .map(|(bytes, align)| {
                let plan = Plan {
                    name: b"thing",
                    bytes,
                    align,
                    ways,
                    ctor: 0,
                };
                (engine.create_cache(rec, &plan).unwrap(), bytes)
            })
            .collect();
        engine.tree.return_all(rec);
        Self {
            engine,
            groups,
            caches,
        }
    }

    fn alloc(&self, rec: &ThreadRec, random: &mut Random) -> Option<Thing> {
        let (cache, bytes) = self.caches[random.next(self.caches.len() as u64) as usize];
        let (_, tag) = self.groups[random.next(self.groups.len() as u64) as usize];
        let scope = self.engine.tree.enter_scope(rec, tag);
        let found = self.engine.alloc_cached(rec, cache, Flags::NOWAIT);
        self.engine.tree.leave_scope(rec, scope);
        let at = found.ok()?.at;
        let mark = random.next(256) as u8;
        // SAFETY: an object of so many bytes.
        unsafe { (at as *mut u8).write_bytes(mark, bytes) };
        let tag = match self.engine.kmem.caches.get(cache).ways() {
            ways if ways.has(Ways::NOACCOUNT) => 0,
            _ => tag,
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
        let mut held = BTreeMap::<u32, u64>::new();
        let mut count = BTreeMap::<u32, usize>::new();
        for thing in live {
            thing.check();
            let bytes = self.engine.kmem.caches.get(thing.cache).charged_bytes();
            *held.entry(thing.tag).or_default() += bytes;
            *count.entry(thing.cache).or_default() += 1;
        }
        for &(_, tag) in &self.groups {
            let counted = tree.objcgs.get(tag).side_bytes(Kind::Slab) - tree.slab_stocked_for(tag);
            assert_eq!(counted, held.get(&tag).copied().unwrap_or(0));
        }
        let high = self.engine.kmem.caches.high_water() as usize;
        let mut stats = vec![CacheStat::default(); high];
        self.engine.kmem.cache_stats(&mut stats);
        for &(cache, _) in &self.caches {
            let active = stats[cache as usize].active;
            assert_eq!(active, count.get(&cache).copied().unwrap_or(0));
            let slabs = self.engine.kmem.caches.get(cache).nr_slabs();
            assert_eq!(stats[cache as usize].slabs, slabs as usize);
        }
    }
}

/// Threads allocate, free, hand over to one another and end; between rounds, at rest, everything adds up.
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
                            0..=8 => own.extend(world.alloc(rec, &mut random)),
                            9..=12 if !own.is_empty() => {
                                let at = random.next(own.len() as u64) as usize;
                                world.free(rec, &own.swap_remove(at));
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
    for &(cache, _) in &world.caches {
        let cache = world.engine.kmem.caches.get(cache);
        assert!(!cache.is_there(), "a dead cache outlives its last object");
    }
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
