//! What others do to a file meanwhile: write, cut off, delete, close its descriptor; and the child
//! of a fork.
//!
//! Invariants, Depends on, Never: as for the tests of this room.

use super::*;

fn by_others(look: Look) -> bool {
    look.changed == Changed::ByOthers
}

#[test]
fn a_write_by_others_is_told_once_and_our_own_never() {
    in_both("changed", |folder| {
        let files = table();
        let path = folder.file("a", 1, 4 * PAGE);
        let file = open_used(&files, &path);
        let user = ErrorCursor::default();
        let len = 4 * PAGE as u64;
        assert!(!by_others(files.look(file).unwrap()));
        for _ in 0..3 {
            tick();
            write(&files, file, 0, &filled(2, 0..4), len).unwrap();
            assert!(!by_others(files.sync(file, &user).unwrap()));
            files.set_len(file, len + 1).unwrap();
            files.set_len(file, len).unwrap();
            assert!(!by_others(open(&files, &path, Mode::Read).unwrap().look));
        }
        let others = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let write_as_others = |of| {
            tick();
            std::os::unix::fs::FileExt::write_all_at(&others, &content(of, 1), PAGE as u64)
                .unwrap();
        };
        write_as_others(5);
        assert!(by_others(files.look(file).unwrap()));
        assert!(!by_others(files.look(file).unwrap()));
        write_as_others(6);
        assert!(by_others(open(&files, &path, Mode::Read).unwrap().look));
        // Told although we write after it, and only then look.
        write_as_others(7);
        tick();
        write(&files, file, 0, &filled(2, 0..1), len).unwrap();
        assert!(by_others(files.sync(file, &user).unwrap()));
        assert!(!by_others(files.sync(file, &user).unwrap()));
        check(&files, file, 7, 1..2, len);
        // And if the file was closed meanwhile.
        files.end_use(file);
        while files.close_oldest() {}
        write_as_others(8);
        assert!(by_others(open(&files, &path, Mode::Read).unwrap().look));
        check(&files, file, 8, 1..2, len);
    });
}

#[test]
fn what_others_cut_off_is_an_error_and_no_crash() {
    in_both("cut-off", |folder| {
        for left in [0, 1, PAGE + 512, PAGE + 700, 2 * PAGE] {
            let files = table();
            let len = 4 * PAGE as u64;
            let path = folder.file("a", 1, len as usize);
            let file = open_used(&files, &path);
            let user = ErrorCursor::default();
            std::fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(left as u64)
                .unwrap();
            let cut = FileError::Truncated { size: left as u64 };
            let mut got = frames(4);
            let stopped = read(&files, file, 0, &mut got).unwrap_err();
            assert_eq!(stopped.why, cut);
            assert!(stopped.done <= left as u64);
            for (nr, frame) in got.iter().enumerate() {
                let good = (stopped.done as usize).saturating_sub(nr * PAGE).min(PAGE);
                assert!(frame.0[..good] == content(1, nr as u64)[..good]);
                assert!(frame.0[good..].iter().all(|&byte| byte == 0));
            }
            let stopped = write(&files, file, 0, &filled(2, 0..4), len).unwrap_err();
            assert_eq!((stopped.done, stopped.why), (left as u64, cut));
            assert_eq!(std::fs::metadata(&path).unwrap().len(), left as u64);
            assert_eq!(files.sync(file, &user), Err(FileError::Failed(Errno::EIO)));
            let look = files.sync(file, &user).unwrap();
            assert_eq!((look.size, look.changed), (left as u64, Changed::ByOthers));
            // That was told: now it is a file of that length.
            check(&files, file, 2, 0..4, left as u64);
        }
    });
}

#[test]
fn a_file_that_grew_is_read_as_it_was_until_it_is_looked_at() {
    in_both("grew", |folder| {
        let files = table();
        let path = folder.file("a", 1, 5000);
        let file = open_used(&files, &path);
        std::fs::write(
            &path,
            [content(1, 0), content(1, 1), content(1, 2)].concat(),
        )
        .unwrap();
        check(&files, file, 1, 0..3, 5000);
        assert!(by_others(files.look(file).unwrap()));
        check(&files, file, 1, 0..3, 3 * PAGE as u64);
    });
}

#[test]
fn a_descriptor_that_the_program_closed_never_leads_us_to_another_file() {
    in_both("stolen", |folder| {
        let files = table();
        let path = folder.file("a", 1, PAGE);
        let file = open_used(&files, &path);
        let strange = folder.file("strange", 2, PAGE);
        let stranger = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&strange)
            .unwrap();
        let fd = fd_of(&files, file);
        let stranger_fd = std::os::fd::AsRawFd::as_raw_fd(&stranger);
        // SAFETY: no memory is involved; the number is one of this test's own.
        let got = unsafe { libc::dup2(stranger_fd, fd) };
        assert_eq!(got, fd);
        let lost = FileError::Failed(Errno::EBADF);
        let stopped = write(&files, file, 0, &filled(3, 0..1), 4096).unwrap_err();
        assert_eq!((stopped.done, stopped.why), (0, lost));
        assert_eq!(files.set_len(file, 0), Err(lost));
        assert_eq!(files.look(file), Err(lost));
        let user = ErrorCursor::default();
        assert_eq!(files.sync(file, &user), Err(lost));
        assert!(std::fs::read(&strange).unwrap() == content(2, 0));
        // The next first use opens it again, and the number stays the stranger's.
        files.end_use(file);
        files.begin_use(file).unwrap();
        assert_ne!(fd_of(&files, file), fd);
        write(&files, file, 0, &filled(3, 0..1), 4096).unwrap();
        check(&files, file, 3, 0..1, 4096);
        // SAFETY: no memory is involved; the number is the stranger's, made above.
        assert_eq!(unsafe { libc::close(fd) }, 0);
        assert!(std::fs::read(&strange).unwrap() == content(2, 0));
        files.end_use(file);
        files.unref(file);
        assert_eq!((files.nr_files(), files.nr_open()), (0, 0));
    });
}

#[test]
fn a_child_of_a_fork_touches_nothing_of_its_parent_s() {
    let folder = folder("child");
    let files = table();
    let path = folder.file("a", 1, PAGE);
    let file = open_used(&files, &path);
    let unused = open(&files, &folder.file("b", 2, PAGE), Mode::Write)
        .unwrap()
        .file;
    let fds = [file, unused].map(|file| fd_of(&files, file));
    let held = files.locked();
    std::mem::forget(held);
    // SAFETY: no other thread knows this table; its lock is held as by a thread that the child does
    // not have.
    files.forget_in_child(unsafe { SoleThread::new() });
    let stopped = Err(Stopped {
        done: 0,
        why: FileError::InChild,
    });
    assert_eq!(read(&files, file, 0, &mut frames(1)), stopped);
    assert_eq!(write(&files, file, 0, &filled(3, 0..1), 4096), stopped);
    let user = ErrorCursor::default();
    assert_eq!(files.sync(file, &user), Err(FileError::InChild));
    assert_eq!(files.look(file), Err(FileError::InChild));
    assert_eq!(files.set_len(file, 0), Err(FileError::InChild));
    assert_eq!(files.give_back(file), Err(FileError::InChild));
    assert_eq!(files.begin_use(unused), Err(FileError::InChild));
    assert_eq!(open(&files, &path, Mode::Read), Err(OpenError::InChild));
    assert_eq!(FileError::InChild.errno(), Errno::ESTALE);
    files.end_use(file);
    for file in [file, unused] {
        files.unref(file);
    }
    for fd in fds {
        // SAFETY: no memory is involved.
        assert!(unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0);
        // SAFETY: the table knows the number and does nothing with it any more.
        assert_eq!(unsafe { libc::close(fd) }, 0);
    }
    assert!(std::fs::read(&path).unwrap() == content(1, 0));
}
