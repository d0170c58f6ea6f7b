//! What the engine keeps per thread: a record in an arena, found through one word of thread-local
//! storage.
//!
//! Invariants: a thread's record is its own until the thread leaves. Another thread may read it at
//! any time, and may take its stock under the drain protocol (`group::drain`). A thread without a
//! record (very early, very late) borrows one for the length of an operation.
//! Depends on: `os` for the asymmetric fence, `sync` for arenas.
//! Never: anything about groups. A tag is an index of a table that this room never sees.

pub mod epoch;
pub mod fork_word;
pub mod hint;
pub mod id;
pub mod owed;
pub mod record;
pub mod registry;
pub mod slot;
pub mod tag;
#[cfg(not(loom))]
pub mod tls;

pub use record::{NOWHERE, SLOTS, SlotsGuard, ThreadRec, UNTRACKED};
pub use registry::Threads;
pub use tag::Tag;
