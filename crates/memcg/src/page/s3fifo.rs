//! Which page goes: S3-FIFO for the pages of one class, anonymous or of files, in one group.
//!
//! A page that comes goes into the queue `small`, a tenth of what is resident. It leaves small for
//! the queue `main` if it was used while it was there, else it is evicted. A page of main that was
//! used goes round again; one that was not is evicted. A page that small evicted and that comes
//! back soon goes into main at once: small was too short for it. "Soon" is judged by its shadow
//! (`workingset`), where the published algorithm keeps a queue of ghosts.
//!
//! Use is counted in two bits of the page's word, up to 3. One use is enough to leave small, where
//! the paper asks for two: measured with research traces, that has as few misses or fewer.
//!
//! Invariants: an eviction comes to an end: each look at a page of main that is kept takes one from
//! its use, and a page of small that is kept leaves small.
//! Depends on: `workingset` for a refault.
//! Never: a queue, a page or a clock; a choice between classes (`cost_balance`).
//!
//! Source of the idea: J. Yang et al., "FIFO queues are all you need for cache eviction" (SOSP
//! 2023). What is counted: Linux, mm/workingset.c.

#![forbid(unsafe_code)]

use super::workingset::Refault;

/// The queues of a class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queue {
    /// Pages that came once.
    Small,
    /// Pages that were used again.
    Main,
}

/// Both queues, in the order of their numbers.
pub const QUEUES: [Queue; 2] = [Queue::Small, Queue::Main];

/// The most that a page's use is counted to: two bits.
#[cfg(any(test, feature = "testing"))]
pub const MOST_USE: u8 = 3;

/// What of a page's use is counted while it is in small or main.
const ENOUGH_USE: u8 = 1;

/// Pages of one class that a group has in frames, by queue.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Resident {
    /// In small.
    pub small: u64,
    /// In main.
    pub main: u64,
}

impl Resident {
    /// Both.
    #[must_use]
    pub fn total(self) -> u64 {
        self.small.saturating_add(self.main)
    }

    /// What small is to have: a tenth of all.
    #[must_use]
    pub fn small_target(self) -> u64 {
        self.total() / 10
    }

    /// What main is to have: within so many evictions a page that was evicted would still be here,
    /// had it been in main.
    #[must_use]
    pub fn workingset(self) -> u64 {
        self.total() - self.small_target()
    }

    /// The queue to take the next page from; `None`: nothing is resident.
    ///
    /// Small while it has its target or more. The other queue may have to be looked at where this
    /// one's pages are all pinned.
    #[must_use]
    pub fn next_queue(self) -> Option<Queue> {
        match (self.small, self.main) {
            (0, 0) => None,
            (0, _) => Some(Queue::Main),
            (_, 0) => Some(Queue::Small),
            (small, _) if small >= self.small_target() => Some(Queue::Small),
            (_, _) => Some(Queue::Main),
        }
    }
}

/// What is done with a page whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It goes. `WORKINGSET` is set in its shadow if it leaves main; the eviction clock moves on if
    /// it leaves small ([`Queue::moves_clock`]).
    Evict,
    /// It goes to the end of main, its use counted from 0.
    Promote,
    /// It goes to the end of main, where it was, with that use.
    Again {
        /// What is left of its use.
        freq: u8,
    },
}

impl Queue {
    /// What is done with a page of this queue, by how often it was used, 0 to [`MOST_USE`].
    #[must_use]
    #[inline]
    pub fn verdict(self, freq: u8) -> Verdict {
        match self {
            Self::Small if freq >= ENOUGH_USE => Verdict::Promote,
            Self::Main if freq > 0 => Verdict::Again { freq: freq - 1 },
            Self::Small | Self::Main => Verdict::Evict,
        }
    }

    /// Whether an eviction from this queue is counted by the eviction clock. Only pages of small
    /// have ghosts in the published algorithm, so a distance is counted in them.
    #[must_use]
    pub fn moves_clock(self) -> bool {
        match self {
            Self::Small => true,
            Self::Main => false,
        }
    }

    /// Whether a page evicted from this queue had been part of the working set: what the kernel's
    /// WORKINGSET flag says of a page that was active.
    #[must_use]
    pub fn is_workingset(self) -> bool {
        match self {
            Self::Small => false,
            Self::Main => true,
        }
    }
}

/// Where a page goes that comes into a frame, and what is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// The queue it is put into.
    pub queue: Queue,
    /// `workingset_refault`: it was here before.
    pub refault: bool,
    /// `workingset_activate`: soon enough to be taken for active.
    pub activate: bool,
    /// `workingset_restore`: and it had been active when it was evicted. The page keeps its flag
    /// WORKINGSET, and its class is charged the cost of a refault.
    pub restore: bool,
}

/// A page comes: new (`None`), or with the shadow of when it was evicted.
#[must_use]
pub fn arrival(refault: Option<Refault>, resident: Resident) -> Arrival {
    let near = |refault: Refault| u64::from(refault.distance) <= resident.workingset();
    let activate = refault.is_some_and(near);
    let workingset = refault.is_some_and(|refault| refault.workingset);
    Arrival {
        // A page that main evicted has had its time: it begins anew, as in the published algorithm.
        queue: if activate && !workingset {
            Queue::Main
        } else {
            Queue::Small
        },
        refault: refault.is_some(),
        activate,
        restore: activate && workingset,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn resident(small: u64, main: u64) -> Resident {
        Resident { small, main }
    }

    #[test]
    fn small_is_taken_from_while_it_has_a_tenth() {
        assert_eq!(resident(0, 0).next_queue(), None);
        assert_eq!(resident(10, 90).next_queue(), Some(Queue::Small));
        assert_eq!(resident(9, 91).next_queue(), Some(Queue::Main));
        // Where one is empty, the other.
        assert_eq!(resident(0, 3).next_queue(), Some(Queue::Main));
        assert_eq!(resident(1, 0).next_queue(), Some(Queue::Small));
        assert_eq!(resident(u64::MAX, 1).next_queue(), Some(Queue::Small));
    }

    #[test]
    fn use_keeps_a_page_and_is_used_up() {
        assert_eq!(Queue::Small.verdict(0), Verdict::Evict);
        assert_eq!(Queue::Main.verdict(0), Verdict::Evict);
        for freq in 1..=MOST_USE {
            assert_eq!(Queue::Small.verdict(freq), Verdict::Promote);
            let again = Verdict::Again { freq: freq - 1 };
            assert_eq!(Queue::Main.verdict(freq), again);
        }
        assert_eq!(QUEUES.map(Queue::moves_clock), [true, false]);
        assert_eq!(QUEUES.map(Queue::is_workingset), [false, true]);
    }

    #[test]
    fn a_page_that_is_back_within_the_working_set_is_active() {
        let back = |distance, workingset| {
            let refault = Refault {
                distance,
                workingset,
            };
            let arrival = arrival(Some(refault), resident(10, 90));
            assert!(arrival.refault);
            (arrival.queue, arrival.activate, arrival.restore)
        };
        assert_eq!(back(90, false), (Queue::Main, true, false));
        assert_eq!(back(91, false), (Queue::Small, false, false));
        assert_eq!(back(90, true), (Queue::Small, true, true));
        assert_eq!(back(91, true), (Queue::Small, false, false));
        let new = Arrival {
            queue: Queue::Small,
            refault: false,
            activate: false,
            restore: false,
        };
        assert_eq!(arrival(None, resident(10, 90)), new);
    }
}
