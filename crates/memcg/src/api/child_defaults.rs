//! Limits before the groups: what children of a group that are made later begin with.
//!
//! Invariants: groups that are there stay as they are.
//! Depends on: `group::template`.
//! Never: a default for grandchildren.

#![forbid(unsafe_code)]

use super::error::LimitError;
use super::memcg::Memcg;
use crate::group::OomPolicy;
use crate::group::template::Setting;
use crate::units::Limit;

/// What children of a group begin with. What is not said stays as it was said before; at first as
/// with every group.
///
/// ```
/// use memcg::{ChildDefaults, Limit, OomPolicy};
///
/// let tenants = memcg::root().create("tenants-with-limits").unwrap();
/// let defaults = ChildDefaults::new()
///     .max(Limit::bytes(64 << 20))
///     .oom_policy(OomPolicy::Kill);
/// tenants.set_child_defaults(&defaults).unwrap();
/// assert_eq!(tenants.create("acme").unwrap().max(), Limit::bytes(64 << 20));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct ChildDefaults {
    all: Vec<(Setting, Option<u64>)>,
}

impl ChildDefaults {
    /// Says nothing.
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, setting: Setting, value: u64) -> Self {
        self.all.push((setting, Some(value)));
        self
    }

    /// `memory.max`.
    pub fn max(self, limit: Limit) -> Self {
        self.with(Setting::Max, limit.get())
    }

    /// `memory.high`.
    pub fn high(self, limit: Limit) -> Self {
        self.with(Setting::High, limit.get())
    }

    /// `memory.low`.
    pub fn low(self, bytes: Limit) -> Self {
        self.with(Setting::Low, bytes.get())
    }

    /// `memory.min`.
    pub fn min(self, bytes: Limit) -> Self {
        self.with(Setting::Min, bytes.get())
    }

    /// `memory.kmem.max`.
    pub fn kmem_max(self, limit: Limit) -> Self {
        self.with(Setting::KmemMax, limit.get())
    }

    /// `memory.debt.max`. Set, it can end a Rust program: beyond it the global allocator is
    /// refused.
    pub fn debt_max(self, limit: Limit) -> Self {
        self.with(Setting::DebtMax, limit.get())
    }

    /// `memory.oom.policy`.
    pub fn oom_policy(self, policy: OomPolicy) -> Self {
        self.with(Setting::OomPolicy, policy as u64)
    }

    /// `memory.oom.group`: a kill takes the whole child.
    pub fn oom_group(self, on: bool) -> Self {
        self.with(Setting::OomGroup, on.into())
    }
}

impl Memcg {
    /// Sets what children of this group begin with that are made from now on: a tenant that appears
    /// later has its limit from its first byte. The same as writing `memory.defaults`.
    ///
    /// # Errors
    /// See [`LimitError`].
    pub fn set_child_defaults(&self, defaults: &ChildDefaults) -> Result<(), LimitError> {
        self.with(|engine, rec, group| {
            if !group.is_online() {
                return Err(LimitError::Gone);
            }
            if engine.set_child_defaults(rec, group, &defaults.all) {
                Ok(())
            } else {
                Err(LimitError::NoMemory)
            }
        })
        .unwrap_or(Err(LimitError::Gone))
    }
}
