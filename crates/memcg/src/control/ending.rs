//! The process's end and its socket: a process that ends leaves no socket behind.
//!
//! A socket may be made late: in a child of a fork, on the first slow path after a while. That may
//! be while another thread ends the process, in a signal handler's way to `_exit`, or on a slow
//! path of the end itself. So a thread that makes a socket says so first; the end waits for it a
//! moment, and after the end none is made.
//!
//! Invariants: once [`end`] has returned, this process has no socket and makes none; only a maker
//! that took longer than the end's patience may still have one, which it removes.
//! Depends on: `place`.
//! Never: ends anything in the child of a vfork, which has its parent's memory.

#![forbid(unsafe_code)]

use super::place;
use crate::os::{clock, ids};
use crate::sync::atomic::{AtomicU32, Ordering};

/// The id of the thread that makes a socket; or no thread's.
static MAKER: AtomicU32 = AtomicU32::new(NOBODY);
const NOBODY: u32 = 0;
/// No thread has this id: the kernel's end at 2²².
const ENDED: u32 = u32::MAX;

/// The process that [`MAKER`] is about.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// How often the end looks whether the socket is made, and how long it sleeps in between: 100 ms
/// together.
const LOOKS: u32 = 1000;
const NAP_NS: u64 = 100_000;

/// While it lives this thread makes the process's socket, and the end waits.
pub(super) struct Making {
    maker: u32,
}

impl Making {
    /// `None`: the process ends, or another thread makes it already.
    pub fn begin() -> Option<Self> {
        let maker = ids::tid();
        PROCESS.store(ids::pid(), Ordering::Relaxed);
        MAKER
            .compare_exchange(NOBODY, maker, Ordering::Relaxed, Ordering::Relaxed)
            .ok()
            .map(|_| Self { maker })
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // Release pairs with the Acquire exchanges of `end`: it sees the place of what was made.
        let over = MAKER.compare_exchange(self.maker, NOBODY, Ordering::Release, Ordering::Relaxed);
        if over == Err(ENDED) {
            place::unlink();
        }
    }
}

/// In the child of a fork: whoever made a socket, or ended, is the parent's.
pub(super) fn forget() {
    MAKER.store(NOBODY, Ordering::Relaxed);
    PROCESS.store(ids::pid(), Ordering::Relaxed);
}

/// The process ends: its socket's name goes, and it makes none any more. Waits up to 100 ms for a
/// thread that is making it. May be called in a signal handler, and more than once. Nothing in a
/// process that never had one, nor in the child of a vfork.
pub fn end() {
    if PROCESS.load(Ordering::Relaxed) != ids::pid() {
        return;
    }
    let own = ids::tid();
    for _ in 0..LOOKS {
        match MAKER.compare_exchange(NOBODY, ENDED, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) | Err(ENDED) => break,
            // We are in a signal handler of the maker's, which goes no further.
            Err(maker) if maker == own => break,
            Err(_) => clock::sleep_ns(NAP_NS),
        }
    }
    // Acquire, here and above, pairs with the Release exchange of `Making::drop`: the place of what
    // was made is there.
    MAKER.swap(ENDED, Ordering::Acquire);
    place::unlink();
}
