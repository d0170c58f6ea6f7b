//! Touches: what they charge, give back and find overwritten.
//!
//! Invariants: each test has a group of its own: the engine is the process's.
//! Depends on: `regions`.
//! Never: a look at the whole tree.

#![forbid(unsafe_code)]

use super::*;
use crate::world::pattern::Pattern;
use memcg::testing::engine::Flags;
use memcg::testing::units::Limit;
use memcg::{Memcg, root};

const PAGE: u64 = PAGE_SIZE as u64;

fn group(name: &str) -> Memcg {
    root().create(name).expect("a group")
}

fn touch(of: &MappedRegion, by: &[u8], id: u64, pages: Range<u64>, access: Access) {
    let mapping = of.of(by).expect("it maps it");
    let touching = of.begin_touch(id);
    for page in pages {
        let touched = touching.page(&mapping, page, access, Flags::MALLOC);
        assert_eq!(touched, Ok(true), "{page}");
    }
}

#[test]
fn a_page_that_was_overwritten_is_found_by_whoever_looks() {
    let task = Task::new(&group("overwritten"), b"t").expect("a task");
    let of = MappedRegion::anon(b"t", &task, 8 * PAGE, 5).expect("a region");
    touch(&of, b"t", 1, 2..6, Access::Write);
    assert_eq!(of.first_damaged(), Ok(None));
    let mapping = of.of(b"t").expect("it maps it");
    mapping.write_at(4 * PAGE + 100, b"!").expect("a write");
    assert_eq!(of.first_damaged(), Ok(Some(4)));
    for access in [Access::Read, Access::Write] {
        let touched = of.begin_touch(2).page(&mapping, 4, access, Flags::MALLOC);
        assert_eq!(touched, Ok(false), "{access:?}");
    }
    // The second one has written it anew.
    assert_eq!(of.first_damaged(), Ok(None));
}

#[test]
fn a_read_of_memory_without_content_charges_the_toucher_of_shmem_alone() {
    let group = group("readers");
    let task = Task::new(&group, b"t").expect("a task");
    let anon = MappedRegion::anon(b"t", &task, 4 * PAGE, 6).expect("a region");
    touch(&anon, b"t", 1, 0..4, Access::Read);
    assert_eq!((anon.nr_pages(), group.current()), (0, 0));
    let shmem = MappedRegion::shmem(b"s", (b"t", &task), 4 * PAGE, 7).expect("a region");
    touch(&shmem, b"t", 1, 0..4, Access::Read);
    assert_eq!((shmem.nr_pages(), group.current()), (4, 4 * PAGE));
}

#[test]
fn what_is_undone_is_what_the_touch_brought_and_nobody_else_uses() {
    let group = group("undone");
    let task = Task::new(&group, b"t").expect("a task");
    let of = MappedRegion::shmem(b"s", (b"t", &task), 8 * PAGE, 8).expect("a region");
    touch(&of, b"t", 1, 0..2, Access::Write);
    let mapping = of.of(b"t").expect("it maps it");
    let touching = of.begin_touch(2);
    for page in 0..6 {
        let touched = touching.page(&mapping, page, Access::Write, Flags::MALLOC);
        assert_eq!(touched, Ok(true));
    }
    touch(&of, b"t", 3, 5..6, Access::Read);
    group.set_max(Limit::bytes(6 * PAGE)).expect("a limit");
    let refused = touching.page(&mapping, 6, Access::Write, Flags::MALLOC);
    assert!(matches!(refused, Err(PageError::Full(_))), "{refused:?}");
    touching.undo().expect("nobody has them pinned");
    assert_eq!((of.nr_pages(), group.current()), (3, 3 * PAGE));
    assert_eq!(of.first_damaged(), Ok(None));
    // What was given back is new to who touches it next.
    touch(&of, b"t", 4, 0..6, Access::Read);
    assert_eq!(of.nr_pages(), 6);
}

#[test]
fn memory_of_one_user_is_not_mapped_by_another_and_may_be_given() {
    let (a, b) = (group("giver"), group("getter"));
    let (giver, getter) = (
        Task::new(&a, b"g").expect("one"),
        Task::new(&b, b"h").expect("two"),
    );
    let of = MappedRegion::anon(b"g", &giver, 2 * PAGE, 9).expect("a region");
    touch(&of, b"g", 1, 0..1, Access::Write);
    let shared = of.map(b"h", &getter);
    assert!(matches!(shared, Err(Fault::Refused { errno, .. }) if errno == Errno::EINVAL));
    of.give(b"g", b"h", &getter).expect("it maps it");
    assert!(of.of(b"g").is_err() && of.users() == "mapped by h");
    touch(&of, b"h", 2, 0..2, Access::Write);
    assert_eq!((a.current(), b.current()), (PAGE, PAGE));
}

#[test]
fn a_file_that_is_made_goes_with_its_region_and_one_that_was_there_keeps_what_nobody_wrote() {
    let group = group("files");
    let task = Task::new(&group, b"t").expect("a task");
    let name = |what: &str| format!("memcg-scenario-{what}-{}", std::process::id());
    let [made, there] = ["made", "there"].map(|what| std::env::temp_dir().join(name(what)));
    let before = vec![7; 3 * PAGE_SIZE + 10];
    std::fs::write(&there, &before).expect("a file");
    for (path, len) in [(&made, 2 * PAGE + 5), (&there, 2 * PAGE + 5)] {
        let of = MappedRegion::file(path, (b"t", &task), len, 11).expect("a region");
        touch(&of, b"t", 1, 0..1, Access::Read);
        touch(&of, b"t", 2, 2..3, Access::Write);
        assert_eq!((of.pages_of(None), group.current()), (Ok(0..3), 2 * PAGE));
        assert_eq!(of.first_damaged(), Ok(None));
    }
    let after = std::fs::read(&there).expect("a file");
    let wrote = 2 * PAGE_SIZE..2 * PAGE_SIZE + 5;
    assert_eq!(after.len(), before.len());
    assert!(after[..wrote.start] == before[..wrote.start]);
    assert!(after[wrote.end..] == before[wrote.end..]);
    assert!(Pattern::of(11, 2).is_in(&after[wrote]));
    assert_eq!((made.exists(), group.current()), (false, 0));
    let longer = MappedRegion::file(&there, (b"t", &task), 4 * PAGE, 12);
    assert!(longer.is_err());
    std::fs::remove_file(&there).expect("a file");
}
