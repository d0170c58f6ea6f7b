//! What is set for a group beside its limits, in one word and a size. Charging reads it and takes no lock.

use super::memcg::Memcg;
use crate::counter::Over;
use crate::sync::atomic::Ordering;

/// What a charge that meets max may do, as the group decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum OomPolicy {
    /// As whoever charges prefers: a Rust global allocator goes into debt, all others are denied.
    Default = 0,
    /// Refuse.
    Deny = 1,
    /// Force, up to `memory.debt.max` above max.
    Debt = 2,
    /// Tell a task of the group to die.
    Kill = 3,
}

/// `settings`: the depth, then the policy, then a bit each.
const DEPTH: u32 = 0xff;
const POLICY_AT: u32 = 8;
const POLICY: u32 = 3 << POLICY_AT;
const OOM_GROUP: u32 = 1 << 10;
const SUBTREE_CONTROL: u32 = 1 << 11;

const _: () = assert!(super::name::DEPTH_MAX == DEPTH);

const DEBT_DEFAULT: u64 = u64::MAX;
const DEBT_DEFAULT_LIMIT: u64 = 64 << 20;

impl Memcg {
    /// As every group begins.
    pub(super) fn open_settings(&self, depth: u32) {
        self.settings
            .store(depth | SUBTREE_CONTROL, Ordering::Relaxed);
        self.debt_max.store(DEBT_DEFAULT, Ordering::Relaxed);
    }

    /// Levels above it.
    pub fn depth(&self) -> u32 {
        self.settings.load(Ordering::Relaxed) & DEPTH
    }

    /// The policy, as set.
    pub fn oom_policy(&self) -> OomPolicy {
        match (self.settings.load(Ordering::Relaxed) & POLICY) >> POLICY_AT {
            1 => OomPolicy::Deny,
            2 => OomPolicy::Debt,
            3 => OomPolicy::Kill,
            _ => OomPolicy::Default,
        }
    }

    /// Sets the policy.
    pub fn set_oom_policy(&self, policy: OomPolicy) {
        self.set(POLICY, (policy as u32) << POLICY_AT);
    }

    /// `memory.oom.group`.
    pub fn is_oom_group(&self) -> bool {
        self.settings.load(Ordering::Relaxed) & OOM_GROUP != 0
    }

    /// Sets it.
    pub fn set_oom_group(&self, on: bool) {
        self.set(OOM_GROUP, if on { OOM_GROUP } else { 0 });
    }

    /// Whether `cgroup.subtree_control` has memory.
    pub fn has_subtree_control(&self) -> bool {
        self.settings.load(Ordering::Relaxed) & SUBTREE_CONTROL != 0
    }

    /// Sets it.
    pub fn set_subtree_control(&self, on: bool) {
        self.set(SUBTREE_CONTROL, if on { SUBTREE_CONTROL } else { 0 });
    }

    fn set(&self, which: u32, to: u32) {
        let change = |all| Some((all & !which) | to);
        let _ = self
            .settings
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }

    /// Bytes above max that debt may reach: as set, or a quarter of max, at most 64 MiB.
    pub fn debt_max(&self) -> u64 {
        match self.debt_max.load(Ordering::Relaxed) {
            DEBT_DEFAULT => (self.counter.max() / 4).min(DEBT_DEFAULT_LIMIT),
            set => set,
        }
    }

    /// Sets it; `None`: the default.
    pub fn set_debt_max(&self, bytes: Option<u64>) {
        self.debt_max
            .store(bytes.unwrap_or(DEBT_DEFAULT), Ordering::Relaxed);
    }
}

/// How far above its max a charge that may go into debt takes a group.
pub(super) fn debt_over(group: &Memcg, by_default: bool) -> Over {
    match group.oom_policy() {
        OomPolicy::Debt => Over::By(group.debt_max()),
        OomPolicy::Default if by_default => Over::By(group.debt_max()),
        _ => Over::By(0),
    }
}
