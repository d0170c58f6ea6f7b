//! The allocator of this crate for Rust programs.
//!
//! Invariants: an object keeps its owner through every `realloc`.
//! Depends on: `engine::kmalloc`.
//! Never: a header before an object.

use crate::engine::{Flags, kmalloc};
use core::alloc::{GlobalAlloc, Layout};

/// The engine's own slabs as a global allocator: one line makes every allocation of a program
/// belong to a group.
///
/// A request that does not fit within `memory.max` is served all the same, and the group goes into
/// debt, unless its `memory.oom.policy` is `deny`: then the answer is null.
///
/// An object is charged its size class: 16 bytes apart up to 128 bytes, then four classes to a
/// doubling up to 64 KiB, then whole pages. It keeps its owner through every `realloc`. Cost if the
/// thread has stock and a free object: no call, no atomic instruction, no header.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: memcg::Alloc = memcg::Alloc;
///
/// let session = memcg::root().create("session-1").unwrap();
/// let reply = session.run(|| String::from("charged to session-1"));
/// assert!(session.current() >= reply.len() as u64);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Alloc;

// SAFETY: `kmalloc` answers null, or an object that is at least as large and as aligned as asked,
// that lives until it is freed, and that overlaps no other. Its slow paths do not unwind.
unsafe impl GlobalAlloc for Alloc {
    // What callers promise (`# Safety`) is said at `GlobalAlloc`, for each function.

    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        kmalloc::alloc_aligned(layout.size(), layout.align(), Flags::INFALLIBLE)
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        kmalloc::alloc_zeroed(layout.size(), layout.align(), Flags::INFALLIBLE)
    }

    #[inline(always)]
    unsafe fn dealloc(&self, p: *mut u8, _layout: Layout) {
        // SAFETY: the caller has promised that `p` is a live object of this allocator, and does not
        // use it any more.
        unsafe { kmalloc::free(p) };
    }

    #[inline]
    unsafe fn realloc(&self, p: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller has promised that `p` is a live object of this allocator, allocated
        // with `layout`, and does not use `p` any more if the answer is not null.
        unsafe { kmalloc::resize(p, new_size, layout.align(), Flags::INFALLIBLE) }
    }
}
