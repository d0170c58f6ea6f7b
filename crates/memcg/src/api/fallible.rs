//! `fallible`: a section in which Rust's global allocator can say no; and, for hooks of C
//! libraries, the functions of an allocator that always can.
//!
//! Invariants: outside of every section the allocator is never refused under the policies
//! `default`, `debt` and `kill`.
//! Depends on: the thread's record, which counts the sections it is in.
//! Never: a refusal while the thread panics, or of a request that nobody expects to fail.

#![forbid(unsafe_code)]

pub use super::fallible_alloc::{alloc, free, realloc, usable_size};
use crate::engine::process_engine::with_rec;

/// Runs `f`; the global allocator may refuse what it asks for meanwhile on this thread.
///
/// Inside it requests of 4 KiB and more are answered null where a limit is in the way, under every
/// policy but `observe`. Smaller ones are charged above the limit, and nothing is refused while the
/// thread panics: the code of a panic has no way to be told no.
///
/// Put one `try_reserve` into it. What cannot be told no (`vec![]`, `push`, `format!`) would end
/// the program as soon as it asks for much.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: memcg::Alloc = memcg::Alloc;
///
/// let tenant = memcg::root().create("fallible").unwrap();
/// tenant.set_max(memcg::Limit::bytes(1 << 20)).unwrap();
/// let _entered = tenant.enter();
/// let mut rows: Vec<u8> = Vec::new();
/// assert!(memcg::fallible(|| rows.try_reserve(16 << 20)).is_err());
/// // Outside, the tenant goes above its limit, and the program lives.
/// assert!(rows.try_reserve(16 << 20).is_ok());
/// assert!(tenant.current() > tenant.max().get());
/// ```
///
/// Cost: two stores; and, where the thread holds stock above a limit, its return.
pub fn fallible<R>(f: impl FnOnce() -> R) -> R {
    let _inside = with_rec(|engine, rec| {
        let inside = rec.begin_fallible();
        // A request is not to be met from what was forced before.
        engine.tree.return_forced(rec);
        inside
    });
    f()
}
