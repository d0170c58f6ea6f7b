//! Bells: who is woken when there is news of a group, and asks then what it is.
//!
//! Invariants: a bell that has a waker is rung, once, after anything that it is for. A wish is
//! noted at a group as long as a bell there is for it.
//! Depends on: `group::notices`; whoever calls [`ring`], the worker as a rule.
//! Never: runs code of the program (a waker's clone, wake or drop) under the lock.

#![forbid(unsafe_code)]

use super::memcg::Memcg;
use super::pinned::pinned;
use super::scope::no_account;
use crate::engine::Engine;
use crate::engine::process_engine::engine;
use crate::group::notice_word::{Told, Wish};
use crate::group::{self, GroupId};
use core::task::Waker;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// What a bell is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Events of the group and below.
    Events,
    /// The end of the last task.
    Emptied,
    /// Usage that rises above `level` bytes.
    Crossing {
        level: u64,
        /// Usage is, or was when last looked at, above it.
        is_above: bool,
        /// It has risen above it since `take_crossing` was asked.
        has_crossed: bool,
    },
}

impl What {
    fn wish(self) -> Wish {
        match self {
            Self::Events => Wish::Events,
            Self::Emptied => Wish::Emptied,
            Self::Crossing { .. } => Wish::Crossings,
        }
    }

    fn is_crossing(self) -> bool {
        self.wish() == Wish::Crossings
    }
}

struct Entry {
    generation: u32,
    what: What,
    waker: Option<Waker>,
}

type Key = (GroupId, u64);

struct Table {
    /// As the tree's: in the child of a fork it is another.
    recounts: u32,
    next: u64,
    bells: BTreeMap<Key, Entry>,
}

static TABLE: Mutex<Table> = Mutex::new(Table {
    recounts: 0,
    next: 0,
    bells: BTreeMap::new(),
});

/// Runs `f` on the table, under its lock, pinned. A fork waits until it is over.
fn locked<R>(f: impl FnOnce(&mut Table, &'static Engine) -> R) -> R {
    let _free = no_account();
    engine().change(|| {
        pinned(|engine, _| {
            // What is in it is valid between any two statements.
            let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
            let recounts = engine.tree.nr_recounts();
            if table.recounts != recounts {
                // The wishes of the parent of this process are forgotten, and no waker of its
                // futures is to be touched. A bell of this thread notes its wish when it is polled.
                for entry in table.bells.values_mut() {
                    core::mem::forget(entry.waker.take());
                }
                table.recounts = recounts;
            }
            f(&mut table, engine)
        })
    })
}

/// A bell at a group. It is gone when this is dropped.
#[must_use]
pub(super) struct Bell {
    key: Key,
    generation: u32,
    /// The tree's when its wish was noted.
    recounts: u32,
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
        locked(|table, engine| {
            let group = group_at(engine, index, generation)?;
            if !engine.tree.wish(group, what.wish()) {
                return None;
            }
            let key = (index, table.next);
            table.next += 1;
            let entry = Entry {
                generation,
                what,
                waker: None,
            };
            table.bells.insert(key, entry);
            if what.is_crossing() {
                table.look_at_crossings(engine, group, &mut Vec::new());
            }
            Some(Self {
                key,
                generation,
                recounts: table.recounts,
            })
        })
    }

    /// Has `waker` woken when there is news. A look follows. `false`: the group has been removed,
    /// and nobody is woken.
    pub(super) fn set(&mut self, waker: &Waker) -> bool {
        let (new, old) = {
            let _free = no_account();
            (waker.clone(), None::<Waker>)
        };
        let (is_there, left) = locked(|table, engine| {
            let Some(group) = group_at(engine, self.key.0, self.generation) else {
                return (false, (Some(new), old));
            };
            if self.recounts != table.recounts {
                self.recounts = table.recounts;
                if let Some(entry) = table.bells.get(&self.key) {
                    engine.tree.wish(group, entry.what.wish());
                }
            }
            match table.bells.get_mut(&self.key) {
                Some(entry) => (true, (None, entry.waker.replace(new))),
                None => (false, (Some(new), old)),
            }
        });
        let _free = no_account();
        drop(left);
        is_there
    }

    /// Whether usage has risen above the bell's level since this was asked last.
    pub(super) fn take_crossing(&self) -> bool {
        let mut wakers = Vec::new();
        let crossed = locked(|table, engine| {
            let group = group_at(engine, self.key.0, self.generation);
            if let Some(group) = group {
                table.look_at_crossings(engine, group, &mut wakers);
            }
            match table.bells.get_mut(&self.key).map(|entry| &mut entry.what) {
                Some(What::Crossing { has_crossed, .. }) => core::mem::take(has_crossed),
                Some(What::Events | What::Emptied) | None => false,
            }
        });
        wake(wakers);
        crossed
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let gone = locked(|table, engine| {
            let gone = table.bells.remove(&self.key)?;
            let wish = gone.what.wish();
            let group = group_at(engine, self.key.0, self.generation)?;
            let is_left = table
                .of_group(self.key.0)
                .any(|entry| entry.generation == self.generation && entry.what.wish() == wish);
            if !is_left {
                engine.tree.unwish(group, wish);
            }
            if gone.what.is_crossing() {
                table.look_at_crossings(engine, group, &mut Vec::new());
            }
            Some(gone)
        });
        let _free = no_account();
        drop(gone);
    }
}

impl Table {
    fn of_group(&mut self, index: GroupId) -> impl Iterator<Item = &mut Entry> {
        let all = (index, 0)..=(index, u64::MAX);
        self.bells.range_mut(all).map(|(_, entry)| entry)
    }

    /// Finds which levels of the group were crossed, and sets those that are to be told of next.
    fn look_at_crossings(
        &mut self,
        engine: &'static Engine,
        group: &group::Memcg,
        wakers: &mut Vec<Waker>,
    ) {
        let (generation, notice) = (group.generation(), &group.notice);
        loop {
            let (highest, before) = notice.crossed();
            let usage = group.counter.usage();
            let highest = highest.unwrap_or(0).max(usage);
            let (mut rising, mut falling) = (None::<u64>, None::<u64>);
            for entry in self.of_group(group.index()) {
                let What::Crossing {
                    level,
                    is_above,
                    has_crossed,
                } = &mut entry.what
                else {
                    continue;
                };
                if entry.generation != generation {
                    continue;
                }
                if !*is_above && *level < highest {
                    *has_crossed = true;
                    wakers.extend(entry.waker.take());
                }
                *is_above = *level < usage;
                if *is_above {
                    falling = falling.max(Some(*level));
                } else {
                    rising = Some(rising.map_or(*level, |least| least.min(*level)));
                }
            }
            if notice.watch(before, rising, falling) {
                break;
            }
        }
        engine.tree.look_at_crossings(group);
    }
}

/// Wakes who waits for news of the groups that were told of.
pub(super) fn ring(told: &[(GroupId, Told)]) {
    if told.is_empty() {
        return;
    }
    let mut wakers = {
        let _free = no_account();
        Vec::new()
    };
    locked(|table, engine| {
        for &(index, _) in told {
            let group = engine.tree.memcgs.get(index);
            let generation = group.generation();
            let is_online = group.is_online();
            let mut has_levels = false;
            for entry in table.of_group(index) {
                let is_gone = !is_online || entry.generation != generation;
                has_levels |= entry.what.is_crossing() && !is_gone;
                if is_gone || !entry.what.is_crossing() {
                    wakers.extend(entry.waker.take());
                }
            }
            if has_levels {
                table.look_at_crossings(engine, group, &mut wakers);
            }
        }
    });
    wake(wakers);
}

fn wake(wakers: Vec<Waker>) {
    let _free = no_account();
    for waker in wakers {
        // One that panics ends its call alone: the thread may be the engine's own.
        let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
    }
}
