//! A group's handle that survives the group: a node of a union-find forest.
//!
//! While its group is online a cell names it; from the group's end on it names the parent's cell.
//! Owners name cells, so ending a group re-parents all it held, and all it had inherited, by one
//! store.
//!
//! A cell lives while its group does, while an owner names it, and while a dead cell leads to it
//! (`refs`). Chains of dead cells are halved as they are walked.
//!
//! A group's end may leave a word in its cell: what becomes of the things that were the group's
//! then (`OfflineAction`). Who skips a dead cell takes its word along, so a thing's cell tells of
//! every end there was on its way up.
//!
//! Invariants: a cell names its own group until the group ends, and a cell above from then on. A
//! dead cell has a reference on the cell that it leads to.
//! Depends on: the epochs: who walks over cells is pinned. `limbo` for cells that nobody names.
//! Never: a lock; a look at an owner.

use super::Hierarchy;
use super::id::{CellId, GroupId};
use super::memcg_record::Memcg;
use super::settings::OfflinePolicy;
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::id::Id;

const DEAD: u32 = 1 << 31;

/// What a cell leads to.
#[derive(Clone, Copy)]
enum To {
    /// Its own group, which has not ended.
    Group(GroupId),
    /// The cell above: the group has ended.
    Cell(CellId),
}

impl To {
    /// As a word has it.
    ///
    /// # Panics
    /// If it is 0: the cell was never anybody's.
    #[inline(always)]
    fn of_word(word: u32) -> Self {
        let to = if word & DEAD != 0 {
            CellId::from_raw(word & !DEAD).map(To::Cell)
        } else {
            GroupId::from_raw(word).map(To::Group)
        };
        match to {
            Some(to) => to,
            None => leads_nowhere(),
        }
    }

    fn word(self) -> u32 {
        match self {
            To::Group(group) => group.raw(),
            To::Cell(cell) => DEAD | cell.raw(),
        }
    }
}

#[cold]
fn leads_nowhere() -> ! {
    panic!("a cell that was never a group's")
}

/// What becomes of the things that a removed group left, beside that they are the parent's: a bit
/// each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
#[allow(clippy::enum_variant_names, reason = "each says to whom")]
pub enum OfflineAction {
    /// To who uses them next, whatever they are.
    RechargeToToucher = 1,
    /// To who looks them up next, in a cache that sees lookups.
    RechargeToFinder = 2,
    /// To who holds them.
    RechargeToHolder = 4,
}

impl OfflineAction {
    fn bits_of(policy: OfflinePolicy) -> u32 {
        match policy {
            OfflinePolicy::Parent | OfflinePolicy::Evict => 0,
            OfflinePolicy::NextTouch => OfflineAction::RechargeToToucher as u32,
            OfflinePolicy::Auto => OfflineAction::RechargeToFinder as u32,
            OfflinePolicy::Mapper => OfflineAction::RechargeToHolder as u32,
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct Cell {
    link: AtomicU32,
    /// As [`To`] has it: a group's index, or DEAD and a cell's.
    to: AtomicU32,
    refs: AtomicU32,
    /// A bit for each `OfflineAction`.
    offline_actions: AtomicU32,
}

const _: () = assert!(core::mem::size_of::<Cell>() == 16 || cfg!(loom));

// SAFETY: all fields are atomic integers; zero bytes are 0, as Default builds them.
unsafe impl Zeroed for Cell {}
// SAFETY: Zeroed, see above. `link` is used by the lists of the arena and of limbo alone.
unsafe impl Record for Cell {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

impl Cell {
    /// Makes it the cell of `group`, which holds one reference.
    pub(super) fn reset(&self, group: GroupId) {
        self.refs.store(1, Ordering::Relaxed);
        self.offline_actions.store(0, Ordering::Relaxed);
        // Release pairs with the Acquire of `resolve`.
        self.to.store(To::Group(group).word(), Ordering::Release);
    }

    /// One more reference, unless the last one is gone.
    pub(super) fn try_ref(&self) -> bool {
        // Acquire, on failure: pairs with the AcqRel of the last `unref_cell`, so that who finds
        // none finds `to` dead.
        let mut refs = self.refs.load(Ordering::Acquire);
        while refs != 0 {
            // Acquire on failure pairs with the AcqRel of `unref_cell`, as above.
            match self.refs.compare_exchange_weak(
                refs,
                refs + 1,
                Ordering::Relaxed,
                Ordering::Acquire,
            ) {
                Ok(_) => return true,
                Err(now) => refs = now,
            }
        }
        false
    }

    /// Takes back [`Self::reset`], of a cell nobody has seen.
    pub(super) fn forget(&self) {
        self.refs.store(0, Ordering::Relaxed);
    }

    /// References on it.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn nr_refs(&self) -> u64 {
        u64::from(self.refs.load(Ordering::Relaxed))
    }

    /// Whether its group has ended.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn is_dead(&self) -> bool {
        self.to.load(Ordering::Relaxed) & DEAD != 0
    }

    pub(super) fn add_ref(&self) {
        self.refs.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where a cell leads.
#[derive(Clone, Copy)]
pub struct Resolved<'a> {
    /// The nearest online group (or one that is going offline this moment; its counter is closed
    /// then).
    pub group: &'a Memcg,
    /// Whether the cell's own group has ended.
    pub inherited: bool,
}

impl Hierarchy {
    /// The group a cell stands for. The caller is pinned. O(depth) at worst, then halved.
    pub fn resolve(&self, cell: CellId) -> Resolved<'_> {
        let mut at = cell;
        loop {
            let record = self.cells.get(at);
            // Acquire pairs with the Release of `reset`, `link_cell` and `halve`.
            match To::of_word(record.to.load(Ordering::Acquire)) {
                To::Group(group) => {
                    return Resolved {
                        group: self.memcgs.get(group),
                        inherited: at != cell,
                    };
                }
                To::Cell(next) => {
                    self.halve(at, next);
                    at = next;
                }
            }
        }
    }

    /// Lets the dead cell `at` skip the dead cell `next` that it leads to.
    ///
    /// Holds `at` meanwhile: a walker may still be on a cell whose last name has just gone, and
    /// then `next` is already being let go by whoever took that name.
    fn halve(&self, at: CellId, next: CellId) {
        // Acquire pairs with the Release of `link_cell` and of another `halve`.
        let To::Cell(beyond) = To::of_word(self.cells.get(next).to.load(Ordering::Acquire)) else {
            return;
        };
        let record = self.cells.get(at);
        if !record.try_ref() {
            return;
        }
        // What the end of `next` said was written before `next` led anywhere; the swap passes it on
        // with the way. The caller's pin keeps `next` from being another's.
        let offline_actions = self.cells.get(next).offline_actions.load(Ordering::Relaxed);
        if offline_actions != 0 {
            record
                .offline_actions
                .fetch_or(offline_actions, Ordering::Relaxed);
        }
        if self.cells.get(beyond).try_ref() {
            let swapped = record.to.compare_exchange(
                To::Cell(next).word(),
                To::Cell(beyond).word(),
                // Release pairs with the Acquire of `resolve`.
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            self.unref_cell(if swapped.is_ok() { next } else { beyond });
        }
        self.unref_cell(at);
    }

    /// The group of `cell` is ending, by `policy`: noted for what it leaves. Before the cell leads
    /// to another's.
    pub(crate) fn note_offline_action(&self, cell: CellId, policy: OfflinePolicy) {
        let offline_actions = OfflineAction::bits_of(policy);
        if offline_actions != 0 {
            self.cells
                .get(cell)
                .offline_actions
                .fetch_or(offline_actions, Ordering::Relaxed);
        }
    }

    /// Whether an end on the way of `cell` left its things so. The caller is pinned. O(depth) at
    /// worst.
    pub fn has_offline_action(&self, cell: CellId, how: &[OfflineAction]) -> bool {
        let which = how.iter().fold(0, |all, &one| all | one as u32);
        let mut at = cell;
        loop {
            let record = self.cells.get(at);
            // Acquire pairs with the Release of `link_cell`, and of `halve`: what was said comes
            // with the way.
            let to = To::of_word(record.to.load(Ordering::Acquire));
            if record.offline_actions.load(Ordering::Relaxed) & which != 0 {
                return true;
            }
            match to {
                To::Group(_) => return false,
                To::Cell(next) => at = next,
            }
        }
    }

    /// One more owner names the cell of an online group.
    pub(crate) fn ref_cell(&self, cell: CellId) {
        self.cells.get(cell).add_ref();
    }

    /// The flip of a group's end: `cell` leads to `parent` from now on, and its group lets go of
    /// it. The caller is pinned.
    ///
    /// The parent, empty since its child was unlinked, may have been removed meanwhile, and its
    /// cell be nobody's: then the next above is taken.
    pub(crate) fn link_cell(&self, cell: CellId, parent: CellId) {
        let mut parent = parent;
        while !self.cells.get(parent).try_ref() {
            // Only a dead cell is ever let go by all (see `try_ref` for why that is seen here).
            // Acquire pairs with the Release of `link_cell` and `halve`.
            if let To::Cell(next) = To::of_word(self.cells.get(parent).to.load(Ordering::Acquire)) {
                parent = next;
            }
        }
        // Release pairs with the Acquire of `resolve`.
        self.cells
            .get(cell)
            .to
            .store(To::Cell(parent).word(), Ordering::Release);
        self.unref_cell(cell);
    }

    /// Lets go of a cell; the last one frees it, and what it led to.
    pub(crate) fn unref_cell(&self, cell: CellId) {
        let mut at = cell;
        loop {
            let record = self.cells.get(at);
            // AcqRel pairs with that of the other calls, and with the Acquire of `try_ref`: the
            // last one sees what the others did.
            if record.refs.fetch_sub(1, Ordering::AcqRel) != 1 {
                return;
            }
            let to = To::of_word(record.to.load(Ordering::Relaxed));
            self.retire(super::limbo::What::Cell(at));
            match to {
                To::Group(_) => return,
                To::Cell(next) => at = next,
            }
        }
    }
}
