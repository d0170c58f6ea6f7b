//! Effective protection: how much of a group's `memory.min` and `memory.low` counts, here and now,
//! and how much reclaim that leaves for it to bear.
//!
//! A setting is a wish; what it is worth depends on the ancestors (a child is never protected by
//! more than its parent), on the siblings (together they get what the parent has, however much they
//! ask for) and on use (an unused wish takes nothing from the others). [`effective`] is that
//! arithmetic for one group and one kind of protection, [`Protection::below`] applies it to both
//! kinds going down the tree, [`standing`] and [`exposed`] say what a reclaim pass does with the
//! result.
//!
//! Everything here is a pure function of byte counts: no tree, no atomics, nothing kept. The caller
//! reads the counters once per pass, top down; numbers read while others change them may contradict
//! each other, so nothing here assumes that they fit together.
//!
//! Invariants: of numbers that fit together, what protects the children of a group adds up to no
//! more than what protects the group.
//! Depends on: the caller, who reads the counters, from the top down.
//! Never: reads a counter, overflows or panics.
//!
//! Source of the idea: Linux, `mm/page_counter.c` (protection calculation), `mm/vmscan.c`
//! (proportional reclaim) and the `memory_recursiveprot` mount option of cgroup v2. Bytes where the
//! kernel counts pages.

#![forbid(unsafe_code)]

/// One amount of each kind of protection, in bytes: two settings, two effective values, or two sums
/// over siblings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Protection {
    /// `memory.min`: never reclaimed.
    pub min: u64,
    /// `memory.low`: reclaimed only when nothing unprotected is left.
    pub low: u64,
}

/// What [`Protection::below`] must know about one group, read from its counter and its parent's.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// Bytes the group uses, its descendants included.
    pub usage: u64,
    /// Bytes its parent uses.
    pub parent_usage: u64,
    /// The group's own `memory.min` and `memory.low`.
    pub settings: Protection,
    /// The sum of [`Protection::used`] over all children of its parent, this group among them.
    pub siblings: Protection,
}

impl Protection {
    /// No protection: the root's, and that of the group a reclaim pass was asked for (its own
    /// settings do not protect it from itself).
    pub const NONE: Self = Self { min: 0, low: 0 };

    /// The part of these settings that a group using `usage` bytes makes use of: what it adds to
    /// its siblings' sum.
    #[must_use]
    pub fn used(self, usage: u64) -> Self {
        Self {
            min: self.min.min(usage),
            low: self.low.min(usage),
        }
    }

    /// The sum of both kinds, saturating.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_add(other.min),
            low: self.low.saturating_add(other.low),
        }
    }

    /// The effective protection of a direct child of the group that is being reclaimed: its
    /// settings as written.
    ///
    /// Here the walk down begins; every further level is [`below`](Self::below) the one before.
    #[must_use]
    pub fn first_level(settings: Self) -> Self {
        settings
    }

    /// The effective protection of a group below one whose own effective protection is `self`.
    ///
    /// `recursive` shares what the children leave unclaimed among them by use
    /// (`memory_recursiveprot`). Cost: four 128-bit divisions at most.
    #[must_use]
    pub fn below(self, group: &Level, recursive: bool) -> Self {
        let one = |setting, parent, siblings| {
            effective(
                group.usage,
                group.parent_usage,
                setting,
                parent,
                siblings,
                recursive,
            )
        };
        Self {
            min: one(group.settings.min, self.min, group.siblings.min),
            low: one(group.settings.low, self.low, group.siblings.low),
        }
    }
}

/// The effective protection, in bytes, of one group whose parent's effective protection is
/// `parent_effective`.
///
/// * The group claims what it uses of its `setting`, and all children together claim
///   `siblings_protected` (the sum of `min(usage, setting)`, this group included).
/// * Claims beyond what the parent has are cut in proportion.
/// * Otherwise each claim holds in full, and if `recursive`, what no child claimed goes to the
///   children in proportion to the use that their own claims do not cover. Then a group without any
///   setting is protected through its parent.
///
/// Rounds down, so the children's effective values never add up to more than the parent's. The
/// result is at most `usage` as long as `parent_effective <= parent_usage`; beyond, the unclaimed
/// part may exceed what there is to protect, which means "all of it". Two children that claim 2G
/// and 1G of their parent's 2G get 1.33G and 0.67G. Cost: at most one 128-bit division.
#[must_use]
pub fn effective(
    usage: u64,
    parent_usage: u64,
    setting: u64,
    parent_effective: u64,
    siblings_protected: u64,
    recursive: bool,
) -> u64 {
    let claim = usage.min(setting);
    if siblings_protected > parent_effective {
        // Overcommitted. A racing reader may see a claim that is not in the sum yet; it gets no
        // more than everything.
        return share(
            parent_effective,
            claim.min(siblings_protected),
            siblings_protected,
        );
    }
    if !recursive {
        return claim;
    }
    let unclaimed = parent_effective - siblings_protected;
    let uncovered = usage - claim;
    let uncovered_by_all = parent_usage.saturating_sub(siblings_protected);
    if unclaimed == 0 || uncovered == 0 || uncovered_by_all == 0 {
        return claim;
    }
    claim.saturating_add(share(unclaimed, uncovered, uncovered_by_all))
}

/// How a group stands to a reclaim pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It uses nothing: there is nothing to take and no event to count.
    Empty,
    /// All it uses is under effective `min`: left alone in every pass.
    WithinMin,
    /// All it uses is under effective `low`: left alone in the first pass; scanned, and a `low`
    /// event counted, once a pass without it has not been enough.
    WithinLow,
    /// It uses more than its protection: scanned in proportion, see [`exposed`].
    Exposed,
}

/// Where a group using `usage` bytes stands with the effective protection `effective`.
#[must_use]
pub fn standing(usage: u64, effective: Protection) -> Standing {
    if usage == 0 {
        Standing::Empty
    } else if usage <= effective.min {
        Standing::WithinMin
    } else if usage <= effective.low {
        Standing::WithinLow
    } else {
        Standing::Exposed
    }
}

/// Which of the two passes of a reclaim this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// `low` protects.
    RespectLow,
    /// The first pass was not enough and something was held back because of `low`: now only `min`
    /// protects.
    IgnoreLow,
}

/// How much of `things` of a group, one of its lists say, lies above its protection in this pass.
///
/// The group uses `usage` bytes. Far above its protection it bears nearly full pressure, just above
/// it nearly none: `1 − protection / usage` of its things are asked for, without a cliff at the
/// protection's edge, but at least one, so that a pass moves forward where the proportion is tiny.
/// Skip groups that [`standing`] protects before asking. Cost: one 128-bit division.
#[must_use]
pub fn exposed(things: u64, usage: u64, effective: Protection, pass: Pass) -> u64 {
    let kept = match pass {
        Pass::RespectLow => effective.low.max(effective.min),
        Pass::IgnoreLow => effective.min,
    }
    // The usage may have been read before the protection grew.
    .min(usage);
    if usage == 0 || kept == 0 {
        return things;
    }
    share(things, usage - kept, usage).max(1).min(things)
}

/// `whole × part / total`, rounded down; saturates where `part > total` makes it exceed 64 bits.
/// `total` is not 0.
fn share(whole: u64, part: u64, total: u64) -> u64 {
    let product = u128::from(whole) * u128::from(part);
    u64::try_from(product / u128::from(total)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const M: u64 = 1 << 20;
    const G: u64 = 1 << 30;
    /// The least that a round of [`equilibrium`] takes: the kernel's `SWAP_CLUSTER_MAX`, in bytes.
    const CLUSTER: u64 = 32 * crate::units::PAGE_SIZE;

    /// The effective values of all children (usage, setting) of one parent.
    fn children(parent_effective: u64, children: &[(u64, u64)], recursive: bool) -> Vec<u64> {
        let parent_usage = children.iter().map(|c| c.0).sum();
        let claimed = children.iter().map(|c| c.0.min(c.1)).sum();
        let one = |c: &(u64, u64)| {
            effective(c.0, parent_usage, c.1, parent_effective, claimed, recursive)
        };
        children.iter().map(one).collect()
    }

    /// |a − b| ≤ tolerance % of (a + b), as the kernel's own tests compare.
    fn close(a: u64, b: u64, percent: u64) -> bool {
        a.abs_diff(b) * 100 <= (a + b) * percent
    }

    #[test]
    fn the_kernels_documented_overcommit_example() {
        // A has low=2G and uses 6G; B, C, D, E ask for 3G, 1G, 0, 10G and use 2G, 2G, 2G, 0.
        let e = children(
            2 * G,
            &[(2 * G, 3 * G), (2 * G, G), (2 * G, 0), (0, 10 * G)],
            false,
        );
        assert_eq!(
            e,
            [4 * G / 3, 2 * G / 3, 0, 0],
            "documented as 1.3G, 0.6G, 0, 0"
        );
    }

    /// One level under pressure until nothing is scanned any more, by what is [`exposed`] of it at
    /// 1/10 a round.
    fn equilibrium(
        parent_effective: u64,
        settings: &[u64],
        mut usage: Vec<u64>,
        recursive: bool,
    ) -> Vec<u64> {
        for _ in 0..10_000 {
            let now: Vec<_> = usage
                .iter()
                .copied()
                .zip(settings.iter().copied())
                .collect();
            let low = children(parent_effective, &now, recursive);
            let mut idle = true;
            for (usage, low) in usage.iter_mut().zip(low) {
                let effective = Protection { min: 0, low };
                if standing(*usage, effective) == Standing::Exposed {
                    let scan = exposed(*usage, *usage, effective, Pass::RespectLow) / 10;
                    *usage -= scan.max(CLUSTER).min(*usage);
                    idle = false;
                }
            }
            if idle {
                return usage;
            }
        }
        panic!("no equilibrium: {usage:?}");
    }

    #[test]
    fn the_kernels_protection_self_test_ends_where_documented() {
        // B has 50M protected; C, D, E, F ask for 75M, 25M, 0, 500M and use 50M, 50M, 50M, 0.
        let settings = [75 * M, 25 * M, 0, 500 * M];
        let start = vec![50 * M, 50 * M, 50 * M, 0];
        let now: Vec<_> = start.iter().copied().zip(settings).collect();
        assert_eq!(
            children(50 * M, &now, true),
            [50 * M * 50 / 75, 50 * M * 25 / 75, 0, 0],
            "at the start"
        );
        for recursive in [false, true] {
            let end = equilibrium(50 * M, &settings, start.clone(), recursive);
            assert!(close(end.iter().sum(), 50 * M, 3), "A/B {end:?}");
            assert!(close(end[0], 29 * M, 3), "C {end:?}");
            assert!(close(end[1], 21 * M, 3), "D {end:?}");
            // The last round may go below the protection by a cluster for each child; with
            // recursion E keeps as much.
            assert!(end[2] <= 3 * CLUSTER && end[3] == 0, "E and F {end:?}");
        }
    }

    #[test]
    fn unclaimed_protection_floats_to_where_memory_is_used() {
        // 10G for the parent, no child asks for any: shared by use.
        assert_eq!(
            children(10 * G, &[(15 * G, 0), (5 * G, 0)], true),
            [15 * G / 2, 5 * G / 2]
        );
        assert_eq!(children(10 * G, &[(15 * G, 0), (5 * G, 0)], false), [0, 0]);
        // One claims 4G of it; the other 6G follow the use that no claim covers (11G and 5G).
        let e = children(10 * G, &[(15 * G, 4 * G), (5 * G, 0)], true);
        assert_eq!(e, [4 * G + 6 * G * 11 / 16, 6 * G * 5 / 16]);
        // All of it claimed: nothing floats.
        assert_eq!(
            children(10 * G, &[(15 * G, 10 * G), (5 * G, 0)], true),
            [10 * G, 0]
        );
    }

    #[test]
    fn an_unused_claim_takes_nothing_from_a_sibling() {
        // From the change that made the sum cover every child: 10G for three that each ask for 10G.
        let e = children(
            10 * G,
            &[(20 * G, 10 * G), (20 * G, 10 * G), (8 * G, 10 * G)],
            false,
        );
        assert_eq!(e, [10 * G * 10 / 28, 10 * G * 10 / 28, 10 * G * 8 / 28]);
        assert_eq!(
            children(10 * G, &[(10 * G, 10 * G), (0, 10 * G)], false),
            [10 * G, 0]
        );
    }

    #[test]
    fn both_kinds_go_down_the_tree_together() {
        let top = Protection::first_level(Protection {
            min: 10 * M,
            low: 50 * M,
        });
        let settings = [
            Protection {
                min: 20 * M,
                low: 75 * M,
            },
            Protection {
                min: 0,
                low: 25 * M,
            },
        ];
        let usage = [50 * M, 50 * M];
        let siblings = settings[0].used(usage[0]).plus(settings[1].used(usage[1]));
        assert_eq!(
            siblings,
            Protection {
                min: 20 * M,
                low: 75 * M
            }
        );
        let level = |i: usize| Level {
            usage: usage[i],
            parent_usage: 100 * M,
            settings: settings[i],
            siblings,
        };
        assert_eq!(
            top.below(&level(0), false),
            Protection {
                min: 10 * M,
                low: 50 * M * 2 / 3
            }
        );
        assert_eq!(
            top.below(&level(1), false),
            Protection {
                min: 0,
                low: 50 * M / 3
            }
        );
        assert_eq!(Protection::NONE.below(&level(0), true), Protection::NONE);
    }

    #[test]
    fn a_pass_skips_what_is_protected_and_scans_the_rest_in_proportion() {
        let low = |low| Protection { min: 0, low };
        assert_eq!(standing(0, low(M)), Standing::Empty);
        assert_eq!(standing(M, low(M)), Standing::WithinLow);
        assert_eq!(standing(M + 1, low(M)), Standing::Exposed);
        assert_eq!(
            standing(M, Protection { min: M, low: 0 }),
            Standing::WithinMin
        );

        let first = |things, usage, of| exposed(things, usage, of, Pass::RespectLow);
        let second = |things, usage, of| exposed(things, usage, of, Pass::IgnoreLow);
        assert_eq!(first(80 * M, 100 * M, low(50 * M)), 40 * M);
        // The second pass sees only min.
        let both = Protection {
            min: 25 * M,
            low: 50 * M,
        };
        assert_eq!(second(80 * M, 100 * M, both), 60 * M);
        // A min above low counts in both.
        let min = Protection {
            min: 50 * M,
            low: 20 * M,
        };
        assert_eq!(first(80 * M, 100 * M, min), 40 * M);
        assert_eq!(second(80 * M, 100 * M, min), 40 * M);
        // Little just above its protection, all far above it; never nothing.
        assert_eq!(first(1000, 51, low(50)), 19);
        assert_eq!(first(1000, 50_000, low(50)), 999);
        assert_eq!(second(1000, 51, low(50)), 1000);
        assert_eq!(first(3, 100 * M, low(100 * M - 1)), 1);
        // Protection that outgrew the usage: one. A group that uses nothing has nothing to protect.
        assert_eq!(first(80 * M, 10 * M, low(100 * M)), 1);
        assert_eq!(first(80 * M, 0, low(0)), 80 * M);
        assert_eq!(second(80 * M, 0, low(1)), 80 * M);
    }

    fn family() -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec(
            (0..1u64 << 40, prop_oneof![0..1u64 << 40, Just(u64::MAX)]),
            1..8,
        )
    }

    proptest! {
        #[test]
        fn children_never_get_more_than_their_parent_has(family in family(), parent in 0..1u64 << 42, recursive: bool) {
            prop_assert!(children(parent, &family, recursive).iter().sum::<u64>() <= parent);
        }

        #[test]
        fn no_group_gets_more_than_it_uses(family in family(), parent in 0..1u64 << 42, recursive: bool) {
            let parent_usage: u64 = family.iter().map(|c| c.0).sum();
            let parent = if recursive { parent.min(parent_usage) } else { parent };
            for (group, e) in family.iter().zip(children(parent, &family, recursive)) {
                prop_assert!(e <= group.0, "{e} > {}", group.0);
                prop_assert!(recursive || e <= group.1, "{e} > {}", group.1);
            }
        }

        #[test]
        fn asking_for_more_never_gives_less(
            family in family(), parent in 0..1u64 << 42, more in 0..1u64 << 40, recursive: bool,
        ) {
            // What exceeds the usage protects nothing more, so it does not count. Rounding may cost
            // a byte.
            let before = children(parent, &family, recursive)[0].min(family[0].0);
            let mut asking = family.clone();
            asking[0].1 = asking[0].1.saturating_add(more);
            let after = children(parent, &asking, recursive)[0].min(family[0].0);
            prop_assert!(after + 1 >= before, "{before} became {after}");
        }

        #[test]
        fn numbers_that_contradict_each_other_are_survived(n: [u64; 5], recursive: bool, second: bool) {
            let [usage, parent_usage, setting, parent, siblings] = n;
            let e = effective(usage, parent_usage, setting, parent, siblings, recursive);
            if siblings > parent {
                prop_assert!(e <= parent);
            }
            let pass = if second { Pass::IgnoreLow } else { Pass::RespectLow };
            let share = exposed(parent_usage, usage, Protection { min: setting, low: e }, pass);
            prop_assert!(share <= parent_usage);
        }

        #[test]
        fn more_use_over_the_same_protection_is_scanned_more(
            list in 0..1u64 << 40, usage in 0..1u64 << 40, more in 0..1u64 << 40, low in 0..1u64 << 40,
        ) {
            let at = |usage| exposed(list, usage, Protection { min: 0, low }, Pass::RespectLow);
            // What is above the protection: a group that uses nothing is not asked.
            prop_assert!(usage == 0 || at(usage) <= at(usage + more));
        }

        #[test]
        fn what_is_exposed_is_never_nothing_nor_more_than_there_is(
            things in 1..u64::MAX, usage in 1..u64::MAX, min in any::<u64>(), low in any::<u64>(),
        ) {
            let effective = Protection { min, low };
            let first = exposed(things, usage, effective, Pass::RespectLow);
            let second = exposed(things, usage, effective, Pass::IgnoreLow);
            prop_assert!(1 <= first && first <= second && second <= things);
        }
    }
}
