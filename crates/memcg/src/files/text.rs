//! Numbers and keys as text, without the machinery of formatting, so that reading a file takes a
//! few microseconds.
//!
//! Invariants: numbers are decimal, without separators.
//! Depends on: nothing.
//! Never: allocates beyond growing the text.

#![forbid(unsafe_code)]

use crate::os::say::Decimal;

/// Appends `value` in decimal.
pub fn number(text: &mut String, value: u64) {
    text.push_str(Decimal::new(value).as_str());
}

/// Appends a line `key value` for each pair.
pub fn lines(text: &mut String, all: &[(&str, u64)]) {
    for &(key, value) in all {
        text.push_str(key);
        text.push(' ');
        number(text, value);
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_standard_library() {
        for value in [
            0,
            1,
            9,
            10,
            4096,
            99_999,
            u64::from(u32::MAX),
            10u64.pow(19),
            u64::MAX,
        ] {
            let mut text = String::new();
            lines(&mut text, &[("key", value), ("", value)]);
            assert_eq!(text, format!("key {value}\n {value}\n"));
        }
    }
}
