//! The allocator, for a library that is the process's malloc.
//!
//! Invariants: what is allocated here is charged to the owner that the calling thread works for. A
//! refused charge and a lack of memory both answer null. Nothing here waits for reclaim.
//! Depends on: the engine's allocator.
//! Never: sets errno. Whoever calls sets it where its own contract asks for that.

use crate::engine::{Flags, kmalloc};

pub use crate::engine::kmalloc::{
    ALIGN, MAYBE_ZEROED, alloc_hit, free_hit, free_missed, is_able, size_of_object, trim, usable,
};
pub use crate::kmem::allocator_stat::KmemStat;

/// How an allocation takes a limit that stands in its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asks {
    /// As the policy of the full group says.
    Refusable,
    /// It is refused before the policy has its say, and no event `oom` is counted: the caller will
    /// ask again, in another of these ways.
    First,
    /// As the policy of the full group says for Rust's global allocator: only a `deny` that
    /// somebody wrote, or a bound of debt, refuses it.
    Infallible,
    /// It is made whatever the limits say.
    Forced,
}

impl Asks {
    pub(super) const fn flags(self) -> Flags {
        match self {
            Self::Refusable => Flags::MALLOC,
            Self::First => Flags::MALLOC.with(Flags::EARLY),
            Self::Infallible => Flags::MALLOC.with(Flags::INFALLIBLE),
            Self::Forced => Flags::FORCE,
        }
    }
}

/// As [`alloc_hit`], for `bytes` that had no hit. Null: a limit refuses or there is no memory.
#[must_use]
pub fn alloc_missed(bytes: usize, asks: Asks) -> *mut u8 {
    kmalloc::alloc_missed(bytes, asks.flags())
}

/// Allocates `bytes` at a multiple of `align` and of [`ALIGN`]. Null: a limit refuses or there is
/// no memory.
///
/// # Safety
/// `align` is a power of two: size classes are computed from it without a check.
#[inline]
#[must_use]
pub unsafe fn alloc_aligned(bytes: usize, align: usize, asks: Asks) -> *mut u8 {
    kmalloc::alloc_aligned(bytes, align, asks.flags())
}

/// As [`alloc_aligned`], and all bytes are zero.
///
/// # Safety
/// `align` is a power of two: size classes are computed from it without a check.
#[inline]
#[must_use]
pub unsafe fn alloc_zeroed(bytes: usize, align: usize, asks: Asks) -> *mut u8 {
    kmalloc::alloc_zeroed(bytes, align, asks.flags())
}

/// Resizes an object to `bytes`; answers where it is now. Its owner stays. Null: a limit refuses or
/// there is no memory, and the object is as it was.
///
/// # Safety
/// `p` is a live object of this allocator, and `align` the power of two it was allocated with. If
/// the answer is not null, `p` is no longer an object.
#[must_use]
pub unsafe fn resize(p: *mut u8, bytes: usize, align: usize, asks: Asks) -> *mut u8 {
    // SAFETY: the caller has promised that `p` is a live object with that alignment, and gives it
    // up.
    unsafe { kmalloc::resize(p, bytes, align, asks.flags()) }
}

/// What the allocator has of the kernel, and what of it is in use. Cost: O(units in use), under the
/// lock of the spans.
#[must_use]
pub fn stat() -> KmemStat {
    kmalloc::stat()
}
