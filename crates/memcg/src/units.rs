//! Sizes: the unit everything is counted in, the value of a limit, and the text both are written
//! in.
//!
//! Every amount in the engine is a number of **bytes** in a `u64`; pages appear only where the
//! kernel's arithmetic is defined in pages. This room keeps the two directions between such a
//! number and text:
//!
//! * *in*, the grammar people type into cgroup v2 files: `4096`, `0x1000`, `010000`, `64M`, `max`;
//! * *out*, exact bytes for files ([`Limit`]'s `Display`).
//!
//! Where we differ from the kernel's `memparse` and its callers, on purpose:
//!
//! | input | kernel | here |
//! |---|---|---|
//! | `5000` in a limit | rounded down to a page | kept to the byte |
//! | empty, or a suffix without digits (`K`) | 0 | refused |
//! | does not fit 64 bits | wraps silently | refused |
//!
//! Invariants: a size is a number of bytes. `max` is the largest number there is, so limits compare
//! as numbers.
//! Depends on: nothing.
//! Never: allocates or panics, so it can be used from inside an allocation.

#![forbid(unsafe_code)]

use core::fmt;

/// Bytes in a page, whatever the machine's own page size is.
///
/// The figures that the kernel defines in pages (charge batch, scan cluster) are turned into bytes
/// with it.
pub const PAGE_SIZE: u64 = 4096;

/// The value of a limit or a protection: a number of bytes, or "max".
///
/// `max` is [`u64::MAX`], so limits compare as numbers and no usage ever exceeds `max`; nothing
/// distinguishes a limit of exactly 2⁶⁴ − 1 bytes from none. Source of the idea: cgroup v2's `max`
/// and `PAGE_COUNTER_MAX`.
///
/// `Display` writes what a cgroup v2 file shows: `max`, or the bytes in decimal, and honours width
/// and alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Limit(u64);

impl Limit {
    /// No limit (for a protection: everything protected).
    pub const MAX: Self = Self(u64::MAX);

    /// A limit of nothing at all.
    pub const ZERO: Self = Self(0);

    /// A limit of `bytes` bytes; `u64::MAX` is [`Limit::MAX`].
    #[must_use]
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Whether this is "max", that is, no limit.
    #[must_use]
    pub const fn is_max(self) -> bool {
        self.0 == u64::MAX
    }

    /// The limit in bytes; `u64::MAX` for "max".
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The limit as a number for a gauge; `None` where there is no limit, which no number says: a
    /// gauge of 2⁶⁴ bytes would make a sum or a ratio of it nonsense.
    #[must_use]
    pub const fn as_bytes(self) -> Option<u64> {
        if self.is_max() { None } else { Some(self.0) }
    }
}

impl Default for Limit {
    /// "max", what a new group's `memory.max` and `memory.high` read.
    fn default() -> Self {
        Self::MAX
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_max() {
            f.pad("max")
        } else {
            fmt::Display::fmt(&self.0, f)
        }
    }
}

/// Why a text is not a size.
///
/// A caller that answers with an error number says `EINVAL` for all of them, as the kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParseSizeError {
    /// Nothing but white space.
    Empty,
    /// It does not begin with a digit (a sign, a word, a suffix alone).
    NoDigits,
    /// A number, and something after it that is not one of the suffixes `K M G T P E`.
    TrailingJunk,
    /// A well-formed size of 2⁶⁴ bytes or more.
    Overflow,
}

impl fmt::Display for ParseSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Empty => "a size is missing",
            Self::NoDigits => "a size begins with a digit, as in 4096, 0x1000 or 64M",
            Self::TrailingJunk => {
                "characters after the size; suffixes are K, M, G, T, P and E, without B"
            }
            Self::Overflow => "the size does not fit 64 bits",
        })
    }
}

impl core::error::Error for ParseSizeError {}

/// Reads a size in bytes, in the grammar of the kernel's `memparse`: `b"64M\n"` is 67108864,
/// `b"64MB"` is refused.
///
/// White space around it is ignored. Digits are decimal, hexadecimal after `0x`, octal after a
/// leading `0`; one suffix `K M G T P E`, in either case, multiplies by 1024, 1024², … (after `0x`
/// an `E` is a digit, as in the kernel). The whole text must be used.
///
/// Cost: one pass over `text`.
///
/// # Errors
/// [`ParseSizeError`]; see the module's head for what the kernel accepts and this does not.
pub fn parse_size(text: &[u8]) -> Result<u64, ParseSizeError> {
    let text = strip(text);
    match text.first() {
        None => return Err(ParseSizeError::Empty),
        Some(first) if !first.is_ascii_digit() => return Err(ParseSizeError::NoDigits),
        Some(_) => {}
    }
    let (radix, digits) = match text {
        [b'0', b'x' | b'X', rest @ ..] if rest.first().is_some_and(u8::is_ascii_hexdigit) => {
            (16, rest)
        }
        [b'0', rest @ ..] if rest.first().is_some_and(u8::is_ascii_digit) => (8, rest),
        _ => (10, text),
    };

    // Junk is reported before overflow: "999…9 bytes" is not a size at all.
    let (number, rest) = leading_number(digits, radix);
    let shift = match rest {
        [] => 0,
        [suffix] => suffix_shift(*suffix).ok_or(ParseSizeError::TrailingJunk)?,
        _ => return Err(ParseSizeError::TrailingJunk),
    };
    number
        .and_then(|n| n.checked_mul(1 << shift))
        .ok_or(ParseSizeError::Overflow)
}

/// Reads a limit: `max` ([`Limit::MAX`]), or a size as [`parse_size`] reads it.
///
/// `max` is lower case only, as in the kernel. Cost: one pass over `text`.
///
/// # Errors
/// [`ParseSizeError`], as [`parse_size`].
pub fn parse_limit(text: &[u8]) -> Result<Limit, ParseSizeError> {
    if strip(text) == b"max" {
        return Ok(Limit::MAX);
    }
    parse_size(text).map(Limit::bytes)
}

/// `text` without the white space at its ends (C's `isspace`: Rust's idea of ASCII white space
/// lacks the vertical tab).
fn strip(text: &[u8]) -> &[u8] {
    let space = |b: &u8| matches!(b, b' ' | b'\t'..=b'\r');
    let start = text.iter().position(|b| !space(b)).unwrap_or(text.len());
    let end = text
        .iter()
        .rposition(|b| !space(b))
        .map_or(start, |last| last + 1);
    &text[start..end]
}

/// The number at the head of `text` (`None` where it overflows) and what follows its last digit.
fn leading_number(text: &[u8], radix: u32) -> (Option<u64>, &[u8]) {
    let mut number = Some(0u64);
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let Some(digit) = char::from(*first).to_digit(radix) else {
            break;
        };
        number = number.and_then(|n| {
            n.checked_mul(u64::from(radix))?
                .checked_add(u64::from(digit))
        });
        rest = tail;
    }
    (number, rest)
}

/// How far a suffix shifts: `K` by 10 bits, each further one by 10 more.
fn suffix_shift(suffix: u8) -> Option<u32> {
    let power = b"KMGTPE"
        .iter()
        .position(|&s| s == suffix.to_ascii_uppercase())?;
    Some(10 * (power as u32 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_in_the_kernels_grammar() {
        for (text, bytes) in [
            (&b"0"[..], 0),
            (b"00", 0),
            (b"0K", 0),
            (b"4096", 4096),
            (b"0x1000", 4096),
            (b"0XfF", 255),
            (b"010", 8),
            (b"010K", 8192),
            (b"1k", 1 << 10),
            (b"2M", 2 << 20),
            (b"3g", 3 << 30),
            (b"4T", 4 << 40),
            (b"5p", 5 << 50),
            (b"15E", 15 << 60),
            (b"0x1E", 30),
            (b"0x1K", 1024),
            (b" \t\x0b64M\r\n", 64 << 20),
            (b"18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        use ParseSizeError::{Empty, NoDigits, Overflow, TrailingJunk};
        for (text, error) in [
            (&b""[..], Empty),
            (b" \n", Empty),
            (b"K", NoDigits),
            (b"-1", NoDigits),
            (b"+1", NoDigits),
            (b"max", NoDigits),
            (b"0x", TrailingJunk),
            (b"0xg", TrailingJunk),
            (b"08", TrailingJunk),
            (b"1 K", TrailingJunk),
            (b"1KB", TrailingJunk),
            (b"1Kx", TrailingJunk),
            (b"1.5M", TrailingJunk),
            (b"1\0", TrailingJunk),
            (b"1 2", TrailingJunk),
            (b"1\xff", TrailingJunk),
            (b"16E", Overflow),
            (b"18446744073709551616", Overflow),
            (b"0x10000000000000000", Overflow),
            (b"99999999999999999999 bytes", TrailingJunk),
        ] {
            assert_eq!(parse_size(text), Err(error), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn limits_are_sizes_or_max() {
        assert_eq!(parse_limit(b" max\n"), Ok(Limit::MAX));
        assert_eq!(Limit::MAX.as_bytes(), None);
        assert_eq!(Limit::ZERO.as_bytes(), Some(0));
        assert_eq!(parse_limit(b"64M"), Ok(Limit::bytes(64 << 20)));
        assert_eq!(parse_limit(b"MAX"), Err(ParseSizeError::NoDigits));
        assert_eq!(parse_limit(b"max 1"), Err(ParseSizeError::NoDigits));
        assert_eq!(parse_limit(b""), Err(ParseSizeError::Empty));
        assert!(Limit::default().is_max() && !Limit::ZERO.is_max());
        assert_eq!(
            format!("[{:>6}] [{:>6}]", Limit::MAX, Limit::bytes(12)),
            "[   max] [    12]"
        );
    }

    proptest! {
        #[test]
        fn a_limit_survives_its_own_text(bytes: u64) {
            let limit = Limit::bytes(bytes);
            prop_assert_eq!(parse_limit(limit.to_string().as_bytes()), Ok(limit));
        }

        #[test]
        fn every_radix_and_suffix_reads_back(n in 0u64..1 << 10, power in 0usize..6, lower: bool) {
            let suffix = b"KMGTPE"[power];
            let suffix = char::from(if lower { suffix.to_ascii_lowercase() } else { suffix });
            let expected = n.checked_mul(1 << (10 * (power + 1))).ok_or(ParseSizeError::Overflow);
            prop_assert_eq!(parse_size(format!("{n}{suffix}").as_bytes()), expected);
            prop_assert_eq!(parse_size(format!("0{n:o}{suffix}").as_bytes()), expected);
            prop_assert_eq!(parse_size(format!("{n:#x}").as_bytes()), Ok(n));
        }

        #[test]
        fn no_text_panics_and_what_is_read_is_canonical(text: Vec<u8>) {
            if let Ok(bytes) = parse_size(&text) {
                prop_assert_eq!(parse_size(bytes.to_string().as_bytes()), Ok(bytes));
            }
        }
    }
}
