//! The allocator's own account against the books, owner by owner: for the end of a process that is
//! tested.
//!
//! Invariants: an answer is that of a process at rest. Every other thread sleeps, and none has run
//! between the look before and the look after. If the process does not come to rest there is no
//! answer.
//! Depends on: that no thread sleeps in the middle of an allocation, except one that pays for
//! `high` there.
//! Never: allocates while it walks the objects.

#![forbid(unsafe_code)]

use crate::engine::Engine;
use crate::group::Tag;
use core::time::Duration;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How often a process that does not come to rest is looked at.
const TRIES: usize = 20;
const REST: Duration = Duration::from_millis(2);

/// The bytes of live objects, by the tags that they carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Held {
    /// Bytes of objects that have an owner.
    pub accounted: u64,
    /// Bytes of objects without an owner: those of the library itself.
    pub unaccounted: u64,
    /// Bytes that the allocator counts as live without a walk: live objects, and remote frees that
    /// no heap has collected yet.
    pub live: u64,
    /// How many owners hold other bytes by the books than by the walk.
    pub wrong: usize,
}

/// Walks every live object. `None`: other threads run, or a slab's lists do not add up, which is
/// reported.
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
    let stat = engine.kmem.stat();
    let live = (stat.live + stat.uncollected) as u64;
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
