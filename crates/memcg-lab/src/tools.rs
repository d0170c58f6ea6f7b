//! What experiments have in common: how large they are, how time is taken, what the engine of the
//! arm has.

#![forbid(unsafe_code)]

use crate::cpu_clock::thread_cpu_ns;
use crate::random::Random;
use memcg::testing::engine::process_engine::{engine, with_rec};
use memcg::testing::engine::{By, Engine};
use memcg::testing::kmem::cache::CacheStat;
use memcg::testing::kmem::layout::UNIT;
use memcg::testing::thread::ThreadRec;
use memcg::{Memcg, root};

/// How large an experiment is, and by which random numbers.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Objects, rounds, groups: what the experiment is about.
    pub scale: usize,
    /// Of its random numbers.
    pub seed: u64,
}

impl Setting {
    /// Its random numbers. All arms see the same.
    pub fn random(&self) -> Random {
        Random::new(self.seed)
    }
}

/// CPU time of this thread that `f` takes, in ns, for each of `nr` operations in it.
pub fn each<R>(nr: usize, f: impl FnOnce() -> R) -> (f64, R) {
    let start = thread_cpu_ns();
    let answer = f();
    let ns = thread_cpu_ns().saturating_sub(start);
    (ns as f64 / nr.max(1) as f64, answer)
}

/// The same of `nr` operations in ten slices, the median of theirs: one interruption spoils one
/// slice. `f` does the operations of a range.
pub fn sliced(nr: usize, mut f: impl FnMut(core::ops::Range<usize>)) -> f64 {
    let mut slices: Vec<f64> = (0..10)
        .map(|slice| slice * nr / 10..(slice + 1) * nr / 10)
        .filter(|range| !range.is_empty())
        .map(|range| each(range.len(), || f(range)).0)
        .collect();
    median(&mut slices)
}

/// The one in the middle; 0 of none.
pub fn median(all: &mut [f64]) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

/// Runs `f` with the engine and this thread's record.
///
/// # Panics
/// Without memory.
pub fn with<R>(f: impl FnOnce(&'static Engine, &'static ThreadRec) -> R) -> R {
    with_rec(f).expect("memory for a thread's record")
}

/// A new group below the root.
///
/// # Panics
/// When there is one of that name, or no memory.
pub fn group(name: impl AsRef<str>) -> Memcg {
    root().create(name.as_ref()).expect("a new group")
}

/// Does what the engine has put off, until nothing is.
pub fn settle() {
    while memcg::run_deferred() > 0 {}
    with(|engine, rec| {
        let _helped = engine.run_deferred(rec, By::All);
        engine.finish_lingering(rec);
    });
}

/// Bytes of all caches' slabs, free objects in them included.
pub fn slab_bytes() -> u64 {
    let kmem = &engine().kmem;
    let mut stats = vec![CacheStat::default(); kmem.caches.high_water() as usize];
    kmem.cache_stats(&mut stats);
    let each = kmem.caches.each().zip(stats.iter().skip(1));
    each.filter(|(_, stat)| stat.slabs > 0)
        .map(|((_, cache), stat)| stat.slabs * cache.shape().units * UNIT)
        .sum::<usize>() as u64
}

/// Caches that give no objects any more and have slabs still.
pub fn dead_caches() -> u64 {
    let caches = &engine().kmem.caches;
    caches
        .each()
        .filter(|(_, cache)| cache.is_there() && cache.is_dead() && cache.nr_slabs() > 0)
        .count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cover_every_operation_once() {
        let mut seen = Vec::new();
        sliced(23, |range| seen.extend(range));
        assert!(seen.into_iter().eq(0..23));
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
    }
}
