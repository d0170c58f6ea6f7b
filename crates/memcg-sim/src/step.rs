//! A history: what the world is like, and the steps that are taken in it. Made of a seed; written
//! and read as text.
//!
//! A step's numbers choose among what there is when it is taken, modulo how much that is. So a
//! history with some of its steps left out is a history too.

#![forbid(unsafe_code)]

use core::fmt::{self, Write as _};
use memcg::testing::common::Random;
use memcg::testing::engine::group_end::GroupEnd;
use memcg::testing::kmem::per_id::IdPolicy;

macro_rules! ops {
    ($($op:ident $word:literal $weight:literal,)*) => {
        /// What a step does.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Op { $($op,)* }

        /// All, with their names and how often they are met.
        const OPS: &[(Op, &str, u64)] = &[$((Op::$op, $word, $weight),)*];
    };
}

/// Which limit a step sets.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    Max,
    High,
    KmemMax,
    /// `memory.min` or `memory.low`.
    Protect,
}

ops! {
    Create "create" 6,
    Remove "remove" 5,
    Forget "forget" 2,
    NewTask "task" 5,
    EndTask "end" 3,
    Move "move" 6,
    Follow "follow" 1,
    Charge "charge" 14,
    Kmalloc "kmalloc" 14,
    Cached "cached" 14,
    List "list" 14,
    Unlist "unlist" 3,
    Walk "walk" 3,
    Free "free" 18,
    FreeMany "free-many" 2,
    Enter "enter" 5,
    Leave "leave" 5,
    Max "max" 5,
    High "high" 3,
    Protect "protect" 2,
    KmemMax "kmem-max" 2,
    Reserve "reserve" 2,
    Reclaim "reclaim" 3,
    Drain "drain" 2,
    Deferred "deferred" 3,
    Reap "reap" 1,
    Thread "thread" 2,
    NewCache "cache" 2,
    EndCache "end-cache" 1,
    Shrinker "shrinker" 2,
    Fail "fail" 2,
    Heal "heal" 3,
    Trim "trim" 1,
    Policy "oom-policy" 9,
    Offline "offline" 3,
    Score "score" 4,
    Attach "attach" 4,
    Touch "touch" 5,
    Give "give" 3,
    Hold "hold" 4,
    Filter "filter" 2,
    Pool "pool" 3,
    Fork "fork" 1,
    Wait "wait" 1,
    Pay "pay" 1,
    Fallible "fallible" 3,
    Block "block" 3,
    Adopt "adopt" 7,
    Defaults "defaults" 3,
    Kill "kill" 1,
    Stand "stand" 4,
    Look "look" 5,
    Cancel "cancel" 2,
}

/// One step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    pub op: Op,
    /// Which, which, how much, in which way.
    pub n: [u32; 4],
}

/// A world, and what happens in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct History {
    pub end: GroupEnd,
    pub ids: IdPolicy,
    /// Threads, all driven by one.
    pub threads: usize,
    /// The auditor comes after so many steps each.
    pub every: usize,
    pub steps: Vec<Step>,
}

const POLICIES: [IdPolicy; 3] = [
    IdPolicy::ReparentAndFree,
    IdPolicy::ReclaimOfflineFirst,
    IdPolicy::ShrinkableTree,
];

impl History {
    /// That of a seed, with so many steps.
    pub(crate) fn of_seed(seed: u64, nr: usize) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // The first numbers of seeds that are near are near.
        for _ in 0..4 {
            random.next(2);
        }
        let end = [GroupEnd::Reparent, GroupEnd::Linger][random.next(2) as usize];
        let ids = POLICIES[random.next(3) as usize];
        let threads = 1 + random.next(4) as usize;
        let every = 1 << random.next(6);
        // Every history has likings of its own: some steps are rare in it, others frequent.
        let weights: Vec<u64> = OPS
            .iter()
            .map(|&(op, _, weight)| match random.next(6) {
                0 if op != Op::Create => 0,
                1 => weight * 4,
                _ => weight * 2,
            })
            .collect();
        let steps = (0..nr).map(|_| step(&mut random, &weights)).collect();
        Self {
            end,
            ids,
            threads,
            every,
            steps,
        }
    }

    /// The same world, with these steps.
    pub(crate) fn with(&self, steps: Vec<Step>) -> Self {
        Self {
            steps,
            ..self.clone()
        }
    }

    /// As [`fmt::Display`] writes it.
    pub(crate) fn of_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut words = lines.next()?.split(' ').skip(1);
        let mut word = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
        let (end, ids) = (word("end")?, word("ids")?);
        Some(Self {
            end: GroupEnd::of_name(end)?,
            ids: IdPolicy::of_name(ids)?,
            threads: word("threads")?.parse().ok()?,
            every: word("every")?.parse().ok()?,
            steps: lines.map(Step::of_text).collect::<Option<_>>()?,
        })
    }
}

fn step(random: &mut Random, weights: &[u64]) -> Step {
    let mut at = random.next(weights.iter().sum());
    let chosen = weights.iter().position(|&weight| {
        let found = at < weight;
        at = at.saturating_sub(weight);
        found
    });
    let mut n = [0; 4];
    for (i, n) in n.iter_mut().enumerate() {
        // Amounts are small more often than not.
        let below = if i == 2 {
            1 << (4 + random.next(18))
        } else {
            64
        };
        *n = random.next(below) as u32;
    }
    Step {
        op: OPS[chosen.unwrap_or(0)].0,
        n,
    }
}

impl Step {
    fn of_text(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let name = words.next()?;
        let op = OPS.iter().find(|(_, known, _)| *known == name)?.0;
        let n: Vec<u32> = words.map(|n| n.parse().ok()).collect::<Option<_>>()?;
        Some(Self {
            op,
            n: n.try_into().ok()?,
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = OPS.iter().find(|(op, ..)| *op == self.op);
        f.write_str(name.map_or("?", |(_, name, _)| name))?;
        self.n.iter().try_for_each(|n| write!(f, " {n}"))
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (end, ids) = (self.end.name(), self.ids.name());
        let (threads, every) = (self.threads, self.every);
        write!(
            f,
            "world end={end} ids={ids} threads={threads} every={every}"
        )?;
        for step in &self.steps {
            f.write_char('\n')?;
            step.fmt(f)?;
        }
        Ok(())
    }
}

#[test]
fn a_history_is_what_its_text_says_and_what_its_seed_says() {
    let history = History::of_seed(7, 200);
    assert_eq!(
        History::of_text(&history.to_string()),
        Some(history.clone())
    );
    assert_eq!(History::of_seed(7, 200), history);
    assert_ne!(History::of_seed(8, 200).steps, history.steps);
    assert_eq!(History::of_text("world end=linger"), None);
    assert_eq!(Step::of_text("create 1 2 3"), None);
    assert_eq!(Step::of_text("unheard 1 2 3 4"), None);
}
