//! What a charge may do: flags.
//!
//! Invariants: a flag is one bit, and every bit that is ever set has a name.
//! Depends on: nothing.
//! Never: acts on a flag; the code that charges does.

#![forbid(unsafe_code)]

use core::fmt;
use core::ops::{BitOr, BitOrAssign};

/// What a charge may do. Flags are put together by `|`, or by [`Flags::with`] where a constant is
/// needed.
///
/// ```
/// use memcg::Flags;
///
/// let flags = Flags::WAIT | Flags::USER;
/// assert!(flags.has(Flags::WAIT) && !flags.has(Flags::FORCE));
/// assert_eq!(format!("{flags:?}"), "WAIT | USER");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Flags(u32);

impl Flags {
    /// May neither sleep nor run code of the program: what malloc can do. The default.
    pub const NOWAIT: Flags = Flags(0);
    /// May sleep: what the thread owes for being above `high` is paid before the charge returns. At
    /// a limit the charge waits for the engine's worker to reclaim.
    pub const WAIT: Flags = Flags(1);
    /// Is made whatever the limits say.
    pub const FORCE: Flags = Flags(2);
    /// As Rust's global allocator: there is nobody to say no to. Charged above max under every
    /// policy but `deny`; see docs/enforcement.md.
    pub const INFALLIBLE: Flags = Flags(4);
    /// Is not made at all, and succeeds. What has an owner already grows and shrinks in its owner's
    /// books, with this flag or without.
    pub const NOACCOUNT: Flags = Flags(8);
    /// With [`Flags::WAIT`]: at a limit shrinkers of the program run here and now.
    pub const USER: Flags = Flags(16);
    /// Is refused before the group's policy has its say, and no event `oom` is counted: the caller
    /// can make room, and will ask again.
    pub(crate) const EARLY: Flags = Flags(32);
    /// With [`Flags::WAIT`]: what the thread owes for being above `high` is left for its next safe
    /// point. For many charges in a row.
    pub const OWE: Flags = Flags(64);
    /// As C's malloc: whether it is refused or charged above max is a matter of the full group's
    /// policy. Without this and [`Flags::INFALLIBLE`] a charge is refused at a limit under every
    /// policy, and kills nobody.
    pub const MALLOC: Flags = Flags(128);

    /// Every flag with its name, in the order of the bits.
    const NAMES: [(Flags, &str); 8] = [
        (Flags::WAIT, "WAIT"),
        (Flags::FORCE, "FORCE"),
        (Flags::INFALLIBLE, "INFALLIBLE"),
        (Flags::NOACCOUNT, "NOACCOUNT"),
        (Flags::USER, "USER"),
        (Flags::EARLY, "EARLY"),
        (Flags::OWE, "OWE"),
        (Flags::MALLOC, "MALLOC"),
    ];

    /// The flags of both. The same as `|`, which cannot be used in a constant.
    #[must_use]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// These flags but those of `other`.
    #[must_use]
    pub(crate) const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    /// Whether every flag of `other` is set.
    #[must_use]
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Flags {
    type Output = Flags;

    #[inline]
    fn bitor(self, other: Flags) -> Flags {
        self.with(other)
    }
}

impl BitOrAssign for Flags {
    #[inline]
    fn bitor_assign(&mut self, other: Flags) {
        *self = self.with(other);
    }
}

impl fmt::Debug for Flags {
    /// The names of what is set, as they are written in code: `WAIT | USER`; `NOWAIT` where nothing
    /// is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NOWAIT {
            return f.write_str("NOWAIT");
        }
        let set = Self::NAMES.iter().filter(|(flag, _)| self.has(*flag));
        for (n, (_, name)) in set.enumerate() {
            if n > 0 {
                f.write_str(" | ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_print_as_they_are_written() {
        assert_eq!(format!("{:?}", Flags::NOWAIT), "NOWAIT");
        assert_eq!(format!("{:?}", Flags::WAIT | Flags::USER), "WAIT | USER");
        let mut all = Flags::default();
        for (flag, name) in Flags::NAMES {
            assert_eq!(format!("{flag:?}"), name);
            all |= flag;
        }
        assert_eq!(
            format!("{all:?}"),
            "WAIT | FORCE | INFALLIBLE | NOACCOUNT | USER | EARLY | OWE | MALLOC"
        );
    }

    #[test]
    fn each_flag_is_a_bit_of_its_own_and_no_bit_has_moved() {
        let bits = Flags::NAMES.map(|(flag, _)| flag.0);
        assert_eq!(bits, [1, 2, 4, 8, 16, 32, 64, 128]);
        let both = Flags::INFALLIBLE | Flags::OWE;
        assert_eq!(both, Flags::INFALLIBLE.with(Flags::OWE));
        assert!(both.has(Flags::OWE) && both.has(Flags::NOWAIT) && !both.has(Flags::WAIT));
        assert_eq!(both.without(Flags::OWE | Flags::WAIT), Flags::INFALLIBLE);
    }
}
