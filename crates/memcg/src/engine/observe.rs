//! `memory.oom.policy = observe`: what would have been done to a group, counted and said once.
//!
//! Invariants: what is observed is charged as if there were no limits.
//! Depends on: the charge loop, which asks here instead of refusing.
//! Never: a refusal, a mark, a delay.

#![forbid(unsafe_code)]

use super::{Engine, Request, process_engine};
use crate::group::over_limit::Caller;
use crate::group::{Event, Memcg, OomPolicy};
use crate::os::say;

impl Engine {
    /// A charge to an observed group met the max of `full`. The caller is pinned.
    #[cold]
    pub(super) fn observe(&self, full: &Memcg, request: Request, caller: Caller) {
        let (event, what) = match (full.oom_policy(), caller) {
            (OomPolicy::Kill, Caller::Malloc | Caller::Infallible) => {
                (Event::WouldKill, "would have had a task told to end")
            }
            (OomPolicy::Deny, _)
            | (_, Caller::Door)
            | (OomPolicy::Default | OomPolicy::Observe, Caller::Malloc) => {
                (Event::WouldRefuse, "would have been refused")
            }
            (OomPolicy::Debt, Caller::Malloc)
            | (OomPolicy::Default | OomPolicy::Debt | OomPolicy::Observe, Caller::Infallible) => {
                return;
            }
        };
        full.event(event);
        if !full.note_observed() || !process_engine::is_ours(self) {
            return;
        }
        let mut text = self.line_about(request.tag);
        text.add(b" is observed: ");
        text.number(request.bytes);
        text.add(b" bytes ");
        text.add(what.as_bytes());
        text.add(b", for ");
        self.add_use(&mut text, full, full.counter.usage(), full.counter.max());
        text.add(b"; more of this is in its memory.events alone");
        say::line(&[text.as_bytes()]);
    }
}
