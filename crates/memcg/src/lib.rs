//! Memory control groups for the tenants inside one process.

pub mod attach;
pub mod counter;
#[cfg(not(loom))]
pub mod engine;
pub mod group;
pub mod offline;
pub mod os;
pub mod sync;
pub mod thread;
pub mod units;
