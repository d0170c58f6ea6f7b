//! Commands that ask one thing: get, set, ls, mkdir, rmdir, move, owners, ps.

use super::folder::Folder;
use super::run::{command, memcg, outcome};
use super::server::{CLOSE, SNAPSHOT, Server, ok};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::process::{self, Stdio};

fn pid() -> String {
    process::id().to_string()
}

#[test]
fn get_prints_the_files_text_as_it_is() {
    let text = "anon 1\nfile 2\n";
    let server = Server::new(&[("get /a/memory.stat", &ok(text))]);
    assert_eq!(
        memcg(server.folder(), &["get", &pid(), "/a/memory.stat"]).printed(),
        text
    );
}

#[test]
fn any_byte_in_a_path_reaches_the_engine() {
    let server = Server::new(&[("get /a%20%25%C3%BC%FF/memory.max", &ok("max\n"))]);
    let path = OsStr::from_bytes(b"/a %\xc3\xbc\xff/memory.max");
    let output = command(server.folder(), &["get", &pid()])
        .arg(path)
        .output()
        .expect("the command starts");
    assert_eq!(outcome(output).printed(), "max\n");
}

#[test]
fn set_sends_every_value_and_prints_nothing() {
    let server = Server::new(&[
        ("set /a/memory.max 1G", &ok("")),
        ("set /a/memory.reclaim 64M swappiness=0", &ok("")),
        ("set /cgroup.subtree_control -memory", &ok("")),
        ("set /a/memory.max %", &ok("")),
    ]);
    assert_eq!(
        memcg(server.folder(), &["set", &pid(), "/a/memory.max", "1G"]).printed(),
        ""
    );
    assert_eq!(
        memcg(
            server.folder(),
            &["set", &pid(), "/a/memory.reclaim", "64M", "swappiness=0"]
        )
        .printed(),
        ""
    );
    assert_eq!(
        memcg(
            server.folder(),
            &["set", &pid(), "/cgroup.subtree_control", "-memory"]
        )
        .printed(),
        ""
    );
    assert_eq!(
        memcg(server.folder(), &["set", &pid(), "/a/memory.max", ""]).printed(),
        ""
    );
}

#[test]
fn groups_are_made_removed_and_tasks_moved_with_one_request_each() {
    let server = Server::new(&[
        ("mkdir /a", &ok("")),
        ("rmdir /a", &ok("")),
        ("move 17 /a", &ok("")),
    ]);
    memcg(server.folder(), &["mkdir", &pid(), "/a"]).printed();
    memcg(server.folder(), &["rmdir", &pid(), "/a"]).printed();
    memcg(server.folder(), &["move", &pid(), "17", "/a"]).printed();
    assert_eq!(server.asked(), ["mkdir /a", "rmdir /a", "move 17 /a"]);
}

#[test]
fn ls_lists_children_with_a_slash_and_then_files() {
    let server = Server::new(&[(
        "ls /",
        &ok("f memory.max rw\nd worker\nf memory.reclaim w\nd a%20b\n"),
    )]);
    let printed = |arguments: &[&str]| memcg(server.folder(), arguments).printed().to_owned();
    assert_eq!(
        printed(&["ls", &pid()]),
        "worker/\na b/\nmemory.max\nmemory.reclaim\n"
    );
    assert_eq!(
        printed(&["ls", "-l", &pid(), "/"]),
        "d   worker/\nd   a b/\n-rw memory.max\n--w memory.reclaim\n"
    );
    let json: serde_json::Value =
        serde_json::from_str(&printed(&["ls", &pid(), "--json"])).expect("JSON");
    assert_eq!(
        json[0],
        serde_json::json!({"type": "group", "name": "worker"})
    );
    assert_eq!(
        json[2],
        serde_json::json!({"type": "file", "name": "memory.max", "mode": "rw"})
    );
}

#[test]
fn owners_are_a_table_or_json_keyed_by_the_header() {
    let text = "owner\tbytes\tstate\nworker-1\t4096\tlive\n/old\t17\tgone\n";
    let server = Server::new(&[
        ("owners /", &ok(text)),
        ("owners /a", &ok("owner\tbytes\n")),
    ]);
    // Without a PID there is only one process to ask.
    assert_eq!(
        memcg(server.folder(), &["owners"]).printed(),
        "OWNER     BYTES  STATE\nworker-1   4096  live\n/old         17  gone\n"
    );
    assert_eq!(
        memcg(server.folder(), &["owners", &pid(), "/a"]).printed(),
        "OWNER  BYTES\n"
    );
    let json = memcg(server.folder(), &["owners", &pid(), "--json"])
        .printed()
        .to_owned();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        json[1],
        serde_json::json!({"owner": "/old", "bytes": 17, "state": "gone"})
    );
}

#[test]
fn ps_lists_live_sockets_and_passes_over_the_left_over() {
    let server = Server::new(&[("snapshot", &ok(SNAPSHOT))]);
    fs::write(server.folder().join("note.txt"), "").expect("a file");
    drop(
        UnixListener::bind(server.folder().join("1.sock")).expect("a socket nobody will listen to"),
    );
    let printed = memcg(server.folder(), &["ps"]).printed().to_owned();
    let lines: Vec<Vec<&str>> = printed
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines,
        [
            vec!["PID", "COMM", "CURRENT"],
            vec![&pid(), "my", "app", "1.0M"]
        ]
    );
    let json = memcg(server.folder(), &["ps", "--json"])
        .printed()
        .to_owned();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        json,
        serde_json::json!([{"pid": process::id(), "comm": "my app", "current": 1048576}])
    );
}

#[test]
fn a_refusal_exits_with_1_and_names_the_errno() {
    let server = Server::new(&[(
        "rmdir /a",
        "err EBUSY 2 tasks live in it: move them first\n",
    )]);
    memcg(server.folder(), &["rmdir", &pid(), "/a"])
        .is_error(1, &["rmdir: /a", "EBUSY: 2 tasks live in it"]);
    memcg(server.folder(), &["get", &pid(), "/a/x"]).is_error(1, &["get: /a/x", "EPROTO"]);
}

#[test]
fn a_process_that_is_not_there_and_one_without_the_engine_are_told_apart() {
    let folder = Folder::new();
    // Above the highest id Linux gives.
    memcg(folder.path(), &["get", "2000000000", "/memory.max"])
        .is_error(3, &["no such process", "2000000000"]);
    memcg(folder.path(), &["get", &pid(), "/memory.max"])
        .is_error(3, &["not under memcg", "memcg exec"]);
    drop(UnixListener::bind(folder.path().join(format!("{}.sock", pid()))).expect("a socket"));
    memcg(folder.path(), &["get", &pid(), "/memory.max"]).is_error(3, &["nobody listens"]);
}

#[test]
fn an_answer_that_breaks_off_is_an_error_and_not_a_short_text() {
    let (cut, none) = (format!("ok 100\nhalf{CLOSE}"), CLOSE.to_owned());
    let server = Server::new(&[
        ("get /a/f", &cut),
        ("get /b/f", &none),
        ("get /c/f", "what?\n"),
    ]);
    memcg(server.folder(), &["get", &pid(), "/a/f"]).is_error(3, &["after 4 of 100 bytes"]);
    memcg(server.folder(), &["get", &pid(), "/b/f"]).is_error(3, &["without an answer"]);
    memcg(server.folder(), &["get", &pid(), "/c/f"]).is_error(3, &["not understood"]);
}

#[test]
fn a_request_that_does_not_fit_is_not_sent() {
    let server = Server::new(&[]);
    let long = format!("/{}", "x".repeat(9000));
    memcg(server.folder(), &["mkdir", &pid(), &long]).is_error(2, &["too long"]);
    assert_eq!(server.asked(), Vec::<String>::new());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let server = Server::new(&[("get /f", &ok(&"x".repeat(1 << 20)))]);
    let mut child = command(server.folder(), &["get", &pid(), "/f"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let output = outcome(child.wait_with_output().expect("it ends"));
    assert_eq!((output.code(), output.stderr.as_str()), (0, ""));
}
