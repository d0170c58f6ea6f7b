//! Marks: where a group's policy is `kill`, tasks that hold its excess are told to end.
//!
//! Nobody waits for them. The charge that found the group full is forced, and the limit is felt
//! where the marked task looks: a future at its next poll, a loop at `checkpoint`. Where tasks are
//! threads of a program that knows nothing of us (under exec) the program is killed, with a line
//! that says why.
//!
//! Invariants: with what the marked tasks hold the group would be within its max, or there is
//! nobody left to mark. A mark is for good, and follows a task that moves. A task that is idle is
//! woken by the worker, in whatever group.
//! Depends on: `oom_choice` for who; `group::victim` for how often a look is worth it.
//! Never: a wait; a wake on the thread that charges; a mark that no policy and no budget asks for.

#![forbid(unsafe_code)]

use super::oom_choice::{Among, Choice};
use super::{Engine, Request, Work};
use crate::counter::Level;
use crate::group::exact_charge::Refusal;
use crate::group::objcg::{Objcg, State};
use crate::group::task_owner::FIRST_TASK_ID;
use crate::group::{Caller, Event, Memcg, OomPolicy, Tag};
use crate::kmem::shrinker_registry::Ask;
use crate::os::clock;
use crate::reclaim::oom_victim::ADJ_MIN;
use crate::thread::ThreadRec;

impl Engine {
    /// Marks tasks in every group above the charged owner that has the policy to kill and would be
    /// above its max with the charge. `Err`: in one of them there is nobody left to mark, and the
    /// caller can be refused. The caller is pinned. O(depth) where no group is above.
    pub(super) fn mark_for(&self, request: Request, caller: Caller) -> Result<(), Refusal> {
        let owner = self.tree.objcgs.get(request.tag);
        let mut level = Some(self.tree.resolve(owner.cell()).group);
        while let Some(full) = level {
            level = full.parent();
            if full.oom_policy() != OomPolicy::Kill || level.is_none() {
                continue;
            }
            let excess = || full.excess_with(request.bytes);
            let is_enough = excess() == 0 || {
                // A refusal is not given by an answer of before.
                let is_now = caller == Caller::Malloc;
                self.mark_among(full, Among::AllBelow, excess, request.bytes, is_now)
            };
            if !is_enough && caller == Caller::Infallible && request.bytes > full.counter.max() {
                // It could never fit, so nobody else has to go for it.
                self.mark_own(request.tag);
            }
            if !is_enough && caller == Caller::Malloc {
                return Err(Refusal {
                    group: Some(full.index()),
                    usage: full.counter.usage(),
                    max: full.counter.max(),
                });
            }
        }
        Ok(())
    }

    /// After `max` was written and could not be reclaimed to: where the policy is to kill, tasks
    /// are told to end until what they hold makes up what is too much, or there is nobody left.
    /// Nothing happens to a group that is observed, or was removed since `ask` was made of it.
    pub fn kill_to_max(&self, rec: &ThreadRec, ask: Ask) {
        let _pin = self.tree.threads.epoch.pin(rec);
        let Some(full) = self.group_of(ask) else {
            return;
        };
        let excess = || full.excess_with(0);
        if full.oom_policy() == OomPolicy::Kill
            && !full.is_observed()
            && excess() > 0
            && !self.mark_among(full, Among::AllBelow, excess, 0, true)
        {
            full.event(Event::Oom);
        }
    }

    /// Marks below `full`, among those that `among` names, until what marked tasks hold makes up
    /// what `excess` answers, in bytes. `false`: there is nobody left, or all together would not be
    /// enough. `bytes` were asked for. Unless `is_now`, the answer may be that of a look a few ms
    /// ago.
    pub(super) fn mark_among(
        &self,
        full: &Memcg,
        among: Among,
        excess: impl Fn() -> u64,
        bytes: u64,
        is_now: bool,
    ) -> bool {
        // Without memory even for that nobody can be told once only, so nobody is.
        let Some(victim) = full.victim() else {
            return false;
        };
        let began = clock::monotonic_ns();
        if let Some(answer) = victim.last_answer(began).filter(|_| !is_now) {
            return answer;
        }
        let Some(choosing) = victim.choose() else {
            // Another thread sees to it.
            return true;
        };
        let mut has_marked = false;
        let is_enough = loop {
            let survey = self.survey(full, among, began);
            // Read after the survey: what a marked task gives back meanwhile, on another thread, is
            // in `expected` or no longer in the excess. The other way round it would be in neither,
            // and somebody else would be marked for it.
            let excess = excess();
            if survey.expected >= excess {
                break true;
            }
            // What even the end of all would not make fit kills nobody. A budget takes what it
            // gets.
            if among == Among::AllBelow && survey.all < excess {
                break false;
            }
            let Some(choice) = self.choose(full, among, began) else {
                break false;
            };
            full.event(Event::Oom);
            self.mark_choice(full, choice, bytes);
            has_marked = true;
        };
        if !has_marked {
            choosing.rest(began, clock::monotonic_ns(), is_enough);
        }
        is_enough
    }

    fn mark_choice(&self, full: &Memcg, choice: Choice, bytes: u64) {
        let tree = &self.tree;
        match choice {
            Choice::Task(tag) => self.mark_one(tag, full, bytes),
            Choice::Whole(group) => {
                let whole = tree.memcgs.get(group);
                whole.event(Event::OomGroupKill);
                if let Some(victim) = whole.victim() {
                    victim.end_whole(clock::monotonic_ns());
                }
                // Its futures that are no tasks.
                self.raise_kill_generation(whole);
                for (tag, task) in tree.objcgs.each() {
                    if task.state() != State::Task || task.oom_score_adj() <= ADJ_MIN {
                        continue;
                    }
                    let group = tree.resolve(task.cell()).group;
                    if group.is_within(whole) && !group.is_observed() {
                        self.mark_one(tag, full, bytes);
                    }
                }
            }
        }
    }

    fn mark_one(&self, tag: Tag, full: &Memcg, bytes: u64) {
        let task = self.tree.objcgs.get(tag);
        if self.options.kill_process() && task.id() < FIRST_TASK_ID {
            self.end_process(full, bytes);
        }
        self.tell(task);
    }

    /// Marks a live task, unless it is marked.
    fn tell(&self, task: &Objcg) {
        if task.kill() {
            let group = self.tree.resolve(task.cell()).group;
            group.event(Event::OomKill);
            // What it holds is expected back by those who stand in line.
            self.tree.tell_freed(group);
            self.defer(Work::Wake { id: task.id() });
        }
    }

    /// Marks the task that charges, if it is one that the program made.
    fn mark_own(&self, tag: Tag) {
        let task = self.tree.objcgs.get(tag);
        if task.state() == State::Task
            && task.id() >= FIRST_TASK_ID
            && task.oom_score_adj() > ADJ_MIN
        {
            self.tell(task);
        }
    }
}
