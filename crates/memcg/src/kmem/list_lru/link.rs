//! The link by which a thing is in a list: 32 bytes inside the thing.
//!
//! Invariants: `prev`, `next` and `home` change under the lock of the head that `home` leads to.
//! `home` names the head that the link was put into, not the group, nor where that head's items are
//! now; a head that has ended leads to another. `state` says whether the thing is in a list or on
//! its way into one: the thread that puts it in claims it first.
//! Depends on: the lock of the head, which callers hold.
//! Never: memory taken or given back; the thing's holder does that.

use crate::kmem::id::HeadId;
use crate::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use crate::sync::id::{AtomicId, Id};
use crate::thread::Tag;

/// In no list.
pub(super) const OFF: u32 = 0;
/// In a list, or on its way into one.
pub(super) const ON: u32 = 1;
/// The mark of a walk; it belongs to no thing.
pub(super) const MARK: u32 = 2;

/// In `tag`: a thread is changing the thing's owner.
const CHANGING: u32 = 1 << 31;

/// See the module. It does not move while it is in a list.
#[derive(Default)]
pub struct Link {
    pub(super) prev: AtomicPtr<Link>,
    pub(super) next: AtomicPtr<Link>,
    /// The head it was put into; `None`: it is in no ring.
    pub(super) home: AtomicId<HeadId>,
    pub(super) state: AtomicU32,
    tag: AtomicU32,
    refs: AtomicU32,
}

/// The owner that a word of `tag` names.
///
/// # Panics
/// If the word is that of a walker's mark or of a head's ring, which have no owner.
fn owner_of(word: u32) -> Tag {
    Tag::from_word(word).expect("a thing in a list has an owner")
}

impl Link {
    /// The link of a thing that belongs to `tag`; the thing's memory has one holder.
    #[must_use]
    pub fn new(tag: Tag) -> Self {
        Self {
            tag: AtomicU32::new(tag.raw()),
            refs: AtomicU32::new(1),
            ..Self::default()
        }
    }

    /// The mark of a walk.
    pub(super) fn mark() -> Self {
        Self {
            state: AtomicU32::new(MARK),
            ..Self::default()
        }
    }

    /// The owner of the thing.
    pub fn tag(&self) -> Tag {
        owner_of(self.tag.load(Ordering::Relaxed) & !CHANGING)
    }

    /// Begins a change of owner; answers the owner so far. The caller holds the thing, and calls
    /// [`Self::end_change`] afterwards. `None`: another thread is changing it.
    #[must_use]
    pub fn begin_change(&self) -> Option<Tag> {
        // Acquire pairs with the Release of `end_change`: a change sees what the one before it did.
        let was = self.tag.fetch_or(CHANGING, Ordering::Acquire);
        (was & CHANGING == 0).then(|| owner_of(was))
    }

    /// Ends a change of owner: the thing is `tag`'s.
    pub fn end_change(&self, tag: Tag) {
        // Release pairs with the Acquire of `begin_change`.
        self.tag.store(tag.raw(), Ordering::Release);
    }

    /// Whether it is in a list.
    pub fn is_listed(&self) -> bool {
        self.state.load(Ordering::Relaxed) == ON
    }

    pub(super) fn is_mark(&self) -> bool {
        self.state.load(Ordering::Relaxed) == MARK
    }

    /// Adds a holder of the thing's memory. The caller holds it already, or has the lock of the
    /// list that it is in.
    pub fn add_ref(&self) {
        self.refs.fetch_add(1, Ordering::Relaxed);
    }

    /// Removes a holder of the thing's memory; `true`: it was the last.
    #[must_use]
    pub fn unref(&self) -> bool {
        // AcqRel pairs with itself in other threads: the last one sees what the others did before.
        self.refs.fetch_sub(1, Ordering::AcqRel) == 1
    }

    fn at(&self) -> *mut Link {
        core::ptr::from_ref(self).cast_mut()
    }

    /// Makes it an empty ring: that of a head.
    pub(super) fn make_ring(&self) {
        self.prev.store(self.at(), Ordering::Relaxed);
        self.next.store(self.at(), Ordering::Relaxed);
    }

    /// Puts `self` in front of `before`.
    ///
    /// # Safety
    /// The caller holds the lock of the ring that `before` is in. `self` is in no ring, and does
    /// not move or end until it is taken out.
    pub(super) unsafe fn insert_before(&self, before: &Link) {
        let prev = before.prev.load(Ordering::Relaxed);
        self.prev.store(prev, Ordering::Relaxed);
        self.next.store(before.at(), Ordering::Relaxed);
        // SAFETY: `prev` of a link in a ring is a link of the same ring, whose lock the caller
        // holds. Links in a ring do not move or end, as whoever put them in promised.
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
        // SAFETY: `prev` and `next` of a link in a ring are links of the same ring, whose lock the
        // caller holds; such links do not move or end.
        unsafe {
            (*prev).next.store(next, Ordering::Relaxed);
            (*next).prev.store(prev, Ordering::Relaxed);
        }
    }

    /// The link that follows in the ring; after the last that is the ring's own.
    ///
    /// # Safety
    /// It is in a ring, and the caller holds the ring's lock for as long as it uses the answer.
    pub(super) unsafe fn following(&self) -> &Link {
        // SAFETY: `next` of a link in a ring is a link of the same ring. While the lock is held it
        // stays in the ring, so it does not move or end.
        unsafe { &*self.next.load(Ordering::Relaxed) }
    }

    /// Moves all links in the ring of `self` to the end of the ring of `to`, or to its front.
    ///
    /// # Safety
    /// Both are the rings' own links, of two different heads, and the caller holds both locks.
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
        // SAFETY: `first`, `last`, `before` and `behind` are links of the two rings, whose locks
        // the caller holds; such links do not move or end.
        unsafe {
            (*first).prev.store(before, Ordering::Relaxed);
            (*before).next.store(first, Ordering::Relaxed);
            (*last).next.store(behind, Ordering::Relaxed);
            (*behind).prev.store(last, Ordering::Relaxed);
        }
        self.make_ring();
    }
}
