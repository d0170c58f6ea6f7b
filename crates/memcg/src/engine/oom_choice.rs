//! Which task is to end for a full group, and what is expected back of those that were told before.
//!
//! Invariants: a look changes nothing. Nobody is chosen because he happens to charge: the subtree
//! that is most above its own limit is asked first, and there the task of highest badness. Nobody
//! is chosen in a group that is observed, and nothing is expected back from there.
//! Depends on: `reclaim::oom_victim` for badness; `group::victim` for groups that end as a whole.
//! Never: a mark (`oom_kill` makes those); a lock; memory. Cost of everything here: O(owners), and
//! O(groups) where a group has `memory.oom.group`.
//!
//! Source of the idea: Linux, `mm/oom_kill.c` (`select_bad_process`, `mem_cgroup_get_oom_group`).

#![forbid(unsafe_code)]

use super::Engine;
use crate::counter::Level;
use crate::group::objcg::{Objcg, State};
use crate::group::task_owner::FIRST_TASK_ID;
use crate::group::{GroupId, Memcg, OomPolicy, ROOT, Tag};
use crate::reclaim::oom_victim::{ADJ_MIN, badness};
use crate::sync::id::Id;

/// So many subtrees are tried one after the other; then whoever is below the full group.
const SUBTREES: usize = 16;

/// What there is below a full group.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Survey {
    /// What those hold that were told to end and are expected to, in bytes.
    pub expected: u64,
    /// What all hold that could be told, or have been.
    pub all: u64,
}

/// Who is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Choice {
    /// One task.
    Task(Tag),
    /// All of a group, which has `memory.oom.group`.
    Whole(GroupId),
}

/// Whom a choice may fall on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Among {
    /// Whoever is below a group whose policy is to kill.
    AllBelow,
    /// What the program made, in groups above their own max: for the budget of the process.
    MadeAndOver,
}

impl Among {
    /// Whether groups end as a whole. For the budget tasks end one by one: a group may hold some
    /// that the program did not make.
    fn ends_wholes(self) -> bool {
        match self {
            Among::AllBelow => true,
            Among::MadeAndOver => false,
        }
    }

    fn has(self, task: &Objcg) -> bool {
        match self {
            Among::AllBelow => true,
            Among::MadeAndOver => task.id() >= FIRST_TASK_ID,
        }
    }
}

/// How a subtree compares: bytes above its own max, then bytes beyond its `min`, then its number.
type Rank = (u64, u64, u32);

/// The best so far.
#[derive(Default)]
struct Best(Option<(i64, Choice)>);

impl Best {
    fn offer(&mut self, points: i64, choice: Choice) {
        if self.0.is_none_or(|(most, _)| points > most) {
            self.0 = Some((points, choice));
        }
    }
}

/// Whether a group was told to end as a whole, and is still expected to.
fn is_expected(group: &Memcg, now_ns: u64) -> bool {
    group
        .victim()
        .is_some_and(|victim| victim.is_expected_back(now_ns))
}

/// Whether a task could be told to end, and was not.
fn is_unmarked(task: &Objcg) -> bool {
    !task.is_killed() && task.oom_score_adj() > ADJ_MIN
}

impl Engine {
    /// What is expected back below `full`, and what could be. The caller is pinned.
    pub(super) fn survey(&self, full: &Memcg, among: Among, now_ns: u64) -> Survey {
        let mut survey = Survey::default();
        self.each_whole(full, among, |group| {
            let held = self.held_as_whole(group);
            survey.all += held;
            if is_expected(group, now_ns) {
                survey.expected += held;
            }
        });
        for (_, task) in self.tree.objcgs.each() {
            let Some(group) = self.group_of_candidate(full, task) else {
                continue;
            };
            if !among.has(task) {
                continue;
            }
            let held = task.charged_bytes();
            if let Some(whole) = self.whole_of(group, full, among) {
                // One that came after the group was told is not on its way out.
                if is_expected(whole, now_ns) && is_unmarked(task) {
                    survey.expected = survey.expected.saturating_sub(held);
                }
                continue;
            }
            if task.is_expected_back(now_ns) {
                survey.expected += held;
                survey.all += held;
            } else if is_unmarked(task) {
                survey.all += held;
            }
        }
        survey
    }

    /// Who is to end next for `full`; `None`: there is nobody left. The caller is pinned.
    pub(super) fn choose(&self, full: &Memcg, among: Among, now_ns: u64) -> Option<Choice> {
        let mut last = None;
        for _ in 0..SUBTREES {
            let next = match among {
                Among::AllBelow => self.next_subtree(full, last),
                Among::MadeAndOver => self.next_over(full, last),
            };
            let (rank, subtree) = next?;
            let best = match subtree {
                Some(top) => self.best_of(full, among, now_ns, |group| group.is_within(top)),
                None => self.best_of(full, among, now_ns, |group| core::ptr::eq(group, full)),
            };
            if best.is_some() {
                return best;
            }
            last = Some(rank);
        }
        match among {
            Among::AllBelow => self.best_of(full, among, now_ns, |_| true),
            Among::MadeAndOver => {
                self.best_of(full, among, now_ns, |group| group.excess_with(0) > 0)
            }
        }
    }

    /// The group below `full` that is most above its own max, of those of a lower rank than
    /// `below`.
    fn next_over(&self, full: &Memcg, below: Option<Rank>) -> Option<(Rank, Option<&Memcg>)> {
        let mut best: Option<(Rank, Option<&Memcg>)> = None;
        let mut at = self.tree.next_in_preorder(full.index(), full.index());
        while let Some(index) = at {
            let group = self.tree.memcgs.get(index);
            let rank = (group.excess_with(0), 0, u32::MAX - index.raw());
            if rank.0 > 0
                && group.has_tasks()
                && !group.is_observed()
                && below.is_none_or(|below| rank < below)
                && best.is_none_or(|(most, _)| rank > most)
            {
                best = Some((rank, Some(group)));
            }
            at = self.tree.next_in_preorder(full.index(), index);
        }
        best
    }

    /// The child subtree of the next lower rank than `below`; `None` in its place: what is in
    /// `full` itself. Subtrees without tasks that do not end as a whole are passed over.
    fn next_subtree<'a>(
        &'a self,
        full: &Memcg,
        below: Option<Rank>,
    ) -> Option<(Rank, Option<&'a Memcg>)> {
        let is_next = |rank: Rank, best: &Option<(Rank, Option<&Memcg>)>| {
            below.is_none_or(|below| rank < below)
                && best.as_ref().is_none_or(|(most, _)| rank > *most)
        };
        let (mut best, mut in_children) = (None, 0_u64);
        let may_be_whole = self.tree.memcgs.get(ROOT).has_oom_groups();
        let mut at = self.tree.first_child(full);
        while let Some(index) = at {
            at = self.tree.next_sibling(index);
            let child = self.tree.memcgs.get(index);
            let counter = &child.counter;
            let usage = counter.usage();
            in_children = in_children.saturating_add(usage);
            let rank = (
                child.excess_with(0),
                usage.saturating_sub(counter.min()),
                // The older first.
                u32::MAX - index.raw(),
            );
            if (child.has_tasks() || may_be_whole) && is_next(rank, &best) && !child.is_observed() {
                best = Some((rank, Some(child)));
            }
        }
        let own = (
            0,
            full.counter.usage().saturating_sub(in_children),
            u32::MAX,
        );
        if is_next(own, &best) {
            best = Some((own, None));
        }
        best
    }

    /// Of those in groups that `is_in` says yes to, who is best told to end.
    fn best_of(
        &self,
        full: &Memcg,
        among: Among,
        now_ns: u64,
        is_in: impl Fn(&Memcg) -> bool,
    ) -> Option<Choice> {
        let total = full.counter.max().min(full.counter.usage());
        let (mut best, mut again) = (Best::default(), Best::default());
        self.each_whole(full, among, |group| {
            // One that nothing can be noted of would be told again and again.
            let Some(victim) = group.victim() else {
                return;
            };
            if !is_in(group) || victim.is_expected_back(now_ns) {
                return;
            }
            if let Some(points) = badness(self.held_as_whole(group), total, 0) {
                // One that did not end when it was told to is told again when nobody else is left.
                let of = if victim.was_ended() {
                    &mut again
                } else {
                    &mut best
                };
                of.offer(points, Choice::Whole(group.index()));
            }
        });
        for (tag, task) in self.tree.objcgs.each() {
            let Some(group) = self.group_of_candidate(full, task) else {
                continue;
            };
            let is_one = is_in(group) && among.has(task) && !task.is_killed();
            if !is_one {
                continue;
            }
            if let Some(whole) = self.whole_of(group, full, among) {
                // It came after the group was told, which is told once more for it.
                let is_late = is_expected(whole, now_ns)
                    && task.oom_score_adj() > ADJ_MIN
                    && task.charged_bytes() > 0;
                // The size of the whole last: it is a walk over the groups below.
                if is_late && let Some(points) = badness(self.held_as_whole(whole), total, 0) {
                    best.offer(points, Choice::Whole(whole.index()));
                }
                continue;
            }
            if let Some(points) = badness(task.charged_bytes(), total, task.oom_score_adj()) {
                best.offer(points, Choice::Task(tag));
            }
        }
        best.0.or(again.0).map(|(_, choice)| choice)
    }

    /// The group of a live task, if that is `full` or below it and is not observed.
    fn group_of_candidate(&self, full: &Memcg, task: &Objcg) -> Option<&Memcg> {
        if task.state() != State::Task {
            return None;
        }
        let group = self.tree.resolve(task.cell_if_any()?).group;
        (group.is_within(full) && !group.is_observed()).then_some(group)
    }

    /// The uppermost group from `group` to `full` that ends as a whole.
    fn whole_of<'a>(&self, group: &'a Memcg, full: &Memcg, among: Among) -> Option<&'a Memcg> {
        if !among.ends_wholes() || !self.tree.memcgs.get(ROOT).has_oom_groups() {
            return None;
        }
        let (mut whole, mut level) = (None, Some(group));
        while let Some(at) = level {
            if at.is_oom_group() {
                whole = Some(at);
            }
            level = at.parent().filter(|_| !core::ptr::eq(at, full));
        }
        whole
    }

    /// What goes with a group that ends as a whole: all but what is observed below it.
    fn held_as_whole(&self, whole: &Memcg) -> u64 {
        let mut held = whole.counter.usage();
        let mut at = self.tree.next_in_preorder(whole.index(), whole.index());
        while let Some(index) = at {
            let group = self.tree.memcgs.get(index);
            let is_top = group.oom_policy() == OomPolicy::Observe
                && group.parent().is_some_and(|parent| !parent.is_observed());
            if is_top {
                // What the levels above count for it.
                let counted = group.counter.usage().max(group.counter.reserve());
                held = held.saturating_sub(counted);
            }
            at = self.tree.next_in_preorder(whole.index(), index);
        }
        held
    }

    /// Every group from `full` down that ends as a whole and is not observed, without those inside
    /// another.
    fn each_whole(&self, full: &Memcg, among: Among, mut f: impl FnMut(&Memcg)) {
        if !among.ends_wholes() || !self.tree.memcgs.get(ROOT).has_oom_groups() {
            return;
        }
        let mut at = Some(full.index());
        while let Some(index) = at {
            let group = self.tree.memcgs.get(index);
            if group.is_online()
                && self
                    .whole_of(group, full, among)
                    .is_some_and(|whole| core::ptr::eq(whole, group))
                && !group.is_observed()
            {
                f(group);
            }
            at = self.tree.next_in_preorder(full.index(), index);
        }
    }
}
