//! What a charge at a limit comes to by the policies of the groups on its way: debt, a task that is
//! told to die, a refusal.
//!
//! The rules of `memory.oom.policy` done once more, from the books alone: for charges at which no
//! shrinker is asked, with nothing in stock anywhere. Then all there is to know is in the books,
//! and the clock goes on by what is slept. Where shrinkers have had their say before, who was told
//! to die is read once and must have been allowed (`adopt_kills`).

#![forbid(unsafe_code)]

use crate::books::{Books, Group, OwnerIs, Victim};
use crate::world::World;
use memcg::testing::engine::Flags;
use memcg::testing::group::{OomPolicy, Refusal};

/// How long a victim has to end before another is chosen, ns.
const PATIENCE_NS: u64 = 2_000_000_000;
/// A charge that may wait for a victim looks so often, so far apart, ns.
const LOOKS: u32 = 500;
const LOOK_NS: u64 = 200_000;

impl Books {
    /// A group and those above it.
    pub(crate) fn chain(&self, group: usize) -> Vec<usize> {
        core::iter::successors(Some(group), |&g| self.groups[g].parent).collect()
    }

    fn is_within(&self, group: usize, top: usize) -> bool {
        self.chain(group).contains(&top)
    }

    /// Those on an owner's way that have tasks killed.
    pub(crate) fn killers(&self, owner: usize) -> Vec<usize> {
        let mut chain = self.chain(self.owners[owner].group);
        chain.retain(|&g| self.groups[g].oom_policy == OomPolicy::Kill);
        chain
    }

    /// Whether a policy may let a charge of an owner's go beyond max.
    pub(crate) fn may_go_beyond(&self, owner: usize, flags: Flags) -> bool {
        let by_policy = |g: usize| match self.groups[g].oom_policy {
            OomPolicy::Deny => false,
            OomPolicy::Default => flags.has(Flags::DEBT),
            OomPolicy::Debt | OomPolicy::Kill => true,
        };
        self.chain(self.owners[owner].group)
            .into_iter()
            .any(by_policy)
    }

    /// Whether all victims are known that may count for a charge of an owner's.
    pub(crate) fn is_sure(&self, owner: usize) -> bool {
        !self.killers(owner).iter().any(|&g| self.groups[g].unsure)
    }

    /// The first on an owner's way that has no room for so many bytes more, where each may go
    /// beyond its max by `over`.
    fn refuser(&self, owner: usize, bytes: u64, over: impl Fn(&Group) -> u64) -> Option<usize> {
        let (before, after) = self.with_more(owner, bytes);
        let refuses = |g: &usize| {
            let group = &self.groups[*g];
            after[*g] > before[*g] && after[*g] > group.max.saturating_add(over(group))
        };
        let chain = self.chain(self.owners[owner].group);
        chain.into_iter().find(refuses)
    }

    /// A charge is made, without reclaim: what happens on the way has happened. Refused: by whom.
    pub(crate) fn charge_at_limit(
        &mut self,
        owner: usize,
        bytes: u64,
        flags: Flags,
        mut now: u64,
    ) -> Result<(), usize> {
        let Some(full) = self.refuser(owner, bytes, |_| 0) else {
            return Ok(());
        };
        let by_default = flags.has(Flags::DEBT);
        let owes = |group: &Group| match group.oom_policy {
            OomPolicy::Debt => true,
            OomPolicy::Default => by_default,
            OomPolicy::Deny | OomPolicy::Kill => false,
        };
        if owes(&self.groups[full]) {
            let over = |group: &Group| if owes(group) { group.most_debt() } else { 0 };
            return self.refuser(owner, bytes, over).map_or(Ok(()), Err);
        }
        if self.groups[full].oom_policy != OomPolicy::Kill {
            return Err(full);
        }
        for _ in 0..LOOKS {
            let credit = self.oom_kill(full, now);
            if credit == 0 {
                break;
            }
            let index = self.groups[full].index;
            let over = |group: &Group| if group.index == index { credit } else { 0 };
            match self.refuser(owner, bytes, over) {
                None => return Ok(()),
                Some(other) if other != full => return Err(other),
                Some(_) if !flags.has(Flags::WAIT) => break,
                Some(_) => now += LOOK_NS,
            }
        }
        Err(full)
    }

    /// A full group has a task die, unless one is about to. What that one gives back.
    pub(crate) fn oom_kill(&mut self, full: usize, now: u64) -> u64 {
        let credit = self.credit(full, now);
        if credit > 0 {
            return credit;
        }
        self.kill_next(full, now)
    }

    /// A max was written, and too much is in use: as many are told to die as make that up with
    /// those told before.
    pub(crate) fn kill_to_max(&mut self, full: usize, now: u64) {
        let mut any = false;
        loop {
            let excess = self.usages()[full].saturating_sub(self.groups[full].max);
            let killed = self.live_tasks(full).into_iter();
            let killed = killed.filter(|&task| self.owners[task].killed);
            if excess <= killed.map(|task| self.own_word(task)).sum() {
                return;
            }
            if self.kill_next(full, now) == 0 {
                break;
            }
            any = true;
        }
        if !any {
            self.event(full, |g| &mut g.oom);
        }
    }

    fn kill_next(&mut self, full: usize, now: u64) -> u64 {
        let Some(owner) = self.choose(full) else {
            return 0;
        };
        self.event(full, |g| &mut g.oom);
        let chain = self.chain(self.owners[owner].group);
        let below = chain.iter().take_while(|&&g| g != full);
        let mut to_full: Vec<usize> = below.copied().collect();
        to_full.push(full);
        let whole = to_full.into_iter().rfind(|&g| self.groups[g].oom_group);
        let all = match whole {
            Some(whole) => {
                self.event(whole, |g| &mut g.oom_group_kill);
                let mut all = self.live_tasks(whole);
                all.retain(|&task| self.owners[task].adj > -1000);
                all
            }
            None => vec![owner],
        };
        for task in all {
            self.kill(task);
        }
        let held = self.own_word(owner);
        self.groups[full].victim = Some(Victim {
            owner,
            credit: held,
            until: now + PATIENCE_NS,
        });
        held
    }

    /// A task is told to die.
    fn kill(&mut self, owner: usize) {
        if !core::mem::replace(&mut self.owners[owner].killed, true) {
            self.event(self.owners[owner].group, |g| &mut g.oom_kill);
        }
    }

    fn live_tasks(&self, top: usize) -> Vec<usize> {
        let is = |&o: &usize| {
            self.owners[o].is == OwnerIs::Task && self.is_within(self.owners[o].group, top)
        };
        (0..self.owners.len()).filter(is).collect()
    }

    fn credit(&self, full: usize, now: u64) -> u64 {
        let Some(victim) = self.groups[full].victim else {
            return 0;
        };
        let owner = &self.owners[victim.owner];
        let is_here =
            now < victim.until && owner.is == OwnerIs::Task && self.is_within(owner.group, full);
        if is_here {
            self.own_word(victim.owner).min(victim.credit)
        } else {
            0
        }
    }

    /// Who holds most, by what was said of it; of several the one with the smallest tag.
    fn choose(&self, full: usize) -> Option<usize> {
        let total = i128::from(self.groups[full].max.min(self.usages()[full]));
        let mut tasks = self.live_tasks(full);
        tasks.retain(|&o| !self.owners[o].killed && self.owners[o].adj > -1000);
        tasks.sort_unstable_by_key(|&o| self.owners[o].tag);
        let points = |o: usize| {
            let held = i128::from(self.own_word(o));
            (held > 0).then(|| held + total * i128::from(self.owners[o].adj) / 1000)
        };
        let mut best = None;
        for (task, points) in tasks.into_iter().filter_map(|o| Some((o, points(o)?))) {
            if best.is_none_or(|(_, most)| points > most) {
                best = Some((task, points));
            }
        }
        best.map(|(task, _)| task)
    }
}

impl World {
    /// After a charge of which the books cannot say how it went: whom the `killers` on its way had
    /// told to die.
    pub(crate) fn adopt_kills(&self, killers: &[usize]) {
        let mut books = self.stage.books.borrow_mut();
        let tree = &self.engine.tree;
        let is_new = |o: &usize| {
            let owner = &books.owners[*o];
            let is_task = owner.is == OwnerIs::Task && !owner.killed;
            is_task && tree.objcgs.get(owner.tag).is_killed()
        };
        let new: Vec<usize> = (0..books.owners.len()).filter(is_new).collect();
        for &task in &new {
            let group = books.owners[task].group;
            let allowed = killers.iter().any(|&full| books.is_within(group, full));
            assert!(allowed, "a task is told to die where no policy says so");
            assert!(books.owners[task].adj > -1000, "it is never to be killed");
            books.kill(task);
        }
        for &full in killers {
            books.groups[full].unsure = true;
            for _ in 0..=new.len() {
                books.event(full, |g| &mut g.oom_may);
            }
            // Of the groups from a victim's up to a full one, any may have gone as a whole.
            for &task in &new {
                let chain = books.chain(books.owners[task].group);
                let wholes = chain.into_iter().filter(|&g| books.groups[g].oom_group);
                for whole in wholes.collect::<Vec<_>>() {
                    books.event(whole, |g| &mut g.oom_group_may);
                }
            }
        }
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
