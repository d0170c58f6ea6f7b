//! Memory for clusters on their way to and from a device: few pieces of 256 KiB, each under a lock.
//!
//! Invariants: a piece has one user at a time. It is aligned to a page, which is as much as direct
//! I/O here asks for.
//! Depends on: `os::mmap`, `sync::lock`.
//! Never: memory per call; memory given back.

use super::slots::CLUSTER;
use crate::os::mmap;
use crate::page::PAGE;
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use crate::sync::lock::{Held, Lock, Rank};
use core::ptr::NonNull;

/// Pieces: so many threads read and write at once.
const PIECES: usize = 4;
/// Bytes of a piece.
pub const PIECE: usize = CLUSTER as usize * PAGE;

/// See the module. Zero bytes: without memory.
#[derive(Default)]
pub struct Staging {
    memory: AtomicUsize,
    locks: [Lock; PIECES],
    next: AtomicU32,
}

// SAFETY: integers and locks; zero is "no memory" and free, as Default builds it.
unsafe impl Zeroed for Staging {}

/// A piece, for as long as it is held.
pub struct Piece<'a> {
    at: NonNull<[u8; PIECE]>,
    _held: Held<'a>,
}

impl Staging {
    /// Has memory from here on; `None`: the kernel gives none. Called by one thread at a time.
    pub fn make(&self) -> Option<()> {
        if self.memory.load(Ordering::Relaxed) == 0 {
            let memory = mmap::map(PIECES * PIECE)?;
            // Release pairs with the Acquire of `take`.
            self.memory
                .store(memory.as_ptr() as usize, Ordering::Release);
        }
        Some(())
    }

    /// Takes a piece; waits while all are held. `None`: there is no memory, so no device is on.
    pub fn take(&self) -> Option<Piece<'_>> {
        // Acquire pairs with the Release of `make`.
        let memory = self.memory.load(Ordering::Acquire);
        let free = self.locks.iter().enumerate().find_map(|(index, lock)| {
            let held = lock.try_lock(Rank::Staging)?;
            Some((index, held))
        });
        let (index, held) = free.unwrap_or_else(|| {
            let index = self.next.fetch_add(1, Ordering::Relaxed) as usize % PIECES;
            (index, self.locks[index].lock(Rank::Staging))
        });
        let first = NonNull::new(memory as *mut u8)?;
        // SAFETY: the mapping is PIECES * PIECE bytes long and is never unmapped, and `index` is
        // below PIECES.
        let at = unsafe { first.add(index * PIECE) }.cast();
        Some(Piece { at, _held: held })
    }
}

impl core::ops::Deref for Piece<'_> {
    type Target = [u8; PIECE];

    fn deref(&self) -> &[u8; PIECE] {
        // SAFETY: `take` made this an address of PIECE mapped bytes. Who holds the piece's lock,
        // and so this value, is the only one who uses them.
        unsafe { self.at.as_ref() }
    }
}

impl core::ops::DerefMut for Piece<'_> {
    fn deref_mut(&mut self) -> &mut [u8; PIECE] {
        // SAFETY: as in `deref`; and this value is borrowed for writing.
        unsafe { self.at.as_mut() }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_piece_has_one_user_at_a_time_and_more_users_wait() {
        let staging = Staging::default();
        assert!(staging.take().is_none());
        staging.make().unwrap();
        std::thread::scope(|s| {
            for me in 0..6u8 {
                let staging = &staging;
                s.spawn(move || {
                    for _ in 0..200 {
                        let mut piece = staging.take().unwrap();
                        piece[..512].fill(me);
                        std::hint::spin_loop();
                        assert!(piece[..512].iter().all(|&byte| byte == me));
                    }
                });
            }
        });
    }
}
