//! The verbs of the language, each with what it reads and what it does, and their table.
//!
//! A file here has, for each of its verbs, the values that a line says, a function that reads them
//! and a function that runs them. Only `table` knows them all.
//!
//! Invariants: a verb is one row of the table.
//! Depends on: `text`, `world`, `actor`, `expect`, `snapshot`.
//! Never: a verb's file uses the table.

#![forbid(unsafe_code)]

mod caches;
mod failing;
mod files;
mod groups;
mod holders;
mod objects;
pub mod options;
mod pages;
mod subsystems;
pub mod table;
mod tags;
mod tasks;
mod walks;
mod within;
