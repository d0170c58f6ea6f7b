//! What happens at the limit.

use super::cgroup::set;
use super::error::FileError;
use super::table::At;
use super::text::{limit, number, put, quoted, strip};
use crate::counter::page_counter::USAGE_LIMIT;
use crate::group::OomPolicy;
use crate::sync::atomic::Ordering;
use crate::units::Limit;

const POLICIES: [(&str, OomPolicy); 3] = [
    ("default", OomPolicy::Default),
    ("deny", OomPolicy::Deny),
    ("debt", OomPolicy::Debt),
];

pub(super) fn group(at: &At<'_>, out: &mut String) {
    put(
        out,
        format_args!("{}\n", at.group.oom_group.load(Ordering::Relaxed)),
    );
}

pub(super) fn set_group(at: &At<'_>, value: &[u8]) -> Result<(), FileError> {
    let on = match number(value) {
        Some(0) => 0,
        Some(1) => 1,
        _ => {
            return Err(FileError::invalid(format!(
                "{}: write 0 or 1",
                quoted(value)
            )));
        }
    };
    set(at, || at.group.oom_group.store(on, Ordering::Relaxed))
}

/// All choices, the one in force in brackets.
pub(super) fn policy(at: &At<'_>, out: &mut String) {
    let chosen = at.group.oom_policy();
    let words = POLICIES.map(|(name, policy)| {
        if policy == chosen {
            format!("[{name}]")
        } else {
            name.to_owned()
        }
    });
    put(out, format_args!("{}\n", words.join(" ")));
}

pub(super) fn set_policy(at: &At<'_>, value: &[u8]) -> Result<(), FileError> {
    let wanted = strip(value);
    let known = POLICIES
        .iter()
        .find(|(name, _)| name.as_bytes() == wanted)
        .ok_or_else(|| {
            FileError::invalid(format!("{}: write default, deny or debt", quoted(wanted)))
        })?;
    set(at, || at.group.set_oom_policy(known.1))
}

pub(super) fn debt_max(at: &At<'_>, out: &mut String) {
    let bytes = match at.group.debt_max() {
        USAGE_LIMIT.. => Limit::MAX,
        bytes => Limit::bytes(bytes),
    };
    put(out, format_args!("{bytes}\n"));
}

pub(super) fn set_debt_max(at: &At<'_>, value: &[u8]) -> Result<(), FileError> {
    let bytes = match strip(value) {
        b"default" => None,
        // All ones would be the default again.
        value => Some(limit(value)?.get().min(USAGE_LIMIT)),
    };
    set(at, || at.group.set_debt_max(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::error::Errno;
    use super::super::testing::Bench;
    use crate::group::Kind;

    #[test]
    fn the_policy_in_force_is_in_brackets() {
        let bench = Bench::new();
        bench.mkdir("/a");
        let policy = || bench.text("/a", "memory.oom.policy");
        assert_eq!(policy(), "[default] deny debt\n");
        bench.write("/a", "memory.oom.policy", "deny\n").unwrap();
        assert_eq!(policy(), "default [deny] debt\n");
        for junk in ["", "kill", "[deny]", "deny debt"] {
            let why = bench.write("/a", "memory.oom.policy", junk).unwrap_err();
            assert_eq!(why.errno, Errno::Invalid, "{junk}");
        }
        assert_eq!(policy(), "default [deny] debt\n");
    }

    #[test]
    fn debt_goes_as_far_as_its_file_says() {
        let bench = Bench::new();
        bench.mkdir("/a");
        let debt = || bench.text("/a", "memory.debt.max");
        assert_eq!(debt(), "67108864\n");
        bench.write("/a", "memory.max", "64K").unwrap();
        assert_eq!(debt(), "16384\n");
        bench.write("/a", "memory.debt.max", "8K").unwrap();
        assert_eq!(debt(), "8192\n");
        bench.write("/a", "memory.oom.policy", "debt").unwrap();
        let tag = bench.group("/a").tag();
        assert!(bench.charge(tag, 72 << 10, Kind::Mapped));
        assert!(!bench.charge(tag, 8, Kind::Mapped));
        bench.write("/a", "memory.debt.max", "max").unwrap();
        assert_eq!(debt(), "max\n");
        assert!(bench.charge(tag, 1 << 20, Kind::Mapped));
        bench.write("/a", "memory.debt.max", "default\n").unwrap();
        assert_eq!(debt(), "16384\n");
        let why = bench.write("/a", "memory.debt.max", "some").unwrap_err();
        assert_eq!(why.errno, Errno::Invalid);
    }

    #[test]
    fn oom_group_is_a_switch() {
        let bench = Bench::new();
        bench.mkdir("/a");
        for value in ["1\n", "0"] {
            bench.write("/a", "memory.oom.group", value).unwrap();
            let text = bench.text("/a", "memory.oom.group");
            assert_eq!(text.trim(), value.trim());
        }
        for junk in ["2", "", "yes", "-1"] {
            let why = bench.write("/a", "memory.oom.group", junk).unwrap_err();
            assert_eq!(why.errno, Errno::Invalid, "{junk}");
        }
    }
}
