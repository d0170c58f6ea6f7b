//! A live object of a heap, or an extent, gets another owner.
//!
//! Invariants: the object's tag changes between two looks at it by its holder. Tags of other
//! objects stay.
//! Depends on: `tags`.
//! Never: a charge.

#![forbid(unsafe_code)]

use super::slab::SlabKind;
use super::{Kmem, Object};
use crate::os::sigmask;
use crate::thread::Tag;

impl Kmem {
    /// Makes `to` the owner of `object`, which is live and held by the calling thread alone. The
    /// caller changes the charges, and no fork happens meanwhile. Not in a signal handler.
    ///
    /// Cost: a store; the first time in a slab with one tag also two system calls, and a store for
    /// each object that the slab has room for.
    pub fn retag(&self, object: &Object, to: Option<Tag>) {
        let slab = object.slab;
        match slab.kind() {
            SlabKind::Objects => {
                // A handler in the middle could need a slab of the shared heap, which this may be.
                let _signals = (!slab.is_mixed()).then(sigmask::block_all);
                slab.retag_held(object.offset, to);
            }
            SlabKind::Large | SlabKind::Huge => slab.retag_extent(to),
            // `locate` answers no objects of these.
            SlabKind::Free | SlabKind::Inside | SlabKind::Cached => {}
        }
    }
}
