//! What is set for a group beside its limits, in one word and a size. Charging reads it and takes
//! no lock.
//!
//! Invariants: the change of one setting leaves the others of the word as they are.
//! Depends on: `memcg_record`, which has the word.
//! Never: acts by a setting; who reads it does.

#![forbid(unsafe_code)]

use super::memcg_record::Memcg;
use crate::counter::Level;
use crate::counter::page_counter::UNLIMITED;
use crate::sync::atomic::Ordering;

/// What happens when a charge meets `memory.max`: `memory.oom.policy`. The policy of the group that
/// is full decides, not that of the group that is charged. docs/enforcement.md has the whole table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
#[repr(u32)]
pub enum OomPolicy {
    /// Who can be told no is refused: C's malloc, and whoever asks at the door. Rust's global
    /// allocator is charged above max (`debt`), since its null ends the process.
    #[default]
    Default = 0,
    /// Everybody is refused. A refused Rust global allocator ends the process.
    Deny = 1,
    /// Allocators are charged above max; whoever asks at the door is refused.
    Debt = 2,
    /// As `Debt`, and tasks that hold the excess are told to end.
    Kill = 3,
    /// In the group and below nobody is refused, throttled or killed, whichever group is full. What
    /// would have happened is counted.
    Observe = 4,
}

impl OomPolicy {
    /// All, with their names.
    pub const ALL: [(OomPolicy, &'static str); 5] = [
        (OomPolicy::Default, "default"),
        (OomPolicy::Deny, "deny"),
        (OomPolicy::Debt, "debt"),
        (OomPolicy::Kill, "kill"),
        (OomPolicy::Observe, "observe"),
    ];
}

/// What a task's bytes do when it moves. docs/internals/moving.md weighs them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
#[repr(u32)]
pub enum MovePolicy {
    /// All of them go with it, or it does not go.
    #[default]
    Transfer = 0,
    /// They stay, for good; what is charged later is charged to the new group. As in the kernel
    /// since cgroup v2.
    Stay = 1,
    /// Those that can be evicted stay, marked: they are first to go, or follow when they are used.
    /// The others go with it.
    Lazy = 2,
    /// What fits goes with it, the rest stays until it is freed or follows.
    BestEffort = 3,
    /// As transfer, with room in both groups from the first question to the last answer.
    ReserveBoth = 4,
    /// A page's worth at a time, as published in 2008, with an undo that cannot fail.
    Paged = 5,
    /// The same with the undo that was published: what finds no room on its way back is charged to
    /// nobody.
    Leaky = 6,
}

impl MovePolicy {
    /// All, with their names.
    pub const ALL: [(MovePolicy, &'static str); 7] = [
        (MovePolicy::Transfer, "transfer"),
        (MovePolicy::Stay, "stay"),
        (MovePolicy::Lazy, "lazy"),
        (MovePolicy::BestEffort, "best-effort"),
        (MovePolicy::ReserveBoth, "reserve-both"),
        (MovePolicy::Paged, "paged"),
        (MovePolicy::Leaky, "leaky"),
    ];
}

/// What a group's objects and reservations do when the group ends. docs/internals/ends.md weighs
/// them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
#[repr(u32)]
pub enum OfflinePolicy {
    /// They are the parent's, for good.
    #[default]
    Parent = 0,
    /// Shrinkers are asked for all they have of the group before it ends; what they do not give is
    /// the parent's.
    Evict = 1,
    /// To the group that holds them, where it is known and there is room; else they are the
    /// parent's.
    Mapper = 2,
    /// They are the parent's until somebody uses them: who does is charged. First to go until then.
    NextTouch = 3,
    /// As `NextTouch` for objects of caches that see lookups, as `Parent` for the others.
    Auto = 4,
}

impl OfflinePolicy {
    /// All, with their names.
    pub const ALL: [(OfflinePolicy, &'static str); 5] = [
        (OfflinePolicy::Parent, "parent"),
        (OfflinePolicy::Evict, "evict"),
        (OfflinePolicy::Mapper, "mapper"),
        (OfflinePolicy::NextTouch, "next-touch"),
        (OfflinePolicy::Auto, "auto"),
    ];

    /// Whether what the group leaves may be charged to who uses it next, and is first to go until
    /// then.
    #[must_use]
    pub fn is_deferred(self) -> bool {
        matches!(self, OfflinePolicy::NextTouch | OfflinePolicy::Auto)
    }
}

/// `settings`: the depth, then bits and small numbers.
const DEPTH: u32 = 0xff;
const OOM_GROUP: u32 = 1 << 10;
const SUBTREE_CONTROL: u32 = 1 << 11;
const OFFLINE_AT: u32 = 12;
const OFFLINE: u32 = 7 << OFFLINE_AT;
const MOVE_AT: u32 = 16;
const MOVE: u32 = 7 << MOVE_AT;
/// The root's: some group has, or had, `OOM_GROUP`.
const HAS_OOM_GROUPS: u32 = 1 << 19;
const WAS_OBSERVED: u32 = 1 << 23;
const POLICY_AT: u32 = 20;
const POLICY: u32 = 7 << POLICY_AT;

const _: () = assert!(super::name::DEPTH_MAX == DEPTH);

impl Memcg {
    /// As every group begins.
    pub(super) fn open_settings(&self, depth: u32) {
        self.settings
            .store(depth | SUBTREE_CONTROL, Ordering::Relaxed);
        self.debt_max.store(UNLIMITED, Ordering::Relaxed);
    }

    /// Levels above it.
    pub fn depth(&self) -> u32 {
        self.settings.load(Ordering::Relaxed) & DEPTH
    }

    /// The policy, as set.
    pub fn oom_policy(&self) -> OomPolicy {
        let at = (self.settings.load(Ordering::Relaxed) & POLICY) >> POLICY_AT;
        OomPolicy::ALL
            .get(at as usize)
            .map_or(OomPolicy::Default, |(policy, _)| *policy)
    }

    /// Sets the policy.
    pub fn set_oom_policy(&self, policy: OomPolicy) {
        self.set(POLICY | WAS_OBSERVED, (policy as u32) << POLICY_AT);
    }

    /// Notes that what would have been done for this group was said. `false`: it was noted before.
    pub fn note_observed(&self) -> bool {
        let before = self.settings.fetch_or(WAS_OBSERVED, Ordering::Relaxed);
        before & WAS_OBSERVED == 0
    }

    /// Whether a kill in the group takes all its tasks (`memory.oom.group`).
    pub fn is_oom_group(&self) -> bool {
        self.settings.load(Ordering::Relaxed) & OOM_GROUP != 0
    }

    /// Sets whether a kill in the group takes all its tasks (`memory.oom.group`).
    pub fn set_oom_group(&self, on: bool) {
        if on {
            let mut root = self;
            while let Some(above) = root.parent() {
                root = above;
            }
            root.set(HAS_OOM_GROUPS, HAS_OOM_GROUPS);
        }
        self.set(OOM_GROUP, if on { OOM_GROUP } else { 0 });
    }

    /// Of the root: whether any group was ever given `memory.oom.group`.
    pub fn has_oom_groups(&self) -> bool {
        self.settings.load(Ordering::Relaxed) & HAS_OOM_GROUPS != 0
    }

    /// Whether `cgroup.subtree_control` has memory.
    pub fn has_subtree_control(&self) -> bool {
        self.settings.load(Ordering::Relaxed) & SUBTREE_CONTROL != 0
    }

    /// Sets whether `cgroup.subtree_control` has memory.
    pub fn set_subtree_control(&self, on: bool) {
        self.set(SUBTREE_CONTROL, if on { SUBTREE_CONTROL } else { 0 });
    }

    /// The policy by which a task that moves here brings its bytes (`memory.move`).
    pub fn move_policy(&self) -> MovePolicy {
        let at = (self.settings.load(Ordering::Relaxed) & MOVE) >> MOVE_AT;
        MovePolicy::ALL
            .get(at as usize)
            .map_or(MovePolicy::Transfer, |(policy, _)| *policy)
    }

    /// Sets the policy by which a task that moves here brings its bytes.
    pub fn set_move_policy(&self, policy: MovePolicy) {
        self.set(MOVE, (policy as u32) << MOVE_AT);
    }

    /// What becomes of the group's objects when it ends (`memory.offline`).
    pub fn offline_policy(&self) -> OfflinePolicy {
        let at = (self.settings.load(Ordering::Relaxed) & OFFLINE) >> OFFLINE_AT;
        OfflinePolicy::ALL
            .get(at as usize)
            .map_or(OfflinePolicy::Parent, |(policy, _)| *policy)
    }

    /// Sets what becomes of the group's objects when it ends.
    pub fn set_offline_policy(&self, policy: OfflinePolicy) {
        self.set(OFFLINE, (policy as u32) << OFFLINE_AT);
    }

    fn set(&self, which: u32, to: u32) {
        let change = |all| Some((all & !which) | to);
        let _ = self
            .settings
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }

    /// Bytes above max that debt may reach: `memory.debt.max`, [`UNLIMITED`] at first; of the root,
    /// `memory.emergency`.
    pub fn debt_max(&self) -> u64 {
        self.debt_max.load(Ordering::Relaxed)
    }

    /// Sets how far above max debt may go. Beyond it the group acts as by [`OomPolicy::Deny`].
    pub fn set_debt_max(&self, bytes: u64) {
        self.debt_max.store(bytes, Ordering::Relaxed);
    }
}
