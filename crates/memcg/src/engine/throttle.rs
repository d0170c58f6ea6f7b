//! `memory.high`: a charge above it owes a delay, by the kernel's curve. The thread pays by
//! sleeping, at a place where it may sleep.
//!
//! Invariants: a delay that is owed is paid at most once, by the thread that charged.
//! Depends on: `counter::throttle_curve` for the delay; the thread's record, which keeps it.
//! Never: sleeps under a pin.

#![forbid(unsafe_code)]

use super::{Engine, Request};
use crate::counter::Level;
use crate::counter::page_counter::UNLIMITED;
use crate::counter::throttle_curve;
use crate::group::exact_charge::each_level;
use crate::group::{Event, Tag};
use crate::os::clock;
use crate::sync::atomic::Ordering;
use crate::thread::ThreadRec;

/// The longest delay that one charge pays inside malloc, in ns: 10 ms.
pub const MALLOC_NS: u64 = 10_000_000;

/// The usage above which the worker reclaims, before charges have to: max less a 32nd of it.
fn reclaim_line(level: &crate::group::Memcg) -> u64 {
    let max = level.counter.max();
    max - max / 32
}

impl Engine {
    /// Adds to the thread's debt of delay what a charge owes: by the curve, for the group of its
    /// path that is farthest above its high. Has the worker reclaim where a group is near a limit.
    /// The caller is pinned. O(depth); the groups are only read.
    pub(super) fn owe(&self, rec: &ThreadRec, request: Request) {
        let mut worst = 0;
        let may_reclaim = self.may_reclaim() && !rec.is_helping();
        let owner = self.tree.objcgs.get(request.tag);
        let group = self.tree.resolve(owner.cell()).group;
        each_level(group, |level| {
            let counter = &level.counter;
            let high = counter.high();
            if level.parent().is_none() {
                // The process's own line throttles nobody.
                if counter.usage() > high {
                    self.budget_is_tight();
                }
                return;
            }
            if high != UNLIMITED {
                // Stock is held by nobody.
                let held = counter.usage().saturating_sub(counter.granted());
                worst = worst.max(throttle_curve::overage(held, high));
            }
            if may_reclaim && counter.usage() > high.min(reclaim_line(level)) {
                self.wake_reclaim(level, 0);
            }
        });
        if worst > 0 && group.is_observed() {
            group.event(Event::WouldThrottle);
        } else if worst > 0 {
            let owed = throttle_curve::owed_after(rec.owed_ns(), worst, request.bytes);
            rec.owed_ns.store(owed, Ordering::Relaxed);
        }
    }

    /// Sleeps off what the thread owes, `most` ns at most; answers the ns slept. For places where
    /// the thread may sleep. Nothing where it holds what others wait
    /// for ([`ThreadRec::is_in_section`]).
    pub fn safe_point(&self, rec: &ThreadRec, most: u64) -> u64 {
        if rec.is_in_section() {
            return 0;
        }
        let owed = rec.owed_ns();
        let pay = throttle_curve::due_ns(owed, most);
        if pay == 0 {
            return 0;
        }
        rec.owed_ns.store(owed - pay, Ordering::Relaxed);
        self.with_owner(rec, |tag| self.pay_for(rec, tag, pay));
        pay
    }

    fn pay_for(&self, rec: &ThreadRec, tag: Option<Tag>, pay: u64) {
        let tag = tag.filter(|&tag| self.is_tag(tag));
        let stall = tag.map(|tag| self.tree.stall(rec, tag));
        clock::sleep_ns(pay);
        drop(stall);
        if let Some(tag) = tag {
            let _pin = self.tree.threads.epoch.pin(rec);
            self.tree
                .resolve(self.tree.objcgs.get(tag).cell())
                .group
                .add_throttled_us(pay / 1000);
        }
    }
}
