//! A program that brings an engine of its own, as a crate, under `memcg exec`, whose library brings
//! another: which of the two this is, and whether the other is there.
//!
//! The library's entry of the C face is looked for as a weak symbol, which the dynamic loader
//! resolves when it loads the program (or the plugin that brings the crate): there is no call of
//! the loader, which may be busy with whoever allocates here.
//!
//! Invariants: the answer is found once, when the engine starts, and stays. The library's own
//! engine never finds itself: when it starts, its library does not serve yet.
//! Depends on: the dynamic loader.
//! Never: allocates.

use crate::os::say;
use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

static IS_BESIDE: AtomicBool = AtomicBool::new(false);

/// The library's answer to whether it serves the process; `false` where there is no library.
fn library_serves() -> bool {
    unsafe extern "C" {
        safe fn memcg_v1_is_installed() -> c_int;
    }
    // Here, not as assembly of the module: the directive counts for one object file, and must be in
    // whichever the name is used in, also where this function is inlined into another.
    // SAFETY: no instruction.
    unsafe {
        core::arch::asm!(
            ".weak memcg_v1_is_installed",
            options(nomem, nostack, preserves_flags)
        );
    }
    // A weak symbol that nobody defines is null. Kept from the compiler, which knows that functions
    // are not.
    let entry = memcg_v1_is_installed as *const ();
    core::hint::black_box(entry as usize) != 0 && memcg_v1_is_installed() != 0
}

/// Looks, and says it in one line if so. Once, as the process's engine starts.
pub(super) fn look() {
    if library_serves() {
        IS_BESIDE.store(true, Relaxed);
        say::line(&[
            b"memcg: this program has an engine of its own (the crate) beside that of memcg exec: ",
            b"top, get, set and reports show exec's, which does not count what the crate's does; ",
            b"without exec the program's own groups can be served and seen",
        ]);
    }
}

/// Whether `memcg exec` serves this process by an engine beside this one. Cost: a load.
#[must_use]
pub fn is_beside_exec() -> bool {
    IS_BESIDE.load(Relaxed)
}

/// Whether it counts at present.
#[must_use]
pub fn is_counted_by_exec() -> bool {
    is_beside_exec() && library_serves()
}
