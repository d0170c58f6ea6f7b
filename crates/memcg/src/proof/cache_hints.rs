//! The cache of a group that a thread used last is found by a hint: never another group's, another
//! cache's, or a dead one.

use super::ledger;
use crate::attach::move_task;
use crate::engine::{Engine, Flags};
use crate::group::{GroupId, ROOT, ROOT_TAG, Tag};
use crate::kmem::cache::{Plan, Ways};
use crate::kmem::id::CacheId;
use crate::offline;
use crate::testing::common::Random;
use crate::thread::ThreadRec;

const GROUPS: usize = 5;
const TASKS: usize = 4;
const CACHES: usize = 3;

struct World {
    engine: &'static Engine,
    rec: &'static ThreadRec,
    random: Random,
    groups: Vec<GroupId>,
    tasks: Vec<Tag>,
    /// With the bytes of an object.
    caches: Vec<(CacheId, usize)>,
    live: Vec<usize>,
    made: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let engine = Engine::leaked();
        let (_, rec) = engine.tree.threads.join().unwrap();
        engine.tree.enter_for_good(rec, ROOT_TAG);
        let mut world = Self {
            engine,
            rec,
            random: Random(seed),
            groups: Vec::new(),
            tasks: Vec::new(),
            caches: Vec::new(),
            live: Vec::new(),
            made: 0,
        };
        (0..GROUPS).for_each(|_| world.add_group());
        (0..CACHES).for_each(|_| world.add_cache());
        let _pin = engine.tree.threads.epoch.pin(rec);
        let root = engine.tree.memcgs.get(ROOT);
        world.tasks = (0..TASKS)
            .map(|_| engine.tree.new_task(root, b"task", 0).unwrap())
            .collect();
        drop(_pin);
        world
    }

    fn some(&mut self, below: usize) -> usize {
        self.random.next(below as u64) as usize
    }

    fn add_group(&mut self) {
        let tree = &self.engine.tree;
        self.made += 1;
        let _pin = tree.threads.epoch.pin(self.rec);
        let name = self.made.to_string();
        let root = tree.memcgs.get(ROOT);
        self.groups
            .push(tree.create(root, name.as_bytes()).unwrap());
    }

    /// Of either slab kind, of a size that no other has.
    fn add_cache(&mut self) {
        self.made += 1;
        let bytes = 64 + 16 * (self.made as usize % 200);
        let kind = [Ways::default(), Ways::MAGAZINES][self.some(2)];
        let plan = Plan {
            name: b"thing",
            bytes,
            align: 16,
            ways: Ways::PER_GROUP.with(kind),
            ctor: None,
        };
        let cache = self.engine.create_cache(self.rec, &plan).unwrap();
        self.caches.push((cache, bytes));
    }

    /// For a group, a task, or the root: it lies where it belongs.
    fn alloc(&mut self) {
        let (engine, tree) = (self.engine, &self.engine.tree);
        let tag = match self.some(8) {
            0..=3 => *self.random.of(&self.tasks),
            4..=6 => tree.memcgs.get(*self.random.of(&self.groups)).tag(),
            _ => ROOT_TAG,
        };
        let (cache, bytes) = *self.random.of(&self.caches);
        let scope = tree.enter_scope(self.rec, Some(tag));
        for _ in 0..3 {
            let found = engine.alloc_cached(self.rec, cache, Flags::WAIT).unwrap();
            let lies_in = engine.kmem.cache_of(found.at).unwrap();
            let record = engine.kmem.caches.get(lies_in);
            let _pin = tree.threads.epoch.pin(self.rec);
            let group_of = |tag| tree.resolve(tree.objcgs.get(tag).cell()).group.index();
            let group = group_of(tag);
            if group == ROOT {
                assert_eq!(lies_in, cache);
            } else {
                let owner = record.owner().unwrap();
                assert_eq!((record.root(), group_of(owner)), (Some(cache), group));
            }
            assert!(!record.is_dead() && record.charged_bytes() == bytes as u64);
            self.live.push(found.at);
        }
        tree.leave_scope(self.rec, scope);
    }

    fn step(&mut self) {
        let (engine, tree) = (self.engine, &self.engine.tree);
        match self.some(40) {
            0..=27 => self.alloc(),
            28..=33 if !self.live.is_empty() => {
                let at = self.some(self.live.len());
                // SAFETY: live; ends here.
                unsafe { engine.free_cached(self.rec, self.live.swap_remove(at), false) };
            }
            34..=36 => {
                let task = *self.random.of(&self.tasks);
                let group = self.some(GROUPS + 1);
                let group = self.groups.get(group).copied().unwrap_or(ROOT);
                let _pin = tree.threads.epoch.pin(self.rec);
                move_task(tree, self.rec, task, tree.memcgs.get(group)).unwrap();
            }
            37 => {
                let at = self.some(GROUPS);
                let group = self.groups[at];
                let is_gone = {
                    let _pin = tree.threads.epoch.pin(self.rec);
                    let group = tree.memcgs.get(group);
                    offline::remove(tree, &engine.kmem, self.rec, group).is_ok()
                };
                // It stays where a task is in it.
                if is_gone {
                    self.groups.swap_remove(at);
                    self.add_group();
                }
            }
            38 => {
                let at = self.some(CACHES);
                let (cache, _) = self.caches.swap_remove(at);
                engine.destroy_cache(self.rec, cache);
                self.add_cache();
            }
            _ => {
                // All that has ended may be another's from here on: cells, ids, numbers of caches.
                if self.some(2) == 0 {
                    for at in core::mem::take(&mut self.live) {
                        // SAFETY: live; ends here.
                        unsafe { engine.free_cached(self.rec, at, false) };
                    }
                }
                for _ in 0..4 {
                    tree.collect();
                }
            }
        }
    }
}

#[test]
fn an_object_lies_in_its_groups_cache_whatever_moved_ended_and_began_meanwhile() {
    for seed in 1..=4 {
        let mut world = World::new(seed * 0x9e37_79b9);
        (0..6_000).for_each(|_| world.step());
        ledger::check(world.engine);
    }
}

#[test]
fn a_dead_cache_that_a_thread_still_has_gives_nothing() {
    for kind in [Ways::default(), Ways::MAGAZINES] {
        let mut world = World::new(7);
        let (engine, rec) = (world.engine, world.rec);
        let tree = &engine.tree;
        let (_, other) = tree.threads.join().unwrap();
        let plan = Plan {
            name: b"thing",
            bytes: 64,
            align: 8,
            ways: Ways::PER_GROUP.with(kind),
            ctor: None,
        };
        let cache = engine.create_cache(rec, &plan).unwrap();
        let group = tree.memcgs.get(world.groups.pop().unwrap());
        // Its owner stays as long as somebody stands in its scope.
        let scope = tree.enter_scope(other, Some(group.tag()));
        let take = || {
            let at = engine.alloc_cached(other, cache, Flags::WAIT).unwrap().at;
            (at, engine.kmem.cache_of(at).unwrap())
        };
        let first: Vec<_> = (0..3).map(|_| take()).collect();
        let child = first[0].1;
        assert!(child != cache && first.iter().all(|of| of.1 == child));
        {
            let _in_a_hit = other.enter().unwrap();
            let _pin = tree.threads.epoch.pin(rec);
            offline::remove(tree, &engine.kmem, rec, group).unwrap();
        }
        let record = engine.kmem.caches.get(child);
        assert!(record.is_there() && record.is_dead());
        let late: Vec<_> = (0..3).map(|_| take()).collect();
        assert!(late.iter().all(|of| of.1 == cache), "{late:?} {child:?}");
        for (at, _) in first.into_iter().chain(late) {
            // SAFETY: live; ends here.
            unsafe { engine.free_cached(rec, at, false) };
        }
        tree.leave_scope(other, scope);
        let _pin = tree.threads.epoch.pin(rec);
        engine.kmem.tend_caches(tree);
        assert!(!record.is_there());
        ledger::check(engine);
    }
}
