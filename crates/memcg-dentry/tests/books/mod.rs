//! What is left in the books when all has gone.

use memcg::Memcg;
use std::time::{Duration, Instant};

/// Waits until nothing is charged to a group. The engine's worker may hold entries still: it asks
/// the cache for room after a charge that was refused, and lets the last of them go itself where
/// the cache has been dropped meanwhile.
pub fn comes_to_nothing(group: &Memcg) {
    let began = Instant::now();
    while group.current() > 0 {
        let left = group.current();
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{left} bytes are left"
        );
        std::thread::yield_now();
    }
}
