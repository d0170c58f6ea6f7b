//! Out of memory: where a group's policy is `kill`, one of its tasks is told to die, and the bytes
//! it holds are lent to the thread that asked.
//!
//! A task that was told to die stays marked. The worker wakes its future, in whatever group it
//! idles; a thread sees the mark. Where the tasks are threads of a program that knows nothing of us
//! (under `exec`) the whole program is killed, with a line that says why.
//!
//! Invariants: a group has one victim at a time; after `max` was written, as many at once as it
//! takes. Until the victim has ended, or its time is over, charges may exceed max by what it still
//! holds of the bytes it held when it was chosen. The loan never grows, however much the victim
//! goes on charging.
//! Depends on: `reclaim::oom_victim` for the choice; the worker for the wake.
//! Never: waits for the victim; wakes a future on the thread that charges; kills where the policy
//! does not say so.

use super::progress::ask_of;
use super::{Engine, Work};
use crate::counter::Level;
use crate::group::objcg::{Objcg, State};
use crate::group::task_owner::FIRST_TASK_ID;
use crate::group::victim::{Choosing, Chosen, Victim};
use crate::group::{Event, Memcg, NameId, OomPolicy, Tag};
use crate::os::{clock, say};
use crate::reclaim::oom_victim::{ADJ_MIN, badness};
use crate::thread::ThreadRec;

/// How long a victim has to end before another is chosen.
const PATIENCE_NS: u64 = 2_000_000_000;

/// The task that is chosen to die, the bytes it holds, and its badness.
#[derive(Clone, Copy)]
struct Choice {
    tag: Tag,
    held: u64,
    points: i64,
}

impl Engine {
    /// A charge of `bytes` found no room in `full`, whose policy is `kill`: has a task told to die,
    /// unless one has been and still lives. Answers the bytes above max that may be charged
    /// meanwhile. 0: there is no task to kill, and whoever calls counts the event `oom`. The caller
    /// is pinned. O(owners), once a victim.
    pub(super) fn oom_kill(&self, full: &Memcg, bytes: u64) -> u64 {
        // There is no memory for the record of the victim. Without the record a task could be
        // chosen at every charge, so none is.
        let Some(victim) = full.victim() else {
            return 0;
        };
        let Some(choosing) = victim.choose() else {
            return self.credit(victim, full);
        };
        let credit = self.credit(victim, full);
        if credit > 0 {
            return credit;
        }
        self.kill_next(full, &choosing, bytes)
    }

    /// After `max` was written and reclaim could not bring usage down to it: where the policy is
    /// `kill`, tasks are told to die until they hold the excess, or no task is left. Tasks that
    /// were told before count. O(owners) a victim.
    pub fn kill_to_max(&self, rec: &ThreadRec, group: &Memcg) {
        let ask = ask_of(group);
        let _pin = self.tree.threads.epoch.pin(rec);
        let Some(full) = self.group_of(ask) else {
            return;
        };
        if full.oom_policy() != OomPolicy::Kill {
            return;
        }
        // Another thread is choosing: it does what is to be done.
        let Some(choosing) = full.victim().and_then(Victim::choose) else {
            return;
        };
        let mut any = false;
        loop {
            let excess = full.counter.usage().saturating_sub(full.counter.max());
            if excess <= self.expected_of(full) {
                return;
            }
            if self.kill_next(full, &choosing, 0) == 0 {
                break;
            }
            any = true;
        }
        if !any {
            full.event(Event::Oom);
        }
    }

    /// The bytes held by the tasks of `full` and below that were told to die.
    fn expected_of(&self, full: &Memcg) -> u64 {
        let tree = &self.tree;
        let is_dying = |task: &&Objcg| {
            task.state() == State::Task
                && task.is_killed()
                && tree.resolve(task.cell()).group.is_within(full)
        };
        let tasks = tree.objcgs.each().map(|(_, task)| task);
        tasks.filter(is_dying).map(Objcg::charged_bytes).sum()
    }

    /// Has the next task told to die; answers the bytes it holds. 0: there is no task to kill.
    fn kill_next(&self, full: &Memcg, choosing: &Choosing<'_>, bytes: u64) -> u64 {
        let Some(choice) = self.choose(full) else {
            return 0;
        };
        full.event(Event::Oom);
        self.kill_for(full, choice, bytes);
        choosing.set(Chosen {
            tag: choice.tag,
            id: self.tree.objcgs.get(choice.tag).id(),
            credit: choice.held,
            until_ns: clock::monotonic_ns() + PATIENCE_NS,
        });
        choice.held
    }

    /// The bytes that the present victim of `full` is still expected to give back; 0 without one.
    fn credit(&self, victim: &Victim, full: &Memcg) -> u64 {
        let Some(chosen) = victim.get() else {
            return 0;
        };
        let Some(task) = self.tree.objcgs.try_get(chosen.tag) else {
            return 0;
        };
        let is_here = clock::monotonic_ns() < chosen.until_ns
            && task.state() == State::Task
            && task.is_killed()
            && task.id() == chosen.id
            && self.tree.resolve(task.cell()).group.is_within(full);
        if !is_here {
            return 0;
        }
        task.charged_bytes().min(chosen.credit)
    }

    /// The task of `full` or below that is best told to die.
    fn choose(&self, full: &Memcg) -> Option<Choice> {
        let tree = &self.tree;
        let total = full.counter.max().min(full.counter.usage());
        let mut best: Option<Choice> = None;
        for (tag, task) in tree.objcgs.each() {
            if task.state() != State::Task
                || task.is_killed()
                || !tree.resolve(task.cell()).group.is_within(full)
            {
                continue;
            }
            let held = task.charged_bytes();
            let Some(points) = badness(held, total, task.oom_score_adj()) else {
                continue;
            };
            if best.is_none_or(|best| points > best.points) {
                best = Some(Choice { tag, held, points });
            }
        }
        best
    }

    /// Tells the chosen task to die; with `memory.oom.group`, all tasks of its group; with
    /// `kill_process`, ends the process.
    fn kill_for(&self, full: &Memcg, choice: Choice, bytes: u64) {
        let tree = &self.tree;
        let task = tree.objcgs.get(choice.tag);
        if self.options.kill_process() && task.id() < FIRST_TASK_ID {
            self.end_process(full, bytes);
        }
        let group = tree.resolve(task.cell()).group;
        match oom_group_of(group, full) {
            Some(whole) => {
                whole.event(Event::OomGroupKill);
                // Its futures that are no tasks.
                self.raise_kill_generation(whole);
                for (tag, task) in tree.objcgs.each() {
                    if task.state() == State::Task
                        && task.oom_score_adj() > ADJ_MIN
                        && tree.resolve(task.cell()).group.is_within(whole)
                    {
                        self.kill_one(tag);
                    }
                }
            }
            None => self.kill_one(choice.tag),
        }
    }

    /// Marks a task to die, unless it is marked, and has its future woken.
    fn kill_one(&self, tag: Tag) {
        let task = self.tree.objcgs.get(tag);
        if task.kill() {
            let group = self.tree.resolve(task.cell()).group;
            group.event(Event::OomKill);
            // What it holds is expected back by those who stand in line.
            self.tree.tell_freed(group);
            // If there is no place for the work, the task finds out when it is polled next.
            self.defer(Work::Wake { id: task.id() });
        }
    }

    /// Ends the program with all its threads, by SIGKILL, as the kernel does. Says why in one line.
    #[cold]
    fn end_process(&self, full: &Memcg, bytes: u64) -> ! {
        full.event(Event::OomKill);
        let mut text = Text::default();
        text.add(b"memcg: out of memory: ");
        self.add_path(&mut text, full.name());
        text.add(b": ");
        text.number(full.counter.usage());
        text.add(b" of ");
        text.number(full.counter.max());
        text.add(b" bytes (memory.max) in use, ");
        text.number(bytes);
        text.add(b" more asked for; held by");
        let mut before = u64::MAX;
        for n in 0..3 {
            let Some((tag, held)) = self.largest_below(full, before) else {
                break;
            };
            text.add(if n == 0 { b" " } else { b", " });
            self.add_path(&mut text, self.tree.objcgs.get(tag).name());
            text.add(b" ");
            text.number(held);
            before = held;
        }
        text.add(b": the program is killed, as its memory.oom.policy says");
        say::line(&[text.as_bytes()]);
        loop {
            // SAFETY: getpid and kill touch no memory of this program. The signal goes to this
            // process only, which is meant to end here.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
    }

    /// Of the owners of `full` and below that hold less than `before` bytes, the one that holds
    /// most, and its bytes.
    fn largest_below(&self, full: &Memcg, before: u64) -> Option<(Tag, u64)> {
        let tree = &self.tree;
        let mut best = None;
        for (tag, owner) in tree.objcgs.each() {
            let held = owner.charged_bytes();
            if owner.state() != State::Free
                && held > best.map_or(0, |(_, most)| most)
                && held < before
                && owner
                    .cell_if_any()
                    .is_some_and(|cell| tree.resolve(cell).group.is_within(full))
            {
                best = Some((tag, held));
            }
        }
        best
    }

    fn add_path(&self, text: &mut Text, name: NameId) {
        self.tree.with_path(name, |piece| text.add(piece));
    }
}

/// The uppermost group from `group` to `full` that is to be killed as a whole.
fn oom_group_of<'a>(group: &'a Memcg, full: &Memcg) -> Option<&'a Memcg> {
    let (mut whole, mut level) = (None, Some(group));
    while let Some(at) = level {
        if at.is_oom_group() {
            whole = Some(at);
        }
        level = at.parent().filter(|_| !core::ptr::eq(at, full));
    }
    whole
}

/// A line of text, made without the heap. What is too long is cut off.
struct Text {
    bytes: [u8; 480],
    len: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            bytes: [0; 480],
            len: 0,
        }
    }
}

impl Text {
    fn add(&mut self, piece: &[u8]) {
        let n = piece.len().min(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&piece[..n]);
        self.len += n;
    }

    fn number(&mut self, n: u64) {
        self.add(say::Decimal::new(n).as_bytes());
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::engine::{Flags, Request};
    use crate::group::ROOT;

    #[test]
    fn bytes_that_a_leaky_move_lost_are_held_by_nobody_below_any_group() {
        let engine = Engine::leaked();
        let tree = &engine.tree;
        let (_, rec) = tree.threads.join().unwrap();
        let _pin = tree.threads.epoch.pin(rec);
        let root = tree.memcgs.get(ROOT);
        let group = tree.memcgs.get(tree.create(root, b"a").unwrap());
        let task = tree.new_task(group, b"job", 0).unwrap();
        let request = Request::heap(task, 1 << 20, Flags::NOWAIT);
        engine.charge(rec, request).unwrap();
        // More than all the others hold, and in no group.
        let lost = tree.residual_in(task, None).unwrap();
        lost.charged.add(None, 1 << 30).unwrap();
        assert_eq!(lost.cell_if_any(), None);
        let held = tree.objcgs.get(task).charged_bytes();
        assert_eq!(engine.largest_below(root, u64::MAX), Some((task, held)));
        assert_eq!(engine.largest_below(group, held), None);
    }
}
