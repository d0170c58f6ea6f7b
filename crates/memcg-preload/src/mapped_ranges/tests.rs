//! The table of ranges against the plainest model of one.

#![forbid(unsafe_code)]

use super::*;

/// The same by the page, in the plainest way.
struct Model(Vec<Option<Owner>>);

impl Model {
    fn of(ranges: &mut Ranges, pages: usize) -> Self {
        let mut all = vec![None; pages];
        let root = ranges.root;
        let mut end = 0;
        ranges.each_node(root, &mut |this, at| {
            let span = this.node(at).span;
            assert!(span.start >= end && span.end > span.start, "{span:?}");
            end = span.end;
            all[span.start..span.end].fill(Some(span.owner));
        });
        Model(all)
    }
}

#[test]
fn ranges_do_what_a_list_of_pages_does() {
    const PAGES: usize = 200;
    let mut ranges = Ranges::new();
    let mut pages = vec![None; PAGES];
    let mut seed = 7u64;
    let mut next = |n: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % n
    };
    for _ in 0..20_000 {
        assert!(ranges.have_room());
        let start = next(PAGES - 1);
        let end = start + 1 + next((PAGES - start).min(30));
        let end = end.min(PAGES);
        match next(4) {
            0 => {
                let mut taken = 0;
                ranges.take(start, end, |span| {
                    assert!(span.start >= start && span.end <= end);
                    taken += span.bytes();
                });
                assert_eq!(taken, pages[start..end].iter().flatten().count());
                pages[start..end].fill(None);
            }
            1 => {
                let owner = Owner::from_raw(next(4) as u32);
                ranges.take(start, end, |_| {});
                ranges.put(Span { start, end, owner });
                pages[start..end].fill(Some(owner));
            }
            2 => {
                let to = next(PAGES - (end - start) + 1);
                let moved: Vec<_> = pages[start..end].to_vec();
                ranges.shift(start, end, to, |_| {});
                pages[start..end].fill(None);
                pages[to..to + moved.len()].copy_from_slice(&moved);
            }
            _ => {
                let idle = pages[start..end].iter().filter(|p| **p == Some(IDLE));
                assert_eq!(ranges.held(start, end).1, idle.count());
                ranges.adopt_idle(start, end, Owner::from_raw(9));
                for page in &mut pages[start..end] {
                    *page = page.map(|owner| {
                        if owner == IDLE {
                            Owner::from_raw(9)
                        } else {
                            owner
                        }
                    });
                }
            }
        }
        assert_eq!(Model::of(&mut ranges, PAGES).0, pages);
        let idle = ranges.held(0, PAGES).1;
        assert_eq!(idle, pages.iter().filter(|p| **p == Some(IDLE)).count());
        assert_eq!(ranges.counts().1 == 0, idle == 0);
    }
    ranges.take(0, PAGES, |_| {});
    assert_eq!(ranges.counts(), (0, 0));
}

#[test]
fn a_hundred_thousand_spans_of_many_owners_are_quick() {
    let mut ranges = Ranges::new();
    for n in 0..100_000usize {
        assert!(ranges.have_room());
        let start = (n * 7919) % 100_000;
        ranges.put(Span {
            start,
            end: start + 1,
            owner: Owner::from_raw(1 + (start as u32 & 1)),
        });
    }
    assert_eq!(ranges.counts(), (100_000, 0));
    assert_eq!(ranges.held(10, 20), (10, 0));
}
