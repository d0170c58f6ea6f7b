//! Who may be charged above `memory.max`, and how far: the table of callers and policies.
//!
//! Rust's global allocator cannot say no, since its null ends the process; C's malloc can, and so
//! can whoever asks before it takes ("at the door"). The policy of the full group decides for each
//! of them. docs/enforcement.md has the table for users.
//!
//! Invariants: the answer for one group depends on that group and the caller alone.
//! Depends on: `settings` for the policy and the bound of debt.
//! Never: a charge, a mark, an event.

#![forbid(unsafe_code)]

use super::memcg_record::Memcg;
use super::settings::OomPolicy;
use crate::counter::page_counter::UNLIMITED;
use crate::counter::{Level, Over};

/// Who asks for a charge, by what it can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// Asks before it takes: reservations, caches, `Fallible`. Refused under every policy; kills
    /// nobody.
    Door,
    /// C's malloc: its null is an error like others.
    Malloc,
    /// Rust's global allocator: its null ends the process.
    Infallible,
}

impl Memcg {
    /// How far above its max a charge of `caller` may take this group.
    pub(super) fn over(&self, caller: Caller) -> Over {
        if self.parent().is_none() {
            // The process's own budget, whatever the policy.
            return match caller {
                Caller::Infallible => Over::By(self.debt_max()),
                Caller::Malloc | Caller::Door => Over::By(0),
            };
        }
        match (self.oom_policy(), caller) {
            (OomPolicy::Observe, _) => Over::Any,
            (OomPolicy::Deny, _) | (_, Caller::Door) | (OomPolicy::Default, Caller::Malloc) => {
                Over::By(0)
            }
            (OomPolicy::Default, Caller::Infallible)
            | (OomPolicy::Debt | OomPolicy::Kill, Caller::Infallible | Caller::Malloc) => {
                match self.debt_max() {
                    UNLIMITED => Over::Any,
                    bytes => Over::By(bytes),
                }
            }
        }
    }

    /// Whether a charge of `caller` may take this group above its max at all.
    pub fn may_go_over(&self, caller: Caller) -> bool {
        self.over(caller) != Over::By(0)
    }

    /// Whether more than its max is held here, stock not counted: by debt, by a forced charge, or
    /// because max was lowered.
    pub fn is_over(&self) -> bool {
        self.excess_with(0) > 0
    }

    /// The bytes above max that would be held here, stock not counted, with `more` bytes charged.
    pub fn excess_with(&self, more: u64) -> u64 {
        let held = self.counter.usage().saturating_sub(self.counter.granted());
        held.saturating_add(more).saturating_sub(self.counter.max())
    }

    /// Whether the policy of this group or of one above it is `observe`.
    pub fn is_observed(&self) -> bool {
        let mut level = Some(self);
        while let Some(group) = level {
            if group.oom_policy() == OomPolicy::Observe {
                return true;
            }
            level = group.parent();
        }
        false
    }
}
