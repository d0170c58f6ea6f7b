//! The simulator: histories made of a seed, taken by threads that are all one, and an auditor with
//! books of its own.
//!
//! A history is steps over groups, tasks, scopes, objects of the heap and of caches, a list with
//! its shrinker, shrinkers that lie and meddle, reservations and those who wait for room, limits
//! and what is done at them, what children begin with, kills, moves, new owners, ends of groups and
//! of threads, forks, with calls for memory that fail on purpose. Nothing in it depends on the
//! machine's time or on another thread, so it is the same on every run, and one that fails can be
//! made short (`shrink`). docs/internals/sim.md has all of it.
//! After every few steps the auditor holds the engine against the books, in which every thing is
//! noted with its owner and from which every sum is made anew (`books`, `audit`); in the end
//! everything is freed, and nothing is left (`end`).
//!
//! The steps of histories that failed once are in `kept.txt`, and every run begins with them.
//! `cargo xtask sim` runs histories of ever new seeds: `main.rs`. The idea is TigerBeetle's.
//!
//! Invariants: a history and a planted fault always have the same outcome.
//! Depends on: the engine's rooms, through `memcg::testing`.
//! Never: time of the machine, or another thread, in what a history does.

mod adoptions;
mod asked;
mod audit;
mod books;
mod end;
mod filters;
mod generation;
mod groups;
mod holders;
mod kills;
mod limits;
mod lines;
mod outcome;
mod pools;
mod recharges;
mod rules;
mod shrink;
mod stage;
mod standing;
mod step;
mod tasks;
mod templates;
#[cfg(test)]
mod tests;
mod things;
mod told;
mod waits;
mod world;

pub use outcome::{run_kept, run_seed, run_text, shorten, steps_of};
