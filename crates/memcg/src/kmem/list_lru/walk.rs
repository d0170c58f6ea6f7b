//! Walking a group's list: each thing is shown to a callback, which says what becomes of it.
//!
//! Invariants: the walker's place is a mark in the ring, so things may come and go meanwhile. The
//! walk holds the memory of the thing that is looked at. A walk whose group ends goes no further;
//! what it has not seen is in the parent's list.
//! Depends on: the lock of the head for each step; `LetGo` to end a hold.
//! Never: a lock or a pin while the callback runs.

use super::link::Link;
use super::{Cx, LetGo, Lists};
use crate::group::id::KmemId;
use crate::kmem::id::{HeadId, ListId};
use crate::sync::atomic::Ordering;
use crate::sync::lock::Rank;

/// What becomes of a thing that was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// It is taken out of the list, unless the callback has already done so, and counts as freed.
    Removed,
    /// It goes to the end of the list: it was used.
    Rotate,
    /// It stays where it is.
    Skip,
    /// It is looked at again, at once.
    Retry,
    /// It stays where it is, and the walk is over.
    Stop,
}

/// What a walk did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Walked {
    /// How many things were looked at.
    pub scanned: u64,
    /// How many of these were removed.
    pub removed: u64,
}

/// The mark of a walk; taken out when the walk ends, also by a panic of the callback.
struct Mark<'a> {
    lists: &'a Lists,
    cx: Cx<'a>,
    link: &'a Link,
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.cx.changed(|| {
            if let Some((head, _held)) = self.lists.lock_home(self.link) {
                self.lists.remove_link(head, self.link);
            }
        });
    }
}

/// The memory of a thing, until it is dropped.
struct Kept(*const Link, LetGo);

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: `next` has called `add_ref` for this value alone, and nobody uses the link
        // through it after this drop.
        unsafe { (self.1)(self.0) };
    }
}

impl Lists {
    /// Shows up to `nr` things of the list of `id` to `look`, oldest first, each once. `id` is that
    /// of a live group. The caller is not pinned and holds no lock.
    pub fn walk(
        &self,
        cx: Cx<'_>,
        list: ListId,
        id: KmemId,
        nr: u64,
        look: &mut dyn FnMut(&Link) -> Verdict,
    ) -> Walked {
        let mut walked = Walked::default();
        let place = Link::mark();
        let Some((head, present)) = self.begin_walk(cx, list, id, &place) else {
            return walked;
        };
        let mark = Mark {
            lists: self,
            cx,
            link: &place,
        };
        let Some(let_go) = self.let_go_of(list) else {
            return walked;
        };
        // No more than were there: a thing that was rotated is not met again.
        let mut left = nr.min(present);
        while left > 0 {
            let Some(link) = self.next(cx, head, mark.link) else {
                break;
            };
            let kept = Kept(link, let_go);
            // SAFETY: `next` has taken a hold on the thing's memory, which `kept` ends only when it
            // is dropped, at the end of this round.
            let link = unsafe { &*kept.0 };
            left -= 1;
            if self.goes_elsewhere(cx, list, head, link) {
                continue;
            }
            walked.scanned += 1;
            let mut verdict = look(link);
            while verdict == Verdict::Retry && left > 0 {
                left -= 1;
                verdict = look(link);
            }
            match verdict {
                Verdict::Removed => {
                    self.del(cx, link);
                    walked.removed += 1;
                }
                Verdict::Rotate => self.rotate(cx, link),
                Verdict::Skip | Verdict::Retry => {}
                Verdict::Stop => break,
            }
        }
        walked
    }

    /// Puts the mark in front of all things; answers the head, and how many things there are.
    fn begin_walk(
        &self,
        cx: Cx<'_>,
        list: ListId,
        id: KmemId,
        mark: &Link,
    ) -> Option<(HeadId, u64)> {
        cx.changed(|| {
            let _pin = cx.tree.threads.epoch.pin(cx.rec);
            let index = self.find(cx, list, id)?;
            let head = self.heads.get(index);
            if head.nr() == 0 {
                return None;
            }
            let _held = head.lock.lock(Rank::List);
            if !head.is_of(super::key(list, id)) {
                return None;
            }
            // SAFETY: the lock of this head is held, and the mark is in no ring. It lies in the
            // frame of `walk`, which `Mark` takes it out of the ring before it ends.
            unsafe { mark.insert_before(head.ring.following()) };
            head.add_ref();
            // Release pairs with the Acquire of `lock_home`.
            mark.home.store(Some(index), Ordering::Release);
            Some((index, head.nr()))
        })
    }

    /// Moves the mark past the next thing, of which it takes a hold for the caller.
    fn next(&self, cx: Cx<'_>, head: HeadId, mark: &Link) -> Option<*const Link> {
        cx.changed(|| {
            let (at, _held) = self.lock_home(mark)?;
            if at != head {
                return None;
            }
            let ring = &self.heads.get(at).ring;
            loop {
                // SAFETY: `lock_home` found the mark in this ring and has its lock, held while
                // `next` is used.
                let next = unsafe { mark.following() };
                if core::ptr::eq(next, ring) {
                    return None;
                }
                // SAFETY: mark and `next` are in this ring, whose lock is held. The mark is put in
                // again before it is let go, and stays in the frame of `walk`.
                unsafe {
                    mark.unlink();
                    mark.insert_before(next.following());
                }
                if !next.is_mark() {
                    next.add_ref();
                    return Some(core::ptr::from_ref(next));
                }
            }
        })
    }

    /// Moves a thing that was used, and may have another owner now, to the end of the list it
    /// belongs in, if it is in any. The caller holds the thing, which does not end meanwhile.
    pub fn follow(&self, cx: Cx<'_>, list: ListId, link: &Link) {
        let home = cx.changed(|| {
            let _pin = cx.tree.threads.epoch.pin(cx.rec);
            self.lock_home(link).map(|(at, _held)| at)
        });
        if let Some(head) = home
            && !self.goes_elsewhere(cx, list, head, link)
        {
            self.rotate(cx, link);
        }
    }

    /// If a thing belongs to another group by now, puts it into that group's list. `true`: it did.
    fn goes_elsewhere(&self, cx: Cx<'_>, list: ListId, head: HeadId, link: &Link) -> bool {
        let taken = cx.changed(|| {
            let _pin = cx.tree.threads.epoch.pin(cx.rec);
            let cell = cx.tree.objcgs.get(link.tag()).cell();
            let (right, _) = self.head_of(cx, list, cx.tree.resolve(cell).group);
            if right == head {
                return false;
            }
            match self.lock_home(link) {
                // The thing stays claimed, so no other thread puts it in.
                Some((at, _held)) if at == head => {
                    self.remove_link(at, link);
                    true
                }
                _ => false,
            }
        });
        if taken {
            // SAFETY: this thread has taken the link out of its ring and left it claimed. Whoever
            // added the thing promised that it does not move or end before it is taken out; `del`
            // waits while a claimed thing is in no ring.
            unsafe { self.place(cx, list, link) };
        }
        taken
    }

    /// Puts a thing at the end of the list it is in.
    fn rotate(&self, cx: Cx<'_>, link: &Link) {
        cx.changed(|| {
            if let Some((at, _held)) = self.lock_home(link) {
                let ring = &self.heads.get(at).ring;
                // SAFETY: `lock_home` found the link in this ring and has its lock. It is in no
                // ring between the two calls, and whoever added it promised that it does not move
                // or end.
                unsafe {
                    link.unlink();
                    link.insert_before(ring);
                }
            }
        });
    }

    /// Looks at all things that a kmem id has in any list, and puts those that belong to other
    /// groups by now into their lists. Called after the move of a task, unpinned and without a
    /// lock.
    pub fn sort(&self, cx: Cx<'_>, id: KmemId) {
        for (list, rec) in self.lists.each() {
            let users = &rec.users;
            if !users.try_ref() {
                continue;
            }
            self.walk(cx, list, id, u64::MAX, &mut |_| Verdict::Skip);
            if users.unref() {
                self.free(cx.kmem, list);
            }
        }
    }

    /// How a walk ends its hold on a thing. `None`: the list is not open.
    fn let_go_of(&self, list: ListId) -> Option<LetGo> {
        self.lists.get(list).let_go.get()
    }
}
