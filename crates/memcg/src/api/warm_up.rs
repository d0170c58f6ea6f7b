//! What the standard library and the C library make once and keep, made beforehand.
//!
//! Invariants: nothing here is charged to anybody, and nothing changes what the program does later.
//! Depends on: `scope`, the standard library, the C library.
//! Never: the network, a file of the program's, output, or a change of the locale.

use super::no_account;
use std::cell::RefCell;
use std::io;
use std::net::ToSocketAddrs;

/// Makes what the standard library and the C library make at first use and keep for good, accounted
/// to nobody: the symbol tables for backtraces, the unwinder's caches, the buffers of the standard
/// streams, a thread's handle and its list of destructors, the texts of errors, the locale's and
/// the time zone's tables, the configuration of name services.
///
/// Without it the first who needs one of them pays: the first backtrace of a program with debug
/// information charged 31.9 MB to the tenant whose request had failed, until the end of the
/// process. Call it at the start of `main`, before there are other threads. What is made for a
/// thread (its handle, its destructors) is made for the calling one; what a backtrace needs beside
/// the symbol tables, for functions that are not on the stack here, still comes at first use.
///
/// Cost: some 10 to 100 ms and as many megabytes as the program's symbols take, once; some files
/// under `/etc` and `/usr` are read.
pub fn warm_up() {
    let _free = no_account();
    streams();
    this_thread();
    panics();
    c_library();
    drop(std::backtrace::Backtrace::force_capture().to_string());
}

/// The buffers of the standard streams.
fn streams() {
    drop(io::stdin().lock());
    drop(io::stdout().lock());
    drop(io::stderr().lock());
}

/// The calling thread's handle, and the list its destructors are in.
fn this_thread() {
    thread_local! {
        static WITH_DESTRUCTOR: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    drop(std::thread::current());
    WITH_DESTRUCTOR.with_borrow(|_| ());
}

/// A panic on its way, without its message.
fn panics() {
    if cfg!(panic = "unwind") {
        let unwound = std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(())));
        drop(unwound);
    }
}

/// Error texts, the locale, the time zone, name services.
fn c_library() {
    drop(io::Error::from_raw_os_error(libc::ENOMEM).to_string());
    // SAFETY: a locale is made and freed; the one in use stays.
    unsafe {
        let locale = libc::newlocale(libc::LC_ALL_MASK, c"".as_ptr(), core::ptr::null_mut());
        if !locale.is_null() {
            libc::freelocale(locale);
        }
    }
    let mut parts = core::mem::MaybeUninit::<libc::tm>::uninit();
    // SAFETY: a number, and a place that is written and not read.
    unsafe { libc::localtime_r(&0, parts.as_mut_ptr()) };
    // An address in digits asks no name server.
    drop(("127.0.0.1", 0).to_socket_addrs());
    let mut found: *mut libc::addrinfo = core::ptr::null_mut();
    // SAFETY: two texts, no hints, a valid place. A service by name is looked up in files alone.
    let answer = unsafe {
        libc::getaddrinfo(
            c"127.0.0.1".as_ptr(),
            c"http".as_ptr(),
            core::ptr::null(),
            &mut found,
        )
    };
    if answer == 0 {
        // SAFETY: the list that was just made.
        unsafe { libc::freeaddrinfo(found) };
    }
}
