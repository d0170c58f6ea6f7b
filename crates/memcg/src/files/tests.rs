//! The files of an engine of the test's own: what they take, show and refuse, and that a write
//! loses no byte.
//!
//! Invariants: each test has an engine of its own.
//! Depends on: `files`.
//! Never: uses the process's engine.

mod engine_kind;
mod lingering_groups;
mod names;
mod peaks;
mod reserves;
mod root_stat;
mod stall_model;

use super::*;
use crate::engine::{Flags, Request};
use crate::group::{GroupId, Kind, Tag};
use crate::sync::lock::Rank;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

struct World {
    engine: &'static Engine,
    rec: &'static ThreadRec,
}

impl World {
    fn new() -> Self {
        let engine = Engine::leaked();
        Self {
            engine,
            rec: engine.tree.threads.join().unwrap().1,
        }
    }
    fn mkdir(&self, path: &str) {
        mkdir(self.engine, self.rec, path.as_bytes()).unwrap();
    }
    fn get(&self, path: &str, file: &str) -> String {
        read(self.engine, self.rec, path.as_bytes(), file.as_bytes()).unwrap()
    }
    fn set(&self, path: &str, file: &str, value: &str) -> Result<(), Errno> {
        write(
            self.engine,
            self.rec,
            path.as_bytes(),
            file.as_bytes(),
            value.as_bytes(),
        )
        .map_err(|why| why.errno)
    }
    fn group(&self, path: &str) -> &'static Memcg {
        let tree = &self.engine.tree;
        tree.memcgs.get(tree.lookup(path.as_bytes()).unwrap())
    }
    fn tag(&self, path: &str) -> Tag {
        self.group(path).tag()
    }
    fn charge_kind(&self, path: &str, bytes: u64, kind: Kind) -> bool {
        self.engine
            .charge(
                self.rec,
                Request {
                    tag: self.tag(path),
                    bytes,
                    kind,
                    flags: Flags::NOWAIT,
                },
            )
            .is_ok()
    }
    fn charge(&self, path: &str, bytes: u64, flags: Flags) -> bool {
        self.engine
            .charge(self.rec, Request::heap(self.tag(path), bytes, flags))
            .is_ok()
    }
}

fn key(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
        .unwrap()
}

#[test]
fn limits_take_the_kernel_s_grammar_and_keep_bytes() {
    let w = World::new();
    w.mkdir("/a");
    for (value, shown) in [
        ("max", "max\n"),
        ("0", "0\n"),
        ("4097", "4097\n"),
        ("100M\n", "104857600\n"),
        ("1g", "1073741824\n"),
        ("0x10", "16\n"),
    ] {
        for file in ["memory.max", "memory.high", "memory.low", "memory.min"] {
            w.set("/a", file, value).unwrap();
            assert_eq!(w.get("/a", file), shown, "{file} {value}");
        }
    }
    for value in [
        "",
        "-1",
        "1M2",
        "12Q",
        "max1",
        "1 2",
        "99999999999999999999",
    ] {
        assert_eq!(
            w.set("/a", "memory.max", value),
            Err(Errno::EINVAL),
            "{value:?}"
        );
    }
    assert_eq!(
        w.get("/a", "memory.max"),
        "1073741824\n".replace("1073741824", "16")
    );
}

#[test]
fn what_is_not_there_is_enoent_and_what_cannot_be_written_is_eacces() {
    let w = World::new();
    w.mkdir("/a");
    assert_eq!(w.set("/nowhere", "memory.max", "1"), Err(Errno::ENOENT));
    assert_eq!(w.set("/a", "memory.nothing", "1"), Err(Errno::ENOENT));
    assert_eq!(w.set("/", "memory.min", "1"), Err(Errno::ENOENT));
    assert_eq!(w.set("/a", "memory.current", "1"), Err(Errno::EACCES));
    let refused = read(w.engine, w.rec, b"/", b"memory.reclaim").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "EACCES: /memory.reclaim: can only be written"
    );
}

#[test]
fn groups_come_and_go_as_directories_do() {
    let w = World::new();
    w.mkdir("/a");
    w.mkdir("/a/b");
    let errno = |result: Result<(), FileError>| result.map_err(|why| why.errno);
    assert_eq!(errno(mkdir(w.engine, w.rec, b"/a")), Err(Errno::EEXIST));
    assert_eq!(errno(mkdir(w.engine, w.rec, b"/")), Err(Errno::EEXIST));
    assert_eq!(errno(mkdir(w.engine, w.rec, b"/x/y")), Err(Errno::ENOENT));
    assert_eq!(errno(mkdir(w.engine, w.rec, b"/a/..")), Err(Errno::EINVAL));
    for file in [&b"/a/memory.max"[..], b"/a/cgroup.procs/", b"/memory.max"] {
        assert_eq!(errno(mkdir(w.engine, w.rec, file)), Err(Errno::EEXIST));
    }
    assert_eq!(errno(rmdir(w.engine, w.rec, b"/a")), Err(Errno::EBUSY));
    assert_eq!(errno(rmdir(w.engine, w.rec, b"/")), Err(Errno::EBUSY));
    assert_eq!(key(&w.get("/", "cgroup.stat"), "nr_descendants"), 2);
    assert_eq!(
        list(w.engine, w.rec, b"/a").unwrap()[0],
        Entry::Group(b"b".to_vec())
    );
    rmdir(w.engine, w.rec, b"/a/b").unwrap();
    rmdir(w.engine, w.rec, b"/a").unwrap();
    assert_eq!(errno(rmdir(w.engine, w.rec, b"/a")), Err(Errno::ENOENT));
}

#[test]
fn groups_that_do_not_linger_are_never_dying() {
    let w = World::new();
    w.mkdir("/g");
    assert!(w.charge_kind("/g", 4096, Kind::Reserved));
    // Whoever looked before it went may still see its record.
    let _looking = w.engine.tree.threads.epoch.pin(w.rec);
    rmdir(w.engine, w.rec, b"/g").unwrap();
    let stat = w.get("/", "cgroup.stat");
    assert_eq!(key(&stat, "nr_dying_descendants"), 0);
}

#[test]
fn a_task_is_listed_moved_by_its_id_and_keeps_its_group_busy() {
    let w = World::new();
    w.mkdir("/a");
    w.mkdir("/b");
    let group = w
        .engine
        .tree
        .memcgs
        .get(w.engine.tree.lookup(b"/a").unwrap());
    let task = w.engine.tree.new_task(group, b"job", 4711).unwrap();
    assert_eq!(
        (w.get("/a", "cgroup.procs"), w.get("/a", "cgroup.threads")),
        ("4711\n".into(), "4711\n".into())
    );
    assert!(w.get("/a", "cgroup.events").starts_with("populated 1\n"));
    assert_eq!(
        (
            key(&w.get("/a", "memory.stat"), "tasks"),
            key(&w.get("/", "memory.stat"), "tasks")
        ),
        (1, 0)
    );
    assert_eq!(
        rmdir(w.engine, w.rec, b"/a").unwrap_err().errno,
        Errno::EBUSY
    );
    assert!(
        w.engine
            .charge(w.rec, Request::heap(task, 100_000, Flags::NOWAIT))
            .is_ok()
    );
    w.set("/b", "memory.max", "50000").unwrap();
    assert_eq!(w.set("/b", "cgroup.procs", "4711"), Err(Errno::ENOMEM));
    assert_eq!(w.set("/b", "cgroup.procs", "4712"), Err(Errno::ESRCH));
    assert_eq!(w.set("/b", "cgroup.procs", "x"), Err(Errno::EINVAL));
    w.set("/b", "memory.max", "max").unwrap();
    w.set("/b", "cgroup.procs", "4711").unwrap();
    assert_eq!(
        (w.get("/a", "memory.current"), w.get("/b", "memory.current")),
        ("0\n".into(), "100000\n".into())
    );
    rmdir(w.engine, w.rec, b"/a").unwrap();
    w.set("/b", "cgroup.kill", "1").unwrap();
    assert!(w.engine.tree.objcgs.get(task).is_killed());
}

#[test]
fn only_threads_are_written_to_cgroup_threads() {
    let w = World::new();
    w.mkdir("/a");
    w.mkdir("/b");
    let group = w
        .engine
        .tree
        .memcgs
        .get(w.engine.tree.lookup(b"/a").unwrap());
    let future = w.engine.tree.new_task(group, b"future", 0).unwrap();
    let future = w.engine.tree.objcgs.get(future).id().to_string();
    w.engine.tree.new_task(group, b"thread", 77).unwrap();
    assert_eq!(
        w.set("/b", "cgroup.threads", &future),
        Err(Errno::EOPNOTSUPP)
    );
    assert_eq!(
        w.set("/b", "cgroup.threads", "4294967295"),
        Err(Errno::ESRCH)
    );
    w.set("/b", "cgroup.threads", "77").unwrap();
    assert_eq!(w.get("/b", "cgroup.threads"), "77\n");
    w.set("/b", "cgroup.procs", &future).unwrap();
    assert_eq!(w.get("/b", "cgroup.procs"), format!("77\n{future}\n"));
}

#[test]
fn the_ledger_keeps_a_line_until_the_last_byte_goes() {
    let w = World::new();
    w.mkdir("/a");
    w.mkdir("/a/b");
    let tag = w.tag("/a/b");
    assert!(w.charge("/a/b", 5_000, Flags::NOWAIT));
    rmdir(w.engine, w.rec, b"/a/b").unwrap();
    let ledger = w.get("/a", "memory.owners");
    assert_eq!(ledger.lines().count(), 2);
    assert!(
        ledger
            .lines()
            .nth(1)
            .unwrap()
            .starts_with("/a/b\tremoved-group\t20")
    );
    assert!(ledger.contains("\t5000\t5000\t0\t0\t0"));
    assert_eq!(key(&w.get("/a", "memory.events"), "inherited"), 1);
    assert_eq!(key(&w.get("/a", "memory.stat"), "inherited_bytes"), 5_000);
    w.engine.uncharge(w.rec, tag, 5_000, Kind::Heap);
    assert_eq!(w.get("/a", "memory.owners").lines().count(), 1);
    assert_eq!(w.get("/", "memory.current"), "0\n");
}

#[test]
fn a_full_group_counts_max_and_oom_here_and_above() {
    let w = World::new();
    w.mkdir("/a");
    w.mkdir("/a/b");
    w.set("/a", "memory.max", "64K").unwrap();
    w.set("/a/b", "memory.oom.policy", "deny").unwrap();
    assert!(w.charge("/a/b", 60_000, Flags::NOWAIT));
    assert!(!w.charge("/a/b", 60_000, Flags::NOWAIT));
    assert_eq!(key(&w.get("/a", "memory.events.local"), "max"), 1);
    assert_eq!(key(&w.get("/a", "memory.events"), "oom"), 1);
    assert_eq!(key(&w.get("/a/b", "memory.events"), "max"), 0);
    w.set("/a", "memory.oom.policy", "debt").unwrap();
    assert!(
        !w.charge("/a/b", 10_000, Flags::NOWAIT),
        "asked at the door"
    );
    assert!(w.charge("/a/b", 10_000, Flags::MALLOC));
    assert_eq!(w.get("/a", "memory.current"), "70000\n");
    assert_eq!(key(&w.get("/a", "memory.events"), "debt"), 1);
    assert!(w.charge("/a/b", 60_000, Flags::MALLOC));
    assert_eq!(
        key(&w.get("/a", "memory.events"), "debt"),
        1,
        "it was above"
    );
    w.set("/a", "memory.debt.max", "64K").unwrap();
    assert!(!w.charge("/a/b", 60_000, Flags::MALLOC));
    assert!(!w.charge("/a/b", 60_000, Flags::INFALLIBLE));
    assert_eq!(w.get("/a", "memory.debt.max"), "65536\n");
    w.set("/a", "memory.debt.max", "max").unwrap();
    assert_eq!(
        w.set("/a", "memory.debt.max", "default"),
        Err(Errno::EINVAL)
    );
    assert!(w.charge("/a/b", 60_000, Flags::INFALLIBLE));
    assert_eq!(
        w.get("/a", "memory.oom.policy"),
        "default deny [debt] kill observe\n"
    );
}

#[test]
fn a_limit_written_below_usage_is_taken_and_refuses_what_comes() {
    let w = World::new();
    w.mkdir("/a");
    assert!(w.charge("/a", 100_000, Flags::NOWAIT));
    w.set("/a", "memory.max", "10000").unwrap();
    assert!(!w.charge("/a", 8, Flags::NOWAIT));
    assert!(w.charge("/a", 8, Flags::FORCE));
    assert_eq!(w.get("/a", "memory.current"), "100008\n");
}

#[test]
fn reclaim_gives_stock_back_and_counts_only_what_was_used() {
    let w = World::new();
    w.mkdir("/a");
    assert!(w.charge("/a", 64, Flags::NOWAIT));
    assert!(key(&w.get("/a", "memory.stat"), "stocked") > 0);
    let eight = w.set("/a", "memory.reclaim", "8 swappiness=10");
    assert_eq!(eight, Err(Errno::EAGAIN), "the 64 are in use");
    assert_eq!(key(&w.get("/a", "memory.stat"), "stocked"), 0);
    assert_eq!(w.set("/a", "memory.reclaim", "1M"), Err(Errno::EAGAIN));
    assert_eq!(
        w.set("/a", "memory.reclaim", "1M swap=3"),
        Err(Errno::EINVAL)
    );
    assert_eq!(w.get("/a", "memory.current"), "64\n");
}

#[test]
fn every_policy_of_a_group_s_end_is_taken_and_shown_in_brackets() {
    let w = World::new();
    w.mkdir("/a");
    let all = "[parent] evict mapper next-touch auto\n";
    assert_eq!(w.get("/a", "memory.offline"), all);
    for policy in ["evict", "mapper", "next-touch", "auto", "parent"] {
        for text in [policy.to_string(), format!("objects={policy}")] {
            w.set("/a", "memory.offline", &text).unwrap();
            let shown = w.get("/a", "memory.offline");
            assert!(shown.contains(&format!("[{policy}]")), "{shown}");
        }
    }
    w.set("/a", "memory.offline", "auto").unwrap();
    for wrong in ["x", "objects=", "objects=x", "pages=evict", "[evict]", ""] {
        assert_eq!(w.set("/a", "memory.offline", wrong), Err(Errno::EINVAL));
    }
    assert!(w.get("/a", "memory.offline").contains("[auto]"));
    // As other settings, it is not inherited.
    w.mkdir("/a/b");
    assert_eq!(w.get("/a/b", "memory.offline"), all);
}

#[test]
fn every_policy_of_moving_is_taken_and_shown_in_brackets() {
    let w = World::new();
    w.mkdir("/a");
    assert!(w.get("/a", "memory.move").starts_with("[transfer] stay "));
    for (_, name) in crate::group::MovePolicy::ALL {
        w.set("/a", "memory.move", name).unwrap();
        assert!(w.get("/a", "memory.move").contains(&format!("[{name}]")));
    }
    assert_eq!(w.set("/a", "memory.move", "nonsense"), Err(Errno::EINVAL));
    w.mkdir("/a/b");
    assert!(w.get("/a/b", "memory.move").starts_with("[transfer]"));
}

#[test]
fn every_file_of_the_table_reads_in_every_group_it_appears_in() {
    let w = World::new();
    w.mkdir("/a");
    for path in ["/", "/a"] {
        let mut files = 0;
        for entry in list(w.engine, w.rec, path.as_bytes()).unwrap() {
            if let Entry::File(name, mode) = entry {
                files += 1;
                if mode != Mode::Write {
                    let text = w.get(path, name);
                    assert!(text.is_empty() || text.ends_with('\n'), "{name}");
                }
            }
        }
        assert!(files >= 12);
    }
    let docs = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/internals/files.md"
    ));
    assert!(
        docs.contains(&markdown()),
        "docs/internals/files.md is not the table: put this in it\n{}",
        markdown()
    );
}

/// Numbers that look random, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % n
    }
    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

const RACED: [&str; 4] = ["/r", "/r/a", "/r/b", "/r/gone"];

/// Runs `f` until told to stop, with a record of this thread's own.
fn race<R: Default>(engine: &'static Engine, stop: &AtomicBool, f: impl Fn(&World, &mut R)) -> R {
    let (index, rec) = engine.tree.threads.join().unwrap();
    let (w, mut kept) = (World { engine, rec }, R::default());
    while !stop.load(Ordering::Relaxed) {
        f(&w, &mut kept);
    }
    engine.tree.return_all(rec);
    engine.tree.threads.leave(index);
    kept
}

type Held = Vec<(Tag, u64, Kind)>;

/// Charges a little somewhere, or gives something back.
fn charge_some(w: &World, random: &mut Random, held: &mut Held) {
    if held.len() > 40 || !held.is_empty() && random.below(3) == 0 {
        let (tag, bytes, kind) = held.swap_remove(random.below(held.len() as u64) as usize);
        w.engine.uncharge(w.rec, tag, bytes, kind);
        return;
    }
    let _pin = w.engine.tree.threads.epoch.pin(w.rec);
    let Some(index) = w.engine.tree.lookup(random.of(&RACED).as_bytes()) else {
        return;
    };
    let Some(tag) = name_owner(w, index) else {
        return;
    };
    let most = random.of(&[200, 20_000, 500_000]);
    let kind = random.of(&[Kind::Heap, Kind::Heap, Kind::Mapped]);
    let flags = random.of(&[Flags::NOWAIT, Flags::NOWAIT, Flags::FORCE]);
    let bytes = 1 + random.below(most);
    if let Ok(bytes) = w.engine.charge(
        w.rec,
        Request {
            tag,
            bytes,
            kind,
            flags,
        },
    ) {
        held.push((tag, bytes, kind));
    }
    w.engine.tree.unref_objcg(tag);
}

/// The group's own owner, named by the caller from here on, as a handle does it: an owner is
/// charged only while it is named, or its group might end and the record be used again in between.
fn name_owner(w: &World, index: GroupId) -> Option<Tag> {
    let group = w.engine.tree.memcgs.get(index);
    let _held = group.lock.lock(Rank::Group);
    group.is_online().then(|| {
        w.engine.tree.ref_objcg(group.tag());
        group.tag()
    })
}

fn write_some(w: &World, random: &mut Random) {
    let file = random.of(&["memory.max", "memory.reserve", "memory.reserve"]);
    let value = match random.below(8) {
        0 if file == "memory.max" => "max".to_string(),
        0 => "0".to_string(),
        _ => random.below(6 << 20).to_string(),
    };
    match w.set(random.of(&RACED), file, &value) {
        Ok(()) | Err(Errno::ENOENT | Errno::ENODEV | Errno::ENOMEM) => {}
        Err(other) => panic!("{file} {value}: {other:?}"),
    }
}

#[test]
fn limits_and_reserves_written_amid_charges_and_removals_lose_no_byte() {
    let w = World::new();
    for path in &RACED[..3] {
        w.mkdir(path);
    }
    let (engine, stop) = (w.engine, &AtomicBool::new(false));
    let mut held: Held = Vec::new();
    std::thread::scope(|s| {
        let chargers: Vec<_> = (1..=3)
            .map(|seed| {
                let random = core::cell::RefCell::new(Random(0x9e37_79b9 * seed));
                s.spawn(move || {
                    race(engine, stop, |w, held: &mut Held| {
                        charge_some(w, &mut random.borrow_mut(), held);
                    })
                })
            })
            .collect();
        for seed in 4..=5 {
            let random = core::cell::RefCell::new(Random(0x9e37_79b9 * seed));
            s.spawn(move || {
                race(engine, stop, |w, (): &mut ()| {
                    write_some(w, &mut random.borrow_mut())
                })
            });
        }
        s.spawn(move || {
            race(engine, stop, |w, (): &mut ()| {
                w.mkdir("/r/gone");
                std::thread::sleep(Duration::from_micros(200));
                rmdir(w.engine, w.rec, b"/r/gone").unwrap();
            })
        });
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        held.extend(chargers.into_iter().flat_map(|c| c.join().unwrap()));
    });
    engine.tree.audit().unwrap();
    // What is reserved and not used counts as held by the parent.
    for path in &RACED[..3] {
        w.set(path, "memory.reserve", "0").unwrap();
    }
    let sum: u64 = held.iter().map(|(_, bytes, _)| bytes).sum();
    assert_eq!(w.get("/", "memory.current"), format!("{sum}\n"));
    for (tag, bytes, kind) in held {
        engine.uncharge(w.rec, tag, bytes, kind);
    }
    assert_eq!(w.get("/", "memory.current"), "0\n");
    engine.tree.audit().unwrap();
}
