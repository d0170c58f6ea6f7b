//! The zombie reaper, as a program sets it going: rounds by the engine's worker. Alone in its
//! process: how groups end is chosen before the first is made.

// Under loom there is no allocator to test.
#![cfg(not(loom))]

use memcg::{GroupEnd, IdPolicy, ListLru, Verdict, root};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

fn dying() -> u32 {
    memcg::id_stat().lingering
}

#[test]
fn what_lingers_is_asked_by_reclaim_above_it_and_at_every_interval_by_the_worker() {
    memcg::set_group_end(GroupEnd::Linger).unwrap();
    memcg::set_id_policy(IdPolicy::ShrinkableTree).unwrap();
    let top = root().create("top").unwrap();
    let list: ListLru<u64> = ListLru::new();
    let _registered = list.shrink_by(|_| Verdict::Removed);
    for n in 0..3 {
        let group = top.create(format!("asked{n}")).unwrap();
        let cached = list.insert_for(&group, 7);
        group.remove().unwrap();
        assert!(cached.is_listed());
        // There is less than that.
        assert!(top.write("memory.reclaim", "100M").is_err());
        assert!(!cached.is_listed());
        drop(cached);
    }
    while dying() > 0 {
        memcg::run_deferred();
    }
    let group = top.create("reaped").unwrap();
    let cached = list.insert_for(&group, 7);
    group.remove().unwrap();
    memcg::set_reap_interval(Some(Duration::from_millis(1)));
    while cached.is_listed() {
        std::thread::yield_now();
    }
    drop(cached);
    while dying() > 0 {
        std::thread::yield_now();
    }
    memcg::set_reap_interval(None);
}
