//! What a thread owes for `memory.high`, and where it is not to be held up.
//!
//! Invariants: the words are the thread's own; `group::poll` puts a future's in their place for the
//! length of a poll.
//! Depends on: `record`.
//! Never: sleeps. Who pays, and where, is decided above.

#![forbid(unsafe_code)]

use super::record::ThreadRec;
use crate::sync::atomic::Ordering;

impl ThreadRec {
    /// Whether it is polling a future that is in a group.
    pub fn is_polling(&self) -> bool {
        self.poll.load(Ordering::Relaxed) != 0
    }

    /// Whether it stands in a section that holds what others wait for.
    pub fn is_in_section(&self) -> bool {
        self.sections.load(Ordering::Relaxed) != 0
    }

    /// It enters such a section.
    pub(crate) fn enter_section(&self) {
        let sections = self.sections.load(Ordering::Relaxed);
        self.sections
            .store(sections.saturating_add(1), Ordering::Relaxed);
    }

    /// It leaves one; none where it stands in none.
    pub(crate) fn leave_section(&self) {
        let sections = self.sections.load(Ordering::Relaxed);
        self.sections
            .store(sections.saturating_sub(1), Ordering::Relaxed);
    }

    /// It owes `ns` in all.
    pub(crate) fn set_owed(&self, ns: u64) {
        self.owed_ns.store(ns, Ordering::Relaxed);
    }

    /// The thread owes no more than that.
    pub(crate) fn forgive_owed(&self, to: u64) {
        self.owed_ns
            .store(self.owed_ns().min(to), Ordering::Relaxed);
    }

    /// Time the thread owes for having taken its groups above `high`, in ns.
    pub fn owed_ns(&self) -> u64 {
        self.owed_ns.load(Ordering::Relaxed)
    }
}
