//! Jumps out of signal handlers that came in the middle of malloc.
//!
//! A handler that interrupts a look at its thread's stock finds the thread busy and stays out. If
//! it never returns but jumps (a timeout, a Ctrl-C in an interpreter), nobody is left to end the
//! look, and the thread would go without stock for good, and hold up the reuse of every record if
//! it was pinned. So the jumps of the C library stand here: a thread that jumps while it is inside
//! the engine can only be in such a handler, and is taken out.
//!
//! What the interrupted call had in hand is lost with it: a block, as with any allocator; and,
//! where a refill was cut off, the stock it was to bring (64 KiB at most) stays charged. Not seen:
//! exceptions thrown through a handler's frame, `setcontext`. A handler that jumps only within
//! itself, and returns to the malloc it interrupted, must not allocate after that jump.
//!
//! Invariants: a thread that jumps is out of the engine before it does.
//! Depends on: `next_malloc` for the C library's jumps, which are looked up at the start; the
//! engine for leaving.
//! Never: allocates; leaves anything of its own to be dropped, since nothing is after a jump.

use crate::next_malloc;
use crate::step_aside::is_off;
use core::ffi::{CStr, c_int, c_void};
use memcg::internal::os::hook::{Hook, function_at};
use memcg::internal::thread;

type Jump = unsafe extern "C" fn(*mut c_void, c_int) -> !;

struct Real {
    name: &'static CStr,
    at: Hook<Jump>,
}

impl Real {
    const fn new(name: &'static CStr) -> Self {
        let at = Hook::none();
        Self { name, at }
    }

    fn find(&self) -> Jump {
        self.at.get().unwrap_or_else(|| {
            let at = next_malloc::next(self.name).cast();
            // SAFETY: every name below is that of a function of this type.
            unsafe {
                self.at.set_address(at);
                function_at(at)
            }
        })
    }

    /// # Safety
    /// As longjmp.
    unsafe fn jump(&self, to: *mut c_void, value: c_int) -> ! {
        if !is_off() {
            // SAFETY: the jump takes the thread away from what a signal interrupted, by its
            // caller's contract.
            unsafe { thread::leave_interrupted() };
        }
        let real = self.find();
        // A call, not a jump: the registers a longjmp leaves behind are those in `to`.
        // SAFETY: the caller's. Nothing in this frame has to be dropped.
        unsafe { real(to, value) }
    }
}

static LONGJMP: Real = Real::new(c"longjmp");
static LONGJMP_BSD: Real = Real::new(c"_longjmp");
static SIGLONGJMP: Real = Real::new(c"siglongjmp");
static LONGJMP_CHK: Real = Real::new(c"__longjmp_chk");

/// Looks the real ones up while that is safe: in a signal handler it is not.
pub fn install() {
    for real in [&LONGJMP, &LONGJMP_BSD, &SIGLONGJMP, &LONGJMP_CHK] {
        real.find();
    }
}

/// # Safety
/// As longjmp.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn longjmp(to: *mut c_void, value: c_int) -> ! {
    // SAFETY: the caller's.
    unsafe { LONGJMP.jump(to, value) }
}

/// # Safety
/// As _longjmp.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _longjmp(to: *mut c_void, value: c_int) -> ! {
    // SAFETY: the caller's.
    unsafe { LONGJMP_BSD.jump(to, value) }
}

/// # Safety
/// As siglongjmp.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn siglongjmp(to: *mut c_void, value: c_int) -> ! {
    // SAFETY: the caller's.
    unsafe { SIGLONGJMP.jump(to, value) }
}

/// The one that _FORTIFY_SOURCE puts in the place of the others.
///
/// # Safety
/// As longjmp.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __longjmp_chk(to: *mut c_void, value: c_int) -> ! {
    // SAFETY: the caller's.
    unsafe { LONGJMP_CHK.jump(to, value) }
}
