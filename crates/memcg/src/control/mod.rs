//! The socket by which other programs look at this process and change it, and the snapshot they
//! get. The protocol is in docs/internals/protocol.md.
//!
//! Invariants: there is one helper thread, with all signals blocked and a small stack. Its
//! descriptors are high, close-on-exec, and checked before each use. Lines, connections and waits
//! are bounded: no client can stop the process or another client.
//! Depends on: `files`.
//! Never: does anything for another user; accounts what it allocates.

mod connection;
mod descriptor;
mod ending;
mod escape;
pub mod for_programs;
mod held;
mod place;
mod request_line;
mod server;
mod snapshot;

pub use ending::end;
pub use server::{after_fork, serve_in_thread, stop};
pub use snapshot::report;

#[cfg(test)]
mod tests;
