//! What is known, between one look and the next, of the tasks that are to end for a group.
//!
//! Finding out who is to end takes a look at all owners. Where such a look marked nobody, the next
//! comes so much later that looks take a small part of the time, however many owners there are.
//!
//! Invariants: one a group; one thread looks at a time, and holds [`Choosing`] meanwhile.
//! Depends on: its place beside the group's event counts, with which it goes.
//! Never: a wait; a look at a task (`engine::oom_choice` does that).

use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A look that took so long is followed by so many times as long without one.
const REST: u64 = 20;
/// A look that seems to have taken longer was interrupted.
const LONGEST_NS: u64 = 1_000_000;
/// How long what a group holds is expected back after it was told to end as a whole, in ns.
const PATIENCE_NS: u64 = 2_000_000_000;

/// See the module. Zero: there was none.
#[derive(Default)]
pub struct Victim {
    /// Somebody looks.
    busy: AtomicU32,
    /// What the last look came to: 1, those marked hold enough.
    was_enough: AtomicU32,
    /// No look before this, in ns of the clock.
    not_before_ns: AtomicU64,
    /// When the group was told to end as a whole, in ns of the clock; 0: never.
    whole_at_ns: AtomicU64,
}

// SAFETY: atomic integers: zero bytes are 0.
unsafe impl Zeroed for Victim {}

/// Nobody else looks for the group until this is dropped.
pub struct Choosing<'a>(&'a Victim);

impl Drop for Choosing<'_> {
    fn drop(&mut self) {
        // Release pairs with the Acquire of `choose`.
        self.0.busy.store(0, Ordering::Release);
    }
}

impl Choosing<'_> {
    /// The look has ended without a mark: the next one is a while off.
    pub fn rest(&self, began_ns: u64, now_ns: u64, was_enough: bool) {
        let took = now_ns.saturating_sub(began_ns).min(LONGEST_NS);
        let until = now_ns.saturating_add(took.saturating_mul(REST));
        self.0
            .was_enough
            .store(was_enough.into(), Ordering::Relaxed);
        self.0.not_before_ns.store(until, Ordering::Relaxed);
    }
}

impl Victim {
    /// The right to look; `None`: another thread does, this moment.
    pub fn choose(&self) -> Option<Choosing<'_>> {
        // Acquire pairs with the Release of `Choosing::drop`.
        self.busy
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            .then(|| Choosing(self))
    }

    /// What the last look came to, while the next is not due.
    pub fn last_answer(&self, now_ns: u64) -> Option<bool> {
        let is_resting = now_ns < self.not_before_ns.load(Ordering::Relaxed);
        is_resting.then(|| self.was_enough.load(Ordering::Relaxed) != 0)
    }

    /// The group was told to end as a whole.
    pub fn end_whole(&self, now_ns: u64) {
        self.whole_at_ns.store(now_ns.max(1), Ordering::Relaxed);
    }

    /// Whether the group was ever told to end as a whole.
    pub fn was_ended(&self) -> bool {
        self.whole_at_ns.load(Ordering::Relaxed) != 0
    }

    /// Whether what the group holds is expected back, since it was told to end as a whole.
    pub fn is_expected_back(&self, now_ns: u64) -> bool {
        match self.whole_at_ns.load(Ordering::Relaxed) {
            0 => false,
            at => now_ns.saturating_sub(at) < PATIENCE_NS,
        }
    }

    /// Nobody's, as its record becomes another group's.
    pub(super) fn reset(&self) {
        self.busy.store(0, Ordering::Relaxed);
        self.was_enough.store(0, Ordering::Relaxed);
        self.not_before_ns.store(0, Ordering::Relaxed);
        self.whole_at_ns.store(0, Ordering::Relaxed);
    }

    /// In the child of a fork: who looked is not here.
    pub(super) fn reset_in_child(&self) {
        // Only where it is not so: the child's page need not be copied for nothing.
        if self.busy.load(Ordering::Relaxed) != 0 {
            self.busy.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_marked_nobody_is_followed_by_twenty_times_its_length_without_one() {
        let victim = Victim::default();
        assert_eq!(victim.last_answer(0), None);
        let choosing = victim.choose().unwrap();
        assert!(victim.choose().is_none(), "one looks at a time");
        choosing.rest(100, 110, true);
        drop(choosing);
        assert!(victim.choose().is_some());
        assert_eq!(victim.last_answer(309), Some(true));
        assert_eq!(victim.last_answer(310), None);
    }

    #[test]
    fn a_group_told_to_end_is_waited_for_for_two_seconds() {
        let victim = Victim::default();
        assert!(!victim.was_ended() && !victim.is_expected_back(0));
        victim.end_whole(0);
        assert!(victim.was_ended() && victim.is_expected_back(PATIENCE_NS));
        assert!(!victim.is_expected_back(PATIENCE_NS + 1));
    }
}
