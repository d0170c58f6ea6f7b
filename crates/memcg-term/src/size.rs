//! Bytes as text for people: `512`, `1.5K`, `12.3M`.
//!
//! Invariants: below 1024 the number is plain; above it has one decimal and a binary unit.
//! Depends on: nothing.
//! Never: a value of 1024 or more before a unit that has a next one.

const UNITS: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];

/// `bytes` with a binary unit and one decimal; plain below 1024.
#[must_use]
pub fn human(bytes: u64) -> String {
    if bytes < 1024 {
        return bytes.to_string();
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be printed as 1024.0: the next unit says it better.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal_and_roll_over_to_the_next_unit() {
        assert_eq!(human(0), "0");
        assert_eq!(human(1023), "1023");
        assert_eq!(human(1024), "1.0K");
        assert_eq!(human(1536), "1.5K");
        assert_eq!(human((1 << 20) - 1), "1.0M");
        assert_eq!(human(12_897_485), "12.3M");
        assert_eq!(human(u64::MAX), "16.0E");
    }
}
