//! Image: mimalloc 3, with `mi_malloc` called directly where its crate calls `mi_malloc_aligned`.

use libmimalloc_sys as mi;
use memcg_bench::Plain;
use std::alloc::{GlobalAlloc, Layout};

struct Raw;

// SAFETY: mimalloc's objects are aligned to 16, or as asked.
unsafe impl GlobalAlloc for Raw {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size.
        unsafe {
            if layout.align() <= 16 {
                mi::mi_malloc(layout.size()).cast()
            } else {
                mi::mi_malloc_aligned(layout.size(), layout.align()).cast()
            }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size.
        unsafe { mi::mi_zalloc_aligned(layout.size(), layout.align()).cast() }
    }

    #[inline]
    unsafe fn dealloc(&self, p: *mut u8, _layout: Layout) {
        // SAFETY: the caller's: an object of mimalloc.
        unsafe { mi::mi_free(p.cast()) };
    }

    #[inline]
    unsafe fn realloc(&self, p: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's: an object of mimalloc.
        unsafe { mi::mi_realloc_aligned(p.cast(), new_size, layout.align()).cast() }
    }
}

#[global_allocator]
static ALLOCATOR: Raw = Raw;

fn main() {
    memcg_bench::main::<Plain>();
}
