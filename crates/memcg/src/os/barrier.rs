//! The asymmetric fence: a compiler barrier on the side that runs often, a system call on the side
//! that does not.
//!
//! [`light`] on one thread and [`heavy`] on another order each other as two SeqCst fences would,
//! provided [`register`] said yes. Where it said no, the frequent side must use real fences; the
//! engine then keeps every thread off its unfenced paths (see `thread::ThreadRec::FENCED`).
//!
//! Invariants: registered or not, `heavy` is at least a full fence of its own thread.
//! Depends on: the kernel's membarrier; under loom a SeqCst fence on both sides.
//! Never: remembers whether the process is registered; `thread::registry` does.

#[cfg(not(loom))]
use core::sync::atomic::{Ordering, compiler_fence};
#[cfg(loom)]
use loom::sync::atomic::{Ordering, fence};

const QUERY: i32 = 0;
const PRIVATE_EXPEDITED: i32 = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;

#[cfg(not(loom))]
fn membarrier(cmd: i32) -> i64 {
    // SAFETY: membarrier takes three integers and no pointer; it changes no memory of the process.
    unsafe { libc::syscall(libc::SYS_membarrier, cmd, 0, 0) }
}

/// Announces this process to the kernel; `true` when [`heavy`] reaches every thread.
///
/// To be repeated after fork: registration is a property of the address space.
#[must_use]
pub fn register() -> bool {
    #[cfg(loom)]
    return true;
    #[cfg(not(loom))]
    {
        // Miri knows no membarrier; there the frequent side takes its fenced path.
        if cfg!(miri) {
            return false;
        }
        let have = membarrier(QUERY);
        have > 0
            && (have as i32) & PRIVATE_EXPEDITED != 0
            && membarrier(REGISTER_PRIVATE_EXPEDITED) == 0
    }
}

/// The frequent side: keeps the compiler from reordering, costs no instruction.
#[inline(always)]
pub fn light() {
    #[cfg(not(loom))]
    compiler_fence(Ordering::SeqCst);
    // Loom has no asymmetric fence; SeqCst on both sides is what the pair amounts to.
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// The rare side: every other running thread passes a full barrier before this returns.
///
/// `registered` is what [`register`] answered; without it this is a full fence of the caller alone.
pub fn heavy(registered: bool) {
    #[cfg(loom)]
    {
        let _ = registered;
        // Pairs with `light` of the other threads.
        fence(Ordering::SeqCst);
    }
    #[cfg(not(loom))]
    {
        // Pairs with `light` of the other threads, and where there is no membarrier with their
        // SeqCst fences.
        core::sync::atomic::fence(Ordering::SeqCst);
        if registered {
            membarrier(PRIVATE_EXPEDITED);
        }
    }
}
