//! How much a group holds and held, and taking some of it back.

use super::error::{Errno, FileError};
use super::table::At;
use super::text::{number, put, quoted, size, words};

/// What the kernel takes for `swappiness=`; there is no swap here yet.
const SWAPPINESS_MAX: u64 = 200;

pub(super) fn current(at: &At<'_>, out: &mut String) {
    put(
        out,
        format_args!("{}\n", at.engine.tree.usage(at.group).current),
    );
}

pub(super) fn peak(at: &At<'_>, out: &mut String) {
    put(out, format_args!("{}\n", at.group.counter.peak()));
}

pub(super) fn reset_peak(at: &At<'_>, _value: &[u8]) -> Result<(), FileError> {
    at.group.counter.reset_peak();
    Ok(())
}

/// Takes back what can be: at present the stock of threads under the group.
pub(super) fn reclaim(at: &At<'_>, value: &[u8]) -> Result<(), FileError> {
    let mut words = words(value);
    let wanted = size(words.next().unwrap_or_default())?;
    for word in words {
        let swappiness = word.strip_prefix(b"swappiness=");
        let known = swappiness.is_some_and(|n| {
            n == b"max"
                || number(n).is_some_and(|n| n <= SWAPPINESS_MAX)
        });
        if !known {
            return Err(FileError::invalid(format!(
                "{}: after the size only swappiness=0 to 200 or max",
                quoted(word)
            )));
        }
    }
    if wanted == 0 {
        return Ok(());
    }
    let taken = at.engine.tree.drain(at.rec, at.group);
    if taken < wanted {
        return Err(FileError::new(
            Errno::Again,
            format!(
                "{taken} of {wanted} bytes were taken back: nothing else is reclaimable here at present"
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use super::*;
    use crate::group::Kind;

    #[test]
    fn current_counts_the_group_and_all_below_without_stock() {
        let bench = Bench::new();
        bench.mkdir("/a");
        bench.mkdir("/a/b");
        let tag = bench.group("/a/b").tag();
        assert!(bench.charge(tag, 100, Kind::Heap));
        for path in ["/a/b", "/a", "/"] {
            assert_eq!(bench.text(path, "memory.current"), "104\n", "{path}");
        }
        bench.uncharge(tag, 104, Kind::Heap);
        assert_eq!(bench.text("/", "memory.current"), "0\n");
    }

    #[test]
    fn peak_stays_until_it_is_reset() {
        let bench = Bench::new();
        bench.mkdir("/a");
        let tag = bench.group("/a").tag();
        assert!(bench.charge(tag, 1 << 20, Kind::Reserved));
        bench.uncharge(tag, 1 << 20, Kind::Reserved);
        assert_eq!(bench.text("/a", "memory.peak"), "1048576\n");
        bench.write("/a", "memory.peak", "whatever").unwrap();
        assert_eq!(bench.text("/a", "memory.peak"), "0\n");
    }

    #[test]
    fn reclaim_takes_stock_back_and_says_when_that_was_not_enough() {
        let bench = Bench::new();
        bench.mkdir("/a");
        let tag = bench.group("/a").tag();
        assert!(bench.charge(tag, 64, Kind::Heap));
        let stocked = bench.value("/a", "memory.stat", "stocked");
        assert!(stocked > 0);
        bench
            .write("/a", "memory.reclaim", &format!("{stocked} swappiness=0"))
            .unwrap();
        assert_eq!(bench.value("/a", "memory.stat", "stocked"), 0);
        let errno = |value| {
            bench
                .write("/a", "memory.reclaim", value)
                .unwrap_err()
                .errno
        };
        assert_eq!(errno("1M"), Errno::Again);
        assert_eq!(errno("1M swappiness=max"), Errno::Again);
        bench.write("/a", "memory.reclaim", "0").unwrap();
        for value in [
            "",
            "max",
            "1MB",
            "1M 2M",
            "1M swappiness=201",
            "1M swappiness=",
            "1M swappines=1",
        ] {
            assert_eq!(errno(value), Errno::Invalid, "{value}");
        }
        assert_eq!(bench.text("/a", "memory.current"), "64\n");
    }
}
