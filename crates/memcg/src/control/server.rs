//! The helper thread: accepts, polls, serves.
//!
//! It does not outlive the program's own threads. Where the engine knows them all (under the
//! preload library), the last of them stops the helper and waits until it is gone. So the C library
//! sees the program's last thread leave, and ends the process there and then. Elsewhere the helper
//! finds out by itself, seconds later. So it does where the program has closed the listener's
//! descriptor, by which the helper is woken.
//!
//! Invariants: there is one helper in a process at most, of that process.
//! Depends on: `connection`, `descriptor`, `place`, `request_line`; the engine, for which it does
//! deferred work.
//! Never: unwinds for a mistake in a request; accounts what it allocates.

use super::connection::Connection;
use super::descriptor::{self, CONNECTIONS, Kept};
use super::ending::{self, Making};
use super::place::{self, remove_socket, socket_path};
use super::request_line::{protocol_error, serve};
use crate::api::no_account;
use crate::engine::{By, beside_exec, kmalloc, process_engine, worker};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

const STACK: usize = 256 << 10;
/// A listener that the program closed is missed after this long at most; with clients, and without.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const LOOK_AGAIN_IDLE: Duration = Duration::from_secs(5);
/// Nobody is accepted for this long after an accept that failed, for want of descriptors, say.
const REST: Duration = Duration::from_millis(100);
/// There is no other try to bind for this long after one that failed.
const REST_UNBOUND: Duration = Duration::from_secs(1);

/// How long the program's last thread waits for the helper to leave.
const GOODBYE_NS: libc::c_long = 200_000_000;

/// The helper's thread, by the C library's handle. 0: there is none, or it is being stopped.
static HELPER: AtomicU64 = AtomicU64::new(0);
/// The process whose thread the helper is. A fork's child that has not noticed that it is one must
/// not touch the socket, which is the parent's.
static HELPER_OF: AtomicU32 = AtomicU32::new(0);
/// 1: the helper is to leave.
static IS_TO_STOP: AtomicU32 = AtomicU32::new(0);

/// Starts serving this process's engine on its socket, in a thread of its own. Nothing in a process
/// that ends; nor under `memcg exec`, whose engine has that socket, as a line at this engine's
/// start has said.
///
/// # Errors
/// When there is no folder for the socket, or no thread.
pub fn serve_in_thread() -> io::Result<()> {
    if beside_exec::is_beside_exec() {
        return Ok(());
    }
    let _free = no_account();
    let Some(making) = Making::begin() else {
        return Ok(());
    };
    let listener = bind(&making)?;
    IS_TO_STOP.store(0, Ordering::Relaxed);
    spawn(listener)
}

/// Starts the helper without the standard library's thread, which would allocate in it before we
/// can say whose it is.
fn spawn(listener: Kept<UnixListener>) -> io::Result<()> {
    let given = Box::into_raw(Box::new(listener));
    // SAFETY: `start` makes the box that `given` came from again, once, and is called once. What it
    // holds, a listener, may be used on another thread.
    let thread = match unsafe { crate::os::spawn::spawn(STACK, start, given.cast()) } {
        Ok(thread) => thread,
        Err(error) => {
            // SAFETY: `given` came from a box above, and no thread was made, so nobody else has it.
            drop(unsafe { Box::from_raw(given) });
            return Err(io::Error::from_raw_os_error(error));
        }
    };
    HELPER_OF.store(crate::os::ids::pid(), Ordering::Relaxed);
    HELPER.store(thread as u64, Ordering::Relaxed);
    Ok(())
}

/// Ends the helper, and its socket, and waits for that a moment. `false` when there is none in this
/// process.
pub fn stop() -> bool {
    let helper = HELPER.swap(0, Ordering::Relaxed);
    if helper == 0 || HELPER_OF.load(Ordering::Relaxed) != crate::os::ids::pid() {
        return false;
    }
    let _free = no_account();
    // Release pairs with the Acquire load of IS_TO_STOP in `run`.
    IS_TO_STOP.store(1, Ordering::Release);
    descriptor::shut_listener();
    let mut until = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `until` is a place of this frame. `spawn` made the thread joinable, and the swap of
    // HELPER gave its handle to this call alone, which joins the thread or detaches it, and does
    // not use the handle after that.
    unsafe {
        libc::clock_gettime(libc::CLOCK_REALTIME, &mut until);
        until.tv_nsec += GOODBYE_NS;
        if until.tv_nsec >= 1_000_000_000 {
            until.tv_nsec -= 1_000_000_000;
            until.tv_sec += 1;
        }
        let helper = helper as libc::pthread_t;
        if pthread_timedjoin_np(helper, core::ptr::null_mut(), &until) != 0 {
            libc::pthread_detach(helper);
        }
    }
    true
}

// SAFETY: this is the C library's declaration of the function: a thread's handle, a place for its
// answer or null, and a time; an int as the answer.
unsafe extern "C" {
    /// The C library's; the libc crate does not have it.
    fn pthread_timedjoin_np(
        thread: libc::pthread_t,
        value: *mut *mut core::ffi::c_void,
        until: *const libc::timespec,
    ) -> libc::c_int;
}

/// The helper's thread.
extern "C" fn start(given: *mut core::ffi::c_void) -> *mut core::ffi::c_void {
    process_engine::become_own_thread();
    // SAFETY: `spawn` made `given` from a box of this type, gave it to this call alone, and does
    // not use it any more.
    let listener = unsafe { Box::from_raw(given.cast::<Kept<UnixListener>>()) };
    run(*listener);
    core::ptr::null_mut()
}

fn bind(_making: &Making) -> io::Result<Kept<UnixListener>> {
    let path = socket_path()?;
    // A socket of that name is of a process that had our pid and is gone, or was ours.
    remove_socket(&path);
    // First: a signal handler of this thread may end the process when the socket is there.
    place::publish(path.clone());
    let socket = UnixListener::bind(&path)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    socket.set_nonblocking(true)?;
    Kept::new(socket)
}

/// In the child of a fork: the socket is the parent's; closes the copies of its descriptors and of
/// its clients'.
pub fn after_fork() {
    HELPER.store(0, Ordering::Relaxed);
    descriptor::close_copies();
    place::forget();
    ending::forget();
}

fn run(listener: Kept<UnixListener>) {
    let _free = no_account();
    crate::os::ids::set_thread_name(c"memcg-control");
    let mut listener = Some(listener);
    let mut clients: Vec<Connection> = Vec::new();
    // Before this nobody is accepted, and nothing bound.
    let mut rest = Instant::now();
    loop {
        // Programs close descriptors they do not own: then what has this number is not touched, and
        // we start again.
        listener = listener.filter(Kept::is_ours);
        let now = Instant::now();
        if listener.is_none() && rest <= now {
            listener = Making::begin().and_then(|making| bind(&making).ok());
            if listener.is_none() {
                rest = now + REST_UNBOUND;
            }
        }
        wait(listener.as_ref(), rest, &clients);
        // Acquire pairs with the Release store of IS_TO_STOP in `stop`.
        if IS_TO_STOP.load(Ordering::Acquire) != 0 || is_last_thread() {
            // The program's threads have all ended without an exit, or the last is about to. If we
            // are later than it, the C library ends the process with us.
            place::unlink();
            return;
        }
        // An idle program gives no memory back by itself, so the helper does.
        kmalloc::decay();
        process_engine::with_rec(|engine, rec| {
            if engine.kmem.have_caches_ended() {
                engine.tend_caches(rec);
            }
            engine.help(rec, By::All);
        });
        let now = Instant::now();
        if rest <= now
            && let Some(Ok(open)) = listener.as_ref().map(Kept::get)
            && !accept(open, &mut clients)
        {
            rest = now + REST;
        }
        clients.retain_mut(|client| (client.is_ready() || client.deadline() > now) && step(client));
    }
}

/// Whether every other thread of the process has ended. Cheap while any thread that has allocated
/// is left.
fn is_last_thread() -> bool {
    if process_engine::nr_threads() > 0 {
        return false;
    }
    let own = [crate::os::ids::tid(), worker::worker_thread::tid()].map(|tid| tid.to_string());
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return false;
    };
    tasks
        .flatten()
        .filter(|task| {
            let name = task.file_name();
            !own.iter().any(|own| name.to_str() == Some(own))
        })
        .all(|task| {
            // A first thread that ended before the others stays, as a zombie, until the last is
            // gone.
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            let state = stat
                .rsplit_once(") ")
                .and_then(|(_, rest)| rest.chars().next());
            matches!(state, Some('Z' | 'X') | None)
        })
}

/// Accepts the clients that wait, up to CONNECTIONS. `false`: accept failed and would fail again at
/// once.
fn accept(listener: &UnixListener, clients: &mut Vec<Connection>) -> bool {
    for _ in 0..CONNECTIONS {
        match listener.accept() {
            Ok((stream, _)) => clients.extend(admit(stream, clients.len())),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                ) => {}
            Err(_) => return false,
        }
    }
    true
}

/// Lets a client go on by one line; `false`: its connection is over.
fn step(client: &mut Connection) -> bool {
    client.step(&mut |line| {
        // A mistake of ours must not take the program down.
        catch_unwind(AssertUnwindSafe(|| {
            process_engine::with_rec(|engine, rec| serve(engine, rec, line))
        }))
        .ok()
        .flatten()
        .unwrap_or_else(|| protocol_error("the request failed inside the engine"))
    })
}

/// Takes a client in if it is of this user or root, and there is room.
fn admit(stream: UnixStream, others: usize) -> Option<Connection> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: 0,
    };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` is a place of this frame of `size` bytes, and `size` one for their number.
    let known = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            core::ptr::from_mut(&mut peer).cast(),
            &mut size,
        )
    } == 0;
    let allowed = known && (peer.uid == 0 || peer.uid == crate::os::ids::euid());
    if !allowed || others >= CONNECTIONS || stream.set_nonblocking(true).is_err() {
        let text: &[u8] = if allowed {
            b"err EAGAIN too many connections\n"
        } else {
            b"err EACCES another user's\n"
        };
        // One try, without waiting: the socket is closed next.
        let _ = stream
            .set_nonblocking(true)
            .and_then(|()| std::io::Write::write(&mut &stream, text));
        return None;
    }
    Kept::new(stream).ok().map(Connection::new)
}

/// Sleeps until a client wants something or has taken too long, or it is time to look at our
/// descriptors again.
fn wait(listener: Option<&Kept<UnixListener>>, rest: Instant, clients: &[Connection]) {
    let now = Instant::now();
    let pollfd = |fd, events| libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    let open = listener.filter(|_| rest <= now);
    // Poll passes over negative numbers.
    let mut all = vec![pollfd(open.map_or(-1, Kept::fd), libc::POLLIN)];
    all.extend(clients.iter().map(|client| {
        let events = if client.wants_to_write() {
            libc::POLLOUT
        } else {
            libc::POLLIN
        };
        pollfd(client.stream.fd(), events)
    }));
    let most = if clients.is_empty() {
        LOOK_AGAIN_IDLE
    } else {
        LOOK_AGAIN
    };
    let until = clients
        .iter()
        .map(Connection::deadline)
        .chain((rest > now).then_some(rest))
        .fold(now + most, Instant::min);
    let timeout = if clients.iter().any(Connection::is_ready) {
        0
    } else {
        until.saturating_duration_since(now).as_millis() as i32 + 1
    };
    // SAFETY: `all` is a vector of `all.len()` entries, borrowed exclusively during the call.
    let polled = unsafe { libc::poll(all.as_mut_ptr(), all.len() as libc::nfds_t, timeout) };
    // It also fails where the program has lowered its limit below our few descriptors.
    if polled < 0 && io::Error::last_os_error().kind() != ErrorKind::Interrupted {
        std::thread::sleep(REST);
    }
}
