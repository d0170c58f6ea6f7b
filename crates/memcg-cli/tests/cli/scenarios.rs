//! `memcg run`: what ends it, what it says, how several files go.

use super::folder::Folder;
use super::run::{Outcome, memcg};
use std::path::Path;

fn write(folder: &Folder, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("a file");
    path.to_str().expect("text").to_owned()
}

fn run(folder: &Folder, options: &[&str], files: &[&str]) -> Outcome {
    memcg(folder.path(), &[&["run"], options, files].concat())
}

/// Runs one scenario that must fail in `line` with `parts` in its one line on stderr.
#[track_caller]
fn fails(text: &str, code: i32, place: &str, parts: &[&str]) {
    let folder = Folder::new();
    let file = write(&folder, "x.scn", text);
    let outcome = run(&folder, &[], &[&file]);
    let place = format!("{file}:{place}: ");
    outcome.is_error(code, &[&[place.as_str()], parts].concat());
}

const SMALL: &str = "mkdir /a\ntask t /a\nt alloc x 1Kx10\nexpect /a:memory.current == 10K\n";

#[test]
fn a_scenario_whose_expectations_hold_exits_with_0_and_says_so_in_a_line() {
    let folder = Folder::new();
    let file = write(&folder, "small.scn", SMALL);
    let outcome = run(&folder, &[], &[&file]);
    let said = outcome.printed();
    assert!(
        said.starts_with(&format!("{file}: ok: 4 steps, 1 expectations, ")),
        "{said}"
    );
}

#[test]
fn a_wrong_expectation_ends_it_with_its_line_and_what_is_instead() {
    let wrong = |line: &str| format!("# one\n\n{SMALL}{line}\nmkdir /never/reached\n");
    for (line, parts) in [
        (
            "expect /a:memory.current == 11K",
            &["10240 (10.0K)", "1024 less"][..],
        ),
        (
            "expect /a:memory.current ~ 12K ±3%",
            &["10240", "2048 less"],
        ),
        ("expect /a:memory.current > 10K", &["10240"]),
        ("expect /a:memory.max == 5", &["is max"]),
        ("expect /a:memory.events.max != 0", &["is 0"]),
        ("expect /a:cgroup.type == threaded", &["'domain'"]),
        (
            "expect /a:memory.current == /:memory.stat.mapped",
            &["/:memory.stat.mapped is 0"],
        ),
        (
            "expect /a:memory.stat.nothing == 0",
            &["ENOENT", "no key 'nothing'"],
        ),
        (
            "expect /b:memory.current == 0",
            &["ENOENT", "no such group"],
        ),
        ("expect /a gone", &["it is there"]),
        ("expect /b there", &["it is not there"]),
        ("expect x gone", &["held by t"]),
        ("expect y intact", &["nothing is called so"]),
        ("expect t killed", &["it lives"]),
        ("expect t in /", &["it is in /a"]),
        ("within 20ms expect /a gone", &["after 20ms", "it is there"]),
        ("fails ENOENT mkdir /b", &["does not fail"]),
        ("fails ENOENT mkdir /a", &["with EEXIST, not ENOENT"]),
        ("t free y", &["ENOENT"]),
        ("u alloc x 1", &["ESRCH", "task 'u'"]),
        ("rmdir /a", &["EBUSY"]),
        ("write /a/memory.max 1X", &["EINVAL"]),
        ("set nonsense on", &["there is no option 'nonsense'"]),
    ] {
        fails(&wrong(line), 1, "7", parts);
    }
}

#[test]
fn a_failure_in_a_block_says_which_round() {
    fails(
        "repeat 5\nmkdir /a$i\nexpect /a3 gone\nend\n",
        1,
        "3",
        &["it is there"],
    );
    fails(
        "repeat 5 as n\nrepeat 2\nexpect /:cgroup.stat.nr_descendants != $n\nmkdir /a$n.$i\nend\nend\n",
        1,
        "3",
        &["$n = 1, $i = 2"],
    );
    fails(
        "mkdir /a\nparallel 4 as t\nrepeat 50\nmkdir /a/$t.$i\nrmdir /a/$t.$i\nend\nrmdir /b$t\nend\n",
        1,
        "7",
        &["ENOENT", "/b"],
    );
}

#[test]
fn what_fails_must_have_changed_nothing() {
    fails(
        "mkdir /old\nfails EEXIST mkdir /new /old\n",
        1,
        "2",
        &["it fails with EEXIST, but something has changed", "/new:"],
    );
    fails(
        "mkdir /a /b\nmkdir /b/c\nfails EBUSY rmdir /a /b\n",
        1,
        "3",
        &["something has changed", "/a:", "is gone"],
    );
    let folder = Folder::new();
    let file = write(
        &folder,
        "x.scn",
        "mkdir /a\nwrite /a/memory.max 1M\ntask t /a\nt alloc x 4Kx100\nfails ENOMEM t alloc y 4Kx200\n\
         expect /a:memory.current == 4Kx100\nexpect /a:memory.events.max > 0\n",
    );
    assert_eq!(run(&folder, &[], &[&file]).code(), 0);
}

#[test]
fn a_file_that_cannot_be_understood_runs_nothing() {
    fails(
        "print /:memory.current\nmkdir a\n",
        1,
        "2:7",
        &["'a': expected the path of a group"],
    );
    let folder = Folder::new();
    run(&folder, &[], &["/nonexistent/x.scn"]).is_error(2, &["/nonexistent/x.scn", "No such file"]);
    run(&folder, &[], &[]).is_error(2, &["<FILE>", "memcg run --help"]);
    let nothing = folder.path().to_str().expect("text").to_owned();
    run(&folder, &[], &[&nothing]).is_error(2, &["ends in .scn"]);
}

#[test]
fn what_this_build_does_not_have_says_so_with_a_status_of_its_own() {
    for line in [
        "expect /a:memory.zswap.max == 0",
        "write /a/memory.zswap.writeback 0",
        "fails EINVAL write /a/memory.zswap.max x",
        "print /a:memory.zswap.max",
    ] {
        let text = format!("{SMALL}{line}\n");
        let why = "needs a file of swap, which this build does not have";
        fails(&text, 77, "5", &[why]);
    }
}

#[test]
fn a_touch_that_is_refused_says_which_page_and_who_was_full() {
    for touch in ["t touch m", "t touch m read", "t touch m write 3M 16K"] {
        let text = format!(
            "{SMALL}write /a/memory.max 2M\nt map m 4M shmem\nt touch m 0 1M\n\
             t touch m 1M 1000K\n{touch}\n"
        );
        fails(
            &text,
            1,
            "9",
            &["ENOMEM: t: page ", ": /a: 4096 bytes do not fit"],
        );
    }
}

#[test]
fn several_scenarios_run_in_a_process_each_and_are_summed_up() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("deep")).expect("a folder");
    // Each begins with an engine of its own: the groups of one are not there in the next.
    write(&folder, "a.scn", SMALL);
    write(&folder, "deep/b.scn", SMALL);
    write(&folder, "ignored.txt", "not a scenario");
    let all = folder.path().to_str().expect("text").to_owned();
    let outcome = run(&folder, &[], &[&all]);
    assert!(
        outcome
            .printed()
            .ends_with("2 scenarios: 2 passed, 0 failed, 0 need what this build does not have\n"),
        "{outcome:?}"
    );
    write(&folder, "c.scn", "print /:memory.zswap.max\n");
    assert_eq!(run(&folder, &[], &[&all]).code(), 0);
    write(&folder, "d.scn", "expect /a there\n");
    let outcome = run(&folder, &["--json"], &[&all]);
    assert_eq!(outcome.code(), 1);
    let last = outcome.stdout.lines().last().expect("a line");
    assert_eq!(last, r#"{"scenarios":4,"passed":2,"failed":1,"lacking":1}"#);
    let c = folder.path().join("c.scn");
    let c = c.to_str().expect("text");
    assert_eq!(run(&folder, &[], &[c, c]).code(), 77);
}

#[test]
fn json_has_a_line_for_each_step() {
    let folder = Folder::new();
    let text = format!("{SMALL}repeat 2\nread /a/memory.max\nend\nexpect /a gone\n");
    let file = write(&folder, "x.scn", &text);
    let outcome = run(&folder, &["--json"], &[&file]);
    assert_eq!(outcome.code(), 1);
    let steps: Vec<serde_json::Value> = outcome
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let field = |step: usize, name: &str| steps[step][name].clone();
    assert_eq!(steps.len(), 4 + 2 + 1 + 1);
    assert_eq!(field(3, "found"), "10240");
    assert_eq!(field(3, "line"), 4);
    assert_eq!(field(5, "output"), "max\n");
    assert_eq!(field(6, "status"), "failed");
    assert_eq!(field(6, "command"), "expect /a gone");
    assert_eq!(
        (field(7, "status"), field(7, "steps")),
        ("failed".into(), 7.into())
    );
}

#[test]
fn the_help_says_that_the_books_are_audited() {
    let folder = Folder::new();
    let outcome = memcg(folder.path(), &["run", "--help"]);
    let help = outcome.printed();
    assert!(help.contains("the engine's books are audited"), "{help}");
}

#[test]
fn verbose_says_every_step_with_what_it_found() {
    let folder = Folder::new();
    let file = write(&folder, "x.scn", SMALL);
    let outcome = run(&folder, &["-v"], &[&file]);
    let said = outcome.printed();
    assert!(said.contains("    1  mkdir /a\n"), "{said}");
    assert!(
        said.contains("    4  expect /a:memory.current == 10K  # 10240\n"),
        "{said}"
    );
}

#[test]
fn the_scenarios_of_the_repository_are_understood() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let mut folders = vec![folder];
    let mut nr = 0;
    let own = Folder::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            nr += 1;
            // The head says what is told; and a mistake appended at the end is the first one in it.
            let text = std::fs::read_to_string(&path).expect("text");
            assert!(text.starts_with("# "), "{}: no head", path.display());
            let lines = text.lines().count();
            let file = write(&own, "x.scn", &format!("{text}mistake\n"));
            let outcome = run(&own, &[], &[&file]);
            let place = format!("{file}:{}:1: 'mistake' is no command", lines + 1);
            outcome.is_error(1, &[&place]);
        }
    }
    assert!(nr > 20, "{nr}");
}
