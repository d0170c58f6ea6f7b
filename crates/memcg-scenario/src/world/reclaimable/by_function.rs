//! Caches with a function that frees their oldest objects in a group where one does not fit, as the
//! caches that opted in in the design of 2012.
//!
//! Invariants: the objects of a group go oldest first; use does not make an object younger.
//! Depends on: the engine's `register_memcg_cache`.
//! Never: an object is freed while the table of objects is locked.

use crate::world::lock::lock;
use crate::world::reclaimable::cache::{Numbers, ReclaimableCache, pattern};
use memcg::testing::engine::Flags;
use memcg::{
    AllocError, CacheError, CacheOptions, KBytes, Memcg, ReserveError, SizedCache,
    register_memcg_cache,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// By number, with the group it was made in.
type ByNumber = Mutex<BTreeMap<u64, (Memcg, KBytes)>>;

/// A cache with a function that makes room in a group.
pub struct Registered {
    cache: SizedCache,
    all: Arc<ByNumber>,
    numbers: Arc<Numbers>,
}

impl Registered {
    /// Makes a cache whose objects have `bytes` bytes.
    ///
    /// # Errors
    /// As the engine says.
    pub fn create(
        bytes: u64,
        options: CacheOptions<'_>,
    ) -> Result<Arc<dyn ReclaimableCache>, CacheError> {
        let cache = options.sized(usize::try_from(bytes).unwrap_or(usize::MAX))?;
        let (all, numbers) = (Arc::new(ByNumber::default()), Arc::new(Numbers::default()));
        let (gone, counted) = (Arc::clone(&all), Arc::clone(&numbers));
        register_memcg_cache(&cache, move |group, wanted| {
            let mut freed = 0;
            while freed < wanted {
                let Some(object) = pop_oldest(&gone, group) else {
                    break;
                };
                freed += object.len() as u64;
                counted.count_reclaimed();
            }
            freed
        });
        Ok(Arc::new(Self {
            cache,
            all,
            numbers,
        }))
    }
}

/// The oldest object that is of a group or below.
fn pop_oldest(all: &ByNumber, group: &Memcg) -> Option<KBytes> {
    let top = group.path();
    let is_below = |path: &str| {
        let rest = path.strip_prefix(top.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mut all = lock(all);
    let number = all.iter().find(|(_, (group, _))| is_below(&group.path()));
    let number = number.map(|(number, _)| *number)?;
    all.remove(&number).map(|(_, object)| object)
}

impl ReclaimableCache for Registered {
    fn object_bytes(&self) -> u64 {
        self.cache.object_bytes() as u64
    }

    fn make(&self, group: &Memcg, flags: Flags) -> Result<u64, AllocError> {
        let mut object = self.cache.alloc_flags(flags)?;
        let number = self.numbers.next();
        for (at, piece) in object.chunks_mut(8).enumerate() {
            piece.copy_from_slice(&pattern(number, at).to_ne_bytes()[..piece.len()]);
        }
        lock(&self.all).insert(number, (group.clone(), object));
        Ok(number)
    }

    fn is_whole(&self, number: u64) -> Option<bool> {
        let all = lock(&self.all);
        let (_, object) = all.get(&number)?;
        let mut pieces = object.chunks(8).enumerate();
        Some(pieces.all(|(at, piece)| piece == &pattern(number, at).to_ne_bytes()[..piece.len()]))
    }

    fn touch(&self, number: u64) {
        if let Some((_, object)) = lock(&self.all).get(&number) {
            object.touch();
        }
    }

    fn recharge_to(&self, number: u64, group: &Memcg) -> Result<(), ReserveError> {
        let mut all = lock(&self.all);
        let Some((of, object)) = all.get_mut(&number) else {
            return Ok(());
        };
        object.recharge_to(group)?;
        *of = group.clone();
        Ok(())
    }

    fn end(&self, number: u64) {
        let object = lock(&self.all).remove(&number);
        drop(object);
    }

    fn counts(&self) -> (u64, u64) {
        let entries = lock(&self.all).len() as u64;
        (entries, self.numbers.reclaimed())
    }
}
