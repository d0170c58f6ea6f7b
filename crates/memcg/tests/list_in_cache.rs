//! Lists whose things are objects of a kmem cache.

// Under loom there is no allocator to test.
#![cfg(not(loom))]

use memcg::{AllocError, CacheOptions, Flags, ListLru, LruItem, Verdict, root};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const MAY_SHRINK: Flags = Flags::WAIT.with(Flags::USER);

#[test]
fn a_thing_in_a_cache_is_charged_as_a_caches_object_and_freed_with_its_last_hold() {
    let group = root().create("list-in-cache").unwrap();
    let list: ListLru<Arc<u64>> = ListLru::in_cache(CacheOptions::new("things")).unwrap();
    let value = Arc::new(7);
    let item = group.run(|| list.try_item(MAY_SHRINK, || value.clone()).unwrap());
    let bytes = group.usage().slab;
    assert!(bytes >= size_of::<Arc<u64>>() as u64 + 40, "{bytes} bytes");
    assert!(list.add(&item) && list.count(&group) == 1);
    let held = item.share();
    drop(item);
    assert_eq!(list.count(&group), 0);
    // The hold keeps the value, its memory, and whom it is charged to.
    assert_eq!((**held, Arc::strong_count(&value)), (7, 2));
    assert_eq!(group.usage().slab, bytes);
    let other = held.clone();
    drop(held);
    drop(list);
    assert_eq!(Arc::strong_count(&value), 2);
    std::thread::spawn(move || drop(other)).join().unwrap();
    assert_eq!((Arc::strong_count(&value), group.current()), (1, 0));
    group.remove().unwrap();
}

#[test]
fn a_thing_in_a_cache_is_refused_where_there_is_no_room_and_nothing_is_left_behind() {
    let group = root().create("list-in-cache-full").unwrap();
    group.write("memory.max", "64K").unwrap();
    let list: ListLru<[u8; 1000]> = ListLru::in_cache(CacheOptions::new("full")).unwrap();
    let mut kept = Vec::new();
    let why = loop {
        match group.run(|| list.try_item(MAY_SHRINK, || [1; 1000])) {
            Ok(item) => kept.push(item),
            Err(why) => break why,
        }
    };
    assert!(matches!(why, AllocError::Max(_)), "{why:?}");
    assert!((50..=64).contains(&kept.len()), "{} things", kept.len());
    // Who takes no answer gets it.
    kept.push(group.run(|| list.item([2; 1000])));
    drop(kept);
    assert_eq!(group.current(), 0);
    group.remove().unwrap();
}

#[test]
fn things_in_a_cache_go_by_its_shrinker_when_their_own_kind_needs_the_room() {
    type Kept = Mutex<Vec<LruItem<(u64, [u8; 1000])>>>;
    let group = root().create("list-in-cache-shrunk").unwrap();
    group.write("memory.max", "64K").unwrap();
    let list = ListLru::in_cache(CacheOptions::new("shrunk")).unwrap();
    let kept: Arc<Kept> = Arc::default();
    let owned = kept.clone();
    let _registered = list.shrink_by(move |(nr, _): &(u64, [u8; 1000])| {
        owned.lock().unwrap().retain(|item| item.0 != *nr);
        Verdict::Removed
    });
    for nr in 0..1000 {
        let item = group.run(|| list.try_item(MAY_SHRINK, || (nr, [1; 1000])).unwrap());
        list.add(&item);
        kept.lock().unwrap().push(item);
    }
    assert!(group.current() <= 64 << 10);
    assert_eq!(kept.lock().unwrap().last().unwrap().0, 999);
    kept.lock().unwrap().clear();
    // The worker, which reclaims ahead near the limit, may be looking at one: its memory stays
    // until it has looked.
    let since = Instant::now();
    while group.current() != 0 && since.elapsed() < Duration::from_secs(60) {
        std::thread::yield_now();
    }
    assert_eq!(group.current(), 0);
    group.remove().unwrap();
}

#[test]
fn a_caches_name_cannot_break_the_lines_of_a_table() {
    for name in ["", "a\nb", "a\tb", &"x".repeat(33)] {
        let refused = CacheOptions::new(name).sized(64).unwrap_err();
        assert_eq!(refused, memcg::CacheError::Name, "{name:?}");
    }
    assert!(CacheOptions::new("größe 1").sized(64).is_ok());
}

#[test]
fn what_no_owner_can_hold_is_refused_with_a_reason() {
    let group = root().create("too-much").unwrap();
    for bytes in [1 << 43, u64::MAX] {
        let refused = group.try_reserve(bytes).unwrap_err();
        assert_eq!((refused.group.as_str(), refused.bytes), ("", bytes));
        assert!(refused.to_string().starts_with("no owner holds so much"));
    }
    assert_eq!(group.current(), 0);
    group.remove().unwrap();
}

/// A glob import brings the crate's items, and nothing that hides the crate itself.
mod by_glob {
    use memcg::*;

    #[test]
    fn the_crate_is_still_known_by_its_name() {
        assert!(memcg::root().is_online() && root().is_online());
    }
}
