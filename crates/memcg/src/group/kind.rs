//! What a charge is for.
//!
//! Invariants: every kind but heap and pages has a place of its own among the side words. Pages are
//! counted in records of their own (`page_books`); heap is what is left.
//! Depends on: nothing.
//! Never: counts anything.

#![forbid(unsafe_code)]

/// What a charge is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An object of an allocator.
    Heap,
    /// Anonymous memory the program maps itself.
    Mapped,
    /// A reservation: bytes of whatever the program wants to count.
    Reserved,
    /// An object of a kmem cache.
    Slab,
    /// A page of a region. What it is counted under beside is its owner's record's.
    Page,
}

/// Kinds with a word of their own.
pub const NR_SIDE_KINDS: usize = 3;

impl Kind {
    /// Its place among the side words; `None` for heap, and for pages.
    #[must_use]
    pub const fn side(self) -> Option<usize> {
        match self {
            Kind::Heap | Kind::Page => None,
            Kind::Mapped => Some(0),
            Kind::Reserved => Some(1),
            Kind::Slab => Some(2),
        }
    }
}
