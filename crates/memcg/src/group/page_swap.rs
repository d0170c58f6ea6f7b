//! What groups are charged to swap.
//!
//! Invariants: what an owner's record says is charged at the groups that its cell leads to. A
//! charge that is refused has changed nothing.
//! Depends on: `page_books` for the records; the walks of `counter`.
//! Never: a page.

#![forbid(unsafe_code)]

use super::Hierarchy;
use super::exact_charge::each_level;
use super::id::{CellId, GroupId};
use super::memcg_record::Memcg;
use super::page_books::{Books, GroupPages};
use super::page_event::PageEvent;
use crate::counter::{Level, Over, try_charge, uncharge};

impl Hierarchy {
    /// Whether half of what a group, or one above, may have in swap is used. The caller is pinned.
    pub fn swap_is_half_full(&self, group: &Memcg) -> bool {
        let mut level = self.group_pages(group);
        while let Some(record) = level {
            if record.swap.usage() > record.swap.max() / 2 {
                return true;
            }
            level = record.parent();
        }
        false
    }

    /// The nearest group, from `group` up, that has no room for `bytes` more of swap. The caller is
    /// pinned.
    pub fn full_of_swap(&self, group: &Memcg, bytes: u64) -> Option<GroupId> {
        let mut full = None;
        each_level(group, |level| {
            let is_full = |pages: &GroupPages| pages.swap.usage() + bytes > pages.swap.max();
            if full.is_none() && self.group_pages(level).is_some_and(is_full) {
                full = Some(level.index());
            }
        });
        full
    }

    /// Charges `bytes` of swap to the groups that a cell leads to. `false`: one is full.
    pub(super) fn charge_swap_at(&self, cell: CellId, bytes: u64, forced: bool) -> bool {
        let Some(start) = self.group_pages(self.resolve(cell).group) else {
            return false;
        };
        let over = if forced { Over::Any } else { Over::By(0) };
        try_charge(start, None, bytes, |_| over)
            .inspect_err(|full| full.level.count_event(PageEvent::SwapMax, 1))
            .is_ok()
    }

    /// Charges `bytes` of swap to the groups of one cell instead of those of another; what both
    /// have above them is as before.
    pub(super) fn move_swap(&self, from: CellId, to: CellId, bytes: u64) {
        let at = |cell| self.group_pages(self.resolve(cell).group);
        let (Some(from), Some(to)) = (at(from), at(to)) else {
            return self.report_broken();
        };
        let up = |start| core::iter::successors(Some(start), |level: &&GroupPages| level.parent());
        let common = up(to).find(|level| up(from).any(|other| core::ptr::eq(*level, other)));
        let moved = try_charge(to, common, bytes, |_| Over::Any).is_ok()
            && uncharge(from, common, bytes).is_ok();
        if !moved {
            self.report_broken();
        }
    }

    fn uncharge_swap_at(&self, cell: CellId, bytes: u64) {
        if let Some(start) = self.group_pages(self.resolve(cell).group)
            && uncharge(start, None, bytes).is_err()
        {
            self.report_broken();
        }
    }
}

impl Books<'_> {
    /// Charges `bytes` to swap, here and at the groups above. `false`: a group is full; nothing has
    /// changed.
    #[must_use = "it may be refused"]
    pub fn try_add_swap(&self, bytes: u64) -> bool {
        let _walk = self.tree().begin_walk();
        let fits = self.tree().charge_swap_at(self.counted_in(), bytes, false);
        if fits {
            let now = self.pages().swap();
            self.pages().set_swap(now + bytes);
        }
        fits
    }

    /// Takes `bytes` off what is charged to swap.
    pub fn sub_swap(&self, bytes: u64) {
        let _walk = self.tree().begin_walk();
        let Some(left) = self.pages().swap().checked_sub(bytes) else {
            self.tree().report_broken();
            return;
        };
        self.pages().set_swap(left);
        self.tree().uncharge_swap_at(self.counted_in(), bytes);
    }
}
