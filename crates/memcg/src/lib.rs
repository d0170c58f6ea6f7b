//! Memory control groups for the tenants inside one process.

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
pub mod offline;
pub mod os;
pub mod sync;
pub mod thread;
pub mod units;

#[cfg(not(loom))]
pub use api::*;
pub use group::{Event, stat::Usage};
pub use units::Limit;
