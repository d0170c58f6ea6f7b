//! Which slots of a device are used: a bit for each, in words of 64, a cluster of 256 KiB each.
//!
//! Two bitmaps more have a bit for each cluster, so that a search passes 64 of them at a step:
//! those that may be wholly free, and those that may have a free slot.
//!
//! Invariants: a slot that was taken is nobody else's until it is put back. At rest a wholly free
//! cluster has its bit in `empty`, and one with a free slot has its bit in `room`; a bit too many
//! costs a look.
//! Depends on: the atomics of `sync`.
//! Never: a lock; a look at what is in a slot.

#![forbid(unsafe_code)]

use crate::sync::atomic::{AtomicU64, Ordering};

/// Slots of a cluster.
pub const CLUSTER: u32 = 64;

/// Some slots of a cluster that lie together: the first one's place in the device, and how many.
pub type Taken = (u32, u32);

/// The bitmaps of one device.
#[derive(Clone, Copy)]
pub struct Slots<'a> {
    /// A word for each cluster; a bit that is set: used.
    pub clusters: &'a [AtomicU64],
    /// A bit for each cluster: it may be wholly free.
    pub empty: &'a [AtomicU64],
    /// A bit for each cluster: it may have a free slot.
    pub room: &'a [AtomicU64],
}

/// `n` bits from `first` on; `n` from 1 to 64.
fn bits(first: u32, n: u32) -> u64 {
    (u64::MAX >> (64 - n)) << first
}

/// The run of zeros to take `n` from: the first that is as long, else the longest. `None`: there is
/// no zero.
fn run_of(used: u64, n: u32) -> Option<(u32, u32)> {
    let (mut best, mut at) = ((0, 0), 0);
    while at < 64 {
        at += (used >> at).trailing_ones();
        if at >= 64 {
            break;
        }
        let len = (used >> at).trailing_zeros().min(64 - at);
        if len >= n {
            return Some((at, n));
        }
        if len > best.1 {
            best = (at, len);
        }
        at += len;
    }
    (best.1 > 0).then_some(best)
}

impl Slots<'_> {
    /// Makes the bitmaps, which are zero, those of a device of `nr_slots` free slots.
    pub fn make(self, nr_slots: u32) {
        let last = nr_slots % CLUSTER;
        for (cluster, word) in self.clusters.iter().enumerate() {
            let is_cut = last != 0 && cluster == self.clusters.len() - 1;
            if is_cut {
                // What the device does not have is used for ever.
                word.store(!bits(0, last), Ordering::Relaxed);
            } else {
                self.hint(self.empty, cluster);
            }
            self.hint(self.room, cluster);
        }
    }

    fn hint(self, hints: &[AtomicU64], cluster: usize) {
        // AcqRel pairs with that of `forget`: who takes the bit away after this sees the cluster as
        // it is now.
        hints[cluster / 64].fetch_or(1 << (cluster % 64), Ordering::AcqRel);
    }

    /// Takes a hint away that has become wrong, unless it is right again.
    fn forget(self, hints: &[AtomicU64], cluster: usize, is_right: impl Fn(u64) -> bool) {
        // AcqRel pairs with that of `hint`.
        hints[cluster / 64].fetch_and(!(1 << (cluster % 64)), Ordering::AcqRel);
        // Acquire pairs with the AcqRel of `put`.
        if is_right(self.clusters[cluster].load(Ordering::Acquire)) {
            self.hint(hints, cluster);
        }
    }

    /// Takes up to `n` slots of a cluster that lie together, where `is_wanted` says so of the word.
    fn take_of(self, cluster: usize, n: u32, is_wanted: impl Fn(u64) -> bool) -> Option<Taken> {
        let word = self.clusters.get(cluster)?;
        let mut used = word.load(Ordering::Relaxed);
        loop {
            if !is_wanted(used) {
                return None;
            }
            let (first, len) = run_of(used, n)?;
            let now = used | bits(first, len);
            // Acquire pairs with the AcqRel of `put`: what its last user did with a slot is over.
            match word.compare_exchange_weak(used, now, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => {
                    if used == 0 {
                        self.forget(self.empty, cluster, |word| word == 0);
                    }
                    if now == u64::MAX {
                        self.forget(self.room, cluster, |word| word != u64::MAX);
                    }
                    return Some((cluster as u32 * CLUSTER + first, len));
                }
                Err(other) => used = other,
            }
        }
    }

    /// Takes `n` slots (1 to 64) of a cluster that lie together; `None`: it has no such run.
    pub fn take_run(self, cluster: u32, n: u32) -> Option<Taken> {
        let has = |used| run_of(used, n).is_some_and(|(_, len)| len == n);
        self.take_of(cluster as usize, n, has)
    }

    /// Takes `n` slots of a wholly free cluster, looked for from `from` on.
    pub fn take_empty(self, from: u32, n: u32) -> Option<Taken> {
        self.search(self.empty, from, |cluster| {
            self.take_of(cluster, n, |used| used == 0)
        })
    }

    /// Takes up to `n` slots that lie together, of any cluster, looked for from `from` on.
    pub fn take_any(self, from: u32, n: u32) -> Option<Taken> {
        self.search(self.room, from, |cluster| {
            self.take_of(cluster, n, |used| used != u64::MAX)
        })
    }

    /// Goes through the clusters that have a hint, once around.
    fn search(
        self,
        hints: &[AtomicU64],
        from: u32,
        try_take: impl Fn(usize) -> Option<Taken>,
    ) -> Option<Taken> {
        let first = from as usize / 64;
        let first = if first < hints.len() { first } else { 0 };
        for index in (first..hints.len()).chain(0..first) {
            // Acquire pairs with the AcqRel of `hint`.
            let mut word = hints[index].load(Ordering::Acquire);
            while word != 0 {
                if let Some(taken) = try_take(index * 64 + word.trailing_zeros() as usize) {
                    return Some(taken);
                }
                word &= word - 1;
            }
        }
        None
    }

    /// Whether a slot is used.
    pub fn is_used(self, at: u32) -> bool {
        let word = self.clusters.get((at / CLUSTER) as usize);
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (at % CLUSTER) & 1 != 0)
    }

    /// Gives a slot back; `false`: it was not used.
    pub fn put(self, at: u32) -> bool {
        let cluster = (at / CLUSTER) as usize;
        let bit = 1u64 << (at % CLUSTER);
        let Some(word) = self.clusters.get(cluster) else {
            return false;
        };
        // AcqRel pairs with the Acquire of `take_of` and of `forget`.
        let used = word.fetch_and(!bit, Ordering::AcqRel);
        if used == u64::MAX {
            self.hint(self.room, cluster);
        }
        if used == bit {
            self.hint(self.empty, cluster);
        }
        used & bit != 0
    }

    /// The first used slot at `from` or behind it, below `end`.
    #[cfg(any(test, feature = "testing"))]
    pub fn next_used(self, from: u32, end: u32) -> Option<u32> {
        let mut at = from;
        while at < end {
            let word = self.clusters.get((at / CLUSTER) as usize)?;
            let ahead = word.load(Ordering::Relaxed) >> (at % CLUSTER);
            if ahead != 0 {
                return Some(at + ahead.trailing_zeros()).filter(|&at| at < end);
            }
            at = (at / CLUSTER + 1) * CLUSTER;
        }
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_run_is_the_first_that_is_long_enough_else_the_longest() {
        assert_eq!(run_of(0, 64), Some((0, 64)));
        assert_eq!(run_of(u64::MAX, 1), None);
        assert_eq!(run_of(0b1101, 1), Some((1, 1)));
        assert_eq!(run_of(0b1101, 3), Some((4, 3)));
        assert_eq!(run_of(!0b0110_1110, 4), Some((1, 3)));
        assert_eq!(run_of(!(1 << 63), 9), Some((63, 1)));
    }

    struct Maps([Vec<AtomicU64>; 3]);

    impl Maps {
        fn new(nr_slots: u32) -> Self {
            let nr = nr_slots.div_ceil(64) as usize;
            let maps = [nr, nr.div_ceil(64), nr.div_ceil(64)];
            let maps = Self(maps.map(|n| (0..n).map(|_| AtomicU64::new(0)).collect()));
            maps.slots().make(nr_slots);
            maps
        }

        fn slots(&self) -> Slots<'_> {
            let [clusters, empty, room] = &self.0;
            Slots {
                clusters,
                empty,
                room,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn slots_are_those_of_a_set(
            nr_slots in 1u32..900,
            steps in prop::collection::vec((0u32..5, 0u32..1000, 1u32..=64), 1..200),
        ) {
            let maps = Maps::new(nr_slots);
            let slots = maps.slots();
            let mut used = BTreeSet::new();
            for (what, at, n) in steps {
                let taken = match what {
                    0 => slots.take_run(at / 64, n),
                    1 => slots.take_empty(at / 64, n),
                    2 => slots.take_any(at / 64, n),
                    _ => {
                        assert_eq!(slots.put(at % nr_slots), used.remove(&(at % nr_slots)));
                        continue;
                    }
                };
                let free = |cluster: u32| {
                    let all = cluster * 64..(cluster * 64 + 64).min(nr_slots);
                    all.filter(|at| !used.contains(at)).count()
                };
                let whole = (0..nr_slots / 64).any(|cluster| free(cluster) == 64);
                match taken {
                    Some((first, len)) => {
                        assert!((1..=n).contains(&len) && first / 64 == (first + len - 1) / 64);
                        assert!(what == 2 || len == n);
                        assert!(what != 1 || free(first / 64) == 64);
                        for at in first..first + len {
                            assert!(at < nr_slots && used.insert(at));
                        }
                    }
                    None => assert!(match what {
                        1 => !whole,
                        2 => used.len() == nr_slots as usize,
                        _ => true,
                    }),
                }
                let mut from = 0;
                for &at in &used {
                    assert_eq!(slots.next_used(from, nr_slots), Some(at));
                    from = at + 1;
                }
                assert_eq!(slots.next_used(from, nr_slots), None);
            }
        }
    }

    #[test]
    fn no_slot_is_taken_twice_under_threads_and_all_come_back() {
        let maps = Maps::new(300);
        let owners: Vec<AtomicU64> = (0..300).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|s| {
            for me in 1..=3u64 {
                let (maps, owners) = (&maps, &owners);
                s.spawn(move || {
                    let slots = maps.slots();
                    let mut mine = Vec::new();
                    for round in 0..3_000u32 {
                        let n = round % 64 + 1;
                        let taken = slots
                            .take_empty(round % 5, n)
                            .or_else(|| slots.take_any(round % 5, n));
                        if let Some((first, len)) = taken {
                            for at in first..first + len {
                                assert_eq!(owners[at as usize].swap(me, Ordering::Relaxed), 0);
                                mine.push(at);
                            }
                        }
                        while mine.len() > 90 || (round % 7 == 0 && !mine.is_empty()) {
                            let at = mine.swap_remove(round as usize % mine.len());
                            owners[at as usize].store(0, Ordering::Relaxed);
                            assert!(slots.put(at));
                        }
                    }
                    for at in mine {
                        owners[at as usize].store(0, Ordering::Relaxed);
                        assert!(slots.put(at));
                    }
                });
            }
        });
        let slots = maps.slots();
        assert_eq!(slots.next_used(0, 300), None);
        for _ in 0..4 {
            assert!(slots.take_empty(0, 64).is_some());
        }
        assert_eq!(
            (slots.take_empty(0, 1), slots.take_any(0, 64)),
            (None, Some((256, 44)))
        );
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;

    /// One takes the last slot of a cluster while another gives one back: what is free afterwards
    /// is found.
    #[test]
    fn loom_a_free_slot_is_never_forgotten() {
        loom::model(|| {
            let maps: [Vec<AtomicU64>; 3] = [!3, 0, 1].map(|word: u64| vec![AtomicU64::new(word)]);
            let maps = Arc::new(maps);
            fn of(maps: &[Vec<AtomicU64>; 3]) -> Slots<'_> {
                let [clusters, empty, room] = maps;
                Slots {
                    clusters,
                    empty,
                    room,
                }
            }
            let other = Arc::clone(&maps);
            let taker = loom::thread::spawn(move || of(&other).take_any(0, 2));
            assert!(of(&maps).put(63));
            let taken = taker.join().unwrap();
            assert_eq!(taken, Some((0, 2)));
            assert_eq!(of(&maps).take_any(0, 2), Some((63, 1)));
            assert_eq!(of(&maps).take_any(0, 1), None);
        });
    }

    /// The same for a cluster that becomes wholly free while it is taken from.
    #[test]
    fn loom_an_empty_cluster_is_never_forgotten() {
        loom::model(|| {
            let maps: [Vec<AtomicU64>; 3] = [0, 1, 1].map(|word: u64| vec![AtomicU64::new(word)]);
            let maps = Arc::new(maps);
            fn of(maps: &[Vec<AtomicU64>; 3]) -> Slots<'_> {
                let [clusters, empty, room] = maps;
                Slots {
                    clusters,
                    empty,
                    room,
                }
            }
            let other = Arc::clone(&maps);
            let all = loom::thread::spawn(move || {
                if let Some((first, _)) = of(&other).take_any(0, 1) {
                    assert!(of(&other).put(first));
                }
            });
            if let Some((first, 1)) = of(&maps).take_any(0, 1) {
                assert!(of(&maps).put(first));
            }
            all.join().unwrap();
            assert_eq!(of(&maps).take_empty(0, 64), Some((0, 64)));
        });
    }
}
