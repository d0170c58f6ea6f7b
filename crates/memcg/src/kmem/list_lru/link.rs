//! The link by which a thing is in a list: 32 bytes of its own.
//!
//! `prev`, `next` and `home` change under the lock of the head that `home` leads to. `home` names
//! the head the link was put into, not the group, nor where that head's items are now: a head that
//! has ended leads to another. `state` says whether the thing is in a list, or on its way into one:
//! who puts it in claims it first.

use crate::kmem::id::HeadId;
use crate::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use crate::sync::id::{AtomicId, Id};
use crate::thread::Tag;

/// In no list.
pub(super) const OFF: u32 = 0;
/// In a list, or on its way into one.
pub(super) const ON: u32 = 1;
/// The place of somebody who walks; no thing.
pub(super) const MARK: u32 = 2;

/// In `tag`: somebody has the thing change owners.
const CHANGING: u32 = 1 << 31;

/// See the module. It does not move while it is in a list.
#[derive(Default)]
pub struct Link {
    pub(super) prev: AtomicPtr<Link>,
    pub(super) next: AtomicPtr<Link>,
    /// The head it was put into; none: in no list this moment.
    pub(super) home: AtomicId<HeadId>,
    pub(super) state: AtomicU32,
    tag: AtomicU32,
    refs: AtomicU32,
}

/// # Panics
/// If the word is of a walker's mark or a head's ring, which belong to nobody.
fn owner_of(word: u32) -> Tag {
    Tag::from_word(word).expect("a thing in a list has an owner")
}

impl Link {
    /// Of a thing that belongs to `tag`, held once.
    #[must_use]
    pub fn new(tag: Tag) -> Self {
        Self {
            tag: AtomicU32::new(tag.raw()),
            refs: AtomicU32::new(1),
            ..Self::default()
        }
    }

    /// The place of a walker.
    pub(super) fn mark() -> Self {
        Self {
            state: AtomicU32::new(MARK),
            ..Self::default()
        }
    }

    /// Whom the thing belongs to.
    pub fn tag(&self) -> Tag {
        owner_of(self.tag.load(Ordering::Relaxed) & !CHANGING)
    }

    /// Begins a change of owners, by one who holds the thing; answers the old one. `None`: another
    /// thread is at it. To be followed by [`Self::end_change`].
    #[must_use]
    pub fn begin_change(&self) -> Option<Tag> {
        // Acquire pairs with the Release of `end_change`: one change sees the last one done.
        let was = self.tag.fetch_or(CHANGING, Ordering::Acquire);
        (was & CHANGING == 0).then(|| owner_of(was))
    }

    /// Ends it: the thing is `tag`'s.
    pub fn end_change(&self, tag: Tag) {
        self.tag.store(tag.raw(), Ordering::Release);
    }

    /// Whether it is in a list.
    pub fn is_listed(&self) -> bool {
        self.state.load(Ordering::Relaxed) == ON
    }

    pub(super) fn is_mark(&self) -> bool {
        self.state.load(Ordering::Relaxed) == MARK
    }

    /// One more holder of the thing's memory, by one who has it, or under the lock of the list it
    /// is in.
    pub fn add_ref(&self) {
        self.refs.fetch_add(1, Ordering::Relaxed);
    }

    /// One holder less; `true`: the last.
    #[must_use]
    pub fn unref(&self) -> bool {
        // AcqRel: the last one sees what the others did.
        self.refs.fetch_sub(1, Ordering::AcqRel) == 1
    }

    fn at(&self) -> *mut Link {
        core::ptr::from_ref(self).cast_mut()
    }

    /// Makes it a ring of its own: a head's.
    pub(super) fn make_ring(&self) {
        self.prev.store(self.at(), Ordering::Relaxed);
        self.next.store(self.at(), Ordering::Relaxed);
    }

    /// Puts `self` in front of `before`.
    ///
    /// # Safety
    /// `before` is in a ring whose lock the caller holds; `self` is in none, and stays where it is
    /// until it is taken out.
    pub(super) unsafe fn insert_before(&self, before: &Link) {
        let prev = before.prev.load(Ordering::Relaxed);
        self.prev.store(prev, Ordering::Relaxed);
        self.next.store(before.at(), Ordering::Relaxed);
        // SAFETY: what is in a ring stays until it is taken out, under the lock.
        unsafe { (*prev).next.store(self.at(), Ordering::Relaxed) };
        before.prev.store(self.at(), Ordering::Relaxed);
    }

    /// Takes it out of its ring.
    ///
    /// # Safety
    /// It is in a ring whose lock the caller holds.
    pub(super) unsafe fn unlink(&self) {
        let (prev, next) = (
            self.prev.load(Ordering::Relaxed),
            self.next.load(Ordering::Relaxed),
        );
        // SAFETY: its neighbours are in the ring, under the same lock.
        unsafe {
            (*prev).next.store(next, Ordering::Relaxed);
            (*next).prev.store(prev, Ordering::Relaxed);
        }
    }

    /// What follows in the ring; the ring's own link after the last.
    ///
    /// # Safety
    /// It is in a ring whose lock the caller holds, for as long as the answer is used.
    pub(super) unsafe fn following(&self) -> &Link {
        // SAFETY: as in `unlink`.
        unsafe { &*self.next.load(Ordering::Relaxed) }
    }

    /// Moves all that is in the ring of `self` to the end of that of `to`, or to its front.
    ///
    /// # Safety
    /// Both are rings' own links, and the caller holds both locks.
    pub(super) unsafe fn splice(&self, to: &Link, in_front: bool) {
        let (first, last) = (
            self.next.load(Ordering::Relaxed),
            self.prev.load(Ordering::Relaxed),
        );
        if core::ptr::eq(first, self) {
            return;
        }
        let (before, behind) = if in_front {
            (to.at(), to.next.load(Ordering::Relaxed))
        } else {
            (to.prev.load(Ordering::Relaxed), to.at())
        };
        // SAFETY: all are in one of the two rings.
        unsafe {
            (*first).prev.store(before, Ordering::Relaxed);
            (*before).next.store(first, Ordering::Relaxed);
            (*last).next.store(behind, Ordering::Relaxed);
            (*behind).prev.store(last, Ordering::Relaxed);
        }
        self.make_ring();
    }
}
