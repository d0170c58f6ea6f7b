//! The allocator of this crate for Rust programs.

use crate::engine::{Flags, kmalloc};
use core::alloc::{GlobalAlloc, Layout};

/// Our own slabs, every object charged: one line makes every allocation of a program belong to a group.
///
/// Over max it goes into debt unless the group's `memory.oom.policy` is `deny`: then it returns null. An object is charged
/// its size class (16 bytes apart up to 128, then four to a doubling up to 64 KiB, then whole pages), and keeps its owner
/// through every `realloc`. Cost of a hit: no call, no atomic instruction, no header.
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

// SAFETY: objects of `kmalloc` are at least as large and as aligned as asked, live until freed, and never overlap.
unsafe impl GlobalAlloc for Alloc {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        kmalloc::alloc_aligned(layout.size(), layout.align(), Flags::DEBT)
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        kmalloc::alloc_zeroed(layout.size(), layout.align(), Flags::DEBT)
    }

    #[inline(always)]
    unsafe fn dealloc(&self, p: *mut u8, _layout: Layout) {
        // SAFETY: the caller's: an object of ours, which ends here.
        unsafe { kmalloc::free(p) };
    }

    #[inline]
    unsafe fn realloc(&self, p: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's: an object of ours of that layout.
        unsafe { kmalloc::resize(p, new_size, layout.align(), Flags::DEBT) }
    }
}
