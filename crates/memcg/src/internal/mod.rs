//! What the preload library and the benchmarks need beside the API. There is no promise that any of
//! it stays.
//!
//! Invariants: a safe function here is sound whatever it is called with, at any time, on any
//! thread: it crashes nothing, and nothing of the engine's waits for ever. What asks more of its
//! caller is `unsafe` and says what.
//! Depends on: all rooms below.
//! Never: a type of the engine's. Callers get numbers, texts and handles whose fields are private.

pub mod bench;
pub mod control;
pub mod files;
pub mod malloc;
pub mod mapped;
pub mod os;
pub mod process;
pub mod thread;
