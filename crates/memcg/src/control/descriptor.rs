//! Descriptors of ours in a program that may close or replace any: high, close-on-exec, and known
//! by the file they are.
//!
//! Another thread of the program can still replace a descriptor between the look and the use. That
//! moment is all that is left.
//!
//! Invariants: a descriptor is used and closed only while it is the file it was. A file that gets
//! its number later is left alone. Each descriptor is in a static table, so a fork's child can
//! close its copies.
//! Depends on: fstat, for which file a descriptor is.
//! Never: takes a lock, which a fork could leave locked.

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub(super) const CONNECTIONS: usize = 32;

/// Descriptors are moved to this number or above, where the limit on open files allows: programs
/// rarely count on such numbers.
pub(super) const HIGH_FD: RawFd = 700;
/// The number that is tried first: programs that look through all descriptors look through the
/// first thousands.
const HIGHER_FD: RawFd = 9000;
/// The listener and its clients.
const SLOTS: usize = 1 + CONNECTIONS;

/// What a slot's number says. FREE: no descriptor. TAKEN: one is being entered. Else: the
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

/// Which file a descriptor is now.
fn identity(fd: RawFd) -> io::Result<Identity> {
    let mut stat = core::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` is a place of this frame, large enough for the call's answer, and is read only
    // after the call has succeeded.
    if unsafe { libc::fstat(fd, stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fstat has succeeded, so it has filled the whole of `stat`.
    let stat = unsafe { stat.assume_init() };
    Ok(Identity {
        dev: stat.st_dev,
        ino: stat.st_ino,
    })
}

/// Enters a descriptor into the table; `None`: the table is full.
fn list(fd: RawFd, is: Identity) -> Option<&'static Slot> {
    let slot = TABLE.iter().find(|slot| {
        slot.number
            .compare_exchange(FREE, TAKEN, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    })?;
    slot.dev.store(is.dev, Ordering::Relaxed);
    slot.ino.store(is.ino, Ordering::Relaxed);
    // Release pairs with the Acquires of `close_copies` and `shut_listener`: who sees the number
    // sees which file it is.
    slot.number.store(fd as u32 + 2, Ordering::Release);
    Some(slot)
}

/// In the child of a fork: closes the copies of the descriptors that the parent's helper has open,
/// as far as each still is the file it was.
pub(super) fn close_copies() {
    for slot in &TABLE {
        // Acquire pairs with the Release store of `list`.
        let number = slot.number.swap(FREE, Ordering::Acquire);
        let is = Identity {
            dev: slot.dev.load(Ordering::Relaxed),
            ino: slot.ino.load(Ordering::Relaxed),
        };
        if number > TAKEN && identity(number as RawFd - 2).is_ok_and(|now| now == is) {
            // SAFETY: the descriptor is the copy of one of the parent's helper, by its identity.
            // That thread is not in the child, and the slot was emptied above, so nobody here uses
            // or closes it again.
            unsafe { libc::close(number as RawFd - 2) };
        }
    }
}

/// Shuts the listener down: the thread that polls it wakes, and no client can connect any more. It
/// needs no new descriptor.
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
            // SAFETY: shutdown touches no memory of this program. If the number is another file by
            // now, the call fails or shuts a socket that no memory of ours depends on.
            unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
        }
    }
}

/// Whether a descriptor is a socket that listens.
fn is_listening(fd: RawFd) -> bool {
    let mut listens: libc::c_int = 0;
    let mut size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `listens` is a place of this frame of `size` bytes, and `size` one for their number.
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

/// A socket of ours, which is used and closed only while it is the file it was.
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
            // SAFETY: fcntl duplicates `low`, which `socket` keeps open, and touches no memory.
            // Only this function knows the copy.
            .map(|from| unsafe { libc::fcntl(low, libc::F_DUPFD_CLOEXEC, from) })
            .find(|&fd| fd >= 0);
        let socket = match high {
            // SAFETY: fcntl has just made the descriptor, and nobody else owns it.
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
            // SAFETY: this is the drop of `self`, the only place that drops `socket`, and nothing
            // uses it afterwards.
            unsafe { ManuallyDrop::drop(&mut self.socket) };
        }
        // After the close: a fork in between leaves the child a number whose file is not the
        // slot's, and so is left alone. The Release keeps the close before the store; no Acquire
        // load pairs with it, since a slot that is FREE tells nobody anything: `list` takes it by a
        // Relaxed CAS.
        if let Some(slot) = self.slot {
            slot.number.store(FREE, Ordering::Release);
        }
    }
}

/// The descriptors in the table, for tests. Its Acquire load pairs with the Release store of
/// `list`.
#[cfg(test)]
pub(super) fn listed() -> Vec<RawFd> {
    TABLE
        .iter()
        .map(|slot| slot.number.load(Ordering::Acquire))
        .filter(|&number| number > TAKEN)
        .map(|number| number as RawFd - 2)
        .collect()
}
