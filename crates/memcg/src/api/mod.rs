//! The Rust face: groups, scopes, tasks, futures, reservations, allocators, caches, lists.
//!
//! Invariants: whatever a program takes is a value that gives itself back when it is dropped, by a
//! panic too. What these functions allocate for themselves is accounted to nobody. A panic in code
//! of the program (a shrinker, a subsystem, a waker) does not unwind through the engine.
//! Depends on: `engine` and the rooms below it.
//! Never: calls code of the program under a lock of ours.

mod accounted;
mod adopt;
mod alarm;
mod alloc;
mod bells;
#[cfg(feature = "c-malloc")]
mod c_malloc;
mod cache;
mod cache_error;
mod cache_registration;
mod charge;
mod charge_to;
mod child_defaults;
mod contained;
mod current_group;
mod emptied;
mod error;
mod events;
pub mod fallible;
mod fallible_alloc;
mod future;
mod group_path;
mod holders;
mod in_place;
pub(crate) mod kill;
mod kill_wakers;
mod killed;
mod level_watch;
mod line;
mod line_table;
mod list_lru;
mod map;
mod mapping;
mod memcg;
mod memcg_tree;
pub(crate) mod moving;
mod news;
mod options;
mod page_async;
mod page_cache;
mod page_error;
mod page_fetch;
mod page_guard;
mod page_view;
mod page_waits;
mod pause;
mod paying;
mod peak_watch;
pub(crate) mod pinned;
mod pool;
mod process_table;
mod recharge;
mod region;
mod reserve;
mod room;
mod scope;
mod scoped;
mod settings;
mod shrinker;
mod subsystem;
mod swap;
mod task;
#[cfg(any(test, feature = "testing"))]
mod touch_as;
mod wait_error;
mod wakers;
mod warm_up;

pub use self::memcg::{Memcg, root};
pub use crate::engine::Flags;
pub use accounted::{Accounted, Glibc, Sixteens, SizeClasses};
pub use adopt::Adoptable;
pub use alloc::Alloc;
pub use cache::{
    CacheLayout, CacheOptions, Constructor, KBox, KBytes, KmemCache, SizedCache, SlabKind,
    set_cache_tracking,
};
pub use cache_error::{AllocError, CacheError};
pub use cache_registration::{AnyCache, register_memcg_cache};
pub use charge::{Charge, try_reserve};
pub use charge_to::charge_to;
pub use child_defaults::ChildDefaults;
pub use current_group::current_group;
pub use emptied::Emptied;
pub use error::{
    CreateError, LimitError, MergeError, MoveError, RemoveError, ReserveError, TaskError,
};
pub use events::{EventChanges, Events};
pub use fallible::fallible;
pub use fallible_alloc::Fallible;
pub use future::{InGroup, in_group};
pub use group_path::GroupPath;
pub use holders::{Holder, Sharable, Shared};
pub use killed::{OomKilled, checkpoint};
pub use level_watch::Watch;
pub use list_lru::{ListLru, LruItem, LruRef, Verdict, Walked};
pub use map::map_anon;
pub use mapping::Mapping;
pub use memcg_tree::RemoveTreeError;
pub use options::{
    GroupEnd, IdError, IdPolicy, IdStat, Reaped, TableStat, TooLate, id_stat, reap, set_group_end,
    set_id_policy, set_kmem_id_max, set_reap_interval,
};
pub use page_async::{PinAsync, PinMutAsync};
pub use page_cache::{OpenError, PageCache, set_dirty_expire};
pub use page_error::PageError;
pub use page_guard::{PageMut, PageRef};
pub use page_view::{PageView, Plain};
pub use pause::{Pause, Unthrottled, owed, pause, unthrottled};
pub use peak_watch::PeakWatch;
pub use pool::Pool;
pub use region::{PAGE_SIZE, Region, RegionKind};
pub use reserve::Reserve;
pub use scope::{Entered, no_account, run_deferred, safe_point};
pub use scoped::{Killable, Scoped};
pub use shrinker::{Registration, Scope, Shrinker, register_shrinker};
pub use subsystem::{Attaching, Subsystem, SubsystemRegistration, register_subsystem};
pub use swap::{SwapOnError, swap_on, zswap_on};
pub use task::Task;
pub use wait_error::WaitError;
pub use warm_up::warm_up;

/// Whether this process's heap is accounted: an [`Alloc`] or [`Accounted`] has served an
/// allocation, or the program runs under `memcg exec`.
///
/// Under `memcg exec` a program that links this crate has two engines, which know nothing of each
/// other. The engine of `memcg exec` has the threads as tasks, its own groups, and the socket that
/// `memcg top` looks at; it counts C's malloc, and Rust's heap if the program has no [`Alloc`] or
/// [`Accounted`]. The groups that the program makes are those of this crate's engine. One line on
/// stderr says so when this engine starts, and it does not serve a socket. Cost: a load or two; a
/// call under `memcg exec`.
#[must_use]
pub fn is_installed() -> bool {
    crate::engine::try_engine().is_some_and(crate::engine::Engine::is_installed)
        || crate::engine::beside_exec::is_counted_by_exec()
}
