//! A group's end: its lists become its parent's.

use super::super::Kmem;
use super::Lists;
use crate::group::id::KmemId;
use crate::kmem::id::ListId;
use crate::sync::atomic::Ordering;
use crate::sync::lock::Rank;

impl Lists {
    /// Ends what all lists keep under `id`, whose group is ending: nobody gets a head for it any
    /// more. Takes no memory, does not fail. O(lists). The caller is pinned. `in_front`: what the
    /// group leaves is the first to go of what the parent has.
    pub fn group_ends(&self, kmem: &Kmem, id: KmemId, in_front: bool) {
        for (list, rec) in self.lists.each() {
            let users = &rec.users;
            if !users.try_ref() {
                // A list without items, as it is ending.
                continue;
            }
            self.end_head(kmem, list, id, in_front);
            if users.unref() {
                self.free(kmem, list);
            }
        }
        self.unmark_all(id);
    }

    /// Redirect, then splice. In this order: who looks from here on finds the group above, and who
    /// found the head before sees, under its lock, that it has ended.
    pub(super) fn end_head(&self, kmem: &Kmem, list: ListId, id: KmemId, in_front: bool) {
        let Some(index) = self.lists.get(list).heads.remove(kmem, id) else {
            return;
        };
        let head = self.heads.get(index);
        let Some(above) = head.above.load(Ordering::Relaxed) else {
            // The root's, which ends with its list alone.
            return;
        };
        loop {
            // The parent's may have ended meanwhile as well. We name `above`, so what it leads to
            // is there.
            let to = self.live(above);
            let target = self.heads.get(to);
            // Parent before child.
            let _above = target.lock.lock(Rank::List);
            if target.to.load(Ordering::Relaxed).is_some() {
                continue;
            }
            {
                let _held = head.lock.lock(Rank::List);
                // SAFETY: both rings' own links, both locks.
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
