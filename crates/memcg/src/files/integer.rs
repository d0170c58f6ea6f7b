//! Integers as the kernel reads them (its `kstrtoint` with base 0): a sign, then decimal digits, or
//! octal ones behind `0`, or hexadecimal ones behind `0x`.
//!
//! Invariants: a text is an integer as a whole, or none.
//! Depends on: nothing.
//! Never: allocates.

#![forbid(unsafe_code)]

/// Why text is no integer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoInteger {
    /// It is other text: EINVAL in the kernel.
    Text,
    /// It has more digits than 32 bits hold: ERANGE.
    Range,
}

/// The integer that the whole of `text` is.
///
/// # Errors
/// See [`NoInteger`]. As in the kernel, digits that are too many are told before what follows them.
pub fn parse(text: &[u8]) -> Result<i32, NoInteger> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (base, digits) = match digits {
        [b'0', b'x' | b'X', rest @ ..] if rest.first().is_some_and(u8::is_ascii_hexdigit) => {
            (16, rest)
        }
        [b'0', ..] => (8, digits),
        _ => (10, digits),
    };
    let mut value = 0u64;
    let mut read = 0;
    for digit in digits
        .iter()
        .map_while(|&byte| char::from(byte).to_digit(base))
    {
        let next = value.checked_mul(base.into());
        value = next
            .and_then(|value| value.checked_add(digit.into()))
            .ok_or(NoInteger::Range)?;
        read += 1;
    }
    if read == 0 || read != digits.len() {
        return Err(NoInteger::Text);
    }
    let value = i64::try_from(value).map_err(|_| NoInteger::Range)?;
    i32::try_from(if negative { -value } else { value }).map_err(|_| NoInteger::Range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_the_kernel_reads_them() {
        for (text, value) in [
            ("1", Ok(1)),
            ("+1", Ok(1)),
            ("0x1", Ok(1)),
            ("01", Ok(1)),
            ("0", Ok(0)),
            ("-1", Ok(-1)),
            ("017", Ok(15)),
            ("2147483647", Ok(i32::MAX)),
            ("-2147483648", Ok(i32::MIN)),
            ("2147483648", Err(NoInteger::Range)),
            ("99999999999999999999x", Err(NoInteger::Range)),
            ("", Err(NoInteger::Text)),
            ("-", Err(NoInteger::Text)),
            ("+-1", Err(NoInteger::Text)),
            ("08", Err(NoInteger::Text)),
            ("0x", Err(NoInteger::Text)),
            ("1 1", Err(NoInteger::Text)),
            ("yes", Err(NoInteger::Text)),
        ] {
            assert_eq!(parse(text.as_bytes()), value, "{text}");
        }
    }
}
