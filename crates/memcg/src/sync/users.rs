//! Who uses a thing that may be ended at any time: it is let go by the last, whether that is the
//! end or a use.
//!
//! Invariants: once it has ended nobody begins to use it. Of the end and the uses one answers that
//! it was the last.
//! Depends on: the atomics of this room.
//! Never: lets go of the thing; who is told to does.

use super::Zeroed;
use super::atomic::{AtomicU32, Ordering};

const LIVE: u32 = 1 << 31;

/// Not live at first: nobody may use it.
#[derive(Default)]
pub struct Users(AtomicU32);

// SAFETY: one atomic integer; zero is "not live, no users", as Default builds it.
unsafe impl Zeroed for Users {}

impl Users {
    /// From here on it may be used.
    pub fn begin(&self) {
        // Release pairs with the Acquire of `try_ref`: what was made is whole.
        self.0.store(LIVE, Ordering::Release);
    }

    /// One more use, unless it has ended.
    pub fn try_ref(&self) -> bool {
        let hold = |now: u32| (now & LIVE != 0).then(|| now + 1);
        // Acquire pairs with the Release of `begin`.
        self.0
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, hold)
            .is_ok()
    }

    /// One use less; `true`: the last, and it has ended. The caller lets go of it.
    #[must_use]
    pub fn unref(&self) -> bool {
        // AcqRel pairs with that of the other `unref` calls and of `end`: the last one sees what
        // the others did.
        self.0.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Ends it; `true`: nobody uses it. The caller lets go of it.
    #[must_use]
    pub fn end(&self) -> bool {
        // AcqRel pairs with that of `unref`: the last one sees what the others did.
        self.0.fetch_and(!LIVE, Ordering::AcqRel) == LIVE
    }
}
