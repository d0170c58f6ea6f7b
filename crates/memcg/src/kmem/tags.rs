//! Which owner an object has: one tag for a whole slab, or one beside each object if the slab is
//! *mixed*.
//!
//! The word `tag` of the slab's record says which: it is a tag's word, or MIXED, which is above
//! every tag. A slab becomes mixed when its owner needs it for a second tag while objects of the
//! first are live: first all their tags are written beside them, then the word becomes MIXED
//! (Release). It becomes uniform again only when every object is free and collected.
//!
//! A thread that holds a live object may give it another owner (`retag_held`): it makes the slab
//! mixed if need be, and changes the object's tag alone. The slab's owner goes on meanwhile. So
//! both take the slab's `mixing` word before they make it mixed, and each reads `tag` with Acquire
//! before it writes a tag beside an object: what a mixing wrote there comes first.
//!
//! Invariants: who holds an object and reads the word (Acquire) gets the object's tag, there or
//! beside the object. A slab with a live object never gets another tag for the whole slab.
//! Depends on: `layout` for the place of tags, `slab` for the record.
//! Never: a tag read for a free object.
//!
//! The holder of an object does not know how many objects of the slab have been handed out, so it
//! writes the tags of all. An object that the slab's owner hands out meanwhile, because it still
//! sees a uniform slab, has that same tag. In slabs of kmem caches, where several threads may hold
//! one object (`retag`), a lock of the caches stands in the place of the slab's word.

use super::layout;
use super::slab::{MIXED, Slab};
use crate::thread::Tag;
use crate::thread::fork_word;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

impl Slab {
    #[inline(always)]
    fn tag_beside(&self, offset: u32) -> &AtomicU32 {
        let at = layout::tags_of(self.address()) + self.index_of(offset) * size_of::<u32>();
        // SAFETY: a unit has room for the tags of 4,096 objects of 16 bytes, the smallest, so the
        // index of any object of the slab lies inside; they are mapped with the chunk, aligned, and
        // used as atomics only. `layout::tag_range` gives them back only with units that have no
        // slab.
        unsafe { &*(at as *const AtomicU32) }
    }

    /// The tag of a live object.
    #[inline(always)]
    pub(super) fn tag_of(&self, offset: u32) -> Option<Tag> {
        // Acquire pairs with the Release of `mix`.
        let word = match self.tag.load(Acquire) {
            MIXED => self.tag_beside(offset).load(Relaxed),
            own => own,
        };
        Tag::from_word(word)
    }

    /// The tag of the object of an extent.
    #[inline]
    pub(super) fn extent_tag(&self) -> Option<Tag> {
        Tag::from_word(self.tag.load(Relaxed))
    }

    /// Sets the tag of a slab of which no object is live, or of a new extent.
    #[inline]
    pub(super) fn set_tag(&self, tag: Option<Tag>) {
        self.tag.store(Tag::to_word(tag), Relaxed);
    }

    /// Writes the tag of the object at `offset` beside it, if the slab is mixed.
    pub(super) fn note_tag(&self, offset: u32, tag: Option<Tag>) {
        // Acquire pairs with the Release of `mix_to`, where another thread made it mixed.
        if self.tag.load(Acquire) == MIXED {
            self.tag_beside(offset).store(Tag::to_word(tag), Relaxed);
        }
    }

    /// Whether an object of `tag` may be taken as the slab is now. If the slab is mixed, writes the
    /// tag beside the object at `offset`. Called by who acts for the slab; the object is free.
    #[inline(always)]
    pub(super) fn fit_tag(&self, offset: u32, tag: Option<Tag>) -> bool {
        // Acquire pairs with the Release of `mix_to`, where another thread made it mixed.
        let own = self.tag.load(Acquire);
        if own == Tag::to_word(tag) {
            return true;
        }
        if own == MIXED {
            self.tag_beside(offset).store(Tag::to_word(tag), Relaxed);
        }
        own == MIXED
    }

    /// Whether the slab takes an object of `tag` as it is: it has that tag, or is mixed.
    #[inline(always)]
    pub(super) fn takes(&self, tag: Option<Tag>) -> bool {
        let own = self.tag.load(Relaxed);
        own == Tag::to_word(tag) || own == MIXED
    }

    /// Makes the slab take objects of `tag`: an empty one gets the tag, another is made mixed if
    /// need be. Called by who acts for the slab's owner. `is_empty` says that no object is held,
    /// after a collection.
    pub(super) fn accept(&self, tag: Option<Tag>, is_empty: bool) {
        if is_empty {
            self.set_tag(tag);
        } else if !self.takes(tag) {
            let _mixing = self.begin_mixing();
            self.mix_own();
        }
    }

    /// Whether each object has a tag of its own.
    pub(super) fn is_mixed(&self) -> bool {
        // Acquire pairs with the Release of `mix`.
        self.tag.load(Acquire) == MIXED
    }

    /// Makes the slab mixed, if it is not. Called by who acts for it, with other mixings excluded:
    /// by the slab's word, or for one of a cache by the lock of the caches' tags.
    pub(super) fn mix_own(&self) {
        if !self.is_mixed() {
            self.mix();
        }
    }

    /// Makes the slab mixed, if it is not. Called by a thread that holds a live object of it, with
    /// other mixings excluded, as for [`Self::mix_own`].
    pub(super) fn mix_all(&self) {
        if !self.is_mixed() {
            self.mix_to(self.bytes.load(Relaxed));
        }
    }

    /// Changes the owner of the live object at `offset` from `from` to `to`. `false`: it is
    /// another's by now. The caller holds the object, and the slab is mixed.
    pub(super) fn retag(&self, offset: u32, from: Tag, to: Tag) -> bool {
        self.tag_beside(offset)
            .compare_exchange(
                Tag::to_word(Some(from)),
                Tag::to_word(Some(to)),
                Relaxed,
                Relaxed,
            )
            .is_ok()
    }

    /// Gives the live object at `offset` of a heap's slab the owner `to`. The calling thread holds
    /// the object and nobody else does; its signals are blocked if the slab is not mixed.
    pub(super) fn retag_held(&self, offset: u32, to: Option<Tag>) {
        if !self.is_mixed() {
            let _mixing = self.begin_mixing();
            self.mix_all();
        }
        self.tag_beside(offset).store(Tag::to_word(to), Relaxed);
    }

    /// Gives the object of an extent the owner `to`. The calling thread holds it.
    pub(super) fn retag_extent(&self, to: Option<Tag>) {
        self.set_tag(to);
    }

    /// Waits until no other thread makes the slab mixed, and keeps others from it until the guard's
    /// end. Where that was a thread of another process, a fork has cut it off: its work is done
    /// anew, which changes nothing of it.
    fn begin_mixing(&self) -> Mixing<'_> {
        let own = fork_word::process();
        let mut holder = 0;
        loop {
            // Acquire pairs with the Release of the guard's drop: the tags that the other has
            // written.
            match self
                .mixing
                .compare_exchange_weak(holder, own, Acquire, Relaxed)
            {
                Ok(_) => return Mixing(self),
                Err(now) if now == own => {
                    holder = 0;
                    crate::sync::relax();
                }
                Err(now) => holder = now,
            }
        }
    }

    #[cold]
    fn mix(&self) {
        self.mix_to(self.fresh.load(Relaxed));
    }

    fn mix_to(&self, end: u32) {
        let old = self.tag.load(Relaxed);
        let size = self.size.load(Relaxed);
        let mut offset = 0;
        while offset < end {
            self.tag_beside(offset).store(old, Relaxed);
            offset += size;
        }
        // Release pairs with the Acquire of `tag_of` and `is_mixed`: who sees MIXED sees all tags.
        self.tag.store(MIXED, Release);
    }
}

/// The thread makes the slab mixed. Dropping it ends that.
#[must_use]
struct Mixing<'a>(&'a Slab);

impl Drop for Mixing<'_> {
    fn drop(&mut self) {
        // Release pairs with the Acquire of `begin_mixing`.
        self.0.mixing.store(0, Release);
    }
}
