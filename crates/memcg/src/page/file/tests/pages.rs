//! Pages that are read and written: whole, in pieces, at the end, through the cache and past it.
//!
//! Invariants, Depends on, Never: as for the tests of this room.

use super::*;

#[test]
fn pages_are_read_as_they_were_written_in_runs_of_scattered_frames() {
    in_both("runs", |folder| {
        let files = table();
        let path = folder.file("a", 1, 64 * PAGE);
        let file = open_used(&files, &path);
        let says = crate::os::file::stat_path(
            &std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap(),
        );
        assert_eq!(files.is_direct(file), says.unwrap().direct.is_some());
        let len = 64 * PAGE as u64;
        check(&files, file, 1, 0..64, len);
        check(&files, file, 1, 63..64, len);
        check(&files, file, 1, 60..70, len);
        write(&files, file, 10, &filled(2, 10..20), len).unwrap();
        check(&files, file, 2, 10..20, len);
        check(&files, file, 1, 0..10, len);
        check(&files, file, 1, 20..64, len);
        files.sync(file, &ErrorCursor::default()).unwrap();
        let back = std::fs::read(&path).unwrap();
        assert!(back[10 * PAGE..11 * PAGE] == content(2, 10));
        // More pieces than the kernel takes at once.
        files.set_len(file, 1500 * PAGE as u64).unwrap();
        write(&files, file, 0, &filled(3, 0..1500), 1500 * PAGE as u64).unwrap();
        check(&files, file, 3, 0..1500, 1500 * PAGE as u64);
    });
}

#[test]
fn one_piece_may_be_many_pages() {
    in_both("piece", |folder| {
        let files = table();
        let file = open_used(&files, &folder.file("a", 1, 5 * PAGE + 77));
        let mut memory = frames(8);
        // SAFETY: frames are arrays of bytes that lie one behind the other, and are ours.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast::<u8>(), 8 * PAGE) };
        let (one, two) = bytes.split_at_mut(3 * PAGE);
        let mut pieces = [IoSliceMut::new(one), IoSliceMut::new(two)];
        files.read(file, 0, &mut pieces).unwrap();
        assert!(bytes[..PAGE] == content(1, 0));
        assert!(bytes[5 * PAGE..5 * PAGE + 77] == content(1, 5)[..77]);
        assert!(bytes[5 * PAGE + 77..].iter().all(|&byte| byte == 0));
        bytes.fill(7);
        let pieces = [IoSlice::new(&bytes[..PAGE]), IoSlice::new(&bytes[PAGE..])];
        let end = (5 * PAGE + 77) as u64;
        files.write(file, 0, &pieces, end).unwrap();
        files.sync(file, &ErrorCursor::default()).unwrap();
        assert_eq!(
            std::fs::read(folder.path("a")).unwrap(),
            vec![7; 5 * PAGE + 77]
        );
    });
}

#[test]
fn a_last_page_that_is_not_whole_is_zeros_beyond_the_end_and_stays_its_length() {
    in_both("tail", |folder| {
        for (name, rest) in [("1", 1), ("512", 512), ("3000", 3000), ("4095", 4095)] {
            let files = table();
            let len = 3 * PAGE + rest;
            let path = folder.file(name, 1, len);
            let file = open_used(&files, &path);
            let is_direct = files.is_direct(file);
            check(&files, file, 1, 0..6, len as u64);
            for of in 2..5 {
                write(&files, file, 1, &filled(of, 1..5), len as u64).unwrap();
                check(&files, file, of, 1..5, len as u64);
                assert_eq!(std::fs::metadata(&path).unwrap().len(), len as u64);
                assert_eq!(files.is_direct(file), is_direct);
            }
            // The region may be said to be shorter than the file: the rest is left alone.
            write(&files, file, 0, &filled(9, 0..4), PAGE as u64 + 10).unwrap();
            files.sync(file, &ErrorCursor::default()).unwrap();
            let back = std::fs::read(&path).unwrap();
            assert!(back[PAGE..PAGE + 10] == content(9, 1)[..10]);
            assert!(back[PAGE + 10..2 * PAGE] == content(4, 1)[10..]);
            assert!(back[3 * PAGE..] == content(4, 3)[..rest]);
        }
    });
}

#[test]
fn an_empty_file_is_zeros_and_nothing_is_written_to_it() {
    in_both("empty", |folder| {
        let files = table();
        let path = folder.file("a", 1, 0);
        let file = open_used(&files, &path);
        check(&files, file, 1, 0..3, 0);
        write(&files, file, 0, &filled(1, 0..3), 0).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        let cut = write(&files, file, 0, &filled(1, 0..3), 5000).unwrap_err();
        assert_eq!((cut.done, cut.why), (0, FileError::Truncated { size: 0 }));
        files.set_len(file, 5000).unwrap();
        assert_eq!(files.size(file), 5000);
        write(&files, file, 0, &filled(1, 0..3), 5000).unwrap();
        check(&files, file, 1, 0..3, 5000);
        files.set_len(file, 100).unwrap();
        check(&files, file, 1, 0..3, 100);
        files.set_len(file, 5000).unwrap();
        let mut got = frames(1);
        read(&files, file, 0, &mut got).unwrap();
        assert!(got[0].0[..100] == content(1, 0)[..100]);
        assert!(got[0].0[100..].iter().all(|&byte| byte == 0));
    });
}

#[test]
fn offsets_beyond_four_gib_are_where_they_are() {
    in_both("sparse", |folder| {
        let files = table();
        let path = folder.file("a", 1, 0);
        let file = open_used(&files, &path);
        let len = (5 << 30) + 17;
        files.set_len(file, len).unwrap();
        for page in [0, 1 << 20, (1 << 20) + 1, 5 << 18] {
            write(&files, file, page, &filled(1, page..page + 1), len).unwrap();
        }
        for page in [0, 1 << 20, (1 << 20) + 1, 5 << 18] {
            check(&files, file, 1, page..page + 1, len);
        }
        let mut got = frames(2);
        read(&files, file, 7, &mut got).unwrap();
        assert!(got.iter().all(|frame| frame.0 == [0; PAGE]));
    });
}

#[test]
fn what_are_no_pages_is_refused() {
    let folder = folder("no-pages");
    let files = table();
    let file = open_used(&files, &folder.file("a", 1, 4 * PAGE));
    let mut memory = frames(2);
    let invalid = Stopped {
        done: 0,
        why: FileError::Failed(Errno::EINVAL),
    };
    let mut short = [IoSliceMut::new(&mut memory[0].0[..100])];
    assert_eq!(files.read(file, 0, &mut short), Err(invalid));
    let mut whole = [IoSliceMut::new(&mut memory[0].0)];
    assert_eq!(files.read(file, 512, &mut whole), Err(invalid));
    let short = [IoSlice::new(&memory[0].0[512..])];
    assert_eq!(files.write(file, 0, &short, 1 << 20), Err(invalid));
    assert!(!files.errors(file).has_news(&ErrorCursor::default()));
}

#[test]
fn a_sync_beside_a_write_leaves_what_is_written_to_the_next_sync() {
    let folder = folder("beside");
    let files = table();
    let file = open_used(&files, &folder.file("a", 1, PAGE));
    let user = ErrorCursor::default();
    let using = files.hold(file).unwrap();
    let writing = using.write_begins().unwrap();
    files.sync(file, &user).unwrap();
    drop(writing);
    // The next one asks the device, and is told.
    let (plan, _going) = wrong(1, 1, Fault::Fails(Errno::EIO));
    assert!(files.sync(file, &user).is_err());
    assert_eq!(plan.failed(), 1);
    assert!(files.sync(file, &user).is_ok());
    assert_eq!(plan.calls(), 2);
    // Nothing was written since.
    assert!(files.sync(file, &user).is_ok());
    assert_eq!(plan.calls(), 2);
}

#[test]
fn who_syncs_beside_a_sync_waits_for_it() {
    let folder = folder("two-syncs");
    let files = table();
    let file = open_used(&files, &folder.file("a", 1, PAGE));
    let record = files.records.get(file);
    let under_way = record.syncing.lock(Rank::Files);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| files.sync(file, &ErrorCursor::default()));
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert!(!other.is_finished());
        drop(under_way);
        assert!(other.join().unwrap().is_ok());
    });
}

/// Pages of a file that the kernel caches; `None` where it does not tell.
fn nr_cached(path: &StdPath) -> Option<u64> {
    let file = std::fs::File::open(path).unwrap();
    let range = [0u64, 0];
    let mut got = [0u64; 5];
    // SAFETY: the call reads the range and writes five numbers.
    let answer = unsafe {
        libc::syscall(
            451, // cachestat
            std::os::fd::AsRawFd::as_raw_fd(&file),
            range.as_ptr(),
            got.as_mut_ptr(),
            0,
        )
    };
    (answer == 0).then_some(got[0])
}

/// Drops what the kernel caches of a file that the test wrote. `false`: this kernel does not tell
/// what it caches, or the file system keeps it in memory alone.
fn can_be_dropped(path: &StdPath) -> bool {
    use crate::os::file::{Advice, advise};
    let file = std::fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    advise(std::os::fd::AsFd::as_fd(&file), 0, 0, Advice::DontNeed);
    nr_cached(path) == Some(0)
}

#[test]
fn what_the_kernel_caches_is_given_back() {
    const NR: u64 = 2048 + 100;
    let folder = folder("given-back");
    let files = table();
    let path = folder.file("a", 1, NR as usize * PAGE);
    let file = open_used(&files, &path);
    let len = NR * PAGE as u64;
    if !can_be_dropped(&path) {
        return;
    }
    make_cached(&files, file);
    for page in 0..NR {
        check(&files, file, 1, page..page + 1, len);
    }
    assert!(nr_cached(&path).unwrap() <= 256);
    files.give_back(file).unwrap();
    assert_eq!(nr_cached(&path), Some(0));
    for page in (0..NR).step_by(16) {
        let upto = (page + 16).min(NR);
        write(&files, file, page, &filled(2, page..upto), len).unwrap();
    }
    assert!(nr_cached(&path).unwrap() <= 2048);
    files.sync(file, &ErrorCursor::default()).unwrap();
    assert_eq!(nr_cached(&path), Some(0));
    check(&files, file, 2, 0..100, len);
    assert_eq!(nr_cached(&path), Some(100));
    files.end_use(file);
    assert_eq!(nr_cached(&path), Some(0));
}

#[test]
fn direct_reads_and_writes_leave_nothing_in_the_kernel_s_cache() {
    let folder = folder("direct");
    let files = table();
    let len = 512 * PAGE as u64 + 5;
    let path = folder.file("a", 1, len as usize);
    let file = open_used(&files, &path);
    if !files.is_direct(file) {
        return;
    }
    if !can_be_dropped(&path) {
        return;
    }
    check(&files, file, 1, 0..513, len);
    write(&files, file, 0, &filled(2, 0..513), len).unwrap();
    assert!(nr_cached(&path).unwrap() <= 1);
    files.sync(file, &ErrorCursor::default()).unwrap();
    assert_eq!(nr_cached(&path), Some(0));
    check(&files, file, 2, 0..513, len);
}
