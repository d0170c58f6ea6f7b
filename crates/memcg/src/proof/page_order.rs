//! The order of pages, split by owner, in chunks and with shadows, misses no more than the
//! algorithm it comes from.

#![forbid(unsafe_code)]

use crate::testing::replay::{Lru, Ordered, Published, footprint, misses};
use crate::testing::traces::TRACES;

const OWNERS: [usize; 3] = [1, 8, 64];

/// Plays each trace over `pages` pages in each room, in percent of what it touches, and holds that
/// there are at most 1.005 × as many misses as with one exact queue and ghosts. `tell` is told the
/// ratios to that: of two uses for main as in the paper, of LRU, and of 1, 8 and 64 owners.
fn play(pages: u32, rounds: usize, percents: &[u64], mut tell: impl FnMut(String)) {
    for trace in TRACES {
        let touches = trace.touches(pages, pages as usize * rounds, 7);
        for percent in percents {
            let room = footprint(&touches) * percent / 100;
            let exact = misses(&mut Published::new(room, 1), &touches);
            let ratio = |misses: u64| misses as f64 / exact as f64;
            let ours = OWNERS.map(|owners| {
                let mut cache = Ordered::new(pages, room, owners);
                let ours = misses(&mut cache, &touches);
                cache.audit();
                assert!(ours == exact || owners > 1, "{trace:?} {percent} %");
                let ours = ratio(ours);
                assert!(
                    ours <= 1.005,
                    "{trace:?} {percent} % {owners} owners: {ours}"
                );
                ours
            });
            let paper = ratio(misses(&mut Published::new(room, 2), &touches));
            let lru = ratio(misses(&mut Lru::new(room), &touches));
            let share = exact as f64 / touches.len() as f64;
            let beside = format!("paper {paper:.4}, LRU {lru:.4}");
            tell(format!(
                "{trace:?} {percent} %: {share:.3}; {beside}; {ours:.4?}"
            ));
        }
    }
}

#[test]
fn owners_in_chunks_with_shadows_miss_as_one_queue_with_ghosts() {
    let mut cases = 0;
    play(600, 12, &[5, 20, 80], |_| cases += 1);
    assert_eq!(cases, 15);
}

/// `cargo test --release -p memcg --lib page_order -- --ignored --nocapture` shows the table.
#[test]
#[ignore = "minutes in a debug build"]
fn so_they_do_in_caches_of_many_sizes() {
    for pages in [4_000, 40_000, 200_000] {
        println!("{pages} pages; owners {OWNERS:?}");
        play(pages, 30, &[1, 5, 20, 50, 70, 80, 90], |line| {
            println!("{line}")
        });
    }
}
