//! Names and files: which are one, which are another, which are refused.
//!
//! Invariants, Depends on, Never: as for the tests of this room.

use super::*;

#[test]
fn all_names_of_a_file_are_one_record_and_one_descriptor() {
    in_both("names", |folder| {
        let files = table();
        let path = folder.file("a", 1, PAGE);
        std::fs::hard_link(&path, folder.path("hard")).unwrap();
        std::os::unix::fs::symlink("hard", folder.path("soft")).unwrap();
        std::fs::create_dir(folder.path("sub")).unwrap();
        let first = open(&files, &path, Mode::Write).unwrap();
        assert!(first.is_new);
        files
            .region(first.file)
            .store(Some(RegionId::new(7)), Relaxed);
        for name in ["hard", "soft", "sub/../a", "./a"] {
            let again = open(&files, &folder.path(name), Mode::Read).unwrap();
            assert_eq!((again.file, again.is_new), (first.file, false), "{name}");
            assert!(files.region(again.file).is(Some(RegionId::new(7)), Relaxed));
        }
        let other = open(&files, &folder.file("b", 2, PAGE), Mode::Write).unwrap();
        assert_ne!(other.file, first.file);
        assert!(files.region(other.file).is(None, Relaxed));
        assert_eq!(
            (files.nr_files(), files.nr_open(), files.nr_kept()),
            (2, 2, 2)
        );
        for _ in 0..5 {
            assert_eq!(files.nr_files(), 2);
            files.unref(first.file);
        }
        files.unref(other.file);
        assert_eq!(
            (files.nr_files(), files.nr_open(), files.nr_kept()),
            (0, 0, 0)
        );
        assert_eq!(files.paths.nr_pieces(), 0);
    });
}

#[test]
fn a_relative_path_is_one_from_where_it_was_opened() {
    let files = table();
    let folder = folder("relative");
    let path = folder.file("a", 1, PAGE);
    let here = std::env::current_dir().unwrap();
    let up = "../".repeat(here.components().count() - 1);
    let relative = format!("{up}{}", path.strip_prefix("/").unwrap().display());
    let one = files.open(relative.as_bytes(), Mode::Read).unwrap();
    assert_eq!(open(&files, &path, Mode::Read).unwrap().file, one.file);
    files.with_path(one.file, |kept| {
        assert_eq!(kept.to_bytes(), here.join(&relative).as_os_str().as_bytes());
    });
}

#[test]
fn a_file_that_took_the_place_of_another_is_another() {
    in_both("replaced", |folder| {
        let files = table();
        let path = folder.file("a", 1, 2 * PAGE);
        let old = open_used(&files, &path);
        folder.file("new", 2, 2 * PAGE);
        std::fs::rename(folder.path("new"), &path).unwrap();
        let new = open_used(&files, &path);
        assert_ne!(old, new);
        check(&files, old, 1, 0..2, 2 * PAGE as u64);
        check(&files, new, 2, 0..2, 2 * PAGE as u64);
        // The old one has no name any more, and is there for who has it open.
        assert_eq!(files.look(old).unwrap().nr_names, 0);
        write(&files, old, 0, &filled(3, 0..1), PAGE as u64).unwrap();
        check(&files, old, 3, 0..1, 2 * PAGE as u64);
        check(&files, new, 2, 0..2, 2 * PAGE as u64);
    });
}

#[test]
fn a_file_that_got_the_inode_of_another_is_another() {
    in_both("inode", |folder| {
        let files = table();
        let path = folder.file("a", 1, PAGE);
        let old = open(&files, &path, Mode::Read).unwrap().file;
        while files.close_oldest() {}
        std::fs::remove_file(&path).unwrap();
        // ext4 gives out the number at once.
        tick();
        folder.file("a", 2, PAGE);
        assert_eq!(files.begin_use(old), Err(FileError::Vanished));
        let new = open(&files, &path, Mode::Read).unwrap();
        assert!(new.is_new && new.file != old);
        check(&files, new.file, 2, 0..1, PAGE as u64);
    });
}

#[test]
fn what_is_no_file_is_refused_and_not_opened() {
    in_both("kinds", |folder| {
        let files = table();
        let fifo = folder.path("fifo");
        let c_fifo = std::ffi::CString::new(fifo.as_os_str().as_bytes()).unwrap();
        // SAFETY: the path is a string that ends with NUL.
        assert_eq!(unsafe { libc::mkfifo(c_fifo.as_ptr(), 0o600) }, 0);
        let _socket = std::os::unix::net::UnixListener::bind(folder.path("s")).unwrap();
        for mode in [Mode::Read, Mode::Write] {
            let refused = |path: &StdPath| open(&files, path, mode).unwrap_err();
            assert_eq!(refused(&folder.0), OpenError::NotAFile(Type::Directory));
            assert_eq!(refused(&folder.0).errno(), Errno::EISDIR);
            for path in [&fifo, &folder.path("s"), &PathBuf::from("/dev/null")] {
                assert_eq!(refused(path), OpenError::NotAFile(Type::Other));
                assert_eq!(refused(path).errno(), Errno::EINVAL);
            }
            let gone = OpenError::Refused(Errno::ENOENT);
            assert_eq!(refused(&folder.path("nothing")), gone);
            assert_eq!(files.open(b"", mode), Err(gone));
            assert_eq!(files.open(&[b'/'; 4096], mode), Err(OpenError::PathTooLong));
        }
        std::os::unix::fs::symlink("loop", folder.path("loop")).unwrap();
        let looping = open(&files, &folder.path("loop"), Mode::Read).unwrap_err();
        assert_eq!(looping, OpenError::Refused(Errno::ELOOP));
        assert_eq!((files.nr_files(), files.paths.nr_pieces()), (0, 0));
    });
}

#[test]
fn what_is_open_to_read_is_not_written_and_is_opened_again_to_write() {
    in_both("read-only", |folder| {
        let files = table();
        let path = folder.file("a", 1, 2 * PAGE);
        let file = open(&files, &path, Mode::Read).unwrap().file;
        files.begin_use(file).unwrap();
        assert!(!files.is_writable(file));
        let refused = write(&files, file, 0, &filled(2, 0..1), 8192).unwrap_err();
        assert_eq!(refused.why, FileError::NotWritable);
        assert_eq!(refused.why.errno(), Errno::EACCES);
        assert_eq!(files.set_len(file, 0), Err(FileError::NotWritable));
        assert!(!files.errors(file).has_news(&ErrorCursor::default()));
        check(&files, file, 1, 0..2, 8192);
        let (fd, is_direct) = (fd_of(&files, file), files.is_direct(file));
        // While it is used: the number stays.
        assert_eq!(open(&files, &path, Mode::Write).unwrap().file, file);
        assert!(files.is_writable(file));
        assert_eq!((fd_of(&files, file), files.nr_open()), (fd, 1));
        assert_eq!(files.is_direct(file), is_direct);
        write(&files, file, 0, &filled(2, 0..1), 8192).unwrap();
        check(&files, file, 2, 0..1, 8192);
        check(&files, file, 1, 1..2, 8192);
    });
}

#[test]
fn what_may_not_be_written_is_opened_to_read() {
    let files = table();
    // A program that runs is not opened to write by anybody (ETXTBSY).
    let opened = open(&files, &std::env::current_exe().unwrap(), Mode::Write).unwrap();
    assert!(!files.is_writable(opened.file));
    let mut got = frames(1);
    read(&files, opened.file, 0, &mut got).unwrap();
    assert_eq!(&got[0].0[..4], b"\x7fELF");
}
