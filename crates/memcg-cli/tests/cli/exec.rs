//! `memcg exec`: programs that run, and how their end is passed on.

use super::folder::Folder;
use super::run::{
    Outcome, command, heed_signals, inert_library, memcg, outcome, send, with_engine,
};
use super::server::{SNAPSHOT, Server, ok};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a shell script under `memcg exec` with `options`.
fn shell(folder: &Folder, options: &[&str], script: &str) -> Outcome {
    let arguments = [&["exec"], options, &["--", "sh", "-c", script]].concat();
    memcg(folder.path(), &arguments)
}

/// A script that writes `text` as the library would write the report.
fn reporting(text: &Path) -> String {
    format!(
        "cp '{}' \"$MEMCG_REPORT.tmp\" && mv \"$MEMCG_REPORT.tmp\" \"$MEMCG_REPORT\"",
        text.display()
    )
}

#[test]
fn the_exit_status_is_the_programs() {
    let folder = Folder::new();
    assert_eq!(shell(&folder, &[], "exit 0").code(), 0);
    assert_eq!(shell(&folder, &[], "exit 7").code(), 7);
    assert_eq!(shell(&folder, &[], "exit 255").code(), 255);
}

#[test]
fn death_by_a_signal_is_passed_on_as_a_death_by_that_signal() {
    let folder = Folder::new();
    for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGABRT, libc::SIGINT] {
        assert_eq!(
            shell(&folder, &[], &format!("kill -{signal} $$")).signal(),
            Some(signal)
        );
    }
}

#[test]
fn a_shell_sees_128_and_the_signal() {
    let folder = Folder::new();
    let memcg = env!("CARGO_BIN_EXE_memcg");
    let script = format!("'{memcg}' exec -- sh -c 'kill -TERM $$'; echo $?");
    let mut shell = Command::new("sh");
    heed_signals(&mut shell);
    let output = shell
        .args(["-c", &script])
        .env("MEMCG_DIR", folder.path())
        .output();
    assert_eq!(outcome(output.expect("a shell")).stdout, "143\n");
}

#[test]
fn streams_are_the_programs_own() {
    let folder = Folder::new();
    let output = shell(&folder, &[], "echo out; echo err >&2");
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
}

#[test]
fn options_after_the_program_are_the_programs() {
    let folder = Folder::new();
    assert_eq!(
        memcg(folder.path(), &["exec", "echo", "--top", "-x", "--"]).printed(),
        "--top -x --\n"
    );
}

#[test]
fn a_signal_to_memcg_reaches_the_program() {
    let folder = Folder::new();
    for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1), ("QUIT", 3)] {
        let script = format!(
            "trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.05; done"
        );
        let mut child = command(folder.path(), &["exec", "--", "sh", "-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        assert_eq!(lines.next().expect("a line").expect("text"), "ready");
        send(child.id(), number);
        assert_eq!(
            lines.next().expect("a line").expect("text"),
            format!("got {name}")
        );
        assert_eq!(child.wait().expect("it ends").code(), Some(9));
    }
}

#[test]
fn the_program_starts_with_the_signal_mask_memcg_was_started_with() {
    let folder = Folder::new();
    let output = shell(&folder, &[], "grep SigBlk /proc/self/status");
    assert_eq!(
        output.printed().split_whitespace().nth(1),
        Some("0000000000000000")
    );
}

#[test]
fn the_library_is_told_everything_by_the_environment() {
    let folder = Folder::new();
    let report = folder.path().join("report");
    let rules = folder.path().join("rules");
    fs::write(&rules, "# more\n  q-*=/q\n").expect("a file");
    let options = [
        "--rules",
        rules.to_str().expect("text"),
        "--group=w-*=/w",
        "--group=*=/rest",
        "--set=/w/memory.max=1M",
        "--set=/memory.high=max",
        "--no-thread",
        "--strict",
        "--report",
        report.to_str().expect("text"),
    ];
    let output = shell(
        &folder,
        &options,
        "env | grep -A2 ^MEMCG_ | grep -v ^MEMCG_DIR; env | grep ^PYTHON",
    );
    for part in [
        "MEMCG_GROUPS=w-*=/w\n*=/rest\nq-*=/q\n",
        "MEMCG_SET=/w/memory.max=1M\n/memory.high=max\n",
        "MEMCG_NO_THREAD=1\n",
        "MEMCG_STRICT=1\n",
        &format!("MEMCG_REPORT={}\n", report.display()),
        "PYTHONMALLOC=malloc\n",
    ] {
        assert!(
            output.stdout.contains(part),
            "no {part:?} in {}",
            output.stdout
        );
    }
}

#[test]
fn nothing_is_set_that_was_not_asked_for() {
    let folder = Folder::new();
    let output = shell(&folder, &[], "env | grep ^MEMCG_ | cut -d= -f1 | sort");
    // The last one is this test's own.
    assert_eq!(output.printed(), "MEMCG_DIR\nMEMCG_PRELOAD\n");
}

#[test]
fn the_library_comes_before_what_was_preloaded_already() {
    let folder = Folder::new();
    let mut run = with_engine(
        folder.path(),
        &["exec", "--", "sh", "-c", "echo \"$LD_PRELOAD\""],
    );
    let output = outcome(
        run.env("LD_PRELOAD", "libc.so.6")
            .output()
            .expect("it starts"),
    );
    let preload = output.stdout.trim_end();
    let (library, rest) = preload.split_once(':').expect("two libraries");
    assert_eq!(rest, "libc.so.6");
    assert!(
        Path::new(library).is_absolute() && library.ends_with("/libmemcg_preload.so"),
        "{library}"
    );
}

#[test]
fn pythons_allocator_is_left_alone_if_the_user_says_so() {
    let folder = Folder::new();
    let script = "echo \"${PYTHONMALLOC-unset}\"";
    assert_eq!(
        shell(&folder, &["--keep-python-malloc"], script).printed(),
        "unset\n"
    );
    let mut run = command(folder.path(), &["exec", "--", "sh", "-c", script]);
    let output = outcome(
        run.env("PYTHONMALLOC", "debug")
            .output()
            .expect("it starts"),
    );
    assert_eq!(output.printed(), "debug\n");
}

#[test]
fn a_library_of_the_users_own_is_taken_as_it_is_but_must_be_there() {
    let folder = Folder::new();
    let own = folder.path().join("own.so");
    let script = ["exec", "--", "sh", "-c", "echo \"$LD_PRELOAD\""];
    let missing = command(folder.path(), &script)
        .env("MEMCG_PRELOAD", &own)
        .output()
        .expect("it starts");
    outcome(missing).is_error(125, &["MEMCG_PRELOAD", "own.so"]);
    fs::copy(inert_library(), &own).expect("a copy");
    let mut run = command(folder.path(), &script);
    let output = outcome(run.env("MEMCG_PRELOAD", &own).output().expect("it starts"));
    assert_eq!(
        output.stdout.trim_end(),
        fs::canonicalize(&own).expect("a path").to_string_lossy()
    );
}

#[test]
fn a_command_copied_elsewhere_keeps_its_library_in_the_users_cache() {
    let folder = Folder::new();
    let copied = folder.copy(Path::new(env!("CARGO_BIN_EXE_memcg")), "memcg");
    let cache = folder.path().join("cache");
    let script = ["exec", "--", "sh", "-c", "echo \"$LD_PRELOAD\""];
    let run = || {
        let mut run = Command::new(&copied);
        run.args(script)
            .env("XDG_CACHE_HOME", &cache)
            .env_remove("LD_PRELOAD")
            .env_remove("MEMCG_PRELOAD");
        outcome(run.output().expect("it starts"))
            .printed()
            .trim_end()
            .to_owned()
    };
    let library = run();
    assert!(
        Path::new(&library).starts_with(cache.join("memcg")),
        "{library}"
    );
    fs::write(&library, "not a library").expect("a file");
    assert_eq!(run(), library);
    assert!(
        fs::metadata(&library).expect("a file").len() > 1000,
        "it was repaired"
    );
}

#[test]
fn switched_off_the_program_runs_as_it_is() {
    let folder = Folder::new();
    let script = "echo \"${LD_PRELOAD-none} ${PYTHONMALLOC-none} ${MEMCG_REPORT-none}\"; exit 7";
    let mut run = command(folder.path(), &["exec", "--top", "--", "sh", "-c", script]);
    let output = outcome(run.env("MEMCG", "off").output().expect("it starts"));
    assert_eq!(
        (
            output.code(),
            output.stdout.as_str(),
            output.stderr.as_str()
        ),
        (7, "none none none\n", "")
    );
}

#[test]
fn top_prints_the_final_table_and_the_coverage_and_deletes_the_report() {
    let folder = Folder::new();
    let text = folder.path().join("text");
    fs::write(&text, SNAPSHOT.replace("coverage=50.0", "coverage=83.1")).expect("a file");
    let script = format!("{}; echo \"$MEMCG_REPORT\"; exit 3", reporting(&text));
    let output = shell(&folder, &["--top"], &script);
    assert_eq!(output.code(), 3);
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(lines.len(), 6, "{output:?}");
    assert!(lines[0].starts_with("my app at the end, after 1.5 s: "));
    assert!(lines[1].starts_with("GROUP ") && lines[1].contains(" PEAK  CURRENT "));
    assert!(lines[4].starts_with("    a b "));
    assert_eq!(
        lines[5],
        "memcg: coverage 83.1 % (charged 1.0M of 2.0M RSS)"
    );
    let report = Path::new(output.stdout.trim_end());
    assert!(
        !report.parent().expect("a folder").exists(),
        "the private folder is deleted"
    );
}

#[test]
fn low_coverage_is_warned_of_only_with_top() {
    let folder = Folder::new();
    let text = folder.path().join("text");
    fs::write(&text, SNAPSHOT).expect("a file");
    let report = folder.path().join("report");
    let with_top = shell(&folder, &["--top"], &reporting(&text));
    assert!(with_top.stderr.contains("below 70 %"), "{with_top:?}");
    let without = shell(
        &folder,
        &["--report", report.to_str().expect("text")],
        &reporting(&text),
    );
    assert_eq!(without.stderr, "");
    assert_eq!(fs::read_to_string(&report).expect("the report"), SNAPSHOT);
}

#[test]
fn a_missing_report_is_said_in_one_line() {
    let folder = Folder::new();
    let output = shell(&folder, &["--top"], "kill -KILL $$");
    assert_eq!(output.signal(), Some(libc::SIGKILL));
    let said: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(said.len(), 1, "{output:?}");
    assert!(
        said[0].contains("no final report") && said[0].contains("signal 9"),
        "{output:?}"
    );
}

#[test]
fn an_older_report_is_never_taken_for_this_runs() {
    let folder = Folder::new();
    let report = folder.path().join("report");
    fs::write(&report, SNAPSHOT).expect("a file");
    let output = shell(
        &folder,
        &["--top", "--report", report.to_str().expect("text")],
        "kill -KILL $$",
    );
    assert!(output.stderr.contains("no final report"), "{output:?}");
    memcg(folder.path(), &["exec", "--report", "/dev/null", "true"]).is_error(2, &["/dev/null"]);
    memcg(
        folder.path(),
        &["exec", "--report", "/nonexistent/x", "true"],
    )
    .is_error(125, &["/nonexistent/x"]);
}

#[test]
fn a_signal_during_top_ends_the_program_and_still_shows_the_table() {
    let folder = Folder::new();
    let text = folder.path().join("text");
    fs::write(&text, SNAPSHOT).expect("a file");
    let script = format!(
        "trap \"{}; exit 4\" TERM; echo ready; while :; do sleep 0.05; done",
        reporting(&text).replace('"', "")
    );
    let mut child = command(
        folder.path(),
        &["exec", "--top=0.1", "--", "sh", "-c", &script],
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "ready");
    send(child.id(), libc::SIGTERM);
    let mut said = String::new();
    child
        .stderr
        .take()
        .expect("a pipe")
        .read_to_string(&mut said)
        .expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(4));
    assert!(said.contains("memcg: coverage 50.0 %"), "{said}");
}

#[test]
fn the_library_the_command_carries_can_be_loaded() {
    let folder = Folder::new();
    let output = with_engine(folder.path(), &["exec", "--", "sh", "-c", "exit 7"]).output();
    let output = outcome(output.expect("it starts"));
    assert_eq!((output.code(), output.stderr.as_str()), (7, ""));
}

#[test]
fn what_the_socket_said_last_stands_in_for_a_report_that_never_came() {
    let folder = Folder::new();
    let server = Server::new(&[]);
    let report = folder.path().join("report");
    let path = report.to_str().expect("text");
    let arguments = [
        "exec",
        "--top=0.05",
        "--report",
        path,
        "--",
        "sh",
        "-c",
        "echo $$; while :; do sleep 0.05; done",
    ];
    let mut child = command(server.folder(), &arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let pid: u32 = lines
        .next()
        .expect("a line")
        .expect("text")
        .parse()
        .expect("a process id");
    let _server = server.serving(pid, &[("snapshot", &ok(SNAPSHOT))]);
    let mut said = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    // stderr is no terminal, and an interval was given: a block comes each time.
    assert!(
        said.next()
            .expect("a line")
            .expect("text")
            .starts_with("GROUP ")
    );
    send(pid, libc::SIGKILL);
    let said: Vec<String> = said.map(|line| line.expect("text")).collect();
    assert!(child.wait().expect("it ends").code().is_none());
    let at = said
        .iter()
        .position(|line| line.contains("no final report"))
        .expect("it is said");
    assert!(
        said[at].contains("signal 9") && said[at].contains("was written"),
        "{said:?}"
    );
    assert!(said[at + 1].starts_with("my app at the end"), "{said:?}");
    assert!(said[at + 2].starts_with("GROUP "), "{said:?}");
    assert_eq!(fs::read_to_string(&report).expect("a report"), SNAPSHOT);
}
