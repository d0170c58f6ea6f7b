//! Waiting for a word to change, and waking who waits.

use core::sync::atomic::AtomicU32;

/// Sleeps while `word` is `expected`; may return early for no reason.
pub fn wait(word: &AtomicU32, expected: u32) {
    // SAFETY: the kernel only reads the four bytes of `word`, which outlives the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            core::ptr::from_ref(word),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            core::ptr::null::<libc::timespec>(),
        );
    }
}

/// Wakes one thread that waits on `word`.
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
