//! Watches: peaks of a group that begin when somebody wants them to, each on its own.
//!
//! A charge compares its level's usage with one number, the highest usage since the *last* watch
//! began. Whoever begins a watch hands that number to all the earlier ones first.
//!
//! Invariants: a watch tells the highest usage since it began, whatever other watches do; a group's
//! own peak is none of them. A watch outlives its group: it then tells what it told at the group's
//! end.
//! Depends on: the group's lock, for the list of watches, for what each has seen, and for
//! beginnings. A watch whose group has ended (the record has another generation) needs no lock:
//! only the watch's owner changes it.
//! Never: work for a charge that grows with the number of watches.

use super::Hierarchy;
use super::id::{GroupId, WatchId};
use super::memcg_record::Memcg;
use super::tree::TreeError;
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::id::AtomicId;
use crate::sync::lock::{Held, Rank};

/// One watch.
#[derive(Default)]
pub struct WatchRec {
    link: AtomicU32,
    group: AtomicId<GroupId>,
    generation: AtomicU32,
    next: AtomicId<WatchId>,
    /// The highest up to when the last watch of the group began.
    seen: AtomicU64,
}

// SAFETY: atomic integers and optional ids: zero bytes are 0 and none.
unsafe impl Zeroed for WatchRec {}
// SAFETY: Zeroed, see above. `link` is used by the arena's free list alone.
unsafe impl Record for WatchRec {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

impl Hierarchy {
    /// Begins a watch of a group, to be ended by [`Self::end_watch`]. [`TreeError::Gone`], or
    /// without memory for it [`TreeError::NoMemory`]. The caller is pinned. O(watches of the
    /// group).
    pub fn begin_watch(&self, group: &Memcg) -> Result<WatchId, TreeError> {
        let index = self.watches.alloc(u32::MAX).ok_or(TreeError::NoMemory)?;
        let held = group.lock.lock(Rank::Group);
        if !group.is_online() {
            drop(held);
            self.watches.free(index);
            return Err(TreeError::Gone);
        }
        self.hand_out(group);
        let watch = self.watches.get(index);
        watch.seen.store(0, Ordering::Relaxed);
        watch.group.store(Some(group.index()), Ordering::Relaxed);
        watch
            .generation
            .store(group.generation(), Ordering::Relaxed);
        watch.next.store(
            group.first_watch.swap(Some(index), Ordering::Relaxed),
            Ordering::Relaxed,
        );
        Ok(index)
    }

    /// Whether a watch is of that group, and not of one that was in the same record.
    pub fn is_watch_of(&self, watch: WatchId, group: &Memcg) -> bool {
        let watch = self.watches.get(watch);
        watch.group.load(Ordering::Relaxed) == Some(group.index())
            && watch.generation.load(Ordering::Relaxed) == group.generation()
    }

    /// The highest usage, in bytes, since it began or began again.
    pub fn watched_peak(&self, watch: WatchId) -> u64 {
        let record = self.watches.get(watch);
        let held = self.lock_watched(record);
        let seen = record.seen.load(Ordering::Relaxed);
        held.map_or(seen, |(group, _)| seen.max(group.counter.watched()))
    }

    /// Begins it again, from the present usage. No effect once the group has been removed.
    /// O(watches of the group).
    pub fn restart_watch(&self, watch: WatchId) {
        let record = self.watches.get(watch);
        if let Some((group, _held)) = self.lock_watched(record) {
            self.hand_out(group);
            record.seen.store(0, Ordering::Relaxed);
        }
    }

    /// Ends it. O(watches of the group).
    pub fn end_watch(&self, watch: WatchId) {
        let record = self.watches.get(watch);
        if let Some((group, _held)) = self.lock_watched(record) {
            let mut from = &group.first_watch;
            while let Some(at) = from.load(Ordering::Relaxed).filter(|&at| at != watch) {
                from = &self.watches.get(at).next;
            }
            from.store(record.next.load(Ordering::Relaxed), Ordering::Relaxed);
            if group.first_watch.load(Ordering::Relaxed).is_none() {
                group.counter.unwatch();
            }
        }
        self.watches.free(watch);
    }

    /// The group of a watch, locked; `None` when that has ended.
    fn lock_watched(&self, watch: &WatchRec) -> Option<(&Memcg, Held<'_>)> {
        let group = self.memcgs.get(watch.group.known(Ordering::Relaxed));
        let held = group.lock.lock(Rank::Group);
        // The generation changes under the lock when the group ends, and never comes back.
        (group.generation() == watch.generation.load(Ordering::Relaxed)).then_some((group, held))
    }

    /// The group's watched peak starts again: all watches keep what it was. Under its lock.
    fn hand_out(&self, group: &Memcg) {
        if let Some(highest) = group.counter.watch() {
            self.each_watch(group, |watch| {
                watch.seen.fetch_max(highest, Ordering::Relaxed);
            });
        }
    }

    fn each_watch(&self, group: &Memcg, mut each: impl FnMut(&WatchRec)) {
        let mut at = group.first_watch.load(Ordering::Relaxed);
        while let Some(index) = at {
            let watch = self.watches.get(index);
            each(watch);
            at = watch.next.load(Ordering::Relaxed);
        }
    }

    /// The group ends: its watches keep what they have seen. Under its lock. O(watches of the
    /// group).
    pub(super) fn leave_watches(&self, group: &Memcg) {
        let highest = group.counter.watched();
        self.each_watch(group, |watch| {
            watch.seen.fetch_max(highest, Ordering::Relaxed);
        });
        group.first_watch.store(None, Ordering::Relaxed);
    }
}
