//! The right to look at the loader's objects: one thread's at a time, and nobody's over a fork.
//!
//! Signals are blocked while a thread has it. So no handler comes here again in the middle of a
//! look, and none jumps out of one, which would leave the loader's lock taken.
//!
//! Invariants: a thread asks the loader only while it has the right. A fork waits for it, so that a
//! child's loader is not locked by a thread that the child does not have.
//! Depends on: nothing of this library.
//! Never: waits without an end, except for the loader's own lock.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use memcg::internal::os::{self, sigmask};
use memcg::internal::thread;

const NOBODY: usize = 0;
/// The thread that has the right, as `thread::id` numbers it.
static LOOKER: AtomicUsize = AtomicUsize::new(NOBODY);
/// The looker is with the loader.
static IS_WITH_LOADER: AtomicBool = AtomicBool::new(false);
/// The loader of this process is locked for good.
static IS_LOST: AtomicBool = AtomicBool::new(false);

/// How often, a nap apart, a thread asks whether another has done: 100 ms together. A look takes a
/// few, or longer where the loader's lock is held, on which the asking thread itself may sit.
const TRIES: usize = 100;
const NAP_NS: u64 = 1_000_000;
/// How often it asks before it naps: mostly the other one only compares two numbers.
const SPINS: usize = 200;

/// The right to look, until it is dropped.
pub struct Looking {
    /// Dropped last.
    _signals: sigmask::Blocked,
}

impl Looking {
    /// `None`: it was not to be had in time, or this thread has it already.
    pub fn begin() -> Option<Self> {
        take().map(|signals| Self { _signals: signals })
    }

    /// Has `ask` ask the loader.
    pub fn ask_loader(&mut self, ask: impl FnOnce()) {
        // SeqCst: before the loader's lock is taken, also in the memory that a child gets. Read by
        // `in_child` alone.
        IS_WITH_LOADER.store(true, Ordering::SeqCst);
        ask();
        IS_WITH_LOADER.store(false, Ordering::Release);
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        give_back();
    }
}

/// Takes the right for this thread; signals are blocked.
fn take() -> Option<sigmask::Blocked> {
    let me = thread::id();
    for _ in 0..TRIES {
        if IS_LOST.load(Ordering::Relaxed) {
            return None;
        }
        let signals = sigmask::block_all();
        // Acquire pairs with the Release of `give_back`: the state as the last looker left it.
        match LOOKER.compare_exchange(NOBODY, me, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return Some(signals),
            Err(other) if other == me => return None,
            Err(_) => drop(signals),
        }
        if !is_soon_free() {
            os::sleep_ns(NAP_NS);
        }
    }
    None
}

fn give_back() {
    // Release pairs with the Acquire of `begin`.
    LOOKER.store(NOBODY, Ordering::Release);
}

fn is_soon_free() -> bool {
    (0..SPINS).any(|_| {
        core::hint::spin_loop();
        LOOKER.load(Ordering::Relaxed) == NOBODY
    })
}

/// Before a fork: takes the right for its length. Signals go on, and a handler of this thread does
/// not get it.
pub extern "C" fn before_fork() {
    drop(take());
}

/// After it, in the parent.
pub extern "C" fn after_fork_in_parent() {
    if LOOKER.load(Ordering::Relaxed) == thread::id() {
        give_back();
    }
}

/// In the child of a fork, also of one that `before_fork` did not see or could not wait for: a
/// looker that was another thread is not there any more, and has left the loader locked if it was
/// with it.
pub fn in_child() {
    let looker = LOOKER.load(Ordering::Relaxed);
    if looker != NOBODY && looker != thread::id() && IS_WITH_LOADER.load(Ordering::SeqCst) {
        IS_LOST.store(true, Ordering::Relaxed);
    }
    give_back();
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// The tests that use the process's one right, one by one.
    pub fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_blocked() -> bool {
        let mut now = core::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: a query fills the set.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, core::ptr::null(), now.as_mut_ptr());
            libc::sigismember(now.as_ptr(), libc::SIGUSR1) == 1
        }
    }

    #[test]
    fn one_thread_looks_with_signals_blocked_and_is_told_so() {
        let _alone = alone();
        let looking = Looking::begin().unwrap();
        assert!(is_blocked());
        assert!(Looking::begin().is_none());
        std::thread::spawn(|| assert!(Looking::begin().is_none()))
            .join()
            .unwrap();
        drop(looking);
        assert!(!is_blocked());
        assert!(Looking::begin().is_some());
    }

    #[test]
    fn nobody_looks_during_a_fork() {
        let _alone = alone();
        before_fork();
        assert!(!is_blocked());
        assert!(Looking::begin().is_none());
        after_fork_in_parent();
        assert!(Looking::begin().is_some());
        // Of a fork that took nothing, nothing is given back.
        let looking = Looking::begin().unwrap();
        std::thread::spawn(|| after_fork_in_parent())
            .join()
            .unwrap();
        assert!(
            std::thread::spawn(|| Looking::begin().is_none())
                .join()
                .unwrap()
        );
        drop(looking);
    }

    #[test]
    fn a_child_whose_loader_is_locked_never_asks_it() {
        let _alone = alone();
        // As a child finds it that was cloned while another thread was with the loader.
        LOOKER.store(1, Ordering::Relaxed);
        IS_WITH_LOADER.store(true, Ordering::Relaxed);
        in_child();
        assert!(Looking::begin().is_none());
        IS_LOST.store(false, Ordering::Relaxed);
        IS_WITH_LOADER.store(false, Ordering::Relaxed);
        // Without the loader's lock nothing is lost.
        LOOKER.store(1, Ordering::Relaxed);
        in_child();
        assert!(Looking::begin().is_some());
    }
}
