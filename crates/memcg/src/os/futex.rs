//! Waiting for a word to change, and waking who waits.

#[cfg(loom)]
pub use model::{wait_at_most, wake_one};

#[cfg(not(loom))]
use core::sync::atomic::AtomicU32;

/// Sleeps while `word` is `expected`; may return early for no reason.
#[cfg(not(loom))]
pub fn wait(word: &AtomicU32, expected: u32) {
    wait_at_most(word, expected, 0);
}

/// As [`wait`], for `ms` milliseconds at most; 0: for ever.
#[cfg(not(loom))]
pub fn wait_at_most(word: &AtomicU32, expected: u32, ms: u32) {
    let time = libc::timespec {
        tv_sec: libc::time_t::from(ms / 1000),
        tv_nsec: i64::from(ms % 1000 * 1_000_000),
    };
    let until = if ms == 0 {
        core::ptr::null()
    } else {
        core::ptr::from_ref(&time)
    };
    // SAFETY: the kernel only reads the four bytes of `word` and the time, which outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            core::ptr::from_ref(word),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            until,
        );
    }
}

/// Wakes one thread that waits on `word`.
#[cfg(not(loom))]
pub fn wake_one(word: &AtomicU32) {
    // SAFETY: a wake uses the address as a key only.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            core::ptr::from_ref(word),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            1,
        );
    }
}

/// What the kernel promises, for loom: to look at the word and to go to sleep is one step for who wakes. One bed for all words,
/// and no time passes: who sleeps for a while sleeps for ever, so that a wake-up that is lost is found.
#[cfg(loom)]
mod model {
    use crate::sync::atomic::{AtomicU32, Ordering};
    use loom::sync::{Condvar, Mutex};

    loom::lazy_static! {
        static ref BED: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    /// Sleeps while `word` is `expected`.
    ///
    /// # Panics
    /// Never: nobody panics holding the lock.
    pub fn wait_at_most(word: &AtomicU32, expected: u32, _ms: u32) {
        let held = BED.0.lock().expect("nobody panics holding it");
        if word.load(Ordering::Relaxed) == expected {
            drop(BED.1.wait(held));
        }
    }

    /// Wakes one thread that waits.
    ///
    /// # Panics
    /// Never: nobody panics holding the lock.
    pub fn wake_one(_word: &AtomicU32) {
        let _held = BED.0.lock().expect("nobody panics holding it");
        BED.1.notify_one();
    }
}
