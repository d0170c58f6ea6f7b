//! Caches whose objects are on a list by group, oldest first, with a shrinker.
//!
//! Invariants: an object that is on the list can be found by its number.
//! Depends on: the engine's `ListLru`.
//! Never: an object is freed while the table of numbers is locked.

use crate::world::lock::lock;
use crate::world::reclaimable::cache::{Numbers, ReclaimableCache, pattern};
use memcg::testing::engine::Flags;
use memcg::{
    AllocError, CacheError, CacheOptions, ListLru, LruItem, Memcg, Registration, ReserveError,
    Verdict,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// A reclaimable object: its number and a pattern made of it.
struct Thing<const WORDS: usize> {
    number: u64,
    words: [u64; WORDS],
}

impl<const WORDS: usize> Thing<WORDS> {
    fn new(number: u64) -> Self {
        Self {
            number,
            words: core::array::from_fn(|word| pattern(number, word)),
        }
    }

    fn is_whole(&self) -> bool {
        let mut words = self.words.iter().enumerate();
        words.all(|(at, word)| *word == pattern(self.number, at))
    }
}

/// The objects that are on a list, by number.
type Items<const WORDS: usize> = Mutex<HashMap<u64, LruItem<Thing<WORDS>>>>;

struct Listed<const WORDS: usize> {
    list: ListLru<Thing<WORDS>>,
    items: Arc<Items<WORDS>>,
    numbers: Arc<Numbers>,
    _shrinker: Registration,
}

/// Words of an object on a list that are not its value: link, list, number.
const LINK_WORDS: usize = 6;
/// The sizes that objects of such a cache may have.
pub const SIZES: &str = "64, 128, 192, 256, 512, 1K, 2K or 4K";

/// Makes a cache whose objects have `bytes` bytes; `None` when there is no such size.
///
/// # Errors
/// As the engine says.
pub fn create(
    bytes: u64,
    options: CacheOptions<'_>,
) -> Result<Option<Arc<dyn ReclaimableCache>>, CacheError> {
    fn of<const WORDS: usize>(
        options: CacheOptions<'_>,
    ) -> Result<Arc<dyn ReclaimableCache>, CacheError> {
        Listed::<WORDS>::new(options).map(|cache| cache as Arc<dyn ReclaimableCache>)
    }
    Ok(Some(match bytes {
        64 => of::<{ 8 - LINK_WORDS }>(options)?,
        128 => of::<{ 16 - LINK_WORDS }>(options)?,
        192 => of::<{ 24 - LINK_WORDS }>(options)?,
        256 => of::<{ 32 - LINK_WORDS }>(options)?,
        512 => of::<{ 64 - LINK_WORDS }>(options)?,
        1024 => of::<{ 128 - LINK_WORDS }>(options)?,
        2048 => of::<{ 256 - LINK_WORDS }>(options)?,
        4096 => of::<{ 512 - LINK_WORDS }>(options)?,
        _ => return Ok(None),
    }))
}

impl<const WORDS: usize> Listed<WORDS> {
    fn new(options: CacheOptions<'_>) -> Result<Arc<Self>, CacheError> {
        let list = ListLru::in_cache(options)?;
        let (items, numbers) = (Arc::new(Items::default()), Arc::new(Numbers::default()));
        let (gone, counted) = (Arc::clone(&items), Arc::clone(&numbers));
        let shrinker = list.shrink_by(move |thing: &Thing<WORDS>| {
            let item = lock(&gone).remove(&thing.number);
            if item.is_none() {
                // Another thread has begun to free it.
                return Verdict::Skip;
            }
            counted.count_reclaimed();
            drop(item);
            Verdict::Removed
        });
        Ok(Arc::new(Self {
            list,
            items,
            numbers,
            _shrinker: shrinker,
        }))
    }
}

impl<const WORDS: usize> ReclaimableCache for Listed<WORDS> {
    fn object_bytes(&self) -> u64 {
        self.list.thing_bytes()
    }

    fn make(&self, _: &Memcg, flags: Flags) -> Result<u64, AllocError> {
        let number = self.numbers.next();
        let item = self.list.try_item(flags, || Thing::new(number))?;
        // It goes into the table first: a shrinker may look for it as soon as it is on the list.
        let mut items = lock(&self.items);
        let item = items.entry(number).insert_entry(item);
        self.list.add(item.get());
        Ok(number)
    }

    fn is_whole(&self, number: u64) -> Option<bool> {
        lock(&self.items).get(&number).map(|item| item.is_whole())
    }

    fn touch(&self, number: u64) {
        let items = lock(&self.items);
        if let Some(item) = items.get(&number)
            && !item.touch()
        {
            self.list.del(item);
            self.list.add(item);
        }
    }

    fn recharge_to(&self, number: u64, group: &Memcg) -> Result<(), ReserveError> {
        let items = lock(&self.items);
        items
            .get(&number)
            .map_or(Ok(()), |item| item.recharge_to(group))
    }

    fn end(&self, number: u64) {
        let item = lock(&self.items).remove(&number);
        drop(item);
    }

    fn counts(&self) -> (u64, u64) {
        let entries = lock(&self.items).len() as u64;
        (entries, self.numbers.reclaimed())
    }
}
