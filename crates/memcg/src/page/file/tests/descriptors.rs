//! Descriptors: how many stay open, which are closed first, how a file is opened again.
//!
//! Invariants, Depends on, Never: as for the tests of this room.

use super::*;

#[test]
fn of_two_thousand_unused_files_the_newest_stay_open_and_all_are_read() {
    const NR: u32 = 2000;
    let folder = folder_in(StdPath::new("/dev/shm"), "two-thousand");
    let files = table();
    let most = (crate::os::descriptor::most() / 2).min(u64::from(KEPT_MAX)) as u32;
    let all: Vec<FileId> = (0..NR)
        .map(|nr| {
            let path = folder.file(&format!("{nr}"), nr, PAGE);
            open(&files, &path, Mode::Write).unwrap().file
        })
        .collect();
    assert_eq!((files.nr_kept(), files.nr_open()), (most, most));
    let is_open = |file: &FileId| fd_of(&files, *file) >= 0;
    assert!(!all[..(NR - most) as usize].iter().any(is_open));
    for (nr, &file) in (0..).zip(&all) {
        files.begin_use(file).unwrap();
        check(&files, file, nr, 0..1, PAGE as u64);
        files.end_use(file);
    }
    assert_eq!((files.nr_kept(), files.nr_open()), (most, most));
    assert!(all[(NR - most) as usize..].iter().all(is_open));
    // What is used stays open whatever else is opened.
    files.begin_use(all[0]).unwrap();
    let fd = fd_of(&files, all[0]);
    for &file in &all {
        files.look(file).unwrap();
    }
    assert_eq!((fd_of(&files, all[0]), files.nr_open()), (fd, most + 1));
    files.end_use(all[0]);
    for &file in &all {
        files.unref(file);
    }
    assert_eq!(
        (files.nr_files(), files.nr_open(), files.nr_kept()),
        (0, 0, 0)
    );
    assert_eq!(files.paths.nr_pieces(), 0);
}

#[test]
fn a_file_whose_path_leads_elsewhere_has_vanished_until_another_path_finds_it() {
    in_both("vanished", |folder| {
        for replaced in [false, true] {
            let files = table();
            let path = folder.file("a", 1, PAGE);
            std::fs::hard_link(&path, folder.path("other")).unwrap();
            let file = open_used(&files, &path);
            files.end_use(file);
            std::fs::remove_file(&path).unwrap();
            if replaced {
                folder.file("a", 2, PAGE);
            }
            // Open it is there still.
            check(&files, file, 1, 0..1, PAGE as u64);
            while files.close_oldest() {}
            assert_eq!(files.nr_open(), 0);
            for _ in 0..2 {
                assert_eq!(files.begin_use(file), Err(FileError::Vanished));
            }
            assert_eq!(FileError::Vanished.errno(), Errno::ESTALE);
            let vanished = Stopped {
                done: 0,
                why: FileError::Vanished,
            };
            assert_eq!(read(&files, file, 0, &mut frames(1)), Err(vanished));
            assert_eq!(
                write(&files, file, 0, &filled(3, 0..1), 4096),
                Err(vanished)
            );
            let again = open(&files, &folder.path("other"), Mode::Write).unwrap();
            assert_eq!((again.file, again.is_new), (file, false));
            check(&files, file, 1, 0..1, PAGE as u64);
            while files.close_oldest() {}
            check(&files, file, 1, 0..1, PAGE as u64);
            // What could not be written is told to who looks.
            let user = ErrorCursor::default();
            let told = files.sync(file, &user);
            assert_eq!(told, Err(FileError::Failed(Errno::ESTALE)));
            files.sync(file, &user).unwrap();
            std::fs::remove_file(folder.path("other")).unwrap();
        }
    });
}

#[test]
fn a_path_that_has_become_a_pipe_is_not_opened_again() {
    in_both("pipe", |folder| {
        let files = table();
        let path = folder.file("a", 1, PAGE);
        let file = open(&files, &path, Mode::Read).unwrap().file;
        while files.close_oldest() {}
        std::fs::remove_file(&path).unwrap();
        let c_path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: the path is a string that ends with NUL.
        assert_eq!(unsafe { libc::mkfifo(c_path.as_ptr(), 0o600) }, 0);
        assert_eq!(files.begin_use(file), Err(FileError::Vanished));
    });
}

#[test]
fn what_was_written_is_synced_before_its_descriptor_is_closed() {
    in_both("synced", |folder| {
        let files = table();
        let path = folder.file("a", 1, PAGE);
        let file = open_used(&files, &path);
        let (user, late) = (ErrorCursor::default(), ErrorCursor::default());
        files.errors(file).begin(&user);
        write(&files, file, 0, &filled(2, 0..1), 4096).unwrap();
        files.end_use(file);
        let (plan, going) = wrong(1, 1, Fault::Fails(Errno::EIO));
        assert!(files.close_oldest());
        assert_eq!((plan.failed(), files.nr_open()), (1, 0));
        drop(going);
        assert_eq!(files.sync(file, &user), Err(FileError::Failed(Errno::EIO)));
        files.sync(file, &user).unwrap();
        assert_eq!(files.sync(file, &late), Err(FileError::Failed(Errno::EIO)));
        check(&files, file, 2, 0..1, 4096);
    });
}

#[test]
fn threads_that_open_use_and_close_files_read_what_they_hold() {
    const NR: u32 = 6;
    in_both("threads", |folder| {
        let files = table();
        let paths: Vec<PathBuf> = (0..NR)
            .map(|nr| folder.file(&format!("{nr}"), nr, 2 * PAGE + 100))
            .collect();
        let len = 2 * PAGE as u64 + 100;
        std::thread::scope(|scope| {
            for me in 0..4 {
                let (files, paths) = (&files, &paths);
                scope.spawn(move || {
                    for round in 0..60 {
                        let nr = (round * 5 + me) % NR;
                        let mode = if me % 2 == 0 { Mode::Read } else { Mode::Write };
                        let opened = open(files, &paths[nr as usize], mode).unwrap();
                        let file = opened.file;
                        files.begin_use(file).unwrap();
                        check(files, file, nr, 0..3, len);
                        if files.is_writable(file) {
                            write(files, file, 1, &filled(nr, 1..3), len).unwrap();
                        }
                        files.end_use(file);
                        files.close_oldest();
                        files.look(file).unwrap();
                        files.unref(file);
                    }
                });
            }
        });
        assert_eq!(
            (files.nr_files(), files.nr_open(), files.nr_kept()),
            (0, 0, 0)
        );
        assert_eq!(files.paths.nr_pieces(), 0);
        for (nr, path) in (0..).zip(&paths) {
            let file = open(&files, path, Mode::Read).unwrap().file;
            check(&files, file, nr, 0..3, len);
        }
    });
}
