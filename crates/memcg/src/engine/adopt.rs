//! A block of the heap gets another owner, under its holder's exclusive borrow.
//!
//! The new owner is charged first, then the tag is changed, then the old owner is uncharged. A
//! group above both needs room for the block twice for a moment.
//!
//! Invariants: a refused adoption has changed nothing.
//! Depends on: the loop around a charge; `kmem` for the tag.
//! Never: kills or goes above a limit in the target, but where the target is observed only.

#![forbid(unsafe_code)]

use super::{Accounting, ChargeError, Engine, Flags, Request};
use crate::group::{Kind, Tag};
use crate::thread::ThreadRec;

/// Why a block was not adopted; nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAdopted {
    /// No object of this engine's heaps begins there.
    NotOurs,
    /// The new owner has no room for it.
    Full(ChargeError),
}

impl Engine {
    /// Makes `to`, to which the caller has a reference, the owner of the live object at `at`, which
    /// the calling thread holds alone.
    ///
    /// # Errors
    /// See [`NotAdopted`].
    pub fn adopt(&self, rec: &ThreadRec, at: usize, to: Tag) -> Result<(), NotAdopted> {
        let object = self.kmem.locate(at).map_err(|_| NotAdopted::NotOurs)?;
        self.give_owner(rec, object.tag, to, object.bytes as u64, || {
            // A fork waits: its child would find the slab in the middle of it.
            self.change(|| self.kmem.retag(&object, Some(to)));
        })
        .map_err(NotAdopted::Full)
    }

    /// Charges `to` for a block of `bytes` that `from` is charged for, has `retag` write the new
    /// tag, and uncharges `from`.
    ///
    /// # Errors
    /// When `to` has no room for it.
    pub fn give_owner(
        &self,
        rec: &ThreadRec,
        from: Option<Tag>,
        to: Tag,
        bytes: u64,
        retag: impl FnOnce(),
    ) -> Result<(), ChargeError> {
        if from == Some(to) || self.accounting() != Accounting::On {
            return Ok(());
        }
        self.charge(rec, Request::heap(to, bytes, Flags::NOWAIT))?;
        retag();
        if let Some(from) = from.filter(|&from| self.is_tag(from)) {
            self.uncharge(rec, from, bytes, Kind::Heap);
        }
        Ok(())
    }
}
