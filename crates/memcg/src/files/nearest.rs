//! The name that was probably meant: the nearest in a table, by edit distance.
//!
//! Invariants: a name is suggested only if at most two slips lead to it (a character left out,
//! added, replaced, or two that changed places), or if it lacks nothing but `memory.` in front.
//! Depends on: nothing.
//! Never: takes a wrong name for the right one; it only suggests.

#![forbid(unsafe_code)]

/// How many slips still look like the same name.
const SLIPS: usize = 2;
/// No name of a table is longer; what is, is no slip.
const LONGEST: usize = 64;

/// The nearest of `names` to `wrong`, if one is near. O(names × length²).
pub(super) fn nearest<'a>(wrong: &[u8], names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if wrong.is_empty() || wrong.len() > LONGEST {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for name in names {
        if name.as_bytes().strip_prefix(b"memory.") == Some(wrong) {
            return Some(name);
        }
        let slips = slips(wrong, name.as_bytes());
        if slips <= SLIPS && best.is_none_or(|(fewest, _)| slips < fewest) {
            best = Some((slips, name));
        }
    }
    best.map(|(_, name)| name)
}

/// The edit distance in which two neighbours that changed places are one slip.
fn slips(a: &[u8], b: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let mut least = (last[j] + usize::from(x != y))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = core::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_left_out_added_replaced_and_exchanged_characters() {
        for (a, b, expected) in [
            ("", "", 0),
            ("max", "max", 0),
            ("mx", "max", 1),
            ("maax", "max", 1),
            ("mex", "max", 1),
            ("mxa", "max", 1),
            ("memroy.mx", "memory.max", 2),
            ("abc", "", 3),
        ] {
            assert_eq!(slips(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let names = ["memory.max", "memory.min", "cgroup.procs"];
        for (wrong, meant) in [
            ("memroy.max", Some("memory.max")),
            ("max", Some("memory.max")),
            ("memory.mim", Some("memory.min")),
            ("cgroup.proc", Some("cgroup.procs")),
            ("memory.limit", None),
            ("tasks", None),
            ("", None),
        ] {
            assert_eq!(
                nearest(wrong.as_bytes(), names.into_iter()),
                meant,
                "{wrong}"
            );
        }
    }
}
