//! Who is refused and who is charged above a limit, against the table done once more.
//!
//! Invariants: after every step the groups hold what the naive table says, and who was refused was
//! refused by the group that it names. There are no tasks, so `kill` has nobody to tell.
//! Depends on: nothing of the engine's rules. Usage, limits and policies are kept here anew.
//! Never: a refusal of who cannot be refused because of stock, wherever that lies.

#![forbid(unsafe_code)]

use crate::counter::page_counter::UNLIMITED;
use crate::engine::{Engine, Flags, Request};
use crate::group::{Kind, Memcg, OomPolicy, ROOT};
use crate::thread::ThreadRec;
use proptest::prelude::*;

/// The groups: root, its child, two below that. Each one's parent comes before it.
const PARENTS: [Option<usize>; 4] = [None, Some(0), Some(1), Some(1)];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Caller {
    Door,
    Malloc,
    Infallible,
    Force,
}

#[derive(Clone, Debug)]
enum Step {
    /// By which thread, to which group, how much.
    Charge(usize, usize, u64, Caller, Kind),
    Free(usize, usize),
    Max(usize, u64),
    Policy(usize, OomPolicy),
    DebtMax(usize, u64),
    /// A thread goes into `fallible`, or out of it.
    Fallible(usize),
}

fn sizes() -> impl Strategy<Value = u64> {
    prop_oneof![
        (1u64..64).prop_map(|n| n * 8),
        (1u64..1024).prop_map(|n| n * 8),
        (1u64..4096).prop_map(|n| n * 8),
    ]
}

fn bounds(below: u64) -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(UNLIMITED), 1 => Just(0), 4 => 0..below]
}

fn steps() -> impl Strategy<Value = Step> {
    let (n, thread) = (|| 1..PARENTS.len(), || 0..2usize);
    let caller = prop_oneof![
        2 => Just(Caller::Door),
        3 => Just(Caller::Malloc),
        4 => Just(Caller::Infallible),
        1 => Just(Caller::Force),
    ];
    let kind =
        prop_oneof![4 => Just(Kind::Heap), 1 => Just(Kind::Reserved), 1 => Just(Kind::Mapped)];
    let policy = proptest::sample::select(OomPolicy::ALL.map(|(policy, _)| policy).to_vec());
    prop_oneof![
        16 => (thread(), n(), sizes(), caller, kind)
            .prop_map(|(t, g, bytes, caller, kind)| Step::Charge(t, g, bytes, caller, kind)),
        6 => (thread(), any::<usize>()).prop_map(|(t, n)| Step::Free(t, n)),
        2 => (n(), bounds(128 << 10)).prop_map(|(g, max)| Step::Max(g, max)),
        2 => (n(), policy).prop_map(|(g, policy)| Step::Policy(g, policy)),
        1 => (n(), bounds(64 << 10)).prop_map(|(g, max)| Step::DebtMax(g, max)),
        1 => thread().prop_map(Step::Fallible),
    ]
}

/// A group as the table sees it.
#[derive(Clone, Copy)]
struct Level {
    used: u64,
    max: u64,
    policy: OomPolicy,
    debt_max: u64,
}

impl Level {
    fn has_room(&self, bytes: u64, over: u64) -> bool {
        self.used + bytes <= self.max.saturating_add(over)
    }

    fn may_go_over_by(&self, caller: Caller) -> u64 {
        match (self.policy, caller) {
            (OomPolicy::Observe, _) | (_, Caller::Force) => UNLIMITED,
            (OomPolicy::Deny, _) | (_, Caller::Door) | (OomPolicy::Default, Caller::Malloc) => 0,
            (
                OomPolicy::Default | OomPolicy::Debt | OomPolicy::Kill,
                Caller::Infallible | Caller::Malloc,
            ) => self.debt_max,
        }
    }
}

struct World {
    engine: &'static Engine,
    threads: Vec<&'static ThreadRec>,
    groups: Vec<&'static Memcg>,
    levels: Vec<Level>,
    fallible: Vec<Option<crate::thread::record::InFallible<'static>>>,
    held: Vec<(usize, u64, Kind)>,
}

impl World {
    fn new() -> Self {
        let engine = Engine::leaked();
        let join = |_| engine.tree.threads.join().unwrap().1;
        let threads: Vec<&ThreadRec> = (0..2).map(join).collect();
        let mut groups = vec![engine.tree.memcgs.get(ROOT)];
        for parent in PARENTS.into_iter().flatten() {
            let _pin = engine.tree.threads.epoch.pin(threads[0]);
            let name = [b'a' + groups.len() as u8];
            let index = engine.tree.create(groups[parent], &name).unwrap();
            groups.push(engine.tree.memcgs.get(index));
        }
        let level = Level {
            used: 0,
            max: UNLIMITED,
            policy: OomPolicy::Default,
            debt_max: UNLIMITED,
        };
        Self {
            engine,
            threads,
            groups,
            levels: vec![level; PARENTS.len()],
            fallible: vec![None, None],
            held: Vec::new(),
        }
    }

    fn path(g: usize) -> impl Iterator<Item = usize> {
        core::iter::successors(Some(g), |&g| PARENTS[g])
    }

    /// What the table says of a charge: by whom it is refused, if it is.
    fn refuser(&self, t: usize, g: usize, bytes: u64, caller: Caller) -> Option<usize> {
        let full = Self::path(g).find(|&at| !self.levels[at].has_room(bytes, 0))?;
        let is_of_allocator = matches!(caller, Caller::Malloc | Caller::Infallible);
        let is_fallible = is_of_allocator && self.fallible[t].is_some();
        if caller == Caller::Force
            || is_fallible && bytes < 4096
            || Self::path(g).any(|at| self.levels[at].policy == OomPolicy::Observe)
        {
            return None;
        }
        if caller == Caller::Door || is_fallible {
            return Some(full);
        }
        let kills = |at: &usize| {
            self.levels[*at].policy == OomPolicy::Kill && !self.levels[*at].has_room(bytes, 0)
        };
        let nobody_left = Self::path(g).find(kills);
        nobody_left
            .filter(|_| caller == Caller::Malloc)
            .or_else(|| {
                Self::path(g).find(|&at| {
                    let level = &self.levels[at];
                    !level.has_room(bytes, level.may_go_over_by(caller))
                })
            })
    }

    fn drain(&self, group: &Memcg) {
        let _pin = self.engine.tree.threads.epoch.pin(self.threads[0]);
        self.engine.tree.drain(self.threads[0], group);
    }

    fn charge(&mut self, t: usize, g: usize, bytes: u64, caller: Caller, kind: Kind) {
        let flags = match caller {
            Caller::Door => Flags::NOWAIT,
            Caller::Malloc => Flags::MALLOC,
            Caller::Infallible => Flags::INFALLIBLE,
            Caller::Force => Flags::FORCE,
        };
        let tag = self.groups[g].tag();
        let request = Request {
            tag,
            bytes,
            kind,
            flags,
        };
        let refuser = self.refuser(t, g, bytes, caller);
        if refuser.is_some() {
            // Stock of before the group was full may be spent by anybody.
            self.drain(self.groups[0]);
        }
        let mut answer = self.engine.charge(self.threads[t], request);
        let is_refusable = caller == Caller::Door
            || caller == Caller::Malloc
            || self.fallible[t].is_some() && bytes >= 4096;
        if answer.is_err() && refuser.is_none() && is_refusable {
            // A look at stock may be due later only; nobody dies of that who can be refused.
            self.drain(self.groups[0]);
            answer = self.engine.charge(self.threads[t], request);
        }
        let by = answer.map_err(|why| why.refusal.group);
        let expected = refuser.map(|at| Some(self.groups[at].index()));
        assert_eq!(by.err(), expected, "{caller:?} asks for {bytes} in {g}");
        if refuser.is_none() {
            Self::path(g).for_each(|at| self.levels[at].used += bytes);
            self.held.push((g, bytes, kind));
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Charge(t, g, bytes, caller, kind) => self.charge(t, g, bytes, caller, kind),
            Step::Free(t, n) if !self.held.is_empty() => {
                let (g, bytes, kind) = self.held.swap_remove(n % self.held.len());
                let tag = self.groups[g].tag();
                self.engine.uncharge(self.threads[t], tag, bytes, kind);
                Self::path(g).for_each(|at| self.levels[at].used -= bytes);
            }
            Step::Free(..) => {}
            // What files do: stock goes with every write.
            Step::Max(g, max) => {
                self.drain(self.groups[g]);
                self.groups[g].counter.set_max(max);
                self.levels[g].max = max;
            }
            Step::Policy(g, policy) => {
                self.groups[g].set_oom_policy(policy);
                self.drain(self.groups[g]);
                self.levels[g].policy = policy;
            }
            Step::DebtMax(g, bytes) => {
                self.groups[g].set_debt_max(bytes);
                self.drain(self.groups[g]);
                self.levels[g].debt_max = bytes;
            }
            Step::Fallible(t) => {
                self.fallible[t] = match self.fallible[t].take() {
                    Some(_) => None,
                    None => {
                        let inside = self.threads[t].begin_fallible();
                        self.engine.tree.return_forced(self.threads[t]);
                        Some(inside)
                    }
                };
            }
        }
    }

    fn check(&self) {
        let _pin = self.engine.tree.threads.epoch.pin(self.threads[0]);
        for (g, (group, level)) in self.groups.iter().zip(&self.levels).enumerate() {
            let found = self.engine.tree.usage(group).current;
            assert_eq!(found, level.used, "what group {g} holds");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whoever_asks_is_answered_as_the_table_says(
        history in proptest::collection::vec(steps(), 1..150),
    ) {
        let mut world = World::new();
        for step in history {
            world.take(step);
            world.check();
        }
    }
}
