//! Who runs: thread, process, user.

/// The kernel's id of this thread.
#[must_use]
pub fn tid() -> u32 {
    // SAFETY: gettid has no preconditions.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// The kernel's id of this process.
#[must_use]
pub fn pid() -> u32 {
    // SAFETY: getpid has no preconditions.
    unsafe { libc::getpid() as u32 }
}

/// The effective user of this process.
#[must_use]
pub fn euid() -> u32 {
    // SAFETY: geteuid has no preconditions.
    unsafe { libc::geteuid() }
}

/// Names this thread, for the kernel and who looks from outside.
pub fn set_thread_name(name: &core::ffi::CStr) {
    // SAFETY: PR_SET_NAME reads up to 16 bytes of a terminated string.
    unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}
