//! The step by which a group is told what its children begin with, and what that comes to for a
//! child that is made later.
//!
//! The engine's own way to set it arms the budget of the process as well, by the limits of the
//! machine, and starts a worker; nothing here depends on those. So the tree is told.

#![forbid(unsafe_code)]

use crate::books::{Css, Group};
use crate::stage::Planted;
use crate::told::Defaults;
use crate::world::World;
use memcg::testing::counter::page_counter::UNLIMITED;
use memcg::testing::group::template::Setting;
use memcg::testing::group::{MovePolicy, OfflinePolicy, OomPolicy};

impl Group {
    /// A new group, by what its parent says.
    pub(crate) fn begin_with(mut self, defaults: &Defaults) -> Self {
        for (setting, _) in Setting::ALL {
            let Some(value) = defaults.0[setting as usize] else {
                continue;
            };
            let at = value as usize;
            match setting {
                Setting::Max => self.max = value,
                Setting::High => self.high = value,
                Setting::Low => self.low = value,
                Setting::Min => self.min = value,
                Setting::KmemMax => self.kmem_max = value,
                Setting::DebtMax => self.debt_max = value,
                Setting::OomPolicy => self.oom_policy = OomPolicy::ALL[at].0,
                Setting::OomGroup => self.oom_group = value != 0,
                Setting::Offline => self.offline = OfflinePolicy::ALL[at].0,
                Setting::Move => self.moves = MovePolicy::ALL[at].0,
            }
        }
        self.had_oom_group = self.oom_group;
        self
    }
}

/// What a step says of a setting.
fn value_of(setting: Setting, n: u32) -> u64 {
    let bytes = match n % 4 {
        0 => UNLIMITED,
        1 => u64::from(n),
        _ => u64::from(n) * 8,
    };
    let one_of = |nr: usize| u64::from(n) % nr as u64;
    match setting {
        Setting::Max | Setting::High | Setting::KmemMax | Setting::DebtMax => bytes,
        Setting::Low | Setting::Min if bytes == UNLIMITED => 0,
        Setting::Low | Setting::Min => bytes,
        Setting::OomPolicy => one_of(OomPolicy::ALL.len()),
        Setting::OomGroup => one_of(2),
        Setting::Offline => one_of(OfflinePolicy::ALL.len()),
        Setting::Move => one_of(MovePolicy::ALL.len()),
    }
}

impl World {
    /// A group is told what its children begin with, of one setting or of some.
    pub(crate) fn defaults(&mut self, n: [u32; 4]) {
        let g = self.online(n[0]);
        let (tree, group) = (&self.engine.tree, self.stage.group(g));
        for i in 0..=n[1] % 3 {
            let setting = Setting::ALL[(n[1] / 3 + 3 * i) as usize % Setting::ALL.len()].0;
            let is_taken_back = (n[3] + i).is_multiple_of(5);
            let value = (!is_taken_back).then(|| value_of(setting, n[2]));
            let is_heard = self.stage.planted != Planted::DefaultUnheard;
            if is_heard && !tree.set_child_default(group, setting, value) {
                assert!(self.is_lenient(), "no memory for what children begin with");
                return;
            }
            self.stage.books.borrow_mut().groups[g].defaults.0[setting as usize] = value;
        }
    }

    /// A group has been told what the books say, by a step or as it was made.
    pub(crate) fn audit_settings(&self) {
        let books = self.stage.books.borrow();
        for (g, known) in books.groups.iter().enumerate().skip(1) {
            if known.css != Css::Online {
                continue;
            }
            let group = self.engine.tree.memcgs.get(known.index);
            let counter = &group.counter;
            let found = [counter.max(), counter.high(), counter.low(), counter.min()];
            let expected = [known.max, known.high, known.low, known.min];
            assert_eq!(found, expected, "max, high, low, min of group {g}");
            let found = [group.kmem_max(), group.debt_max()];
            let expected = [known.kmem_max, known.debt_max];
            assert_eq!(found, expected, "kmem.max and debt.max of group {g}");
            let found = (group.oom_policy(), group.is_oom_group());
            let expected = (known.oom_policy, known.oom_group);
            assert_eq!(found, expected, "oom.policy and oom.group of group {g}");
            let found = (group.offline_policy(), group.move_policy());
            let expected = (known.offline, known.moves);
            assert_eq!(found, expected, "offline and move of group {g}");
        }
    }
}
