//! What rules over caches' objects: limits of their own, words of groups, opting in and out,
//! shrinkers; and the checks of objects.

use super::own_process;
use crate::api::{
    AllocError, CacheLayout, CacheOptions, KmemCache, SizedCache, SlabKind, register_memcg_cache,
    root, set_cache_tracking,
};
use crate::attach::{MoveError, Moved, move_task_with};
use crate::engine::configuration::Tracking;
use crate::engine::{Engine, Flags, Request};
use crate::files;
use crate::group::Tag;
use crate::group::kind::Kind;
use crate::group::{Event, MovePolicy, ROOT};
use crate::kmem::cache::{Plan, Ways};
use crate::kmem::id::CacheId;
use crate::thread::ThreadRec;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

struct World {
    engine: &'static Engine,
    rec: &'static ThreadRec,
}

impl World {
    fn new(paths: &[&str]) -> Self {
        let engine = Engine::leaked();
        let (_, rec) = engine.tree.threads.join().unwrap();
        for path in paths {
            files::mkdir(engine, rec, path.as_bytes()).unwrap();
        }
        Self { engine, rec }
    }

    fn cache(&self, name: &[u8], ways: Ways) -> CacheId {
        let plan = Plan {
            name,
            bytes: 1000,
            align: 8,
            ways,
            ctor: None,
        };
        self.engine.create_cache(self.rec, &plan).unwrap()
    }

    fn group(&self, path: &str) -> &'static crate::group::Memcg {
        let _pin = self.engine.tree.threads.epoch.pin(self.rec);
        let index = self.engine.tree.lookup(path.as_bytes()).unwrap();
        self.engine.tree.memcgs.get(index)
    }

    fn alloc(&self, path: &str, cache: CacheId, flags: Flags) -> Option<usize> {
        let tree = &self.engine.tree;
        let scope = tree.enter_scope(self.rec, Some(self.group(path).tag()));
        let found = self.engine.alloc_cached(self.rec, cache, flags);
        tree.leave_scope(self.rec, scope);
        found.ok().map(|found| found.at)
    }

    fn free(&self, at: usize) {
        // SAFETY: live; ends here.
        unsafe { self.engine.free_cached(self.rec, at, false) };
    }

    fn get(&self, path: &str, file: &str) -> String {
        files::read(self.engine, self.rec, path.as_bytes(), file.as_bytes()).unwrap()
    }

    fn set(&self, path: &str, file: &str, value: &str) {
        let (path, file) = (path.as_bytes(), file.as_bytes());
        files::write(self.engine, self.rec, path, file, value.as_bytes()).unwrap();
    }

    fn kmem(&self, path: &str) -> u64 {
        self.get(path, "memory.kmem.current")
            .trim()
            .parse()
            .unwrap()
    }
}

#[test]
fn objects_of_caches_have_a_limit_of_their_own_at_every_level() {
    let w = World::new(&["/a", "/a/b"]);
    let cache = w.cache(b"thing", Ways::default());
    // Counted in advance, before there is a limit.
    let first = w.alloc("/a/b", cache, Flags::NOWAIT).unwrap();
    assert!(w.group("/a").side_kind(Kind::Slab) > 1008);
    w.set("/a", "memory.kmem.max", "10080");
    assert_eq!(w.group("/a").side_kind(Kind::Slab), 1008);
    let mut things = vec![first];
    things.extend((0..20).map_while(|_| w.alloc("/a/b", cache, Flags::NOWAIT)));
    assert_eq!((things.len(), w.kmem("/a")), (10, 10_080));
    let root = w.engine.tree.memcgs.get(ROOT);
    assert_eq!(w.group("/a").nr_events(Event::KmemMax, true), 2);
    assert_eq!(root.nr_events(Event::KmemMax, true), 0);
    // The charge that came before the refusal was taken back.
    assert_eq!(w.get("/a", "memory.current"), "10080\n");
    things.extend(w.alloc("/a/b", cache, Flags::FORCE));
    assert_eq!(w.kmem("/a"), 11_088);
    assert!(w.get("/a/b", "memory.stat").contains("\nslab 11088\n"));
    w.free(things.pop().unwrap());
    w.free(things.pop().unwrap());
    things.extend(w.alloc("/a/b", cache, Flags::NOWAIT));
    assert_eq!(things.len(), 10);
    w.set("/a", "memory.kmem.max", "max");
    things.extend(w.alloc("/a/b", cache, Flags::NOWAIT));
    things.into_iter().for_each(|at| w.free(at));
    assert_eq!(w.kmem("/"), 0);
    super::ledger::check(w.engine);
}

fn task_in(w: &World, path: &str) -> Tag {
    let _pin = w.engine.tree.threads.epoch.pin(w.rec);
    w.engine.tree.new_task(w.group(path), b"task", 0).unwrap()
}

fn take_for(w: &World, tag: Tag, cache: CacheId) -> Option<usize> {
    let scope = w.engine.tree.enter_scope(w.rec, Some(tag));
    let found = w.engine.alloc_cached(w.rec, cache, Flags::NOWAIT);
    w.engine.tree.leave_scope(w.rec, scope);
    found.ok().map(|found| found.at)
}

fn go(
    w: &World,
    tag: Tag,
    path: &str,
    policy: MovePolicy,
    evictable: u64,
) -> Result<Moved, MoveError> {
    let _pin = w.engine.tree.threads.epoch.pin(w.rec);
    let tree = &w.engine.tree;
    move_task_with(tree, w.rec, tag, w.group(path), policy, evictable)
}

#[test]
fn no_move_passes_a_limit_of_cache_objects_and_a_refused_one_changes_nothing() {
    for (policy, _) in MovePolicy::ALL {
        let w = World::new(&["/top", "/top/a", "/top/b", "/top/b/deep"]);
        let cache = w.cache(b"thing", Ways::default());
        let tag = task_in(&w, "/top/a");
        let mut things: Vec<_> = (0..10).filter_map(|_| take_for(&w, tag, cache)).collect();
        let resident = w.alloc("/top/b", cache, Flags::NOWAIT).unwrap();
        // Of the group above both it has always been; so that limit is no matter.
        w.set("/top", "memory.kmem.max", "11088");
        w.set("/top/b", "memory.kmem.max", "11080");
        let outcome = go(&w, tag, "/top/b/deep", policy, 0);
        if matches!(policy, MovePolicy::Stay | MovePolicy::BestEffort) {
            assert_eq!(outcome.unwrap().stayed, 10_080, "{policy:?}");
        } else {
            let Err(MoveError::KmemFull(full)) = outcome else {
                panic!("{policy:?}: {outcome:?}");
            };
            assert_eq!(
                (full.group, full.max),
                (Some(w.group("/top/b").index()), 11_080)
            );
            assert!(
                w.get("/top/b/deep", "cgroup.events")
                    .starts_with("populated 0\n")
            );
        }
        assert_eq!((w.kmem("/top/a"), w.kmem("/top/b")), (10_080, 1008));
        assert_eq!(w.get("/top/b", "memory.current"), "1008\n", "{policy:?}");
        super::ledger::check(w.engine);
        // To the byte.
        w.set("/top/b", "memory.kmem.max", "11088");
        w.set("/top/a", "memory.kmem.max", "10080");
        if !matches!(policy, MovePolicy::Stay | MovePolicy::BestEffort) {
            go(&w, tag, "/top/b", policy, 0).unwrap();
            assert_eq!((w.kmem("/top/a"), w.kmem("/top/b")), (0, 11_088));
            assert!(take_for(&w, tag, cache).is_none(), "{policy:?}: full");
            go(&w, tag, "/top/a", policy, 0).unwrap();
            assert_eq!((w.kmem("/top/a"), w.kmem("/top/b")), (10_080, 1008));
        }
        things.push(resident);
        things.into_iter().for_each(|at| w.free(at));
        assert_eq!(w.kmem("/"), 0);
        super::ledger::check(w.engine);
    }
}

#[test]
fn what_threads_have_counted_in_advance_keeps_no_task_out() {
    let w = World::new(&["/a", "/b"]);
    let cache = w.cache(b"thing", Ways::default());
    let tag = task_in(&w, "/a");
    let thing = take_for(&w, tag, cache).unwrap();
    assert!(w.group("/a").side_kind(Kind::Slab) > 1008);
    w.set("/b", "memory.kmem.max", "1008");
    go(&w, tag, "/b", MovePolicy::Transfer, 0).unwrap();
    assert_eq!((w.kmem("/a"), w.kmem("/b")), (0, 1008));
    w.free(thing);
    super::ledger::check(w.engine);
}

#[test]
fn a_refused_object_leaves_what_a_move_left_elsewhere_as_it_was() {
    let w = World::new(&["/a", "/b"]);
    let cache = w.cache(b"thing", Ways::default());
    let tag = task_in(&w, "/a");
    let tree = &w.engine.tree;
    let charge = |bytes| {
        w.engine
            .charge(w.rec, Request::heap(tag, bytes, Flags::NOWAIT))
    };
    charge(8 << 20).unwrap();
    w.set("/b", "memory.max", "6M");
    w.set("/b", "memory.kmem.max", "0");
    go(&w, tag, "/b", MovePolicy::BestEffort, 0).unwrap();
    w.set("/b", "memory.max", "max");
    let left = w.get("/a", "memory.current");
    assert_ne!(left, "0\n");
    let before = w.get("/b", "memory.current");
    assert!(take_for(&w, tag, cache).is_none());
    assert_eq!(w.get("/a", "memory.current"), left);
    assert_eq!(w.get("/b", "memory.current"), before);
    w.engine.uncharge(w.rec, tag, 8 << 20, Kind::Heap);
    assert_eq!(tree.memcgs.get(ROOT).counter.usage(), 0);
    super::ledger::check(w.engine);
}

#[test]
fn tasks_that_move_while_they_take_objects_pass_no_limit_of_those() {
    const MOST: u64 = 64 * 1008;
    let w = World::new(&["/a", "/b"]);
    let cache = w.cache(b"thing", Ways::default());
    let tag = task_in(&w, "/a");
    for path in ["/a", "/b"] {
        w.set(path, "memory.kmem.max", &MOST.to_string());
        w.set(path, "memory.max", "60K");
    }
    let (engine, stop) = (w.engine, AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let (_, rec) = engine.tree.threads.join().unwrap();
                let w = World { engine, rec };
                let mut mine = Vec::new();
                for _ in 0..4000 {
                    match take_for(&w, tag, cache) {
                        Some(at) if mine.len() < 30 => mine.push(at),
                        at => mine.drain(..).chain(at).for_each(|at| w.free(at)),
                    }
                }
                mine.into_iter().for_each(|at| w.free(at));
                stop.fetch_add(1, Ordering::Relaxed);
                engine.tree.return_all(rec);
            });
        }
        let (a, b) = (w.group("/a"), w.group("/b"));
        let mut to_b = true;
        while stop.load(Ordering::Relaxed) < 2 {
            let (policy, _) = MovePolicy::ALL[usize::from(to_b)];
            to_b ^= go(&w, tag, if to_b { "/b" } else { "/a" }, policy, 0).is_ok();
            for group in [a, b] {
                assert!(group.side_kind(Kind::Slab) <= MOST);
            }
        }
    });
    assert_eq!(w.kmem("/"), 0);
    super::ledger::check(w.engine);
}

#[test]
fn words_say_which_caches_a_group_accounts_and_those_below_inherit_them() {
    let w = World::new(&["/a", "/a/b", "/c"]);
    let (dentry, inode) = (
        w.cache(b"dentry", Ways::default()),
        w.cache(b"inode", Ways::default()),
    );
    let counts = |path: &str, cache| {
        let before = w.kmem(path);
        let at = w.alloc(path, cache, Flags::NOWAIT).unwrap();
        let counted = w.kmem(path) - before;
        w.free(at);
        counted > 0
    };
    w.set("/a", "memory.kmem.caches", "-* +dentry");
    assert_eq!(w.get("/a/b", "memory.kmem.caches"), "-* +dentry\n");
    for path in ["/a", "/a/b"] {
        assert!(counts(path, dentry) && !counts(path, inode));
    }
    assert!(counts("/c", dentry) && counts("/c", inode));
    w.set("/a/b", "memory.kmem.caches", "*");
    assert!(counts("/a/b", inode) && !counts("/a", inode));
    w.set("/a/b", "memory.kmem.caches", "");
    assert!(!counts("/a/b", inode));
    w.set("/a", "memory.kmem.caches", "");
    assert!(counts("/a", inode) && w.engine.options.tracks_simply());
    let value = "dentry".as_bytes();
    let refused = files::write(w.engine, w.rec, b"/a", b"memory.kmem.caches", value);
    assert!(refused.is_err());
    super::ledger::check(w.engine);
}

#[test]
fn caches_opt_in_or_out_and_the_root_need_not_be_tracked() {
    let w = World::new(&["/a"]);
    let plain = w.cache(b"plain", Ways::default());
    let asked = w.cache(b"asked", Ways::ACCOUNT);
    let exempt = w.cache(b"exempt", Ways::NOACCOUNT);
    let counted = |path: &str, cache, flags| {
        let at = w.alloc(path, cache, flags).unwrap();
        let counted = w.kmem("/");
        w.free(at);
        counted
    };
    let (nowait, no) = (Flags::NOWAIT, Flags::NOACCOUNT);
    assert_eq!(counted("/a", plain, nowait), 1008);
    assert_eq!(counted("/a", plain, no), 0);
    assert_eq!(counted("/a", exempt, nowait), 0);
    w.engine.options.set_tracking(Tracking::OptIn, true);
    assert_eq!(counted("/a", plain, nowait), 0);
    assert_eq!(counted("/a", asked, nowait), 1008);
    w.engine.options.set_tracking(Tracking::OptIn, false);
    w.engine.options.set_tracking(Tracking::RootUntracked, true);
    assert_eq!(counted("/", plain, nowait), 0);
    assert_eq!(counted("/a", plain, nowait), 1008);
    super::ledger::check(w.engine);
}

#[test]
fn slabinfo_shows_each_cache_and_who_owns_it() {
    let w = World::new(&["/a", "/a/b"]);
    let cache = w.cache(b"thing", Ways::PER_GROUP);
    let at = w.alloc("/a/b", cache, Flags::WAIT).unwrap();
    assert_eq!(
        w.get("/", "memory.kmem.slabinfo"),
        "NAME\tACTIVE\tOBJECTS\tOBJSIZE\tPERSLAB\tPAGESPERSLAB\tSLABS\tSTATE\tLAYOUT\tSCHOOL\tOWNER\n\
         thing\t0\t0\t1008\t65\t16\t0\tlive\tpergroup\tslub\t/\n\
         thing\t1\t65\t1008\t65\t16\t1\tlive\tchild\tslub\t/a/b\n"
    );
    files::rmdir(w.engine, w.rec, b"/a/b").unwrap();
    let text = w.get("/a", "memory.kmem.slabinfo");
    assert!(
        text.ends_with("SCHOOL\tOWNER\nthing\t1\t65\t1008\t65\t16\t1\tdead\tchild\tslub\t/a\n"),
        "{text}"
    );
    w.free(at);
    assert_eq!(w.get("/a", "memory.kmem.slabinfo").lines().count(), 1);
}

fn shrinkers() {
    let group = root().create("shrinks").unwrap();
    group.set_max(memcg_limit(1 << 20)).unwrap();
    let cache = Arc::new(SizedCache::new("entry", 4000).unwrap());
    let entries = Arc::new(Mutex::new(Vec::new()));
    let calls = Arc::new(AtomicU64::new(0));
    let (kept, counted) = (entries.clone(), calls.clone());
    assert!(register_memcg_cache(&*cache, move |full, bytes| {
        assert_eq!(full.path(), "/shrinks");
        counted.fetch_add(1, Ordering::Relaxed);
        let mut kept = kept.lock().unwrap();
        let freed = kept.pop().map_or(0, |_| bytes);
        kept.pop();
        freed
    }));
    assert!(!register_memcg_cache(&*cache, |_, _| 0));
    group.run(|| {
        for _ in 0..1000 {
            let entry = cache.alloc().unwrap();
            entries.lock().unwrap().push(entry);
        }
        assert!(calls.load(Ordering::Relaxed) > 100);
        // Nobody went without, and the policy of the group was not asked.
        assert_eq!(group.nr_events(Event::Oom), 0);
        // Who may not wait runs no code of the program.
        let before = calls.load(Ordering::Relaxed);
        while cache
            .alloc_flags(Flags::NOWAIT)
            .map(|e| entries.lock().unwrap().push(e))
            .is_ok()
        {}
        assert_eq!(calls.load(Ordering::Relaxed), before);
        // Nothing left to give: the allocation fails.
        let all = core::mem::take(&mut *entries.lock().unwrap());
        let before = group.nr_events(Event::Oom);
        assert!(matches!(cache.alloc(), Err(AllocError::Max(_))));
        assert_eq!(group.nr_events(Event::Oom), before + 1);
        drop(all);
    });
    set_cache_tracking(true, true);
    let plain = KmemCache::<[u64; 100]>::new("plain").unwrap();
    let before = group.current();
    let _free = group.run(|| plain.alloc([0; 100])).unwrap();
    assert_eq!(group.current(), before);
    set_cache_tracking(false, true);
}

fn memcg_limit(bytes: u64) -> crate::Limit {
    crate::Limit::bytes(bytes)
}

fn write_at(object: &mut [u8], offset: usize) {
    // SAFETY: behind the object, in its red zone: what the test is about.
    unsafe { object.as_mut_ptr().add(offset).write_volatile(1) };
}

fn checked(kind: SlabKind, layout: CacheLayout) -> SizedCache {
    CacheOptions::new("fragile")
        .checked()
        .slab_kind(kind)
        .layout(layout)
        .sized(100)
        .unwrap()
}

#[test]
fn a_registered_cache_makes_room_before_an_allocation_fails() {
    const NAME: &str =
        "proof::cache_rules::a_registered_cache_makes_room_before_an_allocation_fails";
    if own_process::argument().is_some() {
        shrinkers();
        return;
    }
    own_process::passes_again(NAME, "shrink");
}

#[test]
fn a_write_behind_an_object_or_after_its_free_is_found() {
    const NAME: &str = "proof::cache_rules::a_write_behind_an_object_or_after_its_free_is_found";
    let both = [
        checked(SlabKind::Slub, CacheLayout::Shared),
        checked(SlabKind::Slab, CacheLayout::PerGroup),
    ];
    let Some(fault) = own_process::argument() else {
        for (fault, said) in [
            ("end", "something wrote behind its end"),
            ("freed", "something wrote to it after it was freed"),
            ("freed-raw", "something wrote to it after it was freed"),
            ("zone", "something wrote to it after it was freed"),
            ("twice", "it was freed before"),
        ] {
            for kind in ["0", "1"] {
                let output = own_process::again(NAME, &format!("{fault} {kind}"));
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                let line = text.lines().find(|line| line.starts_with("memcg: "));
                let line = line.unwrap_or_else(|| panic!("{fault}: {text}"));
                assert!(
                    line.starts_with("memcg: cache fragile: object 0x"),
                    "{line}"
                );
                assert!(line.ends_with(said), "{line}");
                assert_eq!(output.status.signal(), Some(libc::SIGABRT));
            }
        }
        own_process::passes_again(NAME, "none 0");
        own_process::passes_again(NAME, "none 1");
        return;
    };
    let (fault, kind) = fault.split_once(' ').unwrap();
    let cache = &both[kind.parse::<usize>().unwrap()];
    let mut object = cache.alloc().unwrap();
    object.fill(7);
    let at = object.as_mut_ptr();
    match fault {
        "end" => write_at(&mut object, 112),
        "freed" => {
            drop(object);
            // SAFETY: the page is there; what the test is about.
            unsafe { at.add(50).write_volatile(1) };
            let _again: Vec<_> = (0..200).map(|_| cache.alloc().unwrap()).collect();
            return;
        }
        "freed-raw" | "zone" => {
            let constructed = CacheOptions::new("fragile").checked().constructor(|_| {});
            let constructed = constructed.sized(100).unwrap();
            // Where nothing is poisoned, the red zone tells.
            let (cache, offset) = match fault {
                "zone" => (&constructed, 115),
                _ => (cache, 50),
            };
            let at = cache.alloc_raw(Flags::WAIT).unwrap();
            // SAFETY: live, of this cache; ends here.
            unsafe { cache.free_raw(at) };
            // SAFETY: the page is there; what the test is about.
            unsafe { at.as_ptr().cast::<u8>().add(offset).write_volatile(1) };
            let _again: Vec<_> = (0..200).map(|_| cache.alloc().unwrap()).collect();
            return;
        }
        "twice" => {
            let other = cache.alloc().unwrap();
            drop(object);
            drop(other);
            let at = core::ptr::NonNull::new(at).unwrap();
            // SAFETY: it is not live: what the test is about.
            unsafe { cache.free_raw(at.cast()) };
            return;
        }
        _ => {
            let many: Vec<_> = (0..2000).map(|_| cache.alloc().unwrap()).collect();
            drop(many);
            let again: Vec<_> = (0..2000).map(|_| cache.alloc().unwrap()).collect();
            drop(again);
        }
    }
    drop(object);
}
