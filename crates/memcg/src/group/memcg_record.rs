//! A group: its level of the counter, its place in the tree, its settings and events.
//!
//! `lock` guards the list of children, `nr_tasks`, the state, the watches and the writing of
//! limits. Charging reads `counter`, `above` and the settings, and takes no lock.
//!
//! Invariants: a record is free, then online, then dying, then free again. The parent of an online
//! group is online.
//! Depends on: `counter` for the level; the records of this room that it names.
//! Never: walks the tree, but up to the root.

use super::Tag;
use super::census::Census;
use super::engine_records::EngineRecords;
use super::events::{Event, EventCounts};
use super::id::{CellId, GroupId, NameId, PressureId, WatchId};
use super::kind::{Kind, NR_SIDE_KINDS};
use super::notice_word::Notice;
use crate::counter::page_counter::UNLIMITED;
use crate::counter::{Level, PageCounter};
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use crate::sync::id::AtomicId;
use crate::sync::lock::Lock;

/// A group's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Css {
    /// Not a group (any more).
    Free = 0,
    /// Takes charges, children and tasks.
    Online = 1,
    /// Going, or gone and waiting for its last reader.
    Dying = 2,
}

/// See the module.
#[derive(Default)]
#[repr(C, align(64))]
pub struct Memcg {
    /// Its level.
    pub counter: PageCounter,
    above: AtomicPtr<Memcg>,
    /// Null until something happens here or below.
    pub(super) event_counts: AtomicPtr<EventCounts>,
    /// Bytes; of the root, `memory.emergency`.
    pub(super) debt_max: AtomicU64,
    /// The live tasks here and below, and how many of them are stalled.
    pub(super) census: Census,
    /// Its record of stalls; none until there was one here or below.
    pub(super) pressure: AtomicId<PressureId>,
    /// The first watch of its peak. Under the lock.
    pub(super) first_watch: AtomicId<WatchId>,
    state: AtomicU32,
    pub(super) settings: AtomicU32,
    link: AtomicU32,
    generation: AtomicU32,
    pub(super) index: AtomicId<GroupId>,
    pub(super) name: AtomicId<NameId>,
    pub(super) cell: AtomicId<CellId>,
    pub(super) objcg: AtomicId<Tag>,
    pub(super) hash: AtomicU32,
    pub(super) hash_next: AtomicId<GroupId>,
    pub(super) first_child: AtomicId<GroupId>,
    pub(super) last_child: AtomicId<GroupId>,
    pub(super) next: AtomicId<GroupId>,
    pub(super) prev: AtomicId<GroupId>,
    pub(super) nr_children: AtomicU32,
    pub(super) nr_descendants: AtomicU32,
    pub(super) nr_tasks: AtomicU32,
    /// Its number in the tables of lists and caches; see `kmem_id`.
    pub(super) kmem_id: AtomicU32,
    /// Whether it lingers; see `lingering`.
    pub(super) linger: AtomicU32,
    /// Children that linger, or will in a moment.
    pub(super) nr_lingering: AtomicU32,
    /// See the module.
    pub lock: Lock,
    pub(super) draining: AtomicU32,
    pub(super) drained_at: AtomicU64,
    pub(super) nr_drains: AtomicU64,
    pub(super) side_kinds: [AtomicU64; NR_SIDE_KINDS],
    /// The limit of cache objects' bytes.
    pub(super) kmem_max: AtomicU64,
    /// Who wants to be told about it.
    pub notice: Notice,
    /// What it is charged for records of the engine.
    pub(super) engine: EngineRecords,
}

// SAFETY: integers, a null pointer and a free lock.
unsafe impl Zeroed for Memcg {}
// SAFETY: Zeroed, see above. `link` is used by the lists of the arena and of limbo, and by the
// stack of groups that are done lingering, which a group has left before its record is retired.
unsafe impl Record for Memcg {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }

    fn forgotten(&self) {
        self.state.store(Css::Free as u32, Ordering::Relaxed);
    }
}

impl Memcg {
    /// Makes a group of a new or recycled record; not yet online.
    pub(super) fn open(
        &self,
        index: GroupId,
        above: Option<&Memcg>,
        name: NameId,
        cell: CellId,
        objcg: Tag,
    ) {
        self.counter.open();
        let parent = above.map_or(core::ptr::null_mut(), |p| core::ptr::from_ref(p).cast_mut());
        self.above.store(parent, Ordering::Relaxed);
        let depth = above.map_or(0, |p| p.depth() + 1);
        self.census.open();
        self.open_settings(depth);
        self.index.store(Some(index), Ordering::Relaxed);
        self.cell.store(Some(cell), Ordering::Relaxed);
        self.name.store(Some(name), Ordering::Relaxed);
        for link in [
            &self.hash_next,
            &self.first_child,
            &self.last_child,
            &self.next,
            &self.prev,
        ] {
            link.store(None, Ordering::Relaxed);
        }
        self.first_watch.store(None, Ordering::Relaxed);
        for (field, value) in [
            (&self.hash, 0),
            (&self.nr_children, 0),
            (&self.nr_descendants, 0),
            (&self.nr_tasks, 0),
            (&self.kmem_id, 0),
            (&self.linger, 0),
            (&self.nr_lingering, 0),
            (&self.draining, 0),
        ] {
            field.store(value, Ordering::Relaxed);
        }
        self.objcg.store(Some(objcg), Ordering::Relaxed);
        self.kmem_max.store(UNLIMITED, Ordering::Relaxed);
        self.notice.open();
        self.engine.open();
        for field in [&self.drained_at, &self.nr_drains]
            .into_iter()
            .chain(&self.side_kinds)
        {
            field.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn set_online(&self) {
        // Release pairs with the Acquire of `is_online`: an online group is whole.
        self.state.store(Css::Online as u32, Ordering::Release);
    }

    /// No child, task or name finds it any more. Under its lock.
    pub(super) fn set_dying(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        // Release pairs with the Acquire of `is_online`: who finds the group not online, or finds
        // the next group of the record online, also finds the new generation.
        self.state.store(Css::Dying as u32, Ordering::Release);
    }

    /// Whether it is online.
    pub fn is_online(&self) -> bool {
        // Acquire pairs with the Release of `set_online` and `set_dying`.
        self.state.load(Ordering::Acquire) == Css::Online as u32
    }

    /// A number that tells this group from the next group in the same record.
    ///
    /// The number alone does not say that the group is there. The caller holds the group's lock; or
    /// looks at the state first; or is pinned, and asks only whether the group's end has begun.
    pub fn generation(&self) -> u32 {
        // Relaxed is enough, since nothing is read by way of the number. The record is another
        // group's only after its state has been `Dying` and then `Online`. Who has read that state
        // (`is_online`) has acquired the number; who holds the lock has it from `set_dying`, which
        // changes it under the same lock. Under a pin the record is not reused, and a pin that
        // began after the record's reuse sees the number: the collector's heavy fence, or the
        // epoch that the pin acquired, stands between.
        self.generation.load(Ordering::Relaxed)
    }

    /// Its index.
    ///
    /// # Panics
    /// If the record was never a group's.
    pub fn index(&self) -> GroupId {
        self.index.known(Ordering::Relaxed)
    }

    /// Its parent's index; `None` for the root.
    pub fn parent_index(&self) -> Option<GroupId> {
        self.parent().map(Memcg::index)
    }

    /// Its cell's index.
    ///
    /// # Panics
    /// As [`Self::index`].
    pub fn cell(&self) -> CellId {
        self.cell.known(Ordering::Relaxed)
    }

    /// The tag of its own owner.
    ///
    /// # Panics
    /// As [`Self::index`]. No path leads there: an index leaves `Hierarchy::create` and
    /// `Hierarchy::init` only after `open`, and who goes through the whole table asks for the state
    /// first, which says online or dying only of a group that was opened.
    pub fn tag(&self) -> Tag {
        self.objcg.known(Ordering::Relaxed)
    }

    /// Its name's index.
    ///
    /// # Panics
    /// As [`Self::index`].
    pub fn name(&self) -> NameId {
        self.name.known(Ordering::Relaxed)
    }

    /// Online groups below it.
    pub fn nr_descendants(&self) -> u32 {
        self.nr_descendants.load(Ordering::Relaxed)
    }

    /// Live tasks in it, those below not counted.
    pub fn nr_tasks(&self) -> u32 {
        self.nr_tasks.load(Ordering::Relaxed)
    }

    /// Whether live tasks are in it or below.
    pub fn has_tasks(&self) -> bool {
        self.census.read().tasks() > 0
    }

    /// Whether it could be removed this moment: online, without children and tasks.
    pub fn is_idle(&self) -> bool {
        self.is_online() && self.nr_children.load(Ordering::Relaxed) == 0 && self.nr_tasks() == 0
    }

    /// Whether `self` is `top` or below it. O(depth).
    pub fn is_within(&self, top: &Memcg) -> bool {
        let mut level = Some(self);
        while let Some(group) = level {
            if core::ptr::eq(group, top) {
                return true;
            }
            level = group.parent();
        }
        false
    }

    /// What its own owners hold of kinds other than heap, and those below.
    pub fn side_kind(&self, kind: Kind) -> u64 {
        kind.side()
            .map_or(0, |side| self.side_kinds[side].load(Ordering::Relaxed))
    }

    pub(crate) fn side_count(&self, side: usize) -> &AtomicU64 {
        &self.side_kinds[side]
    }

    /// Drains of stock this group has asked for.
    pub fn nr_drains(&self) -> u64 {
        self.nr_drains.load(Ordering::Relaxed)
    }
}

impl Level for Memcg {
    fn counter(&self) -> &PageCounter {
        &self.counter
    }

    #[inline]
    fn parent(&self) -> Option<&Memcg> {
        let above = self.above.load(Ordering::Relaxed);
        // SAFETY: groups are arena records, which never move or go; a parent outlives its child's
        // time online, and a pinned reader of a dead child finds the parent it had.
        unsafe { above.as_ref() }
    }

    fn above_high(&self, _usage: u64) {
        self.event(Event::High);
    }

    fn crossed_max(&self) {
        self.event(Event::Max);
        self.event(Event::Debt);
    }
}
