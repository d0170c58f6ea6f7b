//! Where objects of 64 bytes come from: the heap, or a cache of a slab kind and a layout.

use memcg::{CacheLayout, CacheOptions, KBox, KmemCache, SlabKind};
use std::mem::MaybeUninit;

/// 64 bytes, of which the first are written.
pub struct Thing {
    first: u64,
    _rest: MaybeUninit<[u64; 7]>,
}

impl Thing {
    #[inline(always)]
    fn new() -> Self {
        Self {
            first: 1,
            _rest: MaybeUninit::uninit(),
        }
    }
}

/// Makes objects; they free themselves.
pub trait Maker: Sync {
    /// An owned one.
    type Object: Send;
    fn make(&self) -> Self::Object;
    fn first(object: &Self::Object) -> *const u64;
}

/// The heap, by memcg's allocator.
pub struct Kmalloc;

impl Maker for Kmalloc {
    type Object = Box<Thing>;

    #[inline(always)]
    fn make(&self) -> Box<Thing> {
        Box::new(Thing::new())
    }

    #[inline(always)]
    fn first(object: &Box<Thing>) -> *const u64 {
        &object.first
    }
}

impl Maker for KmemCache<Thing> {
    type Object = KBox<Thing>;

    #[inline(always)]
    fn make(&self) -> KBox<Thing> {
        self.alloc(Thing::new()).expect("no limit")
    }

    #[inline(always)]
    fn first(object: &KBox<Thing>) -> *const u64 {
        &object.first
    }
}

/// What is done with any of them.
pub trait With<R> {
    fn with<M: Maker>(&self, maker: &M) -> R;
}

/// The options of the cache a row is named after: `slub`, `slab`, `slub-groups`, `slab-groups`.
fn options(name: &str) -> Option<CacheOptions<'static>> {
    let (school, layout) = match name.split_once('-') {
        None => (name, CacheLayout::Shared),
        Some((school, "groups")) => (school, CacheLayout::PerGroup),
        Some(_) => return None,
    };
    let school = match school {
        "slub" => SlabKind::Slub,
        "slab" => SlabKind::Slab,
        _ => return None,
    };
    Some(CacheOptions::new("thing").slab_kind(school).layout(layout))
}

/// A cache by its name; its objects are charged to nobody if `exempt`.
pub fn cache(name: &str, exempt: bool) -> Option<KmemCache<Thing>> {
    let mut options = options(name)?;
    if exempt {
        options = options.no_account();
    }
    Some(options.typed().expect("a cache"))
}

/// Calls `work` with the maker of that name: `kmalloc`, or a cache's.
pub fn by_name<R>(name: &str, work: &impl With<R>) -> Option<R> {
    if name == "kmalloc" {
        return Some(work.with(&Kmalloc));
    }
    Some(work.with(&cache(name, false)?))
}
