//! Scopes that end in any order, against a model that keeps a list of them all.

#![forbid(unsafe_code)]

use crate::group::thread_scopes::Scope;
use crate::group::{Hierarchy, ROOT, ROOT_TAG, Tag};
use crate::sync::atomic::Ordering::Relaxed;
use crate::thread::{SLOTS, ThreadRec, UNTRACKED};
use proptest::prelude::*;

struct World {
    tree: &'static Hierarchy,
    rec: &'static ThreadRec,
    tags: Vec<Option<Tag>>,
    /// Those that live, as they were entered, each with whom it charges.
    living: Vec<(Scope, Option<Tag>)>,
    misordered: u64,
}

impl World {
    fn new(groups: usize) -> Self {
        let tree = Hierarchy::leaked();
        let rec = tree.threads.join().unwrap().1;
        tree.enter_for_good(rec, ROOT_TAG);
        let root = tree.memcgs.get(ROOT);
        let group = |n| {
            let group = tree.create(root, format!("g{n}").as_bytes()).unwrap();
            Some(tree.memcgs.get(group).tag())
        };
        let tags = core::iter::once(None)
            .chain((1..groups).map(group))
            .collect();
        Self {
            tree,
            rec,
            tags,
            living: Vec::new(),
            misordered: 0,
        }
    }

    fn enter(&mut self, who: usize) {
        let tag = self.tags[who % self.tags.len()];
        self.living
            .push((self.tree.enter_scope(self.rec, tag), tag));
        self.check();
    }

    fn leave(&mut self, which: usize) {
        if !self.living.is_empty() {
            let which = which % self.living.len();
            self.misordered += u64::from(which + 1 < self.living.len());
            let (scope, _) = self.living.remove(which);
            self.tree.leave_scope(self.rec, scope);
        }
        self.check();
    }

    /// Takes stock for whom the thread works for, so that slots are looked for and evicted.
    fn charge(&self, bytes: u64) {
        let Some(tag) = self.rec.current() else {
            return;
        };
        self.tree.charge(self.rec, tag, bytes).unwrap();
        self.tree.uncharge(self.rec, tag, bytes);
    }

    fn check(&self) {
        let deepest = self.living.last().map_or(Some(ROOT_TAG), |(_, tag)| *tag);
        assert_eq!(self.rec.current(), deepest);
        assert_eq!(self.tree.nr_misordered_scopes(), self.misordered);
        assert_eq!(self.rec.is_in_scope(), !self.living.is_empty());
    }

    /// All have ended: nothing is left of them.
    fn finish(self) {
        assert!(self.living.is_empty());
        let scopes = |slot: usize| self.rec.slots[slot].scopes.load(Relaxed);
        let stood_on: Vec<(usize, u32)> = (0..SLOTS)
            .filter(|&slot| slot != UNTRACKED && scopes(slot) != 0)
            .map(|slot| (slot, scopes(slot)))
            .collect();
        assert_eq!(stood_on, [(self.rec.slot_of(Some(ROOT_TAG)).unwrap(), 1)]);
        assert_eq!(scopes(UNTRACKED), 0);
        assert_eq!(self.tree.gaps.in_use(), 0);
        self.tree.return_all(self.rec);
        for tag in self.tags.into_iter().flatten() {
            let _pin = self.tree.threads.epoch.pin(self.rec);
            let group = self.tree.resolve(self.tree.objcgs.get(tag).cell()).group;
            crate::offline::remove_alone(self.tree, group).unwrap();
        }
        for _ in 0..8 {
            self.tree.collect();
        }
        assert_eq!(self.tree.objcgs.in_use(), 1, "no owner is named any more");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Enter(usize),
    Leave(usize),
    LeaveDeepest,
    Charge(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0usize..400).prop_map(Step::Enter),
        2 => (0usize..400).prop_map(Step::Leave),
        2 => Just(Step::LeaveDeepest),
        1 => (1u64..64).prop_map(|n| Step::Charge(n * 8)),
    ];
    proptest::collection::vec(step, 0..600)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Few groups are entered again and again; of many some find no slot.
    #[test]
    fn the_deepest_living_scope_is_charged(
        groups in prop_oneof![Just(4usize), Just(SLOTS + 60)],
        steps in steps(),
        ends in any::<u64>(),
    ) {
        let mut world = World::new(groups);
        for step in steps {
            match step {
                Step::Enter(who) => world.enter(who),
                Step::Leave(which) => world.leave(which),
                Step::LeaveDeepest => world.leave(world.living.len().saturating_sub(1)),
                Step::Charge(bytes) => world.charge(bytes),
            }
        }
        let mut at = ends;
        while !world.living.is_empty() {
            at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            world.leave((at >> 33) as usize);
        }
        world.finish();
    }
}

#[test]
fn as_a_vector_drops_them_a_thousand_scopes_are_one_gap() {
    let mut world = World::new(SLOTS + 60);
    for n in 0..1000 {
        world.enter(n);
    }
    for left in (1..1000).rev() {
        world.leave(0);
        assert_eq!(world.tree.gaps.in_use(), 1, "with {left} scopes left");
    }
    world.leave(0);
    world.finish();
}

#[test]
fn what_a_thread_leaves_after_it_has_left_its_record_changes_nothing() {
    let mut world = World::new(4);
    world.enter(1);
    world.enter(2);
    world.enter(3);
    world.leave(1);
    assert_eq!(world.tree.gaps.in_use(), 1);
    world.tree.return_all(world.rec);
    assert_eq!(world.tree.gaps.in_use(), 0);
    let late = core::mem::take(&mut world.living);
    world.rec.adopt(1, false);
    world.tree.enter_for_good(world.rec, ROOT_TAG);
    for (scope, _) in late {
        world.tree.leave_scope(world.rec, scope);
    }
    world.check();
    world.finish();
}
