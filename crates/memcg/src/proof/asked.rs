//! Who is asked for what: shrinkers of lists, groups that linger among them, and lists of groups
//! that got no kmem id.

use crate::engine::group_end::GroupEnd;
use crate::engine::{Engine, Flags, Request};
use crate::group::id::KmemId;
use crate::group::kind::Kind;
use crate::group::kmem_id::ROOT_ID;
use crate::group::{GroupId, Memcg, ROOT};
use crate::kmem::list_lru::{Link, Verdict};
use crate::kmem::per_id::IdPolicy;
use crate::kmem::shrinker_registry::{Ask, Manner, Ops};
use crate::offline;
use crate::sync::id::Id;
use crate::thread::ThreadRec;
use std::sync::Mutex;

const BYTES: u64 = 4096;
const POLICIES: [IdPolicy; 3] = [
    IdPolicy::ReparentAndFree,
    IdPolicy::ReclaimOfflineFirst,
    IdPolicy::ShrinkableTree,
];

/// A list whose things weigh a page each, and its shrinker, which gives them all up.
struct World {
    engine: &'static Engine,
    rec: &'static ThreadRec,
    list: crate::kmem::id::ListId,
    /// The groups, by index, for which it was asked how much there is.
    asked: Mutex<Vec<GroupId>>,
}

static OPS: Ops = Ops {
    count: |data, ask| {
        // SAFETY: a leaked world.
        let world = unsafe { &*data.cast::<World>() };
        world.asked.lock().unwrap().push(ask.group);
        world.in_list_of(ask)
    },
    scan: |data, ask, nr| {
        // SAFETY: as above.
        Some(unsafe { &*data.cast::<World>() }.give_up(ask, nr))
    },
    let_go: |_| {},
};

unsafe fn let_go(link: *const Link) {
    // SAFETY: the links of these tests are leaked.
    assert!(!unsafe { &*link }.unref());
}

impl World {
    fn new(end: GroupEnd, policy: IdPolicy) -> &'static Self {
        let engine = Engine::leaked();
        assert!(engine.set_group_end(end) && engine.set_id_policy(policy));
        let rec = engine.tree.threads.join().unwrap().1;
        let list = engine.with_lists(rec, |cx| cx.kmem.lists.open(cx, let_go));
        let world: &'static Self = Box::leak(Box::new(Self {
            engine,
            rec,
            list: list.unwrap(),
            asked: Mutex::default(),
        }));
        let manner = Manner {
            per_group: true,
            seeks: 2,
            batch: 128,
            list: Some(world.list),
        };
        let data = core::ptr::from_ref(world).cast();
        // SAFETY: as `OPS` takes it, and for ever.
        unsafe { engine.kmem.shrinkers.register(&OPS, data, manner) }.unwrap();
        world
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

    fn remove(&self, group: &Memcg) {
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec);
        offline::remove(tree, &self.engine.kmem, self.rec, group).unwrap();
    }

    fn charge(&self, group: &Memcg, bytes: u64) {
        let _pin = self.engine.tree.threads.epoch.pin(self.rec);
        self.engine
            .charge(self.rec, Request::heap(group.tag(), bytes, Flags::NOWAIT))
            .unwrap();
    }

    /// Something new of `group` in the list.
    fn put(&self, group: &Memcg, flags: Flags) -> &'static Link {
        self.charge(group, BYTES);
        self.engine.tree.ref_objcg(group.tag());
        let link: &'static Link = Box::leak(Box::new(Link::new(group.tag())));
        self.engine.ready_lists(self.rec, group.tag(), flags);
        self.engine.with_lists(self.rec, |cx| {
            // SAFETY: leaked.
            assert!(unsafe { cx.kmem.lists.add(cx, self.list, link) });
        });
        link
    }

    fn drop(&self, link: &Link) {
        self.engine
            .with_lists(self.rec, |cx| assert!(cx.kmem.lists.del(cx, link)));
        self.forget(link);
    }

    fn forget(&self, link: &Link) {
        self.engine
            .uncharge(self.rec, link.tag(), BYTES, Kind::Heap);
        let _pin = self.engine.tree.threads.epoch.pin(self.rec);
        self.engine.tree.unref_objcg(link.tag());
    }

    fn id(&self, group: &Memcg) -> Option<KmemId> {
        self.engine.tree.kmem_id_if_any(group)
    }

    fn in_list_of(&self, ask: Ask) -> u64 {
        self.count(self.id(self.engine.tree.memcgs.get(ask.group)))
    }

    /// Things in the list of a kmem id.
    fn count(&self, id: Option<KmemId>) -> u64 {
        let Some(id) = id else { return 0 };
        self.engine
            .with_lists(self.rec, |cx| cx.kmem.lists.count(cx, self.list, id))
    }

    fn give_up(&self, ask: Ask, nr: u64) -> u64 {
        let Some(id) = self.id(self.engine.tree.memcgs.get(ask.group)) else {
            return 0;
        };
        let mut look = |link: &Link| {
            self.forget(link);
            Verdict::Removed
        };
        self.engine.with_lists(self.rec, |cx| {
            cx.kmem.lists.walk(cx, self.list, id, nr, &mut look).removed
        })
    }

    /// Reclaims all there is from `group` and below; answers who was asked, in order, each once.
    fn reclaim(&self, group: &Memcg) -> Vec<GroupId> {
        self.asked.lock().unwrap().clear();
        self.engine.reclaim_bytes(self.rec, group, u64::MAX);
        let mut asked = self.asked.lock().unwrap().clone();
        asked.sort_unstable();
        asked.dedup();
        asked
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
}

#[test]
fn a_shrinker_is_asked_for_the_groups_that_have_something_in_its_list() {
    let w = World::new(GroupEnd::Reparent, IdPolicy::default());
    let top = w.create(w.root(), "top");
    let all: Vec<_> = (0..40).map(|n| w.create(top, &format!("{n}"))).collect();
    for group in &all {
        w.charge(group, BYTES);
    }
    for group in &all[..3] {
        w.put(group, Flags::NOWAIT);
    }
    let three: Vec<_> = all[..3].iter().map(|group| group.index()).collect();
    assert_eq!(w.reclaim(top), three);
    assert_eq!(w.reclaim(top), [], "nothing is left");
    // Again after it was found empty; and for what a removed group has left.
    w.put(all[1], Flags::NOWAIT);
    w.put(all[39], Flags::NOWAIT);
    w.remove(all[39]);
    assert_eq!(w.reclaim(top), [top.index(), all[1].index()]);
    assert_eq!(w.count(w.id(top)), 0);
}

#[test]
fn a_list_of_a_group_that_lingers_is_reached_by_reclaim_above_it_and_by_the_reaper() {
    for policy in POLICIES {
        let w = World::new(GroupEnd::Linger, policy);
        for by_reaper in [false, true] {
            let top = w.create(w.root(), if by_reaper { "reaped" } else { "reclaimed" });
            let below = w.create(top, "below");
            for _ in 0..5 {
                w.put(below, Flags::NOWAIT);
            }
            w.remove(below);
            assert_eq!(w.engine.id_stat().lingering, 1);
            assert!(w.current(top) >= 5 * BYTES);
            // Where lists move to the parent, what is charged to the dead is not found by asking
            // for the dead.
            let is_found = !by_reaper || policy != IdPolicy::ReparentAndFree;
            if by_reaper {
                let reaped = w.engine.reap(w.rec);
                assert_eq!((reaped.groups, reaped.gone), (1, u32::from(is_found)));
            } else {
                w.reclaim(top);
                w.engine.finish_lingering(w.rec);
            }
            assert_eq!(w.engine.id_stat().lingering, u32::from(!is_found));
            assert_eq!(w.current(top), if is_found { 0 } else { 5 * BYTES });
            if !is_found {
                w.reclaim(top);
                w.engine.finish_lingering(w.rec);
                assert_eq!(w.engine.id_stat().lingering, 0);
            }
        }
    }
}

#[test]
fn without_an_id_a_thing_is_in_the_list_above_and_charged_to_its_owner_until_there_is_one() {
    for policy in POLICIES {
        let w = World::new(GroupEnd::Linger, policy);
        w.engine.tree.kmem_ids.set_max_id(ROOT_ID.raw() + 2);
        let above = w.create(w.root(), "above");
        let first = w.create(w.root(), "first");
        let second = w.create(above, "second");
        w.put(above, Flags::NOWAIT);
        let kept = w.put(first, Flags::NOWAIT);
        let late = w.put(second, Flags::NOWAIT);
        assert_eq!(w.id(second), None, "{policy:?}");
        assert_eq!(w.count(w.id(above)), 2, "{policy:?}");
        assert_eq!(w.current(second), BYTES);
        assert!(w.engine.id_stat().exhausted > 0);
        // What is charged there is found by reclaim above.
        w.remove(first);
        let is_free_at_once = policy == IdPolicy::ReparentAndFree;
        if policy == IdPolicy::ShrinkableTree {
            w.collect();
            w.put(second, Flags::NOWAIT);
            assert_eq!(w.id(second), None, "the dead keep theirs");
            // The last byte: its id is free with that.
            w.drop(kept);
        }
        // Asked only by who lets shrinkers run.
        let flags = match policy {
            IdPolicy::ReclaimOfflineFirst => {
                w.put(second, Flags::WAIT);
                assert_eq!(w.id(second), None, "the dead keep theirs");
                Flags::WAIT.with(Flags::USER)
            }
            IdPolicy::ReparentAndFree | IdPolicy::ShrinkableTree => Flags::NOWAIT,
        };
        w.collect();
        w.put(second, flags);
        if w.id(second).is_none() {
            // What was asked for its id is done with when the epochs have passed.
            w.collect();
            w.put(second, flags);
        }
        assert!(w.id(second).is_some(), "{policy:?}");
        assert!(w.count(w.id(second)) >= 1);
        assert_eq!(w.engine.id_stat().lingering, u32::from(is_free_at_once));
        // A walk of the list above puts right what is there.
        w.engine
            .with_lists(w.rec, |cx| cx.kmem.lists.sort(cx, w.id(above).unwrap()));
        assert_eq!(w.count(w.id(above)), 1);
        w.drop(late);
        w.reclaim(w.root());
        assert_eq!((w.current(second), w.current(w.root())), (0, 0));
    }
}
