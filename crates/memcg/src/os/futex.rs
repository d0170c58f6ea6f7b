//! Waiting for a word to change, and waking who waits.
//!
//! Invariants: who finds that the word is no longer what was expected does not sleep.
//! Depends on: the kernel's futex call, on words of this process alone.
//! Never: says why a wait ended: the caller looks at the word again.

use core::sync::atomic::AtomicU32;

/// Sleeps while `word` is `expected`; may return early for no reason.
pub fn wait(word: &AtomicU32, expected: u32) {
    wait_at_most(word, expected, 0);
}

/// As [`wait`], for `ms` milliseconds at most; 0: for ever.
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
pub fn wake_one(word: &AtomicU32) {
    wake(word, 1);
}

/// Wakes all threads that wait on `word`.
pub fn wake_all(word: &AtomicU32) {
    wake(word, i32::MAX);
}

fn wake(word: &AtomicU32, most: i32) {
    // SAFETY: a wake uses the address as a key only.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            core::ptr::from_ref(word),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            most,
        );
    }
}
