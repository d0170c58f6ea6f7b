//! What the engine says about its groups at one moment.
//!
//! [`groups`] has the values, [`mod@parse`] reads them from the text that the control socket and
//! the report file share, [`table`] shows them to people, [`json`] to programs, [`tree`] puts the
//! groups in order, [`rates`] compares two snapshots, [`uncovered`] says what no group holds.

#![forbid(unsafe_code)]

mod groups;
mod json;
mod parse;
pub mod rates;
pub mod table;
pub mod tree;
pub mod uncovered;

pub use groups::{Group, LOW_COVERAGE, Snapshot};
pub use parse::parse;
