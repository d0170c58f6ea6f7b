//! One level of a hierarchical counter, after the kernel's page_counter.
//!
//! The word is one AtomicU64, {usage:48 | version:15 | closed:1}. Every change is a
//! compare-and-swap of the whole word:
//!
//! * usage never passes the limit a charge was allowed, not even for a moment;
//! * the version changes whenever a limit or the reserve does, so that a charge which read the old
//!   ones fails its CAS and looks again (a charger would have to sleep through 2¹⁵ writes of
//!   limits, and find the same usage, to be fooled);
//! * `closed` says that the group has ended: the level lets everything through to its parent
//!   unchanged.
//!
//! A level holds a *reserve*: max(usage, reserve) is what its parent sees, so a step here returns
//! how much of it to pass upward, and what was charged in advance telescopes over the levels.
//!
//! Invariants: a step is made whole or not at all, and says by how much max(usage, reserve) has
//! changed. A level that is tight or above its max grants no stock to a charge that can be refused.
//! Depends on: the caller, who lets one writer at a time change a level's limits.
//! Never: a look at another level: `charge_path` walks. A lock; a wait.

use crate::sync::Zeroed;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const USAGE_BITS: u32 = 48;
const USAGE: u64 = (1 << USAGE_BITS) - 1;
const VERSION: u64 = 1 << USAGE_BITS;
const CLOSED: u64 = 1 << 63;
const VERSION_MASK: u64 = !(USAGE | CLOSED);

/// The most bytes one level can count: 256 TiB − 1.
#[cfg(test)]
pub const USAGE_LIMIT: u64 = USAGE;
/// In `tight`: there was no room for stock; and: somebody stands in line for room.
const TIGHT: u32 = 1;
const LINED: u32 = 2;
/// `max` and `high` of a level without that limit.
pub const UNLIMITED: u64 = u64::MAX;
/// `watched` while nobody watches: no usage is above it, so a charge passes by with one look.
const UNWATCHED: u64 = u64::MAX;
/// Stock granted under one level is at most this, and at most a sixteenth of its max.
#[cfg(not(loom))]
pub const STOCK_BUDGET: u64 = 4 << 20;
/// Loom's schedules want few refills, not large ones.
#[cfg(loom)]
pub const STOCK_BUDGET: u64 = 4 << 20;

/// How far above `max` a charge may take a level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    /// Up to max plus this many bytes.
    By(u64),
    /// However far: forced.
    Any,
}

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Bytes to pass on to the parent, in the same direction.
    pub up: u64,
    /// The level's usage after the step; 0 when it is closed.
    pub usage: u64,
}

/// One level: usage, limits, protection, peak, and the stock granted below.
#[derive(Default)]
pub struct PageCounter {
    word: AtomicU64,
    max: AtomicU64,
    /// The reserve in force is the one whose index is the version's lowest bit.
    reserve: [AtomicU64; 2],
    high: AtomicU64,
    granted: AtomicU64,
    peak: AtomicU64,
    /// The highest usage since a watch last began; see [`Self::watch`].
    watched: AtomicU64,
    min: AtomicU64,
    low: AtomicU64,
    undone: AtomicU32,
    tight: AtomicU32,
}

// SAFETY: integers only. (Zero limits: `open` makes a usable level of it.)
unsafe impl Zeroed for PageCounter {}

impl PageCounter {
    /// Makes an unlimited, empty, open level of a new or recycled one. Nobody else may know it yet.
    pub fn open(&self) {
        self.word.store(0, Ordering::Relaxed);
        self.max.store(UNLIMITED, Ordering::Relaxed);
        self.high.store(UNLIMITED, Ordering::Relaxed);
        self.watched.store(UNWATCHED, Ordering::Relaxed);
        for field in [
            &self.granted,
            &self.peak,
            &self.min,
            &self.low,
            &self.reserve[0],
            &self.reserve[1],
        ] {
            field.store(0, Ordering::Relaxed);
        }
        self.undone.store(0, Ordering::Relaxed);
        self.tight.store(0, Ordering::Relaxed);
    }

    fn reserve_of(&self, word: u64) -> u64 {
        self.reserve[((word & VERSION) != 0) as usize].load(Ordering::Relaxed)
    }

    /// Adds `n` bytes unless that would pass max and `over`; `Err` holds the usage that stood in
    /// the way.
    ///
    /// Cost: one CAS, retried under contention.
    pub fn charge(&self, n: u64, over: Over) -> Result<Step, u64> {
        // Acquire pairs with the Release of `bump` (from `set_max`) and of `set_reserve`: a new
        // version comes with its limits.
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if word & CLOSED != 0 {
                return Ok(Step { up: n, usage: 0 });
            }
            let usage = word & USAGE;
            let after = usage.saturating_add(n);
            let ceiling = match over {
                Over::By(extra) => self.max.load(Ordering::Relaxed).saturating_add(extra),
                Over::Any => UNLIMITED,
            };
            if after > ceiling.min(USAGE) {
                return Err(usage);
            }
            let reserve = self.reserve_of(word);
            // AcqRel pairs with the other exchanges of the word: the steps of one level are one
            // total order. Acquire on failure as above.
            match self.word.compare_exchange_weak(
                word,
                word + n,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    for peak in [&self.peak, &self.watched] {
                        if after > peak.load(Ordering::Relaxed) {
                            peak.fetch_max(after, Ordering::Relaxed);
                        }
                    }
                    return Ok(Step {
                        up: after.max(reserve) - usage.max(reserve),
                        usage: after,
                    });
                }
                Err(now) => word = now,
            }
        }
    }

    /// Takes `n` bytes off; `None` when the level never held them (the books are wrong; nothing was
    /// changed).
    pub fn uncharge(&self, n: u64) -> Option<Step> {
        // Acquire pairs with the Release of `set_reserve`: a new version comes with its reserve.
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if word & CLOSED != 0 {
                return Some(Step { up: n, usage: 0 });
            }
            let usage = word & USAGE;
            let after = usage.checked_sub(n)?;
            let reserve = self.reserve_of(word);
            // AcqRel pairs with the other exchanges of the word, as in `charge`; Acquire on failure
            // as above.
            match self.word.compare_exchange_weak(
                word,
                word - n,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    return Some(Step {
                        up: usage.max(reserve) - after.max(reserve),
                        usage: after,
                    });
                }
                Err(now) => word = now,
            }
        }
    }

    /// As [`Self::uncharge`], of a charge that a level above refused; counted, so that whoever was
    /// refused because of it can know.
    pub fn undo(&self, n: u64) -> Option<Step> {
        let step = self.uncharge(n);
        // Release pairs with the Acquire of `undone`: who sees the new number sees the room.
        self.undone.fetch_add(1, Ordering::Release);
        step
    }

    /// A number that changes with every [`Self::undo`].
    pub fn undone(&self) -> u32 {
        // Acquire pairs with the Release of `undo`.
        self.undone.load(Ordering::Acquire)
    }

    /// Ends the level: all later steps pass through. Answers what of the reserve lay unused, to be
    /// given back by the caller to the parent, and the usage left behind.
    pub fn close(&self) -> (u64, u64) {
        // Acquire pairs with the Release of `set_reserve`: a new version comes with its reserve.
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let (usage, reserve) = (word & USAGE, self.reserve_of(word));
            // AcqRel pairs with the other exchanges of the word, as in `charge`; Acquire on failure
            // as above.
            match self.word.compare_exchange_weak(
                word,
                word | CLOSED,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return (reserve.saturating_sub(usage), usage),
                Err(now) => word = now,
            }
        }
    }

    /// Sets usage and granted stock to what a recount found. Nobody else may be using the level.
    pub fn set_counts(&self, usage: u64, granted: u64) {
        let word = self.word.load(Ordering::Relaxed);
        self.word.store((word & !USAGE) | usage, Ordering::Relaxed);
        self.granted.store(granted, Ordering::Relaxed);
    }

    /// Bytes charged here, stock included.
    pub fn usage(&self) -> u64 {
        // Acquire pairs with the Release of the word's exchanges, in `charge` and `uncharge`.
        self.word.load(Ordering::Acquire) & USAGE
    }

    /// Whether the group of this level has ended.
    pub fn is_closed(&self) -> bool {
        // Acquire pairs with the Release of `close`.
        self.word.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Sets the hard limit. When this returns no charge that used the old one is still to come.
    /// The caller serializes writers (group lock).
    pub fn set_max(&self, max: u64) {
        self.max.store(max, Ordering::Relaxed);
        self.bump(2);
    }

    /// Changes the version by `by`, keeping usage.
    fn bump(&self, by: u64) {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let version = (word & VERSION_MASK).wrapping_add(VERSION * by) & VERSION_MASK;
            let next = (word & !VERSION_MASK) | version;
            // Release pairs with the Acquire loads of `charge`: who sees the version sees the
            // limit.
            match self
                .word
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Sets the reserve. `pay` is asked to charge the parent with what the larger reserve needs,
    /// and `may` whether a larger one is right once that is paid: the part of it that is in use
    /// already costs nothing now, and would stay charged to levels that have no room for it. Either
    /// may refuse, then nothing changes. `refund` gets what turned out to be too much. The caller
    /// serializes writers (group lock).
    pub fn set_reserve<E>(
        &self,
        reserve: u64,
        mut pay: impl FnMut(u64) -> Result<(), E>,
        mut may: impl FnMut() -> Result<(), E>,
        refund: impl FnOnce(u64),
    ) -> Result<(), E> {
        let mut paid = 0u64;
        loop {
            // Acquire pairs with the Release of an earlier `set_reserve`.
            let word = self.word.load(Ordering::Acquire);
            let usage = word & USAGE;
            let (old, new) = (usage.max(self.reserve_of(word)), usage.max(reserve));
            let needed = new.saturating_sub(old);
            if needed > paid {
                if let Err(refused) = pay(needed - paid) {
                    refund(paid);
                    return Err(refused);
                }
                paid = needed;
                continue;
            }
            if reserve > self.reserve_of(word)
                && let Err(refused) = may()
            {
                refund(paid);
                return Err(refused);
            }
            let next = (word & !VERSION_MASK)
                | ((word & VERSION_MASK).wrapping_add(VERSION) & VERSION_MASK);
            let slot = ((next & VERSION) != 0) as usize;
            self.reserve[slot].store(reserve, Ordering::Relaxed);
            // Release pairs with the Acquire loads of `charge`: the slot is filled before the
            // version names it.
            if self
                .word
                .compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                refund(paid - needed + old.saturating_sub(new));
                return Ok(());
            }
        }
    }

    /// The reserve in force.
    pub fn reserve(&self) -> u64 {
        // Acquire pairs with the Release of `set_reserve`: the version comes with its reserve.
        self.reserve_of(self.word.load(Ordering::Acquire))
    }

    /// Highest usage since the start.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Begins a watch: [`Self::watched`] starts again from the present usage. Answers what it was
    /// up to here, if there was a watch: who began an earlier one has that to add. The caller
    /// serializes beginnings and ends (group lock).
    ///
    /// A charge that is made meanwhile may count for the watch or not, as if it had come before or
    /// after.
    pub fn watch(&self) -> Option<u64> {
        let before = self.watched.swap(self.usage(), Ordering::Relaxed);
        (before != UNWATCHED).then_some(before)
    }

    /// Highest usage since the last [`Self::watch`]; the present usage without one.
    pub fn watched(&self) -> u64 {
        // A charge made while the watch began may have compared itself with what was before: it is
        // in the usage still.
        match self.watched.load(Ordering::Relaxed) {
            UNWATCHED => self.usage(),
            seen => seen.max(self.usage()),
        }
    }

    /// Nobody watches any more.
    pub fn unwatch(&self) {
        self.watched.store(UNWATCHED, Ordering::Relaxed);
    }

    /// Bytes of stock that threads hold under this level, at most.
    pub fn granted(&self) -> u64 {
        self.granted.load(Ordering::Relaxed)
    }

    /// Whether a step of `n` bytes that left `usage` took the level above its max.
    pub fn crosses_max(&self, usage: u64, n: u64) -> bool {
        let max = self.max();
        usage > max && usage - n.min(usage) <= max
    }

    /// Stock that may be granted under this level. To charges that can be refused nothing while it
    /// is tight, or above its max: what is freed then must not be had again. What is `forced` runs
    /// above max as it does below.
    pub fn stock_budget(&self, forced: bool) -> u64 {
        if !forced && (self.is_tight() || self.usage() > self.max()) {
            0
        } else {
            STOCK_BUDGET.min(self.max() / 16)
        }
    }

    /// Grants `n` bytes of stock; within the budget only, where `bounded`, or while the level is
    /// tight.
    pub fn grant(&self, n: u64, bounded: bool, forced: bool) -> bool {
        if !bounded && !self.is_tight() {
            self.granted.fetch_add(n, Ordering::Relaxed);
            return true;
        }
        let budget = self.stock_budget(forced);
        let mut now = self.granted.load(Ordering::Relaxed);
        loop {
            if now.saturating_add(n) > budget {
                return false;
            }
            match self.granted.compare_exchange_weak(
                now,
                now + n,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(seen) => now = seen,
            }
        }
    }

    /// Grants without asking: stock that came along with a move.
    pub fn grant_forced(&self, n: u64) {
        self.granted.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes a grant back.
    pub fn ungrant(&self, n: u64) {
        self.granted.fetch_sub(n, Ordering::Relaxed);
    }

    /// Marks the level as having no room for stock.
    pub fn set_tight(&self) {
        self.tight.fetch_or(TIGHT, Ordering::Relaxed);
    }

    /// Whether somebody stands in line for room here: as long as that is so the level is tight.
    pub fn set_lined(&self, lined: bool) {
        if lined {
            self.tight.fetch_or(LINED, Ordering::Relaxed);
        } else if self.tight.load(Ordering::Relaxed) & LINED != 0 {
            self.tight.fetch_and(!LINED, Ordering::Relaxed);
        }
    }

    /// Whether the level gives no stock at present; ends by itself once usage is a sixteenth below
    /// max.
    pub fn is_tight(&self) -> bool {
        let tight = self.tight.load(Ordering::Relaxed);
        if tight & TIGHT == 0 {
            return tight != 0;
        }
        let max = self.max();
        if self.usage() < max - max / 16 {
            self.tight.fetch_and(!TIGHT, Ordering::Relaxed);
            return tight & LINED != 0;
        }
        true
    }
}

macro_rules! limits {
    ($($(#[$doc:meta])* $get:ident $set:ident;)*) => {
        impl PageCounter {
            $($(#[$doc])* pub fn $get(&self) -> u64 {
                self.$get.load(Ordering::Relaxed)
            }
            #[doc = concat!("Sets [`Self::", stringify!($get), "`], in bytes.")]
            pub fn $set(&self, bytes: u64) {
                self.$get.store(bytes, Ordering::Relaxed);
            })*
        }
    };
}
limits! {
    /// The throttle line; [`UNLIMITED`] without one.
    high set_high;
    /// Protection from reclaim that is kept whatever happens.
    min set_min;
    /// Protection from reclaim while others can give.
    low set_low;
}

impl PageCounter {
    /// The hard limit; [`UNLIMITED`] without one.
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }
}
