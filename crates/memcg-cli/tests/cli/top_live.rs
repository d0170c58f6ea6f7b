//! `memcg top` on a terminal.

use super::folder::Folder;
use super::pty::Pty;
use super::run::{command, with_engine};
use super::server::{CLOSE, SNAPSHOT, Server, ok};
use std::path::Path;
use std::process::{self, Command, Stdio};

/// `memcg top` on this test's own process, which is as many columns wide.
fn top(sockets: &Path, rows: u16, columns: u16) -> Pty {
    let pid = process::id().to_string();
    let arguments = ["top", &pid, "--interval", "0.1"];
    Pty::start(command(sockets, &arguments), rows, columns)
}

fn serving() -> Server {
    let owners = "owner\tbytes\nold-3\t512\n";
    Server::new(&[
        ("snapshot", &ok(SNAPSHOT)),
        ("owners /worker", &ok(owners)),
        ("owners /", "err EIO it is broken\n"),
    ])
}

fn lines(screen: &str) -> Vec<&str> {
    screen.lines().map(str::trim_end).collect()
}

#[test]
fn the_view_shows_process_coverage_tree_and_keys() {
    let server = serving();
    let mut top = top(server.folder(), 10, 120);
    let screen = top.shows("a b");
    let lines = lines(&screen);
    assert!(lines[0].contains("(my app), up 1.5 s"), "{screen}");
    assert!(lines[1].starts_with("coverage 50.0 %   charged 1.0M   rss 2.0M"));
    for column in ["GROUP", "CURRENT", "PEAK", "MAX", "USED", "RATE", "TASKS"] {
        assert!(lines[2].contains(column), "{screen}");
    }
    assert!(lines[4].contains("worker") && lines[4].contains("25%"));
    assert!(lines[4].contains("high:1 max:3"), "{screen}");
    assert!(lines[9].contains("q quit"), "{screen}");
    top.press("q");
    assert_eq!(top.wait().code(), Some(0));
    top.is_given_back();
}

#[test]
fn keys_fold_sort_pause_and_change_the_interval() {
    let server = serving();
    let mut top = top(server.folder(), 10, 120);
    top.shows("a b");
    top.press("j ");
    top.until("folded", |s| s.contains("worker +1") && !s.contains("a b"));
    top.press("\x1b[C");
    top.shows("a b");
    top.press("ss");
    top.shows("sort: rate");
    top.press("r");
    top.shows("sort: rate reversed");
    top.press("++");
    top.shows("every 0.5 s");
    top.press("-");
    top.shows("every 0.2 s");
    top.press("p");
    top.shows("PAUSED");
    let asked = server.asked().len();
    std::thread::sleep(std::time::Duration::from_millis(400));
    assert!(server.asked().len() <= asked + 1, "it goes on asking");
    top.press("p");
    top.until("going on", |s| !s.contains("PAUSED"));
    top.press("?");
    top.shows("turn the order round");
    // Esc closes the help, and only then the view.
    top.press("\x1b");
    top.until("closed", |s| !s.contains("turn the order round"));
    top.press("\x1b");
    assert_eq!(top.wait().code(), Some(0));
    top.is_given_back();
}

#[test]
fn the_owners_of_a_group_are_shown_or_why_not() {
    let server = serving();
    let mut top = top(server.folder(), 20, 100);
    top.shows("a b");
    top.press("o");
    top.shows("EIO: it is broken");
    top.press("ojo");
    let screen = top.shows("old-3");
    assert!(screen.contains("owners: /worker"), "{screen}");
    top.press("o");
    top.until("closed", |s| !s.contains("old-3"));
    top.press("\x03");
    assert_eq!(top.wait().code(), Some(0));
    top.is_given_back();
}

#[test]
fn any_size_will_do_and_columns_come_and_go_with_it() {
    let server = serving();
    let mut top = top(server.folder(), 10, 120);
    top.shows("INHERITED");
    top.resize(6, 40);
    top.until("narrow", |s| s.contains("CURRENT") && !s.contains("PEAK"));
    for (rows, columns) in [(1, 1), (2, 300), (200, 2), (3, 12), (10, 200)] {
        top.resize(rows, columns);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    top.shows("EVENTS");
    top.press("q");
    assert_eq!(top.wait().code(), Some(0));
    top.is_given_back();
}

#[test]
fn a_signal_ends_the_view_and_the_terminal_is_given_back() {
    let server = serving();
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        let mut top = top(server.folder(), 10, 80);
        top.shows("worker");
        top.signal(signal);
        assert_eq!(top.wait().code(), Some(0), "signal {signal}");
        top.is_given_back();
    }
}

#[test]
fn a_terminal_that_hangs_up_ends_the_view() {
    let server = serving();
    let mut top = top(server.folder(), 10, 80);
    top.shows("worker");
    top.hang_up();
    top.wait();
}

#[test]
fn the_view_can_be_stopped_and_continued() {
    let server = serving();
    let mut top = top(server.folder(), 10, 80);
    top.shows("worker");
    for stop in [Some("\x1a"), None] {
        match stop {
            Some(key) => top.press(key),
            None => top.signal(libc::SIGTSTP),
        }
        top.wait_stopped();
        top.is_given_back();
        top.signal(libc::SIGCONT);
        top.shows("worker");
    }
    top.press("q");
    assert_eq!(top.wait().code(), Some(0));
    top.is_given_back();
}

#[test]
fn without_colour_nothing_is_coloured() {
    let server = serving();
    let pid = process::id().to_string();
    let coloured = |no_color: &str| -> bool {
        let mut run = command(server.folder(), &["top", &pid]);
        run.env("NO_COLOR", no_color);
        let mut top = Pty::start(run, 10, 120);
        top.shows("worker");
        let coloured = top.is_coloured();
        top.press("q");
        assert_eq!(top.wait().code(), Some(0));
        top.is_given_back();
        coloured
    };
    assert!(coloured(""), "coverage is below 70 %");
    assert!(!coloured("1"));
}

#[test]
fn keys_come_from_the_terminal_even_if_stdin_is_something_else() {
    let server = serving();
    let pid = process::id().to_string();
    let run = command(server.folder(), &["top", &pid]);
    let mut top = Pty::start_with(run, 10, 80, |run| {
        run.stdin(Stdio::null());
    });
    top.shows("worker");
    top.press("q");
    assert_eq!(top.wait().code(), Some(0));
    top.is_given_back();
}

#[test]
fn once_and_a_dumb_terminal_get_a_table() {
    let server = serving();
    let pid = process::id().to_string();
    for (arguments, term) in [(&["--once"][..], "xterm"), (&[], "dumb")] {
        let arguments = [&["top", pid.as_str()], arguments].concat();
        let run = command(server.folder(), &arguments);
        let mut top = Pty::start_with(run, 20, 120, |run| {
            run.env("TERM", term);
        });
        assert_eq!(top.wait().code(), Some(0));
        top.shows("coverage 50.0 %");
        assert!(!top.written().contains("\x1b[?1049h"), "{}", top.written());
    }
}

#[test]
fn a_lost_connection_is_made_again_while_the_process_lives() {
    let last = ok(SNAPSHOT) + CLOSE;
    let server = Server::new(&[("snapshot", &last)]);
    let mut top = top(server.folder(), 10, 80);
    top.shows("worker");
    let start = std::time::Instant::now();
    while server.asked().len() < 5 {
        assert!(start.elapsed().as_secs() < 20, "{}", top.screen());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    top.press("q");
    assert_eq!(top.wait().code(), Some(0));
}

#[test]
fn an_answer_that_is_not_understood_ends_the_view_with_one_line() {
    let server = Server::new(&[("snapshot", &ok("pid=1\n"))]);
    let mut top = top(server.folder(), 10, 120);
    assert_eq!(top.wait().code(), Some(3));
    top.is_given_back();
    let screen = top.shows("it has no columns");
    assert_eq!(screen.trim().lines().count(), 1, "{screen}");
}

#[test]
fn the_end_of_a_real_program_ends_the_view_with_one_line() {
    let folder = Folder::new();
    for signal in [None, Some(libc::SIGKILL)] {
        let mut program = with_engine(folder.path(), &["exec", "--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        let pid = program_under(folder.path());
        let mut top = Pty::start(with_engine(folder.path(), &["top"]), 10, 100);
        top.shows("(cat)");
        match signal {
            None => drop(program.stdin.take()),
            Some(signal) => {
                // SAFETY: takes numbers only; `memcg exec` has not reaped it: it is still reading.
                assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
            }
        }
        assert_eq!(top.wait().code(), Some(0));
        top.is_given_back();
        let screen = top.shows(&format!("memcg: the process has ended: {pid} (cat)"));
        assert_eq!(screen.trim().lines().count(), 1, "{screen}");
        program.wait().expect("it ends");
    }
}

/// The id of the program whose socket is in `folder`, as soon as it is there.
fn program_under(folder: &Path) -> i32 {
    let start = std::time::Instant::now();
    loop {
        let listed = Command::new(env!("CARGO_BIN_EXE_memcg"))
            .args(["ps", "--json"])
            .env("MEMCG_DIR", folder)
            .output()
            .expect("it starts");
        let json: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        if let Some(pid) = json[0]["pid"].as_i64() {
            return i32::try_from(pid).expect("a process id");
        }
        assert!(start.elapsed().as_secs() < 20, "no socket");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
