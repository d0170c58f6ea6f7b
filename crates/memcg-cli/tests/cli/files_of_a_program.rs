//! The files of a real program: what is misspelt, what is a group, and what a limit below what is
//! held does.

use super::folder::Folder;
use super::program::Program;
use super::run::{Outcome, memcg, outcome, with_engine};
use std::path::Path;

/// A program that holds 8 MiB in the group /holder.
fn holder(folder: &Path) -> Program {
    Program::start(folder, &[], "held = bytearray(8 << 20)")
}

#[test]
fn a_group_in_a_files_place_is_said_to_be_one_with_what_to_ask() {
    let folder = Folder::new();
    let program = holder(folder.path());
    let pid = program.pid();
    for path in ["/holder", "/holder/", "/"] {
        memcg(folder.path(), &["get", &pid, path]).is_error(
            1,
            &["EISDIR: it is a group", "`memcg ls ", "/memory.current`"],
        );
    }
    memcg(folder.path(), &["set", &pid, "/holder", "1M"]).is_error(
        1,
        &[
            "EISDIR: it is a group",
            " /holder` lists",
            "/holder/memory.max VALUE`",
        ],
    );
}

#[test]
fn a_misspelt_file_is_answered_with_the_one_that_was_meant() {
    let folder = Folder::new();
    let program = holder(folder.path());
    let pid = program.pid();
    memcg(folder.path(), &["get", &pid, "/holder/memory.mx"])
        .is_error(1, &["no file 'memory.mx'", "did you mean memory.max?"]);
    memcg(folder.path(), &["set", &pid, "/holder/max", "1M"])
        .is_error(1, &["did you mean memory.max?"]);
    memcg(folder.path(), &["get", &pid, "/holder/something"])
        .is_error(1, &["no file 'something'", "'ls' shows"]);
    let arguments = ["exec", "--set=/a/memroy.max=1M", "--", "echo", "started"];
    let early = with_engine(folder.path(), &arguments).output();
    outcome(early.expect("it starts")).is_error(
        125,
        &[
            "--set /a/memroy.max=1M",
            "did you mean memory.max?",
            "not started",
        ],
    );
}

/// A `set` that was done: nothing on stdout, at most one line on stderr, which is the answer.
#[track_caller]
fn done(set: Outcome) -> String {
    assert_eq!((set.code(), set.stdout.as_str()), (0, ""), "{set:?}");
    assert!(set.stderr.lines().count() <= 1, "{set:?}");
    set.stderr
}

#[test]
fn a_limit_below_what_is_held_says_what_is_held_and_what_happens_now() {
    let folder = Folder::new();
    let program = holder(folder.path());
    let pid = program.pid();
    let set = |file: &str, value: &str| {
        done(memcg(
            folder.path(),
            &["set", &pid, &format!("/holder/{file}"), value],
        ))
    };
    assert_eq!(set("memory.max", "1G"), "");
    let said = set("memory.max", "4M");
    for part in [
        "/holder holds ",
        "above its new memory.max of 4.0M",
        "nothing more can be reclaimed",
        "(default) it gets no more memory",
    ] {
        assert!(said.contains(part), "no {part:?} in {said:?}");
    }
    assert_eq!(set("memory.oom.policy", "debt"), "");
    let said = set("memory.max", "3M");
    assert!(said.contains("(debt) it may go on to grow"), "{said:?}");
    assert_eq!(set("memory.max", "max"), "");
}

#[test]
fn owners_shows_the_living_by_task_before_those_that_ended() {
    let folder = Folder::new();
    let script = "\
import threading
held = bytearray(8 << 20)
left = []
def work():
    left.append(bytearray(1 << 20))
thread = threading.Thread(target=work)
thread.start()
thread.join()";
    let program = Program::start(folder.path(), &[], script);
    let arguments = ["owners", &program.pid(), "/holder"];
    let table = memcg(folder.path(), &arguments).printed().to_owned();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows[0][..4],
        ["ORIGIN", "STATE", "ENDED", "HELD"],
        "{table}"
    );
    assert!(rows[1][0].starts_with("/holder/"), "{table}");
    assert_eq!(rows[1][1..3], ["live-task", "-"], "{table}");
    assert!(
        rows[1][3].parse::<u64>().expect("bytes") >= 8 << 20,
        "{table}"
    );
    let ended = rows.last().expect("a row");
    assert_eq!(ended[1], "ended-task", "{table}");
    assert!(
        ended[3].parse::<u64>().expect("bytes") >= 1 << 20,
        "{table}"
    );
    let json = memcg(folder.path(), &[&arguments[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(json.printed()).expect("JSON");
    assert_eq!(json[0]["STATE"], "live-task");
}
