//! The socket for programs that link the crate: one call makes them visible.
//!
//! Invariants: one helper a process, however often and from wherever it is asked for.
//! Depends on: `server`, `ending`.
//! Never: serves a process that has not asked for it. The child of a fork asks for itself.

use super::server;
use crate::os::ids;
use crate::sync::atomic::{AtomicU32, Ordering};
use std::io;

/// The process that asked, by its id. 0: none has.
static SERVED: AtomicU32 = AtomicU32::new(0);

/// Lets `memcg top`, `memcg get`, `memcg set` and the other commands look at this process and
/// change its groups: serves it on a Unix socket of this user's, in a thread of the engine's.
///
/// One line in `main` is all that a service needs:
///
/// ```no_run
/// memcg::serve_in_thread().expect("a folder for the socket");
/// // From here on: memcg ps; memcg top PID
/// ```
///
/// The socket is `$MEMCG_DIR/PID.sock`, else `$XDG_RUNTIME_DIR/memcg/PID.sock`, else
/// `/tmp/memcg-UID/PID.sock`. Only this user and root can use it. The thread blocks all signals,
/// has a stack of 256 KiB, and does not keep the process alive; what it allocates is accounted to
/// nobody. The socket's name goes at the process's exit. A further call does nothing. After a fork
/// the child is not served until it calls this itself.
///
/// # Errors
/// When there is no folder for the socket that is this user's alone, or no thread.
pub fn serve_in_thread() -> io::Result<()> {
    let own = ids::pid();
    let before = SERVED.swap(own, Ordering::Relaxed);
    if before == own {
        return Ok(());
    }
    if before != 0 {
        // In the child of a fork: what is served is the parent.
        server::after_fork();
    } else {
        // SAFETY: the function takes no argument, does not unwind, and stays for ever. A child
        // inherits it: it takes away the name of the caller's own socket only.
        unsafe { libc::atexit(at_exit) };
    }
    server::serve_in_thread().inspect_err(|_| {
        // The next call tries again.
        let _ = SERVED.compare_exchange(own, 0, Ordering::Relaxed, Ordering::Relaxed);
    })
}

pub(super) extern "C" fn at_exit() {
    // Not only the name goes: a thread that makes the socket just now, or would make it anew, must
    // not leave it behind.
    super::end();
}
