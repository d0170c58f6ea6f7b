//! What `memcg exec` says when a real program has ended.

use super::folder::Folder;
use super::program::python;
use super::run::{Outcome, outcome, with_engine};
use std::path::Path;

fn run(folder: &Folder, options: &[&str], program: &[&str]) -> Outcome {
    let arguments = [&["exec"], options, &["--"], program].concat();
    let mut command = with_engine(folder.path(), &arguments);
    outcome(command.output().expect("it starts"))
}

#[test]
fn the_final_table_shows_the_tenants_that_have_ended_by_their_peaks() {
    let tenants = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/programs/tenants.py");
    let tenants = tenants.to_str().expect("text");
    let output = run(&Folder::new(), &["--top"], &[&python(), tenants]);
    assert_eq!(output.code(), 0, "{output:?}");
    let rows: Vec<Vec<&str>> = output
        .stderr
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0][1..4], ["at", "the", "end,"], "{output:?}");
    assert_eq!(rows[1][..3], ["GROUP", "PEAK", "CURRENT"], "{output:?}");
    for tenant in ["acme", "zeta", "umbrella"] {
        let row = rows.iter().find(|row| row[0] == tenant);
        let row = row.unwrap_or_else(|| panic!("no {tenant} in {output:?}"));
        assert!(row[1].ends_with('M'), "{output:?}");
    }
    assert!(!output.stderr.contains("warning"), "{output:?}");
    assert!(!output.stderr.contains("not shown"), "{output:?}");
}

#[test]
fn processes_that_the_program_started_are_counted_and_said_not_to_be_shown() {
    let folder = Folder::new();
    let output = run(
        &folder,
        &["--top"],
        &["sh", "-c", "sleep 0; sleep 0; exit 3"],
    );
    assert_eq!(output.code(), 3);
    let said = "memcg: not shown: 2 processes that sh started: each has groups of its own";
    assert!(output.stderr.contains(said), "{output:?}");
    // A forked child that stays is a process as well, also without another program.
    let script = "\
import os, time
child = os.fork()
if child == 0:
    time.sleep(0.1)
    held = [bytearray(4 << 20) for _ in range(4)]
    os._exit(0)
os.waitpid(child, 0)";
    let output = run(&folder, &["--top"], &[&python(), "-c", script]);
    assert!(
        output.stderr.contains("memcg: not shown: 1 process that "),
        "{output:?}"
    );
}

#[test]
fn a_group_of_a_set_that_no_thread_entered_is_said_at_the_end() {
    let folder = Folder::new();
    let output = run(&folder, &["--set=/slep/memory.max=1G"], &["sleep", "0"]);
    assert_eq!(output.code(), 0);
    assert_eq!(
        output.stderr,
        "memcg: --set /slep: no thread ever entered this group: did you mean /sleep?\n"
    );
    run(&folder, &["--set=/sleep/memory.max=1G"], &["sleep", "0"]).printed();
    // What was killed tells nothing, and that it does not is no news to who asked for no report.
    let killed = run(
        &folder,
        &["--set=/nosuch/memory.max=1G"],
        &["sh", "-c", "kill -KILL $$"],
    );
    assert_eq!((killed.signal(), killed.stderr.as_str()), (Some(9), ""));
}

#[test]
fn low_coverage_is_explained_by_the_largest_part_of_what_no_group_holds() {
    let folder = Folder::new();
    let small = run(&folder, &["--top"], &["sleep", "0"]);
    assert!(
        small.stderr.contains("below 70 %: of the other ")
            && small
                .stderr
                .contains("is code and mapped files: limits do not reach it"),
        "{small:?}"
    );
    // 40 MiB of which one block stays in every slab, and then 40 MiB of another size.
    let script = "\
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.calloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
def fill(n, size):
    blocks = [libc.malloc(size) for _ in range(n)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    return blocks
for i, block in enumerate(fill(20000, 2048)):
    if i % 24:
        libc.free(block)
fill(10000, 4096)";
    let rounded = run(&folder, &["--top"], &[&python(), "-c", script]);
    assert!(
        rounded.stderr.contains("below 70 %: of the other ")
            && rounded.stderr.contains("is the allocator's free memory"),
        "{rounded:?}"
    );
}
