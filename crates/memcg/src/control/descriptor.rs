//! Descriptors of ours in a program that may close or replace any: high, close-on-exec, known by
//! what they are.
//!
//! Kept: a descriptor is used and closed only while it is the file it was; what has its number
//! later is left alone. (Another thread can still replace it between the look and the use: that
//! moment is all that is left.) Each is in a static table, without locks, for the child of a fork
//! to close its copies.

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub(super) const CONNECTIONS: usize = 32;

/// Descriptors programs do not count on begin here, where the limit on open files allows.
pub(super) const HIGH_FD: RawFd = 700;
/// Better, where it allows that: programs that look through their descriptors look through the
/// first thousands.
const HIGHER_FD: RawFd = 9000;
/// The listener and its clients.
const SLOTS: usize = 1 + CONNECTIONS;

/// What a slot says when it is no descriptor's, and when it is about to be one's; else the
/// descriptor + 2.
const FREE: u32 = 0;
const TAKEN: u32 = 1;

struct Slot {
    number: AtomicU32,
    dev: AtomicU64,
    ino: AtomicU64,
}

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        number: AtomicU32::new(FREE),
        dev: AtomicU64::new(0),
        ino: AtomicU64::new(0),
    }
}; SLOTS];

/// Which file a descriptor is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity {
    dev: u64,
    ino: u64,
}

fn identity(fd: RawFd) -> io::Result<Identity> {
    let mut stat = core::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: a valid place; read only when the call has filled it.
    if unsafe { libc::fstat(fd, stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled by the call.
    let stat = unsafe { stat.assume_init() };
    Ok(Identity {
        dev: stat.st_dev,
        ino: stat.st_ino,
    })
}

fn list(fd: RawFd, is: Identity) -> Option<&'static Slot> {
    let slot = TABLE.iter().find(|slot| {
        slot.number
            .compare_exchange(FREE, TAKEN, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    })?;
    slot.dev.store(is.dev, Ordering::Relaxed);
    slot.ino.store(is.ino, Ordering::Relaxed);
    // Release pairs with the Acquire of `close_copies`.
    slot.number.store(fd as u32 + 2, Ordering::Release);
    Some(slot)
}

/// In the child of a fork: what the parent's helper has open is closed here, as far as it still is
/// what it was.
pub(super) fn close_copies() {
    for slot in &TABLE {
        let number = slot.number.swap(FREE, Ordering::Acquire);
        let is = Identity {
            dev: slot.dev.load(Ordering::Relaxed),
            ino: slot.ino.load(Ordering::Relaxed),
        };
        if number > TAKEN && identity(number as RawFd - 2).is_ok_and(|now| now == is) {
            // SAFETY: the parent's helper is not here; nobody in the child uses the copy.
            unsafe { libc::close(number as RawFd - 2) };
        }
    }
}

/// Wakes whoever polls the listener, and has nobody come in by it any more: without a descriptor
/// made for that.
pub(super) fn shut_listener() {
    for slot in &TABLE {
        // Acquire pairs with the Release of `list`.
        let number = slot.number.load(Ordering::Acquire);
        let is = Identity {
            dev: slot.dev.load(Ordering::Relaxed),
            ino: slot.ino.load(Ordering::Relaxed),
        };
        if number <= TAKEN {
            continue;
        }
        let fd = number as RawFd - 2;
        if identity(fd).is_ok_and(|now| now == is) && is_listening(fd) {
            // SAFETY: no memory is touched.
            unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
        }
    }
}

fn is_listening(fd: RawFd) -> bool {
    let mut listens: libc::c_int = 0;
    let mut size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `listens` is a valid place of `size` bytes.
    let known = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_ACCEPTCONN,
            core::ptr::from_mut(&mut listens).cast(),
            &mut size,
        )
    } == 0;
    known && listens != 0
}

/// A socket of ours.
pub(super) struct Kept<S: AsRawFd> {
    socket: ManuallyDrop<S>,
    is: Identity,
    slot: Option<&'static Slot>,
}

impl<S: AsRawFd + From<OwnedFd> + Into<OwnedFd>> Kept<S> {
    /// Moves the descriptor high, where there is room, and remembers it.
    pub fn new(socket: S) -> io::Result<Self> {
        let low = socket.as_raw_fd();
        let high = [HIGHER_FD, HIGH_FD]
            .into_iter()
            // SAFETY: duplicates a descriptor of ours; the copy is nobody else's.
            .map(|from| unsafe { libc::fcntl(low, libc::F_DUPFD_CLOEXEC, from) })
            .find(|&fd| fd >= 0);
        let socket = match high {
            // SAFETY: the descriptor just made.
            Some(high) => S::from(unsafe { OwnedFd::from_raw_fd(high) }),
            None => socket,
        };
        let fd = socket.as_raw_fd();
        let is = identity(fd)?;
        Ok(Self {
            socket: ManuallyDrop::new(socket),
            is,
            slot: list(fd, is),
        })
    }
}

impl<S: AsRawFd> Kept<S> {
    pub fn is_ours(&self) -> bool {
        identity(self.fd()).is_ok_and(|now| now == self.is)
    }

    /// The socket, to be used at once; an error when its number is something else's by now.
    pub fn get(&self) -> io::Result<&S> {
        if self.is_ours() {
            Ok(&self.socket)
        } else {
            Err(io::ErrorKind::NotConnected.into())
        }
    }

    /// The number, for poll, which does no harm to what is not ours.
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl<S: AsRawFd> Drop for Kept<S> {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: dropped here and never used again.
            unsafe { ManuallyDrop::drop(&mut self.socket) };
        }
        // Last: a fork in between leaves the child a number that is not what the slot says.
        if let Some(slot) = self.slot {
            slot.number.store(FREE, Ordering::Release);
        }
    }
}

/// The descriptors in the table, for tests.
#[cfg(test)]
pub(super) fn listed() -> Vec<RawFd> {
    TABLE
        .iter()
        .map(|slot| slot.number.load(Ordering::Acquire))
        .filter(|&number| number > TAKEN)
        .map(|number| number as RawFd - 2)
        .collect()
}
