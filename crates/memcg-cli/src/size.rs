//! Bytes and times for people: `512`, `1.5K`, `12.3M`; `1.5 s`, `3 d 4 h`.

const UNITS: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];

/// `bytes` with a binary unit and one decimal; plain below 1024.
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

/// A change in bytes per second, signed.
pub fn human_rate(bytes_per_second: f64) -> String {
    let size = human(bytes_per_second.abs().round() as u64);
    match bytes_per_second {
        r if r >= 0.5 => format!("+{size}/s"),
        r if r <= -0.5 => format!("-{size}/s"),
        _ => "0/s".to_owned(),
    }
}

/// A time since a start: `1.5 s`, `12 min 3 s`, `5 h 12 min`, `3 d 4 h`.
pub fn human_time(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..60 => format!("{:.1} s", milliseconds as f64 / 1000.0),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
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

    #[test]
    fn times_have_the_two_units_that_matter() {
        for (milliseconds, text) in [
            (1_500, "1.5 s"),
            (59_940, "59.9 s"),
            (60_000, "1 min 0 s"),
            (3_599_999, "59 min 59 s"),
            (3_660_000, "1 h 1 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(human_time(milliseconds), text);
        }
    }

    #[test]
    fn rates_are_signed() {
        assert_eq!(human_rate(2048.0), "+2.0K/s");
        assert_eq!(human_rate(-2048.0), "-2.0K/s");
        assert_eq!(human_rate(0.2), "0/s");
    }
}
