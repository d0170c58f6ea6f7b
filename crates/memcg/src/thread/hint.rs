//! What a thread looked up last in tables that take several steps to look something up in.
//!
//! Invariants: a hint is found again only under the key and the version it was kept with. Whoever
//! changes what a key leads to changes the version, so a hint is never stale.
//! Depends on: only the thread itself looks, and its signal handlers, which stay out while the
//! thread looks.
//! Never: a look at what a value means.

#![forbid(unsafe_code)]

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use core::sync::atomic::{Ordering::SeqCst, compiler_fence};

/// Hints of a thread; each table has one of them.
pub const HINTS: usize = if cfg!(loom) { 1 } else { 8 };

#[derive(Default)]
struct Hint {
    key: AtomicU64,
    version: AtomicU64,
    value: AtomicU32,
}

/// A thread's hints. Zero: none.
#[derive(Default)]
pub struct Hints {
    /// The thread is at them.
    busy: AtomicU32,
    all: [Hint; HINTS],
}

impl Hints {
    /// What was kept for a key at that version. `at` is the table's.
    #[inline]
    pub fn get(&self, at: u32, key: u64, version: u64) -> Option<u32> {
        self.alone(|| {
            let hint = &self.all[at as usize % HINTS];
            (hint.key.load(Relaxed) == key && hint.version.load(Relaxed) == version)
                .then(|| hint.value.load(Relaxed))
        })
    }

    /// Keeps a value, for a key that is not 0.
    #[inline]
    pub fn keep(&self, at: u32, key: u64, version: u64, value: u32) {
        self.alone(|| {
            let hint = &self.all[at as usize % HINTS];
            hint.key.store(key, Relaxed);
            hint.version.store(version, Relaxed);
            hint.value.store(value, Relaxed);
            None::<()>
        });
    }

    /// Forgets all, for the next thread.
    pub(crate) fn forget(&self) {
        for hint in &self.all {
            hint.key.store(0, Relaxed);
        }
        self.busy.store(0, Relaxed);
    }

    /// `None` in a signal handler that found its thread at them.
    #[inline]
    fn alone<R>(&self, f: impl FnOnce() -> Option<R>) -> Option<R> {
        if self.busy.load(Relaxed) != 0 {
            return None;
        }
        self.busy.store(1, Relaxed);
        // For a signal handler of this thread only: it finds `busy` set before anything is touched.
        compiler_fence(SeqCst);
        let answer = f();
        // Likewise: a handler that finds `busy` clear finds the hints whole.
        compiler_fence(SeqCst);
        self.busy.store(0, Relaxed);
        answer
    }
}
