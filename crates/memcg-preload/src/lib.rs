//! The engine under any dynamically linked program: `LD_PRELOAD=libmemcg_preload.so program`.
//!
//! Kept: every block the program gets carries the tag of its owner in its last four bytes, whatever allocator it came
//! from; every thread that allocates is a task, in the group of its name. What the library allocates for itself belongs
//! to nobody.
//! Relied on: an allocator further down the search order (the C library's, usually) with `malloc_usable_size`.
//! Never done: anything when `MEMCG=off`; a line of output other than on standard error.

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
compile_error!("the preload library is for Linux with glibc");

mod below;
mod block;
mod malloc;
mod rules;
mod start;
mod threads;
