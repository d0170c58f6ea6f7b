//! The delay that `memory.high` costs: how long a task that charged memory to a group over its
//! throttle line has to wait.
//!
//! Reclaim keeps a group at its `high` where it can. Where it cannot, the tasks that go on charging
//! are slowed down, a little at first and then quadratically, so that a group slightly over its
//! line is barely disturbed and a runaway one is all but stopped, and still never blocked for good.
//! [`overage`] says how far a group is over its line, as a ratio, so that large and small groups
//! are treated alike; [`owed_after`] turns it into a debt of time, [`due_ns`] says what of that is
//! slept off. When several ancestors are over theirs, the largest overage counts.
//!
//! Invariants: nobody owes more than [`MAX_DELAY_NS`]. Many small charges owe no more than one of
//! their sum.
//! Depends on: `units` for the size of a page.
//! Never: sleeps, keeps anything or panics. Who pays, when and where is decided above.
//!
//! Source of the idea: Linux, "mm, memcg: throttle allocators when failing reclaim over
//! memory.high" (5.4), whose constants and published table these are. The kernel works in jiffies
//! and publishes its table for HZ = 1000, where a jiffy is one millisecond; here the unit is the
//! nanosecond and HZ appears nowhere else. It counts pages, we count bytes, so a charge of a few
//! bytes owes its few bytes' part.

#![forbid(unsafe_code)]

use crate::units::PAGE_SIZE;

/// Fraction bits of an [`overage`]: `1 << PRECISION_SHIFT` is twice the line.
pub const PRECISION_SHIFT: u32 = 20;

/// How far the squared overage is scaled down, beyond its precision: the steepness of the curve.
pub const SCALING_SHIFT: u32 = 14;

/// The charge that owes the curve's full delay, in bytes: the kernel's batch of 64 pages.
pub const CHARGE_BATCH: u64 = 64 * PAGE_SIZE;

/// The longest delay, in ns: 2 s, so that even a hopeless task still gets to its signals and its
/// diagnostics.
pub const MAX_DELAY_NS: u64 = 2_000_000_000;

/// What is owed up to this, in ns, is not worth a sleep, and stays owed: 10 ms.
pub const WAIVED_DELAY_NS: u64 = 10_000_000;

const NS_PER_S: u64 = 1_000_000_000;

/// How far `usage` is over `high` (both in bytes), as a fraction of `high` in units of 2⁻²⁰; 0 if
/// it is not over.
///
/// Rounds down and saturates. A line below one page is taken as one page: the ratio to 0 would be
/// infinite. Cost: one 128-bit division.
#[must_use]
pub fn overage(usage: u64, high: u64) -> u64 {
    let Some(excess) = usage.checked_sub(high) else {
        return 0;
    };
    let ratio = (u128::from(excess) << PRECISION_SHIFT) / u128::from(high.max(PAGE_SIZE));
    u64::try_from(ratio).unwrap_or(u64::MAX)
}

/// What a thread owes, in ns, that owed `owed` and charges `charged_bytes` to a group that is over
/// its line by `overage`: by [`curve_ns`] more, but at most [`MAX_DELAY_NS`].
///
/// Small charges add up, so many of them owe what one of their size does. At 10 % over the line a
/// batch owes 639 ms, a single page 9.98 ms.
#[must_use]
pub fn owed_after(owed: u64, overage: u64, charged_bytes: u64) -> u64 {
    owed.saturating_add(curve_ns(overage, charged_bytes))
        .min(MAX_DELAY_NS)
}

/// How long a thread that owes `owed` ns sleeps where it may sleep for `most` ns; the rest stays
/// owed.
///
/// Nothing up to [`WAIVED_DELAY_NS`]: it stays owed until more has come together.
#[must_use]
pub fn due_ns(owed: u64, most: u64) -> u64 {
    match owed {
        0..=WAIVED_DELAY_NS => 0,
        ns => ns.min(most),
    }
}

/// The curve before it is clamped, in ns: `overage² · 1 s · 2⁻³⁴`, in proportion to `charged_bytes`
/// / [`CHARGE_BATCH`].
///
/// Rounds down and saturates.
#[must_use]
pub fn curve_ns(overage: u64, charged_bytes: u64) -> u64 {
    // An overage of 2³⁶ makes a single byte owe days; beyond it the square would leave 128 bits and
    // say nothing new.
    let overage = u128::from(overage.min(1 << 36));
    let batch = (overage * overage * u128::from(NS_PER_S)) >> (PRECISION_SHIFT + SCALING_SHIFT);
    let ns = batch.saturating_mul(u128::from(charged_bytes)) / u128::from(CHARGE_BATCH);
    u64::try_from(ns).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const M: u64 = 1 << 20;
    const MS: u64 = 1_000_000;

    /// The kernel's table for high = 100M, HZ = 1000 and a full batch: ms at 100M, 101M, … 118M.
    const PUBLISHED_MS: [u64; 19] = [
        0, 6, 25, 57, 102, 159, 230, 313, 409, 518, 639, 774, 921, 1081, 1254, 1439, 1638, 1849,
        2000,
    ];

    #[test]
    fn the_published_table_to_the_millisecond() {
        for (over, ms) in PUBLISHED_MS.into_iter().enumerate() {
            let overage = overage((100 + over as u64) * M, 100 * M);
            let owed = owed_after(0, overage, CHARGE_BATCH);
            assert_eq!(owed / MS, ms, "{}M", 100 + over);
            let due = if ms <= 10 { 0 } else { ms };
            assert_eq!(due_ns(owed, MAX_DELAY_NS) / MS, due, "{}M", 100 + over);
            // Page by page it comes to the same, as far as nanoseconds are rounded.
            let paged = (0..64).fold(0, |owed, _| owed_after(owed, overage, PAGE_SIZE));
            assert!(paged <= owed && owed - paged <= 64, "{}M", 100 + over);
        }
    }

    #[test]
    fn the_delay_goes_with_the_charge() {
        let over = overage(110 * M, 100 * M);
        let full = curve_ns(over, CHARGE_BATCH);
        assert_eq!(curve_ns(over, CHARGE_BATCH / 2), full / 2);
        assert_eq!(curve_ns(over, 2 * CHARGE_BATCH), 2 * full);
        let page = owed_after(0, over, PAGE_SIZE);
        assert_eq!(due_ns(page, MAX_DELAY_NS), 0, "{page} ns stay owed");
        let two = owed_after(page, over, PAGE_SIZE);
        assert_eq!(due_ns(two, MAX_DELAY_NS), two);
        assert_eq!(due_ns(two, 7 * MS), 7 * MS);
        assert_eq!(owed_after(5, over, 0), 5);
        assert_eq!(owed_after(0, over, u64::MAX), MAX_DELAY_NS);
    }

    #[test]
    fn extreme_lines_are_answered() {
        assert_eq!(overage(0, 0), 0);
        assert_eq!(
            overage(PAGE_SIZE, 0),
            1 << PRECISION_SHIFT,
            "no line at all is a line of one page"
        );
        assert_eq!(overage(u64::MAX, u64::MAX), 0);
        assert_eq!(overage(u64::MAX, 0), u64::MAX);
        assert_eq!(owed_after(0, u64::MAX, u64::MAX), MAX_DELAY_NS);
        assert_eq!(owed_after(0, u64::MAX, 1), MAX_DELAY_NS);
        assert_eq!(owed_after(u64::MAX, u64::MAX, 1), MAX_DELAY_NS);
        assert_eq!(owed_after(0, 0, u64::MAX), 0);
    }

    proptest! {
        #[test]
        fn more_costs_more(usage: u64, more: u64, high: u64, charged: u64, charged_more: u64) {
            let (small, large) = (overage(usage, high), overage(usage.saturating_add(more), high));
            prop_assert!(small <= large);
            let owed = |overage, charged| owed_after(0, overage, charged);
            prop_assert!(owed(small, charged) <= owed(large, charged));
            prop_assert!(owed(small, charged) <= owed(small, charged.saturating_add(charged_more)));
            prop_assert!(due_ns(owed(large, charged), MAX_DELAY_NS) <= MAX_DELAY_NS);
        }

        #[test]
        fn a_group_within_its_line_owes_nothing(usage: u64, room: u64, charged: u64) {
            prop_assert_eq!(owed_after(0, overage(usage, usage.saturating_add(room)), charged), 0);
        }
    }
}
