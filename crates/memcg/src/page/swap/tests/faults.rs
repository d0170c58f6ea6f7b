//! Calls for I/O that fail, or do half: what was said to be safe stays.
//!
//! Invariants: what is read is compared, and without checksums, which would hide an error of ours.
//! Depends on: the model and the files of the tests above.
//! Never: a fault left to the next test of the thread.

#![forbid(unsafe_code)]

use super::*;

/// The first call for I/O of a history errs, then the second, … until there are no more.
fn each_call_errs(how: Fault, calls_in_a_row: u64) {
    let path = Path::new();
    let (swap, _) = swap_of(&path, 100);
    // What errs is to be seen without them.
    swap.devices[0].forget_sums();
    for nth in 1.. {
        let plan = Plan::new(nth, nth + calls_in_a_row - 1);
        let plan: &'static Plan = Box::leak(Box::new(plan));
        let (mut model, mut state) = (Model::new(), 11);
        fault::follow_io(Some(IoPlan { which: plan, how }));
        live(&swap, &mut model, 16, &mut state, 6);
        fault::follow_io(None);
        check_all(&swap, &model);
        if plan.failed() == 0 {
            assert!(nth > 10);
            return;
        }
        model.keys().for_each(|&slot| assert!(swap.free(slot)));
    }
}

#[test]
fn a_failing_call_loses_nothing_that_was_said_to_be_safe() {
    each_call_errs(Fault::Fails(Errno::EIO), 1);
}

#[test]
fn a_short_call_is_gone_on_with() {
    each_call_errs(Fault::Short, 1);
}

#[test]
fn calls_that_go_on_being_short_end_and_lose_nothing() {
    each_call_errs(Fault::Short, 20);
}

#[test]
fn one_short_call_leaves_every_page_safe() {
    static FIRST: Plan = Plan::new(1, 1);
    let path = Path::new();
    let (swap, _) = swap_of(&path, 64);
    for n in [1, 2, 64] {
        let run = swap.alloc(&mut Cursor::default(), n).unwrap();
        fault::follow_io(Some(IoPlan {
            which: &FIRST,
            how: Fault::Short,
        }));
        let written = swap.write(run, |at, page| *page = page_of(u64::from(at)));
        fault::follow_io(None);
        assert_eq!((written.error, written.safe.count_ones()), (None, n));
        run.slots().for_each(|slot| assert!(swap.free(slot)));
    }
}

/// A call for eight pages fails: each is read alone then, and the one that fails again is lost.
#[test]
fn a_place_that_cannot_be_read_loses_its_page_alone() {
    let path = Path::new();
    let (swap, _) = swap_of(&path, 64);
    swap.devices[0].forget_sums();
    let run = swap.alloc(&mut Cursor::default(), 8).unwrap();
    swap.write(run, |at, page| *page = page_of(at.into()));
    for (last, how, lost) in [
        (1, Fault::Fails(Errno::EIO), 0),
        (2, Fault::Fails(Errno::EIO), 1),
        (1, Fault::Short, 0),
        (2, Fault::Short, 0),
        (5, Fault::Short, 0),
        (9, Fault::Fails(Errno::EIO), 8),
    ] {
        let plan: &'static Plan = Box::leak(Box::new(Plan::new(1, last)));
        // What was staged before is another page's.
        let other = swap.alloc(&mut Cursor::default(), 8).unwrap();
        swap.write(other, |_, page| page.fill(1));
        fault::follow_io(Some(IoPlan { which: plan, how }));
        let mut bad = 0;
        let read = swap.read_run(run, |at, page| match page {
            Ok(page) => assert!(*page == page_of(at.into()), "{at} of {how:?}"),
            Err(errno) => {
                assert_eq!(errno, Errno::EIO);
                bad += 1;
            }
        });
        fault::follow_io(None);
        assert_eq!((read, bad), (Ok(()), lost), "{last} calls: {how:?}");
        other.slots().for_each(|slot| assert!(swap.free(slot)));
    }
}

/// The device has no room: what is written is refused for as long as that is so.
#[test]
fn a_device_without_room_takes_nothing_and_loses_nothing() {
    static ALL: Plan = Plan::new(1, u64::MAX);
    let path = Path::new();
    let (swap, _) = swap_of(&path, 128);
    let mut cursor = Cursor::default();
    let first = swap.alloc(&mut cursor, 40).unwrap();
    assert_eq!(
        swap.write(first, |at, page| *page = page_of(at.into()))
            .error,
        None
    );
    let how = Fault::Fails(Errno::ENOSPC);
    fault::follow_io(Some(IoPlan { which: &ALL, how }));
    for _ in 0..10 {
        let run = swap.alloc(&mut cursor, 64).unwrap();
        let written = swap.write(run, |_, page| page.fill(1));
        assert_eq!((written.safe, written.error), (0, Some(Errno::ENOSPC)));
        run.slots().for_each(|slot| assert!(swap.free(slot)));
    }
    fault::follow_io(None);
    let seeds = first.slots().zip(0..);
    check_all(&swap, &seeds.collect());
}
