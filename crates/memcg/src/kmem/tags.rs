//! Whose an object is: one tag for a whole slab, or one beside each object once the slab is mixed.
//!
//! `tag` of the slab's record is the only word that says which: a tag's word, or MIXED, which is
//! above every tag. A slab becomes mixed when the owner needs it for another tag while objects of
//! the first are live: all their tags are written down, then the word says MIXED (Release). It
//! becomes uniform again only when every object is free and collected. So whoever holds an object
//! and reads the word (Acquire) has the object's tag, or finds it beside the object: the old tag
//! stays right for the objects of its time.
//!
//! A slab of a kmem cache may be mixed by others as well: who holds a live object in it and has it
//! change owners (`retag`). The two exclude each other by a lock of the caches. The holder does not
//! know how far the owner has handed out objects, and writes down all tags there can be: what the
//! owner takes meanwhile, believing the slab uniform, is of the tag that is written. A slab with a
//! live object is never renamed.

use super::layout;
use super::slab::{MIXED, Slab};
use crate::thread::Tag;
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

impl Slab {
    #[inline(always)]
    fn tag_beside(&self, offset: u32) -> &AtomicU32 {
        let at = layout::tags_of(self.address()) + self.index_of(offset) * size_of::<u32>();
        // SAFETY: the tags of a unit have room for the smallest objects; a slab of many units has
        // few. They are mapped with the chunk and only ever used as atomics.
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

    /// The tag of the one object of an extent.
    #[inline]
    pub(super) fn extent_tag(&self) -> Option<Tag> {
        Tag::from_word(self.tag.load(Relaxed))
    }

    /// Gives all objects of a slab without live ones one tag.
    #[inline]
    pub(super) fn set_tag(&self, tag: Option<Tag>) {
        self.tag.store(Tag::to_word(tag), Relaxed);
    }

    /// Notes the tag of an object of a mixed slab.
    pub(super) fn note_tag(&self, offset: u32, tag: Option<Tag>) {
        if self.tag.load(Relaxed) == MIXED {
            self.tag_beside(offset).store(Tag::to_word(tag), Relaxed);
        }
    }

    /// Whether an object of `tag` may be taken as the slab is now; if it is mixed, notes the tag of
    /// the one at `offset`. The owner; the object is free.
    #[inline(always)]
    pub(super) fn fit_tag(&self, offset: u32, tag: Option<Tag>) -> bool {
        let own = self.tag.load(Relaxed);
        if own == Tag::to_word(tag) {
            return true;
        }
        if own == MIXED {
            self.tag_beside(offset).store(Tag::to_word(tag), Relaxed);
        }
        own == MIXED
    }

    /// Whether its objects are all free or of `tag`, or each has its own.
    #[inline(always)]
    pub(super) fn takes(&self, tag: Option<Tag>) -> bool {
        let own = self.tag.load(Relaxed);
        own == Tag::to_word(tag) || own == MIXED
    }

    /// Makes the slab take objects of `tag`: by renaming it while it is empty, else by mixing it.
    /// The owner, in a heap section; `is_empty` is the truth, collected.
    pub(super) fn accept(&self, tag: Option<Tag>, is_empty: bool) {
        if is_empty {
            self.set_tag(tag);
        } else if !self.takes(tag) {
            self.mix();
        }
    }

    /// Whether each object has a tag of its own.
    pub(super) fn is_mixed(&self) -> bool {
        // Acquire pairs with the Release of `mix`.
        self.tag.load(Acquire) == MIXED
    }

    /// As the owner, under the lock of the caches' tags: gives each object a tag of its own, if it
    /// has none.
    pub(super) fn mix_own(&self) {
        if !self.is_mixed() {
            self.mix();
        }
    }

    /// The same by anybody who holds a live object of the slab.
    pub(super) fn mix_all(&self) {
        if !self.is_mixed() {
            self.mix_to(self.bytes.load(Relaxed));
        }
    }

    /// Makes the live object at `offset`, which is `from`'s, `to`'s. `false`: it is another's by
    /// now. The caller holds the object; the slab is mixed.
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
        // Release pairs with the Acquire of `tag_of`.
        self.tag.store(MIXED, Release);
    }
}
