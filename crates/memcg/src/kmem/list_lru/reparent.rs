//! The end of a group, for lists: its lists become its parent's.
//!
//! Invariants: at each moment a thing is in one ring. Whoever finds the ended head by an old name
//! is led on to the live one.
//! Depends on: the lock order, parent before child.
//! Never: memory taken; a failure; a look at an item.

use super::super::Kmem;
use super::Lists;
use crate::group::id::KmemId;
use crate::kmem::id::ListId;
use crate::sync::atomic::Ordering;
use crate::sync::lock::Rank;

impl Lists {
    /// Ends what all lists keep under `id`, whose group is ending. No thread finds a head for the
    /// id from here on. `in_front`: what the group leaves goes to the front of the parent's list,
    /// to be reclaimed first. The caller is pinned. It takes no memory and cannot fail. O(lists).
    pub fn group_ends(&self, kmem: &Kmem, id: KmemId, in_front: bool) {
        for (list, rec) in self.lists.each() {
            let users = &rec.users;
            if !users.try_ref() {
                // This list is ending, so it has no items.
                continue;
            }
            self.end_head(kmem, list, id, in_front);
            if users.unref() {
                self.free(kmem, list);
            }
        }
        self.unmark_all(id);
    }

    /// Ends the head of `id` in one list: first redirect, then splice. In this order a thread that
    /// looks from here on finds the group above, and one that found the head before sees, under its
    /// lock, that it has ended.
    pub(super) fn end_head(&self, kmem: &Kmem, list: ListId, id: KmemId, in_front: bool) {
        let Some(index) = self.lists.get(list).heads.remove(kmem, id) else {
            return;
        };
        let head = self.heads.get(index);
        let Some(above) = head.above.load(Ordering::Relaxed) else {
            // The root's head ends only with its list.
            return;
        };
        loop {
            // The parent's head may have ended too. This head has a reference to `above`, so the
            // head that `above` leads to exists.
            let to = self.live(above);
            let target = self.heads.get(to);
            // Parent before child.
            let _above = target.lock.lock(Rank::List);
            if target.to.load(Ordering::Relaxed).is_some() {
                continue;
            }
            {
                let _held = head.lock.lock(Rank::List);
                // SAFETY: both are the rings' own links. The locks of `target` and `head` are held,
                // and the two differ, since `target` has not ended and is above.
                unsafe { head.ring.splice(&target.ring, in_front) };
                if head.nr() > 0 && target.nr() == 0 {
                    self.mark(target);
                }
                target.add_nr(head.nr());
                head.sub_nr(head.nr());
                target.add_ref();
                head.set_ended(Some(to));
            }
            break;
        }
        self.unref_head(above);
        self.unref_head(index);
    }
}
