//! A counter that many threads share: bytes charged to one owner, taken and given back by `&self`.
//!
//! How many bytes are held is spread over a few counters, each in a cache line of its own, of which
//! a thread uses one. What a thread gives back beyond its own counter's bytes is taken from the
//! others, one thread at a time.
//!
//! Invariants: for each counter its bytes, rounded up to a multiple of 8, are charged. A counter is
//! raised after the charge, and lowered before the uncharge.
//! Depends on: `engine::charge_loop`.
//! Never: charges or uncharges under the lock.

#![forbid(unsafe_code)]

use super::error::ReserveError;
use super::memcg::Memcg;
use super::pinned::pinned;
use crate::engine::process_engine::with_rec;
use crate::engine::{Engine, Flags, Request};
use crate::group::exact_charge::round_up;
use crate::group::{Kind, Objcg, Refusal, Tag};
use crate::thread::ThreadRec;
use core::fmt;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Mutex, PoisonError};

/// Counters of a pool. Threads that share one still count right.
const COUNTERS: usize = 8;

/// Who takes bytes from all counters looks so often before the bytes are missing: in between others
/// may move them each time.
const ROUNDS: u32 = 64;

/// Bytes that many threads charge to one group: the counter behind a memory pool.
///
/// A [`Charge`](super::Charge) belongs to one holder. A pool is shared (`&self`, `Sync`): any
/// thread grows it, any other shrinks it, and no lock is taken for that. Its bytes are counted as
/// `reserved` in `memory.stat`. What it still holds is given back when it is dropped. If its group
/// is removed, the nearest group above that is left is charged.
///
/// ```
/// use memcg::{Limit, Pool};
///
/// let query = memcg::root().create("pool").unwrap();
/// query.set_max(Limit::bytes(1 << 20)).unwrap();
/// let pool = Pool::new(&query);
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         scope.spawn(|| pool.try_grow(300 << 10).unwrap());
///     }
/// });
/// assert_eq!(pool.bytes(), 600 << 10);
/// let refused = pool.try_grow(600 << 10).unwrap_err();
/// assert_eq!(refused.group, "/pool");
/// pool.shrink(600 << 10);
/// assert_eq!(query.current(), 0);
/// ```
///
/// Cost, for amounts that the thread has in stock: a compare-and-swap on a cache line that is
/// usually the thread's own, and a subtraction; above, a few atomic instructions for each level of
/// the tree. A pool has 1 KiB.
pub struct Pool {
    /// The owner, which the pool has a reference to.
    tag: Tag,
    counters: [Counter; COUNTERS],
    /// Held while bytes are gathered from all counters.
    gathering: Mutex<()>,
}

#[derive(Default)]
#[repr(align(128))]
struct Counter(AtomicU64);

impl Counter {
    /// Takes up to `bytes`; answers how many, and by how much less is charged for the rest.
    fn take(&self, bytes: u64) -> (u64, u64) {
        let mut had = self.0.load(Relaxed);
        loop {
            let took = had.min(bytes);
            let rest = had - took;
            // Acquire pairs with the Release of `add`: the charge comes before the uncharge.
            match self.0.compare_exchange_weak(had, rest, Acquire, Relaxed) {
                Ok(_) => return (took, round_up(had) - round_up(rest)),
                Err(now) => had = now,
            }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

/// Runs `f` with the engine and the thread's record.
#[inline]
fn charging<R>(f: impl FnOnce(&'static Engine, &'static ThreadRec) -> R) -> R {
    with_rec(f).expect("no memory for a thread's record")
}

impl Pool {
    /// An empty pool, whose bytes are charged to `group`.
    ///
    /// # Panics
    /// Without memory for a record of the thread.
    #[must_use]
    pub fn new(group: &Memcg) -> Self {
        Self {
            tag: pinned(|engine, _| engine.tree.ref_live_tag(group.tag())),
            counters: Default::default(),
            gathering: Mutex::new(()),
        }
    }

    /// The bytes that the pool holds. Exact when nothing is in flight. Cost: 8 loads.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.counters.iter().map(|c| c.0.load(Relaxed)).sum()
    }

    /// Takes `bytes` more, within all limits. Waits for nothing.
    ///
    /// # Errors
    /// When a limit is in the way. It names the group that is full; nothing has changed.
    ///
    /// # Panics
    /// Without memory for a record of the thread.
    #[inline]
    pub fn try_grow(&self, bytes: u64) -> Result<(), ReserveError> {
        self.try_grow_with(bytes, Flags::NOWAIT)
    }

    /// As [`Pool::try_grow`], doing what `flags` allow to find room.
    ///
    /// # Errors
    /// See [`Pool::try_grow`].
    ///
    /// # Panics
    /// See [`Pool::try_grow`].
    #[inline]
    pub fn try_grow_with(&self, bytes: u64, flags: Flags) -> Result<(), ReserveError> {
        if bytes > Objcg::LIMIT {
            return Err(self.beyond_all(bytes));
        }
        // A pool's bytes are charged to its owner: they will be uncharged.
        let flags = flags.without(Flags::NOACCOUNT);
        charging(|engine, rec| self.add(engine, rec, bytes, (0, flags)))
    }

    /// Takes `bytes` more, whatever the limits say: for what exists already, or cannot be refused.
    ///
    /// # Panics
    /// When the owner would hold more than 8 TiB, and without memory for a record of the thread.
    #[inline]
    pub fn grow(&self, bytes: u64) {
        if let Err(refused) = self.try_grow_with(bytes, Flags::FORCE) {
            panic!("a pool cannot grow so far: {refused}");
        }
    }

    /// Gives `bytes` back.
    ///
    /// # Panics
    /// When the pool holds fewer bytes: then nothing has changed. And without memory for a record
    /// of the thread.
    #[inline]
    pub fn shrink(&self, bytes: u64) {
        charging(|engine, rec| {
            let counter = &self.own_counter(rec).0;
            let mut had = counter.load(Relaxed);
            while let Some(rest) = had.checked_sub(bytes) {
                // Acquire pairs with the Release of `try_grow_with`, as in `take`.
                match counter.compare_exchange_weak(had, rest, Acquire, Relaxed) {
                    Ok(_) => {
                        return self.uncharge(engine, rec, round_up(had) - round_up(rest));
                    }
                    Err(now) => had = now,
                }
            }
            self.shrink_all(engine, rec, bytes);
        });
    }

    /// Gives `bytes` back that the thread's own counter does not have.
    #[cold]
    fn shrink_all(&self, engine: &Engine, rec: &ThreadRec, bytes: u64) {
        let (mut left, mut less) = (bytes, 0);
        {
            // With two gathering at once, each could hold what the other lacks.
            let _alone = self
                .gathering
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for _ in 0..ROUNDS {
                for counter in &self.counters {
                    let (took, uncharged) = counter.take(left);
                    left -= took;
                    less += uncharged;
                    if left == 0 {
                        self.level(rec, counter);
                        break;
                    }
                }
                if left == 0 {
                    break;
                }
                core::hint::spin_loop();
            }
        }
        if left == 0 {
            return self.uncharge(engine, rec, less);
        }
        // What was gathered goes back into a counter with its charge. Elsewhere the rounding may
        // come to 8 bytes more.
        let back = self.add(engine, rec, bytes - left, (less, Flags::FORCE));
        debug_assert!(
            back.is_ok(),
            "a forced charge is refused beyond what a counter holds alone"
        );
        panic!("a pool of {} bytes cannot give {bytes}", self.bytes());
    }

    /// Adds `bytes` to the thread's own counter, of which `charged` are charged already; the rest
    /// is charged now, as far as `flags` allow. Refused: nothing is added, and nothing is charged.
    #[inline]
    fn add(
        &self,
        engine: &Engine,
        rec: &ThreadRec,
        bytes: u64,
        (mut charged, flags): (u64, Flags),
    ) -> Result<(), ReserveError> {
        let counter = &self.own_counter(rec).0;
        let mut had = counter.load(Relaxed);
        loop {
            let more = round_up(had + bytes) - round_up(had);
            if more > charged {
                let request = Request::reserved(self.tag, more - charged, flags);
                if let Err(refused) = engine.charge(rec, request) {
                    self.uncharge(engine, rec, charged);
                    return Err(ReserveError::new(&refused));
                }
            } else {
                self.uncharge(engine, rec, charged - more);
            }
            charged = more;
            // Release pairs with the Acquire of `take`: the charge comes before the uncharge.
            match counter.compare_exchange_weak(had, had + bytes, Release, Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => had = now,
            }
        }
    }

    /// Moves half of what `counter` has to the thread's own, so that its next give is likely a hit.
    fn level(&self, rec: &ThreadRec, counter: &Counter) {
        let own = self.own_counter(rec);
        if core::ptr::eq(own, counter) {
            return;
        }
        let mut had = counter.0.load(Relaxed);
        loop {
            // Multiples of 8 change no rounding, so the charge stays as it is.
            let half = (had / 2) & !7;
            // Acquire pairs with the Release of whoever added: passed on by the one below.
            match counter
                .0
                .compare_exchange_weak(had, had - half, Acquire, Relaxed)
            {
                Ok(_) => {
                    // Release pairs with the Acquire of `take`.
                    own.0.fetch_add(half, Release);
                    return;
                }
                Err(now) => had = now,
            }
        }
    }

    #[inline]
    fn own_counter(&self, rec: &ThreadRec) -> &Counter {
        let number = core::ptr::from_ref(rec) as usize / size_of::<ThreadRec>();
        &self.counters[number % COUNTERS]
    }

    #[inline]
    fn uncharge(&self, engine: &Engine, rec: &ThreadRec, bytes: u64) {
        if bytes > 0 {
            engine.uncharge(rec, self.tag, bytes, Kind::Reserved);
        }
    }

    #[cold]
    fn beyond_all(&self, bytes: u64) -> ReserveError {
        let refusal = Refusal {
            group: None,
            usage: self.bytes(),
            max: Objcg::LIMIT,
        };
        ReserveError::of_refusal(bytes, refusal)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let all: u64 = self
            .counters
            .iter_mut()
            .map(|counter| round_up(*counter.0.get_mut()))
            .sum();
        with_rec(|engine, rec| {
            self.uncharge(engine, rec, all);
            let _pin = engine.tree.threads.epoch.pin(rec);
            engine.tree.unref_objcg(self.tag);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::root;
    use crate::units::Limit;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn odd_amounts_are_charged_as_one_sum() {
        let group = root().create("pool-odd").unwrap();
        let pool = Pool::new(&group);
        for _ in 0..1_000 {
            pool.try_grow(3).unwrap();
        }
        assert_eq!((pool.bytes(), group.current()), (3_000, 3_000));
        pool.shrink(2_999);
        assert_eq!((pool.bytes(), group.current()), (1, 8));
        pool.grow(0);
        pool.shrink(0);
        drop(pool);
        assert_eq!(group.current(), 0);
        group.remove().unwrap();
    }

    #[test]
    fn what_one_thread_took_another_gives_back() {
        let group = root().create("pool-threads").unwrap();
        let pool = Pool::new(&group);
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| pool.grow(1_001));
            }
        });
        assert_eq!(pool.bytes(), 4_004);
        // All at once, each more than its own counter has or may have.
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    (0..7).for_each(|_| pool.shrink(143));
                });
            }
        });
        assert_eq!((pool.bytes(), group.current()), (0, 0));
    }

    #[test]
    fn threads_that_take_and_give_leave_nothing() {
        let group = root().create("pool-storm").unwrap();
        group.set_max(Limit::bytes(1 << 20)).unwrap();
        let pool = Pool::new(&group);
        let queue = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for seed in 0..4u64 {
                let (pool, queue) = (&pool, &queue);
                scope.spawn(move || {
                    let mut x = seed + 1;
                    for _ in 0..5_000 {
                        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let bytes = x >> 45;
                        if x & 1 << 40 == 0 && pool.try_grow(bytes).is_ok() {
                            queue.lock().unwrap().push(bytes);
                        } else if let Some(bytes) = { queue.lock().unwrap().pop() } {
                            pool.shrink(bytes);
                        }
                    }
                });
            }
        });
        let left: u64 = queue.lock().unwrap().iter().sum();
        assert_eq!(pool.bytes(), left);
        let held = group.current();
        assert!(
            (left..left + 8 * COUNTERS as u64).contains(&held),
            "{left} {held}"
        );
        drop(pool);
        assert_eq!(group.current(), 0);
    }

    #[test]
    fn more_than_it_holds_is_refused_and_changes_nothing() {
        let group = root().create("pool-too-much").unwrap();
        let pool = Pool::new(&group);
        pool.grow(1_000);
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let outcome = catch_unwind(AssertUnwindSafe(|| pool.shrink(1_001)));
        std::panic::set_hook(hook);
        let text = *outcome.unwrap_err().downcast::<String>().unwrap();
        assert_eq!(text, "a pool of 1000 bytes cannot give 1001");
        assert_eq!((pool.bytes(), group.current()), (1_000, 1_000));
        assert_eq!(pool.try_grow(u64::MAX).unwrap_err().max, Objcg::LIMIT);
    }

    #[test]
    fn a_refused_pool_is_as_before_and_its_removed_group_hands_it_up() {
        let top = root().create("pool-top").unwrap();
        let group = top.create("low").unwrap();
        group.set_max(Limit::bytes(1 << 20)).unwrap();
        let pool = Pool::new(&group);
        pool.try_grow(1 << 20).unwrap();
        let refused = pool.try_grow(1).unwrap_err();
        assert_eq!((&*refused.group, refused.bytes), ("/pool-top/low", 8));
        assert_eq!((pool.bytes(), group.current()), (1 << 20, 1 << 20));
        group.remove().unwrap();
        pool.try_grow(1 << 20).unwrap();
        assert_eq!(top.current(), 2 << 20);
        drop(pool);
        assert_eq!(top.current(), 0);
    }

    #[test]
    fn a_pool_can_be_shared() {
        fn shared<T: Send + Sync>() {}
        shared::<Pool>();
        let stop = AtomicBool::new(false);
        let pool = Pool::new(&root().create("pool-shared").unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    pool.try_grow(64).unwrap();
                    pool.shrink(64);
                }
            });
            for _ in 0..1_000 {
                assert!(pool.bytes() <= 64);
            }
            stop.store(true, Relaxed);
        });
    }
}
