//! Named caches of objects of one size, after the kernel's `kmem_cache`, in safe Rust.
//!
//! [`KmemCache`] holds values of one type, [`SizedCache`] bytes. The drop of an object's handle
//! frees the object, on any thread.
//!
//! Invariants: an object belongs to the group or task that its thread charged when it was
//! allocated. A cache that has been dropped gives no objects any more; those that are out stay
//! valid, and the last of them ends it.
//! Depends on: `engine::cached_objects`, `kmem::cache`.
//! Never: a call of a constructor or a shrink function under a lock.

use super::cache_error::{AllocError, CacheError};
use super::pinned::pinned;
use crate::engine::configuration::Tracking;
use crate::engine::process_engine::with_rec;
use crate::engine::{Flags, engine, worker};
use crate::kmem::cache::{Plan, Ways};
use crate::kmem::id::CacheId;
use crate::sync::id::Id;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// A constructor of bytes. It is called with zeros, once for each object, when the object is first
/// handed out.
pub type Constructor = fn(&mut [u8]);

/// How a cache keeps its free objects: by one of the kernel's two allocators.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum SlabKind {
    /// Free objects are in lists in their slabs, and each thread has a slab of its own. Full slabs
    /// are in no list.
    #[default]
    Slub,
    /// Free objects are in magazines of each thread and in an array that threads share. A reaper
    /// looks at them every two seconds.
    Slab,
}

/// Which groups' objects share slabs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum CacheLayout {
    /// Objects of all groups share slabs.
    #[default]
    Shared,
    /// Each group has slabs of its own, from its first object on. Tenants do not fragment each
    /// other's slabs, and what a removed group leaves goes slab by slab.
    PerGroup,
}

/// The options of a cache, and the way to make one: [`Self::typed`], [`Self::sized`].
///
/// ```
/// let cache = memcg::CacheOptions::new("session").align(64).typed::<[u64; 5]>().unwrap();
/// let object = cache.alloc([7; 5]).unwrap();
/// assert_eq!(object[0], 7);
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct CacheOptions<'a> {
    name: &'a str,
    align: usize,
    ways: Ways,
    ctor: Option<Constructor>,
}

impl<'a> CacheOptions<'a> {
    /// Options of a cache of this name: 1 to 32 bytes, no control characters. Several caches may
    /// have the same name.
    pub fn new(name: &'a str) -> Self {
        Self {
            name,
            align: 1,
            ways: Ways::default(),
            ctor: None,
        }
    }

    /// Gives the cache another name, under the same rules.
    pub fn named(mut self, name: &'a str) -> Self {
        self.name = name;
        self
    }

    /// Sets the alignment: objects lie at multiples of `align`, a power of two up to 4096, and of
    /// the alignment that their type needs.
    pub fn align(mut self, align: usize) -> Self {
        self.align = align;
        self
    }

    /// Has the cache's objects charged to nobody.
    pub fn no_account(self) -> Self {
        self.with(Ways::NOACCOUNT)
    }

    /// Sets which groups' objects share slabs.
    pub fn layout(self, layout: CacheLayout) -> Self {
        self.choose(Ways::PER_GROUP, layout == CacheLayout::PerGroup)
    }

    /// Sets how the cache keeps its free objects.
    pub fn slab_kind(self, kind: SlabKind) -> Self {
        self.choose(Ways::MAGAZINES, kind == SlabKind::Slab)
    }

    /// Has the cache's objects accounted also while only caches that ask for it are accounted
    /// ([`set_cache_tracking`]).
    pub fn account(self) -> Self {
        self.with(Ways::ACCOUNT)
    }

    /// Puts a red zone behind each object and poison into free ones. A write behind an object's
    /// end, or after its free, is found when the object is freed or handed out again; it ends the
    /// process with a line that names the cache and the object. Slower.
    pub fn checked(self) -> Self {
        self.with(Ways::CHECKED)
    }

    /// Keeps full slabs in a list too, so that a group's slabs become this cache's, one by one,
    /// when the group ends. This is the published alternative to dead caches that was refused in
    /// 2014. Slower; it is here to be measured.
    pub fn track_full_slabs(self) -> Self {
        self.with(Ways::TRACKED)
    }

    /// Sets the constructor of a cache of bytes: an object is handed out as the constructor left
    /// it, or as its last user did.
    pub fn constructor(mut self, ctor: Constructor) -> Self {
        self.ctor = Some(ctor);
        self.with(Ways::CONSTRUCTED)
    }

    fn with(mut self, ways: Ways) -> Self {
        self.ways = self.ways.with(ways);
        self
    }

    fn choose(mut self, ways: Ways, on: bool) -> Self {
        self.ways = self.ways.without(ways);
        if on { self.with(ways) } else { self }
    }

    fn create(
        &self,
        bytes: usize,
        align: usize,
        ctor: Option<Constructor>,
    ) -> Result<CacheId, CacheError> {
        let is_long = self.name.len() > crate::kmem::cache::NAME_BYTES;
        if self.name.is_empty() || is_long || self.name.contains(char::is_control) {
            return Err(CacheError::Name);
        }
        let plan = Plan {
            name: self.name.as_bytes(),
            bytes,
            align: self.align.max(align),
            ways: self.ways,
            ctor,
        };
        if !plan.is_possible() {
            return Err(CacheError::Size);
        }
        if self.ways.has(Ways::PER_GROUP) {
            // An allocation that may not wait leaves the making of a group's cache to the worker.
            worker::worker_thread::want();
        }
        pinned(|engine, rec| engine.create_cache(rec, &plan)).ok_or(CacheError::NoMemory)
    }

    /// Makes a cache of values of `T`, which may have nearly 64 KiB. Values are moved in, and
    /// dropped when they are freed, so a constructor that was set is not used.
    ///
    /// # Errors
    /// See [`CacheError`].
    pub fn typed<T>(mut self) -> Result<KmemCache<T>, CacheError> {
        self.ctor = None;
        self.ways = self.ways.without(Ways::CONSTRUCTED);
        Ok(KmemCache {
            index: self.create(size_of::<T>(), align_of::<T>(), None)?,
            _values: PhantomData,
        })
    }

    /// Makes a cache of objects of `bytes` bytes, at most nearly 64 KiB.
    ///
    /// # Errors
    /// See [`CacheError`].
    pub fn sized(self, bytes: usize) -> Result<SizedCache, CacheError> {
        Ok(SizedCache {
            index: self.create(bytes, 1, self.ctor)?,
            bytes,
        })
    }
}

/// Chooses which objects of caches are accounted. With `opt_in`: only those of caches that ask for
/// it ([`CacheOptions::account`], [`register_memcg_cache`](super::register_memcg_cache)). Else:
/// those of all caches that are not exempt. Without `root`, objects that owners of the root group
/// allocate are not accounted.
///
/// Objects that are allocated already keep their owners.
pub fn set_cache_tracking(opt_in: bool, root: bool) {
    let options = &engine().options;
    options.set_tracking(Tracking::OptIn, opt_in);
    options.set_tracking(Tracking::RootUntracked, !root);
}

/// Takes an object of a cache. Answers its address, and whether its constructor has still to run.
#[inline]
fn alloc_object(index: CacheId, flags: Flags) -> Result<(NonNull<u8>, bool), AllocError> {
    let found = with_rec(|engine, rec| engine.alloc_cached(rec, index, flags))
        .ok_or(AllocError::NoMemory)?
        .map_err(AllocError::new)?;
    let at = NonNull::new(found.at as *mut u8).ok_or(AllocError::NoMemory)?;
    Ok((at, found.raw))
}

/// Frees an object of a cache. `raw`: its constructor has to run before it is handed out again.
///
/// # Safety
/// `at` is a live object of a cache of this process, and ends here: nobody uses it any more.
#[inline]
unsafe fn give(at: NonNull<u8>, raw: bool) {
    // SAFETY: the caller has promised that `at` is a live object of a cache of this process, the
    // engine's, and that nobody uses it any more.
    with_rec(|engine, rec| unsafe { engine.free_cached(rec, at.as_ptr() as usize, raw) });
}

/// Ends the cache of an index: it gives out no more objects.
fn end(index: CacheId) {
    with_rec(|engine, rec| engine.destroy_cache(rec, index));
}

/// A cache of values of one type. May be shared by threads.
///
/// ```
/// struct Session { id: u64, buffer: [u8; 1000] }
/// let sessions = memcg::KmemCache::<Session>::new("session").unwrap();
/// let group = memcg::root().create("sessions-of-one").unwrap();
/// let session = group.run(|| sessions.alloc(Session { id: 1, buffer: [0; 1000] })).unwrap();
/// assert_eq!(session.id, 1);
/// assert_eq!(group.usage().slab, 1008);
/// std::thread::spawn(|| drop(session)).join().unwrap();
/// assert_eq!(group.current(), 0);
/// ```
pub struct KmemCache<T> {
    pub(super) index: CacheId,
    _values: PhantomData<fn(T) -> T>,
}

impl<T> KmemCache<T> {
    /// A cache with default options.
    ///
    /// # Errors
    /// See [`CacheError`].
    pub fn new(name: &str) -> Result<Self, CacheError> {
        CacheOptions::new(name).typed()
    }

    /// Allocates an object with `value`, charged to whom the thread charges. It may wait, and run
    /// shrinkers of the program; see [`Self::alloc_with`].
    ///
    /// # Errors
    /// See [`AllocError`]; `value` is dropped.
    pub fn alloc(&self, value: T) -> Result<KBox<T>, AllocError> {
        self.alloc_with(Flags::WAIT.with(Flags::USER), || value)
    }

    /// Allocates an object, then fills it with what `make` answers. Cost if the thread has a free
    /// object and stock: no lock, no atomic instruction.
    ///
    /// # Errors
    /// See [`AllocError`]; `make` is not called then.
    pub fn alloc_with(
        &self,
        flags: Flags,
        make: impl FnOnce() -> T,
    ) -> Result<KBox<T>, AllocError> {
        let (at, _) = alloc_object(self.index, flags)?;
        let guard = Unmade(at);
        // SAFETY: `alloc_object` has just taken the object, which nobody else knows. The cache was
        // made with the size and alignment of `T`.
        unsafe { at.cast::<T>().write(make()) };
        core::mem::forget(guard);
        Ok(KBox {
            at: at.cast(),
            _value: PhantomData,
        })
    }

    /// The cache's number, by which `memory.kmem.slabinfo` and scenarios know it.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.index.raw()
    }

    /// Gives back the memory of slabs that are empty.
    pub fn shrink(&self) {
        pinned(|engine, _| engine.kmem.shrink_cache(&engine.tree, self.index));
    }
}

impl<T> core::fmt::Debug for KmemCache<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "KmemCache({})", self.index.raw())
    }
}

impl<T> Drop for KmemCache<T> {
    fn drop(&mut self) {
        end(self.index);
    }
}

/// An object whose value or bytes are being made. If that panics, the drop of this frees the
/// object.
struct Unmade(NonNull<u8>);

impl Drop for Unmade {
    fn drop(&mut self) {
        // SAFETY: the object was taken by the function that made this guard, and nobody else knows
        // it. Where it is handed out the guard is forgotten, so this runs only if it is not.
        unsafe { give(self.0, true) };
    }
}

/// A value in an object of a [`KmemCache`]. Its drop drops the value and frees the object, on any
/// thread.
pub struct KBox<T> {
    at: NonNull<T>,
    _value: PhantomData<T>,
}

// SAFETY: a `KBox` owns its `T` alone, as a `Box` does, and `give` frees an object on any thread.
unsafe impl<T: Send> Send for KBox<T> {}
// SAFETY: a shared `KBox` gives out shared references to its `T` only, so it is as shareable as
// `T`.
unsafe impl<T: Sync> Sync for KBox<T> {}

impl<T> KBox<T> {
    pub(super) fn address(&self) -> usize {
        self.at.as_ptr() as usize
    }

    /// Moves the value out and frees the object.
    #[must_use]
    pub fn into_inner(self) -> T {
        let at = self.at;
        core::mem::forget(self);
        // SAFETY: the handle owned a live object with a value. The handle was forgotten, so nothing
        // else reads or drops the value that is moved out here.
        let value = unsafe { at.read() };
        // SAFETY: the object was the handle's alone, its value has been moved out, and the
        // forgotten handle does not free it again.
        unsafe { give(at.cast(), false) };
        value
    }
}

impl<T> Deref for KBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the handle owns the object, which lives until the handle's drop and holds a value
        // that `alloc_with` wrote. The borrow of the handle keeps both.
        unsafe { self.at.as_ref() }
    }
}

impl<T> DerefMut for KBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the handle owns the object, which lives and holds a value. The handle is borrowed
        // exclusively, so nobody else has a reference to the value.
        unsafe { self.at.as_mut() }
    }
}

impl<T: core::fmt::Debug> core::fmt::Debug for KBox<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> Drop for KBox<T> {
    fn drop(&mut self) {
        /// Frees the object, even if the value's drop panics.
        struct Free(NonNull<u8>);
        impl Drop for Free {
            fn drop(&mut self) {
                // SAFETY: the object is that of the handle being dropped, which owned it alone. It
                // lives, and its value has been dropped, or its drop has panicked: nobody uses it
                // any more.
                unsafe { give(self.0, false) };
            }
        }
        let _free = Free(self.at.cast());
        // SAFETY: the handle owns the object, whose value is live and is dropped only here, in the
        // handle's own drop.
        unsafe { self.at.as_ptr().drop_in_place() };
    }
}

/// A cache of objects of a fixed number of bytes. May be shared by threads.
#[derive(Debug)]
pub struct SizedCache {
    pub(super) index: CacheId,
    bytes: usize,
}

impl SizedCache {
    /// A cache of objects of `bytes` bytes each, with default options.
    ///
    /// # Errors
    /// See [`CacheError`].
    pub fn new(name: &str, bytes: usize) -> Result<Self, CacheError> {
        CacheOptions::new(name).sized(bytes)
    }

    /// Allocates an object, charged to whom the thread charges. It is zeroed; or, if the cache has
    /// a constructor, it is as the constructor or its last user left it. It may wait, and run
    /// shrinkers of the program.
    ///
    /// # Errors
    /// See [`AllocError`].
    pub fn alloc(&self) -> Result<KBytes, AllocError> {
        self.alloc_flags(Flags::WAIT.with(Flags::USER))
    }

    /// As [`Self::alloc`], but it waits and runs shrinkers only as `flags` allow.
    ///
    /// # Errors
    /// See [`AllocError`].
    pub fn alloc_flags(&self, flags: Flags) -> Result<KBytes, AllocError> {
        let (at, raw) = alloc_object(self.index, flags)?;
        let cache = engine().kmem.caches.get(self.index);
        if !cache.ways().has(Ways::CONSTRUCTED) {
            // SAFETY: `alloc_object` has just taken the object, which nobody else knows, and the
            // cache was made for objects of `self.bytes` bytes.
            unsafe { at.as_ptr().write_bytes(0, self.bytes) };
        } else if raw {
            let guard = Unmade(at);
            // SAFETY: `alloc_object` has just taken the object, of `self.bytes` bytes. Nobody else
            // knows it, and all its bytes are written before the slice is made.
            let object = unsafe {
                at.as_ptr().write_bytes(0, self.bytes);
                core::slice::from_raw_parts_mut(at.as_ptr(), self.bytes)
            };
            if let Some(construct) = cache.ctor() {
                construct(object);
            }
            core::mem::forget(guard);
        }
        Ok(KBytes {
            at,
            bytes: self.bytes,
        })
    }

    /// Allocates an object for code that writes it itself: its bytes are undefined.
    ///
    /// # Errors
    /// See [`AllocError`].
    pub fn alloc_raw(&self, flags: Flags) -> Result<NonNull<MaybeUninit<u8>>, AllocError> {
        alloc_object(self.index, flags).map(|(at, _)| at.cast())
    }

    /// Frees an object of [`Self::alloc_raw`].
    ///
    /// # Safety
    /// `at` is a live object that [`Self::alloc_raw`] of any cache has answered, and ends here:
    /// nobody uses it any more.
    pub unsafe fn free_raw(&self, at: NonNull<MaybeUninit<u8>>) {
        // Nobody knows what was written to it, so its constructor has to run again.
        // SAFETY: the caller has promised that `at` is a live object of a cache, which ends here.
        unsafe { give(at.cast(), true) };
    }

    /// The cache's number, by which `memory.kmem.slabinfo` and scenarios know it.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.index.raw()
    }

    /// The bytes that an object is charged, which may be more than it has for its user.
    pub(super) fn charged_bytes(&self) -> u64 {
        engine().kmem.caches.get(self.index).charged_bytes()
    }

    /// The bytes of an object.
    #[must_use]
    pub fn object_bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back the memory of slabs that are empty.
    pub fn shrink(&self) {
        pinned(|engine, _| engine.kmem.shrink_cache(&engine.tree, self.index));
    }
}

impl Drop for SizedCache {
    fn drop(&mut self) {
        end(self.index);
    }
}

/// The bytes of an object of a [`SizedCache`]. Its drop frees the object, on any thread.
pub struct KBytes {
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a `KBytes` owns its bytes alone, as a boxed slice does, and `give` frees an object on any
// thread.
unsafe impl Send for KBytes {}
// SAFETY: a shared `KBytes` gives out shared references to its bytes only.
unsafe impl Sync for KBytes {}

impl KBytes {
    pub(super) fn address(&self) -> usize {
        self.at.as_ptr() as usize
    }
}

impl Deref for KBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the handle owns the object, which lives until the handle's drop. All its
        // `self.bytes` bytes were written by `alloc_flags` or the constructor, or by its last user.
        unsafe { core::slice::from_raw_parts(self.at.as_ptr(), self.bytes) }
    }
}

impl DerefMut for KBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the handle owns the object, whose `self.bytes` bytes live and are written. The
        // handle is borrowed exclusively, so nobody else has a reference to them.
        unsafe { core::slice::from_raw_parts_mut(self.at.as_ptr(), self.bytes) }
    }
}

impl core::fmt::Debug for KBytes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "KBytes({})", self.bytes)
    }
}

impl Drop for KBytes {
    fn drop(&mut self) {
        // SAFETY: the object is that of the handle being dropped, which owned it alone: it lives,
        // and nobody uses it any more.
        unsafe { give(self.at, false) };
    }
}
