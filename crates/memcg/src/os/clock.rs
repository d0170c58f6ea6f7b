//! Time: monotonic for intervals, wall for what people read.
//!
//! Invariants: the two monotonic clocks do not go back; the wall clock may.
//! Depends on: the kernel's clocks; in tests a clock that the thread sets (`own`).
//! Never: a cancellation point of the C library.

fn read(clock: libc::clockid_t) -> u64 {
    #[cfg(any(test, feature = "simulator"))]
    if let Some(now) = own::now() {
        return now;
    }
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `ts` is a valid place for the answer; both clocks always exist.
    unsafe { libc::clock_gettime(clock, &mut ts) };
    (ts.tv_sec as u64) * 1_000_000_000 + ts.tv_nsec as u64
}

/// Nanoseconds of the monotonic clock. Cost: a vDSO call.
#[must_use]
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds since 1970.
#[must_use]
pub fn wall_ns() -> u64 {
    read(libc::CLOCK_REALTIME)
}

/// Sleeps for `ns` nanoseconds; a signal ends it early.
pub fn sleep_ns(ns: u64) {
    #[cfg(any(test, feature = "simulator"))]
    if let Some(now) = own::now() {
        return own::set(Some(now + ns));
    }
    let ts = libc::timespec {
        tv_sec: (ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    };
    // The call itself: the C library's is a cancellation point, and a thread must not end inside
    // malloc. SAFETY: `ts` is a valid interval and the remainder is not asked for.
    unsafe {
        libc::syscall(
            libc::SYS_nanosleep,
            core::ptr::from_ref(&ts),
            core::ptr::null_mut::<libc::timespec>(),
        )
    };
}

/// Nanoseconds of the monotonic clock as of the last tick, some milliseconds old at most. Cost: a
/// vDSO call, less than half of [`monotonic_ns`].
#[must_use]
pub fn coarse_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

/// A clock of a thread's own, for tests in which nothing may depend on how fast the machine is: it
/// goes on while the thread sleeps, which takes no time, and else stands still.
#[cfg(any(test, feature = "simulator"))]
pub mod own {
    use core::cell::Cell;

    thread_local! {
        static NOW: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// From now on the calling thread's clock says `ns`; `None`: what the machine's does.
    pub fn set(ns: Option<u64>) {
        NOW.set(ns);
    }

    /// What it says, where there is one.
    pub fn now() -> Option<u64> {
        NOW.get()
    }
}
