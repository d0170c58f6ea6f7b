//! Files as regions: one for each file, filled and written back by the page, kept without users.
//! Content is always compared with what the kernel reads of the file.

// Under loom there is no process's engine to test.
#![cfg(not(loom))]

use memcg::{Errno, Limit, Mapping, Memcg, OpenError, PAGE_SIZE, PageCache, PageError, root};
use memcg::{RegionKind, charge_to};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

const PAGE: u64 = PAGE_SIZE as u64;

/// A folder of one test, gone at its end.
struct Folder(PathBuf);

impl Folder {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a test beside its program, where there is direct I/O mostly, and in memory, where there is
/// none.
fn in_both(name: &str, test: impl Fn(&Folder, Memcg)) {
    let beside = std::env::current_exe().unwrap();
    for (nr, parent) in [beside.parent().unwrap(), Path::new("/dev/shm")]
        .into_iter()
        .enumerate()
    {
        if !parent.is_dir() {
            continue;
        }
        let folder = parent.join(format!("page-cache-{name}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let group = root().create(format!("{name}-{nr}")).unwrap();
        test(&Folder(folder), group);
    }
}

/// What `nr` of a test's contents is.
fn bytes(nr: u64, len: usize) -> Vec<u8> {
    let mut state = nr.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn whole(mapping: &Mapping) -> Vec<u8> {
    let mut into = vec![0xaa; mapping.len() as usize];
    mapping.read_at(0, &mut into).unwrap();
    into
}

/// `file`, `file_dirty` and `file_writeback` of a group, in pages.
fn counts(group: &Memcg) -> (u64, u64, u64) {
    let text = group.read("memory.stat").unwrap();
    let of = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.unwrap().parse::<u64>().unwrap()
    };
    assert_eq!((of("file") % PAGE, of("file_dirty") % PAGE), (0, 0));
    (
        of("file") / PAGE,
        of("file_dirty") / PAGE,
        of("file_writeback") / PAGE,
    )
}

#[test]
fn a_file_is_read_as_it_is_and_written_as_it_was_synced() {
    in_both("whole", |folder, group| {
        let mut expected = bytes(1, 5 * PAGE_SIZE + 100);
        let path = folder.file("a", &expected);
        let file = PageCache::open(&path).unwrap();
        assert!(file.is_writable() && file.len() == expected.len() as u64);
        assert_eq!(file.region().kind(), RegionKind::File);
        let table = file.map(&group).unwrap();
        assert_eq!(counts(&group), (0, 0, 0), "mapping charges nothing");
        assert_eq!(whole(&table), expected);
        assert_eq!(counts(&group), (6, 0, 0));
        assert!(table.pin(5).unwrap()[100..].iter().all(|&byte| byte == 0));

        // Within a page, over an edge, to the last byte, a page whole.
        for (at, len) in [
            (10, 5),
            (PAGE - 3, 6),
            (5 * PAGE + 90, 10),
            (2 * PAGE, PAGE_SIZE),
        ] {
            let new = bytes(at, len);
            expected[at as usize..at as usize + len].copy_from_slice(&new);
            table.write_at(at, &new).unwrap();
        }
        assert_eq!(counts(&group), (6, 4, 0));
        assert_eq!(whole(&table), expected);
        assert_ne!(fs::read(&path).unwrap(), expected);
        table.sync().unwrap();
        assert_eq!(counts(&group), (6, 0, 0));
        assert_eq!(fs::read(&path).unwrap(), expected);

        // Nothing is cached any more, and it is the same.
        assert_eq!(file.invalidate(0..file.len()).unwrap(), 6);
        assert_eq!((counts(&group), group.current()), ((0, 0, 0), 0));
        assert_eq!(whole(&table), expected);
        let beyond = table.read_at(file.len(), &mut [0]).unwrap_err();
        assert_eq!(beyond, PageError::OutOfRange);
        assert_eq!(table.pin(6).unwrap_err(), PageError::OutOfRange);
    });
}

#[test]
fn a_page_that_is_overwritten_is_not_read_and_is_dirty_as_others() {
    in_both("overwritten", |folder, group| {
        let path = folder.file("a", &bytes(1, 4 * PAGE_SIZE));
        let table = PageCache::open(&path).unwrap().map(&group).unwrap();
        let new = bytes(2, 4 * PAGE_SIZE);
        table.write_at(0, &new).unwrap();
        assert_eq!(counts(&group), (4, 4, 0));
        table.sync().unwrap();
        assert_eq!((fs::read(&path).unwrap(), counts(&group)), (new, (4, 0, 0)));
    });
}

#[test]
fn all_names_of_a_file_lead_to_one_region() {
    in_both("names", |folder, group| {
        let path = folder.file("a", &bytes(1, 3 * PAGE_SIZE));
        let (hard, soft) = (folder.path("hard"), folder.path("soft"));
        fs::hard_link(&path, &hard).unwrap();
        symlink("a", &soft).unwrap();
        let first = PageCache::open(&path).unwrap();
        let table = first.map(&group).unwrap();
        table.write_at(PAGE, b"shared").unwrap();
        for name in [hard, soft, folder.path(".").join("a")] {
            let other = PageCache::open(&name).unwrap();
            assert!(other.region() == first.region(), "{name:?}");
            let mut back = [0; 6];
            other.map(&group).unwrap().read_at(PAGE, &mut back).unwrap();
            assert_eq!(&back, b"shared");
        }
        assert_eq!(counts(&group), (1, 1, 0));
        let other = folder.file("b", b"another");
        assert!(PageCache::open(other).unwrap().region() != first.region());
    });
}

#[test]
fn the_first_toucher_is_charged_unless_somebody_is_named() {
    in_both("whom", |folder, above| {
        let [a, b, c] = ["a", "b", "c"].map(|name| above.create(name).unwrap());
        let path = folder.file("a", &bytes(1, 8 * PAGE_SIZE));
        let file = PageCache::open(&path).unwrap();
        let task = b.task("reader").unwrap();
        let (of_a, of_b) = (file.map(&a).unwrap(), file.map_for(&task).unwrap());
        drop(of_a.pin(0).unwrap());
        drop(of_b.pin(0).unwrap());
        drop(of_b.pin_mut(1).unwrap());
        drop(of_a.pin_mut(1).unwrap());
        assert_eq!((counts(&a), counts(&b)), ((1, 0, 0), (1, 1, 0)));
        task.move_to(&c).unwrap();
        assert_eq!(
            (counts(&b), counts(&c)),
            ((1, 1, 0), (0, 0, 0)),
            "the page is the group's"
        );
        charge_to(&c, || drop(of_a.pin(2).unwrap()));
        file.region().set_owner(Some(&b));
        drop(of_a.pin_mut(3).unwrap());
        assert_eq!(
            (counts(&a), counts(&b), counts(&c)),
            ((1, 0, 0), (2, 2, 0), (1, 0, 0))
        );
        assert_eq!(counts(&above), (4, 2, 0));
        // A group that ends leaves its pages to the one above, dirty ones too.
        drop((of_b, task));
        b.remove().unwrap();
        assert_eq!(counts(&above), (4, 2, 0));
        file.sync().unwrap();
        assert_eq!(counts(&above), (4, 0, 0));
        assert_eq!(fs::read(&path).unwrap(), bytes(1, 8 * PAGE_SIZE));
    });
}

#[test]
fn a_group_that_is_full_refuses_and_the_page_stays_in_the_file() {
    in_both("full", |folder, group| {
        let content = bytes(1, 4 * PAGE_SIZE);
        let path = folder.file("a", &content);
        let file = PageCache::open(&path).unwrap();
        group.set_max(Limit::bytes(2 * PAGE)).unwrap();
        let table = file.map(&group).unwrap();
        let (zero, one) = (table.pin(0).unwrap(), table.pin(1).unwrap());
        let refused = table.pin(2).unwrap_err();
        assert!(matches!(refused, PageError::Full(_)), "{refused}");
        assert_eq!(counts(&group), (2, 0, 0));
        drop((zero, one));
        file.invalidate(0..PAGE).unwrap();
        assert_eq!(
            table.pin(2).unwrap()[..],
            content[2 * PAGE_SIZE..3 * PAGE_SIZE]
        );
    });
}

#[test]
fn without_users_pages_stay_and_are_found_again() {
    in_both("kept", |folder, group| {
        let path = folder.file("a", &bytes(1, 4 * PAGE_SIZE));
        let table = PageCache::open(&path).unwrap().map(&group).unwrap();
        table.write_at(0, b"dirty").unwrap();
        let _ = whole(&table);
        drop(table);
        assert_eq!(counts(&group), (4, 1, 0));
        let again = PageCache::open(&path).unwrap();
        assert_eq!(
            (again.region().nr_pages(), again.region().nr_mappings()),
            (4, 0)
        );
        again.sync().unwrap();
        assert_eq!(
            &fs::read(&path).unwrap()[..6],
            [b"dirty", &bytes(1, 6)[5..]].concat()
        );
        // One that has no page goes with its last user.
        assert_eq!(again.invalidate(0..again.len()), Ok(4));
        drop(again);
        assert_eq!(PageCache::open(&path).unwrap().region().nr_pages(), 0);
        assert_eq!(group.current(), 0);
    });
}

#[test]
fn a_deleted_file_works_until_its_last_user_goes() {
    in_both("deleted", |folder, group| {
        let content = bytes(1, 4 * PAGE_SIZE);
        let path = folder.file("a", &content);
        let file = PageCache::open(&path).unwrap();
        let table = file.map(&group).unwrap();
        drop(file);
        fs::remove_file(&path).unwrap();
        assert_eq!(whole(&table), content);
        table.write_at(0, b"nobody reads this").unwrap();
        table.sync().unwrap();
        table.region().resize(6 * PAGE).unwrap();
        table.write_at(5 * PAGE, b"nor this").unwrap();
        assert_eq!(counts(&group), (5, 1, 0));
        // A new file of that name is another.
        folder.file("a", b"new");
        let new = PageCache::open(&path).unwrap();
        assert_eq!((new.len(), new.region() == table.region()), (3, false));
        drop(table);
        assert_eq!((counts(&group), group.current()), ((0, 0, 0), 0));
        assert_eq!(fs::read(&path).unwrap(), b"new");
    });
}

#[test]
fn what_may_be_read_alone_is_not_written() {
    in_both("read-only", |folder, group| {
        // Who may write everything is refused where the file is a program that runs.
        let path = folder.path("program");
        fs::copy("/bin/sleep", &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o555)).unwrap();
        let Ok(mut running) = std::process::Command::new(&path).arg("100").spawn() else {
            return; // programs may not be run from there
        };
        let content = fs::read(&path).unwrap();
        let file = PageCache::open(&path).unwrap();
        assert!(!file.is_writable());
        let table = file.map(&group).unwrap();
        assert!(whole(&table) == content);
        for refused in [
            table.pin_mut(0).map(drop),
            table.try_pin_mut(0).map(drop),
            table.write_at(0, b"x"),
            table.write_at(0, &[1; PAGE_SIZE]),
            file.set_len(0),
        ] {
            let refused = refused.unwrap_err();
            assert_eq!(
                (&refused, refused.errno()),
                (&PageError::ReadOnly, Errno::EACCES)
            );
        }
        table.sync().unwrap();
        assert_eq!(counts(&group).1, 0);
        running.kill().unwrap();
        running.wait().unwrap();
        // Who opens it now may write, and all may.
        let again = PageCache::open(&path).unwrap();
        assert!(again.is_writable() && file.is_writable());
        table.write_at(1, b"now").unwrap();
        table.sync().unwrap();
        assert_eq!(&fs::read(&path).unwrap()[..4], b"\x7fnow");
    });
}

#[test]
fn what_is_no_file_is_refused_by_its_number() {
    in_both("no-file", |folder, _| {
        let errno = |path: PathBuf| PageCache::open(path).unwrap_err().errno();
        assert_eq!(errno(folder.path("none")), Errno::ENOENT);
        assert_eq!(errno(folder.0.clone()), Errno::EISDIR);
        assert_eq!(errno("/dev/null".into()), Errno::EINVAL);
        assert_eq!(errno("x".repeat(5_000).into()), Errno::ENAMETOOLONG);
        assert!(matches!(
            PageCache::open("/dev/null"),
            Err(OpenError::NotAFile(_))
        ));
        let path = folder.file("a", b"abc");
        let file = PageCache::open(&path).unwrap();
        let refused = file.region().discard(0..3).unwrap_err();
        assert_eq!(
            (&refused, refused.errno()),
            (&PageError::IsFile, Errno::EOPNOTSUPP)
        );
        assert_eq!(file.invalidate(0..4).unwrap_err(), PageError::OutOfRange);
    });
}

#[test]
fn a_file_is_made_shorter_and_longer() {
    in_both("lengths", |folder, group| {
        let content = bytes(1, 4 * PAGE_SIZE);
        let path = folder.file("a", &content);
        let file = PageCache::open(&path).unwrap();
        let table = file.map(&group).unwrap();
        table.write_at(0, &content).unwrap();
        assert_eq!(counts(&group), (4, 4, 0));
        let end = PAGE as usize + 10;
        file.set_len(end as u64).unwrap();
        assert_eq!((file.len(), counts(&group)), (end as u64, (2, 2, 0)));
        assert_eq!(fs::metadata(&path).unwrap().len(), end as u64);
        // What lies behind the end may be written, and is nobody's.
        table.pin_mut(1).unwrap()[10..].fill(7);
        table.sync().unwrap();
        assert_eq!(fs::read(&path).unwrap(), content[..end]);
        table.pin_mut(1).unwrap()[10..].fill(8);
        table.region().resize(3 * PAGE + 1).unwrap();
        let mut expected = content[..end].to_vec();
        expected.resize(3 * PAGE_SIZE + 1, 0);
        assert_eq!(whole(&table), expected);
        table.write_at(3 * PAGE, b"!").unwrap();
        expected[3 * PAGE_SIZE] = b'!';
        file.sync().unwrap();
        assert_eq!(fs::read(&path).unwrap(), expected);
        // A page that stays pinned beyond the new end: nothing has changed.
        let pinned = table.pin(3).unwrap();
        assert_eq!(file.set_len(PAGE), Err(PageError::Busy));
        assert_eq!(pinned[0], b'!');
        drop(pinned);
        assert_eq!((file.len(), whole(&table)), (3 * PAGE + 1, expected));
        assert_eq!(file.set_len((8 << 40) + 1), Err(PageError::OutOfRange));
        file.set_len(0).unwrap();
        assert!(file.is_empty() && group.current() == 0);
    });
}

#[test]
fn others_changes_are_seen_on_open_and_on_sync_and_dirty_pages_stay() {
    in_both("others", |folder, group| {
        let mut expected = bytes(1, 4 * PAGE_SIZE);
        let path = folder.file("a", &expected);
        let file = PageCache::open(&path).unwrap();
        let table = file.map(&group).unwrap();
        let _ = whole(&table);
        table.write_at(PAGE, b"ours").unwrap();
        // The clock of the file system ticks meanwhile.
        std::thread::sleep(std::time::Duration::from_millis(20));
        let others = OpenOptions::new().write(true).open(&path).unwrap();
        others.write_all_at(b"theirs", PAGE).unwrap();
        others.write_all_at(b"theirs", 2 * PAGE).unwrap();
        others.write_all_at(b"theirs", 4 * PAGE).unwrap();
        let again = PageCache::open(&path).unwrap();
        assert_eq!((again.len(), counts(&group)), (4 * PAGE + 6, (1, 1, 0)));
        for (at, what) in [(2 * PAGE_SIZE, &b"theirs"[..]), (PAGE_SIZE, b"ours")] {
            expected[at..at + what.len()].copy_from_slice(what);
        }
        expected.extend(b"theirs");
        assert_eq!(whole(&table), expected);
        table.sync().unwrap();
        assert_eq!(fs::read(&path).unwrap(), expected);
        let _ = whole(&table);
        std::thread::sleep(std::time::Duration::from_millis(20));
        others.write_all_at(b"again", 0).unwrap();
        expected[..5].copy_from_slice(b"again");
        table.sync().unwrap();
        assert_eq!(
            (whole(&table), fs::read(&path).unwrap()),
            (expected.clone(), expected)
        );
    });
}

#[test]
fn a_file_that_others_cut_off_gives_errors_and_tells_each_user_once() {
    in_both("cut-off", |folder, group| {
        let content = bytes(1, 8 * PAGE_SIZE);
        let path = folder.file("a", &content);
        let file = PageCache::open(&path).unwrap();
        let (one, two) = (file.map(&group).unwrap(), file.map(&group).unwrap());
        one.write_at(0, b"stays").unwrap();
        one.write_at(6 * PAGE, b"lost").unwrap();
        let others = OpenOptions::new().write(true).open(&path).unwrap();
        others.set_len(2 * PAGE + 5).unwrap();
        assert_eq!(one.pin(4).unwrap_err(), PageError::Io(Errno::EIO));
        assert_eq!(
            counts(&group),
            (2, 2, 0),
            "nobody is charged for what did not come"
        );
        let lost = PageError::Io(Errno::EIO);
        assert_eq!(one.sync(), Err(lost.clone()));
        assert_eq!((two.sync(), file.sync()), (Err(lost.clone()), Err(lost)));
        assert_eq!(
            (one.sync(), two.sync(), file.sync()),
            (Ok(()), Ok(()), Ok(()))
        );
        assert_eq!((file.len(), counts(&group)), (2 * PAGE + 5, (0, 0, 0)));
        assert_eq!(one.pin(4).unwrap_err(), PageError::OutOfRange);
        let mut expected = content[..2 * PAGE_SIZE + 5].to_vec();
        expected[..5].copy_from_slice(b"stays");
        assert_eq!(
            (whole(&two), fs::read(&path).unwrap()),
            (expected.clone(), expected)
        );
        // Who comes now is not told.
        assert_eq!(file.map(&group).unwrap().sync(), Ok(()));
    });
}

#[test]
fn a_sync_waits_for_a_writer_and_not_for_itself() {
    in_both("sync-waits", |folder, group| {
        let path = folder.file("a", &bytes(1, 2 * PAGE_SIZE));
        let table = PageCache::open(&path).unwrap().map(&group).unwrap();
        table.write_at(PAGE, b"other").unwrap();
        let mut page = table.pin_mut(0).unwrap();
        assert_eq!(table.sync(), Err(PageError::Deadlock));
        std::thread::scope(|s| {
            let syncing = s.spawn(|| table.sync());
            std::thread::sleep(std::time::Duration::from_millis(30));
            assert!(!syncing.is_finished());
            page[..4].copy_from_slice(b"done");
            drop(page);
            syncing.join().unwrap().unwrap();
        });
        let now = fs::read(&path).unwrap();
        assert_eq!(
            (&now[..4], &now[PAGE_SIZE..][..5]),
            (&b"done"[..], &b"other"[..])
        );
        assert_eq!(counts(&group), (2, 0, 0));
    });
}

#[test]
fn writers_syncs_and_openers_at_once_lose_no_byte() {
    in_both("at-once", |folder, group| {
        const PAGES: u64 = 150;
        let path = folder.file("a", &bytes(1, (PAGES * PAGE) as usize));
        let done = AtomicBool::new(false);
        std::thread::scope(|s| {
            for n in 0..2 {
                let (path, group, done) = (&path, &group, &done);
                s.spawn(move || {
                    for i in 0..1_500_u64 {
                        let table = PageCache::open(path).unwrap().map(group).unwrap();
                        let page = (i * 7 + n * 31) % PAGES;
                        let at = page * PAGE + n * 8;
                        table.write_at(at, &i.to_ne_bytes()).unwrap();
                        let mut back = [0; 8];
                        table.read_at(at, &mut back).unwrap();
                        assert_eq!(u64::from_ne_bytes(back), i);
                    }
                    done.store(true, Relaxed);
                });
            }
            s.spawn(|| {
                while !done.load(Relaxed) {
                    let file = PageCache::open(&path).unwrap();
                    file.sync().unwrap();
                    file.invalidate(0..PAGES / 2 * PAGE).unwrap();
                }
            });
        });
        let table = PageCache::open(&path).unwrap().map(&group).unwrap();
        let cached = whole(&table);
        table.sync().unwrap();
        assert!(cached == fs::read(&path).unwrap());
        let (pages, dirty, writeback) = counts(&group);
        assert_eq!((pages, dirty, writeback), (PAGES, 0, 0));
        let mut expected = bytes(1, (PAGES * PAGE) as usize);
        for n in 0..2 {
            for i in 0..1_500_u64 {
                let at = ((i * 7 + n * 31) % PAGES * PAGE + n * 8) as usize;
                expected[at..at + 8].copy_from_slice(&i.to_ne_bytes());
            }
        }
        assert!(cached == expected);
    });
}

#[test]
fn in_the_child_of_a_fork_nothing_reaches_the_parents_file() {
    in_both("forked", |folder, group| {
        let content = bytes(1, 2 * PAGE_SIZE);
        let path = folder.file("a", &content);
        let file = PageCache::open(&path).unwrap();
        let table = file.map(&group).unwrap();
        table.write_at(0, b"parent").unwrap();
        // SAFETY: the child allocates, which the engine allows in a fork's child, and leaves by
        // _exit.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let failed = |error: PageError| error == PageError::ParentProcess;
            let ok = failed(table.pin(1).unwrap_err())
                && failed(table.write_at(0, b"child!").unwrap_err())
                && failed(table.sync().unwrap_err())
                && failed(file.sync().unwrap_err())
                && failed(file.set_len(0).unwrap_err())
                && failed(file.invalidate(0..PAGE).unwrap_err())
                && file.map(&group).is_err_and(failed)
                && PageCache::open(&path).is_err_and(|error| error == OpenError::ParentProcess);
            drop((table, file));
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(!ok)) };
        }
        let mut status = 0;
        // SAFETY: waits for the child that was made above.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0);
        assert_eq!(fs::read(&path).unwrap(), content);
        table.sync().unwrap();
        assert_eq!(
            fs::read(&path).unwrap(),
            [b"parent", &content[6..]].concat()
        );
    });
}
