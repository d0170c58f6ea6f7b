//! The helper thread: accepts, polls, serves.

use super::connection::Connection;
use super::place::socket_path;
use super::request::{protocol_error, serve};
use crate::api::no_account;
use crate::engine::process;
use crate::sync::atomic::{AtomicU32, Ordering};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 32;
/// Descriptors programs do not count on begin here, where the limit allows.
const HIGH_FD: RawFd = 700;
const STACK: usize = 256 << 10;

/// Where this process's socket is; and which process that is, for a child of a fork.
static PLACE: Mutex<Option<(u32, PathBuf)>> = Mutex::new(None);
/// The listener's descriptor + 1, for the child of a fork to close.
static LISTENER: AtomicU32 = AtomicU32::new(0);

/// Starts serving this process's engine on its socket, in a thread of its own.
///
/// # Errors
/// When there is no folder for the socket, or no thread.
pub fn serve_in_thread() -> io::Result<()> {
    let _free = no_account();
    let listener = bind()?;
    // Signals are the program's: the new thread inherits a mask that blocks all.
    let mask = SignalMask::block_all();
    let thread = std::thread::Builder::new().stack_size(STACK);
    let started = thread.spawn(move || run(listener));
    drop(mask);
    started.map(drop)
}

fn bind() -> io::Result<Listener> {
    let path = socket_path()?;
    // A socket of that name is of a process that had our pid and is gone.
    let _ = fs::remove_file(&path);
    let socket = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    socket.set_nonblocking(true)?;
    // SAFETY: duplicates a descriptor of ours; the copy is nobody else's.
    let high = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH_FD) };
    let socket = if high >= 0 {
        // SAFETY: the descriptor just made.
        UnixListener::from(unsafe { OwnedFd::from_raw_fd(high) })
    } else {
        socket
    };
    let identity = identity(socket.as_raw_fd());
    LISTENER.store(socket.as_raw_fd() as u32 + 1, Ordering::Relaxed);
    *PLACE.lock().unwrap_or_else(PoisonError::into_inner) = Some((std::process::id(), path));
    Ok(Listener { socket, identity })
}

/// Which file a descriptor is now: programs close, or replace, descriptors they did not open.
fn identity(fd: RawFd) -> Option<(u64, u64)> {
    let mut stat = core::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: a valid place; read only when the call has filled it.
    (unsafe { libc::fstat(fd, stat.as_mut_ptr()) } == 0).then(|| {
        // SAFETY: filled by the call.
        let stat = unsafe { stat.assume_init() };
        (stat.st_dev, stat.st_ino)
    })
}

struct Listener {
    socket: UnixListener,
    identity: Option<(u64, u64)>,
}

impl Listener {
    fn is_ours(&self) -> bool {
        self.identity.is_some() && identity(self.socket.as_raw_fd()) == self.identity
    }

    /// Forgets a descriptor that is no longer ours, without closing what it now is.
    fn abandon(self) {
        let _ = std::os::fd::IntoRawFd::into_raw_fd(self.socket);
    }
}

/// Takes the socket's name away, at exit. In the process that made it only.
pub fn unlink() {
    if let Some((pid, path)) = PLACE.lock().unwrap_or_else(PoisonError::into_inner).take()
        && pid == std::process::id()
    {
        let _ = fs::remove_file(path);
    }
}

/// In the child of a fork: the socket is the parent's; closes the copy of its descriptor.
pub fn after_fork() {
    let fd = LISTENER.swap(0, Ordering::Relaxed);
    if fd != 0 {
        // SAFETY: the parent's helper is not here; nobody in the child uses the copy.
        unsafe { libc::close(fd as RawFd - 1) };
    }
    PLACE.clear_poison();
    // The helper of the parent may have held the lock at the fork: then the place is left as it is, and is not ours.
    if let Ok(mut place) = PLACE.try_lock() {
        *place = None;
    }
}

struct SignalMask(libc::sigset_t);

impl SignalMask {
    fn block_all() -> Self {
        let mut before = core::mem::MaybeUninit::uninit();
        let mut all = core::mem::MaybeUninit::uninit();
        // SAFETY: both sets are filled by these calls before they are used.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self(before.assume_init())
        }
    }
}

impl Drop for SignalMask {
    fn drop(&mut self) {
        // SAFETY: the mask that was in force before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, core::ptr::null_mut()) };
    }
}

fn run(listener: Listener) {
    let _free = no_account();
    process::end_thread_task();
    crate::os::ids::set_thread_name(c"memcg-control");
    let mut listener = Some(listener);
    let mut clients: Vec<Connection> = Vec::new();
    loop {
        // Programs close descriptors they do not own: then what has this number is not touched, and we start again.
        if let Some(lost) = listener.take_if(|l| !l.is_ours()) {
            lost.abandon();
            std::mem::take(&mut clients).into_iter().for_each(drop);
        }
        if listener.is_none() {
            std::thread::sleep(Duration::from_secs(1));
            listener = bind().ok();
            continue;
        }
        let Some(open) = listener.as_ref() else {
            continue;
        };
        wait(open, &clients);
        if !open.is_ours() {
            continue;
        }
        while let Ok((stream, _)) = open.socket.accept() {
            if let Some(client) = admit(stream, clients.len()) {
                clients.push(client);
            }
        }
        let now = Instant::now();
        clients.retain_mut(|client| client.deadline() > now && step(client));
    }
}

fn step(client: &mut Connection) -> bool {
    client.step(&mut |line| {
        // A mistake of ours must not take the program down.
        catch_unwind(AssertUnwindSafe(|| {
            process::with_rec(|engine, rec| serve(engine, rec, line))
        }))
        .ok()
        .flatten()
        .unwrap_or_else(|| protocol_error("the request failed inside the engine"))
    })
}

/// Takes a client in if it is this user or root, and there is room.
fn admit(stream: UnixStream, others: usize) -> Option<Connection> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: 0,
    };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` is a valid place of `size` bytes.
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
    Some(Connection::new(stream))
}

/// Sleeps until somebody wants something, or has taken too long.
fn wait(listener: &Listener, clients: &[Connection]) {
    let pollfd = |fd, events| libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    let mut all = vec![pollfd(listener.socket.as_raw_fd(), libc::POLLIN)];
    all.extend(clients.iter().map(|client| {
        let events = if client.wants_to_write() {
            libc::POLLOUT
        } else {
            libc::POLLIN
        };
        pollfd(client.stream.as_raw_fd(), events)
    }));
    let deadline = clients.iter().map(Connection::deadline).min();
    // Without clients, once in a while: to see that the descriptor is still ours.
    let most = Duration::from_secs(if clients.is_empty() { 60 } else { 10 });
    let left = deadline.map_or(most, |at| {
        at.saturating_duration_since(Instant::now()).min(most)
    });
    // SAFETY: a valid array of that length.
    unsafe {
        libc::poll(
            all.as_mut_ptr(),
            all.len() as libc::nfds_t,
            left.as_millis() as i32 + 1,
        )
    };
}
