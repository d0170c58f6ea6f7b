//! A real server on the process's engine, and clients of every kind.
//!
//! Invariants: tests that fork, or change limits of the process, run one at a time.
//! Depends on: the socket that the first test opens.
//! Never: leaves a child of a fork running.

use super::connection::Connection;
use super::descriptor::{HIGH_FD, Kept, listed};
use super::ending::Making;
use super::request_line::Reply;
use super::{after_fork, end, serve_in_thread};
use proptest::prelude::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

fn socket() -> &'static PathBuf {
    static SOCKET: OnceLock<PathBuf> = OnceLock::new();
    SOCKET.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("memcg-test-{}", std::process::id()));
        // What an earlier process of this number left there is not ours.
        let _ = std::fs::remove_dir_all(&dir);
        // A static is never dropped.
        // SAFETY: `remove_folder` takes and gives nothing, does not unwind, and is part of this
        // program until it exits.
        assert_eq!(unsafe { libc::atexit(remove_folder) }, 0);
        // SAFETY: what else of this crate's tests reads or writes the environment does so by std,
        // which locks it.
        unsafe { std::env::set_var("MEMCG_DIR", &dir) };
        serve_in_thread().unwrap();
        dir.join(format!("{}.sock", std::process::id()))
    })
}

/// Removes the server's folder when the process ends. Own processes of a test end by themselves and
/// do so, too.
extern "C" fn remove_folder() {
    if let Some(folder) = socket().parent() {
        let _ = std::fs::remove_dir_all(folder);
    }
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
    ask_on(&connect(), request)
}

fn ask_on(stream: &UnixStream, request: &str) -> Result<String, String> {
    let mut stream = BufReader::new(stream);
    // Who is turned away may find the other end closed, and why in what came before.
    let written = stream
        .get_mut()
        .write_all(format!("{request}\n").as_bytes());
    if let Err(e) = written {
        assert_eq!(e.kind(), std::io::ErrorKind::BrokenPipe);
    }
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
    assert_eq!((columns.len(), row.split('\t').count()), (22, 22));
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
fn a_connection_that_writes_memory_peak_starts_it_again_for_itself() {
    let _alone = alone();
    let group = crate::api::root().create("peaks-of-connections").unwrap();
    drop(group.try_reserve(1 << 20).unwrap());
    let (one, other) = (connect(), connect());
    let get = |stream| ask_on(stream, "get /peaks-of-connections/memory.peak").unwrap();
    assert_eq!(
        (get(&one), get(&other)),
        ("1048576\n".into(), "1048576\n".into())
    );
    ask_on(&one, "set /peaks-of-connections/memory.peak reset").unwrap();
    drop(group.try_reserve(64 << 10).unwrap());
    assert_eq!(
        (get(&one), get(&other)),
        ("65536\n".into(), "1048576\n".into())
    );
    assert_eq!(group.peak(), 1 << 20);
    // The watch goes with the connection.
    let watches = || crate::engine::engine().tree.watches.in_use();
    assert!(watches() > 0);
    drop(one);
    let start = Instant::now();
    while watches() > 0 {
        assert!(start.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(5));
    }
    group.remove().unwrap();
}

#[test]
fn several_requests_may_come_at_once_and_in_pieces() {
    let _alone = alone();
    let mut stream = BufReader::new(connect());
    stream
        .get_mut()
        .write_all(b"get /memory.maxx\nget /cgroup.contr")
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
    // SAFETY: the child calls only what the crate allows in a fork's child, and ends by `_exit`,
    // without running destructors of its parent's threads.
    let child = unsafe { libc::fork() };
    if child == 0 {
        end();
        // SAFETY: `_exit` ends the child at once and runs no code of this program.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: `child` is the process just made, for which nobody else waits, and `status` is a
    // place of this frame.
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert!(socket().exists());
}

#[test]
fn one_line_of_a_client_is_served_in_a_round() {
    let (server, mut client) = UnixStream::pair().unwrap();
    server.set_nonblocking(true).unwrap();
    let mut connection = Connection::new(Kept::new(server).unwrap());
    client.write_all(b"1\n2\n3").unwrap();
    let mut served = Vec::new();
    for left in [true, false, false] {
        assert!(connection.step(&mut |line| {
            served.push(line.text.to_vec());
            Reply {
                text: b"ok 0\n".to_vec(),
                close: false,
            }
        }));
        assert_eq!(connection.is_ready(), left);
    }
    assert_eq!(served, [b"1", b"2"]);
}

#[test]
fn lines_that_wait_are_served_without_waiting_for_more() {
    let _alone = alone();
    let mut stream = connect();
    let start = Instant::now();
    stream
        .write_all(&b"get /cgroup.type\n".repeat(400))
        .unwrap();
    let answers = BufReader::new(stream).lines().take(400);
    assert!(
        answers
            .into_iter()
            .all(|line| line.unwrap().starts_with("err ENOENT"))
    );
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// Runs `body` in a process that has nothing but this test, which is called `name`.
fn in_own_process(name: &str, body: impl FnOnce()) {
    const MARK: &str = "MEMCG_TEST_OWN_PROCESS";
    if std::env::var_os(MARK).is_some() {
        return body();
    }
    static NR: AtomicU32 = AtomicU32::new(0);
    let nr = NR.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("memcg-own-{}-{nr}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let out = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("control::tests::{name}"), "--nocapture"])
        .env(MARK, "1")
        .env("TMPDIR", &folder)
        .output()
        .unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    let text = String::from_utf8_lossy(&out.stderr) + String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && text.contains("1 passed"), "{text}");
}

/// A file of the program's, put where the server has descriptors.
fn put_a_file_in_place_of(numbers: &[RawFd]) -> std::fs::File {
    let path = socket().with_extension("file");
    let file = std::fs::File::create_new(path).unwrap();
    for &number in numbers {
        // SAFETY: dup2 touches no memory. It replaces descriptors of the server, as a careless
        // program does; the test itself owns none of these numbers.
        assert!(unsafe { libc::dup2(file.as_raw_fd(), number) } >= 0);
    }
    file
}

fn is_file(number: RawFd, file: &std::fs::File) -> bool {
    // SAFETY: dup touches no memory and leaves `number` as it is; only the copy is owned and closed
    // here.
    let copy = unsafe { libc::dup(number) };
    copy >= 0 && {
        // SAFETY: dup has just made the copy, and nobody else owns it.
        let copy = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(copy) });
        copy.metadata().unwrap().ino() == file.metadata().unwrap().ino()
    }
}

/// A client that was answered: one that comes before the loss is noticed is lost as well.
fn answers_within(span: Duration) -> UnixStream {
    let start = Instant::now();
    loop {
        if let Ok(mut stream) = UnixStream::connect(socket())
            && stream.write_all(b"hello\n").is_ok()
            && stream.read(&mut [0; 512]).is_ok_and(|n| n > 0)
        {
            return stream;
        }
        assert!(start.elapsed() < span);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn descriptors_the_program_replaced_are_left_alone_and_the_socket_comes_back() {
    in_own_process(
        "descriptors_the_program_replaced_are_left_alone_and_the_socket_comes_back",
        || {
            let (lost, kept) = (connect(), connect());
            ask_on(&lost, "hello").unwrap();
            ask_on(&kept, "hello").unwrap();
            let numbers = listed();
            assert_eq!(numbers.len(), 3);
            assert!(numbers.iter().all(|&number| number >= HIGH_FD));
            // The listener and the first client.
            let file = put_a_file_in_place_of(&numbers[..2]);
            let again = answers_within(Duration::from_secs(4));
            ask_on(&kept, "hello").unwrap();
            assert_eq!((&lost).read(&mut [0]).unwrap(), 0);
            assert!(numbers[..2].iter().all(|&number| is_file(number, &file)));
            assert_eq!(file.metadata().unwrap().len(), 0);
            assert!(numbers[..2].iter().all(|number| !listed().contains(number)));
            // Without a client it takes longer.
            drop((lost, kept, again));
            while listed().len() > 1 {
                std::thread::sleep(Duration::from_millis(20));
            }
            // SAFETY: close touches no memory. It closes a descriptor of the server, as a program
            // that closes all there are does; the test itself does not own it.
            unsafe { libc::close(listed()[0]) };
            answers_within(Duration::from_secs(9));
        },
    );
}

fn limit_descriptors(most: libc::rlim_t) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a place of this frame, which getrlimit fills, and then a valid value for
    // setrlimit.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = most;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

/// Time on the processor that the process takes while this thread sleeps.
fn busy_in(span: Duration) -> Duration {
    let used = || {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `time` is a place of this frame for the call's answer.
        unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let before = used();
    std::thread::sleep(span);
    used() - before
}

#[test]
fn a_program_out_of_descriptors_is_not_kept_busy() {
    in_own_process("a_program_out_of_descriptors_is_not_kept_busy", || {
        const SPAN: Duration = Duration::from_millis(600);
        ask("hello").unwrap();
        limit_descriptors(128);
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut all: Vec<_> = core::iter::from_fn(|| null.try_clone().ok()).collect();
        all.pop();
        // Takes the last one: the server has none to accept it with.
        let waiting = connect();
        let busy = busy_in(SPAN);
        assert!(busy < SPAN / 4, "{busy:?}");
        // Poll itself refuses more descriptors than the limit.
        limit_descriptors(0);
        let busy = busy_in(SPAN);
        assert!(busy < SPAN / 4, "{busy:?}");
        limit_descriptors(128);
        drop(all);
        ask_on(&waiting, "hello").unwrap();
        assert!(
            listed()[1] < 128,
            "where there is no room above, it stays below"
        );
    });
}

#[test]
fn a_fork_s_child_closes_what_is_still_its_parent_s_and_serves_itself() {
    let name = "a_fork_s_child_closes_what_is_still_its_parent_s_and_serves_itself";
    in_own_process(name, || {
        let (client, other) = (connect(), connect());
        ask_on(&client, "hello").unwrap();
        ask_on(&other, "hello").unwrap();
        let numbers = listed();
        // SAFETY: the child calls only what the crate allows in a fork's child, and ends by
        // `_exit`, without running destructors of its parent's threads.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let went = std::panic::catch_unwind(|| {
                let file = put_a_file_in_place_of(&numbers[1..2]);
                after_fork();
                // SAFETY: F_GETFD only asks whether a descriptor is open, and touches no memory.
                let open = |number| unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
                assert!(!open(numbers[0]) && !open(numbers[2]));
                assert!(is_file(numbers[1], &file));
                serve_in_thread().unwrap();
                let mine = socket().with_file_name(format!("{}.sock", std::process::id()));
                let stream = UnixStream::connect(&mine).unwrap();
                let hello = ask_on(&stream, "hello").unwrap();
                assert!(hello.contains(&format!("pid={} ", std::process::id())));
                end();
                assert!(!mine.exists());
                serve_in_thread().unwrap();
                assert!(!mine.exists(), "one that ends makes none");
            });
            // SAFETY: `_exit` ends the child at once and runs no code of this program.
            unsafe { libc::_exit(i32::from(went.is_err())) };
        }
        let mut status = 0;
        // SAFETY: `child` is the process just made, for which nobody else waits, and `status` is a
        // place of this frame.
        unsafe { libc::waitpid(child, &mut status, 0) };
        assert_eq!(status, 0);
        ask_on(&client, "hello").unwrap();
        ask("hello").unwrap();
        end();
        assert!(!socket().exists());
    });
}

#[test]
fn an_end_waits_for_a_socket_that_is_being_made() {
    in_own_process("an_end_waits_for_a_socket_that_is_being_made", || {
        let path = socket();
        let making = Making::begin().unwrap();
        assert!(Making::begin().is_none());
        let ending = std::thread::spawn(end);
        std::thread::sleep(Duration::from_millis(5));
        assert!(path.exists());
        drop(making);
        ending.join().unwrap();
        assert!(!path.exists() && Making::begin().is_none());
    });
}

#[test]
fn after_a_program_s_exit_no_socket_is_made() {
    in_own_process("after_a_program_s_exit_no_socket_is_made", || {
        let path = socket();
        super::for_programs::at_exit();
        assert!(!path.exists() && Making::begin().is_none());
    });
}

#[test]
fn an_end_by_a_signal_handler_of_the_maker_does_not_wait() {
    let name = "an_end_by_a_signal_handler_of_the_maker_does_not_wait";
    in_own_process(name, || {
        let path = socket();
        let making = Making::begin().unwrap();
        end();
        assert!(!path.exists());
        // And should the handler come back, or the end have lost its patience.
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
        drop(making);
        assert!(!path.exists());
    });
}

#[test]
fn what_has_the_socket_s_name_and_is_none_stays() {
    in_own_process("what_has_the_socket_s_name_and_is_none_stays", || {
        let path = socket();
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, "precious").unwrap();
        let why = serve_in_thread().unwrap_err();
        assert!(why.to_string().contains(&*path.to_string_lossy()));
        end();
        assert_eq!(std::fs::read(path).unwrap(), b"precious");
    });
}
