//! Hierarchical counting: one level, the walk over levels, and the pure arithmetic around them.
//!
//! Invariants: a level's usage = its own charges + Σ over its children of max(usage, reserve), once
//! nothing is in flight. A level is above its max only by charges that were allowed to be (debt,
//! force), by a limit lowered under it, or, where reserves meet refusals, by the little that
//! `charge_path` explains.
//! Depends on: `sync`. A level knows its parent and nothing else about groups.
//! Never: a wait, reclaim, policy. Who was full is reported; the caller decides.

pub mod charge_path;
pub mod page_counter;
pub mod pressure_average;
pub mod protection;
pub mod throttle_curve;

#[cfg(all(test, not(loom)))]
mod tests;

pub use charge_path::{Level, Refused, grant, set_reserve, try_charge, uncharge, ungrant};
pub use page_counter::{Over, PageCounter};
