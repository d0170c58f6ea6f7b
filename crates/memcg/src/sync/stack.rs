//! A lock-free stack of record indices, linked through the records themselves.
//!
//! The head carries a version, so that a pop that slept through pop-push-pop of the same record
//! fails instead of corrupting the list (ABA). Reading the link of a record another thread has just
//! popped is harmless: records never move and the version check then fails.
//!
//! Invariants: an index is in one stack at most, once. Who pops it sees what was written before it
//! was pushed.
//! Depends on: records that never move, as those of `arena`: a popped record's link can still be
//! read.
//! Never: a lock; a look at a record but for its link.

#![forbid(unsafe_code)]

use super::atomic::{AtomicU32, AtomicU64, Ordering};

/// A stack of indices; 0 is no index. Zero bytes are an empty stack.
#[derive(Default)]
pub struct Stack(AtomicU64);

fn pack(index: u32, version: u32) -> u64 {
    (u64::from(version) << 32) | u64::from(index)
}

impl Stack {
    /// Pushes `index`, whose link is `link`.
    pub fn push(&self, index: u32, link: &AtomicU32) {
        let mut head = self.0.load(Ordering::Relaxed);
        loop {
            link.store(head as u32, Ordering::Relaxed);
            let next = pack(index, ((head >> 32) as u32).wrapping_add(1));
            // Release pairs with the Acquire of `pop` and `pop_all`: the record's last writes come
            // with it.
            match self
                .0
                .compare_exchange_weak(head, next, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Pops one index; `link_of` finds the link of an index.
    pub fn pop<'a>(&self, link_of: impl Fn(u32) -> &'a AtomicU32) -> Option<u32> {
        // Acquire pairs with the Release of `push`.
        let mut head = self.0.load(Ordering::Acquire);
        loop {
            let index = head as u32;
            if index == 0 {
                return None;
            }
            let below = link_of(index).load(Ordering::Relaxed);
            let next = pack(below, ((head >> 32) as u32).wrapping_add(1));
            // Acquire pairs with the Release of `push`, also where another thread changed the head
            // first.
            match self
                .0
                .compare_exchange_weak(head, next, Ordering::Acquire, Ordering::Acquire)
            {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
        }
    }

    /// Whether there is nothing to pop at this moment.
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) as u32 == 0
    }

    /// Takes the whole stack; answers its first index, whose links lead to the rest.
    pub fn pop_all(&self) -> u32 {
        // Acquire pairs with the Release of `push`.
        let mut head = self.0.load(Ordering::Acquire);
        loop {
            if head as u32 == 0 {
                return 0;
            }
            let next = pack(0, ((head >> 32) as u32).wrapping_add(1));
            // Acquire pairs with the Release of `push`.
            match self
                .0
                .compare_exchange_weak(head, next, Ordering::Acquire, Ordering::Acquire)
            {
                Ok(_) => return head as u32,
                Err(now) => head = now,
            }
        }
    }
}
