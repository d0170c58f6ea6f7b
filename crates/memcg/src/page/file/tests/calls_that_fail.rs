//! Reads, writes and syncs that fail or do half, each in turn.
//!
//! Invariants, Depends on, Never: as for the tests of this room.

#![forbid(unsafe_code)]

use super::*;

const LEN: u64 = 9 * PAGE as u64 + 1000;

/// With direct I/O where there is, and through the kernel's cache.
fn each_way(name: &str, test: impl Fn(&Files, &StdPath, FileId)) {
    in_both(name, |folder| {
        for is_cached in [false, true] {
            let files = table();
            let path = folder.file("a", 1, LEN as usize);
            let file = open_used(&files, &path);
            if is_cached {
                make_cached(&files, file);
            }
            test(&files, &path, file);
        }
    });
}

#[test]
fn calls_that_do_half_are_gone_on_with() {
    each_way("short", |files, path, file| {
        for call in 1.. {
            let (plan, going) = wrong(call, call, Fault::Short);
            check(files, file, 1, 0..12, LEN);
            write(files, file, 2, &filled(1, 2..12), LEN).unwrap();
            if plan.failed() == 0 {
                break;
            }
            drop(going);
        }
        // All of them half, as far as half is something.
        let (_, going) = wrong(1, u64::MAX, Fault::Short);
        let got = read(files, file, 0, &mut frames(8));
        assert_eq!(got.unwrap_err().why, FileError::Failed(Errno::EIO));
        let put = write(files, file, 0, &filled(1, 0..8), LEN).unwrap_err();
        assert!(put.done > 7 * PAGE as u64);
        drop(going);
        check(files, file, 1, 0..12, LEN);
        assert_eq!(std::fs::metadata(path).unwrap().len(), LEN);
    });
}

#[test]
fn a_read_or_write_that_fails_says_how_much_is_good() {
    // The kernel takes 1,024 pieces at once: the second call has the rest.
    const NR: u64 = 1100;
    const END: u64 = NR * PAGE as u64;
    each_way("second", |files, _, file| {
        let failed = FileError::Failed(Errno::EIO);
        files.set_len(file, END).unwrap();
        let (old, new) = (filled(1, 0..NR), filled(2, 0..NR));
        for (first, good) in [(1, 0), (2, 1024)] {
            write(files, file, 0, &old, END).unwrap();
            let stopped = Err(Stopped {
                done: good * PAGE as u64,
                why: failed,
            });
            let (_, going) = wrong(first, first, Fault::Fails(Errno::EIO));
            let mut got = frames(NR as usize);
            assert_eq!(read(files, file, 0, &mut got), stopped);
            for nr in 0..good as usize {
                assert!(got[nr].0 == old[nr].0);
            }
            drop(going);
            // A failed read is the reader's, not the file's.
            let user = ErrorCursor::default();
            files.errors(file).begin(&user);
            assert!(!files.errors(file).has_news(&user));
            let (_, going) = wrong(first, first, Fault::Fails(Errno::EIO));
            let put = write(files, file, 0, &new, END);
            drop(going);
            assert_eq!(put, stopped);
            read(files, file, 0, &mut got).unwrap();
            for nr in 0..NR as usize {
                let expected = if (nr as u64) < good { &new } else { &old };
                assert!(got[nr].0 == expected[nr].0);
            }
            assert_eq!(files.sync(file, &user), Err(failed));
        }
    });
}

#[test]
fn each_write_and_sync_that_fails_is_told_to_each_user_once_and_loses_nothing_else() {
    each_way("write", |files, path, file| {
        for errno in [Errno::ENOSPC, Errno::EDQUOT, Errno::EIO] {
            for call in 1.. {
                let users = [(); 2].map(|()| ErrorCursor::default());
                users.iter().for_each(|user| files.errors(file).begin(user));
                let (plan, going) = wrong(call, call, Fault::Fails(errno));
                let put = write(files, file, 0, &filled(2, 0..10), LEN);
                let failed = FileError::Failed(errno);
                if let Err(stopped) = put {
                    assert_eq!(stopped.why, failed);
                    let back = std::fs::read(path).unwrap();
                    let good = stopped.done as usize;
                    for nr in 0..10 {
                        let upto = good.saturating_sub(nr * PAGE).min(PAGE);
                        assert!(back[nr * PAGE..][..upto] == content(2, nr as u64)[..upto]);
                    }
                    assert!(good == back.len() || back[good..] == old(good)[..]);
                }
                let first = files.sync(file, &users[0]);
                let nr_failed = plan.failed();
                drop(going);
                assert_eq!(first.is_err(), nr_failed == 1);
                if nr_failed == 0 {
                    break;
                }
                assert_eq!(first, Err(failed));
                assert_eq!(files.sync(file, &users[1]), Err(failed));
                for user in &users {
                    assert!(files.sync(file, user).is_ok());
                }
                write(files, file, 0, &filled(2, 0..10), LEN).unwrap();
                check(files, file, 2, 0..10, LEN);
                write(files, file, 0, &filled(1, 0..10), LEN).unwrap();
            }
            write(files, file, 0, &filled(1, 0..10), LEN).unwrap();
        }
        assert_eq!(std::fs::metadata(path).unwrap().len(), LEN);
    });
}

/// The file's bytes from `from` on before anything was written.
fn old(from: usize) -> Vec<u8> {
    let all: Vec<u8> = (0..10).flat_map(|nr| content(1, nr)).collect();
    all[from..LEN as usize].to_vec()
}

#[test]
fn a_file_system_that_says_it_has_direct_i_o_and_has_not_is_read_and_written_all_the_same() {
    each_way("no-direct", |files, _, file| {
        let was_direct = files.is_direct(file);
        let (_, going) = wrong(1, 1, Fault::Fails(Errno::EINVAL));
        let got = read(files, file, 0, &mut frames(10));
        assert_eq!(got.is_ok(), was_direct);
        drop(going);
        assert!(!files.is_direct(file));
        check(files, file, 1, 0..10, LEN);
        write(files, file, 0, &filled(2, 0..10), LEN).unwrap();
        check(files, file, 2, 0..10, LEN);
    });
    each_way("no-direct-write", |files, _, file| {
        let was_direct = files.is_direct(file);
        let (_, going) = wrong(1, 1, Fault::Fails(Errno::EINVAL));
        let put = write(files, file, 0, &filled(2, 0..10), LEN);
        drop(going);
        assert_eq!(put.is_ok(), was_direct);
        if was_direct {
            check(files, file, 2, 0..10, LEN);
        }
    });
}
