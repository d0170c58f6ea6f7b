//! `memory.reserve`: paid in advance by the groups above, which must have room for all of it.

#![forbid(unsafe_code)]

use super::*;

#[test]
fn reserves_are_charged_to_the_parent_and_telescope() {
    let w = World::new();
    w.mkdir("/a");
    w.mkdir("/a/b");
    w.mkdir("/a/c");
    w.set("/a", "memory.max", "1M").unwrap();
    w.set("/a/b", "memory.reserve", "600K").unwrap();
    assert_eq!(w.set("/a/c", "memory.reserve", "600K"), Err(Errno::ENOMEM));
    assert!(!w.charge("/a/c", 500 << 10, Flags::NOWAIT));
    assert!(
        w.charge("/a/b", 500 << 10, Flags::NOWAIT),
        "what is reserved is there"
    );
    rmdir(w.engine, w.rec, b"/a/b").unwrap();
    assert!(
        w.charge("/a/c", 500 << 10, Flags::NOWAIT),
        "an ended group gives its reserve back"
    );
    w.engine.tree.audit().unwrap();
}

#[test]
fn a_reserve_of_what_is_used_already_needs_room_in_every_group_above() {
    let w = World::new();
    w.mkdir("/p");
    w.mkdir("/p/a");
    assert!(w.charge("/p/a", 19_900_000, Flags::FORCE));
    w.set("/p", "memory.max", "10M").unwrap();
    let why = write(w.engine, w.rec, b"/p/a", b"memory.reserve", b"19900000").unwrap_err();
    assert_eq!(why.errno, Errno::ENOMEM);
    assert!(why.message.contains(": /p cannot guarantee"), "{why}");
    assert_eq!(w.get("/p/a", "memory.reserve"), "0\n");
    w.engine
        .uncharge(w.rec, w.tag("/p/a"), 19_900_000, Kind::Heap);
    assert_eq!(w.get("/p", "memory.current"), "0\n");
    w.set("/p/a", "memory.reserve", "10M").unwrap();
    w.engine.tree.audit().unwrap();
}

#[test]
fn a_reserve_takes_stock_that_is_in_its_way_and_is_never_clamped() {
    let w = World::new();
    w.mkdir("/a");
    w.mkdir("/a/b");
    w.mkdir("/a/c");
    assert!(w.charge("/a/c", 64, Flags::NOWAIT));
    w.set("/a", "memory.max", "1M").unwrap();
    assert!(w.charge("/a/c", 64, Flags::NOWAIT));
    assert!(key(&w.get("/a", "memory.stat"), "stocked") > 0);
    let rest = ((1 << 20) - 128).to_string();
    w.set("/a/b", "memory.reserve", &rest).unwrap();
    assert_eq!(w.get("/a/b", "memory.reserve"), rest + "\n");
    assert_eq!(
        w.set("/a/b", "memory.reserve", "0x800000000001"),
        Err(Errno::EINVAL)
    );
    assert_eq!(w.set("/a/b", "memory.reserve", "128T"), Err(Errno::ENOMEM));
    w.set("/a", "memory.max", "max").unwrap();
    w.set("/a/b", "memory.reserve", "127T").unwrap();
    w.set("/a/b", "memory.reserve", "0").unwrap();
    assert_eq!(w.get("/", "memory.current"), "128\n");
    w.engine.tree.audit().unwrap();
}
