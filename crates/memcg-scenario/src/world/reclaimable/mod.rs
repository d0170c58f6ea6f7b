//! Caches whose objects are given up when memory is short, by a list or by a function.
//!
//! A tag names those of its objects that are left.
//!
//! Invariants: a cache's name is its alone.
//! Depends on: `cache`, what both kinds have in common; `by_list` and `by_function`, the kinds.
//! Never: frees an object while a lock is held.

#![forbid(unsafe_code)]

pub mod by_function;
pub mod by_list;
pub mod cache;

use crate::text::line::Name;
use crate::text::word::show;
use crate::world::fault::Fault;
use crate::world::lock::lock;
use crate::world::reclaimable::by_function::Registered;
use crate::world::reclaimable::cache::{GivesUp, ReclaimableCache};
use memcg::testing::engine::Flags;
use memcg::testing::os::errno::Errno;
use memcg::{AllocError, CacheError, CacheOptions, Memcg, ReserveError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// The caches of a scenario whose objects are given up.
#[derive(Default)]
pub struct ReclaimableCaches(Mutex<HashMap<Name, Arc<dyn ReclaimableCache>>>);

/// Objects of such a cache. Those that are left are freed when this is dropped.
pub struct ReclaimableObjects {
    cache: Arc<dyn ReclaimableCache>,
    numbers: Vec<u64>,
}

impl ReclaimableCaches {
    /// Makes a cache of objects of `bytes` bytes. The caller has seen that the name is free.
    ///
    /// # Errors
    /// EINVAL when there is no such size, ENOMEM when there is no memory.
    pub fn create(
        &self,
        cache: &[u8],
        bytes: u64,
        how: GivesUp,
        options: CacheOptions<'_>,
    ) -> Result<(), Fault> {
        let name = show(cache);
        let made = match how {
            GivesUp::ByList => by_list::create(bytes, options),
            GivesUp::ByFunction => Registered::create(bytes, options).map(Some),
        };
        let refused = |errno, why: &dyn core::fmt::Display| {
            Err(Fault::refused(errno, format!("cache '{name}': {why}")))
        };
        match made {
            Ok(Some(made)) => {
                lock(&self.0).insert(cache.to_vec(), made);
                Ok(())
            }
            Ok(None) => refused(
                Errno::EINVAL,
                &format_args!("reclaimable objects have {} bytes", by_list::SIZES),
            ),
            Err(why @ CacheError::NoMemory) => refused(Errno::ENOMEM, &why),
            Err(why) => refused(Errno::EINVAL, &why),
        }
    }

    /// A cache, if it is one of these.
    pub fn find(&self, name: &[u8]) -> Option<Arc<dyn ReclaimableCache>> {
        lock(&self.0).get(name).cloned()
    }

    /// Ends all caches.
    pub fn clear(&self) {
        let all = std::mem::take(&mut *lock(&self.0));
        drop(all);
    }
}

impl ReclaimableObjects {
    /// No objects as yet, of `cache`.
    pub fn of(cache: Arc<dyn ReclaimableCache>) -> ReclaimableObjects {
        ReclaimableObjects {
            cache,
            numbers: Vec::new(),
        }
    }

    /// Makes one more.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn push(&mut self, group: &Memcg, flags: Flags) -> Result<(), AllocError> {
        self.numbers.push(self.cache.make(group, flags)?);
        Ok(())
    }

    /// How many were made.
    pub fn made(&self) -> usize {
        self.numbers.len()
    }

    /// The place and the state of each object that is left.
    fn those_left(&self) -> impl Iterator<Item = (usize, bool)> + '_ {
        let look = |(i, number): (usize, &u64)| Some((i, self.cache.is_whole(*number)?));
        self.numbers.iter().enumerate().filter_map(look)
    }

    /// How many are left.
    pub fn left(&self) -> u64 {
        self.those_left().count() as u64
    }

    /// Bytes that those take which are left.
    pub fn bytes(&self) -> u64 {
        self.left() * self.cache.object_bytes()
    }

    /// The first of those left that does not hold what was written into it.
    pub fn first_damaged(&self) -> Option<usize> {
        self.those_left()
            .find(|(_, is_whole)| !is_whole)
            .map(|(i, _)| i)
    }

    /// Charges those left to `group` from now on, one after the other, up to the one that finds no
    /// room.
    pub fn recharge_to(&self, group: &Memcg) -> Result<(), ReserveError> {
        let mut all = self.numbers.iter();
        all.try_for_each(|number| self.cache.recharge_to(*number, group))
    }

    /// Uses those left, for the task that the thread works for.
    pub fn touch(&self) {
        for number in &self.numbers {
            self.cache.touch(*number);
        }
    }
}

impl Drop for ReclaimableObjects {
    fn drop(&mut self) {
        for number in self.numbers.drain(..) {
            self.cache.end(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memcg::root;
    use memcg::testing::engine::process_engine::engine;
    use std::sync::MutexGuard;

    fn made(bytes: u64, how: GivesUp) -> Arc<dyn ReclaimableCache> {
        let options = CacheOptions::new("reclaimable");
        match how {
            GivesUp::ByList => by_list::create(bytes, options)
                .expect("a cache")
                .expect("a size"),
            GivesUp::ByFunction => Registered::create(bytes, options).expect("a cache"),
        }
    }

    /// While the answer lives no other test of this file uses the engine, and neither does the
    /// engine's own thread: it would reclaim behind a charge, and keep as stock what it frees.
    fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = lock(&ALONE);
        engine().options.set_no_thread(true);
        alone
    }

    #[test]
    fn an_object_has_the_bytes_that_were_asked_for_and_its_pattern() {
        let _alone = alone();
        for bytes in [64, 128, 192, 256, 512, 1024, 2048, 4096] {
            for how in [GivesUp::ByList, GivesUp::ByFunction] {
                let cache = made(bytes, how);
                assert_eq!(cache.object_bytes(), bytes);
                let number = cache.make(&root(), Flags::NOWAIT).expect("an object");
                assert_eq!(cache.is_whole(number), Some(true));
                assert_eq!(cache.counts(), (1, 0));
                cache.end(number);
                assert_eq!((cache.is_whole(number), cache.counts()), (None, (0, 0)));
            }
        }
        assert!(
            by_list::create(100, CacheOptions::new("reclaimable"))
                .expect("a cache")
                .is_none()
        );
    }

    #[test]
    fn what_is_used_is_the_last_to_go_and_the_function_takes_from_its_group_alone() {
        let _alone = alone();
        let (a, b) = (
            root().create("reclaimable-a").unwrap(),
            root().create("reclaimable-b").unwrap(),
        );
        for how in [GivesUp::ByList, GivesUp::ByFunction] {
            let cache = made(4096, how);
            let make = |group: &Memcg| {
                let mut objects = ReclaimableObjects::of(Arc::clone(&cache));
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
