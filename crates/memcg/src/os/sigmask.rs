//! All signals of the calling thread held off, for the few moments it holds a lock that malloc
//! needs.
//!
//! Invariants: when the guard ends, the thread has the mask that it had before.
//! Depends on: the system call itself.
//! Never: leaves out the signals by which the C library cancels a thread.

/// Bytes of the kernel's signal set.
const SET: usize = 8;

/// All of them; in tests all but SIGTRAP: a processor that steps through the code brings one after
/// every instruction, and one that is held off ends the process.
const ALL: u64 = if cfg!(test) {
    !(1 << (libc::SIGTRAP - 1))
} else {
    u64::MAX
};

/// Signals are held off until it is dropped.
#[must_use]
pub struct Blocked(u64);

/// Holds off every signal. Cost: a system call, and one more at the end.
pub fn block_all() -> Blocked {
    let mut before = 0u64;
    change(libc::SIG_BLOCK, &ALL, &mut before);
    Blocked(before)
}

impl Blocked {
    /// As a number, to be made into a value again by [`Self::kept`].
    pub(crate) fn keep(self) -> u64 {
        let before = self.0;
        core::mem::forget(self);
        before
    }

    /// What was kept.
    pub(crate) fn kept(before: u64) -> Self {
        Self(before)
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let mut unused = 0u64;
        change(libc::SIG_SETMASK, &self.0, &mut unused);
    }
}

fn change(how: libc::c_int, set: &u64, old: &mut u64) {
    // SAFETY: two sets of the size that is said. The C library's call would leave out the signals
    // of its own, and a thread cancelled under our lock would keep it.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            how,
            core::ptr::from_ref(set),
            core::ptr::from_mut(old),
            SET,
        )
    };
}
