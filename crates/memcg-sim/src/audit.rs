//! The auditor: the engine at rest against the books, and against itself.

#![forbid(unsafe_code)]

use crate::books::{Css, Group, Owner, OwnerIs, What};
use crate::stage::check;
use crate::world::World;
use memcg::testing::engine::By;
use memcg::testing::group::id::KmemId;
use memcg::testing::group::kind::Kind;
use memcg::testing::group::kmem_id::ROOT_ID;
use memcg::testing::group::objcg::State;
use memcg::testing::group::{Event, Memcg};
use memcg::testing::kmem::cache::CacheStat;
use memcg::testing::kmem::id::CacheId;
use std::collections::BTreeMap;

/// Rounds of a collector after which nothing waits, where nobody is pinned.
const GRACE: usize = 8;

/// What happened to a group, here and below, and here.
fn audit_events(g: usize, group: &Memcg, known: &Group, marked: bool) {
    let check = |event: Event, sure: [u64; 2], more: [u64; 2]| {
        for local in [false, true] {
            let (found, at) = (group.nr_events(event, local), usize::from(local));
            let may = sure[at]..=sure[at].saturating_add(more[at]);
            assert!(
                may.contains(&found),
                "{event:?} of group {g}, local: {local}: {found}, not {may:?}"
            );
        }
    };
    check(Event::Oom, known.oom, known.oom_may);
    check(Event::OomKill, known.oom_kill, [0; 2]);
    check(
        Event::OomGroupKill,
        known.oom_group_kill,
        known.oom_group_may,
    );
    check(Event::Inherited, known.inherited, known.inherited_may);
    let tried = if marked {
        [u64::MAX; 2]
    } else {
        known.recharge_may
    };
    check(Event::RechargeFailed, known.recharge_failed, tried);
}

impl World {
    /// Everything there is, looked at.
    pub(crate) fn audit(&mut self) {
        let rec = self.rec();
        self.stage.be_still();
        // Work that was put off is done, except shrinkers' where calls for memory fail.
        let were_marked = self.engine.tree.may_have_marked();
        self.engine.run_deferred(rec, By::All);
        self.stage.adopt_if(were_marked);
        self.engine.finish_lingering(rec);
        self.stage.books.borrow_mut().settle();
        for _ in 0..GRACE {
            self.engine.tree.collect();
        }
        if let Err(wrong) = self.engine.tree.audit() {
            panic!("{wrong}");
        }
        self.audit_groups();
        self.audit_settings();
        self.audit_killed();
        self.audit_generations();
        self.audit_lines();
        self.audit_owners();
        self.audit_objects();
        self.audit_lists();
        self.audit_ids();
    }

    fn audit_groups(&self) {
        let books = self.stage.books.borrow();
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec());
        let usages = books.usages();
        let kinds = [Kind::Mapped, Kind::Reserved, Kind::Slab].map(|kind| books.of_kind(kind));
        for (g, known) in books.groups.iter().enumerate() {
            if known.css == Css::Gone {
                continue;
            }
            let group = tree.memcgs.get(known.index);
            let is = (group.is_online(), group.is_lingering());
            let lingers = known.css == Css::Lingers;
            assert_eq!(
                is,
                (!lingers, lingers),
                "group {g} is there, {:?}",
                known.css
            );
            let usage = tree.usage(group);
            assert_eq!(usage.current, usages[g], "usage of group {g}");
            let found = [usage.mapped, usage.reserved, usage.slab];
            let expected = [0, 1, 2].map(|kind: usize| kinds[kind][g]);
            assert_eq!(found, expected, "mapped, reserved and slab of group {g}");
            // Without memory for its record an event is not counted.
            if !self.ever_failed && self.failing.is_none() {
                audit_events(g, group, known, self.ever_marked);
            }
            let is_task = |o: &&Owner| o.is == OwnerIs::Task && o.group == g;
            let tasks = books.owners.iter().filter(is_task).count();
            assert_eq!(group.nr_tasks() as usize, tasks, "tasks in group {g}");
        }
        let lingering = books.there(Css::Lingers).len();
        assert_eq!(
            tree.nr_lingering() as usize,
            lingering,
            "groups that linger"
        );
        let there = lingering + books.there(Css::Online).len();
        assert_eq!(tree.memcgs.in_use() as usize, there, "records of groups");
    }

    /// Who was told to die is who the books say.
    fn audit_killed(&self) {
        let books = self.stage.books.borrow();
        for (o, owner) in books.owners.iter().enumerate() {
            if owner.is == OwnerIs::Task {
                let is = self.engine.tree.objcgs.get(owner.tag).is_killed();
                assert_eq!(is, owner.killed.is_some(), "task {o} was told to die");
            }
        }
    }

    /// Every owner is charged what its things hold, at the group it is in.
    fn audit_owners(&self) {
        let books = self.stage.books.borrow();
        let tree = &self.engine.tree;
        let _pin = tree.threads.epoch.pin(self.rec());
        for (o, (owner, held)) in books.owners.iter().zip(books.held()).enumerate() {
            let objcg = tree.objcgs.get(owner.tag);
            // One that is charged nothing and has ended may be another's by now.
            let residuals: u64 = owner.residuals.iter().map(|residual| residual.1).sum();
            if held == 0 && owner.is == OwnerIs::Dead {
                assert_eq!(residuals, 0, "owner {o} holds nothing");
                continue;
            }
            assert_ne!(objcg.state(), State::Free, "owner {o} is there");
            let charged = objcg.charged_bytes() - tree.stocked_for(owner.tag);
            assert_eq!(charged + residuals, held, "charged to owner {o}, held");
            let at = tree.resolve(objcg.cell()).group.index();
            assert_eq!(
                at, books.groups[owner.group].index,
                "the group of owner {o}"
            );
            let found = self.stage.residuals_of(&books, o);
            assert_eq!(found, owner.residuals, "what owner {o} left elsewhere");
        }
    }

    /// What the slabs have, and what is written there.
    fn audit_objects(&self) {
        let books = self.stage.books.borrow();
        let kmem = &self.engine.kmem;
        let (mut expected, mut active) = (BTreeMap::new(), BTreeMap::<CacheId, usize>::new());
        for (&id, thing) in &books.things {
            check(id, thing);
            let tag = thing.owner.map(|owner| books.owners[owner].tag);
            match thing.what {
                What::Charge(_) | What::Block => continue,
                What::Heap { .. } => {}
                What::Cached { at, cache } => {
                    let lies_in = kmem.cache_of(at).expect("a live object");
                    let (root, own) = (kmem.caches.get(lies_in).root(), self.caches[cache].index);
                    assert!(lies_in == own || root == Some(own), "an object's cache");
                    *active.entry(lies_in).or_default() += 1;
                }
            }
            *expected.entry(tag).or_insert(0) += thing.bytes;
        }
        let mut found = BTreeMap::new();
        kmem.each_live(|tag, bytes| *found.entry(tag).or_insert(0) += bytes as u64);
        // Tables of the allocator's own are nobody's too.
        expected.remove(&None);
        found.remove(&None);
        assert_eq!(found, expected, "bytes of live objects by owner");
        let mut stats = vec![CacheStat::default(); kmem.caches.high_water() as usize];
        kmem.cache_stats(&mut stats);
        for ((index, cache), stat) in kmem.caches.each().zip(stats.iter().skip(1)) {
            let objects = active.get(&index).copied().unwrap_or(0);
            assert_eq!(stat.active, objects, "live objects of {index:?}");
            assert_eq!(stat.slabs, cache.nr_slabs() as usize, "slabs of {index:?}");
            if cache.is_there() && cache.is_dead() {
                assert!(objects > 0, "the dead {index:?} outlives its last object");
            }
        }
    }

    /// A thing is in the list of its owner's group, or of the nearest above that has lists.
    fn audit_lists(&self) {
        let (tree, lists) = (&self.engine.tree, &self.engine.kmem.lists);
        let all = self
            .stage
            .books
            .borrow()
            .things
            .values()
            .filter(|t| t.listed)
            .count();
        let count_all = || {
            self.engine
                .with_lists(self.rec(), |cx| lists.count_all(cx, self.stage.list))
        };
        assert_eq!(count_all() as usize, all, "things in all lists");
        let ids = (1..tree.kmem_ids.high_water()).map(KmemId::new);
        let ids: Vec<KmemId> = ids.collect();
        // What moved tasks have listed follows when somebody looks at all of a list.
        for &id in ids.iter().filter(|&&id| tree.kmem_ids.holder(id).is_some()) {
            self.engine.with_lists(self.rec(), |cx| lists.sort(cx, id));
        }
        if self.failing.is_some() || self.ever_failed {
            return;
        }
        let mut expected = BTreeMap::<KmemId, u64>::new();
        {
            let books = self.stage.books.borrow();
            let _pin = tree.threads.epoch.pin(self.rec());
            for thing in books.things.values().filter(|thing| thing.listed) {
                let mut g = thing.owner.map_or(0, |owner| books.owners[owner].group);
                let id = loop {
                    let id = tree.kmem_id_if_any(tree.memcgs.get(books.groups[g].index));
                    match (id, books.groups[g].parent) {
                        (None, Some(parent)) => g = parent,
                        (id, _) => break id.unwrap_or(ROOT_ID),
                    }
                };
                *expected.entry(id).or_default() += 1;
            }
        }
        for id in ids {
            let expected = expected.get(&id).copied().unwrap_or(0);
            assert_eq!(
                self.stage.count_of(id),
                expected,
                "things in the list of {id:?}"
            );
        }
    }

    /// Ids are those of the groups that are there.
    fn audit_ids(&self) {
        let tree = &self.engine.tree;
        for _ in 0..GRACE {
            tree.collect();
        }
        let books = self.stage.books.borrow();
        let _pin = tree.threads.epoch.pin(self.rec());
        let mut ids = Vec::new();
        for known in books.groups.iter().filter(|known| known.css != Css::Gone) {
            let id = tree.kmem_id_if_any(tree.memcgs.get(known.index));
            let frees = self.engine.kmem.tables.frees_at_offline();
            assert!(
                id.is_none() || known.css == Css::Online || !frees,
                "an id let go"
            );
            ids.extend(id);
        }
        let nr = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), nr, "an id is one group's");
        assert_eq!(tree.kmem_ids.in_use() as usize, nr, "ids in use");
        assert_eq!(tree.limbo_len(), 0, "records that wait for nobody");
    }
}
