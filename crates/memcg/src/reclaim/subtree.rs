//! Going round the groups of a subtree, each with its effective protection.
//!
//! A round begins after the group where the last one stopped, and comes by each group once. Groups
//! that come and go meanwhile may be met or not. What protects a group is computed from the top
//! down: from the first level whose settings say anything; the sums over siblings are kept for as
//! long as a round is among them.
//!
//! Invariants: where a round stopped is a hint: if that group has gone, the next round begins at
//! the top. What the top itself has set protects nothing in a pass that is made for it.
//! Depends on: `counter::protection`; the tree of `group`, whose caller is pinned.
//! Never: a lock, an allocation, a change of a group.

use crate::counter::Level as _;
use crate::counter::protection::{Level, Protection};
use crate::group::name::DEPTH_MAX;
use crate::group::{GroupId, Hierarchy, Memcg};
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::id::Id;

/// What no child claims of its parent's protection is shared among them, as with
/// `memory_recursiveprot`.
const RECURSIVE: bool = true;
const MEMOS: usize = 16;
const CURSORS: usize = 64;

/// Where rounds stopped, by the group they were for: {top:32 | at:32}. Of two that share a place
/// the later is remembered.
pub struct Cursors([AtomicU64; CURSORS]);

impl Default for Cursors {
    fn default() -> Self {
        Self(core::array::from_fn(|_| AtomicU64::new(0)))
    }
}

// SAFETY: integers.
unsafe impl Zeroed for Cursors {}

impl Cursors {
    /// Where the last round below `top` stopped, if that is remembered.
    pub fn get(&self, top: GroupId) -> Option<GroupId> {
        let word = self.of(top).load(Ordering::Relaxed);
        let is_its = word >> 32 == u64::from(top.raw());
        GroupId::from_raw(word as u32).filter(|_| is_its)
    }

    /// Notes it.
    pub fn set(&self, top: GroupId, at: GroupId) {
        let word = u64::from(top.raw()) << 32 | u64::from(at.raw());
        self.of(top).store(word, Ordering::Relaxed);
    }

    fn of(&self, top: GroupId) -> &AtomicU64 {
        &self.0[top.raw() as usize % CURSORS]
    }
}

/// One round.
pub struct Round {
    top: GroupId,
    /// The last to be visited; `None`: where the order ends.
    last: Option<GroupId>,
    /// The one visited before.
    at: Option<GroupId>,
    wrapped: bool,
    done: bool,
    /// Of the removed groups that linger below the top, the one visited before.
    lingering: Option<GroupId>,
}

impl Round {
    /// After `cursor`, if that is still a group below `top`. The caller is pinned.
    pub fn begin(tree: &Hierarchy, top: &Memcg, cursor: Option<GroupId>) -> Self {
        let is_below = |group: &Memcg| group.is_online() && group.is_within(top);
        let last = cursor.filter(|&at| tree.memcgs.try_get(at).is_some_and(is_below));
        Self {
            top: top.index(),
            last,
            at: last,
            wrapped: last.is_none(),
            done: false,
            lingering: None,
        }
    }

    /// The next group: those that linger below the top come last, each time. The caller is pinned,
    /// perhaps anew since the last call.
    pub fn next(&mut self, tree: &Hierarchy) -> Option<GroupId> {
        self.next_online(tree).or_else(|| {
            let top = tree.memcgs.get(self.top);
            if top.is_lingering() && !top.has_lingering_below() {
                // Below a removed group there is nothing else.
                return None;
            }
            self.lingering = tree.next_lingering(top, self.lingering);
            if self.lingering == Some(self.top) {
                // It was the first of all.
                self.lingering = tree.next_lingering(top, self.lingering);
            }
            self.lingering
        })
    }

    fn next_online(&mut self, tree: &Hierarchy) -> Option<GroupId> {
        if self.done {
            return None;
        }
        let next = match self.at {
            None => Some(self.top),
            Some(at) if tree.memcgs.get(at).is_online() => tree.next_in_preorder(self.top, at),
            // It went away under us: to the beginning, once.
            Some(_) => None,
        };
        if next.is_none() && !self.wrapped {
            self.wrapped = true;
            self.at = Some(self.top);
        } else {
            self.at = next;
        }
        self.done = self.at.is_none() || self.at == self.last;
        self.at
    }
}

#[derive(Clone, Copy, Default)]
struct Memo {
    parent: Option<GroupId>,
    effective: Protection,
    siblings: Protection,
}

/// Effective protections below one group, computed once a pass.
pub struct Protections {
    top: GroupId,
    memos: [Memo; MEMOS],
}

fn settings(group: &Memcg) -> Protection {
    Protection {
        min: group.counter.min(),
        low: group.counter.low(),
    }
}

impl Protections {
    /// For a pass below `top`, whose own settings do not protect it from itself.
    #[must_use]
    pub fn below(top: GroupId) -> Self {
        Self {
            top,
            memos: [Memo::default(); MEMOS],
        }
    }

    /// What protects `group`, which is `top` or below it. The caller is pinned.
    pub fn of(&mut self, tree: &Hierarchy, group: &Memcg) -> Protection {
        // From the group up to the child of the top.
        let mut path = [None; DEPTH_MAX as usize + 1];
        let mut depth = 0;
        let mut says_anything = false;
        let mut level = Some(group);
        while let Some(at) = level.filter(|at| at.index() != self.top) {
            path[depth] = Some(at);
            depth += 1;
            says_anything |= settings(at) != Protection::NONE;
            level = at.parent();
        }
        if !says_anything {
            return Protection::NONE;
        }
        let mut effective = Protection::NONE;
        for (below_top, at) in path[..depth].iter().rev().flatten().enumerate() {
            effective = if below_top == 0 {
                Protection::first_level(settings(at))
            } else {
                self.one_below(tree, at, effective, below_top)
            };
        }
        effective
    }

    fn one_below(
        &mut self,
        tree: &Hierarchy,
        group: &Memcg,
        above: Protection,
        depth: usize,
    ) -> Protection {
        let Some(parent) = group.parent() else {
            return Protection::NONE;
        };
        let memo = &mut self.memos[depth % MEMOS];
        if memo.parent != Some(parent.index()) || memo.effective != above {
            let mut siblings = Protection::NONE;
            let mut child = tree.first_child(parent);
            while let Some(index) = child {
                let at = tree.memcgs.get(index);
                siblings = siblings.plus(settings(at).used(at.counter.usage()));
                child = tree.next_sibling(index);
            }
            *memo = Memo {
                parent: Some(parent.index()),
                effective: above,
                siblings,
            };
        }
        let level = Level {
            usage: group.counter.usage(),
            parent_usage: parent.counter.usage(),
            settings: settings(group),
            siblings: memo.siblings,
        };
        above.below(&level, RECURSIVE)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::group::ROOT;
    use crate::group::exact_charge::Mode;

    fn group(tree: &'static Hierarchy, parent: &Memcg, name: &str) -> &'static Memcg {
        tree.memcgs
            .get(tree.create(parent, name.as_bytes()).unwrap())
    }

    #[test]
    fn a_round_comes_by_each_group_once_and_goes_on_where_the_last_one_stopped() {
        let tree = Hierarchy::leaked();
        let (_, rec) = tree.threads.join().unwrap();
        let _pin = tree.threads.epoch.pin(rec);
        let root = tree.memcgs.get(ROOT);
        let a = group(tree, root, "a");
        let all = [
            a,
            group(tree, a, "x"),
            group(tree, a, "y"),
            group(tree, a, "z"),
        ];
        let outside = group(tree, root, "b");
        let visit = |cursor| {
            let mut round = Round::begin(tree, a, cursor);
            core::iter::from_fn(|| round.next(tree)).collect::<Vec<_>>()
        };
        let order: Vec<_> = all.iter().map(|g| g.index()).collect();
        assert_eq!(visit(None), order);
        assert_eq!(visit(Some(outside.index())), order);
        for n in 0..4 {
            let mut expected = order.clone();
            expected.rotate_left(n + 1);
            assert_eq!(visit(Some(order[n])), expected);
        }
        // The one it stands on ends.
        let mut round = Round::begin(tree, a, Some(order[1]));
        assert_eq!(round.next(tree), Some(order[2]));
        tree.unlink(all[2]).unwrap();
        let rest: Vec<_> = core::iter::from_fn(|| round.next(tree)).collect();
        assert_eq!(rest, [order[0], order[1]]);
    }

    #[test]
    fn protection_goes_down_the_tree_as_documented() {
        const M: u64 = 1 << 20;
        let tree = Hierarchy::leaked();
        let (_, rec) = tree.threads.join().unwrap();
        let _pin = tree.threads.epoch.pin(rec);
        // The kernel's own test of memory.low: A/B has 50M, its children ask for 75, 25, 0 and 500,
        // and use 50, 50, 50, 0.
        let a = group(tree, tree.memcgs.get(ROOT), "A");
        let b = group(tree, a, "B");
        b.counter.set_low(50 * M);
        let children: Vec<_> = [(75, 50), (25, 50), (0, 50), (500, 0)]
            .into_iter()
            .enumerate()
            .map(|(n, (low, usage))| {
                let child = group(tree, b, &format!("{n}"));
                child.counter.set_low(low * M);
                tree.charge_exact(child.tag(), usage * M, Mode::Force)
                    .unwrap();
                child
            })
            .collect();
        let low = |top: &Memcg| {
            let mut all = Protections::below(top.index());
            children
                .iter()
                .map(|child| all.of(tree, child).low)
                .collect::<Vec<_>>()
        };
        assert_eq!(low(a), [50 * M * 50 / 75, 50 * M * 25 / 75, 0, 0]);
        // Asked for B itself its own settings count for nothing, and the children's as they are.
        assert_eq!(low(b), [75 * M, 25 * M, 0, 500 * M]);
        assert_eq!(Protections::below(b.index()).of(tree, b), Protection::NONE);
    }
}
