//! The text of a scenario: words, counters, and what words can be.
//!
//! Invariants: whatever is wrong has a column and says what was expected.
//! Depends on: the engine's grammar of sizes and its table of files.
//! Never: knows which commands there are, or calls the engine to change something.
//!
//! The files, each using those above it: `word`, `counter`, `line`, `number`, `reference`.

#![forbid(unsafe_code)]

pub mod counter;
pub mod line;
pub mod number;
pub mod reference;
pub mod word;
