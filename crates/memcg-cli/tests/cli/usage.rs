//! Wrong command lines, and help.

use super::folder::Folder;
use super::run::{Outcome, memcg};

fn run(arguments: &[&str]) -> Outcome {
    memcg(Folder::new().path(), arguments)
}

#[test]
fn wrong_usage_exits_with_2_and_one_line_that_says_where_help_is() {
    run(&["frobnicate"]).is_error(2, &["frobnicate", "memcg --help"]);
    run(&["get"]).is_error(2, &["<PID>", "<PATH/FILE>", "memcg get --help"]);
    run(&["get", "x", "/f"]).is_error(2, &["'x'", "<PID>"]);
    run(&["get", "0", "/f"]).is_error(2, &["<PID>", "memcg ps"]);
    run(&["exec", "--top", "5", "true"]).is_error(2, &["--top=5"]);
    run(&["get", "1", "memory.max"]).is_error(2, &["must begin with '/'"]);
    run(&["set", "1", "/f"]).is_error(2, &["<VALUE>"]);
    run(&["top", "--interval", "0"]).is_error(2, &["--interval"]);
    run(&["top", "--once", "--interval", "1"]).is_error(2, &["--once"]);
    run(&["exec"]).is_error(2, &["PROGRAM", "memcg exec --help"]);
    run(&["exec", "--bogus", "true"]).is_error(2, &["--bogus"]);
}

#[test]
fn wrong_rules_are_refused_before_the_program_starts() {
    for (option, value, reason) in [
        ("--group", "worker", "GLOB=PATH"),
        ("--group", "w=x", "must begin with '/'"),
        ("--group", "w=/a/../b", "'.' or '..'"),
        ("--set", "/memory.max", "PATH/FILE=VALUE"),
        ("--set", "memory.max=1", "PATH/FILE=VALUE"),
        ("--set", "/a/=1", "FILE is empty"),
    ] {
        run(&["exec", option, value, "--", "echo", "started"]).is_error(2, &[option, reason]);
    }
}

#[test]
fn a_rules_file_that_is_wrong_or_missing_is_refused_with_its_line() {
    let folder = Folder::new();
    let path = folder.path().join("rules");
    std::fs::write(&path, "# tenants\na=/a\n\nb=b\n").expect("a file");
    let exec = |file: &str| run(&["exec", "--rules", file, "--", "echo", "started"]);
    exec(path.to_str().expect("text"))
        .is_error(2, &["--rules", "rules", "line 4: PATH must begin with '/'"]);
    exec("/nonexistent/rules").is_error(2, &["/nonexistent/rules", "No such file"]);
    std::fs::write(&path, "name-*=/a\n".repeat(20_000)).expect("a file");
    exec(path.to_str().expect("text")).is_error(2, &["too many of --group", "199999 bytes"]);
}

#[test]
fn help_goes_to_stdout_with_examples_and_exit_codes() {
    let help = run(&["--help"]);
    let text = help.printed();
    for part in ["Examples:", "Exit codes:", "125", "126", "127", "MEMCG_DIR"] {
        assert!(text.contains(part), "{part}");
    }
    for command in [
        "exec", "run", "top", "ps", "get", "set", "ls", "mkdir", "rmdir", "move", "owners",
    ] {
        let help = run(&[command, "--help"]);
        assert!(help.printed().contains("Examples:"), "{command}");
    }
    assert!(run(&["--version"]).printed().starts_with("memcg "));
}

#[test]
fn without_a_command_help_goes_to_stderr() {
    let help = run(&[]);
    assert_eq!((help.code(), help.stdout.as_str()), (2, ""));
    assert!(help.stderr.contains("Usage: memcg"));
}
