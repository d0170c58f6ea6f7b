//! Signals between the suite, the programs it runs and whoever started it.
//!
//! A program of the suite runs in a session of its own with default dispositions for SIGINT, SIGHUP
//! and SIGQUIT. Under `nohup`, or `&` in a script, these are inherited ignored; a shell cannot trap
//! a signal that was ignored when it started, so a test that waits for its trap would wait for
//! ever. The session has no terminal: nothing that a terminal sends reaches the program.
//!
//! In exchange xtask ends the program when such a signal ends xtask itself.
//!
//! Invariants: the handler makes async-signal-safe calls only. A signal that xtask was started to
//! ignore stays ignored in xtask.
//! Depends on: libc. Never: starts a program.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};

/// Signals by which people and scripts end a suite that runs.
const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGTERM];

/// The process group of the program that runs now, or 0. Only [`end_all`] and its owner read it.
static RUNNING: AtomicI32 = AtomicI32::new(0);

/// Lets `command` start its program in a session of its own, none of [`ENDING`] ignored.
pub fn detach(command: &mut Command) {
    // SAFETY: the closure makes system calls only, which are async-signal-safe; it allocates
    // nothing and owns no data.
    unsafe {
        command.pre_exec(|| {
            for signal in ENDING {
                libc::signal(signal, libc::SIG_DFL);
            }
            match libc::setsid() {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            }
        });
    }
}

/// While it lives, a signal that ends xtask ends this process group first.
pub struct Group(i32);

impl Group {
    /// The group whose leader is the process `leader`, started after [`detach`].
    pub fn new(leader: u32) -> Self {
        let group = leader.cast_signed();
        RUNNING.store(group, Ordering::Relaxed);
        Self(group)
    }

    /// Kills every process that is left of the group. An empty group is no error.
    pub fn kill(&self) {
        // SAFETY: takes numbers only. The number is a process group of our own child's.
        unsafe { libc::kill(-self.0, libc::SIGKILL) };
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Another thread's group may have come since.
        let _ = RUNNING.compare_exchange(self.0, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// From here on each of [`ENDING`] that is not ignored ends the program that runs, then xtask.
pub fn end_programs_with_us() {
    for signal in ENDING {
        let handler = end_all as extern "C" fn(i32) as libc::sighandler_t;
        // SAFETY: the handler is a function of the right type that makes async-signal-safe calls.
        unsafe {
            if libc::signal(signal, handler) == libc::SIG_IGN {
                libc::signal(signal, libc::SIG_IGN);
            }
        }
    }
}

extern "C" fn end_all(signal: i32) {
    let group = RUNNING.load(Ordering::Relaxed);
    // SAFETY: three calls that are async-signal-safe and take numbers only. The signal is blocked
    // while its handler runs: it is delivered, with its default action, when the handler returns.
    unsafe {
        if group > 0 {
            libc::kill(-group, libc::SIGKILL);
        }
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}
