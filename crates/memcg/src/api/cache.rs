//! Named caches of objects of one size: the kernel's kmem_cache, safe.
//!
//! [`KmemCache`] holds values of one type, [`SizedCache`] bytes. An object belongs to whom the thread works for when it is
//! allocated, and is freed by the drop of its handle, on any thread. A cache whose handle is dropped gives no objects any more;
//! those that are out stay what they are, and the last one ends it.

use super::cache_error::{AllocError, CacheError};
use super::memcg::Memcg;
use super::pinned::pinned;
use super::scope::no_account;
use crate::engine::options::Tracking;
use crate::engine::process::with_rec;
use crate::engine::{Flags, engine, worker};
use crate::group::GroupId;
use crate::kmem::cache::room::RoomMaker;
use crate::kmem::cache::{Plan, Ways};
use crate::kmem::id::CacheId;
use crate::sync::id::Id;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A constructor of bytes: called once for each object, when a slab's object is first made, with zeros.
pub type Constructor = fn(&mut [u8]);

/// How a cache keeps free objects.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum SlabKind {
    /// Free lists in the slabs, a slab per thread; full slabs are nobody's.
    #[default]
    Slub,
    /// Magazines per thread, a shared array, a reaper that comes by every two seconds.
    Slab,
}

/// Which groups' objects share slabs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum CacheLayout {
    /// All.
    #[default]
    Shared,
    /// Each group has slabs of its own, from when it first needs them: no fragmentation between tenants, and what a group leaves goes
    /// slab by slab.
    PerGroup,
}

/// How a cache is to be.
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
    /// A cache of this name: 1 to 32 bytes, no control characters. Several may have the same.
    pub fn new(name: &'a str) -> Self {
        Self {
            name,
            align: 1,
            ways: Ways::default(),
            ctor: None,
        }
    }

    /// The same under another name.
    pub fn named(mut self, name: &'a str) -> Self {
        self.name = name;
        self
    }

    /// Objects at multiples of `align`, a power of two to 4096 (and of what their type needs).
    pub fn align(mut self, align: usize) -> Self {
        self.align = align;
        self
    }

    /// Its objects are charged to nobody.
    pub fn no_account(self) -> Self {
        self.with(Ways::NOACCOUNT)
    }

    /// Which groups' objects share slabs.
    pub fn layout(self, layout: CacheLayout) -> Self {
        self.choose(Ways::PER_GROUP, layout == CacheLayout::PerGroup)
    }

    /// How free objects are kept.
    pub fn slab_kind(self, kind: SlabKind) -> Self {
        self.choose(Ways::MAGAZINES, kind == SlabKind::Slab)
    }

    /// Its objects are accounted also where only those of such caches are ([`set_cache_tracking`]).
    pub fn account(self) -> Self {
        self.with(Ways::ACCOUNT)
    }

    /// A red zone behind each object, and poison in free ones: a write behind the end, or after the free, is found when the object is
    /// freed, or taken again, and ends the process with a line that names the cache and the object. Slower.
    pub fn checked(self) -> Self {
        self.with(Ways::CHECKED)
    }

    /// The rival of dead caches that was refused in 2014: full slabs are kept in a list too, and at a group's end its slabs become this
    /// cache's, one by one. Slower; to be measured.
    pub fn track_full_slabs(self) -> Self {
        self.with(Ways::TRACKED)
    }

    /// A constructor, for a cache of bytes: an object is handed out as it left it, or as its last user did.
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
            // Who may not wait leaves the making of a group's cache to the worker.
            worker::thread::want();
        }
        pinned(|engine, rec| engine.create_cache(rec, &plan)).ok_or(CacheError::NoMemory)
    }

    /// A cache of values of `T`, to nearly 64 KiB. Values are moved in and dropped when freed, so a constructor given here is
    /// not used.
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

    /// A cache of objects of `bytes`, to nearly 64 KiB.
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

/// Makes room in a group, about so many bytes, and answers how many it freed.
type Shrink = dyn Fn(&Memcg, u64) -> u64 + Send + Sync;

/// Calls what [`register`] keeps.
fn call_shrinker(shrink: &Shrink, group: GroupId, bytes: u64) -> u64 {
    let Some(group) = pinned(|engine, _| Memcg::of_index(engine, group)) else {
        return 0;
    };
    // A panic ends this call alone: it freed nothing.
    catch_unwind(AssertUnwindSafe(|| shrink(&group, bytes))).unwrap_or(0)
}

fn register(index: CacheId, shrink: Box<Shrink>) -> bool {
    let _free = no_account();
    let cache = engine().kmem.caches.get(index);
    // Two that register at once: one of them leaks what it was given, as what is registered is kept.
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
/// bytes it freed; 0 refuses the allocation. The thread that allocates calls it, if the allocation
/// may wait and run code of the program ([`Flags::WAIT`], [`Flags::USER`]), under no lock. A panic
/// counts as 0 and goes no further.
///
/// A registered cache is accounted also where only such caches are ([`set_cache_tracking`]).
/// Answers `false`, and drops `shrink`, if the cache has one already. What is registered is kept for
/// the life of the process.
///
/// Source of the idea: the opt-in accounting of slab caches for Linux of 2012.
pub fn register_memcg_cache(
    cache: &impl AnyCache,
    shrink: impl Fn(&Memcg, u64) -> u64 + Send + Sync + 'static,
) -> bool {
    cache.register(Box::new(shrink))
}

/// Which objects of caches are accounted: of all that are not exempt, or of caches that ask for it; and whether what the root's own
/// owners allocate is.
pub fn set_cache_tracking(opt_in: bool, root: bool) {
    let options = &engine().options;
    options.set_tracking(Tracking::OptIn, opt_in);
    options.set_tracking(Tracking::RootUntracked, !root);
}

/// Takes an object; where it is, and whether nobody has had it before.
#[inline]
fn take(index: CacheId, flags: Flags) -> Result<(NonNull<u8>, bool), AllocError> {
    let found = with_rec(|engine, rec| engine.alloc_cached(rec, index, flags))
        .ok_or(AllocError::NoMemory)?
        .map_err(AllocError::new)?;
    let at = NonNull::new(found.at as *mut u8).ok_or(AllocError::NoMemory)?;
    Ok((at, found.raw))
}

/// Frees an object.
///
/// # Safety
/// A live object of a cache of this process, which ends here.
#[inline]
unsafe fn give(at: NonNull<u8>, raw: bool) {
    // SAFETY: the caller's.
    with_rec(|engine, rec| unsafe { engine.free_cached(rec, at.as_ptr() as usize, raw) });
}

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
    index: CacheId,
    _values: PhantomData<fn(T) -> T>,
}

impl<T> KmemCache<T> {
    /// With the options as they are at first.
    ///
    /// # Errors
    /// See [`CacheError`].
    pub fn new(name: &str) -> Result<Self, CacheError> {
        CacheOptions::new(name).typed()
    }

    /// An object with `value`, for whom the thread works for. It may wait, and shrinkers of the program may run; see
    /// [`Self::alloc_with`].
    ///
    /// # Errors
    /// See [`AllocError`]; `value` is dropped.
    pub fn alloc(&self, value: T) -> Result<KBox<T>, AllocError> {
        self.alloc_with(Flags::WAIT.with(Flags::USER), || value)
    }

    /// An object with what `make` makes, once there is one. Cost of a hit: no lock, no atomic instruction.
    ///
    /// # Errors
    /// See [`AllocError`]; `make` is not called then.
    pub fn alloc_with(
        &self,
        flags: Flags,
        make: impl FnOnce() -> T,
    ) -> Result<KBox<T>, AllocError> {
        let (at, _) = take(self.index, flags)?;
        let guard = Unmade(at);
        // SAFETY: an object for a `T`, just taken.
        unsafe { at.cast::<T>().write(make()) };
        core::mem::forget(guard);
        Ok(KBox {
            at: at.cast(),
            _value: PhantomData,
        })
    }

    /// Its number, by which slabinfo and scenarios know it.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.index.raw()
    }

    /// Gives back the memory of slabs that are empty. It cannot fail.
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

/// An object whose value or bytes were not made: a panic frees it.
struct Unmade(NonNull<u8>);

impl Drop for Unmade {
    fn drop(&mut self) {
        // SAFETY: taken, and nobody else's.
        unsafe { give(self.0, true) };
    }
}

/// A value in an object of a [`KmemCache`]; its drop drops the value and frees the object, on any thread.
pub struct KBox<T> {
    at: NonNull<T>,
    _value: PhantomData<T>,
}

// SAFETY: it owns a T and is freed on any thread.
unsafe impl<T: Send> Send for KBox<T> {}
// SAFETY: a shared one gives shared references only.
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
        // SAFETY: a live object with a value, which is moved out of it.
        let value = unsafe { at.read() };
        // SAFETY: the object ends here.
        unsafe { give(at.cast(), false) };
        value
    }
}

impl<T> Deref for KBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: a live object with a value, ours.
        unsafe { self.at.as_ref() }
    }
}

impl<T> DerefMut for KBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, borrowed exclusively.
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
        /// The object goes even if the value's drop panics.
        struct Free(NonNull<u8>);
        impl Drop for Free {
            fn drop(&mut self) {
                // SAFETY: live, ours, its value gone.
                unsafe { give(self.0, false) };
            }
        }
        let _free = Free(self.at.cast());
        // SAFETY: a live value, which ends here.
        unsafe { self.at.as_ptr().drop_in_place() };
    }
}

/// A cache of objects of so many bytes. May be shared by threads.
#[derive(Debug)]
pub struct SizedCache {
    index: CacheId,
    bytes: usize,
}

impl SizedCache {
    /// Of `bytes` each, with the options as they are at first.
    ///
    /// # Errors
    /// See [`CacheError`].
    pub fn new(name: &str, bytes: usize) -> Result<Self, CacheError> {
        CacheOptions::new(name).sized(bytes)
    }

    /// An object for whom the thread works for: zeros; or, of a cache with a constructor, what that made, or what the last user
    /// left. It may wait, and shrinkers of the program may run.
    ///
    /// # Errors
    /// See [`AllocError`].
    pub fn alloc(&self) -> Result<KBytes, AllocError> {
        self.alloc_flags(Flags::WAIT.with(Flags::USER))
    }

    /// As [`Self::alloc`], with flags.
    ///
    /// # Errors
    /// See [`AllocError`].
    pub fn alloc_flags(&self, flags: Flags) -> Result<KBytes, AllocError> {
        let (at, raw) = take(self.index, flags)?;
        let cache = engine().kmem.caches.get(self.index);
        if !cache.ways().has(Ways::CONSTRUCTED) {
            // SAFETY: an object of so many bytes, just taken.
            unsafe { at.as_ptr().write_bytes(0, self.bytes) };
        } else if raw {
            let guard = Unmade(at);
            // SAFETY: as above.
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

    /// An object as it is: for what writes it itself. NOWAIT and all other flags as given.
    ///
    /// # Errors
    /// See [`AllocError`].
    pub fn alloc_raw(&self, flags: Flags) -> Result<NonNull<MaybeUninit<u8>>, AllocError> {
        take(self.index, flags).map(|(at, _)| at.cast())
    }

    /// Frees one of [`Self::alloc_raw`]. A constructor runs anew before the object is handed out by
    /// [`Self::alloc`], whatever it holds now.
    ///
    /// # Safety
    /// A live object of [`Self::alloc_raw`], of any cache, which ends here.
    pub unsafe fn free_raw(&self, at: NonNull<MaybeUninit<u8>>) {
        // Nobody knows what was written to it: its constructor is to run again.
        // SAFETY: the caller has promised a live object that ends here.
        unsafe { give(at.cast(), true) };
    }

    /// Its number, by which slabinfo and scenarios know it.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.index.raw()
    }

    /// Bytes of an object, as it is charged.
    pub(super) fn charged_bytes(&self) -> u64 {
        engine().kmem.caches.get(self.index).charged_bytes()
    }

    /// Bytes of an object.
    #[must_use]
    pub fn object_bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back the memory of slabs that are empty. It cannot fail.
    pub fn shrink(&self) {
        pinned(|engine, _| engine.kmem.shrink_cache(&engine.tree, self.index));
    }
}

impl Drop for SizedCache {
    fn drop(&mut self) {
        end(self.index);
    }
}

/// Bytes in an object of a [`SizedCache`]; freed when dropped, on any thread.
pub struct KBytes {
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it owns its bytes and is freed on any thread.
unsafe impl Send for KBytes {}
// SAFETY: a shared one gives shared references only.
unsafe impl Sync for KBytes {}

impl KBytes {
    pub(super) fn address(&self) -> usize {
        self.at.as_ptr() as usize
    }
}

impl Deref for KBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: a live object of so many bytes, all written when it was made.
        unsafe { core::slice::from_raw_parts(self.at.as_ptr(), self.bytes) }
    }
}

impl DerefMut for KBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, borrowed exclusively.
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
        // SAFETY: live, ours.
        unsafe { give(self.at, false) };
    }
}
