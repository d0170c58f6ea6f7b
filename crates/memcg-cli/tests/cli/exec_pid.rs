//! The PID a shell and a supervisor know is that of `memcg exec`: it stands for its program's.

use super::folder::Folder;
use super::run::{memcg, outcome, with_engine};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

/// A program under the engine that lives until it is killed; this is `memcg exec`.
fn start(folder: &Path, options: &[&str]) -> Child {
    let arguments = [&["exec"], options, &["--", "sleep", "60"]].concat();
    with_engine(folder, &arguments).spawn().expect("it starts")
}

/// Ends the program, by a signal to `memcg exec`, which passes it on.
fn end(mut child: Child) {
    let pid = libc::pid_t::try_from(child.id()).expect("a process id");
    // SAFETY: takes numbers only; nobody has waited for this child yet.
    unsafe { libc::kill(pid, libc::SIGTERM) };
    child.wait().expect("it ends");
}

#[test]
fn every_command_takes_the_pid_of_memcg_exec_for_its_programs() {
    let folder = Folder::new();
    let exec = start(folder.path(), &[]);
    let pid = exec.id().to_string();
    let run = |arguments: &[&str]| memcg(folder.path(), arguments).printed().to_owned();
    // At once: the program may not have its socket yet.
    let table = run(&["top", &pid, "--once"]);
    assert!(table.contains("(sleep), up "), "{table}");
    assert!(!table.contains(&format!("process {pid} ")), "{table}");
    assert!(run(&["ls", &pid]).contains("memory.stat\n"));
    assert!(run(&["owners", &pid]).starts_with("ORIGIN "));
    assert!(run(&["slabinfo", &pid]).contains("OBJECTS"));
    run(&["mkdir", &pid, "/a"]);
    run(&["set", &pid, "/a/memory.max", "1M"]);
    assert_eq!(run(&["get", &pid, "/a/memory.max"]), "1048576\n");
    let task = run(&["get", &pid, "/sleep/cgroup.procs"]);
    run(&["move", &pid, task.lines().next().expect("a task"), "/a"]);
    assert_eq!(run(&["get", &pid, "/a/cgroup.procs"]), task);
    run(&["rmdir", &pid, "/sleep"]);
    end(exec);
}

#[test]
fn a_shells_last_background_process_can_be_looked_at_at_once() {
    let folder = Folder::new();
    let memcg = env!("CARGO_BIN_EXE_memcg");
    let script = format!(
        "'{memcg}' exec -- sleep 60 & '{memcg}' top $! --once; code=$?; kill $!; wait; exit $code"
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .env("MEMCG_DIR", folder.path())
        .env_remove("LD_PRELOAD")
        .output();
    let output = outcome(output.expect("a shell"));
    assert_eq!(output.code(), 0, "{output:?}");
    assert!(output.stdout.contains("(sleep), up "), "{output:?}");
}

#[test]
fn a_program_without_a_socket_is_said_to_be_memcg_execs() {
    let folder = Folder::new();
    let exec = start(folder.path(), &["--no-thread"]);
    let pid = exec.id().to_string();
    memcg(folder.path(), &["get", &pid, "/memory.max"]).is_error(
        3,
        &[&format!("process {pid} is `memcg exec`"), "--no-thread"],
    );
    end(exec);
}

#[test]
fn top_counts_the_processes_that_the_program_started_and_does_not_show_them() {
    let folder = Folder::new();
    let arguments = ["exec", "--", "sh", "-c", "sleep 60 & wait"];
    let exec = with_engine(folder.path(), &arguments).spawn();
    let exec = exec.expect("it starts");
    let pid = exec.id().to_string();
    let said = "\nnot shown: 1 process that sh started: each has groups of its own";
    let until = Instant::now() + Duration::from_secs(10);
    let mut table = String::new();
    while !table.contains(said) {
        assert!(Instant::now() < until, "{table}");
        thread::sleep(Duration::from_millis(20));
        let top = memcg(folder.path(), &["top", &pid, "--once"]);
        table = top.printed().to_owned();
    }
    // The child of a shell that is killed would live on.
    let sleep = memcg(folder.path(), &["ps", "--json"]).printed().to_owned();
    let all: serde_json::Value = serde_json::from_str(&sleep).expect("JSON");
    for process in all.as_array().expect("a list") {
        let id = process["pid"].as_i64().expect("a process id");
        let id = libc::pid_t::try_from(id).expect("a process id");
        // SAFETY: takes numbers only; both are programs of this test, whose sockets are in its
        // folder.
        unsafe { libc::kill(id, libc::SIGTERM) };
    }
    end(exec);
}
