//! The engine under any dynamically linked program: `LD_PRELOAD=libmemcg_preload.so program`.
//!
//! Invariants: every block the program gets is from the engine's slabs and charged to its owner;
//! every thread that allocates is a task, in the group of its name. What the library allocates for
//! itself belongs to nobody.
//! Depends on: the C library; an allocator further down the search order only where this one steps
//! aside (`step_aside`).
//! Never: does anything when `MEMCG=off`; writes a line other than on standard error.

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
compile_error!("the preload library is for Linux with glibc");

mod callers;
mod capi;
mod group_rules;
mod jemalloc;
mod loaded;
mod longjmp;
mod malloc;
mod malloc_info;
mod mapped;
mod mapped_ranges;
mod next_malloc;
mod ranges_lock;
mod rust_runtime;
mod start;
mod step_aside;
mod threads;
