//! The allocator's own account against the books, owner by owner: for the end of a process that is
//! tested.
//!
//! Kept: an answer is of a process at rest. Every other thread sleeps, and none has run between the
//! look before and the look after; where that cannot be had there is no answer.
//! Relied on: nobody sleeps in the middle of an allocation, but one that pays for `high` there.

#![forbid(unsafe_code)]

use crate::engine::Engine;
use crate::group::Tag;
use core::time::Duration;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Looks at a process that does not come to rest.
const TRIES: usize = 20;
const REST: Duration = Duration::from_millis(2);

/// What live objects add up to, by the tags they carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Held {
    /// Bytes of objects that have an owner.
    pub accounted: u64,
    /// Bytes of objects that are nobody's: the library's own.
    pub unaccounted: u64,
    /// What the allocator counts as live without looking: those, and what its owner has not
    /// collected yet.
    pub live: u64,
    /// Owners of whom the books say something else.
    pub wrong: usize,
}

/// Goes through every live object. `None`: other threads run, or lists do not add up (which is
/// said).
pub(super) fn held(engine: &Engine) -> Option<Held> {
    for _ in 0..TRIES {
        let before = asleep();
        if before.is_some() {
            let found = catch_unwind(AssertUnwindSafe(|| count(engine))).ok();
            if before == asleep() {
                return found;
            }
        }
        std::thread::sleep(REST);
    }
    None
}

/// How often each other thread has been switched away; `None` when one of them may be running.
fn asleep() -> Option<Vec<(u32, String)>> {
    let me = crate::os::ids::tid();
    let mut threads = Vec::new();
    for entry in fs::read_dir("/proc/self/task").ok()? {
        let entry = entry.ok()?;
        let tid: u32 = entry.file_name().to_str()?.parse().ok()?;
        if tid == me {
            continue;
        }
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        if !status.contains("\nState:\tS") {
            return None;
        }
        let switches = status.find("\nvoluntary_ctxt_switches:")?;
        threads.push((tid, status[switches..].to_string()));
    }
    threads.sort_unstable();
    Some(threads)
}

fn count(engine: &Engine) -> Held {
    // Made before the walk, during which nothing may be allocated.
    let mut sums = vec![0u64; engine.tree.objcgs.high_water() as usize];
    let mut beyond = 0;
    let live = engine.kmem.stat().live as u64;
    engine.kmem.each_live(
        |tag, bytes| match sums.get_mut(Tag::to_word(tag) as usize) {
            Some(sum) => *sum += bytes as u64,
            None => beyond += 1,
        },
    );
    let unaccounted = core::mem::take(&mut sums[Tag::to_word(None) as usize]);
    let accounted = sums.iter().sum();
    engine.tree.each_owner(|line| {
        let sum = &mut sums[Tag::to_word(Some(line.tag)) as usize];
        *sum = sum.abs_diff(line.held.saturating_sub(line.mapped + line.reserved));
    });
    Held {
        accounted,
        unaccounted,
        live,
        wrong: beyond + sums.iter().filter(|&&difference| difference != 0).count(),
    }
}
