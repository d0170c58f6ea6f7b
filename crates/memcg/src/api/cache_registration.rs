//! Caches that a program registers, with a function that makes room in a full group.
//!
//! Invariants: what is registered is kept for the life of the process; a panic of the program's
//! function ends that call alone.
//! Depends on: `kmem::cache::room`, which calls the function.
//! Never: calls the program's function under a lock.

#![forbid(unsafe_code)]

use super::cache::{KmemCache, SizedCache};
use super::contained::contained;
use super::memcg::Memcg;
use super::pinned::pinned;
use super::scope::no_account;
use crate::engine::engine;
use crate::group::GroupId;
use crate::kmem::cache::room::RoomMaker;
use crate::kmem::id::CacheId;

/// A shrink function: frees about so many bytes in a group, and answers how many it freed.
type Shrink = dyn Fn(&Memcg, u64) -> u64 + Send + Sync;

/// Calls the function that [`register`] keeps, for a group that is still online.
fn call_shrinker(shrink: &Shrink, group: GroupId, bytes: u64) -> u64 {
    let Some(group) = pinned(|engine, _| Memcg::of_index(engine, group)) else {
        return 0;
    };
    // A panic ends this call alone: it freed nothing.
    contained(|| shrink(&group, bytes)).unwrap_or(0)
}

fn register(index: CacheId, shrink: Box<Shrink>) -> bool {
    let _free = no_account();
    let cache = engine().kmem.caches.get(index);
    // If two threads register at once, the one that loses leaks its function: what is registered is
    // kept for ever, so nothing here is freed.
    if cache.room_maker().is_some() {
        return false;
    }
    let make_room = move |group, bytes| call_shrinker(&*shrink, group, bytes);
    let maker = RoomMaker::new(Box::leak(Box::new(make_room)));
    cache.register(Box::leak(Box::new(maker)))
}

mod sealed {
    #[expect(unnameable_types, reason = "nobody outside is to implement it")]
    pub trait Cache {
        fn register(&self, shrink: Box<super::Shrink>) -> bool;
    }
}

/// A cache that [`register_memcg_cache`] takes: a [`KmemCache`] or a [`SizedCache`].
///
/// There are no others: a type of the program cannot claim to be a cache.
///
/// ```compile_fail,E0277
/// struct Mine;
/// impl memcg::AnyCache for Mine {}
/// ```
pub trait AnyCache: sealed::Cache {}

impl<T> AnyCache for KmemCache<T> {}
impl AnyCache for SizedCache {}

impl<T> sealed::Cache for KmemCache<T> {
    fn register(&self, shrink: Box<Shrink>) -> bool {
        register(self.index, shrink)
    }
}

impl sealed::Cache for SizedCache {
    fn register(&self, shrink: Box<Shrink>) -> bool {
        register(self.index, shrink)
    }
}

/// Has `shrink` called whenever an object of `cache` does not fit into a group.
///
/// It is called with the group that is full and the bytes that are wanted, and answers how many
/// bytes it freed; 0 refuses the allocation. The thread that allocates calls it, under no lock, if
/// the allocation may wait and run code of the program ([`Flags::WAIT`](super::Flags::WAIT),
/// [`Flags::USER`](super::Flags::USER)). A panic counts as 0 and goes no further.
///
/// A registered cache is accounted also while only caches that ask for it are
/// ([`set_cache_tracking`](super::set_cache_tracking)). Answers `false`, and drops `shrink`, if the
/// cache has a function already. A registered function is kept for the life of the process.
///
/// Source of the idea: the opt-in accounting of slab caches for Linux of 2012.
pub fn register_memcg_cache(
    cache: &impl AnyCache,
    shrink: impl Fn(&Memcg, u64) -> u64 + Send + Sync + 'static,
) -> bool {
    cache.register(Box::new(shrink))
}
