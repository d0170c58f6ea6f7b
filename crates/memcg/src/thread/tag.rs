//! Tags: the index of the owner of a charged thing.
//!
//! Nobody owns a thing that is not accounted: it has `None` instead of a tag. Beside a thing in
//! memory the two are one word of four bytes, whose zero is `None`.
//!
//! Invariants: a tag is never 0, so an `Option<Tag>` is such a word and takes four bytes.
//! Depends on: `sync` for index types.
//! Never: a look at an owner. Whether a number read from memory was ever an owner's is checked
//! where the owner is looked up: `Arena::get` ends in a panic, `Arena::try_get` in `None`.

#![forbid(unsafe_code)]

use crate::sync::id::{Id, ids};

ids! {
    /// The index of an owner (an objcg): what a charged thing names instead of its group.
    ///
    /// ```
    /// use memcg::testing::group::{GroupId, Hierarchy, Tag};
    ///
    /// fn held(tree: &Hierarchy, _group: GroupId, owner: Tag) -> u64 {
    ///     tree.held_by(owner)
    /// }
    /// ```
    ///
    /// The index of the owner's group is another type, so it cannot be passed for it:
    ///
    /// ```compile_fail
    /// use memcg::testing::group::{GroupId, Hierarchy, Tag};
    ///
    /// fn held(tree: &Hierarchy, group: GroupId, _owner: Tag) -> u64 {
    ///     tree.held_by(group)
    /// }
    /// ```
    pub Tag;
}

impl Tag {
    /// The word that is kept beside a thing of that owner; 0 for a thing that nobody owns.
    #[inline(always)]
    pub fn to_word(owner: Option<Self>) -> u32 {
        owner.map_or(0, Self::raw)
    }

    /// The owner that a word beside a thing names; `None` for 0.
    ///
    /// A word that was overwritten answers some tag: see the module for what becomes of that.
    #[inline(always)]
    pub fn from_word(word: u32) -> Option<Self> {
        Self::from_raw(word)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_word_and_its_owner_are_the_same_four_bytes() {
        assert_eq!(size_of::<Option<Tag>>(), size_of::<u32>());
        for word in [0, 1, 2, 1 << 31, u32::MAX] {
            assert_eq!(Tag::to_word(Tag::from_word(word)), word);
        }
        assert_eq!(Tag::from_word(0), None);
    }
}
