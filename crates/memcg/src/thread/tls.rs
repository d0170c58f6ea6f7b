//! The one thread-local block: a pointer to the thread's record and a few words beside it.
//!
//! On x86-64 and AArch64 it is declared in assembly and reached by the initial-exec model: two
//! instructions, in an executable as in a preloaded library, where `thread_local!` would cost a
//! call. It has no destructor: that would register one with the C library on first use, which
//! allocates, inside malloc. Elsewhere, and under Miri, a plain const `thread_local!` does the same
//! more slowly.
//!
//! Invariants: only the thread itself uses its block. Zero bytes are a thread that nobody knows
//! yet. A heap is never there without a record.
//! Depends on: the linker and the loader, which place the block.
//! Never: an allocation, a destructor or a call where the block is declared in assembly.

use super::id::ThreadId;
use core::cell::Cell;

/// The block. Zero: the thread is unknown.
#[repr(C, align(64))]
pub struct Block {
    /// Address of the thread's record; 0 unknown, [`DEPARTED`] gone.
    pub rec: Cell<usize>,
    /// The record's index, of a thread that has one.
    pub index: Cell<Option<ThreadId>>,
    /// 1 for a thread of the engine's own.
    pub own: Cell<u32>,
    /// Address of the thread's heap; 0: none. With it, `rec` is a record.
    pub heap: Cell<usize>,
    _rest: [u64; 5],
}

/// The name of the block's symbol. The crate's own tests are linked with the crate as others see
/// it: two blocks, two names.
#[cfg(test)]
macro_rules! block {
    () => {
        "memcg_tls_block_v1_test"
    };
}
#[cfg(not(test))]
macro_rules! block {
    () => {
        "memcg_tls_block_v1"
    };
}

/// `rec` of a thread whose exit has passed.
pub const DEPARTED: usize = 1;

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
core::arch::global_asm!(
    ".pushsection .tbss.memcg_tls,\"awT\",@nobits",
    ".p2align 6",
    concat!(".globl ", block!()),
    concat!(".hidden ", block!()),
    concat!(".type ", block!(), ",@object"),
    concat!(".size ", block!(), ",64"),
    concat!(block!(), ":"),
    ".zero 64",
    ".popsection",
);

#[cfg(all(target_arch = "aarch64", target_os = "linux", not(miri)))]
core::arch::global_asm!(
    ".pushsection .tbss.memcg_tls,\"awT\",%nobits",
    ".p2align 6",
    concat!(".globl ", block!()),
    concat!(".hidden ", block!()),
    concat!(".type ", block!(), ",%object"),
    concat!(".size ", block!(), ",64"),
    concat!(block!(), ":"),
    ".zero 64",
    ".popsection",
);

/// The addresses of the calling thread's heap and record. The heap's is read first: a signal
/// handler that comes between may be the first of the thread to allocate, and a heap is never there
/// without a record.
#[inline(always)]
pub fn heap_and_rec() -> (usize, usize) {
    #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
    {
        let (heap, rec): (usize, usize);
        // SAFETY: reads two words of the block by its offset from the thread pointer, which the
        // linker or loader fixed.
        unsafe {
            core::arch::asm!(
                concat!("mov {r}, qword ptr [rip + ", block!(), "@GOTTPOFF]"),
                "mov {h}, qword ptr fs:[{r} + 16]",
                "mov {r}, qword ptr fs:[{r}]",
                h = out(reg) heap,
                r = out(reg) rec,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        (heap, rec)
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
    {
        // SAFETY: the block is this thread's, alive while it runs; only this thread uses its cells.
        let heap = unsafe { (*block()).heap.get() };
        // For a signal handler of this thread only: the heap is read before the record.
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::Acquire);
        // SAFETY: the block is this thread's, alive while it runs; only this thread uses its cells.
        (heap, unsafe { (*block()).rec.get() })
    }
}

/// The address of the calling thread's record, as `rec` of its block says.
#[inline(always)]
pub fn rec() -> usize {
    #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
    {
        let rec: usize;
        // SAFETY: reads a word of the block by its offset from the thread pointer, which the linker
        // or loader fixed.
        unsafe {
            core::arch::asm!(
                concat!("mov {r}, qword ptr [rip + ", block!(), "@GOTTPOFF]"),
                "mov {r}, qword ptr fs:[{r}]",
                r = out(reg) rec,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        rec
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
    // SAFETY: the block is this thread's, alive while it runs.
    unsafe {
        (*block()).rec.get()
    }
}

const _: () = assert!(core::mem::offset_of!(Block, rec) == 0);
const _: () = assert!(core::mem::offset_of!(Block, heap) == 16);
const _: () = assert!(size_of::<Block>() == 64);

/// The calling thread's block.
#[inline(always)]
pub fn block() -> *const Block {
    #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
    {
        let p: *const Block;
        // SAFETY: adds the block's offset, which the linker or loader fixed, to the thread pointer;
        // touches no memory but the GOT entry and the thread control block's self pointer.
        unsafe {
            core::arch::asm!(
                concat!("mov {p}, qword ptr [rip + ", block!(), "@GOTTPOFF]"),
                "add {p}, qword ptr fs:[0]",
                p = out(reg) p,
                options(pure, readonly, nostack)
            );
        }
        p
    }
    #[cfg(all(target_arch = "aarch64", target_os = "linux", not(miri)))]
    {
        let p: *const Block;
        // SAFETY: adds the block's offset, which the linker or loader fixed, to the thread pointer,
        // by the AArch64 initial-exec sequence; reads no memory but the GOT entry.
        unsafe {
            core::arch::asm!(
                concat!("adrp {t}, :gottprel:", block!()),
                concat!("ldr {t}, [{t}, #:gottprel_lo12:", block!(), "]"),
                "mrs {p}, tpidr_el0",
                "add {p}, {p}, {t}",
                p = out(reg) p,
                t = out(reg) _,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        p
    }
    #[cfg(not(all(
        any(target_arch = "x86_64", target_arch = "aarch64"),
        target_os = "linux",
        not(miri)
    )))]
    {
        thread_local! {
            static BLOCK: Block = const {
                Block { rec: Cell::new(0), index: Cell::new(None), own: Cell::new(0), heap: Cell::new(0), _rest: [0; 5] }
            };
        }
        // The storage has no destructor, so it is there until the thread's memory goes.
        BLOCK.with(core::ptr::from_ref)
    }
}
