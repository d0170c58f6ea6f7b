//! Things that several groups hold: a thing says who holds it, so that it can be charged to a group
//! that is left.
//!
//! Invariants: a [`Shared`] thing is charged once, to its owner, whoever holds it. When its owner's
//! group ends and its `memory.offline` is `mapper`, the thing is charged to the group that holds
//! it, or of several to the one that came last, but never over a limit there. Things are looked at
//! in the order in which they were shared, so one history has one outcome. A reservation whose lock
//! is held meanwhile stays the parent's until somebody holds it anew.
//! Depends on: `cache`, `charge`.
//! Never: charges a group that does not hold the thing; does anything under the register's lock but
//! copy it.

#![forbid(unsafe_code)]

use super::cache::{KBox, KBytes};
use super::charge::Charge;
use super::error::ReserveError;
use super::memcg::Memcg;
use super::scope::no_account;
use crate::engine::offline_policy;
use crate::group::cell::OfflineAction;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Offline actions by which a new holder takes a thing over.
const BY_HOLDER: &[OfflineAction] = &[
    OfflineAction::RechargeToHolder,
    OfflineAction::RechargeToToucher,
];

#[expect(unnameable_types, reason = "nobody outside is to implement it")]
mod sealed {
    /// The offline actions that are asked about.
    pub struct How<'a>(pub(super) &'a [super::OfflineAction]);

    pub trait Thing {
        fn was_left(&self, how: How<'_>) -> bool;
        fn recharge(&self, group: &super::Memcg) -> Result<(), super::ReserveError>;
    }
}

/// A thing that can be shared: an object of a cache, or a reservation in a [`Mutex`]. There are no
/// others.
pub trait Sharable: sealed::Thing + Send + Sync + 'static {}

impl<T: Send + Sync + 'static> Sharable for KBox<T> {}
impl Sharable for KBytes {}
impl Sharable for Mutex<Charge> {}

impl<T> sealed::Thing for KBox<T> {
    fn was_left(&self, how: sealed::How<'_>) -> bool {
        KBox::was_left(self, how.0)
    }

    fn recharge(&self, group: &Memcg) -> Result<(), ReserveError> {
        self.recharge_to(group)
    }
}

impl sealed::Thing for KBytes {
    fn was_left(&self, how: sealed::How<'_>) -> bool {
        KBytes::was_left(self, how.0)
    }

    fn recharge(&self, group: &Memcg) -> Result<(), ReserveError> {
        self.recharge_to(group)
    }
}

impl sealed::Thing for Mutex<Charge> {
    // A group's end waits for nobody, so a reservation that somebody has locked stays where it is.
    fn was_left(&self, how: sealed::How<'_>) -> bool {
        self.try_lock().is_ok_and(|charge| charge.was_left(how.0))
    }

    fn recharge(&self, group: &Memcg) -> Result<(), ReserveError> {
        self.try_lock()
            .map_or(Ok(()), |mut charge| charge.give(group))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in ours is valid between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last number that was given, and the shared things by number: in the order in which they were
/// shared.
type Register = (u64, BTreeMap<u64, Weak<dyn Held>>);

/// All shared things of this process.
static REGISTER: Mutex<Register> = Mutex::new((0, BTreeMap::new()));

trait Held: Send + Sync {
    /// Charges the thing to a group that holds it, if its owner's group has ended by `mapper`.
    fn apply_offline_actions(&self);
}

struct Inner<T: Sharable> {
    number: u64,
    /// The groups that hold it; the last is the one that came last.
    holders: Mutex<(u64, Vec<(u64, Memcg)>)>,
    thing: T,
}

impl<T: Sharable> Drop for Inner<T> {
    fn drop(&mut self) {
        let _free = no_account();
        let gone = lock(&REGISTER).1.remove(&self.number);
        drop(gone);
    }
}

impl<T: Sharable> Held for Inner<T> {
    fn apply_offline_actions(&self) {
        if !self
            .thing
            .was_left(sealed::How(&[OfflineAction::RechargeToHolder]))
        {
            return;
        }
        let holder = {
            let holders = lock(&self.holders);
            let online = holders.1.iter().rev().find(|(_, group)| group.is_online());
            online.map(|(_, group)| group.clone())
        };
        if let Some(holder) = holder {
            // Without room the thing stays where it is, and `recharge_failed` is counted.
            let _ = self.thing.recharge(&holder);
        }
    }
}

/// Applies the offline actions of all shared things, after a group has ended by `mapper`. O(shared
/// things).
fn apply_all_offline_actions() {
    let _free = no_account();
    let all: Vec<Weak<dyn Held>> = lock(&REGISTER).1.values().cloned().collect();
    for held in all {
        if let Some(held) = held.upgrade() {
            held.apply_offline_actions();
        }
    }
}

/// A thing that knows the groups that hold it. A clone is one more handle on it; the last handle
/// drops it.
///
/// ```
/// use memcg::{Shared, root};
/// use std::sync::Mutex;
///
/// let (a, b) = (root().create("shared-a").unwrap(), root().create("shared-b").unwrap());
/// a.write("memory.offline", "mapper").unwrap();
/// let index = Shared::new(Mutex::new(a.try_reserve(1 << 20).unwrap()));
/// let _held = index.hold(&b);
/// a.remove().unwrap();
/// assert_eq!(b.current(), 1 << 20);
/// ```
pub struct Shared<T: Sharable>(Arc<Inner<T>>);

impl<T: Sharable> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Sharable> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.thing
    }
}

impl<T: Sharable> core::fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Shared({} holders)", self.nr_holders())
    }
}

impl<T: Sharable> Shared<T> {
    /// Shares `thing`, which no group but its owner's holds yet. What that needs is accounted to
    /// nobody.
    pub fn new(thing: T) -> Self {
        let _free = no_account();
        offline_policy::set_offline_actions_hook(apply_all_offline_actions);
        let mut register = lock(&REGISTER);
        register.0 += 1;
        let number = register.0;
        let inner = Arc::new(Inner {
            number,
            holders: Mutex::default(),
            thing,
        });
        let weak = Arc::downgrade(&inner);
        register.1.insert(number, weak);
        Self(inner)
    }

    /// Makes `group` a holder until the answer is dropped. If the thing was left by a removed group
    /// whose `memory.offline` is `mapper` or `next-touch`, it is charged to `group` from here on,
    /// if there is room.
    pub fn hold(&self, group: &Memcg) -> Holder<T> {
        let number = {
            let _free = no_account();
            let mut holders = lock(&self.0.holders);
            holders.0 += 1;
            let number = holders.0;
            holders.1.push((number, group.clone()));
            number
        };
        if self.0.thing.was_left(sealed::How(BY_HOLDER)) {
            // Without room the thing stays where it is, and `recharge_failed` is counted.
            let _ = self.0.thing.recharge(group);
        }
        Holder {
            number,
            shared: self.clone(),
        }
    }

    /// The number of holders.
    #[must_use]
    pub fn nr_holders(&self) -> usize {
        lock(&self.0.holders).1.len()
    }
}

/// A group's hold on a [`Shared`] thing, until this is dropped.
#[must_use = "the thing is held until this is dropped"]
#[derive(Debug)]
pub struct Holder<T: Sharable> {
    number: u64,
    shared: Shared<T>,
}

impl<T: Sharable> Deref for Holder<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.shared
    }
}

impl<T: Sharable> Drop for Holder<T> {
    fn drop(&mut self) {
        let _free = no_account();
        let gone = {
            let mut holders = lock(&self.shared.0.holders);
            let at = holders.1.iter().position(|(n, _)| *n == self.number);
            at.map(|at| holders.1.remove(at))
        };
        drop(gone);
    }
}
