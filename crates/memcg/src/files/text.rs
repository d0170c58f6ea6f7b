//! Numbers and keys as text, without the machinery of formatting: reading a file is a few microseconds.

/// Appends `value` in decimal.
pub fn number(text: &mut String, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    // SAFETY: decimal digits of ASCII.
    text.push_str(unsafe { core::str::from_utf8_unchecked(&digits[at..]) });
}

/// Appends a line `key value` for each.
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
