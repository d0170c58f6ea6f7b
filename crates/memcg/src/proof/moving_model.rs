//! Histories of moves by every policy, against a naive model that knows each object: its owner, its
//! bytes, its kind.

#![forbid(unsafe_code)]

use super::move_policies::child;
use crate::attach::{MoveError, move_task_with};
use crate::counter::Level;
use crate::counter::page_counter::UNLIMITED;
use crate::group::Tag;
use crate::group::exact_charge::Mode;
use crate::group::kind::Kind;
use crate::group::objcg::State;
use crate::group::{GroupId, Memcg, MovePolicy, ROOT};
use crate::offline;
use crate::testing::common::*;
use crate::thread::ThreadRec;
use proptest::prelude::*;

const GROUPS: usize = 6;
const TASKS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Charge(usize, usize, u64, bool),
    Free(usize, usize),
    Move(usize, usize, usize, usize, u64),
    Follow(usize, u64),
    Max(usize, u64),
    Drain,
    Replace(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    let n = any::<usize>;
    let bytes = || {
        prop_oneof![
            3 => (1u64..64).prop_map(|n| n * 8),
            2 => (1u64..64 << 10).prop_map(|n| n * 8),
        ]
    };
    prop_oneof![
        8 => (n(), n(), bytes(), prop::bool::weighted(0.2))
            .prop_map(|(r, t, b, k)| Step::Charge(r, t, b, k)),
        6 => (n(), n()).prop_map(|(r, o)| Step::Free(r, o)),
        6 => (n(), n(), n(), n(), bytes()).prop_map(|(r, t, g, p, e)| Step::Move(r, t, g, p, e)),
        1 => (n(), bytes()).prop_map(|(t, b)| Step::Follow(t, b)),
        2 => (n(), prop_oneof![Just(UNLIMITED), (0u64..1 << 20), (0u64..64 << 10)])
            .prop_map(|(g, m)| Step::Max(g, m)),
        1 => Just(Step::Drain),
        1 => n().prop_map(Step::Replace),
    ]
}

/// An object: whose, how large, counted by kind or not.
#[derive(Clone, Copy, Debug)]
struct Object {
    tag: Tag,
    bytes: u64,
    kind: Kind,
}

struct World {
    tree: Tree,
    recs: [&'static ThreadRec; 2],
    groups: Vec<&'static Memcg>,
    lowered: Vec<bool>,
    tasks: Vec<Tag>,
    objects: Vec<Object>,
    serial: u32,
}

impl World {
    fn new() -> Self {
        let (tree, rec) = alone();
        let other = tree.threads.join().unwrap().1;
        let mut groups = vec![tree.memcgs.get(ROOT)];
        for (at, parent) in [0usize, 0, 1, 1, 2].into_iter().enumerate() {
            let parent = groups[parent].index();
            groups.push(child(tree, rec, parent, &format!("g{at}")));
        }
        assert_eq!(groups.len(), GROUPS);
        let _pin = tree.threads.epoch.pin(rec);
        let tasks = (0..TASKS)
            .map(|t| tree.new_task(groups[1 + t % 2], b"task", 0).unwrap())
            .collect();
        Self {
            tree,
            recs: [rec, other],
            groups,
            lowered: vec![false; GROUPS],
            tasks,
            objects: Vec::new(),
            serial: 0,
        }
    }

    fn live(&self, t: usize) -> Tag {
        let _pin = self.tree.threads.epoch.pin(self.recs[0]);
        self.tree.live_tag(self.tasks[t])
    }

    fn held(&self, tag: Tag) -> u64 {
        let of = self.objects.iter().filter(|o| o.tag == tag);
        of.map(|o| o.bytes).sum()
    }

    /// What a whole move of `tag` would make of every group's usage, stock aside.
    fn fits(&self, tag: Tag, to: &Memcg, but: u64, own_only: bool, twice: bool) -> bool {
        let tree = self.tree;
        let _pin = tree.threads.epoch.pin(self.recs[0]);
        let residuals: Vec<(&Memcg, u64)> = tree
            .residuals(tag)
            .filter_map(|residual| Some((residual.cell_if_any()?, residual.charged_bytes())))
            .map(|(cell, bytes)| (tree.resolve(cell).group, bytes))
            .collect();
        let residual_bytes: u64 = residuals.iter().map(|(_, n)| n).sum();
        let lost = tree.residual_bytes(tag) - tree.stayed_bytes(tag);
        let own = self.held(tag) - residual_bytes - lost;
        let from = tree.resolve(tree.objcgs.get(tag).cell()).group;
        let mut level = Some(to);
        while let Some(group) = level {
            let mut more = 0;
            if twice || !from.is_within(group) {
                more += own - but;
            }
            for (at, n) in &residuals {
                if !own_only && (twice || !at.is_within(group)) {
                    more += n;
                }
            }
            if more > 0 && tree.usage(group).current + more > group.counter.max() {
                return false;
            }
            level = group.parent();
        }
        true
    }

    fn go(&mut self, r: usize, t: usize, g: usize, p: usize, evictable: u64) {
        let (tree, rec) = (self.tree, self.recs[r % 2]);
        let tag = self.live(t % TASKS);
        let to = self.groups[g % GROUPS];
        let (policy, _) = MovePolicy::ALL[p % 7];
        let (residuals, all_residuals) = (tree.stayed_bytes(tag), tree.residual_bytes(tag));
        let from = {
            let _pin = tree.threads.epoch.pin(rec);
            tree.resolve(tree.objcgs.get(tag).cell()).group.index()
        };
        let kinds: u64 = self
            .objects
            .iter()
            .filter(|o| o.tag == tag && o.kind != Kind::Heap)
            .map(|o| o.bytes)
            .sum();
        let own = self.held(tag) - all_residuals;
        let stays = if policy == MovePolicy::Lazy && from != to.index() {
            // Stock is drained first; what is counted by kind goes along.
            evictable.min(own.saturating_sub(kinds))
        } else {
            0
        };
        let fits = match policy {
            MovePolicy::Stay | MovePolicy::BestEffort => true,
            MovePolicy::Lazy | MovePolicy::Leaky => self.fits(tag, to, stays, true, false),
            MovePolicy::ReserveBoth => self.fits(tag, to, 0, false, true),
            MovePolicy::Transfer | MovePolicy::Paged => self.fits(tag, to, 0, false, false),
        };
        let _pin = tree.threads.epoch.pin(rec);
        let go = || move_task_with(tree, rec, self.tasks[t % TASKS], to, policy, evictable);
        let mut outcome = go();
        if matches!(outcome, Err(MoveError::Full(_))) {
            // What is stocked elsewhere, or by the task, is in the way.
            tree.drain(rec, self.groups[0]);
            outcome = go();
        }
        if outcome == Err(MoveError::Scattered) {
            return;
        }
        assert_eq!(outcome.is_ok(), fits, "{policy:?}: {outcome:?}");
        let Ok(moved) = outcome else { return };
        let after = tree.stayed_bytes(tag);
        match policy {
            MovePolicy::Transfer | MovePolicy::ReserveBoth | MovePolicy::Paged => {
                assert_eq!(after, 0, "{policy:?} leaves nothing");
                assert_eq!(moved.stayed, 0);
            }
            MovePolicy::Leaky => assert!(after <= residuals),
            MovePolicy::Lazy => assert!(after <= residuals + stays),
            MovePolicy::BestEffort if self.tree.objcgs.get(tag).state() == State::Task => {
                assert_eq!(moved.stayed, after);
                // Nothing stays that would have found room.
                assert!(after <= residuals || !self.fits_more(from, to), "{moved:?}");
            }
            MovePolicy::Stay | MovePolicy::BestEffort if from == to.index() => {}
            MovePolicy::Stay | MovePolicy::BestEffort => {
                assert_eq!(moved.moved, 0);
                assert_ne!(self.live(t % TASKS), tag);
            }
        }
        let now = tree.objcgs.get(tree.live_tag(self.tasks[t % TASKS]));
        assert!(core::ptr::eq(tree.resolve(now.cell()).group, to));
    }

    /// Whether the levels that bytes from there enter have room left.
    fn fits_more(&self, from: GroupId, to: &Memcg) -> bool {
        let from = self.tree.memcgs.get(from);
        let mut level = Some(to);
        while let Some(group) = level {
            if from.is_within(group) {
                return true;
            }
            if group.counter.max().saturating_sub(group.counter.usage()) < 8 {
                return false;
            }
            level = group.parent();
        }
        true
    }

    fn take(&mut self, step: Step) {
        let tree = self.tree;
        match step {
            Step::Charge(r, t, bytes, by_kind) => {
                let (rec, tag) = (self.recs[r % 2], self.live(t % TASKS));
                let kind = if by_kind { Kind::Reserved } else { Kind::Heap };
                let charged = if by_kind {
                    let _pin = tree.threads.epoch.pin(rec);
                    let charged = tree.charge_exact(tag, bytes, Mode::Within);
                    charged.map(|()| tree.add_side(tag, bytes, kind))
                } else {
                    charge(tree, rec, tag, bytes)
                };
                if charged.is_ok() {
                    self.objects.push(Object { tag, bytes, kind });
                }
            }
            Step::Free(r, o) => {
                if !self.objects.is_empty() {
                    let object = self.objects.swap_remove(o % self.objects.len());
                    let before = tree.residual_bytes(object.tag);
                    free(
                        tree,
                        self.recs[r % 2],
                        object.tag,
                        object.bytes,
                        object.kind,
                    );
                    if tree.objcgs.get(object.tag).state() != State::Free {
                        assert_eq!(
                            tree.residual_bytes(object.tag),
                            before.saturating_sub(object.bytes),
                            "what stayed is paid off first"
                        );
                    }
                }
            }
            Step::Move(r, t, g, p, e) => self.go(r, t, g, p, e),
            Step::Follow(t, bytes) => {
                let tag = self.live(t % TASKS);
                let _pin = tree.threads.epoch.pin(self.recs[0]);
                let before = tree.residual_bytes(tag);
                let followed = tree.follow(tag, bytes);
                assert!(followed <= bytes);
                assert_eq!(tree.residual_bytes(tag), before - followed);
            }
            Step::Max(g, max) => {
                let g = 1 + g % (GROUPS - 1);
                let _pin = tree.threads.epoch.pin(self.recs[0]);
                tree.drain(self.recs[0], self.groups[g]);
                self.groups[g].counter.set_max(max);
                self.lowered[g] = self.groups[g].counter.usage() > max;
            }
            Step::Drain => {
                let _pin = tree.threads.epoch.pin(self.recs[0]);
                tree.drain(self.recs[0], self.groups[0]);
            }
            // A group ends, whatever was left in it, and a new one takes its place.
            Step::Replace(g) => {
                let g = 1 + g % (GROUPS - 1);
                let parent = self.groups[g].parent_index().expect("never the root");
                let _pin = tree.threads.epoch.pin(self.recs[0]);
                if offline::remove_alone(tree, self.groups[g]).is_ok() {
                    self.serial += 1;
                    let name = format!("again {}", self.serial);
                    self.groups[g] = child(tree, self.recs[0], parent, &name);
                    self.lowered[g] = false;
                    // The parent has what was charged there before: no limit is broken by that.
                }
            }
        }
    }

    fn check(&mut self) {
        let tree = self.tree;
        tree.audit().unwrap_or_else(|wrong| panic!("{wrong}"));
        let _pin = tree.threads.epoch.pin(self.recs[0]);
        // Every object is charged to its owner, exactly: in its own word or in a residual.
        let mut expected = [0; GROUPS];
        let mut tags: Vec<Tag> = self.objects.iter().map(|o| o.tag).collect();
        tags.sort_unstable();
        tags.dedup();
        for tag in tags {
            let (held, own) = (self.held(tag), tree.objcgs.get(tag));
            let residuals = tree.residual_bytes(tag);
            assert_eq!(
                own.charged_bytes() - tree.stocked_for(tag) + residuals,
                held
            );
            let mut add = |cell, bytes| {
                let at = tree.resolve(cell).group;
                for (g, group) in self.groups.iter().enumerate() {
                    expected[g] += if at.is_within(group) { bytes } else { 0 };
                }
            };
            add(own.cell(), held - residuals);
            // What a leaky move lost is nobody's, as its answer said.
            for residual in tree.residuals(tag) {
                if let Some(cell) = residual.cell_if_any() {
                    add(cell, residual.charged_bytes());
                }
            }
        }
        for (g, group) in self.groups.iter().enumerate() {
            assert_eq!(tree.usage(group).current, expected[g], "usage of group {g}");
            let (usage, max) = (group.counter.usage(), group.counter.max());
            self.lowered[g] &= usage > max;
            assert!(
                self.lowered[g] || usage <= max,
                "group {g}: {usage} > {max}"
            );
        }
    }

    fn finish(mut self) {
        self.tree.recount();
        self.check();
        for o in std::mem::take(&mut self.objects) {
            free(self.tree, self.recs[1], o.tag, o.bytes, o.kind);
        }
        for task in std::mem::take(&mut self.tasks) {
            let _pin = self.tree.threads.epoch.pin(self.recs[0]);
            self.tree.end_task(task);
        }
        for rec in self.recs {
            self.tree.return_all(rec);
        }
        for group in self.groups.drain(1..).rev() {
            let _pin = self.tree.threads.epoch.pin(self.recs[0]);
            offline::remove_alone(self.tree, group).unwrap();
        }
        assert_empty(self.tree);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn by_whatever_policy_tasks_move_every_object_is_charged_once_and_no_limit_is_passed(
        history in proptest::collection::vec(steps(), 1..150),
    ) {
        let mut world = World::new();
        for step in history {
            world.take(step);
            world.check();
        }
        world.finish();
    }
}
