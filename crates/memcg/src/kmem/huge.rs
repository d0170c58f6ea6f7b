//! Freed mappings of huge objects, kept for a while. A program that frees twenty megabytes often
//! wants them back, with their pages.
//!
//! Invariants: a kept mapping stays noted in the map, so nothing else is placed there. Its record
//! says that nothing is in it, so a second free of it is found out.
//! Depends on: the lock of the spans, which every caller holds.
//! Never: a system call; the caller maps and unmaps.

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Bytes kept at most, all together.
const MOST: usize = 64 << 20;

/// A mapping: its first chunk and its bytes.
pub type Mapping = (usize, usize);

#[derive(Default)]
struct Kept {
    /// 0: none.
    at: AtomicUsize,
    bytes: AtomicUsize,
    since: AtomicU64,
}

impl Kept {
    fn mapping(&self) -> Option<Mapping> {
        let at = self.at.load(Relaxed);
        (at != 0).then(|| (at, self.bytes.load(Relaxed)))
    }

    fn remove(&self) -> Option<Mapping> {
        let mapping = self.mapping();
        self.at.store(0, Relaxed);
        mapping
    }
}

/// See the module. Zero: empty.
#[derive(Default)]
pub struct HugeCache {
    kept: [Kept; 4],
}

impl HugeCache {
    /// Bytes kept.
    pub fn bytes(&self) -> usize {
        let kept = self.kept.iter().filter_map(Kept::mapping);
        kept.map(|(_, bytes)| bytes).sum()
    }

    /// Whether the mapping that begins at `at` is kept here.
    pub fn has(&self, at: usize) -> bool {
        self.kept.iter().any(|kept| kept.at.load(Relaxed) == at)
    }

    /// Keeps a mapping. `false`: there is no room for it.
    pub fn keep(&self, (at, bytes): Mapping, now_ns: u64) -> bool {
        let Some(free) = self.kept.iter().find(|kept| kept.mapping().is_none()) else {
            return false;
        };
        if self.bytes().saturating_add(bytes) > MOST {
            return false;
        }
        free.at.store(at, Relaxed);
        free.bytes.store(bytes, Relaxed);
        free.since.store(now_ns, Relaxed);
        true
    }

    /// The smallest kept mapping of `bytes` or up to half as much again.
    pub fn find(&self, bytes: usize) -> Option<Mapping> {
        let fits = |kept: &&Kept| {
            kept.mapping()
                .is_some_and(|(_, has)| (bytes..=bytes + bytes / 2).contains(&has))
        };
        self.kept
            .iter()
            .filter(fits)
            .min_by_key(|kept| kept.bytes.load(Relaxed))?
            .remove()
    }

    /// Takes a mapping out that has been kept since `since_ns` or longer.
    pub fn oldest(&self, since_ns: u64) -> Option<Mapping> {
        self.kept
            .iter()
            .find(|kept| kept.mapping().is_some() && kept.since.load(Relaxed) <= since_ns)?
            .remove()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_kept_until_it_is_found_or_old() {
        let cache = HugeCache::default();
        assert!(cache.keep((32 << 20, 20 << 20), 5));
        assert!(cache.keep((96 << 20, 24 << 20), 7));
        assert!(!cache.keep((160 << 20, 21 << 20), 8), "more than is kept");
        assert_eq!(cache.find(21 << 20), Some((96 << 20, 24 << 20)));
        assert_eq!(cache.find(10 << 20), None);
        assert_eq!(cache.oldest(4), None);
        assert_eq!(cache.bytes(), 20 << 20);
        assert_eq!(cache.oldest(5), Some((32 << 20, 20 << 20)));
        assert_eq!(cache.bytes(), 0);
    }
}
