//! Those who wait for room, against what can be said of them without knowing how lines are kept.
//!
//! Histories of reservations that wait, ask at the door, are cancelled, polled late, with limits
//! that change, groups that are killed and removed, and time that passes only where the history
//! says so: the thread has a clock of its own, and the process no worker.
//!
//! Invariants: after every step a group holds what was handed out, and at most what was granted
//! and not taken yet. No charge is made beyond a max. Who is woken has an answer, and who has an
//! answer was woken. While the first of all waits for one group, nobody who needs that group passes
//! him, for a second at least. Who waits cannot be served, once everything has been looked at.
//! Depends on: the public face, and the clock of a thread's own.
//! Never: the machine's clock.

#![forbid(unsafe_code)]

use super::own_process;
use crate::api::{Charge, Memcg, Reserve, WaitError, root, run_deferred};
use crate::engine::Work;
use crate::engine::process_engine::engine;
use crate::os::clock::own;
use crate::units::Limit;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::sync::Arc;
use std::task::Wake;

/// What sizes are multiples of: as much as no stock is given out for.
const UNIT: u64 = 64 << 10;
const MS: u64 = 1_000_000;
/// As the face says.
const PATIENCE: u64 = 1000 * MS;
const STUCK: u64 = 10_000 * MS;
const TRY: u64 = 100 * MS;

/// The groups: one, two below it, one below the first of these.
const PARENTS: [Option<usize>; 4] = [None, Some(0), Some(0), Some(1)];
/// The one that may be removed.
const LEAF: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// In which group, how many units, how many ms to wait at most.
    Wait(usize, u64, Option<u64>),
    Ask(usize, u64),
    Free(usize),
    Cancel(usize),
    Poll(usize),
    Max(usize, u64),
    Kill(usize),
    Remove,
    Sleep(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    let group = || 0..PARENTS.len();
    let units = || 1..12u64;
    let timeout = prop_oneof![3 => Just(None), 1 => (1..3000u64).prop_map(Some)];
    let ms = prop_oneof![4 => 1..200u64, 2 => 200..1500u64, 1 => 9_000..12_000u64];
    prop_oneof![
        8 => (group(), units(), timeout).prop_map(|(g, n, ms)| Step::Wait(g, n, ms)),
        6 => (group(), units()).prop_map(|(g, n)| Step::Ask(g, n)),
        8 => any::<usize>().prop_map(Step::Free),
        2 => any::<usize>().prop_map(Step::Cancel),
        6 => any::<usize>().prop_map(Step::Poll),
        3 => (group(), 4..24u64).prop_map(|(g, n)| Step::Max(g, n)),
        1 => group().prop_map(Step::Kill),
        1 => Just(Step::Remove),
        3 => ms.prop_map(Step::Sleep),
    ]
}

#[derive(Default)]
struct Bell(AtomicU32);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Waiting {
    reserve: Reserve,
    bell: Arc<Bell>,
    group: usize,
    bytes: u64,
    since: u64,
    deadline: Option<u64>,
    /// It was woken where it would have passed another, if it was served: whom, in which group.
    passed: Option<(u64, usize)>,
    /// In the order in which they came.
    number: u64,
}

impl Waiting {
    fn is_woken(&self) -> bool {
        self.bell.0.load(Ordering::Relaxed) > 0
    }
}

/// Who was the first of all, and waited for room in this group alone.
#[derive(Clone, Copy)]
struct First {
    number: u64,
    full: usize,
    /// The line cannot have lost its patience before.
    closed_until: u64,
}

struct World {
    groups: Vec<Memcg>,
    max: Vec<u64>,
    is_removed: bool,
    /// In the order of their numbers.
    waiting: Vec<Waiting>,
    held: Vec<(usize, Charge)>,
    now: u64,
    next: u64,
    /// Since when somebody has waited below, without a break.
    waited_since: Vec<Option<u64>>,
}

impl World {
    fn new(now: u64) -> Self {
        own::set(Some(now));
        let top = root().create(format!("model-{now}")).unwrap();
        let mut groups = vec![top];
        for parent in PARENTS.into_iter().flatten() {
            let name = format!("g{}", groups.len());
            groups.push(groups[parent].create(name).unwrap());
        }
        let max = vec![16 * UNIT, 12 * UNIT, 12 * UNIT, 8 * UNIT];
        for (group, &max) in groups.iter().zip(&max) {
            group.set_max(Limit::bytes(max)).unwrap();
        }
        Self {
            groups,
            max,
            is_removed: false,
            waiting: Vec::new(),
            held: Vec::new(),
            now,
            next: 0,
            waited_since: vec![None; PARENTS.len()],
        }
    }

    /// The groups that are charged with `g`, from itself up to the first.
    fn levels(&self, g: usize) -> impl Iterator<Item = usize> + use<> {
        let is_removed = self.is_removed;
        core::iter::successors(Some(g), |&g| PARENTS[g]).filter(move |&g| g != LEAF || !is_removed)
    }

    fn current(&self, g: usize) -> u64 {
        self.groups[g].current()
    }

    /// The levels where `bytes` have no room beside what is held and granted.
    fn full(&self, g: usize, bytes: u64) -> Vec<usize> {
        let is_full = |&level: &usize| self.current(level) + bytes > self.max[level];
        self.levels(g).filter(is_full).collect()
    }

    /// The first of those who wait and have no answer, if one group alone is in his way.
    fn first(&self) -> Option<First> {
        let first = self.waiting.iter().find(|waiting| !waiting.is_woken())?;
        let &[full] = self.full(first.group, first.bytes).as_slice() else {
            return None;
        };
        Some(First {
            number: first.number,
            full,
            closed_until: self.waited_since[full]? + PATIENCE,
        })
    }

    /// Whether `g` is charged where the first waits, who is still the first and waits there.
    fn passes(&self, before: Option<First>, g: usize) -> Option<(u64, usize)> {
        let before = before.filter(|first| self.now < first.closed_until)?;
        let now = self.first()?;
        let is_same = (now.number, now.full) == (before.number, before.full);
        (is_same && self.levels(g).any(|level| level == now.full)).then_some((now.number, now.full))
    }

    fn take(&mut self, step: Step) {
        let before = self.first();
        let usages: Vec<u64> = (0..PARENTS.len()).map(|g| self.current(g)).collect();
        let woken: Vec<u64> = self.woken().collect();
        match step {
            Step::Wait(g, units, ms) => self.wait(g, units * UNIT, ms, before),
            Step::Ask(g, units) => self.ask(g, units * UNIT, before),
            Step::Free(at) if !self.held.is_empty() => {
                let at = at % self.held.len();
                drop(self.held.swap_remove(at));
            }
            Step::Cancel(at) if !self.waiting.is_empty() => {
                let at = at % self.waiting.len();
                drop(self.waiting.remove(at));
            }
            Step::Poll(at) if !self.waiting.is_empty() => self.poll(at % self.waiting.len()),
            Step::Max(g, units) if g != LEAF || !self.is_removed => {
                self.max[g] = units * UNIT;
                self.groups[g].set_max(Limit::bytes(self.max[g])).unwrap();
            }
            Step::Kill(g) if g != LEAF || !self.is_removed => {
                self.groups[g].kill();
            }
            Step::Remove if !self.is_removed => {
                self.groups[LEAF].remove().unwrap();
                self.is_removed = true;
            }
            Step::Sleep(ms) => self.sleep(ms * MS),
            Step::Free(_)
            | Step::Cancel(_)
            | Step::Poll(_)
            | Step::Max(..)
            | Step::Kill(_)
            | Step::Remove => {}
        }
        self.look();
        for at in 0..self.waiting.len() {
            let waiting = &self.waiting[at];
            if waiting.is_woken() && !woken.contains(&waiting.number) {
                let first = before.filter(|first| first.number < waiting.number);
                let passed = self.passes(first, waiting.group);
                self.waiting[at].passed = self.waiting[at].passed.or(passed);
            }
        }
        for (g, before) in usages.into_iter().enumerate() {
            let now = self.current(g);
            assert!(now <= self.max[g].max(before), "group {g} holds {now}");
        }
        self.check();
    }

    fn woken(&self) -> impl Iterator<Item = u64> {
        let woken = self.waiting.iter().filter(|waiting| waiting.is_woken());
        woken.map(|waiting| waiting.number)
    }

    /// Whoever is to be looked at is.
    fn look(&self) {
        while run_deferred() > 0 {}
    }

    fn wait(&mut self, group: usize, bytes: u64, ms: Option<u64>, before: Option<First>) {
        let mut waiting = Waiting {
            reserve: self.groups[group].reserve(bytes, ms.map(Duration::from_millis)),
            bell: Arc::default(),
            group,
            bytes,
            since: self.now,
            deadline: ms.map(|ms| self.now + ms * MS),
            passed: None,
            number: self.next,
        };
        self.next += 1;
        let polled = poll(&mut waiting);
        if matches!(polled, Poll::Ready(Ok(_))) {
            assert_eq!(self.passes(before, group), None, "somebody was passed");
        }
        match polled {
            Poll::Pending => self.waiting.push(waiting),
            Poll::Ready(answer) => self.end(waiting, answer),
        }
    }

    fn ask(&mut self, g: usize, bytes: u64, before: Option<First>) {
        let is_full = !self.full(g, bytes).is_empty();
        match self.groups[g].try_reserve(bytes) {
            Ok(charge) => {
                assert_eq!(self.passes(before, g), None, "somebody was passed");
                self.held.push((g, charge));
            }
            Err(_) => assert!(is_full || self.woken().count() < self.waiting.len()),
        }
    }

    /// By a waker that it did not have before.
    fn poll(&mut self, at: usize) {
        let was_woken = self.waiting[at].is_woken();
        let old = core::mem::take(&mut self.waiting[at].bell);
        match poll(&mut self.waiting[at]) {
            Poll::Pending => assert!(!was_woken, "woken for nothing"),
            Poll::Ready(answer) => {
                let waiting = self.waiting.remove(at);
                let woken = old.0.load(Ordering::Relaxed) + waiting.bell.0.load(Ordering::Relaxed);
                assert_eq!(woken, 1, "an answer is one wake-up");
                self.end(waiting, answer);
            }
        }
    }

    fn end(&mut self, waiting: Waiting, answer: Result<Charge, WaitError>) {
        match answer {
            Ok(charge) => {
                assert_eq!(waiting.passed, None, "somebody was passed");
                assert_eq!(charge.bytes(), waiting.bytes);
                self.held.push((waiting.group, charge));
            }
            Err(WaitError::TimedOut(_)) => {
                assert!(waiting.deadline.is_some_and(|at| at <= self.now));
            }
            Err(WaitError::Stuck(_)) => assert!(waiting.since + STUCK <= self.now),
            Err(WaitError::Refused(refusal)) => assert!(refusal.max < waiting.bytes),
        }
    }

    fn check(&mut self) {
        for g in 0..PARENTS.len() {
            let below = |other: usize| self.levels(other).any(|level| level == g);
            let held = self.held.iter().filter(|(group, _)| below(*group));
            let held: u64 = held.map(|(_, charge)| charge.bytes()).sum();
            let of_those = |is_woken: bool| {
                let those = self.waiting.iter();
                those.filter(move |w| w.is_woken() == is_woken && below(w.group))
            };
            let granted: u64 = of_those(true).map(|waiting| waiting.bytes).sum();
            let found = self.current(g);
            assert!(g == LEAF && self.is_removed || (held..=held + granted).contains(&found));
            let waits = of_those(false).next().is_some();
            let since = self.waited_since[g].filter(|_| waits);
            self.waited_since[g] = since.or(waits.then_some(self.now));
        }
    }

    /// Time passes, and the engine looks, as its worker would. If that was long enough for all
    /// lines to be tried: what is said then of who still waits.
    fn sleep(&mut self, ns: u64) {
        self.now += ns;
        own::set(Some(self.now));
        engine().defer(Work::Look);
        self.look();
        if ns < TRY {
            return;
        }
        let still: Vec<_> = self.waiting.iter().filter(|w| !w.is_woken()).collect();
        for (at, waiting) in still.iter().enumerate() {
            let needs = |other: &Waiting, level| self.levels(other.group).any(|g| g == level);
            let is_behind = still[..at]
                .iter()
                .any(|first| self.levels(waiting.group).any(|level| needs(first, level)));
            let has_room = self.full(waiting.group, waiting.bytes).is_empty();
            assert!(!has_room || is_behind, "there is room for it");
            assert!(
                waiting.deadline.is_none_or(|at| self.now < at),
                "it is late"
            );
            let may_fit = |g| waiting.bytes <= self.max[g];
            assert!(
                at > 0 || self.levels(waiting.group).all(may_fit),
                "it never fits"
            );
        }
    }

    /// Everybody goes: nothing is left.
    fn leave(mut self) {
        self.sleep(TRY);
        if self.next.is_multiple_of(2) {
            // Nothing is freed, so nobody waits for ever, whichever lines he is sent to.
            for _ in 0..PARENTS.len() {
                self.sleep(STUCK);
            }
            assert_eq!(self.woken().count(), self.waiting.len());
        }
        self.waiting.clear();
        self.held.clear();
        self.look();
        for g in 0..PARENTS.len() {
            assert_eq!(self.current(g), 0, "group {g}");
        }
        let most = self.levels(1).map(|g| self.max[g]).min().unwrap();
        drop(self.groups[1].try_reserve(most).unwrap());
        for (g, group) in self.groups.iter().enumerate().rev() {
            if g != LEAF || !self.is_removed {
                group.remove().unwrap();
            }
        }
    }
}

fn poll(waiting: &mut Waiting) -> Poll<Result<Charge, WaitError>> {
    let waker = Waker::from(waiting.bell.clone());
    Pin::new(&mut waiting.reserve).poll(&mut Context::from_waker(&waker))
}

/// Two lines, of which the one with the later number gets room where the earlier waits by now. It
/// is too rare to be left to chance.
fn nobody_comes_from_another_line_and_passes() {
    let mut world = World::new(1_000_000_000_000);
    for step in [
        Step::Ask(1, 6),
        Step::Ask(2, 6),
        // Each in the line of its own group.
        Step::Wait(1, 10, None),
        Step::Wait(2, 7, None),
        Step::Max(0, 14),
        // From now on the first waits in the line above.
        Step::Free(0),
        // There is room for the second, but it needs what the first waits for.
        Step::Max(2, 20),
    ] {
        world.take(step);
    }
    assert_eq!(world.woken().count(), 0);
    world.take(Step::Free(0));
    assert!(world.waiting[0].is_woken() && !world.waiting[1].is_woken());
    world.leave();
}

#[test]
fn whoever_waits_for_room_is_served_in_turn_and_loses_nothing() {
    const NAME: &str =
        "proof::waiting_model::whoever_waits_for_room_is_served_in_turn_and_loses_nothing";
    if own_process::argument().is_none() {
        own_process::passes_again(NAME, "alone");
        return;
    }
    // A panic is for proptest, which looks for a shorter history.
    drop(std::panic::take_hook());
    engine().options.set_no_thread(true);
    nobody_comes_from_another_line_and_passes();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let began = std::cell::Cell::new(1_000_000_000_000);
    let history = proptest::collection::vec(steps(), 1..100);
    runner
        .run(&history, |history| {
            // Each history in a time of its own.
            began.set(began.get() + 10_000_000_000_000);
            let mut world = World::new(began.get());
            for step in history {
                world.take(step);
            }
            world.leave();
            Ok(())
        })
        .unwrap();
}
