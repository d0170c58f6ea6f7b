//! Waiting for signals instead of handling them.
//!
//! The signals of interest are blocked and fetched with `sigtimedwait`, so no code of ours ever
//! runs in a handler, and dispositions stay as they were inherited: a program started by `nohup
//! memcg exec` still ignores SIGHUP.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::time::Duration;

/// The signals that ask a process to end.
pub const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// Those of `signals` this process was not started to ignore, as `nohup` does with SIGHUP. A
/// blocked signal comes to [`Blocked::wait`] even if it is ignored.
pub fn not_ignored(signals: &[i32]) -> Vec<i32> {
    let ignored = |signal: &i32| {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: with no new action the call only fills `action`, which was zeroed before.
        let known = unsafe { libc::sigaction(*signal, ptr::null(), action.as_mut_ptr()) } == 0;
        // SAFETY: zeroed, or filled by the call.
        known && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
    };
    signals.iter().copied().filter(|s| !ignored(s)).collect()
}

/// Signals blocked in this thread and the threads it starts, to be fetched with [`Blocked::wait`].
///
/// They stay blocked until the process ends: one that came late must not end it half way through
/// its last words.
pub struct Blocked {
    set: libc::sigset_t,
    before: libc::sigset_t,
}

/// A signal that was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which.
    pub signal: i32,
    /// The kernel sent it by itself (a key on the terminal, a hang-up), and so to the whole
    /// foreground process group.
    pub by_kernel: bool,
}

impl Blocked {
    /// Blocks `signals`.
    pub fn new(signals: &[i32]) -> Blocked {
        let set = set_of(signals);
        let mut before = MaybeUninit::uninit();
        // SAFETY: `set` is initialised, `before` has room for the old mask.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, before.as_mut_ptr()) };
        // SAFETY: with a valid `how` the call cannot fail, and it filled `before`.
        let before = unsafe { before.assume_init() };
        Blocked { set, before }
    }

    /// Waits until one of the signals comes, or `patience` is over.
    pub fn wait(&self, patience: Option<Duration>) -> Option<Received> {
        let limit = patience.map(|p| libc::timespec {
            tv_sec: libc::time_t::try_from(p.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: p.subsec_nanos().into(),
        });
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: `set` is initialised, `info` has room for one `siginfo_t`, `limit` is null or
        // points to a live value.
        let signal = unsafe { libc::sigtimedwait(&self.set, info.as_mut_ptr(), limit) };
        if signal <= 0 {
            return None;
        }
        // SAFETY: the call succeeded and filled `info`, which was zeroed before.
        let info = unsafe { info.assume_init() };
        Some(Received {
            signal,
            by_kernel: info.si_code > 0,
        })
    }

    /// Lets `command` start its program with the mask that was there before.
    pub fn restore_in(&self, command: &mut Command) {
        let before = self.before;
        // SAFETY: the closure makes one call, which is async-signal-safe, on a value it owns; it
        // allocates nothing.
        unsafe {
            command.pre_exec(move || {
                match libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut()) {
                    0 => Ok(()),
                    error => Err(io::Error::from_raw_os_error(error)),
                }
            });
        }
    }
}

/// Makes sure that children are not reaped behind our back, as they are when SIGCHLD is inherited
/// ignored.
pub fn keep_children() {
    // SAFETY: sets a default disposition; no handler is involved.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Sends `signal` to the child `pid`, which has not been waited for yet, so that the id is still
/// its own.
pub fn send(pid: u32, signal: i32) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: takes numbers only. The child may have ended: then the signal goes nowhere.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Ends this process by `signal`, as the program ended that it ran, without a second core file.
/// Returns if the signal does not kill.
pub fn die_by(signal: i32) {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let set = set_of(&[signal]);
    // SAFETY: `none` and `set` live through the calls; the rest are numbers. The default
    // disposition runs no code of ours, whichever thread gets the signal.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        libc::signal(signal, libc::SIG_DFL);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut());
        libc::raise(signal);
    }
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: the set was initialised above; a number that is no signal is refused and changes
        // nothing.
        unsafe { libc::sigaddset(set.as_mut_ptr(), *signal) };
    }
    // SAFETY: initialised by `sigemptyset`.
    unsafe { set.assume_init() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_fetched_with_its_sender_known() {
        let blocked = Blocked::new(&[libc::SIGUSR1]);
        assert_eq!(blocked.wait(Some(Duration::ZERO)), None);
        // SAFETY: the signal is blocked in this thread.
        unsafe { libc::raise(libc::SIGUSR1) };
        let received = blocked.wait(Some(Duration::from_secs(5)));
        assert_eq!(
            received,
            Some(Received {
                signal: libc::SIGUSR1,
                by_kernel: false
            })
        );
    }
}
