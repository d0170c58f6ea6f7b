//! The task that was told to die for a group, and what it is still expected to give back.
//!
//! Invariants: a group has one victim; no other task's end, kill or choice changes it. Who chooses
//! a victim holds [`Choosing`] meanwhile.
//! Depends on: the group's event counts, beside which the victim is kept and with which it goes.
//! Never: a wait; a look at the task (that is `engine::oom_kill`).

use super::Tag;
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::id::AtomicId;

/// See the module. Zero: there was none.
#[derive(Default)]
pub struct Victim {
    /// Somebody chooses.
    busy: AtomicU32,
    tag: AtomicId<Tag>,
    id: AtomicU32,
    _pad: AtomicU32,
    credit: AtomicU64,
    until_ns: AtomicU64,
}

// SAFETY: atomic integers and an optional tag: zero bytes are 0 and none.
unsafe impl Zeroed for Victim {}

/// What is known of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chosen {
    /// The task's tag, and its id: a tag may be another's by now.
    pub tag: Tag,
    /// See `tag`.
    pub id: u32,
    /// Bytes it held when it was chosen.
    pub credit: u64,
    /// Until when it is waited for, by the clock.
    pub until_ns: u64,
}

/// Nobody else chooses for the group until this is dropped.
pub struct Choosing<'a>(&'a Victim);

impl Drop for Choosing<'_> {
    fn drop(&mut self) {
        // Release pairs with the Acquire of `choose`.
        self.0.busy.store(0, Ordering::Release);
    }
}

impl Choosing<'_> {
    /// Remembers who it is now.
    pub fn set(&self, chosen: Chosen) {
        let victim = self.0;
        victim.tag.store(Some(chosen.tag), Ordering::Relaxed);
        victim.id.store(chosen.id, Ordering::Relaxed);
        victim.credit.store(chosen.credit, Ordering::Relaxed);
        victim.until_ns.store(chosen.until_ns, Ordering::Relaxed);
    }
}

impl Victim {
    /// The right to choose; `None`: another thread does, this moment.
    pub fn choose(&self) -> Option<Choosing<'_>> {
        // Acquire pairs with the Release of `Choosing::drop`.
        self.busy
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            .then(|| Choosing(self))
    }

    /// Who it is; `None`: there was none. Of one that is chosen this moment parts may be the last
    /// one's: who goes by it checks the tag by the id.
    pub fn get(&self) -> Option<Chosen> {
        let tag = self.tag.load(Ordering::Relaxed)?;
        Some(Chosen {
            tag,
            id: self.id.load(Ordering::Relaxed),
            credit: self.credit.load(Ordering::Relaxed),
            until_ns: self.until_ns.load(Ordering::Relaxed),
        })
    }

    /// Nobody's, as its record becomes another group's.
    pub(super) fn reset(&self) {
        self.busy.store(0, Ordering::Relaxed);
        self.tag.store(None, Ordering::Relaxed);
    }

    /// In the child of a fork: who chose is not here.
    pub(super) fn reset_in_child(&self) {
        // Only where it is not so: the child's page need not be copied for nothing.
        if self.busy.load(Ordering::Relaxed) != 0 {
            self.busy.store(0, Ordering::Relaxed);
        }
    }
}
