//! The real hierarchy against a naive one, threads against threads, and a million groups.
//!
//! The naive model knows objects, who owns them and which groups there are, and computes every sum anew. What it
//! predicts is exact: with one thread at work, a charge succeeds when the objects fit and fails when they do not,
//! whatever is stocked where.

use super::charge::{Mode, Refusal};
use super::objcg::Kind;
use super::stock::Scope;
use super::tree::TreeError;
use super::{Hierarchy, Memcg, NO_TAG, ROOT, ROOT_TAG};
use crate::attach::{MoveError, move_task};
use crate::counter::page_counter::UNLIMITED;
use crate::counter::{Level, Over, try_charge, uncharge};
use crate::offline;
use crate::sync::atomic::Ordering;
use crate::sync::lock::Rank;
use crate::thread::ThreadRec;
use crate::thread::record::FENCED;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Tree = &'static Hierarchy;

/// Charges as an engine does: stock, then drain who is full and try again.
fn charge(tree: Tree, rec: &ThreadRec, tag: u32, bytes: u64) -> Result<(), Refusal> {
    let _pin = tree.threads.epoch.pin(rec);
    let mut outcome = tree.charge(rec, tag, bytes);
    for _ in 0..8 {
        let Err(refusal) = outcome else { break };
        if refusal.group == 0 || !tree.drain_for_charge(rec, tree.memcgs.get(refusal.group)) {
            break;
        }
        outcome = tree.charge_exact(tag, bytes, Mode::Within);
    }
    outcome
}

/// Charges whom the thread works for.
fn charge_current(tree: Tree, rec: &ThreadRec, bytes: u64) -> Result<u32, Refusal> {
    match rec.charge_hit(bytes) {
        Some(tag) => Ok(tag),
        None => charge(tree, rec, rec.current(), bytes).map(|()| rec.current()),
    }
}

fn free(tree: Tree, rec: &ThreadRec, tag: u32, bytes: u64, kind: Kind) {
    if kind == Kind::Heap {
        tree.uncharge(rec, tag, bytes);
        return;
    }
    let _pin = tree.threads.epoch.pin(rec);
    tree.sub_side(tag, bytes, kind);
    tree.uncharge_exact(tag, bytes);
}

fn set_reserve(tree: Tree, group: &Memcg, reserve: u64) -> Result<(), ()> {
    let _held = group.lock.lock(Rank::Group);
    if !group.is_online() {
        return Err(());
    }
    let Some(parent) = group.parent() else {
        return Err(());
    };
    group.counter.set_reserve(
        reserve,
        |more| {
            try_charge(parent, None, more, |_| Over::By(0))
                .map(|_| ())
                .map_err(|_| ())
        },
        |back| {
            if uncharge(parent, None, back).is_err() {
                tree.report_broken();
            }
        },
    )
}

#[derive(Clone, Debug)]
struct Group {
    parent: Option<usize>,
    index: u32,
    max: u64,
    reserve: u64,
    online: bool,
    /// Its usage was above its max when that was written.
    lowered: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum OwnerIs {
    Group,
    Task,
    Dead,
}

#[derive(Clone, Debug)]
struct Owner {
    tag: u32,
    group: usize,
    is: OwnerIs,
}

#[derive(Clone, Copy, Debug)]
struct Object {
    owner: usize,
    bytes: u64,
    kind: Kind,
}

/// Groups, owners and objects, and nothing else.
#[derive(Clone, Default, Debug)]
struct Model {
    groups: Vec<Group>,
    owners: Vec<Owner>,
    objects: BTreeMap<u64, Object>,
}

impl Model {
    fn online(&self) -> Vec<usize> {
        (0..self.groups.len())
            .filter(|&g| self.groups[g].online)
            .collect()
    }

    fn held_by(&self, owner: usize) -> u64 {
        let of = self.objects.values().filter(|o| o.owner == owner);
        of.map(|o| o.bytes).sum()
    }

    /// The exact usage of every group: its objects and what its children need, or have been promised.
    fn usages(&self) -> Vec<u64> {
        let mut usage = vec![0; self.groups.len()];
        for object in self.objects.values() {
            usage[self.owners[object.owner].group] += object.bytes;
        }
        // A child is always behind its parent.
        for g in (0..self.groups.len())
            .rev()
            .filter(|&g| self.groups[g].online)
        {
            if let Some(parent) = self.groups[g].parent {
                usage[parent] += usage[g].max(self.groups[g].reserve);
            }
        }
        usage
    }

    /// Bytes of a kind in a group and below.
    fn of_kind(&self, group: usize, kind: Kind) -> u64 {
        let is_below = |mut at: usize| loop {
            if at == group {
                return true;
            }
            match self.groups[at].parent {
                Some(parent) => at = parent,
                None => return false,
            }
        };
        let of = self.objects.values().filter(|o| o.kind == kind);
        of.filter(|o| is_below(self.owners[o.owner].group))
            .map(|o| o.bytes)
            .sum()
    }

    /// Whether everything fits after a change: no group has grown above its max.
    fn allows(&self, before: &[u64]) -> bool {
        let after = self.usages();
        (0..before.len()).all(|g| after[g] <= before[g] || after[g] <= self.groups[g].max)
    }

    /// What the model would be after `change`, if the limits allow it.
    fn tried(&self, change: impl FnOnce(&mut Self)) -> Option<Self> {
        let mut next = self.clone();
        change(&mut next);
        next.allows(&self.usages()).then_some(next)
    }
}

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
    Leave(usize),
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
        4 => n().prop_map(Step::Leave),
        3 => (n(), n(), limits(), any::<bool>()).prop_map(|(r, g, m, d)| Step::Max(r, g, m, d)),
        2 => (n(), (0u64..4 << 20).prop_map(|n| n / 3)).prop_map(|(g, b)| Step::Reserve(g, b)),
        1 => (n(), n()).prop_map(|(r, g)| Step::Drain(r, g)),
        1 => (n(), any::<bool>()).prop_map(|(r, fenced)| Step::Leaver(r, fenced)),
        1 => Just(Step::Collect),
    ]
}

struct World {
    tree: Tree,
    model: Model,
    recs: Vec<(u32, &'static ThreadRec, Vec<(Scope, usize)>)>,
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
            Kind::Heap => charge(tree, rec, tag, bytes),
            _ => {
                let _pin = tree.threads.epoch.pin(rec);
                let mut outcome = tree.charge_exact(tag, bytes, Mode::Within);
                while let Err(refusal) = outcome {
                    let full = tree.memcgs.get(refusal.group);
                    if !tree.drain_for_charge(rec, full) {
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
                let outcome = offline::remove(tree, self.group(g));
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
                        assert_eq!(rec.charge_hit(bytes), Some(NO_TAG));
                        assert!(rec.uncharge_hit(NO_TAG, bytes));
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
                    let scope = tree.enter_scope(rec, self.model.owners[owner].tag);
                    scopes.push((scope, owner));
                }
            }
            Step::EnterNobody(r) => {
                let (_, rec, scopes) = &mut self.recs[r % nr_recs];
                scopes.push((tree.enter_scope(rec, NO_TAG), NOBODY));
            }
            Step::Leave(r) => {
                let (_, rec, scopes) = &mut self.recs[r % nr_recs];
                if let Some((scope, _)) = scopes.pop() {
                    tree.leave_scope(rec, scope);
                }
            }
            Step::Max(r, g, max, drains_after) => {
                let g = self.any_online(g);
                if g == 0 {
                    return;
                }
                // Before, as the file does; or after: stock that was there may be spent above the new max until then.
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
                let fits = self.model.tried(|model| model.groups[g].reserve = reserve);
                let rec = self.recs[0].1;
                let _pin = tree.threads.epoch.pin(rec);
                let mut outcome = set_reserve(tree, self.group(g), reserve);
                if outcome.is_err() {
                    tree.drain(rec, self.group(0));
                    outcome = set_reserve(tree, self.group(g), reserve);
                }
                assert_eq!(outcome.is_ok(), fits.is_some(), "reserving {reserve}");
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
                offline::remove(self.tree, self.group(g)).unwrap();
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

/// Nothing is left of all but the root, once the epochs have passed.
fn assert_empty(tree: Tree) {
    for _ in 0..8 {
        tree.collect();
    }
    tree.audit().unwrap();
    assert_eq!(tree.memcgs.get(ROOT).counter.usage(), 0);
    assert_eq!(tree.memcgs.get(ROOT).counter.granted(), 0);
    assert_eq!(tree.limbo_len(), 0);
    let in_use = [
        tree.memcgs.in_use(),
        tree.cells.in_use(),
        tree.objcgs.in_use(),
        tree.names.in_use(),
    ];
    assert_eq!(in_use, [1; 4]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

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

/// Small, fast, the same on every run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }
}

mod stress {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::{Duration, Instant};

    const WORKERS: usize = 4;
    const TASKS: usize = 6;

    /// What a worker holds, or hands to another.
    #[derive(Clone, Copy)]
    struct Thing {
        tag: u32,
        bytes: u64,
        kind: Kind,
    }

    fn give_back(tree: Tree, rec: &ThreadRec, thing: Thing) {
        free(tree, rec, thing.tag, thing.bytes, thing.kind);
    }

    /// A name on the own owner of a group that may be going.
    fn hold_group(tree: Tree, index: u32) -> Option<u32> {
        let group = tree.memcgs.get(index);
        let _held = group.lock.lock(Rank::Group);
        group.is_online().then(|| {
            tree.hold_objcg(group.tag());
            group.tag()
        })
    }

    struct Worker {
        tree: Tree,
        random: Random,
        held: Vec<Thing>,
        to: Vec<Sender<Thing>>,
        from: Receiver<Thing>,
        tasks: [u32; TASKS],
    }

    impl Worker {
        /// Charges and frees until told to stop; answers what it holds then.
        fn work(mut self, stop: &AtomicBool) -> Vec<Thing> {
            let (index, rec) = self.tree.threads.join().unwrap();
            while !stop.load(Ordering::Relaxed) {
                match self.random.next(16) {
                    0 => self.short_task(rec),
                    1 => self.in_a_group(rec),
                    2 => self.in_scope(rec),
                    3..=9 => {
                        let tag = self.tasks[self.random.next(TASKS as u64) as usize];
                        self.charge(rec, tag);
                    }
                    10 | 11 => self.hand_over(),
                    _ => self.free_one(rec),
                }
                while let Ok(thing) = self.from.try_recv() {
                    self.held.push(thing);
                }
                while self.held.len() > 400 {
                    self.free_one(rec);
                }
            }
            self.tree.return_all(rec);
            self.tree.threads.leave(index);
            drop(self.to);
            self.held.extend(self.from.iter());
            self.held
        }

        fn bytes(&mut self) -> u64 {
            8 * match self.random.next(20) {
                0 => 1 + self.random.next(32 << 10),
                1..=4 => 1 + self.random.next(1 << 10),
                _ => 1 + self.random.next(32),
            }
        }

        fn charge(&mut self, rec: &ThreadRec, tag: u32) {
            let bytes = self.bytes();
            let kind = match self.random.next(12) {
                0 => Kind::Mapped,
                1 => Kind::Reserved,
                _ => Kind::Heap,
            };
            let charged = if kind == Kind::Heap {
                charge(self.tree, rec, tag, bytes)
            } else {
                let _pin = self.tree.threads.epoch.pin(rec);
                self.tree
                    .charge_exact(tag, bytes, Mode::Within)
                    .map(|()| self.tree.add_side(tag, bytes, kind))
            };
            if charged.is_ok() {
                self.held.push(Thing { tag, bytes, kind });
            }
        }

        fn free_one(&mut self, rec: &ThreadRec) {
            if !self.held.is_empty() {
                let at = self.random.next(self.held.len() as u64) as usize;
                give_back(self.tree, rec, self.held.swap_remove(at));
            }
        }

        fn hand_over(&mut self) {
            if let Some(thing) = self.held.pop() {
                let to = self.random.next(self.to.len() as u64) as usize;
                if let Err(back) = self.to[to].send(thing) {
                    self.held.push(back.0);
                }
            }
        }

        fn short_task(&mut self, rec: &ThreadRec) {
            let pin = self.tree.threads.epoch.pin(rec);
            let group = self.tree.memcgs.get(ROOT);
            let tag = self.tree.new_task(group, b"short", 0).unwrap();
            drop(pin);
            self.charge(rec, tag);
            self.hand_over();
            self.charge(rec, tag);
            let _pin = self.tree.threads.epoch.pin(rec);
            self.tree.end_task(tag);
        }

        fn in_a_group(&mut self, rec: &ThreadRec) {
            let pin = self.tree.threads.epoch.pin(rec);
            let mut found = None;
            let mut at = Some(ROOT);
            for _ in 0..self.random.next(12) {
                at = at.and_then(|index| self.tree.next_in_preorder(ROOT, index));
            }
            if let Some(index) = at {
                found = hold_group(self.tree, index);
            }
            drop(pin);
            if let Some(tag) = found {
                self.charge(rec, tag);
                self.charge(rec, tag);
                let _pin = self.tree.threads.epoch.pin(rec);
                self.tree.release_objcg(tag);
            }
        }

        fn in_scope(&mut self, rec: &ThreadRec) {
            let outer = self.tasks[self.random.next(TASKS as u64) as usize];
            let inner = self.tasks[self.random.next(TASKS as u64) as usize];
            let first = self.tree.enter_scope(rec, outer);
            let second = self.tree.enter_scope(rec, inner);
            for tag in [inner, outer] {
                let bytes = self.bytes();
                if let Ok(charged) = charge_current(self.tree, rec, bytes) {
                    assert_eq!(charged, tag);
                    let kind = Kind::Heap;
                    self.held.push(Thing { tag, bytes, kind });
                }
                if tag == inner && outer != inner {
                    self.tree.leave_scope(rec, second);
                }
            }
            if outer == inner {
                self.tree.leave_scope(rec, second);
            }
            self.tree.leave_scope(rec, first);
        }
    }

    /// Moves, limits, groups that come and go. Ends with all tasks in the root and no groups.
    fn control(tree: Tree, tasks: [u32; TASKS], until: Instant) {
        let (index, rec) = tree.threads.join().unwrap();
        let mut random = Random(0x9e37_79b9);
        let mut groups: Vec<u32> = Vec::new();
        let mut serial = 0;
        while Instant::now() < until {
            let _pin = tree.threads.epoch.pin(rec);
            let any = match groups.len() {
                0 => ROOT,
                n => groups[random.next(n as u64) as usize],
            };
            let group = tree.memcgs.get(any);
            match random.next(16) {
                0..=2 if groups.len() < 12 => {
                    serial += 1;
                    let name = format!("group {serial}");
                    groups.push(tree.create(group, name.as_bytes()).unwrap());
                }
                3..=5 if any != ROOT && offline::remove(tree, group).is_ok() => {
                    groups.retain(|&g| g != any);
                }
                6..=9 => {
                    let task = tasks[random.next(TASKS as u64) as usize];
                    let _ = move_task(tree, rec, task, group);
                }
                10 if any != ROOT => {
                    let _held = group.lock.lock(Rank::Group);
                    group.counter.set_max(random.next(8 << 20));
                }
                11 if any != ROOT => {
                    let _held = group.lock.lock(Rank::Group);
                    group.counter.set_max(UNLIMITED);
                }
                12 => {
                    let _ = set_reserve(tree, group, random.next(1 << 20));
                }
                13 => {
                    tree.drain(rec, group);
                }
                14 => {
                    let usage = tree.usage(group);
                    assert!(usage.mapped + usage.reserved + usage.heap == usage.current);
                }
                _ => tree.each_owner(|line| assert!(line.group != 0)),
            }
        }
        let _pin = tree.threads.epoch.pin(rec);
        for task in tasks {
            move_task(tree, rec, task, tree.memcgs.get(ROOT)).unwrap();
        }
        while !groups.is_empty() {
            groups.retain(|&g| offline::remove(tree, tree.memcgs.get(g)).is_err());
        }
        tree.return_all(rec);
        tree.threads.leave(index);
    }

    pub(super) fn run(tree: Tree, seed: u64) {
        let (index, rec) = tree.threads.join().unwrap();
        let tasks: [u32; TASKS] = std::array::from_fn(|_| {
            let _pin = tree.threads.epoch.pin(rec);
            tree.new_task(tree.memcgs.get(ROOT), b"long", 0).unwrap()
        });
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..WORKERS).map(|_| channel()).unzip();
        let stop = AtomicBool::new(false);
        let held: Vec<Thing> = std::thread::scope(|s| {
            let workers: Vec<_> = receivers
                .into_iter()
                .enumerate()
                .map(|(me, from)| {
                    let worker = Worker {
                        tree,
                        random: Random(seed + me as u64),
                        held: Vec::new(),
                        to: senders.clone(),
                        from,
                        tasks,
                    };
                    let stop = &stop;
                    s.spawn(move || worker.work(stop))
                })
                .collect();
            drop(senders);
            let until = Instant::now() + Duration::from_millis(1200);
            let controller = s.spawn(move || control(tree, tasks, until));
            controller.join().unwrap();
            stop.store(true, Ordering::Relaxed);
            let all = workers.into_iter().flat_map(|w| w.join().unwrap());
            all.collect()
        });
        tree.audit().unwrap();
        {
            let _pin = tree.threads.epoch.pin(rec);
            let expected: u64 = held.iter().map(|thing| thing.bytes).sum();
            assert_eq!(tree.usage(tree.memcgs.get(ROOT)).current, expected);
        }
        for thing in held {
            give_back(tree, rec, thing);
        }
        for task in tasks {
            let _pin = tree.threads.epoch.pin(rec);
            tree.end_task(task);
        }
        tree.return_all(rec);
        tree.threads.leave(index);
        assert_empty(tree);
    }
}

#[test]
fn threads_that_charge_free_and_hand_over_while_groups_and_tasks_change_lose_no_byte() {
    stress::run(Hierarchy::leaked(), 0x2545_f491);
}

#[test]
fn without_membarrier_no_byte_is_lost_either() {
    let tree = Hierarchy::leaked();
    tree.threads.forgo_membarrier();
    stress::run(tree, 0x1234_5678);
}

/// One thread's record, and a place to work.
fn alone() -> (Tree, &'static ThreadRec) {
    let tree = Hierarchy::leaked();
    (tree, tree.threads.join().unwrap().1)
}

/// Bounds that have nothing to do with how many there ever were: some batches wait for three epochs.
const FEW: u32 = 600;

#[test]
fn a_million_groups_created_and_removed_reuse_their_ids() {
    let (tree, rec) = alone();
    for n in 0..1_000_000u32 {
        let _pin = tree.threads.epoch.pin(rec);
        let name = n.to_be_bytes().map(|b| b'a' + (b >> 4));
        let index = tree.create(tree.memcgs.get(ROOT), &name).unwrap();
        offline::remove(tree, tree.memcgs.get(index)).unwrap();
    }
    for (what, high_water) in [
        ("groups", tree.memcgs.high_water()),
        ("cells", tree.cells.high_water()),
        ("owners", tree.objcgs.high_water()),
        ("names", tree.names.high_water()),
    ] {
        assert!(high_water < FEW, "{high_water} {what}");
    }
    assert_empty(tree);
}

#[test]
fn ended_tasks_cost_what_they_leaked_and_that_only_until_it_is_freed() {
    const TASKS: u32 = 100_000;
    let (tree, rec) = alone();
    let group = {
        let _pin = tree.threads.epoch.pin(rec);
        let index = tree.create(tree.memcgs.get(ROOT), b"group").unwrap();
        tree.memcgs.get(index)
    };
    let mut leaked = Vec::new();
    for n in 0..TASKS {
        let pin = tree.threads.epoch.pin(rec);
        let tag = tree.new_task(group, b"task", 0).unwrap();
        drop(pin);
        // Each has two objects and frees one; every tenth frees both.
        for bytes in [64, 4096] {
            charge(tree, rec, tag, bytes).unwrap();
        }
        tree.uncharge(rec, tag, 4096);
        match n % 10 {
            0 => tree.uncharge(rec, tag, 64),
            _ => leaked.push(tag),
        }
        let _pin = tree.threads.epoch.pin(rec);
        tree.end_task(tag);
    }
    let nr_leaked = leaked.len() as u32;
    assert!(tree.objcgs.high_water() < nr_leaked + FEW);
    assert!(tree.names.high_water() < nr_leaked + FEW);
    assert_eq!(tree.cells.in_use(), 2);
    {
        let _pin = tree.threads.epoch.pin(rec);
        assert_eq!(tree.usage(group).current, u64::from(nr_leaked) * 64);
        offline::remove(tree, group).unwrap();
    }
    for tag in leaked {
        tree.uncharge(rec, tag, 64);
    }
    tree.return_all(rec);
    assert_empty(tree);
}

#[test]
fn chains_of_removed_groups_go_with_their_last_survivor() {
    const DEPTH: usize = 50;
    let (tree, rec) = alone();
    let mut survivors = Vec::new();
    for round in 0..2_000 {
        let _pin = tree.threads.epoch.pin(rec);
        let mut at = ROOT;
        let mut chain = Vec::new();
        for _ in 0..DEPTH {
            at = tree.create(tree.memcgs.get(at), b"deeper").unwrap();
            chain.push(at);
            let tag = tree.memcgs.get(at).tag();
            tree.charge_exact(tag, 8, Mode::Within).unwrap();
            survivors.push(tag);
        }
        for index in chain.into_iter().rev() {
            offline::remove(tree, tree.memcgs.get(index)).unwrap();
        }
        // Some of the chain are walked (and halved), and go, before the rest.
        for n in 0..20 {
            let at = (round * 7 + n * 13) % survivors.len();
            tree.uncharge(rec, survivors.swap_remove(at), 8);
        }
    }
    let held = survivors.len() as u64 * 8;
    {
        let _pin = tree.threads.epoch.pin(rec);
        assert_eq!(tree.usage(tree.memcgs.get(ROOT)).current, held);
    }
    assert!(tree.memcgs.high_water() < FEW);
    for tag in survivors {
        tree.uncharge(rec, tag, 8);
    }
    tree.return_all(rec);
    assert_empty(tree);
}

/// A signal handler between any two instructions of what the owner of a record does.
///
/// The processor's single-step flag brings a SIGTRAP after every instruction; its handler charges, frees, enters and
/// leaves, for more owners than there are slots.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod signals {
    use super::*;
    use crate::thread::SLOTS;
    use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64};

    const OWNERS: usize = SLOTS + 3;
    const BYTES: u64 = 16;

    struct Handled {
        tree: Tree,
        rec: &'static ThreadRec,
        tags: [u32; OWNERS],
        /// Whether the handler holds `BYTES` of that owner.
        holds: [AtomicBool; OWNERS],
        traps: AtomicU64,
    }

    static HANDLED: AtomicPtr<Handled> = AtomicPtr::new(core::ptr::null_mut());

    extern "C" fn on_trap(_: libc::c_int) {
        // SAFETY: null, or what `run` leaked.
        let Some(this) = (unsafe { HANDLED.load(Ordering::Relaxed).as_ref() }) else {
            return;
        };
        let (tree, rec) = (this.tree, this.rec);
        let trap = this.traps.fetch_add(1, Ordering::Relaxed);
        let at = (trap.wrapping_mul(0x9e37_79b9) >> 7) as usize % OWNERS;
        let tag = this.tags[at];
        let before = rec.current();
        let scope = tree.enter_scope(rec, tag);
        if this.holds[at].swap(false, Ordering::Relaxed) {
            tree.uncharge(rec, tag, BYTES);
        } else if charge_current(tree, rec, BYTES) == Ok(tag) {
            this.holds[at].store(true, Ordering::Relaxed);
        }
        tree.leave_scope(rec, scope);
        assert_eq!(rec.current(), before);
    }

    /// Runs `f` with a trap after every instruction.
    fn stepped<R>(f: impl FnOnce() -> R) -> R {
        // SAFETY: sets the trap flag, whose signal is handled; the stack is as before.
        unsafe { core::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
        let answer = f();
        // SAFETY: clears it again.
        unsafe { core::arch::asm!("pushfq", "and qword ptr [rsp], -0x101", "popfq") };
        answer
    }

    pub(super) fn run(fenced: bool, rounds: usize) {
        let tree = Hierarchy::leaked();
        if fenced {
            tree.threads.forgo_membarrier();
        }
        let (index, rec) = tree.threads.join().unwrap();
        let (_, other) = tree.threads.join().unwrap();
        let pin = tree.threads.epoch.pin(rec);
        let root = tree.memcgs.get(ROOT);
        let small = tree.memcgs.get(tree.create(root, b"small").unwrap());
        let large = tree.memcgs.get(tree.create(root, b"large").unwrap());
        small.counter.set_max(300 << 10);
        let tags: [u32; OWNERS] = std::array::from_fn(|at| {
            let group = if at % 2 == 0 { small } else { large };
            tree.new_task(group, b"task", 0).unwrap()
        });
        drop(pin);
        let this: &'static Handled = Box::leak(Box::new(Handled {
            tree,
            rec,
            tags,
            holds: std::array::from_fn(|_| AtomicBool::new(false)),
            traps: AtomicU64::new(0),
        }));
        HANDLED.store(core::ptr::from_ref(this).cast_mut(), Ordering::Relaxed);
        // SAFETY: a plain handler for a signal nobody else here uses; zero is an empty mask and no flags.
        unsafe {
            let mut action: libc::sigaction = core::mem::zeroed();
            action.sa_sigaction = on_trap as extern "C" fn(libc::c_int) as usize;
            assert_eq!(
                libc::sigaction(libc::SIGTRAP, &raw const action, core::ptr::null_mut()),
                0
            );
        }
        let mut held: Vec<(u32, u64)> = Vec::with_capacity(1000);
        for round in 0..rounds {
            let (a, b) = (tags[round % OWNERS], tags[(round * 5 + 1) % OWNERS]);
            let scope = stepped(|| tree.enter_scope(rec, a));
            for bytes in [8, 3000, 40 << 10] {
                if let Ok(tag) = stepped(|| charge_current(tree, rec, bytes)) {
                    held.push((tag, bytes));
                }
            }
            let inner = stepped(|| tree.enter_scope(rec, b));
            if stepped(|| charge_current(tree, rec, 8)) == Ok(b) {
                held.push((b, 8));
            }
            stepped(|| tree.leave_scope(rec, inner));
            let target = if round % 2 == 0 { small } else { large };
            let pin = tree.threads.epoch.pin(rec);
            let _ = stepped(|| move_task(tree, rec, a, target));
            if round % 3 == 0 {
                stepped(|| tree.drain(rec, root));
                stepped(|| tree.drain(other, root));
            }
            drop(pin);
            if round % 2 == 1 {
                let (tag, bytes) = held.swap_remove(0);
                stepped(|| tree.uncharge(rec, tag, bytes));
            }
            // A short task and a short group, ended and retired under traps.
            let short = stepped(|| {
                let _pin = tree.threads.epoch.pin(rec);
                let group = tree.memcgs.get(tree.create(large, b"short").unwrap());
                let tag = tree.new_task(group, b"short", 0).unwrap();
                tree.charge(rec, tag, 64).unwrap();
                tree.end_task(tag);
                offline::remove(tree, group).unwrap();
                tag
            });
            stepped(|| tree.uncharge(rec, short, 64));
            stepped(|| tree.leave_scope(rec, scope));
            assert_eq!(rec.current(), NO_TAG);
            tree.audit().unwrap();
            let mut expected: u64 = held.iter().map(|&(_, bytes)| bytes).sum();
            let kept = this.holds.iter().filter(|h| h.load(Ordering::Relaxed));
            expected += kept.count() as u64 * BYTES;
            let _pin = tree.threads.epoch.pin(rec);
            assert_eq!(tree.usage(root).current, expected);
        }
        HANDLED.store(core::ptr::null_mut(), Ordering::Relaxed);
        assert!(this.traps.load(Ordering::Relaxed) > 10_000);
        for (tag, bytes) in held {
            tree.uncharge(rec, tag, bytes);
        }
        for (&tag, holds) in tags.iter().zip(&this.holds) {
            if holds.load(Ordering::Relaxed) {
                tree.uncharge(rec, tag, BYTES);
            }
            let _pin = tree.threads.epoch.pin(rec);
            tree.end_task(tag);
        }
        {
            let _pin = tree.threads.epoch.pin(rec);
            offline::remove(tree, small).unwrap();
            offline::remove(tree, large).unwrap();
        }
        tree.return_all(rec);
        tree.threads.leave(index);
        assert_empty(tree);
    }
}

#[test]
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn a_signal_handler_may_charge_and_enter_between_any_two_instructions() {
    // One after the other: the handler's world is one static.
    signals::run(false, 3);
    signals::run(true, 1);
}
