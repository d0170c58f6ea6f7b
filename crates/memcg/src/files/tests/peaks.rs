//! Tests of peaks: each watch against a model that looks at every step, and connections that do not
//! see each other's peaks.
//!
//! Invariants: each test has an engine of its own.
//! Depends on: the helpers of `files::tests`.
//! Never: uses the process's engine.

#![forbid(unsafe_code)]

use super::*;
use crate::group::exact_charge::Mode;
use crate::group::{Hierarchy, ROOT_TAG, TreeError, WatchId};
use crate::offline;
use proptest::prelude::*;

fn alone() -> (&'static Hierarchy, &'static ThreadRec, &'static Memcg) {
    let w = World::new();
    w.mkdir("/a");
    (&w.engine.tree, w.rec, w.group("/a"))
}

#[test]
fn a_reader_that_starts_the_peak_again_does_so_for_itself() {
    let w = World::new();
    w.mkdir("/a");
    let (one, other) = (Reader::new(w.engine), Reader::new(w.engine));
    let up_and_down = |bytes| {
        assert!(w.charge_kind("/a", bytes, Kind::Mapped));
        w.engine.uncharge(w.rec, w.tag("/a"), bytes, Kind::Mapped);
    };
    let peak = |reader: &Reader| reader.read(w.rec, b"/a", b"memory.peak").unwrap();
    let restart = |reader: &Reader| reader.write(w.rec, b"/a", b"memory.peak", b"reset");
    up_and_down(800);
    assert_eq!((peak(&one), peak(&other)), ("800\n".into(), "800\n".into()));
    restart(&one).unwrap();
    assert_eq!((peak(&one), peak(&other)), ("0\n".into(), "800\n".into()));
    up_and_down(400);
    restart(&other).unwrap();
    up_and_down(160);
    assert_eq!((peak(&one), peak(&other)), ("400\n".into(), "160\n".into()));
    restart(&one).unwrap();
    assert_eq!((peak(&one), peak(&other)), ("0\n".into(), "160\n".into()));
    assert_eq!(w.get("/a", "memory.peak"), "800\n");
    assert_eq!(one.read(w.rec, b"/", b"memory.peak").unwrap(), "800\n");
    let empty = one.write(w.rec, b"/a", b"memory.peak", b" ").unwrap_err();
    assert_eq!(empty.errno, Errno::EINVAL);
    assert_eq!(w.set("/a", "memory.peak", "reset"), Err(Errno::EOPNOTSUPP));

    // Another group, in the same record perhaps, is another file.
    rmdir(w.engine, w.rec, b"/a").unwrap();
    for _ in 0..8 {
        w.engine.tree.collect();
    }
    w.mkdir("/a");
    up_and_down(80);
    assert_eq!((peak(&one), peak(&other)), ("80\n".into(), "80\n".into()));
    restart(&one).unwrap();
    drop((one, other));
    assert_eq!(w.engine.tree.watches.in_use(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Charge(u64),
    Uncharge(u64),
    Begin,
    Restart(usize),
    End(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..100u64).prop_map(Step::Charge),
        3 => (1..100u64).prop_map(Step::Uncharge),
        1 => Just(Step::Begin),
        1 => (0..8usize).prop_map(Step::Restart),
        1 => (0..8usize).prop_map(Step::End),
    ]
}

proptest! {
    #[test]
    fn every_watch_tells_what_a_watch_of_its_own_would(steps in prop::collection::vec(step(), 1..80), removed: bool) {
        let (tree, rec, group) = alone();
        let _pin = tree.threads.epoch.pin(rec);
        let (mut usage, mut peak) = (0, 0);
        // Each watch and the highest it should tell.
        let mut watches: Vec<(WatchId, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Charge(n) => {
                    tree.charge_exact(group.tag(), n * 8, Mode::Within).unwrap();
                    usage += n * 8;
                    peak = usage.max(peak);
                }
                Step::Uncharge(n) => {
                    let n = (n * 8).min(usage);
                    tree.uncharge_exact(group.tag(), n);
                    usage -= n;
                }
                Step::Begin => watches.push((tree.begin_watch(group).unwrap(), usage)),
                Step::Restart(at) if at < watches.len() => {
                    tree.restart_watch(watches[at].0);
                    watches[at].1 = usage;
                }
                Step::End(at) if at < watches.len() => tree.end_watch(watches.swap_remove(at).0),
                Step::Restart(_) | Step::End(_) => {}
            }
            for (watch, highest) in &mut watches {
                *highest = usage.max(*highest);
                prop_assert_eq!(tree.watched_peak(*watch), *highest);
            }
            prop_assert_eq!(group.counter.peak(), peak);
        }
        if removed {
            offline::remove_alone(tree, group).unwrap();
            tree.charge_exact(ROOT_TAG, 1 << 20, Mode::Within).unwrap();
            for (watch, highest) in &watches {
                prop_assert_eq!(tree.watched_peak(*watch), *highest);
                tree.restart_watch(*watch);
                prop_assert_eq!(tree.watched_peak(*watch), *highest);
            }
            prop_assert_eq!(tree.begin_watch(group), Err(TreeError::Gone));
        }
        for (watch, _) in watches {
            tree.end_watch(watch);
        }
        prop_assert_eq!(tree.watches.in_use(), 0);
    }
}

#[test]
fn watches_come_and_go_amid_charges_and_tell_no_more_than_the_peak_nor_less_than_the_usage() {
    let (tree, rec, group) = alone();
    let stop = std::sync::atomic::AtomicBool::new(false);
    tree.ref_objcg(group.tag());
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                let (_, rec) = tree.threads.join().unwrap();
                let _pin = tree.threads.epoch.pin(rec);
                while !stop.load(Ordering::Relaxed) {
                    tree.charge_exact(group.tag(), 800, Mode::Within).unwrap();
                    tree.uncharge_exact(group.tag(), 800);
                }
            });
        }
        tree.charge_exact(group.tag(), 80, Mode::Within).unwrap();
        let kept = tree.begin_watch(group).unwrap();
        let mut last = 0;
        for _ in 0..20_000 {
            let _pin = tree.threads.epoch.pin(rec);
            let watch = tree.begin_watch(group).unwrap();
            tree.restart_watch(watch);
            for peak in [tree.watched_peak(watch), tree.watched_peak(kept)] {
                assert!((80..=80 + 1600).contains(&peak), "{peak}");
            }
            let now = tree.watched_peak(kept);
            assert!(now >= last, "a peak never falls");
            last = now;
            tree.end_watch(watch);
        }
        stop.store(true, Ordering::Relaxed);
        tree.end_watch(kept);
    });
    assert_eq!(tree.watches.in_use(), 0);
}
