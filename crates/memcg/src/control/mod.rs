//! The socket by which other programs look at this process and change it, and the snapshot they
//! get.
//!
//! Kept: one helper thread, all signals blocked, a small stack, its descriptors high, close-on-exec
//! and looked at again before each use; bounded lines, connections and waiting; no client can stop
//! the process or another client.
//! Relied on: `files`.
//! Never done: anything for another user; accounting of what it allocates.
//! The protocol is in docs/internals/protocol.md.

mod connection;
mod descriptor;
mod escape;
mod held;
mod place;
mod request_line;
mod server;
mod snapshot;

pub use place::unlink;
pub use server::{after_fork, serve_in_thread, stop};
pub use snapshot::report;

#[cfg(test)]
mod tests;
