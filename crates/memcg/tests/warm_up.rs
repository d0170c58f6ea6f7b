//! What the libraries make once is nobody's after `warm_up`. One test, alone in its process: what
//! is made once cannot be made again.

// Under loom there is no allocator to test.
#![cfg(not(loom))]

use std::backtrace::Backtrace;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

#[test]
fn who_comes_first_does_not_pay_for_what_is_made_once() {
    memcg::warm_up();
    let tenant = memcg::root().create("tenant").unwrap();
    tenant.run(|| {
        drop(Backtrace::force_capture().to_string());
        print!("");
        eprint!("");
        drop(std::io::Error::from_raw_os_error(libc::ENOENT).to_string());
        drop(std::panic::catch_unwind(|| {
            std::panic::resume_unwind(Box::new(1))
        }));
    });
    // The line tables of functions that were not on the stack before.
    assert!(tenant.current() < 2 << 20, "{}", tenant.current());
    assert!(tenant.peak() > 0);
}
