//! A mutual-exclusion lock of four bytes, zero when free, with a rank.
//!
//! Ranks order the locks: a thread that holds rank r takes only ranks above r (or the same rank
//! where the caller orders the instances itself, as parent before child). Debug builds check it.
//! The charge and uncharge paths take no lock at all, which is why a signal handler that allocates
//! cannot meet a lock its own thread holds.
//!
//! Invariants: a lock has one holder at a time. Zero bytes are a free lock.
//! Depends on: `os::futex` for the wait; `promise` for what is freed in the child of a fork.
//! Never: held by the same thread twice: a lock does not know its holder.

#![forbid(unsafe_code)]

use super::atomic::{AtomicU32, Ordering};
use super::promise::{HeldOverFork, SoleThread};

/// The locks of the engine, outermost first. ARCHITECTURE.md tells the same list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Rank {
    /// One region of a file: its write-back, changes of its length. Held over the I/O.
    FileIo = 0,
    /// One task's move or end (taken before any group's lock).
    Task = 1,
    /// A group: its children, state, limits. Several at once only parent before child.
    Group = 2,
    /// One shard of the index of names.
    Index = 3,
    /// The collector of what epochs have let go.
    Collect = 4,
    /// The words of `memory.kmem.caches`.
    Words = 5,
    /// Changes of a table by kmem id that is a tree. Nothing is taken under it.
    Tables = 6,
    /// A region: its leaves, its length, its mappings.
    Region = 7,
    /// What one owner has of pages. Tried only, where the thread may not wait.
    Pages = 8,
    /// Which of the groups' orders of pages an owner is in. Nothing is waited for under it.
    PageHeads = 9,
    /// The order among the owners' lists of pages of one group; two only child before parent.
    PageLists = 10,
    /// A list of one group; two only parent before child.
    List = 11,
    /// The table of files behind regions, or one of a file's locks; never two. Nothing is taken
    /// under them. A signal handler may need malloc meanwhile, so they stand before its locks, as
    /// the next three do.
    Files = 12,
    /// The table of swap devices. Held for a few loads and stores; nothing is taken under it.
    Swap = 13,
    /// Memory of the engine for one cluster on its way to or from swap. Held over the I/O, and
    /// while the caller copies pages: neither takes a lock.
    Staging = 14,
    /// The pool of compressed pages. Nothing is taken under it.
    Zswap = 15,
    /// The heap of signal handlers and of threads without one.
    Shared = 16,
    /// The lists of some kmem caches.
    Caches = 17,
    /// Slabs of kmem caches that are being mixed. Nothing is taken under it.
    Tags = 18,
    /// Spans and chunks. Taken with all signals off, since malloc in a handler may need it.
    Spans = 19,
}

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// A lock without data: it guards the fields its owner's module says it guards.
#[derive(Default)]
pub struct Lock(AtomicU32);

/// Proof that a [`Lock`] is held; dropping it lets go.
#[must_use]
pub struct Held<'a> {
    lock: &'a Lock,
    rank: Rank,
}

impl Lock {
    /// Takes the lock, sleeping while another thread holds it.
    ///
    /// # Panics
    /// In debug builds, when the thread already holds a lock of a higher rank.
    pub fn lock(&self, rank: Rank) -> Held<'_> {
        ranks::enter(rank);
        // Acquire pairs with the Release of `unlock`: what the last holder wrote is seen.
        if self
            .0
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            self.lock_slow();
        }
        Held { lock: self, rank }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self, rank: Rank) -> Option<Held<'_>> {
        // Acquire pairs with the Release of `unlock`.
        self.0
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        ranks::enter(rank);
        Some(Held { lock: self, rank })
    }

    #[cold]
    fn lock_slow(&self) {
        for _ in 0..100 {
            // Acquire pairs with the Release of `unlock`: what the last holder wrote is seen.
            if self.0.load(Ordering::Relaxed) == FREE
                && self
                    .0
                    .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                return;
            }
            super::relax();
        }
        // Acquire pairs with the Release of `unlock`. Marked contended, so that the holder wakes
        // somebody.
        while self.0.swap(CONTENDED, Ordering::Acquire) != FREE {
            #[cfg(not(loom))]
            crate::os::futex::wait(&self.0, CONTENDED);
            #[cfg(loom)]
            loom::thread::yield_now();
        }
    }

    fn unlock(&self) {
        // Release pairs with the Acquire of `lock`, `try_lock` and `lock_slow`.
        if self.0.swap(FREE, Ordering::Release) == CONTENDED {
            #[cfg(not(loom))]
            crate::os::futex::wake_one(&self.0);
        }
    }

    /// Lets go of a lock whose guard was forgotten: held over a fork, which has no scope.
    pub fn unlock_forgotten(&self, rank: Rank, _held: HeldOverFork) {
        drop(Held { lock: self, rank });
    }

    /// Frees the lock without its guard.
    ///
    /// For the child of a fork: its holder was a thread of the parent, or the forking thread
    /// itself, which does not use its guard any more.
    pub fn reset_in_child(&self, _sole: SoleThread) {
        // Only where it is not free: the child's page need not be copied for nothing.
        // Release pairs with the Acquire of `lock`, `try_lock` and `lock_slow`.
        if self.0.load(Ordering::Relaxed) != FREE {
            self.0.store(FREE, Ordering::Release);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.lock.unlock();
        ranks::leave(self.rank);
    }
}

#[cfg(all(debug_assertions, not(loom)))]
mod ranks {
    use super::Rank;
    use core::cell::Cell;
    thread_local! {
        // One counter a rank, no destructor: usable at any time in a thread's life.
        static HELD: Cell<[u8; 24]> = const { Cell::new([0; 24]) };
    }
    pub fn enter(rank: Rank) {
        HELD.with(|held| {
            let mut now = held.get();
            assert!(
                now[rank as usize + 1..].iter().all(|&n| n == 0),
                "lock order: {rank:?} taken under a higher rank"
            );
            now[rank as usize] += 1;
            held.set(now);
        });
    }
    pub fn leave(rank: Rank) {
        HELD.with(|held| {
            let mut now = held.get();
            now[rank as usize] -= 1;
            held.set(now);
        });
    }
}

#[cfg(not(all(debug_assertions, not(loom))))]
mod ranks {
    pub fn enter(_: super::Rank) {}
    pub fn leave(_: super::Rank) {}
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;

    #[test]
    fn one_holder_at_a_time() {
        let lock = Lock::default();
        let n = AtomicU64::new(0);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..20_000 {
                        let _held = lock.lock(Rank::Group);
                        // Two relaxed halves lose updates unless the lock excludes.
                        n.store(n.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(n.into_inner(), 80_000);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "lock order")]
    fn a_lower_rank_under_a_higher_one_is_caught() {
        let (a, b) = (Lock::default(), Lock::default());
        let _b = b.lock(Rank::Index);
        let _a = a.lock(Rank::Group);
    }
}
