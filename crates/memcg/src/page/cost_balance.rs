//! Anonymous pages or those of files: whose turn it is to be looked at.
//!
//! What it costs to have taken pages of a class is counted: refaults of its working set, and pages
//! written or read for it. The class that cost less gives more. `swappiness`, 0 to 200, says how
//! much worse it is to lose a page of a file than an anonymous one, 100 being the same.
//!
//! Each class is weighed with the cost of both, so cost doubles or halves what swappiness alone
//! would give one class against the other, at most. No class that may be looked at has less than a
//! 32nd of the looks, or its cost would never be found out again.
//!
//! Invariants: a class without pages is not looked at. Without swap and with swappiness 0 files
//! alone are, but for the latter when no page of a file is left.
//! Depends on: the atomics of `sync`.
//! Never: a page or a queue.
//!
//! Source of the idea: Linux, `lru_note_cost` and `get_scan_count` (J. Weiner, "mm: balance LRU
//! lists based on relative thrashing", 5.8).

use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What pages are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Anonymous and shmem: swap-backed.
    Anon,
    /// Of files.
    File,
}

/// Both classes, in the order of their numbers.
pub const CLASSES: [Class; 2] = [Class::Anon, Class::File];

impl Class {
    /// Its place in a table by class.
    #[must_use]
    #[inline]
    pub fn index(self) -> usize {
        match self {
            Self::Anon => 0,
            Self::File => 1,
        }
    }

    /// The other.
    #[must_use]
    #[cfg(any(test, feature = "testing"))]
    pub fn other(self) -> Self {
        match self {
            Self::Anon => Self::File,
            Self::File => Self::Anon,
        }
    }
}

/// `swappiness` of a group or of one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Swappiness {
    /// 0 to 200: the weight of anonymous pages; that of files is what is left of 200.
    Weight(u8),
    /// `max`: anonymous pages alone.
    Max,
}

/// The most that a weight can be.
pub const MOST_SWAPPINESS: u8 = 200;

impl Default for Swappiness {
    /// 60, the kernel's.
    fn default() -> Self {
        Self::Weight(60)
    }
}

/// What the classes of a group have cost. Zero bytes: nothing.
///
/// Threads that note at once may lose a note: the figures are an estimate.
#[derive(Default)]
pub struct CostBalance {
    cost: [AtomicU64; 2],
    /// What is left of the last looks, in [`ONE`]ths: see [`Self::next_class`].
    credit: AtomicU64,
}

// SAFETY: zero words are no cost, as Default builds it.
unsafe impl Zeroed for CostBalance {}

/// The whole, of a share.
const ONE: u64 = 1 << 16;
/// The least share of a class that has any.
const LEAST: u64 = ONE / 32;

/// What there is to look at in a group.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Candidates {
    /// Anonymous pages that may be taken: 0 where there is no swap to be had.
    pub anon: u64,
    /// Pages of files.
    pub file: u64,
}

impl CostBalance {
    /// Taking pages of `class` has cost as much as `pages` refaults: a refault of the working set
    /// is one, a page written to take it or read back is one. When the cost of both classes exceeds
    /// a quarter of the `resident` pages that the group has of both, both costs are halved.
    pub fn note(&self, class: Class, pages: u64, resident: u64) {
        let mut cost = self.cost();
        let noted = &mut cost[class.index()];
        *noted = noted.saturating_add(pages).min(u64::MAX / 4);
        if cost[0] + cost[1] > resident / 4 {
            cost = cost.map(|cost| cost / 2);
        }
        for (word, cost) in self.cost.iter().zip(cost) {
            word.store(cost, Relaxed);
        }
    }

    /// What anonymous pages and those of files have cost, in refaults.
    pub fn cost(&self) -> [u64; 2] {
        [self.cost[0].load(Relaxed), self.cost[1].load(Relaxed)]
    }

    /// The class whose pages are to be looked at next, a batch of any size; `None`: there are none
    /// that may be. Batches follow each other so that their numbers are as the shares are, however
    /// few there are.
    pub fn next_class(&self, swappiness: Swappiness, candidates: Candidates) -> Option<Class> {
        let share = share_of_anon(swappiness, candidates, self.cost())?;
        if share == 0 {
            return Some(Class::File);
        }
        if share == ONE {
            return Some(Class::Anon);
        }
        let credit = self.credit.load(Relaxed) + share;
        let (class, left) = match credit.checked_sub(ONE) {
            Some(left) => (Class::Anon, left),
            None => (Class::File, credit),
        };
        self.credit.store(left, Relaxed);
        Some(class)
    }
}

/// How many of [`ONE`] looks are at anonymous pages; `None`: there is nothing to look at.
fn share_of_anon(swappiness: Swappiness, there: Candidates, cost: [u64; 2]) -> Option<u64> {
    let weight = match swappiness {
        Swappiness::Max => return (there.anon > 0).then_some(ONE),
        Swappiness::Weight(weight) => u128::from(weight.min(MOST_SWAPPINESS)),
    };
    if there.file == 0 {
        return (there.anon > 0).then_some(ONE);
    }
    if there.anon == 0 || weight == 0 {
        return Some(0);
    }
    if weight == u128::from(MOST_SWAPPINESS) {
        return Some(ONE);
    }
    let [anon, file] = cost.map(u128::from);
    let both = anon + file + 1;
    // Each by its weight over its cost, brought to one denominator.
    let for_anon = weight * (both + file);
    let for_file = (u128::from(MOST_SWAPPINESS) - weight) * (both + anon);
    let share = (for_anon * u128::from(ONE) / (for_anon + for_file)) as u64;
    Some(share.clamp(LEAST, ONE - LEAST))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: Candidates = Candidates {
        anon: 1000,
        file: 1000,
    };

    /// Looks at anonymous pages among so many.
    fn looks(balance: &CostBalance, swappiness: Swappiness, there: Candidates, n: u32) -> u32 {
        let class = |_: &u32| balance.next_class(swappiness, there) == Some(Class::Anon);
        (0..n).filter(class).count() as u32
    }

    #[test]
    fn what_may_not_be_taken_is_not_looked_at() {
        let balance = CostBalance::default();
        let weight = Swappiness::Weight;
        let of = |anon, file| Candidates { anon, file };
        assert_eq!(balance.next_class(weight(60), of(0, 0)), None);
        for n in [0, 60, 200] {
            // Without swap; and without files, whatever swappiness is.
            assert_eq!(looks(&balance, weight(n), of(0, 9), 100), 0);
            assert_eq!(looks(&balance, weight(n), of(9, 0), 100), 100);
        }
        assert_eq!(looks(&balance, weight(0), BOTH, 100), 0);
        assert_eq!(looks(&balance, weight(200), BOTH, 100), 100);
        assert_eq!(looks(&balance, Swappiness::Max, BOTH, 100), 100);
        assert_eq!(balance.next_class(Swappiness::Max, of(0, 9)), None);
    }

    #[test]
    fn looks_are_shared_by_swappiness_and_cost_and_nobody_starves() {
        let balance = CostBalance::default();
        assert_eq!(looks(&balance, Swappiness::Weight(100), BOTH, 1000), 500);
        let default = looks(&balance, Swappiness::default(), BOTH, 1000);
        assert!((299..=300).contains(&default));
        let least = looks(&balance, Swappiness::Weight(1), BOTH, 1000);
        assert!((30..=32).contains(&least));
        // Anonymous pages cost, those of files nothing: half as many looks as at those.
        balance.note(Class::Anon, 10_000, 1 << 20);
        let dear = looks(&balance, Swappiness::Weight(100), BOTH, 3000);
        assert!((999..=1001).contains(&dear), "{dear}");
    }

    #[test]
    fn old_cost_is_forgotten_by_what_the_group_is_in_size() {
        let balance = CostBalance::default();
        balance.note(Class::Anon, 200, 1000);
        assert_eq!(balance.cost(), [200, 0]);
        balance.note(Class::File, 100, 1000);
        assert_eq!(balance.cost(), [100, 50]);
        for _ in 0..20 {
            balance.note(Class::File, 100, 1000);
        }
        assert_eq!(balance.cost()[0], 0);
        assert!(balance.cost()[1] <= 250);
    }

    proptest! {
        #[test]
        fn no_class_with_pages_has_less_than_a_32nd(
            weight in 1..MOST_SWAPPINESS, anon: u64, file: u64, resident: u64,
        ) {
            let balance = CostBalance::default();
            balance.note(Class::Anon, anon, resident);
            balance.note(Class::File, file, resident);
            let anon = looks(&balance, Swappiness::Weight(weight), BOTH, 320);
            prop_assert!((10..=310).contains(&anon), "{anon}");
        }
    }
}
