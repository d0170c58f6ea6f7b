//! The promise of `serve_in_thread`: a program that calls it once, or twice, is seen.

#![cfg(not(loom))]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

#[test]
fn a_program_that_serves_is_seen_and_a_second_call_does_nothing() {
    let folder = std::env::temp_dir().join(format!("memcg-serve-{}", std::process::id()));
    // SAFETY: this is the only test of the program, and no other thread looks at the environment.
    unsafe { std::env::set_var("MEMCG_DIR", &folder) };
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    memcg::root().create("seen").unwrap();
    memcg::serve_in_thread().unwrap();
    let served = threads();
    memcg::serve_in_thread().unwrap();
    assert_eq!(threads(), served);
    let socket = folder.join(format!("{}.sock", std::process::id()));
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(b"get /seen/memory.max\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "ok 4");
    assert_eq!(lines.next().unwrap(), "max");
    std::fs::remove_dir_all(folder).unwrap();
}
