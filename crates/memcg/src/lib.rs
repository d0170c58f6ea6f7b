//! Memory control groups for the tenants inside one process.
//!
//! [`root`] is the process's tree of groups. [`Alloc`] makes every allocation of a program belong
//! to a group; [`Accounted`] does so over another allocator. [`Memcg::enter`], [`Memcg::run`],
//! [`Memcg::scope`] and [`in_group`] say who works, [`current_group`] asks; [`Task`] is what moves
//! as a whole; [`Charge`] and [`Pool`] count what is not the heap's. At a limit Rust's own
//! allocator cannot say no: [`fallible`](fn@fallible) and [`Fallible`] can, and
//! [`Memcg::try_reserve`] at the door.
//!
//! With one more line, `memcg top` shows the tenants of any Rust service, and `memcg set` changes
//! their limits while it runs:
//!
//! ```no_run
//! #[global_allocator]
//! static ALLOCATOR: memcg::Alloc = memcg::Alloc;
//!
//! fn main() -> std::io::Result<()> {
//!     memcg::serve_in_thread()?; // then: memcg ps; memcg top PID
//!     // …
//!     Ok(())
//! }
//! ```
//!
//! Invariants: what is accounted is charged to one group, and to all groups above it, until it is
//! freed or given to another. What a removed group still holds is its parent's.
//! Depends on: Linux and its C library.
//! Never: opens a socket, unless the program asks for one ([`serve_in_thread`]).

// Under loom only the lower rooms are built, and what they have for the others is used by nobody.
#![cfg_attr(loom, allow(dead_code))]
// What the face names, a user can name.
#![cfg_attr(not(any(loom, test, feature = "testing")), warn(unnameable_types))]

#[cfg(not(loom))]
pub(crate) mod api;
pub(crate) mod attach;
#[cfg(not(loom))]
pub(crate) mod control;
pub(crate) mod counter;
#[cfg(not(loom))]
pub(crate) mod engine;
/// The engine is not built under loom; its queue of deferred work is.
#[cfg(all(test, loom))]
mod engine {
    mod loom;
    #[path = "worker/queue.rs"]
    mod queue;
}
#[cfg(not(loom))]
pub(crate) mod files;
pub(crate) mod group;
#[doc(hidden)]
#[cfg(not(loom))]
pub mod internal;
pub(crate) mod kmem;
pub(crate) mod offline;
pub(crate) mod os;
pub(crate) mod page;
#[cfg(test)]
mod proof;
pub(crate) mod reclaim;
pub(crate) mod sync;
#[doc(hidden)]
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub(crate) mod thread;
pub(crate) mod units;

#[cfg(not(loom))]
pub use api::*;
pub use attach::Moved;
#[cfg(not(loom))]
pub use control::for_programs::serve_in_thread;
#[cfg(not(loom))]
pub use files::FileError;
pub use group::{Event, MovePolicy, OfflinePolicy, OomPolicy, usage::Usage};
#[cfg(not(loom))]
pub use os::errno::Errno;
pub use units::Limit;

/// The README's code is a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The tour's code is a test, too.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/tour.md")]
struct Tour;

/// The rooms are closed. That each path is one, a test sees by the module of the tests:
///
/// ```
/// use memcg::testing::units::Limit;
/// use memcg::testing::os::errno::Errno;
/// use memcg::testing::sync::lock::Lock;
/// use memcg::testing::thread::ThreadRec;
/// use memcg::testing::counter::PageCounter;
/// use memcg::testing::group::Hierarchy;
/// use memcg::testing::kmem::Kmem;
/// use memcg::testing::page::id::PageId;
/// use memcg::testing::reclaim::share;
/// use memcg::testing::offline::remove;
/// use memcg::testing::attach::Attach;
/// use memcg::testing::engine::Engine;
/// use memcg::testing::api::root;
/// use memcg::testing::files::FILES;
/// use memcg::testing::control::end;
/// ```
///
/// and without it none is reached:
///
/// ```compile_fail,E0603
/// use memcg::units::Limit;
/// ```
///
/// ```compile_fail,E0603
/// use memcg::os::errno::Errno;
/// ```
///
/// ```compile_fail,E0603
/// use memcg::sync::lock::Lock;
/// ```
///
/// ```compile_fail,E0603
/// use memcg::thread::ThreadRec;
/// ```
///
/// ```compile_fail,E0603
/// use memcg::counter::PageCounter;
/// ```
///
/// ```compile_fail,E0603
/// use memcg::group::Hierarchy;
/// ```
///
/// ```compile_fail,E0603
/// use memcg::kmem::Kmem;
/// ```
///
/// ```compile_fail,E0603
/// use memcg::page::id::PageId;
/// ```
///
/// ```compile_fail,E0603
/// use memcg::reclaim::share;
/// ```
///
/// ```compile_fail,E0603
/// use memcg::offline::remove;
/// ```
///
/// ```compile_fail,E0603
/// use memcg::attach::Attach;
/// ```
///
/// ```compile_fail,E0603
/// use memcg::engine::Engine;
/// ```
///
/// ```compile_fail,E0603
/// use memcg::api::root;
/// ```
///
/// ```compile_fail,E0603
/// use memcg::files::FILES;
/// ```
///
/// ```compile_fail,E0603
/// use memcg::control::end;
/// ```
#[cfg(doctest)]
struct ClosedRooms;
