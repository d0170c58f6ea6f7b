//! What is resident and no group holds: the parts of it, and which is the largest.
//!
//! Code, tables and stacks hardly change while a program runs, so the parts at the time of the
//! snapshot stand for those at the time of its highest RSS. What they do not explain of the gap
//! between RSS and charges is the allocator's: slabs that are partly free, and free pages that it
//! keeps.
//!
//! Invariants: the parts make up the gap, or less where a part is larger than the gap itself.
//! Depends on: groups.
//! Never: measures anything; it is arithmetic on a snapshot.

use super::groups::Snapshot;
use crate::size::human;

/// Why the coverage is low, for a warning: the largest part of what no group holds, and what
/// follows from it. `None` if there is no gap, or the engine did not say enough.
pub fn reason(snapshot: &Snapshot) -> Option<String> {
    let outside = snapshot.outside?;
    let gap = snapshot.rss.saturating_sub(snapshot.charged);
    let other = outside
        .elsewhere
        .saturating_sub(outside.file + outside.shared);
    let known = outside.file + outside.shared + outside.engine + other;
    let parts = [
        (
            gap.saturating_sub(known),
            "the allocator's free memory and its rounding to whole slabs: it is used before more is taken, \
             and memory.overhead.max bounds it",
        ),
        (
            outside.file,
            "code and mapped files: limits do not reach it",
        ),
        (outside.shared, "shared memory: limits do not reach it"),
        (outside.engine, "the engine's tables"),
        (
            other,
            "stacks, or memory of another allocator: limits do not reach it",
        ),
    ];
    let (bytes, what) = parts.into_iter().max_by_key(|(bytes, _)| *bytes)?;
    let bytes = bytes.min(gap);
    (bytes > 0).then(|| {
        format!(
            "of the other {} the largest part, {}, is {what}",
            human(gap),
            human(bytes)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::groups::Outside;
    use super::super::parse::{parse, tests::TEXT};
    use super::*;

    fn said(outside: Outside) -> String {
        let mut snapshot = parse(TEXT).expect("a snapshot");
        snapshot.outside = Some(outside);
        reason(&snapshot).expect("there is a gap")
    }

    #[test]
    fn the_largest_part_is_named_with_its_size() {
        let code = said(Outside {
            elsewhere: 900 << 10,
            file: 800 << 10,
            ..Outside::default()
        });
        assert_eq!(
            code,
            "of the other 1.0M the largest part, 800.0K, is code and mapped files: limits do not reach it"
        );
        let stacks = said(Outside {
            elsewhere: 900 << 10,
            file: 100 << 10,
            ..Outside::default()
        });
        assert!(stacks.contains("800.0K, is stacks"), "{stacks}");
        let shared = said(Outside {
            elsewhere: 900 << 10,
            shared: 800 << 10,
            ..Outside::default()
        });
        assert!(shared.contains("800.0K, is shared memory"), "{shared}");
    }

    #[test]
    fn what_nothing_else_explains_is_the_allocators() {
        let own = said(Outside {
            engine: 24 << 10,
            elsewhere: 100 << 10,
            file: 100 << 10,
            ..Outside::default()
        });
        assert!(
            own.contains("900.0K, is the allocator's free memory"),
            "{own}"
        );
        assert!(!own.contains("limits do not reach"), "{own}");
    }

    #[test]
    fn an_engine_that_does_not_say_is_not_guessed_about() {
        let mut snapshot = parse(TEXT).expect("a snapshot");
        assert_eq!(reason(&snapshot), None);
        snapshot.outside = Some(Outside::default());
        snapshot.charged = snapshot.rss;
        assert_eq!(reason(&snapshot), None);
    }
}
