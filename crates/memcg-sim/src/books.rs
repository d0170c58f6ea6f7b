//! The auditor's own books: groups, owners, things, and nothing else. Every sum is computed anew,
//! from the things.
//!
//! Kept by what the steps were answered, never by what the engine counts; but for one: how much of
//! a task's bytes a move left where (a residual charge) is the move's decision, so that is read
//! once, and only may get less after it.

#![forbid(unsafe_code)]

use crate::generation::Generation;
use crate::standing::{Line, Wait};
use crate::told::Defaults;
use memcg::testing::counter::page_counter::UNLIMITED;
use memcg::testing::group::kind::Kind;
use memcg::testing::group::{GroupId, MovePolicy, OfflinePolicy, OomPolicy, Tag};
use memcg::testing::kmem::list_lru::Link;
use std::collections::BTreeMap;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Css {
    Online,
    Lingers,
    Gone,
}

/// A group there is, or was.
#[derive(Debug)]
pub(crate) struct Group {
    pub parent: Option<usize>,
    pub index: GroupId,
    pub css: Css,
    pub max: u64,
    pub high: u64,
    pub low: u64,
    pub kmem_max: u64,
    pub reserve: u64,
    pub oom_policy: OomPolicy,
    pub oom_group: bool,
    /// It, or had it at some time.
    pub had_oom_group: bool,
    pub min: u64,
    pub debt_max: u64,
    pub offline: OfflinePolicy,
    pub moves: MovePolicy,
    /// What its children begin with.
    pub defaults: Defaults,
    /// Where somebody stands in line for room in it.
    pub line: Option<Line>,
    /// Stock may be there all the same.
    pub may_stock: bool,
    /// Which of `filters::WORDS` it was told; 0: none.
    pub words: usize,
    /// When it was told to end as a whole.
    pub whole_at: Option<u64>,
    /// When that was is not known: time went by in the step.
    pub unsure: bool,
    /// Events here and below, and here.
    pub oom: [u64; 2],
    pub inherited: [u64; 2],
    pub oom_kill: [u64; 2],
    pub oom_group_kill: [u64; 2],
    pub recharge_failed: [u64; 2],
    /// So many more there may have been.
    pub oom_may: [u64; 2],
    pub oom_group_may: [u64; 2],
    pub recharge_may: [u64; 2],
    pub inherited_may: [u64; 2],
}

impl Group {
    pub(crate) fn new(parent: Option<usize>, index: GroupId) -> Self {
        Self {
            parent,
            index,
            css: Css::Online,
            max: UNLIMITED,
            high: UNLIMITED,
            low: 0,
            kmem_max: UNLIMITED,
            reserve: 0,
            oom_policy: OomPolicy::Default,
            oom_group: false,
            had_oom_group: false,
            min: 0,
            debt_max: UNLIMITED,
            offline: OfflinePolicy::Parent,
            moves: MovePolicy::Transfer,
            defaults: Defaults::default(),
            line: None,
            may_stock: false,
            words: 0,
            whole_at: None,
            unsure: false,
            oom: [0; 2],
            inherited: [0; 2],
            oom_kill: [0; 2],
            oom_group_kill: [0; 2],
            recharge_failed: [0; 2],
            oom_may: [0; 2],
            oom_group_may: [0; 2],
            recharge_may: [0; 2],
            inherited_may: [0; 2],
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OwnerIs {
    Group,
    Task,
    Dead,
}

/// Who is charged.
#[derive(Debug)]
pub(crate) struct Owner {
    pub tag: Tag,
    /// Where its own word is accounted.
    pub group: usize,
    pub is: OwnerIs,
    /// Of a group's: somebody has a handle on it.
    pub held: bool,
    /// A task's that went on without its bytes: who it is now.
    pub successor: Option<usize>,
    /// What moves left elsewhere: in a group, or lost.
    pub residuals: Vec<(Option<usize>, u64)>,
    /// What was said of a task, in thousandths; when it was told to end.
    pub adj: i16,
    pub killed: Option<u64>,
    /// It was not waited for any longer.
    pub overdue: bool,
    /// When it was told is not known: time went by in the step.
    pub unsure: bool,
    /// By which policies groups of its have ended, of those that say something of what is left.
    pub offline_policies: Vec<OfflinePolicy>,
    /// Of one that is, or was, a group's own.
    pub generation: Option<Generation>,
}

impl Owner {
    pub(crate) fn new(tag: Tag, group: usize, is: OwnerIs) -> Self {
        Self {
            tag,
            group,
            is,
            held: is == OwnerIs::Group,
            successor: None,
            residuals: Vec::new(),
            adj: 0,
            killed: None,
            overdue: false,
            unsure: false,
            offline_policies: Vec::new(),
            generation: None,
        }
    }

    /// A group's own.
    pub(crate) fn of_group(tag: Tag, group: usize, generation: Generation) -> Self {
        Self {
            generation: Some(generation),
            ..Self::new(tag, group, OwnerIs::Group)
        }
    }
}

/// What a thing is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    /// A charge without memory.
    Charge(Kind),
    /// An object of the heap.
    Heap { at: usize },
    /// A block of another allocator's, in which the tag is written.
    Block,
    /// An object of a cache, by its place among the world's.
    Cached { at: usize, cache: usize },
}

/// Something that was charged, or was not to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thing {
    /// `None`: nobody.
    pub owner: Option<usize>,
    pub bytes: u64,
    pub what: What,
    /// The link by which it can be in the list; null without one.
    pub link: *const Link,
    pub listed: bool,
    /// Shrinkers of the world's own may free it.
    pub pooled: bool,
}

impl Thing {
    pub(crate) fn kind(&self) -> Kind {
        match self.what {
            What::Charge(kind) => kind,
            What::Heap { .. } | What::Block => Kind::Heap,
            What::Cached { .. } => Kind::Slab,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub groups: Vec<Group>,
    pub owners: Vec<Owner>,
    pub things: BTreeMap<u64, Thing>,
    /// Groups that hold a thing, beside whom it is charged to; the last to come last.
    pub holders: BTreeMap<u64, Vec<usize>>,
    /// Who waits for room, in the order in which they came.
    pub waits: Vec<Wait>,
    pub next: u64,
}

impl Books {
    pub(crate) fn note(&mut self, thing: Thing) -> u64 {
        self.next += 1;
        self.things.insert(self.next, thing);
        self.next
    }

    pub(crate) fn there(&self, css: Css) -> Vec<usize> {
        let all = 0..self.groups.len();
        all.filter(|&g| self.groups[g].css == css).collect()
    }

    /// Whether moves have left bytes of anybody in a group.
    pub(crate) fn has_residuals(&self, group: usize) -> bool {
        let mut residuals = self.owners.iter().flat_map(|owner| &owner.residuals);
        residuals.any(|residual| residual.0 == Some(group) && residual.1 > 0)
    }

    /// Whether an owner has ended, and a group's end has left what it owned by one of these
    /// policies.
    pub(crate) fn was_left(&self, owner: usize, by: &[OfflinePolicy]) -> bool {
        let owner = &self.owners[owner];
        owner.is == OwnerIs::Dead
            && owner
                .offline_policies
                .iter()
                .any(|policy| by.contains(policy))
    }

    /// Who is charged in the name of an owner.
    pub(crate) fn live(&self, owner: usize) -> usize {
        let mut at = owner;
        while let Some(successor) = self.owners[at].successor {
            at = successor;
        }
        at
    }

    /// Bytes of each owner.
    pub(crate) fn held(&self) -> Vec<u64> {
        let mut held = vec![0; self.owners.len()];
        for thing in self.things.values() {
            if let Some(owner) = thing.owner {
                held[owner] += thing.bytes;
            }
        }
        held
    }

    /// Bytes of each group's own owners, of residuals in it, less what `but` says of.
    fn own(&self, but: impl Fn(&Thing) -> bool) -> Vec<u64> {
        let mut held = vec![0u64; self.owners.len()];
        for thing in self.things.values().filter(|thing| !but(thing)) {
            if let Some(owner) = thing.owner {
                held[owner] += thing.bytes;
            }
        }
        let mut own = vec![0; self.groups.len()];
        for (owner, held) in self.owners.iter().zip(held) {
            let mut left = held;
            for &(group, bytes) in &owner.residuals {
                let bytes = bytes.min(left);
                left -= bytes;
                if let Some(group) = group {
                    own[group] += bytes;
                }
            }
            own[owner.group] += left;
        }
        own
    }

    /// What all groups use, if their own owners have that: a child has its parent charged what it
    /// needs, or was promised.
    fn sum(&self, mut own: Vec<u64>) -> Vec<u64> {
        // A child is always behind its parent.
        for g in (1..own.len()).rev() {
            let group = &self.groups[g];
            if let Some(parent) = group.parent.filter(|_| group.css != Css::Gone) {
                own[parent] += own[g].max(group.reserve);
            }
        }
        own
    }

    /// What an owner's own word says: all it holds but what moves left elsewhere.
    pub(crate) fn own_word(&self, owner: usize) -> u64 {
        let residuals: u64 = self.owners[owner]
            .residuals
            .iter()
            .map(|residual| residual.1)
            .sum();
        self.held()[owner].saturating_sub(residuals)
    }

    /// What all groups use now, and with so many bytes more of an owner.
    pub(crate) fn with_more(&self, owner: usize, bytes: u64) -> (Vec<u64>, Vec<u64>) {
        let own = self.own(|_| false);
        let mut more = own.clone();
        more[self.owners[owner].group] += bytes;
        (self.sum(own), self.sum(more))
    }

    pub(crate) fn usages(&self) -> Vec<u64> {
        self.sum(self.own(|_| false))
    }

    fn allows(&self, before: &[u64], after: &[u64]) -> bool {
        let grown = |g: usize| after[g] > before[g];
        (0..before.len()).all(|g| !grown(g) || after[g] <= self.groups[g].max)
    }

    /// Whether so many bytes more of an owner fit; and if all that can be reclaimed had been.
    pub(crate) fn fits(&self, owner: usize, bytes: u64, reclaimed: bool) -> bool {
        let own = self.own(|thing| reclaimed && thing.listed);
        let before = self.sum(own.clone());
        let mut more = own;
        more[self.owners[owner].group] += bytes;
        self.allows(&before, &self.sum(more))
    }

    /// The groups, as the engine numbers them, that an owner is charged in.
    pub(crate) fn path(&self, owner: usize) -> Vec<GroupId> {
        let mut path = Vec::new();
        let mut at = Some(self.owners[owner].group);
        while let Some(g) = at {
            path.push(self.groups[g].index);
            at = self.groups[g].parent;
        }
        path
    }

    /// Whether all that an owner has fits in another group.
    pub(crate) fn fits_in(&self, owner: usize, group: usize) -> bool {
        let own = self.own(|_| false);
        let before = self.sum(own.clone());
        let held = self.held()[owner];
        let mut moved = own;
        moved[self.owners[owner].group] -= held;
        moved[group] += held;
        self.allows(&before, &self.sum(moved)) && self.kmem_fits_in(owner, group)
    }

    /// Whether the objects of caches that an owner has fit into every `memory.kmem.max` on the way
    /// to another group.
    fn kmem_fits_in(&self, owner: usize, group: usize) -> bool {
        let own = |thing: &&Thing| thing.kind() == Kind::Slab && thing.owner == Some(owner);
        let moved: u64 = self.things.values().filter(own).map(|t| t.bytes).sum();
        let used = self.of_kind(Kind::Slab);
        let within = self.path(owner);
        let mut at = Some(group);
        while let Some(g) = at.filter(|&g| !within.contains(&self.groups[g].index)) {
            let max = self.groups[g].kmem_max;
            if moved > 0 && max != UNLIMITED && used[g] + moved > max {
                return false;
            }
            at = self.groups[g].parent;
        }
        true
    }

    /// Whether a group can be promised that much.
    pub(crate) fn fits_reserve(&mut self, group: usize, reserve: u64) -> bool {
        let own = self.own(|_| false);
        let before = self.sum(own.clone());
        let old = core::mem::replace(&mut self.groups[group].reserve, reserve);
        let after = self.sum(own);
        let above = |&g: &usize| self.groups[g].parent;
        let is_room =
            core::iter::successors(above(&group), above).all(|g| after[g] <= self.groups[g].max);
        let fits = self.allows(&before, &after) && (reserve <= old || is_room);
        self.groups[group].reserve = old;
        fits
    }

    /// Bytes of a kind in each group and below.
    pub(crate) fn of_kind(&self, kind: Kind) -> Vec<u64> {
        let mut sums = vec![0; self.groups.len()];
        for thing in self.things.values().filter(|thing| thing.kind() == kind) {
            if let Some(owner) = thing.owner {
                sums[self.owners[owner].group] += thing.bytes;
            }
        }
        for g in (1..sums.len()).rev() {
            if let Some(parent) = self.groups[g]
                .parent
                .filter(|_| self.groups[g].css != Css::Gone)
            {
                sums[parent] += sums[g];
            }
        }
        sums
    }

    /// Whether an object of a cache fits into every `memory.kmem.max`.
    pub(crate) fn fits_kmem(&self, owner: usize, bytes: u64) -> bool {
        let used = self.of_kind(Kind::Slab);
        let mut at = Some(self.owners[owner].group);
        while let Some(g) = at {
            let max = self.groups[g].kmem_max;
            if max != UNLIMITED && used[g] + bytes > max {
                return false;
            }
            at = self.groups[g].parent;
        }
        true
    }

    /// The owner that an online group is itself.
    pub(crate) fn owner_of_group(&self, group: usize) -> usize {
        let is = |o: &Owner| o.is == OwnerIs::Group && o.group == group;
        let owner = self.owners.iter().position(is);
        owner.expect("an online group has an owner")
    }

    /// The group in a record of the engine's.
    pub(crate) fn group_at(&self, index: GroupId) -> Option<usize> {
        let is = |g: &Group| g.index == index && g.css != Css::Gone;
        self.groups.iter().position(is)
    }

    /// Counts an event in a group and all above.
    pub(crate) fn event(&mut self, group: usize, which: fn(&mut Group) -> &mut [u64; 2]) {
        which(&mut self.groups[group])[1] += 1;
        let mut at = Some(group);
        while let Some(g) = at {
            which(&mut self.groups[g])[0] += 1;
            at = self.groups[g].parent;
        }
    }

    /// A group is gone, and its parent has what it had.
    pub(crate) fn inherit(&mut self, group: usize) {
        self.groups[group].css = Css::Gone;
        self.note_offline_policy(group);
        self.groups[group].reserve = 0;
        let Some(parent) = self.groups[group].parent else {
            return;
        };
        let above = &self.groups[parent];
        // One that lingers has said what it leaves when it ended.
        let policy = (above.css == Css::Lingers).then_some(above.offline);
        for owner in &mut self.owners {
            if owner.group == group {
                owner.group = parent;
                owner.offline_policies.extend(policy);
                owner.is = match owner.is {
                    OwnerIs::Group => OwnerIs::Dead,
                    is @ (OwnerIs::Task | OwnerIs::Dead) => is,
                };
            }
            for (at, _) in owner
                .residuals
                .iter_mut()
                .filter(|(at, _)| *at == Some(group))
            {
                *at = Some(parent);
            }
        }
    }

    /// A group has ended: by its policy what it leaves may be another's.
    pub(crate) fn note_offline_policy(&mut self, group: usize) {
        let by = self.groups[group].offline;
        let owners = self.owners.iter_mut();
        owners
            .filter(|o| o.group == group)
            .for_each(|o| o.offline_policies.push(by));
    }

    /// Groups that lingered and have nothing left are gone.
    pub(crate) fn settle(&mut self) {
        self.settle_but(None);
    }

    /// The same; one of them may have something that is not in the books yet.
    pub(crate) fn settle_but(&mut self, kept: Option<usize>) {
        loop {
            let usages = self.usages();
            let over = |&g: &usize| {
                let is_below = |c: &Group| c.parent == Some(g) && c.css == Css::Lingers;
                Some(g) != kept && usages[g] == 0 && !self.groups.iter().any(is_below)
            };
            let Some(over) = self.there(Css::Lingers).into_iter().find(over) else {
                return;
            };
            self.inherit(over);
        }
    }
}
