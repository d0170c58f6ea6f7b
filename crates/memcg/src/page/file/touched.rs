//! The range of a file that went through the kernel's cache.
//!
//! Invariants: the range has every byte that was noted since the last [`Touched::take`].
//! Depends on: the caller's lock for `note` and `take` (`books` of the record).
//! Never: a call to the kernel.

use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Ranges begin and end at multiples of it.
const GRAIN: u64 = 1 << 20;

/// The range from the first byte to the last that was touched, and how many were in all.
#[derive(Default)]
pub(super) struct Touched {
    from: AtomicU64,
    to: AtomicU64,
    bytes: AtomicU64,
}

// SAFETY: integers; zeros are "nothing was touched".
unsafe impl Zeroed for Touched {}

impl Touched {
    /// Notes a range; answers how much was noted since the last [`Self::take`]. Under `books`, as
    /// `take`.
    pub fn note(&self, at: u64, len: u64) -> u64 {
        let bytes = self.bytes.load(Relaxed);
        let (from, to) = match bytes {
            0 => (at, at + len),
            _ => (
                self.from.load(Relaxed).min(at),
                self.to.load(Relaxed).max(at + len),
            ),
        };
        self.from.store(from, Relaxed);
        self.to.store(to, Relaxed);
        self.bytes.store(bytes + len, Relaxed);
        bytes + len
    }

    /// The range, in whole MiB, as start and length; from here on nothing was touched.
    pub fn take(&self) -> Option<(u64, u64)> {
        if self.bytes.load(Relaxed) == 0 {
            return None;
        }
        self.bytes.store(0, Relaxed);
        let from = self.from.load(Relaxed) / GRAIN * GRAIN;
        let to = self.to.load(Relaxed).div_ceil(GRAIN) * GRAIN;
        Some((from, to - from))
    }

    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        self.bytes.load(Relaxed) == 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_all_that_was_touched_in_whole_mib() {
        let touched = Touched::default();
        assert_eq!(touched.take(), None);
        assert_eq!(touched.note(5 << 20, 4096), 4096);
        assert_eq!(touched.note((2 << 20) + 4096, 4096), 8192);
        assert_eq!(touched.take(), Some((2 << 20, 4 << 20)));
        assert_eq!(touched.take(), None);
        touched.note(0, 1 << 20);
        assert_eq!(touched.take(), Some((0, 1 << 20)));
    }
}
