//! `memcg top`.

use super::folder::Folder;
use super::run::{command, memcg, outcome, send};
use super::server::{CLOSE, SNAPSHOT, Server, ok};
use std::io::{BufRead, BufReader};
use std::process::{self, Stdio};

const TABLE: &str = "\
process 7 (my app), up 1.5 s
GROUP     CURRENT  PEAK    MAX  HIGH  TASKS  INHERITED  RATE  EVENTS
/            1.0M  2.0M    max   max      1          0     -  -
  worker     4.0K  8.0K  16.0K   max      2        512     -  high:1 max:3
    a b      1.0K  1.0K    max   max      0          0     -  -
coverage 50.0 %   charged 1.0M   rss 2.0M   accounting on
";

fn pid() -> String {
    process::id().to_string()
}

#[test]
fn top_prints_one_plain_table_where_no_terminal_is() {
    let server = Server::new(&[("snapshot", &ok(SNAPSHOT))]);
    assert_eq!(
        memcg(server.folder(), &["top", &pid(), "--once"]).printed(),
        TABLE
    );
    assert_eq!(memcg(server.folder(), &["top", &pid()]).printed(), TABLE);
}

#[test]
fn without_a_pid_the_only_process_is_shown() {
    let server = Server::new(&[("snapshot", &ok(SNAPSHOT))]);
    assert_eq!(memcg(server.folder(), &["top"]).printed(), TABLE);
}

#[test]
fn several_processes_are_listed_and_the_user_is_asked_to_choose() {
    let server = Server::new(&[]).serving(1, &[]);
    memcg(server.folder(), &["top"]).is_error(2, &["1 (my app), ", &pid(), "PID"]);
}

#[test]
fn no_process_at_all_is_said_clearly() {
    let folder = Folder::new();
    memcg(folder.path(), &["top"]).is_error(3, &["no process is under memcg", "memcg exec"]);
    memcg(&folder.path().join("missing"), &["top"]).is_error(3, &["no process is under memcg"]);
}

#[test]
fn json_is_the_whole_snapshot_with_numbers() {
    let server = Server::new(&[("snapshot", &ok(SNAPSHOT))]);
    let printed = memcg(server.folder(), &["top", &pid(), "--json"])
        .printed()
        .to_owned();
    let json: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(
        (&json["pid"], &json["comm"], &json["coverage"]),
        (&7.into(), &"my app".into(), &50.0.into())
    );
    assert_eq!(
        (&json["rss"], &json["charged"], &json["accounting"]),
        (&2097152.into(), &1048576.into(), &"on".into())
    );
    let group = &json["groups"][1];
    assert_eq!(
        (&group["path"], &group["max"], &group["high"]),
        (&"/worker".into(), &16384.into(), &"max".into())
    );
    assert_eq!(
        (&group["ev_max"], &group["throttled_us"]),
        (&3.into(), &0.into())
    );
    assert_eq!(json["groups"][2]["path"], "/worker/a b");
}

#[test]
fn json_with_an_interval_is_one_object_a_line_until_a_signal() {
    let server = Server::new(&[("snapshot", &ok(SNAPSHOT))]);
    let mut child = command(
        server.folder(),
        &["top", &pid(), "--json", "--interval", "0.05"],
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    for _ in 0..3 {
        let line = lines.next().expect("a line").expect("text");
        let json: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(json["pid"], 7);
    }
    send(child.id(), libc::SIGINT);
    lines.for_each(drop);
    assert_eq!(
        outcome(child.wait_with_output().expect("it ends")).code(),
        0
    );
}

#[test]
fn an_interval_without_a_terminal_prints_one_table_after_the_other() {
    let last = ok(SNAPSHOT) + CLOSE;
    let server = Server::new(&[("snapshot", &last)]);
    let output = memcg(server.folder(), &["top", &pid(), "--interval", "0.05"]);
    assert_eq!((output.code(), output.stdout.as_str()), (0, TABLE));
    assert!(
        output.stderr.contains("the process has ended"),
        "{output:?}"
    );
    let server = Server::new(&[("snapshot", &ok(SNAPSHOT))]);
    let mut child = command(server.folder(), &["top", &pid(), "--interval", "0.05"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let text: String = lines
        .take(13)
        .map(|line| line.expect("text") + "\n")
        .collect();
    // The same moment again, by the engine's clock: there is no rate.
    assert_eq!(text, format!("{TABLE}\n{TABLE}"));
    assert_eq!(
        child.wait().expect("it ends").code(),
        Some(0),
        "nobody reads any more"
    );
}

#[test]
fn a_snapshot_that_is_not_one_is_an_error() {
    let server = Server::new(&[("snapshot", &ok("pid=1\n"))]);
    memcg(server.folder(), &["top", &pid()]).is_error(3, &["it has no columns"]);
    let server = Server::new(&[("snapshot", CLOSE)]);
    memcg(server.folder(), &["top", &pid()]).is_error(3, &["has the process ended?"]);
}

#[test]
fn the_end_of_a_process_that_is_watched_is_a_good_end() {
    let last = ok(SNAPSHOT) + CLOSE;
    let server = Server::new(&[("snapshot", &last)]);
    let output = memcg(
        server.folder(),
        &["top", &pid(), "--json", "--interval", "0.05"],
    );
    assert_eq!(
        (output.code(), output.stdout.lines().count()),
        (0, 1),
        "{output:?}"
    );
    assert!(
        output.stderr.contains("the process has ended"),
        "{output:?}"
    );
}
