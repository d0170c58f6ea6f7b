//! Bytes and times for people: `512`, `1.5K`, `12.3M`; `1.5 s`, `3 d 4 h`.

#![forbid(unsafe_code)]

pub use memcg_term::size::human;

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
