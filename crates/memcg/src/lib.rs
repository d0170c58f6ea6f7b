//! Memory control groups for the tenants inside one process.
//!
//! [`root`] is the process's tree of groups. [`Alloc`] makes every allocation of a program belong to a group;
//! [`Accounted`] does so over another allocator. [`Memcg::enter`], [`Memcg::run`] and [`in_group`] say who works;
//! [`Task`] is what moves as a whole; [`Charge`] counts what is not the heap's.

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
#[cfg(not(loom))]
pub(crate) mod files;
pub(crate) mod group;
#[doc(hidden)]
#[cfg(not(loom))]
pub mod internal;
pub(crate) mod kmem;
pub(crate) mod offline;
pub(crate) mod os;
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
pub use files::FileError;
pub use group::{Event, MovePolicy, OfflinePolicy, stat::Usage};
#[cfg(not(loom))]
pub use os::errno::Errno;
pub use units::Limit;

/// The README's code is a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
