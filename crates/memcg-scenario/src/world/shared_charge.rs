//! A reservation that several groups hold.
//!
//! Invariants: one group at a time is charged for it; who that is may change when a group ends.
//! Depends on: the engine's `Shared`.
//! Never: frees the reservation before its last holder ends.

#![forbid(unsafe_code)]

use crate::world::lock::lock;
use memcg::{Charge, Memcg, ReserveError, Shared};
use std::any::Any;
use std::sync::Mutex;

/// Shares in things of any kind; they end when this is dropped.
pub type Held = Vec<Box<dyn Any + Send>>;

/// A reservation that several hold.
pub struct SharedCharge(Shared<Mutex<Charge>>);

impl SharedCharge {
    /// A reservation that nobody else holds yet.
    pub fn new(charge: Charge) -> SharedCharge {
        SharedCharge(Shared::new(Mutex::new(charge)))
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> u64 {
        lock(&self.0).bytes()
    }

    /// Uses it for the task that the thread works for.
    pub fn touch(&self) {
        let mut charge = lock(&self.0);
        charge.touch();
    }

    /// Charges it to `group` from now on, or nothing has changed.
    pub fn give(&self, group: &Memcg) -> Result<(), ReserveError> {
        let mut charge = lock(&self.0);
        charge.give(group)
    }

    /// Has `group` hold it as well, as long as the answer lives.
    pub fn hold(&self, group: &Memcg) -> Box<dyn Any + Send> {
        Box::new(self.0.hold(group))
    }
}
