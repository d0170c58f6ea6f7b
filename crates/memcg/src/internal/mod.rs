//! What the preload library and the benchmarks need beside the API. There is no promise that any of
//! it stays.
//!
//! Invariants: a safe function here is sound whatever it is called with, at any time, on any
//! thread. It does not crash, and leaves nothing of the engine waiting for ever. A function that
//! asks more of its caller is `unsafe` and says what.
//! Depends on: all rooms before it.
//! Never: shows a type of the engine's. Callers get numbers, texts and handles whose fields are
//! private.

pub mod bench;
pub mod control;
pub mod files;
pub mod malloc;
pub mod mapped;
pub mod os;
pub mod process;
pub mod thread;
