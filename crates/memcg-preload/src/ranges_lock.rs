//! The lock around the table of mapped ranges, and the table itself.
//!
//! Signals are blocked while it is held, so a handler that maps memory never finds the table half
//! changed. The lock knows its holder, so a thread that comes here again from inside (another
//! library's fork handler, between ours) is told. The thread that forks holds it over the fork, so
//! the child's table is whole.
//!
//! Invariants: a leaf in the order of locks: its holder charges and uncharges, which take none, and
//! calls the kernel; nothing else.
//! Depends on: mapped_ranges.
//! Never: allocates from the heap.

use crate::mapped_ranges::Ranges;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use memcg::internal::os::{futex, sigmask};
use memcg::internal::thread;

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

static STATE: AtomicU32 = AtomicU32::new(FREE);
/// The holder, as `thread::id` numbers it; 0: nobody.
static HOLDER: AtomicUsize = AtomicUsize::new(0);

struct Table(UnsafeCell<Ranges>);
// SAFETY: reached through a `Guard` only, of which there is one at a time.
unsafe impl Sync for Table {}
static TABLE: Table = Table(UnsafeCell::new(Ranges::new()));

/// Spans in the table, all and idle: what a call that finds none need not lock for. What a thread
/// unmaps it knows to be mapped, so it has seen the count of that.
static NR: AtomicUsize = AtomicUsize::new(0);
static NR_IDLE: AtomicUsize = AtomicUsize::new(0);

pub fn nr() -> usize {
    NR.load(Ordering::Relaxed)
}

pub fn nr_idle() -> usize {
    NR_IDLE.load(Ordering::Relaxed)
}

fn me() -> usize {
    thread::id()
}

fn acquire() {
    // Acquire pairs with the Release of `release`: the table as the last holder left it.
    if STATE
        .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        while STATE.swap(CONTENDED, Ordering::Acquire) != FREE {
            futex::wait(&STATE, CONTENDED);
        }
    }
    HOLDER.store(me(), Ordering::Relaxed);
}

fn release() {
    HOLDER.store(0, Ordering::Relaxed);
    // Release pairs with the Acquire of `acquire`.
    if STATE.swap(FREE, Ordering::Release) == CONTENDED {
        futex::wake_one(&STATE);
    }
}

/// The table is this thread's until the drop.
pub struct Guard {
    /// Dropped last.
    _signals: sigmask::Blocked,
}

impl Guard {
    /// Waits for the table; `None` when this thread has it.
    pub fn enter() -> Option<Self> {
        if HOLDER.load(Ordering::Relaxed) == me() {
            return None;
        }
        let signals = sigmask::block_all();
        acquire();
        Some(Self { _signals: signals })
    }

    pub fn ranges(&mut self) -> &mut Ranges {
        // SAFETY: this guard is the only one, and borrowed.
        unsafe { &mut *TABLE.0.get() }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (nr, nr_idle) = self.ranges().counts();
        NR.store(nr, Ordering::Relaxed);
        NR_IDLE.store(nr_idle, Ordering::Relaxed);
        release();
    }
}

/// Before a fork: takes the table for its length. Signals go on; a handler of this thread is told
/// the table is taken.
pub extern "C" fn before_fork() {
    if HOLDER.load(Ordering::Relaxed) == me() {
        return;
    }
    let _signals = sigmask::block_all();
    acquire();
}

/// After it, in the parent.
pub extern "C" fn after_fork_in_parent() {
    if HOLDER.load(Ordering::Relaxed) == me() {
        release();
    }
}

/// After it, in the child. A child that came about without `before_fork` may have the table from
/// the middle of another thread's change: then it is forgotten, and what was in it stays charged.
pub fn in_child() {
    let holder = HOLDER.load(Ordering::Relaxed);
    if holder != me() && STATE.load(Ordering::Relaxed) != FREE {
        // SAFETY: the child has one thread, this one; its holder is not here.
        unsafe { (*TABLE.0.get()).forget() };
        NR.store(0, Ordering::Relaxed);
        NR_IDLE.store(0, Ordering::Relaxed);
    }
    release();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_table_is_told() {
        let guard = Guard::enter().unwrap();
        assert!(Guard::enter().is_none());
        drop(guard);
        assert!(Guard::enter().is_some());
    }

    #[test]
    fn signals_wait_while_it_is_held() {
        let is_blocked = || {
            let mut now = core::mem::MaybeUninit::<libc::sigset_t>::uninit();
            // SAFETY: a query fills the set.
            unsafe {
                libc::pthread_sigmask(libc::SIG_BLOCK, core::ptr::null(), now.as_mut_ptr());
                libc::sigismember(now.as_ptr(), libc::SIGUSR1) == 1
            }
        };
        let guard = Guard::enter().unwrap();
        assert!(is_blocked());
        drop(guard);
        assert!(!is_blocked());
    }
}
