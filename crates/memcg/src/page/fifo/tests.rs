//! Queues of pages against plain ones.

#![forbid(unsafe_code)]

use super::super::chunk::{Chunks, Entry};
use super::super::id::PageId;
use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

fn entry(page: u32, seq: u32) -> Entry {
    Entry {
        page: PageId::new(page),
        seq,
    }
}

/// All entries, with the stamp that was said of each when it was the first.
fn drain(queue: &Fifo, chunks: &Chunks) -> Vec<(Entry, u64)> {
    let mut all = Vec::new();
    while let Some(stamp) = queue.head_stamp() {
        all.extend(
            queue
                .pop_live(chunks, 1, |_| true)
                .0
                .map(|entry| (entry, stamp)),
        );
    }
    all
}

#[test]
fn who_went_in_first_comes_out_first_and_every_chunk_comes_back() {
    let (chunks, queue) = (Chunks::default(), Fifo::default());
    for n in [1, 63, 64, 65, 1000] {
        for i in 1..=n {
            queue.push(&chunks, entry(i, i * 2)).unwrap();
        }
        assert_eq!((queue.len(), queue.nr_chunks()), (n, chunks.in_use()));
        let out: Vec<u32> = drain(&queue, &chunks)
            .iter()
            .map(|(entry, _)| entry.seq)
            .collect();
        assert_eq!(out, (1..=n).map(|i| i * 2).collect::<Vec<_>>());
        assert_eq!((queue.is_empty(), queue.len()), (true, 0));
        assert_eq!((queue.nr_chunks(), chunks.in_use()), (0, 0));
    }
}

/// An entry that goes round again must not come to the front at once.
#[test]
fn an_entry_that_goes_round_again_is_younger_than_all_others() {
    let (chunks, queues) = (Chunks::default(), [Fifo::default(), Fifo::default()]);
    for i in 1..=20 {
        queues[i as usize % 2].push(&chunks, entry(i, 0)).unwrap();
    }
    let mut order = Vec::new();
    for _ in 0..40 {
        let first = queues
            .iter()
            .min_by_key(|queue| queue.head_stamp())
            .unwrap();
        let entry = first.pop_live(&chunks, 1, |_| true).0.unwrap();
        order.push(entry.page.raw());
        first.push(&chunks, entry).unwrap();
    }
    assert_eq!(order, (1..=20).chain(1..=20).collect::<Vec<_>>());
}

#[test]
fn a_long_queue_has_few_stamps_and_a_rebuild_is_due_at_half() {
    let (chunks, queue) = (Chunks::default(), Fifo::default());
    for i in 1..=100_000 {
        queue.push(&chunks, entry(i, 0)).unwrap();
    }
    assert!(queue.nr_chunks() < 100_000 / 64 * 13 / 10);
    for _ in 0..50_000 {
        queue.note_stale();
    }
    assert!(!queue.is_rebuild_due());
    queue.note_stale();
    assert!(queue.is_rebuild_due());
    let odd = |entry: Entry| entry.page.raw() % 2 == 1;
    assert_eq!(queue.rebuild(&chunks, odd), 50_000);
    assert_eq!((queue.len(), queue.nr_stale()), (50_000, 0));
    assert!(!queue.is_rebuild_due());
    assert!(queue.nr_chunks() < 50_000 / 64 * 14 / 10);
    assert_eq!(queue.nr_chunks(), chunks.in_use());
}

#[test]
fn a_scan_looks_at_no_more_than_it_was_told_to() {
    let (chunks, queue) = (Chunks::default(), Fifo::default());
    for i in 1..=100 {
        queue.push(&chunks, entry(i, 0)).unwrap();
    }
    let live = |entry: Entry| entry.page.raw() == 90;
    assert_eq!(queue.pop_live(&chunks, 0, live), (None, 0));
    assert_eq!(queue.pop_live(&chunks, 70, live), (None, 70));
    // Met before they were noted.
    assert_eq!(queue.nr_stale(), 0);
    (0..71).for_each(|_| queue.note_stale());
    assert_eq!(queue.nr_stale(), 1);
    assert_eq!(queue.pop_live(&chunks, 70, live), (Some(entry(90, 0)), 20));
    assert_eq!(queue.len(), 10);
}

#[derive(Clone, Debug)]
enum Op {
    Push(bool, u32),
    Renumber(u32),
    Pop(bool, u32),
    Rebuild(bool),
    Splice,
    Clear(bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (any::<bool>(), 1..200u32).prop_map(|(at, page)| Op::Push(at, page)),
        6 => (1..200u32).prop_map(Op::Renumber),
        4 => (any::<bool>(), 0..9u32).prop_map(|(at, most)| Op::Pop(at, most)),
        1 => any::<bool>().prop_map(Op::Rebuild),
        1 => Just(Op::Splice),
        1 => any::<bool>().prop_map(Op::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Against two plain queues. An entry's stamp is the time it went in, or a little before.
    #[test]
    fn queues_are_queues_whatever_is_done(ops in prop::collection::vec(op(), 1..900)) {
        let (chunks, ours) = (Chunks::default(), [Fifo::default(), Fifo::default()]);
        let mut plain = [VecDeque::new(), VecDeque::new()];
        let mut seqs = vec![0u32; 200];
        for op in ops {
            match op {
                Op::Push(at, page) => {
                    let (at, seq) = (usize::from(at), seqs[page as usize]);
                    ours[at].push(&chunks, entry(page, seq)).unwrap();
                    plain[at].push_back((entry(page, seq), chunks.now()));
                }
                Op::Renumber(page) => {
                    for (ours, plain) in ours.iter().zip(&plain) {
                        let old = entry(page, seqs[page as usize]);
                        plain.iter().filter(|of| of.0 == old).for_each(|_| ours.note_stale());
                    }
                    seqs[page as usize] += 1;
                }
                Op::Pop(at, most) => {
                    let at = usize::from(at);
                    let live = |entry: Entry| seqs[entry.page.raw() as usize] == entry.seq;
                    let mut scanned = 0;
                    let mut found = None;
                    while scanned < most
                            && found.is_none()
                            && let Some((entry, _)) = plain[at].pop_front()
                        {
                        scanned += 1;
                        found = live(entry).then_some(entry);
                    }
                    prop_assert_eq!(ours[at].pop_live(&chunks, most, live), (found, scanned));
                }
                Op::Rebuild(at) => {
                    let at = usize::from(at);
                    let live = |entry: Entry| seqs[entry.page.raw() as usize] == entry.seq;
                    let before = plain[at].len();
                    plain[at].retain(|(entry, _)| live(*entry));
                    let dropped = before - plain[at].len();
                    prop_assert_eq!(ours[at].rebuild(&chunks, live) as usize, dropped);
                }
                Op::Splice => {
                    ours[0].splice(&chunks, &ours[1]);
                    let behind = std::mem::take(&mut plain[1]);
                    plain[0].extend(behind);
                }
                Op::Clear(at) => {
                    ours[usize::from(at)].clear(&chunks);
                    plain[usize::from(at)].clear();
                }
            }
            for (ours, plain) in ours.iter().zip(&plain) {
                prop_assert_eq!(ours.len() as usize, plain.len());
                let old = |of: &&(Entry, u64)| seqs[of.0.page.raw() as usize] != of.0.seq;
                prop_assert_eq!(ours.nr_stale() as usize, plain.iter().filter(old).count());
            }
            prop_assert_eq!(ours[0].nr_chunks() + ours[1].nr_chunks(), chunks.in_use());
        }
        for (ours, plain) in ours.iter().zip(plain) {
            // Fewer than 4096 ticks: each stamp is exact.
            prop_assert_eq!(drain(ours, &chunks), Vec::from(plain));
        }
        prop_assert_eq!(chunks.in_use(), 0);
    }
}
