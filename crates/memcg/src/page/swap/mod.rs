//! Swap: slots of 4 KiB in files and block devices, and I/O to and from them.
//!
//! ```text
//! SlotId ── device: a file, bitmaps (`device`, `slots`) ── cluster of 64 slots ── slot
//! pages ── staging (`staging`) ── one pwrite a cluster (`io`) ── the file
//! ```
//!
//! Slots are allocated in clusters of 256 KiB, so that what leaves together lies together: one
//! write of 256 KiB costs 2 µs a page where one of 4 KiB costs 60. A freed slot is a bit; nothing
//! is said to the file (punching a hole costs milliseconds, and makes the next write there slow).
//! Source of the idea: the kernel's swap clusters.
//!
//! Invariants: a slot has one user from `alloc` to `free`. What was written and said to be safe is
//! read back, or an error is: never other bytes (where checksums are kept, also when the device
//! errs). In the child of a fork every call answers that there is nothing, or `EIO`.
//! Depends on: `os` for files; `thread` to know a child.
//! Never: an owner, a charge, a page's word; an allocation after `on`. All calls but `alloc`,
//! `free` and figures may block.

mod checksum;
mod device;
mod io;
mod on;
mod slots;
mod staging;
#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(any(test, feature = "testing"))]
pub use io::Written;
pub use on::{Checksums, SwapOnError};
pub use slots::CLUSTER;

use crate::os::file::Stat;
use crate::page::{SlotId, SwapDeviceId};
use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::id::Id;
use crate::sync::lock::Lock;
use crate::sync::promise::SoleThread;
use crate::thread::fork_word;
use device::{Device, State, Use};
use staging::Staging;

/// Devices that can be on at once.
pub const DEVICES: usize = 8;

/// One more than the highest number of a slot: it has 28 bits in a page's word.
const SLOTS_END: u32 = 1 << 28;

/// All swap devices. Zero bytes: none.
#[derive(Default)]
pub struct Swap {
    /// Of the table's ranges of numbers, see `on`.
    lock: Lock,
    devices: [Device; DEVICES],
    staging: Staging,
    /// Whose it is, by `fork_word::process`; 0: nobody's yet.
    process: AtomicU32,
}

// SAFETY: each field is Zeroed or an atomic integer, or a lock, which zero bytes leave free.
unsafe impl Zeroed for Swap {}

/// Slots of one cluster that lie together, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    first: SlotId,
    len: u32,
}

impl Run {
    /// `len` slots from `first` on.
    ///
    /// # Panics
    /// If they are none, or not of one cluster.
    #[must_use]
    pub fn new(first: SlotId, len: u32) -> Self {
        assert!(len >= 1 && first.raw() % CLUSTER + len <= CLUSTER);
        Self { first, len }
    }

    /// How many.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a run is never empty")]
    pub fn len(self) -> u32 {
        self.len
    }

    /// The slot at place `at`.
    ///
    /// # Panics
    /// If it has not as many.
    #[must_use]
    pub fn slot(self, at: u32) -> SlotId {
        assert!(at < self.len);
        SlotId::new(self.first.raw() + at)
    }

    /// Its slots.
    pub fn slots(self) -> impl Iterator<Item = SlotId> {
        (0..self.len).map(move |at| self.slot(at))
    }
}

/// Where one who allocates was last: what he allocates next lies beside it. Zero: nowhere. Of no
/// meaning to anybody else; may be lost.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cursor(u32);

/// Slots by number.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// In use.
    pub used: u32,
    /// All, of devices that are on; of others those in use.
    pub total: u32,
}

impl Swap {
    /// Whether this process may use it: a child of a fork has its parent's table, and its files are
    /// none of the child's.
    fn is_mine(&self) -> bool {
        self.process.load(Ordering::Relaxed) == fork_word::process()
    }

    fn device(&self, id: SwapDeviceId) -> Option<&Device> {
        self.devices.get(id.raw() as usize - 1)
    }

    fn ids(&self) -> impl Iterator<Item = (SwapDeviceId, &Device)> {
        let ids = (1..).filter_map(SwapDeviceId::from_raw);
        ids.zip(&self.devices)
    }

    /// Uses the device that a slot is of.
    fn enter(&self, slot: SlotId) -> Option<Use<'_>> {
        self.devices.iter().find_map(|device| {
            let used = device.enter()?;
            let (base, end) = device.range();
            (base..end).contains(&slot.raw()).then_some(used)
        })
    }

    /// Allocates up to `n` slots (1 to 64) that lie together in a cluster. Fewer than `n`: there is
    /// no such run; who wants more asks again. `None`: all devices are full, or none is on.
    ///
    /// Looks in the cursor's cluster, then for a free cluster, then anywhere; device by device in
    /// the order in which they were turned on. No lock; a search passes 16 MiB of used slots at
    /// a step.
    pub fn alloc(&self, cursor: &mut Cursor, n: u32) -> Option<Run> {
        if !self.is_mine() {
            return None;
        }
        let n = n.clamp(1, CLUSTER);
        self.devices.iter().find_map(|device| {
            let used = device.enter()?;
            let reserved = used.reserve(n);
            if reserved == 0 {
                return None;
            }
            let taken = Self::take(&used, *cursor, reserved);
            let len = taken.map_or(0, |run| run.len);
            used.unreserve(reserved - len);
            *cursor = Cursor(taken?.first.raw());
            taken
        })
    }

    fn take(used: &Use<'_>, cursor: Cursor, n: u32) -> Option<Run> {
        let (slots, device) = (used.slots(), used.device());
        let (base, end) = device.range();
        let near = (base..end).contains(&cursor.0);
        let near = near.then(|| (cursor.0 - base) / CLUSTER);
        let hand = device.hand.load(Ordering::Relaxed);
        let in_hand = || {
            let taken = slots.take_empty(hand, n)?;
            device.hand.store(taken.0 / CLUSTER, Ordering::Relaxed);
            Some(taken)
        };
        let (first, len) = near
            .and_then(|cluster| slots.take_run(cluster, n))
            .or_else(in_hand)
            .or_else(|| slots.take_any(near.unwrap_or(hand), n))?;
        Some(Run {
            first: used.slot(first),
            len,
        })
    }

    /// Frees a slot; `false`: it was not in use (nothing is changed). No lock, nothing is said to
    /// the file.
    pub fn free(&self, slot: SlotId) -> bool {
        let Some(used) = self.enter(slot) else {
            return false;
        };
        let at = used.place(slot);
        let was_used = at < used.device().nr_slots() && used.slots().put(at);
        if was_used {
            used.unreserve(1);
        }
        was_used
    }

    /// Slots of all devices.
    pub fn usage(&self) -> Usage {
        let parts = self.ids().filter_map(|(id, _)| self.usage_of(id));
        parts.fold(Usage::default(), |all, part| Usage {
            used: all.used + part.used,
            total: all.total + part.total,
        })
    }

    /// Slots of one device; `None`: there is none.
    pub fn usage_of(&self, id: SwapDeviceId) -> Option<Usage> {
        let device = self.device(id)?;
        let used = device.nr_used();
        match device.state() {
            State::None | State::Claimed => None,
            State::On => Some(Usage {
                used,
                total: device.nr_slots(),
            }),
            State::Off => Some(Usage { used, total: used }),
        }
    }

    /// The device that is this file.
    pub fn find(&self, stat: &Stat) -> Option<SwapDeviceId> {
        let found = self.ids().find(|(_, device)| {
            let used = device.enter();
            used.is_some() && device.is_of(stat)
        });
        found.map(|(id, _)| id)
    }

    /// The device that a slot is of.
    #[cfg(any(test, feature = "testing"))]
    pub fn device_of(&self, slot: SlotId) -> Option<SwapDeviceId> {
        let device = self.enter(slot)?.device();
        let found = self.ids().find(|(_, other)| core::ptr::eq(*other, device));
        found.map(|(id, _)| id)
    }

    /// From now on the device gives no slots; `false`: there is none.
    ///
    /// Who turns it off brings back what [`Self::next_used`] says, then calls
    /// [`Self::try_close`]; where he gives up, [`Self::keep_on`].
    #[cfg(any(test, feature = "testing"))]
    pub fn off(&self, id: SwapDeviceId) -> bool {
        self.is_mine() && self.device(id).is_some_and(|device| device.set_on(false))
    }

    /// A device that is off gives slots again; `false`: there is none.
    #[cfg(any(test, feature = "testing"))]
    pub fn keep_on(&self, id: SwapDeviceId) -> bool {
        self.is_mine() && self.device(id).is_some_and(|device| device.set_on(true))
    }

    /// The first used slot of a device, or the first behind `after`; `None`: no more.
    #[cfg(any(test, feature = "testing"))]
    pub fn next_used(&self, id: SwapDeviceId, after: Option<SlotId>) -> Option<SlotId> {
        let device = self.device(id)?;
        let used = device.enter()?;
        let (base, _) = device.range();
        let from = after.map_or(0, |slot| (slot.raw() + 1).saturating_sub(base));
        let at = used.slots().next_used(from, device.nr_slots())?;
        Some(used.slot(at))
    }

    /// Closes a device that is off and of which no slot is in use; `false`: it is not yet.
    ///
    /// The file stays as it is. A thread that looks at the device at this moment is in the way;
    /// who is told `false` while no slot is used tries again.
    #[cfg(any(test, feature = "testing"))]
    pub fn try_close(&self, id: SwapDeviceId) -> bool {
        self.is_mine() && self.device(id).is_some_and(Device::try_close)
    }

    /// In the child of a fork: lets go of the parent's files. From here on every call answers that
    /// there is nothing, or an error. The child of a parent without devices may turn on its own.
    pub fn forget_in_child(&self, sole: SoleThread) {
        for device in &self.devices {
            device.forget_in_child(sole);
        }
        self.lock.reset_in_child(sole);
    }
}
