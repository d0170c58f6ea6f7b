//! Promises of `adopt`: all or nothing, shallow, whatever the size of the block, whoever frees
//! beside it.

#![cfg(not(loom))]

use memcg::{Limit, Memcg, root};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Barrier;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

fn pair(name: &str) -> (Memcg, Memcg) {
    let top = root().create(name).unwrap();
    (top.create("from").unwrap(), top.create("to").unwrap())
}

#[test]
fn blocks_of_every_size_change_owners_and_back() {
    let (from, to) = pair("sizes");
    for bytes in [
        1,
        16,
        100,
        1_000,
        10_000,
        64 << 10,
        100_000,
        3 << 20,
        40 << 20,
    ] {
        let mut block = from.run(|| vec![7u8; bytes]);
        let held = from.current();
        assert!(held >= bytes as u64);
        to.adopt(&mut block).unwrap();
        assert_eq!((from.current(), to.current()), (0, held), "{bytes}");
        // Another time, and to who has it.
        to.adopt(&mut block).unwrap();
        from.adopt(&mut block).unwrap();
        to.adopt(&mut block).unwrap();
        assert_eq!((from.current(), to.current()), (0, held), "{bytes}");
        // It grows with its owner.
        block.extend_from_slice(&vec![8u8; bytes]);
        assert_eq!(from.current(), 0, "{bytes}");
        assert!(block[..bytes].iter().all(|&b| b == 7));
        block.truncate(1);
        block.shrink_to_fit();
        assert!(to.current() > 0);
        drop(block);
        assert_eq!((from.current(), to.current()), (0, 0), "{bytes}");
    }
}

#[test]
fn boxes_and_strings_and_what_has_no_block() {
    let (from, to) = pair("kinds");
    let mut text = from.run(|| String::from("a text that is longer than nothing"));
    let mut boxed = from.run(|| Box::new([0u64; 30]));
    let mut slice: Box<[u16]> = from.run(|| vec![1; 99].into());
    let mut function: Box<dyn Fn() -> u64 + Send> = from.run(|| {
        let captured = [3u64; 9];
        Box::new(move || captured.iter().sum()) as _
    });
    let all = from.current();
    to.adopt(&mut text).unwrap();
    to.adopt(&mut boxed).unwrap();
    to.adopt(&mut slice).unwrap();
    to.adopt(&mut function).unwrap();
    assert_eq!((from.current(), to.current()), (0, all));
    assert_eq!((function(), slice.len()), (27, 99));
    to.adopt(&mut Vec::<u8>::new()).unwrap();
    to.adopt(&mut vec![(); 5]).unwrap();
    to.adopt(&mut Box::new(())).unwrap();
    to.adopt(&mut String::new()).unwrap();
    drop((text, boxed, slice, function));
    assert_eq!(to.current(), 0);
}

#[test]
fn it_is_shallow() {
    let (from, to) = pair("shallow");
    let mut rows = from.run(|| vec![String::from("one text of some length"); 100]);
    let texts = 100 * 32;
    to.adopt(&mut rows).unwrap();
    assert_eq!(from.current(), texts);
    for row in &mut rows {
        to.adopt(row).unwrap();
    }
    assert_eq!(from.current(), 0);
}

#[test]
fn neighbours_keep_their_owners() {
    let (from, to) = pair("neighbours");
    let mut all: Vec<Box<[u8; 64]>> = from.run(|| (0..3_000).map(|_| Box::new([0; 64])).collect());
    let held = from.current();
    for block in all.iter_mut().step_by(3) {
        to.adopt(block).unwrap();
    }
    assert_eq!((from.current(), to.current()), (held - 64_000, 64_000));
    let kept: Vec<_> = all.into_iter().step_by(3).collect();
    assert_eq!(to.current(), 64_000);
    assert!(from.current() < 64 << 10);
    drop(kept);
    assert_eq!((from.current(), to.current()), (0, 0));
}

#[test]
fn a_refusal_names_who_was_full_and_changes_nothing() {
    let (from, to) = pair("refused");
    to.set_max(Limit::bytes(100_000)).unwrap();
    let mut block = from.run(|| vec![0u8; 120_000]);
    let held = from.current();
    let refused = to.adopt(&mut block).unwrap_err();
    assert_eq!((&*refused.group, refused.max), ("/refused/to", 100_000));
    assert_eq!((from.current(), to.current()), (held, 0));
    to.set_max(Limit::MAX).unwrap();
    to.adopt(&mut block).unwrap();
    assert_eq!((from.current(), to.current()), (0, held));
}

#[test]
fn removed_groups_on_both_sides_and_blocks_of_nobody() {
    let (from, to) = pair("removed");
    let top = from.parent().unwrap();
    let mut block = from.run(|| vec![0u8; 4096]);
    from.remove().unwrap();
    to.adopt(&mut block).unwrap();
    assert_eq!((top.current(), to.current()), (4096, 4096));
    to.remove().unwrap();
    let mut other = memcg_helpers::no_account_vec();
    to.adopt(&mut other).unwrap();
    assert_eq!(top.current(), 8192);
    drop((block, other));
    assert_eq!(top.current(), 0);
}

mod memcg_helpers {
    /// A block that nobody is charged for.
    pub fn no_account_vec() -> Vec<u8> {
        let _free = memcg::no_account();
        vec![0; 4096]
    }
}

#[test]
fn a_block_of_another_allocator_is_found_out() {
    let (_, to) = pair("foreign");
    let mut place = [0u8; 64];
    let at = NonNull::new(place.as_mut_ptr()).unwrap();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    // SAFETY: nobody else has the place. That it is no block is what is tested.
    let outcome = catch_unwind(AssertUnwindSafe(|| unsafe { to.adopt_raw(at) }));
    std::panic::set_hook(hook);
    let text = *outcome.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("no block of memcg::Alloc"), "{text}");
}

/// Blocks of a slab are adopted, freed by others, and taken for a second tenant by the slab's
/// owner, all at once.
#[test]
fn adoption_beside_frees_by_others_and_a_second_tenant() {
    let top = root().create("races").unwrap();
    let (from, second) = (top.create("from").unwrap(), top.create("second").unwrap());
    let to = [top.create("to-0").unwrap(), top.create("to-1").unwrap()];
    for round in 0..200 {
        let size = [48, 64, 200, 1_000][round % 4];
        let mut all: Vec<Vec<u8>> = from.run(|| (0..300).map(|_| vec![1; size]).collect());
        let theirs = [all.split_off(200), all.split_off(100)];
        let start = Barrier::new(3);
        let kept: Vec<Vec<Vec<u8>>> = std::thread::scope(|scope| {
            let handles: Vec<_> = theirs
                .into_iter()
                .zip(&to)
                .map(|(mut mine, to)| {
                    let start = &start;
                    scope.spawn(move || {
                        start.wait();
                        for block in &mut mine {
                            to.adopt(block).unwrap();
                        }
                        // Every other one goes, by this thread.
                        let mut n = 0;
                        mine.retain(|_| {
                            n += 1;
                            n % 2 == 0
                        });
                        mine
                    })
                })
                .collect();
            start.wait();
            // The slab's owner needs it for a second tenant, and frees into it.
            let mut taken: Vec<Vec<u8>> = Vec::new();
            for block in all.drain(..) {
                drop(block);
                second.run(|| taken.push(vec![2; size]));
            }
            let kept = handles.into_iter().map(|h| h.join().unwrap()).collect();
            assert!(taken.iter().all(|block| block.iter().all(|&b| b == 2)));
            kept
        });
        assert_eq!(second.current(), 0, "round {round}");
        for (kept, to) in kept.iter().zip(&to) {
            assert_eq!(kept.len(), 50);
            assert!(to.current() >= 50 * size as u64, "round {round}");
        }
        drop((kept, all));
        assert_eq!(from.current(), 0, "round {round}");
        assert!(to.iter().all(|to| to.current() == 0), "round {round}");
    }
}
