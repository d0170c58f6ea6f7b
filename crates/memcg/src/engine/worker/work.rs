//! What can be deferred, and how an item fits into a word.
//!
//! Invariants: an item's word is never 0, and gives the same item back.
//! Depends on: `group` and `kmem` for the types of ids.
//! Never: does the work.

#![forbid(unsafe_code)]

use crate::group::GroupId;
use crate::group::id::KmemId;
use crate::kmem::id::CacheId;
use crate::sync::id::Id;

/// One item of work. In its word eight bits say which kind, and the rest names the thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// The future of a task that was told to die is woken.
    Wake {
        /// The task's id, which a move does not change.
        id: u32,
    },
    /// All futures that are to die are told so: a group was killed as a whole.
    WakeAll,
    /// A future waits for a time that the worker does not know of yet.
    Alarm,
    /// There is news of groups for those who wait for some.
    Look,
    /// Futures wait for pages that were let go.
    Pages,
    /// A group gets its own part of a cache whose layout is per group.
    Split {
        /// The cache.
        cache: CacheId,
        /// The group's index.
        group: GroupId,
    },
    /// Groups that lingered and hold nothing any more are ended.
    Ends,
    /// A group is above, or near, a limit: shrinkers are asked.
    Reclaim {
        /// The group's index, which may be another group's by the time the work is done.
        group: GroupId,
        /// Room that somebody needs there, in units of [`ROOM`], below 2²⁴.
        room: u32,
    },
    /// The process has more than its budget.
    Budget,
    /// A task has left a group: its entries in lists of that group are moved to its new one.
    Sort {
        /// The group's kmem id.
        id: KmemId,
    },
}

/// The unit of [`Work::Reclaim`]'s room: 64 KiB.
pub const ROOM: u64 = 64 << 10;
const ROOM_AT: u32 = 32;
const ROOM_MAX: u32 = (1 << (KIND_AT - ROOM_AT)) - 1;

const KIND_AT: u32 = 56;
const WAKE: u64 = 1;
const SPLIT: u64 = 2;
const ENDS: u64 = 4;
const RECLAIM: u64 = 3;
const SORT: u64 = 5;
const WAKE_ALL: u64 = 6;
const ALARM: u64 = 7;
const LOOK: u64 = 9;
const BUDGET: u64 = 8;
const PAGES: u64 = 10;

impl Work {
    /// This item as a word, which is never 0.
    #[must_use]
    pub fn to_word(self) -> u64 {
        match self {
            Work::Wake { id } => WAKE << KIND_AT | u64::from(id),
            Work::WakeAll => WAKE_ALL << KIND_AT,
            Work::Alarm => ALARM << KIND_AT,
            Work::Look => LOOK << KIND_AT,
            Work::Pages => PAGES << KIND_AT,
            Work::Split { cache, group } => {
                debug_assert!(cache.raw() < 1 << 24);
                SPLIT << KIND_AT | u64::from(cache.raw()) << 32 | u64::from(group.raw())
            }
            Work::Ends => ENDS << KIND_AT,
            Work::Reclaim { group, room } => {
                let room = room.min(ROOM_MAX);
                RECLAIM << KIND_AT | u64::from(room) << ROOM_AT | u64::from(group.raw())
            }
            Work::Budget => BUDGET << KIND_AT,
            Work::Sort { id } => SORT << KIND_AT | u64::from(id.raw()),
        }
    }

    /// The item of a word; `None`: the word is no item's.
    #[must_use]
    pub fn of_word(word: u64) -> Option<Self> {
        match word >> KIND_AT {
            WAKE => Some(Work::Wake { id: word as u32 }),
            WAKE_ALL => Some(Work::WakeAll),
            ALARM => Some(Work::Alarm),
            LOOK => Some(Work::Look),
            PAGES => Some(Work::Pages),
            SPLIT => Some(Work::Split {
                cache: CacheId::from_raw((word >> 32) as u32 & 0xff_ffff)?,
                group: GroupId::from_raw(word as u32)?,
            }),
            ENDS => Some(Work::Ends),
            RECLAIM => Some(Work::Reclaim {
                group: GroupId::from_raw(word as u32)?,
                room: (word >> ROOM_AT) as u32 & ROOM_MAX,
            }),
            BUDGET => Some(Work::Budget),
            SORT => Some(Work::Sort {
                id: KmemId::from_raw(word as u32)?,
            }),
            _ => None,
        }
    }

    /// Whether this is for futures that wait: the worker does it, where there is one. It has times
    /// to look at, and else the wakers of the program would run wherever other work is helped with.
    pub(super) fn is_for_futures(self) -> bool {
        match self {
            Work::Wake { .. } | Work::WakeAll | Work::Alarm | Work::Look | Work::Pages => true,
            Work::Split { .. }
            | Work::Ends
            | Work::Reclaim { .. }
            | Work::Budget
            | Work::Sort { .. } => false,
        }
    }

    /// Whether [`Work::WakeAll`] does as much, and more.
    pub(super) fn is_a_kill(self) -> bool {
        match self {
            Work::Wake { .. } | Work::WakeAll => true,
            Work::Alarm
            | Work::Look
            | Work::Pages
            | Work::Split { .. }
            | Work::Ends
            | Work::Reclaim { .. }
            | Work::Budget
            | Work::Sort { .. } => false,
        }
    }

    /// Whether doing this work calls functions that the program has given us.
    pub(super) fn runs_code_of_the_program(self) -> bool {
        match self {
            // `Sort` too: if a holder lets go of a thing during the walk, the walk frees the thing,
            // and runs the code for that.
            Work::Wake { .. }
            | Work::WakeAll
            | Work::Alarm
            | Work::Look
            | Work::Pages
            | Work::Reclaim { .. }
            | Work::Budget
            | Work::Sort { .. } => true,
            Work::Split { .. } => false,
            Work::Ends => false,
        }
    }
}
