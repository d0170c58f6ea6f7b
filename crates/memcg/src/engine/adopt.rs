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

/// A reference to an owner, given back when it is dropped.
struct OwnerRef<'a> {
    engine: &'a Engine,
    rec: &'a ThreadRec,
    tag: Tag,
}

impl<'a> OwnerRef<'a> {
    /// To `tag`, which the caller names, or to its successor.
    fn take(engine: &'a Engine, rec: &'a ThreadRec, tag: Tag) -> Self {
        let _pin = engine.tree.threads.epoch.pin(rec);
        let tag = engine.tree.ref_live_tag(tag);
        Self { engine, rec, tag }
    }
}

impl Drop for OwnerRef<'_> {
    fn drop(&mut self) {
        let _pin = self.engine.tree.threads.epoch.pin(self.rec);
        self.engine.tree.unref_objcg(self.tag);
    }
}

/// Why a block was not adopted; nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAdopted {
    /// No object of this engine's heaps begins there.
    NotOurs,
    /// The new owner has no room for it.
    Full(ChargeError),
}

impl Engine {
    /// Makes `to`, a group's own owner, or its successor the owner of the live object at `at`,
    /// which the calling thread holds alone.
    ///
    /// # Errors
    /// See [`NotAdopted`].
    pub fn adopt(&self, rec: &ThreadRec, at: usize, to: Tag) -> Result<(), NotAdopted> {
        let object = self.kmem.locate(at).map_err(|_| NotAdopted::NotOurs)?;
        self.give_owner(rec, object.tag, to, object.bytes as u64, |to| {
            // A fork waits: its child would find the slab in the middle of it.
            self.change(|| self.kmem.retag(&object, Some(to)));
        })
        .map_err(NotAdopted::Full)
    }

    /// Charges `to`, or its successor, for a block of `bytes` that `from` is charged for, has
    /// `retag` write the new tag, and uncharges `from`.
    ///
    /// # Errors
    /// When `to` has no room for it.
    pub fn give_owner(
        &self,
        rec: &ThreadRec,
        from: Option<Tag>,
        to: Tag,
        bytes: u64,
        retag: impl FnOnce(Tag),
    ) -> Result<(), ChargeError> {
        let to = OwnerRef::take(self, rec, to);
        if from == Some(to.tag) || self.accounting() != Accounting::On {
            return Ok(());
        }
        self.charge(rec, Request::heap(to.tag, bytes, Flags::NOWAIT))?;
        retag(to.tag);
        if let Some(from) = from.filter(|&from| self.is_tag(from)) {
            self.uncharge(rec, from, bytes, Kind::Heap);
        }
        Ok(())
    }
}
