//! What a charge is for.
//!
//! Invariants: every kind but heap has a place of its own among the side words; heap is what is
//! left.
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
}

/// Kinds with a word of their own.
pub const NR_SIDE_KINDS: usize = 3;

impl Kind {
    /// Its place among the side words; `None` for heap.
    #[must_use]
    pub const fn side(self) -> Option<usize> {
        match self {
            Kind::Heap => None,
            Kind::Mapped => Some(0),
            Kind::Reserved => Some(1),
            Kind::Slab => Some(2),
        }
    }
}
