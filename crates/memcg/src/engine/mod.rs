//! The engine: one hierarchy, the loop around a charge, the threads of this process, and the one
//! static.
//!
//! Invariants: a charge ends in one of three ways. It is made within every limit; or made beyond
//! one, because it was forced or may go into debt; or refused, with nothing changed. A thread's
//! record is found or made wherever it is needed, at any time in the thread's life.
//! Depends on: all rooms before it, from `units` to `attach`.
//! Never: shows anything to a program (`api` does); makes text (`files` does).

pub mod adopt;
pub mod beside_exec;
pub mod budget;
#[cfg(feature = "c-malloc")]
pub mod c_heap;
pub mod cached_objects;
pub mod charge_loop;
pub mod configuration;
mod end_process;
pub mod flags;
pub mod fork;
pub mod group_end;
pub mod group_limits;
pub mod heap_charge;
pub mod held_back;
pub mod ids;
pub mod kmalloc;
pub mod line;
mod line_text;
pub mod lists;
mod observe;
pub mod offline_policy;
mod oom_choice;
pub mod oom_kill;
pub mod owner;
pub mod pages;
pub mod process_engine;
pub mod progress;
pub mod recharge_object;
pub mod reclaim;
pub mod request;
pub mod thread_end;
pub mod throttle;
pub mod told;
pub mod worker;

pub use charge_loop::ChargeError;
pub use flags::Flags;
pub use process_engine::{engine, try_engine};
pub use request::Request;
pub use worker::{By, Work};

use crate::group::Hierarchy;
use crate::kmem::Kmem;
use crate::page::Pages;
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::lock::Lock;
use configuration::Options;

/// One engine. The process has [`engine`]; tests make their own with `Engine::leaked`.
#[derive(Default)]
pub struct Engine {
    /// Its groups.
    pub tree: Hierarchy,
    /// Its slabs.
    pub kmem: Kmem,
    /// Its pages.
    pub pages: Pages,
    /// The options it was given.
    pub options: Options,
    /// What the process may have.
    pub budget: budget::Budget,
    /// 0: accounting is on; 1: it was switched off; 2: the books did not add up.
    off: AtomicU32,
    /// Changes to the tree that are under way and are not marked in a thread's record; a fork waits
    /// for them.
    changing: AtomicU32,
    /// Forks that have begun in this process and not ended; a change waits for them.
    forking: AtomicU32,
    started_ns: AtomicU64,
    /// What reclaim remembers.
    reclaims: reclaim::State,
    /// When the worker's last round of the reaper was.
    reaped_ns: AtomicU64,
    /// What waits to be done.
    deferred: worker::queue::Queue,
    /// Groups of which there is news for those who wait for some.
    told: crate::sync::stack::Stack,
    /// Accounting in the process is on because somebody put an allocator of ours in.
    installed: AtomicU32,
    /// Guards the words of `memory.kmem.caches`.
    filters_lock: Lock,
}

// SAFETY: every field is an atomic integer or a type that is `Zeroed` itself, so zero bytes are a
// valid value, and the one that the derived `Default` gives.
unsafe impl Zeroed for Engine {}

/// Why there is no accounting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accounting {
    /// There is accounting.
    On,
    /// Accounting was switched off.
    Off,
    /// The books did not add up, and it switched itself off.
    Broken,
}

impl Engine {
    pub(crate) fn init(&self) -> Option<()> {
        self.tree.init()?;
        self.kmem.init()?;
        self.started_ns
            .store(crate::os::clock::monotonic_ns(), Ordering::Relaxed);
        Some(())
    }

    /// An engine of its own, never freed.
    ///
    /// # Panics
    /// Without memory.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn leaked() -> &'static Self {
        let bytes = core::mem::size_of::<Self>();
        let p = crate::os::mmap::map(bytes).expect("pages for an engine");
        // SAFETY: zeroed pages, never unmapped, page aligned; Zeroed says zero bytes are a value.
        let this: &'static Self = unsafe { p.cast::<Self>().as_ref() };
        this.init().expect("pages for the root");
        this
    }

    /// Whether charges are counted.
    pub fn accounting(&self) -> Accounting {
        match self.off.load(Ordering::Relaxed) {
            0 => Accounting::On,
            1 => Accounting::Off,
            _ => Accounting::Broken,
        }
    }

    /// Stops accounting: from now on charges are not made and uncharges not taken.
    pub fn switch_off(&self) {
        self.off.store(1, Ordering::Relaxed);
    }

    /// Since the engine began, ns.
    pub fn uptime_ns(&self) -> u64 {
        crate::os::clock::monotonic_ns().saturating_sub(self.started_ns.load(Ordering::Relaxed))
    }

    /// Whether this is the process's engine.
    pub fn is_process_s(&self) -> bool {
        process_engine::is_ours(self)
    }

    /// Whether an allocator of ours serves this process.
    pub fn is_installed(&self) -> bool {
        self.installed.load(Ordering::Relaxed) != 0
    }

    /// Notes that an allocator of ours serves this process.
    pub fn set_installed(&self) {
        if !self.is_installed() {
            self.installed.store(1, Ordering::Relaxed);
        }
    }

    /// An inconsistency was found: says so in one line and stops accounting; aborts where the
    /// engine is strict.
    #[cold]
    pub(crate) fn on_broken(&self) {
        if self.off.swap(2, Ordering::Relaxed) != 0 {
            return;
        }
        crate::os::say::line(&[
            b"memcg: the books do not add up (a free without its allocation, or memory overwritten): ",
            b"accounting is off from here on, the program goes on",
        ]);
        if self.options.strict() {
            crate::os::say::abort();
        }
    }
}

/// What the first use of the process's engine sets up beside it.
fn at_start() {
    thread_end::make_exit_key();
    fork::install();
    beside_exec::look();
}

/// This process may be a fork's child that nobody has told, or deferred work may be due.
#[cold]
fn settle_fork() {
    fork::inspect();
}
