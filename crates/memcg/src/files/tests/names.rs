//! Tests of the answer to a name that is no file, and of which owner is in which list.
//!
//! Invariants: each test has an engine of its own.
//! Depends on: the helpers of `files::tests`.
//! Never: uses the process's engine.

#![forbid(unsafe_code)]

use super::*;

fn refusal(w: &World, path: &[u8], file: &[u8]) -> String {
    read(w.engine, w.rec, path, file).unwrap_err().to_string()
}

#[test]
fn a_misspelt_file_is_answered_with_the_nearest_that_is_there() {
    let w = World::new();
    w.mkdir("/a");
    assert_eq!(
        refusal(&w, b"/a", b"memroy.max"),
        "ENOENT: /a: no file 'memroy.max' here: did you mean memory.max?"
    );
    // The root has no memory.min, and it is not suggested there.
    assert_eq!(
        refusal(&w, b"/", b"memory.min"),
        "ENOENT: /: no file 'memory.min' here: did you mean memory.max?"
    );
    let written = write(w.engine, w.rec, b"/a", b"max", b"1").unwrap_err();
    assert!(
        written.to_string().ends_with("did you mean memory.max?"),
        "{written}"
    );
}

#[test]
fn a_group_in_a_files_place_is_eisdir() {
    let w = World::new();
    w.mkdir("/a");
    w.mkdir("/a/b");
    for (path, file, group) in [
        (&b"/a"[..], &b"b"[..], "/a/b"),
        (b"/a", b"", "/a/"),
        (b"", b"", "/"),
        (b"", b"a", "/a"),
    ] {
        let said = refusal(&w, path, file);
        assert_eq!(
            said,
            format!("EISDIR: {group}: it is a group, not a file: 'ls' of it shows its files")
        );
        let written = write(w.engine, w.rec, path, file, b"1").unwrap_err();
        assert_eq!(written.errno, Errno::EISDIR);
    }
}

#[test]
fn an_owner_is_in_the_list_of_the_living_or_in_that_of_the_ended() {
    let w = World::new();
    w.mkdir("/a");
    w.mkdir("/a/b");
    let tag = w.tag("/a/b");
    assert!(w.charge("/a/b", 5_000, Flags::NOWAIT));
    let live = w.get("/a/b", "memory.owners.live");
    let ended = w.get("/a/b", "memory.owners");
    assert_eq!(live.lines().next(), ended.lines().next());
    assert_eq!(ended.lines().count(), 1);
    assert_eq!(
        live.lines().nth(1),
        Some("/a/b\tgroup\t-\t5000\t5000\t0\t0\t0\t0")
    );
    // Of the group itself alone.
    assert_eq!(w.get("/a", "memory.owners.live").lines().count(), 1);
    rmdir(w.engine, w.rec, b"/a/b").unwrap();
    assert_eq!(w.get("/a", "memory.owners.live").lines().count(), 1);
    assert_eq!(w.get("/a", "memory.owners").lines().count(), 2);
    w.engine.uncharge(w.rec, tag, 5_000, Kind::Heap);
}
