//! A real server on the process's engine, and clients of every kind.

use super::{serve_in_thread, unlink};
use proptest::prelude::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

fn socket() -> &'static PathBuf {
    static SOCKET: OnceLock<PathBuf> = OnceLock::new();
    SOCKET.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("memcg-test-{}", std::process::id()));
        // SAFETY: no other test of this crate reads or writes the environment.
        unsafe { std::env::set_var("MEMCG_DIR", &dir) };
        serve_in_thread().unwrap();
        dir.join(format!("{}.sock", std::process::id()))
    })
}

/// The tests share one server with 32 places: one test at a time.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn connect() -> UnixStream {
    let stream = UnixStream::connect(socket()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

fn ask(request: &str) -> Result<String, String> {
    let mut stream = BufReader::new(connect());
    stream
        .get_mut()
        .write_all(format!("{request}\n").as_bytes())
        .unwrap();
    let mut head = String::new();
    stream.read_line(&mut head).unwrap();
    match head.strip_prefix("ok ") {
        Some(length) => {
            let mut body = vec![0; length.trim().parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            Ok(String::from_utf8(body).unwrap())
        }
        None => Err(head.trim().to_string()),
    }
}

#[test]
fn every_request_is_served() {
    let _alone = alone();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(socket()), mode(socket().parent().unwrap())),
        (0o600, 0o700)
    );
    assert!(
        ask("hello")
            .unwrap()
            .starts_with(&format!("memcg 1 pid={} comm=", std::process::id()))
    );
    ask("mkdir /wire").unwrap();
    ask("mkdir /wire/a%20b").unwrap();
    assert!(
        ask("mkdir /wire")
            .unwrap_err()
            .starts_with("err EEXIST /wire: ")
    );
    assert!(
        ask("ls /wire")
            .unwrap()
            .starts_with("d a%20b\nf cgroup.controllers r\n")
    );
    ask("set /wire/memory.max 1M").unwrap();
    assert_eq!(ask("get /wire/memory.max").unwrap(), "1048576\n");
    assert!(
        ask("set /wire/memory.max 1X")
            .unwrap_err()
            .starts_with("err EINVAL /wire/memory.max: ")
    );
    assert!(ask("owners /wire").unwrap().starts_with("ORIGIN\t"));
    assert!(ask("move 1 /wire").unwrap_err().starts_with("err ESRCH "));
    let snapshot = ask("snapshot").unwrap();
    let columns: Vec<&str> = snapshot.lines().nth(1).unwrap().split('\t').collect();
    let row = snapshot
        .lines()
        .find(|row| row.starts_with("/wire\t"))
        .unwrap();
    assert_eq!((columns.len(), row.split('\t').count()), (21, 21));
    assert_eq!(
        row.split('\t')
            .nth(columns.iter().position(|c| *c == "max").unwrap()),
        Some("1048576")
    );
    assert!(snapshot.contains("\n/wire/a%20b\t"));
    ask("rmdir /wire/a%20b").unwrap();
    ask("rmdir /wire").unwrap();
    assert!(
        ask("get /wire/memory.max")
            .unwrap_err()
            .starts_with("err ENOENT ")
    );
}

#[test]
fn several_requests_may_come_at_once_and_in_pieces() {
    let _alone = alone();
    let mut stream = BufReader::new(connect());
    stream
        .get_mut()
        .write_all(b"get /memory.max\nget /cgroup.contr")
        .unwrap();
    std::thread::sleep(Duration::from_millis(50));
    stream.get_mut().write_all(b"ollers\nhello\n").unwrap();
    let mut lines = stream.lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("err ENOENT"));
    assert_eq!(
        (lines.next().unwrap(), lines.next().unwrap()),
        ("ok 7".into(), "memory".into())
    );
    assert!(lines.next().unwrap().starts_with("ok "));
}

#[test]
fn a_line_without_end_is_cut_off() {
    let _alone = alone();
    let mut stream = connect();
    let mut sent = 0usize;
    // A gigabyte is offered; the server closes long before.
    while sent < 1 << 30 {
        match stream.write(&[b'x'; 65_536]) {
            Ok(n) => sent += n,
            Err(_) => break,
        }
    }
    assert!(sent < 1 << 22, "{sent}");
    ask("hello").unwrap();
}

#[test]
fn silence_and_deafness_harm_nobody_else() {
    let _alone = alone();
    let silent: Vec<_> = (0..8).map(|_| connect()).collect();
    let mut half = connect();
    half.write_all(b"get /memory.cur").unwrap();
    let mut deaf = connect();
    deaf.set_nonblocking(true).unwrap();
    while deaf.write(b"snapshot\n").is_ok() {}
    let start = Instant::now();
    for _ in 0..20 {
        ask("hello").unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    drop((silent, half, deaf));
}

#[test]
fn a_crowd_is_turned_away_with_a_word() {
    let _alone = alone();
    let mut crowd: Vec<_> = (0..60).map(|_| connect()).collect();
    let mut refused = 0;
    for stream in &mut crowd {
        let mut line = String::new();
        if stream.write_all(b"hello\n").is_ok()
            && BufReader::new(stream).read_line(&mut line).is_ok()
        {
            refused += u32::from(line.starts_with("err EAGAIN"));
        } else {
            refused += 1;
        }
    }
    assert!(refused >= 28, "{refused}");
    drop(crowd);
    // The places are free again once the server has seen the ends.
    let start = Instant::now();
    while ask("hello").is_err() {
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_comes_the_next_client_is_served(bytes: Vec<u8>) {
        let _alone = alone();
        let mut stream = connect();
        let _ = stream.write_all(&bytes);
        let _ = stream.write_all(b"\n");
        drop(stream);
        let mut tries = 0;
        while let Err(why) = ask("hello") {
            tries += 1;
            prop_assert!(why.starts_with("err EAGAIN") && tries < 1_000);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_fork_s_child_leaves_the_parent_s_socket_alone() {
    let _alone = alone();
    socket();
    // SAFETY: the child does a little and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        unlink();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: waits for the child just made.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert!(socket().exists());
}
