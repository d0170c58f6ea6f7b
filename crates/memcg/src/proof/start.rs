//! The making of the process's engine, with a signal handler that uses it after every instruction.
//!
//! In a process of its own, where the engine has not been made yet.

use super::own_process::{argument, passes_again};
use crate::engine::process_engine::is_unborn;
use crate::engine::{engine, try_engine};
use core::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Traps that found no engine, and those of them in which other signals were not held off.
static WITHOUT: AtomicU32 = AtomicU32::new(0);
static OPEN: AtomicU32 = AtomicU32::new(0);

extern "C" fn on_trap(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // Before anybody has begun, this handler would make it, with no trap in between.
    if is_unborn() || try_engine().is_some() {
        return;
    }
    WITHOUT.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the kernel passes the context of the signal, with the mask that was in force.
    let held_off = unsafe {
        libc::sigismember(
            &raw const (*context.cast::<libc::ucontext_t>()).uc_sigmask,
            libc::SIGUSR1,
        )
    };
    OPEN.fetch_add(u32::from(held_off != 1), Ordering::Relaxed);
}

#[test]
fn a_thread_that_makes_the_engine_does_not_wait_for_itself_in_a_signal_handler() {
    if argument().is_none() {
        let name = "proof::start::a_thread_that_makes_the_engine_does_not_wait_for_itself_in_a_signal_handler";
        passes_again(name, "start");
        return;
    }
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(60));
        // SAFETY: ends the process, whose other thread waits for itself.
        unsafe { libc::_exit(3) };
    });
    // SAFETY: installs a handler of the right type for SIGTRAP.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = on_trap as extern "C" fn(_, _, _) as usize;
        action.sa_flags = libc::SA_SIGINFO;
        let installed = libc::sigaction(libc::SIGTRAP, &raw const action, core::ptr::null_mut());
        assert_eq!(installed, 0);
        // Sets the trap flag, whose signal is handled; the stack is as before.
        core::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq");
    }
    let made = engine();
    // SAFETY: clears it again.
    unsafe { core::arch::asm!("pushfq", "and qword ptr [rsp], -0x101", "popfq") };
    assert_eq!(made.tree.memcgs.in_use(), 1);
    let (without, open) = (
        WITHOUT.load(Ordering::Relaxed),
        OPEN.load(Ordering::Relaxed),
    );
    assert!(without > 100, "{without} traps while it was made");
    assert_eq!(open, 0, "of {without} traps other signals could have come");
}
