//! Limits, protections and the reserve.

use super::cgroup::set;
use super::error::FileError;
use super::table::At;
use super::text::{limit, path_of_group, put, size};
use crate::counter::{Level, Over, try_charge, uncharge};
use crate::group::charge::Refusal;
use crate::sync::lock::Rank;
use crate::units::Limit;

fn show(out: &mut String, bytes: u64) {
    put(out, format_args!("{}\n", Limit::bytes(bytes)));
}

pub(super) fn min(at: &At<'_>, out: &mut String) {
    show(out, at.group.counter.min());
}

pub(super) fn set_min(at: &At<'_>, value: &[u8]) -> Result<(), FileError> {
    let bytes = limit(value)?.get();
    set(at, || at.group.counter.set_min(bytes))
}

pub(super) fn low(at: &At<'_>, out: &mut String) {
    show(out, at.group.counter.low());
}

pub(super) fn set_low(at: &At<'_>, value: &[u8]) -> Result<(), FileError> {
    let bytes = limit(value)?.get();
    set(at, || at.group.counter.set_low(bytes))
}

pub(super) fn high(at: &At<'_>, out: &mut String) {
    show(out, at.group.counter.high());
}

pub(super) fn set_high(at: &At<'_>, value: &[u8]) -> Result<(), FileError> {
    let bytes = limit(value)?.get();
    at.engine.tree.drain(at.rec, at.group);
    set(at, || at.group.counter.set_high(bytes))
}

pub(super) fn max(at: &At<'_>, out: &mut String) {
    show(out, at.group.counter.max());
}

/// A limit below what is held succeeds, as the kernel's does: charges are refused until enough is freed.
pub(super) fn set_max(at: &At<'_>, value: &[u8]) -> Result<(), FileError> {
    let bytes = limit(value)?.get();
    let (tree, counter) = (&at.engine.tree, &at.group.counter);
    tree.drain(at.rec, at.group);
    set(at, || counter.set_max(bytes))?;
    // What threads took between the drain and the new limit, by the old one's measure.
    if counter.granted() > counter.stock_budget() {
        tree.drain(at.rec, at.group);
    }
    Ok(())
}

pub(super) fn reserve(at: &At<'_>, out: &mut String) {
    show(out, at.group.counter.reserve());
}

/// A larger reserve charges the groups above with what it lacks.
pub(super) fn set_reserve(at: &At<'_>, value: &[u8]) -> Result<(), FileError> {
    let bytes = size(value)?;
    let asked = |short: Shortage| match short {
        Shortage::Gone => FileError::gone(),
        Shortage::Full { bytes, refusal } => {
            FileError::full(&path_of_group(at.engine, refusal.group), bytes, &refusal)
        }
    };
    match try_reserve(at, bytes) {
        // Stock may be all that is in the way: take it back, once.
        Err(Shortage::Full { refusal, .. }) => {
            let full = at.engine.tree.memcgs.get(refusal.group);
            at.engine.tree.drain(at.rec, full);
            try_reserve(at, bytes).map_err(asked)
        }
        other => other.map_err(asked),
    }
}

enum Shortage {
    Gone,
    Full { bytes: u64, refusal: Refusal },
}

fn try_reserve(at: &At<'_>, bytes: u64) -> Result<(), Shortage> {
    let Some(parent) = at.group.parent() else {
        return Err(Shortage::Gone);
    };
    at.engine.change(|| {
        let _held = at.group.lock.lock(Rank::Group);
        if !at.group.is_online() {
            return Err(Shortage::Gone);
        }
        let pay = |more: u64| {
            try_charge(parent, None, more, |_| Over::By(0))
                .map(drop)
                .map_err(|refused| Shortage::Full {
                    bytes: more,
                    refusal: Refusal {
                        group: refused.level.index(),
                        usage: refused.usage,
                        max: refused.level.counter.max(),
                    },
                })
        };
        let refund = |less: u64| {
            if less > 0 && uncharge(parent, None, less).is_err() {
                at.engine.tree.report_broken();
            }
        };
        at.group.counter.set_reserve(bytes, pay, refund)
    })
}

#[cfg(test)]
mod tests {
    use super::super::error::Errno;
    use super::super::testing::Bench;
    use super::*;
    use crate::group::Kind;

    const LIMITS: [&str; 4] = ["memory.min", "memory.low", "memory.high", "memory.max"];

    #[test]
    fn limits_take_the_kernels_grammar_and_keep_bytes() {
        let bench = Bench::new();
        bench.mkdir("/a");
        let cases = [
            ("4096", "4096\n"),
            ("5000\n", "5000\n"),
            ("0x1000", "4096\n"),
            ("64M", "67108864\n"),
            ("1g", "1073741824\n"),
            ("0", "0\n"),
            ("max\n", "max\n"),
        ];
        for file in LIMITS {
            for (value, text) in cases {
                bench.write("/a", file, value).unwrap();
                assert_eq!(bench.text("/a", file), text, "{file} {value}");
            }
        }
    }

    #[test]
    fn junk_is_refused_and_changes_nothing() {
        let bench = Bench::new();
        bench.mkdir("/a");
        for file in LIMITS.into_iter().chain(["memory.reserve"]) {
            bench.write("/a", file, "8K").unwrap();
            for junk in ["", "K", "8KB", "-1", "MAX", "1 2", "0.5G", "16E", "max max"] {
                let why = bench.write("/a", file, junk).unwrap_err();
                assert_eq!(why.errno, Errno::Invalid, "{file} {junk}");
            }
            assert_eq!(bench.text("/a", file), "8192\n");
        }
        let why = bench.write("/a", "memory.reserve", "max").unwrap_err();
        assert_eq!(why.errno, Errno::Invalid);
    }

    #[test]
    fn a_new_group_is_unlimited_and_the_root_takes_no_limit() {
        let bench = Bench::new();
        bench.mkdir("/a");
        let all = LIMITS.map(|file| bench.text("/a", file));
        assert_eq!(all, ["0\n", "0\n", "max\n", "max\n"]);
        for file in LIMITS.into_iter().chain(["memory.reserve"]) {
            let why = bench.write("/", file, "1G").unwrap_err();
            assert_eq!(why.errno, Errno::NoEntry, "{file}");
        }
    }

    #[test]
    fn a_limit_takes_effect_and_one_below_usage_is_set_all_the_same() {
        let bench = Bench::new();
        bench.mkdir("/a");
        let tag = bench.group("/a").tag();
        bench.write("/a", "memory.max", "64K").unwrap();
        assert!(bench.charge(tag, 60 << 10, Kind::Heap));
        assert!(!bench.charge(tag, 8 << 10, Kind::Heap));
        bench.write("/a", "memory.max", "4K").unwrap();
        assert_eq!(bench.text("/a", "memory.max"), "4096\n");
        assert_eq!(bench.text("/a", "memory.current"), "61440\n");
        assert!(!bench.charge(tag, 8, Kind::Heap));
        assert!(bench.value("/a", "memory.events", "max") >= 2);
    }

    #[test]
    fn a_limit_written_leaves_no_stock_beyond_its_budget() {
        let bench = Bench::new();
        bench.mkdir("/a");
        let tag = bench.group("/a").tag();
        assert!(bench.charge(tag, 64, Kind::Heap));
        assert!(bench.value("/a", "memory.stat", "stocked") > 0);
        bench.write("/a", "memory.max", "64K").unwrap();
        assert_eq!(bench.value("/a", "memory.stat", "stocked"), 0);
    }

    #[test]
    fn a_reserve_is_charged_above_once_and_telescopes() {
        let bench = Bench::new();
        bench.mkdir("/a");
        bench.mkdir("/a/b");
        let usage = |path| bench.group(path).counter.usage();
        bench.write("/a/b", "memory.reserve", "1M").unwrap();
        assert_eq!(
            (usage("/a/b"), usage("/a"), usage("/")),
            (0, 1 << 20, 1 << 20)
        );
        bench.write("/a", "memory.reserve", "2M").unwrap();
        assert_eq!((usage("/a"), usage("/")), (1 << 20, 2 << 20));
        // What is charged within the reserve is charged above already.
        let tag = bench.group("/a/b").tag();
        assert!(bench.charge(tag, 512 << 10, Kind::Reserved));
        assert_eq!(
            (usage("/a/b"), usage("/a"), usage("/")),
            (512 << 10, 1 << 20, 2 << 20)
        );
        bench.write("/a/b", "memory.reserve", "0").unwrap();
        bench.write("/a", "memory.reserve", "0").unwrap();
        assert_eq!((usage("/a"), usage("/")), (512 << 10, 512 << 10));
        bench.uncharge(tag, 512 << 10, Kind::Reserved);
        assert_eq!((usage("/a/b"), usage("/a"), usage("/")), (0, 0, 0));
    }

    #[test]
    fn a_reserve_that_does_not_fit_above_says_who_was_full() {
        let bench = Bench::new();
        bench.mkdir("/a");
        bench.mkdir("/a/b");
        bench.mkdir("/a/b/c");
        bench.write("/a", "memory.max", "1M").unwrap();
        let why = bench.write("/a/b/c", "memory.reserve", "2M").unwrap_err();
        assert_eq!(why.errno, Errno::NoMemory);
        assert!(
            why.message
                .starts_with("/a has no room for 2097152 bytes: 0 of 1048576"),
            "{why}"
        );
        assert_eq!(bench.text("/a/b/c", "memory.reserve"), "0\n");
        assert_eq!(bench.group("/a/b").counter.usage(), 0);
        let why = bench.write("/a/b/c", "memory.reserve", "15E").unwrap_err();
        assert_eq!(why.errno, Errno::NoMemory);
    }
}
