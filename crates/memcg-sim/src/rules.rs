//! What a charge at a limit comes to by the policies of the groups on its way: it is charged above
//! max, tasks are told to end, it is refused.
//!
//! The rules of `memory.oom.policy` done once more, from the books alone: for charges at which no
//! shrinker is asked, with nothing in stock anywhere. Then all there is to know is in the books,
//! and the clock goes on by what is slept. Where shrinkers have had their say before, who was told
//! to end is read once and must have been allowed (`adopt_kills`).

#![forbid(unsafe_code)]

use crate::books::{Books, Css, Group, OwnerIs};
use crate::world::World;
use memcg::testing::engine::Flags;
use memcg::testing::group::{Event, OomPolicy, Refusal};
use memcg::testing::os::clock::own;
use memcg::testing::sync::id::Id;

/// How long a group that was told to end is waited for, ns.
const PATIENCE_NS: u64 = 2_000_000_000;
/// A task that was told to is waited for so many steps of the clock, ns, modulo 32.
const TICK_NS: u64 = 500_000_000;
const TICKS: u64 = 4;
/// So many subtrees are tried before everybody is.
const SUBTREES: usize = 16;

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Caller {
    Door,
    Malloc,
    Infallible,
}

/// Inside `fallible` an allocator is refused so many bytes and more.
const FALLIBLE_FROM: u64 = 4096;

/// How a charge is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct How {
    pub flags: Flags,
    /// The thread is in `fallible`.
    pub fallible: bool,
}

impl How {
    /// As who asks before he takes.
    pub(crate) const AT_DOOR: Self = Self {
        flags: Flags::NOWAIT,
        fallible: false,
    };

    pub(crate) fn is_of_allocator(self) -> bool {
        self.flags.has(Flags::INFALLIBLE) || self.flags.has(Flags::MALLOC)
    }

    fn caller(self) -> Caller {
        if !self.is_of_allocator() || self.fallible {
            Caller::Door
        } else if self.flags.has(Flags::INFALLIBLE) {
            Caller::Infallible
        } else {
            Caller::Malloc
        }
    }

    /// Whether so many bytes are charged whatever the limits say, and nobody is told to end.
    pub(crate) fn is_small(self, bytes: u64) -> bool {
        let is_forced = self.flags.has(Flags::FORCE);
        !is_forced && self.fallible && self.is_of_allocator() && bytes < FALLIBLE_FROM
    }
}

/// How far above its max a caller may take a group.
fn over(group: &Group, caller: Caller) -> u64 {
    let may = match (group.oom_policy, caller) {
        (OomPolicy::Observe, _) => return u64::MAX,
        (OomPolicy::Deny, _) | (_, Caller::Door) | (OomPolicy::Default, Caller::Malloc) => false,
        (_, Caller::Malloc | Caller::Infallible) => true,
    };
    // The root has no budget here.
    if may && group.parent.is_some() {
        group.debt_max
    } else {
        0
    }
}

/// Who is told to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Choice {
    Task(usize),
    Whole(usize),
}

impl Books {
    /// A group and those above it.
    pub(crate) fn chain(&self, group: usize) -> Vec<usize> {
        core::iter::successors(Some(group), |&g| self.groups[g].parent).collect()
    }

    pub(crate) fn is_within(&self, group: usize, top: usize) -> bool {
        self.chain(group).contains(&top)
    }

    /// Those on an owner's way that have tasks told to end.
    pub(crate) fn killers(&self, owner: usize) -> Vec<usize> {
        let mut chain = self.chain(self.owners[owner].group);
        chain.retain(|&g| self.groups[g].oom_policy == OomPolicy::Kill);
        chain
    }

    /// Whether a policy may let a charge of an owner's go beyond max.
    pub(crate) fn may_go_beyond(&self, owner: usize, how: How) -> bool {
        let caller = how.caller();
        let chain = self.chain(self.owners[owner].group);
        chain.into_iter().any(|g| over(&self.groups[g], caller) > 0)
    }

    /// Whether it is known of all when they were told to end that count for a charge of an owner's.
    pub(crate) fn is_sure(&self, owner: usize) -> bool {
        self.killers(owner).iter().all(|&g| self.is_sure_below(g))
    }

    /// Whether it is known of all in a group when they were told to end.
    pub(crate) fn is_sure_below(&self, top: usize) -> bool {
        let is_whole = |g: usize| self.groups[g].unsure && self.is_within(g, top);
        let mut tasks = self.live_tasks(top).into_iter();
        !tasks.any(|task| self.owners[task].unsure) && !(0..self.groups.len()).any(is_whole)
    }

    /// The first on an owner's way that has no room for so many bytes more, where each may go
    /// beyond its max by `over`.
    pub(crate) fn refuser(
        &self,
        owner: usize,
        bytes: u64,
        over: impl Fn(&Group) -> u64,
    ) -> Option<usize> {
        let (before, after) = self.with_more(owner, bytes);
        let refuses = |g: &usize| {
            let group = &self.groups[*g];
            after[*g] > before[*g] && after[*g] > group.max.saturating_add(over(group))
        };
        let chain = self.chain(self.owners[owner].group);
        chain.into_iter().find(refuses)
    }

    /// Who may have refused a charge that `full` was to refuse: where others were `asked` for room,
    /// and made some there, those above in turn, up to the one that has none now.
    pub(crate) fn may_refuse(
        &self,
        owner: usize,
        bytes: u64,
        full: usize,
        asked: bool,
    ) -> Vec<usize> {
        let now = self.refuser(owner, bytes, |_| 0).filter(|_| asked);
        let chain = self.chain(full);
        let last = now.and_then(|now| chain.iter().position(|&g| g == now));
        chain[..=last.unwrap_or(0)].to_vec()
    }

    /// A charge is made, without reclaim: what happens on the way has happened. Refused: by whom.
    pub(crate) fn charge_at_limit(
        &mut self,
        owner: usize,
        bytes: u64,
        how: How,
        now: u64,
    ) -> Result<(), usize> {
        let Some(full) = self.refuser(owner, bytes, |_| 0) else {
            return Ok(());
        };
        let is_observed = self.is_observed(self.owners[owner].group);
        if how.flags.has(Flags::FORCE) {
            if !is_observed {
                let _ = self.mark_for(owner, bytes, Caller::Infallible, now);
            }
            return Ok(());
        }
        if how.is_small(bytes) {
            return Ok(());
        }
        if is_observed {
            return Ok(());
        }
        let caller = how.caller();
        if caller == Caller::Door {
            return Err(full);
        }
        self.mark_for(owner, bytes, caller, now)?;
        self.refuser(owner, bytes, |group| over(group, caller))
            .map_or(Ok(()), Err)
    }

    /// Every group on the way that kills and would be above its max has tasks told to end.
    fn mark_for(
        &mut self,
        owner: usize,
        bytes: u64,
        caller: Caller,
        now: u64,
    ) -> Result<(), usize> {
        for full in self.chain(self.owners[owner].group) {
            let group = &self.groups[full];
            if group.oom_policy != OomPolicy::Kill || group.parent.is_none() {
                continue;
            }
            let max = group.max;
            let excess = (self.usages()[full] + bytes).saturating_sub(max);
            if excess == 0 || self.mark_until(full, excess, now) {
                continue;
            }
            if caller == Caller::Infallible
                && bytes > max
                && self.owners[owner].is == OwnerIs::Task
                && self.owners[owner].adj > -1000
            {
                self.kill(owner, now);
            }
            if caller == Caller::Malloc {
                return Err(full);
            }
        }
        Ok(())
    }

    /// A max was written, and too much is in use: as many are told to end as make that up with
    /// those told before.
    pub(crate) fn kill_to_max(&mut self, full: usize, now: u64) {
        let excess = self.usages()[full].saturating_sub(self.groups[full].max);
        if excess > 0 && !self.is_observed(full) && !self.mark_until(full, excess, now) {
            self.event(full, |g| &mut g.oom);
        }
    }

    /// Whether those told to end hold `excess`, perhaps after more were told.
    fn mark_until(&mut self, full: usize, excess: u64, now: u64) -> bool {
        loop {
            let (expected, all) = self.survey(full, now);
            if expected >= excess {
                return true;
            }
            if all < excess {
                return false;
            }
            let Some(choice) = self.choose(full, now) else {
                return false;
            };
            self.event(full, |g| &mut g.oom);
            match choice {
                Choice::Task(task) => self.kill(task, now),
                Choice::Whole(whole) => {
                    self.event(whole, |g| &mut g.oom_group_kill);
                    self.groups[whole].whole_at = Some(now);
                    self.raise_generations(whole, true);
                    let mut all = self.live_tasks(whole);
                    all.retain(|&task| self.owners[task].adj > -1000);
                    for task in all {
                        self.kill(task, now);
                    }
                }
            }
        }
    }

    /// What is expected back of those told to end, and what all hold that are or could be told.
    fn survey(&mut self, full: usize, now: u64) -> (u64, u64) {
        let (mut expected, mut all) = (0, 0);
        for whole in self.wholes(full) {
            let held = self.held_as_whole(whole);
            all += held;
            if self.is_whole_expected(whole, now) {
                expected += held;
            }
        }
        for task in self.live_tasks(full) {
            let held = self.own_word(task);
            if let Some(whole) = self.whole_of(self.owners[task].group, full) {
                let owner = &self.owners[task];
                let is_late = owner.killed.is_none() && owner.adj > -1000;
                if is_late && self.is_whole_expected(whole, now) {
                    expected -= held.min(expected);
                }
                continue;
            }
            if self.is_expected(task, now) {
                expected += held;
                all += held;
            } else if self.owners[task].killed.is_none() && self.owners[task].adj > -1000 {
                all += held;
            }
        }
        (expected, all)
    }

    fn is_whole_expected(&self, whole: usize, now: u64) -> bool {
        self.groups[whole]
            .whole_at
            .is_some_and(|at| now - at < PATIENCE_NS)
    }

    /// Whether what a task holds that was told to end is expected back.
    fn is_expected(&mut self, task: usize, now: u64) -> bool {
        let owner = &mut self.owners[task];
        let Some(at) = owner.killed.filter(|_| !owner.overdue) else {
            return false;
        };
        let age = (now / TICK_NS).wrapping_sub(at / TICK_NS) % 32;
        owner.overdue = age > TICKS;
        !owner.overdue
    }

    /// A task is told to end.
    fn kill(&mut self, owner: usize, now: u64) {
        if self.owners[owner].killed.is_none() {
            self.owners[owner].killed = Some(now);
            self.event(self.owners[owner].group, |g| &mut g.oom_kill);
        }
    }

    /// Whether nobody there is refused or told to end.
    pub(crate) fn is_observed(&self, group: usize) -> bool {
        let mut chain = self.chain(group).into_iter();
        chain.any(|g| self.groups[g].oom_policy == OomPolicy::Observe)
    }

    /// The live tasks below a group that are not observed.
    fn live_tasks(&self, top: usize) -> Vec<usize> {
        let is = |&o: &usize| {
            let group = self.owners[o].group;
            self.owners[o].is == OwnerIs::Task
                && self.is_within(group, top)
                && !self.is_observed(group)
        };
        (0..self.owners.len()).filter(is).collect()
    }

    /// The uppermost group from one to the full one that ends as a whole.
    fn whole_of(&self, group: usize, full: usize) -> Option<usize> {
        let chain = self.chain(group);
        let to_full = chain.iter().position(|&g| g == full)?;
        let mut to_full = chain[..=to_full].iter().copied();
        to_full.rfind(|&g| self.groups[g].oom_group)
    }

    /// The children that are there, the oldest first.
    fn children(&self, group: usize) -> Vec<usize> {
        let online = self.there(Css::Online);
        let is = |&g: &usize| self.groups[g].parent == Some(group);
        online.into_iter().filter(is).collect()
    }

    /// What goes with a group that ends as a whole: what is observed below it does not.
    fn held_as_whole(&self, whole: usize) -> u64 {
        let usages = self.usages();
        let is_top = |g: usize| {
            self.groups[g].oom_policy == OomPolicy::Observe
                && !self.groups[g].parent.is_some_and(|p| self.is_observed(p))
        };
        let (mut held, mut left) = (usages[whole], self.children(whole));
        while let Some(group) = left.pop() {
            if is_top(group) {
                held -= usages[group].max(self.groups[group].reserve);
            } else {
                left.extend(self.children(group));
            }
        }
        held
    }

    /// Groups that end as a whole, in pre-order, without those inside another and without those
    /// that are observed. One that was removed has ended.
    fn wholes(&self, full: usize) -> Vec<usize> {
        let (mut found, mut left) = (Vec::new(), vec![full]);
        left.retain(|&g| self.groups[g].css == Css::Online);
        while let Some(group) = left.pop() {
            if self.groups[group].oom_group {
                found.extend(Some(group).filter(|&g| !self.is_observed(g)));
            } else {
                left.extend(self.children(group).into_iter().rev());
            }
        }
        found
    }

    /// The next who is to end.
    fn choose(&self, full: usize, now: u64) -> Option<Choice> {
        let usages = self.usages();
        let mut in_children = 0;
        let mut subtrees = Vec::new();
        let has_wholes = self.groups.iter().any(|group| group.had_oom_group);
        for child in self.children(full) {
            in_children += usages[child];
            let group = &self.groups[child];
            let rank = (
                usages[child].saturating_sub(group.max),
                usages[child].saturating_sub(group.min),
                u32::MAX - group.index.raw(),
            );
            if has_wholes || !self.live_tasks(child).is_empty() {
                subtrees.push((rank, Some(child)));
            }
        }
        let own = usages[full].saturating_sub(in_children);
        subtrees.push(((0, own, u32::MAX), None));
        subtrees.sort_unstable_by_key(|&(rank, _)| core::cmp::Reverse(rank));
        let tried = subtrees.len().min(SUBTREES);
        for &(_, subtree) in &subtrees[..tried] {
            let best = self.best_of(full, now, |group| match subtree {
                Some(child) => self.is_within(group, child),
                None => group == full,
            });
            if best.is_some() {
                return best;
            }
        }
        if tried < SUBTREES {
            return None;
        }
        self.best_of(full, now, |_| true)
    }

    fn best_of(&self, full: usize, now: u64, is_in: impl Fn(usize) -> bool) -> Option<Choice> {
        let usages = self.usages();
        let total = i128::from(self.groups[full].max.min(usages[full]));
        let points = |held: u64, adj: i16| {
            (held > 0 && adj > -1000).then(|| i128::from(held) + total * i128::from(adj) / 1000)
        };
        let (mut best, mut again) = (None, None);
        let offer = |best: &mut Option<(i128, Choice)>, points, choice| {
            if best.is_none_or(|(most, _)| points > most) {
                *best = Some((points, choice));
            }
        };
        for whole in self.wholes(full) {
            if !is_in(whole) || self.is_whole_expected(whole, now) {
                continue;
            }
            if let Some(points) = points(self.held_as_whole(whole), 0) {
                let was_ended = self.groups[whole].whole_at.is_some();
                let of = if was_ended { &mut again } else { &mut best };
                offer(of, points, Choice::Whole(whole));
            }
        }
        let mut tasks = self.live_tasks(full);
        tasks.sort_unstable_by_key(|&o| self.owners[o].tag);
        for task in tasks {
            let owner = &self.owners[task];
            let is_one = is_in(owner.group) && owner.killed.is_none();
            if !is_one {
                continue;
            }
            if let Some(whole) = self.whole_of(owner.group, full) {
                let is_late = self.is_whole_expected(whole, now) && owner.adj > -1000;
                if let Some(points) = points(self.held_as_whole(whole), 0).filter(|_| is_late)
                    && self.own_word(task) > 0
                {
                    offer(&mut best, points, Choice::Whole(whole));
                }
                continue;
            }
            if let Some(points) = points(self.own_word(task), owner.adj) {
                offer(&mut best, points, Choice::Task(task));
            }
        }
        best.or(again).map(|(_, choice)| choice)
    }
}

impl World {
    /// After a step, begun at `began` by the clock, of which the books cannot say how it went: whom
    /// the `killers` on its way had told to end. Read once, and only what the rules allow.
    pub(crate) fn adopt_kills(&self, killers: &[usize], began: u64) {
        let mut books = self.stage.books.borrow_mut();
        let now = own::now().unwrap_or_default();
        let wholes = self.adopt_wholes(&mut books, killers, began != now);
        let tree = &self.engine.tree;
        let mut tasks = 0;
        for task in 0..books.owners.len() {
            let owner = &books.owners[task];
            if owner.is != OwnerIs::Task {
                continue;
            }
            let record = tree.objcgs.get(owner.tag);
            if owner.killed.is_none() && record.is_killed() {
                let allowed = killers
                    .iter()
                    .any(|&full| books.is_within(owner.group, full));
                assert!(allowed, "a task is told to die where no policy says so");
                assert!(owner.adj > -1000, "it is never to be killed");
                books.kill(task, now);
                books.owners[task].unsure = began != now;
                tasks += 1;
            }
            if books.owners[task].killed.is_some() && !books.owners[task].unsure && began == now {
                let expected = books.is_expected(task, now);
                assert_eq!(
                    record.is_expected_back(now),
                    expected,
                    "task {task} is waited for"
                );
            }
        }
        for &full in killers {
            for _ in 0..=tasks + wholes {
                books.event(full, |g| &mut g.oom_may);
            }
        }
    }

    /// Groups that were told to end as a whole; answers how many.
    fn adopt_wholes(&self, books: &mut Books, killers: &[usize], unsure: bool) -> usize {
        let now = own::now().unwrap_or_default();
        // One that has gone since has taken its own count along.
        for gone in self.stage.removed.take() {
            if books.groups[gone].oom_group {
                books.event(gone, |g| &mut g.oom_group_may);
            }
            books.doubt_generations(gone);
        }
        let mut allowed: Vec<usize> = killers.iter().flat_map(|&g| books.wholes(g)).collect();
        // One that is on its way out already is told again for who came into it since.
        let is_late = |&task: &usize| {
            let owner = &books.owners[task];
            owner.killed.is_none() && owner.adj > -1000
        };
        allowed.retain(|&whole| {
            !books.is_whole_expected(whole, now) || books.live_tasks(whole).iter().any(is_late)
        });
        let mut found = 0;
        // One whose events there is no memory for is not told: these are counted always.
        for g in books.there(Css::Online) {
            let group = self.stage.engine.tree.memcgs.get(books.groups[g].index);
            let told = group.nr_events(Event::OomGroupKill, true);
            let known = books.groups[g].oom_group_kill[1];
            if told == known {
                continue;
            }
            assert!(
                told == known + 1,
                "group {g} is told to end as a whole twice"
            );
            assert!(
                allowed.contains(&g),
                "group {g} is told to end as a whole where no policy says so"
            );
            books.event(g, |g| &mut g.oom_group_kill);
            books.groups[g].whole_at = Some(now);
            books.raise_generations(g, true);
            books.groups[g].unsure = unsure;
            found += 1;
        }
        found
    }

    /// A refusal is an event of the group that was full.
    pub(crate) fn note_refusal(&self, refusal: Refusal) {
        let mut books = self.stage.books.borrow_mut();
        let Some(full) = refusal.group else {
            return;
        };
        match books.group_at(full) {
            Some(group) => books.event(group, |g| &mut g.oom),
            // It has been removed meanwhile, by what was asked for room.
            None => {
                let is = |g: &Group| g.index == full;
                if let Some(group) = books.groups.iter().rposition(is) {
                    books.event(group, |g| &mut g.oom_may);
                }
            }
        }
    }
}
