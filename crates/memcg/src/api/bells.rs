//! Bells: who is woken when there is news of a group, and asks then what it is.
//!
//! Invariants: a bell that has a waker is rung, once, after anything that it is for, whoever finds
//! out. A wish is noted at a group as long as a bell there is for it. In the child of a fork a bell
//! of the parent's is hung up when it is polled there.
//! Depends on: `group::notices`; whoever calls [`ring`], the worker as a rule.
//! Never: runs code of the program (a waker's clone, wake or drop) under the lock.

#![forbid(unsafe_code)]

use super::memcg::Memcg;
use super::pinned::pinned;
use super::process_table::ProcessTable;
use super::scope::no_account;
use super::wakers;
use crate::engine::Engine;
use crate::engine::worker::worker_thread;
use crate::group::notice_word::{Told, Wish};
use crate::group::{self, GroupId};
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::Waker;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What a bell is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Events of the group and below.
    Events,
    /// The end of the last task.
    Emptied,
    /// Usage that rises above so many bytes.
    Crossing(u64),
}

impl What {
    fn wish(self) -> Wish {
        match self {
            Self::Events => Wish::Events,
            Self::Emptied => Wish::Emptied,
            Self::Crossing(_) => Wish::Crossings,
        }
    }

    fn level(self) -> Option<u64> {
        match self {
            Self::Crossing(level) => Some(level),
            Self::Events | Self::Emptied => None,
        }
    }
}

struct Entry {
    generation: u32,
    what: What,
    /// Usage is, or was when last looked at, above its level.
    is_above: bool,
    /// Usage has risen above its level since `take_crossing` was asked.
    has_crossed: bool,
    waker: Option<Waker>,
}

type Key = (GroupId, u64);

#[derive(Default)]
struct Table {
    bells: BTreeMap<Key, Entry>,
    /// Taken from bells that ring: woken once the lock is free.
    ringing: Vec<Waker>,
}

static TABLE: ProcessTable<Mutex<Table>> = ProcessTable::new();
/// No two bells have the same number, those of a fork's child included.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Runs `f` on the table, under its lock, pinned; then wakes whom it has found.
fn locked<R>(f: impl FnOnce(&mut Table, &'static Engine) -> R) -> R {
    let (answer, ringing) = {
        let _free = no_account();
        pinned(|engine, _| {
            // What is in it is valid between any two statements.
            let table = TABLE.get_or_make().lock();
            let mut table = table.unwrap_or_else(PoisonError::into_inner);
            let answer = f(&mut table, engine);
            (answer, core::mem::take(&mut table.ringing))
        })
    };
    wakers::wake_all(ringing);
    answer
}

/// A bell at a group. It is gone when this is dropped.
#[must_use]
pub(super) struct Bell {
    key: Key,
    generation: u32,
    what: What,
}

fn group_at(
    engine: &'static Engine,
    index: GroupId,
    generation: u32,
) -> Option<&'static group::Memcg> {
    let group = engine.tree.memcgs.get(index);
    (group.generation() == generation && group.is_online()).then_some(group)
}

impl Bell {
    /// A bell at `group`; `None`: the group has been removed. A look at what it is for follows.
    pub(super) fn new(group: &Memcg, what: What) -> Option<Self> {
        let (index, generation) = group.with(|_, _, group| (group.index(), group.generation()))?;
        let bell = Self {
            key: (index, NEXT.fetch_add(1, Ordering::Relaxed)),
            generation,
            what,
        };
        locked(|table, engine| table.hang(engine, &bell)).then_some(bell)
    }

    /// Has `waker` woken when there is news. A look follows. `false`: the group has been removed,
    /// and nobody is woken.
    pub(super) fn set(&mut self, waker: &Waker) -> bool {
        let waker = wakers::clone_of(waker);
        let (is_there, is_new, old) = locked(|table, engine| {
            // In the child of a fork it is not there yet.
            let is_new = !table.bells.contains_key(&self.key);
            if is_new && !table.hang(engine, self) {
                return (false, false, Some(waker));
            }
            let is_there = group_at(engine, self.key.0, self.generation).is_some();
            match table.bells.get_mut(&self.key).filter(|_| is_there) {
                Some(entry) => (true, is_new, entry.waker.replace(waker)),
                None => (false, is_new, Some(waker)),
            }
        });
        wakers::discard(old);
        if is_new {
            worker_thread::want();
        }
        is_there
    }

    /// Whether usage has risen above the bell's level since this was asked last.
    pub(super) fn take_crossing(&self) -> bool {
        locked(|table, engine| {
            if let Some(group) = group_at(engine, self.key.0, self.generation) {
                table.look_at_crossings(engine, group);
            }
            let entry = table.bells.get_mut(&self.key);
            entry.is_some_and(|entry| core::mem::take(&mut entry.has_crossed))
        })
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let waker = locked(|table, engine| {
            let gone = table.bells.remove(&self.key)?;
            if let Some(group) = group_at(engine, self.key.0, self.generation) {
                let wish = self.what.wish();
                let is_left = table
                    .of_group(self.key.0)
                    .any(|entry| entry.generation == self.generation && entry.what.wish() == wish);
                if !is_left {
                    engine.tree.unwish(group, wish);
                }
                if self.what.level().is_some() {
                    table.look_at_crossings(engine, group);
                }
            }
            gone.waker
        });
        wakers::discard(waker);
    }
}

impl Table {
    fn of_group(&mut self, index: GroupId) -> impl Iterator<Item = &mut Entry> {
        let all = (index, 0)..=(index, u64::MAX);
        self.bells.range_mut(all).map(|(_, entry)| entry)
    }

    /// Notes a bell that is not here, and its wish at the group. `false`: the group has been
    /// removed.
    fn hang(&mut self, engine: &'static Engine, bell: &Bell) -> bool {
        let group = group_at(engine, bell.key.0, bell.generation);
        let Some(group) = group.filter(|group| engine.tree.wish(group, bell.what.wish())) else {
            return false;
        };
        let entry = Entry {
            generation: bell.generation,
            what: bell.what,
            // Until the look below.
            is_above: true,
            has_crossed: false,
            waker: None,
        };
        self.bells.insert(bell.key, entry);
        if bell.what.level().is_some() {
            self.look_at_crossings(engine, group);
        }
        true
    }

    /// Finds which levels of the group were crossed, and sets those that are to be told of next.
    fn look_at_crossings(&mut self, engine: &'static Engine, group: &group::Memcg) {
        let (generation, notice) = (group.generation(), &group.notice);
        let mut ringing = core::mem::take(&mut self.ringing);
        loop {
            let (highest, before) = notice.crossed();
            let usage = group.counter.usage();
            let highest = highest.unwrap_or(0).max(usage);
            let (mut rising, mut falling) = (None::<u64>, None::<u64>);
            for entry in self.of_group(group.index()) {
                let Some(level) = entry.what.level() else {
                    continue;
                };
                if entry.generation != generation {
                    continue;
                }
                if !entry.is_above && level < highest {
                    entry.has_crossed = true;
                    ringing.extend(entry.waker.take());
                }
                entry.is_above = level < usage;
                if entry.is_above {
                    falling = falling.max(Some(level));
                } else {
                    rising = Some(rising.map_or(level, |least| least.min(level)));
                }
            }
            if notice.watch(before, rising, falling) {
                break;
            }
        }
        self.ringing = ringing;
        engine.tree.look_at_crossings(group);
    }
}

/// Wakes who waits for news of the groups that were told of.
pub(super) fn ring(told: &[(GroupId, Told)]) {
    if told.is_empty() {
        return;
    }
    locked(|table, engine| {
        for &(index, _) in told {
            let group = engine.tree.memcgs.get(index);
            let generation = group.generation();
            let is_online = group.is_online();
            let mut has_levels = false;
            let mut ringing = core::mem::take(&mut table.ringing);
            for entry in table.of_group(index) {
                let is_gone = !is_online || entry.generation != generation;
                let has_level = entry.what.level().is_some() && !is_gone;
                has_levels |= has_level;
                if !has_level {
                    ringing.extend(entry.waker.take());
                }
            }
            table.ringing = ringing;
            if has_levels {
                table.look_at_crossings(engine, group);
            }
        }
    });
}
