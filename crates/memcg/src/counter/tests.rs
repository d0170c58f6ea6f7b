//! Levels without groups: what one level keeps, and what a tree of them adds up to under threads.

#![forbid(unsafe_code)]

use super::page_counter::{STOCK_BUDGET, UNLIMITED, USAGE_LIMIT};
use super::{Level, Over, PageCounter, Refused, grant, set_reserve, try_charge, uncharge, ungrant};
use crate::sync::atomic::{AtomicU64, Ordering};
use proptest::prelude::*;
use std::sync::atomic::AtomicBool;

/// A level and the one above it.
struct Node {
    counter: PageCounter,
    parent: Option<&'static Node>,
    highs: AtomicU64,
}

impl Level for Node {
    fn counter(&self) -> &PageCounter {
        &self.counter
    }

    fn parent(&self) -> Option<&Self> {
        self.parent
    }

    fn crossed_max(&self) {}

    fn above_high(&self, _usage: u64) {
        self.highs.fetch_add(1, Ordering::Relaxed);
    }
}

impl core::fmt::Debug for Node {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "a level with {}", self.counter.usage())
    }
}

fn node(parent: Option<&'static Node>) -> &'static Node {
    let counter = PageCounter::default();
    counter.open();
    Box::leak(Box::new(Node {
        counter,
        parent,
        highs: AtomicU64::new(0),
    }))
}

fn within(_: &Node) -> Over {
    Over::By(0)
}

/// Charges to the root; who was full, and its usage then.
fn charge(start: &'static Node, n: u64) -> Result<(), (&'static Node, u64)> {
    match try_charge(start, None, n, within) {
        Ok(owed) => {
            assert_eq!(owed, 0);
            Ok(())
        }
        Err(Refused { level, usage }) => Err((level, usage)),
    }
}

fn give(start: &'static Node, n: u64) {
    assert_eq!(uncharge(start, None, n).ok(), Some(0));
}

fn reserve(level: &'static Node, bytes: u64) -> Result<(), &'static Node> {
    set_reserve(level, bytes, || panic!("they were charged")).map_err(|full| full.level)
}

fn usages<const N: usize>(levels: [&'static Node; N]) -> [u64; N] {
    levels.map(|level| level.counter.usage())
}

#[test]
fn a_refused_charge_names_who_was_full_and_leaves_nothing() {
    let root = node(None);
    let middle = node(Some(root));
    let leaf = node(Some(middle));
    middle.counter.set_max(100);
    charge(leaf, 60).unwrap();
    let (full, usage) = charge(leaf, 41).unwrap_err();
    assert!(core::ptr::eq(full, middle));
    assert_eq!(usage, 60);
    assert_eq!(usages([leaf, middle, root]), [60, 60, 60]);
    charge(leaf, 40).unwrap();
    assert_eq!(charge(leaf, 1).unwrap_err().1, 100);
    give(leaf, 100);
    assert_eq!(usages([leaf, middle, root]), [0, 0, 0]);
}

#[test]
fn debt_and_force_go_as_far_as_they_may() {
    let level = node(None);
    level.counter.set_max(100);
    let debt = |n| try_charge(level, None, n, |_| Over::By(10)).is_ok();
    assert!(debt(110));
    assert!(!debt(1));
    assert!(try_charge(level, None, 1000, |_| Over::Any).is_ok());
    assert_eq!(level.counter.usage(), 1110);
    assert!(try_charge(level, None, USAGE_LIMIT, |_| Over::Any).is_err());
    assert!(try_charge(level, None, u64::MAX, |_| Over::Any).is_err());
    assert_eq!(level.counter.usage(), 1110);
}

#[test]
fn more_cannot_be_taken_off_than_is_charged() {
    let root = node(None);
    let leaf = node(Some(root));
    charge(leaf, 50).unwrap();
    let wrong = uncharge(leaf, None, 51).err().unwrap();
    assert!(core::ptr::eq(wrong, leaf));
    assert_eq!(usages([leaf, root]), [50, 50]);
}

#[test]
fn a_walk_stops_below_its_end_and_says_what_is_owed_there() {
    let root = node(None);
    let leaf = node(Some(root));
    reserve(leaf, 30).unwrap();
    assert_eq!(try_charge(leaf, Some(root), 100, within).ok().unwrap(), 70);
    assert_eq!(usages([leaf, root]), [100, 30]);
    assert_eq!(uncharge(leaf, Some(root), 100).ok(), Some(70));
    assert_eq!(try_charge(root, Some(root), 5, within).ok(), Some(5));
}

#[test]
fn a_reserve_is_charged_once_and_spent_without_asking_above() {
    let root = node(None);
    let leaf = node(Some(root));
    root.counter.set_max(100);
    reserve(leaf, 80).unwrap();
    assert!(charge(root, 21).is_err());
    charge(root, 20).unwrap();
    charge(leaf, 80).unwrap();
    assert_eq!(usages([leaf, root]), [80, 100]);
    assert!(charge(leaf, 1).is_err());
    assert!(reserve(leaf, 81).is_err());
    assert_eq!(leaf.counter.reserve(), 80);
    reserve(leaf, 10).unwrap();
    assert_eq!(usages([leaf, root]), [80, 100]);
    give(leaf, 75);
    assert_eq!(usages([leaf, root]), [5, 30]);
}

#[test]
fn a_reserve_is_refused_by_whoever_above_is_over_its_max() {
    let root = node(None);
    let middle = node(Some(root));
    let leaf = node(Some(middle));
    charge(leaf, 199).unwrap();
    reserve(middle, 150).unwrap();
    // All of it is in use, so it costs nothing now; freed, it would stay.
    for full in [middle, root] {
        full.counter.set_max(100);
        let refuser = reserve(leaf, 199).unwrap_err();
        assert!(core::ptr::eq(refuser, full));
        full.counter.set_max(UNLIMITED);
    }
    assert_eq!(leaf.counter.reserve(), 0);
    reserve(leaf, 199).unwrap();
    root.counter.set_max(100);
    reserve(leaf, 199).unwrap();
    reserve(leaf, 120).expect("a smaller one makes it better");
    assert!(reserve(leaf, 121).is_err());
    give(leaf, 199);
    assert_eq!(usages([leaf, middle, root]), [0, 120, 150]);
}

#[test]
fn a_closed_level_lets_everything_through_and_its_reserve_goes_back() {
    let root = node(None);
    let leaf = node(Some(root));
    reserve(leaf, 80).unwrap();
    charge(leaf, 30).unwrap();
    assert_eq!(leaf.counter.close(), (50, 30));
    give(root, 50);
    assert!(leaf.counter.is_closed());
    charge(leaf, 7).unwrap();
    give(leaf, 30);
    assert_eq!(root.counter.usage(), 7);
    assert!(grant(leaf, 8, false));
    assert_eq!(root.counter.granted(), 8);
}

#[test]
fn stock_stays_within_the_budget_of_its_group_and_of_every_limited_one_above() {
    let root = node(None);
    let middle = node(Some(root));
    let (leaf, other) = (node(Some(middle)), node(Some(middle)));
    assert!(grant(leaf, STOCK_BUDGET, false));
    assert!(!grant(leaf, 8, false));
    // Unlimited levels above do not bound: each group may have its budget.
    assert!(grant(other, STOCK_BUDGET, false));
    assert_eq!(middle.counter.granted(), 2 * STOCK_BUDGET);
    ungrant(leaf, STOCK_BUDGET);
    ungrant(other, STOCK_BUDGET);
    middle.counter.set_max(1600);
    assert!(grant(leaf, 60, false));
    assert!(!grant(other, 41, false));
    assert_eq!(other.counter.granted(), 0);
    assert!(grant(other, 40, false));
    ungrant(leaf, 60);
    ungrant(other, 40);
    assert_eq!(
        [leaf, other, middle, root].map(|l| l.counter.granted()),
        [0; 4]
    );
}

#[test]
fn a_tight_level_grants_nothing_until_a_sixteenth_is_free() {
    let level = node(None);
    level.counter.set_max(1600);
    charge(level, 1550).unwrap();
    level.counter.set_tight();
    assert!(!grant(level, 8, false));
    give(level, 50);
    assert!(
        !grant(level, 8, false),
        "usage is a sixteenth below max, not less"
    );
    give(level, 1);
    assert!(grant(level, 8, false));
    assert!(!level.counter.is_tight());
}

#[test]
fn the_peak_is_of_what_was_charged_and_a_watch_sees_its_own() {
    let level = node(None);
    charge(level, 100).unwrap();
    give(level, 90);
    assert_eq!((level.counter.peak(), level.counter.watched()), (100, 10));
    assert_eq!(level.counter.watch(), None);
    charge(level, 50).unwrap();
    give(level, 40);
    assert_eq!((level.counter.peak(), level.counter.watched()), (100, 60));
    assert_eq!(level.counter.watch(), Some(60));
    assert_eq!((level.counter.peak(), level.counter.watched()), (100, 20));
    level.counter.unwatch();
    assert_eq!(level.counter.watch(), None);
}

#[test]
fn a_charge_above_high_is_told_and_made() {
    let level = node(None);
    level.counter.set_high(10);
    charge(level, 10).unwrap();
    charge(level, 1).unwrap();
    assert_eq!(level.highs.load(Ordering::Relaxed), 1);
}

/// Five levels: a root, two below it, one below each of those.
fn tree() -> [&'static Node; 5] {
    let root = node(None);
    let (a, b) = (node(Some(root)), node(Some(root)));
    [root, a, b, node(Some(a)), node(Some(b))]
}

const PARENT: [usize; 5] = [0, 0, 0, 1, 2];

/// Each level's usage from what is charged at it and the reserves, in the plainest way.
fn sums(own: &[u64; 5], reserves: &[u64; 5]) -> [u64; 5] {
    let mut usage = *own;
    for at in (1..5).rev() {
        usage[PARENT[at]] += usage[at].max(reserves[at]);
    }
    usage
}

fn seen(tree: &[&'static Node; 5]) -> [u64; 5] {
    tree.map(|level| level.counter.usage())
}

fn fits(before: &[u64; 5], after: &[u64; 5], max: &[u64; 5]) -> bool {
    (0..5).all(|at| after[at] <= before[at] || after[at] <= max[at])
}

/// Whether every level above one is within its max.
fn is_room_above(at: usize, usage: &[u64; 5], max: &[u64; 5]) -> bool {
    at == 0 || usage[PARENT[at]] <= max[PARENT[at]] && is_room_above(PARENT[at], usage, max)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn levels_charge_exactly_when_a_plain_sum_fits(
        steps in proptest::collection::vec((0usize..5, 0u8..7, 0u64..500), 1..150),
    ) {
        let tree = tree();
        let (mut own, mut reserves, mut max) = ([0u64; 5], [0u64; 5], [UNLIMITED; 5]);
        for (at, what, n) in steps {
            let before = sums(&own, &reserves);
            let (mut own_then, mut reserves_then) = (own, reserves);
            let done = match what {
                0..=2 => {
                    own_then[at] += n;
                    charge(tree[at], n).is_ok()
                }
                3 => {
                    let n = n.min(own[at]);
                    own_then[at] -= n;
                    give(tree[at], n);
                    true
                }
                4 if at != 0 => {
                    reserves_then[at] = n;
                    let answer = reserve(tree[at], n);
                    let is_above = |full: &'static Node| (0..5).any(|above| core::ptr::eq(tree[above], full));
                    prop_assert!(answer.err().is_none_or(is_above));
                    answer.is_ok()
                }
                6 => {
                    own_then[at] += n;
                    try_charge(tree[at], None, n, |_| Over::Any).is_ok()
                }
                _ => {
                    max[at] = if n < 100 { UNLIMITED } else { n * 3 };
                    tree[at].counter.set_max(max[at]);
                    true
                }
            };
            let after = sums(&own_then, &reserves_then);
            let larger = reserves_then[at] > reserves[at];
            let allowed = match what {
                // By a forced charge.
                6 => true,
                _ => fits(&before, &after, &max) && (!larger || is_room_above(at, &after, &max)),
            };
            prop_assert_eq!(done, allowed);
            if done {
                (own, reserves) = (own_then, reserves_then);
            }
            prop_assert_eq!(seen(&tree), sums(&own, &reserves));
        }
    }
}

const ROUNDS: usize = 40_000;
/// Reserves below stay below this.
const LARGEST: u64 = 600;
/// The most bytes of one charge below.
const MOST: u64 = 64;

/// Threads that charge and give back at all levels, and one that calls `also` meanwhile; answers
/// what was left charged.
fn under_threads(tree: [&'static Node; 5], mut also: impl FnMut(usize) + Send) -> [u64; 5] {
    let left: [AtomicU64; 5] = std::array::from_fn(|_| AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        let threads: Vec<_> = (0..3u64)
            .map(|me| {
                let left = &left;
                s.spawn(move || {
                    let mut seed = me + 1;
                    let mut held: Vec<(usize, u64)> = Vec::new();
                    for _ in 0..ROUNDS {
                        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let (at, n) = ((seed >> 33) as usize % 5, (seed >> 40) % MOST + 1);
                        if seed >> 60 < 9 && charge(tree[at], n).is_ok() {
                            held.push((at, n));
                        } else if !held.is_empty() {
                            let (at, n) = held.swap_remove((seed >> 20) as usize % held.len());
                            give(tree[at], n);
                        }
                    }
                    for (at, n) in held {
                        left[at].fetch_add(n, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let stop = &stop;
        s.spawn(move || {
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                also(round);
            }
        });
        let done: Vec<_> = threads.into_iter().map(|t| t.join()).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(done.iter().all(Result::is_ok));
    });
    left.map(AtomicU64::into_inner)
}

#[test]
fn no_level_passes_its_max_while_threads_charge() {
    let tree = tree();
    let max = [3000, 1500, 1000, 700, 900];
    for (level, max) in tree.iter().zip(max) {
        level.counter.set_max(max);
    }
    let own = under_threads(tree, |_| {
        for (usage, max) in seen(&tree).into_iter().zip(max) {
            assert!(usage <= max, "{usage} above {max}");
        }
    });
    assert_eq!(seen(&tree), sums(&own, &[0; 5]));
    assert!(
        tree.iter()
            .zip(max)
            .all(|(level, max)| level.counter.peak() <= max)
    );
}

#[test]
fn reserves_telescope_while_threads_charge_and_reserves_change() {
    let tree = tree();
    let max = [3000, 1500, UNLIMITED, 700, 900];
    for (level, max) in tree.iter().zip(max) {
        level.counter.set_max(max);
    }
    let mut reserves = [0, 300, 400, 200, 0];
    for at in 1..5 {
        reserve(tree[at], reserves[at]).unwrap();
    }
    let changing = &mut reserves;
    let own = under_threads(tree, |round| {
        let at = 1 + round % 4;
        let bytes = (round as u64 * 37) % LARGEST;
        if reserve(tree[at], bytes).is_ok() {
            changing[at] = bytes;
        }
        // A refused charge may have lent a reserve's bytes to a level above (see `undo`): no more
        // than is under way, which is one charge a thread and the largest reserve that is being
        // paid for.
        for (usage, max) in seen(&tree).into_iter().zip(max) {
            let most = max.saturating_add(3 * MOST + LARGEST);
            assert!(usage <= most, "{usage} far above {max}");
        }
    });
    assert_eq!(seen(&tree), sums(&own, &reserves));
}

#[test]
fn once_a_max_is_written_no_charge_by_the_old_one_comes_after() {
    let level = node(None);
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    if charge(level, 8).is_ok() {
                        give(level, 8);
                    }
                }
            });
        }
        for _ in 0..20_000 {
            level.counter.set_max(0);
            // What was charged before is given back; nothing may be added.
            let first = level.counter.usage();
            let second = level.counter.usage();
            assert!(second <= first, "{first} grew to {second}");
            level.counter.set_max(UNLIMITED);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(level.counter.usage(), 0);
}
