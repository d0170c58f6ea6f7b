//! `cache C … reclaimable`, `cache C … registered`: caches whose objects are given up when memory is short.
//!
//! A *reclaimable* cache has its objects on a list by group, with a shrinker, as caches of the kernel have theirs. A *registered*
//! one has a function that makes room in a group when an object does not fit there, as in the design of 2012 that opted in. A tag names
//! those of its objects that are left.
//!
//! Kept: an object is dropped where no lock of ours is held.

use crate::command::{Cache, GivesUp, Name};
use crate::words::show;
use crate::world::Fault;
use memcg::testing::engine::Flags;
use memcg::{
    AllocError, CacheError, CacheOptions, KBytes, ListLru, LruItem, Memcg, Registration,
    ReserveError, SizedCache, Verdict, register_memcg_cache,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Such a cache.
pub trait Keep: Send + Sync {
    /// Bytes an object is charged.
    fn object_bytes(&self) -> u64;
    /// One more object, for whom the thread works for in `group`; its number.
    fn make(&self, group: &Memcg, flags: Flags) -> Result<u64, AllocError>;
    /// Whether it is there, and holds what was written into it.
    fn look(&self, number: u64) -> Option<bool>;
    /// Uses it: it is the last to go from now on, and is charged to who uses it where a group's end said so.
    fn touch(&self, number: u64);
    /// Charges it to `group` from now on, if it is there, or nothing has changed.
    fn recharge_to(&self, number: u64, group: &Memcg) -> Result<(), ReserveError>;
    /// Ends it, if it is there.
    fn end(&self, number: u64);
    /// Objects there are, and those that were given up.
    fn counts(&self) -> (u64, u64);
}

/// All such caches of a scenario.
#[derive(Default)]
pub struct Kept(Mutex<HashMap<Name, Arc<dyn Keep>>>);

/// Objects of such a cache, those that are left; they end with this.
pub struct KeptObjects {
    cache: Arc<dyn Keep>,
    numbers: Vec<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    /// Makes a cache. The caller has seen that the name is free.
    pub fn create(
        &self,
        plan: &Cache,
        how: GivesUp,
        options: CacheOptions<'_>,
    ) -> Result<(), Fault> {
        let name = show(&plan.name);
        let made = match how {
            GivesUp::ByList => listed(plan.bytes, options),
            GivesUp::ByFunction => Registered::create(plan.bytes, options).map(Some),
        };
        let refused = |errno, why: &dyn core::fmt::Display| {
            Err(Fault::refused(errno, format!("cache '{name}': {why}")))
        };
        match made {
            Ok(Some(cache)) => {
                lock(&self.0).insert(plan.name.clone(), cache);
                Ok(())
            }
            Ok(None) => refused(
                "EINVAL",
                &format_args!("reclaimable objects have {SIZES} bytes"),
            ),
            Err(why @ CacheError::NoMemory) => refused("ENOMEM", &why),
            Err(why) => refused("EINVAL", &why),
        }
    }

    /// A cache, if it is one of these.
    pub fn find(&self, name: &[u8]) -> Option<Arc<dyn Keep>> {
        lock(&self.0).get(name).cloned()
    }

    /// A figure of a cache; `None`: of something else.
    pub fn figure(&self, name: &[u8], what: &str) -> Option<u64> {
        let (entries, reclaimed) = self.find(name)?.counts();
        match what {
            "entries" => Some(entries),
            "reclaimed" => Some(reclaimed),
            _ => None,
        }
    }

    /// Ends all.
    pub fn clear(&self) {
        let all = std::mem::take(&mut *lock(&self.0));
        drop(all);
    }
}

impl KeptObjects {
    /// None as yet.
    pub fn of(cache: Arc<dyn Keep>) -> KeptObjects {
        KeptObjects {
            cache,
            numbers: Vec::new(),
        }
    }

    /// One more, or why not.
    pub fn push(&mut self, group: &Memcg, flags: Flags) -> Result<(), AllocError> {
        self.numbers.push(self.cache.make(group, flags)?);
        Ok(())
    }

    /// How many there have been.
    pub fn made(&self) -> usize {
        self.numbers.len()
    }

    fn looked(&self) -> impl Iterator<Item = (usize, bool)> + '_ {
        let look = |(i, number): (usize, &u64)| Some((i, self.cache.look(*number)?));
        self.numbers.iter().enumerate().filter_map(look)
    }

    /// How many are left.
    pub fn left(&self) -> u64 {
        self.looked().count() as u64
    }

    /// Bytes those take.
    pub fn bytes(&self) -> u64 {
        self.left() * self.cache.object_bytes()
    }

    /// The first of those that does not hold what was written into it.
    pub fn first_damaged(&self) -> Option<usize> {
        self.looked()
            .find(|(_, is_whole)| !is_whole)
            .map(|(i, _)| i)
    }

    /// Those are charged to `group` from now on, one after the other, up to the one that finds no room.
    pub fn recharge_to(&self, group: &Memcg) -> Result<(), ReserveError> {
        let mut all = self.numbers.iter();
        all.try_for_each(|number| self.cache.recharge_to(*number, group))
    }

    /// Uses those, by who the thread works for.
    pub fn touch(&self) {
        for number in &self.numbers {
            self.cache.touch(*number);
        }
    }
}

impl Drop for KeptObjects {
    fn drop(&mut self) {
        for number in self.numbers.drain(..) {
            self.cache.end(number);
        }
    }
}

/// What one word differs from the next by.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

fn pattern(number: u64, word: usize) -> u64 {
    number.wrapping_add(word as u64 + 1).wrapping_mul(STEP) | 1
}

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

/// Those of a list that are there, by number, and how many were given up.
type Items<const WORDS: usize> = Mutex<HashMap<u64, LruItem<Thing<WORDS>>>>;

#[derive(Default)]
struct Numbers {
    last: AtomicU64,
    reclaimed: AtomicU64,
}

struct Listed<const WORDS: usize> {
    list: ListLru<Thing<WORDS>>,
    items: Arc<Items<WORDS>>,
    numbers: Arc<Numbers>,
    _shrinker: Registration,
}

/// Bytes of a list's thing that are not its value: link, list, number.
const LINK_WORDS: usize = 6;
/// What objects of a reclaimable cache may have.
const SIZES: &str = "64, 128, 192, 256, 512, 1K, 2K or 4K";

/// `None`: there is no such size.
fn listed(bytes: u64, options: CacheOptions<'_>) -> Result<Option<Arc<dyn Keep>>, CacheError> {
    fn of<const WORDS: usize>(options: CacheOptions<'_>) -> Result<Arc<dyn Keep>, CacheError> {
        Listed::<WORDS>::new(options).map(|cache| cache as Arc<dyn Keep>)
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
                // Its end has begun.
                return Verdict::Skip;
            }
            counted.reclaimed.fetch_add(1, Ordering::Relaxed);
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

impl<const WORDS: usize> Keep for Listed<WORDS> {
    fn object_bytes(&self) -> u64 {
        self.list.thing_bytes()
    }

    fn make(&self, _: &Memcg, flags: Flags) -> Result<u64, AllocError> {
        let number = self.numbers.last.fetch_add(1, Ordering::Relaxed) + 1;
        let item = self.list.try_item(flags, || Thing::new(number))?;
        // First where it can be found: a shrinker may come to it the moment it is in the list.
        let mut items = lock(&self.items);
        let item = items.entry(number).insert_entry(item);
        self.list.add(item.get());
        Ok(number)
    }

    fn look(&self, number: u64) -> Option<bool> {
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
        (entries, self.numbers.reclaimed.load(Ordering::Relaxed))
    }
}

/// By number, with the group it was made in.
type ByNumber = Mutex<BTreeMap<u64, (Memcg, KBytes)>>;

struct Registered {
    cache: SizedCache,
    all: Arc<ByNumber>,
    numbers: Arc<Numbers>,
}

impl Registered {
    fn create(bytes: u64, options: CacheOptions<'_>) -> Result<Arc<dyn Keep>, CacheError> {
        let cache = options.sized(usize::try_from(bytes).unwrap_or(usize::MAX))?;
        let (all, numbers) = (Arc::new(ByNumber::default()), Arc::new(Numbers::default()));
        let (gone, counted) = (Arc::clone(&all), Arc::clone(&numbers));
        register_memcg_cache(&cache, move |group, wanted| {
            let mut freed = 0;
            while freed < wanted {
                let Some(object) = take_oldest(&gone, group) else {
                    break;
                };
                freed += object.len() as u64;
                counted.reclaimed.fetch_add(1, Ordering::Relaxed);
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
fn take_oldest(all: &ByNumber, group: &Memcg) -> Option<KBytes> {
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

impl Keep for Registered {
    fn object_bytes(&self) -> u64 {
        self.cache.object_bytes() as u64
    }

    fn make(&self, group: &Memcg, flags: Flags) -> Result<u64, AllocError> {
        let mut object = self.cache.alloc_flags(flags)?;
        let number = self.numbers.last.fetch_add(1, Ordering::Relaxed) + 1;
        for (at, piece) in object.chunks_mut(8).enumerate() {
            piece.copy_from_slice(&pattern(number, at).to_ne_bytes()[..piece.len()]);
        }
        lock(&self.all).insert(number, (group.clone(), object));
        Ok(number)
    }

    fn look(&self, number: u64) -> Option<bool> {
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
        (entries, self.numbers.reclaimed.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memcg::root;

    fn made(bytes: u64, how: GivesUp) -> Arc<dyn Keep> {
        let options = CacheOptions::new("kept");
        match how {
            GivesUp::ByList => listed(bytes, options).expect("a cache").expect("a size"),
            GivesUp::ByFunction => Registered::create(bytes, options).expect("a cache"),
        }
    }

    #[test]
    fn an_object_has_the_bytes_that_were_asked_for_and_its_pattern() {
        for bytes in [64, 128, 192, 256, 512, 1024, 2048, 4096] {
            for how in [GivesUp::ByList, GivesUp::ByFunction] {
                let cache = made(bytes, how);
                assert_eq!(cache.object_bytes(), bytes);
                let number = cache.make(&root(), Flags::NOWAIT).expect("an object");
                assert_eq!(cache.look(number), Some(true));
                assert_eq!(cache.counts(), (1, 0));
                cache.end(number);
                assert_eq!((cache.look(number), cache.counts()), (None, (0, 0)));
            }
        }
        assert!(
            listed(100, CacheOptions::new("kept"))
                .expect("a cache")
                .is_none()
        );
    }

    #[test]
    fn what_is_used_is_the_last_to_go_and_the_function_takes_from_its_group_alone() {
        let (a, b) = (
            root().create("kept-a").unwrap(),
            root().create("kept-b").unwrap(),
        );
        for how in [GivesUp::ByList, GivesUp::ByFunction] {
            let cache = made(4096, how);
            let make = |group: &Memcg| {
                let mut objects = KeptObjects::of(Arc::clone(&cache));
                group.run(|| {
                    for _ in 0..32 {
                        objects.push(group, Flags::WAIT.with(Flags::USER)).unwrap();
                    }
                });
                objects
            };
            let (first, second) = (make(&a), make(&a));
            let other = make(&b);
            first.touch();
            a.write("memory.max", "256K").unwrap();
            let third = make(&a);
            assert_eq!((other.left(), third.left()), (32, 32), "{how:?}");
            match how {
                GivesUp::ByList => assert!(first.left() > second.left()),
                GivesUp::ByFunction => assert_eq!((first.left(), second.left()), (0, 32)),
            }
            let all = [first, second, third, other];
            assert!(all.iter().all(|objects| objects.first_damaged().is_none()));
            drop(all);
            a.write("memory.max", "max").unwrap();
            assert_eq!((a.current(), b.current()), (0, 0));
        }
    }
}
