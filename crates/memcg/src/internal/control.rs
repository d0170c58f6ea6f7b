//! The control socket of the process.
//!
//! Invariants: one socket a process, of the process that made it.
//! Depends on: `control`.
//! Never: opens a socket that nobody asked for.

use crate::control;
use crate::engine::process_engine::with_rec;
use std::io;

/// Serves the process's engine on its socket, in a thread of its own. Nothing after [`end`].
///
/// # Errors
/// Where there is no folder for the socket, or no thread.
pub fn serve() -> io::Result<()> {
    control::serve_in_thread()
}

/// Ends the thread and its socket, and waits for that 200 ms at most. `false`: this process has
/// none.
pub fn stop() -> bool {
    control::stop()
}

/// In the child of a fork: closes the copies of the parent's descriptors and forgets where its
/// socket is.
///
/// # Safety
/// The process is the child of a fork, has no thread but this one, and has not served a socket of
/// its own.
pub unsafe fn after_fork() {
    control::after_fork();
}

/// The process ends: removes its socket's name, and no other is made. Waits up to 100 ms for a
/// thread that is making it; may be called in a signal handler. Nothing in a process that never had
/// one, nor in the child of a vfork.
pub fn end() {
    control::end();
}

/// The table of all groups for the end of the process. `None` without memory for the thread's
/// record. O(groups × threads + owners); where the engine is strict, O(objects).
#[must_use]
pub fn report() -> Option<String> {
    with_rec(control::report)
}
