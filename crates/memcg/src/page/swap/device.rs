//! A device: its file, its tables, and the word that says whether they may be used.
//!
//! The word counts the slots that are used, and the threads that look at the tables or do I/O at
//! this moment. A device whose slots are none, in which nobody looks, can be closed: that is one
//! compare and swap, so who begins to look afterwards finds it closed.
//!
//! Invariants: the descriptor and the tables are there while anybody holds a [`Use`]. The number of
//! used slots in the word is at no time below the number of bits: it is raised first and lowered
//! last.
//! Depends on: `os` for the file and memory; `slots`.
//! Never: waits.

use super::slots::{CLUSTER, Slots};
use crate::os::file::{self, Stat};
use crate::os::mmap;
use crate::page::SlotId;
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::sync::id::Id;
use crate::sync::promise::SoleThread;
use core::ptr::NonNull;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

/// What a device is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// There is none.
    None,
    /// It is being prepared, or closed: nobody but who does that looks at it.
    Claimed,
    /// Slots are given.
    On,
    /// No slots are given; what is there can be read and freed.
    Off,
}

const STATE: u32 = 62;
const USES: u32 = 32;
const ONE_USE: u64 = 1 << USES;
const USED: u64 = u32::MAX as u64;

const fn state_bits(state: State) -> u64 {
    let number = match state {
        State::None => 0,
        State::Claimed => 1,
        State::On => 2,
        State::Off => 3,
    };
    number << STATE
}

fn state_of(word: u64) -> State {
    match word >> STATE {
        0 => State::None,
        1 => State::Claimed,
        2 => State::On,
        _ => State::Off,
    }
}

fn uses_of(word: u64) -> u64 {
    word << 2 >> 2 >> USES
}

/// How long a device's tables are, in slots and clusters.
#[derive(Clone, Copy)]
struct Shape {
    nr_slots: u32,
    has_sums: bool,
}

impl Shape {
    fn clusters(self) -> usize {
        self.nr_slots.div_ceil(CLUSTER) as usize
    }

    fn hints(self) -> usize {
        self.clusters().div_ceil(64)
    }

    fn bytes(self) -> usize {
        let words = self.clusters() + 2 * self.hints();
        let sums = if self.has_sums { self.nr_slots } else { 0 };
        words * 8 + sums as usize * 4
    }
}

/// See the module. Zero bytes: none.
#[derive(Default)]
pub struct Device {
    word: AtomicU64,
    // What follows is written while the device is claimed, and published by the word.
    fd: AtomicU32,
    /// The number of its first slot: a multiple of 64.
    base: AtomicU32,
    nr_slots: AtomicU32,
    has_sums: AtomicU32,
    is_direct: AtomicU32,
    tables: AtomicUsize,
    dev: AtomicU64,
    ino: AtomicU64,
    /// Bytes that went through the kernel's cache since it was last told to let go.
    pub cached: AtomicU64,
    /// The cluster behind which the next wholly free one is looked for.
    pub hand: AtomicU32,
}

// SAFETY: atomic integers; zero is "none", as Default builds it.
unsafe impl Zeroed for Device {}

/// A device that is none else's while it is prepared; dropped, it is none again.
pub struct Claim<'a>(&'a Device);

/// A device whose file and tables stay while this lives.
pub struct Use<'a>(&'a Device);

impl Device {
    /// What it is at.
    pub fn state(&self) -> State {
        state_of(self.word.load(Ordering::Relaxed))
    }

    /// Used slots.
    pub fn nr_used(&self) -> u32 {
        (self.word.load(Ordering::Relaxed) & USED) as u32
    }

    /// All slots.
    pub fn nr_slots(&self) -> u32 {
        self.nr_slots.load(Ordering::Relaxed)
    }

    /// Its first slot's number, and the one behind its last, made a multiple of 64.
    pub fn range(&self) -> (u32, u32) {
        let base = self.base.load(Ordering::Relaxed);
        (base, base + self.nr_slots().next_multiple_of(CLUSTER))
    }

    /// Claims it, if there is none.
    pub fn claim(&self) -> Option<Claim<'_>> {
        let claimed = state_bits(State::Claimed);
        // Acquire pairs with the Release of `Claim::drop`: its last user is done with it.
        self.word
            .compare_exchange(0, claimed, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            .then(|| Claim(self))
    }

    /// Uses it; `None`: it is neither on nor off.
    pub fn enter(&self) -> Option<Use<'_>> {
        let step = |word| match state_of(word) {
            State::None | State::Claimed => None,
            State::On | State::Off => Some(word + ONE_USE),
        };
        // Acquire pairs with the Release of `Claim::publish`: file and tables are there.
        let entered = self
            .word
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, step);
        entered.is_ok().then(|| Use(self))
    }

    /// Goes from one of `On` and `Off` to the other; `false`: it is neither.
    #[cfg(any(test, feature = "testing"))]
    pub fn set_on(&self, is_on: bool) -> bool {
        let to = if is_on { State::On } else { State::Off };
        let step = |word| match state_of(word) {
            State::None | State::Claimed => None,
            State::On | State::Off => Some(word << 2 >> 2 | state_bits(to)),
        };
        self.word
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
            .is_ok()
    }

    /// Closes it, if it is off, has no used slot and is in nobody's use.
    #[cfg(any(test, feature = "testing"))]
    pub fn try_close(&self) -> bool {
        let off = state_bits(State::Off);
        let claimed = state_bits(State::Claimed);
        // Acquire pairs with the Release of `Use::drop` and `Use::give_back`: their looks are over.
        let closed = self
            .word
            .compare_exchange(off, claimed, Ordering::Acquire, Ordering::Relaxed);
        if closed.is_err() {
            return false;
        }
        let shape = self.shape();
        if let Some(tables) = NonNull::new(self.tables.swap(0, Ordering::Relaxed) as *mut u8) {
            // SAFETY: `publish` mapped as many bytes as the shape says. Nobody looks at them: there
            // was no use, and nobody enters what is claimed.
            unsafe { mmap::unmap(tables, shape.bytes()) };
        }
        // SAFETY: `publish` took the descriptor out of an OwnedFd, and this is its only end; nobody
        // uses it, as above.
        drop(unsafe { OwnedFd::from_raw_fd(self.fd.load(Ordering::Relaxed) as i32) });
        drop(Claim(self));
        true
    }

    /// In the child of a fork: lets go of the child's copy of the descriptor, and is none.
    pub fn forget_in_child(&self, _sole: SoleThread) {
        let word = self.word.swap(0, Ordering::Relaxed);
        match state_of(word) {
            State::None | State::Claimed => {}
            State::On | State::Off => {
                let used = Use(self);
                // The program may have closed it, and opened another under its number.
                if used.is_the_file() {
                    // SAFETY: as in `try_close`; the child has no other thread.
                    drop(unsafe { OwnedFd::from_raw_fd(self.fd.load(Ordering::Relaxed) as i32) });
                }
                core::mem::forget(used);
            }
        }
    }

    /// Whether it is that file.
    pub fn is_of(&self, stat: &Stat) -> bool {
        let (dev, ino) = (&self.dev, &self.ino);
        dev.load(Ordering::Relaxed) == stat.dev && ino.load(Ordering::Relaxed) == stat.ino
    }

    /// As where no checksums are kept.
    #[cfg(all(test, not(loom)))]
    pub fn forget_sums(&self) {
        self.has_sums.store(0, Ordering::Relaxed);
    }

    fn shape(&self) -> Shape {
        Shape {
            nr_slots: self.nr_slots(),
            has_sums: self.has_sums.load(Ordering::Relaxed) != 0,
        }
    }
}

impl Claim<'_> {
    /// Maps the tables of so many slots; `None`: the kernel gives no memory.
    pub fn make_tables(&self, nr_slots: u32, has_sums: bool) -> Option<()> {
        // The memory would be no atomics of loom's: no model has a device.
        if cfg!(loom) {
            return None;
        }
        let shape = Shape { nr_slots, has_sums };
        let tables = mmap::map(shape.bytes())?;
        let device = self.0;
        device.nr_slots.store(nr_slots, Ordering::Relaxed);
        device
            .has_sums
            .store(u32::from(has_sums), Ordering::Relaxed);
        device
            .tables
            .store(tables.as_ptr() as usize, Ordering::Relaxed);
        let used = Use(device);
        used.slots().make(nr_slots);
        core::mem::forget(used);
        Some(())
    }

    /// Its slots are numbered from `base` on.
    pub fn set_base(&self, base: u32) {
        self.0.base.store(base, Ordering::Relaxed);
    }

    /// Turns it on: `file`, of which the kernel says `stat`, holds what is in its slots.
    /// `is_direct`: the descriptor passes the kernel's cache.
    pub fn publish(self, file: OwnedFd, stat: &Stat, is_direct: bool) {
        let device = self.0;
        let fd = file.into_raw_fd() as u32;
        device.fd.store(fd, Ordering::Relaxed);
        device.dev.store(stat.dev, Ordering::Relaxed);
        device.ino.store(stat.ino, Ordering::Relaxed);
        let is_direct = u32::from(is_direct);
        device.is_direct.store(is_direct, Ordering::Relaxed);
        device.cached.store(0, Ordering::Relaxed);
        device.hand.store(0, Ordering::Relaxed);
        // Release pairs with the Acquire of `enter`.
        device.word.store(state_bits(State::On), Ordering::Release);
        core::mem::forget(self);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let device = self.0;
        let shape = device.shape();
        if let Some(tables) = NonNull::new(device.tables.swap(0, Ordering::Relaxed) as *mut u8) {
            // SAFETY: `make_tables` mapped as many bytes as the shape says; nobody has seen them.
            unsafe { mmap::unmap(tables, shape.bytes()) };
        }
        device.nr_slots.store(0, Ordering::Relaxed);
        // Release pairs with the Acquire of `claim`.
        device.word.store(0, Ordering::Release);
    }
}

impl<'a> Use<'a> {
    /// The device.
    pub fn device(&self) -> &'a Device {
        self.0
    }

    /// Its file.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `publish` put the descriptor there, and `try_close` closes it only when there is
        // no use, so not while `self` lives.
        unsafe { BorrowedFd::borrow_raw(self.0.fd.load(Ordering::Relaxed) as i32) }
    }

    /// Whether the descriptor is still that of the file: a program may close, and open again, what
    /// is not its own.
    pub fn is_the_file(&self) -> bool {
        file::stat(self.fd()).is_ok_and(|stat| self.0.is_of(&stat))
    }

    /// Whether what is read and written passes the kernel's cache.
    pub fn is_direct(&self) -> bool {
        self.0.is_direct.load(Ordering::Relaxed) != 0
    }

    fn words(&self, first: usize, len: usize) -> &[AtomicU64] {
        let tables = self.0.tables.load(Ordering::Relaxed) as *const AtomicU64;
        // SAFETY: the tables begin with all words that the shape counts, and `slots` asks for no
        // others. They are zeroed by the kernel, aligned, and mapped while `self` lives.
        unsafe { core::slice::from_raw_parts(tables.add(first), len) }
    }

    /// Its bitmaps.
    pub fn slots(&self) -> Slots<'_> {
        let shape = self.0.shape();
        let (nr, hints) = (shape.clusters(), shape.hints());
        Slots {
            clusters: self.words(0, nr),
            empty: self.words(nr, hints),
            room: self.words(nr + hints, hints),
        }
    }

    /// Its checksums, one for each slot; empty where none are kept.
    pub fn sums(&self) -> &[AtomicU32] {
        let shape = self.0.shape();
        if !shape.has_sums {
            return &[];
        }
        let words = shape.clusters() + 2 * shape.hints();
        let tables = self.0.tables.load(Ordering::Relaxed) as *const AtomicU64;
        // SAFETY: behind the words there are as many sums as slots, see `Shape::bytes`; else as in
        // `words`.
        unsafe { core::slice::from_raw_parts(tables.add(words).cast(), shape.nr_slots as usize) }
    }

    /// The place of a slot in the device.
    pub fn place(&self, slot: SlotId) -> u32 {
        slot.raw() - self.0.base.load(Ordering::Relaxed)
    }

    /// The slot of a place in the device.
    pub fn slot(&self, at: u32) -> SlotId {
        SlotId::new(self.0.base.load(Ordering::Relaxed) + at)
    }

    /// Counts up to `n` slots as used, as many as there are; 0: none, or the device gives none.
    pub fn reserve(&self, n: u32) -> u32 {
        let total = self.0.nr_slots();
        let room = |word: u64| n.min(total.saturating_sub((word & USED) as u32));
        let step = |word| match state_of(word) {
            State::None | State::Claimed | State::Off => None,
            State::On => Some(word + u64::from(room(word))),
        };
        let word = self
            .0
            .word
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        word.map_or(0, room)
    }

    /// Counts `n` slots less as used.
    pub fn unreserve(&self, n: u32) {
        // Release pairs with the Acquire of `try_close`.
        self.0.word.fetch_sub(u64::from(n), Ordering::Release);
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        debug_assert!(uses_of(self.0.word.load(Ordering::Relaxed)) > 0);
        // Release pairs with the Acquire of `try_close`.
        self.0.word.fetch_sub(ONE_USE, Ordering::Release);
    }
}
