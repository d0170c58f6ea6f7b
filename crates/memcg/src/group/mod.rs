//! Groups, their cells, and the owners that charged things name.
//!
//! ```text
//! thing ── tag ──► Objcg ── cell ──► Cell ──► Memcg ── parent ──► … ──► root
//! ```
//!
//! Invariants: a group's usage is what its owners' words say is accounted at its cell, plus what
//! its children pass up. An owner's charged bytes are what its things hold plus what threads stock
//! for it. A removed group and a finished task leave nothing behind but what is still held through
//! their owners.
//! Depends on: `counter` for the arithmetic, `thread` for stock slots and epochs, `sync` for arenas
//! and locks.
//! Never: a lock on a charge or an uncharge; a wait for memory, reclaim or policy (that is
//! `engine`); the order of a group's end (`offline`) or of a move (`attach`). Those rooms put
//! together the flips that are made here.

mod cap;
pub mod cell;
mod census;
#[cfg(any(test, feature = "testing"))]
pub mod charge_audit;
pub mod drain;
mod engine_charge;
pub mod engine_records;
mod event_counting;
pub mod events;
pub mod exact_charge;
pub mod flip_word;
#[cfg(all(test, not(loom)))]
mod footprint;
pub mod id;
mod index;
pub mod kill_generation;
pub mod kind;
pub mod kmem_charge;
pub mod kmem_id;
pub mod limbo;
pub mod lingering;
#[cfg(all(test, loom))]
pub(crate) mod loom;
#[cfg(all(test, loom))]
mod loom_notices;
pub mod memcg_record;
mod meter;
pub mod name;
pub mod notice_word;
pub mod notices;
pub mod objcg;
pub mod over_limit;
pub mod page_books;
pub mod page_count;
pub mod page_event;
mod page_swap;
pub mod poll;
pub mod pressure;
pub mod recount;
pub mod reserved;
pub mod residual;
pub mod settings;
pub mod stall;
mod stall_word;
pub mod stock;
pub mod successor;
pub mod task_owner;
pub mod template;
pub mod thread_scopes;
pub mod tree;
pub mod usage;
pub mod victim;
pub mod watch;

pub use self::memcg_record::Memcg;
pub use events::Event;
pub use exact_charge::Refusal;
pub use id::{CellId, EventCountsId, GroupId, NameId, PressureId, ROOT, TemplateId, WatchId};
pub use kind::Kind;
pub use kmem_id::IdError;
pub use objcg::Objcg;
pub use over_limit::Caller;
pub use page_books::{Books, GroupPages, OwnerPages};
pub use page_count::PageCount;
pub use page_event::PageEvent;
pub use settings::{MovePolicy, OfflinePolicy, OomPolicy};
pub use tree::TreeError;

use crate::sync::Zeroed;
use crate::sync::arena::Arena;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::promise::SoleThread;
pub use crate::thread::Tag;
use crate::thread::Threads;
use crate::thread::id::GapId;

/// The root group's own owner.
pub const ROOT_TAG: Tag = Tag::new(1);

/// One tree of groups with everything that belongs to it. The process has one (`engine`); tests
/// make their own.
#[derive(Default)]
pub struct Hierarchy {
    /// Groups.
    pub memcgs: Arena<GroupId, Memcg>,
    /// Their cells.
    pub cells: Arena<CellId, cell::Cell>,
    /// Owners.
    pub objcgs: Arena<Tag, Objcg>,
    /// Names.
    pub names: Arena<NameId, name::NameRec>,
    /// What happened to groups.
    pub event_counts: Arena<EventCountsId, events::EventCounts>,
    /// What children of groups begin with.
    pub templates: Arena<TemplateId, template::Template>,
    /// How long groups stood still.
    pub pressures: Arena<PressureId, pressure::Pressure>,
    /// Watches of peaks.
    pub watches: Arena<WatchId, watch::WatchRec>,
    /// Scopes that ended out of order.
    pub gaps: Arena<GapId, thread_scopes::Gap>,
    /// Numbers for the groups that lists and caches know.
    pub kmem_ids: kmem_id::KmemIds,
    /// Threads.
    pub threads: Threads,
    /// What owners and groups have of pages.
    page_books: page_books::PageBooks,
    index: index::Index,
    limbo: limbo::Limbo,
    lingering: lingering::Lingering,
    next_task: AtomicU32,
    /// Recounts there have been: what began before one is not to be ended.
    recounts: AtomicU32,
    broken: AtomicU32,
    /// Scopes that ever ended out of order.
    misordered: AtomicU64,
    /// Whether a move may have left marked bytes.
    marked: AtomicU32,
    /// How many wishes to be told about a group there are.
    wishes: AtomicU32,
}

// SAFETY: every field is an atomic integer, or a type that is Zeroed itself.
unsafe impl Zeroed for Hierarchy {}

impl Hierarchy {
    /// Makes the root of a zeroed hierarchy. Once, before anything else. `None` without memory.
    pub fn init(&self) -> Option<()> {
        self.threads.init();
        let name = self.new_name(b"", None)?;
        let group = self.memcgs.alloc(u32::MAX)?;
        let cell = self.cells.alloc(flip_word::CELL_LIMIT)?;
        let objcg = self.objcgs.alloc(u32::MAX)?;
        assert!((group, objcg) == (ROOT, ROOT_TAG), "the root comes first");
        self.cells.get(cell).reset(group);
        self.memcgs.get(group).open(group, None, name, cell, objcg);
        self.memcgs
            .get(group)
            .make_root_event_counts(&self.event_counts)?;
        self.ref_name(name);
        self.open_objcg(objcg, Some(cell), Some(name), objcg::State::Group);
        self.memcgs.get(group).set_online();
        self.init_kmem_ids()
    }

    /// A hierarchy of its own, never freed. For tests and for embedding several.
    ///
    /// # Panics
    /// Without memory.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn leaked() -> &'static Self {
        let bytes = core::mem::size_of::<Self>();
        #[cfg(not(loom))]
        let this: &'static Self = {
            let p = crate::os::mmap::map(bytes).expect("pages for a hierarchy");
            // SAFETY: zeroed pages, never unmapped, aligned to a page; Zeroed says zero bytes are a
            // value.
            unsafe { p.cast::<Self>().as_ref() }
        };
        #[cfg(loom)]
        let this: &'static Self = {
            let _ = bytes;
            Box::leak(Box::default())
        };
        this.init().expect("pages for the root");
        this
    }

    /// The books do not add up: noted, and asked about by the engine, which stops accounting.
    #[cold]
    pub(crate) fn report_broken(&self) {
        self.broken.store(1, Ordering::Relaxed);
    }

    /// Recounts there have been: what was counted before one and is in no owner's word is not
    /// counted any more.
    pub(crate) fn nr_recounts(&self) -> u32 {
        self.recounts.load(Ordering::Relaxed)
    }

    /// Whether an inconsistency has been met.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed) != 0
    }

    /// Things that wait for an epoch (groups, cells, owners, names).
    pub fn limbo_len(&self) -> u32 {
        self.limbo.waiting()
    }

    /// Frees every lock and ends every drain, in the child of a fork: their holders are not here.
    pub fn reset_locks_in_child(&self, sole: SoleThread) {
        self.index.reset_locks_in_child(sole);
        self.limbo.reset_lock_in_child(sole);
        for (_, group) in self.memcgs.each() {
            group.lock.reset_in_child(sole);
            group.draining.store(0, Ordering::Relaxed);
        }
        self.forget_wishes_in_child();
        for (_, counts) in self.event_counts.each() {
            counts.reset_in_child();
        }
        for (_, objcg) in self.objcgs.each() {
            objcg.lock.reset_in_child(sole);
        }
        self.reset_page_locks_in_child(sole);
    }
}
