//! What is dirty is written without being asked for, by the engine's worker; a process of its own,
//! since the age is the process's.

// Under loom there is no process's engine to test.
#![cfg(not(loom))]

use memcg::{PAGE_SIZE, PageCache, root, set_dirty_expire};
use std::fs;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

const PAGE: u64 = PAGE_SIZE as u64;

fn until(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_is_dirty_for_long_is_written_by_the_worker_and_nobody_waits_for_it() {
    let program = std::env::current_exe().unwrap();
    let path = program.with_file_name(format!("page-cache-background-{}", std::process::id()));
    // More than the worker writes in a turn.
    let mut expected = vec![1; 2_500 * PAGE_SIZE + 9];
    fs::write(&path, &expected).unwrap();
    let group = root().create("background").unwrap();
    let file = PageCache::open(&path).unwrap();
    let table = file.map(&group).unwrap();
    expected.fill(2);
    table.write_at(0, &expected).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(
        fs::read(&path).unwrap().iter().all(|&byte| byte == 1),
        "30 s are not over"
    );
    let pinned = table.pin_mut(7).unwrap();
    set_dirty_expire(Duration::from_millis(20));
    let dirty = || {
        let text = group.read("memory.stat").unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("file_dirty "));
        line.unwrap().parse::<u64>().unwrap() / PAGE
    };
    until("all but what is pinned", || dirty() == 1);
    let now = fs::read(&path).unwrap();
    let at = 7 * PAGE_SIZE..8 * PAGE_SIZE;
    assert!(now[..at.start] == expected[..at.start] && now[at.end..] == expected[at.end..]);
    assert!(now[at].iter().all(|&byte| byte == 1));
    drop(pinned);
    until("what was pinned", || dirty() == 0);
    assert!(fs::read(&path).unwrap() == expected);

    // Without a user, too; and what has no page then goes.
    table.write_at(3 * PAGE, b"last").unwrap();
    expected[3 * PAGE_SIZE..][..4].copy_from_slice(b"last");
    drop((table, file));
    until("without users", || dirty() == 0);
    assert!(fs::read(&path).unwrap() == expected);
    fs::remove_file(&path).unwrap();
}
