//! Numbers of a scenario: sizes in the kernel's grammar, counts, times, tolerances.
//!
//! Invariants: numbers are exact, in millionths; `max` is above every other and stays so in sums.
//! Depends on: `word`, and the engine's own grammar of sizes.
//! Never: a floating-point number.

use crate::text::word::{Word, Wrong, show};
use memcg::testing::units::{parse_limit, parse_size};
use std::time::Duration;

/// A number an expectation compares, exact: in millionths. `max` is above every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number(i128);

const ONE: i128 = 1_000_000;

impl Number {
    /// No limit.
    pub const MAX: Number = Number(i128::MAX);

    /// A whole number.
    pub fn whole(n: u64) -> Number {
        if n == u64::MAX {
            return Number::MAX;
        }
        Number(i128::from(n) * ONE)
    }

    /// Reads `12`, `12.5`, `-3`, `max`.
    pub fn read(text: &[u8]) -> Option<Number> {
        if text == b"max" {
            return Some(Number::MAX);
        }
        let text = core::str::from_utf8(text).ok()?;
        let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) || whole.len() > 24 || fraction.len() > 6 {
            return None;
        }
        let millionths: i128 = format!("{fraction:0<6}").parse().ok()?;
        let whole: i128 = whole.parse().ok()?;
        Some(Number(sign * (whole * ONE + millionths)))
    }

    /// The sum, or the difference; what has no limit stays so.
    pub fn plus(self, other: Number, minus: bool) -> Number {
        if self == Number::MAX || other == Number::MAX {
            return Number::MAX;
        }
        let other = if minus { -other.0 } else { other.0 };
        Number(self.0.saturating_add(other))
    }

    /// The distance of two.
    pub fn distance(self, other: Number) -> Number {
        if self == other {
            return Number(0);
        }
        let minus = self.plus(other, true);
        if minus == Number::MAX {
            return minus;
        }
        Number(minus.0.saturating_abs())
    }

    /// `percent` of it.
    pub fn part(self, percent: Number) -> Number {
        if self == Number::MAX {
            return self;
        }
        Number(self.0.saturating_abs().saturating_mul(percent.0) / (100 * ONE))
    }

    /// The whole number it is, if it is one that is not negative.
    pub fn bytes(self) -> Option<u64> {
        (self != Number::MAX && self.0 >= 0 && self.0 % ONE == 0)
            .then(|| u64::try_from(self.0 / ONE).ok())
            .flatten()
    }
}

impl core::fmt::Display for Number {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if *self == Number::MAX {
            return f.write_str("max");
        }
        let sign = if self.0 < 0 { "-" } else { "" };
        let n = self.0.unsigned_abs();
        let (whole, fraction) = (n / ONE.unsigned_abs(), n % ONE.unsigned_abs());
        write!(f, "{sign}{whole}")?;
        if fraction != 0 {
            write!(f, ".{}", format!("{fraction:06}").trim_end_matches('0'))?;
        }
        Ok(())
    }
}

/// A size of at least one byte.
pub fn size(word: &Word) -> Result<u64, Wrong> {
    match parse_size(&word.bytes) {
        Ok(0) => Err(Wrong::new(
            word.column,
            "a size of at least one byte is expected",
        )),
        Ok(bytes) => Ok(bytes),
        Err(why) => Err(Wrong::new(
            word.column,
            format!("'{}' is no size: {why}", word.show()),
        )),
    }
}

/// A whole number.
pub fn count(word: &Word) -> Result<u64, Wrong> {
    core::str::from_utf8(&word.bytes)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            Wrong::new(
                word.column,
                format!("'{}' is no count: expected a number as 100", word.show()),
            )
        })
}

/// How often: `100`, `2x50`.
pub fn times(word: &Word) -> Result<u64, Wrong> {
    let mut column = word.column;
    let parts = word.bytes.split(|&b| b == b'x').map(|part| {
        let at = column;
        column += part.len() + 1;
        count(&Word {
            bytes: part.to_vec(),
            column: at,
            quoted: false,
        })
    });
    let product = parts.reduce(|a, b| Ok(a?.saturating_mul(b?)));
    product.unwrap_or(Ok(0))
}

/// `SIZE` or `SIZExCOUNT`.
pub fn size_by_count(word: &Word) -> Result<(u64, u64), Wrong> {
    if parse_size(&word.bytes).is_ok() {
        return Ok((size(word)?, 1));
    }
    let Some(x) = word.bytes.iter().rposition(|&b| b == b'x') else {
        return Ok((size(word)?, 1));
    };
    let part = |bytes: &[u8], offset: usize| Word {
        bytes: bytes.to_vec(),
        column: word.column + offset,
        quoted: false,
    };
    let bytes = size(&part(&word.bytes[..x], 0))?;
    Ok((bytes, count(&part(&word.bytes[x + 1..], x + 1))?))
}

/// A literal of an expectation: a size, a limit, a product `64x1000`, a decimal.
pub fn literal(word: &Word) -> Option<Number> {
    if let Ok(limit) = parse_limit(&word.bytes) {
        return Some(Number::whole(limit.get()));
    }
    Number::read(&word.bytes).or_else(|| {
        let (size, count) = size_by_count(word).ok()?;
        Some(Number::whole(size.checked_mul(count)?))
    })
}

/// A time: `5s`, `500ms`, `2min`.
pub fn time(word: &Word) -> Result<Duration, Wrong> {
    let digits = word.bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let number = core::str::from_utf8(&word.bytes[..digits])
        .ok()
        .and_then(|text| text.parse::<u32>().ok());
    let unit = match &word.bytes[digits..] {
        b"ms" => Some(1),
        b"s" => Some(1000),
        b"min" => Some(60_000),
        _ => None,
    };
    match (number, unit) {
        (Some(number), Some(unit)) => Ok(Duration::from_millis(u64::from(number) * unit)),
        _ => Err(Wrong::new(
            word.column,
            format!(
                "'{}' is no time: expected one as 500ms, 5s or 2min",
                word.show()
            ),
        )),
    }
}

/// How far two numbers may be apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerance {
    /// That many percent.
    Percent(Number),
    /// That many bytes.
    Bytes(Number),
}

/// What a tolerance begins with, if the word begins so: the rest.
pub fn after_sign(bytes: &[u8]) -> Option<&[u8]> {
    bytes
        .strip_prefix("±".as_bytes())
        .or_else(|| bytes.strip_prefix(b"+-"))
        .or_else(|| bytes.strip_prefix(b"+/-"))
}

/// A tolerance without its sign.
pub fn tolerance(bytes: &[u8], column: usize) -> Result<Tolerance, Wrong> {
    let wrong = || {
        Wrong::new(
            column,
            format!(
                "'{}' is no tolerance: expected one as ±3% or ±1M",
                show(bytes)
            ),
        )
    };
    if let Some(percent) = bytes.strip_suffix(b"%") {
        return match Number::read(percent) {
            Some(percent) if (Number(0)..=Number(100 * ONE)).contains(&percent) => {
                Ok(Tolerance::Percent(percent))
            }
            _ => Err(wrong()),
        };
    }
    parse_size(bytes)
        .map(|size| Tolerance::Bytes(Number::whole(size)))
        .map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Word {
        Word {
            bytes: text.into(),
            column: 5,
            quoted: false,
        }
    }

    #[test]
    fn sizes_and_counts_are_read_as_the_kernel_does() {
        assert_eq!(size_by_count(&word("1M")), Ok((1 << 20, 1)));
        assert_eq!(size_by_count(&word("64x100000")), Ok((64, 100_000)));
        assert_eq!(size_by_count(&word("0x1000")), Ok((4096, 1)));
        assert_eq!(size_by_count(&word("0x1000x3")), Ok((4096, 3)));
        assert_eq!(size_by_count(&word("1Mx")).map_err(|w| w.column), Err(8));
        for text in ["", "0", "x3", "1MB", "-1", "1Mx-2"] {
            assert!(size_by_count(&word(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_exact() {
        assert_eq!(literal(&word("64x1000")), Some(Number::whole(64_000)));
        assert_eq!(literal(&word("1.5")).expect("a number").to_string(), "1.5");
        assert_eq!(literal(&word("max")), Some(Number::MAX));
        assert_eq!(literal(&word("deny")), None);
        let (a, b) = (Number::whole(3), Number::whole(5));
        assert_eq!(a.plus(b, true).to_string(), "-2");
        assert_eq!(a.distance(b), b.distance(a));
        assert!(Number::MAX > b && Number::MAX.distance(b) == Number::MAX);
        assert_eq!(Number::whole(200).part(Number::whole(3)), Number::whole(6));
    }

    #[test]
    fn times_and_tolerances_have_units() {
        assert_eq!(time(&word("500ms")), Ok(Duration::from_millis(500)));
        assert_eq!(time(&word("2min")), Ok(Duration::from_secs(120)));
        assert!(time(&word("5")).is_err());
        let three = Tolerance::Percent(Number::whole(3));
        assert_eq!(tolerance(b"3%", 1), Ok(three));
        let one = Tolerance::Bytes(Number::whole(1 << 20));
        assert_eq!(tolerance(b"1M", 1), Ok(one));
        assert!(tolerance(b"101%", 1).is_err() && tolerance(b"", 1).is_err());
    }
}
