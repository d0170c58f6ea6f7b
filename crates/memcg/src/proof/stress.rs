//! Threads against threads: charges, frees, hand-overs, moves, removals, limits, drains; nothing
//! lost at the end.

#![forbid(unsafe_code)]

use crate::attach::move_task;
use crate::counter::page_counter::UNLIMITED;
use crate::group::Tag;
use crate::group::exact_charge::Mode;
use crate::group::kind::Kind;
use crate::group::objcg::State;
use crate::group::{GroupId, Hierarchy, ROOT};
use crate::offline;
use crate::sync::atomic::Ordering;
use crate::sync::lock::Rank;
use crate::testing::common::*;
use crate::thread::ThreadRec;

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const WORKERS: usize = 4;
const TASKS: usize = 6;

/// What a worker holds, or hands to another.
#[derive(Clone, Copy)]
struct Thing {
    tag: Tag,
    bytes: u64,
    kind: Kind,
}

fn give_back(tree: Tree, rec: &ThreadRec, thing: Thing) {
    free(tree, rec, thing.tag, thing.bytes, thing.kind);
}

/// A name on the own owner of a group that may be going.
fn hold_group(tree: Tree, index: GroupId) -> Option<Tag> {
    let group = tree.memcgs.get(index);
    let _held = group.lock.lock(Rank::Group);
    group.is_online().then(|| {
        tree.ref_objcg(group.tag());
        group.tag()
    })
}

struct Worker {
    tree: Tree,
    random: Random,
    held: Vec<Thing>,
    to: Vec<Sender<Thing>>,
    from: Receiver<Thing>,
    tasks: [Tag; TASKS],
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

    fn charge(&mut self, rec: &ThreadRec, tag: Tag) {
        let bytes = self.bytes();
        let kind = match self.random.next(12) {
            0 => Kind::Mapped,
            1 => Kind::Reserved,
            _ => Kind::Heap,
        };
        let charged = match kind {
            Kind::Heap | Kind::Page => charge(self.tree, rec, tag, bytes),
            Kind::Reserved => reserve(self.tree, rec, tag, bytes),
            Kind::Mapped | Kind::Slab => {
                let _pin = self.tree.threads.epoch.pin(rec);
                self.tree
                    .charge_exact(tag, bytes, Mode::Within)
                    .map(|()| self.tree.add_side(tag, bytes, kind))
            }
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
            self.tree.unref_objcg(tag);
        }
    }

    fn in_scope(&mut self, rec: &ThreadRec) {
        let outer = self.tasks[self.random.next(TASKS as u64) as usize];
        let inner = self.tasks[self.random.next(TASKS as u64) as usize];
        let first = self.tree.enter_scope(rec, Some(outer));
        let second = self.tree.enter_scope(rec, Some(inner));
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
fn control(tree: Tree, tasks: [Tag; TASKS], until: Instant) {
    let (index, rec) = tree.threads.join().unwrap();
    let mut random = Random(0x9e37_79b9);
    let mut groups: Vec<GroupId> = Vec::new();
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
            3..=5 if any != ROOT && offline::remove_alone(tree, group).is_ok() => {
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
                let kinds = usage.mapped + usage.reserved + usage.heap + usage.engine;
                assert_eq!(kinds, usage.current);
            }
            _ => tree.each_owner(|line| assert_ne!(line.state, State::Free)),
        }
    }
    let _pin = tree.threads.epoch.pin(rec);
    for task in tasks {
        move_task(tree, rec, task, tree.memcgs.get(ROOT)).unwrap();
    }
    while !groups.is_empty() {
        groups.retain(|&g| offline::remove_alone(tree, tree.memcgs.get(g)).is_err());
    }
    tree.return_all(rec);
    tree.threads.leave(index);
}

pub(super) fn run(tree: Tree, seed: u64) {
    let (index, rec) = tree.threads.join().unwrap();
    let tasks: [Tag; TASKS] = std::array::from_fn(|_| {
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

#[test]
fn threads_that_charge_free_and_hand_over_while_groups_and_tasks_change_lose_no_byte() {
    run(Hierarchy::leaked(), 0x2545_f491);
}

#[test]
fn without_membarrier_no_byte_is_lost_either() {
    let tree = Hierarchy::leaked();
    tree.threads.forgo_membarrier();
    run(tree, 0x1234_5678);
}
