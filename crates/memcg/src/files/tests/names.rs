//! Tests of the answer to a name that is no file, and of which owner is in which list.
//!
//! Invariants: each test has an engine of its own.
//! Depends on: the helpers of `files::tests`.
//! Never: uses the process's engine.

#![forbid(unsafe_code)]

use super::*;
use crate::group::task_owner::FIRST_TASK_ID;

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
        Some("/a/b\tgroup\t-\t5000\t5000\t0\t0\t0\t0\t1")
    );
    // Of the group itself alone.
    assert_eq!(w.get("/a", "memory.owners.live").lines().count(), 1);
    rmdir(w.engine, w.rec, b"/a/b").unwrap();
    assert_eq!(w.get("/a", "memory.owners.live").lines().count(), 1);
    assert_eq!(w.get("/a", "memory.owners").lines().count(), 2);
    w.engine.uncharge(w.rec, tag, 5_000, Kind::Heap);
}

#[test]
fn a_path_that_ends_in_a_star_means_the_children_that_come() {
    let w = World::new();
    w.mkdir("/t");
    w.set("/t/*", "memory.max", "64M").unwrap();
    w.set(
        "/t",
        "memory.defaults",
        "memory.oom.policy=kill memory.high=32M",
    )
    .unwrap();
    assert_eq!(
        w.get("/t", "memory.defaults"),
        "memory.max=67108864\nmemory.high=33554432\nmemory.oom.policy=kill\n"
    );
    assert_eq!(w.get("/t/*", "memory.max"), "67108864\n");
    w.mkdir("/t/a");
    assert_eq!(w.get("/t/a", "memory.max"), "67108864\n");
    assert!(w.get("/t/a", "memory.oom.policy").contains("[kill]"));
    assert_eq!(
        w.set("/t", "memory.defaults", "memory.high= memory.max=x"),
        Err(Errno::EINVAL)
    );
    assert_eq!(w.get("/t/*", "memory.high"), "33554432\n", "all or none");
    w.set("/t", "memory.defaults", "memory.high=").unwrap();
    assert_eq!(
        refusal(&w, b"/t/*", b"memory.high"),
        "ENOENT: /t/*: no default is set"
    );
    assert_eq!(w.set("/t/*", "memory.current", "1"), Err(Errno::EINVAL));
    assert_eq!(w.set("/nowhere/*", "memory.max", "1"), Err(Errno::ENOENT));
    // A group may have that name, and is meant then.
    w.mkdir("/t/*");
    w.set("/t/*", "memory.max", "1M").unwrap();
    assert_eq!(
        w.get("/t", "memory.defaults").lines().next(),
        Some("memory.max=67108864")
    );
}

#[test]
fn a_template_goes_with_its_group_and_the_next_in_its_record_has_none() {
    let w = World::new();
    for _ in 0..1000 {
        w.mkdir("/a");
        assert_eq!(w.get("/a", "memory.defaults"), "");
        w.set("/a/*", "memory.max", "4096").unwrap();
        rmdir(w.engine, w.rec, b"/a").unwrap();
        w.engine.tree.collect();
    }
    let most = w.engine.tree.templates.high_water();
    assert!(most < 500, "{most}: they are used again");
}

#[test]
fn no_group_is_named_as_files_are() {
    let w = World::new();
    for name in ["/memory.x", "/cgroup.", "/memory."] {
        let why = mkdir(w.engine, w.rec, name.as_bytes()).unwrap_err();
        assert_eq!(why.errno, Errno::EINVAL);
        assert!(why.message.ends_with("'memory.' or 'cgroup.'"), "{why}");
    }
    let why = mkdir(w.engine, w.rec, b"/memory.max").unwrap_err();
    assert_eq!(why.errno, Errno::EEXIST);
    for name in ["/memory", "/cgroup", "/a.memory.x"] {
        w.mkdir(name);
    }
    let root = w.engine.tree.memcgs.get(crate::group::ROOT);
    let _pin = w.engine.tree.threads.epoch.pin(w.rec);
    assert!(w.engine.tree.create(root, b"memory.max").is_err());
}

#[test]
fn cgroup_kill_and_cgroup_stat_answer_as_the_kernels() {
    let w = World::new();
    w.mkdir("/a");
    w.mkdir("/a/b");
    for (value, answer) in [
        ("0", Err(Errno::ERANGE)),
        ("2", Err(Errno::ERANGE)),
        ("-1", Err(Errno::ERANGE)),
        ("yes", Err(Errno::EINVAL)),
        ("", Err(Errno::EINVAL)),
        ("1", Ok(())),
        ("0x1", Ok(())),
    ] {
        assert_eq!(w.set("/a", "cgroup.kill", value), answer, "{value}");
    }
    assert_eq!(
        w.get("/", "cgroup.stat"),
        "nr_descendants 2\nnr_subsys_memory 3\nnr_dying_descendants 0\nnr_dying_subsys_memory 0\n"
    );
}

#[test]
fn ended_owners_that_are_alike_stand_in_one_line_of_the_ledger() {
    let w = World::new();
    w.mkdir("/a");
    let (tree, group) = (&w.engine.tree, w.group("/a"));
    let _pin = tree.threads.epoch.pin(w.rec);
    let names = [b"request", b"request", b"request", b"another"];
    let tags = core::array::from_fn::<Tag, 4, _>(|n| {
        let id = FIRST_TASK_ID + n as u32;
        tree.new_task(group, names[n], id).unwrap()
    });
    for (n, &tag) in (1u64..).zip(&tags) {
        let request = Request::heap(tag, n * 1_000, Flags::NOWAIT);
        w.engine.charge(w.rec, request).unwrap();
    }
    assert_eq!(w.get("/a", "memory.owners.live").lines().count(), 1 + 4);
    for tag in tags {
        tree.end_task(tag);
    }
    let ended = w.get("/a", "memory.owners");
    let rows: Vec<Vec<&str>> = ended.lines().map(|row| row.split('\t').collect()).collect();
    assert_eq!(rows[0][9], "COUNT");
    let of = |row: &[&str]| [row[0], row[1], row[3], row[4], row[9]].map(String::from);
    assert_eq!(
        of(&rows[1]),
        ["/a/request", "ended-task", "6000", "6000", "3"]
    );
    assert_eq!(
        of(&rows[2]),
        ["/a/another", "ended-task", "4000", "4000", "1"]
    );
    assert_eq!(rows.len(), 3);
    for (n, tag) in (1u64..).zip(tags) {
        w.engine.uncharge(w.rec, tag, n * 1_000, Kind::Heap);
    }
}
