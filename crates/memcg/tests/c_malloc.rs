//! The feature `c-malloc`: what C allocates in a Rust program is the entered group's.

// Under loom there is no allocator to test.
#![cfg(not(loom))]

use memcg::{Memcg, root};
use std::ffi::{CString, c_char, c_void};
use std::ptr::null_mut;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

fn group(name: &str) -> Memcg {
    root().create(name).unwrap()
}

/// A text of a length that no other test looks for.
fn long_text() -> CString {
    CString::new(vec![b'x'; 300_000]).unwrap()
}

#[test]
fn a_string_that_the_c_library_copies_is_charged_to_the_group_and_credited_by_c_s_free() {
    let (tenant, text) = (group("strdup"), long_text());
    // SAFETY: a text with its end.
    let copy = tenant.run(|| unsafe { libc::strdup(text.as_ptr()) });
    assert!(tenant.current() >= 300_000, "{}", tenant.current());
    // SAFETY: a block of the C library's, that nobody uses.
    unsafe { libc::free(copy.cast()) };
    assert_eq!(tenant.current(), 0);
}

#[test]
fn a_line_that_the_c_library_reads_is_charged_to_the_group() {
    let (tenant, text) = (group("getline"), long_text());
    // SAFETY: the text lives longer than the stream; the line's place is valid.
    unsafe {
        let length = text.as_bytes().len();
        let stream = libc::fmemopen(text.as_ptr() as *mut c_void, length, c"r".as_ptr());
        assert!(!stream.is_null());
        let (mut line, mut size): (*mut c_char, usize) = (null_mut(), 0);
        let read = tenant.run(|| libc::getline(&mut line, &mut size, stream));
        assert_eq!(read, length as isize);
        assert!(tenant.current() >= 300_000, "{}", tenant.current());
        libc::fclose(stream);
        libc::free(line.cast());
    }
    assert!(tenant.current() < 300_000);
}

unsafe extern "C" {
    fn pvalloc(bytes: usize) -> *mut c_void;
    fn valloc(bytes: usize) -> *mut c_void;
}

#[test]
fn every_function_of_the_family_charges_and_free_takes_what_it_gave() {
    let tenant = group("family");
    let blocks = tenant.run(|| {
        let mut aligned = null_mut();
        // SAFETY: sizes and alignments the functions take; each old block is given up to realloc.
        let blocks = unsafe {
            assert_eq!(libc::posix_memalign(&mut aligned, 4096, 10_000), 0);
            [
                libc::malloc(10_000),
                libc::calloc(100, 100),
                libc::realloc(libc::malloc(16), 10_000),
                libc::reallocarray(null_mut(), 100, 100),
                aligned,
                libc::aligned_alloc(64, 10_048),
                libc::memalign(256, 10_000),
                valloc(10_000),
                pvalloc(10_000),
            ]
        };
        let usable = |block: &*mut c_void| {
            // SAFETY: a live block.
            unsafe { libc::malloc_usable_size(*block) as u64 }
        };
        assert_eq!(tenant.current(), blocks.iter().map(usable).sum::<u64>());
        blocks
    });
    for (block, align) in blocks
        .iter()
        .zip([16, 16, 16, 16, 4096, 64, 256, 4096, 4096])
    {
        assert_eq!(*block as usize % align, 0);
    }
    for block in blocks {
        assert!(!block.is_null());
        // SAFETY: a live block that nobody uses.
        unsafe { libc::free(block) };
    }
    assert_eq!(tenant.current(), 0);
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

#[test]
fn what_cannot_be_is_enomem_and_a_success_leaves_errno_alone() {
    // SAFETY: sizes only; the block that is had is freed; errno is the thread's.
    unsafe {
        let too_large = isize::MAX as usize + 1;
        for refused in [
            libc::malloc(too_large),
            libc::calloc(usize::MAX / 2, 3),
            libc::reallocarray(null_mut(), usize::MAX / 2, 3),
            libc::memalign(64, too_large),
        ] {
            assert!(refused.is_null());
            assert_eq!(errno(), libc::ENOMEM);
        }
        let mut place = null_mut();
        assert_eq!(libc::posix_memalign(&mut place, 24, 8), libc::EINVAL);
        assert_eq!(
            libc::posix_memalign(&mut place, 64, too_large),
            libc::ENOMEM
        );
        *libc::__errno_location() = 7;
        let block = libc::malloc(1 << 20);
        libc::free(block);
        assert_eq!(errno(), 7);
        assert!(libc::realloc(libc::malloc(10), 0).is_null());
    }
}

#[test]
fn a_group_over_its_max_is_forced_as_for_rust() {
    let tenant = group("forced");
    tenant.set_max(memcg::Limit::bytes(1 << 20)).unwrap();
    // SAFETY: a size; the block is freed.
    unsafe {
        let block = tenant.run(|| libc::malloc((1 << 20) + 1));
        assert!(!block.is_null());
        assert!(tenant.current() > 1 << 20);
        libc::free(block);
    }
    assert_eq!(tenant.current(), 0);
}

#[test]
fn a_fork_s_child_allocates() {
    // SAFETY: the child calls what is below and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: a size; the block is freed; the process ends at once.
        unsafe {
            libc::free(libc::malloc(100_000));
            libc::_exit(0);
        }
    }
    let mut status = 0;
    // SAFETY: our child.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
}
