//! Histories of groups that linger against a naive model: who is there, what it holds, which id it
//! has.

use super::{POLICIES, World};
use crate::counter::Level;
use crate::engine::group_end::GroupEnd;
use crate::group::Memcg;
use crate::group::Tag;
use crate::group::id::KmemId;
use crate::group::kmem_id::ROOT_ID;
use crate::kmem::per_id::IdPolicy;
use crate::testing::common::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Create(usize),
    Charge(usize, u64),
    Free(usize),
    Remove(usize),
    UseId(usize),
    Reserve(usize, u64),
    Collect,
}

fn steps() -> impl Strategy<Value = Step> {
    let any = 0..1000usize;
    prop_oneof![
        3 => any.clone().prop_map(Step::Create),
        6 => (any.clone(), 1..600u64).prop_map(|(g, n)| Step::Charge(g, n * 8)),
        6 => any.clone().prop_map(Step::Free),
        3 => any.clone().prop_map(Step::Remove),
        3 => any.clone().prop_map(Step::UseId),
        1 => (any, 0..100u64).prop_map(|(g, n)| Step::Reserve(g, n * 64)),
        1 => Just(Step::Collect),
    ]
}

/// What the naive model knows of a group.
struct Known {
    group: &'static Memcg,
    tag: Tag,
    parent: usize,
    online: bool,
    gone: bool,
    id: Option<KmemId>,
    bytes: u64,
}

struct Model {
    w: World,
    policy: IdPolicy,
    groups: Vec<Known>,
    objects: Vec<(usize, u64)>,
}

impl Model {
    fn below(&self, g: usize) -> impl Iterator<Item = usize> + '_ {
        (1..self.groups.len()).filter(move |&c| self.groups[c].parent == g && !self.groups[c].gone)
    }

    /// Those that have been removed and hold nothing, here or below, are gone.
    fn settle(&mut self) {
        loop {
            let over = (1..self.groups.len()).find(|&g| {
                let known = &self.groups[g];
                !known.online && !known.gone && known.bytes == 0 && self.below(g).next().is_none()
            });
            let Some(over) = over else { return };
            self.groups[over].gone = true;
            self.groups[over].id = None;
        }
    }

    fn pick(&self, n: usize, wanted: impl Fn(&Known) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.groups.len())
            .filter(|&g| wanted(&self.groups[g]))
            .collect();
        (!all.is_empty()).then(|| all[n % all.len()])
    }

    fn take(&mut self, step: Step, n: usize) {
        match step {
            Step::Create(g) => {
                let parent = self.pick(g, |known| known.online).unwrap();
                let group = self.w.create(self.groups[parent].group, &format!("g{n}"));
                self.groups.push(Known {
                    group,
                    tag: group.tag(),
                    parent,
                    online: true,
                    gone: false,
                    id: None,
                    bytes: 0,
                });
            }
            Step::Charge(g, bytes) => {
                // Also in the name of those that linger.
                let g = self.pick(g, |known| !known.gone).unwrap();
                self.w.charge(self.groups[g].tag, bytes);
                self.groups[g].bytes += bytes;
                self.objects.push((g, bytes));
            }
            Step::Free(o) => {
                if !self.objects.is_empty() {
                    let at = o % self.objects.len();
                    let (g, bytes) = self.objects.swap_remove(at);
                    self.w.free(self.groups[g].tag, bytes);
                    self.groups[g].bytes -= bytes;
                }
            }
            Step::Remove(g) => {
                let leaf = |known: &Known| known.online && known.parent != usize::MAX;
                if let Some(g) = self.pick(g, leaf)
                    && !self.below(g).any(|c| self.groups[c].online)
                {
                    self.w.remove(self.groups[g].group);
                    self.groups[g].online = false;
                    if self.policy == IdPolicy::ReparentAndFree {
                        self.groups[g].id = None;
                    }
                }
            }
            Step::UseId(g) => {
                let g = self.pick(g, |known| known.online).unwrap();
                let id = self.w.id(self.groups[g].group).unwrap();
                let mut at = g;
                while at != usize::MAX {
                    let has = self.w.engine.tree.kmem_id_if_any(self.groups[at].group);
                    assert!(has.is_some(), "those above have one");
                    let known = self.groups[at].id.replace(has.unwrap());
                    assert!(known.is_none_or(|known| Some(known) == has), "it stays");
                    at = self.groups[at].parent;
                }
                assert_eq!(self.groups[g].id, Some(id));
            }
            Step::Reserve(g, bytes) => {
                let child = |known: &Known| known.online && known.parent != usize::MAX;
                if let Some(g) = self.pick(g, child) {
                    let _pin = self.w.engine.tree.threads.epoch.pin(self.w.rec);
                    set_reserve(&self.w.engine.tree, self.groups[g].group, bytes).unwrap();
                }
            }
            Step::Collect => self.w.collect(),
        }
        self.settle();
    }

    fn check(&self) {
        self.w.audit();
        let lingering = |known: &&Known| !known.online && !known.gone;
        let nr = self.groups.iter().filter(lingering).count();
        assert_eq!(self.w.engine.tree.nr_lingering() as usize, nr);
        let mut ids = Vec::new();
        for (g, known) in self
            .groups
            .iter()
            .enumerate()
            .filter(|(_, known)| !known.gone)
        {
            assert_eq!(known.group.is_lingering(), !known.online);
            assert_eq!(
                self.w
                    .current(known.group)
                    .max(known.group.counter.reserve()),
                self.total_with_reserves(g),
                "group {g}"
            );
            let id = self.w.engine.tree.kmem_id_if_any(known.group);
            assert_eq!(id, known.id, "group {g}");
            ids.extend(id);
        }
        let n = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), n, "ids are unique among holders");
    }

    /// What the group passes up, stock left out.
    fn total_with_reserves(&self, g: usize) -> u64 {
        let below: u64 = self.below(g).map(|c| self.total_with_reserves(c)).sum();
        (self.groups[g].bytes + below).max(self.groups[g].group.counter.reserve())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lingering_groups_and_ids_are_those_of_the_naive_model(
        policy in 0..3usize,
        history in proptest::collection::vec(steps(), 1..120),
    ) {
        let w = World::new(GroupEnd::Linger, POLICIES[policy]);
        let root = Known {
            group: w.root(),
            tag: w.root().tag(),
            parent: usize::MAX,
            online: true,
            gone: false,
            id: Some(ROOT_ID),
            bytes: 0,
        };
        let mut model = Model { w, policy: POLICIES[policy], groups: vec![root], objects: Vec::new() };
        for (n, step) in history.into_iter().enumerate() {
            model.take(step, n);
            model.check();
        }
        let (w, objects) = (model.w, model.objects);
        for (g, bytes) in objects {
            w.free(model.groups[g].tag, bytes);
        }
        while let Some(group) = model.groups.iter().rev().find(|known| {
            known.group.is_online() && known.group.parent().is_some()
                && known.group.nr_descendants() == 0
        }) {
            w.remove(group.group);
        }
        w.engine.tree.return_all(w.rec);
        w.engine.finish_lingering(w.rec);
        assert_empty(&w.engine.tree);
    }
}
