//! Expectations: figures and values that must compare, and short forms as `gone` and `killed`.
//!
//! Invariants: an expectation is read whole before the scenario runs.
//! Depends on: `text`, `world`, `actor`.
//! Never: changes anything.
//!
//! The files, each using those above it: `comparison`, `figures`, `terms`, `parse`, `check`.

#![forbid(unsafe_code)]

pub mod check;
pub mod comparison;
pub mod figures;
pub mod parse;
pub mod terms;
