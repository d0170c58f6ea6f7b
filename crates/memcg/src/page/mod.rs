//! Memory by the page: regions, whose pages an owner is charged for while they have content.
//!
//! docs/internals/pages.md tells how the parts work together.
//!
//! Invariants: a page is charged to one owner while it is in a frame or compressed. Each change of
//! its state is one compare and swap of its word; who wins it moves the charge.
//! Depends on: `group` for owners; `kmem` for nothing but the order of rooms.
//! Never: a charge, a wait for one, or code of the program (`engine` and `api` do that); a
//! collection that allocates.

pub mod chunk;
pub mod cost_balance;
pub mod fifo;
pub mod file;
pub mod id;
pub mod owner_heap;
pub mod s3fifo;
pub mod swap;
pub mod workingset;
pub mod zswap;

pub use id::{FrameId, LEAF, LeafId, PAGE, PageId, SlotId, SwapDeviceId, ZswapId};
