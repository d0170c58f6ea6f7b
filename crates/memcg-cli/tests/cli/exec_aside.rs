//! `memcg exec`: programs that run without the engine, or past it, and the line that says so.

use super::folder::Folder;
use super::run::{Outcome, command, memcg, outcome};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program made of this C source, which shows every symbol it has.
fn compiled(folder: &Folder, name: &str, source: &str) -> PathBuf {
    let (c, path) = (folder.path().join("source.c"), folder.path().join(name));
    std::fs::write(&c, source).expect("a file");
    let mut cc = Command::new("cc");
    let built = cc.args(["-rdynamic", "-o"]).arg(&path).arg(&c).status();
    assert!(built.expect("there is cc").success());
    path
}

fn exec(folder: &Folder, program: &Path) -> Outcome {
    let program = program.to_str().expect("text");
    memcg(folder.path(), &["exec", "--top", "--", program])
}

/// One line that names the program and holds `parts`; what the program printed is not among it.
#[track_caller]
fn says(outcome: &Outcome, code: i32, parts: &[&str]) {
    assert_eq!(outcome.code(), code, "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    for part in parts {
        assert!(outcome.stderr.contains(part), "no {part:?} in {outcome:?}");
    }
}

const PRINT: &str = "#include <stdio.h>\n#include <stdlib.h>\n\
    int main(void) { puts(getenv(\"LD_PRELOAD\") ? \"under\" : \"plain\"); return 7; }\n";

#[test]
fn a_program_built_with_a_sanitizer_runs_without_the_engine() {
    let folder = Folder::new();
    let source = format!("{PRINT}void __tsan_init(void) {{}}\n");
    let output = exec(&folder, &compiled(&folder, "sanitized", &source));
    says(
        &output,
        7,
        &[
            "without the engine",
            "sanitized: ThreadSanitizer",
            "nothing is counted",
        ],
    );
    assert_eq!(output.stdout, "plain\n");
}

#[test]
fn a_sanitizer_that_is_linked_in_is_known_by_its_hook_for_malloc() {
    let folder = Folder::new();
    let hook = "__attribute__((weak)) void __sanitizer_malloc_hook(void) {}\n\
        void *malloc(unsigned long n) { (void)n; return 0; }\n";
    let output = exec(
        &folder,
        &compiled(&folder, "linked", &format!("{PRINT}{hook}")),
    );
    assert!(
        output.stderr.contains("a sanitizer puts its own malloc"),
        "{output:?}"
    );
}

#[test]
fn valgrind_runs_without_the_engine() {
    let folder = Folder::new();
    let path = folder.program(
        "valgrind",
        b"#!/bin/sh\necho \"${LD_PRELOAD-plain}\"; exit 7\n",
    );
    let output = exec(&folder, &path);
    says(
        &output,
        7,
        &["without the engine", "valgrind puts its own malloc"],
    );
    assert_eq!(output.stdout, "plain\n");
}

#[test]
fn a_program_that_steps_aside_gets_no_library_of_an_outer_run_and_keeps_others() {
    let folder = Folder::new();
    let path = folder.program("valgrind", b"#!/bin/sh\necho \"$LD_PRELOAD\"\n");
    let mut run = command(folder.path(), &["exec", path.to_str().expect("text")]);
    // The loader says that it cannot load the first, to memcg as well, and goes on.
    run.env("LD_PRELOAD", "/nonexistent/libmemcg_preload.so:libc.so.6");
    let output = outcome(run.output().expect("it starts"));
    assert_eq!((output.code(), output.stdout.as_str()), (0, "libc.so.6\n"));
}

#[test]
fn a_program_with_a_malloc_of_its_own_is_warned_of() {
    let folder = Folder::new();
    let own = "static char heap[1 << 20]; static unsigned long used;\n\
        void *malloc(unsigned long n) { void *p = heap + used; used += (n + 15) & ~15ul; return p; }\n\
        void free(void *p) { (void)p; }\n";
    let path = compiled(&folder, "own", &format!("{PRINT}{own}"));
    let output = memcg(folder.path(), &["exec", path.to_str().expect("text")]);
    says(
        &output,
        7,
        &[
            "warning: its own malloc",
            "own: ",
            "neither seen nor limited",
        ],
    );
    assert_eq!(output.stdout, "under\n");
}

#[test]
fn an_older_report_does_not_survive_a_run_that_writes_none() {
    let folder = Folder::new();
    let path = folder.program("valgrind", b"#!/bin/sh\n");
    let report = folder.path().join("report");
    std::fs::write(&report, "old").expect("a file");
    let arguments = ["exec", "--report", report.to_str().expect("text")];
    let output = memcg(
        folder.path(),
        &[&arguments[..], &[path.to_str().expect("text")]].concat(),
    );
    assert_eq!(output.code(), 0);
    assert!(!report.exists());
}
