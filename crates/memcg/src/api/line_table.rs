//! Who stands in which line, and for how long: the table of lines, under one lock.
//!
//! Everybody who waits has a number, in the order in which they came. A line has the numbers of
//! those whom its group refused last, whichever group below it they ask for. Who is refused by
//! another group goes to that group's line, to the place of his number.
//!
//! Invariants: who waits is in one line. A line is marked at its group as long as somebody is in
//! it. Bytes that are charged for somebody and not yet his are noted here whenever a fork comes:
//! the child, in which nobody waits, gives them back.
//! Depends on: `engine::line` for the mark.
//! Never: runs code of the program (a waker's clone, wake or drop) under the lock.

#![forbid(unsafe_code)]

use super::charge::Charge;
use super::error::ReserveError;
use super::pinned::pinned;
use super::process_table::ProcessTable;
use super::scope::no_account;
use super::wait_error::WaitError;
use super::wakers;
use crate::counter::Level;
use crate::engine::process_engine::engine;
use crate::engine::{ChargeError, Engine};
use crate::group::{self, GroupId, Refusal, Tag};
use crate::os::clock;
use crate::thread::ThreadRec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::Waker;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError, TryLockError};

/// How long others stand behind the first in line who cannot be served.
pub(super) const PATIENCE_NS: u64 = 1_000_000_000;
/// How long nothing is freed before those who wait are told that they wait in vain.
pub(super) const STUCK_NS: u64 = 10_000_000_000;
/// A line is tried at least so often: what threads stocked beside the line's mark, a limit that was
/// raised above it, and what a refused charge took back are not told.
pub(super) const TRY_NS: u64 = 100_000_000;

/// The number of one who waits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Number(pub(super) u64);

/// The group of a line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct At {
    pub(super) group: GroupId,
    pub(super) generation: u32,
}

pub(super) enum State {
    /// In its line.
    Waiting,
    /// In its line; somebody tries to charge for it.
    Tried,
    /// As `Tried`, and its future has been dropped.
    Gone,
    /// In no line: the bytes are charged.
    Granted,
    /// In no line.
    Failed(WaitError),
}

pub(super) struct Waiter {
    /// The owner to charge, which this names.
    pub(super) tag: Tag,
    /// The bytes that were asked for.
    pub(super) bytes: u64,
    pub(super) since_ns: u64,
    pub(super) deadline_ns: Option<u64>,
    pub(super) at: At,
    pub(super) state: State,
    pub(super) waker: Option<Waker>,
}

#[derive(Default)]
pub(super) struct Line {
    pub(super) numbers: BTreeSet<Number>,
    /// When the line began, or somebody of it was served last.
    pub(super) served_ns: u64,
    /// When something was freed last, or a task marked to end.
    pub(super) progress_ns: u64,
    pub(super) tried_ns: u64,
    /// Somebody is trying the line.
    pub(super) is_tried: bool,
    /// It is to be tried once more by who tries it.
    pub(super) again: bool,
}

impl Line {
    pub(super) fn is_closed(&self, now: u64) -> bool {
        now < self.served_ns.saturating_add(PATIENCE_NS)
    }
}

#[derive(Default)]
pub(super) struct Table {
    pub(super) waiters: BTreeMap<Number, Waiter>,
    pub(super) lines: BTreeMap<At, Line>,
}

static TABLE: ProcessTable<Mutex<Table>> = ProcessTable::new();
/// The next number. It goes on in a fork's child, so that no number of the parent's means somebody
/// there.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Runs `f` on the table, under its lock, pinned. A fork waits until it is over.
pub(super) fn locked<R>(f: impl FnOnce(&mut Table, &'static Engine, &'static ThreadRec) -> R) -> R {
    let _free = no_account();
    engine().change(|| {
        pinned(|engine, rec| {
            // What is in it is valid between any two statements.
            let table = TABLE.get_or_make().lock();
            f(
                &mut table.unwrap_or_else(PoisonError::into_inner),
                engine,
                rec,
            )
        })
    })
}

/// In the child of a fork: gives back what the parent's table holds for those who wait there, their
/// owners' names and the bytes that were charged and not taken. No waker of theirs is touched.
pub(super) fn in_child() {
    let Some(left) = TABLE.of_parent() else {
        return;
    };
    let mut left = match left.try_lock() {
        Ok(left) => left,
        Err(TryLockError::Poisoned(left)) => left.into_inner(),
        // A thread that is not here was at it: nobody knows what is whole.
        Err(TryLockError::WouldBlock) => return,
    };
    for waiter in left.waiters.values() {
        let bytes = match waiter.state {
            State::Granted => waiter.bytes,
            State::Waiting | State::Tried | State::Gone | State::Failed(_) => 0,
        };
        release(waiter.tag, bytes);
    }
    core::mem::forget(core::mem::take(&mut *left));
}

/// What is to be done once the lock is free.
#[derive(Default)]
pub(super) struct Later {
    pub(super) wakers: Vec<Waker>,
    /// Owners whose waiters have gone, with the bytes that were charged for them.
    pub(super) released: Vec<(Tag, u64)>,
    /// What was charged for somebody who is not in the table of this process.
    pub(super) unclaimed: Vec<Charge>,
    /// Lines that have another first.
    pub(super) to_try: Vec<At>,
}

impl Later {
    /// Gives back what is to be released. For whoever took it out of the table, before a fork can
    /// come: within the same change.
    pub(super) fn give_back(&mut self) {
        for (tag, bytes) in self.released.drain(..) {
            release(tag, bytes);
        }
        self.unclaimed.clear();
    }

    /// Wakes who is to be woken; the rest has been done.
    pub(super) fn finish(self) {
        debug_assert!(
            self.released.is_empty() && self.unclaimed.is_empty() && self.to_try.is_empty()
        );
        wakers::wake_all(self.wakers);
    }
}

/// Gives back what was charged for somebody who waits no more, and lets go of the owner.
pub(super) fn release(tag: Tag, bytes: u64) {
    if bytes > 0 {
        drop(Charge::of_charged(tag, bytes));
    }
    pinned(|engine, _| engine.tree.unref_objcg(tag));
}

pub(super) fn group_at(engine: &'static Engine, at: At) -> Option<&'static group::Memcg> {
    let group = engine.tree.memcgs.get(at.group);
    (group.generation() == at.generation && group.is_online()).then_some(group)
}

pub(super) fn at_of(group: &group::Memcg) -> At {
    At {
        group: group.index(),
        generation: group.generation(),
    }
}

impl Number {
    /// One after all others. Under the table's lock.
    pub(super) fn next() -> Self {
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Table {
    /// Puts `number` into the line of `full`, or of the nearest group above that is online. Answers
    /// which, and whether the line has another first now.
    pub(super) fn enter(
        &mut self,
        engine: &'static Engine,
        rec: &'static ThreadRec,
        number: Number,
        full: GroupId,
    ) -> (At, bool) {
        let mut group = engine.tree.memcgs.get(full);
        let at = loop {
            let at = at_of(group);
            if self.lines.contains_key(&at) && group.is_online() {
                break at;
            }
            let is_root = group.parent().is_none();
            if engine.begin_line(rec, group) || is_root {
                let now = clock::monotonic_ns();
                let line = Line {
                    served_ns: now,
                    progress_ns: now,
                    ..Line::default()
                };
                self.lines.insert(at, line);
                group.notice.close_door(now.saturating_add(PATIENCE_NS));
                break at;
            }
            group = group.parent().unwrap_or(group);
        };
        let line = self.lines.entry(at).or_default();
        line.numbers.insert(number);
        if let Some(waiter) = self.waiters.get_mut(&number) {
            waiter.at = at;
        }
        (at, line.numbers.first() == Some(&number))
    }

    /// Takes `number` out of its line; whether the line has another first now.
    pub(super) fn leave(&mut self, engine: &'static Engine, at: At, number: Number) -> bool {
        let Some(line) = self.lines.get_mut(&at) else {
            return false;
        };
        let was_first = line.numbers.first() == Some(&number);
        line.numbers.remove(&number);
        let is_left = !line.numbers.is_empty();
        self.end_if_left(engine, at);
        was_first && is_left
    }

    /// Ends a line in which nobody is left.
    pub(super) fn end_if_left(&mut self, engine: &'static Engine, at: At) {
        let is_left = |line: &Line| line.numbers.is_empty() && !line.is_tried;
        if self.lines.get(&at).is_some_and(is_left) {
            self.lines.remove(&at);
            if let Some(group) = group_at(engine, at) {
                engine.end_line(group);
            }
        }
    }

    /// Whether another line stands before this one who waits: one of a group that he needs as well,
    /// with an earlier number.
    pub(super) fn stands_behind(
        &self,
        engine: &'static Engine,
        number: Number,
        now: u64,
    ) -> Option<GroupId> {
        let waiter = self.waiters.get(&number)?;
        let mut levels = engine.tree.levels_of(waiter.tag);
        let is_before = |&(group, generation): &(GroupId, u32)| {
            let at = At { group, generation };
            at != waiter.at
                && self.lines.get(&at).is_some_and(|line| {
                    line.is_closed(now) && line.numbers.first().is_some_and(|&n| n < number)
                })
        };
        levels.find(is_before).map(|(group, _)| group)
    }

    /// It waits in vain, or has what it waits for: out of its line. Answers the line if it has
    /// another first now.
    pub(super) fn settle(
        &mut self,
        engine: &'static Engine,
        number: Number,
        state: State,
        later: &mut Later,
    ) -> Option<At> {
        let waiter = self.waiters.get_mut(&number)?;
        waiter.state = state;
        later.wakers.extend(waiter.waker.take());
        let at = waiter.at;
        self.leave(engine, at, number).then_some(at)
    }

    /// Moves one who waits from the line `at` to that of `full`. `false`: it is the same.
    pub(super) fn go_on(
        &mut self,
        engine: &'static Engine,
        rec: &'static ThreadRec,
        number: Number,
        at: At,
        full: GroupId,
        later: &mut Later,
    ) -> bool {
        let (to, is_first) = self.enter(engine, rec, number, full);
        if to == at {
            return false;
        }
        self.leave(engine, at, number);
        if is_first {
            later.to_try.push(to);
        }
        true
    }

    /// Ends the waits whose time is over.
    pub(super) fn end_waits(&mut self, engine: &'static Engine, now: u64, later: &mut Later) {
        let mut ended = Vec::new();
        for (&number, waiter) in &self.waiters {
            if !matches!(waiter.state, State::Waiting) {
                continue;
            }
            let progress = self.lines.get(&waiter.at).map_or(now, |at| at.progress_ns);
            let is_late = waiter.deadline_ns.is_some_and(|at| at <= now);
            let quiet_since = progress.max(waiter.since_ns);
            if is_late || quiet_since.saturating_add(STUCK_NS) <= now {
                ended.push((number, is_late));
            }
        }
        for (number, is_late) in ended {
            let Some(waiter) = self.waiters.get(&number) else {
                continue;
            };
            let counter = &engine.tree.memcgs.get(waiter.at.group).counter;
            let refusal = Refusal {
                group: Some(waiter.at.group),
                usage: counter.usage(),
                max: counter.max(),
            };
            let error = error(waiter.bytes, refusal);
            let why = if is_late {
                WaitError::TimedOut(error)
            } else {
                WaitError::Stuck(error)
            };
            let begun = self.settle(engine, number, State::Failed(why), later);
            later.to_try.extend(begun);
        }
    }

    pub(super) fn ms_to_next(&self, now: u64) -> u32 {
        let tries = self.lines.values().map(|line| line.tried_ns + TRY_NS);
        let deadlines = self.waiters.values().filter_map(|waiter| {
            matches!(waiter.state, State::Waiting)
                .then_some(waiter.deadline_ns)
                .flatten()
        });
        let Some(next) = tries.chain(deadlines).min() else {
            return 0;
        };
        let ms = next.saturating_sub(now).div_ceil(1_000_000);
        u32::try_from(ms).unwrap_or(u32::MAX).max(1)
    }
}

pub(super) fn error(bytes: u64, refusal: Refusal) -> ReserveError {
    ReserveError::new(&ChargeError { bytes, refusal })
}
