//! Out of memory: where a group's policy is `kill`, a task of it is told to die, and what it holds is lent to who asked.
//!
//! Kept: one victim a group at a time. Until it has ended, or its time is over, charges may go beyond max by what it still holds of
//! what it held when it was chosen: never by more, however much it goes on charging. A task that is told to die is so for good; its
//! future is woken by the worker, in whatever group it idles; a thread sees the flag. Where the tasks are threads of a program that
//! knows nothing of us (under exec) the program is killed, with a line that says why.
//! Relied on: `reclaim::oom` for the choice.
//! Never done: a wait for the victim; a wake on the thread that charges; a kill where the policy does not say so.

use super::{Engine, Work};
use crate::counter::Level;
use crate::group::objcg::State;
use crate::group::task::FIRST_TASK_ID;
use crate::group::{Event, Memcg};
use crate::os::{clock, say};
use crate::reclaim::oom::badness;
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How long a victim has to end before another is chosen.
const PATIENCE_NS: u64 = 2_000_000_000;
const PLACES: usize = 64;

/// A group's victim.
#[derive(Default)]
struct Victim {
    /// Somebody chooses.
    busy: AtomicU32,
    group: AtomicU32,
    generation: AtomicU32,
    tag: AtomicU32,
    id: AtomicU32,
    _pad: AtomicU32,
    credit: AtomicU64,
    until_ns: AtomicU64,
}

/// The victims of an engine's groups. Of two groups that share a place each has the other's forgotten.
pub struct Victims([Victim; PLACES]);

impl Default for Victims {
    fn default() -> Self {
        Self(core::array::from_fn(|_| Victim::default()))
    }
}

// SAFETY: integers.
unsafe impl Zeroed for Victims {}

/// Nobody else chooses for the group until this is dropped.
struct Choosing<'a>(&'a Victim);

impl Drop for Choosing<'_> {
    fn drop(&mut self) {
        // Release pairs with the Acquire of `choose`.
        self.0.busy.store(0, Ordering::Release);
    }
}

impl Victim {
    fn choose(&self) -> Option<Choosing<'_>> {
        // Acquire pairs with the Release of `Choosing::drop`.
        self.busy
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            .then(|| Choosing(self))
    }

    fn is_of(&self, group: &Memcg) -> bool {
        self.group.load(Ordering::Relaxed) == group.index()
            && self.generation.load(Ordering::Relaxed) == group.generation()
    }
}

/// The task that is to go, and what it holds.
#[derive(Clone, Copy)]
struct Choice {
    tag: u32,
    held: u64,
    points: i64,
}

impl Engine {
    /// A charge of `bytes` found no room in `full`, whose policy is to kill: sees to it that somebody is told to die. Answers the
    /// bytes above max that may be charged meanwhile; 0: there is nobody. O(owners), once a victim. The caller is pinned.
    pub(super) fn oom_kill(&self, full: &Memcg, bytes: u64) -> u64 {
        let victim = &self.victims.0[full.index() as usize % PLACES];
        let Some(_choosing) = victim.choose() else {
            return self.credit(victim, full);
        };
        let credit = self.credit(victim, full);
        if credit > 0 {
            return credit;
        }
        full.event(Event::Oom);
        let Some(choice) = self.choose(full) else {
            return 0;
        };
        self.kill_for(full, choice, bytes);
        let task = self.tree.objcgs.get(choice.tag);
        victim.group.store(full.index(), Ordering::Relaxed);
        victim
            .generation
            .store(full.generation(), Ordering::Relaxed);
        victim.tag.store(choice.tag, Ordering::Relaxed);
        victim.id.store(task.id(), Ordering::Relaxed);
        victim.credit.store(choice.held, Ordering::Relaxed);
        victim
            .until_ns
            .store(clock::monotonic_ns() + PATIENCE_NS, Ordering::Relaxed);
        choice.held
    }

    /// What the present victim of `full` is still expected to give back.
    fn credit(&self, victim: &Victim, full: &Memcg) -> u64 {
        if !victim.is_of(full) || clock::monotonic_ns() >= victim.until_ns.load(Ordering::Relaxed) {
            return 0;
        }
        let Some(task) = self.tree.objcgs.try_get(victim.tag.load(Ordering::Relaxed)) else {
            return 0;
        };
        let is_here = task.state() == State::Task
            && task.is_killed()
            && task.id() == victim.id.load(Ordering::Relaxed)
            && self.tree.resolve(task.cell()).group.is_within(full);
        if !is_here {
            return 0;
        }
        task.charged_bytes()
            .min(victim.credit.load(Ordering::Relaxed))
    }

    /// The task of `full` or below that is best told to die.
    fn choose(&self, full: &Memcg) -> Option<Choice> {
        let tree = &self.tree;
        let total = full.counter.max().min(full.counter.usage());
        let mut best: Option<Choice> = None;
        for tag in 1..tree.objcgs.high_water() {
            let task = tree.objcgs.get(tag);
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
                for tag in 1..tree.objcgs.high_water() {
                    let task = tree.objcgs.get(tag);
                    if task.state() == State::Task
                        && tree.resolve(task.cell()).group.is_within(whole)
                    {
                        self.kill_one(tag);
                    }
                }
            }
            None => self.kill_one(choice.tag),
        }
    }

    fn kill_one(&self, tag: u32) {
        let task = self.tree.objcgs.get(tag);
        if task.kill() {
            self.tree.resolve(task.cell()).group.event(Event::OomKill);
            // A full set of work: it finds out when it is polled next.
            self.defer(Work::Wake { id: task.id() });
        }
    }

    /// Ends the program, all its threads: SIGKILL, as the kernel does.
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
            // SAFETY: no preconditions; a signal to this process.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
    }

    /// The owner of `full` or below that holds most of those that hold less than `before`.
    fn largest_below(&self, full: &Memcg, before: u64) -> Option<(u32, u64)> {
        let tree = &self.tree;
        let mut best = None;
        for tag in 1..tree.objcgs.high_water() {
            let owner = tree.objcgs.get(tag);
            let held = owner.charged_bytes();
            if owner.state() != State::Free
                && held > best.map_or(0, |(_, most)| most)
                && held < before
                && tree.resolve(owner.cell()).group.is_within(full)
            {
                best = Some((tag, held));
            }
        }
        best
    }

    fn add_path(&self, text: &mut Text, name: u32) {
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

/// A line, made without the heap; what is too long is cut off.
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
