//! A template: what every child of a group begins with, `memory.defaults`.
//!
//! A tenant that appears later has its limit from its first byte. A template is applied to a group
//! as it is made; groups that are there already stay as they are, and grandchildren have nothing of
//! it.
//!
//! Invariants: a template is written, and applied, under its group's lock. It goes with the group.
//! Depends on: the group's event counts, in which few groups have more than nothing.
//! Never: a charge; a setting that can refuse to be made.

use super::Hierarchy;
use super::id::TemplateId;
use super::memcg_record::Memcg;
use super::settings::{MovePolicy, OfflinePolicy, OomPolicy};
use crate::sync::Zeroed;
use crate::sync::arena::Record;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::lock::{Held, Rank};

/// A setting that a template may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Setting {
    /// `memory.max`, bytes.
    Max,
    /// `memory.high`, bytes.
    High,
    /// `memory.low`, bytes.
    Low,
    /// `memory.min`, bytes.
    Min,
    /// `memory.kmem.max`, bytes.
    KmemMax,
    /// `memory.debt.max`, bytes.
    DebtMax,
    /// `memory.oom.policy`, by number.
    OomPolicy,
    /// `memory.oom.group`, 0 or 1.
    OomGroup,
    /// `memory.offline`, by number.
    Offline,
    /// `memory.move`, by number.
    Move,
}

const NR: usize = 10;

impl Setting {
    /// All, with their files.
    pub const ALL: [(Setting, &'static str); NR] = [
        (Setting::Max, "memory.max"),
        (Setting::High, "memory.high"),
        (Setting::Low, "memory.low"),
        (Setting::Min, "memory.min"),
        (Setting::KmemMax, "memory.kmem.max"),
        (Setting::DebtMax, "memory.debt.max"),
        (Setting::OomPolicy, "memory.oom.policy"),
        (Setting::OomGroup, "memory.oom.group"),
        (Setting::Offline, "memory.offline"),
        (Setting::Move, "memory.move"),
    ];

    /// Gives a group the value. Under the group's lock, or before anybody knows the group.
    fn apply(self, group: &Memcg, value: u64) {
        let at = value as usize;
        match self {
            Setting::Max => group.counter.set_max(value),
            Setting::High => group.counter.set_high(value),
            Setting::Low => group.counter.set_low(value),
            Setting::Min => group.counter.set_min(value),
            Setting::KmemMax => group.set_kmem_max(value),
            Setting::DebtMax => group.set_debt_max(value),
            Setting::OomPolicy => group.set_oom_policy(OomPolicy::ALL[at].0),
            Setting::OomGroup => group.set_oom_group(value != 0),
            Setting::Offline => group.set_offline_policy(OfflinePolicy::ALL[at].0),
            Setting::Move => group.set_move_policy(MovePolicy::ALL[at].0),
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct Template {
    link: AtomicU32,
    /// A bit for each setting that it holds.
    set: AtomicU32,
    values: [AtomicU64; NR],
}

// SAFETY: atomic integers: zero bytes are 0.
unsafe impl Zeroed for Template {}
// SAFETY: Zeroed, see above. `link` is used by the arena's free list alone.
unsafe impl Record for Template {
    fn link(&self) -> &AtomicU32 {
        &self.link
    }
}

impl Template {
    fn get(&self, setting: Setting) -> Option<u64> {
        let has = self.set.load(Ordering::Relaxed) & (1 << setting as u32) != 0;
        has.then(|| self.values[setting as usize].load(Ordering::Relaxed))
    }

    fn put(&self, setting: Setting, value: Option<u64>) {
        let (bit, set) = (1 << setting as u32, self.set.load(Ordering::Relaxed));
        match value {
            Some(value) => {
                self.values[setting as usize].store(value, Ordering::Relaxed);
                self.set.store(set | bit, Ordering::Relaxed);
            }
            None => self.set.store(set & !bit, Ordering::Relaxed),
        }
    }
}

impl Hierarchy {
    /// What children of the group begin with; `None`: as every group.
    pub fn child_default(&self, group: &Memcg, setting: Setting) -> Option<u64> {
        let _held = group.lock.lock(Rank::Group);
        self.template_of(group)?.get(setting)
    }

    /// Sets what children of the group that are made from now on begin with; `None`: as every
    /// group. `false`: there is no memory for it.
    pub fn set_child_default(&self, group: &Memcg, setting: Setting, value: Option<u64>) -> bool {
        let _held = group.lock.lock(Rank::Group);
        let template = match self.template_of(group) {
            Some(template) => template,
            None if value.is_none() => return true,
            None => match self.new_template(group) {
                Some(template) => template,
                None => return false,
            },
        };
        template.put(setting, value);
        true
    }

    fn template_of(&self, group: &Memcg) -> Option<&Template> {
        group.template_id().map(|id| self.templates.get(id))
    }

    /// The group's first. Under its lock.
    fn new_template(&self, group: &Memcg) -> Option<&Template> {
        let id: TemplateId = self.templates.alloc(u32::MAX)?;
        let template = self.templates.get(id);
        template.set.store(0, Ordering::Relaxed);
        if group.set_template_id(id) {
            return Some(template);
        }
        self.templates.free(id);
        None
    }

    /// Gives a new child what its parent's template says. Under the parent's lock, before the child
    /// is online.
    pub(super) fn apply_template(&self, parent: &Memcg, _held: &Held<'_>, child: &Memcg) {
        let Some(template) = self.template_of(parent) else {
            return;
        };
        for (setting, _) in Setting::ALL {
            if let Some(value) = template.get(setting) {
                setting.apply(child, value);
            }
        }
    }

    /// The group's record is to be another's: its template goes.
    pub(super) fn free_template(&self, group: &Memcg) {
        if let Some(id) = group.template_id() {
            self.templates.free(id);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::group::ROOT;

    #[test]
    fn a_child_that_is_made_later_has_its_limits_from_its_first_byte() {
        let tree = Hierarchy::leaked();
        let (_, rec) = tree.threads.join().unwrap();
        let _pin = tree.threads.epoch.pin(rec);
        let make =
            |parent: &Memcg, name: &[u8]| tree.memcgs.get(tree.create(parent, name).unwrap());
        let top = make(tree.memcgs.get(ROOT), b"tenants");
        let before = make(top, b"before");
        for (setting, value) in [
            (Setting::Max, 1 << 20),
            (Setting::OomPolicy, OomPolicy::Kill as u64),
            (Setting::OomGroup, 1),
        ] {
            assert!(tree.set_child_default(top, setting, Some(value)));
        }
        let after = make(top, b"after");
        let grandchild = make(after, b"deep");
        assert_eq!(after.counter.max(), 1 << 20);
        assert_eq!(after.oom_policy(), OomPolicy::Kill);
        assert!(after.is_oom_group());
        for group in [before, grandchild, top] {
            assert_eq!(group.counter.max(), u64::MAX);
            assert_eq!(group.oom_policy(), OomPolicy::Default);
        }
        assert!(tree.set_child_default(top, Setting::Max, None));
        assert_eq!(make(top, b"last").counter.max(), u64::MAX);
        assert_eq!(tree.child_default(top, Setting::OomGroup), Some(1));
    }
}
