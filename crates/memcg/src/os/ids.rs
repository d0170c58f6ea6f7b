//! Who runs: thread, process, user; the thread's name; random bits.
//!
//! Invariants: the kernel is asked each time, so the answers are right in the child of a fork too.
//! Depends on: the kernel; `clock`, where it has no random bits yet.
//! Never: waits.

/// The kernel's id of this thread.
#[must_use]
pub fn tid() -> u32 {
    // SAFETY: gettid takes no arguments, touches no memory of the process and cannot fail.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// The kernel's id of this process.
#[must_use]
pub fn pid() -> u32 {
    // SAFETY: getpid takes no arguments, touches no memory of the process and cannot fail.
    unsafe { libc::getpid() as u32 }
}

/// The effective user of this process.
#[must_use]
pub fn euid() -> u32 {
    // SAFETY: geteuid takes no arguments, touches no memory of the process and cannot fail.
    unsafe { libc::geteuid() }
}

/// Names this thread, for the kernel and who looks from outside.
pub fn set_thread_name(name: &core::ffi::CStr) {
    // SAFETY: PR_SET_NAME reads up to 16 bytes of a terminated string.
    unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Random bits, for what a program should not be able to guess; made of the time and the process's
/// id where the kernel has none yet.
#[must_use]
pub fn random() -> u64 {
    let mut bits = 0u64;
    // SAFETY: the kernel writes at most eight bytes, into `bits`, which is ours. GRND_NONBLOCK: it
    // never waits.
    let got = unsafe {
        libc::syscall(
            libc::SYS_getrandom,
            core::ptr::from_mut(&mut bits),
            size_of::<u64>(),
            libc::GRND_NONBLOCK,
        )
    };
    if got == size_of::<u64>() as i64 {
        bits
    } else {
        super::clock::monotonic_ns().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(pid())
    }
}
