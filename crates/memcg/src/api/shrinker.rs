//! Shrinkers: how a program gives memory back when it is short.
//!
//! Invariants: no call of a shrinker begins after its registration has been dropped, and what the
//! shrinker is made of is dropped after its last call.
//! Depends on: `kmem::shrinker_registry`, which asks.
//! Never: calls a shrinker under a lock of ours; lets a panic of one go further than its call.

use super::contained::contained;
use super::list_lru::{ListLru, Verdict};
use super::memcg::Memcg;
use super::pinned::pinned;
use super::scope::no_account;
use crate::engine::process_engine::engine;
use crate::engine::worker::worker_thread;
use crate::kmem::id::ShrinkerId;
use crate::kmem::shrinker_registry::{Ask, Manner, Ops};
use core::marker::PhantomData;

/// Something that can give memory back when it is asked: a cache, a pool, buffers that can be made
/// again.
///
/// It is asked when a group has to be made smaller: first how much could go
/// ([`count`](Self::count)), then to let go of some of it ([`scan`](Self::scan)), in proportion to
/// what all shrinkers have and to how hard reclaim tries. What it was asked for and did not get to
/// is asked for again next time.
///
/// It is called on a thread that charges with [`Flags::WAIT`](crate::Flags) and `USER`, on one that
/// wrote a limit or `memory.reclaim`, or on the engine's own worker; on several at once; never
/// under a lock of the engine. What it charges is charged by force. It may do anything with groups,
/// tasks and lists. A panic ends that call alone.
///
/// Source of the idea: Linux, `include/linux/shrinker.h`.
pub trait Shrinker: Send + Sync + 'static {
    /// How many things of the scope's group could go, without those of groups below it.
    fn count(&self, scope: &Scope) -> u64;

    /// Tries to let go of `nr` things of the scope's group, and answers how many it let go of.
    /// `None`: it cannot now, and is not asked again this time.
    fn scan(&self, scope: &Scope, nr: u64) -> Option<u64>;

    /// What it costs to make one thing again, in units of a read from disk. The more it costs, the
    /// less is asked for. 0: it costs nothing.
    fn seeks(&self) -> u32 {
        2
    }

    /// How many things it is asked for in one call.
    fn batch(&self) -> u64 {
        128
    }

    /// Whether it keeps its things by group. One that does not is asked only when the root is
    /// reclaimed.
    fn is_per_group(&self) -> bool {
        true
    }
}

/// The group that a shrinker is asked about.
#[derive(Debug)]
pub struct Scope {
    group: Memcg,
}

impl Scope {
    /// The group: its own things are meant, not those of groups below it.
    #[must_use]
    pub fn group(&self) -> &Memcg {
        &self.group
    }
}

/// A registered shrinker. Dropping this unregisters it, at any time, inside a call of it as well.
///
/// No call begins after that. One that is under way on another thread goes on, and then the
/// shrinker is dropped.
#[must_use = "the shrinker is unregistered when this is dropped"]
#[derive(Debug)]
pub struct Registration {
    index: ShrinkerId,
}

impl Drop for Registration {
    fn drop(&mut self) {
        engine().kmem.shrinkers.unregister(self.index);
    }
}

/// Registers a shrinker. Starts the engine's worker thread if there is none and the process may
/// have one.
///
/// ```
/// use memcg::{ListLru, Scope, Shrinker, Verdict};
/// use std::sync::Arc;
///
/// struct Cache(Arc<ListLru<memcg::Charge>>);
///
/// impl Shrinker for Cache {
///     fn count(&self, scope: &Scope) -> u64 {
///         self.0.count(scope.group())
///     }
///     fn scan(&self, scope: &Scope, nr: u64) -> Option<u64> {
///         Some(self.0.walk(scope.group(), nr, |_| Verdict::Removed).removed)
///     }
/// }
///
/// let cached = Arc::new(ListLru::new());
/// let tenant = memcg::root().create("shrinker-tenant").unwrap();
/// let _registered = memcg::register_shrinker(Cache(cached.clone()));
/// let page = cached.insert_for(&tenant, tenant.try_reserve(4096).unwrap());
/// // The cache was asked, and forgets; the page goes with its last handle.
/// assert!(tenant.write("memory.reclaim", "1M").is_err());
/// assert!(!page.is_listed());
/// ```
///
/// # Panics
/// Without memory for the shrinker's record.
pub fn register_shrinker<S: Shrinker>(shrinker: S) -> Registration {
    let manner = Manner {
        per_group: shrinker.is_per_group(),
        seeks: shrinker.seeks(),
        batch: shrinker.batch(),
        list: None,
    };
    register(shrinker, manner)
}

fn register<S: Shrinker>(shrinker: S, manner: Manner) -> Registration {
    let data = {
        let _free = no_account();
        Box::into_raw(Box::new(shrinker))
    };
    // SAFETY: `Of::<S>::OPS` are the functions for data that is a box of an `S`, which `data` is.
    // Nobody else frees the box. `Shrinker` asks for Send and Sync, so the functions may be called
    // and the box dropped on any thread.
    let index = unsafe {
        engine()
            .kmem
            .shrinkers
            .register(&Of::<S>::OPS, data.cast_const().cast(), manner)
    };
    let Some(index) = index else {
        // SAFETY: `data` came from `Box::into_raw` above, and the registration failed, so nobody
        // else has the box.
        drop(unsafe { Box::from_raw(data) });
        panic!("no memory for a shrinker");
    };
    worker_thread::want();
    Registration { index }
}

impl<T: Send + Sync + 'static> ListLru<T> {
    /// Registers a shrinker of the list. When memory is short, `look` is shown the things of the
    /// group that is short, oldest first, and says what becomes of each. Groups without things in
    /// the list are passed over.
    ///
    /// The list lives at least as long as the registration.
    ///
    /// # Panics
    /// Without memory for the shrinker's record.
    pub fn shrink_by(&self, look: impl Fn(&T) -> Verdict + Send + Sync + 'static) -> Registration {
        let list = self.handle();
        let manner = Manner {
            per_group: true,
            seeks: 2,
            batch: 128,
            list: Some(self.list()),
        };
        register(OfList { list, look }, manner)
    }
}

struct OfList<T: Send + Sync + 'static, F> {
    list: ListLru<T>,
    look: F,
}

impl<T, F> Shrinker for OfList<T, F>
where
    T: Send + Sync + 'static,
    F: Fn(&T) -> Verdict + Send + Sync + 'static,
{
    fn count(&self, scope: &Scope) -> u64 {
        self.list.count(scope.group())
    }

    fn scan(&self, scope: &Scope, nr: u64) -> Option<u64> {
        Some(self.list.walk(scope.group(), nr, &self.look).removed)
    }
}

/// The functions of one type of shrinker.
struct Of<S>(PhantomData<S>);

impl<S: Shrinker> Of<S> {
    const OPS: Ops = Ops {
        count: Self::count,
        scan: Self::scan,
        let_go: Self::let_go,
    };

    /// Runs `f` for the group that `ask` names. `None`: the group has gone, or `f` panicked.
    ///
    /// # Safety
    /// `data` is the box of a live registration.
    unsafe fn call<R>(data: *const (), ask: Ask, f: impl FnOnce(&S, &Scope) -> R) -> Option<R> {
        let find = |engine, _| Memcg::of_ask(engine, ask.group, ask.generation);
        let group = pinned(find)?;
        // SAFETY: the caller has promised that `data` is the box of a live registration of an `S`,
        // by `register`. `let_go` drops it only after the last call, so it lives during this one.
        let shrinker = unsafe { &*data.cast::<S>() };
        contained(|| f(shrinker, &Scope { group }))
    }

    /// See [`Ops::count`].
    ///
    /// # Safety
    /// `data` is the box of a live registration.
    unsafe fn count(data: *const (), ask: Ask) -> u64 {
        // SAFETY: the registry calls `Ops` with the data they were registered with, a box of an
        // `S`, while it holds the registration.
        unsafe { Self::call(data, ask, |shrinker, scope| shrinker.count(scope)) }.unwrap_or(0)
    }

    /// See [`Ops::scan`].
    ///
    /// # Safety
    /// `data` is the box of a live registration.
    unsafe fn scan(data: *const (), ask: Ask, nr: u64) -> Option<u64> {
        // SAFETY: the registry calls `Ops` with the data they were registered with, a box of an
        // `S`, while it holds the registration.
        unsafe { Self::call(data, ask, |shrinker, scope| shrinker.scan(scope, nr)) }.flatten()
    }

    /// Drops the shrinker, which code of the program may do in its own way; a panic ends here.
    ///
    /// # Safety
    /// `data` is the box of a registration that has ended, and nobody uses it any more.
    unsafe fn let_go(data: *const ()) {
        let _free = no_account();
        // SAFETY: `data` came from `Box::into_raw` in `register`. The registry calls `let_go` once,
        // when it has ended the last hold on the registration, so nobody uses the box any more.
        let shrinker = unsafe { Box::from_raw(data.cast_mut().cast::<S>()) };
        let _ = contained(|| drop(shrinker));
    }
}
