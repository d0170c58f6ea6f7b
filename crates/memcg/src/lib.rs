//! Memory control groups for the tenants inside one process.
//!
//! [`root`] is the process's tree of groups. [`Alloc`] makes every allocation of a program belong to a group;
//! [`Accounted`] does so over another allocator. [`Memcg::enter`], [`Memcg::run`] and [`in_group`] say who works;
//! [`Task`] is what moves as a whole; [`Charge`] counts what is not the heap's.
//!
//! The modules are the rooms of docs/ARCHITECTURE.md, lowest first: `units`, `os`, `sync`, `thread`, `counter`, `group`,
//! `offline` and `attach`, `engine`, `api`, `files`, `control`. Most programs need only what is re-exported here.

// Under loom only the lower rooms are built, and what they have for the others is used by nobody.
#![cfg_attr(loom, allow(dead_code))]

#[cfg(not(loom))]
pub mod api;
pub mod attach;
#[cfg(not(loom))]
pub mod control;
pub mod counter;
#[cfg(not(loom))]
pub mod engine;
#[cfg(not(loom))]
pub mod files;
pub mod group;
#[doc(hidden)]
#[cfg(not(loom))]
pub mod internal;
pub mod kmem;
pub mod offline;
pub mod os;
#[cfg(test)]
mod proof;
pub mod reclaim;
pub mod sync;
#[doc(hidden)]
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod thread;
pub mod units;

#[cfg(not(loom))]
pub use api::*;
pub use attach::Moved;
pub use group::{Event, MovePolicy, OfflinePolicy, stat::Usage};
pub use units::Limit;

/// The README's code is a test.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
