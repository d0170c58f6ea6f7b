//! The pool against a model that remembers each page.
//!
//! Invariants: what is loaded is compared, always.
//! Depends on: `os::fault` for memory that is not to be had.
//! Never: a pool that another test uses.

use super::*;
use crate::os::fault::{self, Plan};
use std::collections::{BTreeMap, VecDeque};

/// A page of which about `noise` bytes of 4096 do not repeat.
fn page_of(seed: u64, noise: usize) -> [u8; PAGE] {
    let mut page = [seed as u8; PAGE];
    let mut state = seed | 1;
    for (at, byte) in page.iter_mut().enumerate().take(noise) {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(at as u64);
        *byte = (state >> 56) as u8;
    }
    page
}

fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    *state >> 33
}

fn zswap_of(bytes: u64) -> Zswap {
    let zswap = Zswap::default();
    zswap.on(bytes).unwrap();
    zswap
}

#[derive(Default)]
struct Model {
    pages: BTreeMap<ZswapId, (u64, usize, u32)>,
    queue: VecDeque<ZswapId>,
}

impl Model {
    fn check(&self, zswap: &Zswap, id: ZswapId) {
        let (seed, noise, _) = self.pages[&id];
        let mut into = [0xee; PAGE];
        assert_eq!(zswap.load(id, &mut into), Ok(()));
        assert!(into == page_of(seed, noise), "{id:?}");
        assert_eq!(zswap.beside(id).unwrap().0, seed as u32);
    }

    fn free(&mut self, zswap: &Zswap, id: ZswapId) {
        let (_, _, bytes) = self.pages.remove(&id).unwrap();
        assert_eq!(zswap.free(id), Some(bytes));
        self.queue.retain(|&other| other != id);
        assert_eq!(zswap.free(id), None);
        assert_eq!(zswap.load(id, &mut [0; PAGE]), Err(Errno::EINVAL));
        assert_eq!(zswap.beside(id), None);
    }

    fn check_all(&self, zswap: &Zswap, cap: u64) {
        let usage = zswap.usage();
        let bytes = |bytes: &(u64, usize, u32)| u64::from(bytes.2);
        assert_eq!(usage.pages, self.pages.len() as u64);
        assert_eq!(usage.stored, self.pages.values().map(bytes).sum::<u64>());
        assert_eq!(usage.same_filled, usage.pages - self.queue.len() as u64);
        assert!(usage.stored <= usage.held && usage.held <= cap, "{usage:?}");
        let (mut all, mut some, mut last) = (Vec::new(), [None; 7], None);
        loop {
            let nr = zswap.oldest(last, &mut some);
            all.extend(some[..nr].iter().map(|candidate| candidate.unwrap().id));
            if nr < some.len() {
                break;
            }
            last = some[nr - 1];
        }
        assert!(all.iter().eq(&self.queue));
    }
}

fn live(cap: u64, steps: usize, start: u64) {
    let zswap = zswap_of(cap);
    let (mut model, mut state, mut fulls) = (Model::default(), start, 0);
    for step in 0..steps {
        let what = random(&mut state);
        let any = random(&mut state) as usize % model.pages.len().max(1);
        let any = model.pages.keys().nth(any).copied();
        match (what % 8, any) {
            (0..=4, _) => {
                let (seed, noise) = (step as u64, random(&mut state) as usize % 3400);
                let noise = if noise < 300 { 0 } else { noise };
                match zswap.store(&page_of(seed, noise), seed as u32) {
                    Ok(stored) => {
                        assert_eq!(stored.bytes == 0, noise == 0);
                        let page = (seed, noise, stored.bytes);
                        assert_eq!(model.pages.insert(stored.id, page), None);
                        if noise > 0 {
                            model.queue.push_back(stored.id);
                        }
                        model.check(&zswap, stored.id);
                    }
                    Err(StoreError::Rejected) => assert!(noise > 2900),
                    Err(StoreError::Full) => {
                        fulls += 1;
                        for _ in 0..model.queue.len() / 2 {
                            model.free(&zswap, model.queue[0]);
                        }
                    }
                    Err(why @ (StoreError::Off | StoreError::NoMemory | StoreError::Busy)) => {
                        panic!("{why:?}")
                    }
                }
            }
            (5, Some(id)) => model.check(&zswap, id),
            (6, Some(_)) if !model.queue.is_empty() => {
                let mut first = [None];
                assert_eq!(zswap.oldest(None, &mut first), 1);
                assert!(zswap.defer(first[0].unwrap()));
                model.queue.rotate_left(1);
            }
            (_, Some(id)) => model.free(&zswap, id),
            (_, None) => {}
        }
        if step % 16 == 0 {
            model.check_all(&zswap, cap);
        }
    }
    assert_eq!(fulls > 0, cap < 1 << 20);
    let ids: Vec<ZswapId> = model.pages.keys().copied().collect();
    for id in ids {
        model.check(&zswap, id);
        model.free(&zswap, id);
    }
    zswap.give_back();
    let usage = zswap.usage();
    assert_eq!((usage.pages, usage.stored, usage.held), (0, 0, 0));
}

#[test]
fn what_is_stored_is_loaded_through_random_histories() {
    live(64 << 20, 1500, 5);
}

#[test]
fn a_pool_at_its_cap_refuses_and_never_holds_more() {
    live(180 << 10, 1500, 9);
}

#[test]
fn a_page_of_one_word_takes_no_memory() {
    let zswap = zswap_of(1 << 20);
    let mut page = [0; PAGE];
    for word in [0, 1, u64::MAX, 0x0102_0304_0506_0708] {
        page.as_chunks_mut().0.fill(word.to_ne_bytes());
        let stored = zswap.store(&page, 3).unwrap();
        assert_eq!((stored.bytes, zswap.usage().held), (0, 0));
        let mut into = [9; PAGE];
        assert_eq!(zswap.load(stored.id, &mut into), Ok(()));
        assert!(into == page);
        assert_eq!(
            zswap.oldest(None, &mut [None; 4]),
            0,
            "nothing is won by it"
        );
    }
    // One byte differs: it is none.
    page[PAGE - 1] ^= 1;
    assert!(zswap.store(&page, 3).unwrap().bytes > 0);
}

#[test]
fn what_is_off_stores_nothing_and_keeps_what_it_has() {
    let zswap = Zswap::default();
    let page = page_of(1, 100);
    assert_eq!(zswap.store(&page, 0), Err(StoreError::Off));
    zswap.on(1 << 20).unwrap();
    let stored = zswap.store(&page, 0).unwrap();
    zswap.on(0).unwrap();
    assert_eq!(zswap.store(&page, 0), Err(StoreError::Off));
    let mut into = [0; PAGE];
    assert_eq!(zswap.load(stored.id, &mut into), Ok(()));
    assert!(into == page);
}

#[test]
fn memory_that_is_not_to_be_had_is_an_answer_and_leaves_nothing() {
    for nth in 1..8 {
        let plan: &'static Plan = Box::leak(Box::new(Plan::new(nth, nth)));
        let zswap = Zswap::default();
        fault::follow(Some(plan));
        let on = zswap.on(1 << 20);
        let stored = zswap.store(&page_of(7, 500), 1);
        fault::follow(None);
        match nth {
            1 => assert_eq!((on, stored), (Err(Errno::ENOMEM), Err(StoreError::Off))),
            _ => assert_eq!(stored.is_err(), nth <= plan.calls(), "{nth}"),
        }
        assert!(matches!(
            stored,
            Ok(_) | Err(StoreError::Off | StoreError::NoMemory)
        ));
        if nth > plan.calls() {
            return;
        }
        assert_eq!(zswap.usage(), ZswapUsage::default());
        zswap.on(1 << 20).unwrap();
        let stored = zswap.store(&page_of(7, 500), 1).unwrap();
        assert_eq!(zswap.free(stored.id), Some(stored.bytes));
    }
    panic!("more calls for memory than are known of");
}

/// A batch of freed spans goes back on its own; what stays held is less than a batch.
#[test]
fn freed_spans_go_back_to_the_kernel_in_batches() {
    let zswap = zswap_of(1 << 30);
    let ids: Vec<_> = (0..1600)
        .map(|seed| zswap.store(&page_of(seed, 2500), 0).unwrap().id)
        .collect();
    let full = zswap.usage();
    assert!(full.slack() * 10 < full.held, "{full:?}");
    ids.into_iter()
        .for_each(|id| assert!(zswap.free(id).is_some()));
    let held = zswap.usage().held;
    assert!(held < u64::from(BATCH) * 65536, "{held}");
    assert_eq!(zswap.give_back(), held);
    assert_eq!(zswap.usage().held, 0);
}

/// Memory that the kernel does not take back stays counted, and is used again.
#[test]
fn memory_that_the_kernel_does_not_take_is_held_and_not_offered_each_time() {
    static ALL: Plan = Plan::new(1, u64::MAX);
    let zswap = zswap_of(1 << 30);
    let fill = || -> Vec<_> {
        (0..600)
            .map(|seed| zswap.store(&page_of(seed, 2500), 0).unwrap().id)
            .collect()
    };
    let ids = fill();
    fault::follow(Some(&ALL));
    ids.into_iter()
        .for_each(|id| assert!(zswap.free(id).is_some()));
    fault::follow(None);
    assert!((1..4).contains(&ALL.calls()), "{}", ALL.calls());
    let held = zswap.usage().held;
    assert!(held > 1 << 20);
    fill();
    assert_eq!(zswap.usage().held, held);
}

#[test]
fn a_candidate_that_was_freed_is_told_from_its_number_s_next_user() {
    let zswap = zswap_of(1 << 20);
    let store = |seed| zswap.store(&page_of(seed, 700), seed as u32).unwrap().id;
    let ids = [store(1), store(2), store(3)];
    assert_eq!(zswap.set_slot(ids[1], Some(SlotId::new(77))), None);
    let mut found = [None; 2];
    assert_eq!(zswap.oldest(None, &mut found), 2);
    let [first, second] = found.map(Option::unwrap);
    assert_eq!(
        (first.tag, first.slot, second.tag, second.slot),
        (1, None, 2, Some(SlotId::new(77)))
    );
    zswap.free(ids[0]);
    let again = store(4);
    assert_eq!(again, ids[0], "the number is used again");
    assert!(!zswap.defer(first));
    // What it was behind is not known any more: from the oldest on.
    assert_eq!(zswap.oldest(Some(first), &mut found), 2);
    assert_eq!(found.map(|one| one.unwrap().tag), [2, 3]);
    assert!(zswap.defer(second));
    assert_eq!(zswap.oldest(None, &mut found), 2);
    assert_eq!(found.map(|one| one.unwrap().tag), [3, 4]);
    zswap.set_tag(ids[1], 9);
    assert_eq!(zswap.beside(ids[1]), Some((9, Some(SlotId::new(77)))));
}

#[test]
fn what_is_written_over_is_no_page() {
    let zswap = zswap_of(1 << 20);
    let stored = zswap.store(&page_of(3, 900), 0).unwrap();
    let what = zswap.entries.get(stored.id).what.load(Relaxed);
    // SAFETY: the test has the only thread that knows of the object.
    unsafe {
        zswap
            .pool
            .write(Place::from_raw(what).unwrap(), &[0xf0; 900])
    };
    assert_eq!(zswap.load(stored.id, &mut [0; PAGE]), Err(Errno::EIO));
}

/// Threads load what another may free at any time: it is the page, or nothing.
#[test]
fn threads_store_load_and_free_against_each_other() {
    let zswap = zswap_of(700 << 10);
    let shared: Vec<AtomicU64> = (0..16).map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|s| {
        for me in 1..=3u64 {
            let (zswap, shared) = (&zswap, &shared);
            s.spawn(move || {
                let mut state = me;
                let mut into = [0; PAGE];
                for _ in 0..700 {
                    let place = &shared[random(&mut state) as usize % 16];
                    if random(&mut state).is_multiple_of(2) {
                        let seed = random(&mut state) % 1000;
                        let Ok(stored) = zswap.store(&page_of(seed, 1500), seed as u32) else {
                            continue;
                        };
                        let id = u64::from(crate::sync::id::Id::raw(stored.id));
                        let new = id << 32;
                        let old = place.swap(new, crate::sync::atomic::Ordering::AcqRel);
                        if old != 0 {
                            let old = ZswapId::new((old >> 32) as u32);
                            assert!(zswap.free(old).is_some());
                        }
                    } else {
                        let now = place.load(crate::sync::atomic::Ordering::Acquire);
                        if now == 0 {
                            continue;
                        }
                        let id = ZswapId::new((now >> 32) as u32);
                        if zswap.load(id, &mut into).is_ok() {
                            // It may be another page by now, of the same number: but a whole one.
                            let seed = into[PAGE - 1];
                            let whole = (0..1000).filter(|s| *s as u8 == seed);
                            assert!({ whole }.any(|seed| into == page_of(seed, 1500)));
                        }
                        let mut some = [None; 4];
                        let nr = zswap.oldest(None, &mut some);
                        assert!(some[..nr].iter().all(Option::is_some));
                    }
                }
            });
        }
    });
    for place in &shared {
        if let Some(id) = (place.load(Relaxed) >> 32)
            .try_into()
            .ok()
            .filter(|&n: &u32| n > 0)
        {
            assert!(zswap.free(ZswapId::new(id)).is_some());
        }
    }
    zswap.give_back();
    assert_eq!(
        (
            zswap.usage().pages,
            zswap.usage().stored,
            zswap.usage().held
        ),
        (0, 0, 0)
    );
}

#[test]
fn a_fork_s_child_has_the_pages_and_every_workspace() {
    let zswap = zswap_of(1 << 20);
    let stored = zswap.store(&page_of(3, 900), 0).unwrap();
    core::mem::forget(zswap.workspaces.try_take());
    zswap.lock_for_fork();
    // SAFETY: no other thread knows of this pool, and the lock was taken above.
    let (sole, held) = unsafe { (SoleThread::new(), HeldOverFork::new()) };
    zswap.reset_in_child(sole);
    zswap.unlock_after_fork(held);
    let mut taken: Vec<_> = (0..workspaces::WORKSPACES)
        .map(|_| zswap.workspaces.try_take().unwrap())
        .collect();
    assert_eq!(zswap.store(&page_of(4, 900), 0), Err(StoreError::Busy));
    taken.clear();
    let mut into = [0; PAGE];
    assert_eq!(zswap.load(stored.id, &mut into), Ok(()));
    assert!(into == page_of(3, 900));
}
