//! The real hierarchy against a naive one, step by step.
//!
//! Invariants: after every step the real books say what the naive model (`naive_books`) says. That
//! is exact: with one thread at work, a charge succeeds when the objects fit and fails when they do
//! not, whatever is stocked where.
//! Depends on: `naive_books`; `testing::common` for charges that drain before they give up.
//! Never: two threads at work at once. Records of several threads take turns.

#![forbid(unsafe_code)]

use super::naive_books::{Group, Model, Object, Owner, OwnerIs};
use crate::attach::{MoveError, move_task};
use crate::counter::page_counter::UNLIMITED;
use crate::group::exact_charge::Mode;
use crate::group::kind::Kind;
use crate::group::stock::Charged;
use crate::group::thread_scopes::Scope;
use crate::group::tree::TreeError;
use crate::group::{Hierarchy, Memcg, ROOT, ROOT_TAG};
use crate::offline;
use crate::sync::atomic::Ordering;
use crate::testing::common::*;
use crate::thread::ThreadRec;
use crate::thread::id::ThreadId;
use crate::thread::record::FENCED;
use proptest::prelude::*;

/// One step of a history. Numbers choose among what there is, modulo how much there is.
#[derive(Clone, Debug)]
enum Step {
    Create(usize, u8),
    Remove(usize),
    NewTask(usize),
    EndTask(usize),
    Move(usize, usize, usize),
    Charge(usize, usize, u64, Kind),
    ChargeCurrent(usize, u64),
    Free(usize, usize),
    FreeAllOf(usize, usize),
    Enter(usize, usize),
    EnterNobody(usize),
    Leave(usize, usize),
    Max(usize, usize, u64, bool),
    Reserve(usize, u64),
    Drain(usize, usize),
    Leaver(usize, bool),
    Collect,
}

fn sizes() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (1u64..64).prop_map(|n| n * 8),
        4 => (1u64..1024).prop_map(|n| n * 8),
        2 => (1u64..64 << 10).prop_map(|n| n * 8),
        1 => (1u64..1 << 20).prop_map(|n| n * 8),
    ]
}

fn limits() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => Just(UNLIMITED),
        1 => Just(0),
        3 => (0u64..1 << 20).prop_map(|n| n),
        3 => (0u64..16 << 20).prop_map(|n| n),
    ]
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        6 => Just(Kind::Heap),
        1 => Just(Kind::Mapped),
        1 => Just(Kind::Reserved),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let n = any::<usize>;
    prop_oneof![
        4 => (n(), any::<u8>()).prop_map(|(g, len)| Step::Create(g, len)),
        2 => n().prop_map(Step::Remove),
        4 => n().prop_map(Step::NewTask),
        2 => n().prop_map(Step::EndTask),
        4 => (n(), n(), n()).prop_map(|(r, t, g)| Step::Move(r, t, g)),
        16 => (n(), n(), sizes(), kinds()).prop_map(|(r, o, b, k)| Step::Charge(r, o, b, k)),
        8 => (n(), sizes()).prop_map(|(r, b)| Step::ChargeCurrent(r, b)),
        12 => (n(), n()).prop_map(|(r, o)| Step::Free(r, o)),
        2 => (n(), n()).prop_map(|(r, o)| Step::FreeAllOf(r, o)),
        4 => (n(), n()).prop_map(|(r, o)| Step::Enter(r, o)),
        1 => n().prop_map(Step::EnterNobody),
        4 => (n(), prop_oneof![3 => Just(0), 1 => n()]).prop_map(|(r, o)| Step::Leave(r, o)),
        3 => (n(), n(), limits(), any::<bool>()).prop_map(|(r, g, m, d)| Step::Max(r, g, m, d)),
        2 => (n(), (0u64..4 << 20).prop_map(|n| n / 3)).prop_map(|(g, b)| Step::Reserve(g, b)),
        1 => (n(), n()).prop_map(|(r, g)| Step::Drain(r, g)),
        1 => (n(), any::<bool>()).prop_map(|(r, fenced)| Step::Leaver(r, fenced)),
        1 => Just(Step::Collect),
    ]
}

/// A thread's record with its index, and the scopes it is in: what to hand back, and whom the
/// thread charges there.
type Thread = (ThreadId, &'static ThreadRec, Vec<(Scope, usize)>);

struct World {
    tree: Tree,
    model: Model,
    recs: Vec<Thread>,
    next_object: u64,
    next_name: u32,
}

/// The owner of what is charged to nobody.
const NOBODY: usize = usize::MAX;

impl World {
    fn new() -> Self {
        let tree = Hierarchy::leaked();
        let mut model = Model::default();
        model.groups.push(Group {
            parent: None,
            index: ROOT,
            max: UNLIMITED,
            reserve: 0,
            online: true,
            lowered: false,
        });
        model.owners.push(Owner {
            tag: ROOT_TAG,
            group: 0,
            is: OwnerIs::Group,
        });
        let recs = (0..3)
            .map(|_| {
                let (index, rec) = tree.threads.join().unwrap();
                (index, rec, Vec::new())
            })
            .collect();
        Self {
            tree,
            model,
            recs,
            next_object: 0,
            next_name: 0,
        }
    }

    fn group(&self, g: usize) -> &'static Memcg {
        self.tree.memcgs.get(self.model.groups[g].index)
    }

    fn any_online(&self, n: usize) -> usize {
        let online = self.model.online();
        online[n % online.len()]
    }

    fn any_owner(&self, n: usize, is: &[OwnerIs]) -> Option<usize> {
        let all: Vec<usize> = (0..self.model.owners.len())
            .filter(|&o| is.contains(&self.model.owners[o].is))
            .collect();
        (!all.is_empty()).then(|| all[n % all.len()])
    }

    fn charge(&mut self, r: usize, owner: usize, bytes: u64, kind: Kind, current: bool) {
        let (tree, rec) = (self.tree, self.recs[r].1);
        let object = Object { owner, bytes, kind };
        let id = self.next_object;
        self.next_object += 1;
        let fits = self.model.tried(|model| {
            model.objects.insert(id, object);
        });
        let tag = self.model.owners[owner].tag;
        let outcome = match kind {
            Kind::Heap if current => charge_current(tree, rec, bytes).map(|charged| {
                assert_eq!(charged, tag, "the thread charges whom it entered");
            }),
            Kind::Heap | Kind::Page => charge(tree, rec, tag, bytes),
            Kind::Reserved => reserve(tree, rec, tag, bytes),
            Kind::Mapped | Kind::Slab => {
                let _pin = tree.threads.epoch.pin(rec);
                let mut outcome = tree.charge_exact(tag, bytes, Mode::Within);
                while let Err(refusal) = outcome {
                    let full = tree.group_of_refusal(&refusal);
                    if !full.is_some_and(|full| tree.drain_for_charge(rec, full)) {
                        break;
                    }
                    outcome = tree.charge_exact(tag, bytes, Mode::Within);
                }
                if outcome.is_ok() {
                    tree.add_side(tag, bytes, kind);
                }
                outcome
            }
        };
        assert_eq!(
            outcome.is_ok(),
            fits.is_some(),
            "charging {bytes} to owner {owner}: {outcome:?}, usages {:?}",
            self.model.usages()
        );
        if let Some(next) = fits {
            self.model = next;
        }
    }

    fn free(&mut self, r: usize, id: u64) {
        let object = self.model.objects.remove(&id).unwrap();
        let tag = self.model.owners[object.owner].tag;
        free(self.tree, self.recs[r].1, tag, object.bytes, object.kind);
    }

    fn take(&mut self, step: Step) {
        let tree = self.tree;
        let nr_recs = self.recs.len();
        match step {
            Step::Create(g, len) => {
                let g = self.any_online(g);
                let rec = self.recs[0].1;
                let _pin = tree.threads.epoch.pin(rec);
                let mut name = format!("{}-", self.next_name);
                self.next_name += 1;
                while name.len() < usize::from(len) {
                    name.push('x');
                }
                let index = tree.create(self.group(g), name.as_bytes()).unwrap();
                assert_eq!(
                    tree.create(self.group(g), name.as_bytes()),
                    Err(TreeError::Exists)
                );
                assert_eq!(
                    tree.child(self.model.groups[g].index, name.as_bytes()),
                    Some(index)
                );
                self.model.groups.push(Group {
                    parent: Some(g),
                    index,
                    max: UNLIMITED,
                    reserve: 0,
                    online: true,
                    lowered: false,
                });
                self.model.owners.push(Owner {
                    tag: tree.memcgs.get(index).tag(),
                    group: self.model.groups.len() - 1,
                    is: OwnerIs::Group,
                });
            }
            Step::Remove(g) => {
                let g = self.any_online(g);
                let rec = self.recs[0].1;
                let _pin = tree.threads.epoch.pin(rec);
                let outcome = offline::remove_alone(tree, self.group(g));
                let groups = &mut self.model.groups;
                let expected = if g == 0 {
                    Err(TreeError::Root)
                } else if groups.iter().any(|c| c.online && c.parent == Some(g)) {
                    Err(TreeError::HasChildren)
                } else if (self.model.owners.iter()).any(|o| o.group == g && o.is == OwnerIs::Task)
                {
                    Err(TreeError::HasTasks)
                } else {
                    Ok(())
                };
                assert_eq!(outcome, expected);
                if expected.is_ok() {
                    groups[g].online = false;
                    let heir = groups[g].parent.unwrap();
                    for owner in self.model.owners.iter_mut().filter(|o| o.group == g) {
                        owner.group = heir;
                        owner.is = OwnerIs::Dead;
                    }
                }
            }
            Step::NewTask(g) => {
                let g = self.any_online(g);
                let _pin = tree.threads.epoch.pin(self.recs[0].1);
                let tag = tree.new_task(self.group(g), b"task", 0).unwrap();
                self.model.owners.push(Owner {
                    tag,
                    group: g,
                    is: OwnerIs::Task,
                });
            }
            Step::EndTask(t) => {
                let Some(t) = self.any_owner(t, &[OwnerIs::Task]) else {
                    return;
                };
                let _pin = tree.threads.epoch.pin(self.recs[0].1);
                tree.end_task(self.model.owners[t].tag);
                self.model.owners[t].is = OwnerIs::Dead;
            }
            Step::Move(r, t, g) => {
                let Some(t) = self.any_owner(t, &[OwnerIs::Task]) else {
                    return;
                };
                let g = self.any_online(g);
                let rec = self.recs[r % nr_recs].1;
                let fits = self.model.tried(|model| model.owners[t].group = g);
                let _pin = tree.threads.epoch.pin(rec);
                let tag = self.model.owners[t].tag;
                let mut outcome = move_task(tree, rec, tag, self.group(g));
                if matches!(outcome, Err(MoveError::Full(_))) {
                    // What is stocked elsewhere, or by the task, is in the way.
                    tree.drain(rec, self.group(0));
                    outcome = move_task(tree, rec, tag, self.group(g));
                }
                let bytes = self.model.held_by(t);
                assert_eq!(
                    outcome.is_ok(),
                    fits.is_some(),
                    "moving {bytes} to {g}: {outcome:?}, usages {:?}",
                    self.model.usages()
                );
                if let Some(next) = fits {
                    self.model = next;
                }
            }
            Step::Charge(r, o, bytes, kind) => {
                let live = [OwnerIs::Group, OwnerIs::Task];
                let owner = self.any_owner(o, &live).unwrap();
                self.charge(r % nr_recs, owner, bytes, kind, false);
            }
            Step::ChargeCurrent(r, bytes) => {
                let r = r % nr_recs;
                match self.recs[r].2.last() {
                    // What nobody pays for is not in the books.
                    None | Some(&(_, NOBODY)) => {
                        let rec = self.recs[r].1;
                        assert_eq!(rec.charge_hit(bytes), Some(Charged::NOBODY));
                        assert!(rec.uncharge_hit(None, bytes));
                    }
                    Some(&(_, owner)) => self.charge(r, owner, bytes, Kind::Heap, true),
                }
            }
            Step::Free(r, o) => {
                let nr = self.model.objects.len();
                if nr > 0 {
                    let id = *self.model.objects.keys().nth(o % nr).unwrap();
                    self.free(r % nr_recs, id);
                }
            }
            Step::FreeAllOf(r, o) => {
                let owner = o % self.model.owners.len();
                let of = self.model.objects.iter().filter(|(_, o)| o.owner == owner);
                let ids: Vec<u64> = of.map(|(&id, _)| id).collect();
                for id in ids {
                    self.free(r % nr_recs, id);
                }
            }
            Step::Enter(r, o) => {
                let live = [OwnerIs::Group, OwnerIs::Task];
                let owner = self.any_owner(o, &live).unwrap();
                let (_, rec, scopes) = &mut self.recs[r % nr_recs];
                if scopes.len() < 40 {
                    let scope = tree.enter_scope(rec, Some(self.model.owners[owner].tag));
                    scopes.push((scope, owner));
                }
            }
            Step::EnterNobody(r) => {
                let (_, rec, scopes) = &mut self.recs[r % nr_recs];
                scopes.push((tree.enter_scope(rec, None), NOBODY));
            }
            Step::Leave(r, above) => {
                let (_, rec, scopes) = &mut self.recs[r % nr_recs];
                if !scopes.is_empty() {
                    let (scope, _) = scopes.remove(scopes.len() - 1 - above % scopes.len());
                    tree.leave_scope(rec, scope);
                }
            }
            Step::Max(r, g, max, drains_after) => {
                let g = self.any_online(g);
                if g == 0 {
                    return;
                }
                // Drained before, as the file does; or after: stock that was there may be spent
                // above the new max until then.
                let rec = self.recs[r % nr_recs].1;
                let _pin = tree.threads.epoch.pin(rec);
                if drains_after {
                    self.group(g).counter.set_max(max);
                }
                tree.drain(rec, self.group(g));
                self.group(g).counter.set_max(max);
                self.model.groups[g].max = max;
                self.model.groups[g].lowered = self.group(g).counter.usage() > max;
            }
            Step::Reserve(g, reserve) => {
                let g = self.any_online(g);
                if g == 0 {
                    return;
                }
                let larger = reserve > self.model.groups[g].reserve;
                let fits = self
                    .model
                    .tried(|model| model.groups[g].reserve = reserve)
                    .filter(|next| !larger || next.is_room_above(g));
                let rec = self.recs[0].1;
                let _pin = tree.threads.epoch.pin(rec);
                let mut outcome = set_reserve(tree, self.group(g), reserve);
                if outcome.is_none() {
                    tree.drain(rec, self.group(0));
                    outcome = set_reserve(tree, self.group(g), reserve);
                }
                assert_eq!(outcome.is_some(), fits.is_some(), "reserving {reserve}");
                if let Some(next) = fits {
                    self.model = next;
                }
            }
            Step::Drain(r, g) => {
                let g = self.any_online(g);
                let rec = self.recs[r % nr_recs].1;
                let _pin = tree.threads.epoch.pin(rec);
                tree.drain(rec, self.group(g));
                assert_eq!(tree.usage(self.group(g)).stocked, 0);
                assert_eq!(self.group(g).counter.granted(), 0);
            }
            Step::Leaver(r, fenced) => {
                let (index, rec, mut scopes) = self.recs.remove(r % nr_recs);
                if fenced {
                    // In order, as guards do; or not at all, as a thread that exits inside them.
                    for (scope, _) in scopes.drain(..).rev() {
                        tree.leave_scope(rec, scope);
                    }
                } else {
                    for (scope, _) in scopes.drain(..).rev().filter(|(s, _)| s.is_counted()) {
                        tree.leave_scope(rec, scope);
                    }
                }
                tree.return_all(rec);
                tree.threads.leave(index);
                let (index, rec) = tree.threads.join().unwrap();
                if fenced {
                    rec.drain.store(FENCED, Ordering::Relaxed);
                }
                self.recs.push((index, rec, Vec::new()));
            }
            Step::Collect => tree.collect(),
        }
    }

    fn check(&mut self) {
        let tree = self.tree;
        if let Err(discrepancy) = tree.audit() {
            panic!("{discrepancy}");
        }
        let _pin = tree.threads.epoch.pin(self.recs[0].1);
        let usages = self.model.usages();
        for g in self.model.online() {
            let group = self.group(g);
            let found = tree.usage(group);
            assert_eq!(found.current, usages[g], "usage of group {g}");
            assert_eq!(found.current + found.stocked, group.counter.usage());
            for (kind, found) in [
                (Kind::Mapped, found.mapped),
                (Kind::Reserved, found.reserved),
            ] {
                assert_eq!(found, self.model.of_kind(g, kind), "{kind:?} of group {g}");
            }
            let (usage, max) = (group.counter.usage(), self.model.groups[g].max);
            let lowered = &mut self.model.groups[g].lowered;
            *lowered &= usage > max;
            assert!(*lowered || usage <= max, "group {g}: {usage} > {max}");
        }
    }

    /// Everything ended and freed leaves nothing.
    fn finish(mut self) {
        self.tree.recount();
        self.check();
        for id in self.model.objects.keys().copied().collect::<Vec<_>>() {
            self.free(0, id);
        }
        for t in 0..self.model.owners.len() {
            if self.model.owners[t].is == OwnerIs::Task {
                let _pin = self.tree.threads.epoch.pin(self.recs[0].1);
                self.tree.end_task(self.model.owners[t].tag);
                self.model.owners[t].is = OwnerIs::Dead;
            }
        }
        for g in (1..self.model.groups.len()).rev() {
            if self.model.groups[g].online {
                let _pin = self.tree.threads.epoch.pin(self.recs[0].1);
                offline::remove_alone(self.tree, self.group(g)).unwrap();
            }
        }
        for (index, rec, mut scopes) in self.recs.drain(..) {
            for (scope, _) in scopes.drain(..).rev() {
                self.tree.leave_scope(rec, scope);
            }
            self.tree.return_all(rec);
            self.tree.threads.leave(index);
        }
        assert_empty(self.tree);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn after_every_step_the_books_say_what_the_naive_model_says(
        history in proptest::collection::vec(steps(), 1..250),
    ) {
        let mut world = World::new();
        for step in history {
            world.take(step);
            world.check();
        }
        world.finish();
    }
}
