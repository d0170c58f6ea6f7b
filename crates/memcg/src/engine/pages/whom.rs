//! Whom a touch charges.
//!
//! Invariants: the owner that is answered is named, by whom it belongs to or by the guard.
//! Depends on: the mapping, which names its own owner; the thread's record for `charge_to`.
//! Never: a charge.

#![forbid(unsafe_code)]

use super::super::Engine;
use crate::group::{Hierarchy, Tag};
use crate::page::mapping::Mapping;
use crate::page::region::{Region, RegionKind};
use crate::sync::atomic::Ordering;
use crate::thread::ThreadRec;

/// An owner to be charged, named for as long as this lives.
pub(super) struct Whom<'e> {
    tree: &'e Hierarchy,
    rec: &'e ThreadRec,
    tag: Tag,
    /// Whether the name is this guard's.
    is_named: bool,
}

impl Whom<'_> {
    pub(super) fn tag(&self) -> Tag {
        self.tag
    }
}

impl Drop for Whom<'_> {
    fn drop(&mut self) {
        if self.is_named {
            let _pin = self.tree.threads.epoch.pin(self.rec);
            self.tree.unref_objcg(self.tag);
        }
    }
}

impl Engine {
    /// Whom a page charges that has no content yet, in this order: who was named for it
    /// (`charge_to`); the owner that was declared for the region; of an anonymous region who mapped
    /// it; of any other the group of who touches it. That group's own owner is charged, so that a
    /// task's move leaves the page where it is.
    pub(super) fn whom_to_charge<'e>(
        &'e self,
        rec: &'e ThreadRec,
        region: &Region,
        mapping: &Mapping,
    ) -> Whom<'e> {
        let tree = &self.tree;
        let whom = |tag: Tag, is_named: bool| Whom {
            tree,
            rec,
            tag,
            is_named,
        };
        // The call that set it names it.
        if let Some(tag) = rec.charge_to.load(Ordering::Relaxed) {
            return whom(tag, false);
        }
        let named = |tag: Tag| whom(tag, true);
        let _pin = tree.threads.epoch.pin(rec);
        if let Some(tag) = region.declared() {
            // Another may be declared this moment: then the old one is let go when we are unpinned.
            return named(
                tree.try_ref_live_tag(tag)
                    .unwrap_or_else(|| self.ref_group_of(tag)),
            );
        }
        match region.kind() {
            RegionKind::Anon => named(tree.ref_live_tag(mapping.tag())),
            RegionKind::Shmem | RegionKind::File => named(self.ref_group_of(mapping.tag())),
        }
    }

    /// A guard on an owner that the caller has named; the name is the guard's.
    pub(super) fn whom<'e>(&'e self, rec: &'e ThreadRec, tag: Tag) -> Whom<'e> {
        Whom {
            tree: &self.tree,
            rec,
            tag,
            is_named: true,
        }
    }

    /// Names the own owner of the group that an owner is in. The caller is pinned.
    pub(super) fn ref_group_of(&self, tag: Tag) -> Tag {
        let tree = &self.tree;
        loop {
            let live = tree.live_tag(tag);
            let group = tree.resolve(tree.objcgs.get(live).cell()).group;
            let own = group.tag();
            // A group that ends this moment lets go of its owner: the next look finds its parent.
            if tree.try_ref_objcg(own) {
                return own;
            }
            crate::sync::relax();
        }
    }
}
