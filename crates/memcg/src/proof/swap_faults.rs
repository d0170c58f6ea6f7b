//! A swap device that fails, at each of its calls in turn: what is in pages is right, or is said to
//! be lost.

#![forbid(unsafe_code)]

use crate::api::{Memcg, PAGE_SIZE, PageError, root, swap_on};
use crate::os::Fault;
use crate::os::errno::Errno;
use crate::os::fault::{IoPlan, Plan, follow_io};
use crate::units::Limit;

const PAGE: u64 = PAGE_SIZE as u64;

/// Noise, another for each page.
fn content(n: u64) -> Vec<u8> {
    let mut state = n + 1;
    let mut number = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state ^ state >> 29
    };
    (0..PAGE / 8).flat_map(|_| number().to_ne_bytes()).collect()
}

/// Each write and each read of the device fails once, or does half: pages that cannot be written
/// stay in memory, one that cannot be read is an error for ever, and no content is wrong.
#[test]
fn a_device_that_fails_loses_what_it_cannot_read_and_says_so() {
    let path = std::env::temp_dir().join(format!("memcg-failing-{}", std::process::id()));
    swap_on(&path, 16 << 20).unwrap();
    std::fs::remove_file(&path).unwrap();
    let swapped = |group: &Memcg| group.read("memory.swap.current").unwrap();
    for how in [
        Fault::Fails(Errno::EIO),
        Fault::Fails(Errno::ENOSPC),
        Fault::Short,
    ] {
        for nth in [1, 2, 3, 5, 8, 13, 30, 60, 100, 200] {
            let tenant = root().create("failing").unwrap();
            tenant.set_max(Limit::bytes(64 * PAGE)).unwrap();
            let table = tenant.map_anon(256 * PAGE).unwrap();
            // Without a place to go a page may be refused; it is written when the device works.
            let plan: &'static Plan = Box::leak(Box::new(Plan::new(nth, nth)));
            follow_io(Some(IoPlan { which: plan, how }));
            for n in 0..160 {
                if table.write_at(n * PAGE, &content(n)).is_err() {
                    follow_io(None);
                    table.write_at(n * PAGE, &content(n)).unwrap();
                }
            }
            let mut lost = 0;
            for n in 0..160 {
                let mut into = vec![0; PAGE_SIZE];
                match table.read_at(n * PAGE, &mut into) {
                    Ok(()) => assert!(into == content(n), "page {n}, {how:?} at {nth}"),
                    Err(PageError::Io(errno)) => {
                        assert_eq!(errno, Errno::EIO);
                        lost += 1;
                        // It stays lost, also when the device works again.
                        assert!(matches!(table.pin(n), Err(PageError::Io(_))));
                    }
                    Err(PageError::Full(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            follow_io(None);
            assert!(lost <= 64, "{lost} of {how:?} at {nth}");
            drop(table);
            assert_eq!((tenant.current(), swapped(&tenant).as_str()), (0, "0\n"));
            tenant.remove().unwrap();
        }
    }
}
