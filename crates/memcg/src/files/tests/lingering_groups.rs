//! Tests of groups that linger, as the files show them.
//!
//! Invariants: each test has an engine of its own.
//! Depends on: the helpers of `files::tests`.
//! Never: uses the process's engine.

#![forbid(unsafe_code)]

use super::*;
use crate::engine::group_end::GroupEnd;
use crate::kmem::per_id::IdPolicy;

fn key(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("no {key} in {text}"))
}

#[test]
fn what_lingers_is_counted_listed_and_gone_with_its_last_byte() {
    let w = World::new();
    assert!(w.engine.set_group_end(GroupEnd::Linger));
    assert!(w.engine.set_id_policy(IdPolicy::ReclaimOfflineFirst));
    for path in ["/a", "/a/b", "/a/b/c"] {
        w.mkdir(path);
    }
    let (b, c) = (w.tag("/a/b"), w.tag("/a/b/c"));
    {
        let _pin = w.engine.tree.threads.epoch.pin(w.rec);
        let group = w.group("/a/b/c");
        w.engine.kmem_id(w.rec, group, Flags::NOWAIT).unwrap();
    }
    assert!(w.charge_kind("/a/b", 4096, Kind::Reserved));
    assert!(w.charge_kind("/a/b/c", 800, Kind::Reserved));
    rmdir(w.engine, w.rec, b"/a/b/c").unwrap();
    rmdir(w.engine, w.rec, b"/a/b").unwrap();
    for path in ["/", "/a"] {
        let stat = w.get(path, "cgroup.stat");
        assert_eq!(key(&stat, "nr_dying_descendants"), 2, "{path}");
        let dying = w.get(path, "memory.dying");
        let lines: Vec<Vec<&str>> = dying.lines().map(|l| l.split('\t').collect()).collect();
        assert_eq!(lines.len(), 3, "{dying}");
        assert_eq!(
            (lines[1][0], lines[1][2], lines[1][3]),
            ("/a/b", "4896", "3")
        );
        assert_eq!(
            (lines[2][0], lines[2][2], lines[2][3]),
            ("/a/b/c", "800", "4")
        );
    }
    // The ledger of the group that will inherit them names their owners.
    let owners = w.get("/a", "memory.owners");
    assert!(owners.contains("/a/b/c\tremoved-group"), "{owners}");
    let stat = w.get("/", "memory.stat");
    assert_eq!((key(&stat, "dying"), key(&stat, "kmem_ids")), (2, 4));
    w.engine.uncharge(w.rec, b, 4096, Kind::Reserved);
    assert_eq!(
        w.get("/a", "cgroup.stat"),
        "nr_descendants 0\nnr_subsys_memory 1\nnr_dying_descendants 2\nnr_dying_subsys_memory 2\n"
    );
    w.engine.uncharge(w.rec, c, 800, Kind::Reserved);
    assert_eq!(
        w.get("/a", "cgroup.stat"),
        "nr_descendants 0\nnr_subsys_memory 1\nnr_dying_descendants 0\nnr_dying_subsys_memory 0\n"
    );
    let stat = w.get("/", "memory.stat");
    assert_eq!((key(&stat, "dying"), key(&stat, "dying_gone")), (0, 2));
    assert_eq!(w.get("/a", "memory.dying").lines().count(), 1);
}

#[test]
fn where_groups_do_not_linger_there_is_no_file_of_them() {
    let w = World::new();
    let found = read(w.engine, w.rec, b"/", b"memory.dying");
    assert_eq!(found.unwrap_err().errno, Errno::ENOENT);
}
