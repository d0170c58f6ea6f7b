//! The library's beginning and end: settings from the environment, the first task, the report.
//!
//! Invariants: rules and settings are in force before the first task is made. One that is refused
//! ends the process before `main`, with a line.
//! Depends on: what `memcg exec` leaves in the environment; the other files here, which it sets up.
//! Never: makes a thread or a socket in a child of a fork that ends, or becomes another program, at
//! once.

use crate::{
    callers, group_rules, longjmp, mapped, ranges_lock, rust_runtime, step_aside, threads,
};
use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, Ordering};
use memcg::internal::process::Settings;
use memcg::internal::thread::{self, Thread, with_thread};
use memcg::internal::{control, files, os, process};
use memcg::no_account;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;
#[used]
#[unsafe(link_section = ".fini_array")]
static END: extern "C" fn() = end;

fn text(name: &str) -> Option<Vec<u8>> {
    std::env::var_os(name)
        .map(OsString::into_vec)
        .filter(|value| !value.is_empty())
}

fn is_set(name: &str) -> bool {
    text(name).is_some_and(|value| value != b"0")
}

fn say(what: &str) {
    os::line(&[b"memcg: ", what.as_bytes()]);
}

extern "C" fn begin() {
    if step_aside::is_aside() {
        step_aside::switch_off();
        return;
    }
    let _free = no_account();
    process::serve_whole_process(Settings {
        strict: is_set("MEMCG_STRICT"),
        pay_in_malloc: is_set("MEMCG_THROTTLE"),
        no_thread: is_set("MEMCG_NO_THREAD"),
    });
    callers::find();
    if is_set(SAID) {
        rust_runtime::note_said();
    }
    let mut is_limited = false;
    with_thread(|thread| {
        if let Err(why) = group_rules::init(&text("MEMCG_GROUPS").unwrap_or_default(), &comm()) {
            say(&format!("--group {why}: the program is not started"));
            leave(125);
        }
        for line in text("MEMCG_SET")
            .unwrap_or_default()
            .split(|&b| b == b'\n')
            .filter(|line| !line.is_empty())
        {
            match set(thread, line) {
                Ok(Set::Limit) => is_limited = true,
                Ok(Set::Other) => {}
                Err(why) => {
                    say(&format!(
                        "--set {}: {why}: the program is not started",
                        String::from_utf8_lossy(line)
                    ));
                    leave(125);
                }
            }
        }
    });
    if is_limited {
        look_for_rust();
    }
    drop(_free);
    thread::set_thread_hook(threads::on_new_thread);
    with_thread(threads::on_new_thread);
    let _free = no_account();
    if is_report_due() && text("MEMCG_REPORT_PID").is_none() {
        // SAFETY: before main; what other constructors' threads do with the environment is their
        // affair.
        unsafe { std::env::set_var("MEMCG_REPORT_PID", std::process::id().to_string()) };
    }
    note_started();
    serve();
    mapped::install();
    rust_runtime::install();
    longjmp::install();
    process::set_in_child(in_child);
}

/// The program's name as its main thread has it.
fn comm() -> Vec<u8> {
    std::fs::read("/proc/self/comm")
        .map(|name| name.trim_ascii_end().to_vec())
        .unwrap_or_default()
}

/// What a line has set.
enum Set {
    /// A limit that can refuse memory.
    Limit,
    Other,
}

/// One `PATH/FILE=VALUE`; groups on the way are made.
fn set(thread: &Thread<'_>, line: &[u8]) -> Result<Set, String> {
    let at = line.iter().position(|&b| b == b'=').ok_or("no '='")?;
    let (path, value) = (&line[..at], &line[at + 1..]);
    let slash = path.iter().rposition(|&b| b == b'/').ok_or("no '/'")?;
    let (group, file) = (&path[..slash], &path[slash + 1..]);
    // Of `/tenants/*` the children are meant that come.
    let made = group.strip_suffix(b"/*").unwrap_or(group);
    let parts = || made.split(|&b| b == b'/').filter(|part| !part.is_empty());
    parts().try_for_each(thread::check_group_name)?;
    thread.with_tree(|tree| {
        parts().fold(tree.root(), |at, part| tree.child(at, part));
    });
    files::write(group, file, value).map_err(|why| why.to_string())?;
    let is_limit = matches!(file, b"memory.max" | b"memory.total.max") && value != b"max";
    Ok(if is_limit { Set::Limit } else { Set::Other })
}

/// Set where it was said that a program carries Rust's runtime: what it starts says it no more.
const SAID: &str = "MEMCG_RUST_SAID";

/// Finds out whether the program carries Rust's runtime.
fn look_for_rust() {
    if rust_runtime::look() == rust_runtime::Answer::Found {
        // SAFETY: before main; what other constructors' threads do with the environment is their
        // affair.
        unsafe { std::env::set_var(SAID, "1") };
    }
}

/// That there is no socket was said, by this process or by one it was forked from: a server's
/// children need not repeat it.
static TOLD: AtomicBool = AtomicBool::new(false);

fn serve() {
    if is_set("MEMCG_NO_THREAD") {
        return;
    }
    thread::set_last_thread_hook(on_last_thread);
    if let Err(why) = control::serve()
        && !TOLD.swap(true, Ordering::Relaxed)
    {
        say(&format!(
            "no control socket: {why}: top, get and set cannot reach this process"
        ));
    }
}

/// The last thread that has allocated leaves, without an exit: the helper must not keep the process
/// alive. Should there be others yet, it is back with the first slow path of one.
fn on_last_thread() {
    if control::stop() {
        process::defer(CHILD_STAYS_NS, serve);
    }
}

/// A child that becomes another program, or ends, does so sooner than this after its fork, mostly;
/// it gets no helper thread and no socket. One that stays gets them with the first allocation after
/// this that its stock does not cover.
const CHILD_STAYS_NS: u64 = 20_000_000;

fn in_child() {
    ranges_lock::in_child();
    rust_runtime::in_child();
    // Not as nobody's: it is what the thread charges from here on.
    with_thread(|thread| {
        if !thread.has_task() && thread.is_accounting() {
            threads::on_new_thread(thread);
        }
    });
    let _free = no_account();
    // SAFETY: the child has this thread alone, and no socket as yet.
    unsafe { control::after_fork() };
    process::defer(CHILD_STAYS_NS, stay);
}

/// A forked child that stays is a process of its own for whoever looks.
fn stay() {
    note_started();
    serve();
}

/// Counts this process for `memcg exec`, if it is not the program itself but was started by it:
/// adds its id, four bytes, to a file.
fn note_started() {
    let (Some(path), Some(first)) = (std::env::var_os("MEMCG_STARTED"), text("MEMCG_REPORT_PID"))
    else {
        return;
    };
    let pid = std::process::id();
    if first == pid.to_string().as_bytes() {
        return;
    }
    // The file is there while `memcg exec` is: who outlives it is not counted.
    if let Ok(mut file) = std::fs::OpenOptions::new().append(true).open(path) {
        let _ = std::io::Write::write(&mut file, &pid.to_ne_bytes());
    }
}

fn is_report_due() -> bool {
    std::env::var_os("MEMCG_REPORT").is_some()
}

extern "C" fn end() {
    if step_aside::is_off() {
        return;
    }
    let _free = no_account();
    report();
    control::end();
}

/// The last state of the groups, for whoever started the program, in one step by a rename.
fn report() {
    let (Some(path), Some(pid)) = (std::env::var_os("MEMCG_REPORT"), text("MEMCG_REPORT_PID"))
    else {
        return;
    };
    if pid != std::process::id().to_string().as_bytes() {
        return;
    }
    let Some(body) = control::report() else {
        return;
    };
    let mut part = path.as_bytes().to_vec();
    part.extend_from_slice(b".part");
    let part = OsString::from_vec(part);
    if std::fs::write(&part, body).is_ok() {
        let _ = std::fs::rename(&part, &path);
    }
}

/// # Safety
/// As _exit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _exit(status: c_int) -> ! {
    end();
    leave(status)
}

/// # Safety
/// As _Exit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _Exit(status: c_int) -> ! {
    end();
    leave(status)
}

/// Ends the process, all threads, at once.
fn leave(status: c_int) -> ! {
    loop {
        // SAFETY: no preconditions.
        unsafe { libc::syscall(libc::SYS_exit_group, status) };
    }
}
