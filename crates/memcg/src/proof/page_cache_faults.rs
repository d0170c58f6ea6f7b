//! Reads, writes and syncs of files behind regions that go wrong, each in turn: the caller is told,
//! each user once, nothing is lost, and what is counted is what there is.

#![forbid(unsafe_code)]

use crate::api::{Mapping, Memcg, PAGE_SIZE, PageCache, PageError, root};
use crate::group::PageCount;
use crate::os::Fault;
use crate::os::errno::Errno;
use crate::os::fault::{IoPlan, Plan, follow_io};
use std::path::{Path, PathBuf};

const PAGE: u64 = PAGE_SIZE as u64;
/// More than two runs, and a part of a page.
const LEN: usize = 150 * PAGE_SIZE + 700;

struct Place {
    path: PathBuf,
    group: Memcg,
    content: Vec<u8>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = self.group.remove();
    }
}

/// Beside the test's program, where there is direct I/O mostly, and in memory, where there is none.
fn places(name: &str) -> Vec<Place> {
    let beside = std::env::current_exe().unwrap();
    [beside.parent().unwrap(), Path::new("/dev/shm")]
        .iter()
        .enumerate()
        .filter(|(_, parent)| parent.is_dir())
        .map(|(nr, parent)| {
            let path = parent.join(format!("page-cache-{name}-{}", std::process::id()));
            let content: Vec<u8> = (0..LEN).map(|at| (at / 7 % 251) as u8).collect();
            std::fs::write(&path, &content).unwrap();
            let group = root().create(format!("faults-{name}-{nr}")).unwrap();
            Place {
                path,
                group,
                content,
            }
        })
        .collect()
}

/// Runs `f` with the calls for I/O from `first` to `last` going wrong; answers how many did.
fn with_wrong<R>(first: u64, last: u64, how: Fault, f: impl FnOnce() -> R) -> (R, u64) {
    let plan: &'static Plan = Box::leak(Box::new(Plan::new(first, last)));
    follow_io(Some(IoPlan { which: plan, how }));
    let answer = f();
    follow_io(None);
    (answer, plan.failed())
}

/// Pages of a file that are cached, dirty, and being written.
fn counts(group: &Memcg) -> [u64; 3] {
    let counts = [
        PageCount::File,
        PageCount::FileDirty,
        PageCount::FileWriteback,
    ];
    group
        .with(|engine, _, group| {
            let pages = engine.tree.group_pages(group);
            counts.map(|count| pages.map_or(0, |pages| pages.bytes(count)) / PAGE)
        })
        .unwrap()
}

fn whole(table: &Mapping) -> Vec<u8> {
    let mut into = vec![0xaa; table.len() as usize];
    table.read_at(0, &mut into).unwrap();
    into
}

#[test]
fn a_page_that_cannot_be_read_is_an_error_charges_nobody_and_comes_later() {
    for place in places("reads") {
        let table = PageCache::open(&place.path)
            .unwrap()
            .map(&place.group)
            .unwrap();
        for fault in [Errno::EIO, Errno::ENOMEM] {
            let (read, wrong) = with_wrong(1, u64::MAX, Fault::Fails(fault), || {
                [
                    table.pin(3).map(drop),
                    table.pin_mut(3).map(drop),
                    table.read_at(3 * PAGE, &mut [0]),
                    table.write_at(3 * PAGE, &[1]),
                ]
            });
            assert!(wrong >= 4);
            assert!(read.iter().all(|read| *read == Err(PageError::Io(fault))));
            assert_eq!((counts(&place.group), place.group.current()), ([0; 3], 0));
        }
        let (read, wrong) = with_wrong(1, 1, Fault::Short, || whole(&table));
        assert_eq!(wrong, 1);
        assert!(read == place.content);
    }
}

#[test]
fn whichever_write_or_sync_fails_each_user_is_told_once_and_nothing_is_lost() {
    for mut place in places("writes") {
        let path = place.path.clone();
        let file = PageCache::open(&path).unwrap();
        let (one, two) = (file.map(&place.group), file.map(&place.group));
        let (one, two) = (one.unwrap(), two.unwrap());
        for call in 1.. {
            let new: Vec<u8> = place
                .content
                .iter()
                .map(|byte| byte.wrapping_add(1))
                .collect();
            one.write_at(0, &new).unwrap();
            place.content = new;
            assert_eq!(counts(&place.group), [151, 151, 0]);
            let fault = Fault::Fails(Errno::ENOSPC);
            let (synced, wrong) = with_wrong(call, call, fault, || one.sync());
            if wrong == 0 {
                assert_eq!(synced, Ok(()));
                // Three writes, one more for the tail with direct I/O, and a sync.
                assert!((5..=7).contains(&call), "{call}");
                break;
            }
            assert_eq!(synced, Err(PageError::Io(Errno::ENOSPC)), "{call}");
            let [cached, dirty, writeback] = counts(&place.group);
            assert!(cached == 151 && writeback == 0 && dirty < 151, "{call}");
            assert!(whole(&two) == place.content);
            assert_eq!(two.sync(), Err(PageError::Io(Errno::ENOSPC)), "{call}");
            assert_eq!(file.sync(), Err(PageError::Io(Errno::ENOSPC)), "{call}");
            assert_eq!(
                (one.sync(), two.sync(), file.sync()),
                (Ok(()), Ok(()), Ok(()))
            );
            assert_eq!(counts(&place.group), [151, 0, 0]);
            assert!(std::fs::read(&path).unwrap() == place.content);
        }
        assert!(std::fs::read(&path).unwrap() == place.content);
    }
}

#[test]
fn writes_that_do_half_are_gone_on_with() {
    for place in places("halves") {
        let table = PageCache::open(&place.path)
            .unwrap()
            .map(&place.group)
            .unwrap();
        let new: Vec<u8> = place.content.iter().map(|byte| !byte).collect();
        table.write_at(0, &new).unwrap();
        let (synced, wrong) = with_wrong(1, 3, Fault::Short, || table.sync());
        assert_eq!((synced, wrong), (Ok(()), 3));
        assert!(std::fs::read(&place.path).unwrap() == new);
        assert_eq!(counts(&place.group), [151, 0, 0]);
    }
}

#[test]
fn a_device_that_fails_for_long_keeps_pages_dirty_also_without_users() {
    for place in places("for-long") {
        let file = PageCache::open(&place.path).unwrap();
        let table = file.map(&place.group).unwrap();
        table.write_at(5 * PAGE, b"kept").unwrap();
        let fault = Fault::Fails(Errno::EIO);
        let (_, wrong) = with_wrong(1, u64::MAX, fault, || {
            assert_eq!(table.sync(), Err(PageError::Io(Errno::EIO)));
            assert_eq!(table.sync(), Err(PageError::Io(Errno::EIO)));
        });
        assert!(wrong >= 2);
        drop((table, file));
        assert_eq!(counts(&place.group), [1, 1, 0]);
        // Who comes when somebody was told is told of nothing, and the page is there.
        let file = PageCache::open(&place.path).unwrap();
        assert_eq!(file.sync(), Ok(()));
        assert_eq!(
            &std::fs::read(&place.path).unwrap()[5 * PAGE_SIZE..][..4],
            b"kept"
        );
        assert_eq!(counts(&place.group), [1, 0, 0]);
        assert_eq!(file.invalidate(0..file.len()), Ok(1));
    }
}
